"""The tree of errors: one branch for each party that can be at fault.

`UsageError` is the caller's, `ReplyError` the model's, `ProviderError` the server's or the network's,
`LedgerError` and `OutputError` the disk's, `StoppedError` nobody's. Every message says what to do next, and no
message carries a key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from outspoken.chat import ChatReply
    from outspoken.distribution import Distribution

__all__ = [
    "LedgerError",
    "MissingExtraError",
    "MissingKeyError",
    "NothingLeftError",
    "OutputError",
    "OutspokenError",
    "PromptTooLongError",
    "ProviderError",
    "ReplyError",
    "ShortReplyError",
    "StoppedError",
    "TailError",
    "UndefinedError",
    "UnknownNameError",
    "UsageError",
]


class OutspokenError(Exception):
    """Root of everything this package raises on purpose.

    `exit_code` is what the command line ends with: 2 where the caller asked wrongly, 1 where the work failed.
    """

    exit_code = 1


class UsageError(OutspokenError, ValueError):
    """The caller asked for something that cannot be: nothing was sent, nothing was paid for."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not in the list, with the nearest ones that are."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, see: str = "") -> None:
        names = sorted(known)
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"
        super().__init__(f"unknown {kind} {name!r}: {hint}" + (f" ({see})" if see else ""))


class UndefinedError(UsageError):
    """A figure that does not exist for what was given: the diversity of one response, the share of nothing."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; `extra` is the extra of this package that brings it."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an extra: pip install 'outspoken[{extra}]'")


class MissingKeyError(UsageError):
    """No API key in the environment; names the variable, never a value."""

    def __init__(self, provider: str, variable: str) -> None:
        super().__init__(f"no key for {provider}: set the environment variable {variable}")


class PromptTooLongError(UsageError):
    """The prompt and the wanted answer do not fit the model's context."""


class ReplyError(OutspokenError):
    """The model answered, and the answer cannot be used.

    `reply` is the whole `ChatReply` where one exists (nothing that was paid for is thrown away) and `text` is
    what the model wrote.
    """

    def __init__(self, message: str, *, text: str = "", reply: ChatReply | None = None) -> None:
        super().__init__(message)
        self.reply = reply
        self.text = text or (reply.text if reply is not None else "")


class TailError(ReplyError):
    """Every candidate that came lies outside the tail that was asked for."""


class ShortReplyError(ReplyError):
    """Fewer candidates than asked for, raised because the caller chose `on_short="raise"`.

    `distribution` holds those that came.
    """

    def __init__(self, message: str, *, distribution: Distribution, reply: ChatReply | None = None) -> None:
        super().__init__(message, reply=reply)
        self.distribution = distribution


class ProviderError(OutspokenError):
    """The server, the network or the quota failed.

    `status` is the HTTP status (None where no response came), `retry_after` the seconds the server asked us to
    wait, `retryable` whether the same request may succeed later, `original` the exception underneath.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        original: BaseException | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.retryable = retryable
        self.original = original


class StoppedError(OutspokenError):
    """The run was told to end before this request was sent: nothing was paid for it.

    The message says what ended it: an interrupt, a budget, a time limit, or the same failure again and again.
    """


class NothingLeftError(OutspokenError):
    """Every record was removed; the message says which step removed what."""


class LedgerError(OutspokenError):
    """The ledger's file cannot be used."""


class OutputError(OutspokenError):
    """Responses cannot be written to where they should go; every reply is still in the ledger."""
