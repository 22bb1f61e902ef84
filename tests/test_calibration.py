from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import UndefinedError, UsageError
from outspoken.measure import measure
from outspoken.measure.calibration import Bin, against, against_logprobs, calibrate, reliability, stated_of
from outspoken.measure.divergence import tv
from outspoken.measure.values import Group, PromptGroup, Response
from outspoken.models.base import Capabilities, Model, Score

names = st.sampled_from(["Texas", "東京", "กรุงเทพ", "القاهرة", "🦙", "Ohio", "Peru"])
stated_ones = st.dictionaries(names, st.floats(0, 1).filter(lambda value: value == 0 or value > 1e-6), min_size=1)
counts = st.dictionaries(names, st.integers(0, 50), min_size=2)


def test_what_is_calibrated() -> None:
    truth = {"a": 0.5, "b": 0.3, "東京": 0.15, "d": 0.05}
    result = against(truth, {answer: round(1000 * share) for answer, share in truth.items()})
    assert result.total_variation == pytest.approx(0, abs=1e-12)
    assert result.brier == pytest.approx(0, abs=1e-12)
    assert result.rank_correlation == pytest.approx(1)
    assert result.answers == 4
    assert [entry.count for entry in result.bins] == [1, 1, 1, 1]


def test_by_hand() -> None:
    result = against({"a": 0.5, "b": 0.25, "c": 0.25}, {"a": 2, "b": 6, "d": 2}, bins=2)
    # Sorted by what was stated: d 0 (observed .2), b .25 (.6), c .25 (0) | a .5 (.2). b and c belong together.
    assert result.bins == (
        Bin(0.0, 0.25, pytest.approx(0.5 / 3), pytest.approx(0.8 / 3), 3),
        Bin(0.5, 0.5, 0.5, pytest.approx(0.2), 1),
    )
    assert result.brier == pytest.approx(0.3**2 + 0.35**2 + 0.25**2 + 0.2**2)
    assert result.total_variation == pytest.approx((0.2 + 0.3 + 0.35 + 0.25) / 2)
    assert result.rank_correlation == pytest.approx(stats.spearmanr([0.5, 0.25, 0.25, 0], [0.2, 0.6, 0, 0.2])[0])
    assert json.loads(json.dumps(result.to_dict())) == result.to_dict()
    assert result.to_dict()["bins"][1] == {"low": 0.5, "high": 0.5, "stated": 0.5, "observed": 0.2, "count": 1}


def test_a_certain_wrong_answer_among_fifty_is_no_small_error() -> None:
    observed = {f"answer {at}": 1 for at in range(1, 50)}
    result = against({"answer 0": 1.0}, observed)
    assert result.total_variation == pytest.approx(1)
    assert result.brier == pytest.approx(1 + 49 / 49**2)


def test_stated_probabilities_are_not_normalised() -> None:
    halved = against({"a": 0.3, "b": 0.2}, {"a": 6, "b": 4})
    assert halved.total_variation == pytest.approx(0, abs=1e-12)
    assert halved.brier == pytest.approx(0.3**2 + 0.2**2)
    assert halved.rank_correlation == pytest.approx(1)


def test_a_planted_miscalibration_is_found() -> None:
    rng = np.random.default_rng(7)
    truth = rng.dirichlet(np.full(40, 0.5))
    drawn = dict(enumerate(rng.multinomial(200_000, truth)))
    observed = {f"answer {at}": int(count) for at, count in drawn.items()}
    sharp = {f"answer {at}": float(p) for at, p in enumerate(truth**2 / (truth**2).sum())}
    honest = {f"answer {at}": float(p) for at, p in enumerate(truth)}
    assert against(honest, observed).brier < 0.001
    assert against(honest, observed).total_variation < 0.02
    assert against(sharp, observed).brier > 10 * against(honest, observed).brier
    assert (against(sharp, observed).rank_correlation or 0) > 0.99
    curve = against(sharp, observed).bins
    assert curve[0].stated < curve[0].observed
    assert curve[-1].stated > curve[-1].observed


