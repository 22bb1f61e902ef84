from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from scipy import stats

from outspoken.candidate import Candidate, Verbalized
from outspoken.chat import Message
from outspoken.chat_reply import ChatReply
from outspoken.distribution import Distribution
from outspoken.errors import ProviderError, ReplyError, StoppedError, UsageError
from outspoken.serve.pool.pools import Pools
from outspoken.serve.pool.values import (
    CandidateListener,
    Draw,
    ExhaustedError,
    FillResult,
    PoolRequest,
    distribution_id,
    pool_key,
)
from outspoken.settings import Settings

Script = Callable[[int], Sequence[str]]


def want(k: int = 20, prompt: str = "說一個笑話 🎭", **settings: Any) -> PoolRequest:
    return PoolRequest((Message("user", prompt),), Settings(method="vs-multi", k=k, **settings), "test/model")


def even(texts: Sequence[str]) -> Distribution:
    return Distribution(tuple(Candidate(text, 1 / len(texts)) for text in texts))


class Upstream:
    """A scripted fill: `say` returns the texts of call 0, 1, … (by default new ones each time), or raises."""

    def __init__(self, say: Script | None = None, *, seconds: float = 0.0) -> None:
        self.say = say
        self.seconds = seconds
        self.histories: list[tuple[Message, ...]] = []
        self.running = self.most_running = self.ended = 0
        self.open = asyncio.Event()
        self.open.set()

    @property
    def calls(self) -> int:
        return len(self.histories)

    async def __call__(self, want: PoolRequest, history: tuple[Message, ...], listener: Any = None) -> FillResult:
        call = self.calls
        self.histories.append(history)
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            await asyncio.sleep(self.seconds)
            await self.open.wait()
            texts = self.say(call) if self.say else [f"笑話 {call}-{at} 🎉" for at in range(want.settings.k)]
        finally:
            self.running -= 1
        self.ended += 1
        return FillResult(even(texts), (*history, Message("assistant", f"turn {call}")))


@asynccontextmanager
async def pooling(upstream: Any, **options: Any) -> AsyncGenerator[Pools]:
    """Pools that are closed at the end, and leave no task behind."""
    pools = Pools(upstream, **options)
    try:
        yield pools
    finally:
        await pools.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}


def texts(draws: Sequence[Draw]) -> list[str]:
    return [draw.candidate.text for draw in draws]


