"""How a distribution looks: a rich table in a terminal, HTML in a notebook. Model output is never markup."""

from __future__ import annotations

import html as _html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Group

__all__ = ["html", "plain", "rows", "summary", "table"]

_BAR = 20


class _Candidate(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def probability(self) -> float: ...
    @property
    def stated(self) -> float | None: ...
    @property
    def repairs(self) -> tuple[str, ...]: ...


class _Distribution(Protocol):
    @property
    def candidates(self) -> Sequence[Any]: ...
    @property
    def missing(self) -> int: ...
    @property
    def set_aside(self) -> Sequence[Any]: ...
    @property
    def mass(self) -> float | None: ...
    @property
    def provenance(self) -> Any: ...
    def entropy(self) -> float: ...
    def effective_size(self) -> float: ...


def summary(distribution: _Distribution) -> str:
    """One line: how it was made, how spread out it is, and what is not as it was asked for."""
    made = distribution.provenance
    parts = [part for part in (made.model, made.method) if part]
    parts.append(f"effective size {distribution.effective_size():.1f} of {len(distribution.candidates)}")
    parts.append(f"entropy {distribution.entropy():.2f} nats")
    if distribution.mass is not None:
        parts.append(f"stated mass {distribution.mass:.2f}")
    if made.requests:
        parts.append(f"{made.requests} request{'s' * (made.requests != 1)}")
        parts.append(f"{made.usage.total_tokens:,} tokens")
    if distribution.missing:
        parts.append(f"{distribution.missing} missing")
    if distribution.set_aside:
        parts.append(f"{len(distribution.set_aside)} set aside")
    return " · ".join(parts)


def table(distribution: _Distribution) -> Group:
    """A renderable for rich: a row a candidate with its bar, and the summary below."""
    from rich.console import Group
    from rich.text import Text

    return Group(rows(distribution.candidates), Text(summary(distribution), style="dim", overflow="fold"))


def rows(candidates: Sequence[_Candidate]) -> Any:
    """The table alone."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 1), expand=True, show_header=True, header_style="dim")
    grid.add_column("p", justify="right", no_wrap=True)
    grid.add_column("", width=_BAR)
    grid.add_column("response", ratio=1, overflow="fold")
    grid.add_column("stated", justify="right", no_wrap=True, style="dim")
    top = max((candidate.probability for candidate in candidates), default=1.0) or 1.0
    for candidate in candidates:
        shown = Text(candidate.text)
        if candidate.repairs:
            shown.append(f"  [{'; '.join(candidate.repairs)}]", style="dim italic")
        stated = "–" if candidate.stated is None else f"{candidate.stated:.3g}"
        bar = ProgressBar(top, candidate.probability, width=_BAR, complete_style="cyan", finished_style="cyan")
        grid.add_row(f"{candidate.probability:.3f}", bar, shown, stated)
    return grid


def plain(distribution: _Distribution) -> str:
    """The table as text, as wide as the terminal."""
    import io

    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=Console().width, markup=False, emoji=False).print(table(distribution))
    return out.getvalue().rstrip("\n")


def html(distribution: _Distribution) -> str:
    """A self-contained table for a notebook, readable on light and dark pages."""
    top = max(candidate.probability for candidate in distribution.candidates) or 1.0
    body = "".join(_row(candidate, top) for candidate in distribution.candidates)
    return (
        '<table class="outspoken"><thead><tr><th>p</th><th></th><th style="text-align:left">response</th>'
        f"<th>stated</th></tr></thead><tbody>{body}</tbody>"
        f'<caption style="caption-side:bottom;text-align:left;opacity:.7">{_html.escape(summary(distribution))}'
        "</caption></table>"
    )


def _row(candidate: _Candidate, top: float) -> str:
    stated = "–" if candidate.stated is None else f"{candidate.stated:.3g}"
    width = 100 * candidate.probability / top
    bar = f'<div style="width:{width:.0f}px;height:.7em;background:currentColor;opacity:.5"></div>'
    note = ""
    if candidate.repairs:
        note = f' <i style="opacity:.6">[{_html.escape("; ".join(candidate.repairs))}]</i>'
    return (
        f"<tr><td>{candidate.probability:.3f}</td><td>{bar}</td>"
        f'<td dir="auto" style="text-align:start;white-space:pre-wrap">{_html.escape(candidate.text)}{note}</td>'
        f"<td>{stated}</td></tr>"
    )
