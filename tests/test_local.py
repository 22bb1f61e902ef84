"""The embedded model: schemas in the decoder, seeds, cancelling, closing, and files that are not models."""

from __future__ import annotations

import asyncio
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from outspoken.chat import ChatRequest, Message, Sampling
from outspoken.chat_reply import ChatReply
from outspoken.errors import MissingExtraError, PromptTooLongError, UnknownNameError, UsageError
from outspoken.models import weight_files
from outspoken.models._llama_formats import check_build
from outspoken.models.local import DEFAULT_MAX_TOKENS, Local, LocalSettings, local
from outspoken.reply_shape import ReplyShape

ENDLESS = {"ignore_eos": True}
PROOF = pytest.mark.proof(only=True)


def request(prompt: str, schema: dict[str, Any] | None = None, **sampling: Any) -> ChatRequest:
    return ChatRequest((Message("user", prompt),), Sampling(**sampling), schema=schema)


def object_of(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def short(shape: ReplyShape) -> dict[str, Any]:
    """The schema of `shape` with texts so short that a model at a high temperature finishes them."""
    schema: Any = copy.deepcopy(shape.json_schema())
    schema["properties"]["responses"]["items"]["properties"]["text"]["maxLength"] = 12
    return schema


async def test_a_plain_answer(smollm2: Local) -> None:
    reply = await smollm2.complete(request("Say hello.", max_tokens=4, extra=ENDLESS))
    assert reply.text
    assert (reply.finish, reply.model, reply.structured) == ("length", "local/smollm2", False)
    assert reply.usage.completion_tokens == 4
    again = await smollm2.complete(request("Say hello.", max_tokens=4))
    assert 0 < again.usage.cached_tokens < again.usage.prompt_tokens == reply.usage.prompt_tokens


@pytest.mark.parametrize(
    ("shape", "low", "high"),
    [
        (ReplyShape("candidates", k=3), 0, 1),
        (ReplyShape("candidates", k=1, tau=0.1), 0, 0.0999999),
        pytest.param(ReplyShape("candidates", k=2, weight="percent", scale="percent"), 0, 100, marks=PROOF),
        pytest.param(
            ReplyShape("candidates", k=2, weight="nll", scale="nll", tau=0.1), 2.302585, float("inf"), marks=PROOF
        ),
    ],
)
async def test_stated_weights_stay_within_their_bounds(
    smollm2: Local, shape: ReplyShape, low: float, high: float
) -> None:
    wild = {"temperature": 2.0, "top_p": 1.0, "extra": {"top_k": 0, "min_p": 0.0}, "max_tokens": 200}
    requests = [request("Roll dice", short(shape), seed=seed, **wild) for seed in range(8)]
    replies = await asyncio.gather(*map(smollm2.complete, requests))
    whole = [json.loads(reply.text) for reply in replies if reply.finish == "stop"]
    assert len(whole) >= 4
    for answer in whole:
        assert len(answer["responses"]) == shape.k
        assert all(low <= item[shape.weight] <= high for item in answer["responses"])


async def test_a_number_comes_to_an_end(smollm2: Local) -> None:
    """Zeros are so likely here that a number without a last digit would continue up to the token limit."""
    zeros = {"logit_bias": [["0", 20.0], ["00", 20.0]]}
    schema = object_of(probability={"type": "number", "minimum": 0, "maximum": 1})
    reply = await smollm2.complete(request("How likely is rain?", schema, extra=zeros))
    assert reply.finish == "stop"


PAIR_OF_FLAGS = {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 2}


@pytest.mark.parametrize(
    "schema",
    [
        object_of(answer={"enum": ["红茶", 'with "quotes" // # %json {', 3]}),
        {**object_of(inner={"$ref": "#/$defs/inner"}), "$defs": {"inner": object_of(flags=PAIR_OF_FLAGS)}},
        object_of(either={"anyOf": [{"type": "integer", "minimum": 5, "maximum": 9}, {"type": "null"}]}),
        object_of(code={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"}),
        {"type": "array", "items": {"const": "茶"}, "minItems": 4, "maxItems": 4},
    ],
)
async def test_schemas_that_the_decoder_keeps_to(smollm2: Local, schema: dict[str, Any]) -> None:
    reply = await smollm2.complete(request("Answer.", schema, temperature=1.5, max_tokens=200))
    assert reply.structured
    jsonschema.validate(json.loads(reply.text), schema)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "string", "not": {"const": "a"}},
        {"type": "array", "items": {"type": "string"}, "uniqueItems": True, "maxItems": 2},
    ],
)
async def test_a_keyword_that_the_decoder_does_not_know_is_left_to_validation(
    smollm2: Local, part: dict[str, Any]
) -> None:
    reply = await smollm2.complete(request("Name a fruit.", object_of(x=part), max_tokens=60))
    assert reply.structured


