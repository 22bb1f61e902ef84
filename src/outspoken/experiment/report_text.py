"""The answer of an experiment in words, made from its figures by rules."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outspoken.experiment.results_view import DisplayedDifference, DisplayedFigure, ResultsView
from outspoken.measure.statistics import FEW
from outspoken.report.format import number

__all__ = [
    "SOURCES",
    "Conclusion",
    "TaskConclusion",
    "chance",
    "conclude",
    "interval",
    "samples_per_prompt",
    "signed",
]

# What stated probabilities are held against.
SOURCES = {"direct": "direct answers", "reference": "the reference"}

_Group = Mapping[str, Any]


def signed(against: DisplayedDifference) -> str:
    """The difference with its sign and as many decimals as the figures that differ."""
    text = number(against.difference, like=against.size)
    return f"+{text}" if against.difference > 0 else text


def interval(figure: DisplayedFigure | DisplayedDifference, *, like: float | None = None) -> str:
    """`low to high`, empty where there is no interval; `like` gives the decimals of another figure."""
    if figure.low is None or figure.high is None:
        return ""
    if like is None:
        like = figure.value if isinstance(figure, DisplayedFigure) else figure.size
    return f"{number(figure.low, like=like)} to {number(figure.high, like=like)}"


def chance(p: float | None) -> str:
    """A p-value as `p = 0.012` or `p < 0.001`."""
    if p is None:
        return "no p"
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def samples_per_prompt(view: ResultsView) -> str:
    """How many direct answers there are to a prompt where stated probabilities are held against them (`60`, or
    `58 to 60`); empty where they are not."""
    pairs = {(task, model) for task, model, _, source in view.calibrations() if source == "direct"}
    counts = sorted(
        round(group["responses"] / group["prompts"])
        for group in view.groups
        if group["method"] == "direct" and group["prompts"] and (group["task"], group["model"]) in pairs
    )
    return _span([f"{count:,}" for count in counts]) if counts else ""


@dataclass(frozen=True, slots=True)
class TaskConclusion:
    """What one task and model say. `group` is the arm spoken of and `against` how it stands to the baseline, both
    None where there is nothing to compare; `sentences` say it in words."""

    task: str
    model: str
    shown: bool
    group: _Group | None
    against: DisplayedDifference | None
    sentences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The whole: one or two sentences, and a verdict for each task and model."""

    lead: str
    verdicts: tuple[TaskConclusion, ...]


def conclude(view: ResultsView) -> Conclusion:
    """Which arm, by how much over the baseline, how sure, and at what price.

    An arm is shown to be better only where its difference from the baseline goes the better way, the interval
    excludes 0, the p-value is at most 0.05 after Holm's correction, and at least six prompts stand behind it. Of
    several such arms the one with the best figure leads.
    """
    panels = [panel for panel in view.panels if any(view.baseline_of(group) for group in view.panel(*panel))]
    verdicts = tuple(_verdict(view, task, model) for task, model in panels or view.panels)
    if len(verdicts) == 1:
        return Conclusion(" ".join(verdicts[0].sentences[:3]), verdicts)
    return Conclusion(_lead(view, verdicts), verdicts)


def _lead(view: ResultsView, verdicts: tuple[TaskConclusion, ...]) -> str:
    if not verdicts:
        return "There is no answer: the results hold no group."
    wins = Counter(view.label(v.group) for v in verdicts if v.shown and v.group)
    title = view.title(view.primary)
    among = f"{len(verdicts)} combinations of task and model"
    side = "lower" if view.sign(view.primary) < 0 else "higher"
    how = f"with a {title} shown to be {side} than that of {view.baseline}"
    if not wins:
        doubts = {v.against.doubt if v.against else "" for v in verdicts}
        why = f", as {doubts.pop()}" if len(doubts) == 1 and "" not in doubts else ""
        return f"In none of {among} is there an arm {how}{why}."
    (first, times), *others = wins.most_common()
    if times == len(verdicts):
        text = f"{first} leads in all {among}, {how}."
    else:
        text = f"Of {among}, {first} leads in {times}"
        text += "".join(f", {name} in {count}" for name, count in others)
        left = len(verdicts) - wins.total()
        text += f", {how}"
        text += f"; in {left} no arm is shown to beat {view.baseline}." if left else "."
    won = [v for v in verdicts if v.shown and v.group and view.label(v.group) == first]
    return f"{text} {_summed(view, first, won)}"


