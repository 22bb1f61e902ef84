"""How sure an accuracy is: intervals and tests against other libraries and simulations, arms, and what is compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

stats = pytest.importorskip("scipy.stats")
contingency = pytest.importorskip("statsmodels.stats.contingency_tables")
proportion = pytest.importorskip("statsmodels.stats.proportion")
pytest.importorskip("torch")

from outspoken import training  # noqa: E402
from outspoken.errors import UndefinedError, UsageError  # noqa: E402
from outspoken.measure.statistics import wilson  # noqa: E402
from outspoken.training import accuracy  # noqa: E402
from outspoken.training.accuracy import (  # noqa: E402
    Grade,
    Grades,
    compare_students,
)
from outspoken.training.questions import EvalQuestion  # noqa: E402


@pytest.mark.parametrize(("right", "total"), [(0, 1), (0, 40), (3, 7), (40, 40), (555, 1319)])
def test_wilson_is_that_of_statsmodels(right: int, total: int) -> None:
    expected = proportion.proportion_confint(right, total, method="wilson")
    assert wilson(right, total) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0, 0), (0, 5), (3, 3), (17, 4), (100, 140)])
def test_mcnemar_is_that_of_statsmodels(a: int, b: int) -> None:
    expected = contingency.mcnemar([[7, a], [b, 9]], exact=True).pvalue
    assert accuracy.mcnemar(a, b) == pytest.approx(min(1.0, expected))


def test_two_students() -> None:
    a = np.array([1, 1, 0, 0, 1, 1, 1, np.nan, 1, 1], dtype=float)
    b = np.array([1, 0, 1, 0, 0, 0, 0, 1, np.nan, 0], dtype=float)
    found = accuracy.student_difference(a, b, greedy=True)
    assert (found.questions, found.only_a, found.only_b) == (8, 5, 1)
    assert found.difference == pytest.approx(4 / 8)
    assert found.p == pytest.approx(accuracy.mcnemar(5, 1))
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high
    back = accuracy.student_difference(b, a, greedy=True)
    assert (back.difference, back.p) == (-found.difference, found.p)
    same = accuracy.student_difference(a, a, greedy=True)
    assert (same.difference, same.p, same.note) == (0, 1, "they agree on every question")
    shares = accuracy.student_difference(a * 0.7, b * 0.2, greedy=False)
    assert (shares.test, shares.only_a) == ("permutation", None)
    with pytest.raises(UndefinedError, match="no question in common"):
        accuracy.student_difference(np.array([np.nan, 1.0]), np.array([1.0, np.nan]), greedy=True)


def test_an_arm_is_the_mean_of_its_table() -> None:
    table = np.array([[1, 0, 1, 1, 0, 1], [1, 0, 0, 1, 0, 1], [1, 1, 1, 1, 0, 1]], dtype=float)
    found = accuracy.arm_score(table)
    assert found.value == pytest.approx(table.mean())
    assert found.seed_sd == pytest.approx(np.std([4 / 6, 3 / 6, 5 / 6], ddof=1))
    assert (found.seeds, found.questions, found.note) == (
        3,
        6,
        "3 seeds: how much they differ is known only roughly",
    )
    one = accuracy.arm_score(table[:1])
    assert one.seed_sd is None
    assert "one seed" in one.note
    # Where nothing but the questions counts, it is the t interval of their mean.
    alike = np.repeat(table[:1], 4, axis=0)
    half = 2.5706 * table[0].std(ddof=1) / np.sqrt(6)
    assert accuracy.arm_score(alike).high == pytest.approx(min(1, table[0].mean() + half), abs=1e-4)
    assert accuracy.arm_score(table[:, :1]).low is None
    flat = accuracy.arm_score(np.ones((3, 5)))
    assert (flat.low, flat.high) == (1, 1)
    assert "no variation" in flat.note


@pytest.mark.parametrize(("seeds", "between"), [(3, 0.0), (3, 0.4), (5, 0.3)])
def test_intervals_of_arms_cover_the_truth(seeds: int, between: float) -> None:
    """Questions of different difficulty, seeds of different luck, two arms of one quality."""
    rng = np.random.default_rng(seeds)
    questions, runs = 150, 600

    def chances(difficulty: Any, luck: Any) -> Any:
        return 1 / (1 + np.exp(-0.2 - difficulty - luck))

    truth = chances(rng.normal(0, 1.5, 10**6), rng.normal(0, between, 10**6)).mean()
    alone = paired = false = 0
    for _ in range(runs):
        difficulty = rng.normal(0, 1.5, questions)
        a, b = (
            (rng.random((seeds, questions)) < chances(difficulty, rng.normal(0, between, (seeds, 1)))).astype(
                float
            )
            for _ in range(2)
        )
        score, difference = accuracy.arm_score(a), accuracy.arm_difference(a, b)
        assert score.low is not None
        assert score.high is not None
        assert difference.low is not None
        assert difference.high is not None
        assert difference.p is not None
        alone += score.low <= truth <= score.high
        paired += difference.low <= 0 <= difference.high
        false += difference.p < 0.05
    assert alone / runs > 0.92
    assert paired / runs > 0.93
    assert false == runs - paired


def test_a_difference_between_arms_that_is_there_is_found() -> None:
    rng = np.random.default_rng(0)
    chance = 1 / (1 + np.exp(-rng.normal(0, 1, 300)))
    a = (rng.random((7, 300)) < np.minimum(1, chance + 0.15)).astype(float)
    b = (rng.random((8, 300)) < chance).astype(float)
    found = accuracy.arm_difference(a, b)
    assert found.p is not None
    assert found.p < 1e-4
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert found.low is not None
    assert 0.03 < found.low < found.difference


def test_where_questions_add_nothing_it_is_welchs_test_over_the_seeds() -> None:
    # In each column a question that one seed of each arm knows: the arms do not differ by question at all.
    a, b = np.tile(np.eye(4), 30), np.tile(np.eye(4), 30)
    a[0, :9] = 1
    a[2, 5:20] = 1
    b[1, 3:17] = 1
    expected = stats.ttest_ind(a.mean(axis=1), b.mean(axis=1), equal_var=False)
    found = accuracy.arm_difference(a, b)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-12)
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval(0.95), abs=1e-12)


def grades(rights: list[bool]) -> list[Grades]:
    asked = [EvalQuestion(str(at), "q", "1", "x") for at in range(len(rights))]
    given: list[Grade | None] = [Grade("1" if right else "2", right, False) for right in rights]
    return [Grades(asked, given, [None] * len(rights))]


def test_every_two_of_arms_and_lone_students_are_compared_and_corrected() -> None:
    rng = np.random.default_rng(1)
    students = {name: grades(list(rng.random(60) < share)) for name, share in
                {"base": 0.2, "teacher": 0.9, "a1": 0.3, "a2": 0.35, "b1": 0.6, "b2": 0.65}.items()}  # fmt: skip
    arms, comparisons = compare_students(["test"], students, {"a": ["a1", "a2"], "b": ["b1", "b2"]}, sampled=False)
    pairs = [(entry.a, entry.b) for entry in comparisons]
    assert pairs == [
        ("a", "b"), ("a", "base"), ("a", "teacher"), ("b", "base"), ("b", "teacher"), ("base", "teacher"),
    ]  # fmt: skip
    tests = {pair: entry.test for pair, entry in zip(pairs, comparisons, strict=True)}
    assert tests["base", "teacher"] == "McNemar, exact"
    assert tests["a", "base"].startswith("Welch's t")
    raw, corrected = ([getattr(entry, name) for entry in comparisons] for name in ("p", "p_holm"))
    smallest = int(np.argmin(raw))
    assert corrected[smallest] == pytest.approx(min(1, 6 * raw[smallest]))
    assert all(after >= before for before, after in zip(raw, corrected, strict=True))
    arm = arms[0]
    assert arm.students == ("a1", "a2")
    assert arm.results["test"]["greedy"].value == pytest.approx(
        np.mean([students[name][0].figures("greedy") for name in ("a1", "a2")])
    )


def test_arms_of_real_folders(tmp_path: Path) -> None:
    """Through `evaluate`: seeds by their sources, and a student by its name."""
    paper = tmp_path / "q.jsonl"
    paper.write_text("".join(json.dumps({"prompt": f"{a}?", "answer": "1"}) + "\n" for a in range(6)))

    def student(name: str, right: int) -> str:
        rows = [
            {"messages": [{"role": "user", "content": f"{a}?"}], "text": "1" if a < right else "2"}
            for a in range(6)
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f"replay/{path}"

    sources = {name: student(name, right) for name, right in {"s1": 2, "s2": 3, "s3": 6}.items()}
    found = training.evaluate(
        paper,
        students={"top": sources["s3"], "二": sources["s2"]},
        arms={"arm": ["二", sources["s1"]]},
        out=tmp_path / "o",
    )
    assert [entry.name for entry in found.students] == ["top", "二", sources["s1"]]
    assert found.arms[0].results["q"]["greedy"].value == pytest.approx(5 / 12)
    assert [(entry.a, entry.b) for entry in found.comparisons] == [("arm", "top")]
    with pytest.raises(UsageError, match="an arm and a student are called"):
        training.evaluate(
            paper, students={"arm": sources["s3"]}, arms={"arm": [sources["s1"]]}, out=tmp_path / "p"
        )
