"""The rate limiter: how many may be under way, at what pace, and what happens when it is stopped."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from outspoken.engine import rate_limiter as gates
from outspoken.engine.rate_limiter import START, EvenPace, RateLimiter
from outspoken.engine.retry import seconds_to_wait
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


async def filled(limiter: RateLimiter, waiting: int = 5) -> list[asyncio.Task[None]]:
    """Enter until nobody gets in any more, with so many left waiting."""
    tasks = [asyncio.ensure_future(limiter.enter()) for _ in range(limiter.most + waiting)]
    await asyncio.sleep(0)
    return tasks


async def let_go(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def answer(limiter: RateLimiter, clock: Clock, seconds: float) -> None:
    """One window: `limit` answers, the last of them after `seconds`."""
    count = limiter.limit
    for _ in range(count - 1):
        limiter.answered()
    clock.now += seconds
    limiter.answered()


async def test_only_so_many_get_in() -> None:
    limiter = RateLimiter(3, steady=True)
    tasks = await filled(limiter)
    assert limiter.active == 3
    assert [task.done() for task in tasks] == [True] * 3 + [False] * 5
    limiter.leave()
    await asyncio.sleep(0)
    assert (limiter.active, tasks[3].done(), tasks[4].done()) == (3, True, False)
    await let_go(tasks)


async def test_who_gives_up_waiting_takes_no_place() -> None:
    limiter = RateLimiter(1, steady=True)
    await limiter.enter()
    one, two = (asyncio.ensure_future(limiter.enter()) for _ in range(2))
    await asyncio.sleep(0)
    one.cancel()
    limiter.leave()
    await asyncio.gather(one, return_exceptions=True)
    await two
    assert limiter.active == 1


async def test_a_place_given_to_one_who_is_cancelled_in_that_moment_is_not_lost() -> None:
    limiter = RateLimiter(1, steady=True)
    await limiter.enter()
    waiting = asyncio.ensure_future(limiter.enter())
    await asyncio.sleep(0)
    limiter.leave()  # hands the place over
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert limiter.active == 0


async def test_it_doubles_while_the_server_answers_more_for_it(clock: Clock) -> None:
    limiter = RateLimiter(256)
    tasks = await filled(limiter)
    for limit in (START, 2 * START, 4 * START):
        assert limiter.limit == limit
        answer(limiter, clock, 10.0)  # the same time for twice as many
        limiter._full = True
    assert limiter.limit == 256
    await let_go(tasks)


async def test_it_stops_doubling_where_more_at_once_only_takes_longer(clock: Clock) -> None:
    limiter = RateLimiter(4096)
    tasks = await filled(limiter)
    answer(limiter, clock, 10.0)
    assert limiter.limit == 2 * START
    limiter._full = True
    answer(limiter, clock, 20.0)
    assert limiter.limit == 2 * START + 2 * START // 16
    limiter._full = True
    answer(limiter, clock, 22.0)
    assert limiter.limit == 72
    await let_go(tasks)


async def test_it_does_not_grow_while_nobody_waits(clock: Clock) -> None:
    limiter = RateLimiter(256)
    for _ in range(10 * START):
        clock.now += 1
        limiter.answered()
    assert limiter.limit == START


async def test_it_halves_once_for_all_that_was_begun_before(clock: Clock) -> None:
    limiter = RateLimiter(256)
    begun = clock.now
    clock.now += 1
    for _ in range(30):
        limiter.overloaded(begun)
    assert limiter.limit == START // 2
    clock.now += 1
    limiter.overloaded(clock.now)
    assert limiter.limit == START // 4


async def test_after_a_cut_it_comes_back_quickly_and_not_quite(clock: Clock) -> None:
    limiter = RateLimiter(256)
    tasks = await filled(limiter)
    limiter.overloaded(clock.now)
    limits = []
    for _ in range(3):
        limiter._full = True
        answer(limiter, clock, 1.0)
        limits.append(limiter.limit)
    assert limits == [24, 25, 26]
    await let_go(tasks)


async def test_it_never_falls_below_one(clock: Clock) -> None:
    limiter = RateLimiter(2)
    for _ in range(5):
        clock.now += 1
        limiter.overloaded(clock.now)
    assert limiter.limit == 1


async def test_all_wait_as_long_as_the_server_asks() -> None:
    limiter = RateLimiter(10)
    loop = asyncio.get_running_loop()
    limiter.overloaded(loop.time(), wait=0.2)
    begun = loop.time()
    await asyncio.gather(*(limiter.enter() for _ in range(3)))
    assert loop.time() - begun >= 0.19


async def test_a_pause_may_be_too_long_to_wait_for(clock: Clock) -> None:
    limiter = RateLimiter(2)
    limiter.overloaded(clock.now, wait=100)
    assert limiter.pause_left == 100
    with pytest.raises(TimeoutError):
        await limiter.enter(0, 99)
    waiting = asyncio.ensure_future(limiter.enter(0, 101))
    await asyncio.sleep(0.01)
    assert (limiter.active, waiting.done()) == (1, False)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    clock.now += 100
    assert (limiter.active, limiter.pause_left) == (0, 0)
    await limiter.enter(0, 0)


async def test_a_turn_that_comes_late_is_no_pause(clock: Clock) -> None:
    """Waiting for the pace that the user set is not waiting for the server."""
    limiter = RateLimiter(3, requests_per_minute=1)
    await limiter.enter(0, 1)
    waiting = asyncio.ensure_future(limiter.enter(0, 1))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    limiter.overloaded(clock.now, wait=60.5)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


async def test_too_few_files_lower_the_limit_for_good(clock: Clock) -> None:
    limiter = RateLimiter(256)
    tasks = await filled(limiter)
    begun = clock.now
    clock.now += 1
    for _ in range(20):
        limiter.narrow(begun)
    assert (limiter.limit, limiter.most) == (START // 2, START // 2)
    for _ in range(5):
        limiter._full = True
        answer(limiter, clock, 0.1)
    assert limiter.limit == START // 2
    await let_go(tasks)


async def test_shutting_turns_away_those_who_wait_and_those_who_come() -> None:
    limiter = RateLimiter(1, steady=True)
    await limiter.enter()
    limiter.overloaded(0, wait=60)
    waiting = [asyncio.ensure_future(limiter.enter()), asyncio.ensure_future(limiter.pause(60))]
    await asyncio.sleep(0)
    limiter.stop("enough")
    limiter.stop("too late")
    for task in waiting:
        with pytest.raises(StoppedError, match=r"^enough$"):
            await task
    with pytest.raises(StoppedError, match=r"^enough$"):
        await limiter.enter()
    assert (limiter.active, limiter.stopped, limiter.closed.is_set()) == (1, "enough", True)


async def test_shutting_reaches_one_who_waits_for_his_turn_at_the_pace() -> None:
    limiter = RateLimiter(5, requests_per_minute=1)
    await limiter.enter()
    waiting = asyncio.ensure_future(limiter.enter())
    await asyncio.sleep(0)
    assert limiter.active == 2
    limiter.stop("enough")
    with pytest.raises(StoppedError):
        await waiting
    assert limiter.active == 1


def test_no_minute_holds_more_than_the_pace() -> None:
    pace = EvenPace(per_minute=120)
    at = [pace.reserve(1, now=10.0) for _ in range(241)]
    assert at[0] == 10.0
    assert at[-1] == pytest.approx(130.0)
    for begin in at:
        assert sum(begin <= other < begin + 59.999 for other in at) <= 120


def test_a_pause_is_not_saved_up() -> None:
    pace = EvenPace(per_minute=60)
    pace.reserve(1, now=0.0)
    assert [pace.reserve(1, now=1000.0) for _ in range(3)] == [1000.0, 1001.0, 1002.0]


def test_tokens_that_came_on_top_are_waited_for() -> None:
    pace = EvenPace(per_minute=6000)
    pace.reserve(100, now=0.0)
    pace.correct(200)
    assert pace.reserve(100, now=0.0) == pytest.approx(3.0)


@pytest.mark.parametrize(
    "wrong", [{"most": 0}, {"most": 1, "requests_per_minute": 0}, {"most": 1, "tokens_per_minute": -1}]
)
def test_bad_limits(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        RateLimiter(**wrong)  # type: ignore[arg-type]


def test_a_server_that_asks_for_no_wait_is_not_asked_again_at_once() -> None:
    waits = [seconds_to_wait(6, retry_after) for retry_after in (0.0, None) for _ in range(50)]
    assert statistics.mean(waits) > 1
    assert all(3 <= seconds_to_wait(1, 3.0) <= 4 for _ in range(50))
