from __future__ import annotations

import itertools
import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken.errors import UndefinedError, UnknownNameError, UsageError
from outspoken.measure.agreement import Level, gwet_ac1, krippendorff_alpha

NAN = math.nan
# The example of Krippendorff 2011, section C, which irrCAC ships as raw_4raters.
FOUR = [
    [1, 1, NAN, 1],
    [2, 2, 3, 2],
    [3, 3, 3, 3],
    [3, 3, 3, 3],
    [2, 2, 2, 2],
    [1, 2, 3, 4],
    [4, 4, 4, 4],
    [1, 1, 2, 1],
    [2, 2, 2, 2],
    [None, 5, 5, 5],
    [None, None, 1, 1],
    [None, None, 3, None],
]
# irrCAC's raw_5observers.
FIVE = [
    [None if mark == "." else int(mark) for mark in row]
    for row in (
        *(
            "112.2",
            "1101.",
            "2333.",
            ".00.0",
            "000.0",
            "000.0",
            "102.1",
            "1.20.",
            "222.2",
            "2111.",
            ".100.",
            "0000.",
        ),
        *("1222.", "33223", "111.1"),
    )
]
CATEGORIES = ["lustig", "面白い", "ตลก", "🦙"]
LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval")
tables = st.integers(2, 4).flatmap(
    lambda raters: st.lists(
        st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=raters, max_size=raters), min_size=2, max_size=8
    )
)


def test_published_figures_of_ac1() -> None:
    four = gwet_ac1(FOUR)
    assert round(four.coefficient, 5) == 0.77544
    assert (round(four.observed, 5), round(four.expected, 5)) == (0.81818, 0.19032)
    assert (four.units, four.raters) == (12, 4)
    five = gwet_ac1(FIVE)
    assert round(five.coefficient, 5) == 0.49662
    assert (round(five.observed, 5), round(five.expected, 5)) == (0.61556, 0.23627)


def test_high_agreement_on_a_rare_category() -> None:
    """Two raters, 118 + 5 + 2 + 0 of 125 units: kappa says -0.02 where they agree on 94 %."""
    result = gwet_ac1([["+", "+"]] * 118 + [["+", "-"]] * 5 + [["-", "+"]] * 2)
    assert round(result.coefficient, 4) == 0.9408
    assert result.observed == pytest.approx(118 / 125)
    assert krippendorff_alpha([["+", "+"]] * 118 + [["+", "-"]] * 5 + [["-", "+"]] * 2).coefficient < 0


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_published_figures_of_alpha(level: Level, published: float) -> None:
    result = krippendorff_alpha(FOUR, level)
    assert round(result.coefficient, 3) == published
    assert (result.units, result.raters) == (11, 4)
    assert result.low is not None
    assert result.high is not None
    assert result.low < result.coefficient < result.high <= 1


@pytest.mark.parametrize(
    ("one", "other", "published"),
    [("0100000010", "1110010000", 0.095), ("aabbdcccedda", "babbbccceddd", 0.692)],
)
def test_published_figures_of_alpha_for_two_raters(one: str, other: str, published: float) -> None:
    """Krippendorff 2011, sections A and B."""
    assert round(krippendorff_alpha(list(zip(one, other, strict=True))).coefficient, 3) == published


def alpha_by_coincidences(ratings: list[list[float | None]], level: Level) -> float:
    """Krippendorff 2011 as it is written there: the matrix of coincidences, and a distance of each pair of values."""
    units = [[value for value in row if value is not None and not math.isnan(value)] for row in ratings]
    units = [unit for unit in units if len(unit) > 1]
    values = sorted({value for unit in units for value in unit})
    pairs = {(c, k): 0.0 for c in values for k in values}
    for unit in units:
        for c, k in itertools.permutations(unit, 2):
            pairs[c, k] += 1 / (len(unit) - 1)
    totals = {c: sum(pairs[c, k] for k in values) for c in values}
    n = sum(totals.values())

    def distance(c: float, k: float) -> float:
        if level == "nominal":
            return float(c != k)
        if level == "interval":
            return (c - k) ** 2
        low, high = min(c, k), max(c, k)
        return (sum(totals[g] for g in values if low <= g <= high) - (totals[c] + totals[k]) / 2) ** 2

    observed = sum(pairs[c, k] * distance(c, k) for c in values for k in values) / n
    expected = sum(totals[c] * totals[k] * distance(c, k) for c in values for k in values) / (n * (n - 1))
    return 1 - observed / expected


