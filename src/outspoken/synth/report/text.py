"""The words of a pipeline's report: what came out, at what price, and what its terms mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import regex  # type: ignore[import-untyped]

from outspoken.report.format import number

__all__ = [
    "Fact",
    "clustered",
    "count",
    "dollars",
    "duration",
    "excerpt",
    "facts",
    "few",
    "ground",
    "lead",
    "sentences",
    "share",
]

Document = Mapping[str, Any]
Fact = tuple[str, str, str]
"""A figure of the first screen: its name, the figure, and what it means."""

_EXCERPT = 260


def lead(document: Document) -> str:
    """What came out, in one sentence."""
    came, kept = document["generated"], document["kept"]
    word = _came(document)
    if not came:
        return f"Nothing was {word}, so nothing could be kept."
    if not kept:
        return f"{count(came)} {word}, none kept: {_who(document)}."
    text = f"{count(came)} {word}, {count(kept)} kept" + (f" ({share(kept, came)})" if kept <= came else "")
    prices = _prices(document)
    return f"{text}; {prices} per accepted record." if prices else f"{text}. No step asked a model."


def sentences(document: Document) -> list[str]:
    """What else is to be known first: what removed most, and how diversity moved."""
    said = []
    losses = [
        (lost, entry, reason) for entry in document["steps"] for reason, lost in entry["removed"].items() if lost
    ]
    if losses and document["kept"]:
        lost, entry, reason = max(losses, key=lambda loss: loss[0])
        said.append(
            f"Most were removed by {entry['label']}: {count(lost)} of {count(entry['records'])} ({reason})."
        )
    if moved := _moved(document["diversity"]):
        said.append(moved)
    return said


def facts(document: Document) -> list[Fact]:
    """The main figures."""
    cost = document["cost"]
    each = cost["per_record"]
    made: list[Fact] = [
        ("kept", count(document["kept"]), f"of {count(document['generated'])} {_came(document)}"),
    ]
    if cost["asked"] and document["kept"]:
        made += [
            ("requests per accepted record", number(each["requests"]), f"{count(cost['requests'])} in all"),
            ("tokens per accepted record", number(each["tokens"]), f"{count(cost['tokens'])} in all"),
        ]
        usd = each["usd"]
        made.append(
            ("dollars per accepted record", "not known", "the price of a model is not known")
            if usd is None
            else ("dollars per accepted record", dollars(usd), f"{dollars(cost['usd'])} in all")
        )
    if document["kept"]:
        made.append(
            ("time per accepted record", duration(each["seconds"]), f"{duration(cost['seconds'])} in all steps")
        )
    return made


def ground(diversity: Document) -> list[str]:
    """On what the diversity of the steps was measured, and what the lines of its charts say; empty for nothing."""
    n, choices, rows = diversity["n"], diversity["choices"], diversity["steps"]
    if not n:
        return []
    said = [
        f"Every step is measured on equally many records, {count(n)}: most measures hang on how many there are."
    ]
    if any(row["choices"] > 1 for row in rows):
        said.append(
            f"Where a step has more, its figure is the mean of {choices} random choices of {count(n)} of them, "
            "and the line reaches from the least of these to the greatest."
        )
        said.append(
            "So a line says how far the figure hangs on which records are taken. One more random choice would lie "
            f"outside it in 1 case of {(choices + 1) // 2}: a later step whose figure lies outside chose in a way "
            "that chance seldom does. What the model would write another time it does not say."
        )
    if any(row["kept"] > diversity["sample"] for row in rows):
        said.append(
            f"Of a step with more than {count(diversity['sample'])} records, so many were looked at, chosen at "
            "random; how far another sample would differ is not in the lines."
        )
    if diversity["no_embeddings"]:
        said.append(f"Only words were measured: there are no embeddings ({diversity['no_embeddings']}).")
    return said


def few(diversity: Document) -> str:
    """Which steps were not measured."""
    left = [f"{row['label']} ({count(row['of'])})" for row in diversity["steps"] if not row["n"]]
    return f"Too few records to be measured on so many: {', '.join(left)}." if left else ""


def excerpt(text: str, most: int = _EXCERPT) -> str:
    """The beginning of a long text, "" for a short one; no character that several codes make is cut in two."""
    if len(text) <= most:
        return ""
    found: str = regex.match(rf"\X{{0,{most}}}", text).group()
    return "" if len(found) == len(text) else f"{found.rstrip()}…"


def count(value: float) -> str:
    return f"{value:,.0f}"


def share(part: float, whole: float | None) -> str:
    """A share in percent that is 0 or 100 only where it is exactly that."""
    if not whole:
        return "–"
    value = 100 * part / whole
    if 0 < value < 1:
        return f"{value:.1f} %" if value >= 0.1 else "< 0.1 %"
    if 99 < value < 100:
        return f"{value:.1f} %" if value <= 99.9 else "> 99.9 %"
    return f"{value:.0f} %"


def dollars(value: float) -> str:
    return (
        f"${value:,.2f}" if value == 0 or value >= 0.1 else f"${value:.2g}" if value >= 1e-4 else f"${value:.1e}"
    )


def duration(seconds: float) -> str:
    if seconds < 60:
        return f"{number(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def _came(document: Document) -> str:
    return "read" if document["steps"][0]["source"] else "generated"


def _prices(document: Document) -> str:
    """What an accepted record took of what can be counted."""
    cost = document["cost"]
    if not cost["asked"]:
        return ""
    each = cost["per_record"]
    parts = [f"{number(each['requests'])} requests", f"{number(each['tokens'])} tokens"]
    if each["usd"]:
        parts.append(dollars(each["usd"]))
    return ", ".join(parts[:-1]) + f" and {parts[-1]}"


def _who(document: Document) -> str:
    """Which steps removed how many, and why most."""
    told = []
    for entry in document["steps"]:
        gone = sum(entry["removed"].values())
        if gone:
            why, most = max(entry["removed"].items(), key=lambda reason: reason[1])
            told.append(
                f"{entry['label']} removed {count(gone)} ({why}{'' if most == gone else f': {count(most)}'})"
            )
    return ", ".join(told) if told else "no step says why"


def _moved(diversity: Document) -> str:
    """How the first measure of all changed from the first step that has it to the last."""
    for measure in diversity["measures"]:
        rows = [row for row in diversity["steps"] if measure["name"] in row["measures"]]
        if len(rows) > 1:
            first, last = rows[0], rows[-1]
            a, b = (row["measures"][measure["name"]] for row in (first, last))
            if (first["choices"], a["value"]) == (last["choices"], b["value"]):
                return ""
            before, after = (number(measure["scale"] * entry["value"]) for entry in (a, b))
            begun = f"after {first['label']}" if first["step"] else "in the input"
            text = f"{measure['title']} went from {before} {begun} to {after} after {last['label']}"
            text += f", on {count(diversity['n'])} records each"
            if a["low"] is None:
                return f"{text}."
            within = a["low"] <= b["value"] <= a["high"]
            return f"{text}, {'within' if within else 'outside'} what random choices of records alone gave."
    return ""


def clustered(clusters: Sequence[Document]) -> str:
    """The fullest and the emptiest cluster."""
    if not clusters:
        return ""
    full, empty = (pick(clusters, key=lambda cluster: cluster["kept"]) for pick in (max, min))
    return f"Fullest: {_cluster(full)}. Emptiest: {_cluster(empty)}."


def _cluster(cluster: Document) -> str:
    words = f" ({', '.join(cluster['words'][:3])})" if cluster["words"] else ""
    return f"cluster {cluster['number']}{words}, {count(cluster['kept'])} of {count(cluster['generated'])} kept"
