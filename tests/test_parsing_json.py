"""JSON as models write it: other keys, damage inside strings, backslashes, encodings, wrappers, other languages."""

from __future__ import annotations

import json
import random
import urllib.parse
from collections.abc import Sequence

import pytest

from outspoken.errors import ReplyError
from outspoken.parsing import REPAIRS, ParsedReply, json_text, parse
from outspoken.reply_shape import ReplyShape

pytestmark = pytest.mark.core

Row = tuple[str, list[tuple[str, float | None]], str | None]
TWO: list[tuple[str, float | None]] = [("Paris", 0.6), ("Rome", 0.4)]
SOUND = '{"responses": [{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}]}'
ITEMS = '[{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}]'
ROWS = '{"text": "Paris", "probability": 0.6}\n{"text": "Rome", "probability": 0.4}'


def said(reading: ParsedReply) -> list[tuple[str, float | None]]:
    return [(e.text, e.stated if e.stated is None else round(e.stated, 9)) for e in reading.candidates]


def repairs(reading: ParsedReply) -> set[str]:
    return {*reading.repairs, *(repair for entry in reading.candidates for repair in entry.repairs)}


def check(text: str, expected: Sequence[tuple[str, float | None]], repair: str | None) -> None:
    reading = parse(text)
    assert said(reading) == list(expected)
    found = repairs(reading)
    assert found <= REPAIRS.keys()
    assert repair is None or repair in found
    if len(expected) > 1:
        asked = parse(text, ReplyShape("candidates", k=len(expected)))
        assert said(asked) == list(expected)


KEYS = {
    "suffixes": '{"response_1": "Paris", "probability_1": 0.6, "response_2": "Rome", "probability_2": 0.4}',
    "suffixes-turned": '{"probability_1": 0.6, "response_1": "Paris", "probability_2": 0.4, "response_2": "Rome"}',
    "suffixes-apart": '{"response_1": "Paris", "response_2": "Rome", "probability_1": 0.6, "probability_2": 0.4}',
    "suffixes-weights-turned": '{"response_1": "Paris", "response_2": "Rome", "probability_2": 0.4, "probability_1": 0.6}',
    "suffixes-glued": '{"text1": "Paris", "prob1": 0.6, "text2": "Rome", "prob2": 0.4}',
    "suffixes-letters": '{"answer_a": "Paris", "confidence_a": 0.6, "answer_b": "Rome", "confidence_b": 0.4}',
    "suffixes-capitals": '{"Answer A": "Paris", "Confidence A": 0.6, "Answer B": "Rome", "Confidence B": 0.4}',
    "suffixes-guesses": '{"G1": "Paris", "P1": 0.6, "G2": "Rome", "P2": 0.4}',
    "suffixes-numbered": '{"Response 1": "Paris", "Probability 1": "60%", "Response 2": "Rome", "Probability 2": "40%"}',
    "suffixes-of": '{"response_1": "Paris", "response_1_probability": 0.6, "response_2": "Rome", "response_2_probability": 0.4}',
    "suffixes-before": '{"1_text": "Paris", "1_probability": 0.6, "2_text": "Rome", "2_probability": 0.4}',
    "suffixes-middle": '{"response_1_text": "Paris", "response_1_probability": 0.6, "response_2_text": "Rome", "response_2_probability": 0.4}',
    "suffixes-chinese": '{"回答1": "Paris", "概率1": 0.6, "回答2": "Rome", "概率2": 0.4}',
    "suffixes-own-words": '{"city_1": "Paris", "probability_1": 0.6, "city_2": "Rome", "probability_2": 0.4}',
    "suffixes-total": '{"response_1": "Paris", "probability_1": 0.6, "response_2": "Rome", "probability_2": 0.4, "total": 1.0}',
    "suffixes-note": '{"question": "Where?", "response_1": "Paris", "probability_1": 0.6, "response_2": "Rome", "probability_2": 0.4}',
    "suffixes-in-list": '[{"response_1": "Paris", "probability_1": 0.6}, {"response_2": "Rome", "probability_2": 0.4}]',
    "suffixes-in-list-together": '[{"response_1": "Paris", "probability_1": 0.6, "response_2": "Rome", "probability_2": 0.4}]',
    "suffixes-inside": '{"responses": {"response_1": "Paris", "probability_1": 0.6, "response_2": "Rome", "probability_2": 0.4}}',
    "suffixes-objects": '{"response_1": {"text": "Paris"}, "probability_1": 0.6, "response_2": {"text": "Rome"}, "probability_2": 0.4}',
    "suffixes-reasoning": '{"reasoning_1": "Big.", "response_1": "Paris", "probability_1": 0.6, "reasoning_2": "Old.", "response_2": "Rome", "probability_2": 0.4}',
    "suffixes-damaged": '{"response_1": "Paris", "probability_1": 0.6 "response_2": "Rome", "probability_2": 0.4,}',
    "suffixes-python": "{'response_1': 'Paris', 'probability_1': 0.6, 'response_2': 'Rome', 'probability_2': 0.4}",
    "numbers": '{1: {"text": "Paris", "probability": 0.6}, 2: {"text": "Rome", "probability": 0.4}}',
    "numbers-pairs": '{"1": ["Paris", 0.6], "2": ["Rome", 0.4]}',
    "numbers-tuples": '{1: ("Paris", 0.6), 2: ("Rome", 0.4)}',
    "list-of-mappings": '[{"Paris": 0.6}, {"Rome": 0.4}]',
    "list-of-mappings-percents": '[{"Paris": "60%"}, {"Rome": "40%"}]',
    "list-of-mappings-keyed": '{"responses": [{"Paris": 0.6}, {"Rome": 0.4}]}',
    "list-of-mappings-objects": '[{"Paris": {"p": 0.6}}, {"Rome": {"p": 0.4}}]',
    "list-of-named": '[{"response_1": {"text": "Paris", "probability": 0.6}}, {"response_2": {"text": "Rome", "probability": 0.4}}]',
    "mapping-of-objects": '{"Paris": {"p": 0.6}, "Rome": {"p": 0.4}}',
    "mapping-of-objects-reasons": '{"Paris": {"p": 0.6, "reason": "It is big."}, "Rome": {"p": 0.4, "reason": "It is old."}}',
    "mapping-total": '{"Paris": 0.6, "Rome": 0.4, "total": 1.0}',
    "mapping-sum-in-list": '{"responses": {"Paris": 0.6, "Rome": 0.4, "Sum": 1.0}}',
    "list-total": '[{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}, {"text": "Total", "probability": 1.0}]',
    "total-beside": '{"responses": ' + ITEMS + ', "total": 1.0, "count": 2}',
    "nested-lists": '[[{"text": "Paris", "probability": 0.6}], [{"text": "Rome", "probability": 0.4}]]',
    "nested-lists-keyed": '{"responses": [[{"text": "Paris", "probability": 0.6}], [{"text": "Rome", "probability": 0.4}]]}',
    "nested-twice": '{"data": {"output": {"responses": ' + ITEMS + "}}}",
    "triples": '[[1, "Paris", 0.6], [2, "Rome", 0.4]]',
    "rows-with-header": '[["text", "probability"], ["Paris", 0.6], ["Rome", 0.4]]',
    "rows-and-columns": '{"columns": ["text", "probability"], "data": [["Paris", 0.6], ["Rome", 0.4]]}',
    "columns-own-names": '{"cities": ["Paris", "Rome"], "values": [0.6, 0.4]}',
    "columns-percents": '{"responses": ["Paris", "Rome"], "probabilities": ["60%", "40%"]}',
    "columns-in-list": '[["Paris", "Rome"], [0.6, 0.4]]',
    "columns-with-ids": '{"ids": [1, 2], "texts": ["Paris", "Rome"], "probabilities": [0.6, 0.4]}',
    "columns-nested": '{"responses": {"texts": ["Paris", "Rome"], "probabilities": [0.6, 0.4]}}',
    "weights-apart": '{"responses": {"1": "Paris", "2": "Rome"}, "probabilities": {"1": 0.6, "2": 0.4}}',
    "weights-by-text": '{"responses": ["Paris", "Rome"], "probabilities": {"Paris": 0.6, "Rome": 0.4}}',
    "objects-and-weights": '{"responses": [{"text": "Paris"}, {"text": "Rome"}], "probabilities": [0.6, 0.4]}',
    "deep-text": '{"responses": [{"response": {"text": "Paris"}, "probability": 0.6}, {"response": {"text": "Rome"}, "probability": 0.4}]}',
    "content-parts": '{"responses": [{"content": [{"type": "text", "text": "Paris"}], "probability": 0.6}, {"content": [{"type": "text", "text": "Rome"}], "probability": 0.4}]}',
    "weight-in-object": '{"responses": [{"text": "Paris", "meta": {"probability": 0.6}}, {"text": "Rome", "meta": {"probability": 0.4}}]}',
}


