"""The conclusion of an experiment in words, derived from its figures by rules."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from outspoken.experiment.results import ArmResults
from outspoken.experiment.results_view import DisplayedDifference, DisplayedFigure, ResultsView
from outspoken.measure.statistics import FEW
from outspoken.report.format import number, p_equation, times

__all__ = ["SOURCES", "Conclusion", "TaskConclusion", "conclude", "samples_per_prompt"]

SOURCES = {"direct": "direct answers", "reference": "the reference", "logprobs": "log-probabilities"}
"""What stated probabilities are compared with."""


@dataclass(frozen=True, slots=True)
class TaskConclusion:
    """The conclusion for one task and model, in `sentences`.

    `group` is the best arm and `against` its difference from the baseline; both are None without a comparison.
    """

    task: str
    model: str
    significant: bool
    group: ArmResults | None
    against: DisplayedDifference | None
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The conclusion for all tasks and models in one or two sentences, and for each of them."""

    lead: str
    tasks: tuple[TaskConclusion, ...]


@dataclass(frozen=True, slots=True)
class _Rival:
    group: ArmResults
    figure: DisplayedFigure
    against: DisplayedDifference


def conclude(view: ResultsView) -> Conclusion:
    """The best arm, its difference from the baseline, how certain that is, and its price.

    An arm is significantly better if its difference from the baseline has the right sign, its interval excludes 0,
    the p value is at most 0.05 after Holm's correction, and there are at least six prompts. Of several such arms
    the one with the best figure leads.
    """
    panels = [panel for panel in view.panels if any(view.baseline_of(group) for group in view.panel(*panel))]
    tasks = tuple(_conclude_task(view, task, model) for task, model in panels or view.panels)
    if len(tasks) == 1:
        return Conclusion(" ".join(tasks[0].sentences[:3]), tasks)
    return Conclusion(_lead(view, tasks), tasks)


def samples_per_prompt(view: ResultsView) -> str:
    """The direct answers per prompt with which stated probabilities are compared: `60`, `58 to 60`, or ""."""
    pairs = {(task, model) for task, model, _, source in view.calibrations() if source == "direct"}
    counts = sorted(
        round(group.responses / group.prompts)
        for group in view.groups
        if group.method == "direct" and group.prompts and (group.task, group.model) in pairs
    )
    return _range([f"{count:,}" for count in counts]) if counts else ""


def _conclude_task(view: ResultsView, task: str, model: str) -> TaskConclusion:
    groups = view.panel(task, model)
    sign = view.sign(view.primary)
    rivals = [
        _Rival(group, figure, against)
        for group in groups
        if (figure := view.figure(group, view.primary)) is not None
        and (against := view.against(group, view.baseline_of(group), view.primary)) is not None
    ]
    if not rivals:
        return TaskConclusion(task, model, False, None, None, (_nothing_to_compare(view, groups),))
    significant = [rival for rival in rivals if rival.against.significant]
    better, worse = ([one for one in significant if one.against.difference * sign * s > 0] for s in (1, -1))
    best = max(better or rivals, key=lambda rival: rival.figure.value * sign)
    sentences = _winner(view, best) if better else _no_winner(view, best)
    if better:
        sentences.append(_price(view, best.group))
        above = [rival for rival in rivals if rival.figure.value * sign > best.figure.value * sign]
        if above:
            sentences.append(f"With a better figure, but no significant difference: {_labels(view, above)}.")
        if others := [rival for rival in better if rival is not best]:
            sentences.append(_others(view, best.group, others))
    if worse:
        sentences.append(f"Significantly worse than {view.baseline}: {_labels(view, worse)}.")
    return TaskConclusion(task, model, bool(better), best.group, best.against, tuple(sentences))


def _labels(view: ResultsView, rivals: list[_Rival]) -> str:
    return ", ".join(view.label(rival.group) for rival in rivals)


def _nothing_to_compare(view: ResultsView, groups: list[ArmResults]) -> str:
    title = view.title(view.primary)
    for group in groups:
        if reason := group.undefined.get(view.primary):
            return f"There is nothing to compare: {title} is undefined for {view.label(group)} ({reason})."
    return f"There is nothing to compare: no arm has both a {title} and a comparison with {view.baseline}."


def _winner(view: ResultsView, best: _Rival) -> list[str]:
    figure, against = best.figure, best.against
    base = view.figure(view.baseline_of(best.group) or best.group, view.primary)
    text = f"{view.label(best.group)} leads: {view.title(view.primary)} {number(figure.value)}"
    ratio = ""
    if base is not None:
        text += f" against {number(base.value)} for {_baseline_label(view, best.group)}"
        if base.value > 0 and figure.value > 0:
            ratio = f" or {times(figure.value / base.value)} as much"
    test = f"{p_equation(against.p_holm)} after Holm's correction" if against.p_holm is not None else ""
    certainty = (
        f"The difference is significant: {test}" if test else "The difference is significant by its interval alone"
    )
    note = f" ({against.note.rstrip('.')})" if against.note else ""
    return [f"{text}, {_difference(against, ratio)}.", f"{certainty}, over {against.sample}{note}."]


def _no_winner(view: ResultsView, best: _Rival) -> list[str]:
    against = best.against
    first = f"No arm has a {_significantly_better(view)} than {_baseline_label(view, best.group)}."
    text = f"The best of the others is {view.label(best.group)}: {number(best.figure.value)}, "
    text += f"{_difference(against)}; "
    if against.doubt:
        text += f"not significant, because {against.doubt}"
    else:
        text += f"significant, but worse ({p_equation(against.p_holm)})"
    if against.needed and against.needed > against.units >= FEW:
        text += f"; a difference of this size needs about {against.needed:,} {against.unit}s"
        text += f", and there were {against.units:,}"
    return [first, f"{text}."]


