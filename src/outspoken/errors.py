"""The tree of errors: one branch for each party that can be at fault.

`UsageError`: the caller. `ReplyError`: the model. `ProviderError`: the server or the network. `LedgerError` and
`OutputError`: the disk. `StoppedError`: nobody. Every message says what happened and what to do next, and none
contains a key.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from outspoken._install import install_command

if TYPE_CHECKING:
    from outspoken.chat_reply import ChatReply

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
    "StoppedError",
    "TailError",
    "UndefinedError",
    "UnknownNameError",
    "UsageError",
    "errors_at",
]


class OutspokenError(Exception):
    """Base of every error that this package raises on purpose.

    `exit_code` is the exit code of the command line: 2 if the request was invalid, 1 if the work failed.
    """

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # For other processes: the class need not take a message, and `original` can often not be sent.
        state = {name: None if name == "original" else value for name, value in self.__dict__.items()}
        return _restored, (type(self), self.args, state)


def _restored(kind: type[OutspokenError], args: tuple[object, ...], state: dict[str, object]) -> OutspokenError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class UsageError(OutspokenError, ValueError):
    """The request is invalid. Nothing was sent and nothing was paid for."""

    exit_code = 2


class UnknownNameError(UsageError):
    """An unknown name, reported with the closest match among the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, see: str = "") -> None:
        names = sorted(known) if isinstance(known, Set) else list(known)  # a set has no order of its own
        matches = [each for each in names if name and each.startswith(name)]
        matches = matches or difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.5)
        hint = f"did you mean {matches[0]!r}?" if matches else f"known: {', '.join(sorted(names))}"
        super().__init__(f"unknown {kind} {name!r}: {hint}" + (f" ({see})" if see else ""))


class UndefinedError(UsageError):
    """A figure that is not defined for these data, such as the diversity of one response."""


class MissingExtraError(UsageError):
    """An optional dependency is not installed; `extra` is the extra of this package that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an extra: {install_command(extra)}")


class MissingKeyError(UsageError):
    """The environment holds no API key. The message names the variable, never a value."""

    def __init__(self, provider: str, variable: str) -> None:
        super().__init__(f"no API key for {provider}: set the environment variable {variable}")


class PromptTooLongError(UsageError):
    """The prompt and the requested answer do not fit in the model's context."""


class ReplyError(OutspokenError):
    """The model replied, but the reply cannot be used.

    `reply` is the `ChatReply` if there is one (nothing that was paid for is lost); `text` is what the model wrote.
    """

    def __init__(self, message: str, *, text: str = "", reply: ChatReply | None = None) -> None:
        super().__init__(message)
        self.reply = reply
        self.text = text or (reply.text if reply is not None else "")


class TailError(ReplyError):
    """All candidates of the reply lie outside the requested tail."""


class ProviderError(OutspokenError):
    """The server, the network or the quota failed.

    `status` is the HTTP status (None without a response), `retry_after` the seconds that the server asked us to
    wait, `retryable` whether the same request may succeed later, `original` the underlying exception, `codes` the
    codes and names of fields in the server's error.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool = False,
        original: BaseException | None = None,
        codes: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.retryable = retryable
        self.original = original
        self.codes = codes


class StoppedError(OutspokenError):
    """The run was stopped before this request was sent, so nothing was paid for it.

    The message names the reason: an interrupt, a budget, a time limit, or the same failure many times in a row.
    """


class NothingLeftError(OutspokenError):
    """Every record was removed; the message lists how many each step removed."""


class LedgerError(OutspokenError):
    """The ledger file cannot be used."""


class OutputError(OutspokenError):
    """The responses cannot be written to the output; every reply is still in the ledger."""


@contextmanager
def errors_at(where: str) -> Iterator[None]:
    """Put the place of the fault in front of the message of a usage error in the block."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
