"""Threads for blocking calls."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["ModelThreads"]

T = TypeVar("T")

_MAX_SECONDS_TO_END = 1.0


class ModelThreads:
    """Up to `count` threads that run calls, started as needed.

    They are daemon threads. The interpreter waits for the threads of an executor at its end, before anyone can
    tell them to stop.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._calls: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()

    def submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        with self._lock:
            self._calls.put((future, call))
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name="outspoken-local", daemon=True)
                self._threads.append(thread)
                thread.start()
        return future

    def end(self) -> None:
        """Make the threads end after the calls submitted so far, without waiting for them."""
        with self._lock:
            for _ in self._threads:
                self._calls.put(None)

    def join(self) -> None:
        """End the threads after the calls submitted so far, and wait for them."""
        self.end()
        with self._lock:
            for thread in self._threads:
                thread.join()
                _wait_for_exit(thread)
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


def _wait_for_exit(thread: threading.Thread) -> None:
    """Wait until the operating system's thread is gone.

    Before Python 3.13 a joined thread may still run the exit code of C++ libraries, which aborts the process if
    the process ends at the same time.
    """
    task = f"/proc/self/task/{thread.native_id}"
    until = time.monotonic() + _MAX_SECONDS_TO_END
    while os.path.exists(task) and time.monotonic() < until:
        time.sleep(0.001)