def _summed(view: ResultsView, name: str, won: list[TaskConclusion]) -> str:
    """By how much, how sure and at what price, from the least to the most of what an arm has won."""
    pairs = [(v.group, v.against) for v in won if v.group and v.against]
    sizes = sorted(abs(against.difference) for _, against in pairs)
    side = "below" if view.sign(view.primary) < 0 else "above"
    like = max(against.size for _, against in pairs)
    far = _span([number(size, like=like) for size in sizes])
    tested = [against.p_holm for _, against in pairs if against.p_holm is not None]
    sure = chance(max(tested)) if len(tested) == len(pairs) else "by the interval alone"
    text = f"Where it leads, {name} lies {far} {side} {view.baseline}"
    text += f" ({sure if len(pairs) == 1 else sure.replace('p =', 'p at most')})"
    ratios = sorted(ratio for group, _ in pairs if (ratio := _tokens_ratio(view, group)) is not None)
    if len(ratios) == len(pairs):
        times = _span([f"{ratio:.2g}" for ratio in ratios])
        text += f", at {times} times its tokens for each distinct response"
    return text + _judged(view, [group for group, _ in pairs]) + "."


def _judged(view: ResultsView, groups: list[_Group]) -> str:
    if view.quality is None:
        return ""
    known = [(g, against) for g in groups if (against := view.against(g, view.baseline_of(g), view.quality))]
    if len(known) == 1:
        where = "" if len(groups) == 1 else ", where it was judged,"
        return f"; {_quality(view, view.quality, known[0][0], where)}"
    worse = sum(against.shown and against.difference * view.sign(view.quality) < 0 for _, against in known)
    if not known:
        return ""
    return f"; {view.title(view.quality)} is shown to be worse in {worse or 'none'} of the {len(known)} judged"


def _span(texts: list[str]) -> str:
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"


def _tokens_ratio(view: ResultsView, group: _Group) -> float | None:
    here, there = _tokens(group), _tokens(view.baseline_of(group))
    return here / there if here is not None and there else None


def _verdict(view: ResultsView, task: str, model: str) -> TaskConclusion:
    groups = view.panel(task, model)
    sign = view.sign(view.primary)
    rivals = [
        (group, figure, against)
        for group in groups
        if (figure := view.figure(group, view.primary)) is not None
        and (against := view.against(group, view.baseline_of(group), view.primary)) is not None
    ]
    if not rivals:
        why = _nothing_to_compare(view, groups)
        return TaskConclusion(task, model, False, None, None, (why,))
    better = [rival for rival in rivals if rival[2].shown and rival[2].difference * sign > 0]
    group, figure, against = max(better or rivals, key=lambda rival: rival[1].value * sign)
    sentences = _won(view, group, figure, against) if better else _open(view, group, figure, against)
    others = [rival for rival in better if rival[0] is not group]
    worse = [view.label(rival[0]) for rival in rivals if rival[2].shown and rival[2].difference * sign < 0]
    if better:
        sentences.append(_price(view, group))
        above = [view.label(r[0]) for r in rivals if r[1].value * sign > figure.value * sign]
        if above:
            sentences.append(f"Not shown, though with a better figure: {', '.join(above)}.")
        if others:
            sentences.append(_others(view, group, others))
    if worse:
        sentences.append(f"Shown to be worse than {view.baseline}: {', '.join(worse)}.")
    return TaskConclusion(task, model, bool(better), group, against, tuple(sentences))


def _nothing_to_compare(view: ResultsView, groups: list[_Group]) -> str:
    title = view.title(view.primary)
    for group in groups:
        if reason := group.get("undefined", {}).get(view.primary):
            return f"There is nothing to compare: {title} is undefined for {view.label(group)} ({reason})."
    return f"There is nothing to compare: no arm has both a {title} and a comparison with {view.baseline}."


