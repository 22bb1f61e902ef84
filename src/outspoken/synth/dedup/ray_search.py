"""The search for near-duplicates on a Ray cluster: what `search.find` does, with the same result.

Workers sign the row groups. The keys of each band are sent to one worker, which finds the records that share one.
Pieces of connected records are decided by workers. Signatures never reach the driver: it holds a digest of each
text, and the pairs. The file must be on a disk that all machines share.
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
from outspoken.batch.ray.cluster import connected
from outspoken.errors import OutspokenError, ProviderError, UsageError
from outspoken.io.text import first_line
from outspoken.same_text import text_key
from outspoken.synth.dedup import search
from outspoken.synth.dedup.greedy import Decisions, decide
from outspoken.synth.dedup.minhash import Bands, bands_for, sign
from outspoken.synth.dedup.search import Edges, Ints, NearDuplicates, Report, TextFile

__all__ = ["RaySearch", "ray_search_at"]

_SLICE = 4096
_SECONDS_A_POLL, _SECONDS_TO_END = 0.5, 3.0
# Several tasks per worker, so that all workers end at about the same time; none so large that it fills a machine.
_TASKS_A_WORKER = 4
_ROWS_A_TASK = 1_000_000


@contextmanager
def ray_search_at(address: str | None, workers: int | None) -> Iterator[RaySearch]:
    """A search on the cluster at that address (see `batch.ray.cluster.connected`), with at most `workers` tasks at
    once (default: one for each processor). Raises `UsageError` and `ProviderError` if the cluster cannot be used.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, not {workers}")
    with connected(address) as ray:
        try:
            yield RaySearch(ray, workers or max(1, int(ray.cluster_resources().get("CPU", 1))))
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, OutspokenError):
                raise error.cause from error
            raise
        except ray.exceptions.RayError as error:
            raise ProviderError(
                f"the Ray cluster failed ({first_line(error)}): run the same command again", original=error
            ) from error


class RaySearch:
    """Finds near-duplicates on a Ray cluster."""

    def __init__(self, ray: Any, workers: int) -> None:
        self._ray = ray
        self.workers = workers

    def find(self, texts: TextFile, exact: bool, similarity: float | None, report: Report) -> NearDuplicates:
        """As `search.find`."""
        bands = None if similarity is None else bands_for(similarity)
        count, path = len(texts), texts.path.absolute()
        blocks = _blocks(texts.group_sizes(), -(-count // (self.workers * _TASKS_A_WORKER)))
        columns = bands.count if bands else 0
        tasks: list[partial[Any]] = [partial(_sign, __version__, path, groups, exact, bands) for groups in blocks]
        signed = self._all(tasks, 2 + columns, partial(report, "reading"))
        digests, lengths = ([self._ray.get(refs[which]) for refs in signed] for which in (0, 1))
        result = NearDuplicates.from_first(
            search.first_equal(np.concatenate(digests)) if exact and count else np.arange(count)
        )
        if similarity is None or not count:
            return result
        candidates = self._ray.put(np.flatnonzero(result.by == search.KEPT))
        tasks = [partial(_neighbours, candidates, *[refs[2 + band] for refs in signed]) for band in range(columns)]
        edges: list[Edges] = [self._ray.get(refs[0]) for refs in self._all(tasks, 1, partial(report, "sorting"))]
        all_lengths = np.concatenate(lengths)
        del signed, candidates, tasks
        # Few pieces, because for each of them the texts are read from all over the file.
        most = min(search.MAX_PIECE, int(all_lengths.sum()) // self.workers + 1)
        pieces = list(search.connected_pieces(edges, all_lengths, most))
        tasks = [partial(_decide, path, places, similarity) for places in pieces]
        for places, refs in zip(pieces, self._all(tasks, 1, partial(report, "comparing")), strict=True):
            result.add(places, self._ray.get(refs[0]))
        return result

    def _all(
        self, tasks: Sequence[partial[Any]], results: int, report: Callable[[int, int], None]
    ) -> list[list[Any]]:
        """The references to the results of all tasks, of which at most `workers` run at once."""
        started: list[list[Any]] = []
        running: dict[Any, list[Any]] = {}
        try:
            while len(started) < len(tasks) or running:
                while len(started) < len(tasks) and len(running) < self.workers:
                    task = tasks[len(started)]
                    refs = self._ray.remote(num_returns=results)(task.func).remote(*task.args)
                    started.append(refs if results > 1 else [refs])
                    running[started[-1][0]] = started[-1]
                report(len(started) - len(running), len(tasks))
                done, _ = self._ray.wait(list(running), num_returns=1, timeout=_SECONDS_A_POLL)
                for ref in done:
                    self._ray.get(ref)
                    del running[ref]
        except BaseException:
            # Not cancelled: cancelling a task that has just ended kills the whole process (Ray 2.60). Tasks are
            # short, and leaving the cluster ends them.
            ended: list[Any] = []
            if running:
                ended, _ = self._ray.wait(list(running), num_returns=len(running), timeout=_SECONDS_TO_END)
            for ref in (ref for first in ended for ref in running[first]):
                with suppress(self._ray.exceptions.RayError):
                    self._ray.get(ref)  # Ray prints errors that are never fetched
            raise
        return started


# The following functions run on the workers.


def _sign(
    version: str, path: Path, groups: Sequence[int], exact: bool, bands: Bands | None
) -> tuple[NDArray[Any], ...]:
    """The digests of the texts in some row groups, the lengths of their keys, and the keys of each band."""
    if version != __version__:
        raise UsageError(f"outspoken is {__version__} here and {version} where the step was started")
    if not path.is_file():
        raise UsageError(f"{path} does not exist here: it must be on a disk that all machines share")
    parts = [sign(some, exact, bands) for some in TextFile(path).slices(_SLICE, groups)]
    digests, band_keys, lengths = zip(*parts, strict=True)
    return np.concatenate(digests), np.concatenate(lengths), *np.concatenate(band_keys, axis=1)


def _neighbours(candidates: Ints, *columns: NDArray[np.uint32]) -> Edges:
    return search.neighbours(np.concatenate(columns), candidates=candidates)


def _decide(path: Path, places: Ints, similarity: float) -> Decisions:
    keys = [text_key(text) for text in TextFile(path).at(places)]
    return decide(keys, similarity, lambda done: None)


def _blocks(group_sizes: Sequence[int], rows: int) -> list[list[int]]:
    """The numbers of the row groups in order, in blocks of about `rows` records."""
    rows = max(1, min(rows, _ROWS_A_TASK))
    blocks: list[list[int]] = []
    held = rows
    for group, size in enumerate(group_sizes):
        if not size:
            continue
        if held >= rows:
            blocks.append([])
            held = 0
        blocks[-1].append(group)
        held += size
    return blocks
