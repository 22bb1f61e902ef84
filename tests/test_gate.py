"""The gate: how many may be under way, at what pace, and what happens when it is shut."""

from __future__ import annotations

import asyncio

import pytest

from outspoken.engine import rate_limiter as gates
from outspoken.engine.rate_limiter import START, EvenPace, RateLimiter
from outspoken.errors import StoppedError, UsageError

pytestmark = pytest.mark.core


class Clock:
    """Time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(gates, "time", clock)
    return clock


async def filled(gate: RateLimiter, waiting: int = 5) -> list[asyncio.Task[None]]:
    """Enter until nobody gets in any more, with so many left waiting."""
    tasks = [asyncio.ensure_future(gate.enter()) for _ in range(gate.most + waiting)]
    await asyncio.sleep(0)
    return tasks


async def let_go(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def answer(gate: RateLimiter, clock: Clock, seconds: float) -> None:
    """One window: `limit` answers, the last of them after `seconds`."""
    count = gate.limit
    for _ in range(count - 1):
        gate.answered()
    clock.now += seconds
    gate.answered()


async def test_only_so_many_get_in() -> None:
    gate = RateLimiter(3, steady=True)
    tasks = await filled(gate)
    assert gate.active == 3
    assert [task.done() for task in tasks] == [True] * 3 + [False] * 5
    gate.leave()
    await asyncio.sleep(0)
    assert (gate.active, tasks[3].done(), tasks[4].done()) == (3, True, False)
    await let_go(tasks)


async def test_who_gives_up_waiting_takes_no_place() -> None:
    gate = RateLimiter(1, steady=True)
    await gate.enter()
    one, two = (asyncio.ensure_future(gate.enter()) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    gate.leave()
    await asyncio.gather(one, return_exceptions=True)
    await two
    assert gate.active == 1


async def test_a_place_given_to_one_who_is_cancelled_in_that_moment_is_not_lost() -> None:
    gate = RateLimiter(1, steady=True)
    await gate.enter()
    waiting = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(0)
    gate.leave()  # hands the place over
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert gate.active == 0


async def test_it_doubles_while_the_server_answers_more_for_it(clock: Clock) -> None:
    gate = RateLimiter(256)
    tasks = await filled(gate)
    for limit in (START, 2 * START, 4 * START):
        assert gate.limit == limit
        answer(gate, clock, 10.0)  # the same time for twice as many
        gate._full = True
    assert gate.limit == 256
    await let_go(tasks)


async def test_it_stops_doubling_where_more_at_once_only_takes_longer(clock: Clock) -> None:
    gate = RateLimiter(4096)
    tasks = await filled(gate)
    answer(gate, clock, 10.0)
    assert gate.limit == 2 * START
    gate._full = True
    answer(gate, clock, 20.0)
    assert gate.limit == 2 * START + 2 * START // 16
    gate._full = True
    answer(gate, clock, 22.0)
    assert gate.limit == 72
    await let_go(tasks)


async def test_it_does_not_grow_while_nobody_waits(clock: Clock) -> None:
    gate = RateLimiter(256)
    for _ in range(10 * START):
        clock.now += 1
        gate.answered()
    assert gate.limit == START


async def test_it_halves_once_for_all_that_was_begun_before(clock: Clock) -> None:
    gate = RateLimiter(256)
    begun = clock.now
    clock.now += 1
    for _ in range(30):
        gate.overloaded(begun)
    assert gate.limit == START // 2
    clock.now += 1
    gate.overloaded(clock.now)
    assert gate.limit == START // 4


async def test_after_a_cut_it_comes_back_quickly_and_not_quite(clock: Clock) -> None:
    gate = RateLimiter(256)
    tasks = await filled(gate)
    gate.overloaded(clock.now)
    limits = []
    for _ in range(3):
        gate._full = True
        answer(gate, clock, 1.0)
        limits.append(gate.limit)
    assert limits == [24, 25, 26]
    await let_go(tasks)


async def test_it_never_falls_below_one(clock: Clock) -> None:
    gate = RateLimiter(2)
    for _ in range(5):
        clock.now += 1
        gate.overloaded(clock.now)
    assert gate.limit == 1


async def test_all_wait_as_long_as_the_server_asks() -> None:
    gate = RateLimiter(10)
    loop = asyncio.get_running_loop()
    gate.overloaded(loop.time(), wait=0.2)
    begun = loop.time()
    await asyncio.gather(*(gate.enter() for _ in range(3)))
    assert loop.time() - begun >= 0.19


async def test_shutting_turns_away_those_who_wait_and_those_who_come() -> None:
    gate = RateLimiter(1, steady=True)
    await gate.enter()
    gate.overloaded(0, wait=60)
    waiting = [asyncio.ensure_future(gate.enter()), asyncio.ensure_future(gate.pause(60))]
    await asyncio.sleep(0)
    gate.shut("enough")
    gate.shut("too late")
    for task in waiting:
        with pytest.raises(StoppedError, match=r"^enough$"):
            await task
    with pytest.raises(StoppedError, match=r"^enough$"):
        await gate.enter()
    assert (gate.active, gate.stopped, gate.closed.is_set()) == (1, "enough", True)


async def test_shutting_reaches_one_who_waits_for_his_turn_at_the_pace() -> None:
    gate = RateLimiter(5, requests_per_minute=1)
    await gate.enter()
    waiting = asyncio.ensure_future(gate.enter())
    await asyncio.sleep(0)
    assert gate.active == 2
    gate.shut("enough")
    with pytest.raises(StoppedError):
        await waiting
    assert gate.active == 1


def test_no_minute_holds_more_than_the_pace() -> None:
    pace = EvenPace(per_minute=120)
    at = [pace.book(1, now=10.0) for _ in range(241)]
    assert at[0] == 10.0
    assert at[-1] == pytest.approx(130.0)
    for begin in at:
        assert sum(begin <= other < begin + 59.999 for other in at) <= 120


def test_a_pause_is_not_saved_up() -> None:
    pace = EvenPace(per_minute=60)
    pace.book(1, now=0.0)
    assert [pace.book(1, now=1000.0) for _ in range(3)] == [1000.0, 1001.0, 1002.0]


def test_tokens_that_came_on_top_are_waited_for() -> None:
    pace = EvenPace(per_minute=6000)
    pace.book(100, now=0.0)
    pace.correct(200)
    assert pace.book(100, now=0.0) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "wrong", [{"most": 0}, {"most": 1, "requests_per_minute": 0}, {"most": 1, "tokens_per_minute": -1}]
)
def test_bad_limits(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        RateLimiter(**wrong)  # type: ignore[arg-type]
