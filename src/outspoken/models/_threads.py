"""Threads for calls that block."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

__all__ = ["ModelThreads"]

_SECONDS_TO_END = 1.0


class ModelThreads:
    """Threads that run calls, started as needed.

    They are daemons, unlike those of an executor, for which the interpreter waits at its end before anyone can
    tell them to stop.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        with self._lock:
            self._calls.put((future, call))
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name="outspoken-local", daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def end(self) -> None:
        """Let the threads end after the calls that were submitted before, and do not wait for them."""
        with self._lock:
            for _ in self._threads:
                self._calls.put(None)

    def join(self) -> None:
        """End the threads after the calls that were submitted before."""
        self.end()
        with self._lock:
            for thread in self._threads:
                thread.join()
                _await_end(thread)
            self._threads.clear()

    def _work(self) -> None:
        while (entry := self._calls.get()) is not None:
            future, call = entry
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:
                    future.set_exception(error)
            del entry, future, call


def _await_end(thread: threading.Thread) -> None:
    """Before Python 3.13 a joined thread may still be in what C++ libraries do at a thread's end, and abort the
    process when that meets the process's own end."""
    task = f"/proc/self/task/{thread.native_id}"
    until = time.monotonic() + _SECONDS_TO_END
    while os.path.exists(task) and time.monotonic() < until:
        time.sleep(0.001)
