"""Comparing answers in mathematics: as texts, as numbers, then by math-verify in a separate process.

math-verify limits its time by signals, which work in the main thread only and do not stop arithmetic on huge
numbers. Therefore it runs in processes that can be killed.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from outspoken.checking.answer_extraction import final_answer
from outspoken.checking.numbers import LONGEST, is_words, read_number, same_number, tidy
from outspoken.engine.background_loop import run as run_sync
from outspoken.errors import MissingExtraError, OutspokenError, UsageError
from outspoken.same_text import text_key

__all__ = ["Checker", "answer_groups", "compare_quickly", "final_answer", "same_answer"]

_WORKER = Path(__file__).with_name("_maths_worker.py")
_START_SECONDS = 120.0


class Checker:
    """Compares answers. Each comparison is limited to `seconds`; at most `workers` processes run at once.

    Numbers and texts are compared directly, tens of thousands per second; other mathematics in a process that is
    started on first use. `timeouts` counts the comparisons that took too long. Use it in an `async with` block, or
    `close` it. Raises `MissingExtraError` if math-verify is needed and not installed.
    """

    def __init__(self, *, seconds: float = 5.0, workers: int | None = None) -> None:
        if seconds <= 0 or (workers is not None and workers < 1):
            raise UsageError("seconds must be above 0, and workers at least 1")
        self.seconds = seconds
        self.timeouts = 0
        self._slots = asyncio.Semaphore(workers or min(4, os.cpu_count() or 1))
        self._idle: list[Process] = []
        self._known: dict[tuple[str, str], bool | None] = {}

    async def same(self, expected: str, given: str) -> bool | None:
        """Whether `given` is the answer `expected`; None if the comparison takes too long.

        This is not symmetric: the equation x = 5 is accepted for the answer 5, but not the reverse.
        """
        equal = compare_quickly(expected, given)
        if equal is not None:
            return equal
        pair = (tidy(expected), tidy(given))
        if pair not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            async with self._slots:
                self._known[pair] = await self._compare(pair)
        return self._known[pair]

    async def groups(self, answers: Sequence[str]) -> list[int]:
        """The group number of each answer: equal answers share one, counted from 0 in order of appearance.

        An answer belongs to the first group whose first member it equals. If a comparison takes too long, the two
        count as different.
        """
        firsts: list[str] = []
        numbers = []
        for answer in answers:
            for at, first in enumerate(firsts):
                if await self.same(first, answer) or await self.same(answer, first):
                    numbers.append(at)
                    break
            else:
                numbers.append(len(firsts))
                firsts.append(answer)
        return numbers

    async def close(self) -> None:
        """End the processes."""
        while self._idle:
            await _end(self._idle.pop())

    async def __aenter__(self) -> Checker:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _compare(self, pair: tuple[str, str]) -> bool | None:
        """Compare in a process. If it is late, dies or is cancelled, it is killed, and replaced when needed."""
        worker = self._idle.pop() if self._idle else await _start()
        try:
            assert worker.stdin is not None
            worker.stdin.write(json.dumps(pair).encode() + b"\n")
            line = await asyncio.wait_for(_line(worker), self.seconds)
        except TimeoutError:
            line = b""
        except BaseException:
            await _end(worker)
            raise
        if not line:
            # It took too long, or crashed: out of memory, or a stack overflow.
            self.timeouts += 1
            await _end(worker)
            return None
        self._idle.append(worker)
        return bool(json.loads(line))


def compare_quickly(expected: str, given: str) -> bool | None:
    """Whether two answers are the same, by their text or as numbers; None if they need mathematics."""
    if len(expected) > LONGEST or len(given) > LONGEST:
        return expected.strip() == given.strip()
    one, other = tidy(expected), tidy(given)
    if not one or not other:
        return False
    if one == other or one.replace(" ", "") == other.replace(" ", ""):
        return True
    first, second = read_number(one), read_number(other)
    if first is not None and second is not None:
        return same_number(first, second)
    if is_words(one) or is_words(other):
        return text_key(one) == text_key(other)
    return None


def same_answer(expected: str, given: str) -> bool | None:
    """`Checker.same` for synchronous code; all callers share the processes."""
    equal = compare_quickly(expected, given)
    return equal if equal is not None else run_sync(_shared(os.getpid()).same(expected, given))


def answer_groups(answers: Sequence[str]) -> list[int]:
    """`Checker.groups` for synchronous code."""
    return run_sync(_shared(os.getpid()).groups(answers))


@lru_cache(maxsize=1)
def _shared(pid: int) -> Checker:
    """One checker per process: a forked child inherits the objects of its parent, but not its child processes."""
    checker = Checker()

    def end() -> None:
        if os.getpid() == pid:
            run_sync(checker.close())

    atexit.register(end)
    return checker


async def _start() -> Process:
    if find_spec("math_verify") is None:
        raise MissingExtraError("comparing mathematics", "synth")
    # It reads texts written by models, so its environment must not contain the user's keys.
    inherited = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "HOME")
    environment = {name: os.environ[name] for name in inherited if name in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-P", str(_WORKER), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment
    )
    try:
        ready = await asyncio.wait_for(_line(worker), _START_SECONDS)
    except BaseException:
        await _end(worker)
        raise
    if not ready:
        await _end(worker)
        raise OutspokenError("math-verify does not start: does `python -c 'import math_verify'` work?")
    return worker


async def _line(worker: Process) -> bytes:
    assert worker.stdout is not None
    return await worker.stdout.readline()


async def _end(worker: Process) -> None:
    with suppress(ProcessLookupError):
        worker.kill()
    await worker.wait()