def ac1_by_pairs(ratings: list[list[Any]]) -> tuple[float, float]:
    rows = [[value for value in row if value is not None] for row in ratings]
    rows = [row for row in rows if row]
    paired = [list(itertools.permutations(row, 2)) for row in rows if len(row) > 1]
    observed = sum(sum(a == b for a, b in pairs) / len(pairs) for pairs in paired) / len(paired)
    categories = {value for row in rows for value in row}
    shares = [sum(row.count(category) / len(row) for row in rows) / len(rows) for category in categories]
    return observed, sum(share * (1 - share) for share in shares) / max(1, len(categories) - 1)


@given(tables)
def test_ac1_against_counting_pairs(ratings: list[list[int | None]]) -> None:
    raters = sum(any(row[at] is not None for row in ratings) for at in range(len(ratings[0])))
    if raters < 2 or all(sum(value is not None for value in row) < 2 for row in ratings):
        with pytest.raises(UndefinedError):
            gwet_ac1(ratings, resamples=10)
        return
    observed, expected = ac1_by_pairs(ratings)
    named = [[None if value is None else CATEGORIES[value % 4] + str(value) for value in row] for row in ratings]
    for table in (ratings, named):
        result = gwet_ac1(table, resamples=10)
        assert (result.observed, result.expected) == (pytest.approx(observed), pytest.approx(expected))
        assert result.coefficient == pytest.approx((observed - expected) / (1 - expected))
        assert result.raters == raters


@given(tables, st.sampled_from(LEVELS))
def test_alpha_against_the_matrix_of_coincidences(ratings: list[list[int | None]], level: Level) -> None:
    numbers = np.array(ratings, dtype=float)
    pairable = numbers[(~np.isnan(numbers)).sum(axis=1) > 1]
    if len(np.unique(pairable[~np.isnan(pairable)])) < 2:
        with pytest.raises(UndefinedError):
            krippendorff_alpha(ratings, level, resamples=10)
        return
    result = krippendorff_alpha(ratings, level, resamples=10)
    defined = alpha_by_coincidences(ratings, level)
    assert result.coefficient == pytest.approx(defined)
    assert (result.observed - result.expected) / (1 - result.expected) == pytest.approx(defined)
    assert 0 <= result.expected < 1
    assert 0 <= result.observed <= 1


