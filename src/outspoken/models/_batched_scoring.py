"""Log-probabilities of given tokens under a causal language model of `transformers`, for many texts at once.

Texts with a common prefix are computed together: the prefix goes through the model once. The output layer, which
is half of the work for a large vocabulary, is applied to the scored tokens alone.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from typing import Any

from outspoken._imports import need
from outspoken.errors import ProviderError, StoppedError, UsageError

torch = need("torch", "scoring a text in this process", "torch")

# A step of this many tokens keeps two to sixteen cores busy; at most this share of it is padding.
_TOKENS_PER_STEP = 1024
_MAX_PADDING = 0.15
# The output layer is applied in blocks whose logits fit in the processor's cache: twice as fast as all at once.
_ROWS, _WORDS = 512, 4096
# Texts form a group if their common prefix is at least this share of the tokens before the scored ones.
_MIN_SHARED = 0.5
_PAD = 0  # any token: padding is masked
# The argument for the cache of keys and values: `transformers` renamed it in 5.24 and drops the old name in 5.40;
# models whose code comes with their weights may keep it.
_CACHE_NAMES = ("cache", "past_key_values")


def cache_argument(model: Any, cache: object) -> dict[str, object]:
    """`cache` as a keyword argument of the model's `forward`, which fills it. Raises `UsageError`."""
    known = inspect.signature(type(model).forward).parameters
    for name in _CACHE_NAMES:
        if name in known:
            return {name: cache}
    raise UsageError(
        f"{type(model).__name__} accepts no cache of keys and values (its forward has neither "
        f"{' nor '.join(_CACHE_NAMES)}): take another model"
    )


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """A text as token ids; those from index `start` (at least 1) to the end are scored."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Texts with their first `shared` tokens in common, by their indices in the request."""

    shared: int
    texts: dict[int, TokenSequence]

    @property
    def longest(self) -> int:
        """The length of the longest text after the common prefix."""
        return max(len(text.ids) for text in self.texts.values()) - self.shared


