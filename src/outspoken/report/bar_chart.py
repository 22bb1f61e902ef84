"""Shares of answers as bars, on wide bars of what they are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outspoken.report.charts import altair, layered, over

__all__ = ["OTHERS", "bars", "folded"]

OTHERS = "all others"


def folded(shares: Mapping[str, float], top: Sequence[str]) -> dict[str, float]:
    """The shares of the top answers, and what is left of 1 for all others."""
    named = {key: shares.get(key, 0.0) for key in top}
    return {**named, OTHERS: max(0.0, 1 - sum(named.values()))}


def bars(
    rows: list[dict[str, Any]], behind: Mapping[str, float], most: float, description: str, **encodings: Any
) -> Any:
    """A bar for each row (`answer`, `share`, and what `encodings` need), in their order, on a scale up to `most`.

    `behind` are the shares of the wide bars, empty for none.
    """
    alt = altair()
    x = alt.X("share:Q", title=None, axis=alt.Axis(format="%", tickCount=4), scale=alt.Scale(domain=[0, most]))
    y = alt.Y(
        "answer:N",
        title=None,
        sort=[row["answer"] for row in rows],
        axis=alt.Axis(labelLimit=120, ticks=False, domain=False),
    )
    tooltip = [alt.Tooltip("answer:N"), alt.Tooltip("share:Q", format=".2%")]
    wide = [{"answer": key, "share": share} for key, share in behind.items()]
    layers = [
        over(wide).mark_bar(size=15, style="reference").encode(x=x, y=y, tooltip=tooltip),
        over(rows).mark_bar(size=7 if wide else 12).encode(x=x, y=y, tooltip=tooltip, **encodings),
    ]
    return layered(layers, description, 19 * len(rows))
