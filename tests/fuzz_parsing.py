"""Fuzzing the parser: no input may raise anything but `ReplyError`, and feeding it in pieces must close alike.

With atheris: `python tests/fuzz_parsing.py --atheris [libFuzzer options]`. Without: `python tests/fuzz_parsing.py
--seconds 20 [--seed 1]` mutates the sample replies at random.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import time
from pathlib import Path

from outspoken.errors import ReplyError
from outspoken.parsing import REPAIRS, ParsedReply, ReplyParser, parse
from outspoken.reply_shape import ReplyShape

SAMPLES = Path(__file__).parent / "data" / "replies"
SHAPES = [
    None,
    ReplyShape("candidates", k=2),
    ReplyShape("candidates", weight="nll", scale="nll"),
    ReplyShape("candidates", value_schema={"type": "object"}),
    *(ReplyShape(kind) for kind in ("strings", "list", "xml", "answer", "text")),  # type: ignore[arg-type]
]
TOKENS = (
    *"{}[](),:\"'\\\n“”|",
    *(
        "```",
        "<think>",
        "</think>",
        "<response>",
        "<text>",
        "</text>",
        "0.3",
        "12%",
        "NaN",
        "null",
        "1. ",
        "- ",
        "p = ",
    ),
    "\ud800",
)
SECONDS_FOR_A_MEGABYTE = 60


def check(text: str, shape: ReplyShape | None, cut: int) -> None:
    """One input, whole and in two pieces."""
    reader = ReplyParser(shape)
    early = [*reader.feed(text[:cut]), *reader.feed(text[cut:])]
    started = time.perf_counter()
    try:
        reading: ParsedReply | None = parse(text, shape)
    except ReplyError:
        reading = None
    spent = time.perf_counter() - started
    assert spent < 1 + SECONDS_FOR_A_MEGABYTE * len(text) / 1e6, f"{spent:.1f} s for {len(text)} characters"
    try:
        closed: ParsedReply | None = reader.close()
    except ReplyError:
        closed = None
    assert closed == reading
    for entry in (*early, *(reading.candidates if reading else ())):
        assert entry.text.strip() == entry.text != ""
        assert set(entry.repairs) <= REPAIRS.keys()
        assert (entry.stated is None) == (entry.log_stated is None)
        assert entry.stated is None or 0 <= entry.stated <= 1
        assert entry.log_stated is None or entry.log_stated <= 0
        assert not math.isnan(entry.stated or 0)


def mutated(generator: random.Random, seeds: list[str]) -> str:
    text = generator.choice(seeds)
    for _ in range(generator.randint(1, 8)):
        a, b = sorted(generator.randint(0, len(text)) for _ in range(2))
        b = min(b, a + generator.choice((0, 1, 3, 200)))
        other = generator.choice(seeds)
        start = generator.randint(0, len(other))
        piece = generator.choice(("", generator.choice(TOKENS), text[a:b] * 2, other[start : start + 80]))
        text = text[:a] + piece * generator.choice((1, 1, 1, 50)) + text[b:]
    return text[:20_000]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    seeds = [path.read_text(encoding="utf-8") for path in sorted(SAMPLES.glob("*.txt"))]
    end = time.monotonic() + options.seconds
    count = 0
    while time.monotonic() < end:
        text, shape = mutated(generator, seeds), generator.choice(SHAPES)
        try:
            check(text, shape, generator.randint(0, len(text)))
        except Exception:
            print(f"shape={shape!r}\ntext={text!r}")
            raise
        count += 1
    print(f"{count} replies read, seed {options.seed}: nothing but ReplyError escaped")


def main_atheris() -> None:
    import atheris  # type: ignore[import-not-found]

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        shape = SHAPES[provider.ConsumeIntInRange(0, len(SHAPES) - 1)]
        cut = provider.ConsumeIntInRange(0, 200)
        check(provider.ConsumeUnicode(4_000), shape, cut)

    atheris.instrument_all()
    atheris.Setup([arg for arg in sys.argv if arg != "--atheris"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main_atheris() if "--atheris" in sys.argv else main()
