"""Groups of responses into figures with intervals, and comparisons between the groups."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure import sets
from outspoken.measure.answer_sets import Answers
from outspoken.measure.answer_shares import distributions
from outspoken.measure.calibration import GroupCalibration, calibrate
from outspoken.measure.cost import Cost
from outspoken.measure.measures import MEASURES, MeasureDefinition, MeasureInput, NotGivenError, compute
from outspoken.measure.statistics import (
    Comparison,
    Estimate,
    compare,
    corrected,
    mean_estimate,
    plugin_estimate,
)
from outspoken.measure.values import Group, PromptGroup, Response

if TYPE_CHECKING:
    from outspoken.measure.embedding import Embedder

__all__ = ["Analysis", "GroupComparison", "MeasuredGroup", "analyse"]

Floats = NDArray[np.floating]
Progress = Callable[[str, int, int], None]

_FEWEST_RESAMPLES = 100
# Resamples of the calls of one prompt: each of them needs the answers counted anew.
_CALL_RESAMPLES = 2_000
# Figures that hang on the answers that never came, of which resampled calls know nothing: their intervals cover
# the truth in less than half of samples (see `plugin_estimate`).
_BLIND = ("coverage", "kl_reference", "kl_reference_shared")
_BLIND_NOTE = (
    "one prompt: coverage and KL from the reference have no interval, for no resampling knows the answers that "
    "never came"
)


@dataclass(frozen=True, slots=True)
class MeasuredGroup:
    """A group and its figures. `undefined` says why a measure has none; where what it needs was not given (a
    reference, embeddings, a judge), it is in `not_given`. `sums` holds each prompt's part in a figure, a sum and
    its weight, by the prompt's id."""

    group: Group
    figures: Mapping[str, Estimate]
    undefined: Mapping[str, str]
    sums: Mapping[str, Mapping[str, tuple[float, float]]]
    cost: Cost | None = None
    not_given: frozenset[str] = frozenset()

    @property
    def responses(self) -> int:
        return sum(len(asked.responses) for asked in self.group.prompts)

    def to_dict(self) -> dict[str, Any]:
        prompts = self.group.prompts
        distinct = sum(value for value, _ in self.sums.get("distinct_answers", {}).values())
        return {
            "method": self.group.method,
            "model": self.group.model,
            "settings": dict(self.group.settings),
            "prompts": len(prompts),
            "responses": self.responses,
            "failures": sum(asked.failures for asked in prompts),
            "empty": sum(asked.empty for asked in prompts),
            "measures": {name: estimate.to_dict() for name, estimate in self.figures.items()},
            "undefined": dict(self.undefined),
            "cost": None if self.cost is None else self.cost.to_dict(self.responses, round(distinct)),
        }


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """One measure of two groups, by their places in `Analysis.groups`: a minus b."""

    measure: str
    a: int
    b: int
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        return {"measure": self.measure, "a": self.a, "b": self.b, **self.comparison.to_dict()}