@pytest.mark.parametrize("text", KEYS.values(), ids=KEYS.keys())
def test_keys(text: str) -> None:
    check(text, TWO, None)


def test_a_numbered_choice_with_one_weight_is_one_candidate() -> None:
    (entry,) = parse('{"question": "Which?", "option_1": "x", "option_2": "y", "probability": 0.5}').candidates
    assert (entry.stated, entry.value["option_2"]) == (0.5, "y")


INNER = {
    "object": '{"text": "Send {"ok": true} back", "probability": 0.6}',
    "list": '{"text": "Use ["a", "b"] here", "probability": 0.6}',
    "objects": '{"text": "Try [{"a": "b"}, {"c": "d"}] now", "probability": 0.6}',
    "whole": '{"text": "say {"text": "x", "probability": 0.5} to me", "probability": 0.6}',
    "fields": '{"text": "in {"a": "yes", "b": "no"} it is", "probability": 0.6}',
    "commas": '{"text": "say "yes", "no", or "maybe", please", "probability": 0.6}',
    "colons": '{"text": "say "yes": it is, "no": it is not", "probability": 0.6}',
    "ends": '{"text": ""Yes," she said. "No"", "probability": 0.6}',
    "brackets": '{"text": "f("a", ["b"]) {"c"}", "probability": 0.6}',
    "fence": '{"text": "Use:\n```python\nd = {"a": 1}\nprint(d)\n```\nDone.", "probability": 0.6}',
    "fence-dict": '{"text": "Use:\n```python\nd = {"a": "b", "c": "d"}\nprint(d["a"])\n```\nDone.", "probability": 0.6}',
    "fence-json": '{"text": "```json\n{"name": "x", "list": [1, 2]}\n```", "probability": 0.6}',
    "fence-escaped": '{"text": "Use:\\n```json\\n{\\"a\\": 1}\\n```", "probability": 0.6}',
    "html": '{"text": "<a href="x" class="y">z</a>", "probability": 0.6}',
    "inches": '{"text": "a 5" disk", "probability": 0.6}',
    "code": '{"text": "if (a == "b") { return "c"; }", "probability": 0.6}',
    "javascript": '{"text": "fetch("u", {method: "POST", body: "x"})", "probability": 0.6}',
    "quotation-first": '{"text": "{"ok": true}", "probability": 0.6}',
    "list-first": '{"text": "["a", "b"]", "probability": 0.6}',
    "weight-first": '{"probability": 0.6, "text": "Send {"ok": "x"} back"}',
    "unknown-field-after": '{"text": "a "b" c", "style": "dry", "probability": 0.6}',
    "unknown-field-before": '{"style": "dry "x" wit", "text": "a "b" c", "probability": 0.6}',
    "weight-as-text": '{"text": "a "b" c", "probability": "60%"}',
    "newlines": '{"text": "He:\n"Hi",\n"there",\nhe said", "probability": 0.6}',
}


def inner_text(piece: str) -> str:
    """The text between the quotes of the field "text", as written."""
    start = piece.index('"text": "') + 9
    end = piece.rfind('", "style"') if '", "style"' in piece[start:] else piece.rfind('", "probability"')
    end = end if end >= start else piece.rindex('"}')
    return piece[start:end].replace("\\n", "\n").replace('\\"', '"')


