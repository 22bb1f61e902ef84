"""Measure groups of responses, with intervals, and compare the groups with each other."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError, UsageError
from outspoken.io.dataclass_json import to_json
from outspoken.io.text import plural
from outspoken.measure import sets
from outspoken.measure.answer_sets import Answers
from outspoken.measure.calibration import AnswerShares, GroupCalibration, answer_shares, calibrate
from outspoken.measure.cost import Cost, CostSummary
from outspoken.measure.measures import (
    MEASURES,
    MeasureDefinition,
    MeasureInput,
    NotGivenError,
    SumAndWeight,
    compute,
)
from outspoken.measure.statistics import Comparison, Estimate, compare, corrected, mean_estimate, plugin_estimate
from outspoken.measure.values import Group, JsonResult, PromptGroup, Response

if TYPE_CHECKING:
    from outspoken.measure.embedding import Embedder

__all__ = ["Analysis", "GroupComparison", "MeasuredGroup", "Progress", "analyse"]

Floats = NDArray[np.floating]
Progress = Callable[[str, int, int], None]
"""Called with the name of a step, the number of its finished parts, and the number of all."""

_MIN_RESAMPLES = 100
# Resamples of the calls of one prompt; each counts the answers again.
_CALL_RESAMPLES = 2_000
# Measures that depend on answers that never appeared. Resampled calls do not contain these, so intervals would
# cover the truth in less than half of all samples (see `plugin_estimate`).
_NO_INTERVAL = ("coverage", "kl_reference", "kl_reference_shared")
_NO_INTERVAL_NOTE = (
    "one prompt: coverage and KL from the reference have no interval, because no resampling knows the answers "
    "that never appeared"
)


@dataclass(frozen=True, slots=True)
class MeasuredGroup:
    """A group of responses and its figures.

    `figures` holds the estimate of each measure by name. `undefined` says why a measure is undefined for the group
    or for some of its prompts; the measures whose input was not given (a reference, embeddings, a judge) are also
    in `not_given`. `sums` holds the sum and weight that each prompt adds to a figure, by measure and prompt id.
    """

    group: Group
    figures: Mapping[str, Estimate]
    undefined: Mapping[str, str]
    sums: Mapping[str, Mapping[str, SumAndWeight]]
    cost: Cost | None = None
    not_given: frozenset[str] = frozenset()

    @property
    def responses(self) -> int:
        """The number of responses."""
        return sum(len(prompt.responses) for prompt in self.group.prompts)

    @property
    def failures(self) -> int:
        """The number of responses that are missing."""
        return sum(prompt.failures for prompt in self.group.prompts)

    @property
    def empty(self) -> int:
        """The number of responses without text, which are not among `responses`."""
        return sum(prompt.empty for prompt in self.group.prompts)

    @property
    def cost_summary(self) -> CostSummary | None:
        """The cost for each response and each distinct one, None if it is unknown."""
        distinct = sum(value for value, _ in self.sums.get("distinct_answers", {}).values())
        return None if self.cost is None else self.cost.summary(self.responses, round(distinct))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "method": self.group.method,
            "model": self.group.model,
            "settings": dict(self.group.settings),
            "prompts": len(self.group.prompts),
            "responses": self.responses,
            "failures": self.failures,
            "empty": self.empty,
            "measures": to_json(self.figures, methods=True),
            "undefined": dict(self.undefined),
            "cost": to_json(self.cost_summary),
        }


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """The `comparison` of group `a` minus group `b` by one measure; both are indices into `Analysis.groups`."""

    measure: str
    a: int
    b: int
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"measure": self.measure, "a": self.a, "b": self.b, **self.comparison.to_dict()}


@dataclass(frozen=True, slots=True)
class Analysis(JsonResult):
    """The figures of groups of responses, and comparisons between the groups.

    `warnings` are sentences that a reader of the figures should know. `distributions` holds the share of each
    answer, for prompts whose answers are known. `calibration` compares the stated probabilities of a group with
    the direct answers of the same model and with the reference.
    """

    groups: tuple[MeasuredGroup, ...]
    comparisons: tuple[GroupComparison, ...]
    distributions: tuple[AnswerShares, ...] = ()
    calibration: tuple[GroupCalibration, ...] = ()
    warnings: tuple[str, ...] = ()


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

    `answers` returns for a prompt how its answers are distinguished and which are known (default: every distinct
    text is an answer). `quality` holds the scores of a judge by group index and prompt id, `costs` the cost of
    each group, `pairs` the indices of the groups to compare (default: all pairs). Prompts are resampled, or the
    calls of a prompt if it is the only one with known answers. Holm's correction of the p values is over all pairs
    of one measure.

    Raises `UsageError` if there is nothing to measure, or fewer than 100 `resamples`.
    """
    if resamples < _MIN_RESAMPLES:
        raise UsageError(f"resamples must be at least {_MIN_RESAMPLES}, not {resamples}")
    if not any(prompt.responses for group in groups for prompt in group.prompts):
        raise UsageError("there is no response to measure")
    progress = progress or (lambda step, done, total: None)
    embeddings = await _embed(groups, embedder, progress)
    inputs = [_inputs(index, group, answers, embeddings, quality or {}) for index, group in enumerate(groups)]
    measured: list[MeasuredGroup] = []
    sizes = [len(group.prompts) for group in groups]
    for index, group in enumerate(groups):
        cost = costs[index] if costs else None
        measured.append(await _measure(group, inputs[index], cost, seed, resamples))
        progress("measuring", sum(sizes[: index + 1]), sum(sizes))
    wanted = tuple(combinations(range(len(groups)), 2)) if pairs is None else pairs
    comparisons = await _compare(measured, wanted, seed, resamples, progress)
    return Analysis(
        tuple(measured),
        comparisons,
        tuple(answer_shares(groups, inputs)),
        calibrate(groups, answers, seed=seed, resamples=resamples),
        tuple(_warnings(measured)),
    )