def _won(view: ResultsView, group: _Group, figure: DisplayedFigure, against: DisplayedDifference) -> list[str]:
    base = view.figure(view.baseline_of(group) or group, view.primary)
    text = f"{view.label(group)} leads: {view.title(view.primary)} {number(figure.value)}"
    if base is not None:
        text += f" against {number(base.value)} for {_base(view, group)}"
    times = ""
    if base is not None and base.value > 0 and figure.value > 0:
        times = f" or {figure.value / base.value:.2g} times as much"
    text += f", {_difference(against, times)}"
    sure = f"That is shown: {chance(against.p_holm)} after Holm's correction, over {against.behind}"
    if against.p_holm is None:
        sure = f"That is shown by the interval alone, over {against.behind}"
    return [f"{text}.", f"{sure}{_noted(against.note)}."]


def _base(view: ResultsView, group: _Group) -> str:
    base = view.baseline_of(group)
    return view.label(base) if base else view.baseline


def _open(view: ResultsView, group: _Group, figure: DisplayedFigure, against: DisplayedDifference) -> list[str]:
    more = "lower" if view.sign(view.primary) < 0 else "higher"
    first = f"No arm is shown to have a {more} {view.title(view.primary)} than {_base(view, group)}."
    text = f"The best of the others is {view.label(group)}: {number(figure.value)}, {_difference(against)}; "
    text += "not shown, "
    text += f"as {against.doubt}" if against.doubt else f"as it is the worse of the two ({chance(against.p_holm)})"
    if against.needed and against.needed > against.units >= FEW:
        text += f"; a difference of this size takes about {against.needed:,} {against.unit}s"
        text += f", and there were {against.units:,}"
    return [first, f"{text}."]


def _difference(against: DisplayedDifference, times: str = "") -> str:
    size = number(abs(against.difference), like=against.size)
    way = "more" if against.difference >= 0 else "less"
    within = interval(against)
    text = f"{size} {way}{times}" if size.strip("0.") else "the same to these digits"
    return text + (f" (95 % interval of the difference {within})" if within else "")


def _noted(note: str) -> str:
    return f" ({note.rstrip('.')})" if note else ""


def _price(view: ResultsView, group: _Group) -> str:
    here, there, ratio = _tokens(group), _tokens(view.baseline_of(group)), _tokens_ratio(view, group)
    text = "its tokens were not recorded" if here is None else f"{number(here)} tokens for each distinct response"
    if ratio is not None and there is not None:
        text += f" against {number(there)} for {_base(view, group)} ({ratio:.2g} times)"
    parts = [text]
    if view.quality:
        parts.append(_quality(view, view.quality, group))
    return f"The price: {'; '.join(parts)}."


def _tokens(group: _Group | None) -> float | None:
    cost = group.get("cost") if group else None
    value = (cost.get("per_distinct") or {}).get("tokens") if cost else None
    return value if value is not None and math.isfinite(value) else None


def _quality(view: ResultsView, name: str, group: _Group, where: str = "") -> str:
    against = view.against(group, view.baseline_of(group), name)
    if against is None:
        return f"no comparison of {view.title(name)} was made"
    text = f"{view.title(name)}{where} {signed(against)}"
    text += f" ({interval(against)})" if interval(against) else ""
    if not against.shown:
        return f"{text}, a difference that is not shown"
    better = against.difference * view.sign(name) >= 0
    return f"{text}, {'better' if better else 'worse'}, which is shown ({chance(against.p_holm)})"


def _others(
    view: ResultsView, group: _Group, others: list[tuple[_Group, DisplayedFigure, DisplayedDifference]]
) -> str:
    names = ", ".join(view.label(other) for other, _, _ in others)
    text = f"Also shown to be better than {view.baseline}: {names}."
    tied = [
        view.label(other)
        for other, _, _ in others
        if (between := view.against(group, other, view.primary)) is not None and not between.shown
    ]
    if tied:
        text += f" Between {view.label(group)} and {', '.join(tied)} no difference is shown."
    return text
