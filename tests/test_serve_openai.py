"""Requests for chat completions, read without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outspoken import templates
from outspoken.methods.table import METHODS, Method
from outspoken.serve.openai.chat_request import ChatCall, may_verbalize, read_chat, verbalizes
from outspoken.serve.openai.errors import RequestError, error_body
from outspoken.serve.openai.fields import read_json
from outspoken.serve.pool.values import pool_key
from outspoken.settings import Settings

HELLO: dict[str, Any] = {"model": "m:vs", "messages": [{"role": "user", "content": "一個笑話 ☕"}]}


def read(**fields: Any) -> ChatCall:
    return read_chat({**HELLO, **fields})


def rejected(**fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(**fields)
    status, body = error_body(caught.value)
    assert status == caught.value.status
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return caught.value


def test_a_plain_request() -> None:
    call = read_chat(json.dumps(HELLO, ensure_ascii=False).encode())
    assert (call.requested_model, call.model, call.verbalized) == ("m:vs", "m", True)
    assert [message.content for message in call.messages] == ["一個笑話 ☕"]
    assert call.settings == Settings()
    assert (call.n, call.seed, call.stop, call.stream, call.fresh, call.structured) == (
        1,
        None,
        (),
        False,
        False,
        None,
    )


@pytest.mark.parametrize(
    ("name", "model", "method"),
    [
        ("m:vs", "m", "vs-standard"),
        ("m:vs-cot", "m", "vs-cot"),
        ("openai/o:8b:vs-multi", "openai/o:8b", "vs-multi"),
        (":vs", "", "vs-standard"),
    ],
)
def test_the_suffix_names_the_method(name: str, model: str, method: str) -> None:
    call = read(model=name)
    assert (call.model, call.settings.method, call.verbalized, call.requested_model) == (model, method, True, name)
    assert verbalizes({"model": name})


@pytest.mark.parametrize("name", ["m", "m:vsx", "m:VS", "m:vs ", "llama3:8b", "vs"])
def test_any_other_name_is_not_verbalized(name: str) -> None:
    assert not verbalizes({"model": name})
    assert not verbalizes({"model": name, "outspoken": None})
    assert verbalizes({"model": name, "outspoken": {}})
    call = read(model=name, seed=7, stop="\n", max_tokens=9)
    assert (call.model, call.verbalized, call.settings.method, call.settings.k) == (name, False, "direct", 1)
    assert (call.settings.seed, call.settings.stop, call.settings.max_tokens) == (7, ("\n",), 9)
    assert read_chat({**HELLO, "model": name}, always=True).settings.method == "vs-standard"


def test_a_registered_method_has_its_suffix(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {**METHODS, "mine": Method("mine", "a method of another package", server_suffix=":mine")}
    monkeypatch.setattr("outspoken.serve.openai.chat_request.METHODS", rows)
    assert may_verbalize(b'{"model": "m:mine"}')
    assert not may_verbalize(b'{"model": "m:other"}')
    assert verbalizes({"model": "m:mine"})
    assert not verbalizes({"model": "m:other"})


def test_the_object_outspoken() -> None:
    own = {
        "method": "vs-cot",
        "k": 7,
        "tau": 0.1,
        "template": "paper",
        "words": 9,
        "fresh": True,
        "structured": False,
    }
    call = read(model="m", outspoken=own)
    settings = call.settings
    assert (settings.method, settings.k, settings.tau, settings.template, settings.words) == (
        "vs-cot",
        7,
        0.1,
        "paper",
        9,
    )
    assert (call.fresh, call.structured, call.verbalized) == (True, False, True)
    assert read(outspoken={"method": "vs-multi", "turns": 4}, model="m").settings.turns == 4
    assert read(outspoken={"method": "vs-standard", "k": None}).settings.k == 5


def test_the_operators_defaults_apply_to_omitted_fields() -> None:
    defaults = Settings(k=20, tau=0.2, temperature=0.7, template="paper", extra={"min_p": 0.1}, top_up=0)
    settings = read_chat({**HELLO, "temperature": 1, "top_k": 3}, defaults=defaults).settings
    assert (settings.k, settings.tau, settings.temperature, settings.template) == (20, 0.2, 1.0, "paper")
    assert (settings.extra, settings.top_up) == ({"min_p": 0.1, "top_k": 3}, 0)
    direct = read_chat({**HELLO, "outspoken": {"method": "direct"}, "model": "m"}, defaults=defaults)
    assert direct.settings.tau is None


def test_fields_outside_the_distribution_do_not_change_the_pool() -> None:
    def key(**fields: Any) -> str:
        call = read(**fields)
        return pool_key(call.model, call.messages, call.settings)

    same = [
        {},
        {"n": 5, "seed": 3, "stop": ["x"], "stream": True, "user": "ada", "metadata": {"a": "b"}},
        {
            "frequency_penalty": 0,
            "logit_bias": {},
            "tools": [],
            "response_format": {"type": "text"},
            "top_p": None,
        },
        {"outspoken": {"fresh": False, "method": "vs-standard"}},
    ]
    assert len({key(**fields) for fields in same}) == 1
    other = [
        {"temperature": 1},
        {"outspoken": {"k": 6}},
        {"min_p": 0.1},
        {"frequency_penalty": 1},
        {"max_tokens": 9},
    ]
    assert len({key(**fields) for fields in [{}, *other]}) == 6


def test_a_limit_of_tokens_is_for_one_choice_and_a_reply_has_room_for_all() -> None:
    assert read(max_tokens=100, outspoken={"k": 10}).settings.max_tokens == 1480
    assert read(max_completion_tokens=100, outspoken={"k": 1}).settings.max_tokens == 148
    assert read(model="m:vs-cot", max_tokens=100, outspoken={"k": 1}).settings.max_tokens == 1172
    assert read(max_tokens=4096).settings.max_tokens == 8192, "not more than servers give"
    assert read(max_tokens=9000).settings.max_tokens == 9000
    assert read(model="m", outspoken={"method": "direct"}, max_tokens=100).settings.max_tokens == 100
    assert "differ" in str(rejected(max_tokens=1, max_completion_tokens=2))


@pytest.mark.parametrize(("seed", "read_as"), [(0, 0), (7, 7), (2**32, 0), (-1, 2**32 - 1), (2**63, 0)])
def test_any_seed_of_a_client_fits(seed: int, read_as: int) -> None:
    call = read(seed=seed)
    assert (call.seed, call.settings.seed) == (read_as, None)


def test_text_in_parts_and_roles() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "😀"}]
    chat = [
        {"role": "developer", "content": "s"},
        {"role": "user", "content": "q", "name": "ada"},
        {"role": "assistant", "content": "a", "refusal": None, "tool_calls": None},
        {"role": "user", "content": parts},
    ]
    assert [m.content for m in read(messages=chat).messages] == ["s", "q", "a", "a\n😀"]


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"model": None}, "model", "missing"),
        ({"model": 3}, "model", "text"),
        ({"model": "m" * 501}, "model", "500"),
        ({"messages": None}, "messages", "list"),
        ({"messages": []}, "messages", "empty"),
        ({"messages": "hi"}, "messages", "list"),
        ({"messages": [3]}, "messages[0]", "object"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", "image"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": None}]}]},
            "messages[0].content",
            "text",
        ),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages[0]", "tool"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", "empty"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages", "user's"),
        ({"n": 0}, "n", "from 1 to 128"),
        ({"n": 129}, "n", "several calls"),
        ({"n": True}, "n", "whole"),
        ({"n": "2"}, "n", "whole"),
        ({"n": 10**5000}, "n", "whole"),
        ({"seed": 1.5}, "seed", "whole"),
        ({"temperature": "hot"}, "temperature", "number"),
        ({"temperature": float("nan")}, "temperature", "number"),
        ({"temperature": 11}, "temperature", "temperature"),
        ({"top_p": 0}, "top_p", "top_p"),
        ({"max_tokens": 0}, "max_tokens", "from 1"),
        ({"stop": [""]}, "stop", "empty"),
        ({"stop": {"a": 1}}, "stop", "text"),
        ({"stop": ["x"] * 17}, "stop", "16"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "stream = true"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
            "true or false",
        ),
        ({"outspoken": []}, "outspoken", "method, k"),
        ({"outspoken": {"key": 1}}, "outspoken", "'key'; known"),
        ({"outspoken": {"k": 0}}, "outspoken.k", "from 1 to 1,000"),
        ({"outspoken": {"k": 10_000}}, "outspoken.k", "1,000"),
        ({"outspoken": {"tau": 1}}, "outspoken.tau", "tau"),
        ({"outspoken": {"turns": 0}}, "outspoken.turns", "whole"),
        ({"outspoken": {"words": -1}}, "outspoken.words", "whole"),
        ({"outspoken": {"fresh": 1}}, "outspoken.fresh", "true or false"),
        ({"outspoken": {"method": "vs-cto"}, "model": "m"}, "outspoken.method", "vs-cot"),
        ({"outspoken": {"method": "vs-cot"}}, "outspoken.method", "leave one out"),
        ({"outspoken": {"method": "x" * 10**6}, "model": "m"}, "outspoken.method", "500"),
        ({"outspoken": {"method": "vs-multi", "k": 500, "turns": 3}, "model": "m"}, "outspoken.turns", "k times"),
        ({"outspoken": {"template": "nope"}}, "outspoken.template", "standard"),
    ],
)
def test_errors_name_the_invalid_field(fields: dict[str, Any], param: str | None, says: str) -> None:
    error = rejected(**fields)
    assert (error.status, error.param) == (400, param)
    assert says in str(error)
    assert len(str(error)) < 400


def test_a_client_cannot_read_files_of_the_server(tmp_path: Any) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(templates.source("standard"), encoding="utf-8")
    templates.load(str(path))
    assert rejected(outspoken={"template": str(path)}).param == "outspoken.template"


@pytest.mark.parametrize(
    "fields",
    [
        {"logprobs": True},
        {"top_logprobs": 2},
        {"tools": [{"type": "function"}]},
        {"tool_choice": "required"},
        {"functions": [{}]},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "json_schema", "json_schema": {}}},
        {"modalities": ["text", "audio"]},
        {"audio": {}},
        {"prediction": {"type": "content"}},
        {"web_search_options": {}},
    ],
)
def test_unsupported_fields_are_rejected(fields: dict[str, Any]) -> None:
    error = rejected(**fields)
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", next(iter(fields)))
    assert "leave it out" in str(error)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'"x"', b"null", b"\xff\xfe", b'{"n": NaN}', b'{"a": "\\ud800"}', b"[" * 100_000, b"{} x"],
)
def test_bodies_that_are_not_json_objects(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        read_json(body)
    assert caught.value.status == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
OWN = st.sampled_from(["method", "k", "tau", "template", "turns", "words", "fresh", "structured"])
FIELDS = st.sampled_from(
    [
        "model",
        "messages",
        "n",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "max_tokens",
        "max_completion_tokens",
        "outspoken",
        "logprobs",
        "tools",
        "response_format",
        "user",
        "frequency_penalty",
        "logit_bias",
    ]
)
MESSAGES = st.lists(
    st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), JSON, max_size=3) | JSON, max_size=3
)


@given(
    st.dictionaries(FIELDS | st.text(max_size=5), JSON, max_size=6),
    st.dictionaries(OWN, JSON | st.sampled_from(["vs-multi", "direct", 3, 0.1]), max_size=4) | JSON,
    MESSAGES | st.just(HELLO["messages"]),
)
@example({"n": 10**5000}, {}, HELLO["messages"])
def test_only_our_error_escapes_from_any_json(fields: dict[str, Any], own: Any, messages: Any) -> None:
    payload = {**HELLO, "messages": messages, "outspoken": own, **fields}
    try:
        call = read_chat(payload)
    except RequestError as error:
        status, body = error_body(error)
        assert status == 400
        json.dumps(body, allow_nan=False).encode()
    else:
        assert 1 <= call.n <= 128
        assert call.messages[-1].role == "user"
        assert call.settings.k <= 1000


@given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_only_our_error_escapes_from_any_bytes(body: bytes) -> None:
    with pytest.raises(RequestError):
        read_chat(body)  # none of these has a model and messages
