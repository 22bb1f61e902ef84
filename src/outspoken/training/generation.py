"""Answers of a causal language model in batches, greedy or sampled; an answer does not depend on its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from outspoken._imports import need
from outspoken.errors import UsageError
from outspoken.models._batched_scoring import cache_argument

torch = need("torch", "evaluating a model in this process", "train")
hf = need("transformers", "evaluating a model in this process", "train")

__all__ = ["Decoder", "GeneratedAnswer", "TokenPrompt"]


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """A prompt as tokens. `draw` names the sample, and the same name gets the same answer in every batch.

    None is a greedy answer: always the likeliest token.
    """

    ids: tuple[int, ...]
    draw: str | None = None


@dataclass(frozen=True, slots=True)
class GeneratedAnswer:
    """An answer: its text, its number of tokens, and whether it ended ("stop") or was cut off ("length")."""

    text: str
    tokens: int
    finish: str


@dataclass(slots=True)
class _Row:
    """An unfinished answer to the prompt at this index; `random` is None for a greedy one."""

    index: int
    prompt: TokenPrompt
    random: np.random.Generator | None
    most: int
    ids: list[int] = field(default_factory=list)


class Decoder:
    """Answers `batch_size` prompts at once with a model and its tokenizer, each in at most `max_tokens`.

    Samples are drawn at this `temperature` from the smallest set of tokens that holds the share `top_p` of the
    probability. An answer ends at any of the `stop` texts.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        batch_size: int = 32,
        max_tokens: int = 512,
        temperature: float = 1.0,
        top_p: float = 1.0,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> None:
        self._model, self._tokenizer = model.eval(), tokenizer
        self._batch_size, self._max_tokens, self._stop = batch_size, max_tokens, tuple(stop)
        self._temperature, self._top_p, self._seed = temperature, top_p, seed
        self._context: int | None = getattr(model.config, "max_position_embeddings", None)
        ends = model.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else ends or []
        self._ends = {*ends, tokenizer.eos_token_id}

    def answers(self, prompts: Sequence[TokenPrompt]) -> Iterator[list[tuple[int, GeneratedAnswer]]]:
        """The answers batch by batch, each with the index of its prompt; the longest prompts come first.

        Raises `UsageError` for a prompt that fills the model's context.
        """
        for prompt in prompts:
            if self._context is not None and len(prompt.ids) >= self._context:
                raise UsageError(
                    f"a question has {len(prompt.ids):,} tokens and the model's context holds {self._context:,}: "
                    "leave it out, or choose a model with a longer context"
                )
        order = sorted(range(len(prompts)), key=lambda at: -len(prompts[at].ids))
        for start in range(0, len(order), self._batch_size):
            rows = [self._row(at, prompts[at]) for at in order[start : start + self._batch_size]]
            yield list(self._batch(rows))

    def _batch(self, rows: list[_Row]) -> Iterator[tuple[int, GeneratedAnswer]]:
        longest = max(len(row.prompt.ids) for row in rows)
        pads = [longest - len(row.prompt.ids) for row in rows]
        device = self._model.device
        ids = torch.tensor(
            [
                [self._tokenizer.pad_token_id] * pad + list(row.prompt.ids)
                for pad, row in zip(pads, rows, strict=True)
            ],
            device=device,
        )
        mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in pads], device=device)
        cache = hf.DynamicCache(config=self._model.config)
        while rows:
            logits = self._step(ids, mask, cache)
            chosen = self._choose(logits, rows)
            unfinished = []
            for at, (row, token) in enumerate(zip(rows, chosen, strict=True)):
                answer = self._add_token(row, token)
                if answer is None:
                    unfinished.append(at)
                else:
                    yield row.index, answer
            if not unfinished:
                return
            if len(unfinished) < len(rows):
                kept = torch.tensor(unfinished, device=device)
                cache.batch_select_indices(kept)
                mask = mask[kept]
                rows = [rows[at] for at in unfinished]
            ids = torch.tensor([[row.ids[-1]] for row in rows], device=device)
            mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)

    def _step(self, ids: Any, mask: Any, cache: Any) -> Any:
        with torch.inference_mode():
            places = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            output = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places,
                use_cache=True,
                logits_to_keep=1,
                **cache_argument(self._model, cache),
            )
            return output.logits[:, -1].float()

    def _choose(self, logits: Any, rows: list[_Row]) -> list[int]:
        best: list[int] = logits.argmax(dim=-1).tolist()
        drawn = {at: row.random for at, row in enumerate(rows) if row.random is not None}
        if not drawn:
            return best
        probabilities = torch.softmax(logits[list(drawn)] / self._temperature, dim=-1)
        tokens = None
        if self._top_p < 1:
            probabilities, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
        sums = probabilities.double().cumsum(dim=-1)
        last = (sums < self._top_p).sum(dim=-1, keepdim=True).clamp(max=sums.shape[1] - 1)
        points = sums.new_tensor([[random.random()] for random in drawn.values()]) * sums.gather(1, last)
        places = torch.searchsorted(sums, points, right=True).clamp(max=sums.shape[1] - 1)
        chosen = places if tokens is None else tokens.gather(1, places)
        for at, token in zip(drawn, chosen.squeeze(1).tolist(), strict=True):
            best[at] = token
        return best

    def _add_token(self, row: _Row, token: int) -> GeneratedAnswer | None:
        """The answer if this token finishes it, else None."""
        if token in self._ends:
            return GeneratedAnswer(self._text(row.ids), len(row.ids) + 1, "stop")
        row.ids.append(token)
        if self._stop:
            text = self._text(row.ids)
            ends = [text.find(stop) for stop in self._stop if stop in text]
            if ends:
                return GeneratedAnswer(text[: min(ends)], len(row.ids), "stop")
        return GeneratedAnswer(self._text(row.ids), len(row.ids), "length") if len(row.ids) >= row.most else None

    def _text(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _row(self, index: int, prompt: TokenPrompt) -> _Row:
        random = None
        if prompt.draw is not None:
            digest = hashlib.sha256(prompt.draw.encode("utf-8", "surrogatepass")).digest()
            random = np.random.default_rng([self._seed, *np.frombuffer(digest[:16], dtype=np.uint32).tolist()])
        room = self._max_tokens if self._context is None else self._context - len(prompt.ids)
        return _Row(index, prompt, random, min(self._max_tokens, room))
