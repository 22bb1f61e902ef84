from __future__ import annotations

import copy
import dataclasses
import json
import math
import pickle
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import outspoken
from outspoken import Candidate, Distribution, Provenance, Usage, UsageError
from outspoken.candidate import Verbalized
from outspoken.same_text import text_key

pytestmark = pytest.mark.core


def read(*pairs: tuple[str, float | None]) -> Distribution:
    return Distribution.from_verbalized(
        Verbalized(text, stated, None if stated is None else (math.log(stated) if stated else -math.inf))
        for text, stated in pairs
    )


@pytest.mark.parametrize(
    ("stated", "weights"),
    [
        ([0.5, 0.3, 0.2], [0.5, 0.3, 0.2]),
        ([0.9, 0.05, 0.05], [0.9, 0.05, 0.05]),
        ([0.1, 0.1], [0.5, 0.5]),
        ([0.5, 0.3, None, None], [0.5, 0.3, 0.1, 0.1]),
        ([0.6, 0.6, None], [0.5, 0.5, 0.0]),
        ([None, None], [0.5, 0.5]),
        ([0.0, 0.0, 0.0, 0.0], [0.25] * 4),
        ([0.0, None], [0.5, 0.5]),
        ([1.0, 0.0], [1.0, 0.0]),
    ],
)
def test_stated_probabilities_become_weights(stated: list[float | None], weights: list[float]) -> None:
    distribution = read(*((f"t{at}", value) for at, value in enumerate(stated)))
    assert [c.probability for c in sorted(distribution, key=lambda c: c.text)] == pytest.approx(weights)
    known = [value for value in stated if value is not None]
    assert distribution.mass == (pytest.approx(sum(known)) if known else None)


def test_a_long_text_keeps_its_order_where_its_probability_underflows() -> None:
    pair = [Verbalized("a", 0.0, -900.0), Verbalized("b", 0.0, -900.0 + math.log(3))]
    assert Distribution.from_verbalized(pair).probabilities == pytest.approx((0.75, 0.25))


def test_equal_texts_are_one_candidate_whose_weights_add_up() -> None:
    distribution = read(("Paris", 0.4), ("paris", 0.2), ("PARIS.", 0.1), ("Rome", 0.3))
    assert distribution.texts == ("Paris", "Rome")
    assert distribution.probabilities == pytest.approx((0.7, 0.3))
    assert distribution[0].stated == pytest.approx(0.7)
    assert distribution[0].repairs == ("merged 3 equal texts",)
    assert distribution.mass == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", " paris. "),
        ("Café", "Cafe\u0301"),
        ("STRASSE", "straße"),
        ("“Hello”", "hello!"),
        ("咖啡。", "咖啡"),
        ("ＡＢＣ", "abc"),
        ("two  words", "Two words…"),
        ("**bold**", "bold"),
        ("مرحبا؟", "مرحبا؟"),
    ],
)
def test_texts_that_count_as_equal(one: str, other: str) -> None:
    assert text_key(one) == text_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("C#", "C"), ("C++", "C"), ("-5", "5"), (".NET", "NET"), ("50%", "50"), ("f()", "f"), ("?", "!")],
)
def test_signs_that_carry_meaning_keep_texts_apart(one: str, other: str) -> None:
    assert text_key(one) != text_key(other)


def test_drawing_follows_the_probabilities_and_the_seed() -> None:
    distribution = read(("a", 0.7), ("b", 0.2), ("c", 0.1))
    counts = Counter(c.text for c in distribution.draw(20_000, seed=7))
    for candidate in distribution:
        # Five standard errors of a binomial share.
        error = math.sqrt(candidate.probability * (1 - candidate.probability) / 20_000)
        assert abs(counts[candidate.text] / 20_000 - candidate.probability) < 5 * error
    assert distribution.draw(5, seed=3) == distribution.draw(5, seed=3)
    assert distribution.draw(seed=3) == distribution.draw(1, seed=3)[0]


def test_drawing_without_replacement_gives_different_candidates() -> None:
    distribution = read(("a", 0.7), ("b", 0.2), ("c", 0.1), ("d", 0.0))
    drawn = distribution.draw(3, seed=1, replace=False)
    assert sorted(map(str, drawn)) == ["a", "b", "c"]
    first = Counter(str(distribution.draw(2, seed=at, replace=False)[0]) for at in range(2000))
    assert abs(first["a"] / 2000 - 0.7) < 0.06
    with pytest.raises(UsageError, match="cannot draw 4"):
        distribution.draw(4, replace=False)


def test_tail_keeps_candidates_stated_below_tau() -> None:
    distribution = read(("mode", 0.5), ("edge", 0.1), ("rare", 0.05), ("rarer", 0.02))
    tail = distribution.tail(0.1)
    assert tail.texts == ("rare", "rarer")
    assert tail.probabilities == pytest.approx((5 / 7, 2 / 7))
    with pytest.raises(UsageError, match=r"lowest is 0\.02"):
        distribution.tail(0.01)


