"""Fields that not every server knows: what each has said about them, and requests without them. No HTTP here."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from outspoken.errors import ProviderError

__all__ = ["rename_limit", "send_with_optional"]

T = TypeVar("T")

_REJECTIONS = frozenset({400, 422, 501})
# How servers name an optional field in their errors.
_NAMES = {
    "response_format": re.compile(
        r"(?:response|output).?(?:format|config)|json.?(?:schema|mode|object)|structured.?(?:output|generation)"
        r"|guided|grammar",
        re.I,
    ),
    "stream_options": re.compile(r"stream.?options|include.?usage", re.I),
}
_UNKNOWN = re.compile(
    r"\bnot? (?:\w+ )?(?:support|permit|allow|implement|available|enabled)|n.t support|unsupported|unavailable"
    r"|unknown|unrecogni[sz]ed|unexpected|extra (?:input|field)|extra_forbidden|enabled only|must be"
    r"|invalid param",
    re.I,
)
_UNKNOWN_CODES = frozenset(
    {"unsupported_parameter", "unsupported_value", "unknown_parameter", "extra_forbidden", "not_implemented_error"}
)
# The field is known, and what this request put into it is not accepted.
_BAD_VALUE = re.compile(
    r"(?:invalid|bad|malformed) (?:json )?schema|schema (?:field|keyword|feature|conver)|\bin context\b|"
    r"fail\w* to (?:convert|compile|parse)|features? not supported",
    re.I,
)
_LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(slots=True)
class _Endpoint:
    """The optional fields of one model of one server: those that worked, those that it does not know, and values
    of known ones that it did not accept."""

    works: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    refused: deque[tuple[str, object]] = field(default_factory=lambda: deque(maxlen=64))


# By server and model, for the lifetime of the process.
_endpoints: dict[tuple[str, str], _Endpoint] = {}


async def send_with_optional(
    server: str, model: str, fields: Mapping[str, object], send: Callable[[Mapping[str, object]], Awaitable[T]]
) -> tuple[T, Mapping[str, object]]:
    """Call `send` with the optional `fields`; if the server rejects them, call it again without.

    Returns the result and the fields that were sent. A field is left out from then on, for this server and model,
    if the server said that it does not know it, the request succeeded without, and no request succeeded with it.
    After any other rejection only this request is sent without its fields. If no request succeeds, the last error
    is raised and nothing is remembered.
    """
    endpoint = _endpoints.get((server, model))
    if endpoint is None:
        endpoint = _endpoints[server, model] = _Endpoint()
    sent: Mapping[str, object] = fields
    if endpoint.unknown or endpoint.refused:
        refused = endpoint.refused
        sent = {n: v for n, v in fields.items() if n not in endpoint.unknown and (n, v) not in refused}
    unknown: set[str] = set()
    bad: list[tuple[str, object]] = []
    while True:
        try:
            result = await send(sent)
        except ProviderError as error:
            if not sent or error.retryable or error.status not in _REJECTIONS:
                raise
            named = [name for name in sent if _is_about(error, name)]
            if named and _BAD_VALUE.search(str(error)):
                bad += [(name, sent[name]) for name in named]
            elif named and (_UNKNOWN.search(str(error)) or error.codes & _UNKNOWN_CODES):
                unknown.update(named)
            without = named or list(sent)[-1:]
            sent = {name: value for name, value in sent.items() if name not in without}
        else:
            break
    if not endpoint.works >= sent.keys():
        endpoint.works |= sent.keys()
        endpoint.unknown -= sent.keys()
    endpoint.unknown |= unknown - endpoint.works
    endpoint.refused.extend(each for each in bad if each not in endpoint.refused)
    return result, sent


def rename_limit(body: dict[str, object], error: ProviderError) -> str:
    """Give the limit of tokens in `body` its other name, if `error` says that the server does not know the one.

    Returns the other name, "" if the error is about something else.
    """
    text = str(error)
    for name, other in (_LIMITS, _LIMITS[::-1]):
        first = min((text.find(each) for each in _LIMITS if each in text), default=-1)
        is_named = name in error.codes or (first >= 0 and text.startswith(name, first))
        known = not (_UNKNOWN.search(text) or error.codes & _UNKNOWN_CODES)
        if name in body and is_named and not known and error.status in _REJECTIONS:
            body[other] = body.pop(name)
            return other
    return ""


def _is_about(error: ProviderError, name: str) -> bool:
    pattern = _NAMES.get(name)
    return any(pattern.search(text) if pattern else name in text for text in (str(error), *error.codes))
