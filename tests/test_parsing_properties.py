"""What must hold for every reply: round trips, chunks, and that nothing but our own error escapes."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import time
from collections.abc import Sequence
from xml.sax.saxutils import escape

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from outspoken.candidate import Verbalized
from outspoken.errors import ReplyError
from outspoken.parsing import REPAIRS, ParsedReply, ReplyParser, parse
from outspoken.parsing.json_answers import may_be_placeholder
from outspoken.reply_shape import ReplyShape

pytestmark = pytest.mark.core


SHAPES = {
    "detected": None,
    "candidates": ReplyShape("candidates", k=3),
    "percent": ReplyShape("candidates", k=3, weight="percent", scale="percent"),
    "nll": ReplyShape("candidates", k=3, weight="nll", scale="nll"),
    "strings": ReplyShape("strings", k=3),
    "list": ReplyShape("list", k=3),
    "xml": ReplyShape("xml", k=3),
    "answer": ReplyShape("answer"),
    "structured": ReplyShape("candidates", k=3, value_schema={"type": "object"}),
    "text": ReplyShape("text"),
}

# Before a letter, these control characters are read as the backslash of a command.
characters = st.characters(exclude_categories=("Cs",), exclude_characters="\b\f\r")
texts = st.text(characters, min_size=1, max_size=60).map(str.strip).filter(bool)
tame = (
    st.text(st.sampled_from("abc déß咖啡مر 😀'"), min_size=1, max_size=30)
    .map(str.strip)
    .filter(lambda text: any(map(str.isalpha, text)))
)
probabilities = st.floats(0.001, 0.999).map(lambda p: round(p, 4))
candidates = st.lists(st.tuples(texts, probabilities), min_size=1, max_size=6)
tame_candidates = st.lists(st.tuples(tame, probabilities), min_size=2, max_size=5)
JSON_SIGNS = (
    '{"responses": [',
    '{"text": "',
    '"probability": ',
    '", ',
    *"{}[](),:\"'\\\n/#",
    '"""',
    "\\ud800",
    "/*",
    "//",
)
TAGS = ("<think>", "</think>", "<response>", "<text>", "</text>", "<probability>", "<![CDATA[", "]]>", "&#55296;")
LISTED = (
    "1. ",
    "- ",
    "(p=0.2)",
    "概率：",
    "| a | b |\n|---|---|\n",
    "Response 1:",
    "Probability: ",
    "text",
    "```json\n",
)
NUMBERS = ("0.3", "12%", "NaN", "1e999", "٣", "²", "True", "9" * 20)
ODD = ("“", "”", "\ud800", "\x00", "\u2028", "\u0130")
fragments = st.sampled_from((*JSON_SIGNS, *TAGS, *LISTED, *NUMBERS, *ODD))
soups = st.lists(fragments | st.text(max_size=5), max_size=40).map("".join)


def as_json(entries: Sequence[tuple[str, float]], *, ascii_only: bool = True, indent: int | None = None) -> str:
    items = [{"text": text, "probability": p} for text, p in entries]
    return json.dumps({"responses": items}, ensure_ascii=ascii_only, indent=indent)


def as_xml(entries: Sequence[tuple[str, float]]) -> str:
    return "\n".join(
        f"<response><text>{escape(text)}</text><probability>{p}</probability></response>" for text, p in entries
    )


def pairs(entries: Sequence[Verbalized]) -> list[tuple[str, float | None]]:
    return [(entry.text, entry.stated) for entry in entries]


def check(reading: ParsedReply) -> None:
    assert reading.candidates
    assert set(reading.repairs) <= REPAIRS.keys()
    for entry in reading.candidates:
        assert set(entry.repairs) <= REPAIRS.keys()
        assert entry.text == entry.text.strip() != ""
        entry.text.encode()
        json.dumps([entry.value, dict(entry.meta)])
        assert (entry.stated is None) == (entry.log_stated is None)
        if entry.stated is not None and entry.log_stated is not None:
            assert 0 <= entry.stated <= 1
            assert entry.stated == pytest.approx(math.exp(entry.log_stated))


def feed(text: str, cuts: Sequence[int], shape: ReplyShape | None) -> tuple[list[Verbalized], ReplyParser]:
    reader = ReplyParser(shape)
    bounds = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    early = [entry for a, b in itertools.pairwise(bounds) for entry in reader.feed(text[a:b])]
    return early, reader


@given(
    candidates,
    st.booleans(),
    st.sampled_from([None, 2]),
    st.sampled_from(["{}", "```json\n{}\n```", "Sure: {} Bye.", "<think>x</think>{}"]),
)
def test_json_round_trip(
    entries: list[tuple[str, float]], ascii_only: bool, indent: int | None, wrap: str
) -> None:
    text = wrap.replace("{}", as_json(entries, ascii_only=ascii_only, indent=indent))
    for shape in (None, SHAPES["candidates"]):
        assert pairs(parse(text, shape).candidates) == entries


