"""Reading a whole reply.

`parse` first tries the requested JSON (`_parse_expected`). `_parse_any` reads anything else: it removes special
tokens and the reasoning, and tries each way of writing candidates, the most reliable first. What a stream hands
out early (`stream.EarlyReader`) is always part of the result.
"""

from __future__ import annotations

import re
from math import log

from jiter import from_json

from outspoken.candidate import Verbalized
from outspoken.errors import ReplyError
from outspoken.parsing.candidates import CandidateList, ParsedReply, RawCandidate, stated_probabilities
from outspoken.parsing.json_escapes import has_doubtful_escapes
from outspoken.parsing.json_text import first_json, lone_value, read_json, read_valid_json
from outspoken.parsing.markup import first_tag, plain_tags, read_xml
from outspoken.parsing.reasoning import split_reasoning, unwrapped, without_draft, without_end_tokens
from outspoken.parsing.stream import EarlyReader
from outspoken.reply_shape import ReplyShape

__all__ = ["ReplyParser", "parse"]

_FENCE = re.compile(r"(?m:^|(?<=: )|(?<=\s))[ \t]{0,8}(?:```+|~~~+)[\w+.-]{0,20}[ \t]*(?:\n|\Z)")
_FENCE_LINE = re.compile(r"[ \t]{0,8}(?P<marks>```+|~~~+)[ \t]*[^\s`~]{0,20}")
_TABLE_HEADER = re.compile(r"^[ \t]{0,8}\[\[[^\W\d][\w. -]{0,60}\]\]", re.MULTILINE)
_NEXT_OBJECT = re.compile(r"\s*+[^\s,{}\[\]]?\s*+,")
_LONGEST_END = 40
_new = tuple.__new__
_NO_META = Verbalized("").meta


def parse(text: str, shape: ReplyShape | None = None) -> ParsedReply:
    """Read a whole reply into candidates, in their order in the reply.

    `shape` is the requested shape; without it everything is detected. Raises `ReplyError` (with the reply) for an
    empty reply, an empty list, prose without candidates, and JSON without candidates. Linear in the length.
    """
    if shape is not None and shape.kind == "text":
        return _parse_text(text, shape)
    expected = None
    if shape is None:
        expected = _parse_expected(text, "probability", 0)
    elif shape.kind == "candidates" and shape.scale == "probability" and shape.value_schema is None:
        expected = _parse_expected(text, shape.weight, shape.k)
    return expected or _parse_any(text, shape)


def _parse_expected(text: str, key: str, k: int) -> ParsedReply | None:
    """A reply in exactly the requested JSON; None for any other.

    A repeated key in an object hides a candidate: with `k` candidates there is none, so it is not searched for.
    """
    if "\\" in text and has_doubtful_escapes(text):
        return None
    candidates = []
    try:
        for item in (value := from_json(text.encode(), catch_duplicate_keys=not k))["responses"]:
            content, stated = item["text"], item[key]
            content = content.strip()
            if not 0.0 < stated < 1.0 or len(item) != 2 or not content:
                return None
            # The constructor of `Verbalized` would take as long as the rest of this loop.
            candidates.append(_new(Verbalized, (content, stated, log(stated), (), None, _NO_META)))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not candidates or len(candidates) < k or len(value) != 1:
        return None
    return ParsedReply(tuple(candidates))


def _parse_text(text: str, shape: ReplyShape) -> ParsedReply:
    """A reply that is one candidate as a whole."""
    original = text
    text, repairs = _valid_unicode(text)
    text, tokens = without_end_tokens(text)
    reasoning, body, removed = split_reasoning(text, anchored=False)
    body, more_tokens = without_end_tokens(body)
    body, removed = body.strip(), (*tokens, *removed, *more_tokens)
    if not body:
        raise _empty_reply(original, reasoning)
    if reasoning:
        body = unwrapped(body)
    if shape.value_schema is None:
        return ParsedReply((Verbalized(body),), reasoning, (*repairs, *removed))
    content, value, own_repairs = lone_value(body, shape)
    return ParsedReply((Verbalized(content, repairs=own_repairs, value=value),), reasoning, (*repairs, *removed))


