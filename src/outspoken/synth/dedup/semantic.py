"""Records that mean the same as an earlier kept one, as far as an embedder can tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from outspoken.measure.embedding import Embedder
from outspoken.same_text import text_key
from outspoken.synth.dedup.minhash import jaccards
from outspoken.synth.dedup.search import KEPT, MEANING, NEAR, Ints, NearDuplicates, Tell, Texts

__all__ = ["by_meaning"]

_BLOCK = 512
_ROUNDING = 1e-6


async def by_meaning(
    texts: Texts, found: NearDuplicates, embedder: Embedder, cosine: float, near: float | None, tell: Tell
) -> None:
    """Remove, of the records that `found` keeps, those whose cosine with an earlier kept one is at least `cosine`.

    The earliest such stands for it. A record that is removed here may have stood for near-duplicates: each of
    these is looked at anew, and is kept where nothing that is kept is like it. Texts of blanks alone have no
    meaning and stay. All vectors are in memory: 4 bytes for each dimension of each record.
    """
    vectors = _Vectors(texts, embedder, tell)
    await vectors.add(np.flatnonzero(found.by == KEPT))
    while True:
        greedy = _Greedy(found, vectors, cosine, near)
        missing = await greedy.run(tell)
        if not missing:
            break
        await vectors.add(np.array(missing))
    greedy.settle()


class _Vectors:
    """The vectors of unit length of the records that were embedded, and their texts' shingles."""

    def __init__(self, texts: Texts, embedder: Embedder, tell: Tell) -> None:
        self._texts, self._embedder, self._tell = texts, embedder, tell
        self._row = np.full(len(texts), -1, dtype=np.int64)
        self._vectors = np.empty((0, 0), dtype=np.float32)
        self.known = np.zeros(len(texts), dtype=bool)

    async def add(self, places: Ints) -> None:
        texts = self._texts.at(places)
        self.known[places] = True
        full = [at for at, text in enumerate(texts) if text.strip()]
        if not full:
            return

        def told(done: int, total: int) -> None:
            self._tell("embedding", done, total)

        made = await self._embedder.embed([texts[at] for at in full], told)
        made = made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        self._row[places[full]] = np.arange(len(made)) + len(self._vectors)
        self._vectors = np.concatenate([self._vectors, made]) if len(self._vectors) else made

    def with_meaning(self, places: Ints) -> Ints:
        return places[self._row[places] >= 0]

    def of(self, places: Ints) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._vectors[self._row[places]]
        return found

    def key(self, place: int) -> str:
        return text_key(self._texts.at(np.array([place]))[0])


class _Greedy:
    """One passage over the records in order, with the vectors that are there."""

    def __init__(self, found: NearDuplicates, vectors: _Vectors, cosine: float, near: float | None) -> None:
        self._found, self._vectors = found, vectors
        self._cosine, self._near = cosine - _ROUNDING, near
        self._kept = np.array([], dtype=np.int64)
        self._new: list[int] = []
        self._orphans: dict[int, str] = {}
        self._gone: dict[int, tuple[int, float, int]] = {}

    async def run(self, tell: Tell) -> list[int]:
        """Returns those that would have to be embedded to be sure."""
        found, missing = self._found, list[int]()
        places = np.flatnonzero((found.by == KEPT) | (found.by == NEAR))
        for start in range(0, len(places), _BLOCK):
            tell("comparing meanings", start, len(places))
            missing += await asyncio.to_thread(self._block, places[start : start + _BLOCK])
        return missing

    def settle(self) -> None:
        found = self._found
        for place in self._orphans:
            self._gone[place] = place, 1.0, KEPT
        for place, (other, similarity, by) in self._gone.items():
            found.stands_for[place], found.similarity[place], found.by[place] = other, similarity, by

    def _block(self, places: Ints) -> list[int]:
        missing = []
        meant = self._vectors.with_meaning(places)
        row_of = {place: row for row, place in enumerate(meant.tolist())}
        own = self._vectors.of(meant)
        before = own @ self._vectors.of(self._kept).T if len(self._kept) else np.empty((len(meant), 0))
        among = own @ own.T if len(meant) else np.empty((0, 0))
        self._new = []
        for place in places.tolist():
            orphan = self._found.by[place] == NEAR
            if orphan and int(self._found.stands_for[place]) not in self._gone:
                continue
            if not self._vectors.known[place]:
                missing.append(place)
                continue
            row = row_of.get(place)
            if row is not None and self._is_meant(place, before[row], among[row], row_of):
                continue
            if orphan and self._is_near(place):
                continue
            if row is not None:
                self._new.append(place)
        self._kept = np.concatenate([self._kept, np.array(self._new, dtype=np.int64)])
        return missing

    def _is_meant(
        self, place: int, before: Sequence[float], among: NDArray[np.float32], row_of: dict[int, int]
    ) -> bool:
        """Whether an earlier kept one means the same; then it is noted."""
        cosines = np.concatenate([before, among[[row_of[new] for new in self._new]]])
        near = np.flatnonzero(cosines >= self._cosine)
        if not len(near):
            return False
        at = int(near[0])
        other = int(self._kept[at]) if at < len(self._kept) else self._new[at - len(self._kept)]
        self._gone[place] = other, min(1.0, float(cosines[at])), MEANING
        return True

    def _is_near(self, place: int) -> bool:
        """Whether one that lost what stood for it is near another such; then it is noted, else it is kept."""
        own = self._vectors.key(place)
        if self._near is not None and self._orphans:
            similarities = jaccards([own] * len(self._orphans), list(self._orphans.values()))
            at = int(np.argmax(similarities >= self._near))
            if similarities[at] >= self._near:
                self._gone[place] = list(self._orphans)[at], float(similarities[at]), NEAR
                return True
        self._orphans[place] = own
        return False