@pytest.mark.parametrize("piece", INNER.values(), ids=INNER.keys())
@pytest.mark.parametrize("layout", ["alone", "first", "middle", "last", "fenced", "rows", "pretty", "top-list"])
def test_quotes_inside_a_text(piece: str, layout: str) -> None:
    text = inner_text(piece)
    plain = '{"text": "Plain", "probability": 0.3}'
    other = '{"text": "Other", "probability": 0.1}'
    pieces = {
        "alone": [piece],
        "first": [piece, plain],
        "middle": [plain, piece, other],
        "last": [plain, piece],
        "fenced": [piece, plain],
        "rows": [piece, plain, other],
        "pretty": [piece, plain, other],
        "top-list": [plain, piece],
    }[layout]
    body = {"rows": "\n", "pretty": ",\n    "}.get(layout, ", ").join(pieces)
    reply = {
        "rows": body,
        "top-list": f"[{body}]",
        "fenced": f'Sure:\n```json\n{{"responses": [{body}]}}\n```\nBye.',
        "pretty": f'{{\n  "responses": [\n    {body}\n  ]\n}}',
    }.get(layout, f'{{"responses": [{body}]}}')
    expected = [
        (text, 0.6) if each is piece else ("Plain", 0.3) if each is plain else ("Other", 0.1) for each in pieces
    ]
    check(reply, expected, None if "\\" in piece else "inner-quotes")


