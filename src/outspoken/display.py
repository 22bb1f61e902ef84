"""Display of a distribution: a rich table in a terminal, HTML in a notebook. A model's text is always escaped.

`outspoken.distribution` imports this module, so this module does not import its classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from outspoken.io.text import plural
from outspoken.terminal import SafeLine, ShareBar, TextTable, visible, writable

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["columns", "html", "plain", "rows", "summary", "table"]


def summary(distribution: Any) -> str:
    """One line: model and method, diversity, cost, and deviations from the request."""
    provenance = distribution.provenance
    parts = [part for part in (provenance.model, provenance.method) if part]
    parts.append(f"effective size {distribution.effective_size():.1f} of {len(distribution.candidates)}")
    parts.append(f"entropy {distribution.entropy():.2f} nats")
    if distribution.mass is not None:
        parts.append(f"stated mass {distribution.mass:.2f}")
    if provenance.requests:
        parts.append(plural(provenance.requests, "request"))
        tokens = provenance.usage.total_tokens
        parts.append(plural(tokens, "token") if tokens else "tokens not reported")
    if cost := distribution.cost:
        parts.append(f"${cost:.2g}")
    counts = {
        "missing": distribution.missing,
        "refused": distribution.refused,
        "cut off": distribution.cut_off,
        "set aside": len(distribution.set_aside),
    }
    parts += [f"{count:,} {what}" for what, count in counts.items() if count]
    return " · ".join(parts)


def columns(distribution: Any) -> dict[str, Sequence[object]]:
    """The columns of a table with a row for each candidate."""
    source, count = distribution.provenance, len(distribution.candidates)
    prompt = source.prompt if isinstance(source.prompt, str) else json.dumps(source.prompt, ensure_ascii=False)
    return {
        "prompt": [prompt] * count,
        "method": [source.method] * count,
        "model": [source.model] * count,
        "rank": range(1, count + 1),
        "text": distribution.texts,
        "probability": distribution.probabilities,
        "stated": [candidate.stated for candidate in distribution.candidates],
        "repairs": [list(candidate.repairs) for candidate in distribution.candidates],
    }


def table(distribution: Any) -> Group:
    """A renderable for rich: one row with a bar for each candidate; warnings and the summary below."""
    from rich.console import Group

    below = [SafeLine(line, "yellow") for line in distribution.warnings]
    return Group(rows(distribution.candidates), *below, SafeLine(summary(distribution), "dim"))


def rows(candidates: Any) -> TextTable:
    """The table without the summary."""
    grid = TextTable(style="dim", expand=True)
    for title in ("p", "", "response", "stated"):
        grid.add_column(title, right=title in ("p", "stated"))
    highest = max((candidate.probability for candidate in candidates), default=1.0) or 1.0
    for candidate in candidates:
        response = (candidate.text, f"[{'; '.join(candidate.repairs)}]" if candidate.repairs else "")
        bar = ShareBar(candidate.probability / highest, "cyan")
        grid.add_row(f"{candidate.probability:.3f}", bar, response, _stated(candidate))
    return grid


def plain(distribution: Any) -> str:
    """The table and the summary as text, as wide as the terminal and in characters that its encoding has."""
    import io
    import sys

    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=Console().width, markup=False, emoji=False).print(table(distribution))
    return writable(out.getvalue().rstrip("\n"), getattr(sys.stdout, "encoding", None) or "utf-8")


def html(distribution: Any) -> str:
    """A self-contained table for a notebook, readable on light and dark pages."""
    highest = max(candidate.probability for candidate in distribution.candidates) or 1.0
    body = "".join(_html_row(candidate, highest) for candidate in distribution.candidates)
    below = "<br>".join(escape(visible(line)) for line in (*distribution.warnings, summary(distribution)))
    return (
        '<table class="outspoken"><thead><tr><th>p</th><th></th><th style="text-align:left">response</th>'
        f"<th>stated</th></tr></thead><tbody>{body}</tbody>"
        f'<caption style="caption-side:bottom;text-align:left;opacity:.7">{below}</caption></table>'
    )


def _html_row(candidate: Any, highest: float) -> str:
    width = 100 * candidate.probability / highest
    bar = f'<div style="width:{width:.0f}px;height:.7em;background:currentColor;opacity:.5"></div>'
    text, repairs = escape(visible(candidate.text)), escape(visible("; ".join(candidate.repairs)))
    note = f' <i style="opacity:.6">[{repairs}]</i>' if repairs else ""
    return (
        f"<tr><td>{candidate.probability:.3f}</td><td>{bar}</td>"
        f'<td dir="auto" style="text-align:start;white-space:pre-wrap">{text}{note}</td>'
        f"<td>{_stated(candidate)}</td></tr>"
    )


def _stated(candidate: Any) -> str:
    return "–" if candidate.stated is None else f"{candidate.stated:.3g}"