@pytest.mark.parametrize(
    ("part", "keyword"),
    [
        ({"type": "strng"}, "type"),
        ({"$ref": "#/$defs/nowhere"}, r"\$ref"),
        ({"type": "string", "pattern": "(?=a)b"}, "pattern"),
    ],
)
async def test_a_schema_that_it_cannot_keep_to(
    smollm2: Local, capfd: pytest.CaptureFixture[str], part: dict[str, Any], keyword: str
) -> None:
    with pytest.raises(UsageError, match=f"cannot enforce '{keyword}'"):
        await smollm2.complete(request("Answer.", object_of(value=part)))
    assert capfd.readouterr() == ("", "")


SEEDED = request("Five jokes", short(ReplyShape("candidates", k=2)), seed=7, temperature=1.0, max_tokens=60)


async def test_a_seed_repeats_alone(smollm2: Local, tmp_path: Path) -> None:
    first = await smollm2.complete(SEEDED)
    assert (await smollm2.complete(SEEDED)).text == first.text
    await asyncio.gather(*(smollm2.complete(request(f"Count to {n}", max_tokens=20)) for n in range(10)))
    assert (await smollm2.complete(SEEDED)).text == first.text
    script = textwrap.dedent(
        """
        import asyncio, sys, test_local
        model = test_local.Local("smollm2", test_local.LocalSettings(slots=1))
        sys.stdout.buffer.write(asyncio.run(model.complete(test_local.SEEDED)).text.encode())
        """
    )
    elsewhere = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parent, capture_output=True)
    assert elsewhere.stdout.decode() == first.text
    assert elsewhere.stderr == b""


async def test_streaming(smollm2: Local) -> None:
    asked = request("Repeat: 😀🎉 中文 日本語", max_tokens=40, seed=1, temperature=0.0)
    items = [item async for item in smollm2.stream(asked)]
    *pieces, reply = items
    assert isinstance(reply, ChatReply)
    assert len(pieces) > 5
    assert "".join(map(str, pieces)) == reply.text
    assert "�" not in reply.text
    assert {"🎉", "中"} <= set(reply.text)
    assert reply.usage.completion_tokens > 5
    assert (await smollm2.complete(asked)).text == reply.text


async def test_developer_messages_and_stops(smollm2: Local) -> None:
    messages = (Message("developer", "Be brief."), Message("user", "Count from one to ten: 1, 2, 3,"))
    sampling = Sampling(temperature=0.0, stop=("7",), max_tokens=40)
    reply = await smollm2.complete(ChatRequest(messages, sampling))
    assert "7" not in reply.text


async def test_settings_by_their_own_names(smollm2: Local) -> None:
    greedy = {"temperature": 2.0, "max_tokens": 12, "extra": {"top_k": 1}}
    replies = [await smollm2.complete(request("Hi", seed=seed, **greedy)) for seed in (1, 2)]
    assert replies[0].text == replies[1].text
    for refused in ("messages", "grammar", "stream", "n"):
        with pytest.raises(UnknownNameError, match=f"'{refused}'"):
            await smollm2.complete(request("Hi", extra={refused: 1}))
    with pytest.raises(UsageError, match="top_k"):
        await smollm2.complete(request("Hi", extra={"top_k": "many"}))


async def test_a_prompt_that_is_too_long(smollm2: Local) -> None:
    long = request("word " * 5000)
    for asked in (smollm2.complete(long), anext(smollm2.stream(long))):
        with pytest.raises(PromptTooLongError, match=r"50\d\d tokens .* 4096: shorten the prompt"):
            await asked


async def test_cancelling_ends_the_generation() -> None:
    model = Local("smollm2", LocalSettings(slots=1))
    endless = request("Tell a story", max_tokens=100_000, extra=ENDLESS)
    await model.load()
    whole = asyncio.create_task(model.complete(endless))
    waiting = asyncio.create_task(model.complete(endless))
    await asyncio.sleep(0.3)
    whole.cancel()
    waiting.cancel()
    pieces = model.stream(endless)
    assert isinstance(await anext(pieces), str)
    await pieces.aclose()
    assert (await model.complete(request("Hi", max_tokens=1))).usage.completion_tokens == 1
    for cancelled in (whole, waiting):
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    await model.aclose()


