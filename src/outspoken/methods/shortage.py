"""The errors of a call without candidates, or with fewer than were asked for."""

from __future__ import annotations

from collections.abc import Sequence

from outspoken.candidate import Verbalized
from outspoken.chat_reply import ChatReply
from outspoken.distribution import Distribution
from outspoken.errors import OutspokenError, ProviderError, ReplyError, StoppedError, TailError
from outspoken.methods.table import METHODS

__all__ = ["ShortReplyError", "no_candidate", "too_few"]


class ShortReplyError(ReplyError):
    """Fewer candidates than requested, with `on_short="raise"`. `distribution` holds the candidates received."""

    def __init__(self, message: str, *, distribution: Distribution, reply: ChatReply | None = None) -> None:
        super().__init__(message, reply=reply)
        self.distribution = distribution


def no_candidate(
    stopped: OutspokenError | None, unusable: ReplyError | None, aside: Sequence[Verbalized], *, tail: str
) -> OutspokenError:
    """Why there is no candidate.

    `stopped` is the error that ended the requests, `unusable` that of the last reply that could not be used.
    `aside` are the candidates that do not count; the last repair of one outside the tail begins with `tail`.
    """
    if stopped is not None:
        passing = isinstance(stopped, StoppedError) or (isinstance(stopped, ProviderError) and stopped.retryable)
        if unusable is None or passing:
            return stopped
        unusable.__cause__ = stopped
        return unusable
    if aside:
        outside = all(candidate.repairs[-1].startswith(tail) for candidate in aside)
        return (TailError if outside else ReplyError)(
            f"none of the {len(aside)} candidates can be used; the first is "
            f"{aside[0].repairs[-1]}" + (": raise tau, or leave it out" if outside else ""),
            text="\n".join(candidate.text for candidate in aside),
            reply=unusable.reply if unusable else None,
        )
    return unusable or ReplyError("the model gave no candidate")


def too_few(distribution: Distribution, unusable: ReplyError | None) -> ShortReplyError:
    """The error for a distribution that lacks candidates."""
    made = distribution.provenance
    wanted = METHODS[made.method].candidates(made.k, made.turns)
    return ShortReplyError(
        f"{distribution.missing} of {wanted} candidates are missing after {made.requests} requests: "
        'raise top_up, lower k, or use on_short="return"',
        distribution=distribution,
        reply=unusable.reply if unusable else None,
    )
