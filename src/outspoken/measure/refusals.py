"""Recognising replies that decline to answer, in twelve languages."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import cache
from importlib import resources

__all__ = ["is_refusal"]

_LOOKED_AT = 400
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "「": "」", "『": "』", "'": "'", "‘": "’"}
_APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "＇": "'"})
_MARKUP = re.compile(r"[*_#>`~]+")
_DIACRITICS_OF_ARABIC = re.compile("[\u064b-\u0652\u0640]")


def is_refusal(text: str) -> bool:
    """Whether a reply declines to answer, or denies having what was asked for.

    Such replies are "I'm sorry, but I can't help with that." and "As an AI language model, I don't have hobbies.",
    in English, German, French, Spanish, Portuguese, Italian, Russian, Chinese, Japanese, Korean, Arabic and Hindi.
    Only the first 400 characters are looked at. No refusals are an apology in a story, "I can't" in a lyric, what
    a figure says in quotation marks, and a reply that says what it cannot do and then answers ("As an AI I have no
    favourite, but if I had to pick one: blue"). The phrases are in `refusals.toml`.
    """
    start = _normal(text[:_LOOKED_AT])
    if not start or _is_speech(start):
        return False
    start = start.strip("".join({*_QUOTES, *_QUOTES.values()}) + " ")
    declines, answers = _patterns()
    match = declines.match(start)
    return match is not None and not answers[str(match.lastgroup)].search(start)


def _normal(text: str) -> str:
    """Lower case, straight apostrophes, single spaces, without markup and the vowel signs of Arabic."""
    if not text.isascii():
        text = _DIACRITICS_OF_ARABIC.sub("", unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)))
        text = text.translate(_APOSTROPHES)
    return " ".join(_MARKUP.sub("", text).lower().split())


def _is_speech(start: str) -> bool:
    """Whether a text begins with words in quotation marks and goes on after them."""
    closing = _QUOTES.get(start[0])
    if closing is None:
        return False
    end = start.find(closing, 1)
    return 0 < end < len(start) - 2


@cache
def _patterns() -> tuple[re.Pattern[str], dict[str, re.Pattern[str]]]:
    """The pattern of all openings, whose last group is the language, and for each language that of an answer."""
    table = tomllib.loads(resources.files(__package__).joinpath("refusals.toml").read_text("utf-8"))
    declines = [
        f"(?P<{language}>(?:{one['opener']})*(?:{'|'.join(one['declines'])}))" for language, one in table.items()
    ]
    answers = {language: re.compile("|".join(one["answers"])) for language, one in table.items()}
    return re.compile("|".join(declines)), answers
