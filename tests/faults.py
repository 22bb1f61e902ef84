"""An OpenAI-compatible server that goes wrong by a seeded plan, inside a test or as a process of its own:

    python tests/faults.py --seed 1 --share 0.2 --port 0 --log requests.jsonl

The first line of its standard output is its port. Every request leaves one line of JSON in the log, a `Record`.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import heapq
import json
import os
import re
import signal
import time
import zlib
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from email.utils import formatdate
from enum import Enum, StrEnum
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from aiohttp import web

__all__ = [
    "ALL",
    "BAD_REQUEST",
    "EFFECTS",
    "OVER_CAPACITY",
    "SOUND",
    "WAIT_SECONDS",
    "Effect",
    "Fault",
    "Faulty",
    "Manner",
    "Plan",
    "Record",
    "conversation_of",
    "faulty",
    "read_log",
    "writing",
]

SOUND, BAD_REQUEST, OVER_CAPACITY = "sound", "bad-request", "over-capacity"
WAIT_SECONDS = 0.05

_WORDED = re.compile(r"Generate (\d+) (?:MORE )?(?:alternative )?responses|again, with (\d+) responses")
_PHRASES = (
    "一只猫走进咖啡馆",
    "قهوة الصباح مع الأصدقاء",
    "☕🎉 👩🏽‍🚀 ready for launch",
    'naïve "quoted" words, \\ and\na second line',
    "Der Käse — größer als gedacht",
    "एक छोटी कविता",
    "the plain one",
)
_FILLER = " 长 long 😀"
_FAILED_FINISHES = ("error", "network_error", "insufficient_system_resource", "abort")
_FAILED_JSON = (
    b'{"error": {"message": "Failed to generate JSON. Please adjust your prompt.", "type": "invalid_request_error",'
    b' "code": "json_validate_failed", "failed_generation": "{"}}'
)
_ERROR_BODIES: tuple[Any, ...] = (
    {"object": "error", "message": "the engine died", "type": "InternalServerError", "code": 500},
    {"error": "the engine died"},
    {"error": {"error": {"message": "the engine died", "type": "server_error"}}},
    {"detail": "the engine died"},
)
_ERROR_DATA = b'{"message": "the engine died", "code": 500}\n\n'
_PROSE = "I thought about it for a while, 想了很久, and would rather talk about the weather. لا أعرف 🤷"


class Fault(StrEnum):
    """How an answer goes wrong."""

    LIMIT_SECONDS = "429-seconds"  # with Retry-After: 0.05
    LIMIT_DATE = "429-date"  # with Retry-After: the date a second ahead
    LIMIT = "429"
    ERROR = "500"
    UNAVAILABLE = "503"
    DROPPED = "dropped"  # the connection, before anything was answered
    BROKEN_OFF = "broken-off"  # the connection, in the middle of the body
    CUT_JSON = "cut-json"  # a complete response, and half the JSON
    GARBAGE = "garbage"
    PAGE = "page"  # HTML with status 200
    NO_CHOICE = "no-choice"
    PLAIN_TYPE = "plain-type"  # sound JSON as text/plain
    TRICKLE = "trickle"  # sound, byte after byte
    SAME_ID = "same-id"  # sound, and every such reply has the same id
    HUGE = "huge"  # sound, with one huge text
    FAILED_FINISH = "failed-finish"  # half a text, and a reason for its end that says that the provider failed
    FAILED_JSON = "failed-json"  # 400: the model's own reply was not the JSON that its decoder wanted
    ERROR_BODY = "error-body"  # an error in one of its forms, with status 200
    ERROR_EVENT = "error-event"  # an event stream that ends with an error
    BAD_CHUNK = "bad-chunk"  # chunked transfer with a size that is no number
    SHORT_LENGTH = "short-length"  # a Content-Length below that of the body
    BAD_GZIP = "bad-gzip"
    GZIP = "gzip"  # sound, compressed
    AS_STREAM = "as-stream"  # sound, as a stream of messages whose characters are cut in two
    PARTS = "parts"  # sound, as a list of parts beside reasoning
    ODD_USAGE = "odd-usage"  # sound, with numbers of tokens as text and as fractions
    IN_REASONING = "in-reasoning"  # sound, in the field for reasoning where a layout was asked for
    IN_TOOL_CALL = "in-tool-call"  # sound, as the arguments of a tool where a layout was asked for
    REFUSAL = "refusal"
    UNREADABLE = "unreadable"  # prose without candidates; nothing at all where any text would be an answer
    FILTERED = "filtered"  # by the provider: no text
    CUT_OFF = "cut-off"  # at the end of the context, in the first text
    REDIRECT = "redirect"
    BOMB = "bomb"  # megabytes of blanks in kilobytes of gzip
    LIMIT_FAR = "429-far"  # with Retry-After: 1000000000


class Effect(Enum):
    """What a fault is to the client."""

    USABLE = "usable"  # an answer after all; a trickle only for a client that waits long enough
    TRANSPORT = "transport"  # a reason to send the request again
    CONTENT = "content"  # an answer, paid for, and of no use
    FINAL = "final"  # an error that sending the request again does not mend


_TABLE: Mapping[Effect, tuple[Fault, ...]] = {
    Effect.TRANSPORT: (
        *(Fault.LIMIT_SECONDS, Fault.LIMIT_DATE, Fault.LIMIT, Fault.ERROR, Fault.UNAVAILABLE),
        *(Fault.DROPPED, Fault.BROKEN_OFF, Fault.CUT_JSON, Fault.GARBAGE, Fault.PAGE, Fault.NO_CHOICE),
        *(Fault.FAILED_FINISH, Fault.FAILED_JSON, Fault.ERROR_BODY, Fault.ERROR_EVENT),
        *(Fault.BAD_CHUNK, Fault.SHORT_LENGTH, Fault.BAD_GZIP),
    ),
    Effect.USABLE: (
        *(Fault.PLAIN_TYPE, Fault.TRICKLE, Fault.SAME_ID, Fault.HUGE, Fault.GZIP, Fault.AS_STREAM),
        *(Fault.PARTS, Fault.ODD_USAGE, Fault.IN_REASONING, Fault.IN_TOOL_CALL),
    ),
    Effect.CONTENT: (Fault.REFUSAL, Fault.UNREADABLE, Fault.FILTERED, Fault.CUT_OFF),
    Effect.FINAL: (Fault.REDIRECT, Fault.BOMB, Fault.LIMIT_FAR),
}
EFFECTS = MappingProxyType({fault: effect for effect, faults in _TABLE.items() for fault in faults})
ALL = tuple(fault for fault in Fault if EFFECTS[fault] is not Effect.FINAL)
"""All faults that a patient client recovers from."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Which request goes wrong, and how: a pure function, so that a run can be had again in any order.

    `share` of the attempts go wrong, each by one of `kinds`; those after the first `bound` attempts of a key never
    do, so that every request is answered in the end.
    """

    seed: int
    share: float
    kinds: Collection[Fault] = ALL
    bound: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not self.kinds:
            raise ValueError("a plan needs a share from 0 to 1 and at least one kind of fault")
        object.__setattr__(self, "kinds", tuple(fault for fault in Fault if fault in self.kinds))

    def fault(self, key: str, attempt: int) -> Fault | None:
        """The fault of the request `key`, sent for the `attempt`-th time (from 1)."""
        digest = hashlib.sha256(f"{self.seed}\0{key}\0{attempt}".encode()).digest()
        if attempt > self.bound or int.from_bytes(digest[:8]) >= self.share * 2**64:
            return None
        kinds = tuple(self.kinds)
        return kinds[int.from_bytes(digest[8:16]) % len(kinds)]


@dataclass(frozen=True, slots=True)
class Manner:
    """How the server answers: `delay` seconds before each answer, 429 to more than `capacity` requests at once,
    `pace` seconds between the bytes of a trickle, `huge` bytes in a huge text, `bomb` in a bomb."""

    delay: float = 0.0
    capacity: int | None = None
    pace: float = 1.0
    huge: int = 10_000_000
    bomb: int = 100_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """One request for a completion, after it was answered.

    `key` is a digest of the request's body and `attempt` counts how often that body came; requests over capacity
    do not count, as they follow no plan. `kind` is "sound", "bad-request", "over-capacity" or a `Fault`'s value.
    `status` is what was answered, or would have been had the client stayed; None for a drop without an answer.
    `sent` tells whether the last byte of the whole response was handed to the socket, which is all that a server
    can know. `in_flight` counts the requests at hand when this one came, with it; `peak` is their greatest number.
    `came` is when it came, and `conversation` a digest of its messages (see `conversation_of`).
    """

    time: float
    key: str
    attempt: int
    kind: str
    status: int | None
    sent: bool
    in_flight: int
    peak: int
    came: float
    conversation: str


@contextmanager
def writing(path: str | Path) -> Iterator[Callable[[Record], None]]:
    """A function that adds a record to the log, in one write, so that a kill leaves whole lines."""
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def record(entry: Record) -> None:
        line = json.dumps(asdict(entry)).encode() + b"\n"
        if os.write(log, line) != len(line):
            raise OSError(f"{path}: the line was not written whole")

    try:
        yield record
    finally:
        os.close(log)


def read_log(path: str | Path) -> list[Record]:
    return [Record(**json.loads(line)) for line in Path(path).read_text().splitlines()]


def conversation_of(messages: list[dict[str, Any]]) -> str:
    """A digest of the messages of a request."""
    said = json.dumps(messages, ensure_ascii=False)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(slots=True)
class _Question:
    """What of a request decides the texts of its answer."""

    conversation: str
    seed: Any
    model: Any
    length: int
    schema: Mapping[str, Any] | None

    @classmethod
    def read(cls, body: bytes) -> _Question:
        """Raises `ValueError` for what no client of this interface sends."""
        asked = json.loads(body)
        messages = asked.get("messages") if isinstance(asked, dict) else None
        if not messages or not all(isinstance(message, dict) for message in messages):
            raise ValueError("messages: a list of messages is needed")
        schema = ((asked.get("response_format") or {}).get("json_schema") or {}).get("schema")
        if schema is None and (k := _worded(messages)):
            schema = _candidates(k)
        said = json.dumps(messages, ensure_ascii=False)
        return cls(conversation_of(messages), asked.get("seed"), asked.get("model"), len(said), schema)


def _worded(messages: list[dict[str, Any]]) -> int:
    """How many candidates the wording asks for; 0 where it asks for none. The latest turn counts first."""
    for message in reversed(messages):
        if message.get("role") != "assistant" and (found := _WORDED.search(str(message.get("content")))):
            return int(found[1] or found[2])
    return 0


def _candidates(k: int) -> dict[str, Any]:
    number = {"type": "number", "minimum": 0, "maximum": 1}
    item = {"type": "object", "properties": {"text": {"type": "string"}, "probability": number}}
    return {"type": "object", "properties": {"responses": {"type": "array", "items": item, "minItems": k}}}


@dataclass(slots=True)
class _Author:
    """Writes values that fit a JSON schema. Every text is another; equal marks give equal texts.

    The first text has `padding` bytes more.
    """

    root: Mapping[str, Any]
    mark: str
    padding: int = 0
    count: int = 0

    def text(self) -> str:
        token = self._digest()
        phrase = f"{_PHRASES[int(token[:8], 16) % len(_PHRASES)]} {token[8:20]}"
        padding, self.padding = self.padding, 0
        return phrase + _FILLER * -(-padding // len(_FILLER.encode()))

    def value(self, schema: Mapping[str, Any], among: int = 1) -> Any:
        """A value for `schema`; numbers that stand in a list of `among` use an equal part of their range."""
        if "$ref" in schema:
            target: Any = self.root
            for name in schema["$ref"].removeprefix("#/").split("/"):
                target = target[name]
            return self.value(target, among)
        if "anyOf" in schema:
            return self.value(schema["anyOf"][0], among)
        if "enum" in schema:
            return schema["enum"][int(self._digest()[:8], 16) % len(schema["enum"])]
        kind = schema.get("type")
        if kind == "object":
            return {name: self.value(part, among) for name, part in schema.get("properties", {}).items()}
        if kind == "array":
            size = schema.get("minItems", 1)
            return [self.value(schema["items"], size) for _ in range(size)]
        if kind in ("number", "integer"):
            low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
            high = schema.get("maximum", schema.get("exclusiveMaximum", low + 10))
            number = low + (high - low) / among * (int(self._digest()[:8], 16) + 1) / (2**32 + 1)
            return int(number) if kind == "integer" else number
        return {"boolean": True, "null": None}.get(str(kind)) if kind in ("boolean", "null") else self.text()

    def _digest(self) -> str:
        self.count += 1
        return hashlib.sha256(f"{self.mark}\0{self.count}".encode()).hexdigest()


class _Draws:
    """Numbers the replies to each equal question: the lowest number that is not taken."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}
        self._returned: dict[str, list[int]] = {}

    def take(self, mark: str) -> int:
        if returned := self._returned.get(mark):
            return heapq.heappop(returned)
        number = self._next.get(mark, 0)
        self._next[mark] = number + 1
        return number

    def give_back(self, mark: str, number: int) -> None:
        heapq.heappush(self._returned.setdefault(mark, []), number)