DAMAGED: dict[str, Row] = {
    "two": (
        '[{"text": "a "b" c", "probability": 0.5}, {"text": "{"d": "e"}", "probability": 0.3}, {"text": "f", "probability": 0.2}]',
        [('a "b" c', 0.5), ('{"d": "e"}', 0.3), ("f", 0.2)],
        "inner-quotes",
    ),
    "quote-missing-at-end": (
        '[{"text": "Paris, "probability": 0.6}, {"text": "Rome", "probability": 0.4}]',
        TWO,
        "missing-quote",
    ),
    "quote-missing-at-start": (
        '[{"text": Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}]',
        TWO,
        "unquoted",
    ),
    "quote-missing-before-brace": (
        '[{"probability": 0.6, "text": "Paris}, {"probability": 0.4, "text": "Rome"}]',
        TWO,
        "missing-quote",
    ),
    "quotes-missing": (
        '[{"text": Paris, "probability": 0.6}, {"text": Rome, "probability": 0.4}]',
        TWO,
        "unquoted",
    ),
    "colon-missing": (
        '[{"text" "Paris", "probability": 0.6}, {"text": "Rome", "probability" 0.4}]',
        TWO,
        "missing-comma",
    ),
    "key-quote-missing": (
        '[{"text": "Paris", probability": 0.6}, {"text": "Rome", "probability: 0.4}]',
        TWO,
        None,
    ),
    "backslash-before-quote": (
        '[{"text": "C:\\dir\\", "probability": 0.6}, {"text": "Rome", "probability": 0.4}]',
        [("C:\\dir\\", 0.6), ("Rome", 0.4)],
        "bad-escape",
    ),
    "brace-too-many": (
        '[{"text": "Paris", "probability": 0.6}}, {"text": "Rome", "probability": 0.4}]',
        TWO,
        "missing-brace",
    ),
    "braces-missing": (
        '[{"text": "Paris", "probability": 0.6, {"text": "Rome", "probability": 0.4]',
        TWO,
        "missing-brace",
    ),
    "bracket-missing": (
        '{"responses": [{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}}',
        TWO,
        "missing-brace",
    ),
    "bracket-wrong": (
        '{"responses": [{"text": "Paris", "probability": 0.6), {"text": "Rome", "probability": 0.4)]}',
        TWO,
        "missing-brace",
    ),
    "end-missing": (
        '{"responses": [{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}\n\nHope this helps!',
        TWO,
        None,
    ),
    "end-missing-fence": (
        '```json\n{"responses": [{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}\n```\nBye.',
        TWO,
        None,
    ),
    "words-between": (
        '[{"text": "Paris", "probability": 0.6}, and then {"text": "Rome", "probability": 0.4}]',
        TWO,
        "skipped",
    ),
    "words-inside": (
        '[{"text": "Paris", (sure) "probability": 0.6}, {"text": "Rome", "probability": 0.4}]',
        TWO,
        "skipped",
    ),
    "ellipsis": (
        '[{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}, ...]',
        TWO,
        "skipped",
    ),
    "strings-quotes": (
        '["Choose "a", "b" or "c"", "x"]',
        [('Choose "a", "b" or "c"', None), ("x", None)],
        "inner-quotes",
    ),
    "strings-inches": (
        '["a 5" disk", "b 6" x", "c"]',
        [('a 5" disk', None), ('b 6" x', None), ("c", None)],
        "inner-quotes",
    ),
    "strings-keyed": (
        '{"responses": ["say "hi"", "{"a": 1}", "c"]}',
        [('say "hi"', None), ('{"a": 1}', None), ("c", None)],
        "inner-quotes",
    ),
    "strings-commas-missing": ('["Paris" "Rome"]', [("Paris", None), ("Rome", None)], "missing-comma"),
    "mapping-quotes": (
        '{"He said "hi"": 0.6, "Rome": 0.4}',
        [('He said "hi"', 0.6), ("Rome", 0.4)],
        "inner-quotes",
    ),
    "pairs-quotes": (
        '[["He said "hi"", 0.6], ["Rome", 0.4]]',
        [('He said "hi"', 0.6), ("Rome", 0.4)],
        "inner-quotes",
    ),
    "strings-end-lost": (
        '["Rope, bread, "First the rain.", "Rome"]',
        [('Rope, bread, "First the rain.', None), ("Rome", None)],
        "missing-quote",
    ),
    "mapping-end-lost": ('{"Paris: 0.6, "Rome": 0.4}', TWO, "missing-quote"),
    "pairs-sign": ('[["Paris", <0.6], ["Rome", 0.4]]', TWO, None),
    "pairs-bracket": ('[["Paris", 0.6], "Rome", 0.4], ["Oslo", 0.2]]', [*TWO, ("Oslo", 0.2)], "guessed"),
    "mappings-number": ('[{"Paris": 0.>6}, {"Rome": 0.4}]', [("Paris", None), ("Rome", 0.4)], "as-mapping"),
    "numbered-key": (
        '{"text1": "Paris", "prob1": 0.6, "text2": "Rome", "prob2": 0.4, "text": "Oslo", "prob3": 0.2}',
        TWO,
        "unread",
    ),
    "call-bracket": (
        '[Answer((text="Paris", probability=0.6), Answer(text="Rome", probability=0.4)]',
        TWO,
        "missing-brace",
    ),
    "double-colon": ('{"Paris":: 0.6, "Rome": 0.4}', TWO, "as-mapping"),
    "bracket-in-number": (
        '[{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}, 12]',
        TWO,
        "skipped",
    ),
    "single-quotes": (
        "[{'text': 'it's 'me', you know', 'probability': 0.6}, {'text': 'Rome', 'probability': 0.4}]",
        [("it's 'me', you know", 0.6), ("Rome", 0.4)],
        "inner-quotes",
    ),
    "typographic": (
        "[{“text”: “He said “hi” to me”, “probability”: 0.6}, {“text”: “Rome”, “probability”: 0.4}]",
        [("He said “hi” to me", 0.6), ("Rome", 0.4)],
        "smart-quotes",
    ),
    "cut-inner": (
        '[{"text": "a "b" c", "probability": 0.6}, {"text": "d "e" f',
        [('a "b" c', 0.6), ('d "e" f', None)],
        "truncated",
    ),
    "cut-inner-object": (
        '[{"text": "Paris", "probability": 0.6}, {"text": "Send {"ok": true} ba',
        [("Paris", 0.6), ('Send {"ok": true} ba', None)],
        "truncated",
    ),
    "tuple-quote-missing": ("[('Paris, 0.6), ('Rome', 0.4)]", TWO, "missing-quote"),
    "tuple-quote-of-another-kind": ("[('Paris\", 0.6), ('Rome', 0.4)]", TWO, "missing-quote"),
    "tuple-comma-missing": ("[('Paris' 0.6), ('Rome', 0.4)]", TWO, "missing-comma"),
    "tuple-comma-twice": ("[('Paris',, 0.6), ('Rome', 0.4)]", TWO, None),
    "constructor-quote": (
        '[Response(text="Paris\', probability=0.6), Response(text="Rome", probability=0.4)]',
        TWO,
        "missing-quote",
    ),
    "constructor-quote-missing": (
        '[Response(text="Paris, probability=0.6), Response(text="Rome", probability=0.4)]',
        TWO,
        "missing-quote",
    ),
    "constructor-comma-missing": (
        '[Response(text="Paris", probability=0.6) Response(text="Rome", probability=0.4)]',
        TWO,
        "missing-comma",
    ),
    "mapping-colon-missing": ('{"Paris" 0.6, "Rome": 0.4}', TWO, "missing-comma"),
    "mapping-number-damaged": (
        '[{"Paris": 0.6}, {"Rome": 0.4}, {"Bern": hoch}, {"Oslo": 0.1}]',
        [*TWO, ("Bern", None), ("Oslo", 0.1)],
        "unreadable-probability",
    ),
    "pairs-number-damaged": (
        '[["Paris", 0.6], ["Rome", 0.4], ["Bern", "hoch"]]',
        [*TWO, ("Bern", None)],
        "unreadable-probability",
    ),
    "objects-by-number": (
        '{"1": {"text": "d = {"a": None}", "probability": 0.6}, "2": {"text": "Rome", "probability": 0.4}}',
        [('d = {"a": None}', 0.6), ("Rome", 0.4)],
        "inner-quotes",
    ),
    "constructor-key": (
        '[Response(text="Paris", pobability=0.6), Response(text="Rome", probability=0.4)]',
        TWO,
        None,
    ),
    "mapping-quote-missing": ('[{"Paris: 0.6}, {"Rome": 0.4}]', TWO, "missing-quote"),
    "mapping-first-quote-missing": (
        '[{Paris is big": 0.6}, {"Rome": 0.4}]',
        [("Paris is big", 0.6), ("Rome", 0.4)],
        None,
    ),
    "mapping-brackets-missing": (
        '[{"Oslo": 0.1}, {"Paris": 0.4, "Rome": 0.3}, {"Bern": 0.1}, {"Lima": 0.1}]',
        [("Oslo", 0.1), ("Paris", 0.4), ("Rome", 0.3), ("Bern", 0.1), ("Lima", 0.1)],
        None,
    ),
    "numbered-key-quote": ('{"G1": "Paris", "P1“: 0.6, "G2": "Rome", "P2": 0.4}', TWO, "missing-quote"),
    "numbered-key-damaged": (
        '{"response1": "a", "pro5bability1": 0.6, "response2": "b", "probability2": 0.4}',
        [("a", None), ("b", 0.4)],
        None,
    ),
    "key-quote-twice": (
        '[{"text": "Paris", "probability"": 0.6}, {"text": "Rome", ""probability": 0.4}]',
        TWO,
        "missing-quote",
    ),
    "wrapper-key": (
        '[{"name": "f", "argu)ments": {"responses": [{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}]}}]',
        TWO,
        None,
    ),
    "columns-of-one": ('{"answers": ["Paris"], "probabilities": [0.6]}', [("Paris", 0.6)], "as-columns"),
    "draft-end-tag": (
        "A draft: {“responses”: [{“text”: “Nice”, “probability”: 0.9}]}\n</think>\n[{“text”: “Paris”, “probability”: 0.6}, {“text”: “Rome”, “probability”: 0.4}]",
        TWO,
        "think-block",
    ),
    "newlines-between-rows": (
        '{"text": "Paris",\n\n "probability": 0.6}\n\n\n{"text": "Rome", "probability": 0.4}',
        TWO,
        None,
    ),
}


