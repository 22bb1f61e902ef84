from __future__ import annotations

import base64
import contextlib
import itertools
import json
import time
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers import COMPLETION, events

from outspoken.chat import ChatRequest, Message, Sampling
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import OutspokenError, PromptTooLongError, ProviderError, UsageError
from outspoken.models.openai_errors import ErrorContext, masked, one_line, retry_after
from outspoken.models.openai_stream import EventReader, StreamedReply
from outspoken.models.openai_wire import (
    chat_body,
    decode,
    encode,
    model_names,
    optional_fields,
    read_reply,
)
from outspoken.reply_shape import ReplyShape

pytestmark = pytest.mark.core


PEER = ErrorContext("http://host/v1", "SOME_API_KEY", ("sk-very-secret",))
ASKED = (Message("system", "be brief"), Message("user", "咖啡 ☕ مرحبا"))
SCHEMA = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
KEYS = st.sampled_from(
    ["choices", "message", "content", "usage", "error", "code", "type", "delta", "text", "model", "finish_reason"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | KEYS, inner, max_size=5),
    max_leaves=15,
)


def test_a_body_contains_the_request_and_nothing_else():
    assert chat_body(ChatRequest(ASKED), "m") == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "咖啡 ☕ مرحبا"}],
    }


def test_every_setting_has_its_field():
    sampling = Sampling(0.0, 0.5, 10, 7, ("END",), {"min_p": 0.1})
    body = chat_body(ChatRequest(ASKED, sampling), "m", max_tokens_field="max_completion_tokens", stream=True)
    del body["messages"], body["model"]
    assert body == {
        "temperature": 0.0,
        "top_p": 0.5,
        "max_completion_tokens": 10,
        "seed": 7,
        "stop": ["END"],
        "stream": True,
        "min_p": 0.1,
    }


@pytest.mark.parametrize("name", ["model", "messages", "stream", "n", "temperature"])
def test_extra_settings_replace_nothing(name: str):
    sampling = Sampling(temperature=1, extra={name: 1})
    with pytest.raises(UsageError, match=name):
        chat_body(ChatRequest(ASKED, sampling), "m")


def test_only_a_schema_of_an_object_is_offered():
    offered = optional_fields(ChatRequest(ASKED, schema=SCHEMA))
    assert offered["response_format"]["json_schema"] == {"name": "responses", "strict": True, "schema": SCHEMA}
    assert optional_fields(ChatRequest(ASKED, schema={"type": "array"})) == {}
    assert optional_fields(ChatRequest(ASKED), stream=True) == {"stream_options": {"include_usage": True}}


def test_the_callers_own_format_comes_first():
    request = ChatRequest(ASKED, Sampling(extra={"response_format": {"type": "json_object"}}), SCHEMA)
    assert optional_fields(request) == {}
    assert chat_body(request, "m")["response_format"] == {"type": "json_object"}


def test_bodies_are_utf8():
    assert json.loads(encode({"a": "咖啡 ☕ مرحبا"})) == {"a": "咖啡 ☕ مرحبا"}
    assert "咖啡".encode() in encode({"a": "咖啡"})


@pytest.mark.parametrize("value", [float("nan"), "\ud83d", object(), {1, 2}])
def test_values_that_json_cannot_represent_are_usage_errors(value: object):
    with pytest.raises(UsageError, match="JSON"):
        encode({"a": value})