@pytest.mark.parametrize("clients", [1, 200])
async def test_a_thousand_draws_cost_few_fills(clients: int) -> None:
    upstream, drawn = Upstream(), list[Draw]()
    async with pooling(upstream) as pools:

        async def client() -> None:
            for _ in range(1000 // clients):
                drawn.extend(await pools.draw("key", want()))

        await asyncio.gather(*(client() for _ in range(clients)))
        assert upstream.calls <= 52
    assert upstream.most_running == 1
    assert len(set(texts(drawn))) == 1000
    assert sorted(draw.number for draw in drawn) == list(range(1, 1001))
    assert [len(history) for history in upstream.histories] == list(range(upstream.calls))


async def test_draws_are_successive_sampling_by_probability() -> None:
    weights = {"Texas": 0.5, "東京": 0.3, "القاهرة": 0.15, "🦙": 0.05, "never": 0.0}
    distribution = Distribution(tuple(Candidate(text, weight) for text, weight in weights.items()))

    async def fill(want: PoolRequest, history: tuple[Message, ...], listener: Any = None) -> FillResult:
        return FillResult(distribution, history)

    firsts, pairs = Counter[str](), Counter[tuple[str, str]]()
    async with pooling(fill, ahead=0) as pools:
        for at in range(6000):
            first, second = texts(await pools.draw(str(at), want(4), 2))
            firsts[first] += 1
            pairs[first, second] += 1
    drawn = [text for text, weight in weights.items() if weight]
    assert stats.chisquare([firsts[t] for t in drawn], [6000 * weights[t] for t in drawn]).pvalue > 1e-6
    assert set(firsts) == set(drawn)
    orders = [(a, b) for a in drawn for b in drawn if a != b]
    expected = [6000 * weights[a] * weights[b] / (1 - weights[a]) for a, b in orders]
    assert stats.chisquare([pairs[order] for order in orders], expected).pvalue > 1e-6


async def test_concurrent_draws_share_one_fill_and_pools_do_not_wait_for_each_other() -> None:
    upstream = Upstream()
    upstream.open.clear()
    async with pooling(upstream, ahead=0) as pools:
        waiting = [asyncio.create_task(pools.draw(key, want(50))) for key in "ab" for _ in range(50)]
        await asyncio.sleep(0.01)
        assert upstream.running == 2
        upstream.open.set()
        drawn = [draw for task in waiting for draw in await task]
    assert upstream.calls == 2
    assert len(set(texts(drawn))) == 100
    assert {draw.upstream for draw in drawn} == {1}


async def test_slow_draws_never_wait_after_the_first() -> None:
    upstream = Upstream()
    async with pooling(upstream) as pools:
        waits = []
        for _ in range(100):
            waits += [draw.upstream for draw in await pools.draw("key", want())]
            await asyncio.sleep(0.001)
    assert waits == [1] + [0] * 99


async def test_a_request_for_many_waits_for_as_many_fills_as_it_takes() -> None:
    upstream = Upstream()
    async with pooling(upstream, ahead=0) as pools:
        drawn = await pools.draw("key", want(20), 50)
        assert [draw.upstream for draw in drawn if draw.upstream] == [1, 1, 1]
        assert len(set(texts(drawn))) == 50
        for n in (0, -1, 10_001, True):
            with pytest.raises(UsageError, match="n must be"):
                await pools.draw("key", want(20), n)


async def test_a_client_that_leaves_stops_no_other_and_loses_nothing() -> None:
    upstream = Upstream()
    upstream.open.clear()
    async with pooling(upstream, ahead=0) as pools:
        leaves = asyncio.create_task(pools.draw("key", want(4)))
        stays = asyncio.create_task(pools.draw("key", want(4)))
        many = asyncio.create_task(pools.draw("key", want(4), 6))
        await asyncio.sleep(0.01)
        leaves.cancel()
        await asyncio.sleep(0)
        upstream.open.set()
        assert len(await stays) == 1
        upstream.open.clear()
        await asyncio.sleep(0.01)
        many.cancel()  # it holds three, and waits for three more
        with pytest.raises(asyncio.CancelledError):
            await many
        upstream.open.set()
        await asyncio.sleep(0.01)
        assert upstream.ended == 2
        rest = await pools.draw("key", want(4), 7)
        assert len(set(texts([*rest, *stays.result()]))) == 8
        assert upstream.calls == 2
        assert [draw.number for draw in rest] == list(range(2, 9))


async def test_a_fill_is_pooled_even_if_all_clients_left() -> None:
    upstream = Upstream()
    upstream.open.clear()
    async with pooling(upstream, ahead=0) as pools:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pools.draw("key", want()), 0.01)
        upstream.open.set()
        await asyncio.sleep(0.01)
        (hit,) = await pools.draw("key", want())
        assert (hit.upstream, upstream.calls) == (0, 1)


refusal = ReplyError("the model refused", reply=ChatReply("", refusal="I can't help with that."))


@pytest.mark.parametrize("error", [refusal, ProviderError("down", status=503), RuntimeError("a defect")])
async def test_a_failure_reaches_only_the_clients_that_wait(error: Exception) -> None:
    def say(call: int) -> Sequence[str]:
        if call == 0:
            raise error
        return ["はい", "Yes"]

    upstream = Upstream(say, seconds=0.005)
    async with pooling(upstream, ahead=0) as pools:
        found = await asyncio.gather(*(pools.draw("key", want(2)) for _ in range(20)), return_exceptions=True)
        assert found == [error] * 20
        assert (upstream.calls, len(pools), pools.texts) == (1, 0, 0)
        assert set(texts(await pools.draw("key", want(2), 2))) == {"はい", "Yes"}


async def test_a_failed_refill_ahead_is_not_repeated_until_a_draw_needs_it() -> None:
    def say(call: int) -> Sequence[str]:
        if call == 1:
            raise refusal
        return [f"{call}-{at}" for at in range(10)]

    upstream = Upstream(say)
    async with pooling(upstream) as pools:
        for _ in range(10):
            await pools.draw("key", want(10))
            await asyncio.sleep(0.001)
        assert upstream.calls == 2
        (eleventh,) = await pools.draw("key", want(10))
        assert (eleventh.upstream, upstream.calls) == (1, 3)


