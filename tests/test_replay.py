from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import pytest

from outspoken.chat import ChatRequest, Message, Sampling, as_messages
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import OutputError, ProviderError, UsageError
from outspoken.models.base import Capabilities, Model, Score
from outspoken.models.replay import Recorder, Replay

pytestmark = pytest.mark.core


def asking(prompt: str = "hi", **sampling: Any) -> ChatRequest:
    return ChatRequest(as_messages(prompt), Sampling(**sampling))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "replies.jsonl"


def written(file: Path, *lines: dict[str, Any]) -> Path:
    file.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return file


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


async def test_replies_come_in_order(file: Path):
    model = Replay(written(file, {"text": "一"}, {"text": "二 🎉"}, {"text": "مرحبا"}))
    assert model.name == f"replay/{file}"
    assert [(await model.complete(asking())).text for _ in range(3)] == ["一", "二 🎉", "مرحبا"]


async def test_a_reply_may_say_everything(file: Path):
    line = {
        "text": "a",
        "finish": "length",
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "cached_tokens": 1},
        "reasoning": "b",
        "model": "m",
        "refusal": "c",
        "structured": True,
    }
    expected = ChatReply("a", "length", Usage(3, 4, 1), "m", "b", "c", True)
    assert await Replay(written(file, line)).complete(asking()) == expected


async def test_messages_choose_the_reply(file: Path):
    model = Replay(
        written(
            file,
            {"text": "for all"},
            {"text": "first 茶", "messages": user("茶")},
            {"text": "second 茶", "messages": user("茶")},
        )
    )
    for prompt, text in (("茶", "first 茶"), ("other", "for all"), ("茶", "second 茶")):
        assert (await model.complete(asking(prompt))).text == text


async def test_every_setting_is_taken(file: Path):
    model = Replay(written(file, {"text": "a"}))
    request = asking(temperature=2, seed=1, stop=("x",), extra={"min_p": 0.1})
    model.check(request)
    assert (await model.complete(request)).text == "a"


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "0 recorded, all are used"),
        (
            [{"text": "a", "messages": user("other")}],
            "1 recorded, those left are for other messages",
        ),
    ],
)
async def test_nothing_left_to_give(file: Path, lines: list[dict[str, Any]], words: str):
    with pytest.raises(UsageError, match=words):
        await Replay(written(file, *lines)).complete(asking())


@pytest.mark.parametrize("pieces", [None, ["你", "好 this is", " longer than one piece 🎉"]])
async def test_a_reply_streams_in_pieces(file: Path, pieces: list[str] | None):
    text = "你好 this is longer than one piece 🎉"
    model = Replay(written(file, {"text": text} | ({"pieces": pieces} if pieces else {})))
    *got, reply = [item async for item in model.stream(asking())]
    assert reply == ChatReply(text)
    assert len(got) > 1
    assert got == pieces or not pieces
    assert "".join(piece for piece in got if isinstance(piece, str)) == text


async def test_an_empty_text_streams_no_piece(file: Path):
    model = Replay(written(file, {"text": ""}))
    assert [item async for item in model.stream(asking())] == [ChatReply("")]