def test_damaged_characters_do_not_lose_the_rest():
    assert decode(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
    assert decode(b'{"a": "x\xffy"}') == {"a": "x\ufffdy"}
    assert decode(rb'{"a": "x\ud83dy"}') == {"a": "x\ufffdy"}


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"a": ', b"[" * 100_000, b"\xff\xfe", b"\x00"])
def test_invalid_json_is_a_value_error(body: bytes):
    with pytest.raises(ValueError):  # noqa: PT011
        decode(body)


def reply_to(message: object, **around: object) -> ChatReply:
    return read_reply({"choices": [{"message": message}], **around}, PEER)


def test_a_whole_reply():
    reply = read_reply(COMPLETION, PEER, structured=True)
    assert reply == ChatReply("hé 你好 🎉", "stop", Usage(12, 7, 5), "served-model", structured=True)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": None}, ChatReply("")),
        ({"content": "a", "reasoning_content": "b"}, ChatReply("a", reasoning="b")),
        ({"content": "a", "reasoning": "b"}, ChatReply("a", reasoning="b")),
        ({"content": None, "refusal": "no"}, ChatReply("", refusal="no")),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, ChatReply("ab")),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}]}, {"text": "a"}]},
            ChatReply("a", reasoning="h"),
        ),
        ({"content": 7, "refusal": [], "reasoning": {}}, ChatReply("")),
    ],
)
def test_messages_of_every_kind(message: dict[str, object], expected: ChatReply):
    assert reply_to(message) == expected


@pytest.mark.parametrize(
    ("stated", "tokens"),
    [(5, 5), (5.0, 5), ("9", 9), ("9.0", 9), (2.6, 3)]
    + [
        (odd, 0) for odd in (None, -3, -3.0, "-3", "many", "", True, 10**30, "1e400", 1e300, float("nan"), [4], {})
    ],
)
def test_usage_is_read_where_it_is_a_number_of_tokens(stated: object, tokens: int):
    usage = {"prompt_tokens": stated, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": stated}}
    assert reply_to({"content": "a"}, usage=usage).usage == Usage(tokens, 7, tokens)


@pytest.mark.parametrize("usage", [None, 3, [], "9", {}, {"prompt_tokens_details": None}])
def test_usage_that_is_missing_counts_as_zero(usage: object):
    assert reply_to({"content": "a"}, usage=usage).usage == Usage()


@pytest.mark.parametrize("payload", [{}, {"choices": []}, {"choices": [None]}, {"choices": [{}]}, [], None, 3])
def test_an_answer_without_a_choice_is_retryable(payload: object):
    with pytest.raises(ProviderError, match="contains no choice") as caught:
        read_reply(payload, PEER)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("payload", "words", "status"),
    [
        (
            {"object": "error", "message": "no memory", "type": "InternalServerError", "code": 500},
            "no memory",
            500,
        ),
        ({"object": "error", "message": "no memory", "code": "503"}, "no memory", 503),
        ({"error": "just text"}, "just text", None),
        ({"error": {"error": {"message": "deep", "type": "overloaded_error"}}}, "deep", 529),
        ({"error": {"error": "deep"}}, "deep", None),
        ({"type": "error", "error": {"type": "rate_limit_error", "message": "slow"}}, "slow", 429),
        ({"error": {"message": "behind", "metadata": {"raw": "the cause"}}}, "behind: the cause", None),
        ({"detail": "not now"}, "not now", None),
        ({"code": 1301, "msg": "sensible words"}, "sensible words", None),
        ({"choices": None, "error_msg": "quota"}, "quota", None),
        ({"base_resp": {"status_code": 1004, "status_msg": "login fail"}}, "login fail", None),
        ([{"error": {"message": "in a list"}}], "in a list", None),
        ({"object": "error"}, "object", None),
    ],
)
def test_an_error_in_the_body_of_a_success(payload: Any, words: str, status: int | None):
    """The provider's own words are kept, whole and in a stream."""

    def streamed() -> None:
        reply = StreamedReply(PEER)
        for event in read_in([b"data: " + json.dumps(payload).encode() + b"\n\n"]):
            reply.read(event)
        reply.reply()

    for read in (lambda: read_reply(payload, PEER), streamed):
        with pytest.raises(ProviderError, match=words) as caught:
            read()
        assert (caught.value.status, caught.value.retryable) == (status, True)


def test_an_error_inside_a_success():
    for payload in (
        {"error": {"message": "upstream", "code": 502}},
        {"choices": [{"error": {"message": "upstream", "code": 502}, "message": {"content": "half"}}]},
    ):
        with pytest.raises(ProviderError, match="upstream") as caught:
            read_reply(payload, PEER)
        assert (caught.value.status, caught.value.retryable) == (502, True)


