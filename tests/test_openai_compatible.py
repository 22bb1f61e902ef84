from __future__ import annotations

import asyncio
import errno
import gc
import gzip
import json
import re
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from servers import COMPLETION, Handler, Served, answering, events, serving, streaming

from outspoken.chat import ChatRequest, Sampling, as_messages
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import MissingKeyError, PromptTooLongError, ProviderError, UnknownNameError, UsageError
from outspoken.models import model_at_url, model_of_provider, openai_fields
from outspoken.models.http import FAILURES, REVEALING, error_for
from outspoken.models.openai_compatible import OpenAICompatible
from outspoken.models.providers import PROVIDERS

pytestmark = pytest.mark.core


KEY = "sk-very-secret-0123456789"
REPLY = ChatReply("hé 你好 🎉", "stop", Usage(12, 7, 5), "served-model")
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No state of another test, and no proxy for the loopback interface."""
    monkeypatch.setattr(openai_fields, "_endpoints", {})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


def asking(prompt: str = "咖啡 ☕ مرحبا", schema: dict[str, Any] | None = None, **sampling: Any) -> ChatRequest:
    return ChatRequest(as_messages(prompt), Sampling(**sampling), schema)


def model_at(served: Served, model: str = "m", **options: Any) -> OpenAICompatible:
    return OpenAICompatible(served.base_url, model, api_key=KEY, **options)


async def failure_of(handler: Handler, *, stream: bool = False, **options: Any) -> ProviderError:
    async with serving(handler) as served:
        model = model_at(served, **options)
        with pytest.raises(ProviderError) as caught:
            await (collected(model, asking()) if stream else model.complete(asking()))
        await model.aclose()
    for text in (str(caught.value), repr(caught.value), repr(caught.value.original)):
        assert KEY not in text
        assert "\n" not in text
    return caught.value


async def collected(model: OpenAICompatible, request: ChatRequest) -> tuple[list[str], ChatReply]:
    *pieces, reply = [item async for item in model.stream(request)]
    assert isinstance(reply, ChatReply)
    return [piece for piece in pieces if isinstance(piece, str)], reply


# Whole replies


async def test_a_reply_comes_back():
    async with serving(answering()) as served:
        model = model_at(served, headers={"X-Team": "jokes"})
        assert await model.complete(asking(temperature=0.5, max_tokens=9)) == REPLY
        await model.aclose()
    (request,) = served.requests
    assert (request.method, request.path) == ("POST", "/v1/chat/completions")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["X-Team"] == "jokes"
    assert served.bodies == [
        {
            "model": "m",
            "messages": [{"role": "user", "content": "咖啡 ☕ مرحبا"}],
            "temperature": 0.5,
            "max_tokens": 9,
        }
    ]


async def test_no_key_is_sent_where_none_is_given():
    async with serving(answering()) as served:
        model = OpenAICompatible(served.base_url, "m")
        await model.complete(asking())
        await model.aclose()
    assert "Authorization" not in served.requests[0].headers


async def test_a_large_prompt():
    async with serving(answering()) as served:
        model = model_at(served)
        assert await model.complete(asking("長" * 2**20)) == REPLY
        await model.aclose()
    assert len(served.bodies[0]["messages"][0]["content"]) == 2**20


async def test_connections_are_kept():
    async with serving(answering()) as served:
        model = model_at(served)
        for _ in range(5):
            await model.complete(asking())
        await model.aclose()
    assert len({request.transport for request in served.requests}) == 1


# Structured output


def refusing(field: str, status: int = 400) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if field in await request.json():
            return web.json_response({"error": {"message": f"unknown field {field}"}}, status=status)
        if (await request.json()).get("stream"):
            return web.Response(body=events("a"), content_type="text/event-stream")
        return web.json_response(COMPLETION)

    return handle


async def test_a_schema_is_applied():
    async with serving(answering()) as served:
        model = model_at(served)
        assert (await model.complete(asking(schema=SCHEMA))).structured
        assert not (await model.complete(asking(schema={"type": "array"}))).structured
        await model.aclose()
    assert [("response_format" in body) for body in served.bodies] == [True, False]


@pytest.mark.parametrize("status", [400, 422, 501])
async def test_a_refused_schema_is_left_out_and_not_sent_again(status: int):
    async with serving(refusing("response_format", status)) as served:
        for model in (model_at(served), model_at(served)):
            for _ in range(2):
                assert not (await model.complete(asking(schema=SCHEMA))).structured
            await model.aclose()
    assert [("response_format" in body) for body in served.bodies] == [True, False, False, False, False]


async def test_another_model_of_the_server_is_offered_all_fields():
    async with serving(refusing("response_format")) as served:
        for name in ("m", "other"):
            model = model_at(served, name)
            await model.complete(asking(schema=SCHEMA))
            await model.aclose()
    assert len(served.bodies) == 4


async def test_many_first_calls_at_once():
    async with serving(refusing("response_format")) as served:
        model = model_at(served)
        replies = await asyncio.gather(*(model.complete(asking(schema=SCHEMA)) for _ in range(50)))
        served.bodies.clear()
        await model.complete(asking(schema=SCHEMA))
        await model.aclose()
    assert replies == [REPLY] * 50
    assert len(served.bodies) == 1


# What servers say about a field that they do not know: OpenAI and Azure, vLLM, Groq, LM Studio, text-generation-
# inference, DeepSeek, Fireworks, Together, FastAPI.
UNKNOWN_FORMAT = [
    {"error": {"message": "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this "
               "model.", "type": "invalid_request_error", "param": "response_format", "code": None}},
    {"error": {"message": "Unknown parameter: 'response_format'.", "code": "unknown_parameter"}},
    {"error": {"message": "not here", "param": "response_format", "code": "unsupported_parameter"}},
    {"object": "error", "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'response_format'), 'msg': 'Extra "
     "inputs are not permitted'}]", "type": "BadRequestError", "code": 400},
    {"error": {"message": "This model does not support response format `json_schema`.", "code": "x"}},
    {"error": "'response_format.type' must be 'text'"},
    {"error": "response_format.type: unknown variant `json_schema`, expected `json_object`", "error_type": "x"},
    {"error": {"message": "This response_format type is unavailable now", "code": "invalid_request_error"}},
    {"error": {"message": "Structured outputs are not yet supported for this model"}},
    {"error": {"message": "JSON mode is not enabled for this model"}},
    {"detail": [{"type": "extra_forbidden", "loc": ["body", "response_format"], "msg": "Extra inputs"}]},
]  # fmt: skip
# About the schema of one request, not about the field.
BAD_SCHEMA = [
    {"error": {"message": "Invalid schema for response_format 'responses': In context=(), 'minItems' is not "
               "permitted.", "param": "response_format"}},
    {"error": {"message": "Failed to convert the grammar from the JSON schema: unsupported"}},
    {"error": {"message": "response_format.json_schema: unsupported JSON schema fields: {'minLength'}"}},
]  # fmt: skip
# Neither: the request, or this attempt, was at fault.
OTHERWISE = [
    {"error": {"message": "Bad request"}},
    {"error": {"message": "The model produced invalid content. Try again.", "code": "model_error"}},
    {},
]


def rejecting(*answers: Any, status: int = 400) -> Handler:
    """The server rejects the first requests with a schema with these answers (a number: it answers so many)."""
    left = [answer for entry in answers for answer in ([None] * entry if isinstance(entry, int) else [entry])]

    async def handle(request: web.Request) -> web.StreamResponse:
        if "response_format" in await request.json() and left and (answer := left.pop(0)) is not None:
            return web.json_response(answer, status=status)
        return web.json_response(COMPLETION)

    return handle


async def schemas_sent(handler: Handler, *schemas: dict[str, Any]) -> list[bool]:
    """Which requests carried a schema, if these are asked for one after the other; all are answered."""
    async with serving(handler) as served:
        model = model_at(served)
        for schema in schemas:
            assert (await model.complete(asking(schema=schema))).text == REPLY.text
        await model.aclose()
    return ["response_format" in body for body in served.bodies]


OTHER_SCHEMA = {**SCHEMA, "description": "other"}


@pytest.mark.parametrize("answer", UNKNOWN_FORMAT)
async def test_only_a_field_that_is_not_known_is_switched_off(answer: Any):
    assert await schemas_sent(rejecting(answer), SCHEMA, SCHEMA, OTHER_SCHEMA) == [True, False, False, False]


@pytest.mark.parametrize("answer", [*UNKNOWN_FORMAT, *OTHERWISE])
async def test_a_field_that_worked_stays_on(answer: Any):
    """Whatever is said later, it concerns that request alone."""
    sent = await schemas_sent(rejecting(1, answer, answer), SCHEMA, SCHEMA, SCHEMA, SCHEMA)
    assert sent == [True, True, False, True, False, True]


@pytest.mark.parametrize("answer", OTHERWISE)
async def test_any_other_rejection_is_about_one_request(answer: Any):
    assert await schemas_sent(rejecting(answer), SCHEMA, SCHEMA) == [True, False, True]


@pytest.mark.parametrize("answer", BAD_SCHEMA)
async def test_a_schema_that_is_not_accepted_switches_off_no_other(answer: Any):
    sent = await schemas_sent(rejecting(answer), SCHEMA, SCHEMA, OTHER_SCHEMA)
    assert sent == [True, False, False, True]


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Failed to generate JSON.", "code": "json_validate_failed", "failed_generation": "{"},
        {"message": "Failed to call a function.", "code": "tool_use_failed"},
        {"message": "response_format is not supported", "failed_generation": ""},
    ],
)
async def test_a_failed_generation_is_a_reason_to_ask_again(error: dict[str, str]):
    async with serving(rejecting({"error": error})) as served:
        model = model_at(served)
        with pytest.raises(ProviderError, match=error["message"]) as caught:
            await model.complete(asking(schema=SCHEMA))
        assert (caught.value.status, caught.value.retryable) == (400, True)
        assert (await model.complete(asking(schema=SCHEMA))).structured
        await model.aclose()
    assert ["response_format" in body for body in served.bodies] == [True, True]


async def test_what_worked_meanwhile_is_not_switched_off():
    """Two requests at once: one server behind the address knows the field, the other does not."""
    answers, both = iter((UNKNOWN_FORMAT[0], None)), asyncio.Barrier(2)

    async def handle(request: web.Request) -> web.StreamResponse:
        if "response_format" in await request.json() and (answer := next(answers, COMPLETION)) is not COMPLETION:
            await both.wait()
            if answer is not None:
                return web.json_response(answer, status=400)
            await asyncio.sleep(0.1)
        return web.json_response(COMPLETION)

    async with serving(handle) as served:
        model = model_at(served)
        replies = await asyncio.gather(*(model.complete(asking(schema=SCHEMA)) for _ in range(2)))
        assert sorted(reply.structured for reply in replies) == [False, True]
        assert (await model.complete(asking(schema=SCHEMA))).structured
        await model.aclose()


LIMIT_WORDS = [
    {"message": "Unsupported parameter: '{0}' is not supported with this model. Use '{1}' instead.", "param": "{0}",
     "code": "unsupported_parameter"},
    {"message": "Unrecognized request argument supplied: {0}"},
    {"message": "[{{'type': 'extra_forbidden', 'loc': ('body', '{0}')}}]"},
]  # fmt: skip


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("words", LIMIT_WORDS)
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_the_limit_of_tokens_has_two_names(field: str, words: dict[str, str], stream: bool):
    other = "max_tokens" if field == "max_completion_tokens" else "max_completion_tokens"

    async def handle(request: web.Request) -> web.StreamResponse:
        if field in await request.json():
            error = {name: text.format(field, other) for name, text in words.items()}
            return web.json_response({"error": error}, status=400)
        return web.json_response(COMPLETION)

    async with serving(handle) as served:
        model = model_at(served, max_tokens_field=field)
        for _ in range(2):
            request = asking(max_tokens=7, schema=SCHEMA)
            reply = (await collected(model, request))[1] if stream else await model.complete(request)
            assert reply.structured
        await model.aclose()
    assert [(body.get(field), body.get(other)) for body in served.bodies] == [(7, None), (None, 7), (None, 7)]


async def test_too_large_a_limit_is_the_callers():
    error = {"error": {"message": "max_tokens is too large: 99. This model supports at most 9 completion tokens"}}
    async with serving(answering(error, 400)) as served:
        model = model_at(served)
        with pytest.raises(ProviderError, match="too large: 99"):
            await model.complete(asking(max_tokens=99))
        await model.aclose()
    assert len(served.bodies) == 1


async def test_a_request_that_fails_either_way_teaches_nothing():
    async with serving(answering({"error": {"message": "no"}}, 400)) as served:
        model = model_at(served)
        for _ in range(2):
            with pytest.raises(ProviderError, match="no"):
                await model.complete(asking(schema=SCHEMA))
        await model.aclose()
    assert [("response_format" in body) for body in served.bodies] == [True, False] * 2


async def test_too_long_a_prompt_is_not_tried_again():
    error = {"error": {"message": "16k", "code": "context_length_exceeded"}}
    async with serving(answering(error, 400)) as served:
        model = model_at(served)
        with pytest.raises(PromptTooLongError):
            await model.complete(asking(schema=SCHEMA))
        await model.aclose()
    assert len(served.bodies) == 1


# Streams


@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_a_reply_streams_however_it_is_cut(size: int):
    stream = events("你", "好 🎉", " مرحبا")
    async with serving(streaming(stream[at : at + size] for at in range(0, len(stream), size))) as served:
        model = model_at(served)
        pieces, reply = await collected(model, asking(schema=SCHEMA))
        await model.aclose()
    assert pieces == ["你", "好 🎉", " مرحبا"]
    assert reply == ChatReply("你好 🎉 مرحبا", "stop", Usage(12, 7, 5), "served-model", structured=True)
    assert served.bodies[0]["stream_options"] == {"include_usage": True}


async def test_a_server_that_does_not_stream():
    async with serving(answering()) as served:
        model = model_at(served)
        assert await collected(model, asking()) == ([REPLY.text], REPLY)
        await model.aclose()


async def test_refused_stream_options_are_left_out_and_not_sent_again():
    async with serving(refusing("stream_options")) as served:
        model = model_at(served)
        for _ in range(2):
            _, reply = await collected(model, asking(schema=SCHEMA))
            assert reply.structured
        await model.aclose()
    assert [("stream_options" in body) for body in served.bodies] == [True, False, False]


async def test_a_server_that_refuses_both_still_streams():
    async def handle(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        field = "stream_options" if "stream_options" in body else "response_format"
        return await refusing(field)(request)

    async with serving(handle) as served:
        model = model_at(served)
        for _ in range(2):
            assert (await collected(model, asking(schema=SCHEMA)))[0] == ["a"]
        await model.aclose()
    assert len(served.bodies) == 4


async def test_a_stream_that_breaks_off():
    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(events("a", finish=None, done=False))
        assert request.transport is not None
        request.transport.close()
        return response

    error = await failure_of(handle, stream=True)
    assert error.retryable
    assert "broke off" in str(error)


async def test_a_stream_that_ends_early():
    error = await failure_of(streaming([events("a", finish=None, done=False)]), stream=True)
    assert error.retryable


async def test_errors_that_a_stream_holds():
    begin = events("a", finish=None, done=False)
    named = b'event: error\ndata: {"message": "out of memory ' + KEY.encode() + b'"}\n\n'
    for stream in (
        begin + named,
        named,
        begin + b"event: error\ndata: out of memory " + KEY.encode() + b"\n\n",
        b'data: {"object": "error", "message": "out of memory ' + KEY.encode() + b'", "code": 500}\n\n',
        b'{"error": "out of memory ' + KEY.encode() + b'"}',
    ):
        for streamed in (True, False):
            error = await failure_of(streaming([stream]), stream=streamed)
            assert "out of memory ***" in str(error)
            assert error.retryable


async def test_a_server_that_streams_unasked():
    async with serving(streaming([events("hé ", "你好 🎉")])) as served:
        model = model_at(served)
        assert await model.complete(asking()) == REPLY
        await model.aclose()


async def test_a_character_cut_in_two():
    stream = (
        rb'data: {"choices":[{"index":0,"delta":{"content":"snow \ud83c"}}]}' + b"\n\n"
        rb'data: {"choices":[{"index":0,"delta":{"content":"\udfd4 top"}}]}' + b"\n\n"
        rb'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}' + b"\n\ndata: [DONE]\n\n"
    )
    async with serving(streaming([stream])) as served:
        model = model_at(served)
        pieces, reply = await collected(model, asking())
        await model.aclose()
    assert (pieces, reply.text) == (["snow ", "🏔 top"], "snow 🏔 top")


async def test_an_error_in_the_stream():
    bad = b'data: {"error": {"message": "out of memory ' + KEY.encode() + b'"}}\n\n'
    error = await failure_of(streaming([events("a", finish=None, done=False), bad]), stream=True)
    assert "out of memory ***" in str(error)


async def test_a_web_page_instead_of_a_stream():
    error = await failure_of(answering("<h1>Hello</h1>"), stream=True)
    assert "does not look like an OpenAI-compatible API" in str(error)
    assert "Hello" in str(error)


async def test_a_server_that_closes_the_connection_after_a_stream():
    connections: list[object] = []
    stream = events("a")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(f"{len(stream):x}\r\n".encode() + stream + b"\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        model = OpenAICompatible(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", "m")
        for _ in range(20):
            assert (await collected(model, asking()))[0] == ["a"]
        await model.aclose()
    assert len(connections) == 20


async def test_a_stream_closed_early_lets_go_of_the_connection():
    gone = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(events("a", finish=None, done=False))
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    async with serving(handle) as served:
        model = model_at(served)
        stream = model.stream(asking())
        assert await anext(stream) == "a"
        await stream.aclose()
        await asyncio.wait_for(gone.wait(), 10)
        await model.aclose()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_call_lets_go_of_the_connection(stream: bool):
    begun, gone = asyncio.Event(), asyncio.Event()

    async def handle(_request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            gone.set()
        return web.Response()

    async with serving(handle) as served:
        model = model_at(served)
        call = collected(model, asking()) if stream else model.complete(asking())
        task = asyncio.ensure_future(call)
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(gone.wait(), 10)
        await model.aclose()


# Failures


async def test_a_web_page():
    error = await failure_of(answering("<html><body><h1>Welcome</h1> to nginx " + KEY))
    assert "does not look like an OpenAI-compatible API (a base URL usually ends in /v1)" in str(error)
    assert "Welcome to nginx" in str(error)
    assert error.retryable  # a proxy shows such pages now and then


async def test_an_http_error():
    error = await failure_of(answering({"error": {"message": f"slow down {KEY}"}}, 429, {"Retry-After": "3"}))
    assert (error.status, error.retry_after, error.retryable) == (429, 3, True)
    assert "slow down ***" in str(error)


async def test_a_wrong_key_names_the_variable():
    error = await failure_of(answering({"error": {"message": "no"}}, 401), key_variable="SOME_API_KEY")
    assert "SOME_API_KEY" in str(error)


async def test_redirects_are_not_followed():
    async with serving(answering()) as elsewhere:
        headers = {"Location": elsewhere.base_url}
        error = await failure_of(answering("", 307, headers))
    assert "correct the base URL" in str(error)
    assert elsewhere.requests == []


async def test_nobody_there():
    async with serving(answering()) as served:
        pass
    model = model_at(served)
    with pytest.raises(
        ProviderError, match=f"nothing answers at {served.base_url}: is the server running"
    ) as caught:
        await model.complete(asking())
    await model.aclose()
    assert caught.value.retryable


async def test_an_answer_that_does_not_come():
    async def handle(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    error = await failure_of(handle, timeout=0.2)
    assert error.retryable
    assert "in time" in str(error)


@asynccontextmanager
async def writing(*parts: bytes) -> AsyncGenerator[OpenAICompatible]:
    """A model whose server writes these bytes in answer to each request, with a short wait after each part."""

    talks: list[asyncio.Task[Any] | None] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.append(asyncio.current_task())
        with suppress(ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]))
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)
            writer.close()
            await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        model = OpenAICompatible(url, "m", api_key=KEY, timeout=5)
        try:
            yield model
        finally:
            await model.aclose()
            await asyncio.gather(*(talk for talk in talks if talk))


BODY = json.dumps(COMPLETION).encode()
PACKED = gzip.compress(BODY)
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIPPED = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(PACKED)
DAMAGED = {
    "another protocol": [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"],
    "a chunk without a size": [CHUNKED + b"zz\r\n" + BODY],
    "a chunk without a size, later": [CHUNKED, b"zz\r\n" + BODY],
    "a chunk longer than its size": [CHUNKED + b"3\r\n" + BODY + b"\r\n0\r\n\r\n"],
    "no last chunk": [CHUNKED + b"%x\r\n" % len(BODY) + BODY + b"\r\n"],
    "too long a length": [OK + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 9) + BODY],
    "too short a length": [OK + b"Content-Length: %d\r\n\r\n" % (len(BODY) - 9) + BODY],
    "too short a length, later": [OK + b"Content-Length: %d\r\n\r\n" % (len(BODY) - 9), BODY],
    "a length that is none": [OK + b"Content-Length: many\r\n\r\n" + BODY],
    "two lengths": [OK + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\n" + BODY],
    "a header without a name": [b"HTTP/1.1 200 OK\r\nno name\r\n\r\n" + BODY],
    "half a header": [OK[:30]],
    "nothing": [],
    "gzip that is none": [GZIPPED + BODY[: len(PACKED)]],
    "damaged gzip": [GZIPPED + PACKED[:20] + b"\xff" * 8 + PACKED[28:]],
    "half a gzip": [GZIPPED + PACKED[:60]],
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("parts", DAMAGED.values(), ids=DAMAGED)
async def test_a_damaged_answer_is_soon_noticed_and_may_be_asked_for_again(parts: list[bytes], stream: bool):
    async with writing(*parts) as model:
        begun = time.monotonic()
        with pytest.raises(ProviderError) as caught:
            await (collected(model, asking()) if stream else model.complete(asking()))
    assert caught.value.retryable
    assert re.search("damaged|broke off", str(caught.value))
    assert time.monotonic() - begun < 3
    assert KEY not in repr(caught.value.original)


async def test_an_answer_that_ends_with_the_connection():
    async with writing(OK + b"\r\n" + BODY) as model:
        assert await model.complete(asking()) == REPLY
    # Of a stream, all that is needed has come before the connection breaks.
    events_without_done = events("hé ", "你好 🎉", done=False)
    async with writing(
        CHUNKED.replace(b"application/json", b"text/event-stream"),
        b"%x\r\n" % len(events_without_done) + events_without_done + b"\r\n",
    ) as model:
        assert (await collected(model, asking()))[1] == REPLY


# Bounds


def packed(size: int, around: bytes = b"") -> bytes:
    """So many bytes of blanks, or of `around` repeated, in gzip."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = (around or b" ") * (2**20 // len(around or b" "))
    return b"".join(packer.compress(block) for _ in range(size // 2**20)) + packer.flush()


PING = b": ping\n\n"
ENDLESS = {
    "blanks": (packed(2**24), "gzip", "application/json"),
    "a list": (packed(2**24, b"[],"), "gzip", "application/json"),
    "not packed": (b" " * 2**22, "identity", "application/json"),
    "a line": (packed(2**24, b"data: x"), "gzip", "text/event-stream"),
    "an event": (packed(2**24, b"data: x\n"), "gzip", "text/event-stream"),
    "text": (
        packed(2**24, b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % (b"x" * 4000)),
        "gzip",
        "text/event-stream",
    ),
    "reasoning": (
        packed(2**24, b'data: {"choices": [{"delta": {"reasoning": "%s"}}]}\n\n' % (b"x" * 4000)),
        "gzip",
        "text/event-stream",
    ),
    "calls": (
        packed(2**24, b'data: {"choices": [{"delta": {"tool_calls": [{"function": {}}]}}]}\n\n'),
        "gzip",
        "text/event-stream",
    ),
}


def sending(body: bytes, encoding: str, content_type: str, status: int = 200) -> Handler:
    async def handle(_request: web.Request) -> web.StreamResponse:
        headers = {"Content-Encoding": encoding, "Content-Type": content_type}
        return web.Response(body=body, headers=headers, status=status)

    return handle


@pytest.mark.parametrize("what", ENDLESS)
async def test_no_reply_is_read_without_a_bound(what: str):
    body, encoding, content_type = ENDLESS[what]
    async with serving(sending(body, encoding, content_type)) as served:
        model = model_at(served, max_bytes=2**20)
        calls = [lambda: model.complete(asking()), lambda: collected(model, asking())]
        if content_type.endswith("json"):
            calls += [model.models, lambda: model.embed(["a"]), lambda: model.score("a", "b")]
        for call in calls:
            with pytest.raises(ProviderError, match=r"the answer is larger than 1 MiB .unpacked.") as caught:
                await call()
            assert not caught.value.retryable
        await model.aclose()


async def test_the_bound_is_what_it_says():
    text = "x" * 1000
    body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
    async with serving(sending(body, "identity", "application/json")) as served:
        assert (await model_at(served, max_bytes=len(body)).complete(asking())).text == text
        with pytest.raises(ProviderError, match="larger than"):
            await model_at(served, max_bytes=len(body) - 1).complete(asking())
    with pytest.raises(UsageError, match="max_bytes"):
        OpenAICompatible("http://host/v1", "m", max_bytes=0)


async def test_many_small_events_are_no_long_reply():
    """What is kept counts, and not what a server writes around it."""
    stream = events(*["é"] * 1000)
    assert len(stream) > 2**16
    async with serving(streaming([stream, PING * 20_000])) as served:
        assert (await collected(model_at(served, max_bytes=2**16), asking()))[1].text == "é" * 1000


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_an_error_is_read_as_far_as_it_says_something(encoding: str):
    body = b'{"error": {"message": "no memory"}, "more": "' + b"x" * 2**20 + b'"}'
    sent = gzip.compress(body) if encoding == "gzip" else body
    error = await failure_of(sending(sent, encoding, "application/json", 500))
    assert (error.status, error.retryable) == (500, True)
    assert "no memory" in str(error)
    assert len(str(error)) < 300


def test_a_reply_of_blanks_takes_little_memory(tmp_path: Path):
    """1.5 GB of blanks, in a process of its own whose peak is measured."""
    body = packed(64 * 2**20) * 24
    assert len(body) < 2_000_000
    file = tmp_path / "blanks"
    file.write_bytes(body)
    program = """
        import asyncio, re, sys
        from pathlib import Path
        from outspoken.chat import ChatRequest, as_messages
        from outspoken.models.openai_compatible import OpenAICompatible
        body = open(sys.argv[1], "rb").read()
        async def talk(reader, writer):
            await reader.readuntil(b"}")
            writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Type: application/json\\r\\nContent-Encoding: gzip\\r\\n")
            writer.write(b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
        async def main():
            server = await asyncio.start_server(talk, "127.0.0.1", 0)
            model = OpenAICompatible(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", "m")
            try:
                await model.complete(ChatRequest(as_messages("hi")))
            except Exception as error:
                print(error)
            await model.aclose()
        asyncio.run(main())
        # Not `ru_maxrss`, which begins with that of the parent.
        status = Path("/proc/self/status")
        print(int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) // 1024 if status.exists() else 0)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    error, peak = done.stdout.splitlines()
    assert "the answer is larger than 64 MiB" in error
    assert int(peak) < 200, peak


async def test_a_reply_cut_off():
    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
        request.transport.close()
        return web.Response()

    error = await failure_of(handle)
    assert error.retryable
    assert "broke off" in str(error)


def every_kind(root: type[BaseException]) -> set[type[BaseException]]:
    return {root}.union(*(every_kind(kind) for kind in root.__subclasses__()))


CLIENT_ERRORS = sorted(every_kind(aiohttp.ClientError), key=lambda kind: kind.__name__)


def constructed(kind: type[BaseException]) -> Any:
    """An exception of this kind as aiohttp would create it, with a key in its attributes."""
    refused = OSError(errno.ECONNREFUSED, "refused")
    for arguments in ((KEY, refused), ("path", KEY, refused), (KEY, b"", "host", 1), ("text",), ()):
        try:
            return kind(*arguments)
        except (TypeError, AttributeError):
            continue
    raise AssertionError(kind)


@pytest.mark.parametrize("kind", CLIENT_ERRORS)
def test_every_error_of_aiohttp_is_mapped(kind: type[aiohttp.ClientError]):
    error = error_for(constructed(kind), "http://host/v1")
    assert "http://host/v1" in str(error)
    assert KEY not in str(error)
    if issubclass(kind, (*REVEALING, aiohttp.ClientConnectorError)):
        assert KEY not in repr(error.original)


def test_the_table_of_failures_ends_with_everything():
    assert FAILURES[-1][0] == (aiohttp.ClientError, OSError)


def test_failures_that_asking_again_does_not_mend():
    certificate = aiohttp.ClientConnectorCertificateError(None, ssl.SSLCertVerificationError("self-signed"))
    mapped = error_for(certificate, "http://host/v1")
    assert not mapped.retryable
    assert "certificate (" in str(mapped)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_may_become_fewer(number: int):
    mapped = error_for(
        aiohttp.ClientConnectorError(None, OSError(number, "Too many open files")), "http://host/v1"
    )
    assert mapped.retryable
    assert "ulimit -n" in str(mapped)
    assert getattr(mapped.original, "errno", None) == number


# Invalid requests


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://host/v1",
        "http://",
        "http:///v1",
        "http://a:b/v1",
        "http://[::1/v1",
        "http://a b/",
    ],
)
def test_base_urls_that_cannot_be(url: str):
    with pytest.raises(UsageError, match="must look like"):
        OpenAICompatible(url, "m")


def test_a_base_url_holds_no_password():
    with pytest.raises(UsageError, match="environment") as caught:
        OpenAICompatible("https://user:hunter2@host/v1", "m")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-é", "sk-a\nb", "sk-a\x00"])
def test_keys_that_cannot_be_sent(key: str):
    with pytest.raises(UsageError, match="OUTSPOKEN_API_KEY") as caught:
        OpenAICompatible("http://host/v1", "m", api_key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize("headers", [{"X": "a\r\nB: c"}, {"X Y": "a"}, {"X:": "a"}, {"X": "é"}, {"": "a"}])
def test_headers_that_cannot_be_sent(headers: dict[str, str]):
    with pytest.raises(UsageError, match="header"):
        OpenAICompatible("http://host/v1", "m", headers=headers)


def test_a_timeout_must_be_positive():
    with pytest.raises(UsageError, match="timeout"):
        OpenAICompatible("http://host/v1", "m", timeout=0)


@pytest.mark.parametrize("tail", ["", "/", "/chat/completions"])
async def test_the_base_url_may_be_written_in_several_ways(tail: str):
    async with serving(answering()) as served:
        model = OpenAICompatible(served.base_url + tail + "?version=secret-version", "m")
        assert model.name == f"{served.base_url}#m"
        await model.complete(asking())
        await model.aclose()
    assert served.requests[0].path_qs == "/v1/chat/completions?version=secret-version"


def test_nothing_shows_the_key():
    model = OpenAICompatible("http://host/v1?key=query-secret", "m", api_key=KEY)
    for text in (repr(model), str(model), model.name, repr(model._errors)):
        assert KEY not in text
        assert "query-secret" not in text


# Embeddings


def embedding(data: Any) -> Handler:
    return answering({"object": "list", "data": data, "usage": {"prompt_tokens": 3}})


async def test_texts_are_embedded_in_batches_and_their_order():
    async def handle(request: web.Request) -> web.StreamResponse:
        texts = (await request.json())["input"]
        data = [{"index": at, "embedding": [len(text), 0.5]} for at, text in enumerate(texts)]
        return web.json_response({"data": data[::-1]})

    async with serving(handle) as served:
        model = model_at(served)
        texts = ["茶" * (1 + number) for number in range(300)]
        found = await model.embed(texts)
        assert (await model.embed([])).vectors == []
        await model.aclose()
    assert found.vectors == [[1 + number, 0.5] for number in range(300)]
    assert found.cut == ()
    assert [len(body["input"]) for body in served.bodies] == [128, 128, 44]
    assert served.bodies[2] == {"model": "m", "input": texts[256:], "encoding_format": "float"}
    assert {request.path for request in served.requests} == {"/v1/embeddings"}
    assert served.requests[0].headers["Authorization"] == f"Bearer {KEY}"


async def test_a_server_that_numbers_nothing():
    async with serving(embedding([{"embedding": [1]}, {"embedding": [2]}])) as served:
        assert (await model_at(served).embed(["a", "b"])).vectors == [[1], [2]]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"index": 0, "embedding": [1]}], "asked to embed 2 texts, the server sent 1 vectors"),
        ([{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}], "sent 1 vectors"),
        ([{"index": 1, "embedding": [1]}, {"index": 2, "embedding": [1]}], "sent 2 vectors"),
        ([{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}], "different lengths"),
        ([{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [None]}], "not a list of numbers"),
        ([{"index": 0, "embedding": [1]}, {"index": 1, "embedding": "AACAPw=="}], "not a list of numbers"),
        ([{"index": 0, "embedding": []}, {"index": 1, "embedding": []}], "not a list of numbers"),
        (None, "sent 0 vectors"),
    ],
)
async def test_invalid_embeddings(data: Any, message: str):
    async with serving(embedding(data)) as served:
        model = model_at(served)
        with pytest.raises(ProviderError, match=message):
            await model.embed(["a", "b"])
        await model.aclose()


@pytest.mark.parametrize(
    ("handler", "message", "retryable"),
    [
        (answering({"error": {"message": "slow down"}}, 429), "429: slow down", True),
        (answering({"error": {"message": "no such model"}}, 404), "outspoken doctor", False),
        (answering({"error": {"message": "odd"}}), "odd", True),
        (answering("<h1>Hello</h1>"), "does not look like an OpenAI-compatible API", True),
    ],
)
async def test_failures_of_embedding(handler: Handler, message: str, retryable: bool):
    async with serving(handler) as served:
        model = model_at(served)
        with pytest.raises(ProviderError, match=message) as caught:
            await model.embed(["a"])
        with pytest.raises(UsageError, match="text 1 is empty"):
            await model.embed(["a", " "])
        await model.aclose()
    assert caught.value.retryable == retryable
    assert len(served.bodies) == 1


# Which model


def models_offered(*names: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        listing = request.path == "/v1/models"
        return web.json_response({"data": [{"id": name} for name in names]} if listing else COMPLETION)

    return handle


async def test_the_only_model_of_a_server_needs_no_name():
    async with serving(models_offered("the-only-one")) as served:
        model = model_at(served, "")
        assert await model.complete(asking()) == REPLY
        await model.complete(asking())
        assert await model.models() == ["the-only-one"]
        assert model.name == served.base_url
        await model.aclose()
    assert [body["model"] for body in served.bodies if body] == ["the-only-one"] * 2
    assert [request.method for request in served.requests] == ["GET", "POST", "POST", "GET"]


@pytest.mark.parametrize(("names", "words"), [(("a", "b"), "2 models (a, b)"), ((), "names no model")])
async def test_the_model_must_be_named_if_there_are_several(names: tuple[str, ...], words: str):
    async with serving(models_offered(*names)) as served:
        model = model_at(served, "")
        with pytest.raises(UsageError) as caught:
            await model.complete(asking())
        await model.aclose()
    assert words in str(caught.value)
    assert f"{served.base_url}#NAME" in str(caught.value)


# Providers


async def test_a_url_is_sent_one_key_only(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-key")
    monkeypatch.delenv("OUTSPOKEN_API_KEY", raising=False)
    async with serving(answering()) as served:
        for _ in range(2):
            model = model_at_url(f"{served.base_url}#some/model")
            await model.complete(asking())
            await model.aclose()
            monkeypatch.setenv("OUTSPOKEN_API_KEY", f" {KEY}\n")
    assert model.name == f"{served.base_url}#some/model"
    assert [request.headers.get("Authorization") for request in served.requests] == [None, f"Bearer {KEY}"]


async def test_openai(monkeypatch: pytest.MonkeyPatch):
    async with serving(answering()) as served:
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        monkeypatch.setenv("OPENAI_BASE_URL", served.base_url)
        model = model_of_provider("openai", "gpt-4.1")
        assert await model.complete(asking(max_tokens=5)) == REPLY
        await model.aclose()
    assert model.name == "openai/gpt-4.1"
    assert served.bodies[0]["max_completion_tokens"] == 5


@pytest.mark.parametrize("provider", [row for row in PROVIDERS.values() if row.any_llm is None])
def test_every_row_gives_a_model(provider: Any, monkeypatch: pytest.MonkeyPatch):
    for variable in provider.key_variables:
        monkeypatch.delenv(variable, raising=False)
    if provider.key_variables:
        with pytest.raises(MissingKeyError, match=provider.key_variables[0]):
            model_of_provider(provider.name, "m")
        monkeypatch.setenv(provider.key_variables[0], KEY)
    assert model_of_provider(provider.name, "m").name == f"{provider.name}/m"


def test_an_unknown_provider():
    with pytest.raises(UnknownNameError, match="'openai'"):
        model_of_provider("opnai", "m")


# Proxies and loops


async def test_a_proxy_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.delenv("no_proxy", raising=False)
    async with serving(answering()) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.origin.replace("http://", "http://user:hunter2@"))
        monkeypatch.setenv("http_proxy", proxy.origin.replace("http://", "http://user:hunter2@"))
        model = OpenAICompatible("http://a.host.elsewhere/v1", "m")
        assert await model.complete(asking()) == REPLY
        await model.aclose()
    assert str(proxy.requests[0].url) == "http://a.host.elsewhere/v1/chat/completions"
    assert "Proxy-Authorization" in proxy.requests[0].headers
    model = OpenAICompatible("http://a.host.elsewhere/v1", "m")
    with pytest.raises(ProviderError, match="HTTP_PROXY") as caught:
        await model.complete(asking())
    await model.aclose()
    assert "hunter2" not in str(caught.value) + repr(caught.value.original)


async def test_one_model_in_several_loops():
    async with serving(answering()) as served:
        model = model_at(served)
        replies = [await model.complete(asking())]

        def elsewhere() -> None:
            for _ in range(2):
                replies.append(asyncio.run(model.complete(asking())))  # noqa: PERF401

        threads = [threading.Thread(target=elsewhere) for _ in range(3)]
        for thread in threads:
            thread.start()
        await asyncio.to_thread(lambda: [thread.join() for thread in threads])
        assert replies == [REPLY] * 7
        assert len(model._sessions._resources) == 1
        await model.aclose()


async def test_a_model_that_is_dropped_closes_its_connections():
    async with serving(answering()) as served:
        model = model_at(served)
        await model.complete(asking())
        session = await model._sessions.get()
        del model
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)
        assert session.closed


LEAVINGS = {
    "never closed": "asyncio.run(call())",
    "two loops": "asyncio.run(call()); asyncio.run(call())",
    "a loop closed in a hurry": """
        for _ in range(2):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(call())
            loop.close()
    """,
    "a background loop that still runs at the end": """
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(call(), loop).result()
    """,
}


@pytest.mark.parametrize("script", LEAVINGS.values(), ids=LEAVINGS)
async def test_a_program_ends_without_warnings(script: str):
    start = """
        import asyncio, sys, threading
        from outspoken.chat import ChatRequest, as_messages
        from outspoken.models.openai_compatible import OpenAICompatible
        model = OpenAICompatible(sys.argv[1], "m")
        def call(): return model.complete(ChatRequest(as_messages("hi")))
    """
    # asyncio itself warns about the sockets of a loop that was not shut down.
    warnings = "ignore" if "loop.close()" in script else "always"
    program = textwrap.dedent(start) + textwrap.dedent(script)
    async with serving(answering()) as served:
        command = [sys.executable, "-W", f"{warnings}::ResourceWarning", "-c", program, served.base_url]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    assert served.requests