async def test_a_reply_ends_at_the_default_or_where_the_context_is_full() -> None:
    model = Local("smollm2", LocalSettings(slots=1, context=256))
    for max_tokens in (None, 100_000):
        reply = await model.complete(request("Tell a story", max_tokens=max_tokens, extra=ENDLESS))
        assert reply.finish == "length"
        assert reply.usage.total_tokens <= 257 < DEFAULT_MAX_TOKENS
    await model.aclose()


async def test_closing_ends_running_requests_and_frees_the_memory() -> None:
    model = Local("smollm2")
    await model.load()
    loaded = resident_bytes()
    running = [asyncio.create_task(model.complete(request("Go on", extra=ENDLESS))) for _ in range(10)]
    await asyncio.sleep(0.3)
    await asyncio.gather(model.aclose(), model.aclose())
    for task in running:
        with pytest.raises(UsageError, match="closed"):
            await task
    with pytest.raises(UsageError, match="closed"):
        await model.complete(request("Hi"))
    assert loaded - resident_bytes() > 500 << 20 or not sys.platform.startswith("linux")


def resident_bytes() -> int:
    if not sys.platform.startswith("linux"):
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_equal_settings_share_one_model(tmp_path: Path) -> None:
    assert local("smollm2") is local("smollm2")
    assert local("smollm2") is not local("smollm2", LocalSettings(slots=2))
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF\x03\0\0\0")
    (tmp_path / "link.gguf").symlink_to(file)
    model = local(file)
    assert model.name == f"local/{file}"
    assert local(str(tmp_path / "link.gguf")) is model
    await model.aclose()
    assert local(file) is not model


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "not a GGUF file"),
        (b"PK\x03\x04 a zip archive", "not a GGUF file"),
        (b"GGUF\x01\0\0\0", "version 1"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 100, "cannot be loaded"),
    ],
)
async def test_invalid_files(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes | None, message: str
) -> None:
    path = tmp_path / "model.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        await Local(path).load()
    assert capfd.readouterr() == ("", "")


def test_invalid_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'smollm2'"):
        Local("smolm2")
    with pytest.raises(UsageError, match="cannot be read"):
        Local(tmp_path)
    with pytest.raises(UsageError, match="at least 1"):
        Local("smollm2", LocalSettings(slots=0))


async def test_without_xllamacpp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(MissingExtraError, match=r"install .*\[local\]"):
        await Local("smollm2").complete(request("Hi"))


def test_an_xllamacpp_that_enforces_nothing() -> None:
    class Old:
        __version__ = "0.1"

        @staticmethod
        def json_schema_to_grammar(schema: str) -> str:
            return "root ::= string"

    with pytest.raises(UsageError, match=r"0\.1 cannot enforce.*xllamacpp>="):
        check_build(Old)


async def test_weights_that_may_not_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OUTSPOKEN_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="outspoken models get smollm2"):
        await Local("smollm2", offline=True).complete(request("Hi"))


async def test_a_base_model_continues_the_prompt(smollm2: Local, tmp_path: Path) -> None:
    await smollm2.load()
    base = tmp_path / "base.gguf"
    shutil.copy(weight_files.TABLE["smollm2"].path, base)
    with base.open("r+b") as file:
        file.seek(file.read(8 << 20).index(b"tokenizer.chat_template"))
        file.write(b"tokenizer.no__template!")
    model = Local(base, LocalSettings(slots=1, context=512))
    reply = await model.complete(request("The capital of France is", max_tokens=3, temperature=0.0))
    await model.aclose()
    assert reply.usage.prompt_tokens == 5
    assert "Paris" in reply.text


async def test_nobody_else_can_reach_it(smollm2: Local) -> None:
    await smollm2.load()
    address = smollm2._server.listening_address
    if os.name == "posix":
        assert address.startswith("unix://")
        assert not Path(address.removeprefix("unix://")).exists()


