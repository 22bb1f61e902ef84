"""Students: the models that are evaluated, and how they answer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from outspoken.errors import ProviderError
from outspoken.training import base_models
from outspoken.training.base_models import PromptText, PromptTokenizer, as_chat
from outspoken.training.questions import GREEDY, EvalQuestion, StudentAnswer
from outspoken.training.settings import EvalSettings

__all__ = ["AnswerRequest", "LocalStudent", "RemoteStudent", "Student", "answer_path", "find_student"]

AnswerRequest = tuple[EvalQuestion, int]
"""A question, and the sample number of the answer: `GREEDY`, or from 0 on."""


@dataclass(frozen=True, slots=True)
class LocalStudent:
    """A student whose weights are computed in this process."""

    name: str
    base: base_models.BaseWeights
    dtype: str

    @property
    def identity(self) -> str:
        """The weights and the precision."""
        return f"{self.base.fingerprint}?dtype={self.dtype}"

    def answers(
        self, requests: Sequence[AnswerRequest], settings: EvalSettings, ledger: Path
    ) -> Generator[list[StudentAnswer]]:
        """The answers in batches. A question gets the same answer in every run with the same settings."""
        from outspoken.training.generation import Decoder, TokenPrompt

        tokenizer = base_models.load_tokenizer(self.base)
        prompt_tokenizer = PromptTokenizer(tokenizer, self.base.name)
        prompts = [
            TokenPrompt(
                tuple(prompt_tokenizer.prompt(question_prompt(question, settings))),
                None if sample == GREEDY else f"{question.key} {sample}",
            )
            for question, sample in requests
        ]
        with base_models.limit_threads(settings.threads):
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
            batches = decoder.answers(prompts)
            while True:
                with base_models.translate_errors():
                    batch = next(batches, None)
                if batch is None:
                    return
                yield [
                    StudentAnswer(requests[at][0].key, requests[at][1], answer.text, answer.tokens, answer.finish)
                    for at, answer in batch
                ]


@dataclass(frozen=True, slots=True)
class RemoteStudent:
    """A student that is a model of this package; the ledger keeps its replies too."""

    name: str
    model: str

    @property
    def identity(self) -> str:
        """The model's name."""
        return self.model

    def answers(
        self, requests: Sequence[AnswerRequest], settings: EvalSettings, ledger: Path
    ) -> Generator[list[StudentAnswer]]:
        """The answers as they arrive, without those that failed. Raises `ProviderError` if all requests fail."""
        from outspoken.batch.memory import run
        from outspoken.models import get_model

        model = get_model(self.model)
        for greedy in (True, False):
            by_id = {
                f"{question.key} {sample}": (question, sample)
                for question, sample in requests
                if (sample == GREEDY) is greedy
            }
            if not by_id:
                continue
            prompts = [
                {
                    "id": name,
                    "prompt": [dict(message) for message in as_chat(question_prompt(question, settings), "user")],
                }
                for name, (question, _) in by_id.items()
            ]
            running = run(
                prompts,
                model=model,
                ledger=ledger,
                method="direct",
                k=1,
                top_up=0,
                temperature=0.0 if greedy else settings.temperature,
                top_p=None if greedy or settings.top_p == 1 else settings.top_p,
                max_tokens=settings.max_tokens,
                stop=settings.stop,
            )
            for distribution in running:
                question, sample = by_id[distribution.provenance.prompt_id]
                first = distribution[0]
                finish = "length" if "truncated" in first.repairs else "stop"
                tokens = distribution.provenance.usage.completion_tokens
                yield [StudentAnswer(question.key, sample, first.text, tokens, finish)]
            if running.failures and len(running.failures) >= len(prompts):
                raise ProviderError(f"{self.model} answered nothing: {running.failures[0].message}")


Student = LocalStudent | RemoteStudent


def find_student(name: str, source: str, settings: EvalSettings, *, offline: bool = False) -> Student:
    """The student of this name: `source` is what `find_weights` accepts, or the name of a model of this package.

    A name such as openai/gpt-4.1 belongs to the provider, unless a folder has this name; transformers/openai/NAME
    is a model of the hub. Raises `UsageError`.
    """
    from outspoken.models.providers import PROVIDERS

    provider = source.partition("/")[0]
    is_remote = source.startswith(("http://", "https://")) or provider in (*PROVIDERS, "replay")
    if is_remote and not Path(source).expanduser().exists():
        from outspoken.models import get_model

        get_model(source)
        return RemoteStudent(name, source)
    weights = base_models.find_weights(source, offline=offline)
    return LocalStudent(name, weights, base_models.compute_dtype(settings.dtype))


def question_prompt(question: EvalQuestion, settings: EvalSettings) -> PromptText:
    """The prompt for a question: plain text, or a chat."""
    text = question.text if settings.instruction is None else f"{question.text}\n{settings.instruction}"
    if settings.question_format is not None:
        return settings.question_format.replace("{question}", text)
    return text if settings.plain else as_chat(text, "user")


def answer_path(folder: Path, student: Student, settings: EvalSettings, *, sampled: bool) -> Path:
    """The file of a student's answers; a student that was renamed keeps its file.

    Its name contains a digest of everything that changes an answer: the student, and the settings of prompt and
    sampling.
    """
    names = ["plain", "question_format", "instruction", "stop", "max_tokens"]
    if sampled:
        names += ["temperature", "top_p", "seed"]
    relevant = {"student": student.identity, **{name: getattr(settings, name) for name in names}}
    digest = hashlib.sha256(json.dumps(relevant, sort_keys=True, ensure_ascii=True).encode()).hexdigest()[:12]
    end = f"-{'sampled' if sampled else 'greedy'}-{digest}.jsonl"
    word = re.sub(r"[^\w.-]+", "-", student.name).strip("-.")[:40]
    return next(iter(folder.glob(f"*{end}")), folder / f"{word}{end}")