@pytest.mark.parametrize(("text", "expected", "repair"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damage(text: str, expected: list[tuple[str, float | None]], repair: str | None) -> None:
    check(text, expected, repair)


BACKSLASHES = {
    "frac": r"Area $\frac{1}{2}bh$",
    "beta": r"Use $\beta$",
    "neq": r"if $a \neq b$",
    "theta": r"$\theta = \tau$",
    "right": r"\left( x \right)",
    "rho": r"$\rho$ and $\nu$ and $\nabla f$",
    "ne-in": r"$a \ne b \notin C \not= d$",
    "times": r"3 \times 4",
    "text": r"$x \text{ if } y \to 0$",
    "parens": r"\( \beta \neq 0 \) or \[ x \nu \]",
    "matrix": r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
    "path": r"C:\new\table\readme.txt",
    "path-users": r"see C:\Users\me\notes\bin here",
    "path-program-files": r"C:\Program Files (x86)\new\x.exe",
    "path-relative": r"run .\new\test.bat",
    "regex": r"\d+\s*\(\w\)",
    "regex-boundary": r"\bword\b",
    "dollars": r"\$5 or \$6",
    "percent": r"5\% \& more",
    "underscore": r"snake\_case",
}


@pytest.mark.parametrize("ending", ["", " \\n- next\\nand on"])
@pytest.mark.parametrize("body", BACKSLASHES.values(), ids=BACKSLASHES.keys())
@pytest.mark.parametrize("layout", ["asked", "fenced", "python", "damaged", "bare-list", "keys"])
def test_a_backslash_that_was_meant_stays(body: str, layout: str, ending: str) -> None:
    reply = {
        "asked": f'{{"responses": [{{"text": "{body}{ending}", "probability": 0.6}}, {{"text": "b", "probability": 0.4}}]}}',
        "fenced": f'Here:\n```json\n{{"responses": [{{"text": "{body}{ending}", "probability": 0.6}}, {{"text": "b", "probability": 0.4}}]}}\n```',
        "python": f"[{{'text': '{body}{ending}', 'probability': 0.6}}, {{'text': 'b', 'probability': 0.4}}]",
        "damaged": f'[{{"text": "{body}{ending}" "probability": 0.6}}, {{"text": "b", "probability": 0.4,}}]',
        "bare-list": f'[["{body}{ending}", 0.6], ["b", 0.4]]',
        "keys": f'{{"response_1": "{body}{ending}", "probability_1": 0.6, "response_2": "b", "probability_2": 0.4}}',
    }[layout]
    check(reply, [(body + ending.replace("\\n", "\n"), 0.6), ("b", 0.4)], "bad-escape")


ESCAPES = {
    "newline": ("one\\ntwo", "one\ntwo"),
    "newlines": ("one\\n\\ntwo", "one\n\ntwo"),
    "newline-lower": ("it is\\nnot so\\nexists\\nless\\nor", "it is\nnot so\nexists\nless\nor"),
    "newline-dollar": ("costs $5\\nor $6", "costs $5\nor $6"),
    "tab": ("a\\tb\\tc", "a\tb\tc"),
    "code": ("func main() {\\n\\tfmt.Println(1)\\n\\treturn\\n}", "func main() {\n\tfmt.Println(1)\n\treturn\n}"),
    "escaped": ("$\\\\frac{1}{2}$\\nand $\\\\neq$", "$\\frac{1}{2}$\nand $\\neq$"),
    "escaped-path": ("C:\\\\new\\\\table\\nnext", "C:\\new\\table\nnext"),
    "displayed": ("$$\\nu = 1\\n$$", "$$\nu = 1\n$$"),
    "slash": ("a\\/b", "a/b"),
    "unicode": ("caf\\u00e9 \\ud83d\\ude00", "café 😀"),
    "carriage": ("one\\r\\ntwo", "one\r\ntwo"),
}


@pytest.mark.parametrize(("written", "text"), ESCAPES.values(), ids=ESCAPES.keys())
@pytest.mark.parametrize("comma", ["", ","])
def test_an_escape_that_was_meant_is_read(written: str, text: str, comma: str) -> None:
    reading = parse(f'{{"responses": [{{"text": "{written}", "probability": 0.6{comma}}}]}}')
    assert said(reading) == [(text, 0.6)]
    assert "bad-escape" not in repairs(reading)


def escaped(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def entities(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;")


ENCODED = {
    "escaped": escaped(SOUND),
    "escaped-fenced": f"```json\n{escaped(SOUND)}\n```",
    "escaped-prefixed": f"Here it is:\n{escaped(SOUND)}",
    "escaped-pretty": escaped(json.dumps(json.loads(SOUND), indent=2)),
    "escaped-list": escaped(ITEMS),
    "escaped-twice": escaped(escaped(SOUND)),
    "escaped-thrice": escaped(escaped(escaped(SOUND))),
    "escaped-quoted": f'My answer is "{escaped(SOUND)}" as you asked.',
    "escaped-quotes-only": SOUND.replace('"', '\\"'),
    "escaped-cut": escaped(SOUND)[:-2],
    "string": json.dumps(SOUND),
    "string-twice": json.dumps(json.dumps(SOUND)),
    "string-prefixed": f"Result: {json.dumps(SOUND)}",
    "string-fenced-inside": json.dumps(f"```json\n{SOUND}\n```"),
    "string-damaged-inside": json.dumps(SOUND.replace("}, {", "} {")),
    "entities": entities(SOUND),
    "entities-pre": f"<pre>{entities(SOUND)}</pre>",
    "entities-numeric": SOUND.replace('"', "&#34;"),
    "entities-twice": entities(entities(SOUND)),
    "unicode": SOUND.replace('"', "\\u0022"),
    "unicode-all": SOUND.replace('"', "\\u0022").replace("{", "\\u007b").replace("[", "\\u005b"),
    "url": urllib.parse.quote(SOUND),
    "url-plus": urllib.parse.quote_plus(SOUND),
    "url-prefixed": f"data={urllib.parse.quote(SOUND)} and more",
    "arguments": json.dumps({"name": "submit", "arguments": json.loads(SOUND)}),
    "arguments-string": json.dumps({"name": "submit", "arguments": SOUND}),
    "arguments-string-list": json.dumps({"name": "submit", "arguments": {"responses": ITEMS}}),
    "parameters": json.dumps({"type": "function", "name": "submit", "parameters": json.loads(SOUND)}),
    "tool-calls": json.dumps(
        {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": SOUND}}]}
    ),
    "tool-use": json.dumps({"type": "tool_use", "name": "f", "input": json.loads(SOUND)}),
    "mistral": f'[TOOL_CALLS][{{"name": "f", "arguments": {SOUND}}}]',
    "hermes": f'<tool_call>\n{{"name": "f", "arguments": {SOUND}}}\n</tool_call>',
    "function-tag": f"<function=submit>{SOUND}</function>",
    "calls-in-a-row": '<tool_call>{"name": "add", "arguments": {"text": "Paris", "probability": 0.6}}</tool_call>\n'
    '<tool_call>{"name": "add", "arguments": {"text": "Rome", "probability": 0.4}}</tool_call>',
    "body": json.dumps({"id": "1", "choices": [{"index": 0, "message": {"role": "assistant", "content": SOUND}}]}),
    "body-fenced": json.dumps(
        {"choices": [{"message": {"role": "assistant", "content": f"```json\n{SOUND}\n```"}}]}
    ),
    "body-parts": json.dumps({"candidates": [{"content": {"parts": [{"text": SOUND}]}}]}),
    "body-content": json.dumps({"content": [{"type": "text", "text": SOUND}]}),
    "message": json.dumps({"role": "assistant", "content": SOUND}),
    "output": json.dumps({"output": json.loads(SOUND)}),
    "result-string": json.dumps({"result": SOUND}),
    "answer-string": json.dumps({"answer": SOUND, "confidence": "high"}),
    "response-object": json.dumps({"response": json.loads(SOUND)}),
    "schema-name": json.dumps({"response_format": "json", "data": json.loads(ITEMS)}),
}


@pytest.mark.parametrize("text", ENCODED.values(), ids=ENCODED.keys())
def test_encodings_and_wrappers(text: str) -> None:
    check(text, TWO, None)


def test_escapes_inside_an_encoded_text_are_kept() -> None:
    items = [{"text": 'say "hi"\nto C:\\new & co', "probability": 0.6}, {"text": "b", "probability": 0.4}]
    reply = json.dumps({"responses": items})
    for text in (
        escaped(reply),
        json.dumps(reply),
        entities(reply),
        urllib.parse.quote(reply),
        escaped(escaped(reply)),
    ):
        assert said(parse(text)) == [('say "hi"\nto C:\\new & co', 0.6), ("b", 0.4)]
        assert "decoded" in repairs(parse(text))


SCHEMA = json.dumps(ReplyShape("candidates", k=2).json_schema())
FUNCTION = json.dumps({"type": "function", "function": {"name": "f", "parameters": json.loads(SCHEMA)}})
TEMPLATES = {
    "schema": SCHEMA,
    "schema-pretty": json.dumps(json.loads(SCHEMA), indent=2),
    "schema-named": json.dumps({"name": "answer", "schema": json.loads(SCHEMA)}),
    "function": FUNCTION,
    "ellipsis": '{"responses": [{"text": "...", "probability": 0.0}, ...]}',
    "ellipsis-number": '{"responses": [{"text": "...", "probability": ...}]}',
    "angle": '{"responses": [{"text": "<response text>", "probability": <probability>}]}',
    "angle-quoted": '{"responses": [{"text": "<text>", "probability": "<number between 0 and 1>"}]}',
    "braces": '{"responses": [{"text": "{text}", "probability": "{probability}"}]}',
    "square": '[{"text": "[response]", "probability": 0.5}]',
    "types": '{"responses": [{"text": "string", "probability": "number"}]}',
    "typescript": "{ responses: { text: string; probability: number }[] }",
    "typescript-type": "type Answer = {\n  responses: Array<{ text: string; probability: number; }>;\n};",
    "interface": "interface Candidate {\n  text: string;\n  probability: number; // from 0 to 1\n}",
    "words": '{"responses": [{"text": "your response here", "probability": 0.5}, {"text": "another response", "probability": 0.5}]}',
    "python-types": "{'responses': [{'text': str, 'probability': float}]}",
    "numbered": '{"responses": [{"text": "Response 1", "probability": 0.XX}, {"text": "Response 2", "probability": 0.XX}]}',
}


@pytest.mark.parametrize("between", ["\n\n", "\nSo:\n", "\n```\n\n```json\n"])
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES.keys())
def test_a_template_before_the_answer_is_no_candidate(template: str, between: str) -> None:
    before = "```json\n" if "```" in between else ""
    check(f"{before}{template}{between}{SOUND}", TWO, "placeholder")


@pytest.mark.parametrize("name", ["schema", "function", "ellipsis-number", "angle", "types", "typescript"])
def test_a_template_alone_is_no_answer(name: str) -> None:
    with pytest.raises(ReplyError):
        parse(TEMPLATES[name])


def listed(*pairs: tuple[str, float]) -> str:
    return json.dumps({"responses": [{"text": text, "probability": p} for text, p in pairs]}, ensure_ascii=False)


DRAFT = listed(("Nice", 0.9), ("Lyon", 0.8))
DRAFTS = {
    "corrected": f"{DRAFT}\n\nCorrected:\n{SOUND}",
    "fenced": f"```json\n{DRAFT}\n```\nWait, these add up to more than 1. Corrected version:\n```json\n{SOUND}\n```",
    "draft-and-final": f"Draft:\n{DRAFT}\n\nFinal:\n{SOUND}",
    "chinese": f"初稿：\n{DRAFT}\n修正：\n{SOUND}",
    "german": f"{DRAFT}\n\nKorrigiert:\n\n{SOUND}",
    "same-texts": listed(("Paris", 0.9), ("Rome", 0.8)) + "\n\n" + SOUND,
    "same-texts-turned": listed(("Rome", 0.9), ("Paris", 0.8)) + "\n" + SOUND,
    "whole-distributions": listed(("Nice", 0.7), ("Lyon", 0.3)) + "\n\n" + SOUND,
    "twice": f"{DRAFT}\nWait.\n{DRAFT}\nFinal answer:\n{SOUND}",
    "rows": '{"text": "Nice", "probability": 0.9}\n{"text": "Lyon", "probability": 0.8}\n\nCorrected:\n' + ROWS,
    "rows-again": '{"text": "Paris", "probability": 0.9}\n{"text": "Rome", "probability": 0.8}\n\n' + ROWS,
    "damaged-draft": DRAFT.replace("}, {", "} {") + f"\nFixed:\n{SOUND}",
    "top-lists": f"{json.dumps(json.loads(DRAFT)['responses'])}\n\nActually, better:\n\n{ITEMS}",
    "cut-final": f"{SOUND}\n\nCorrected:\n" + '{"responses": [{"text": "Nic',
    "draft-then-template": f"{DRAFT}\nWait, the format is\n{TEMPLATES['angle']}\nCorrected:\n{SOUND}",
}


@pytest.mark.parametrize("text", DRAFTS.values(), ids=DRAFTS.keys())
def test_the_last_complete_answer_counts(text: str) -> None:
    reading = parse(text)
    assert said(reading) == TWO
    assert "draft" in repairs(reading)


CONTINUED = {
    "two-lists": listed(("Paris", 0.6)) + "\n" + listed(("Rome", 0.4)),
    "parts": f"Part 1/2:\n{listed(('Paris', 0.6))}\n\nPart 2/2:\n{listed(('Rome', 0.4))}",
    "continued": f"{listed(('Paris', 0.6))}\n\nContinued:\n{listed(('Rome', 0.4))}",
    "rows": ROWS,
    "rows-fenced": "\n".join(f"```json\n{row}\n```" for row in ROWS.split("\n")),
    "rows-labelled": "Response 1:\n" + ROWS.replace("\n", "\n\nResponse 2:\n"),
    "rows-comments": ROWS.replace("\n", "\n// next\n"),
    "rows-junk": ROWS.replace("\n", "\n---\n* * *\n"),
    "rows-commas": ROWS.replace("\n", ",\n"),
    "rows-glued": ROWS.replace("\n", ""),
    "lists-of-one": "[" + ROWS.replace("\n", "]\n[") + "]",
}


@pytest.mark.parametrize("text", CONTINUED.values(), ids=CONTINUED.keys())
def test_values_that_continue_one_another_are_joined(text: str) -> None:
    reading = parse(text)
    assert said(reading) == TWO
    assert "draft" not in repairs(reading)


VARIANTS = {
    "comments": '[ // first\n{"text": "Paris", /* big */ "probability": 0.6}, # next\n{"text": "Rome", "probability": 0.4}]',
    "comments-html": '[{"text": "Paris", "probability": 0.6}, <!-- next -->\n{"text": "Rome", "probability": 0.4}]',
    "json5": "{responses: [{text: 'Paris', probability: +.6,}, {text: 'Rome', probability: 4e-1,},],}",
    "json5-point": '[{text: "Paris", probability: +0.6}, {text: "Rome", probability: .4}]',
    "json5-continuation": '[{"text": "Pa\\\nris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}]',
    "javascript": 'const responses = [\n  { text: "Paris", probability: 0.6 },\n  { text: "Rome", probability: 0.4 },\n];',
    "javascript-template": "const x = [{ text: `Paris`, probability: 0.6 }, { text: `Rome`, probability: 0.4 }];",
    "javascript-new": 'return [new Response("Paris", 0.6), new Response("Rome", 0.4)];',
    "javascript-stringify": 'console.log(JSON.stringify([{text: "Paris", probability: 0.6}, {text: "Rome", probability: 0.4}]));',
    "javascript-push": 'out.push({text: "Paris", probability: 0.6});\nout.push({text: "Rome", probability: 0.4});',
    "javascript-plus": '[{"text": "Pa" + "ris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}]',
    "python-dict": 'responses = [dict(text="Paris", probability=0.6), dict(text="Rome", probability=0.4)]',
    "python-dict-keyed": 'dict(responses=[dict(text="Paris", probability=0.6), dict(text="Rome", probability=0.4)])',
    "python-constructors": '[Response(text="Paris", probability=0.6), Response(text="Rome", probability=0.4)]',
    "python-positional": '[Response("Paris", 0.6), Response("Rome", 0.4)]',
    "python-turned": '[Response(probability=0.6, text="Paris"), Response(0.4, "Rome")]',
    "python-mixed": '[Response("Paris", probability=0.6), Response("Rome", probability=0.4)]',
    "python-dotted": "[vs.Candidate(response='Paris', p=0.6), vs.Candidate(response='Rome', p=0.4)]",
    "python-repr": "Answer(responses=[Response(text='Paris', probability=0.6), Response(text='Rome', probability=0.4)])",
    "python-pydantic": "responses=[Response(text='Paris', probability=0.6), Response(text='Rome', probability=0.4)]",
    "python-decimal": "[Response(text='Paris', probability=Decimal('0.6')), Response(text='Rome', probability=np.float64(0.4))]",
    "python-fraction": "[('Paris', Fraction(3, 5)), ('Rome', Fraction(2, 5))]",
    "python-calls": 'add_response("Paris", probability=0.6)\nadd_response("Rome", probability=0.4)',
    "python-calls-named": 'add(text="Paris", probability=0.6)\nadd(text="Rome", probability=0.4)',
    "python-calls-fenced": '```python\nadd_response("Paris", 0.6)\nadd_response("Rome", 0.4)\n```',
    "python-append": 'responses.append({"text": "Paris", "probability": 0.6})\nresponses.append({"text": "Rome", "probability": 0.4})',
    "python-print": 'print(default_api.submit(responses=[{"text": "Paris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}]))',
    "python-ordered": "[OrderedDict([('text', 'Paris'), ('probability', 0.6)]), OrderedDict([('text', 'Rome'), ('probability', 0.4)])]",
    "python-counter": "Counter({'Paris': 0.6, 'Rome': 0.4})",
    "python-set": '{("Paris", 0.6), ("Rome", 0.4)}',
    "python-prefixes": "[{'text': f'Paris', 'probability': 0.6}, {u'text': b'Rome', 'probability': 0.4}]",
    "python-adjacent": '[Response(text="Pa" "ris", probability=0.6), Response(text=("Ro"\n  "me"), probability=0.4)]',
    "python-lines": '[{"text": "Pa"\n   "ris", "probability": 0.6}, {"text": "Rome", "probability": 0.4}]',
    "python-triple": "[{'text': \"\"\"Paris\"\"\", 'probability': 0.6}, {'text': '''Rome''', 'probability': 0.4}]",
    "ruby": '[{:text => "Paris", :probability => 0.6}, {:text => "Rome", :probability => 0.4}]',
    "ruby-strings": '{"responses" => [{"text" => "Paris", "probability" => 0.6}, {"text" => "Rome", "probability" => 0.4}]}',
    "ruby-symbols": '[{text: "Paris", probability: 0.6}, {text: "Rome", probability: 0.4}]',
    "php": "<?php\n$r = ['responses' => [['text' => 'Paris', 'probability' => 0.6], ['text' => 'Rome', 'probability' => 0.4]]];",
    "php-array": "array(array('text' => 'Paris', 'probability' => 0.6), array('text' => 'Rome', 'probability' => 0.4))",
    "lua": '{ {text = "Paris", probability = 0.6}, {text = "Rome", probability = 0.4} }',
    "lua-keyed": 'responses = { { ["text"] = "Paris", ["probability"] = 0.6 }, { ["text"] = "Rome", ["probability"] = 0.4 } }',
    "swift": '[["text": "Paris", "probability": 0.6], ["text": "Rome", "probability": 0.4]]',
    "kotlin": '[Response("Paris", 0.6f), Response("Rome", 0.4f)]',
    "rust": 'vec![Response { text: "Paris", probability: 0.6 }, Response { text: "Rome", probability: 0.4 }]',
    "equals": '{"responses": [{"text" = "Paris", "probability" = 0.6}, {"text" = "Rome", "probability" = 0.4}]}',
    "fullwidth": "｛“responses”：［｛“text”：“Paris”，“probability”：0.6｝，｛“text”：“Rome”，“probability”：０．４｝］｝",
    "corner-brackets": "｛「responses」：［｛「text」：「Paris」、「probability」：0.6｝、｛「text」：「Rome」、「probability」：0.4｝］｝",
    "white-corner-brackets": "[{『text』: 『Paris』, 『probability』: 0.6}, {『text』: 『Rome』, 『probability』: 0.4}]",
    "fullwidth-quotes": "[{＂text＂: ＂Paris＂, ＂probability＂: 0.6}, {＂text＂: ＂Rome＂, ＂probability＂: 0.4}]",
    "arabic": '[{"text": "Paris"، "probability": ٠٫٦}، {"text": "Rome"، "probability": ٠٫٤}]',
    "german-quotes": "[{„text“: „Paris“, „probability“: 0.6}, {„text“: „Rome“, „probability“: 0.4}]",
    "french-quotes": "[{« text »: « Paris », « probability »: 0,6}, {« text »: « Rome », « probability »: 0,4}]",
    "single-typographic": "[{‘text’: ‘Paris’, ‘probability’: 0.6}, {‘text’: ‘Rome’, ‘probability’: 0.4}]",
    "mixed-quotes": '[{“text": "Paris”, “probability": 0.6}, {"text”: “Rome", "probability”: 0.4}]',
    "no-break-blanks": '{\xa0"responses":\xa0[\xa0{"text":\u3000"Paris",\xa0"probability": 0.6},\xa0{"text": "Rome", "probability":\u20090.4}]}',
    "zero-width": '\ufeff{\u200b"responses": [\u200b{"text": "Paris",\u200b "probability": 0.6}\u200b,\u2060 {"text": "Rome", "probability": 0.4}]}\u200b',
    "numbered-rows": '1. {"text": "Paris", "probability": 0.6}\n2. {"text": "Rome", "probability": 0.4}',
    "bulleted-rows": '- {"text": "Paris", "probability": 0.6}\n- {"text": "Rome", "probability": 0.4}',
    "labelled-rows": 'Response 1: {"text": "Paris", "probability": 0.6}\nResponse 2: {"text": "Rome", "probability": 0.4}',
    "numbered-keys": '{1: {"text": "Paris", "probability": 0.6}, 2: {"text": "Rome", "probability": 0.4}}',
    "rows-in-list": '[\n{"text": "Paris", "probability": 0.6}\n{"text": "Rome", "probability": 0.4}\n]',
    "rows-without-braces": '{"text": "Paris", "probability": 0.6, "text": "Rome", "probability": 0.4}',
    "semicolons": '{"responses": [{"text": "Paris"; "probability": 0.6}; {"text": "Rome"; "probability": 0.4}]}',
    "percent-keys": '[{"text": "Paris", "probability_percent": 60}, {"text": "Rome", "probability_percent": 40}]',
    "percent-sign-keys": '[{"text": "Paris", "Probability (%)": 60}, {"text": "Rome", "Probability (%)": 40}]',
    "estimated-keys": '[{"text": "Paris", "Estimated Probability": 0.6}, {"text": "Rome", "Estimated Probability": 0.4}]',
    "misspelt-keys": '[{"text": "Paris", "pobability": 0.6}, {"text": "Rome", "probabilty": 0.4}]',
    "fractions": '[{"text": "Paris", "probability": 6/10}, {"text": "Rome", "probability": 2 / 5}]',
    "weight-objects": '[{"text": "Paris", "probability": {"value": 0.6}}, {"text": "Rome", "probability": [0.4]}]',
    "brackets-around-weights": '["Paris" (0.6), "Rome" (0.4)]',
}


@pytest.mark.parametrize("text", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants(text: str) -> None:
    reading = parse(text)
    assert said(reading) == TWO
    assert repairs(reading) <= REPAIRS.keys()


def test_raw_strings_keep_their_backslashes() -> None:
    assert said(parse(r"[(r'\frac{1}{2} \new', 0.6), ('b\n', 0.4)]")) == [(r"\frac{1}{2} \new", 0.6), ("b", 0.4)]
    assert said(parse(r'[Response(text=R"C:\new", probability=0.6)]')) == [(r"C:\new", 0.6)]


@pytest.mark.parametrize(
    "text", ['print("hello")', "Use f(x=1) or g('a', 2) here.", "Call `dict(a=1)` for that.", "x = [1, 2, foo(3)]"]
)
def test_calls_in_prose_are_no_candidates(text: str) -> None:
    with pytest.raises(ReplyError):
        parse(text)


_SIGNS = [
    "(",
    "{",
    "[",
    '"',
    "'",
    "a",
    "foo",
    "new ",
    " ",
    "\n",
    "=",
    ".",
    'text":',
    "1",
    '"text": 1',
    "x.y(",
    "(a=",
]


def test_the_first_opening_is_that_of_the_whole_pattern() -> None:
    chosen = random.Random(1)
    for _ in range(20_000):
        text = "".join(chosen.choices(_SIGNS, k=chosen.randrange(1, 14)))
        whole = json_text._OPEN.search(text)
        assert json_text._first_opening(text) == (whole.start() if whole is not None else -1), text