async def test_listeners_get_all_candidates_of_a_fill_even_late_ones() -> None:
    asked: list[bool] = []
    said = [Verbalized("一", 0.6), Verbalized("二", 0.4)]
    middle, end = asyncio.Event(), asyncio.Event()

    async def fill(
        want: PoolRequest, history: tuple[Message, ...], listener: CandidateListener | None = None
    ) -> FillResult:
        asked.append(listener is not None)
        if listener is not None:
            listener(said[0])
            middle.set()
            await end.wait()
            listener(said[1])
        return FillResult(even([candidate.text for candidate in said]), ())

    async with pooling(fill, ahead=0) as pools:
        early, late = list[Verbalized](), list[Verbalized]()
        first = asyncio.create_task(pools.distribution("key", want(2), listener=early.append))
        await middle.wait()
        assert early == said[:1]
        second = asyncio.create_task(pools.distribution("key", want(2), listener=late.append))
        await asyncio.sleep(0)
        end.set()
        whole = await first
        assert whole == await second
        assert early == late == said
        assert pools.find(distribution_id(whole)) == whole
        assert pools.find("dist-0") is None
        assert await pools.distribution("key", want(2), listener=late.append) == whole
        assert late == said  # the model was not asked
        await pools.draw("other", want(2))
        assert asked == [True, False]
        await pools.distribution("key", want(2), fresh=True)
        assert asked == [True, False, False]


async def test_a_fill_that_hangs_is_cancelled() -> None:
    upstream = Upstream(seconds=60)
    async with pooling(upstream, fill_seconds=0.02) as pools:
        with pytest.raises(ProviderError, match=r"within 0\.02 s") as caught:
            await pools.draw("key", want())
        assert caught.value.retryable
        assert upstream.running == 0


async def test_seeded_draws_repeat_and_take_nothing() -> None:
    upstream = Upstream()
    async with pooling(upstream, ahead=0) as pools:
        once = await pools.draw("key", want(), 5, seed=7)
        assert len(set(texts(once))) == 5
        await pools.draw("key", want(), 30)  # the pool has moved on to its second distribution
        again = await pools.draw("key", want(), 5, seed=7)
        assert [(d.candidate, d.distribution, d.number) for d in again] == [
            (d.candidate, d.distribution, d.number) for d in once
        ]
        assert len({tuple(texts(await pools.draw("key", want(), 5, seed=seed))) for seed in range(20)}) > 10
        assert upstream.calls == 2
        with pytest.raises(UsageError, match="raise k"):
            await pools.draw("key", want(), 21, seed=7)


async def test_fresh_draws_are_asked_for_alone() -> None:
    upstream = Upstream()
    async with pooling(upstream) as pools:
        await pools.draw("key", want(), 3)
        fresh = [await pools.draw("key", want(), 2, fresh=True) for _ in range(3)]
        assert upstream.calls == 4
        assert upstream.histories == [()] * 4
        assert len({draw.distribution for draws in fresh for draw in draws}) == 3
        assert len(set(texts(await pools.draw("key", want(), 30, fresh=True)))) == 30
        assert [len(history) for history in upstream.histories[4:]] == [0, 1]
        assert (len(pools), pools.texts) == (1, 20)
        upstream.open.clear()
        leaves = asyncio.create_task(pools.draw("key", want(), fresh=True))
        await asyncio.sleep(0.01)
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        assert upstream.running == 0  # no other client waits for it


async def test_repeats_are_not_drawn_and_end_in_exhaustion() -> None:
    says = [["Ohio", "Texas"], ["ohio.", "Utah"], ["OHIO", "“Texas”"], ["utah", "Texas!"]]
    upstream = Upstream(lambda call: says[call])
    async with pooling(upstream) as pools:
        first = [*await pools.draw("key", want(2), 2), *await pools.draw("key", want(2))]
        assert set(texts(first)) == {"Ohio", "Texas", "Utah"}
        for _ in range(2):
            with pytest.raises(ExhaustedError, match="3 different responses, and all were drawn"):
                await pools.draw("key", want(2))
        assert [len(history) for history in upstream.histories] == [
            0,
            1,
            2,
            0,
        ]  # the last one started a new conversation
        again = [draw for _ in range(3) for draw in await pools.draw("key", want(2), 2, recycle=True)]
        assert Counter(texts(again)) == {"Ohio": 2, "Texas": 2, "Utah": 2}
        assert all(draw.again for draw in again)
        assert not any(draw.again for draw in first)
        mixed = [texts(await pools.draw("key", want(2), 3, recycle=True)) for _ in range(20)]
        assert {frozenset(each) for each in mixed} == {frozenset({"Ohio", "Texas", "Utah"})}
        with pytest.raises(ExhaustedError, match="4 were asked for at once"):
            await pools.draw("key", want(2), 4, recycle=True)
        with pytest.raises(ExhaustedError):
            await pools.draw("key", want(2))  # candidates that were drawn before stay drawn
        assert isinstance(ExhaustedError(""), UsageError)