@dataclass(slots=True)
class _Answer:
    """A response. `cut` is the number of bytes of its body after which the connection is dropped; `raw` is written
    to the connection as it is, without anything else."""

    status: int | None = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    pace: float = 0.0
    raw: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class _Turn:
    """What is done with one request; `draw` is the number that its texts were made with."""

    kind: str
    attempt: int
    answer: _Answer
    draw: tuple[str, int] | None = None
    admitted: bool = True
    conversation: str = ""


class Faulty:
    """The server: `base_url`, its `log` so far, and the greatest number of requests that it had at once.

    Texts derive from the conversation (so that asking for more in two conversations gives different ones), the
    request's seed, and how often this was answered before; faults that are not usable do not change the texts.
    """

    def __init__(self, plan: Plan, manner: Manner, record: Callable[[Record], None] | None = None) -> None:
        self.plan = plan
        self.log: list[Record] = []
        self.peak = 0
        self.port = 0
        self._manner = manner
        self._record = record or self.log.append
        self._busy = 0
        self._attempts: dict[str, int] = {}
        self._draws = _Draws()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def models(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"object": "list", "data": [{"id": "faulty", "object": "model"}]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        came = time.time()
        key = hashlib.sha256(body).hexdigest()[:16]
        in_flight = self._busy + 1
        self.peak = max(self.peak, in_flight)
        turn = self._turn(body, key, in_flight)
        response: web.StreamResponse = web.Response()
        sent = False
        self._busy += turn.admitted
        try:
            if self._manner.delay and turn.admitted:
                await asyncio.sleep(self._manner.delay)
            response, sent = await _deliver(request, turn.answer)
        finally:
            self._busy -= turn.admitted
            if turn.draw is not None and not sent:
                self._draws.give_back(*turn.draw)
            status = turn.answer.status
            about = (key, turn.attempt, turn.kind, status, sent, in_flight, self.peak, came, turn.conversation)
            self._record(Record(time.time(), *about))
        return response

    def _turn(self, body: bytes, key: str, in_flight: int) -> _Turn:
        attempt = self._attempts.get(key, 0)
        if self._manner.capacity is not None and in_flight > self._manner.capacity:
            return _Turn(OVER_CAPACITY, attempt, _error(429, "too many requests at once"), admitted=False)
        try:
            question = _Question.read(body)
        except (ValueError, AttributeError) as error:
            return _Turn(BAD_REQUEST, attempt, _error(400, str(error)), admitted=False)
        attempt = self._attempts[key] = attempt + 1
        fault = self.plan.fault(key, attempt)
        kind = SOUND if fault is None else fault.value
        if fault is not None and EFFECTS[fault] is not Effect.USABLE:
            answer = _failing(fault, question, key, self._manner)
            return _Turn(kind, attempt, answer, conversation=question.conversation)
        mark = f"{question.conversation}\0{question.seed}"
        number = self._draws.take(mark)
        answer = self._usable(fault, question, f"{mark}\0{number}")
        return _Turn(kind, attempt, answer, (mark, number), conversation=question.conversation)

    def _usable(self, fault: Fault | None, question: _Question, mark: str) -> _Answer:
        content = _content(question, mark, padding=self._manner.huge if fault is Fault.HUGE else 0)
        name = "same" if fault is Fault.SAME_ID else hashlib.sha256(mark.encode()).hexdigest()[:24]
        whole = _envelope(question, content, name=name)
        if fault is Fault.GZIP:
            return _Answer(body=gzip.compress(whole), headers={"Content-Encoding": "gzip"})
        if fault is Fault.AS_STREAM:
            return _Answer(body=_as_stream(json.loads(whole)), content_type="text/event-stream")
        return _Answer(
            body=_elsewhere(fault, whole) if question.schema is not None else whole,
            content_type="text/plain" if fault is Fault.PLAIN_TYPE else "application/json",
            pace=self._manner.pace if fault is Fault.TRICKLE else 0.0,
        )


def _content(question: _Question, mark: str, *, padding: int = 0) -> str:
    author = _Author(question.schema or {}, mark, padding)
    if question.schema is None:
        return author.text()
    return json.dumps(author.value(question.schema), ensure_ascii=False)


def _as_stream(payload: dict[str, Any]) -> bytes:
    """The answer as events, in UTF-16 units, so that a character outside the first plane is cut in two."""
    text = payload["choices"][0]["message"]["content"].encode("utf-16-le")
    pieces = [text[at : at + 6].decode("utf-16-le", "surrogatepass") for at in range(0, len(text), 6)]
    choices: list[dict[str, Any]] = [{"message": {"content": piece}} for piece in pieces]
    chunks = [{"model": payload["model"], "choices": [choice]} for choice in choices]
    chunks.append(payload | {"choices": [{"delta": {}, "finish_reason": "stop"}]})
    return b"".join(_event(chunk) for chunk in chunks) + b"data: [DONE]\n\n"


def _event(payload: Any) -> bytes:
    return b"data: " + json.dumps(payload).encode() + b"\n\n"


def _elsewhere(fault: Fault | None, body: bytes) -> bytes:
    """An answer whose text stands where this fault puts it."""
    payload = json.loads(body)
    message, usage = payload["choices"][0]["message"], payload["usage"]
    text = message["content"]
    if fault is Fault.IN_REASONING:
        message |= {"content": None, "reasoning_content": text}
    elif fault is Fault.IN_TOOL_CALL:
        call = {"id": "1", "type": "function", "function": {"name": "json", "arguments": text}}
        message |= {"content": "", "tool_calls": [call]}
    elif fault is Fault.PARTS:
        half = len(text) // 2
        parts = [{"type": "text", "text": text[:half]}, {"type": "output_text", "text": text[half:]}]
        message |= {"content": [{"type": "thinking", "thinking": "hm, 想"}, *parts]}
    elif fault is Fault.ODD_USAGE:
        usage |= {
            "prompt_tokens": float(usage["prompt_tokens"]),
            "completion_tokens": str(usage["completion_tokens"]),
        }
    else:
        return body
    return json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")


def _ended(body: bytes, finish: str, text: str) -> bytes:
    """An answer with this text, which ended for this reason."""
    payload = json.loads(body)
    payload["choices"][0] |= {"finish_reason": finish, "message": {"role": "assistant", "content": text}}
    return json.dumps(payload, ensure_ascii=False).encode()


def _envelope(question: _Question, content: str | None, *, name: str, refusal: str | None = None) -> bytes:
    tokens = (len(content or refusal or "") + 3) // 4
    prompt_tokens = (question.length + 3) // 4
    message = {"role": "assistant", "content": content} | ({"refusal": refusal} if refusal else {})
    payload = {
        "id": f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": question.model or "faulty",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
            "prompt_tokens_details": {"cached_tokens": prompt_tokens // 2},
        },
    }
    return json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")


def _error(status: int, message: str, **headers: str) -> _Answer:
    body = json.dumps({"error": {"message": message, "type": "test", "code": None}}).encode()
    return _Answer(status, body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def _failing(fault: Fault, question: _Question, key: str, manner: Manner) -> _Answer:
    """The answer for a fault after which the client holds nothing that it can use."""
    said = _content(question, key)
    whole = _envelope(question, said, name=key)
    content = _PROSE if question.schema is not None else ""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    chance = int(key, 16)
    answers: Mapping[Fault, Callable[[], _Answer]] = {
        Fault.LIMIT_SECONDS: lambda: _error(429, "slow down", Retry_After=f"{WAIT_SECONDS:g}"),
        Fault.LIMIT_DATE: lambda: _error(429, "slow down", Retry_After=formatdate(time.time() + 1, usegmt=True)),
        Fault.LIMIT: lambda: _error(429, "slow down"),
        Fault.ERROR: lambda: _error(500, "something broke"),
        Fault.UNAVAILABLE: lambda: _error(503, "overloaded"),
        Fault.DROPPED: lambda: _Answer(None, cut=0),
        Fault.BROKEN_OFF: lambda: _Answer(body=whole, cut=len(whole) // 2),
        Fault.CUT_JSON: lambda: _Answer(body=whole[: len(whole) // 2]),
        Fault.GARBAGE: lambda: _Answer(body=b"\x00\xff" + hashlib.shake_256(key.encode()).digest(400)),
        Fault.PAGE: lambda: _Answer(body=b"<!DOCTYPE html><h1>Bad Gateway</h1>", content_type="text/html"),
        Fault.NO_CHOICE: lambda: _Answer(body=json.dumps(json.loads(whole) | {"choices": []}).encode()),
        Fault.REFUSAL: lambda: _Answer(
            body=_envelope(question, None, name=key, refusal="I'm sorry, 抱歉, I can't help with that.")
        ),
        Fault.UNREADABLE: lambda: _Answer(body=_envelope(question, content, name=key)),
        Fault.FILTERED: lambda: _Answer(body=_ended(whole, "content_filter", "")),
        Fault.CUT_OFF: lambda: _Answer(body=_ended(whole, "model_context_window_exceeded", said[:16])),
        Fault.FAILED_FINISH: lambda: _Answer(
            body=_ended(whole, _FAILED_FINISHES[chance % len(_FAILED_FINISHES)], said[: len(said) // 2])
        ),
        Fault.FAILED_JSON: lambda: _Answer(400, _FAILED_JSON),
        Fault.ERROR_BODY: lambda: _Answer(body=json.dumps(_ERROR_BODIES[chance % len(_ERROR_BODIES)]).encode()),
        Fault.ERROR_EVENT: lambda: _Answer(
            body=_event({"choices": [{"delta": {"content": said[:9]}}]}) + b"event: error\ndata: " + _ERROR_DATA,
            content_type="text/event-stream",
        ),
        Fault.BAD_CHUNK: lambda: _Answer(
            raw=(head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % 9, whole[:9] + b"\r\nzz\r\n" + whole[9:])
        ),
        Fault.SHORT_LENGTH: lambda: _Answer(raw=(head + b"Content-Length: %d\r\n\r\n" % 40 + whole,)),
        Fault.BAD_GZIP: lambda: _Answer(
            body=gzip.compress(whole)[:12] + b"\xff" * 20, headers={"Content-Encoding": "gzip"}
        ),
        Fault.REDIRECT: lambda: _Answer(307, headers={"Location": "https://user:secret@elsewhere/v1?key=secret"}),
        Fault.BOMB: lambda: _Answer(body=_bomb(manner.bomb), headers={"Content-Encoding": "gzip"}),
        Fault.LIMIT_FAR: lambda: _error(429, "come again", Retry_After="1000000000"),
    }
    return answers[fault]()


@cache
def _bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    blanks = b" " * 2**20
    return b"".join(packer.compress(blanks) for _ in range(-(-size // len(blanks)))) + packer.flush()


async def _deliver(request: web.Request, answer: _Answer) -> tuple[web.StreamResponse, bool]:
    """Write the answer; returns the response, and whether its last byte was handed to the socket."""
    transport = request.transport
    if answer.status is None or transport is None:
        if transport is not None:
            transport.close()
        return web.Response(), False
    assert isinstance(transport, asyncio.Transport)
    if answer.raw:
        for part in answer.raw:
            transport.write(part)
            await asyncio.sleep(0)
        transport.close()
        return web.Response(), False
    response = web.StreamResponse(
        status=answer.status, headers={"Content-Type": answer.content_type, **answer.headers}
    )
    response.content_length = len(answer.body)
    # Draining then means that nothing is left on this side of the socket.
    transport.set_write_buffer_limits(0)
    try:
        await response.prepare(request)
        if answer.cut is not None:
            await response.write(answer.body[: answer.cut])
            transport.close()
            return response, False
        last = len(answer.body) - 1 if answer.pace else 0
        for at in range(last):
            await response.write(answer.body[at : at + 1])
            await asyncio.sleep(answer.pace)
        await response.write_eof(answer.body[last:])
    except ConnectionError:
        return response, False
    return response, not transport.is_closing() and transport.get_write_buffer_size() == 0


@asynccontextmanager
async def faulty(
    plan: Plan, manner: Manner = Manner(), *, record: Callable[[Record], None] | None = None, port: int = 0
) -> AsyncGenerator[Faulty]:
    """A running server. Records go to `record`, or without one into the server's `log`."""
    server = Faulty(plan, manner, record)
    app = web.Application(client_max_size=2**26)
    app.router.add_post("/v1/chat/completions", server.chat)
    app.router.add_get("/v1/models", server.models)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


async def _serve(plan: Plan, manner: Manner, port: int, log: str) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    with writing(log) as record:
        async with faulty(plan, manner, record=record, port=port) as server:
            print(server.port, flush=True)
            await stopped.wait()


def _main() -> None:
    parser = argparse.ArgumentParser(description="Serve an OpenAI-compatible interface that goes wrong.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--share", type=float, required=True, help="of the attempts that go wrong, 0 to 1")
    parser.add_argument("--log", required=True, help="file to which a line is added for each request")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--kinds", default=",".join(ALL), help="faults, with commas between: %(default)s")
    parser.add_argument("--bound", type=int, default=3, help="attempts of a request that may go wrong")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--capacity", type=int, help="requests at once, beyond which the answer is 429")
    parser.add_argument("--pace", type=float, default=Manner().pace, help="seconds between the bytes of a trickle")
    parser.add_argument("--huge", type=int, default=Manner().huge, help="bytes in a huge text")
    parser.add_argument("--bomb", type=int, default=Manner().bomb, help="bytes of blanks in a bomb")
    given = parser.parse_args()
    plan = Plan(given.seed, given.share, [Fault(name) for name in given.kinds.split(",")], given.bound)
    manner = Manner(given.delay, given.capacity, given.pace, given.huge, given.bomb)
    asyncio.run(_serve(plan, manner, given.port, given.log))


if __name__ == "__main__":
    _main()