def test_merge_is_the_equal_mixture() -> None:
    one = read(("a", 0.5), ("b", 0.5))
    other = read(("A.", 1.0))
    merged = one.merge(other)
    assert dict(zip(merged.texts, merged.probabilities, strict=True)) == pytest.approx({"A.": 0.75, "b": 0.25})


def test_tempering_flattens_and_sharpens() -> None:
    distribution = read(("a", 0.8), ("b", 0.2))
    assert distribution.tempered(0.5).probabilities == pytest.approx((0.64 / 0.68, 0.04 / 0.68))
    assert distribution.tempered(1e9).probabilities == pytest.approx((0.5, 0.5))


def test_entropy_and_effective_size() -> None:
    assert read(("a", 0.25), ("b", 0.25), ("c", 0.5)).entropy() == pytest.approx(1.5 * math.log(2))
    assert read(*((str(at), 0.1) for at in range(7))).effective_size() == pytest.approx(7)
    assert read(("a", 1.0)).entropy() == 0.0


def test_json_round_trip_keeps_everything() -> None:
    made = Provenance(
        prompt=({"role": "user", "content": "喝咖啡嗎？ ☕ مرحبا"},),
        model="local/x",
        method="vs-cot",
        template="paper",
        k=2,
        tau=0.1,
        sampling={"seed": 4, "temperature": 0.7},
        usage=Usage(3, 4, 1),
        requests=2,
        version="0",
    )
    distribution = Distribution(
        (Candidate("一", 0.6, 0.3, ("percent",), {"lang": "zh"}, {"a": [1]}), Candidate("二", 0.4)),
        mass=0.3,
        missing=1,
        set_aside=(Candidate("三", 0.0, 0.9, ("outside the tail",)),),
        reasoning=("hm",),
        provenance=made,
        refused=2,
        cut_off=3,
        warnings=("so and so",),
    )
    text = distribution.to_json()
    assert "咖啡" in text
    assert Distribution.from_json(text) == distribution
    entry = json.loads(text)
    for key in ("prompt", "method", "model", "template", "k", "candidates", "mass", "usage", "requests", "seed"):
        assert key in entry
    assert entry["seed"] == 4


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"candidates": 3}', '{"candidates": [{"text": "a"}]}'])
def test_invalid_documents(text: str) -> None:
    with pytest.raises(UsageError):
        Distribution.from_json(text)


def test_to_polars_gives_a_row_a_candidate() -> None:
    pytest.importorskip("polars", reason="extra `tables` is not installed")
    frame = read(("a", 0.7), ("b", None)).to_polars()
    assert frame["text"].to_list() == ["a", "b"]
    assert frame["stated"].to_list() == [0.7, None]


def test_to_pandas_gives_the_same_table() -> None:
    pytest.importorskip("pandas", reason="extra `pandas` is not installed")
    frame = read(("a", 0.7), ("b", None)).to_pandas()
    assert list(frame["text"]) == ["a", "b"]
    assert frame["stated"].isna().tolist() == [False, True]
    assert read(("a", None)).to_pandas()["stated"].dtype == "float64"


class Box:
    """A value of the user's: comparable, not hashable."""

    def __init__(self, content: object) -> None:
        self.content = content

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Box) and other.content == self.content


def full() -> Distribution:
    entries = [
        Verbalized("a", 0.9, math.log(0.9)),
        Verbalized("b", 0.9, math.log(0.9), ("percent",), Box([1]), {"request": 1, "list": [1]}),
    ]
    made = Provenance(prompt=({"role": "user", "content": "x"},), sampling={"extra": {"a": [1]}})
    aside = [Verbalized("c", None, None, ("surplus",))]
    return Distribution.from_verbalized(entries, set_aside=aside, provenance=made, refused=1)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_results_can_be_copied_sent_and_hashed(copied: Callable[[Any], Any]) -> None:
    parsed = outspoken.parse('{"responses": [{"text": "a", "probability": 0.5}]}')
    for value in (full(), *full(), full().provenance, parsed, *parsed.candidates):
        assert copied(value) == value
    assert hash(copied(full())) == hash(full())
    assert len({full(), full(), read(("a", 1.0))}) == 2
    assert dataclasses.asdict(full())["refused"] == 1


