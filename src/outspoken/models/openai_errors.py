"""Errors of an OpenAI-compatible server, each as one line with a remedy. No HTTP here."""

from __future__ import annotations

import html
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import jiter

from outspoken.errors import OutspokenError, PromptTooLongError, ProviderError
from outspoken.io.text import shorten

__all__ = ["RETRYABLE", "ErrorContext", "ErrorDetails", "error_in", "one_line", "retry_after"]

RETRYABLE = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
# The codes of OpenAI and llama.cpp, and the parameter that vLLM names.
_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error", "input_tokens"})
_MARKUP = re.compile(r"<(script|style)\b.*?</\1>|<[^<>]*>", re.DOTALL | re.IGNORECASE)
_MASKED_KEY = re.compile(r"[^\s'\"*]*\*{3,}[^\s'\"]*")
_MAX_MESSAGE = 300
_MAX_EXCERPT = 120
_ADVICE = {
    **dict.fromkeys((401, 403), "check the key in the environment variable {variable}"),
    404: "check the model's name and the base URL (`outspoken doctor` shows what the server offers)",
    405: "check the base URL, which usually ends in /v1",
}


@dataclass(frozen=True, slots=True)
class ErrorDetails:
    """The error object of a server: its message, its codes and names, and its status."""

    message: str
    codes: frozenset[str] = frozenset()
    status: int | None = None


def error_in(payload: Any) -> ErrorDetails | None:
    """The error object in a decoded body (some servers put it in a list), None without one."""
    if isinstance(payload, list) and payload:
        payload = payload[0]
    error = payload.get("error") if isinstance(payload, Mapping) else None
    return _details(error, payload) if error else None


def _details(error: object, payload: Mapping[str, object]) -> ErrorDetails:
    source = error if isinstance(error, Mapping) else payload
    if isinstance(error, Mapping):
        error = error.get("message") or error
    text = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False, default=str)
    code = source.get("code")
    status = code if type(code) is int and 400 <= code < 600 else None
    return ErrorDetails(text, frozenset(str(source.get(name)) for name in ("code", "type", "param")), status)


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
        no_quota = "insufficient_quota" in details.codes
        advice = _ADVICE.get(status or 0, "").format(variable=self.key_variable)
        if no_quota:
            advice = "the account has no quota left: add credit"
        event = f"{self.url} answered {status or 'an error'}" + (f": {message}" if message else "")
        return ProviderError(
            f"{event} ({advice})" if advice else event,
            status=status,
            retry_after=wait,
            retryable=not no_quota and (status is None or status in RETRYABLE),
        )

    def http_error(self, status: int, headers: Mapping[str, str], body: bytes) -> OutspokenError:
        """Our error for a response whose status is not a success. `headers` are case-insensitive."""
        if 300 <= status < 400:
            target = one_line(headers.get("Location", "elsewhere").partition("?")[0], self.secrets)
            return ProviderError(f"{self.url} redirects to {target}: correct the base URL", status=status)
        wait = retry_after(headers)
        try:
            payload = jiter.from_json(body)
        except ValueError:
            if status in (404, 405):
                return self.foreign(body, status=status)
            return self.error(ErrorDetails(_excerpt(body, self.secrets)), status=status, wait=wait)
        details = error_in(payload)
        if details is None and isinstance(payload, Mapping):
            details = _details(payload.get("detail") or payload.get("message") or payload, payload)
        return self.error(details or ErrorDetails(str(payload)), status=status, wait=wait)

    def foreign(self, body: bytes, *, status: int | None = None, retryable: bool = False) -> ProviderError:
        """Our error for an answer that is not in this protocol: a web page, plain text, nothing."""
        event = f"answered {status} with" if status else "answered with"
        excerpt = _excerpt(body, self.secrets)
        if retryable and body.lstrip().startswith(b"{"):
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
    for secret in secrets:
        text = text.replace(secret, "***")
    text = _MASKED_KEY.sub("***", text[: 4 * longest])
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return shorten(line, longest)


def _excerpt(body: bytes, secrets: tuple[str, ...]) -> str:
    text = html.unescape(body.decode("utf-8", "replace"))
    for secret in secrets:
        text = text.replace(secret, "***")
    return one_line(_MARKUP.sub(" ", text[: 40 * _MAX_EXCERPT]), longest=_MAX_EXCERPT)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds to wait according to the server, from `retry-after-ms` or `Retry-After` (seconds or a date)."""
    for name, unit in (("retry-after-ms", 1000.0), ("Retry-After", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) / unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(seconds, 0.0)
    try:
        return max(parsedate_to_datetime(headers.get("Retry-After", "")).timestamp() - time.time(), 0.0)
    except (ValueError, TypeError, OverflowError):
        return None