@given(JSON)
def test_no_payload_raises_anything_but_our_error(payload: Any):
    for read in (
        lambda: read_reply(payload, PEER),
        lambda: StreamedReply(PEER).add(payload),
        lambda: PEER.http_error(400, {}, json.dumps(payload).encode()),
    ):
        with contextlib.suppress(OutspokenError):
            read()


@given(st.binary(), st.sampled_from([200, 400, 404, 500]))
def test_no_body_raises_anything_but_our_error(body: bytes, status: int):
    assert isinstance(PEER.http_error(status, {}, body), OutspokenError)
    assert isinstance(PEER.foreign(body), ProviderError)


# How a reply ended


@pytest.mark.parametrize(
    ("word", "finish", "cut_off"),
    [
        (None, "stop", False),
        ("stop", "stop", False),
        ("STOP", "stop", False),
        ("eos", "stop", False),
        ("end_turn", "stop", False),
        ("length", "length", True),
        ("MAX_TOKENS", "length", True),
        ("model_context_window_exceeded", "length", True),
        ("content_filter", "content_filter", True),
        ("SAFETY", "content_filter", True),
        ("sensitive", "content_filter", True),
        ("tool_use", "tool_calls", False),
        ("pause_turn", "pause_turn", True),
        ("Something New", "Something New", True),
    ],
)
def test_why_a_reply_ended(word: str | None, finish: str, cut_off: bool):
    choice = {"message": {"content": "Once upon a ti"}, "finish_reason": word}
    reply = read_reply({"choices": [choice]}, PEER)
    assert (reply.finish, reply.cut_off, reply.text) == (finish, cut_off, "Once upon a ti")
    streamed = StreamedReply(PEER)
    streamed.read(json.dumps({"choices": [{"delta": choice["message"], "finish_reason": word}]}).encode())
    streamed.read(b"[DONE]")
    assert streamed.reply() == reply


@pytest.mark.parametrize(
    "word", ["error", "network_error", "insufficient_system_resource", "abort", "ERROR", "overloaded", "timeout"]
)
def test_a_reply_that_the_provider_could_not_complete_is_no_reply(word: str):
    choice = {"message": {"content": "Once upon a ti"}, "finish_reason": word}
    streamed = StreamedReply(PEER)
    streamed.add({"choices": [{"delta": choice["message"], "finish_reason": word}]})
    for read in (lambda: read_reply({"choices": [choice]}, PEER), streamed.reply):
        with pytest.raises(
            ProviderError, match=f"could not complete the reply .finish_reason {word}.: try again"
        ) as e:
            read()
        assert e.value.retryable


# Where the answer stands

ANSWER = '{"responses": [{"text": "Maine", "probability": 0.6}, {"text": "Ohio", "probability": 0.4}]}'
CANDIDATES = ReplyShape("candidates", k=2)
OBJECT = ReplyShape("text", value_schema={"type": "object"})


