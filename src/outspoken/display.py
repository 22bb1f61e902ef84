"""Display of a distribution: a rich table in a terminal, HTML in a notebook. A model's text is always escaped.

`outspoken.distribution` imports this module, so this module does not import its classes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["columns", "html", "plain", "rows", "summary", "table", "visible"]

_BAR = 20
_UNSAFE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]|\r(?!\n)")


def visible(text: str) -> str:
    """The text with lone surrogates and control characters, which could change the terminal, escaped."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def summary(distribution: Any) -> str:
    """One line: model and method, diversity, cost, and deviations from the request."""
    provenance = distribution.provenance
    parts = [part for part in (provenance.model, provenance.method) if part]
    parts.append(f"effective size {distribution.effective_size():.1f} of {len(distribution.candidates)}")
    parts.append(f"entropy {distribution.entropy():.2f} nats")
    if distribution.mass is not None:
        parts.append(f"stated mass {distribution.mass:.2f}")
    if provenance.requests:
        parts.append(f"{provenance.requests} request{'s' * (provenance.requests != 1)}")
        parts.append(f"{provenance.usage.total_tokens:,} tokens")
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
    from rich.text import Text

    below = [Text(line, style="yellow", overflow="fold") for line in distribution.warnings]
    below.append(Text(summary(distribution), style="dim", overflow="fold"))
    return Group(rows(distribution.candidates), *below)


def rows(candidates: Any) -> Table:
    """The table without the summary."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 1), expand=True, show_header=True, header_style="dim")
    grid.add_column("p", justify="right", no_wrap=True)
    grid.add_column("", width=_BAR)
    grid.add_column("response", ratio=1, overflow="fold")
    grid.add_column("stated", justify="right", no_wrap=True, style="dim")
    highest = max((candidate.probability for candidate in candidates), default=1.0) or 1.0
    for candidate in candidates:
        response = Text(visible(candidate.text))
        if candidate.repairs:
            response.append(f"  [{visible('; '.join(candidate.repairs))}]", style="dim italic")
        bar = ProgressBar(highest, candidate.probability, width=_BAR, complete_style="cyan", finished_style="cyan")
        grid.add_row(f"{candidate.probability:.3f}", bar, response, _stated(candidate))
    return grid


def plain(distribution: Any) -> str:
    """The table and the summary as text, as wide as the terminal."""
    import io

    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=Console().width, markup=False, emoji=False).print(table(distribution))
    return out.getvalue().rstrip("\n")


def html(distribution: Any) -> str:
    """A self-contained table for a notebook, readable on light and dark pages."""
    highest = max(candidate.probability for candidate in distribution.candidates) or 1.0
    body = "".join(_html_row(candidate, highest) for candidate in distribution.candidates)
    below = "<br>".join(map(escape, (*distribution.warnings, summary(distribution))))
    return (
        '<table class="outspoken"><thead><tr><th>p</th><th></th><th style="text-align:left">response</th>'
        f"<th>stated</th></tr></thead><tbody>{body}</tbody>"
        f'<caption style="caption-side:bottom;text-align:left;opacity:.7">{below}</caption></table>'
    )


def _html_row(candidate: Any, highest: float) -> str:
    width = 100 * candidate.probability / highest
    bar = f'<div style="width:{width:.0f}px;height:.7em;background:currentColor;opacity:.5"></div>'
    note = f' <i style="opacity:.6">[{escape("; ".join(candidate.repairs))}]</i>' if candidate.repairs else ""
    return (
        f"<tr><td>{candidate.probability:.3f}</td><td>{bar}</td>"
        f'<td dir="auto" style="text-align:start;white-space:pre-wrap">{escape(candidate.text)}{note}</td>'
        f"<td>{_stated(candidate)}</td></tr>"
    )


def _stated(candidate: Any) -> str:
    return "–" if candidate.stated is None else f"{candidate.stated:.3g}"
