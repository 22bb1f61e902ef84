"""Records that mean the same as an earlier kept one, judged by embeddings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from outspoken.measure.embedding import Embedder
from outspoken.same_text import text_key
from outspoken.synth.dedup.minhash import jaccards
from outspoken.synth.dedup.search import KEPT, MEANING, NEAR, Ints, NearDuplicates, Report, Texts
from outspoken.synth.kmeans import unit_vectors

__all__ = ["by_meaning"]

_BLOCK = 512
_ROUNDING = 1e-6


async def by_meaning(
    texts: Texts, duplicates: NearDuplicates, embedder: Embedder, cosine: float, near: float | None, report: Report
) -> None:
    """Remove kept records whose cosine with an earlier kept one is at least `cosine`.

    The earliest such one stands for it. A record that is removed here may have stood for near-duplicates: each of
    these is compared again, and kept if it is like no kept record. Blank texts have no meaning and stay. All
    vectors are in memory: 4 bytes for each dimension of each record.
    """
    search = _MeaningSearch(texts, duplicates, embedder, cosine, near, report)
    missing = np.flatnonzero(duplicates.by == KEPT)
    while len(missing):
        await search.embed(missing)
        missing = await search.run()
    search.apply()


class _MeaningSearch:
    """The unit vectors of the embedded records, and the result of the last pass over all records."""

    def __init__(
        self,
        texts: Texts,
        duplicates: NearDuplicates,
        embedder: Embedder,
        cosine: float,
        near: float | None,
        report: Report,
    ) -> None:
        self._texts, self._duplicates, self._embedder, self._report = texts, duplicates, embedder, report
        self._cosine, self._near = cosine - _ROUNDING, near
        self._vectors = np.empty((0, 0), dtype=np.float32)
        self._row = np.full(len(texts), -1, dtype=np.int64)
        self._known = np.zeros(len(texts), dtype=bool)
        self._kept = np.array([], dtype=np.int64)
        self._new: list[int] = []
        # Kept records whose stand-in was removed, with the key of their text.
        self._orphans: dict[int, str] = {}
        # Removed records: the record that stands for each, the similarity of the two, and the reason.
        self._removed: dict[int, tuple[int, float, int]] = {}

    async def embed(self, places: Ints) -> None:
        texts = self._texts.at(places)
        self._known[places] = True
        with_text = [at for at, text in enumerate(texts) if text.strip()]
        if not with_text:
            return
        progress = partial(self._report, "embedding")
        vectors = unit_vectors(await self._embedder.embed([texts[at] for at in with_text], progress))
        self._row[places[with_text]] = np.arange(len(vectors)) + len(self._vectors)
        self._vectors = np.concatenate([self._vectors, vectors]) if len(self._vectors) else vectors

    async def run(self) -> Ints:
        """Pass over the records in order; returns those that must still be embedded for a certain result."""
        by, missing = self._duplicates.by, list[int]()
        self._kept, self._orphans, self._removed = np.array([], dtype=np.int64), {}, {}
        places = np.flatnonzero((by == KEPT) | (by == NEAR))
        for start in range(0, len(places), _BLOCK):
            self._report("comparing meanings", start, len(places))
            missing += await asyncio.to_thread(self._block, places[start : start + _BLOCK])
        return np.array(missing, dtype=np.int64)

    def apply(self) -> None:
        """Write the result into the `NearDuplicates`."""
        to = self._duplicates
        kept = {place: (place, 1.0, KEPT) for place in self._orphans}
        for place, decision in (self._removed | kept).items():
            to.stands_for[place], to.similarity[place], to.by[place] = decision

    def _block(self, places: Ints) -> list[int]:
        missing = []
        embedded = places[self._row[places] >= 0]
        row_of = {place: row for row, place in enumerate(embedded.tolist())}
        own = self._vectors[self._row[embedded]]
        kept = self._vectors[self._row[self._kept]]
        with_kept = own @ kept.T if len(kept) else np.empty((len(embedded), 0))
        with_own = own @ own.T if len(embedded) else np.empty((0, 0))
        self._new = []
        for place in places.tolist():
            orphan = self._duplicates.by[place] == NEAR
            if orphan and int(self._duplicates.stands_for[place]) not in self._removed:
                continue
            if not self._known[place]:
                missing.append(place)
                continue
            row = row_of.get(place)
            if row is not None and self._remove_by_meaning(place, with_kept[row], with_own[row], row_of):
                continue
            if orphan and self._remove_by_orphan(place):
                continue
            if row is not None:
                self._new.append(place)
        self._kept = np.concatenate([self._kept, np.array(self._new, dtype=np.int64)])
        return missing

    def _remove_by_meaning(
        self, place: int, with_kept: Sequence[float], with_own: NDArray[np.float32], row_of: dict[int, int]
    ) -> bool:
        """Remove a record if an earlier kept one means the same; returns whether it was removed."""
        cosines = np.concatenate([with_kept, with_own[[row_of[new] for new in self._new]]])
        similar = np.flatnonzero(cosines >= self._cosine)
        if not len(similar):
            return False
        at = int(similar[0])
        other = int(self._kept[at]) if at < len(self._kept) else self._new[at - len(self._kept)]
        self._removed[place] = other, min(1.0, float(cosines[at])), MEANING
        return True

    def _remove_by_orphan(self, place: int) -> bool:
        """Remove an orphan if it is a near-duplicate of an earlier one; returns whether it was removed."""
        own = text_key(self._texts.at(np.array([place]))[0])
        if self._near is not None and self._orphans:
            similarities = jaccards([own] * len(self._orphans), list(self._orphans.values()))
            at = int(np.argmax(similarities >= self._near))
            if similarities[at] >= self._near:
                self._removed[place] = list(self._orphans)[at], float(similarities[at]), NEAR
                return True
        self._orphans[place] = own
        return False
