"""any-llm with the providers' own SDKs, against servers on loopback that speak the providers' protocols."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from servers import Handler, answering, serving, streaming

from outspoken.chat import ChatRequest, Message, Sampling, as_messages
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import MissingExtraError, MissingKeyError, PromptTooLongError, ProviderError, UsageError
from outspoken.models import model_of_provider, openai_fields
from outspoken.models.base import Model

KEY = "sk-very-secret-0123456789"
SCHEMA = {
    "type": "object",
    "properties": {"responses": {"type": "array", "items": {"type": "string"}}},
    "required": ["responses"],
    "additionalProperties": False,
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-served",
    "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "hé 你好 🎉"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 7, "cache_read_input_tokens": 5},
}
GENERATED = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hé 你好 🎉"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 15, "candidatesTokenCount": 7, "cachedContentTokenCount": 5},
    "modelVersion": "gemini-served",
}


def claude_events(*texts: str) -> bytes:
    listed: list[dict[str, Any]] = [
        {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
            for text in texts
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in listed).encode()


def asking(prompt: str = "咖啡 ☕ مرحبا", schema: dict[str, Any] | None = None, **sampling: Any) -> ChatRequest:
    return ChatRequest(as_messages(prompt), Sampling(**sampling), schema)


def test_without_the_library_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "any_llm", None)
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    with pytest.raises(MissingExtraError, match=r"install .*\[providers\]"):
        model_of_provider("anthropic", "claude")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_fields, "_endpoints", {})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def installed() -> None:
    pytest.importorskip("any_llm", reason="the extra 'providers' is not installed")


pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")
needs_any_llm = pytest.mark.usefixtures("installed")


@pytest.fixture
def claude(installed: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    def at(origin: str) -> Model:
        monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", origin)
        return model_of_provider("anthropic", "claude-sonnet-4-5")

    return at


@pytest.fixture
def gemini(installed: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    def at(origin: str) -> Model:
        monkeypatch.delenv("GEMINI_API_KEY", raising=False)
        monkeypatch.setenv("GOOGLE_API_KEY", KEY)
        monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", origin)
        return model_of_provider("gemini", "gemini-2.5-flash")

    return at


async def test_claude_answers(claude: Any):
    async with serving(answering(MESSAGE)) as served:
        model = claude(served.origin)
        chat = (Message("developer", "be brief"), Message("user", "咖啡"))
        reply = await model.complete(ChatRequest(chat, Sampling(0.5, max_tokens=9, stop=("x",)), SCHEMA))
        await model.aclose()
    assert model.name == "anthropic/claude-sonnet-4-5"
    assert reply == ChatReply("hé 你好 🎉", "stop", Usage(15, 7, 5), "claude-served", "hm", structured=True)
    assert served.requests[0].headers["X-Api-Key"] == KEY
    (body,) = served.bodies
    assert body["system"] == "be brief"
    assert body["messages"] == [{"role": "user", "content": "咖啡"}]
    assert (body["temperature"], body["max_tokens"], body["stop_sequences"]) == (0.5, 9, ["x"])
    assert body["output_config"]["format"]["schema"]["required"] == ["responses"]


async def test_claude_streams(claude: Any):
    async with serving(streaming([claude_events("你", "好 🎉")])) as served:
        model = claude(served.origin)
        *pieces, reply = [item async for item in model.stream(asking())]
        await model.aclose()
    assert pieces == ["你", "好 🎉"]
    assert (reply.text, reply.finish, reply.usage.completion_tokens) == ("你好 🎉", "stop", 7)


async def test_a_stream_closed_early_lets_go_of_the_connection(claude: Any):
    gone = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        head, _, rest = claude_events("a").partition(b"event: content_block_delta")
        await response.write(head)
        delta = b"event: content_block_delta" + rest.partition(b"event: content_block_stop")[0]
        try:
            while True:
                await response.write(delta)
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    async with serving(handle) as served:
        model = claude(served.origin)
        stream = model.stream(asking())
        assert await anext(stream) == "a"
        await stream.aclose()
        await asyncio.wait_for(gone.wait(), 10)
        await model.aclose()


async def test_gemini_answers(gemini: Any):
    async with serving(answering(GENERATED)) as served:
        model = gemini(served.origin)
        reply = await model.complete(asking(schema=SCHEMA, seed=7))
        await model.aclose()
    assert (reply.text, reply.finish, reply.usage) == ("hé 你好 🎉", "stop", Usage(15, 7, 5))
    assert reply.structured
    settings = served.bodies[0]["generationConfig"]
    assert (settings["seed"], settings["responseJsonSchema"]) == (7, SCHEMA)


async def test_gemini_streams(gemini: Any):
    stream = f"data: {json.dumps(GENERATED, ensure_ascii=False)}\r\n\r\n".encode()
    async with serving(streaming([stream])) as served:
        model = gemini(served.origin)
        *pieces, reply = [item async for item in model.stream(asking())]
        await model.aclose()
    assert pieces == ["hé 你好 🎉"]
    assert reply.text == "hé 你好 🎉"


async def test_settings_that_a_provider_does_not_take_are_errors(claude: Any, gemini: Any):
    async with serving(answering(MESSAGE)) as served:
        for model, sampling in (
            (claude(served.origin), {"seed": 1}),
            (claude(served.origin), {"extra": {"bogus": 1}}),
            (gemini(served.origin), {"extra": {"bogus": 1}}),
        ):
            with pytest.raises(UsageError, match=r"seed|bogus"):
                await model.complete(asking(**sampling))
            await model.aclose()
    assert served.requests == []


async def test_a_refused_schema_is_left_out_and_not_sent_again(claude: Any):
    async def handle(request: web.Request) -> web.StreamResponse:
        if "output_config" in await request.json():
            error = {
                "type": "error",
                "error": {"type": "invalid_request_error", "message": "the model does not support output format"},
            }
            return web.json_response(error, status=400)
        return web.json_response(MESSAGE)

    async with serving(handle) as served:
        model = claude(served.origin)
        replies = [await model.complete(asking(schema=SCHEMA)) for _ in range(2)]
        await model.aclose()
    assert [reply.structured for reply in replies] == [False, False]
    assert [("output_config" in body) for body in served.bodies] == [True, False, False]


def failing(status: int, kind: str, **headers: str) -> Handler:
    error = {"type": "error", "error": {"type": kind, "message": f"said {KEY}"}}
    return answering(error, status, headers)


@pytest.mark.parametrize(
    ("handler", "status", "retryable", "words"),
    [
        (failing(429, "rate_limit_error", **{"Retry-After": "3"}), 429, True, "said ***"),
        (failing(529, "overloaded_error"), 529, True, "said ***"),
        (failing(401, "authentication_error"), 401, False, "ANTHROPIC_API_KEY"),
        (failing(400, "invalid_request_error"), 400, False, "said ***"),
    ],
)
async def test_failures(claude: Any, handler: Handler, status: int, retryable: bool, words: str):
    async with serving(handler) as served:
        model = claude(served.origin)
        with pytest.raises(ProviderError) as caught:
            await model.complete(asking())
        await model.aclose()
    error = caught.value
    assert (error.status, error.retryable) == (status, retryable)
    assert error.retry_after == (3 if status == 429 else None)
    assert words in str(error)
    assert KEY not in str(error)
    assert len(served.requests) == 1


async def test_an_error_in_the_stream(claude: Any):
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "too busy"}}
    stream = claude_events("a").partition(b"event: content_block_stop")[0]
    stream += f"event: error\ndata: {json.dumps(error)}\n\n".encode()
    async with serving(streaming([stream])) as served:
        model = claude(served.origin)
        with pytest.raises(ProviderError, match="too busy"):
            [item async for item in model.stream(asking())]
        await model.aclose()


async def test_too_long_a_prompt_is_known_by_its_code(claude: Any):
    async with serving(failing(400, "exceed_context_size_error")) as served:
        model = claude(served.origin)
        with pytest.raises(PromptTooLongError):
            await model.complete(asking())
        await model.aclose()


async def test_nobody_there(claude: Any, gemini: Any):
    async with serving(answering()) as served:
        pass
    for model in (claude(served.origin), gemini(served.origin)):
        with pytest.raises(ProviderError, match="did not answer") as caught:
            await model.complete(asking())
        assert caught.value.retryable
        await model.aclose()


async def test_one_model_in_several_loops(claude: Any):
    async with serving(answering(MESSAGE)) as served:
        model = claude(served.origin)
        replies = [await model.complete(asking()) for _ in range(2)]
        for _ in range(2):
            replies.append(await asyncio.to_thread(lambda: asyncio.run(model.complete(asking()))))  # noqa: PERF401
        await model.aclose()
    assert [reply.text for reply in replies] == ["hé 你好 🎉"] * 4


@needs_any_llm
@pytest.mark.parametrize("name", ["anthropic", "gemini"])
def test_a_missing_key_is_named(name: str, monkeypatch: pytest.MonkeyPatch):
    for variable in ("ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(MissingKeyError, match=f"{name.upper()}_API_KEY"):
        model_of_provider(name, "m")