def read_both(message: dict[str, object], shape: ReplyShape = ReplyShape(), finish: str = "stop") -> ChatReply:
    """The reply in a message, which is the same if the message is streamed in small pieces."""
    reply = read_reply({"choices": [{"message": message, "finish_reason": finish}]}, PEER, shape=shape)
    stream = StreamedReply(PEER)
    for name, value in message.items():
        if isinstance(value, str):
            for at in range(0, len(value), 7):
                stream.add({"choices": [{"delta": {name: value[at : at + 7]}}]})
        elif name == "tool_calls":
            for number, call in enumerate(value):  # type: ignore[arg-type]
                said = call["function"]["arguments"]
                stream.add({"choices": [{"delta": {name: [{"index": number, "function": {"name": "x"}}]}}]})
                for piece in (said[:9], said[9:]) if isinstance(said, str) else (said,):
                    stream.add(
                        {"choices": [{"delta": {name: [{"index": number, "function": {"arguments": piece}}]}}]}
                    )
        else:
            stream.add({"choices": [{"delta": {name: value}}]})
    stream.add({"choices": [{"delta": {}, "finish_reason": finish}]})
    assert stream.reply(shape=shape) == reply
    return reply


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
@pytest.mark.parametrize("thoughts", ["", "I think of states. "])
def test_an_answer_in_the_place_of_the_reasoning(field: str, thoughts: str):
    for content in (None, "", "\n"):
        reply = read_both({"content": content, field: thoughts + ANSWER}, CANDIDATES)
        assert (reply.text, reply.found_in, reply.reasoning) == (thoughts + ANSWER, "reasoning", "")
        assert reply.absence == ""
    assert read_both({"content": None, field: ANSWER[:50]}, CANDIDATES, finish="length").text == ANSWER[:50]


@pytest.mark.parametrize(
    ("reasoning", "shape"),
    [
        (ANSWER, ReplyShape()),
        ("I think of Maine, and of Ohio.", CANDIDATES),
        (ANSWER + " But is that right? I should think again, and then", CANDIDATES),
        ("1. Maine\n2. Ohio", CANDIDATES),
        ("A story. {", OBJECT),
    ],
)
def test_reasoning_that_is_no_answer(reasoning: str, shape: ReplyShape):
    reply = read_both({"content": None, "reasoning_content": reasoning}, shape)
    assert (reply.text, reply.found_in, reply.reasoning) == ("", "", reasoning)
    assert "reasoning parser" in reply.absence
    assert "max_tokens" not in reply.absence


def test_reasoning_beside_a_text_is_reasoning():
    reply = read_both({"content": "no", "reasoning_content": ANSWER}, CANDIDATES)
    assert (reply.text, reply.reasoning, reply.found_in) == ("no", ANSWER, "")


def test_a_value_in_the_place_of_the_reasoning():
    assert read_both({"content": None, "reasoning": '{"name": "x"}'}, OBJECT).text == '{"name": "x"}'


@pytest.mark.parametrize("shape", [ReplyShape(), CANDIDATES])
@pytest.mark.parametrize("arguments", [ANSWER, json.loads(ANSWER)])
def test_an_answer_in_a_call_of_a_tool(arguments: object, shape: ReplyShape):
    call = {"id": "1", "type": "function", "function": {"name": "json", "arguments": arguments}}
    for content in (None, "", " "):
        reply = read_both({"content": content, "tool_calls": [call]}, shape)
        assert (reply.text, reply.found_in, reply.finish) == (ANSWER, "tool_calls", "tool_calls")
    reply = read_both({"content": "Here you are!", "tool_calls": [call]}, shape)
    assert reply.text == ("Here you are!" if shape.kind == "text" else ANSWER)
    assert read_both({"content": None, "tool_calls": [call]}, shape, finish="length").finish == "length"


def test_several_calls_of_a_tool_and_an_old_one():
    calls = [{"function": {"name": "add", "arguments": f'{{"text": "{n}"}}'}} for n in range(3)]
    assert read_both({"content": None, "tool_calls": calls}).text == '{"text": "0"}\n{"text": "1"}\n{"text": "2"}'
    assert reply_to({"content": None, "function_call": {"name": "add", "arguments": "{}"}}).text == "{}"