def _parse_any(text: str, shape: ReplyShape | None) -> ParsedReply:
    original = text
    text, repairs = _valid_unicode(text)
    text, tokens = without_end_tokens(text)
    repairs += tokens
    candidates = CandidateList(shape)
    reasoning = body = ""
    looks_like_json = text.lstrip()[:1] in ("{", "[", '"')
    if not (looks_like_json and read_valid_json(text.strip(), candidates) and candidates.items):
        candidates = CandidateList(shape)
        reasoning, body, removed = split_reasoning(text)
        body, tokens = without_end_tokens(body)
        body, drafts = without_draft(body)
        body = unwrapped(body)
        tokens += drafts
        if not body.strip():
            raise _empty_reply(original, reasoning)
        repairs += (*removed, *tokens)
        body, odd = plain_tags(body)
        repairs += odd
        _read_first_format(body, candidates, last_only="unclosed-think" in removed)
    items = candidates.items
    if shape is not None and not _begins_with(items, early := EarlyReader.whole(original, shape)):
        items = _with_early(early, original, shape, candidates)
    if not items:
        raise _no_candidates(original, candidates, body)
    return ParsedReply(
        stated_probabilities(items, shape),
        "\n\n".join(part for part in (reasoning, *candidates.reasoning) if part),
        tuple(dict.fromkeys((*repairs, *candidates.repairs))),
    )


def _begins_with(items: list[RawCandidate], early: EarlyReader) -> bool:
    """Whether the candidates begin with those that a stream of the same reply has handed out."""
    given = early.items
    return len(items) >= len(given) and all(
        (one.text, one.weight, one.key) == (other.text, other.weight, other.key)
        for one, other in zip(given, items, strict=False)
    )


def _with_early(early: EarlyReader, text: str, shape: ReplyShape, candidates: CandidateList) -> list[RawCandidate]:
    """The candidates that a stream has handed out, and those read from the text after the last of them."""
    rest = CandidateList(shape)
    remainder = text[early.end :]
    if shape.kind == "xml":
        read_xml(remainder, rest)
    elif (comma := _NEXT_OBJECT.match(remainder)) is not None:
        read_json("[" + remainder[comma.end() :], rest)
    else:
        candidates.repairs.append("suffixed")
    candidates.repairs += rest.repairs
    return [*early.items, *rest.items]


def _read_first_format(body: str, into: CandidateList, *, last_only: bool) -> None:
    """Try each way of writing candidates until one gives some: by reliability, then by position in the text."""
    # Imported here: the patterns of running text take long to build, and a sound reply needs none.
    from outspoken.parsing.list_lines import limited
    from outspoken.parsing.lists import first_marker, read_lists, states_weight

    certain, possible = first_json(body)
    tag = first_tag(body)
    formats = [(2, 0, "lists")]
    is_table = "[[" in body and _TABLE_HEADER.search(body) is not None
    if ((certain < 0 and tag < 0) or is_table) and _read_as_records(limited(body, into), into):
        return
    if certain >= 0:
        formats.append((0, certain, "json"))
    elif possible >= 0 and not is_table:
        marker = first_marker(body)
        is_first = possible < marker if marker >= 0 else not states_weight(body[:possible])
        formats.append((1 if is_first else 3, possible, "json"))
    if tag >= 0:
        formats.append((0, tag, "xml"))
    for _, _, name in sorted(formats):
        if name == "lists" and (into.list_seen or "empty" in into.repairs or last_only):
            return
        if name == "lists":
            read_lists(limited(body, into), into)
        else:
            _read_delimited(name, body, into, last_only)
        if into.items or "placeholder" in into.repairs:
            return


def _read_as_records(body: str, into: CandidateList) -> bool:
    from outspoken.parsing.records import read_records

    lines = body.split("\n")
    fence = next((at for at, line in enumerate(lines) if _FENCE_LINE.fullmatch(line.rstrip())), None)
    if fence is not None:
        match = _FENCE_LINE.fullmatch(lines[fence].rstrip())
        marks = match["marks"] if match is not None else ""
        last = next((at for at in range(len(lines) - 1, fence, -1) if lines[at].startswith(marks)), len(lines))
        if lines[fence][:1] in "`~" and read_records(lines[fence + 1 : last], into):
            into.repairs.append("fenced")
            return True
    return read_records(lines, into)


def _read_delimited(name: str, body: str, into: CandidateList, last_only: bool) -> None:
    """Read JSON or XML, and record what was before and after it."""
    if name == "json":
        span = read_json(body, into, last_only=last_only)
    else:
        body = _without_xml_draft(body, into)
        span = read_xml(body, into)
        if len(into.items) == 1 and not into.items[0].stated and _read_list_inside(into):
            span = None
        if into.items and (into.shape is None or into.shape.kind != "xml"):
            into.repairs.append("as-xml")
    if span is None or not into.items:
        return
    before, after = body[: span[0]], body[span[1] :]
    if last_only and len(after.strip()) > _LONGEST_END:
        into.items.clear()
        return
    if _FENCE.search(before):
        into.repairs.insert(0, "fenced")
    prose = _FENCE.sub("", before).strip()
    if prose:
        into.repairs.insert(0, "prefixed")
        into.reasoning.insert(0, prose)
    if after.replace("```", "").strip(" \n\t\r;,.`~"):
        into.repairs.append("unread" if name == "json" and _holds_more(after) else "suffixed")


