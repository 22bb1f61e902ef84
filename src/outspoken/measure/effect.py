"""The verdict on a method: does it help, beside another one, and what does it cost?

The rules are in `effects_of`. Refusals never count as diversity, and figures are compared at equal numbers of
responses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from outspoken.measure.estimates import Comparison
from outspoken.measure.group_comparison import GroupComparer
from outspoken.measure.measures import MEASURES
from outspoken.measure.statistics import FEW, LEVEL, corrected
from outspoken.measure.values import JsonResult, group_label
from outspoken.report.format import NONE, alike, count, dollars, number, p_equation, share

if TYPE_CHECKING:
    from outspoken.measure.measured import GroupComparison, MeasuredGroup

__all__ = ["Beside", "MethodEffect", "Outcome", "effects_of"]

Outcome = Literal["helps", "hurts", "no evidence"]

_SATURATED = 0.9
_TITLES = {
    "distinct_meanings": "different answers a prompt, by meaning,",
    "distinct_answers": "different answers a prompt",
    "semantic_diversity": "nearly all answers differ, with a semantic diversity of",
    "tv": "total variation from the reference",
    "tv_shares": "total variation of the shares from the reference",
    "coverage": "share of the known answers",
}
Key = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Beside(JsonResult):
    """One figure of two groups side by side, a and b; None if it is unknown.

    `significant` says whether their difference is, None if it was not tested.
    """

    measure: str
    a: float | None
    b: float | None
    significant: bool | None = None


@dataclass(frozen=True, slots=True)
class MethodEffect(JsonResult):
    """Whether group `a` is more diverse than group `b` (indices of groups), and at what price.

    `measure` is the one that decides: nearness to the reference if its counts are known, else the number of
    different answers that are no refusals, by meaning where embeddings are there; where nearly every response of
    both groups is a different answer, their semantic diversity. `outcome` is "helps" or "hurts" if its difference
    is significant. With fewer than six prompts, `these_prompts` is true: the draws were resampled and not the
    prompts, so the outcome holds for these prompts alone. `needed` is the number of prompts that would show a
    difference of this size. `beside` holds further figures side by side.
    """

    a: int
    b: int
    outcome: Outcome
    measure: str
    comparison: Comparison
    these_prompts: bool
    needed: int | None
    beside: tuple[Beside, ...]
    sentence: str


def effects_of(
    groups: Sequence[MeasuredGroup],
    comparisons: Sequence[GroupComparison],
    comparer: GroupComparer,
    pairs: Sequence[tuple[int, int]] | None = None,
    names: Sequence[str] | None = None,
) -> tuple[MethodEffect, ...]:
    """The verdict on each group beside another one.

    That is the second of the first of the `pairs` with the group, or without pairs the first "direct" group of its
    model, or else the first group. Only groups that share a prompt with a response have a verdict. `names` are
    those of the groups (default: what distinguishes them).
    """
    labels = names or [group_label(one.group, [other.group for other in groups]) for one in groups]
    by_pair = {(row.measure, row.a, row.b): row.comparison for row in comparisons}
    by_pair |= {(row.measure, row.b, row.a): row.comparison.swapped() for row in comparisons}
    first = {a: (a, b) for a, b in reversed(pairs or ())}
    beside = [first.get(a) if pairs is not None else _baseline(groups, a) for a in range(len(groups))]
    measures = {pair: _deciding(groups, *pair) for pair in beside if pair is not None}
    alone = _on_these_prompts(groups, comparer, measures, by_pair)
    effects = []
    for (a, b), measure in measures.items():
        comparison = alone.get((a, b)) or by_pair.get((measure, a, b))
        if comparison is not None:
            effects.append(_effect(groups, labels, (a, b), measure, comparison, by_pair, (a, b) in alone))
    return tuple(effects)


def _baseline(groups: Sequence[MeasuredGroup], index: int) -> tuple[int, int] | None:
    """This group and the one that it is compared with; None for the baseline itself."""
    model = groups[index].group.model
    direct = [at for at, one in enumerate(groups) if one.group.method == "direct" and one.group.model == model]
    base = next(iter(direct), 0)
    return None if base == index else (index, base)


def _deciding(groups: Sequence[MeasuredGroup], a: int, b: int) -> str:
    """The measure that decides; see `MethodEffect`."""
    pair = groups[a], groups[b]
    has = {name: all(name in one.figures for one in pair) for name in MEASURES}
    if any(one.has_counts for one in pair) and (has["tv_shares"] or has["tv"]):
        return "tv_shares" if any(one.states_shares for one in pair) else "tv"
    if has["coverage"]:
        return "coverage"
    different = "distinct_meanings" if has["distinct_meanings"] else "distinct_answers"
    if has["semantic_diversity"] and all(_is_saturated(one, different) for one in pair):
        return "semantic_diversity"
    return different


def _is_saturated(one: MeasuredGroup, measure: str) -> bool:
    return one.figures[measure].value >= _SATURATED * one.responses / max(1, len(one.group.prompts))


def _on_these_prompts(
    groups: Sequence[MeasuredGroup],
    comparer: GroupComparer,
    measures: Mapping[tuple[int, int], str],
    by_pair: Mapping[Key, Comparison],
) -> dict[tuple[int, int], Comparison]:
    """The comparisons with the prompts as they are, for pairs with too few prompts for a test over prompts."""
    few = {
        pair: comparison
        for pair, measure in measures.items()
        if (measure, *pair) in by_pair
        and len(_shared(groups, measure, pair)) < FEW
        and (comparison := comparer.within(measure, *pair)) is not None
    }
    return dict(zip(few, corrected(few.values()), strict=True))


def _effect(
    groups: Sequence[MeasuredGroup],
    labels: Sequence[str],
    pair: tuple[int, int],
    measure: str,
    comparison: Comparison,
    by_pair: Mapping[Key, Comparison],
    these_prompts: bool,
) -> MethodEffect:
    a, b = pair
    sign = -1 if MEASURES[measure].better == "lower" else 1
    significant = _is_significant(comparison)
    outcome: Outcome = "no evidence"
    if significant:
        outcome = "helps" if comparison.difference * sign > 0 else "hurts"
    over_prompts = by_pair.get((measure, a, b))
    needed = None
    if (these_prompts or not significant) and over_prompts is not None and over_prompts.difference:
        needed = over_prompts.needed or FEW
    beside = tuple(_beside(groups, a, b, measure, by_pair))
    text = _sentence([labels[a], labels[b]], outcome, measure, comparison, groups, pair)
    if these_prompts:
        prompts = len(_shared(groups, measure, pair))
        text += f" This holds for {'this prompt' if prompts == 1 else f'these {prompts} prompts'} alone"
        text += f"; for prompts like them, ask at least {needed or FEW:,}."
    elif needed:
        text += f" A difference of this size needs about {needed:,} prompts; there were {comparison.units:,}."
    return MethodEffect(
        a, b, outcome, measure, comparison, these_prompts, needed, beside, f"{text} {_beside_text(beside)}"
    )


def _shared(groups: Sequence[MeasuredGroup], measure: str, pair: tuple[int, int]) -> set[str]:
    """The prompts for which both groups have the figure."""
    a, b = (groups[index].sums.get(measure, {}) for index in pair)
    return set(a.keys() & b.keys())


def _is_significant(comparison: Comparison) -> bool:
    if comparison.low is None or comparison.high is None or comparison.low <= 0 <= comparison.high:
        return False
    return comparison.p_holm is not None and comparison.p_holm <= LEVEL


def _sentence(
    names: Sequence[str],
    outcome: Outcome,
    measure: str,
    comparison: Comparison,
    groups: Sequence[MeasuredGroup],
    pair: tuple[int, int],
) -> str:
    scaled = comparison.scaled(MEASURES[measure].scale)
    what = _TITLES.get(measure, MEASURES[measure].title)
    start = f"{names[0]} {outcome}" if outcome != "no evidence" else f"No evidence that {names[0]} helps or hurts"
    figures = [groups[index].figures[measure].value * MEASURES[measure].scale for index in pair]
    here, there, *ends = alike(*figures, *(end for end in (scaled.low, scaled.high) if end is not None))
    text = f"{start}: {what} {here} against {there} for {names[1]}"
    if ends:
        test = p_equation(comparison.p_holm)
        text += f" (95 % interval of the difference at equal numbers {ends[0]} to {ends[1]}, {test})"
    return f"{text}."


def _beside(
    groups: Sequence[MeasuredGroup], a: int, b: int, measure: str, by_pair: Mapping[Key, Comparison]
) -> Iterator[Beside]:
    for name in dict.fromkeys((measure, "distinct_meanings", "distinct_answers", "quality", "refusals", "empty")):
        figures = [groups[index].figures.get(name) for index in (a, b)]
        if any(figures):
            test = by_pair.get((name, a, b))
            here, there = (None if figure is None else figure.value for figure in figures)
            yield Beside(name, here, there, None if test is None or test.p is None else _is_significant(test))
    for name in ("tokens", "usd"):
        here, there = (_per_different(groups[index], name) for index in (a, b))
        if here is not None or there is not None:
            yield Beside(f"{name}_per_different_answer", here, there)


def _per_different(one: MeasuredGroup, name: str) -> float | None:
    """The cost of one different answer that is no refusal, by meaning where this is known."""
    sums = one.sums.get("distinct_meanings") or one.sums.get("distinct_answers") or {}
    different = sum(value for value, _ in sums.values())
    total = None if one.cost is None else getattr(one.cost, name)
    return None if total is None or not different else total / different


def _beside_text(beside: Sequence[Beside]) -> str:
    parts = []
    for one in beside:
        if one.measure == "quality":
            test = {True: ", significant", False: ", not significant", None: ""}[one.significant]
            parts.append(f"quality {_number(one.a)} against {_number(one.b)}{test}")
        elif one.measure == "refusals" and not (one.a or one.b):
            parts.append("no refusals")
        elif one.measure in ("refusals", "empty") and (one.a or one.b):
            name = "refusals" if one.measure == "refusals" else "empty responses"
            parts.append(f"{name} {_share(one.a)} against {_share(one.b)}")
        elif one.measure == "tokens_per_different_answer":
            parts.append(f"{count(one.a)} against {count(one.b)} tokens for each different answer")
        elif one.measure == "usd_per_different_answer" and (one.a or one.b):
            parts.append(f"{dollars(one.a)} against {dollars(one.b)}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _share(value: float | None) -> str:
    return NONE if value is None else share(value, 1)


def _number(value: float | None) -> str:
    return NONE if value is None else number(value)
