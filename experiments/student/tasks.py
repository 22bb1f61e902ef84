"""The teacher's knowledge: kinds of short questions with whole numbers as answers, and their probabilities.

Every answer is computed, so it is right. Some questions are held out for the test, and the teacher never gives
them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["KINDS", "Record", "World", "answers", "test_records", "world"]

PER_KIND = 160
HELD_OUT = 40
KIND_EXPONENT = 1.0
RECORD_EXPONENT = 0.4
"""Zipf's law: the kind of rank r has a probability proportional to r^-1, the question of rank r in it to
r^-0.4."""

_NAMES = ("Ana", "Ben", "Chloe", "Dev", "Emeka", "Fatima", "Goro", "Hana", "Ivan", "Jun", "Kofi", "Lena")
_THINGS = ("apples", "books", "cards", "coins", "eggs", "flowers", "marbles", "pears", "pens", "shells", "stamps")
_WORDS = (
    "lamp", "river", "stone", "cloud", "bread", "tiger", "window", "garden", "pencil", "orange", "mountain",
    "sea", "ant", "candle", "bridge", "ice", "forest", "butter", "moon", "island", "paper", "hat", "summer",
    "kitchen", "train", "owl", "mirror", "village", "tea", "elephant",
)  # fmt: skip
_ANIMALS = {"dogs": 4, "hens": 2, "ants": 6, "spiders": 8, "cows": 4, "ducks": 2, "bees": 6, "horses": 4}
_SHAPES = {"triangles": 3, "squares": 4, "pentagons": 5, "hexagons": 6}
_ONES = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = (
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip

Random = random.Random


def _in_words(n: int) -> str:
    if n < 20:
        return _ONES[n - 1]
    if n < 100:
        return _TENS[n // 10 - 2] + (f"-{_ONES[n % 10 - 1]}" if n % 10 else "")
    return f"{_ONES[n // 100 - 1]} hundred" + (f" and {_in_words(n % 100)}" if n % 100 else "")


def _bought(r: Random) -> tuple[str, int]:
    name, things, a, b = r.choice(_NAMES), r.choice(_THINGS), r.randint(2, 20), r.randint(2, 9)
    return f"{name} has {a} {things} and buys {b} more. How many {things} are there now?", a + b


def _given(r: Random) -> tuple[str, int]:
    name, things, a, b = r.choice(_NAMES), r.choice(_THINGS), r.randint(10, 20), r.randint(2, 9)
    return f"{name} had {a} {things} and gave away {b}. How many {things} are left?", a - b


def _shared(r: Random) -> tuple[str, int]:
    things, a, b = r.choice(_THINGS), r.randint(2, 9), r.randint(2, 6)
    return f"{a * b} {things} are shared by {b} children. How many does each child get?", a


def _priced(r: Random) -> tuple[str, int]:
    things, a, b = r.choice(_THINGS), r.randint(2, 9), r.randint(2, 9)
    return f"Some {things} cost {a} euros each. How many euros do {b} {things} cost?", a * b


def _older(r: Random) -> tuple[str, int]:
    name, a, b = r.choice(_NAMES), r.randint(3, 60), r.randint(2, 9)
    return f"{name} is {a} years old. How old will {name} be in {b} years?", a + b


def _younger(r: Random) -> tuple[str, int]:
    name, a, b = r.choice(_NAMES), r.randint(12, 60), r.randint(2, 9)
    return f"{name} is {a} years old. How old was {name} {b} years ago?", a - b


def _legs(r: Random) -> tuple[str, int]:
    animals, n = r.choice([*_ANIMALS]), r.randint(2, 30)
    return f"How many legs do {n} {animals} have?", n * _ANIMALS[animals]


def _sides(r: Random) -> tuple[str, int]:
    shapes, n = r.choice([*_SHAPES]), r.randint(2, 60)
    return f"How many sides do {n} {shapes} have?", n * _SHAPES[shapes]


def _next(r: Random) -> tuple[str, int]:
    a, step = r.randint(1, 40), r.randint(2, 10)
    return f"Which number comes next: {a}, {a + step}, {a + 2 * step}?", a + 3 * step


def _listed(r: Random) -> tuple[str, int]:
    words = r.sample(_WORDS, r.randint(2, 6))
    return f"How many words are in this list: {', '.join(words)}?", len(words)


def _occurs(r: Random) -> tuple[str, int]:
    word, other = r.sample(_WORDS, 2)
    row = [word] * r.randint(1, 4) + [other] * r.randint(1, 3)
    r.shuffle(row)
    return f"How often does the word {word} stand here: {' '.join(row)}?", row.count(word)


def _letters(r: Random) -> tuple[str, int]:
    first, second = r.sample(_WORDS, 2)
    return f"How many letters do the words {first} and {second} have together?", len(first + second)


def _backwards(r: Random) -> tuple[str, int]:
    a = 10 * r.randint(10, 99) + r.randint(1, 9)
    return f"Write the digits of {a} backwards.", int(str(a)[::-1])


def _of_two(
    question: str, low: int, high: int, answer: Callable[[int, int], int]
) -> Callable[[Random], tuple[str, int]]:
    def ask(r: Random) -> tuple[str, int]:
        a, b = r.sample(range(low, high + 1), 2)
        return question.format(a=a, b=b, more=max(a, b), less=min(a, b)), answer(a, b)

    return ask


def _of_one(
    question: str, low: int, high: int, answer: Callable[[int], int]
) -> Callable[[Random], tuple[str, int]]:
    def ask(r: Random) -> tuple[str, int]:
        a = r.randint(low, high)
        return question.format(a=a, words=_in_words(a) if a < 1000 else ""), answer(a)

    return ask


KINDS: dict[str, Callable[[Random], tuple[str, int]]] = {
    "add": _of_two("What is {a} plus {b}?", 2, 30, lambda a, b: a + b),
    "subtract": _of_two("What is {more} minus {less}?", 2, 30, lambda a, b: abs(a - b)),
    "multiply": _of_two("What is {a} times {b}?", 2, 16, lambda a, b: a * b),
    "double": _of_one("What is twice {a}?", 10, 400, lambda a: 2 * a),
    "after": _of_one("Which number comes right after {a}?", 20, 900, lambda a: a + 1),
    "before": _of_one("Which number comes right before {a}?", 20, 900, lambda a: a - 1),
    "ten more": _of_one("What is ten more than {a}?", 20, 900, lambda a: a + 10),
    "hundred less": _of_one("What is a hundred less than {a}?", 200, 999, lambda a: a - 100),
    "larger": _of_two("Which number is larger, {a} or {b}?", 2, 99, max),
    "smaller": _of_two("Which number is smaller, {a} or {b}?", 2, 99, min),
    "difference": _of_two("How far is {a} from {b}?", 2, 30, lambda a, b: abs(a - b)),
    "last digit": _of_one("What is the last digit of {a}?", 100, 9999, lambda a: a % 10),
    "first digit": _of_one("What is the first digit of {a}?", 100, 9999, lambda a: int(str(a)[0])),
    "digits": _of_one("How many digits does {a}0 have?", 1, 99_999, lambda a: len(str(a)) + 1),
    "digit sum": _of_one("What is the sum of the digits of {a}?", 100, 999, lambda a: sum(map(int, str(a)))),
    "backwards": _backwards,
    "in digits": _of_one("Write {words} in digits.", 21, 999, lambda a: a),
    "round": _of_one("Round {a} to the nearest ten.", 100, 999, lambda a: (a + 5) // 10 * 10),
    "dimes": _of_one("How many cents are {a} dimes?", 2, 400, lambda a: 10 * a),
    "metres": _of_one("How many centimetres are {a} metres?", 2, 400, lambda a: 100 * a),
    "next": _next,
    "bought": _bought,
    "given": _given,
    "shared": _shared,
    "priced": _priced,
    "older": _older,
    "younger": _younger,
    "legs": _legs,
    "sides": _sides,
    "listed": _listed,
    "occurs": _occurs,
    "letters": _letters,
}


@dataclass(frozen=True, slots=True)
class Record:
    """A question, its right answer, and its kind."""

    kind: str
    question: str
    answer: str


@lru_cache
def _records(kind: str) -> tuple[Record, ...]:
    """All questions of a kind, in random order; the first `HELD_OUT` are for the test only."""
    chosen: dict[str, Record] = {}
    for question, answer in _endless(kind):
        chosen.setdefault(question, Record(kind, question, str(answer)))
        if len(chosen) == PER_KIND + HELD_OUT:
            break
    return tuple(chosen.values())


def _endless(kind: str) -> Iterator[tuple[str, int]]:
    r = Random(f"student/{kind}")
    for _ in range(100 * (PER_KIND + HELD_OUT)):
        yield KINDS[kind](r)
    raise ValueError(f"the kind {kind} has too few questions")


@lru_cache
def answers() -> dict[str, str]:
    """The right answer to every question that the teacher may give."""
    return {record.question: record.answer for kind in KINDS for record in _records(kind)[HELD_OUT:]}


def test_records(per_kind: int) -> list[Record]:
    """Held-out questions: `per_kind` of each kind, which no teacher ever gives."""
    return [record for kind in KINDS for record in _records(kind)[:HELD_OUT][:per_kind]]


@dataclass(frozen=True, slots=True)
class World:
    """All records that a teacher may give, and their base probabilities; the seed decides which are common."""

    records: tuple[Record, ...]
    base: NDArray[np.float64]
    kinds: dict[str, float]


@lru_cache
def world(seed: int) -> World:
    random = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(b"student").digest()[:4])])
    ranks = dict(zip(KINDS, random.permutation(len(KINDS)) + 1, strict=True))
    shares = {kind: float(rank) ** -KIND_EXPONENT for kind, rank in ranks.items()}
    total = sum(shares.values())
    records: list[Record] = []
    weights: list[NDArray[np.float64]] = []
    for kind, share in shares.items():
        of_kind = _records(kind)[HELD_OUT:]
        inside = (random.permutation(len(of_kind)) + 1.0) ** -RECORD_EXPONENT
        records += of_kind
        weights.append(share / total * inside / inside.sum())
    return World(tuple(records), np.concatenate(weights), {kind: share / total for kind, share in shares.items()})
