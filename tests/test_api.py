"""The calls of the library, against recorded replies and real servers."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import outspoken
from outspoken import ProviderError, UsageError
from outspoken.engine import background_loop

pytestmark = pytest.mark.core


REPLY = json.dumps(
    {"responses": [{"text": f"笑話 {at} ☕", "probability": p} for at, p in enumerate((0.5, 0.3, 0.2))]}
)


def replay(folder: Path, *texts: str) -> str:
    path = folder / "replies.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return f"replay/{path}"


def test_one_line_gives_a_distribution(tmp_path: Path) -> None:
    distribution = outspoken.verbalize("給我一個笑話", model=replay(tmp_path, REPLY), k=3)
    assert distribution.texts[0] == "笑話 0 ☕"
    assert distribution.probabilities == pytest.approx((0.5, 0.3, 0.2))
    assert distribution.provenance.model.startswith("replay/")
    assert distribution.provenance.version == outspoken.__version__


async def test_it_works_inside_a_running_loop(tmp_path: Path) -> None:
    model = replay(tmp_path, REPLY)
    assert len(outspoken.verbalize("x", model=model, k=3)) == 3
    assert len(await outspoken.averbalize("x", model=model, k=3)) == 3


def test_it_works_from_many_threads(tmp_path: Path) -> None:
    model = outspoken.get_model(replay(tmp_path, *[REPLY] * 20))
    sizes: list[int] = []
    threads = [
        threading.Thread(target=lambda: sizes.append(len(outspoken.verbalize("x", model=model, k=3))))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [3] * 20


def test_a_stream_gives_candidates_and_then_the_whole(tmp_path: Path) -> None:
    running = outspoken.stream("x", model=replay(tmp_path, REPLY), k=3)
    with pytest.raises(UsageError, match="has not ended"):
        _ = running.distribution
    first = next(running)
    assert (first.text, first.probability) == ("笑話 0 ☕", 1.0)
    assert [candidate.text for candidate in running] == ["笑話 1 ☕", "笑話 2 ☕"]
    assert running.distribution == outspoken.verbalize("x", model=replay(tmp_path, REPLY), k=3)


@pytest.mark.parametrize(
    ("options", "replies", "texts"),
    [
        ({"method": "direct", "k": 3}, ["咖啡", "Tea", "tea."], ["咖啡", "Tea"]),
        ({"k": 2}, ["1. 咖啡 (0.4)\n2. Tea (0.2)"], ["咖啡", "Tea"]),
        ({"k": 2}, ["What a nice question!", "1. 咖啡 (0.4)\n2. Tea (0.2)"], ["咖啡", "Tea"]),
    ],
)
def test_a_stream_gives_what_only_the_end_tells(
    tmp_path: Path, options: outspoken.Options, replies: list[str], texts: list[str]
) -> None:
    running = outspoken.stream("x", model=replay(tmp_path, *replies), **options)
    assert [candidate.text for candidate in running] == texts
    assert sorted(running.distribution.texts) == sorted(texts)


async def test_an_async_stream_can_be_left(tmp_path: Path) -> None:
    running = outspoken.astream("x", model=replay(tmp_path, REPLY), k=3)
    async for candidate in running:
        assert candidate.text
        break
    await running.aclose()
    assert len(running.so_far) == 1


def test_a_pydantic_model_gives_its_instances(tmp_path: Path) -> None:
    pydantic = pytest.importorskip("pydantic", reason="pydantic is not installed")

    class Drink(pydantic.BaseModel):
        name: str
        hot: bool

    reply = json.dumps({"responses": [{"text": {"name": "茶", "hot": True}, "probability": 0.5}] * 2})
    distribution = outspoken.verbalize("x", model=replay(tmp_path, reply), schema=Drink, k=1)
    assert distribution[0].value == Drink(name="茶", hot=True)
    assert distribution.to_dict()["candidates"][0]["value"] == {"name": "茶", "hot": True}


@pytest.mark.parametrize("schema", [{"type": "objekt"}, {"properties": 3}, 3, "object"])
def test_what_is_no_schema_is_refused(tmp_path: Path, schema: object) -> None:
    with pytest.raises(UsageError):
        outspoken.verbalize("x", model=replay(tmp_path, REPLY), schema=schema)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        " \n",
        [],
        [{"role": "assistant", "content": "x"}],
        [{"role": "wizard", "content": "x"}],
        [{"role": "user", "content": [{"type": "image_url"}]}],
        ["x"],
        3,
        {"role": "user"},
    ],
)
def test_a_prompt_that_is_none_is_refused(prompt: object) -> None:
    with pytest.raises(UsageError):
        outspoken.verbalize(prompt, model="openai/x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smollm2", "provider/name"),
        ("locl/smollm2", "did you mean 'local'"),
        ("local/smolm2", "did you mean 'smollm2'"),
        ("openai/gpt-4.1", "OPENAI_API_KEY"),
        ("http://user:secret@localhost/v1#m", "environment"),
        ("replay/nowhere.jsonl", "nowhere.jsonl"),
    ],
)
def test_a_model_that_is_none_is_refused(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError) as caught:
        outspoken.verbalize("x", model=name)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(ProviderError, match="is the server running"):
        outspoken.verbalize("x", model="http://127.0.0.1:9/v1#m", attempts=1)


def test_the_model_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSPOKEN_MODEL", replay(tmp_path, REPLY))
    assert len(outspoken.verbalize("x", k=3)) == 3


def test_many_calls_share_their_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSPOKEN_API_KEY", "one")
    first = outspoken.get_model("http://127.0.0.1:9/v1#m")
    assert outspoken.get_model("http://127.0.0.1:9/v1#m") is first
    monkeypatch.setenv("OUTSPOKEN_API_KEY", "another")
    assert outspoken.get_model("http://127.0.0.1:9/v1#m") is not first


def test_leaving_the_interpreter_leaves_nothing_behind(tmp_path: Path) -> None:
    code = f"""
