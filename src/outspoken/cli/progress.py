"""Progress on standard error: a live line in a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from outspoken.batch.file import rows_in
from outspoken.cli.common import console, note
from outspoken.cli.options import QUIET
from outspoken.io.text import plural
from outspoken.report.format import dollars, duration

if TYPE_CHECKING:
    from rich.progress import TaskID

    from outspoken.batch.file import FileRun
    from outspoken.batch.ray.driver import RayRun
    from outspoken.engine.metrics import RunMetrics

__all__ = ["draw_bar", "figures", "live", "show", "step_progress"]

_LIVE_SECONDS = 0.25
_PLAIN_SECONDS = 5.0
_RATE_SECONDS = 30.0
_BAR_FROM = 60


async def live(line: Callable[[], str], bar: Callable[[], str] = str) -> None:
    """Show progress until this is cancelled: a bar and a line in a terminal, elsewhere a line every few seconds.

    With --quiet nothing is shown.
    """
    if os.environ.get(QUIET):
        return
    screen = console(stderr=True)
    if not screen.is_live:
        while True:
            await asyncio.sleep(_PLAIN_SECONDS)
            if text := line():
                screen.print(text, soft_wrap=True)
    from rich.live import Live
    from rich.text import Text

    with Live(console=screen, refresh_per_second=4, transient=True) as view:
        while True:
            text = line() if screen.width < _BAR_FROM else bar() + line()
            view.update(Text(screen.safe(text), overflow="ellipsis", no_wrap=True))
            await asyncio.sleep(_LIVE_SECONDS)


def draw_bar(share: float) -> str:
    """A bar of text, filled to this share."""
    filled = round(20 * min(1.0, share))
    return "━" * filled + "─" * (20 - filled) + "  "


def figures(metrics: RunMetrics) -> list[str]:
    """The requests, tokens, replies from the ledger and failures of a run, for a line of progress."""
    return [
        plural(metrics.requests, "request"),
        plural(metrics.usage.total_tokens, "token"),
        *([f"{metrics.from_ledger:,} from the ledger"] if metrics.from_ledger else []),
        *([f"{metrics.failed:,} failed"] if metrics.failed else []),
    ]


async def show(running: FileRun | RayRun) -> None:
    """Show the progress of a run until this is cancelled."""
    if os.environ.get(QUIET):
        return  # without counting the rows
    line = _ProgressLine(await asyncio.to_thread(rows_in, running.job.source))
    await live(lambda: line.text(running), lambda: line.bar(running))


class _ProgressLine:
    """Turns the figures of a run into a line. `total` is the approximate number of rows, None if it is unknown."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._seen: deque[tuple[float, int, int]] = deque()

    def text(self, running: FileRun | RayRun) -> str:
        metrics = running.metrics
        now, done = time.monotonic(), metrics.prompts + metrics.bad_rows
        self._seen.append((now, done, metrics.requests))
        while now - self._seen[0][0] > _RATE_SECONDS:
            self._seen.popleft()
        begun, done_then, requests_then = self._seen[0]
        seconds = max(now - begun, 1e-9)
        rows_per_second = (done - done_then) / seconds
        total = self._total and max(self._total, done)
        failed = metrics.failed + metrics.bad_rows
        parts = [
            f"{done:,}" + (f"/{total:,}" if total else "") + " prompts",
            f"{(metrics.requests - requests_then) / seconds:,.1f} requests/s",
            *([f"{duration((total - done) / rows_per_second)} left"] if total and rows_per_second > 0 else []),
            plural(metrics.usage.total_tokens, "token"),
            *([dollars(metrics.usd)] if metrics.usd else []),
            *([f"{metrics.distinct / metrics.responses:.0%} distinct"] if metrics.responses else []),
            *([f"{metrics.from_ledger:,} from the ledger"] if metrics.from_ledger else []),
            *([f"{failed:,} failed"] if failed else []),
            f"{running.under_way} under way",
            *([f"waiting {duration(pause)}: the server asks to"] if (pause := running.pause_left) >= 1 else []),
        ]
        return " · ".join(parts)

    def bar(self, running: FileRun | RayRun) -> str:
        done = running.metrics.prompts + running.metrics.bad_rows
        return draw_bar(done / self._total) if self._total else ""


@contextmanager
def step_progress() -> Iterator[Callable[..., None]]:
    """A callback (step, done, total, detail=""): a bar in a terminal, elsewhere a line every few seconds.

    A total of 0 is unknown.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    text, detail = (TextColumn(part, markup=False) for part in ("{task.description}", "{task.fields[detail]}"))
    bar = (BarColumn(),) if screen.width >= _BAR_FROM else ()
    columns = (text, *bar, MofNCompleteColumn(), detail, TimeRemainingColumn())
    shown = screen.is_live and not os.environ.get(QUIET)
    with Progress(*columns, console=screen, transient=True, disable=not shown) as bars:
        tasks: dict[str, TaskID] = {}
        last = time.monotonic()

        def update(step: str, done: int, total: int, detail: str = "") -> None:
            nonlocal last
            if step not in tasks:
                tasks[step] = bars.add_task(screen.safe(step), total=total or None, detail="")
            bars.update(tasks[step], completed=done, total=total or None, detail=screen.safe(detail))
            if not shown and time.monotonic() - last > _PLAIN_SECONDS:
                last = time.monotonic()
                note(f"{step} {done:,}/{total:,} {detail}".rstrip())

        yield update
