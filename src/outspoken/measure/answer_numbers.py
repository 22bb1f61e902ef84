"""The number that an answer is, as a person reads it."""

from __future__ import annotations

import re
from functools import lru_cache

from outspoken.measure.short_answers import answer_of
from outspoken.parsing.numbers import number

__all__ = ["as_number"]

_LONGEST = 80
_AROUND = " \t\n*_`\"'“”"
_DIGITS = re.compile(
    r"(?<![\w.,:½¼¾%-])[-−]?[$€£¥]?(?:\d+(?:,\d{3})*(?:\.\d+)?|\.\d+)(?![\d½¼¾])(?![.,:]\d)(?!%)"
    r"(?!\s?(?:[kmb]|thousand|million|billion|hundred|percent)\b)",
    re.IGNORECASE,
)
_ONES = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
eighteen nineteen
"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000}
_WORDS = {word: value for value, word in enumerate(_ONES.split())}
_WORDS |= {word: 10 * value for value, word in enumerate(_TENS.split(), 2)}
_OTHERS = {
    word: value
    for words in (
        "null eins zwei drei vier fünf sechs sieben acht neun zehn",
        "zéro un deux trois quatre cinq six sept huit neuf dix",
        "cero uno dos tres cuatro cinco seis siete ocho nueve diez",
        "zero um dois três quatro cinco seis sete oito nove dez",
        "ноль один два три четыре пять шесть семь восемь девять десять",
        "零 一 二 三 四 五 六 七 八 九 十",
    )
    for value, word in enumerate(words.split())
}


@lru_cache(maxsize=4_096)
def as_number(text: str) -> float | None:
    """The number that a short answer is, None if it is none or holds several.

    "1.0", "$1", "１" and "The answer is 1." are 1, "1,000" is 1000, "50%" is 0.5, "3/4" is 0.75, "twenty-one" is
    21. Words are English up to the millions, and to ten in German, French, Spanish, Portuguese, Russian and
    Chinese.
    """
    if len(text) > _LONGEST:
        return None
    answer = answer_of(text).lstrip(_AROUND).rstrip(_AROUND + ".!。").casefold()
    if ":" not in answer and "½%" not in answer:
        value, percent = number(answer)
        if value is not None:
            return value / 100 if percent else value
    if (word := _in_words(answer)) is not None:
        return word
    found = {match.replace(",", "").replace("−", "-").lstrip("$€£¥") for match in _DIGITS.findall(answer)}
    values = {number(each)[0] for each in found}
    return values.pop() if len(values) == 1 else None


def _in_words(answer: str) -> float | None:
    """A number that is written in words alone."""
    if answer in _OTHERS:
        return float(_OTHERS[answer])
    words = [word for word in re.split(r"[\s-]+", answer) if word != "and"]
    sign = -1.0 if words and words[0] in ("minus", "negative") else 1.0
    words = words[1:] if sign < 0 else words
    total, current, last = 0, 0, 1_000
    for word in words:
        if word in _WORDS:
            # "twenty-one" goes down by a decimal place; "five six" is two numbers.
            if last <= 9 or _WORDS[word] >= last or (last < 100 and (last < 20 or _WORDS[word] > 9)):
                return None
            current += _WORDS[word]
            last = _WORDS[word] or 1
        elif word in _SCALES and current:
            current *= _SCALES[word]
            last = 1_000
            if _SCALES[word] > 100:
                total, current = total + current, 0
        else:
            return None
    return sign * float(total + current) if words else None
