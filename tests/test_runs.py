"""Many prompts at once, through real sockets: what is asked, how often, and what is kept."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from servers import Served, serving

import outspoken
from outspoken import ProviderError, UsageError
from outspoken.batch.file import BatchJob, FileRun
from outspoken.batch.plan import RunPlan
from outspoken.cli.progress import _ProgressLine
from outspoken.models.openai_compatible import OpenAICompatible

pytestmark = pytest.mark.core


def completion(texts: list[str], *, usage: bool = True) -> dict[str, Any]:
    share = 1 / max(len(texts), 1)
    content = json.dumps(
        {"responses": [{"text": text, "probability": share} for text in texts]}, ensure_ascii=False
    )
    body: dict[str, Any] = {
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
    }
    return body | ({"usage": {"prompt_tokens": 10, "completion_tokens": 40, "total_tokens": 50}} if usage else {})


def prompt_of(body: dict[str, Any]) -> str:
    said: str = body["messages"][-1]["content"]
    return said.rsplit("Input Prompt:\n", 1)[-1].strip()


class Author:
    """Answers with five texts made of the prompt and the number of times it came; follows a script of faults."""

    def __init__(self, *faults: web.Response | float, usage: bool = True) -> None:
        self.faults = list(faults)
        self.asked: Counter[str] = Counter()
        self.usage = usage
        self.under_way = self.peak = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        try:
            if self.faults:
                fault = self.faults.pop(0)
                if isinstance(fault, web.Response):
                    return fault
                await asyncio.sleep(fault)
            prompt = prompt_of(body)
            number = self.asked[prompt]
            self.asked[prompt] += 1
            return web.json_response(
                completion([f"{prompt} {number}/{n} 咖啡 ☕" for n in range(5)], usage=self.usage)
            )
        finally:
            self.under_way -= 1


def model_at(server: Served) -> OpenAICompatible:
    return OpenAICompatible(server.base_url, "m", api_key="sk-hidden-in-all-places")


async def collected(run: outspoken.AsyncRun) -> list[outspoken.Distribution]:
    return [distribution async for distribution in run]


def failing(status: int, **headers: str) -> web.Response:
    return web.json_response({"error": {"message": "no"}}, status=status, headers=headers)


async def test_distributions_come_in_the_order_of_the_prompts() -> None:
    delays = [0.2, *[0.0] * 19]
    async with serving(Author(*delays)) as server:
        run = outspoken.arun((f"prompt {n}" for n in range(20)), model=model_at(server))
        found = await collected(run)
    assert [d.provenance.prompt for d in found] == [f"prompt {n}" for n in range(20)]
    assert [d.provenance.prompt_id for d in found] == [str(n + 1) for n in range(20)]
    summary = run.summary
    assert (summary.prompts, summary.responses, summary.distinct) == (20, 100, 100)
    assert (summary.requests, summary.tokens, summary.failures, summary.stopped) == (20, 1000, 0, "")


async def test_prompts_of_every_kind() -> None:
    prompts = [
        "text",
        [{"role": "user", "content": "chat"}],
        {"prompt": "row", "id": "a"},
        {"messages": [{"role": "user", "content": "聊天"}]},
    ]
    async with serving(Author()) as server:
        found = await collected(outspoken.arun(prompts, model=model_at(server)))
    assert [(d.provenance.prompt_id, d.provenance.prompt) for d in found[:3]] == [
        ("1", "text"),
        ("2", "chat"),
        ("a", "row"),
    ]


async def test_a_prompt_that_cannot_be_asked_does_not_end_the_run() -> None:
    async with serving(Author()) as server:
        run = outspoken.arun(["one", "", {"text": "no prompt"}, "\ud800", 7, "two"], model=model_at(server))
        found = await collected(run)
    assert [d.provenance.prompt for d in found] == ["one", "two"]
    assert [failure.where for failure in run.failures] == [f"prompts: item {n}" for n in (2, 3, 4, 5)]
    assert "empty prompt" in run.failures[0].message
    assert run.summary.bad_rows == 4


async def test_it_reads_no_further_ahead_than_it_must() -> None:
    taken = 0

    def prompts() -> Iterator[str]:
        nonlocal taken
        for n in range(1_000_000):
            taken += 1
            yield f"prompt {n}"

    async with serving(Author()) as server:
        run = outspoken.arun(prompts(), model=model_at(server), concurrency=4)
        await anext(run)
        await asyncio.sleep(0.3)
        assert taken < 4 * 8 + 2 * 64 + 10
        await run.aclose()


async def test_what_is_in_the_ledger_is_not_asked_again(tmp_path: Path) -> None:
    author = Author()
    ledger = tmp_path / "run.sqlite"
    async with serving(author) as server:
        first = await collected(outspoken.arun(["a", "b", "a"], model=model_at(server), ledger=ledger, n=10))
        again = outspoken.arun(["a", "b", "a"], model=model_at(server), ledger=ledger, n=10)
        second = await collected(again)
    assert author.asked == {"a": 4, "b": 2}
    assert [d.texts for d in first] == [d.texts for d in second]
    assert (again.summary.requests, again.summary.from_ledger) == (0, 6)
    assert set(first[0].texts).isdisjoint(first[2].texts)  # the same prompt twice is asked twice
    assert b"sk-hidden" not in ledger.read_bytes()


async def test_two_runs_at_once_use_the_replies_that_are_stored(tmp_path: Path) -> None:
    author, ledger = Author(*[0.02] * 1_000), tmp_path / "run.sqlite"
    prompts = [f"p{n}" for n in range(100)]
    async with serving(author) as server:
        runs = [outspoken.arun(prompts, model=model_at(server), ledger=ledger, concurrency=8) for _ in range(2)]
        first, second = await asyncio.gather(*map(collected, runs))
    assert [d.texts for d in first] == [d.texts for d in second]
    assert sum(run.summary.requests + run.summary.from_ledger for run in runs) == 200
    assert sum(run.summary.superseded for run in runs) == author.asked.total() - 100 > 0
    with outspoken.Ledger(ledger) as kept:
        assert len(list(kept.stored())) == 100


async def test_what_another_run_stored_while_a_request_waited_is_not_asked_again(tmp_path: Path) -> None:
    author, ledger = Author(), tmp_path / "run.sqlite"
    async with serving(author) as server:
        paced = outspoken.arun(["a", "b"], model=model_at(server), ledger=ledger, requests_per_minute=60)
        reading = asyncio.create_task(collected(paced))
        async with asyncio.timeout(10):
            while paced.summary.requests < 1:  # now the next request waits for a second
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            await collected(outspoken.arun(["b"], model=model_at(server), ledger=ledger))
            await reading
    assert author.asked == {"a": 1, "b": 1}
    assert (paced.summary.requests, paced.summary.from_ledger) == (1, 1)


async def test_a_longer_run_asks_only_for_what_is_new(tmp_path: Path) -> None:
    author = Author()
    ledger = tmp_path / "run.sqlite"
    async with serving(author) as server:
        await collected(outspoken.arun(["a"], model=model_at(server), ledger=ledger, n=5))
        more = outspoken.arun(["a", "b"], model=model_at(server), ledger=ledger, n=10)
        await collected(more)
    assert author.asked == {"a": 2, "b": 2}
    assert more.summary.from_ledger == 1


async def test_so_many_responses_by_as_many_calls_as_it_takes() -> None:
    author = Author()
    async with serving(author) as server:
        (found,) = await collected(outspoken.arun(["a"], model=model_at(server), n=23))
    assert author.asked == {"a": 5}
    assert len(found) == 25


async def test_until_there_are_enough_different_ones() -> None:
    async def same_twice(request: web.Request) -> web.Response:
        same_twice.calls += 1  # type: ignore[attr-defined]
        return web.json_response(completion([f"text {same_twice.calls // 2}"]))  # type: ignore[attr-defined]

    same_twice.calls = 0  # type: ignore[attr-defined]
    async with serving(same_twice) as server:
        run = outspoken.arun(["a"], model=model_at(server), k=1, until_distinct=4, top_up=0)
        (found,) = await collected(run)
        assert sorted(found.texts) == [f"text {n}" for n in range(4)]
        limited = outspoken.arun(["b"], model=model_at(server), k=1, until_distinct=40, max_calls=6, top_up=0)
        (few,) = await collected(limited)
    assert len(few) < 40
    assert limited.summary.short == 1
    assert limited.summary.failures == 0


async def test_each_call_and_each_equal_prompt_has_a_seed_of_its_own() -> None:
    seeds = []

    async def note(request: web.Request) -> web.Response:
        seeds.append((await request.json())["seed"])
        return web.json_response(completion(["x", "y", "z", "v", "w"]))

    async with serving(note) as server:
        await collected(outspoken.arun(["a", "a"], model=model_at(server), n=10, seed=7))
    assert len(set(seeds)) == 4
    assert 7 in seeds


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_what_may_pass_is_tried_again(status: int) -> None:
    author = Author(failing(status), failing(status))
    async with serving(author) as server:
        run = outspoken.arun(["a"], model=model_at(server))
        assert len(await collected(run)) == 1
    assert len(server.requests) == 3
    assert run.summary.attempts_failed == 2


@pytest.mark.parametrize("status", [400, 404, 422])
async def test_what_cannot_pass_is_not_tried_again(status: int) -> None:
    async with serving(Author(failing(status), failing(status))) as server:
        run = outspoken.arun(["a", "b"], model=model_at(server), concurrency=1)
        found = await collected(run)
    # 400 and 422 may mean that the server takes no schema: the client then asks once without.
    assert len(server.requests) == {404: 2}.get(status, 3)
    assert [failure.cause for failure in run.failures] == [f"HTTP {status}"] * (2 - len(found))


async def test_a_rejected_key_ends_the_run_at_once() -> None:
    async with serving(Author(*[failing(401) for _ in range(500)])) as server:
        run = outspoken.arun([f"p{n}" for n in range(500)], model=model_at(server), concurrency=2)
        with pytest.raises(ProviderError, match="check the key") as caught:
            await collected(run)
    assert "sk-hidden" not in str(caught.value)
    assert len(server.requests) <= 5


async def test_nothing_but_the_same_failure_ends_the_run() -> None:
    async with serving(Author(*[failing(500) for _ in range(5000)])) as server:
        run = outspoken.arun([f"p{n}" for n in range(500)], model=model_at(server), attempts=2, concurrency=4)
        with pytest.raises(ProviderError, match="answered 500"):
            await collected(run)
    assert len(server.requests) < 40
    assert run.summary.stopped.startswith("everything fails for the same reason")


async def test_failures_between_successes_do_not_end_the_run() -> None:
    def now_and_then(number: int) -> web.Response | float:
        return failing(404) if number % 2 else 0.0

    author = Author(*[now_and_then(n) for n in range(100)])
    async with serving(author) as server:
        run = outspoken.arun([f"p{n}" for n in range(100)], model=model_at(server), concurrency=1)
        assert len(await collected(run)) == 50
    assert run.summary.failures == 50
    assert run.summary.causes == {"HTTP 404": 50}


async def test_the_server_says_how_long_to_wait() -> None:
    loop = asyncio.get_running_loop()
    times = []

    async def busy_once(request: web.Request) -> web.Response:
        times.append(loop.time())
        if len(times) == 1:
            return failing(429, **{"Retry-After": "0.4"})
        return web.json_response(completion(["x", "y", "z", "v", "w"]))

    async with serving(busy_once) as server:
        await collected(outspoken.arun(["a", "b", "c"], model=model_at(server), concurrency=1))
    assert len(times) == 4
    assert times[1] - times[0] >= 0.39


FAR = {"Retry-After": "1000000000"}


async def test_one_far_wait_concerns_one_request() -> None:
    """It fails at once, with the time that was asked for, and the others go on."""
    begun = time.monotonic()
    async with serving(Author(failing(429, **FAR))) as server:
        run = outspoken.arun([f"p{n}" for n in range(20)], model=model_at(server), concurrency=1)
        assert len(await collected(run)) == 19
    assert time.monotonic() - begun < 10
    (failure,) = run.failures
    assert failure.cause == "HTTP 429"
    assert "asks to wait 1,000,000,000 s, and a request may take 1,800 s in all" in failure.message


async def test_nothing_but_far_waits_end_the_run() -> None:
    begun = time.monotonic()
    async with serving(Author(*[failing(429, **FAR) for _ in range(500)])) as server:
        run = outspoken.arun([f"p{n}" for n in range(200)], model=model_at(server))
        with pytest.raises(ProviderError, match="asks to wait 1,000,000,000 s"):
            await collected(run)
    assert time.monotonic() - begun < 10
    assert len(server.requests) < 50


@pytest.mark.parametrize("date", [False, True])
async def test_waits_are_part_of_a_requests_time(date: bool) -> None:
    """Also those before its first attempt, and also when the server asks again and again."""
    begun = time.monotonic()

    async def busy(_request: web.Request) -> web.Response:
        return failing(429, **{"Retry-After": formatdate(time.time() + 1.9, usegmt=True) if date else "0.9"})

    async with serving(busy) as server:
        run = outspoken.arun([f"p{n}" for n in range(6)], model=model_at(server), concurrency=2, total_timeout=1.5)
        assert await collected(run) == []
    assert time.monotonic() - begun < 8
    assert len(run.failures) == 6
    assert {failure.cause for failure in run.failures} == {"HTTP 429"}


async def test_failures_that_may_pass_are_told_from_others(tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in "abcd"))
    statuses = {"a": 307, "b": 500, "c": 400}

    async def by_prompt(request: web.Request) -> web.StreamResponse:
        status = statuses.get(prompt_of(await request.json()))
        return web.json_response(completion(["x"])) if status is None else failing(status, Location="/v2")

    async with serving(by_prompt) as server:
        plan = RunPlan.make(model_at(server), None, {"attempts": 1, "k": 1})
        running = FileRun(BatchJob(source, tmp_path / "out.jsonl", plan))
        summary = await running.run()
        running.close()
    assert (summary.failures, summary.transient_failures) == (3, 1)
    lines = (tmp_path / "out.jsonl.failures.jsonl").read_text().splitlines()
    found = {entry["cause"]: entry["passing"] for entry in map(json.loads, lines)}
    assert found == {"HTTP 307": False, "HTTP 500": True, "HTTP 400": False}


async def test_the_line_of_progress_says_why_it_waits(tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    source.write_text('{"prompt": "a"}\n')
    async with serving(Author(failing(429, **{"Retry-After": "30"}))) as server:
        running = FileRun(BatchJob(source, tmp_path / "out.jsonl", RunPlan.make(model_at(server), None, {})))
        line = _ProgressLine(1)
        assert "waiting" not in line.text(running)
        work = asyncio.ensure_future(running.run())
        async with asyncio.timeout(10):
            while not running.pause_left:
                await asyncio.sleep(0.01)
        assert re.search(r" · waiting (29|30)\S* s: the server asks to$", line.text(running))
        running.stop("enough")
        await work
        running.close()


def test_few_open_files_slow_a_run_down_and_do_not_end_it() -> None:
    """Forty files can be open. Twenty more are opened during the run, so that connecting fails."""
    program = """
        import asyncio, resource, sys
        import outspoken
        from outspoken.models.openai_compatible import OpenAICompatible
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        taken = []
        def prompts():
            for number in range(400):
                if number == 60:
                    taken.extend(open("/dev/null") for _ in range(30))
                yield f"p{number}"
        run = outspoken.run(prompts(), model=OpenAICompatible(sys.argv[1], "m"))
        found = list(run)
        print(len(found), run.summary.failures, run.summary.attempts_failed > 0)
    """
    author = Author(*[0.05] * 400)

    async def main() -> str:
        async with serving(author) as server:
            command = [sys.executable, "-c", textwrap.dedent(program), server.base_url]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        return done.stdout + done.stderr

    assert asyncio.run(main()) == "400 0 True\n"
    assert author.peak < 40


async def test_concurrency_follows_a_server_that_takes_only_so_much() -> None:
    author = Author(*[0.01] * 10_000)

    async def eight_at_once(request: web.Request) -> web.StreamResponse:
        if author.under_way >= 8:
            return failing(429)
        return await author(request)

    async with serving(eight_at_once) as server:
        run = outspoken.arun((f"p{n}" for n in range(300)), model=model_at(server), concurrency=64)
        assert len(await collected(run)) == 300
    assert author.peak <= 8
    assert run.summary.failures == 0
    assert len(server.requests) < 900


async def test_an_attempt_that_takes_too_long_is_given_up_and_made_again() -> None:
    async with serving(Author(60.0, 0.0)) as server:
        run = outspoken.arun(["a"], model=model_at(server), timeout=0.5)
        assert len(await collected(run)) == 1
    assert len(server.requests) == 2


async def test_a_request_is_not_tried_for_ever() -> None:
    async with serving(Author(*[failing(503, **{"Retry-After": "30"}) for _ in range(50)])) as server:
        run = outspoken.arun(["a"], model=model_at(server), total_timeout=5)
        assert await collected(run) == []
    assert len(server.requests) == 1
    assert [failure.cause for failure in run.failures] == ["HTTP 503"]


async def test_a_budget_of_tokens_is_kept() -> None:
    async with serving(Author(*[0.01] * 1000)) as server:
        run = outspoken.arun(
            [f"p{n}" for n in range(500)], model=model_at(server), budget_tokens=2000, concurrency=8
        )
        found = await collected(run)
    assert 30 <= len(found) <= 40
    assert run.summary.tokens <= 2000
    assert run.summary.stopped == (
        f"the budget of 2,000 tokens does not suffice for another request: {run.summary.tokens:,} are used, and a "
        "request takes about 50"
    )


async def test_a_budget_that_does_not_suffice_for_the_first_request() -> None:
    author = Author()
    async with serving(author) as server:
        run = outspoken.arun(["a"], model=model_at(server), budget_tokens=100)
        assert await collected(run) == []
    assert re.fullmatch(
        "the budget of 100 tokens does not suffice for another request: 0 are used, and a request takes about 4..",
        run.summary.stopped,
    )
    assert author.asked == {}


async def test_a_budget_holds_where_the_server_counts_no_tokens() -> None:
    async with serving(Author(*[0.01] * 1000, usage=False)) as server:
        run = outspoken.arun(
            [f"p{n}" for n in range(500)], model=model_at(server), budget_tokens=5000, concurrency=2
        )
        assert 1 <= len(await collected(run)) < 20
    assert run.summary.unmetered == run.summary.requests


async def test_a_budget_of_money(tmp_path: Path) -> None:
    async with serving(Author(*[0.01] * 1000)) as server:
        model = model_at(server)
        with pytest.raises(UsageError, match="no price is known"):
            outspoken.arun(["a"], model=model, budget_usd=1)
        prices = tmp_path / "prices.toml"
        prices.write_text(f'["{model.name}"]\ninput = 1000.0\noutput = 2000.0\n')
        run = outspoken.arun(
            [f"p{n}" for n in range(500)], model=model, budget_usd=1.0, prices=prices, concurrency=4
        )
        found = await collected(run)
    # 10 x 0.001 + 40 x 0.002 dollars a request
    assert len(found) in (10, 11)
    assert run.summary.usd == pytest.approx(0.09 * len(found))


async def test_time_is_up() -> None:
    async with serving(Author(*[0.05] * 10_000)) as server:
        run = outspoken.arun(
            (f"p{n}" for n in range(10_000)), model=model_at(server), max_seconds=0.5, concurrency=2
        )
        found = await collected(run)
    assert 0 < len(found) < 100
    assert run.summary.stopped == "the time of 0.5 s is used up"


async def test_stopping_keeps_what_is_under_way(tmp_path: Path) -> None:
    author = Author(*[0.1] * 10_000)
    async with serving(author) as server:
        run = outspoken.arun(
            (f"p{n}" for n in range(10_000)), model=model_at(server), concurrency=4, ledger=tmp_path / "l"
        )
        first = await anext(run)
        run.stop()
        rest = await collected(run)
    assert sum(author.asked.values()) == 1 + len(rest) == run.summary.requests
    assert first.provenance.prompt == "p0"
    with outspoken.Ledger(tmp_path / "l") as ledger:
        assert len(list(ledger.stored())) == 1 + len(rest)


async def test_a_refused_prompt_is_asked_in_another_call() -> None:
    refusal: dict[str, Any] = completion([])
    refusal["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I cannot."}
    async with serving(Author(web.json_response(refusal))) as server:
        run = outspoken.arun(["a"], model=model_at(server))
        assert len(await collected(run)) == 1
    assert run.summary.requests == 2


async def test_requests_a_minute() -> None:
    loop = asyncio.get_running_loop()
    times = []

    async def note(request: web.Request) -> web.Response:
        times.append(loop.time())
        return web.json_response(completion(["x", "y", "z", "v", "w"]))

    async with serving(note) as server:
        begun = loop.time()
        await collected(outspoken.arun(["a", "b", "c", "d"], model=model_at(server), requests_per_minute=600))
    assert times[-1] - begun >= 0.28


async def test_a_ledger_that_takes_nothing_more_ends_the_run(tmp_path: Path) -> None:
    async with serving(Author(*[0.01] * 10_000)) as server:
        run = outspoken.arun(
            (f"p{n}" for n in range(10_000)), model=model_at(server), ledger=tmp_path / "l", concurrency=4
        )
        await anext(run)
        ledger = run._ledger
        assert ledger is not None
        ledger._out.execute(
            f"PRAGMA max_page_count = {ledger._out.execute('PRAGMA page_count').fetchone()[0] + 8}"
        )
        with pytest.raises(outspoken.LedgerError, match="make room"):
            await collected(run)
        asked = len(server.requests)
    assert asked < 1000
    with outspoken.Ledger(tmp_path / "l") as again:
        assert 0 < len(list(again.stored())) <= asked


def test_the_same_for_synchronous_code() -> None:
    class Parrot(outspoken.Model):
        name = "parrot"

        async def complete(self, request: outspoken.ChatRequest) -> outspoken.ChatReply:
            return outspoken.ChatReply('{"responses": [{"text": "Hi", "probability": 1}]}')

    run = outspoken.run((f"p{n}" for n in range(30)), model=Parrot(), k=1)
    assert [d[0].text for d in run] == ["Hi"] * 30
    assert run.summary.prompts == 30
    early = outspoken.run((f"p{n}" for n in range(30)), model=Parrot(), k=1)
    assert next(early).texts == ("Hi",)
    early.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": 0},
        {"n": 2, "until_distinct": 2},
        {"concurrency": 0},
        {"attempts": 0},
        {"timeout": 0},
        {"budget_tokens": 0},
        {"requests_per_minute": 0},
        {"until_distnct": 3},
        {"k": 0},
    ],
)
def test_what_cannot_be_asked_for(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        outspoken.arun(["a"], model="local/smollm2", **wrong)


async def test_the_model_that_a_server_chooses_is_part_of_the_key(tmp_path: Path) -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/models"):
            return web.json_response({"data": [{"id": offered}]})
        return web.json_response(completion(["x", "y", "z", "v", "w"]))

    offered = "small"
    async with serving(handle) as server:
        for name, requests in (("small", 1), ("small", 0), ("large", 1)):
            offered = name
            model = OpenAICompatible(server.base_url, "")
            run = outspoken.arun(["a"], model=model, ledger=tmp_path / "l")
            await collected(run)
            assert run.summary.requests == requests
