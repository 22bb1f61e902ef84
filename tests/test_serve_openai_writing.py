"""Completions, chunks and errors, validated by the openai package's own models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken.candidate import Candidate
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import (
    LedgerError,
    MissingKeyError,
    OutspokenError,
    PromptTooLongError,
    ProviderError,
    ReplyError,
    StoppedError,
    UsageError,
)
from outspoken.serve.openai.chat_request import ChatCall, read_chat
from outspoken.serve.openai.chat_response import (
    ChatResponse,
    Chunks,
    completion,
    declined,
    error_event,
    new_id,
)
from outspoken.serve.openai.errors import RequestError, error_body, error_headers
from outspoken.serve.pool.values import Draw, ExhaustedError

HELLO: dict[str, Any] = {"model": "m:vs", "messages": [{"role": "user", "content": "一個笑話 ☕"}]}
USAGE = Usage(12, 7, 5)


def read(**fields: Any) -> ChatCall:
    return read_chat({**HELLO, **fields})


def draw(text: str, *, probability: float = 0.25, number: int = 3, repairs: tuple[str, ...] = ()) -> Draw:
    return Draw(Candidate(text, probability, repairs=repairs), "dist-1", number, 0)


def chunks(call: ChatCall, draws: Iterable[Draw | ChatResponse], usage: Usage = Usage()) -> bytes:
    writer = Chunks(call, id="i", created=5)
    return b"".join([*(writer.choice(at, one) for at, one in enumerate(draws)), writer.close(usage)])


def test_a_completion_is_valid_for_the_openai_package() -> None:
    types = pytest.importorskip("openai.types.chat")
    drawn = [draw("一 ☕"), draw("cut", repairs=("truncated",)), ChatResponse("", refusal="I will not")]
    body = completion(read(n=3), drawn, id=new_id(), created=1_700_000_000, usage=USAGE)
    read_back = types.ChatCompletion.model_validate_json(json.dumps(body), strict=True)
    assert [choice.message.content for choice in read_back.choices] == ["一 ☕", "cut", None]
    assert [choice.finish_reason for choice in read_back.choices] == ["stop", "length", "stop"]
    assert read_back.choices[2].message.refusal == "I will not"
    assert read_back.choices[0].outspoken == {"probability": 0.25, "distribution": "dist-1", "draw": 3}
    assert not hasattr(read_back.choices[2], "outspoken")
    assert (read_back.model, read_back.usage.total_tokens) == ("m:vs", 19)
    assert read_back.usage.prompt_tokens_details.cached_tokens == 5
    assert read_back.id.startswith("chatcmpl-")


def payloads(stream: bytes) -> list[Any]:
    events = stream.decode().split("\n\n")
    assert events.pop() == ""
    assert events.pop() == "data: [DONE]"
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events]


@given(
    st.lists(st.text(max_size=30) | st.text(min_size=990, max_size=3000), min_size=1, max_size=3), st.booleans()
)
def test_chunks_contain_the_completion(texts: list[str], include_usage: bool) -> None:
    types = pytest.importorskip("openai.types.chat")
    call = read(stream=True, stream_options={"include_usage": include_usage})
    whole = completion(call, map(draw, texts), id="i", created=5, usage=USAGE)
    parts = payloads(chunks(call, map(draw, texts), USAGE))
    for part in parts:
        types.ChatCompletionChunk.model_validate_json(json.dumps(part), strict=True)
    if include_usage:
        last = parts.pop()
        assert (last["choices"], last["usage"]) == ([], whole["usage"])
    assert all(("usage" in part) == include_usage and not part.get("usage") for part in parts)
    for choice in whole["choices"]:
        own = [c for part in parts for c in part["choices"] if c["index"] == choice["index"]]
        assert "".join(c["delta"].get("content", "") for c in own) == choice["message"]["content"]
        assert own[0]["delta"]["role"] == "assistant"
        assert [c.get("outspoken") for c in own] == [choice["outspoken"], *[None] * (len(own) - 1)]
        assert [c["finish_reason"] for c in own] == [*[None] * (len(own) - 1), "stop"]


def test_a_stream_can_be_gathered_by_the_openai_package() -> None:
    streaming = pytest.importorskip("openai.lib.streaming.chat")
    types = pytest.importorskip("openai.types.chat")
    call = read(stream=True, stream_options={"include_usage": True})
    state = streaming.ChatCompletionStreamState()
    long = "長い話 🎉 " * 400
    for part in payloads(chunks(call, [draw(long), draw("b")], USAGE)):
        state.handle_chunk(types.ChatCompletionChunk.model_validate(part))
    gathered = state.get_final_completion()
    assert [choice.message.content for choice in gathered.choices] == [long, "b"]
    assert gathered.choices[0].outspoken == {"probability": 0.25, "distribution": "dist-1", "draw": 3}


def test_a_choice_ends_before_the_first_stop() -> None:
    call = read(stop=["END", "。"])
    texts = ["eins END zwei", "一。二 END", "none", "END"]
    body = completion(call, map(draw, texts), id="i", created=0)
    assert [choice["message"]["content"] for choice in body["choices"]] == ["eins ", "一", "none", ""]
    assert {choice["finish_reason"] for choice in body["choices"]} == {"stop"}


def test_half_a_surrogate_pair_does_not_break_a_response() -> None:
    call = read()
    json.dumps(completion(call, [draw("a\ud83d")], id="i", created=0), ensure_ascii=False).encode()
    assert "a?" in chunks(call, [draw("a\ud83d"), ChatResponse("", refusal="b\ud83d")]).decode()


def test_a_refusal_is_returned_as_a_refusal() -> None:
    reply = ChatReply("", refusal="I cannot help with that.")
    answer = declined(ReplyError("the model refused: …", reply=reply))
    assert answer == ChatResponse("", "stop", "I cannot help with that.", declined=True)
    parts = payloads(chunks(read(stream=True), [answer]))
    assert [part["choices"][0]["delta"].get("refusal") for part in parts] == [
        None,
        "I cannot help with that.",
        None,
    ]
    assert parts[0]["choices"][0]["outspoken"] == {"verbalized": False}
    filtered = declined(ReplyError("filtered", reply=ChatReply("half", finish="content_filter")))
    assert filtered == ChatResponse("half", "content_filter", declined=True)
    assert ChatResponse.from_reply(ChatReply("hé", finish="length")) == ChatResponse("hé", "length")
    assert ChatResponse.from_reply(ChatReply("hé", finish="tool_calls")) == ChatResponse("hé", "stop")
    assert ChatResponse.from_reply(ChatReply("hé", finish="pause_turn")) == ChatResponse("hé", "length")


@pytest.mark.parametrize(
    ("reply", "plain"),
    [
        (ChatReply("I'm sorry, but I can't help with that."), True),
        (ChatReply("很抱歉，我無法協助。\n\n還有別的嗎？"), True),
        (ChatReply("Once upon a time", finish="length"), False),
        (ChatReply('{"responses": [{"text": "half'), False),
        (ChatReply("1. Ohio\n2. Utah"), False),
        (ChatReply("Sure:\n- Ohio"), False),
        (ChatReply("<response>Ohio"), False),
        (ChatReply("  "), False),
        (None, False),
    ],
)
def test_prose_is_returned_and_damaged_candidates_are_not(reply: ChatReply | None, plain: bool) -> None:
    answer = declined(ReplyError("unreadable", reply=reply))
    assert (answer is not None) == plain
    if reply is not None and answer is not None:
        assert answer.text == reply.text


# Errors.


@dataclass
class Case:
    error: Exception
    status: int
    kind: str
    code: str | None = None


CASES = [
    Case(UsageError("asked wrongly"), 400, "invalid_request_error"),
    Case(RequestError("no", status=401, code="invalid_api_key"), 401, "authentication_error", "invalid_api_key"),
    Case(RequestError("no", status=403), 403, "permission_error"),
    Case(RequestError("no", status=404, code="model_not_found"), 404, "invalid_request_error", "model_not_found"),
    Case(RequestError("large", status=413), 413, "invalid_request_error"),
    Case(RequestError("often", status=429), 429, "rate_limit_error"),
    Case(ExhaustedError("nothing new"), 422, "invalid_request_error", "pool_exhausted"),
    Case(PromptTooLongError("long"), 400, "invalid_request_error", "context_length_exceeded"),
    Case(MissingKeyError("openai", "OPENAI_API_KEY"), 500, "server_error", "server_misconfigured"),
    Case(ReplyError("unreadable"), 502, "server_error", "unreadable_reply"),
    Case(StoppedError("stopping"), 503, "server_error", "stopping"),
    Case(LedgerError("/var/lib/l.sqlite is damaged"), 500, "server_error", "internal_error"),
    Case(RuntimeError("/var/lib/secret"), 500, "server_error", "internal_error"),
    Case(ProviderError("bad", status=400), 400, "invalid_request_error"),
    Case(ProviderError("key", status=401), 502, "server_error", "upstream_authentication"),
    Case(ProviderError("key", status=403), 502, "server_error", "upstream_authentication"),
    Case(ProviderError("who?", status=404), 404, "invalid_request_error", "model_not_found"),
    Case(ProviderError("slow", status=408), 504, "server_error", "upstream_timeout"),
    Case(ProviderError("wait", status=429), 429, "rate_limit_error", "rate_limit_exceeded"),
    Case(ProviderError("oops", status=500), 502, "server_error", "upstream_error"),
    Case(ProviderError("busy", status=503), 503, "server_error", "upstream_overloaded"),
    Case(ProviderError("busy", status=529), 503, "server_error", "upstream_overloaded"),
    Case(ProviderError("slow", status=504), 504, "server_error", "upstream_timeout"),
    Case(ProviderError("slow", original=TimeoutError()), 504, "server_error", "upstream_timeout"),
    Case(ProviderError("down", original=ConnectionError()), 502, "server_error", "upstream_error"),
    Case(ProviderError("redirects", status=302), 502, "server_error", "upstream_error"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{type(case.error).__name__}-{case.status}")
def test_every_error_has_its_status(case: Case) -> None:
    status, body = error_body(case.error)
    error = body["error"]
    assert (status, error["type"], error["code"]) == (case.status, case.kind, case.code)
    assert error["message"]
    said = error_event(case.error)
    assert said == b"data: " + json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


def test_every_error_of_the_package_has_a_case() -> None:
    covered = {type(case.error) for case in CASES}
    assert {
        kind for kind in OutspokenError.__subclasses__() if kind.__module__ == "outspoken.errors"
    } - covered <= {
        kind
        for kind in OutspokenError.__subclasses__()
        if error_body(kind("x"))[1]["error"]["code"] == "internal_error"
    }


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("secret-4711"),
        LedgerError("secret-4711"),
        MissingKeyError("secret-4711", "SECRET"),
        ProviderError("http://secret-4711:8000/v1 answered 500: oops", status=500),
        ProviderError("nothing answers at https://secret-4711/v1: is the server running?"),
        ProviderError("no way: https://h/v1?key=secret-4711 (check it)", status=400),
        ProviderError("http://h/v1 answered 401: wrong key secret-4711", status=401),
        UsageError("http://secret-4711/v1 offers 3 models: say which one, as in http://secret-4711/v1#NAME"),
    ],
)
def test_no_secret_is_sent(error: Exception) -> None:
    assert "secret-4711" not in json.dumps([error_body(error), error_headers(error)])


def test_messages_are_one_bounded_line() -> None:
    for _, body in (error_body(UsageError("a\r\nb\x00" + "長" * 9000)), error_body(UsageError("x" * 10**6))):
        message = body["error"]["message"]
        assert len(message) <= 500
        assert message.isprintable()


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (RequestError("x", status=429, retry_after=0.2), {"Retry-After": "1"}),
        (ProviderError("x", status=429, retry_after=30.0), {"Retry-After": "30"}),
        (ProviderError("x", status=503, retry_after=float("inf")), {}),
        (RequestError("x", status=401), {"WWW-Authenticate": "Bearer"}),
        (UsageError("x"), {}),
        (RuntimeError("x"), {}),
    ],
)
def test_headers_that_belong_to_an_error(error: Exception, headers: Mapping[str, str]) -> None:
    assert error_headers(error) == headers
