"""Fuzzing the reader, in four ways.

`python tests/fuzz_parsing.py --seconds 20 [--seed 1]` mutates the sample replies at random: no input may raise anything
but `ReplyError`, and feeding it in pieces must close alike.

`python tests/fuzz_parsing.py --atheris [libFuzzer options]` asks the same of inputs that coverage guides.

`python tests/fuzz_parsing.py --oracle [--count 100000 | --seconds 60] [--jobs 2] [--seed 1] [--report FILE]` builds
replies from known candidates in many layouts, damages them, and asks whether what is read is right or named
(`reply_oracle`). `--replay SEED:INDEX` shows one of them. It exits with 1 if anything is wrong.

`python tests/fuzz_parsing.py --growth [--seconds 60] [--seed 1]` repeats random units of up to 12 characters to long
replies, one unit or one after another, and prints those that take the most time for a megabyte, at two lengths.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from reply_generator import Case, case
from reply_oracle import Violation, readings, violations

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
SECONDS_FOR_A_MEGABYTE = 3


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


# --- the oracle -----------------------------------------------------------------------------------------------------

CHUNK = 1000
Found = tuple[str, str, str, str, int]  # layout, damage, kind of violation, name of the case, length of the reply


def family(found: Case) -> str:
    """The layout without what stands around it; lists are one layout."""
    name = found.layout.split("+")[0]
    return name.split("/")[0] + "/*" if name.startswith(("list/", "before/", "label/")) else name


def examine(chunk: tuple[int, int]) -> tuple[int, list[Found]]:
    """The violations of one chunk of replies; where the sound reply is read wrongly too, the damage is "layout"."""
    seed, start = chunk
    found: list[Found] = []
    for index in range(start, start + CHUNK):
        made = case(seed, index)
        wrong = violations(made)
        if not wrong:
            continue
        damage, layout = made.damage, family(made)
        if damage == "none":
            layout = made.layout
        else:
            twin = case(seed, index, damaged=False)
            if violations(twin):
                layout, damage = "all", "layout"
        kinds = {violation.kind for violation in wrong}
        found += [(layout, damage, kind, made.name, len(made.reply)) for kind in sorted(kinds)]
    return CHUNK, found


def chunks(seed: int, count: int | None, seconds: float) -> Iterator[tuple[int, int]]:
    end = time.monotonic() + seconds
    start = 0
    while start < count if count else time.monotonic() < end:
        yield seed, start
        start += CHUNK


def shown(made: Case, wrong: list[Violation]) -> str:
    """One reply, what it was built from, and what was read."""
    reading, _ = readings(made)
    lines = [
        f"{made.name} layout={made.layout} damage={made.damage} shape={made.shape and made.shape.kind}",
        *(f"  violation: {each.kind}: {each.detail}" for each in wrong),
        f"  reply: {made.reply!r}",
        *(f"  expected: {known.stated} {known.text!r}" for known in made.known),
        *(
            f"  got: {entry.stated} {entry.text!r} {entry.repairs}"
            for entry in (reading.candidates if reading else ())
        ),
        f"  repairs: {reading.repairs}" if reading else "  got: ReplyError",
    ]
    return "\n".join(lines)


def show(name: str) -> bool:
    """Print one reply again; whether it is read well."""
    seed, index = map(int, name.split(":"))
    made = case(seed, index)
    wrong = violations(made)
    print(shown(made, wrong))
    return not wrong


def summary(groups: dict[tuple[str, str, str], list[Found]], count: int, seed: int, limit: int) -> str:
    """The groups of violations, largest first, with the two shortest replies of each."""
    wrong = {found[3] for group in groups.values() for found in group}
    lines = [f"{count} replies, seed {seed}: {len(wrong)} with a violation"]
    kinds: Counter[str] = Counter()
    for (_, damage, kind), group in groups.items():
        kinds[f"{damage} {kind}"] += len(group)
    lines += [f"  {number} {kind}" for kind, number in kinds.most_common()]
    for (layout, damage, kind), group in sorted(groups.items(), key=_first)[:limit]:
        lines.append(f"\n## {layout}, damage {damage}: {kind}, {len(group)} replies")
        for found in sorted(group, key=lambda each: each[4])[:2]:
            made = case(*map(int, found[3].split(":")))
            lines.append(shown(made, violations(made)))
    return "\n".join(lines)


def _first(item: tuple[tuple[str, str, str], list[Found]]) -> tuple[bool, int]:
    """Foreign errors first, then the largest groups."""
    return item[0][2] != "error", -len(item[1])


def ask_oracle(options: argparse.Namespace) -> bool:
    """Read many generated replies; whether all are read well."""
    groups: dict[tuple[str, str, str], list[Found]] = {}
    count = 0
    started = time.monotonic()
    work = chunks(options.seed, options.count, options.seconds)
    with multiprocessing.Pool(options.jobs) as pool:
        # A pool takes all it is given at once: hand it only as much as it can do soon.
        while batch := list(itertools.islice(work, 4 * options.jobs)):
            for done, found in pool.imap_unordered(examine, batch):
                count += done
                for each in found:
                    groups.setdefault(each[:3], []).append(each)
    text = summary(groups, count, options.seed, options.groups)
    if options.report:
        options.report.write_text(text + "\n", encoding="utf-8")
        text = text.split("\n")[0]
    print(text)
    print(f"{count / (time.monotonic() - started):.0f} replies a second")
    return not groups


# --- growth ---------------------------------------------------------------------------------------------------------

UNITS = (
    *"{}[]()<>,:;=\"'`“”「」\\\n#/*|-_. \t%&1a0é，：",
    *(
        '"text"',
        '"text": "',
        "text:",
        '"probability": 0.5',
        '"a"',
        "'a'",
        '\\"',
        "&quot;",
        "%22",
        "R(",
        "x=",
        "//",
        "/*",
    ),
    *(
        "```",
        "1. ",
        "- ",
        "(0.5)",
        "0.5",
        "**",
        "<response>",
        "</think>",
        "null",
        "```json\n",
        '{"',
        '"}',
        "},{",
        "},",
    ),
)
OPENINGS = ("", '{"responses": [{"text": "', '[{"text": "a", "probability": 0.5}, ', "{", "[", "1. ", "<response>")


def seconds_for_a_megabyte(text: str) -> float:
    started = time.process_time()
    with contextlib.suppress(ReplyError):
        parse(text)
    return (time.process_time() - started) / len(text) * 1e6


def grow(options: argparse.Namespace) -> None:
    generator = random.Random(options.seed)
    end = time.monotonic() + options.seconds
    worst: list[tuple[float, str, list[str]]] = []
    count = 0
    while time.monotonic() < end:
        units = [
            "".join(generator.choices(UNITS, k=generator.randint(1, 6)))[:12]
            for _ in range(generator.randint(1, 2))
        ]
        opening = generator.choice(OPENINGS)
        worst.append((seconds_for_a_megabyte(long_reply(opening, units, 50_000)), opening, units))
        worst = sorted(worst, reverse=True)[: options.groups]
        count += 1
    print(f"{count} replies, seed {options.seed}; seconds for a megabyte at 200 and 800 thousand characters")
    for _, opening, units in worst[:20]:
        long = [long_reply(opening, units, length) for length in (200_000, 800_000)]
        print("  ", *(f"{seconds_for_a_megabyte(text):6.2f}" for text in long), f" {opening!r} {units!r}")


def long_reply(opening: str, units: list[str], length: int) -> str:
    """The opening, and each unit repeated to its share of the length."""
    return opening + "".join(unit * (length // len(units) // len(unit)) for unit in units)


# --- the command line -----------------------------------------------------------------------------------------------


def mutate(options: argparse.Namespace) -> None:
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--oracle", action="store_true", help="build replies whose candidates are known")
    parser.add_argument("--count", type=int, help="with --oracle: how many replies, instead of --seconds")
    parser.add_argument("--jobs", type=int, default=1, help="with --oracle: how many processes")
    parser.add_argument("--report", type=Path, help="with --oracle: a file for what is wrong, in groups")
    parser.add_argument("--groups", type=int, default=200, help="with --oracle: how many groups to show")
    parser.add_argument("--growth", action="store_true", help="look for replies that take long")
    parser.add_argument("--replay", metavar="SEED:INDEX", help="show one reply of the oracle")
    options = parser.parse_args()
    if options.growth:
        grow(options)
        return
    if options.replay:
        sys.exit(not show(options.replay))
    if options.oracle or options.count:
        sys.exit(not ask_oracle(options))
    mutate(options)


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