_REST_OF_JSON = re.compile(r"[\s)\]}]*+[-,:;.\d\"'{(\[]")
_REST_OF_NUMBER = re.compile(r"[.,]?\d[\d.]{0,20}+(?:[eE][-+]?\d{1,3})?\s*+[}\])]")
_FIELD = re.compile(r"[\"'”]\s*+[:：]\s*+[\"'“\d{\[]")
_OPENING = re.compile(r"\{|[\"'”]\s*+[:：]\s*+[\"'“\d{\[]")
_STRING = re.compile(r"[,:{(\[]\s*+(?:\"[^\"\n]{1,400}+\"|'(?:[^'\n]|'(?=\w)){1,400}+')\s*+[,:)\]}]")


def _holds_more(after: str) -> bool:
    """Whether strings of JSON follow a value, because a bracket ended it early, or an answer that replaces it."""
    from outspoken.parsing.prose import replaces

    if (opening := _OPENING.search(after)) is not None and replaces(after[: opening.start()]):
        return True
    if _REST_OF_NUMBER.match(after) or _FIELD.search(after.partition("\n")[0]):
        return True
    return _REST_OF_JSON.match(after) is not None and _STRING.search(after) is not None


_BETWEEN_ELEMENTS = re.compile(r"</\w{1,40}>([^<>]{8,600})(?=<\w)")


def _without_xml_draft(body: str, into: CandidateList) -> str:
    """The text after the last words between elements that say that a later answer replaces the one before."""
    from outspoken.parsing.prose import replaces

    cut = max((each.end() for each in _BETWEEN_ELEMENTS.finditer(body) if replaces(each[1])), default=0)
    if cut:
        into.repairs.append("draft")
    return body[cut:]


def _read_list_inside(into: CandidateList) -> bool:
    """Read the list that the one element holds as its text, if its entries state weights."""
    from outspoken.parsing.list_lines import limited
    from outspoken.parsing.lists import read_lists

    inside = CandidateList(into.shape)
    if "\n" not in into.items[0].text or not read_lists(limited(into.items[0].text, inside), inside):
        return False
    if len(inside.items) < 2 or not any(item.stated for item in inside.items):
        return False
    into.items[:] = inside.items
    into.repairs += inside.repairs
    return True


def _valid_unicode(text: str) -> tuple[str, tuple[str, ...]]:
    """Join surrogate pairs and replace halves of pairs, which cannot be encoded; remove a byte order mark."""
    try:
        text.encode()
    except UnicodeEncodeError:
        joined = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return joined, ("surrogate",) if "\ufffd" in joined else ()
    return text.removeprefix("\ufeff"), ()


def _empty_reply(text: str, reasoning: str) -> ReplyError:
    if reasoning:
        return ReplyError(
            "the reply ends inside its reasoning: raise max_tokens, or ask for less thinking", text=text
        )
    return ReplyError("the reply is empty: ask again, or raise max_tokens", text=text)


def _no_candidates(text: str, read: CandidateList, body: str) -> ReplyError:
    start = " ".join(text.split())[:80]
    if read.list_seen:
        message = "the reply's list holds no candidates: ask again"
    elif body.lstrip()[:1] in ("{", "[") or not body:
        message = "the reply is JSON without candidates: ask again, or raise max_tokens if it was cut off"
    else:
        message = (
            "the reply is prose without candidates, perhaps a refusal: reword the prompt or ask another model"
        )
    return ReplyError(f"{message} ({start!r})", text=text)


class ReplyParser:
    """Reads a reply piece by piece; `close` returns the same `ParsedReply` as `parse` on the whole text.

    With the `shape` that was requested, the candidates of a reply that begins with it (JSON, or XML elements) are
    returned as soon as they are complete, and are part of the final result, whatever follows. Candidates of all
    other replies wait for `close`: a later part of the reply may replace them.
    """

    def __init__(self, shape: ReplyShape | None = None) -> None:
        self._shape = shape
        self._pieces: list[str] = []
        self._early = EarlyReader(shape) if shape is not None else None

    def feed(self, piece: str) -> list[Verbalized]:
        """The candidates that this piece completes. Never raises."""
        self._pieces.append(piece)
        if self._early is None:
            return []
        return [entry for item in self._early.feed(piece) for entry in stated_probabilities([item], self._shape)]

    def close(self) -> ParsedReply:
        """The whole result. Raises `ReplyError` as `parse` does."""
        return parse("".join(self._pieces), self._shape)