@given(candidates)
def test_python_round_trip(entries: list[tuple[str, float]]) -> None:
    assert pairs(parse(repr([{"text": text, "probability": p} for text, p in entries])).candidates) == entries
    assert (
        pairs(parse(f"Here: {{'responses': {[{'p': p, 'text': t} for t, p in entries]!r}}}").candidates) == entries
    )


@given(candidates)
def test_xml_round_trip(entries: list[tuple[str, float]]) -> None:
    for shape in (None, SHAPES["xml"]):
        assert pairs(parse(as_xml(entries), shape).candidates) == entries


LINES = {
    "numbered": lambda at, text, p: f"{at}. {text} (probability: {p})",
    "numbered-next": lambda at, text, p: f"{at}) {text}\n   Probability: {p}",
    "bullets": lambda at, text, p: f"- {text} — p = {p}",
    "headed": lambda at, text, p: f"**Response {at}** (p={p}): {text}\n",
    "fields": lambda at, text, p: f"Text: {text}\nProbability: {p}\n",
    "square": lambda at, text, p: f"{at}. {text} [{p}]",
    "chinese": lambda at, text, p: f"{at}、{text}（概率：{p}）",
    "german": lambda at, text, p: f"{at}. {text} (Wahrscheinlichkeit: {str(p).replace('.', ',')})",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
@given(entries=tame_candidates)
def test_list_round_trip(line, entries: list[tuple[str, float]]) -> None:  # type: ignore[no-untyped-def]
    text = "\n".join(line(at + 1, text, p) for at, (text, p) in enumerate(entries))
    assert pairs(parse(text).candidates) == entries


@given(tame_candidates, st.data())
def test_one_damage_costs_at_most_one_candidate(entries: list[tuple[str, float]], data: st.DataObject) -> None:
    text = as_json(entries, ascii_only=False, indent=data.draw(st.sampled_from([None, 1])))
    at = data.draw(st.integers(1, len(text) - 1))
    damage = data.draw(st.sampled_from(["drop", "comma", "quote", "newline"]))
    insert = {"drop": "", "comma": ",", "quote": '"', "newline": "\n"}[damage]
    damaged = text[:at] + insert + text[at + (damage == "drop") :]
    read = parse(damaged)
    check(read)
    if text[at] in ' ,:"' or insert:
        kept = [text for text, _ in entries if text in {entry.text for entry in read.candidates}]
        assert len(kept) >= len(entries) - 2


@given(candidates, st.data())
def test_a_cut_keeps_every_complete_candidate(entries: list[tuple[str, float]], data: st.DataObject) -> None:
    text = as_json(entries)
    at = data.draw(st.integers(1, len(text) - 1))
    try:
        reading = parse(text[:at])
    except ReplyError:
        read = []
    else:
        check(reading)
        read = pairs(reading.candidates)
    complete = [entry for stop, entry in enumerate(entries) if len(as_json(entries[: stop + 1])) - 2 <= at]
    assert read[: len(complete)] == complete
    assert len(read) <= len(complete) + 1


@given(soups, st.sampled_from(sorted(SHAPES)))
@settings(max_examples=600)
def test_nothing_but_a_reply_error_escapes(text: str, name: str) -> None:
    with contextlib.suppress(ReplyError):
        check(parse(text, SHAPES[name]))


@given(soups, st.lists(st.integers(0, 100), max_size=8), st.sampled_from(sorted(SHAPES)))
@settings(max_examples=300)
def test_feeding_anything_never_raises_and_closes_like_parse(text: str, cuts: list[int], name: str) -> None:
    early, reader = feed(text, cuts, SHAPES[name])
    for entry in early:
        check(ParsedReply((entry,)))
    try:
        whole = parse(text, SHAPES[name])
    except ReplyError:
        with pytest.raises(ReplyError):
            reader.close()
    else:
        assert reader.close() == whole


SOUND = {
    "candidates": (as_json, "candidates", True),
    "detected": (as_json, "detected", False),
    "fenced": (
        lambda entries: f'Sure, "these":\n```json\n{as_json(entries, indent=2)}\n```',
        "candidates",
        False,
    ),
    "think": (lambda entries: f'<think>a "{{draft" [</think>\n{as_json(entries)}', "candidates", True),
    "prompted-think": (lambda entries: f'"{{draft" [</think>\n{as_json(entries)}', "candidates", False),
    "reasoning": (
        lambda entries: '{"reasoning": "a [b] {c} \\"d\\"", ' + as_json(entries)[1:],
        "candidates",
        True,
    ),
    "rows": (
        lambda entries: "\n".join(json.dumps({"text": t, "probability": p}) for t, p in entries),
        "candidates",
        False,
    ),
    "top-list": (
        lambda entries: json.dumps([{"probability": p, "text": t} for t, p in entries]),
        "candidates",
        True,
    ),
    "strings": (lambda entries: json.dumps({"responses": [t for t, _ in entries]}), "strings", True),
    "list": (lambda entries: json.dumps([t for t, _ in entries], ensure_ascii=False), "list", True),
    "xml": (as_xml, "xml", True),
    "xml-detected": (as_xml, "detected", False),
    "answer": (lambda entries: json.dumps({"reasoning": "so", "response": entries[0][0]}), "answer", False),
    "structured": (
        lambda entries: json.dumps(
            {"responses": [{"text": {"a": t, "items": [{"b": 1}]}, "probability": p} for t, p in entries]}
        ),
        "structured",
        True,
    ),
}


@pytest.mark.parametrize(("render", "name", "is_early"), SOUND.values(), ids=SOUND.keys())
@given(entries=candidates, cuts=st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=60)
def test_chunks_of_a_sound_reply_come_out_alike(
    render, name: str, is_early: bool, entries: list[tuple[str, float]], cuts: list[int]
) -> None:  # type: ignore[no-untyped-def]
    # What may be a placeholder is not handed out before the end.
    assume(not any(may_be_placeholder(text) for text, _ in entries))
    text = render(entries)
    whole = parse(text, SHAPES[name]).candidates
    for places in (cuts, range(len(text))):
        early, reader = feed(text, places, SHAPES[name])
        assert tuple(early) == (whole if is_early else ())
        assert reader.close().candidates == whole


@given(candidates, st.sampled_from(["candidates", "strings", "list", "xml", "percent"]), st.data())
def test_what_was_handed_out_stays_whatever_follows(
    entries: list[tuple[str, float]], name: str, data: st.DataObject
) -> None:
    """At every prefix, with any end: the early candidates are the first of those that are read."""
    text = {
        "candidates": as_json,
        "percent": as_json,
        "strings": lambda e: json.dumps({"responses": [t for t, _ in e]}),
        "list": lambda e: json.dumps([t for t, _ in e]),
        "xml": as_xml,
    }[name](entries)
    cut = data.draw(st.integers(0, len(text)))
    end = data.draw(soups | st.just("</think>" + text) | st.just(f"\n\nCorrected:\n```json\n{text}\n```"))
    damaged = text[:cut] + end
    early, reader = feed(damaged, data.draw(st.lists(st.integers(0, len(damaged)), max_size=6)), SHAPES[name])
    if early:
        read = reader.close().candidates
        assert pairs(read)[: len(early)] == pairs(early)


WORK = {
    "openings": '{"',
    "brackets": "[",
    "braces": "{",
    "quotes": '"',
    "escapes": '"\\',
    "objects": '{"text": "a "b" c", ',
    "lists": '["a "b",',
    "tags": "<text>",
    "comments": "/*",
    "thoughts": "<think></think>",
    "numbers": "1. a (0.5)\n",
    "labels": "probability: ",
    "blanks": " ",
    "lines": "\n",
    "table": "|-|-\n",
}


@pytest.mark.parametrize("unit", WORK.values(), ids=WORK.keys())
@pytest.mark.parametrize("start", ["", '{"responses": [{"text": "', "<response>"], ids=["bare", "json", "xml"])
def test_long_hostile_replies_end(unit: str, start: str) -> None:
    text = start + unit * (30_000 // len(unit))
    with contextlib.suppress(ReplyError):
        check(parse(text))


ONE_AFTER_ANOTHER = {
    "blanks and dashes": ("", "\t", "-"),
    "words to the end": ("[", '{"text":>"text": "', "é"),
    "backslashes before brackets": ('{"a": ', "\\", "["),
    "brackets before entities": ("&[", "[{", "&lt;"),
    "values": ("{", "「", '"}, {"text": "a'),
    "entries on one line": ("[", ";- (0.5)", "a"),
}


@pytest.mark.parametrize(("start", "one", "other"), ONE_AFTER_ANOTHER.values(), ids=ONE_AFTER_ANOTHER.keys())
def test_the_time_for_hostile_replies_does_not_grow_with_the_square(start: str, one: str, other: str) -> None:
    text = start + one * (150_000 // len(one)) + other * (150_000 // len(other))
    started = time.process_time()
    with contextlib.suppress(ReplyError):
        check(parse(text))
    assert time.process_time() - started < 10


def test_entries_on_one_line_beyond_the_limit_are_named() -> None:
    read = parse(", ".join(f"{place}. word{place} (0.5)" for place in range(1, 10_003)))
    assert len(read.candidates) == 10_000
    assert "too-long" in read.repairs
