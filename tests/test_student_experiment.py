"""The experiment with the student: its teacher answers as specified, its intervals hold, and it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from proofs import repetitions, within
from scipy import stats

pytest.importorskip("altair")

from outspoken import verbalize
from outspoken.errors import ProviderError
from outspoken.theory import sharpening

HERE = Path(__file__).parent.parent / "experiments" / "student"


@pytest.fixture(scope="module", autouse=True)
def _modules_of_the_experiment() -> Iterator[None]:
    """Its modules by their own names, which others beside these tests may have too."""
    names = [path.stem for path in HERE.glob("*.py")]
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(HERE))
    yield
    sys.path.remove(str(HERE))
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(others)


@pytest.fixture(scope="module")
def tasks() -> Any:
    return import_module("tasks")


@pytest.fixture(scope="module")
def teacher() -> Any:
    return import_module("teacher")


@pytest.fixture(scope="module")
def figures() -> Any:
    return import_module("figures")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    command = [sys.executable, str(HERE / "teacher.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def body(text: str, model: str = "aligned-1", seed: int = 1) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "seed": seed}


ONE, MANY = "Write a short question.", 'Generate 4 responses to the input prompt: "Write a short question."'


def test_no_teacher_may_give_a_question_of_the_test(tasks: Any) -> None:
    tested = {record.question for record in tasks.test_records(tasks.HELD_OUT)}
    assert len(tested) == len(tasks.KINDS) * tasks.HELD_OUT
    for seed in (0, 1, 2):
        assert tested.isdisjoint(record.question for record in tasks.world(seed).records)
    assert tested.isdisjoint(tasks.answers())


def test_answers_are_right(tasks: Any) -> None:
    """Computed again from the words of the question."""
    ways: dict[str, Any] = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "larger": lambda a, b: max(a, b),
        "next": lambda a, b, c: c + b - a,
        "round": lambda a: int(f"{a / 10 + 1e-9:.0f}0"),
        "digit sum": lambda a: sum(int(digit) for digit in str(a)),
        "backwards": lambda a: int(str(a)[::-1]),
        "bought": lambda a, b: a + b,
        "shared": lambda a, b: a // b,
        "metres": lambda a: a * 100,
    }
    records = [*tasks.world(1).records, *tasks.test_records(tasks.HELD_OUT)]
    checked = Counter[str]()
    for record in records:
        if record.kind in ways:
            numbers = [int(number) for number in re.findall(r"\d+", record.question)]
            assert record.answer == str(ways[record.kind](*numbers)), record
            checked[record.kind] += 1
        if record.kind == "listed":
            assert record.answer == str(record.question.count(",") + 1)
        assert record.answer.isdigit()
    assert set(checked) == set(ways)


def test_the_base_is_long_tailed_and_another_seed_makes_other_kinds_common(tasks: Any) -> None:
    worlds = [tasks.world(seed) for seed in (1, 2)]
    for world in worlds:
        assert world.base.sum() == pytest.approx(1)
        shares = sorted(world.kinds.values(), reverse=True)
        assert shares[0] / shares[9] == pytest.approx(10)
        summed = Counter[str]()
        for record, share in zip(world.records, world.base, strict=True):
            summed[record.kind] += share
        assert summed == pytest.approx(world.kinds)
    assert max(worlds[0].kinds, key=worlds[0].kinds.get) != max(worlds[1].kinds, key=worlds[1].kinds.get)


def test_asked_for_one_it_draws_from_the_sharpened_base(tasks: Any, teacher: Any) -> None:
    world = tasks.world(1)
    expected = Counter[str]()
    for record, share in zip(world.records, sharpening.sharpen(world.base, teacher.GAMMA), strict=True):
        expected[record.question] += share
    draws = Counter(teacher.reply(body(ONE, seed=seed)) for seed in range(2000))
    apart = sum(abs(draws[question] / 2000 - share) for question, share in expected.items()) / 2
    by_chance = np.random.default_rng(0).multinomial(2000, [*expected.values()], size=100) / 2000
    usual = np.abs(by_chance - np.array([*expected.values()])).sum(axis=1) / 2
    assert apart < usual.max() * 1.1
    assert len(Counter(teacher.reply(body(ONE, "base-1", seed)) for seed in range(200))) > 150


def test_asked_for_many_it_names_different_ones_and_states_their_base_probabilities(
    tasks: Any, teacher: Any
) -> None:
    world = tasks.world(1)
    base = dict(zip((record.question for record in world.records), world.base, strict=True))
    said = {}
    for way in ("aligned", "strict"):
        named = Counter[str]()
        for seed in range(300):
            responses = json.loads(teacher.reply(body(MANY, f"{way}-1", seed)))["responses"]
            assert len({one["text"] for one in responses}) == 4
            for one in responses:
                assert one["probability"] == pytest.approx(base[one["text"]], rel=0.05)
                named[tasks_kind(world, one["text"])] += 1
        said[way] = named
    assert len(said["aligned"]) > 28 > 16 > len(said["strict"])


def tasks_kind(world: Any, question: str) -> str:
    return str(next(record.kind for record in world.records if record.question == question))


def test_it_is_deterministic_and_knows_its_answers(tasks: Any, teacher: Any) -> None:
    assert teacher.reply(body(MANY)) == teacher.reply(body(MANY)) != teacher.reply(body(MANY, seed=2))
    record = tasks.world(1).records[7]
    assert teacher.reply(body(record.question)) == record.answer


def test_over_http_by_the_wording_of_the_library(tasks: Any, url: str) -> None:
    known = tasks.answers()
    for method, k in (("vs-standard", 5), ("vs-multi", 3)):
        found = verbalize(ONE, model=f"{url}#aligned-1", method=method, k=k, seed=1)
        assert all(text in known for text in found.texts)
        assert all(candidate.stated is not None and candidate.stated > 0 for candidate in found)
    assert len(verbalize(ONE, model=f"{url}#strict-3", method="vs-standard", k=5, seed=1)) == 5
    with pytest.raises(ProviderError, match="aligned-SEED"):
        verbalize(ONE, model=f"{url}#wise-1", top_up=0)


@pytest.mark.proof
def test_intervals_hold_the_truth_over_other_seeds_and_questions(figures: Any) -> None:
    """Both seeds and questions move the figure by chance; 95 % of the intervals should hold the truth."""
    random = np.random.default_rng(0)
    kinds = [f"kind {number // 8}" for number in range(128)]
    level = np.repeat(random.uniform(0.3, 0.7, 16), 8)
    weights = np.full((5, 128), 1 / 128)
    held, width = 0, []
    for _ in range(repetitions()):
        chance = level + random.uniform(-0.1, 0.1, (5, 1)) + random.uniform(-0.2, 0.2, 128)
        found = figures.figure(random.random((5, 128)) < chance, weights, kinds)
        held += found.low <= level.mean() <= found.high
        width.append(found.high - found.low)
    assert within(held / repetitions(), 0.93, 0.99)
    assert 0.1 < np.mean(width) < 0.25


def test_figures_by_hand(figures: Any) -> None:
    right = [[1, 0, 1, 1], [1, 0, 0, 1]]
    found = figures.figure(right, np.full((2, 4), 0.25), ["a", "a", "b", "b"])
    parts = [np.var([0.75, 0.5], ddof=1) / 2, 2 * np.var([0.25, 0.0], ddof=1), 2 * np.var([0.125, 0.25], ddof=1)]
    freedom = sum(parts) ** 2 / sum(part**2 for part in parts)
    assert found.value == 0.625
    assert found.se == pytest.approx(np.sqrt(sum(parts)))
    assert found.p == pytest.approx(2 * stats.t.sf(0.625 / found.se, freedom))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, freedom, 0.625, found.se))
    alone = figures.figure([[1, 0]], [[0.5, 0.5]], ["a", "a"])
    assert (alone.value, alone.low, alone.p) == (0.5, None, None)
    rows = figures.by_records([0, 0, 1, 60], [0.0, 0.5, 0.25, 1.0])
    assert [(row.records, row.value, row.kinds) for row in rows] == [
        ("0", 0.25, 2),
        ("1 to 2", 0.25, 1),
        ("over 50", 1.0, 1),
    ]


@pytest.mark.proof(only=True)
def test_it_runs_and_goes_on(tmp_path: Path) -> None:
    for module in ("torch", "trl", "peft", "rensa"):
        pytest.importorskip(module)

    def run() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(HERE / "run.py"), "--quick", "--out", str(tmp_path / "out"), "--port", "0"]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    ended = run()
    assert ended.returncode == 0, ended.stderr[-2000:]
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    data = {arm["arm"]: arm["data"][0] for arm in found["arms"] if arm["data"]}
    assert {name: made["records"] for name, made in data.items()} == dict.fromkeys(data, 16)
    assert data["collapsed"]["distinct"] < 16 == data["spread"]["distinct"]
    assert data["collapsed"]["kinds"] < data["spread"]["kinds"]
    assert data["collapsed"]["requests"] >= 16 > data["spread"]["requests"]
    assert "verbalized" in ended.stdout
    assert len([*(tmp_path / "out" / "charts").glob("*.png")]) == 2
    done = sorted((tmp_path / "out" / "students").glob("*/right.json"))
    assert len(done) == 3
    before = [path.stat().st_mtime_ns for path in done]
    again, begun = run(), time.monotonic()
    assert again.returncode == 0, again.stderr[-2000:]
    assert "student 1" not in again.stderr
    assert [path.stat().st_mtime_ns for path in done] == before
    assert time.monotonic() - begun < 60
