"""Errors of an OpenAI-compatible server, each as one line with a remedy. No HTTP here."""

from __future__ import annotations

import base64
import html
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

import jiter

from outspoken.errors import OutspokenError, PromptTooLongError, ProviderError
from outspoken.io.text import shorten

__all__ = ["RETRYABLE", "ErrorContext", "ErrorDetails", "error_in", "masked", "one_line", "retry_after"]

# Those from 520 on are Cloudflare's, and 529 is Anthropic's.
RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, *range(520, 525), 529, 530})
# The codes of OpenAI and llama.cpp, and the parameter that vLLM names.
_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error", "input_tokens"})
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_MASKED_KEY = re.compile(r"[^\s'\"*]*\*{3,}[^\s'\"]*")
_MAX_MESSAGE = 300
_MAX_EXCERPT = 120
_MAX_BODY = 2**18
_MAX_SECRET = 2**11
_MIN_ENCODED = 8
_LONGEST_WAIT = 1e10
# Groq's codes for a reply of the model that its own decoder did not accept: another reply may be accepted.
_FAILED_GENERATION = frozenset({"json_validate_failed", "tool_use_failed", "output_parse_failed"})
_FILTERED = frozenset({"content_filter", "content_policy_violation"})
# In the body of a success, the kind of error stands for its status.
_STATUS_OF = {
    "overloaded_error": 529,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
}
_MESSAGES = ("message", "detail", "msg", "error_msg", "error_message", "status_msg", "title")
_ADVICE = {
    **dict.fromkeys((401, 403), "check the key in the environment variable {variable}"),
    404: "check the model's name and the base URL (`outspoken doctor` shows what the server offers)",
    405: "check the base URL, which usually ends in /v1",
}


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """The error object of a server: its message, its codes and names, and its status.

    `failed_generation`: the model's own reply was at fault, so that the same request may succeed.
    """

    message: str
    codes: frozenset[str] = frozenset()
    status: int | None = None
    failed_generation: bool = False


def error_in(payload: Any) -> ErrorDetails | None:
    """The error object in a decoded body (some servers put it in a list), None without one."""
    if isinstance(payload, list) and payload:
        payload = payload[0]
    if not isinstance(payload, Mapping):
        return None
    error = payload.get("error")
    return _details(payload) if error or payload.get("object") == "error" else None


def error_without_choices(payload: Any) -> ErrorDetails | None:
    """The error in a body that should hold choices and holds none: a message under any usual name."""
    details = error_in(payload)
    if details is None and isinstance(payload, Mapping):
        inner = payload.get("base_resp")  # of MiniMax
        source = inner if isinstance(inner, Mapping) else payload
        if any(source.get(name) for name in _MESSAGES):
            return _details(source)
    return details


def _details(payload: Mapping[str, object]) -> ErrorDetails:
    """The error in `payload`: an object, a text, one inside another, or `payload` itself."""
    source: Mapping[str, object] = payload
    error = payload.get("error")
    for _ in range(4):
        if not (isinstance(error, Mapping) and error):
            break
        source, error = error, error.get("error")
    message: object = next((source[name] for name in _MESSAGES if source.get(name)), None)
    said = error if isinstance(error, str) and error else message or error or source
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False, default=str)
    metadata = source.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(raw := metadata.get("raw"), str):
        text = f"{text}: {raw}"  # OpenRouter repeats the words of the provider behind it here
    codes = frozenset(str(source[name]) for name in ("code", "type", "param") if source.get(name) is not None)
    return ErrorDetails(
        text,
        codes,
        _status_in(source, codes),
        "failed_generation" in source or bool(codes & _FAILED_GENERATION),
    )