@pytest.mark.parametrize(
    ("message", "finish", "words"),
    [
        ({"content": ""}, "content_filter", "the provider's content filter stopped the answer"),
        ({"content": None, "reasoning": "hm"}, "content_filter", "content filter"),
        ({"content": None, "reasoning": "hm"}, "length", "cut off inside its reasoning: raise max_tokens"),
        ({"content": ""}, "length", "before its first word: raise max_tokens"),
        ({"content": " \n"}, "stop", "the reply is empty: ask again"),
        ({"content": None, "tool_calls": []}, "tool_calls", "called a tool and gave no answer"),
        ({"content": None}, "pause_turn", "it ended with 'pause_turn'"),
    ],
)
def test_why_there_is_no_answer(message: dict[str, object], finish: str, words: str):
    reason = read_both(message, finish=finish).absence
    assert words in reason
    assert ("max_tokens" in reason) == (finish == "length")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": {"value": "a", "annotations": []}}], ChatReply("a")),
        ([{"type": "output_text", "text": "a"}, "b"], ChatReply("ab")),
        ([{"type": "reasoning", "text": "h"}, {"type": "text", "text": "a"}], ChatReply("a", reasoning="h")),
        ([{"type": "thinking", "thinking": "h"}, {"type": "text", "text": "a"}], ChatReply("a", reasoning="h")),
        ([{"type": "refusal", "refusal": "no"}], ChatReply("", refusal="no")),
        ({"type": "text", "text": "a"}, ChatReply("a")),
        ({"responses": ["é"]}, ChatReply('{"responses": ["é"]}')),
        ([[]], ChatReply("")),
    ],
)
def test_content_in_parts(content: object, expected: ChatReply):
    assert reply_to({"content": content}) == expected
    stream = StreamedReply(PEER)
    assert stream.add({"choices": [{"delta": {"content": content}, "finish_reason": "stop"}]}) == expected.text
    assert stream.reply() == expected


def test_names_of_models():
    assert model_names({"data": [{"id": "a"}, {"id": "b"}, {}, None]}) == ["a", "b"]
    assert model_names([{"id": "a"}]) == ["a"]
    with pytest.raises(ValueError, match="no list"):
        model_names({"models": 3})


# The event stream

