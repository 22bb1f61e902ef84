"""Limits for figures: a collapsed prompt fails, a diverse one seldom does, and what is missing is said."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from proofs import repetitions, within

from outspoken.candidate import Candidate
from outspoken.cli.table_formats import table_of
from outspoken.distribution import Distribution
from outspoken.errors import UsageError
from outspoken.measure import measure
from outspoken.measure.fixture import checked
from outspoken.measure.gate import check, limits


def outspoken(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outspoken", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, encoding="utf-8", check=False)


FEW = limits({"distinct_answers": 5})


def rows(texts, prompt="Name a tea.", method="direct"):
    return [{"prompt": prompt, "text": text, "method": method} for text in texts]


@pytest.mark.proof
def test_a_collapsed_prompt_fails_and_a_uniform_one_passes():
    """One prompt with 20 draws: its one answer takes 95 %, or 20 answers are equally likely."""
    random = np.random.default_rng(0)
    times = repetitions(500, 60)
    failed = {"collapsed": 0, "uniform": 0}
    for _ in range(times):
        others = random.integers(1, 1000, 20)
        collapsed = [
            f"answer {0 if likely else other}"
            for likely, other in zip(random.random(20) < 0.95, others, strict=True)
        ]
        uniform = [f"answer {number}" for number in random.integers(0, 20, 20)]
        for name, texts in (("collapsed", collapsed), ("uniform", uniform)):
            analysis = measure(rows(texts), embedder=None, resamples=100)
            failed[name] += bool(check(analysis, FEW).failures)
    assert within(failed["collapsed"] / times, 0.95, 1), failed
    assert within(failed["uniform"] / times, 0, 0.07), failed


def test_strict_fails_where_any_of_the_interval_is_beyond():
    texts = [f"answer {number % 7}" for number in range(20)]
    analysis = measure(rows(texts), embedder=None)
    figure = analysis.groups[0].figures["distinct_answers"]
    between = limits({"distinct_answers": (figure.low + figure.high) / 2})
    assert check(analysis, between).passed
    assert "in part" in check(analysis, between, strict=True).failures[0].text


def test_limits_are_in_the_unit_of_the_tables():
    texts = ["a b c d", "a b c e", "x y z w"]
    analysis = measure([row for at in range(8) for row in rows(texts, f"p{at}")], embedder=None)
    assert analysis.groups[0].figures["rouge_l"].value == pytest.approx(0.25)
    assert not check(analysis, limits(fail_over={"rouge_l": 30})).failures
    assert "25.0" in check(analysis, limits(fail_over={"rouge_l": 20})).failures[0].text


def test_what_cannot_be_checked_is_said():
    analysis = measure(rows(["a", "b", "c"]), embedder=None)
    result = check(analysis, limits({"semantic_diversity": 10, "coverage": 0.5}))
    assert result.failures == ()
    assert "there are no embeddings" in result.missing[0].text
    assert "--reference" in result.missing[1].text
    single = check(measure(rows(["a"]), embedder=None), FEW)
    assert "1 response to a prompt cannot reach the limit of 5.00: give more" in single.missing[0].text
    assert "name an embedder" in result.missing[0].reason
    one = check(measure(rows(["a"]), embedder=None), limits({"distinct_answers": 1}))
    assert "there is no interval" in one.missing[0].reason
    with pytest.raises(UsageError, match="a mapping such as"):
        limits(["distinct_answers"])
    assert limits({"entropy": np.int64(1)})[0].value == 1
    with pytest.raises(UsageError, match="distinct_answers"):
        limits({"distinct_answer": 5})
    with pytest.raises(UsageError, match="finite number"):
        limits({"distinct_answers": float("nan")})


def put(folder: Path, texts) -> Path:
    path = folder / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(texts)), encoding="utf-8")
    return path


def test_the_command_exits_with_1_or_2(tmp_path: Path):
    path = put(tmp_path, ["Oolong"] * 19 + ["Assam"])
    base = ("measure", path, "--embedder", "none")
    failed = outspoken(*base, "--fail-under", "distinct_answers=5", "--fail-over", "refusals=0.05")
    assert failed.returncode == 1
    (line,) = (line for line in failed.stderr.splitlines() if "limit" in line)
    assert "direct: Different answers (distinct_answers) is" in line or "distinct_answers" in line
    assert outspoken(*base, "--fail-under", "distinct_answers=2,effective_size=0.5").returncode == 0
    missing = outspoken(*base, "--fail-under", "coverage=0.5")
    assert (missing.returncode, "cannot be checked" in missing.stderr) == (2, True)
    document = json.loads(outspoken(*base, "--fail-under", "distinct_answers=5", "--json").stdout)
    (failure,) = document["gate"]["failures"]
    assert failure["limit"] == {"measure": "distinct_answers", "value": 5.0, "over": False}
    assert failure["low"] <= failure["value"] <= failure["high"] < 5
    assert document["gate"]["missing"] == []
    twice = outspoken(*base, "--fail-under", "entropy=1,entropy=2")
    assert (twice.returncode, "twice" in twice.stderr) == (2, True)
    for wrong, message in (
        ("distinct_answers", "MEASURE=LIMIT"),
        ("distinct=5", "distinct"),
        ("entropy=x", "MEASURE=LIMIT"),
    ):
        refused = outspoken(*base, "--fail-under", wrong)
        assert (refused.returncode, message in refused.stderr) == (2, True)
    assert "name a limit" in outspoken(*base, "--strict").stderr


def test_tables_to_paste(tmp_path: Path):
    path = put(tmp_path, ["Oolong", "龙井茶", "a|b & c_d"] * 3)
    base = ("measure", path, "--embedder", "none")
    markdown = outspoken(*base, "--format", "markdown").stdout.splitlines()
    assert markdown[:2] == ["| measure | direct |", "| --- | ---: |"]
    assert any(line.startswith("| Different answers | 3.00 [") for line in markdown)
    latex = outspoken(*base, "--format", "latex").stdout
    assert latex.startswith(r"\begin{tabular}{lr}")
    assert "−" not in latex
    table = list(csv.DictReader(io.StringIO(outspoken(*base, "--format", "csv").stdout)))
    (row,) = (row for row in table if row["measure"] == "distinct_answers")
    assert (row["group"], float(row["value"]), row["unit"]) == ("direct", 3, "draw")
    assert outspoken(*base, "--format", "csv", "--json").returncode == 2


def test_a_figure_that_is_not_finite_is_not_within_its_limit():
    analysis = measure(rows(["a", "b"] * 5), embedder=None)
    (group,) = analysis.groups
    for broken in ({"value": math.nan}, {"low": math.nan}, {"high": math.inf}):
        figure = replace(group.figures["entropy"], **broken)
        changed = replace(analysis, groups=(replace(group, figures={**group.figures, "entropy": figure}),))
        result = check(changed, limits({"entropy": 0.1}, {"entropy": 9}))
        assert (len(result.failures), len(result.missing), result.passed) == (0, 2, False)


def test_what_is_no_responses_is_refused():
    class Frame(list):
        columns = ("prompt", "text")

    for wrong in ({"p": "one text"}, {"p": 3}, 3, Frame(["prompt", "text"])):
        with pytest.raises(UsageError, match="responses"):
            checked(wrong, {"distinct_answers": 2}, None, False, {})


def test_candidates_are_texts():
    drawn = Distribution((Candidate("Oolong", 0.5), Candidate("Assam", 0.3), Candidate("Sencha", 0.2)))
    analysis, result = checked(drawn, {"distinct_answers": 1}, None, False, {})
    assert (analysis.groups[0].responses, result.passed) == (3, True)


def test_csv_says_why_a_group_lacks_a_figure():
    texts = rows(["a b c", "a b d", "a c d"]) + rows(["x"], method="vs-standard")
    table = list(csv.DictReader(io.StringIO(table_of(measure(texts, embedder=None), "csv"))))
    (row,) = (one for one in table if (one["measure"], one["group"]) == ("rouge_l", "vs-standard"))
    assert row["value"] == ""
    assert row["note"]


TESTS = """
from pathlib import Path

