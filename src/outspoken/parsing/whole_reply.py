"""Reading a whole reply: the quick way for sound ones, then each way in the order in which it may begin."""

from __future__ import annotations

import re
from math import log

from jiter import from_json

from outspoken.distribution import Verbalized
from outspoken.errors import ReplyError
from outspoken.parsing.json_candidates import Found
from outspoken.parsing.json_finder import decoded, first_json, lone_value, read_json
from outspoken.parsing.lists import first_marker, read_lists
from outspoken.parsing.markup import first_tag, read_xml
from outspoken.parsing.parsed_reply import Reading
from outspoken.parsing.probabilities import weigh
from outspoken.parsing.reasoning import take_thoughts
from outspoken.reply_shape import ReplyShape

__all__ = ["parse"]

_new = tuple.__new__
_NO_META = Verbalized("").meta

_FENCE = re.compile(r"```[\w-]{0,20}[ \t]*+(?:\n|\Z)|~~~[\w-]{0,20}\s*+")


def parse(text: str, shape: ReplyShape | None = None) -> Reading:
    """Read a whole reply into candidates, in the order in which they stand.

    `shape` is what was asked for; without it everything is detected. Raises `ReplyError` (with the reply) for an
    empty reply, an empty list, prose without candidates, and JSON without candidates. Linear in the length.
    """
    if shape is not None and shape.kind == "text":
        return _single(text, shape)
    reading = None
    if shape is None:
        reading = _quick(text, "probability", 0)
    elif shape.kind == "candidates" and shape.scale == "probability" and shape.value_schema is None:
        reading = _quick(text, shape.weight, shape.k)
    return reading or _read(text, shape)


def _quick(text: str, key: str, k: int) -> Reading | None:
    """The reply that was asked for, without a flaw; None for every other.

    An object whose key comes twice hides a candidate, which costs time to notice and can only be so where there
    are fewer than the `k` that were asked for.
    """
    candidates = []
    try:
        for item in (value := from_json(text.encode(), catch_duplicate_keys=not k))["responses"]:
            content, stated = item["text"], item[key]
            content = content.strip()
            if not 0.0 < stated < 1.0 or len(item) != 2 or not content:
                return None
            # Its own constructor takes as long as all the rest of this loop.
            candidates.append(_new(Verbalized, (content, stated, log(stated), (), None, _NO_META)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not candidates or len(candidates) < k or len(value) != 1:
        return None
    return Reading(tuple(candidates))


def _single(text: str, shape: ReplyShape) -> Reading:
    text, repairs = _whole_characters(text)
    thoughts, body, taken = take_thoughts(text, anchored=False)
    body = body.strip()
    if not body:
        raise _empty(text, thoughts)
    if shape.value_schema is None:
        return Reading((Verbalized(body),), thoughts, (*repairs, *taken))
    content, value, mended = lone_value(body, shape)
    return Reading((Verbalized(content, repairs=mended, value=value),), thoughts, (*repairs, *taken))


def _read(text: str, shape: ReplyShape | None) -> Reading:
    original = text
    text, repairs = _whole_characters(text)
    found = Found()
    thoughts = body = ""
    if not (text.lstrip()[:1] in ("{", "[", '"') and decoded(text.strip(), shape, found) and found.items):
        found = Found()
        thoughts, body, taken = take_thoughts(text)
        if not body.strip():
            raise _empty(original, thoughts)
        repairs += taken
        _search(body, shape, found, last_only="unclosed-think" in taken)
    if not found.items:
        raise _nothing(original, found, body)
    reasoning = "\n\n".join(part for part in (thoughts, *found.reasoning) if part)
    return Reading(weigh(found.items, shape), reasoning, tuple(dict.fromkeys((*repairs, *found.repairs))))


def _search(body: str, shape: ReplyShape | None, found: Found, *, last_only: bool) -> None:
    """Try the ways of writing candidates, the one that begins first and is surest before the others."""
    sure, weak = first_json(body)
    tag = first_tag(body)
    marker = first_marker(body)
    ways: list[tuple[int, int, str]] = []
    if sure >= 0:
        ways.append((0, sure, "json"))
    elif weak >= 0:
        ways.append((1 if marker < 0 or weak < marker else 3, weak, "json"))
    if tag >= 0:
        ways.append((0, tag, "xml"))
    ways.append((2, 0, "lists"))
    for _, _, way in sorted(ways):
        if way == "lists" and (found.listed or "empty" in found.repairs):
            return
        if way == "lists":
            read_lists(_FENCE.sub("", body), shape, found)
        else:
            _marked(way, body, shape, found, last_only)
        if found.items:
            return


def _marked(way: str, body: str, shape: ReplyShape | None, found: Found, last_only: bool) -> None:
    if way == "json":
        span = read_json(body, shape, found, last_only=last_only)
    else:
        span = read_xml(body, shape, found)
        if found.items and (shape is None or shape.kind != "xml"):
            found.repairs.append("as-xml")
    if span is None or not found.items:
        return
    before, after = body[: span[0]], body[span[1] :]
    if _FENCE.search(before):
        found.repairs.insert(0, "fenced")
    prose = _FENCE.sub("", before).strip()
    if prose:
        found.repairs.insert(0, "prefixed")
        found.reasoning.insert(0, prose)
    if after.replace("```", "").strip(" \n\t\r;,.`~"):
        found.repairs.append("suffixed")


def _whole_characters(text: str) -> tuple[str, tuple[str, ...]]:
    """Join surrogate pairs and replace halves of them, which no other program would take."""
    try:
        text.encode()
    except UnicodeEncodeError:
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return joined, ("surrogate",) if "\ufffd" in joined else ()
    return text.removeprefix("\ufeff"), ()


def _empty(text: str, thoughts: str) -> ReplyError:
    if thoughts:
        return ReplyError(
            "the reply ends inside its reasoning: raise max_tokens, or ask for less thinking", text=text
        )
    return ReplyError("the reply is empty: ask again, or raise max_tokens", text=text)


def _nothing(text: str, found: Found, body: str) -> ReplyError:
    start = " ".join(text.split())[:80]
    if found.listed:
        return ReplyError(f"the reply's list holds no candidates: ask again ({start!r})", text=text)
    if body.lstrip()[:1] in ("{", "[") or not body:
        return ReplyError(
            f"the reply is JSON without candidates: ask again, or raise max_tokens if it was cut off ({start!r})",
            text=text,
        )
    return ReplyError(
        "the reply is prose without candidates, perhaps a refusal: reword the prompt or ask another model "
        f"({start!r})",
        text=text,
    )