STREAMS = {
    "plain": (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    "returns and newlines": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "returns alone": (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    "several lines": (b"data: a\ndata:b\ndata\n\n", [b"a\nb\n"]),
    "comments and other fields": (b": ping\n\nevent: x\nid: 1\nretry: 5\ndata: a\n:\n\n", [b"a"]),
    "a mark at the start": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "no last line": (b"data: a\n\ndata: b", [b"a", b"b"]),
    "no event": (b"\n\n: nothing\n\nevent: x\n\n", []),
    "Unicode": ("data: 你好\u2028🎉\x85 مرحبا\n\n".encode(), ["你好\u2028🎉\x85 مرحبا".encode()]),
    "two spaces": (b"data:  a\n\n", [b" a"]),
}


def read_in(pieces: list[bytes]) -> list[bytes]:
    reader = EventReader()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.close()


@pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS)
def test_events_whole_and_byte_by_byte(stream: bytes, expected: list[bytes]):
    assert read_in([stream]) == expected
    assert read_in([stream[at : at + 1] for at in range(len(stream))]) == expected
    assert read_in([b"", *(stream[at : at + 3] for at in range(0, len(stream), 3)), b""]) == expected


@given(st.sampled_from(list(STREAMS.values())), st.lists(st.integers(0, 60), max_size=8))
def test_events_cut_anywhere(case: tuple[bytes, list[bytes]], cuts: list[int]):
    stream, expected = case
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    assert read_in([stream[a:b] for a, b in itertools.pairwise(edges)]) == expected


def test_a_long_line_in_single_bytes_is_joined_once():
    stream = b"data: " + b"x" * 300_000 + b"\n\n"
    assert read_in([stream[at : at + 1] for at in range(len(stream))]) == [b"x" * 300_000]


def test_an_event_that_is_an_error():
    named = b'event: error\ndata: {"message": "out of memory", "code": 503}\n\n'
    assert read_in([named]) == [b'{"error":{"message": "out of memory", "code": 503}}']
    assert read_in([b"event: error\ndata: out of memory\n\ndata: a\n\n"]) == [b'{"error":"out of memory"}', b"a"]
    assert read_in([b"event: ping\ndata: a\n\nevent: error\n\ndata: b\n\n"]) == [b"a", b"b"]


@pytest.mark.parametrize("number", [1, 2])
def test_characters_whose_halves_come_in_two_chunks(number: int):
    """One pair, then two, each cut in the middle, with other text around them."""
    said = "snow \\ud83c|\\udfd4" * number + " top"
    reply = StreamedReply(PEER)
    pieces = [
        reply.read(b'{"choices": [{"delta": {"content": "%s"}}]}' % part.encode()) for part in said.split("|")
    ]
    reply.read(b"[DONE]")
    assert "".join(pieces) == reply.reply().text == "snow 🏔" * number + " top"
    assert all(piece.encode() for piece in pieces)


def test_half_a_character_alone_becomes_a_mark():
    reply = StreamedReply(PEER)
    pieces = [
        reply.read(b'{"choices": [{"delta": {"content": "%s", "reasoning": "\\udfd4"}}]}' % part)
        for part in (rb"a\ud83c", b"b", rb"\udfd4c", rb"d\ud83c")
    ]
    reply.read(b"[DONE]")
    whole = reply.reply()
    assert (whole.text, whole.reasoning) == ("a\ufffdb\ufffdcd\ufffd", "\ufffd" * 4)
    assert whole.text.startswith("".join(pieces))


def test_halves_of_characters_of_a_whole_reply():
    assert decode(b'{"a": "\xed\xa0\xbc\xed\xbf\x94"}') == {"a": "🏔"}
    assert decode(rb'{"a": "\ud83c\udfd4 \ud83c"}') == {"a": "🏔 \ufffd"}


def test_a_stream_of_messages():
    def streamed(*choices: dict[str, object]) -> str:
        reply = StreamedReply(PEER)
        pieces = [reply.add({"choices": [choice]}) for choice in choices]
        assert "".join(pieces) == reply.reply().text
        return reply.reply().text

    def message(text: str) -> dict[str, object]:
        return {"message": {"role": "assistant", "content": text}}

    end = {"finish_reason": "stop"}
    assert streamed(message("ha"), message("ha"), {**message(""), **end}) == "haha"
    assert streamed({**message("whole"), **end}) == "whole"
    assert (
        streamed({"delta": {"content": "who"}}, {"delta": {"content": "le"}}, {**message("whole"), **end})
        == "whole"
    )
    assert streamed({"delta": {"content": "who"}}, {"delta": {}, **message("whole"), **end}) == "whole"
    assert streamed({"delta": {"content": "whole"}, **message("other"), **end}) == "whole"
    assert streamed({"text": "who"}, {"text": "le", **end}) == "whole"


def test_a_streamed_reply():
    reply = StreamedReply(PEER)
    pieces = [reply.read(event) for event in read_in([events("你", "好", "🎉")])]
    assert [piece for piece in pieces if piece] == ["你", "好", "🎉"]
    assert reply.done
    assert reply.reply() == ChatReply("你好🎉", "stop", Usage(12, 7, 5), "served-model")


def test_reasoning_and_refusal_stream_apart_from_the_text():
    reply = StreamedReply(PEER)
    for delta in ({"reasoning_content": "hm"}, {"reasoning": "m"}, {"refusal": "no"}, {"content": "a"}, None):
        reply.add({"choices": [{"delta": delta}]})
    reply.add({"choices": [{"delta": {}, "finish_reason": "content_filter"}]})
    assert reply.reply() == ChatReply("a", "content_filter", reasoning="hmm", refusal="no")


@pytest.mark.parametrize("stream", [events("a", finish=None, done=False), b'data: {"choices": [{"del'])
def test_a_stream_that_stops_early_is_retryable(stream: bytes):
    reply = StreamedReply(PEER)
    with pytest.raises(ProviderError, match="broke off") as caught:
        [reply.read(event) for event in read_in([stream])] and reply.reply()
    assert caught.value.retryable


def test_errors_in_a_stream():
    with pytest.raises(ProviderError, match="overloaded"):
        StreamedReply(PEER).read(b'{"error": {"message": "overloaded"}}')
    with pytest.raises(PromptTooLongError):
        StreamedReply(PEER).read(b'{"error": {"message": "m", "type": "exceed_context_size_error", "code": 400}}')


# Messages of errors


@pytest.mark.parametrize(
    ("status", "body", "retryable", "words"),
    [
        (400, {"error": {"message": "bad field"}}, False, ["400", "bad field"]),
        (400, {"error": "just text"}, False, ["just text"]),
        (400, [{"error": {"message": "in a list"}}], False, ["in a list"]),
        (422, {"detail": [{"msg": "field required"}]}, False, ["field required"]),
        (400, {"object": "error", "message": "older", "type": "X"}, False, ["older"]),
        (401, {"error": {"message": "bad key sk-a*****f9"}}, False, ["SOME_API_KEY", "bad key ***"]),
        (403, {}, False, ["SOME_API_KEY"]),
        (404, {"error": {"message": "no such model"}}, False, ["no such model", "outspoken doctor"]),
        (408, {}, True, []),
        (409, {}, True, []),
        (425, {}, True, []),
        (429, {"error": {"message": "slow down"}}, True, ["slow down"]),
        (429, {"error": {"message": "m", "code": "insufficient_quota"}}, False, ["no quota left"]),
        (429, {"error": {"message": "m", "type": "insufficient_quota"}}, False, ["no quota left"]),
        (400, {"error": {"message": "m", "code": "content_filter"}}, False, ["content filter refused the prompt"]),
        (400, {"error": {"message": "m", "code": "json_validate_failed"}}, True, ["400: m"]),
        (500, {}, True, []),
        (501, {}, False, []),
        (524, {}, True, []),
        (502, "<html><title>Bad</title><script>x()</script> gateway &amp; co", True, ["502", "Bad gateway & co"]),
        (503, "", True, ["503"]),
        (504, None, True, []),
        (529, {}, True, []),
        (418, 3, False, ["418"]),
    ],
)
def test_http_errors(status: int, body: object, retryable: bool, words: list[str]):
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    error = PEER.http_error(status, {"Retry-After": "2"}, raw)
    assert isinstance(error, ProviderError)
    assert (error.status, error.retryable) == (status, retryable)
    assert error.retry_after == 2
    for word in ["http://host/v1", *words]:
        assert word in str(error)


@pytest.mark.parametrize("field", [{"code": "context_length_exceeded"}, {"type": "exceed_context_size_error"}])
def test_too_long_a_prompt_is_known_by_its_code(field: dict[str, str]):
    error = PEER.http_error(400, {}, json.dumps({"error": {"message": "16k", **field}}).encode())
    assert isinstance(error, PromptTooLongError)
    assert "shorten" in str(error)


def test_too_long_a_prompt_is_not_guessed_from_prose():
    body = b'{"error": {"message": "maximum context length is 10 tokens"}}'
    assert isinstance(PEER.http_error(400, {}, body), ProviderError)


def test_a_redirect_says_where_to():
    error = PEER.http_error(308, {"Location": "https://host/v1/chat?token=1"}, b"")
    assert "redirects to https://host/v1/chat (308), which is not followed: correct the base URL" in str(error)
    assert "token" not in str(error)


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("/v1/chat/completions/?key=a#b", "redirects to /v1/chat/completions/ ("),
        ("https://user:hunter2@host/login?token=1", "redirects to https://host/login ("),
        ("//other/v1", "redirects to //other/v1 ("),
        ("https://host/sk-very-secret", "redirects to *** ("),
        ("http://[", "redirects to an invalid address ("),
        ("", "redirects to nowhere ("),
    ],
)
def test_a_redirect_names_no_secret(location: str, place: str):
    error = PEER.http_error(307, {"Location": location}, b"")
    assert isinstance(error, ProviderError)
    assert place in str(error)
    assert not error.retryable
    for secret in ("hunter2", "key", "token", "very-secret"):
        assert secret not in str(error)


