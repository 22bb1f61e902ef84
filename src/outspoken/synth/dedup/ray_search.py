"""Near-duplicates over a Ray cluster: what `near.find` does, and the same result.

Workers sign the row groups. The keys of each band come together at one worker, which finds the records that share
one. Pieces of connected records are decided by workers. Signatures never come to the driver: it holds a digest of
each text, and the pairs. The file has to be on a disk that all machines share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from outspoken._version import __version__
from outspoken.batch.ray.cluster import connected, first_line
from outspoken.errors import OutspokenError, ProviderError, UsageError
from outspoken.same_text import text_key
from outspoken.synth.dedup.greedy import Decisions, decide
from outspoken.synth.dedup.minhash import Bands, bands_for, sign
from outspoken.synth.dedup.search import KEPT, Edges, Ints, NearDuplicates, Tell, companions, firsts, pieces
from outspoken.synth.dedup.texts import TextFile

__all__ = ["Cluster", "cluster_at"]

_SLICE = 4096
_SECONDS_A_POLL, _SECONDS_TO_END = 0.5, 3.0
# Several for each worker, so that all end at about the same time, and none so large that it fills a machine.
_TASKS_A_WORKER = 4
_ROWS_A_TASK = 1_000_000
_PIECE = 1 << 26


@contextmanager
def cluster_at(address: str | None, workers: int | None) -> Iterator[Cluster]:
    """The cluster at that address (see `ray_cluster.connected`), with at most so many tasks at once (default: one
    for each processor). Raises `UsageError` and `ProviderError` where it cannot be had.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    with connected(address) as ray:
        try:
            yield Cluster(ray, workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OutspokenError):
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            raise ProviderError(
                f"the Ray cluster failed ({first_line(error)}): run the same command again", original=error
            ) from error


class Cluster:
    """A Ray cluster as a place to find duplicates in."""

    def __init__(self, ray: Any, workers: int) -> None:
        self._ray = ray
        self.workers = workers

    def find(self, texts: TextFile, exact: bool, similarity: float | None, tell: Tell) -> NearDuplicates:
        """As `near.find`."""
        bands = None if similarity is None else bands_for(similarity)
        count, path = len(texts), texts.path.absolute()
        blocks = _blocks(texts.row_groups(), -(-count // (self.workers * _TASKS_A_WORKER)))
        columns = bands.count if bands else 0
        tasks: list[partial[Any]] = [partial(_sign, __version__, path, groups, exact, bands) for groups in blocks]
        signed = self._all(tasks, 2 + columns, partial(tell, "reading"))
        marks, lengths = ([self._ray.get(refs[which]) for refs in signed] for which in (0, 1))
        found = NearDuplicates.of(firsts(np.concatenate(marks)) if exact and count else np.arange(count))
        if similarity is None or not count:
            return found
        alive = np.flatnonzero(found.by == KEPT)
        shared = self._ray.put(alive)
        tasks = [partial(_companions, shared, *[refs[2 + band] for refs in signed]) for band in range(columns)]
        edges: list[Edges] = [self._ray.get(refs[0]) for refs in self._all(tasks, 1, partial(tell, "sorting"))]
        all_lengths = np.concatenate(lengths)
        del signed, shared, tasks
        # Few pieces: for each of them the texts are read from all over the file.
        most = min(_PIECE, int(all_lengths.sum()) // self.workers + 1)
        cut = list(pieces(edges, all_lengths, most))
        tasks = [partial(_decide, path, places, similarity) for places in cut]
        for places, refs in zip(cut, self._all(tasks, 1, partial(tell, "comparing")), strict=True):
            found.take(places, self._ray.get(refs[0]))
        return found

    def _all(
        self, tasks: Sequence[partial[Any]], results: int, tell: Callable[[int, int], None]
    ) -> list[list[Any]]:
        """The references to the results of all tasks, of which at most `workers` run at once."""
        begun: list[list[Any]] = []
        running: dict[Any, list[Any]] = {}
        try:
            while len(begun) < len(tasks) or running:
                while len(begun) < len(tasks) and len(running) < self.workers:
                    task = tasks[len(begun)]
                    refs = self._ray.remote(num_returns=results)(task.func).remote(*task.args)
                    begun.append(refs if results > 1 else [refs])
                    running[begun[-1][0]] = begun[-1]
                tell(len(begun) - len(running), len(tasks))
                done, _ = self._ray.wait(list(running), num_returns=1, timeout=_SECONDS_A_POLL)
                for ref in done:
                    self._ray.get(ref)
                    del running[ref]
        except BaseException:
            # Not cancelled: where a task ends meanwhile, that ends the whole process (Ray 2.60). They are short,
            # and leaving the cluster ends them.
            left = list(running)
            ended = self._ray.wait(left, num_returns=len(left), timeout=_SECONDS_TO_END)[0] if left else []
            for ref in (ref for first in ended for ref in running[first]):
                with suppress(self._ray.exceptions.RayError):
                    self._ray.get(ref)  # an error that nobody gets is printed
            raise
        return begun


# On the workers.


def _sign(
    version: str, path: Path, groups: Sequence[int], exact: bool, bands: Bands | None
) -> tuple[NDArray[Any], ...]:
    """The digests of some row groups' texts, the lengths of their keys, and the keys of each band."""
    if version != __version__:
        raise UsageError(f"outspoken is {__version__} here and {version} where the step was started")
    if not path.is_file():
        raise UsageError(f"{path} is not there: it must be on a disk that all machines share")
    parts = [sign(some, exact=exact, bands=bands) for some in TextFile(path).groups(groups, _SLICE)]
    columns = np.concatenate([part.banded for part in parts], axis=1)
    marks = np.concatenate([part.marks for part in parts])
    return marks, np.concatenate([part.lengths for part in parts]), *columns


def _companions(alive: Ints, *columns: NDArray[np.uint32]) -> Edges:
    return companions(np.concatenate(columns), alive=alive)


def _decide(path: Path, places: Ints, similarity: float) -> Decisions:
    keys = [text_key(text) for text in TextFile(path).at(places)]
    return decide(keys, similarity, lambda done: None)


def _blocks(row_groups: Sequence[int], rows: int) -> list[list[int]]:
    """The row groups in order, in blocks of about so many rows."""
    rows = max(1, min(rows, _ROWS_A_TASK))
    blocks: list[list[int]] = []
    held = rows
    for group, size in enumerate(row_groups):
        if not size:
            continue
        if held >= rows:
            blocks.append([])
            held = 0
        blocks[-1].append(group)
        held += size
    return blocks
