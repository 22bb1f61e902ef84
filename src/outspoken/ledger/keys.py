"""The key of a reply: a versioned hash of the canonical JSON of everything that changes the reply."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, cast

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import LedgerError, UsageError

__all__ = [
    "KEY_VERSION",
    "Draw",
    "LedgerEntry",
    "StoredRequest",
    "check_digest",
    "digest_of",
    "entry_of",
    "reply_digest",
    "reply_of",
    "request_of",
    "score_entry",
    "write_reply",
]

KEY_VERSION = 1
_DIGEST_LENGTH = 32  # hexadecimal digits, 128 bits

Draw = tuple[int, ...]
"""Distinguishes equal requests that need different replies, by three numbers counted from 0: occurrence of the
prompt among equal prompts, call for this prompt, request of this call."""


class StoredRequest(TypedDict):
    """A request in the JSON of the ledger. `schema` is a hash, the messages are pairs of role and content."""

    v: int
    model: str
    messages: list[list[str]]
    sampling: dict[str, object]
    schema: str | None
    draw: list[int]


_canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode
_plain = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A request in the form of the ledger: key, canonical JSON, and hash and JSON of its schema ("" for none)."""

    key: str
    request: str
    schema_hash: str = ""
    schema: str = ""


def entry_of(model: str, request: ChatRequest, draw: Draw) -> LedgerEntry:
    """The entry of a request to `model`. Raises `UsageError` for values that JSON or UTF-8 cannot hold."""
    schema = ("", "") if request.schema is None else _schema(request.schema)
    sampling = request.sampling.to_dict()
    try:
        if "extra" in sampling:
            sampling["extra"] = _as_json(request.sampling.extra)
        messages = [[message.role, message.content] for message in request.messages]
        return _entry(model, messages, sampling, draw, *schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the request cannot be written as JSON: {error}") from error


def score_entry(model: str, prompt: str, continuation: str) -> LedgerEntry:
    """The entry of a request for the likelihood of `continuation` after `prompt`; both are stored as messages."""
    return _entry(model, [["prompt", prompt], ["continuation", continuation]], {}, (0, 0, 0))


def _entry(
    model: str,
    messages: list[list[str]],
    sampling: Mapping[str, object],
    draw: Draw,
    hashed: str = "",
    schema: str = "",
) -> LedgerEntry:
    body = {"v": KEY_VERSION, "model": model, "messages": messages, "sampling": sampling, "draw": draw}
    text = _canonical({**body, "schema": hashed or None})
    return LedgerEntry(digest_of(text), text, hashed, schema)


def _as_json(value: Mapping[str, Any]) -> Any:
    """The value written and read again: keys that are numbers become text, and are sorted as text."""
    return json.loads(_plain(value))


def digest_of(text: str) -> str:
    """The hash of a text in canonical JSON: the key of a request, or the hash of a schema."""
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGEST_LENGTH]


def request_of(text: str) -> StoredRequest:
    """The request in a stored JSON text. Raises `LedgerError` if the text is not canonical JSON."""
    try:
        body = json.loads(text)
        if isinstance(body, dict) and _canonical(body) == text:
            return cast(StoredRequest, body)
    except (ValueError, RecursionError):
        pass
    raise LedgerError("the stored request is not canonical JSON")


# A run has few schemas. Each object is kept, so that its id is not used again.
_schemas: dict[int, tuple[Mapping[str, Any], str, str]] = {}


def _schema(schema: Mapping[str, Any]) -> tuple[str, str]:
    known = _schemas.get(id(schema))
    if known is None or known[0] is not schema:
        try:
            text = _canonical(_as_json(schema))
            known = (schema, digest_of(text), text)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"the schema cannot be written as JSON: {error}") from error
        if len(_schemas) >= 256:
            _schemas.clear()
        _schemas[id(schema)] = known
    return known[1], known[2]


def write_reply(reply: ChatReply) -> str:
    """A reply as JSON, without its empty fields."""
    usage = reply.usage
    fields: dict[str, object] = {"text": reply.text, "finish": reply.finish}
    if usage != _NO_USAGE:
        fields["usage"] = [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens]
    fields |= {name: value for name in _DETAILS if (value := getattr(reply, name))}
    # A lone surrogate has no UTF-8 form: it becomes a JSON escape.
    return _plain(fields).encode("utf-8", "backslashreplace").decode()


def reply_digest(key: str, reply: str, seconds: float, created: float) -> str:
    """The digest that is stored with a reply: it covers the key, the reply as it is stored, and its times."""
    written = f"{key}\0{float(seconds)!r}\0{float(created)!r}\0{reply}"
    return hashlib.blake2b(written.encode(), digest_size=_DIGEST_LENGTH // 2).hexdigest()


def check_digest(key: str, reply: str, seconds: float, created: float, digest: str) -> None:
    """Raise `LedgerError` if a reply is not as it was written."""
    try:
        if reply_digest(key, reply, seconds, created) == digest:
            return
    except (TypeError, ValueError):  # the times are not numbers
        pass
    raise LedgerError(
        f"the reply {key} is not as it was written (its digest differs): `outspoken ledger verify` names all such "
        "replies, and `outspoken ledger prune FILE --damaged` deletes them, so that they are asked for again"
    )


_NO_USAGE = Usage()
_DETAILS = ("model", "reasoning", "refusal", "structured", "found_in")


def reply_of(text: str) -> ChatReply:
    """The reply in a text from `write_reply`. Raises `LedgerError` for any other text."""
    try:
        fields = json.loads(text)
        details = {name: fields[name] for name in _DETAILS if name in fields}
        return ChatReply(fields["text"], fields["finish"], Usage(*fields.get("usage", ())), **details)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LedgerError(f"a stored reply cannot be read: {error!r}") from error