async def test_after_a_fork_it_is_closed(smollm2: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = os.getpid()
    shared = local("smollm2")
    monkeypatch.setattr(os, "getpid", lambda: parent + 1)
    with pytest.raises(UsageError, match="fork"):
        await smollm2.complete(request("Hi"))
    assert local("smollm2") is not shared


BUSY_AT_EXIT = """
import asyncio, threading
from test_local import ENDLESS, Local, request
model = Local("smollm2")
loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(model.load(), loop).result()
for _ in range(10):
    asyncio.run_coroutine_threadsafe(model.complete(request("Go on", extra=ENDLESS)), loop)
"""

WAITS = """
import asyncio
from test_local import ENDLESS, Local, request
async def main():
    model = Local("smollm2")
    await model.load()
    # A signal that arrives just before the loop sleeps is handled when the loop next wakes.
    beating = asyncio.create_task(beat())
    print("loaded", flush=True)
    await model.complete(request("Go on", max_tokens=100_000, extra=ENDLESS))
async def beat():
    while True:
        await asyncio.sleep(0.05)
asyncio.run(main())
"""


def python(script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_interpreter_ends_while_it_generates(smollm2: Local) -> None:
    with python(BUSY_AT_EXIT) as process:
        assert process.communicate(timeout=120) == ("", "")
    assert process.returncode == 0


def test_interrupted_by_the_user(smollm2: Local) -> None:
    with python(WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert process.returncode in (130, -signal.SIGINT)


# Embeddings


async def test_texts_are_embedded_in_their_order(minilm: Local) -> None:
    texts = [f"The number {number} is {'even' if number % 2 == 0 else 'odd'}." for number in range(30)]
    whole = await minilm.embed(texts)
    assert [len(vector) for vector in whole.vectors] == [384] * 30
    assert whole.cut == ()
    for index in (0, 13, 29):
        (alone,) = (await minilm.embed([texts[index]])).vectors
        assert cosine(alone, alone) == pytest.approx(1, abs=1e-5)
        assert cosine(alone, whole.vectors[index]) > 0.999
        assert max(range(30), key=lambda other: cosine(alone, whole.vectors[other])) == index
    assert (await minilm.embed([])).vectors == []


def cosine(one: list[float], other: list[float]) -> float:
    return sum(x * y for x, y in zip(one, other, strict=True))


@pytest.mark.parametrize("tokens", [600, 1500, 20_000])
async def test_a_text_longer_than_the_context_is_cut(minilm: Local, tokens: int) -> None:
    beginning = "tea coffee milk water " * 120
    long = (beginning * 50)[: 6 * tokens]
    found = await minilm.embed(["short", long, "茶" * tokens, "short"])
    assert found.cut == (1, 2)
    assert found.vectors[0] == pytest.approx(found.vectors[3], abs=1e-4)
    assert cosine(found.vectors[1], (await minilm.embed([beginning])).vectors[0]) > 0.99
    assert cosine(found.vectors[2], (await minilm.embed(["茶" * 500])).vectors[0]) > 0.99


async def test_the_configured_context(minilm: Local) -> None:
    await minilm.load()
    small = local(minilm._file(), LocalSettings(context=256, slots=2))
    assert small.capabilities.embed
    found = await small.embed(["tea " * 254, "tea " * 255])
    await small.aclose()
    assert found.cut == (1,)


async def test_embedding_leaves_the_loop_free(minilm: Local) -> None:
    await minilm.load()
    embedding = asyncio.create_task(minilm.embed(["a long text of many words " * 20] * 30))
    ticks = 0
    while not embedding.done():
        await asyncio.sleep(0.01)
        ticks += 1
    assert ticks > 20
    cancelled = asyncio.create_task(minilm.embed(["a long text of many words"] * 4000))
    await asyncio.sleep(0.1)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled


async def test_embedding_models_do_not_answer(minilm: Local, smollm2: Local, tmp_path: Path) -> None:
    assert minilm.capabilities.embed
    assert not smollm2.capabilities.embed
    with pytest.raises(UsageError, match="local/minilm embeds texts and does not answer"):
        await minilm.complete(request("Hi"))
    with pytest.raises(UsageError, match="local/minilm embeds texts"):
        await anext(minilm.stream(request("Hi")))
    with pytest.raises(UsageError, match="local/smollm2 is not an embedding model"):
        await smollm2.embed(["Hi"])
    await smollm2.load()
    assert not Local(weight_files.TABLE["smollm2"].path).capabilities.embed
    for bad in ("", "\t", "\udc00"):
        with pytest.raises(UsageError, match="text 1 "):
            await minilm.embed(["a", bad])
    closed = Local("minilm")
    await closed.aclose()
    with pytest.raises(UsageError, match="closed"):
        await closed.embed(["a"])
