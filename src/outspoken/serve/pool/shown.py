"""The distributions of a pool that clients can still see."""

from __future__ import annotations

from collections.abc import Iterator

from outspoken.distribution import Distribution
from outspoken.serve.pool.values import PooledCandidate, distribution_id, text_digest

__all__ = ["ShownDistributions"]

_MOST_CANDIDATES = 1_000


class ShownDistributions:
    """The first distribution of a pool and the latest ones, about 1,000 candidates in all, by fill and id."""

    def __init__(self) -> None:
        self._entries: list[tuple[int, str, Distribution]] = []
        self._mixture: tuple[str, Distribution] | None = None

    def __bool__(self) -> bool:
        return bool(self._entries)

    @property
    def first(self) -> tuple[str, Distribution]:
        """The id of the first distribution, and the distribution."""
        _, name, distribution = self._entries[0]
        return name, distribution

    @property
    def oldest_fill(self) -> int:
        """The number of the oldest fill beside the first one."""
        return self._entries[1][0] if len(self._entries) > 1 else 1

    def add(self, fill: int, name: str, distribution: Distribution) -> None:
        """Add the distribution of a fill, and drop older ones, but never the first."""
        self._entries.append((fill, name, distribution))
        self._mixture = None
        while len(self._entries) > 2 and sum(len(entry) for *_, entry in self._entries) > _MOST_CANDIDATES:
            del self._entries[1]

    def mixture(self) -> Distribution:
        """The equal mixture of all distributions."""
        first, *others = (distribution for *_, distribution in self._entries)
        if not others:
            return first
        if self._mixture is None:
            mixture = first.merge(*others)
            self._mixture = distribution_id(mixture), mixture
        return self._mixture[1]

    def find(self, name: str) -> Distribution | None:
        """The distribution with this id; None if it is not kept."""
        if self._mixture is not None and self._mixture[0] == name:
            return self._mixture[1]
        return next((distribution for _, known, distribution in self._entries if known == name), None)

    def candidates(self) -> Iterator[PooledCandidate]:
        """The candidates of all distributions that can be drawn, each text once."""
        seen: set[bytes] = set()
        for fill, name, distribution in self._entries:
            for index, candidate in enumerate(distribution):
                digest = text_digest(candidate.text)
                if candidate.probability > 0 and digest not in seen:
                    seen.add(digest)
                    yield PooledCandidate(candidate, name, fill, index)