def test_diverse(outspoken_diversity):
    analysis = outspoken_diversity([f"tea {n}" for n in range(20)], fail_under={"distinct_answers": 5})
    assert analysis.groups[0].responses == 20

def test_collapsed(outspoken_diversity):
    outspoken_diversity(["Oolong"] * 20, fail_under={"distinct_answers": 5})

def test_by_prompt(outspoken_diversity):
    outspoken_diversity({"p": ["a", "b"] * 5, "q": ["I'm sorry, but I can't help with that."] * 10},
                        fail_over={"refusals": 0.05}, strict=True)

def test_of_a_file(outspoken_diversity):
    outspoken_diversity(Path("responses.jsonl"), fail_under={"distinct_answers": 2})

def test_wrong(outspoken_diversity):
    outspoken_diversity(["a", "b"], fail_under={"distinct": 5})
"""


def pytest_in(folder: Path, *options: str, workers: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-n", str(workers), *options, "."]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_fixture_in_the_tests_of_a_project(tmp_path: Path):
    put(tmp_path, ["Oolong", "Assam", "Sencha"] * 5)
    (tmp_path / "test_mine.py").write_text(TESTS, encoding="utf-8")
    done = pytest_in(tmp_path)
    assert "3 failed, 2 passed" in done.stdout, done.stdout
    assert "below the limit of 5" in done.stdout
    assert "above the limit of 0.050 in part" in done.stdout
    assert "unknown measure" in done.stdout
    described = pytest_in(tmp_path, "--fixtures")
    assert "Fail the test if responses are less diverse" in described.stdout


def test_the_fixture_with_several_workers(tmp_path: Path):
    put(tmp_path, ["Oolong", "Assam", "Sencha"] * 5)
    (tmp_path / "test_mine.py").write_text(TESTS, encoding="utf-8")
    done = pytest_in(tmp_path, workers=2)
    assert "3 failed, 2 passed" in done.stdout, done.stdout
    assert "below the limit of 5" in done.stdout


def test_loading_the_plugin_imports_nothing_of_the_measures():
    code = "import sys, outspoken.pytest_plugin as p; print([m for m in sys.modules if m.startswith('outspoken.')], 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded, numpy = done.stdout.rsplit(" ", 1)
    assert numpy.strip() == "False"
    assert "measure" not in loaded


def test_without_the_measures_the_fixture_says_what_to_install(tmp_path: Path):
    (tmp_path / "numpy.py").write_text("raise ModuleNotFoundError(\"No module named 'numpy'\", name='numpy')")
    (tmp_path / "test_mine.py").write_text(
        "def test_it(outspoken_diversity):\n    outspoken_diversity(['a'], fail_under={'distinct_answers': 5})\n"
    )
    done = pytest_in(tmp_path)
    assert "1 failed" in done.stdout
    assert "pip install" in done.stdout