async def _embed(groups: Sequence[Group], embedder: Embedder | None, progress: Progress) -> Mapping[str, Floats]:
    if embedder is None:
        return {}
    texts = {response.text: None for group in groups for prompt in group.prompts for response in prompt.responses}
    vectors = await embedder.embed(list(texts), partial(progress, "embedding"))
    return dict(zip(texts, vectors, strict=True))


def _inputs(
    index: int,
    group: Group,
    answers: Callable[[PromptGroup], Answers] | None,
    embeddings: Mapping[str, Floats],
    quality: Mapping[tuple[int, str], Sequence[float]],
) -> dict[str, MeasureInput]:
    inputs = {}
    for prompt in group.prompts:
        vectors = [embeddings[response.text] for response in prompt.responses] if embeddings else []
        inputs[prompt.prompt_id] = MeasureInput(
            prompt.responses,
            answers(prompt) if answers else Answers.free(),
            np.stack(vectors) if vectors else None,
            tuple(quality.get((index, prompt.prompt_id), ())),
        )
    return inputs


async def _measure(
    group: Group, inputs: Mapping[str, MeasureInput], cost: Cost | None, seed: int, resamples: int
) -> MeasuredGroup:
    figures: dict[str, Estimate] = {}
    undefined: dict[str, str] = {}
    sums: dict[str, dict[str, SumAndWeight]] = {}
    not_given = set()
    for measure in MEASURES.values():
        await asyncio.sleep(0)  # a measure may take seconds: other tasks and an interruption get their turn
        by_prompt: dict[str, SumAndWeight] = {}
        reasons: dict[str, int] = {}
        for prompt_id, one in inputs.items():
            try:
                by_prompt[prompt_id] = compute(measure, one)
            except UndefinedError as error:
                if isinstance(error, NotGivenError):
                    not_given.add(measure.name)
                reasons[str(error)] = reasons.get(str(error), 0) + 1
        if reasons:
            undefined[measure.name] = "; ".join(
                f"{reason} ({count:,} of {plural(len(inputs), 'prompt')})" for reason, count in reasons.items()
            )
        if by_prompt:
            sums[measure.name] = by_prompt
            figures[measure.name] = _estimate(measure, by_prompt, inputs, seed, resamples)
    return MeasuredGroup(group, figures, undefined, sums, cost, frozenset(not_given))


def _estimate(
    measure: MeasureDefinition,
    by_prompt: Mapping[str, SumAndWeight],
    inputs: Mapping[str, MeasureInput],
    seed: int,
    resamples: int,
) -> Estimate:
    values, weights = np.array(list(by_prompt.values())).T
    if len(by_prompt) == 1 and measure.needs_reference:
        if measure.name in _NO_INTERVAL:
            return Estimate(float(values[0] / weights[0]), None, None, 1, note=_NO_INTERVAL_NOTE)
        (prompt_id,) = by_prompt
        estimate = _estimate_from_calls(measure, inputs[prompt_id], seed)
        if estimate is not None:
            return estimate
    return mean_estimate(values, weights, resamples=resamples, seed=seed)


async def _compare(
    groups: Sequence[MeasuredGroup],
    pairs: Sequence[tuple[int, int]],
    seed: int,
    resamples: int,
    progress: Progress,
) -> tuple[GroupComparison, ...]:
    comparisons: list[GroupComparison] = []
    for done, name in enumerate(MEASURES, 1):
        await asyncio.sleep(0)
        compared = {(a, b): _compare_pair(name, groups[a], groups[b], seed, resamples) for a, b in pairs}
        family = {pair: comparison for pair, comparison in compared.items() if comparison is not None}
        for (a, b), comparison in zip(family, corrected(family.values()), strict=True):
            comparisons.append(GroupComparison(name, a, b, comparison))
        progress("comparing", done, len(MEASURES))
    return tuple(comparisons)


def _compare_pair(
    name: str, group: MeasuredGroup, other: MeasuredGroup, seed: int, resamples: int
) -> Comparison | None:
    a, b = group.sums.get(name, {}), other.sums.get(name, {})
    shared = sorted(a.keys() & b.keys())
    if not shared:
        return None
    if len(a) == len(b) == 1 and MEASURES[name].needs_reference:
        return _compare_calls(group.figures[name], other.figures[name])
    a_values, a_weights = np.array([a[prompt] for prompt in shared]).T
    b_values, b_weights = np.array([b[prompt] for prompt in shared]).T
    return compare(a_values, b_values, a_weights, b_weights, resamples=resamples, seed=seed)