@dataclass(frozen=True, slots=True)
class Analysis:
    """What came of `analyse`. `distributions` holds, where answers can be listed, the share of each answer;
    `calibration` how the stated probabilities of each group compare with what there is to compare them with."""

    groups: tuple[MeasuredGroup, ...]
    comparisons: tuple[GroupComparison, ...]
    warnings: tuple[str, ...]
    distributions: tuple[dict[str, Any], ...] = ()
    calibration: tuple[GroupCalibration, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {
            "groups": [measured.to_dict() for measured in self.groups],
            "comparisons": [compared.to_dict() for compared in self.comparisons],
            "distributions": [dict(distribution) for distribution in self.distributions],
            "calibration": [calibrated.to_dict() for calibrated in self.calibration],
            "warnings": list(self.warnings),
        }


async def analyse(
    groups: Sequence[Group],
    *,
    embedder: Embedder | None = None,
    answers: Callable[[PromptGroup], Answers] | None = None,
    quality: Mapping[tuple[int, str], Sequence[float]] | None = None,
    costs: Sequence[Cost | None] | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    progress: Progress | None = None,
) -> Analysis:
    """Measure groups of responses, and compare them on the prompts that they share.

    `answers` says for a prompt how its answers are told apart and what is known of them (without it every
    different text is an answer); `quality` holds a judge's values by (group, prompt id); `pairs` the groups to
    compare (all with all, without it). The prompt is the unit of resampling; where there is one prompt and its
    answers are known, the call is. p values are corrected by Holm over all pairs of one measure.

    Raises `UsageError` where there is nothing to measure.
    """
    if resamples < _FEWEST_RESAMPLES:
        raise UsageError(f"resamples must be at least {_FEWEST_RESAMPLES}, not {resamples}")
    if not any(asked.responses for group in groups for asked in group.prompts):
        raise UsageError("there is no response to measure")
    embeddings = await _embedded(groups, embedder, progress)
    made: list[MeasuredGroup] = []
    total = sum(len(group.prompts) for group in groups)
    done = 0
    materials: list[dict[str, MeasureInput]] = []
    for at, group in enumerate(groups):
        of_group: dict[str, MeasureInput] = {}
        for asked in group.prompts:
            texts = [response.text for response in asked.responses]
            of_group[asked.prompt_id] = MeasureInput(
                asked.responses,
                answers(asked) if answers else Answers.free(),
                np.stack([embeddings[text] for text in texts]) if embeddings and texts else None,
                tuple((quality or {}).get((at, asked.prompt_id), ())),
            )
        materials.append(of_group)
        made.append(_measured(group, of_group, costs[at] if costs else None, seed, resamples))
        done += len(group.prompts)
        if progress:
            progress("measuring", done, total)
    wanted = tuple(combinations(range(len(groups)), 2)) if pairs is None else pairs
    compared = _comparisons(made, wanted, seed, resamples, progress)
    return Analysis(
        tuple(made),
        compared,
        tuple(_warnings(made)),
        tuple(distributions(groups, materials)),
        calibrate(groups, answers, seed=seed, resamples=resamples),
    )


async def _embedded(
    groups: Sequence[Group], embedder: Embedder | None, progress: Progress | None
) -> dict[str, Floats] | None:
    if embedder is None:
        return None
    texts = {response.text: None for group in groups for asked in group.prompts for response in asked.responses}

    def show(done: int, total: int) -> None:
        if progress:
            progress("embedding", done, total)

    vectors = await embedder.embed(list(texts), show)
    return dict(zip(texts, vectors, strict=True))


def _measured(
    group: Group, materials: Mapping[str, MeasureInput], cost: Cost | None, seed: int, resamples: int
) -> MeasuredGroup:
    figures: dict[str, Estimate] = {}
    undefined: dict[str, str] = {}
    sums: dict[str, dict[str, tuple[float, float]]] = {}
    not_given = set()
    for measure in MEASURES.values():
        found: dict[str, tuple[float, float]] = {}
        reasons: dict[str, int] = {}
        for prompt_id, material in materials.items():
            try:
                found[prompt_id] = compute(measure, material)
            except UndefinedError as error:
                if isinstance(error, NotGivenError):
                    not_given.add(measure.name)
                reasons[str(error)] = reasons.get(str(error), 0) + 1
        if reasons:
            undefined[measure.name] = "; ".join(
                f"{reason} ({count:,} of {len(materials):,} prompts)" for reason, count in reasons.items()
            )
        if found:
            sums[measure.name] = found
            figures[measure.name] = _estimate(measure, found, materials, seed, resamples)
    return MeasuredGroup(group, figures, undefined, sums, cost, frozenset(not_given))


def _estimate(
    measure: MeasureDefinition,
    found: Mapping[str, tuple[float, float]],
    materials: Mapping[str, MeasureInput],
    seed: int,
    resamples: int,
) -> Estimate:
    values, weights = np.array(list(found.values())).T
    if len(found) == 1 and measure.of_answers:
        if measure.name in _BLIND:
            return Estimate(float(values[0] / weights[0]), None, None, 1, note=_BLIND_NOTE)
        (only,) = found
        by_calls = _over_calls(measure, materials[only], seed)
        if by_calls is not None:
            return by_calls
    return mean_estimate(values, weights, resamples=resamples, seed=seed)


def _over_calls(measure: MeasureDefinition, material: MeasureInput, seed: int) -> Estimate | None:
    """The figure of one prompt with its calls as the units of resampling; None where they are not told apart."""
    calls: dict[int | None, list[Response]] = {}
    for response in material.responses:
        calls.setdefault(response.call, []).append(response)
    if len(calls) < 2 or None in calls:
        return None
    units = list(calls.values())
    # Each call's answers: what it adds to the weights of the whole, and how often each came.
    weights = [sets.answer_weights(unit, material.answers.label) for unit in units]
    counts = [MeasureInput(tuple(unit), material.answers).counts for unit in units]

    def statistic(resampled: NDArray[np.integer]) -> Floats:
        figures = np.empty(len(resampled))
        for row, times in enumerate(resampled):
            again = _Resampled(material, _total(weights, times), _total(counts, times))
            try:
                value, weight = measure.make(again)
                figures[row] = value / weight
            except UndefinedError:
                figures[row] = math.nan
        return figures

    found = plugin_estimate(statistic, len(units), resamples=_CALL_RESAMPLES, seed=seed, unit="call")
    if found.low is None or found.high is None:
        return found
    low, high = (min(max(end, 0.0), measure.most) for end in (found.low, found.high))
    return replace(found, low=low, high=high)


class _Resampled(MeasureInput):
    """The same prompt with its calls drawn anew."""

    def __init__(self, material: MeasureInput, found: dict[str, float], counts: dict[str, float]) -> None:
        super().__init__(material.responses, material.answers)
        self.found = found
        self.counts = counts


def _total(parts: Sequence[Mapping[str, float]], times: Iterable[int]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part, count in zip(parts, times, strict=True):
        if count:
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + int(count) * value
    return total


def _comparisons(
    made: Sequence[MeasuredGroup],
    pairs: Sequence[tuple[int, int]],
    seed: int,
    resamples: int,
    progress: Progress | None,
) -> tuple[GroupComparison, ...]:
    every: list[GroupComparison] = []
    for done, name in enumerate(MEASURES, 1):
        family: list[GroupComparison] = []
        for a, b in pairs:
            comparison = _compared(name, made[a], made[b], seed, resamples)
            if comparison is not None:
                family.append(GroupComparison(name, a, b, comparison))
        holm = corrected([compared.comparison for compared in family])
        every += [GroupComparison(old.measure, old.a, old.b, new) for old, new in zip(family, holm, strict=True)]
        if progress:
            progress("comparing", done, len(MEASURES))
    return tuple(every)


def _compared(name: str, one: MeasuredGroup, other: MeasuredGroup, seed: int, resamples: int) -> Comparison | None:
    a, b = one.sums.get(name, {}), other.sums.get(name, {})
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    if len(a) == len(b) == 1 and MEASURES[name].of_answers:
        return _of_calls(one.figures[name], other.figures[name])
    a_values, a_weights = np.array([a[prompt] for prompt in shared]).T
    b_values, b_weights = np.array([b[prompt] for prompt in shared]).T
    return compare(a_values, b_values, a_weights, b_weights, resamples=resamples, seed=seed)


def _of_calls(a: Estimate, b: Estimate) -> Comparison:
    """Two figures of one prompt, each with an interval from its own calls.

    The interval of the difference is that of Zou and Donner (2008, Statistics in Medicine 27) from the two
    intervals. There is no test: nothing is paired, and calls of two methods are not exchangeable.
    """
    difference = a.value - b.value
    low = high = None
    if a.low is not None and a.high is not None and b.low is not None and b.high is not None:
        # An interval that takes the bias off may leave its figure outside.
        low = difference - math.hypot(max(a.value - a.low, 0), max(b.high - b.value, 0))
        high = difference + math.hypot(max(a.high - a.value, 0), max(b.value - b.low, 0))
    note = "one prompt: the interval is from the calls of each, and there is no test"
    return Comparison(difference, low, high, None, None, None, min(a.units, b.units), None, note)


def _warnings(made: Sequence[MeasuredGroup]) -> Iterable[str]:
    for measured in made:
        group = measured.group
        name = " ".join(part for part in (group.model, group.method) if part) or "the responses"
        failures = sum(asked.failures for asked in group.prompts)
        empty = sum(asked.empty for asked in group.prompts)
        if failures:
            yield f"{name}: {failures:,} answers never came; they are counted here and in no measure"
        if empty:
            yield f"{name}: {empty:,} responses are empty; they are counted here and in no measure"
        sizes = [len(asked.responses) for asked in group.prompts]
        if sizes and min(sizes) != max(sizes):
            yield f"{name}: prompts have {min(sizes):,} to {max(sizes):,} responses"
        if none := sizes.count(0):
            yield f"{name}: {none:,} prompts have no response; they are in no measure"
        single = sizes.count(1)
        if single:
            yield f"{name}: {single:,} prompts have one response, whose diversity is undefined"
    lacking = _lacking(made)
    if lacking:
        yield f"{lacking:,} calls lack the probability of some of their responses: within these all weigh the same"
    means = {
        round(measured.responses / len(measured.group.prompts), 1) for measured in made if measured.group.prompts
    }
    if len(means) > 1:
        yield (
            f"the groups have {min(means):g} to {max(means):g} responses a prompt: counts of answers, effective "
            "number, Vendi, distinct-n, self-BLEU and compression grow or shrink with it (`outspoken measure "
            "--per-prompt` compares equal numbers)"
        )
    prompts = [{asked.prompt_id for asked in measured.group.prompts} for measured in made]
    common = set.intersection(*prompts)
    if any(ids != common for ids in prompts):
        yield f"the groups differ in their prompts: comparisons use what both have ({len(common):,} are in all)"


def _lacking(made: Sequence[MeasuredGroup]) -> int:
    """How many calls have a probability for some of their responses and not for others."""
    some: dict[tuple[int, str, int | None], set[bool]] = {}
    for at, measured in enumerate(made):
        for asked in measured.group.prompts:
            for response in asked.responses:
                some.setdefault((at, asked.prompt_id, response.call), set()).add(response.probability is None)
    return sum(len(found) > 1 for found in some.values())
