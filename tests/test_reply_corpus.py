"""Replies in many layouts and scripts, with the candidates that a person would copy out of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from outspoken.errors import ReplyError
from outspoken.parsing import ParsedReply, parse
from outspoken.reply_shape import ReplyShape

FILE = Path(__file__).parent / "data" / "replies" / "corpus.jsonl"
CORPUS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
KNOWN: frozenset[str] = frozenset()
"""Replies that are read wrongly, each with a repair that says so."""


def read(row: dict[str, Any]) -> ParsedReply:
    return parse(row["reply"], ReplyShape(**row["shape"]) if "shape" in row else None)


def is_right(row: dict[str, Any], reply: ParsedReply) -> bool:
    """Whether texts (runs of white space are one blank) and stated numbers (to 1e-6) are as expected."""
    found = [(collapsed(candidate.text), candidate.stated) for candidate in reply.candidates]
    wanted = [(collapsed(text), stated) for text, stated in row["candidates"]]
    return [text for text, _ in found] == [text for text, _ in wanted] and all(
        got is want if got is None or want is None else abs(got - want) <= 1e-6
        for (_, got), (_, want) in zip(found, wanted, strict=True)
    )


def collapsed(text: object) -> str:
    return re.sub(r"\s+", " ", str(text)).strip()


@pytest.mark.parametrize("row", [pytest.param(row, id=row["id"]) for row in CORPUS if row["id"] not in KNOWN])
def test_a_reply_is_read_as_a_person_reads_it(row: dict[str, Any]) -> None:
    if "error" in row:
        with pytest.raises(ReplyError):
            read(row)
        return
    reply = read(row)
    assert is_right(row, reply), (reply.candidates, reply.repairs)
    named = {*reply.repairs, *(repair for candidate in reply.candidates for repair in candidate.repairs)}
    assert named >= set(row.get("repairs", ()))


@pytest.mark.parametrize("row", [pytest.param(row, id=row["id"]) for row in CORPUS if row["id"] in KNOWN])
def test_what_is_read_wrongly_is_named_by_a_repair(row: dict[str, Any]) -> None:
    reply = read(row)
    assert "error" in row or not is_right(row, reply), "read rightly now: take it out of KNOWN"
    assert reply.repairs or any(candidate.repairs for candidate in reply.candidates)


def test_at_least_97_percent_of_the_corpus_is_read_rightly() -> None:
    assert {row["id"] for row in CORPUS} >= KNOWN
    assert len(KNOWN) <= 0.03 * len(CORPUS)


def test_the_corpus_is_wide() -> None:
    assert len({row["id"] for row in CORPUS}) == len(CORPUS) >= 200
    assert len({row["script"] for row in CORPUS}) >= 10
    assert len({row["layout"] for row in CORPUS}) >= 50