def _significantly_better(view: ResultsView) -> str:
    direction = "lower" if view.sign(view.primary) < 0 else "higher"
    return f"significantly {direction} {view.title(view.primary)}"


def _baseline_label(view: ResultsView, group: ArmResults) -> str:
    base = view.baseline_of(group)
    return view.label(base) if base else view.baseline


def _difference(against: DisplayedDifference, ratio: str = "") -> str:
    size = number(abs(against.difference), like=against.size)
    direction = "more" if against.difference >= 0 else "less"
    text = f"{size} {direction}{ratio}" if size.strip("0.") else "the same to these digits"
    return text + (f" (95 % interval of the difference {against.interval})" if against.interval else "")


def _others(view: ResultsView, best: ArmResults, others: list[_Rival]) -> str:
    text = f"Also significantly better than {view.baseline}: {_labels(view, others)}."
    between = [(other, view.against(best, other.group, view.primary)) for other in others]
    if tied := [other for other, difference in between if difference is not None and not difference.significant]:
        text += f" Between {view.label(best)} and {_labels(view, tied)} there is no significant difference."
    return text


def _price(view: ResultsView, group: ArmResults) -> str:
    here, there = _tokens(group), _tokens(view.baseline_of(group))
    text = "its tokens were not recorded" if here is None else f"{number(here)} tokens for each distinct response"
    if here is not None and there:
        text += f" against {number(there)} for {_baseline_label(view, group)} ({times(here / there)})"
    parts = [text]
    if view.quality:
        parts.append(_quality(view, view.quality, group))
    return f"The price: {'; '.join(parts)}."


def _tokens(group: ArmResults | None) -> float | None:
    return group.cost.per_distinct.tokens if group and group.cost else None


def _quality(view: ResultsView, name: str, group: ArmResults, where: str = "") -> str:
    against = view.against(group, view.baseline_of(group), name)
    if against is None:
        return f"{view.title(name)} was not compared"
    text = f"{view.title(name)}{where} {against.text}"
    text += f" ({against.interval})" if against.interval else ""
    if not against.significant:
        return f"{text}, not significant"
    better = against.difference * view.sign(name) >= 0
    return f"{text}, significantly {'better' if better else 'worse'} ({p_equation(against.p_holm)})"


def _lead(view: ResultsView, tasks: tuple[TaskConclusion, ...]) -> str:
    if not tasks:
        return "There is no conclusion: the results hold no group."
    wins = Counter(view.label(one.group) for one in tasks if one.significant and one.group)
    all_tasks = f"{len(tasks)} combinations of task and model"
    advantage = f"with a {_significantly_better(view)} than {view.baseline}"
    if not wins:
        doubts = {one.against.doubt if one.against else "" for one in tasks}
        reason = f", because {doubts.pop()}" if len(doubts) == 1 and "" not in doubts else ""
        return f"In none of {all_tasks} is there an arm {advantage}{reason}."
    (first, count), *others = wins.most_common()
    if count == len(tasks):
        text = f"{first} leads in all {all_tasks}, {advantage}."
    else:
        text = f"Of {all_tasks}, {first} leads in {count}"
        text += "".join(f", {name} in {count}" for name, count in others)
        rest = len(tasks) - wins.total()
        text += f", {advantage}"
        text += f"; in {rest} no arm is significantly better than {view.baseline}." if rest else "."
    won = [one for one in tasks if one.significant and one.group and view.label(one.group) == first]
    return f"{text} {_range_of_wins(view, first, won)}"


def _range_of_wins(view: ResultsView, name: str, won: list[TaskConclusion]) -> str:
    pairs = [(one.group, one.against) for one in won if one.group and one.against]
    like = max(against.size for _, against in pairs)
    sizes = _range([number(size, like=like) for size in sorted(abs(against.difference) for _, against in pairs)])
    side = "below" if view.sign(view.primary) < 0 else "above"
    p_values = [against.p_holm for _, against in pairs if against.p_holm is not None]
    certainty = p_equation(max(p_values)) if len(p_values) == len(pairs) else "by the interval alone"
    if len(pairs) > 1:
        certainty = certainty.replace("p =", "p at most")
    text = f"Where it leads, {name} lies {sizes} {side} {view.baseline} ({certainty})"
    ratios = sorted(
        here / there
        for group, _ in pairs
        if (here := _tokens(group)) is not None and (there := _tokens(view.baseline_of(group)))
    )
    if len(ratios) == len(pairs):
        spread = _range([times(ratio).removesuffix(" times") for ratio in ratios])
        text += f", at {spread} times its tokens for each distinct response"
    return text + _judged(view, [group for group, _ in pairs]) + "."


def _judged(view: ResultsView, groups: list[ArmResults]) -> str:
    if view.quality is None:
        return ""
    judged = [(group, view.against(group, view.baseline_of(group), view.quality)) for group in groups]
    known = [(group, against) for group, against in judged if against is not None]
    if not known:
        return ""
    if len(known) == 1:
        where = "" if len(groups) == 1 else ", where it was judged,"
        return f"; {_quality(view, view.quality, known[0][0], where)}"
    sign = view.sign(view.quality)
    worse = sum(against.significant and against.difference * sign < 0 for _, against in known)
    return f"; {view.title(view.quality)} is significantly worse in {worse or 'none'} of the {len(known)} judged"


def _range(texts: list[str]) -> str:
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"