@pytest.mark.parametrize(
    "error",
    [
        outspoken.UsageError("x"),
        outspoken.UnknownNameError("method", "vs", ["vs-cot"]),
        outspoken.MissingExtraError("x", "serve"),
        outspoken.MissingKeyError("x", "X"),
        outspoken.ReplyError("x", reply=outspoken.ChatReply("text")),
        outspoken.ShortReplyError("x", distribution=full()),
        outspoken.ProviderError("x", status=429, retry_after=1.0, original=OSError(lambda: None)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_can_be_sent(error: outspoken.OutspokenError) -> None:
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), str(sent), sent.args) == (type(error), str(error), error.args)
    assert sent.__dict__ == error.__dict__ | ({"original": None} if "original" in error.__dict__ else {})


@pytest.mark.parametrize(
    ("stated", "warning"),
    [
        ([0.9] * 5, "(5 times 0.9): weights are nearly uniform"),
        ([0.33] * 5, "(5 times 0.33): weights are nearly uniform"),
        ([0.05] * 3, "(3 times 0.05): weights are nearly uniform"),
        ([0.0, 0.0], "(all probabilities are 0): weights are nearly uniform"),
        ([0.9, 0.8, 0.1], "(the sum is 1.8): weights are shares of the sum"),
        ([0.2] * 5, ""),
        ([0.5, 0.5], ""),
        ([0.1, 0.1], ""),
        ([0.1, 0.05, 0.02], ""),
        ([0.4, 0.3, 0.3, 0.2, 0.1], ""),
        ([0.0], ""),
        ([None, None], ""),
        ([0.9, None, 0.9, 0.9], "(3 times 0.9): weights are nearly uniform"),
    ],
)
def test_stated_numbers_that_are_no_distribution_are_named(stated: list[float | None], warning: str) -> None:
    distribution = read(*((f"t{at}", value) for at, value in enumerate(stated)))
    lines = (f"the model did not state a distribution {warning}",) if warning else ()
    assert distribution.warnings == lines
    for shown in (str(distribution), distribution._repr_html_()):
        assert ("did not state a distribution" in shown) == bool(warning)


def test_each_reply_states_a_distribution_of_its_own() -> None:
    def replies(*numbers: float) -> Distribution:
        return Distribution.from_verbalized(
            Verbalized(f"{at}-{part}", value, math.log(value), meta={"request": at} if at else {})
            for at, value in enumerate(numbers)
            for part in "ab"
        )

    assert replies(0.5, 0.5, 0.5).warnings == ()
    assert "the sum is 1.8" in replies(0.5, 0.9).warnings[0]
    merged = replies(0.5).merge(replies(0.9), replies(0.9))
    assert (len(merged.warnings), merged.tempered(2).warnings) == (1, merged.warnings)


def test_the_cost_is_known_where_the_price_is() -> None:
    def cost(model: str, usage: Usage) -> float | None:
        return dataclasses.replace(full(), provenance=Provenance(model=model, usage=usage, requests=1)).cost

    assert cost("local/smollm2", Usage()) == 0.0
    assert cost("http://localhost:8000/v1#m", Usage(10, 10)) is None
    assert cost("nobody/nothing", Usage(10, 10)) is None
    pytest.importorskip("genai_prices", reason="extra `prices` is not installed")
    assert cost("openai/gpt-4.1", Usage()) is None
    assert cost("openai/gpt-4.1", Usage(1_000_000, 1_000_000)) == pytest.approx(10.0)
    both = read(("a", 1.0)).merge(full())
    assert both.cost is None


def test_tokens_that_nobody_counted_are_not_shown_as_none() -> None:
    made = [Provenance(model="m", usage=usage, requests=1) for usage in (Usage(), Usage(1, 2))]
    shown = [str(dataclasses.replace(full(), provenance=source)).replace("\n", " ") for source in made]
    assert "1 request · tokens not reported" in shown[0]
    assert "1 request · 3 tokens" in shown[1]


def test_ipython_shows_the_table() -> None:
    pretty = pytest.importorskip("IPython.lib.pretty", reason="IPython is not installed")
    shown = pretty.pretty(full())
    assert (shown, "effective size 2.0 of 2" in shown, "1 refused" in shown) == (str(full()), True, True)


def test_html_escapes_text_of_the_model() -> None:
    page = read(("<script>alert(1)</script>", 1.0))._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_terminal_table_shows_markup_as_text() -> None:
    import io

    from rich.console import Console

    distribution = read(("[red]咖啡[/red] :coffee:", 0.9), ("مرحبا", 0.1))
    out = io.StringIO()
    Console(file=out, width=100).print(distribution)
    for shown in (out.getvalue(), str(distribution)):
        assert "[red]咖啡[/red] :coffee:" in shown
        assert "0.900" in shown
        assert "\x1b" not in shown


texts = st.text(min_size=1).filter(str.strip)
stated = st.one_of(st.none(), st.floats(0, 1))


@given(st.lists(st.tuples(texts, stated), min_size=1, max_size=30))
def test_any_reading_becomes_a_distribution(pairs: list[tuple[str, float | None]]) -> None:
    distribution = read(*pairs)
    assert math.fsum(distribution.probabilities) == pytest.approx(1)
    assert len({text_key(text) for text in distribution.texts}) == len(distribution)
    assert list(distribution.probabilities) == sorted(distribution.probabilities, reverse=True)
    assert 1 - 1e-9 <= distribution.effective_size() <= len(distribution) + 1e-9
    assert Distribution.from_json(distribution.to_json()) == distribution


@given(st.text())
def test_a_key_is_its_own_key(text: str) -> None:
    assert text_key(text_key(text)) == text_key(text)
