"""Parsing replies: valid ones compared with jiter, damaged ones with json_repair, streams, and hostile inputs.

`python benchmarks/parsing.py [--json]`. Ratios are of medians over interleaved repeats in one run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import re
import statistics
import time
from collections.abc import Callable

import jiter
import json_repair

from outspoken.errors import ReplyError
from outspoken.parsing import ReplyParser, parse
from outspoken.reply_shape import ReplyShape

WORDS = re.split(
    " ", 'the coffee bean "said" to a cup\nof morning light: it was never (quite) ground down, enough.'
)
SIGNS = "咖啡為什麼苦因為它沒睡拿鐵很累早上好世界今天天氣怎麼樣，。"
DAMAGE: dict[str, Callable[[str, int], str]] = {
    "fenced": lambda text, at: f"```json\n{text}\n```",
    "prose": lambda text, at: f"Sure [as asked]:\n\n{text}\n\nAnything {{else}}?",
    "think": lambda text, at: f"<think>Perhaps {text[:80]}</think>{text}",
    "truncated": lambda text, at: text[:at],
    "python": lambda text, at: repr(json.loads(text)),
    "trailing-commas": lambda text, at: text.replace("}", ",}"),
    "missing-commas": lambda text, at: text.replace('", "', '" "').replace("}, {", "} {"),
    "smart-quotes": lambda text, at: text.replace('"text": "', "“text”: “").replace('", ', "”, "),
    "inner-quotes": lambda text, at: text.replace('\\"', '"'),
    "raw-newlines": lambda text, at: text.replace("\\n", "\n"),
    "comments": lambda text, at: text.replace("[", "[ // here\n", 1),
    "keys": lambda text, at: text.replace('"text"', '"response"').replace('"probability"', '"confidence"'),
    "percents": lambda text, at: text.replace('"probability": 0.', '"probability": "').replace("}", '%"}'),
}
OPEN = '{"responses": [{"text": "'
HOSTILE = {
    "openings": ("", '{"'),
    "openings-in-text": (OPEN, '{"'),
    "brackets": ("", "["),
    "braces-in-text": (OPEN, "{ "),
    "quotes-in-text": (OPEN, '"\\'),
    "objects": (OPEN, '{"text": "a "b" c", '),
    "tags": ("", "<response><text>"),
    "lines": ("", "1. a (0.5)\n"),
    "blanks": ("1.", " "),
    "thoughts": ("", "<think></think>"),
}


def valid(generator: random.Random, language: str, k: int = 5, size: int = 1500) -> str:
    if language == "en":
        texts = [" ".join(generator.choices(WORDS, k=size // (6 * k))).strip() for _ in range(k)]
    else:
        texts = ["".join(generator.choices(SIGNS, k=size // (3 * k) - 12)) for _ in range(k)]
    items = [{"text": text, "probability": round(generator.uniform(0.01, 0.3), 2)} for text in texts]
    return json.dumps({"responses": items}, ensure_ascii=False)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def compared(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float]:
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def read(text: str, shape: ReplyShape | None = None) -> None:
    with contextlib.suppress(ReplyError):
        parse(text, shape)


def stream(text: str) -> None:
    reader = ReplyParser()
    for sign in text:
        reader.feed(sign)
    with contextlib.suppress(ReplyError):
        reader.close()


def measure(damaged_replies: int) -> dict[str, dict[str, object]]:
    generator = random.Random(0)
    shape = ReplyShape("candidates", k=5)
    results: dict[str, dict[str, object]] = {}
    for language in ("en", "zh"):
        texts = [valid(generator, language) for _ in range(1000)]
        ours, theirs = compared(
            lambda texts=texts: [parse(text, shape) for text in texts],
            lambda texts=texts: [jiter.from_json(text.encode()) for text in texts],
            31,
        )
        results[f"valid_{language}"] = {
            "bytes": round(statistics.mean(len(text.encode()) for text in texts)),
            "parse_us": round(ours * 1e3, 2),
            "jiter_us": round(theirs * 1e3, 2),
            "ratio": round(ours / theirs, 2),
        }
    kinds = list(DAMAGE.values())
    damaged = []
    for at in range(damaged_replies):
        text = valid(generator, "en" if at % 2 else "zh")
        damaged.append(kinds[at % len(kinds)](text, generator.randint(60, len(text) - 1)))
    ours, theirs = compared(
        lambda: [read(text) for text in damaged], lambda: [json_repair.loads(text) for text in damaged], 3
    )
    results["damaged"] = {
        "replies": len(damaged),
        "parse_s": round(ours, 2),
        "json_repair_s": round(theirs, 2),
        "ratio": round(ours / theirs, 3),
    }
    text = valid(generator, "en")
    ours, theirs = compared(lambda: stream(text), lambda: parse(text, shape), 101)
    results["stream"] = {
        "us_per_character": round(ours * 1e6 / len(text), 2),
        "character_by_character_us": round(ours * 1e6),
        "whole_us": round(theirs * 1e6, 1),
    }
    growth: dict[str, object] = {}
    for name, (start, unit) in HOSTILE.items():
        inputs = [start + unit * (n // len(unit)) for n in (50_000, 100_000, 200_000)]
        growth[name] = {
            "parse_ms": [round(seconds(lambda text=text: read(text)) * 1e3) for text in inputs],
            "stream_ms": [round(seconds(lambda text=text: stream(text)) * 1e3) for text in inputs],
        }
    results["growth_over_n_2n_4n"] = growth
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--damaged", type=int, default=10_000)
    options = parser.parse_args()
    results = measure(options.damaged)
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, figures in results.items():
        print(name, *(f"  {key}: {value}" for key, value in figures.items()), sep="\n")


if __name__ == "__main__":
    main()
