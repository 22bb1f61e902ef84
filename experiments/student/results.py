"""The results of the experiment: read from its folder, counted, and written as results.json, a table and
charts."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import figures
import numpy as np
import tasks
from numpy.typing import NDArray

from outspoken import __version__
from outspoken.measure.statistics import holm
from outspoken.report.format import p_equation, percent

__all__ = ["COMPARED", "TimeSpent", "analyse", "folder", "graded", "write"]

COMPARED = (("spread", "collapsed"), ("spread", "distinct"), ("strict", "collapsed"), ("distinct", "collapsed"))
"""The tested differences, on both tests: one family for Holm's correction."""
UNTRAINED = "untrained"

Floats = NDArray[np.float64]


def folder(out: Path, arm: str, seed: int) -> Path:
    """The folder of one student."""
    return out / "students" / (arm if arm == UNTRAINED else f"{arm}-{seed}")


def graded(questions: Path, evaluation: Path) -> list[int]:
    """1 and 0 for the greedy answer to each question, in their order."""
    from outspoken.training.accuracy import grade
    from outspoken.training.questions import GREEDY, AnswerFile, read_questions

    (file,) = (evaluation / "answers").glob("*.jsonl")
    answers = AnswerFile(file)
    right = []
    for question in read_questions([questions])[0].questions:
        answer = answers.get(question.key, GREEDY)
        assert answer is not None
        right.append(int(grade(question, answer).right))
    return right


class TimeSpent:
    """The seconds of each part, summed over all runs of the script."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.is_file() else {}

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        begun = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] = round(self.seconds.get(part, 0) + time.monotonic() - begun, 1)
            self._path.write_text(json.dumps(self.seconds))


def analyse(out: Path, size: Any, data: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """All figures. `weighted` weighs kinds by their base probability, `uniform` equally."""
    kinds = [record.kind for record in tasks.test_records(size.per_kind)]
    seeds = size.seeds
    students = {arm.name: [_read(out, arm.name, seed) for seed in seeds] for arm in size.arms}
    untrained = _read(out, UNTRAINED, 0)
    right: dict[str, Floats] = {
        UNTRAINED: np.array([untrained["right"]] * len(seeds), dtype=float),
        **{name: np.array([each["right"] for each in group], dtype=float) for name, group in students.items()},
    }
    weights = {
        "uniform": np.full((len(seeds), len(kinds)), 1 / len(kinds)),
        "weighted": np.array(
            [[tasks.world(seed).kinds[kind] / size.per_kind for kind in kinds] for seed in seeds]
        ),
    }
    titles = {UNTRAINED: "untrained", **{arm.name: arm.title for arm in size.arms}}
    return {
        "kind": "student",
        "version": __version__,
        "size": {
            "records": size.records,
            "questions": len(kinds),
            "kinds": len(tasks.KINDS),
            "seeds": list(seeds),
        },
        "settings": settings,
        "versions": _versions(),
        "arms": [
            {
                "arm": name,
                "title": titles[name],
                **{test: figures.figure(table, weight, kinds).to_dict() for test, weight in weights.items()},
                "by_seed": table.mean(axis=1).tolist(),
                "data": [data[f"{name}-{seed}"] for seed in seeds] if name in students else [],
                "seconds": [each["seconds"] for each in students.get(name, [untrained])],
            }
            for name, table in right.items()
        ],
        "comparisons": _comparisons(right, weights, kinds),
        "kinds": [
            {"kind": kind, **{name: _of_kind(table, kinds, kind) for name, table in right.items()}}
            for kind in tasks.KINDS
        ],
        "by_records": _by_records(right, students, data, seeds, kinds),
    }


def _read(out: Path, arm: str, seed: int) -> dict[str, Any]:
    return dict(json.loads((folder(out, arm, seed) / "right.json").read_text()))


def _comparisons(
    right: dict[str, Floats], weights: dict[str, Floats], kinds: Sequence[str]
) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    p_values: list[float | None] = []
    for test, weight in weights.items():
        for a, b in (pair for pair in COMPARED if right.keys() >= {*pair}):
            difference = figures.figure(right[a] - right[b], weight, kinds)
            p_values.append(difference.p)
            rows.append({"a": a, "b": b, "test": test, **difference.to_dict()})
    for row, p in zip(rows, holm(p_values), strict=True):
        row["p_holm"] = p
    return rows


def _of_kind(table: Floats, kinds: Sequence[str], kind: str) -> float:
    return float(table[:, [each == kind for each in kinds]].mean())


def _by_records(
    right: dict[str, Floats],
    students: dict[str, Any],
    data: dict[str, Any],
    seeds: Sequence[int],
    kinds: Sequence[str],
) -> list[dict[str, Any]]:
    pairs = [
        (data[f"{name}-{seed}"]["records_by_kind"].get(kind, 0), _of_kind(right[name][[at]], kinds, kind))
        for name in students
        for at, seed in enumerate(seeds)
        for kind in tasks.KINDS
    ]
    return [asdict(each) for each in figures.by_records(*map(list, zip(*pairs, strict=True)))]


def _versions() -> dict[str, Any]:
    from outspoken.training.base_models import versions

    return {**versions(), "machine": platform.machine()}


def write(results: dict[str, Any], out: Path) -> None:
    """Write results.json and charts/, and print the table."""
    (out / "results.json").write_text(json.dumps(results, ensure_ascii=False, indent=2, allow_nan=False) + "\n")
    figures.draw(results, out / "charts")
    lines = [
        _row(["learned from", "different", "kinds", "requests", "tokens", "all kinds alike", "common kinds more"])
    ]
    for arm in results["arms"]:
        mean = {
            key: f"{np.mean([each[key] for each in arm['data']]):,.0f}" if arm["data"] else ""
            for key in ("distinct", "kinds", "requests", "tokens")
        }
        lines.append(_row([arm["title"], *mean.values(), _percent(arm["uniform"]), _percent(arm["weighted"])]))
    lines.append("")
    titles = {arm["arm"]: arm["title"] for arm in results["arms"]}
    for row in results["comparisons"]:
        test = "all kinds alike" if row["test"] == "uniform" else "common kinds more"
        p = "" if row["p_holm"] is None else f", {p_equation(row['p_holm'])} (Holm)"
        lines.append(f"{titles[row['a']]} minus {titles[row['b']]}, {test}: {_percent(row)}{p}")
    lines += ["", *(f"{part}: {seconds:.0f} s" for part, seconds in results["seconds"].items())]
    sys.stdout.write("\n".join([*lines, f"{out / 'results.json'}", ""]))


def _row(cells: Sequence[str]) -> str:
    return "  ".join(
        cell.ljust(width) for cell, width in zip(cells, (30, 9, 5, 8, 8, 22, 22), strict=True)
    ).rstrip()


def _percent(figure: dict[str, Any]) -> str:
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    return percent(value) if low is None else f"{percent(value)} [{100 * low:.1f}, {100 * high:.1f}]"