@given(stated_ones, counts, st.integers(1, 12))
def test_properties_of_every_calibration(stated: dict[str, float], observed: dict[str, int], bins: int) -> None:
    if not any(stated.values()) or not any(observed.values()):
        with pytest.raises(UndefinedError, match="above 0"):
            against(stated, observed, bins=bins)
        return
    result = against(stated, observed, bins=bins)
    assert result.answers == len({*stated, *observed}) == sum(entry.count for entry in result.bins)
    assert len(result.bins) <= bins
    assert all(a.high < b.low for a, b in zip(result.bins, result.bins[1:], strict=False))
    assert result.total_variation == pytest.approx(tv(stated, observed))
    total = sum(observed.values())
    one_by_one = [abs(stated.get(a, 0) - observed.get(a, 0) / total) for a in {*stated, *observed}]
    assert result.brier == pytest.approx(sum(gap**2 for gap in one_by_one))
    assert result.rank_correlation is None or -1 - 1e-9 <= result.rank_correlation <= 1 + 1e-9


def test_bins_hold_equally_many() -> None:
    stated = {str(at): at / 1000 for at in range(100)}
    assert [entry.count for entry in against(stated, {"3": 1}).bins] == [10] * 10


def test_a_curve_over_many_prompts() -> None:
    first, second = against({"a": 0.1, "b": 0.9}, {"a": 1, "b": 3}), against({"a": 0.1, "c": 0.9}, {"c": 1})
    pooled = reliability([0.1, 0.9, 0.1, 0.9], [0.25, 0.75, 0, 1])
    for entry, one, other in zip(pooled, first.bins, second.bins, strict=True):
        assert entry.count == 2
        assert entry.observed == (one.observed + other.observed) / 2
        assert entry.to_dict()["stated"] == one.stated == other.stated
    with pytest.raises(UsageError, match="1 stated and 2 observed probabilities do not pair up"):
        reliability([0.1], [0.1, 0.2])
    for bad in (-0.1, 1.1, math.nan):
        with pytest.raises(UsageError, match="numbers between 0 and 1"):
            reliability([0.1, 0.2], [0.1, bad])
    with pytest.raises(UndefinedError, match="no answer"):
        reliability([], [])


@pytest.mark.parametrize("stated", [{"a": 0.2, "b": 0.2}, {"a": 0.9, "b": 0.1}])
def test_without_variation_there_is_no_rank_correlation(stated: dict[str, float]) -> None:
    result = against(stated, {"a": 7, "b": 7} if stated["a"] > 0.5 else {"a": 8, "b": 2})
    assert result.rank_correlation is None
    assert result.total_variation > 0
    assert result.to_dict()["rank_correlation"] is None


def test_undefined_calibration() -> None:
    for stated, observed in (({"a": 1}, {"a": 3}), ({"a": 1}, {}), ({}, {"a": 1, "b": 1}), ({"a": 0}, {"b": 1})):
        with pytest.raises(UndefinedError):
            against(stated, observed)


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1, math.inf, None, "0.5"])
def test_invalid_stated_probabilities(bad: float) -> None:
    with pytest.raises(UsageError, match="the stated probability of '東京' must lie between 0 and 1"):
        against({"a": 0.5, "東京": bad}, {"a": 1, "b": 1})


def test_other_bad_input() -> None:
    with pytest.raises(UsageError, match="the weight of 'b' must be"):
        against({"a": 0.5}, {"a": 1, "b": math.nan})
    with pytest.raises(UsageError, match="at least one bin, not 0"):
        against({"a": 0.5}, {"a": 1, "b": 1}, bins=0)


def test_against_the_models_own_log_probabilities() -> None:
    shares = [0.5, 0.3, 0.2]
    honest = against_logprobs([0.25, 0.15, 0.1], [math.log(share) - 700 for share in shares])
    assert honest.total_variation == pytest.approx(0, abs=1e-12)
    assert honest.brier == pytest.approx(0, abs=1e-12)
    assert honest.rank_correlation == pytest.approx(1)
    reverse = against_logprobs([1, 2, 3], [math.log(share) for share in shares])
    assert reverse.rank_correlation == pytest.approx(-1)
    assert reverse.total_variation == pytest.approx((abs(1 / 6 - 0.5) + abs(1 / 3 - 0.3) + abs(0.5 - 0.2)) / 2)
    assert reverse.brier == pytest.approx((1 / 6 - 0.5) ** 2 + (1 / 3 - 0.3) ** 2 + (0.5 - 0.2) ** 2)
    assert against_logprobs([1, 1], [-3, -math.inf]).total_variation == pytest.approx(0.5)
    assert against_logprobs([1, 1], [-3, -4]).rank_correlation is None


