"""A real browser without a window: the system's Chromium, driven by playwright."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)


@dataclass
class Seen:
    """A page that is open, what it asked for beyond its own file, and what it complained of."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    async def until(self, condition: str) -> None:
        """Wait for a condition in JavaScript. Playwright's own waiting makes code from text, which a page's policy
        may forbid."""
        async with asyncio.timeout(30):
            while not await self.page.evaluate(condition):
                await asyncio.sleep(0.05)


@asynccontextmanager
async def browsing() -> AsyncIterator[Any]:
    """A browser; the test is skipped where there is none."""
    api = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(_NAMES)} is on the path")
    async with api.async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=program, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def opened(
    browser: Any, file: Path, width: int = 1280, height: int = 900, scheme: str = "light"
) -> AsyncIterator[Seen]:
    """The page of a file; every request is recorded, and every error, also of the console."""
    async with visiting(browser, file.resolve().as_uri(), width, height, color_scheme=scheme) as seen:
        seen.requests.remove(seen.page.url)
        yield seen


@asynccontextmanager
async def visiting(
    browser: Any, address: str, width: int = 1280, height: int = 900, **context: Any
) -> AsyncIterator[Seen]:
    """The page at an address, in a browser without a past; `context` are further settings of playwright's."""
    own = await browser.new_context(viewport={"width": width, "height": height}, **context)
    try:
        page = await own.new_page()
        page.set_default_timeout(30_000)
        seen = Seen(page)
        page.on("request", lambda request: seen.requests.append(request.url))
        page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        page.on(
            "console",
            lambda said: seen.complaints.append(said.text) if said.type in ("error", "warning") else None,
        )
        await page.goto(address)
        yield seen
    finally:
        await own.close()
