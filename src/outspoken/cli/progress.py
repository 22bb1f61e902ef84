"""How work is going: a live line in a terminal, a plain line every few seconds elsewhere; on standard error."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from outspoken.batch.estimate import rows_in
from outspoken.cli.common import console

if TYPE_CHECKING:
    from outspoken.batch.file import FileRun
    from outspoken.batch.ray.driver import RayRun

__all__ = ["live", "show"]

_LIVE_SECONDS = 0.25
_PLAIN_SECONDS = 5.0
_RATE_SECONDS = 30.0


async def live(line: Callable[[], str], bar: Callable[[], str] = str) -> None:
    """A live line behind a bar in a terminal, a plain line every few seconds elsewhere; until it is cancelled."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        while True:
            await asyncio.sleep(_PLAIN_SECONDS)
            if text := line():
                screen.print(text, soft_wrap=True)
    from rich.live import Live
    from rich.text import Text

    with Live(console=screen, refresh_per_second=4, transient=True) as view:
        while True:
            view.update(Text(bar() + line(), overflow="ellipsis", no_wrap=True))
            await asyncio.sleep(_LIVE_SECONDS)


async def show(running: FileRun | RayRun) -> None:
    """How a run is going, until it is cancelled."""
    pace = _Pace(await asyncio.to_thread(rows_in, running.job.source))
    await live(lambda: pace.line(running), lambda: f"{pace.bar(running)}  ")


class _Pace:
    """Turns a run's figures into a line. `total` is about how many rows there are, None where nobody knows."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._seen: deque[tuple[float, int, int]] = deque()

    def line(self, running: FileRun | RayRun) -> str:
        meter = running.meter
        now, done = time.monotonic(), meter.prompts + meter.bad_rows
        self._seen.append((now, done, meter.requests))
        while now - self._seen[0][0] > _RATE_SECONDS:
            self._seen.popleft()
        begun, done_then, requests_then = self._seen[0]
        seconds = max(now - begun, 1e-9)
        rows_a_second, requests_a_second = (done - done_then) / seconds, (meter.requests - requests_then) / seconds
        total = self._total and max(self._total, done)
        parts = [
            f"{done:,}" + (f"/{total:,}" if total else "") + " prompts",
            f"{requests_a_second:,.1f} requests/s",
            *([f"ETA {_clock((total - done) / rows_a_second)}"] if total and rows_a_second > 0 else []),
            f"{meter.usage.total_tokens:,} tokens",
            *([f"${meter.usd:,.2f}"] if meter.usd else []),
            *([f"{meter.distinct / meter.responses:.0%} distinct"] if meter.responses else []),
            *([f"{meter.from_ledger:,} from the ledger"] if meter.from_ledger else []),
            *([f"{meter.failed + meter.bad_rows:,} failed"] if meter.failed + meter.bad_rows else []),
            f"{running.under_way} under way",
        ]
        return " · ".join(parts)

    def bar(self, running: FileRun | RayRun) -> str:
        if not self._total:
            return ""
        share = min(1.0, (running.meter.prompts + running.meter.bad_rows) / self._total)
        return "━" * round(20 * share) + "─" * (20 - round(20 * share))


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