class BatchedScorer:
    """Scores texts with one loaded model. Only one thread may use it at a time."""

    def __init__(self, model: Any, new_cache: Callable[[], Any]) -> None:
        self._model = model
        self._new_cache = new_cache
        self._device = model.device
        # Keys and values of attention can be shared; a recurrent state cannot.
        self._shares = not getattr(model, "_is_stateful", False)
        with torch.inference_mode():
            self._apply_head_separately = self._has_plain_head()

    def logprobs(
        self, texts: Sequence[TokenSequence], stopped: Callable[[], bool] = lambda: False
    ) -> list[tuple[float, ...]]:
        """The natural log-probabilities of the scored tokens of each text, in the order of `texts`.

        `stopped` is called between steps. Raises `StoppedError` if it returns true.
        """
        logprobs: list[tuple[float, ...]] = [()] * len(texts)
        with torch.inference_mode():
            for batch in _batches(_groups(texts, share=self._shares)):
                if stopped():
                    raise StoppedError("the model was closed")
                for index, values in self._score_batch(batch):
                    logprobs[index] = values
        if any(map(math.isnan, chain.from_iterable(logprobs))):
            raise ProviderError("the model computed NaN: its weights or this build of torch are damaged")
        return logprobs

    def _score_batch(self, batch: Sequence[_Group]) -> Iterator[tuple[int, tuple[float, ...]]]:
        texts = {index: text for group in batch for index, text in group.texts.items()}
        tails = [text.ids[group.shared : -1] for group in batch for text in group.texts.values()]
        rows: list[int] = []
        columns: list[int] = []
        for row, (text, tail) in enumerate(zip(texts.values(), tails, strict=True)):
            count = len(text.ids) - text.start
            rows += [row] * count
            columns += range(len(tail) - count, len(tail))
        targets = torch.tensor(
            [token for text in texts.values() for token in text.ids[text.start :]], device=self._device
        )
        outputs = self._run_tails(tails, *self._run_prefixes(batch))[rows, columns]
        values = iter((self._of_hidden if self._apply_head_separately else _of_logits)(outputs, targets))
        for index, text in texts.items():
            yield index, tuple(islice(values, len(text.ids) - text.start))

    def _run_prefixes(self, batch: Sequence[_Group]) -> tuple[Any, Any, list[int]]:
        """Run the common prefix of each group once: the cache with a row for each text, its mask, and the
        positions at which the texts continue. Padding on the left keeps the distances within a text."""
        starts = [group.shared for group in batch for _ in group.texts]
        width = max(starts)
        if not width:
            return None, torch.zeros((len(starts), 0), dtype=torch.long), starts
        prefixes = [next(iter(group.texts.values())).ids[: group.shared] for group in batch]
        ids = torch.tensor([[_PAD] * (width - len(prefix)) + list(prefix) for prefix in prefixes])
        mask = torch.tensor([[0] * (width - len(prefix)) + [1] * len(prefix) for prefix in prefixes])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        cache = self._new_cache()
        self._run(ids, mask, positions, cache)
        rows = torch.tensor([row for row, group in enumerate(batch) for _ in group.texts])
        if len(rows) > 1:
            cache.reorder_cache(rows.to(self._device))
        return cache, mask[rows], starts

    def _run_tails(
        self, tails: Sequence[Sequence[int]], cache: Any, prefix_mask: Any, starts: Sequence[int]
    ) -> Any:
        """Hidden states or logits (texts, longest tail, width), padded on the right."""
        width = max(map(len, tails))
        ids = torch.tensor([[*tail, *[_PAD] * (width - len(tail))] for tail in tails])
        mask = torch.tensor([[1] * len(tail) + [0] * (width - len(tail)) for tail in tails])
        positions = torch.arange(width)[None, :] + torch.tensor(starts)[:, None]
        mask = torch.cat([prefix_mask, mask], dim=1)
        outputs = self._run(ids, mask, positions, cache, logits=not self._apply_head_separately)
        return outputs.last_hidden_state if self._apply_head_separately else outputs.logits

    def _run(self, ids: Any, mask: Any, positions: Any, cache: Any = None, *, logits: bool = False) -> Any:
        model = self._model if logits else self._model.base_model
        cached = {} if cache is None else cache_argument(model, cache)
        return model(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            position_ids=positions.to(self._device),
            use_cache=cache is not None,
            **cached,
        )

    def _of_hidden(self, hidden: Any, targets: Any) -> list[float]:
        """The output layer over hidden states (tokens, width): the log-softmax at the target tokens."""
        weight = self._model.get_output_embeddings().weight
        logprobs: list[float] = []
        for rows, tokens in zip(hidden.split(_ROWS), targets.split(_ROWS), strict=True):
            total = torch.full((len(rows),), -torch.inf, device=self._device)
            for block in weight.split(_WORDS):
                total = torch.logaddexp(total, (rows @ block.T).float().logsumexp(1))
            logits = (rows.float() * weight[tokens].float()).sum(1)
            logprobs += (logits - total).clamp(max=0).tolist()
        return logprobs

    def _has_plain_head(self) -> bool:
        """Whether the logits are the hidden states times the output layer, without a bias, a scale or a cap."""
        head = self._model.get_output_embeddings()
        if head is None or not hasattr(head, "weight"):
            return False
        ids = torch.arange(1, 9)[None, :]
        mask, positions = torch.ones_like(ids), torch.arange(8)[None, :]
        logits = self._run(ids, mask, positions, logits=True).logits.float()
        plain = (self._run(ids, mask, positions).last_hidden_state @ head.weight.T).float()
        return logits.shape == plain.shape and bool(torch.allclose(logits, plain, rtol=0.02, atol=0.02))


def _of_logits(logits: Any, targets: Any) -> Any:
    return torch.log_softmax(logits.float(), 1).gather(1, targets[:, None])[:, 0].tolist()


def _groups(texts: Sequence[TokenSequence], *, share: bool) -> Iterator[_Group]:
    """Group neighbours in sorted order that share most of the tokens before the scored ones."""
    order = sorted(range(len(texts)), key=lambda index: texts[index].ids)
    while order:
        first, indices = texts[order[0]], [order[0]]
        shared = first.start - 1
        for index in order[1:]:
            common = min(shared, texts[index].start - 1, _common_prefix(first.ids, texts[index].ids))
            if not share or common < _MIN_SHARED * max(shared, texts[index].start - 1, 1):
                break
            shared = common
            indices.append(index)
        order = order[len(indices) :]
        yield _Group(shared if len(indices) > 1 else 0, {index: texts[index] for index in indices})


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _batches(groups: Iterable[_Group]) -> Iterator[list[_Group]]:
    """Groups of similar lengths, as many as fit in a step."""
    parts: list[_Group] = []
    for group in groups:
        entries, count = list(group.texts.items()), max(1, _TOKENS_PER_STEP // group.longest)
        parts += [_Group(group.shared, dict(entries[at : at + count])) for at in range(0, len(entries), count)]
    batch: list[_Group] = []
    for group in sorted(parts, key=lambda part: (part.shared, part.longest)):
        if batch and not _fits([*batch, group]):
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _fits(batch: Sequence[_Group]) -> bool:
    widest, longest = max(group.shared for group in batch), max(group.longest for group in batch)
    rows = sum(len(group.texts) for group in batch)
    padded = widest * len(batch) + longest * rows
    filled = sum(
        group.shared + sum(len(text.ids) - group.shared for text in group.texts.values()) for group in batch
    )
    return padded <= _TOKENS_PER_STEP and padded - filled <= _MAX_PADDING * padded