def test_threads_share_the_replies(file: Path):
    model = Replay(written(file, *({"text": str(n)} for n in range(400))))
    texts: list[str] = []

    def take() -> None:
        async def all_of_them() -> None:
            texts.extend([(await model.complete(asking())).text for _ in range(100)])

        asyncio.run(all_of_them())

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, texts)) == list(range(400))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"text", "not JSON"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
        (b"3", "ChatReply is 3"),
        (b'{"txt": "a"}', "ChatReply has no text"),
        (b'{"text": null}', "ChatReply.text is None"),
        (b'{"text": "a", "model": 3}', "ChatReply.model is 3"),
        (b'{"text": "a", "usage": {"prompt_tokens": "3"}}', "ChatReply.usage.prompt_tokens is '3'"),
        (b'{"text": "a", "usage": null}', "ChatReply.usage is None"),
        (b'{"text": "a", "structured": 1}', "ChatReply.structured is 1"),
        (b'{"text": "ab", "pieces": ["a"]}', "make up"),
        (b'{"text": "ab", "pieces": [3]}', "make up"),
        (b'{"text": "a", "messages": []}', "empty"),
        (b'{"text": "a", "messages": null}', "list of messages"),
        (b'{"text": "a", "messages": [{"role": "king", "content": "a"}]}', "king"),
    ],
)
def test_a_bad_line_is_named(file: Path, line: bytes, why: str):
    file.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    with pytest.raises(UsageError, match="line 3 of") as caught:
        Replay(file)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path):
    for path in (tmp_path / "missing.jsonl", tmp_path, Path("a\0b")):
        with pytest.raises(UsageError, match="cannot read"):
            Replay(path)


# Recording


class Scripted(Model):
    name = "scripted/m"
    capabilities = Capabilities(seed=True, score=True, embed=True)

    async def complete(self, request: ChatRequest) -> ChatReply:
        if request.messages[-1].content == "fail":
            raise ProviderError("no")
        text = f"你好 🎉\u2028{request.messages[-1].content}"
        return ChatReply(text, "length", Usage(1, 2, 1), "m", "because", "", True)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply]:
        reply = await self.complete(request)
        yield reply.text[:2]
        yield reply.text[2:]
        yield reply

    async def scores(self, asked: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        return [Score((-1.0,), (text,)) for _, text in asked]


async def test_recorded_replies_are_replayed(file: Path):
    recorder = Recorder(Scripted(), file)
    assert (recorder.name, recorder.capabilities) == ("scripted/m", Scripted.capabilities)
    recorded = await asyncio.gather(*(recorder.complete(asking(f"prompt {n}")) for n in range(20)))
    chat = ChatRequest((Message("system", "咖啡"), Message("user", "half \ud83d of a pair")))
    streamed = [item async for item in recorder.stream(chat)]
    replay = Replay(file)
    assert [await replay.complete(asking(f"prompt {n}")) for n in range(20)] == recorded
    assert [item async for item in replay.stream(chat)] == streamed
    assert "你好 🎉" in file.read_text(encoding="utf-8")


async def test_scores_and_embeddings_pass_through(file: Path):
    recorder = Recorder(Scripted(), file)
    assert await recorder.score("a", "b") == Score((-1.0,), ("b",))
    assert await recorder.score_identity() == "scripted/m"
    with pytest.raises(UsageError, match="chat template"):
        await recorder.chat_text("a")
    with pytest.raises(UsageError, match="cannot embed"):
        await recorder.embed(["a"])
    await recorder.aclose()


async def test_failures_are_not_recorded(file: Path):
    recorder = Recorder(Scripted(), file)
    with pytest.raises(ProviderError):
        await recorder.complete(asking("fail"))
    stream = recorder.stream(asking())
    await anext(stream)
    await stream.aclose()
    assert file.read_bytes() == b""


async def test_a_recording_goes_on_where_it_stopped(file: Path):
    file.write_text('{"text": "by hand, no newline"}')
    await Recorder(Scripted(), file).complete(asking())
    await Recorder(Scripted(), file).complete(asking())
    assert (await Replay(file).complete(asking("other"))).text == "by hand, no newline"
    assert len(file.read_bytes().splitlines()) >= 3


def test_a_recording_that_cannot_be_written(tmp_path: Path):
    with pytest.raises(UsageError, match="cannot write"):
        Recorder(Scripted(), tmp_path / "missing" / "file.jsonl")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk as Linux simulates it")
async def test_a_recording_on_a_full_disk():
    with pytest.raises(OutputError, match="/dev/full cannot be written: the disk is full"):
        await Recorder(Scripted(), "/dev/full").complete(asking())