@pytest.mark.parametrize(
    ("stated", "logprobs", "says"),
    [
        ([0.5], [-1, -2], "1 stated probabilities and 2 log-probabilities do not pair up"),
        ([0.5, 0.5], [-1, math.nan], "a number of at most 0"),
        ([0.5, 0.5], [-1, 0.2], "a number of at most 0"),
        ([0.5, math.nan], [-1, -2], "the weight of 'candidate 2' must be"),
        ([0.5, -1], [-1, -2], "the weight of 'candidate 2' must be"),
    ],
)
def test_bad_log_probabilities(stated: list[float], logprobs: list[float], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        against_logprobs(stated, logprobs)


@pytest.mark.parametrize(
    ("stated", "logprobs"), [([], []), ([1], [-1]), ([0, 0], [-1, -2]), ([1, 1], [-math.inf, -math.inf])]
)
def test_nothing_to_compare(stated: list[float], logprobs: list[float]) -> None:
    with pytest.raises(UndefinedError):
        against_logprobs(stated, logprobs)


def test_numbers_on_another_scale_are_not_stated_probabilities() -> None:
    calls = [{"a": 0.4, "b": 0.6}, {"a": 12.5, "b": 0.5}, {"b": -0.7}, {"b": 0.9, "B": 0.9}]
    responses = [
        Response(text, stated=value, call=at) for at, call in enumerate(calls) for text, value in call.items()
    ]
    assert stated_of([*responses, Response("a", call=4)], str.lower) == pytest.approx({"a": 0.2, "b": 0.8})


def test_a_group_is_compared_with_the_direct_answers_of_the_same_settings() -> None:
    def group(method: str, temperature: float, *texts: str, stated: float | None = None) -> Group:
        responses = tuple(Response(text, stated=stated, call=0 if stated else at) for at, text in enumerate(texts))
        return Group(method, "m", (PromptGroup("p", "p", responses),), {"temperature": temperature})

    groups = [group("direct", 0, "a", "a"), group("direct", 1, "a", "b"), group("vs-cot", 1, "a", "b", stated=0.5)]
    (result,) = calibrate(groups)
    assert (result.group, result.source, result.total_variation.value) == (2, "direct", pytest.approx(0))


def test_stated_probabilities_beside_log_probabilities_of_a_model() -> None:
    """The scored texts are those of the responses, after the prompt in the model's own template."""

    class Scorer(Model):
        name = "scorer"
        capabilities = Capabilities(score=True)

        async def complete(self, request: ChatRequest) -> ChatReply:
            raise NotImplementedError

        async def score_identity(self) -> str:
            return "scorer"

        async def chat_text(self, prompt: str) -> str:
            return f"<{prompt}>"

        async def scores(self, pairs: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
            assert all(context == "<Name a tea.>" for context, _ in pairs)
            known = {"Oolong": 0.6, "龙井": 0.3, "Assam": 0.1}
            return [Score((math.log(known[text]),)) if text in known else UsageError("no") for _, text in pairs]

    def row(text: str, stated: float, call: int) -> dict[str, object]:
        return {
            "prompt": "Name a tea.",
            "text": text,
            "stated": stated,
            "probability": stated,
            "call": call,
            "method": "vs-standard",
        }

    rows = [row("Oolong", 0.6, 0), row("龙井", 0.3, 0), row("Assam", 0.1, 0), row("Oolong", 0.1, 1)]
    rows += [row("Assam", 0.6, 1), row("unscored", 0.3, 1)]
    analysis = measure(rows, embedder=None, score=Scorer())
    (found,) = analysis.calibration
    assert found.source == "logprobs"
    # The first call is right; the second states 1/7 and 6/7 where the model has 6/7 and 1/7.
    assert found.total_variation.value == pytest.approx((0 + 5 / 7) / 2)
    assert found.brier.value == pytest.approx((0 + 2 * (5 / 7) ** 2) / 2)
    assert any("1 response could not be scored" in warning for warning in analysis.warnings)
