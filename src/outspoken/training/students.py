"""Students: what is evaluated, and how each is asked."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken.chat import Sampling
from outspoken.errors import ProviderError
from outspoken.training import base_models
from outspoken.training.answer_files import GREEDY, StudentAnswer
from outspoken.training.prompt_tokens import PromptTokenizer, Said
from outspoken.training.questions import EvalQuestion
from outspoken.training.settings import EvalSettings

__all__ = ["LocalStudent", "RemoteStudent", "Student", "Wanted", "find"]

Wanted = tuple[EvalQuestion, int]
"""A question, and the number of the answer that is wanted to it."""


@dataclass(frozen=True, slots=True)
class LocalStudent:
    """A student whose weights are computed in this process."""

    name: str
    base: base_models.BaseWeights
    dtype: str

    @property
    def identity(self) -> str:
        return f"{self.base.fingerprint}?dtype={self.dtype}"

    def answers(self, wanted: Sequence[Wanted], settings: EvalSettings, _: Path) -> Generator[list[StudentAnswer]]:
        """The answers, some at a time. The same question is answered alike in every run with the same settings."""
        from outspoken.training.generation import Decoder, TokenPrompt
        from outspoken.training.library_noise import explained

        tokenizer = base_models.load_tokenizer(self.base)
        wording = PromptTokenizer(tokenizer, self.base.name)
        asked = [
            TokenPrompt(
                tuple(wording.prompt(said(question, settings))),
                None if sample == GREEDY else f"{question.key} {sample}",
            )
            for question, sample in wanted
        ]
        with base_models.threads(settings.threads):
            decoder = Decoder(
                base_models.load_model(self.base, self.dtype),
                tokenizer,
                batch_size=settings.batch_size,
                max_tokens=settings.max_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                seed=settings.seed,
                stop=settings.stop,
            )
            batches = decoder.answers(asked)
            while True:
                with explained():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield [
                    StudentAnswer(wanted[at][0].key, wanted[at][1], made.text, made.tokens, made.finish)
                    for at, made in batch
                ]


@dataclass(frozen=True, slots=True)
class RemoteStudent:
    """A student that is asked through Outspoken's models; what it answered is in the ledger too."""

    name: str
    model: str

    @property
    def identity(self) -> str:
        return self.model

    def answers(
        self, wanted: Sequence[Wanted], settings: EvalSettings, ledger: Path
    ) -> Generator[list[StudentAnswer]]:
        """The answers as they come. Raises what made everything fail; what failed here and there is left out."""
        from outspoken.batch.memory import run
        from outspoken.models import get_model

        model = get_model(self.model)
        for greedy in (True, False):
            chosen = [each for each in wanted if (each[1] == GREEDY) is greedy]
            by_id = {f"{question.key} {sample}": (question, sample) for question, sample in chosen}
            if not by_id:
                continue
            prompts = [
                {"id": name, "prompt": _as_chat(said(question, settings))} for name, (question, _) in by_id.items()
            ]
            sampling = Sampling(
                temperature=0.0 if greedy else settings.temperature,
                top_p=None if greedy or settings.top_p == 1 else settings.top_p,
                max_tokens=settings.max_tokens,
                stop=settings.stop,
            )
            options: dict[str, Any] = {**sampling.to_dict(), "stop": sampling.stop}
            running = run(prompts, model=model, ledger=ledger, method="direct", k=1, retries=0, **options)
            for found in running:
                question, sample = by_id.pop(found.provenance.prompt_id)
                first = found[0]
                finish = "length" if "truncated" in first.repairs else "stop"
                tokens = found.provenance.usage.completion_tokens
                yield [StudentAnswer(question.key, sample, first.text, tokens, finish)]
            if running.failures and len(running.failures) >= len(prompts):
                raise ProviderError(f"{self.model} answered nothing: {running.failures[0].message}")


Student = LocalStudent | RemoteStudent


def find(name: str, source: str, settings: EvalSettings, *, offline: bool = False) -> Student:
    """The student of this name: `source` is what `bases.find` takes, or any other model of Outspoken.

    A name such as openai/gpt-4.1 is the provider's where no folder is called so; transformers/openai/NAME is the
    hub's. Raises `UsageError`.
    """
    from outspoken.models.providers import PROVIDERS

    provider = source.partition("/")[0]
    is_remote = source.startswith(("http://", "https://")) or provider in (*PROVIDERS, "replay")
    if is_remote and not Path(source).expanduser().exists():
        from outspoken.models import get_model

        get_model(source)
        return RemoteStudent(name, source)
    return LocalStudent(name, base_models.find(source, offline=offline), base_models.computed_in(settings.dtype))


def said(question: EvalQuestion, settings: EvalSettings) -> Said:
    """What a student is told: a text as it stands, or a chat."""
    text = question.text if settings.instruction is None else f"{question.text}\n{settings.instruction}"
    if settings.template is not None:
        return settings.template.replace("{question}", text)
    return text if settings.plain else [{"role": "user", "content": text}]


def key_of(student: Student, settings: EvalSettings, *, sampled: bool) -> str:
    """What tells answers apart that must not stand for each other: the student, and all that changes an answer."""
    told: Mapping[str, Any] = {
        "student": student.identity,
        **{name: getattr(settings, name) for name in ("plain", "template", "instruction", "stop", "max_tokens")},
        **({name: getattr(settings, name) for name in ("temperature", "top_p", "seed")} if sampled else {}),
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:12]


def file_of(folder: Path, student: Student, settings: EvalSettings, *, sampled: bool) -> Path:
    """Where its answers stand; a student that was renamed finds them again."""
    kind, key = "sampled" if sampled else "greedy", key_of(student, settings, sampled=sampled)
    earlier = next(iter(folder.glob(f"*-{kind}-{key}.jsonl")), None)
    word = re.sub(r"[^\w.-]+", "-", student.name).strip("-.")[:40]
    return earlier or folder / f"{word}-{kind}-{key}.jsonl"


def _as_chat(told: Said) -> list[dict[str, str]]:
    return [{"role": "user", "content": told}] if isinstance(told, str) else [dict(message) for message in told]
