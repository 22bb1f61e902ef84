"""Measure groups of responses, with intervals, and compare the groups with each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError, UnknownNameError, UsageError
from outspoken.io.text import plural
from outspoken.measure.analysis_notes import warnings_about
from outspoken.measure.answer_sets import Answers
from outspoken.measure.calibration import AnswerShares, GroupCalibration, answer_shares, calibrate
from outspoken.measure.cost import Cost
from outspoken.measure.effect import MethodEffect, effects_of
from outspoken.measure.equal_size import noise_floor
from outspoken.measure.estimates import Estimate
from outspoken.measure.fidelity import GroupFidelity
from outspoken.measure.group_comparison import GroupComparer
from outspoken.measure.measure_definition import MeasureDefinition, SumAndWeight, compute
from outspoken.measure.measure_input import MeasureInput, NotGivenError
from outspoken.measure.measured import GroupComparison, MeasuredGroup
from outspoken.measure.measures import MEASURES
from outspoken.measure.richness import GroupRichness, group_richness
from outspoken.measure.statistics import corrected, mean_estimate
from outspoken.measure.values import Group, JsonResult, PromptGroup
from outspoken.measure.within_prompt import estimate_within

if TYPE_CHECKING:
    from outspoken.measure.embedding import Embedder

__all__ = ["SAMENESS", "Analysis", "GroupComparison", "MeasuredGroup", "Progress", "Sameness", "analyse"]

Floats = NDArray[np.floating]
Sameness = Literal["exact", "meaning"]
SAMENESS: tuple[Sameness, ...] = ("exact", "meaning")
Progress = Callable[[str, int, int], None]
"""Called with the name of a step, the number of its finished parts, and the number of all."""

_MIN_RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Analysis(JsonResult):
    """The figures of groups of responses, and comparisons between the groups.

    `warnings` are sentences that a reader of the figures should know. `distributions` holds the share of each
    answer, for prompts whose answers are known. `calibration` compares the stated probabilities of a group with
    the direct answers of the same model and with the reference. `same` says when two responses are one answer: if
    their texts are equal ("exact"), or their meaning ("meaning"). `effects` are the verdicts, on each group beside
    the direct one of its model. `richness` says how many answers the model has, and `fidelity` how the responses
    compare with a known law, if one was given.
    """

    groups: tuple[MeasuredGroup, ...]
    comparisons: tuple[GroupComparison, ...]
    distributions: tuple[AnswerShares, ...] = ()
    calibration: tuple[GroupCalibration, ...] = ()
    warnings: tuple[str, ...] = ()
    same: str = "exact"
    effects: tuple[MethodEffect, ...] = ()
    richness: tuple[GroupRichness, ...] = ()
    fidelity: tuple[GroupFidelity, ...] = ()


async def analyse(
    groups: Sequence[Group],
    *,
    embedder: Embedder | None = None,
    answers: Callable[[PromptGroup], Answers] | None = None,
    quality: Mapping[tuple[int, str], Sequence[float]] | None = None,
    costs: Sequence[Cost | None] | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    names: Sequence[str] | None = None,
    same: Sameness = "exact",
    seed: int = 0,
    resamples: int = 10_000,
    progress: Progress | None = None,
) -> Analysis:
    """Measure groups of responses, and compare them on the prompts that they share.

    `answers` returns for a prompt how its answers are distinguished and which are known (default: every distinct
    text is an answer). `quality` holds the scores of a judge by group index and prompt id, `costs` the cost of
    each group, `pairs` the indices of the groups to compare (default: all pairs), and `names` what the groups are
    called in the verdicts. `same` says when two responses are one answer: if their texts are equal, or if their
    meaning is, which needs an embedder. Prompts are resampled, or the draws of a prompt if it is the only one.
    Holm's correction of the p values is over all pairs of one measure.

    Raises `UsageError` if there is nothing to measure, no embedder for meanings, or fewer than 100 `resamples`.
    """
    if resamples < _MIN_RESAMPLES:
        raise UsageError(f"resamples must be at least {_MIN_RESAMPLES}, not {resamples}")
    if same not in SAMENESS:
        raise UnknownNameError("same", same, SAMENESS)
    if same == "meaning" and embedder is None:
        raise UsageError(
            'answers of the same meaning are found by their embeddings: name an embedder, or use same="exact"'
        )
    if not any(prompt.responses for group in groups for prompt in group.prompts):
        raise UsageError("there is no response to measure")
    progress = progress or (lambda step, done, total: None)
    embeddings = await _embed(groups, embedder, progress)
    by_meaning = same == "meaning"
    inputs = [
        _inputs(at, group, answers, embeddings, quality or {}, by_meaning) for at, group in enumerate(groups)
    ]
    measured: list[MeasuredGroup] = []
    sizes = [len(group.prompts) for group in groups]
    for index, group in enumerate(groups):
        cost = costs[index] if costs else None
        measured.append(await _measure(group, inputs[index], cost, seed, resamples))
        progress("measuring", sum(sizes[: index + 1]), sum(sizes))
    wanted = tuple(combinations(range(len(groups)), 2)) if pairs is None else pairs
    comparer = GroupComparer([one.sums for one in measured], inputs, seed, resamples)
    comparisons = await _compare(comparer, wanted, progress)
    return Analysis(
        tuple(measured),
        comparisons,
        tuple(answer_shares(groups, inputs)),
        calibrate(groups, answers),
        tuple(warnings_about(measured)),
        same,
        effects_of(measured, comparisons, comparer, pairs, names),
        tuple(_richness(inputs)),
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
    by_meaning: bool,
) -> dict[str, MeasureInput]:
    inputs = {}
    for prompt in group.prompts:
        vectors = [embeddings[response.text] for response in prompt.responses] if embeddings else []
        inputs[prompt.prompt_id] = MeasureInput(
            prompt.responses,
            answers(prompt) if answers else Answers.free(),
            np.stack(vectors) if vectors else None,
            tuple(quality.get((index, prompt.prompt_id), ())),
            empty=prompt.empty,
            by_meaning=by_meaning,
        )
    return inputs


async def _measure(
    group: Group,
    inputs: Mapping[str, MeasureInput],
    cost: Cost | None,
    seed: int,
    resamples: int,
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
    states_shares = any(one.states_shares for one in inputs.values())
    with_counts = sum(one.answers.reference is not None for one in inputs.values())
    floors = {name: floor for name in figures if (floor := noise_floor(MEASURES[name], inputs, seed)) is not None}
    return MeasuredGroup(
        group, figures, undefined, sums, cost, frozenset(not_given), floors, with_counts, states_shares
    )


def _richness(inputs: Sequence[Mapping[str, MeasureInput]]) -> Iterator[GroupRichness]:
    """How many answers the model has in each group, from the prompts with an answer."""
    for index, own in enumerate(inputs):
        known = [one.richness for one in own.values() if any(not refused for refused in one.refused)]
        if known:
            yield group_richness(index, known)


def _estimate(
    measure: MeasureDefinition,
    by_prompt: Mapping[str, SumAndWeight],
    inputs: Mapping[str, MeasureInput],
    seed: int,
    resamples: int,
) -> Estimate:
    if len(by_prompt) == 1:
        (prompt_id,) = by_prompt
        return estimate_within(measure, inputs[prompt_id], seed)
    values, weights = np.array(list(by_prompt.values())).T
    return mean_estimate(values, weights, bounds=measure.bounds, step=measure.step)


async def _compare(
    comparer: GroupComparer, pairs: Sequence[tuple[int, int]], progress: Progress
) -> tuple[GroupComparison, ...]:
    comparisons: list[GroupComparison] = []
    for done, name in enumerate(MEASURES, 1):
        await asyncio.sleep(0)
        compared = {(a, b): comparer.compare(name, a, b) for a, b in pairs}
        family = {pair: comparison for pair, comparison in compared.items() if comparison is not None}
        for (a, b), comparison in zip(family, corrected(family.values()), strict=True):
            comparisons.append(GroupComparison(name, a, b, comparison))
        progress("comparing", done, len(MEASURES))
    return tuple(comparisons)