def test_a_web_page_is_no_api():
    for error in (
        PEER.foreign(b"<h1>Hello</h1>\n<p>world sk-very-secret"),
        PEER.http_error(404, {}, b"<h1>Hello"),
    ):
        assert "does not look like an OpenAI-compatible API" in str(error)
        assert "Hello" in str(error)
        assert "<" not in str(error)
        assert "secret" not in str(error)


def test_a_line_is_one_short_printable_line_without_secrets():
    said = "a\n\n\x1b[31mb sk-very-secret " + "x" * 1000
    line = one_line(said, PEER.secrets)
    assert line.startswith("a [31mb *** xxx")
    assert len(line) == 300
    assert one_line("x" * 295 + " sk-very-secret", PEER.secrets) == "x" * 295 + " ***"


SECRET = "sk-Very/Secret+Key_0123456789"


def forms_of(secret: str) -> dict[str, str]:
    """Ways in which a server repeats a key."""
    plain = secret.encode()
    basic = [base64.b64encode(before + plain + b":x").decode() for before in (b"", b"u:", b"user:", b"Bearer ")]
    return {
        "plain": secret,
        "lower": secret.lower(),
        "upper": secret.upper(),
        "percent": quote(secret, safe=""),
        "percent, lower": quote(secret, safe="").lower(),
        "all percent": "".join(f"%{byte:02X}" for byte in plain),
        "JSON": json.dumps(secret).replace("/", "\\/").strip('"').replace("\\/", "\\u002F"),
        "HTML": secret.replace("/", "&#47;").replace("+", "&#x2b;"),
        "hex": plain.hex(),
        "URL-safe Base64": base64.urlsafe_b64encode(plain).decode(),
        "percent Base64": quote(base64.b64encode(plain).decode(), safe=""),
        **{f"Base64 {number}": text for number, text in enumerate(basic)},
    }


