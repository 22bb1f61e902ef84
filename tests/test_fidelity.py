"""Draws beside a known law: nothing is said where they follow it, and what differs is named where they do not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from proofs import PROOFS, repetitions
from scipy import stats

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure import measure
from outspoken.measure.fidelity import fidelity, sd_ratio_of_shares
from outspoken.measure.laws import read_law

TIMES = repetitions(500, 20)
SLACK = 0.0 if PROOFS else 0.1


@pytest.mark.proof
@pytest.mark.parametrize("draws", [20, 100, 500])
@pytest.mark.parametrize("spec", ["uniform:1:6", "normal:100:15", "binomial:10:0.3"])
def test_draws_from_the_law_are_seldom_told_from_it(spec, draws):
    law = read_law(spec)
    random = np.random.default_rng(draws)
    rejected = 0
    for run in range(TIMES):
        found = fidelity([repr(float(x)) for x in law.draw((draws,), random)], law, seed=run)
        rejected += "do not follow it" in found.sentence
    assert rejected / TIMES <= 0.07 + SLACK


def test_the_distance_is_that_of_scipy_and_counts_by_hand():
    random = np.random.default_rng(1)
    values = random.normal(100, 25, 80)
    found = fidelity([str(value) for value in values], read_law("normal:100:15"))
    assert found.ks == pytest.approx(stats.kstest(values, stats.norm(100, 15).cdf).statistic)
    assert found.sd_ratio is not None
    assert found.sd_ratio.value == pytest.approx(values.std(ddof=1) / 15)
    assert "spread too wide" in found.sentence
    assert found.tv is None
    die = fidelity(["1"] * 30 + ["6"] * 30, read_law("uniform:1:6"))
    assert die.tv == pytest.approx(2 / 3)
    assert die.ks == pytest.approx(1 / 3)
    assert die.chi_square == pytest.approx(4 * 10 + 2 * 20**2 / 10)
    assert die.chi_square_p < 1e-6


def test_numbers_are_read_as_people_write_them_and_the_rest_is_counted():
    texts = ["1.0", "$2", "The answer is 3.", "four", "５", "six", "7", "Red", "no idea"]
    found = fidelity(texts, read_law("uniform:1:6"))
    assert (found.draws, found.left_out, found.outside) == (7, 2, 1)
    assert found.examples == ("Red", "no idea")
    with pytest.raises(UndefinedError, match="none of the responses is a number"):
        fidelity(["Red"], read_law("normal:0:1"))


def test_categories_of_a_file_and_stated_shares(tmp_path: Path):
    file = tmp_path / "counts.json"
    file.write_text(json.dumps({"red": 70, "blue": 30}))
    found = fidelity(["Red."] * 7 + ["The answer is: blue"] * 3, read_law(file))
    assert (found.tv, found.outside, found.ks) == (pytest.approx(0), 0, None)
    assert "no evidence" in found.sentence
    assert fidelity(["green"] * 20, read_law(file)).outside == 20
    file.write_text(json.dumps({"1": 1, "3": 1}))
    assert read_law(file).mean == 2
    assert fidelity(["1", "3"] * 20, read_law(file)).ks == pytest.approx(0)
    assert sd_ratio_of_shares({"1": 0.5, "3": 0.5}, read_law(file)) == pytest.approx(1)


@pytest.mark.parametrize("texts", [["4"], ["4", "5"], ["4"] * 30])
def test_few_and_equal_draws(texts):
    found = fidelity(texts, read_law("uniform:1:6"))
    assert found.draws == len(texts)
    assert found.sentence.endswith(".")
    if len(texts) == 30:
        assert "do not follow it" in found.sentence
        assert found.sd_ratio is not None
        assert (found.sd_ratio.value, found.sd_ratio.low) == (0, None)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("uniform:6:1", "smaller number first"),
        ("uniform:1", "needs LOW and HIGH"),
        ("uniform:1:x", "HIGH of the law"),
        ("normal:0:0", "above 0"),
        ("normal:0:nan", "finite number"),
        ("binomial:10:1.5", "between 0 and 1"),
        ("binomial:2.5:0.5", "whole number"),
        ("poisson:-1", "above 0"),
        ("exponential:0", "above 0"),
        ("unifrom:1:6", "uniform"),
        ("absent.json", "absent.json"),
    ],
)
def test_laws_that_cannot_be(spec, message):
    with pytest.raises(UsageError, match=message):
        read_law(spec)


def test_a_law_in_measure(tmp_path: Path):
    rows = [
        {"prompt": "Roll a die.", "text": text, "method": method}
        for method, texts in {"direct": ["4"] * 60, "vs-standard": [str(1 + at % 6) for at in range(60)]}.items()
        for text in texts
    ]
    analysis = measure(rows, law="uniform:1:6", embedder=None)
    direct, verbalized = analysis.fidelity
    assert "do not follow it" in direct.fidelity.sentence
    assert "no evidence" in verbalized.fidelity.sentence
    assert analysis.groups[0].figures["tv"].value == pytest.approx(5 / 6)
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = [
        sys.executable,
        "-m",
        "outspoken",
        "measure",
        str(path),
        "--law",
        "uniform:1:6",
        "--embedder",
        "none",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "whole numbers from 1 to 6, equally likely" in done.stdout
    assert "direct: 60 draws beside" in done.stdout
