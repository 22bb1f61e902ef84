"""Records for the benchmark of near-duplicates, the same from the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

SEED = 20261123
LENGTHS = (60, 150)
ROWS_A_GROUP = 20_000
# Of a hundred records, the numbers of changed and of equal copies of an earlier one.
CHANGED, EQUAL = 10, 1
# The original of a copy is among this many earlier records.
REACH = 200_000
LETTERS = {
    "latin": "abcdefghijklmnopqrstuvwxyz",
    "german": "abcdefghijklmnopqrstuvwxyzäöüß",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
}
HAN, KANA, EMOJI = range(0x4E00, 0x5FFF), range(0x3041, 0x3096), "😀🎉🚀☕🍎🐳"


def vocabularies(generator: random.Random) -> list[list[str]]:
    """Words by script; half of the records are Latin."""
    alphabetic = [
        list({"".join(generator.choices(letters, k=generator.randint(2, 9))): None for _ in range(20_000)})
        for letters in LETTERS.values()
    ]
    han = ["".join(map(chr, generator.choices(HAN, k=generator.randint(1, 3)))) for _ in range(8_000)]
    kana = ["".join(map(chr, generator.choices(KANA, k=generator.randint(1, 4)))) for _ in range(4_000)]
    return [alphabetic[0]] * 4 + [alphabetic[0] + list(EMOJI)] + alphabetic[1:] + [han, han + kana]


def stream(seed: int = SEED) -> Iterator[str]:
    generator = random.Random(seed)
    choices = vocabularies(generator)
    recent: list[str] = []
    number = 0
    while True:
        kind = number % 100
        if recent and kind < CHANGED:
            text = changed(generator.choice(recent), generator, generator.randint(1, 6))
        elif recent and kind < CHANGED + EQUAL:
            text = generator.choice(recent)
        else:
            text = sentence(generator, choices)
        if len(recent) < REACH:
            recent.append(text)
        else:
            recent[generator.randrange(REACH)] = text
        yield text
        number += 1


def sentence(generator: random.Random, choices: list[list[str]]) -> str:
    words = choices[generator.randrange(len(choices))]
    wanted = generator.randint(*LENGTHS)
    glue = "" if ord(words[0][0]) >= 0x3000 else " "
    text = glue.join(generator.choices(words, k=wanted // 2))
    return text[:wanted]


def changed(text: str, generator: random.Random, times: int) -> str:
    signs = list(text)
    for _ in range(times):
        signs[generator.randrange(len(signs))] = generator.choice("qx7中я")
    return "".join(signs)


def texts(count: int) -> list[str]:
    return list(islice(stream(), count))


def write(path: Path, count: int) -> int:
    """Write a file of records; returns the total number of their characters."""
    schema = pa.schema(
        [("id", pa.string()), ("text", pa.string()), ("value", pa.string()), ("number", pa.int64())]
    )
    source, characters = stream(), 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, count, ROWS_A_GROUP):
            some = list(islice(source, min(ROWS_A_GROUP, count - start)))
            numbers = range(start, start + len(some))
            values = [f'{{"number": {number}}}' for number in numbers]
            ids = [f"record-{number:08d}" for number in numbers]
            writer.write_table(pa.table([ids, some, values, list(numbers)], schema=schema))
            characters += sum(map(len, some))
    return characters


def around(count: int, threshold: float, generator: random.Random) -> list[str]:
    """Different records, and a copy of each whose similarity is between `threshold` - 0.07 and + 0.07."""
    choices = vocabularies(generator)
    originals = [sentence(generator, choices) for _ in range(count // 2)]
    copies = []
    for original in originals:
        low = threshold - 0.07
        while True:
            copy = original
            # Neighbouring characters change fewer shingles than distant ones, so that all similarities occur.
            for _ in range(generator.randint(1, 5)):
                at, length = generator.randrange(len(copy)), generator.randint(1, 4)
                copy = copy[:at] + "".join(generator.choices("qx7中я", k=length)) + copy[at + length :]
            if low <= alike(original, copy) <= min(1.0, threshold + 0.07):
                break
        copies.append(copy)
    return originals + copies


def alike(one: str, other: str) -> float:
    a, b = ({text[at : at + 3] for at in range(len(text) - 2)} for text in (one, other))
    return len(a & b) / len(a | b)
