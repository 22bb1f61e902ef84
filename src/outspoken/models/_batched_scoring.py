"""Log-probabilities of given tokens under a causal language model of `transformers`, many texts at once.

Texts that begin alike are computed together: what they share goes through the model once, and only the tokens that
are asked about meet the output layer, which for a large vocabulary is half of the work.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Any

from outspoken._imports import need
from outspoken.errors import ProviderError, StoppedError, UsageError

torch = need("torch", "scoring a text in this process", "torch")

__all__ = ["BatchedScorer", "TokenSpan", "cache_argument"]

# A step of this many tokens keeps two to sixteen cores busy; padding may cost this share of it.
_TOKENS_A_STEP = 1024
_PADDING = 0.15
# The output layer in blocks whose logits stay in the processor's cache: twice as fast as all of them at once.
_ROWS, _WORDS = 512, 4096
# Texts go through the model together where they share this much of what precedes the tokens asked about.
_WORTH = 0.5
_PAD = 0  # any token: padding is masked


# What models call the cache of keys and values: `transformers` renamed it in 5.24 and drops the old name in 5.40;
# models whose code comes with their weights may keep it.
_CACHE_NAMES = ("cache", "past_key_values")


def cache_argument(model: Any, cache: Any) -> dict[str, Any]:
    """`cache` under the name by which this model's `forward` takes it; a model fills it in place.

    Raises `UsageError` for a model that takes none.
    """
    known = inspect.signature(type(model).forward).parameters
    for name in _CACHE_NAMES:
        if name in known:
            return {name: cache}
    raise UsageError(
        f"{type(model).__name__} takes no cache of keys and values (its forward has neither "
        f"{' nor '.join(_CACHE_NAMES)}): take another model"
    )


@dataclass(frozen=True, slots=True)
class TokenSpan:
    """A text as token ids; those from `start` on (at least 1) are asked about."""

    ids: tuple[int, ...]
    start: int


@dataclass(frozen=True, slots=True)
class _Group:
    """Texts that share their first `shared` tokens: their places in what was asked, and the texts."""

    shared: int
    places: tuple[int, ...]
    pieces: tuple[TokenSpan, ...]

    @property
    def longest(self) -> int:
        return max(len(piece.ids) for piece in self.pieces) - self.shared


class BatchedScorer:
    """Runs one loaded model. Not safe to use from two threads at once."""

    def __init__(self, model: Any, new_cache: Callable[[], Any]) -> None:
        self._model = model
        self._new_cache = new_cache
        self._device = model.device
        # A recurrent state cannot be shared as the keys and values of attention can.
        self._shares = not getattr(model, "_is_stateful", False)
        with torch.inference_mode():
            self._apart = self._head_is_plain()

    def logprobs(
        self, pieces: Sequence[TokenSpan], stopped: Callable[[], bool] = lambda: False
    ) -> list[tuple[float, ...]]:
        """Natural log-probabilities of the tokens asked about, in the order of `pieces`.

        Raises `StoppedError` as soon as it is `stopped`, which is asked between steps.
        """
        found: list[tuple[float, ...]] = [()] * len(pieces)
        with torch.inference_mode():
            for batch in _batches(_groups(pieces, share=self._shares)):
                if stopped():
                    raise StoppedError("the model was closed")
                for place, values in self._batch(batch):
                    found[place] = values
        if any(math.isnan(value) for values in found for value in values):
            raise ProviderError("the model computed no numbers: its weights or this build of torch are damaged")
        return found

    def _batch(self, batch: Sequence[_Group]) -> Iterator[tuple[int, tuple[float, ...]]]:
        pieces = [piece for group in batch for piece in group.pieces]
        tails = [piece.ids[group.shared : -1] for group in batch for piece in group.pieces]
        rows: list[int] = []
        columns: list[int] = []
        for row, (piece, tail) in enumerate(zip(pieces, tails, strict=True)):
            asked = len(piece.ids) - piece.start
            rows += [row] * asked
            columns += range(len(tail) - asked, len(tail))
        wanted = torch.tensor([word for piece in pieces for word in piece.ids[piece.start :]], device=self._device)
        found = self._tails(tails, *self._prefix(batch))[rows, columns]
        values = iter(self._of_hidden(found, wanted) if self._apart else _of_logits(found, wanted))
        places = [place for group in batch for place in group.places]
        for place, piece in zip(places, pieces, strict=True):
            yield place, tuple(islice(values, len(piece.ids) - piece.start))

    def _prefix(self, batch: Sequence[_Group]) -> tuple[Any, Any, list[int]]:
        """What the groups' texts share, computed once each: the cache with a row a text, its mask, and where the
        texts go on. Padded on the left, so that distances within a text stay what they are."""
        begin = [group.shared for group in batch for _ in group.pieces]
        width = max(begin)
        if not width:
            return None, torch.zeros((len(begin), 0), dtype=torch.long), begin
        heads = [group.pieces[0].ids[: group.shared] for group in batch]
        ids = torch.tensor([[_PAD] * (width - len(head)) + list(head) for head in heads])
        mask = torch.tensor([[0] * (width - len(head)) + [1] * len(head) for head in heads])
        where = (mask.cumsum(1) - 1).clamp(min=0)
        cache = self._new_cache()
        self._run(ids, mask, where, cache)
        copies = torch.tensor([at for at, group in enumerate(batch) for _ in group.pieces])
        if len(copies) > 1:
            cache.reorder_cache(copies.to(self._device))
        return cache, mask[copies], begin

    def _tails(self, tails: Sequence[Sequence[int]], cache: Any, before: Any, begin: Sequence[int]) -> Any:
        """Hidden states or logits (texts, longest tail, width), padded on the right."""
        width = max(map(len, tails))
        ids = torch.tensor([[*tail, *[_PAD] * (width - len(tail))] for tail in tails])
        mask = torch.tensor([[1] * len(tail) + [0] * (width - len(tail)) for tail in tails])
        where = torch.arange(width)[None, :] + torch.tensor(begin)[:, None]
        out = self._run(ids, torch.cat([before, mask], dim=1), where, cache, logits=not self._apart)
        return out.last_hidden_state if self._apart else out.logits

    def _run(self, ids: Any, mask: Any, where: Any, cache: Any = None, *, logits: bool = False) -> Any:
        model = self._model if logits else self._model.base_model
        kept = {} if cache is None else cache_argument(model, cache)
        return model(
            input_ids=ids.to(self._device),
            attention_mask=mask.to(self._device),
            position_ids=where.to(self._device),
            use_cache=cache is not None,
            **kept,
        )

    def _of_hidden(self, hidden: Any, wanted: Any) -> list[float]:
        """The output layer over hidden states (tokens, width): log-softmax at the wanted words."""
        weight = self._model.get_output_embeddings().weight
        found: list[float] = []
        for rows, words in zip(hidden.split(_ROWS), wanted.split(_ROWS), strict=True):
            total = torch.full((len(rows),), -torch.inf, device=self._device)
            for block in weight.split(_WORDS):
                total = torch.logaddexp(total, (rows @ block.T).float().logsumexp(1))
            at = (rows.float() * weight[words].float()).sum(1)
            found += (at - total).clamp(max=0).tolist()
        return found

    def _head_is_plain(self) -> bool:
        """Whether the logits are the hidden states times the output layer and nothing else.

        Some models add a bias, scale or cap them."""
        head = self._model.get_output_embeddings()
        if head is None or not hasattr(head, "weight"):
            return False
        ids = torch.arange(1, 9)[None, :]
        mask, where = torch.ones_like(ids), torch.arange(8)[None, :]
        logits = self._run(ids, mask, where, logits=True).logits.float()
        plain = (self._run(ids, mask, where).last_hidden_state @ head.weight.T).float()
        return logits.shape == plain.shape and bool(torch.allclose(logits, plain, rtol=0.02, atol=0.02))


def _of_logits(logits: Any, wanted: Any) -> list[float]:
    found: list[float] = torch.log_softmax(logits.float(), 1).gather(1, wanted[:, None])[:, 0].tolist()
    return found


def _groups(pieces: Sequence[TokenSpan], *, share: bool) -> Iterator[_Group]:
    """Texts that begin alike together: neighbours in sorted order that share most of what is not asked about."""
    order = sorted(range(len(pieces)), key=lambda place: pieces[place].ids)
    while order:
        first, places = pieces[order[0]], [order[0]]
        shared = first.start - 1
        for place in order[1:]:
            common = min(shared, pieces[place].start - 1, _common(first.ids, pieces[place].ids))
            if not share or common < _WORTH * max(shared, pieces[place].start - 1, 1):
                break
            shared = common
            places.append(place)
        order = order[len(places) :]
        yield _Group(shared if len(places) > 1 else 0, tuple(places), tuple(pieces[place] for place in places))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(a, b, strict=False)))


def _batches(groups: Iterable[_Group]) -> Iterator[list[_Group]]:
    """Groups of about the same lengths, as many as fill a step."""
    batch: list[_Group] = []
    for group in sorted((part for whole in groups for part in _parts(whole)), key=lambda g: (g.shared, g.longest)):
        if batch and not _fits([*batch, group]):
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch


def _parts(group: _Group) -> Iterator[_Group]:
    """A group with so many texts that they fill more than a step, in several."""
    most = max(1, _TOKENS_A_STEP // group.longest)
    for at in range(0, len(group.places), most):
        yield _Group(group.shared, group.places[at : at + most], group.pieces[at : at + most])


def _fits(batch: Sequence[_Group]) -> bool:
    widest, longest = max(group.shared for group in batch), max(group.longest for group in batch)
    rows = sum(len(group.pieces) for group in batch)
    padded = widest * len(batch) + longest * rows
    filled = sum(group.shared + sum(len(piece.ids) - group.shared for piece in group.pieces) for group in batch)
    return padded <= _TOKENS_A_STEP and padded - filled <= _PADDING * padded