def _status_in(source: Mapping[str, object], codes: frozenset[str]) -> int | None:
    for name in ("code", "status", "status_code"):
        value = source.get(name)
        if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdecimal():
            value = int(value)
        if type(value) is int and 400 <= value < 600:
            return value
    return next((status for code, status in _STATUS_OF.items() if code in codes), None)


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """A server, for the messages of its errors.

    `url` has no credentials and no query, `key_variable` is the environment variable of its key, and `secrets` are
    the texts that no message may contain.
    """

    url: str
    key_variable: str
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def error(
        self, details: ErrorDetails, *, status: int | None = None, wait: float | None = None
    ) -> PromptTooLongError | ProviderError:
        """Our error for one that the server reported, with `status` or inside a successful response."""
        message = one_line(details.message, self.secrets)
        if details.codes & _TOO_LONG:
            return PromptTooLongError(f"{message}: shorten the prompt, or lower max_tokens")
        status = status or details.status
        transient = details.failed_generation or status is None or status in RETRYABLE
        no_quota = "insufficient_quota" in details.codes
        advice = _ADVICE.get(status or 0, "").format(variable=self.key_variable)
        if no_quota:
            advice = "the account has no quota left: add credit"
        elif details.codes & _FILTERED:
            advice = "the provider's content filter refused the prompt: reword it, or ask another model"
        event = f"{self.url} answered {status or 'an error'}" + (f": {message}" if message else "")
        return ProviderError(
            f"{event} ({advice})" if advice else event,
            status=status,
            retry_after=wait,
            retryable=not no_quota and transient,
            codes=details.codes,
        )

    def http_error(self, status: int, headers: Mapping[str, str], body: bytes) -> OutspokenError:
        """Our error for a response whose status is not a success. `headers` are case-insensitive."""
        if 300 <= status < 400:
            target = one_line(_place(masked(headers.get("Location", ""), self.secrets)))
            return ProviderError(
                f"{self.url} redirects to {target} ({status}), which is not followed: correct the base URL",
                status=status,
            )
        wait = retry_after(headers)
        try:
            payload = jiter.from_json(body)
        except ValueError:
            if status in (404, 405):
                return self.foreign(body, status=status)
            return self.error(ErrorDetails(_excerpt(body, self.secrets)), status=status, wait=wait)
        details = error_in(payload)
        if details is None and isinstance(payload, Mapping):
            details = _details(payload)
        return self.error(details or ErrorDetails(str(payload)), status=status, wait=wait)

    def too_large(self, most: int) -> ProviderError:
        """Our error for an answer of more than `most` bytes, of which the rest was not read."""
        return ProviderError(
            f"{self.url}: the answer is larger than {most / 2**20:,.4g} MiB (unpacked) and was not read to its "
            "end: lower max_tokens, or ask another server"
        )

    def foreign(self, body: bytes, *, status: int | None = None, retryable: bool = False) -> ProviderError:
        """Our error for an answer that is not in this protocol: a web page, plain text, nothing."""
        event = f"answered {status} with" if status else "answered with"
        excerpt = _excerpt(body, self.secrets)
        if retryable and body[:_MAX_BODY].lstrip().startswith(b"{"):
            return ProviderError(
                f"{self.url}: the reply was cut off or is damaged JSON: try again", retryable=True
            )
        return ProviderError(
            f"{self.url} does not look like an OpenAI-compatible API (a base URL usually ends in /v1): "
            f"it {event} {repr(excerpt) if excerpt else 'nothing'}",
            status=status,
            retryable=retryable,
        )


def one_line(text: str, secrets: tuple[str, ...] = (), *, longest: int = _MAX_MESSAGE) -> str:
    """`text` as one printable line of at most `longest` characters, without secrets and masked keys."""
    text = _MASKED_KEY.sub("***", _without(text, secrets)[: 4 * longest])
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return shorten(line, longest)


def masked(text: str, secrets: tuple[str, ...]) -> str:
    """`text` with *** for each secret, also in other cases, escaped, percent-encoded, in Base64 or hexadecimal."""
    return _pattern_of(secrets).sub("***", text) if secrets else text


def _without(text: str, secrets: tuple[str, ...]) -> str:
    """The masked beginning of `text`; where it was cut, so much is left out that no part of a secret remains."""
    if len(text) <= _MAX_BODY:
        return masked(text, secrets)
    return masked(text[:_MAX_BODY], secrets)[:-_MAX_SECRET]


@lru_cache(maxsize=64)
def _pattern_of(secrets: tuple[str, ...]) -> re.Pattern[str]:
    forms: dict[str, None] = {}
    for secret in secrets:
        plain = secret.encode()
        forms[secret] = forms[plain.hex()] = None
        for before in range(3):
            # The signs that hold bits of what is around the secret differ from one text to the next.
            core = base64.b64encode(bytes(before) + plain).decode()[before + (before > 0) :]
            forms[core.rstrip("=")[: -1 if (before + len(plain)) % 3 else None]] = None
    kept = [form for form in forms if form in secrets or len(form) >= _MIN_ENCODED]
    return re.compile("|".join("".join(map(_any_form, form)) for form in kept), re.IGNORECASE)


def _any_form(sign: str) -> str:
    """A pattern for one character, also percent-encoded or escaped in JSON or HTML."""
    same = {"+": "-", "/": "_"}.get(sign, "")  # in Base64 for URLs
    percent = "".join(f"%{byte:02x}" for byte in sign.encode("utf-8", "replace"))
    number = ord(sign)
    forms = [sign, percent, f"\\u{number:04x}", f"&#{number};", f"&#x{number:x};", *same]
    return f"(?:{'|'.join(map(re.escape, forms))})"


def _place(location: str) -> str:
    """A URL without user, password, query and fragment."""
    try:
        parts = urlsplit(location)
        host = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "an invalid address"
    scheme = f"{parts.scheme}:" if parts.scheme else ""
    return f"{scheme}//{host}{parts.path}" if host else scheme + parts.path or "nowhere"


def _excerpt(body: bytes, secrets: tuple[str, ...]) -> str:
    text = _without(html.unescape(body[: _MAX_BODY + _MAX_SECRET].decode("utf-8", "replace")), secrets)
    return one_line(_MARKUP.sub(" ", text[: 40 * _MAX_EXCERPT]), longest=_MAX_EXCERPT)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds to wait according to the server, from `retry-after-ms` or `Retry-After` (seconds or a date).

    They may be any number: who waits decides how long is too long.
    """
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return min(max(seconds, 0.0), _LONGEST_WAIT)
    try:
        return max(parsedate_to_datetime(headers.get("Retry-After", "")).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
