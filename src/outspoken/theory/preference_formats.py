"""The layouts in which preference data are published: their columns, and the meaning of their rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from outspoken.batch.source_formats import listed
from outspoken.errors import UsageError
from outspoken.io.text import shorten

__all__ = [
    "LAYOUTS",
    "PreferenceFormat",
    "PreferencePair",
    "PreferenceRow",
    "PreferenceRowError",
    "RatedResponse",
    "layout_of",
]

_PROMPTS = ("prompt", "question", "instruction")
_RATINGS = ("helpfulness", "rating", "score")
_TEXTS = ("text", "response", "content")
_TURN, _HUMAN = "\n\nAssistant:", "\n\nHuman:"
_INFO = {"subreddit": "SUBREDDIT: r/", "title": "TITLE: ", "post": "", "article": ""}
_LONGEST = 40


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two responses to a prompt. `preferred`: the first one was preferred. `gap`: the correctness of the first
    minus that of the second, None without ratings. `row` is the row of the pair, or of its first response."""

    prompt: str
    first: str
    second: str
    preferred: bool
    gap: float | None
    row: int


@dataclass(frozen=True, slots=True)
class RatedResponse:
    """One response with its rating; pairs are built from the responses to the same prompt."""

    prompt: str
    text: str
    rating: float
    correctness: float | None
    row: int


class PreferenceRowError(Exception):
    """A row or one of its responses cannot be used. It is counted by `reason`; `detail` describes the value."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


PreferenceRow = Mapping[str, object]
"""A row of a preference file, by its columns."""

Items = Iterator[PreferencePair | RatedResponse | PreferenceRowError]
"""The content of a row. An error stands for one response that cannot be used; the others of the row still can."""


@dataclass(frozen=True, slots=True)
class PreferenceFormat:
    """A layout. `columns` describes its columns, `ordered` says whether the order within its pairs carries
    information. `fits` recognises it by the columns and the first row of a file, `items` reads a row."""

    name: str
    columns: str
    ordered: bool
    fits: Callable[[Sequence[str], PreferenceRow], bool]
    items: Callable[[PreferenceRow, int], Items]


def layout_of(name: str, columns: Sequence[str], first: PreferenceRow) -> PreferenceFormat:
    """The layout of the file `name`, recognised by its columns and its first row.

    Raises `UsageError`, which lists the known layouts, if none fits.
    """
    recognised = next((layout for layout in LAYOUTS if layout.fits(columns, first)), None)
    if recognised is None:
        known = "; ".join(f"{layout.columns} ({layout.name})" for layout in LAYOUTS)
        raise UsageError(
            f"{name} has no layout of preferences: its columns are {listed(columns)}; known are {known}"
        )
    return recognised


def _published_pair(row: PreferenceRow, position: int) -> Items:
    """prompt, chosen, rejected: texts."""
    yield _pair(_prompt(row), row.get("chosen"), row.get("rejected"), True, position)


def _dialogues(row: PreferenceRow, position: int) -> Items:
    """chosen and rejected as whole dialogues that differ in the last turn of the assistant: hh-rlhf."""
    chosen, rejected = _text(row.get("chosen")), _text(row.get("rejected"))
    differing = (at for at, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    shared = chosen.rfind(_TURN, 0, next(differing, min(len(chosen), len(rejected))))
    if shared < 0:
        raise PreferenceRowError("no shared prompt", "the dialogues share no turn that ends in 'Assistant:'")
    end = shared + len(_TURN)
    if any(turn in text[end:] for text in (chosen, rejected) for turn in (_TURN, _HUMAN)):
        raise PreferenceRowError("no shared prompt", "the dialogues differ before their last answer")
    yield _pair(chosen[:end], chosen[end:], rejected[end:], True, position)


def _chats(row: PreferenceRow, position: int) -> Items:
    """chosen and rejected as lists of messages; the messages before the last one are the prompt."""
    (before, chosen), (before_other, rejected) = (_chat(row.get(name)) for name in ("chosen", "rejected"))
    if before != before_other:
        raise PreferenceRowError("no shared prompt", "the chats differ before their last answer")
    yield _pair(_prompt(row, before), chosen, rejected, True, position)


def _response(row: PreferenceRow, position: int) -> Items:
    """prompt, response, helpfulness, and optionally correctness: one response per row."""
    yield _rated(_prompt(row), row, position)


def _completions(row: PreferenceRow, position: int) -> Items:
    """instruction and completions with their scores: UltraFeedback. Truthfulness is used as correctness."""
    prompt = _prompt(row)
    for entry in _list(row.get("completions"), "completions"):
        if isinstance(entry, Mapping):
            score = entry.get("fine-grained_score")
            annotations = entry.get("annotations")
            truth = annotations.get("truthfulness") if isinstance(annotations, Mapping) else None
            entry = {
                "response": entry.get("response"),
                "score": entry.get("overall_score") if score is None else score,
                "correctness": _number(truth.get("Rating")) if isinstance(truth, Mapping) else None,
            }
        yield _rated(prompt, entry, position)


def _responses(row: PreferenceRow, position: int) -> Items:
    """prompt and responses, each with a text, a rating and optionally its correctness."""
    prompt = _prompt(row)
    for entry in _list(row.get("responses"), "responses"):
        yield _rated(prompt, entry, position)


def _summaries(row: PreferenceRow, position: int) -> Items:
    """info, two summaries and which was chosen: OpenAI's comparisons for TL;DR."""
    value = row.get("info")
    info = {name: _as_text(value.get(name)) for name in _INFO} if isinstance(value, Mapping) else {}
    post = info.get("post") or info.get("article")
    if not post:
        raise PreferenceRowError("no prompt", "info holds neither a post nor an article")
    head = [label + info[name] for name, label in _INFO.items() if label and info[name]]
    prompt = "\n\n".join([*head, f"POST: {post}" if head else post, "TL;DR:"])
    summaries = _list(row.get("summaries"), "summaries")
    if len(summaries) != 2:
        raise PreferenceRowError("not two summaries", f"{len(summaries)} of them")
    texts = [entry.get("text") if isinstance(entry, Mapping) else entry for entry in summaries]
    choice = row.get("choice")
    if isinstance(choice, bool) or choice not in (0, 1, "0", "1"):
        raise PreferenceRowError("choice out of range", _shown(choice))
    yield _pair(prompt, texts[0], texts[1], int(choice) == 0, position)


