"""Work in several threads at once: numpy's part of it lets the others go on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["spread"]

# More would wait for each other in what is pure Python.
_MOST = 4

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def spread(work: Callable[[_In], _Out], items: Iterable[_In]) -> Iterator[_Out]:
    """`map(work, items)`, a few at a time, in order; of the items only those few are held."""
    threads = min(_MOST, os.cpu_count() or 1)
    running: deque[Future[_Out]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="outspoken-near") as pool:
        try:
            for item in items:
                running.append(pool.submit(work, item))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()