def _estimate_from_calls(measure: MeasureDefinition, inputs: MeasureInput, seed: int) -> Estimate | None:
    """The figure of one prompt, with an interval from resampling its calls; None for fewer than two calls."""
    calls: dict[int | None, list[Response]] = {}
    for response in inputs.responses:
        calls.setdefault(response.call, []).append(response)
    if len(calls) < 2 or None in calls:
        return None
    # For each call, the weights of its answers, and how often each answer appears in it.
    weights = [sets.answer_weights(call, inputs.answers.label) for call in calls.values()]
    counts = [MeasureInput(tuple(call), inputs.answers).counts for call in calls.values()]

    def statistic(resampled: NDArray[np.integer]) -> NDArray[np.floating]:
        figures = np.empty(len(resampled))
        for row, times in enumerate(resampled):
            resample = MeasureInput(inputs.responses, inputs.answers)
            resample.weights, resample.counts = _total(weights, times), _total(counts, times)
            try:
                figures[row], _ = compute(measure, resample)
            except UndefinedError:
                figures[row] = math.nan
        return figures

    estimate = plugin_estimate(statistic, len(calls), resamples=_CALL_RESAMPLES, seed=seed, unit="call")
    if estimate.low is None or estimate.high is None:
        return estimate
    low, high = (min(max(end, 0.0), measure.maximum) for end in (estimate.low, estimate.high))
    return replace(estimate, low=low, high=high)


def _total(parts: Sequence[Mapping[str, float]], times: Iterable[int]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part, count in zip(parts, times, strict=True):
        if count:
            for name, value in part.items():
                total[name] = total.get(name, 0.0) + int(count) * value
    return total


def _compare_calls(a: Estimate, b: Estimate) -> Comparison:
    """Compare two figures of one prompt, each with an interval from its own calls.

    The interval of the difference follows from the two intervals by Zou and Donner (2008, Statistics in Medicine
    27). There is no test, because nothing is paired, and the calls of two methods are not exchangeable.
    """
    difference = a.value - b.value
    low = high = None
    if a.low is not None and a.high is not None and b.low is not None and b.high is not None:
        # An interval that is corrected for bias may not contain its figure.
        low = difference - math.hypot(max(a.value - a.low, 0), max(b.high - b.value, 0))
        high = difference + math.hypot(max(a.high - a.value, 0), max(b.value - b.low, 0))
    note = "one prompt: the interval is from the calls of each group, and there is no test"
    return Comparison(difference, low, high, None, None, None, min(a.units, b.units), None, note)


def _warnings(groups: Sequence[MeasuredGroup]) -> Iterable[str]:
    for measured in groups:
        group = measured.group
        name = " ".join(part for part in (group.model, group.method) if part) or "the responses"
        if measured.failures:
            yield f"{name}: {plural(measured.failures, 'response')} missing, which no measure counts"
        if measured.empty:
            yield f"{name}: {plural(measured.empty, 'empty response')}, which no measure counts"
        sizes = [len(prompt.responses) for prompt in group.prompts]
        if sizes and min(sizes) != max(sizes):
            yield f"{name}: prompts have {min(sizes):,} to {plural(max(sizes), 'response')}"
        if none := sizes.count(0):
            yield f"{name}: {plural(none, 'prompt')} without a response, which no measure counts"
        if single := sizes.count(1):
            yield f"{name}: {plural(single, 'prompt')} with one response, whose diversity is undefined"
    if incomplete := _incomplete_calls(groups):
        yield (
            f"{plural(incomplete, 'call lacks', 'calls lack')} the probability of some responses: within "
            "these calls all responses have the same weight"
        )
    means = {
        round(measured.responses / len(measured.group.prompts), 1) for measured in groups if measured.group.prompts
    }
    if len(means) > 1:
        yield (
            f"the groups have {min(means):g} to {max(means):g} responses a prompt: distinct answers, effective "
            "size, Vendi, distinct-n, self-BLEU and compression depend on that number (`outspoken measure "
            "--per-prompt` compares equal numbers)"
        )
    prompts = [{prompt.prompt_id for prompt in measured.group.prompts} for measured in groups]
    common = set.intersection(*prompts)
    if any(ids != common for ids in prompts):
        yield (
            "the groups differ in their prompts: two groups are compared on those that both have "
            f"({len(common):,} are in all groups)"
        )


def _incomplete_calls(groups: Sequence[MeasuredGroup]) -> int:
    """The number of calls that have a probability for some of their responses and none for others."""
    missing: dict[tuple[int, str, int | None], set[bool]] = {}
    for index, measured in enumerate(groups):
        for prompt in measured.group.prompts:
            for response in prompt.responses:
                key = (index, prompt.prompt_id, response.call)
                missing.setdefault(key, set()).add(response.probability is None)
    return sum(len(values) > 1 for values in missing.values())