def _has(*names: str, prompt: bool = False) -> Callable[[Sequence[str], PreferenceRow], bool]:
    return lambda columns, _: set(names) <= {*columns} and not (prompt and {*_PROMPTS}.isdisjoint(columns))


def _are_chats(columns: Sequence[str], first: PreferenceRow) -> bool:
    return {"chosen", "rejected"} <= set(columns) and isinstance(first.get("chosen"), (list, tuple))


LAYOUTS = (
    PreferenceFormat(
        "ultrafeedback", "instruction, completions", True, _has("instruction", "completions"), _completions
    ),
    PreferenceFormat("tldr", "info, summaries, choice", True, _has("info", "summaries", "choice"), _summaries),
    PreferenceFormat("responses", "prompt, responses", True, _has("responses", prompt=True), _responses),
    PreferenceFormat(
        "chats", "chosen and rejected as lists of messages, optionally prompt", False, _are_chats, _chats
    ),
    PreferenceFormat(
        "pairs", "prompt, chosen, rejected", False, _has("chosen", "rejected", prompt=True), _published_pair
    ),
    PreferenceFormat(
        "hh-rlhf", "chosen and rejected as whole dialogues", False, _has("chosen", "rejected"), _dialogues
    ),
    PreferenceFormat(
        "helpsteer", "prompt, response, helpfulness", True, _has("response", "helpfulness", prompt=True), _response
    ),
)
"""The layouts, the more specific ones first. In pairs of chosen and rejected the order carries no information."""


def _pair(prompt: str, first: object, second: object, preferred: bool, position: int) -> PreferencePair:
    one, other = _text(first), _text(second)
    if one.strip() == other.strip():
        raise PreferenceRowError("equal texts")
    return PreferencePair(prompt, one, other, preferred, None, position)


def _rated(prompt: str, entry: object, position: int) -> RatedResponse | PreferenceRowError:
    if not isinstance(entry, Mapping):
        return PreferenceRowError("response that is not text", _shown(entry))
    try:
        text = _text(next((entry[name] for name in _TEXTS if name in entry), None))
    except PreferenceRowError as error:
        return error
    stated = next((entry[name] for name in _RATINGS if name in entry), None)
    rating, correctness = _number(stated), _number(entry.get("correctness"))
    if rating is None:
        return PreferenceRowError("rating that is not a number", _shown(stated))
    if correctness is None and entry.get("correctness") is not None:
        return PreferenceRowError("rating that is not a number", f"correctness {_shown(entry['correctness'])}")
    return RatedResponse(prompt, text, rating, correctness, position)


def _prompt(row: PreferenceRow, before: Sequence[tuple[str, str]] = ()) -> str:
    """The prompt of a row: the messages before the answer if there are any, else its column."""
    value = next((row[name] for name in _PROMPTS if row.get(name)), None)
    if not before and isinstance(value, (list, tuple)):
        before = [_message(message) for message in value]
    if before:
        # A single message is the prompt; in a longer chat each message names its role.
        text = (
            before[0][1] if len(before) == 1 else "\n\n".join(f"{role.title()}: {text}" for role, text in before)
        )
    else:
        text = _as_text(value)
    if not text.strip():
        raise PreferenceRowError("no prompt")
    return text


def _chat(value: object) -> tuple[list[tuple[str, str]], str]:
    """The messages before the last one, and the text of the last one, which must be the assistant's."""
    messages = [_message(message) for message in _list(value, "messages")]
    if not messages or messages[-1][0] not in ("assistant", "gpt"):
        raise PreferenceRowError("chat without an answer", "its last message is not the assistant's")
    return messages[:-1], messages[-1][1]


def _message(value: object) -> tuple[str, str]:
    """The role and the text of a message."""
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
        raise PreferenceRowError("message that is not text", _shown(value))
    return str(value.get("role", "user")), value["content"]


def _list(value: object, what: str) -> Sequence[object]:
    if not isinstance(value, (list, tuple)):
        raise PreferenceRowError("responses that are not a list", f"{what}: {_shown(value)}")
    return value


def _text(value: object) -> str:
    if value is None or (isinstance(value, str) and not value.strip()):
        raise PreferenceRowError("empty response")
    if not isinstance(value, str):
        raise PreferenceRowError("response that is not text", _shown(value))
    return value


def _as_text(value: object) -> str:
    return value if isinstance(value, str) and not value.isspace() else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _shown(value: object) -> str:
    return shorten(repr(value), _LONGEST)
