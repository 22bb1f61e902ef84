"""Threads for blocking calls, and the base of the models that run in them."""

from __future__ import annotations

import asyncio
import atexit
import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from outspoken.errors import UsageError
from outspoken.models.base import Model

__all__ = ["InProcessModel", "ModelThreads"]

T = TypeVar("T")

_MAX_SECONDS_TO_END = 1.0


class ModelThreads:
    """Up to `count` daemon threads that run calls, started as needed. At its end, the interpreter would wait for
    the threads of an executor before anything can stop them."""

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
    """Wait until the operating system's thread is gone. Before Python 3.13 a joined thread may still run the exit
    code of C++ libraries, and the process aborts if it ends meanwhile."""
    task = f"/proc/self/task/{thread.native_id}"
    until = time.monotonic() + _MAX_SECONDS_TO_END
    while os.path.exists(task) and time.monotonic() < until:
        time.sleep(0.001)


class InProcessModel(Model):
    """A model that is computed in up to `threads` threads of this process and freed by `close`.

    All such models are closed before the interpreter ends: native threads that call into it afterwards, or are
    killed inside a library, abort the process.
    """

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self._workers = ModelThreads(threads)
        self._closed = threading.Event()
        self._process = os.getpid()
        _open_models.add(self)

    @property
    def closed(self) -> bool:
        """Whether it may not be used any more: it was closed, or created before this process was forked."""
        return self._closed.is_set() or self._process != os.getpid()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """`aclose` for synchronous code: a computation in progress ends at its next step."""
        if self._process != os.getpid():
            return  # the threads belong to the parent process
        self._closed.set()
        self._workers.join()
        self._free()

    def _free(self) -> None:
        """Release the memory of the loaded model."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self.closed:
            raise UsageError(f"{self.name} is closed, or was created before a fork: create a new model")

    async def _in_worker(self, call: Callable[[], T]) -> T:
        self._check_open()
        return await asyncio.wrap_future(self._workers.submit(call))


_open_models: weakref.WeakSet[InProcessModel] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    for model in list(_open_models):
        model.close()
