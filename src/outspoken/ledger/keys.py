"""What identifies a reply: a versioned hash of canonical JSON of what changes the answer, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outspoken.chat import ChatReply, ChatRequest, Usage
from outspoken.errors import LedgerError, UsageError

__all__ = [
    "KEY_VERSION",
    "Draw",
    "LedgerEntry",
    "entry_of",
    "key_of",
    "reply_of",
    "request_of",
    "schema_hash",
    "score_entry",
    "write_reply",
]

KEY_VERSION = 1
_KEY_LENGTH = 32  # hexadecimal digits, 128 bits

Draw = tuple[int, ...]
"""Tells apart requests that say the same and want another answer each: (occurrence of the prompt among equal ones,
call for this prompt, request of this call), all counted from 0."""

_canonical = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")).encode
_plain = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A request as the ledger knows it: key, canonical JSON, and its schema's hash and JSON ("" for none)."""

    key: str
    request: str
    schema_hash: str = ""
    schema: str = ""


def entry_of(model: str, request: ChatRequest, draw: Draw) -> LedgerEntry:
    """The entry of a request to `model`. Raises `UsageError` for what JSON or UTF-8 cannot hold."""
    hashed, schema = ("", "") if request.schema is None else _schema(request.schema)
    sampling = request.sampling.to_dict()
    try:
        if "extra" in sampling:
            sampling["extra"] = _as_json(sampling["extra"])
        body: dict[str, Any] = {
            "v": KEY_VERSION,
            "model": model,
            "messages": [[message.role, message.content] for message in request.messages],
            "sampling": sampling,
            "schema": hashed or None,
            "draw": draw,
        }
        text = _canonical(body)
        return LedgerEntry(key_of(text), text, hashed, schema)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"the request cannot be written as JSON: {error}") from error


def score_entry(model: str, prompt: str, continuation: str) -> LedgerEntry:
    """The entry of the question how likely `continuation` is after `prompt`: both as messages, and no setting."""
    body = {
        "v": KEY_VERSION,
        "model": model,
        "messages": [["prompt", prompt], ["continuation", continuation]],
        "sampling": {},
        "schema": None,
        "draw": [0, 0, 0],
    }
    text = _canonical(body)
    return LedgerEntry(key_of(text), text)


def _as_json(value: Mapping[str, Any]) -> Any:
    """The value as it is read again: keys that are numbers have become text, and are sorted as such."""
    return json.loads(_plain(value))


def key_of(request: str) -> str:
    """The key of a request in canonical JSON."""
    return hashlib.sha256(request.encode()).hexdigest()[:_KEY_LENGTH]


def request_of(text: str) -> dict[str, Any]:
    """The request behind its stored JSON. Raises `LedgerError` where the JSON is not the canonical one."""
    try:
        body = json.loads(text)
        if isinstance(body, dict) and _canonical(body) == text:
            return body
    except (ValueError, RecursionError):
        pass
    raise LedgerError("the stored request is not canonical JSON")


# Schemas are the same few for a whole run. The schema is held, so that its id stays its own.
_schemas: dict[int, tuple[Mapping[str, Any], str, str]] = {}


def _schema(schema: Mapping[str, Any]) -> tuple[str, str]:
    known = _schemas.get(id(schema))
    if known is None or known[0] is not schema:
        try:
            text = _canonical(_as_json(schema))
            known = (schema, schema_hash(text), text)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"the schema cannot be written as JSON: {error}") from error
        if len(_schemas) >= 256:
            _schemas.clear()
        _schemas[id(schema)] = known
    return known[1], known[2]


def schema_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


def write_reply(reply: ChatReply) -> str:
    """A reply as JSON; what is empty is left out."""
    usage = reply.usage
    fields: dict[str, Any] = {"text": reply.text, "finish": reply.finish}
    if usage != _NO_USAGE:
        fields["usage"] = [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens]
    details = {
        "model": reply.model,
        "reasoning": reply.reasoning,
        "refusal": reply.refusal,
        "structured": reply.structured,
    }
    fields |= {name: value for name, value in details.items() if value}
    text = _plain(fields)
    # Half of a surrogate pair has no UTF-8; its JSON escape has.
    return text if text.isascii() or _encodable(text) else json.dumps(fields, separators=(",", ":"))


_NO_USAGE = Usage()


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def reply_of(text: str) -> ChatReply:
    """Read what `write_reply` wrote. Raises `LedgerError` where it is something else."""
    try:
        fields = json.loads(text)
        return ChatReply(
            fields["text"],
            fields["finish"],
            Usage(*fields.get("usage", ())),
            fields.get("model", ""),
            fields.get("reasoning", ""),
            fields.get("refusal", ""),
            fields.get("structured", False),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LedgerError(f"a stored reply cannot be read: {error!r}") from error
