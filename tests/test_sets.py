"""Measures over a set of responses: against brute force, recorded truth, and what must not change them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from outspoken.errors import UndefinedError, UsageError

np = pytest.importorskip("numpy", reason="extra `measure` is not installed")

from outspoken.measure import sets  # noqa: E402
from outspoken.measure.values import Response  # noqa: E402

NOVELTY = Path(__file__).parents[2] / "shared" / "data" / "novelty_bench"


def vectors(n: int, d: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal((n, d))


def cosine(a: Any, b: Any) -> float:
    return float(sum(x * y for x, y in zip(a, b, strict=True))) / math.hypot(*a) / math.hypot(*b)


def vendi_by_definition(rows: Any) -> float:
    """Through the singular values, which the code does not use."""
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    values = np.linalg.svd(unit, compute_uv=False) ** 2 / len(rows)
    return math.exp(-sum(value * math.log(value) for value in values if value > 1e-15))


sizes = st.tuples(st.integers(2, 12), st.integers(1, 9), st.integers(0, 2**32 - 1))


@given(sizes)
def test_pairs_are_those_of_the_definition(size: tuple[int, int, int]) -> None:
    rows = vectors(*size)
    expected = [1 - min(max(cosine(a, b), 0), 1) for a, b in combinations(rows, 2)]
    assert sets.semantic_pairs(rows) == pytest.approx(expected, abs=1e-12)
    assert sets.semantic_diversity(rows) == pytest.approx(sum(expected) / len(expected), abs=1e-12)


def test_pairs_in_opposite_directions_are_clipped() -> None:
    rows = [[1.0, 0], [-2, 0], [0, 3], [1, 1]]
    assert sets.semantic_pairs(rows) == pytest.approx([1, 1, 1 - math.sqrt(0.5), 1, 1, 1 - math.sqrt(0.5)])


@given(sizes)
def test_vendi_is_that_of_the_definition_on_both_paths(size: tuple[int, int, int]) -> None:
    rows = vectors(*size)
    assert sets.vendi(rows) == pytest.approx(vendi_by_definition(rows), abs=1e-9)
    assert 1 - 1e-12 <= sets.vendi(rows) <= min(len(rows), rows.shape[1]) + 1e-9


def test_vendi_of_many_embeddings_in_single_precision() -> None:
    rows = vectors(3000, 96, 5).astype(np.float32)
    assert sets.vendi(rows) == pytest.approx(vendi_by_definition(rows.astype(np.float64)), abs=1e-6)
    copies = np.repeat(vectors(1, 96).astype(np.float32), 3000, axis=0)
    assert sets.vendi(copies) == pytest.approx(1, abs=1e-6)


@given(sizes, st.floats(0.01, 100))
def test_rotation_scale_and_order_change_nothing(size: tuple[int, int, int], scale: float) -> None:
    rows = vectors(*size)
    rotation, _ = np.linalg.qr(vectors(size[1], size[1], 1))
    other = (rows @ rotation * scale)[::-1]
    assert sets.vendi(other) == pytest.approx(sets.vendi(rows), abs=1e-9)
    assert sets.semantic_diversity(other) == pytest.approx(sets.semantic_diversity(rows), abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(5, 9), (9, 5), (1, 3), (40, 1)])
def test_copies_are_one_response_and_orthogonal_ones_are_n(n: int, d: int) -> None:
    assert sets.vendi(np.repeat(vectors(1, d), n, axis=0)) == pytest.approx(1, abs=1e-9)
    assert sets.vendi(np.eye(n)) == pytest.approx(n, abs=1e-9)
    assert sets.vendi(np.repeat(np.eye(n), 4, axis=0)) == pytest.approx(n, abs=1e-9)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (math.nan, "embedding 3 holds NaN"),
        (math.inf, "embedding 3 holds infinity"),
        (0, "embedding 3 is zero"),
    ],
)
def test_an_invalid_embedding_is_named(value: float, message: str) -> None:
    rows = vectors(5, 4)
    rows[3] = value
    rows[4] = math.nan
    for measure in (sets.semantic_pairs, sets.vendi, lambda rows: sets.partition_by_similarity(rows, 0.5)):
        with pytest.raises(UsageError, match=message):
            measure(rows)
    with pytest.raises(UsageError, match="embedding 0 is too long"):
        sets.vendi([[1e200, 1.0]])
    with pytest.raises(UsageError, match="shape"):
        sets.vendi([1.0, 2.0])


def test_one_response_has_no_diversity() -> None:
    for rows in (vectors(1, 3), np.empty((0, 3))):
        with pytest.raises(UndefinedError):
            sets.semantic_diversity(rows)
    with pytest.raises(UndefinedError):
        sets.vendi(np.empty((0, 3)))


def test_texts_are_classed_by_the_stated_rule() -> None:
    texts = ["咖啡。", "Tea", "咖啡", "“TEA!”", "ชา", "☕", "شاي", "ชา"]
    assert sets.partition(texts) == (0, 1, 0, 1, 2, 3, 4, 2)
    assert sets.partition(texts, len) == (0, 0, 1, 2, 1, 3, 0, 1)
    assert sets.partition(texts, lambda text: text) == (0, 1, 2, 3, 4, 5, 6, 4)
    assert sets.distinct_k(sets.partition(texts)) == 5
    assert sets.partition([]) == ()
    assert sets.distinct_k(()) == 0


@given(sizes, st.floats(-1, 1))
def test_classes_by_similarity_follow_their_first_response(size: tuple[int, int, int], threshold: float) -> None:
    rows = vectors(*size)
    assume(all(abs(cosine(a, b) - threshold) > 1e-9 for a, b in combinations(rows, 2)))
    firsts: list[int] = []
    expected = []
    for at, row in enumerate(rows):
        near = [number for number, first in enumerate(firsts) if cosine(rows[first], row) >= threshold]
        expected.append(near[0] if near else len(firsts))
        if not near:
            firsts.append(at)
    assert sets.partition_by_similarity(rows, threshold) == tuple(expected)


def test_a_class_is_not_joined_through_a_neighbour() -> None:
    angles = [math.radians(angle) for angle in (0, 40, 80)]
    rows = [[math.cos(angle), math.sin(angle)] for angle in angles]
    assert sets.partition_by_similarity(rows, math.cos(math.radians(50))) == (0, 0, 1)
    assert sets.partition_by_similarity(np.repeat(vectors(50, 7), 2, axis=0), 1) == tuple(
        n // 2 for n in range(100)
    )
    with pytest.raises(UsageError, match="threshold"):
        sets.partition_by_similarity(rows, 80)


@pytest.mark.parametrize("name", ["gpt-4o_curated.jsonl", "humans_curated.jsonl"])
def test_utility_is_that_of_every_recorded_row(name: str) -> None:
    if not (NOVELTY / name).is_file():
        pytest.skip(f"{name} of NoveltyBench is absent")
    rows = [json.loads(line) for line in (NOVELTY / name).read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 100
    for row in rows:
        classes, scores = row["partition"], row["generation_scores"]
        assert sets.utility_k(scores) == pytest.approx(row["utility"], abs=1e-9)
        assert sets.utility_k(sets.first_of_class(classes, scores)) == pytest.approx(row["utility"], abs=1e-9)
        by_class = [row["partition_scores"][number] for number in classes]
        assert sets.utility_k(sets.first_of_class(classes, by_class)) == pytest.approx(row["utility"], abs=1e-9)
        assert sets.distinct_k(classes) == row["distinct"] + 1


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12), st.floats(0, 0.99))
def test_utility_is_that_of_the_formula(scores: list[float], p: float) -> None:
    expected = (1 - p) / (1 - p ** len(scores)) * sum(p**i * score for i, score in enumerate(scores))
    assert sets.utility_k(scores, p) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_utility_at_its_ends() -> None:
    assert sets.utility_k([2, 4, 9], 1) == pytest.approx(5)
    assert sets.utility_k([2, 4, 9], 0) == 2
    assert sets.first_of_class((0, 1, 0, 1, 2), (5, 4, 3, 2, 1)) == (5, 4, 0, 0, 1)
    with pytest.raises(UndefinedError):
        sets.utility_k([])
    for scores, patience in (([1.0, math.nan], 0.8), ([1.0], 1.5)):
        with pytest.raises(UsageError):
            sets.utility_k(scores, patience)
    with pytest.raises(UsageError, match="2 classes and 1 scores"):
        sets.first_of_class((0, 1), (5,))


def test_weights_average_the_calls() -> None:
    responses = [
        Response("红", 0.6, call=0),
        Response("blue", 0.2, call=0),
        Response("red", call=1),
        Response("blue", 0.9, call=1),
        Response("blue", 0.0, call=4),
    ]
    assert sets.weights_of(responses) == pytest.approx([0.25, 1 / 12, 1 / 6, 1 / 6, 1 / 3])
    answers = sets.answer_weights(responses, lambda text: "red" if text == "红" else text)
    assert answers == pytest.approx({"red": 5 / 12, "blue": 7 / 12})
    assert list(answers) == ["red", "blue"]


probabilities = st.one_of(st.none(), st.just(0.0), st.floats(1e-6, 100))


@given(st.lists(st.tuples(probabilities, st.one_of(st.none(), st.integers(0, 3))), min_size=1, max_size=20))
def test_weights_are_a_distribution_with_equal_calls(rows: list[tuple[float | None, int | None]]) -> None:
    responses = [Response(str(at), probability, call=call) for at, (probability, call) in enumerate(rows)]
    weights = sets.weights_of(responses)
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()
    calls = [call for _, call in rows]
    for call in set(calls):
        share = sum(weight for weight, other in zip(weights, calls, strict=True) if other == call)
        assert share == pytest.approx(1 / len(set(calls)))


def test_invalid_weights() -> None:
    with pytest.raises(UndefinedError):
        sets.weights_of([])
    for probability in (-0.1, math.nan, math.inf):
        with pytest.raises(UsageError):
            sets.weights_of([Response("a", probability), Response("b", 0.5)])


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30).filter(any), st.floats(1e-3, 1e3))
def test_entropy_and_effective_size(weights: list[float], scale: float) -> None:
    total = math.fsum(weights)
    expected = -math.fsum(w / total * math.log(w / total) for w in weights if w / total > 0)
    assert sets.entropy(weights) == pytest.approx(expected, abs=1e-9)
    if scale * min(filter(None, weights)) >= sys.float_info.min:  # below, digits are lost
        assert sets.entropy(w * scale for w in weights) == pytest.approx(expected, abs=1e-9)
    assert 1 <= sets.effective_size(weights) <= len(weights) + 1e-9


def test_entropy_at_its_ends() -> None:
    assert sets.effective_size({"a": 0.2, "b": 0.2}.values()) == pytest.approx(2)
    assert sets.entropy([3.0, 0]) == 0
    for weights in ([], [0.0]):
        with pytest.raises(UndefinedError):
            sets.entropy(weights)
    for weights in ([0.5, -0.1], [math.nan], [math.inf]):
        with pytest.raises(UsageError):
            sets.entropy(weights)


def test_distinct_answers_and_their_entropy_need_no_scipy() -> None:
    code = "import sys, outspoken.measure.sets as sets; sets.entropy([1, 2]); print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True).stdout.strip() == b"False"


def test_the_published_average_divides_by_the_calls_that_hold_an_answer():
    calls = [{"a": 2.0, "b": 2.0}, {"a": 1.0}]
    assert sets.published_average(calls) == {"a": 0.75, "b": 0.5}
    assert sets.published_average([]) == {}
