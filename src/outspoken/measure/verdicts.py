"""The items that a judge evaluates, its verdicts (scores and preferences), and their summary."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from outspoken.chat_reply import Usage

__all__ = ["JudgeScore", "JudgeSummary", "JudgedItem", "Preference", "ResponsePair", "Verdict"]


@dataclass(frozen=True, slots=True)
class JudgedItem:
    """A response to judge, with its prompt. The `id` is for the caller; the judge never sees it."""

    prompt: str
    text: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class ResponsePair:
    """Two responses to one prompt."""

    prompt: str
    a: str
    b: str
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The fields of all verdicts.

    If the judge gave no verdict, `error` is the reason, `cause` its short form, and `unreadable` says whether the
    judge's last reply could not be read. `attempts` is the number of requests. `order` is the order in which the
    judge saw the criteria, and `position` the index of the item in the order of judging.
    """

    attempts: int
    order: tuple[str, ...]
    position: int
    error: str = ""
    cause: str = ""
    unreadable: bool = False
    id: str = ""

    @property
    def retried(self) -> bool:
        """Whether the judge was asked again."""
        return self.attempts > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeScore(Verdict):
    """The verdict on one response: the `scores` by criterion and their `value` from 0 to 100 (see `Rubric.value`).

    Both are None if the judge gave no verdict. `request` is the ledger key of the last request.
    """

    scores: Mapping[str, float] | None = None
    value: float | None = None
    request: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference(Verdict):
    """The verdict on a pair: the `winner` is "a", "b" or "tie", None if the judge gave no verdict.

    `first` is the judge's answer if it is shown `a` first, `second` the one if it is shown `b` first. If they
    differ, the winner is "tie" and `consistent` is False. `requests` are the ledger keys of the last request for
    each position.
    """

    winner: str | None = None
    consistent: bool | None = None
    first: str | None = None
    second: str | None = None
    requests: tuple[str, ...] = ()

    @property
    def retried(self) -> bool:
        """Whether the judge was asked again in one of the two positions."""
        return self.attempts > 2


R = TypeVar("R", bound=Verdict)


@dataclass(frozen=True, slots=True)
class JudgeSummary(Generic[R]):
    """Verdicts, the number of problems among them, and the cost of the judge.

    `unreadable` verdicts are missing because the replies could not be read, `retried` ones needed further
    requests, and `inconsistent` preferences depended on the position. `failures` counts missing verdicts by cause.
    The cost covers everything that the judge was asked so far: `requests` that were paid for, replies
    `from_ledger`, the `usage`, and US dollars (None: the price is unknown).
    """

    verdicts: tuple[R, ...]
    unreadable: int
    retried: int
    inconsistent: int
    failures: Mapping[str, int]
    requests: int
    from_ledger: int
    usage: Usage
    usd: float | None

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary of the numbers, without the verdicts."""
        counts = {"verdicts": len(self.verdicts), "tokens": self.usage.total_tokens}
        figures = ("unreadable", "retried", "inconsistent", "failures", "requests", "from_ledger", "usd")
        return counts | {name: getattr(self, name) for name in figures}