import asyncio, outspoken
model = {replay(tmp_path, REPLY, REPLY, REPLY)!r}
outspoken.verbalize("x", model=model, k=3)
next(outspoken.stream("x", model=model, k=3))
asyncio.run(outspoken.averbalize("x", model=model, k=3))
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_stream_that_was_left_is_closed_wherever_it_is_found(tmp_path: Path) -> None:
    """The garbage collector may find it in the thread of the loop that would have to close it."""
    stream: Any = outspoken.stream("x", model=replay(tmp_path, REPLY), k=3)
    next(stream)
    stream.itself = stream

    async def collected() -> int:
        return gc.collect()

    gc.disable()
    try:
        del stream
        assert asyncio.run_coroutine_threadsafe(collected(), background_loop._background()).result(30) > 0
    finally:
        gc.enable()
    assert len(outspoken.verbalize("x", model=replay(tmp_path, REPLY), k=3)) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_gets_a_loop_of_its_own(tmp_path: Path) -> None:
    code = f"""
import os, outspoken
model = {replay(tmp_path, REPLY)!r}
outspoken.verbalize("x", model=model, k=3)
pid = os.fork()
if pid == 0:
    os._exit(len(outspoken.verbalize("x", model=model, k=3)))
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "3\n", done.stderr


async def test_cancelling_stops_the_model() -> None:
    class Slow(outspoken.Model):
        name = "slow"
        cancelled = False

        async def complete(self, request: outspoken.ChatRequest) -> outspoken.ChatReply:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled = True
                raise
            raise AssertionError

    model = Slow()
    task = asyncio.ensure_future(outspoken.averbalize("x", model=model))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model.cancelled


class Failing(outspoken.Model):
    """Answers once, then its quota is used up."""

    name = "failing"
    answered = False

    async def complete(self, request: outspoken.ChatRequest) -> outspoken.ChatReply:
        if self.answered:
            raise ProviderError("the quota is used up", status=429)
        self.answered = True
        return outspoken.ChatReply(REPLY)


async def test_a_failure_while_topping_up_keeps_what_was_paid_for() -> None:
    distribution = await outspoken.averbalize("x", model=Failing(), k=5)
    assert (len(distribution), distribution.missing, distribution.stopped) == (3, 2, "the quota is used up")
    running = outspoken.astream("x", model=Failing(), k=5)
    assert len([candidate async for candidate in running]) == 3
    assert running.distribution == distribution
    with pytest.raises(outspoken.ShortReplyError) as caught:
        await outspoken.averbalize("x", model=Failing(), k=5, on_short="raise")
    assert isinstance(caught.value.__cause__, ProviderError)
    assert len(caught.value.distribution) == 3


async def test_a_failure_with_nothing_in_hand_is_raised_as_it_is() -> None:
    model = Failing()
    model.answered = True
    with pytest.raises(ProviderError, match="quota"):
        await outspoken.averbalize("x", model=model, k=5)
    with pytest.raises(ProviderError, match="quota"):
        _ = [candidate async for candidate in outspoken.astream("x", model=model, k=5)]


def test_what_a_model_cannot_do_is_refused_before_anything_is_sent() -> None:
    class Plain(outspoken.Model):
        name = "plain"

        async def complete(self, request: outspoken.ChatRequest) -> outspoken.ChatReply:
            raise AssertionError("it was sent")

    with pytest.raises(UsageError, match="takes no seed"):
        outspoken.verbalize("x", model=Plain(), seed=1)
    with pytest.raises(UsageError, match="min_p"):
        outspoken.verbalize("x", model=Plain(), extra={"min_p": 0.1})