async def test_the_whole_distribution() -> None:
    upstream = Upstream()
    async with pooling(upstream, ahead=0) as pools:
        assert len(await pools.distribution("key", want(20))) == 20
        await pools.draw("key", want(20), 30)
        assert len(await pools.distribution("key", want(20))) == 40
        await pools.draw("key", want(20), 1500)
        whole = await pools.distribution("key", want(20))
        assert 900 <= len(whole) <= 1000
        assert {"笑話 0-0 🎉", f"笑話 {upstream.calls - 1}-19 🎉"} <= set(whole.texts)


async def test_long_texts_are_limited_by_their_size() -> None:
    upstream = Upstream(lambda call: [f"{call}-{at}" + "長" * 5000 for at in range(2)])
    async with pooling(upstream, max_bytes=200_000, ahead=0) as pools:
        for at in range(20):
            await pools.draw(f"key {at}", want(2))
        assert 60_000 < pools.bytes <= 200_000
        assert 0 < len(pools) < 20


async def test_limits_drop_the_least_recently_used() -> None:
    upstream = Upstream()
    async with pooling(upstream, ahead=0, max_pools=3, max_candidates=70) as pools:
        for key in "abcadaeaf":
            await pools.draw(key, want(20))
        assert (len(pools), pools.texts) == (3, 60)
        assert upstream.calls == 6  # a was never dropped
        await pools.draw("f", want(20), 55)
        assert (len(pools), pools.texts) == (1, 60)
        await pools.draw("f", want(20), 20)
        assert (len(pools), pools.texts) == (0, 0)  # a pool that exceeds the limit alone starts again
    with pytest.raises(UsageError, match="limits"):
        Pools(upstream, max_pools=0)


async def test_pools_in_use_are_not_dropped() -> None:
    upstream = Upstream()
    upstream.open.clear()
    async with pooling(upstream, ahead=0, max_pools=1, idle_seconds=0.01) as pools:
        waiting = [asyncio.create_task(pools.draw(key, want(3))) for key in "ab"]
        await asyncio.sleep(0.03)
        waiting += [asyncio.create_task(pools.draw(key, want(3))) for key in "ab"]
        leaves = asyncio.create_task(pools.draw("c", want(3)))
        await asyncio.sleep(0.01)
        leaves.cancel()  # a draw is cancelled, and the limits are applied
        await asyncio.sleep(0.01)
        waiting += [asyncio.create_task(pools.draw(key, want(3))) for key in "ab"]
        await asyncio.sleep(0.01)
        upstream.open.set()
        drawn = await asyncio.gather(*waiting)
        assert upstream.calls == 3
        assert len({text for draws in drawn for text in texts(draws)}) == 6
        assert len(pools) <= 1


async def test_idle_pools_are_dropped() -> None:
    upstream = Upstream()
    async with pooling(upstream, ahead=0, idle_seconds=0.05) as pools:
        await pools.draw("old", want())
        await asyncio.sleep(0.1)
        await pools.draw("new", want())
        assert (len(pools), pools.texts) == (1, 20)


async def test_closing_ends_all_waits() -> None:
    upstream = Upstream()
    upstream.open.clear()
    async with pooling(upstream) as pools:
        waiting = [asyncio.create_task(pools.draw(str(at % 3), want(), fresh=at % 2 == 0)) for at in range(12)]
        await asyncio.sleep(0.01)
        await pools.close()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(one) for one in found] == [StoppedError] * 12
        assert upstream.running == 0
        with pytest.raises(StoppedError):
            await pools.draw("key", want())


def test_the_key_contains_all_that_changes_the_response() -> None:
    base = want()
    key = pool_key("m", base.messages, base.settings)
    assert key == pool_key("m", want().messages, want().settings)
    assert len(key) == 64
    others = [
        pool_key("m2", base.messages, base.settings),
        *(pool_key("m", base.messages, base.settings, structured) for structured in (True, False)),
        pool_key("m", want(prompt="說一個笑話").messages, base.settings),
        pool_key("m", (Message("system", "說一個笑話 🎭"),), base.settings),
        *(
            pool_key("m", base.messages, want(**{"k": 20} | more).settings)
            for more in (
                {"k": 5},
                {"tau": 0.1},
                {"turns": 3},
                {"words": 9},
                {"temperature": 0.7},
                {"max_tokens": 9},
                {"stop": ("。",)},
                {"template": "percent"},
                {"extra": {"min_p": 0.1}},
            )
        ),
    ]
    assert len({key, *others}) == len(others) + 1
    assert pool_key("m", (Message("user", "half \ud83d"),), base.settings)