@pytest.mark.parametrize(("way", "text"), forms_of(SECRET).items())
def test_a_key_is_masked_in_whatever_form_it_comes_back(way: str, text: str):
    peer = ErrorContext("http://host/v1", "SOME_API_KEY", (SECRET,))
    said = f"the key {text} is wrong"
    for error in (
        peer.http_error(401, {}, json.dumps({"error": {"message": said}}).encode()),
        peer.http_error(401, {}, said.encode()),
        peer.foreign(f"<h1>{said}</h1>".encode()),
        peer.http_error(307, {"Location": f"https://host/{text}"}, b""),
    ):
        line = str(error)
        # What is left of it are at most the signs at the edges that hold bits of its neighbours in Base64.
        assert len(set(chunks(text, 8)) & set(chunks(line, 8))) == 0, (way, line)
    assert masked("nothing to hide", (SECRET,)) == "nothing to hide"


def chunks(text: str, size: int) -> list[str]:
    return [text[at : at + size] for at in range(len(text) - size + 1)]


def test_masking_a_long_text_takes_linear_time():
    secrets = (SECRET, "another-secret-value-of-a-header")
    begun = time.perf_counter()
    masked("sk-Very%2F" * 25_000, secrets)
    assert time.perf_counter() - begun < 1


def test_a_key_cut_off_with_a_long_body_is_not_shown():
    for before in range(2**18 - 40, 2**18 + 2):
        body = b"<b>" * ((before - 30) // 3) + b" " * 30 + b"sk-very-secret and more" * 200
        assert "sk-v" not in str(PEER.foreign(body))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "1.5"}, 1.5),
        ({"Retry-After": "-3"}, 0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "1000000000"}, 1e9),
        ({"Retry-After": "1" + "0" * 300}, 1e10),
        ({"retry-after-ms": "250", "Retry-After": "9"}, 0.25),
        ({"Retry-After": formatdate(0, usegmt=True)}, 0),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None):
    assert retry_after(headers) == seconds


def test_how_long_to_wait_until_a_date():
    wait = retry_after({"Retry-After": formatdate(time.time() + 100, usegmt=True)})
    assert wait is not None
    assert 90 < wait <= 100
