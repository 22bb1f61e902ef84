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
from outspoken.measure.fidelity import fidelity, fidelity_of_shares
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
    assert fidelity_of_shares({"1": 0.5, "3": 0.5}, read_law(file)).sd_ratio == pytest.approx(1)


@pytest.mark.proof
@pytest.mark.parametrize("draws", [20, 100])
@pytest.mark.parametrize("spec", ["exponential:2", "poisson:4", "counts:red=70,blue=20,green=9,grey=1"])
def test_no_p_value_is_too_often_small(spec, draws):
    law = read_law(spec)
    random = np.random.default_rng(draws)
    names = ("ks_p", "tv_p", "chi_square_p", "mean_p", "sd_p", "entropy_p")
    small = dict.fromkeys(names, 0)
    times = repetitions(500, 40)
    for run in range(times):
        if law.numbers is None:
            texts = random.choice(list(law.shares), draws, p=list(law.shares.values())).tolist()
        else:
            texts = [repr(float(x)) for x in law.draw((draws,), random)]
        found = fidelity(texts, law, seed=run)
        for name in names:
            p = getattr(found, name)
            small[name] += p is not None and p <= 0.05
    assert max(small.values()) / times <= 0.08 + SLACK, small


def test_the_range_of_perfect_draws_is_beside_each_distance():
    random = np.random.default_rng(4)
    found = fidelity([str(x) for x in random.integers(1, 7, 60)], read_law("uniform:1:6"))
    for name in ("ks", "tv"):
        low, high = getattr(found, f"{name}_chance_range")
        assert low < getattr(found, f"{name}_by_chance") < high
        assert low <= getattr(found, name) <= high
    assert found.to_dict()["tv_chance_range"] == list(found.tv_chance_range)


def test_impossible_draws_and_what_is_left_out_are_in_the_sentence():
    faces = [str(1 + at % 6) for at in range(120)]
    sentence = fidelity([*faces, "7", "red", "blue"], read_law("uniform:1:6")).sentence
    assert "they do not follow it: it cannot give 1 of them" in sentence
    assert sentence.endswith("2 more responses are no number.")
    lacking = fidelity(["red"] * 7 + ["blue"] * 2 + ["green"], read_law("counts:red=70,blue=30")).sentence
    assert "no evidence" in lacking
    assert "no number" not in lacking


def test_the_entropy_of_categories():
    law = read_law("counts:red=70,blue=20,green=10")
    even = fidelity(["red", "blue", "green"] * 40, law)
    entropy = stats.entropy([0.7, 0.2, 0.1])
    assert even.entropy_ratio == pytest.approx(np.log(3) / entropy)
    assert "spread too evenly" in even.sentence
    same = fidelity(["red"] * 60, law)
    assert (same.entropy_ratio, same.sd_ratio) == (0, None)
    assert "spread too unevenly" in same.sentence
    one_low, one_high = even.entropy_ratio_chance_range
    assert one_low < even.entropy_ratio_by_chance < 1 < one_high


def test_a_stated_distribution_has_distances_without_p_values():
    stated = fidelity_of_shares({"1": 3, "two": 1, "$2.0": 1, "9": 1, "red": 2}, read_law("uniform:1:4"))
    assert (stated.left_out, stated.examples) == (0.25, ("red",))
    assert stated.outside == pytest.approx(1 / 6)
    assert stated.mean == pytest.approx((3 + 4 + 9) / 6)
    assert stated.tv == pytest.approx(0.5)
    assert stated.ks == pytest.approx(1 / 2 + 2 / 6 - 1 / 2)
    points = {str(x): 1.0 for x in stats.norm(100, 15).ppf((np.arange(200) + 0.5) / 200)}
    normal = fidelity_of_shares(points, read_law("normal:100:15"))
    assert normal.ks == pytest.approx(1 / 400)
    assert (normal.tv, normal.outside) == (None, 0)
    assert normal.sd_ratio == pytest.approx(1, abs=0.02)
    colours = fidelity_of_shares({"Red": 0.5, "green": 0.5}, read_law("counts:red=70,blue=30"))
    assert (colours.tv, colours.outside, colours.examples) == (pytest.approx(0.5), 0.5, ("green",))
    with pytest.raises(UndefinedError, match="none of the answers is a number"):
        fidelity_of_shares({"red": 1}, read_law("poisson:4"))
    with pytest.raises(UsageError, match="finite number"):
        fidelity_of_shares({"1": float("nan")}, read_law("poisson:4"))


def test_laws_of_counts(tmp_path: Path):
    law = read_law("counts: red = 70, blue=30")
    assert (law.shares, law.numbers, law.estimated) == ({"red": 0.7, "blue": 0.3}, None, True)
    assert law.title == "counts of red 70, blue 30"
    numbers = read_law("counts:1=1,1.0=1,3=2")
    assert numbers.shares == {"1": 0.5, "3": 0.5}
    assert (numbers.mean, numbers.sd) == (2, 1)
    assert fidelity(["1", "3"] * 20, numbers).tv == 0
    assert read_law("uniform:1e-1:5").shares is None


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
        ("uniform:1:1000000", "more than 10,000: take a continuous one"),
        ("counts:red", "write counts:ANSWER=COUNT"),
        ("counts:red=-1", "no count"),
        ("counts:red=0", "no answer has a count above 0"),
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