@pytest.mark.parametrize("level", LEVELS)
def test_the_interval_resamples_units(level: Level) -> None:
    rng = random.Random(3)
    ratings = [[base + rng.choice((0, 0, 0, 1, 2)) for _ in range(3)] for base in (0, 1, 2, 3, 4) * 12]
    result = krippendorff_alpha(ratings, level, resamples=4_000)
    drawn = [alpha_by_coincidences(rng.choices(ratings, k=60), level) for _ in range(800)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert result.low is not None
    assert result.high is not None
    assert result.high - result.low == pytest.approx(high - low, rel=0.2)
    assert result.low == pytest.approx(2 * result.coefficient - high, abs=0.03)


def test_perfect_agreement() -> None:
    ratings = [[category, category, None if at else category] for at, category in enumerate(CATEGORIES * 3)]
    for result in (gwet_ac1(ratings), krippendorff_alpha(ratings)):
        assert result.coefficient == result.observed == pytest.approx(1)
        assert (result.units, result.raters, result.high) == (12, 3, 1)


def test_agreement_by_chance_is_none() -> None:
    rng = random.Random(11)
    ratings = [[rng.choice(CATEGORIES) for _ in range(3)] for _ in range(4_000)]
    numbers = [[CATEGORIES.index(value) for value in row] for row in ratings]
    result = [gwet_ac1(ratings, resamples=500)]
    result += [krippendorff_alpha(numbers, level, resamples=500) for level in LEVELS]
    for agreement in result:
        assert agreement.coefficient == pytest.approx(0, abs=0.03)
        assert agreement.low is not None
        assert agreement.high is not None
        assert agreement.low < 0.01
        assert agreement.high > -0.01
        assert agreement.high - agreement.low < 0.06


def test_systematic_disagreement_is_worse_than_chance() -> None:
    ratings = [["a", "b"], ["b", "a"]] * 10
    assert gwet_ac1(ratings).coefficient == pytest.approx(-1)
    assert krippendorff_alpha(ratings).coefficient < -0.9


def test_one_category_only() -> None:
    assert gwet_ac1([["面白い"] * 2] * 9).coefficient == 1
    with pytest.raises(UndefinedError, match="every rating is '面白い': alpha does not exist"):
        krippendorff_alpha([["面白い"] * 2] * 9)
    with pytest.raises(UndefinedError, match="every rating is 1"):
        krippendorff_alpha([[1, 1], [1, 1], [2, None]])


@pytest.mark.parametrize(
    ("ratings", "says"),
    [
        ([], "at least two raters, not 0"),
        ([[1], [2]], "at least two raters, not 1"),
        ([[1, None], [2, NAN]], "at least two raters, not 1"),
        ([[1, None], [None, 2]], "no unit has two ratings"),
    ],
)
def test_undefined_agreement(ratings: list[list[Any]], says: str) -> None:
    for measure in (gwet_ac1, krippendorff_alpha):
        with pytest.raises(UndefinedError, match=says):
            measure(ratings)


def test_bad_ratings() -> None:
    for measure in (gwet_ac1, krippendorff_alpha):
        with pytest.raises(UsageError, match="differ in length"):
            measure([[1, 2], [1]])
        with pytest.raises(UsageError, match=r"a rating must be a single value, not \[\]"):
            measure([[1, 2], [1, []]])
    for bad in ("gut", "3", math.inf, (1,), 10**400):
        with pytest.raises(UsageError, match="at the level 'ordinal' must be finite numbers"):
            krippendorff_alpha([[1, 2], [bad, 2]], "ordinal")
    with pytest.raises(UnknownNameError, match="did you mean 'ordinal'"):
        krippendorff_alpha([[1, 2]], "ordnal")  # type: ignore[arg-type]


def test_levels_depend_on_numbers_and_their_order_only() -> None:
    stretched = [[None if v is None or v != v else 10.0**v for v in row] for row in FOUR]
    ordinal = krippendorff_alpha(FOUR, "ordinal", resamples=10).coefficient
    assert krippendorff_alpha(stretched, "ordinal", resamples=10).coefficient == pytest.approx(ordinal)
    moved = [[None if v is None or v != v else 1e4 - 3 * v for v in row] for row in FOUR]
    assert krippendorff_alpha(moved, "interval").coefficient == pytest.approx(0.849107, abs=1e-6)
    assert krippendorff_alpha(np.array(FOUR, dtype=float), "interval") == krippendorff_alpha(FOUR, "interval")


@pytest.mark.parametrize("level", LEVELS)
def test_resamples_without_variation_have_no_alpha(level: Level) -> None:
    result = krippendorff_alpha([[0.1, 0.1, 0.1]] * 8 + [[0.7, 0.7, 0.7]], level)
    assert result.coefficient == 1
    assert result.low is None
    lost = int(result.note.removeprefix("no interval: ").split(" of ")[0].replace(",", ""))
    assert lost / 10_000 == pytest.approx((8 / 9) ** 9, abs=0.02)


def test_few_units_and_other_forms() -> None:
    one = gwet_ac1([["a", "b", "b"]])
    assert (one.low, one.high) == (None, None)
    assert one.note == "one unit: nothing to resample"
    assert json.loads(json.dumps(one.to_dict()))["note"] == one.note
    assert "note" not in gwet_ac1(FIVE).to_dict()
    assert gwet_ac1(FIVE, seed=1).low != gwet_ac1(FIVE, seed=2).low
    assert gwet_ac1(FIVE, seed=1) == gwet_ac1(FIVE, seed=1)
