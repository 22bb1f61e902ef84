"""The sentences of a pipeline's report: the result, its cost, and what the figures mean."""

from __future__ import annotations

from collections.abc import Sequence

import regex  # type: ignore[import-untyped]

from outspoken.report.format import count, dollars, duration, number, share
from outspoken.synth.report.document import DiversityTable, PipelineReport, RecordCluster

__all__ = ["diversity_method", "excerpt", "extreme_clusters", "facts", "lead", "sentences", "unmeasured_steps"]

Fact = tuple[str, str, str]
"""A figure of the first screen: its name, its value, and a remark."""

_EXCERPT = 260


def lead(report: PipelineReport) -> str:
    """The result in one sentence."""
    generated, kept, verb = report.generated, report.kept, _verb(report)
    if not generated:
        return f"Nothing was {verb}, so nothing could be kept."
    if not kept:
        return f"{count(generated)} {verb}, none kept: {_removals(report)}."
    text = f"{count(generated)} {verb}, {count(kept)} kept"
    text += f" ({share(kept, generated)})" if kept <= generated else ""
    cost = _cost_per_record(report)
    return f"{text}; {cost} per accepted record." if cost else f"{text}. No step asked a model."


def sentences(report: PipelineReport) -> list[str]:
    """The next most important findings: the largest removal, and the change of diversity."""
    result = []
    losses = [(lost, entry, reason) for entry in report.steps for reason, lost in entry.removed.items() if lost]
    if losses and report.kept:
        lost, entry, reason = max(losses, key=lambda loss: loss[0])
        result.append(f"Most were removed by {entry.label}: {count(lost)} of {count(entry.records)} ({reason}).")
    if change := _diversity_change(report.diversity):
        result.append(change)
    return result


def facts(report: PipelineReport) -> list[Fact]:
    """The main figures."""
    cost = report.cost
    each = cost.per_record
    result: list[Fact] = [("kept", count(report.kept), f"of {count(report.generated)} {_verb(report)}")]
    if cost.asked and report.kept:
        result += [
            ("requests per accepted record", number(each["requests"] or 0), f"{count(cost.requests)} in all"),
            ("tokens per accepted record", number(each["tokens"] or 0), f"{count(cost.tokens)} in all"),
            ("dollars per accepted record", "not known", "the price of a model is not known")
            if each["usd"] is None
            else ("dollars per accepted record", dollars(each["usd"]), f"{dollars(cost.usd)} in all"),
        ]
    if report.kept:
        in_all = f"{duration(cost.seconds)} in all steps"
        result.append(("time per accepted record", duration(each["seconds"]), in_all))
    return result


def diversity_method(table: DiversityTable) -> list[str]:
    """How diversity was measured, and what the lines of the charts mean; empty if it was not measured."""
    n, choices, rows = table.n, table.choices, table.steps
    if not n:
        return []
    result = [
        f"Every step is measured on equally many records, {count(n)}: most measures depend on how many there are."
    ]
    if any(row.choices > 1 for row in rows):
        result += [
            f"If a step has more, its figure is the mean of {choices} random choices of {count(n)} of them, and "
            "the line reaches from the lowest of these to the highest.",
            "So a line shows how much the figure depends on the choice of records. One more random choice would "
            f"lie outside it in 1 case of {(choices + 1) // 2}: if the figure of a later step lies outside, its "
            "selection is unlikely to be chance. The line does not show what the model would write another time.",
        ]
    if any(row.kept > table.sample for row in rows):
        result.append(
            f"Of a step with more than {count(table.sample)} records, that many were sampled at random; the lines "
            "do not show how much another sample would differ."
        )
    if table.no_embeddings:
        result.append(f"Only words were measured: there are no embeddings ({table.no_embeddings}).")
    return result


def unmeasured_steps(table: DiversityTable) -> str:
    """A sentence about the steps that were not measured."""
    steps = [f"{row.label} ({count(row.of)})" for row in table.steps if not row.n]
    return f"Too few records to be measured: {', '.join(steps)}." if steps else ""


def excerpt(text: str, most: int = _EXCERPT) -> str:
    """The beginning of a long text, "" for a short one; characters of several code points are not cut."""
    if len(text) <= most:
        return ""
    start: str = regex.match(rf"\X{{0,{most}}}", text).group()
    return "" if len(start) == len(text) else f"{start.rstrip()}…"


def extreme_clusters(clusters: Sequence[RecordCluster]) -> str:
    """The clusters with the most and the fewest kept records."""
    if not clusters:
        return ""
    fullest, emptiest = (pick(clusters, key=lambda cluster: cluster.kept) for pick in (max, min))
    return f"Fullest: {_cluster(fullest)}. Emptiest: {_cluster(emptiest)}."


def _cluster(cluster: RecordCluster) -> str:
    words = f" ({', '.join(cluster.words[:3])})" if cluster.words else ""
    return f"cluster {cluster.number}{words}, {count(cluster.kept)} of {count(cluster.generated)} kept"


def _verb(report: PipelineReport) -> str:
    return "read" if report.steps[0].source else "generated"


def _cost_per_record(report: PipelineReport) -> str:
    if not report.cost.asked:
        return ""
    each = report.cost.per_record
    parts = [f"{number(each['requests'] or 0)} requests", f"{number(each['tokens'] or 0)} tokens"]
    if each["usd"]:
        parts.append(dollars(each["usd"]))
    return ", ".join(parts[:-1]) + f" and {parts[-1]}"


def _removals(report: PipelineReport) -> str:
    removals = []
    for entry in report.steps:
        total = sum(entry.removed.values())
        if total:
            reason, most = max(entry.removed.items(), key=lambda each: each[1])
            detail = reason if most == total else f"{reason}: {count(most)}"
            removals.append(f"{entry.label} removed {count(total)} ({detail})")
    return ", ".join(removals) if removals else "no step gives a reason"


def _diversity_change(table: DiversityTable) -> str:
    """The change of the first measure from the first step that has it to the last."""
    for measure in table.measures:
        rows = [row for row in table.steps if measure.name in row.measures]
        if len(rows) > 1:
            first, last = rows[0], rows[-1]
            a, b = (row.measures[measure.name] for row in (first, last))
            if (first.choices, a.value) == (last.choices, b.value):
                return ""
            before, after = (number(measure.scale * spread.value) for spread in (a, b))
            start = f"after {first.label}" if first.step else "in the input"
            text = f"{measure.title} went from {before} {start} to {after} after {last.label}"
            text += f", on {count(table.n)} records each"
            if a.low is None or a.high is None:
                return f"{text}."
            where = "within" if a.low <= b.value <= a.high else "outside"
            return f"{text}, {where} what random choices of records alone gave."
    return ""
