"""Errors in OpenAI's form: the status, the body and the headers that a client receives. No HTTP here.

No message contains an address, and the log alone describes failures that only the operator can fix.
"""

from __future__ import annotations

import math
import re
from typing import TypedDict

from outspoken.errors import (
    MissingExtraError,
    MissingKeyError,
    OutspokenError,
    PromptTooLongError,
    ProviderError,
    ReplyError,
    StoppedError,
    TailError,
    UsageError,
)
from outspoken.models.openai_errors import one_line

__all__ = ["ErrorDocument", "RequestError", "error_body", "error_headers", "without_addresses"]

_ADDRESS = re.compile(r"\b(?:https?|wss?)://[^\s'\"<>()]*[^\s'\"<>().,:;#]")
_LONGEST_MESSAGE = 500
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
# Statuses of the upstream that the client can act on; any other one is the gateway's failure.
_CLIENT_STATUSES = frozenset({400, 404, 413, 415, 422, 429})
_OVERLOADED = frozenset({503, 529})
_TIMED_OUT = frozenset({408, 504})
_IN_THE_LOG = "its operator finds the reason in the log"
_GATEWAY_CODES = {502: "upstream_error", 503: "upstream_overloaded", 504: "upstream_timeout"}


class RequestError(UsageError):
    """A request that cannot be answered.

    `status` is the HTTP status, `code` and `param` (the field at fault) are fields of OpenAI's form, `retry_after`
    is the number of seconds after which the same request may succeed.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.retry_after = status, code, param, retry_after


class ErrorFields(TypedDict):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorDocument(TypedDict):
    """The body of every response that is an error."""

    error: ErrorFields


def error_body(error: Exception) -> tuple[int, ErrorDocument]:
    """The HTTP status and the body for an error."""
    status, code, message = _classified(error)
    return status, {
        "error": {
            "message": without_addresses(message),
            "type": _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error"),
            "param": error.param if isinstance(error, RequestError) else None,
            "code": code,
        }
    }


def without_addresses(message: str) -> str:
    """A message as one line with addresses replaced, so that clients do not learn where the upstream is."""
    return one_line(_ADDRESS.sub("the upstream", message[: 4 * _LONGEST_MESSAGE]), longest=_LONGEST_MESSAGE)


def error_headers(error: Exception) -> dict[str, str]:
    """The headers for an error: Retry-After and WWW-Authenticate, if they apply."""
    headers = {}
    wait = error.retry_after if isinstance(error, RequestError | ProviderError) else None
    if wait is not None and math.isfinite(wait):
        headers["Retry-After"] = str(math.ceil(wait))
    if isinstance(error, RequestError) and error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return headers


def _classified(error: Exception) -> tuple[int, str | None, str]:
    match error:
        case RequestError():
            return error.status, error.code, str(error)
        case PromptTooLongError():
            return 400, "context_length_exceeded", str(error)
        case MissingExtraError() | MissingKeyError():
            return 500, "server_misconfigured", f"this server cannot reach the model: {_IN_THE_LOG}"
        case UsageError():
            return 400, None, str(error)
        case TailError():
            return 422, "empty_tail", str(error)
        case ReplyError():
            return 502, "unreadable_reply", str(error)
        case ProviderError():
            return _provider_failure(error)
        case StoppedError():
            return 503, "stopping", str(error)
        case OutspokenError():
            return 500, "internal_error", f"this server failed internally: {_IN_THE_LOG}"
    return 500, "internal_error", f"an unexpected error in this server: {_IN_THE_LOG}"


def _provider_failure(error: ProviderError) -> tuple[int, str | None, str]:
    status = error.status
    if status in (401, 402, 403):
        message = "the upstream did not accept this server's key: its operator must check it"
        return 502, "upstream_authentication", message
    if status in _CLIENT_STATUSES and (status == 429 or not error.retryable):
        return status, {404: "model_not_found", 429: "rate_limit_exceeded"}.get(status), str(error)
    if status in _TIMED_OUT or (status is None and isinstance(error.original, TimeoutError)):
        status = 504
    else:
        status = 503 if status in _OVERLOADED else 502
    return status, _GATEWAY_CODES[status], str(error)
