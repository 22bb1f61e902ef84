"""Ctrl-C: the one place that installs handlers for SIGINT and SIGTERM."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["INTERRUPTED", "leave_on_interrupt", "on_interrupt", "stop_on_interrupt"]

INTERRUPTED = 130
"""The exit code of a command that was interrupted."""


@contextmanager
def on_interrupt(handle: Callable[[], object]) -> Iterator[None]:
    """Call `handle` for each SIGINT and SIGTERM within the block; the earlier handlers are restored afterwards.

    Python handles signals in the main thread only: in any other thread this does nothing.
    """
    with ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                stack.callback(signal.signal, number, signal.signal(number, lambda *_: handle() and None))
        yield


def leave_on_interrupt() -> None:
    """From now on an interrupt ends the process at once, with the exit code of an interrupt: all work is done."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
        # At the very end Python restores the system's handler, by which the process would die of the signal.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


@contextmanager
def stop_on_interrupt(stopped: Callable[[], bool] | None = None) -> Iterator[Callable[[], bool]]:
    """For code that blocks: a function that returns True after a first interrupt, or when `stopped` returns True.

    A second interrupt raises `KeyboardInterrupt` at once.
    """
    pressed = threading.Event()

    def press() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    with on_interrupt(press):
        yield lambda: pressed.is_set() or (stopped is not None and stopped())
