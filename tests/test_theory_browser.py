"""The theory's pages as they stand in a real browser: narrow and wide, light and dark, offline, sliders moved."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from browser import opened
from theory_sample import BASE, BASES, DOCUMENTS, logprobs, sharpen

from outspoken.theory import report

pytest.importorskip("altair", reason="altair is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]

DRAWN = "html[data-drawn]"
CHARTS = {"typicality": 1 + len(BASES), "sharpen": 4, "gamma": 1, "levels": 4, "logprobs": 1}
LUMINANCE = """(colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
}"""
# The lines of the last column below the bars of the sliders' chart.
READINGS = """() => [...document.querySelectorAll('.sliders svg .mark-text text')].at(-1)
  .querySelectorAll('tspan').values().map(e => e.textContent).toArray()"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("theory")
    makers = {**DOCUMENTS, "logprobs": logprobs}
    return {name: report.write(make(), folder / name, pictures=False) for name, make in makers.items()}


async def _checked(browser: Any, file: Path, charts: int, width: int, scheme: str) -> None:
    async with opened(browser, file, width, 900, scheme) as seen:
        await seen.page.wait_for_selector(DRAWN)
        marks = await seen.page.eval_on_selector_all(
            ".chart", "all => all.map(e => e.querySelectorAll('svg .role-mark path, svg .role-mark line').length)"
        )
        assert len(marks) == charts
        assert min(marks) >= 3
        assert await seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        edges = await seen.page.eval_on_selector_all(
            ".chart svg", "all => all.every(e => e.getBoundingClientRect().right <= innerWidth)"
        )
        assert edges
        cut = await seen.page.evaluate(
            """[...document.querySelectorAll('.chart')].flatMap(chart => {
              const frame = chart.getBoundingClientRect();
              return [...chart.querySelectorAll('svg text')].map(e => [e.textContent, e.getBoundingClientRect()])
                .filter(([, box]) => box.left < frame.left - 1 || box.right > frame.right + 1).map(([text]) => text);
            })"""
        )
        assert cut == []
        paper = await seen.page.evaluate(f"({LUMINANCE})(getComputedStyle(document.body).backgroundColor)")
        labels = await seen.page.eval_on_selector_all(
            ".chart svg text", f"all => all.map(e => ({LUMINANCE})(getComputedStyle(e).fill))"
        )
        dark = scheme == "dark"
        assert (paper < 0.2) == dark
        assert all((label > 0.6) == dark for label in labels)
        assert await seen.page.evaluate("window.pwned") is None
        assert seen.requests == []
        assert seen.complaints == []


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1600, "dark")])
async def test_every_page_stands_in_a_browser(
    browser: Any, pages: Mapping[str, Path], width: int, scheme: str
) -> None:
    for name, file in pages.items():
        await _checked(browser, file, CHARTS[name], width, scheme)


def _sharpened(gamma: float) -> list[float]:
    logs = [gamma * math.log(share) for share in BASE.values()]
    weights = [math.exp(log - max(logs)) for log in logs]
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.2), (1.2, 0.4), (2.0, 0.02)])
async def test_the_sliders_move_bars_and_readings(
    browser: Any, pages: Mapping[str, Path], alpha: float, beta: float
) -> None:
    widths = """all => all.map(e => e.getBBox().width)"""
    async with opened(browser, pages["sharpen"]) as seen:
        await seen.page.wait_for_selector(DRAWN)
        bars = ".sliders svg .layer_1_marks path"
        before = await seen.page.eval_on_selector_all(bars, widths)
        first = await seen.page.evaluate(READINGS)
        assert first[1] == "3.85"
        inputs = seen.page.locator(".sliders input[type=range]")
        assert await inputs.count() == 2
        for at, value in enumerate((alpha, beta)):
            await inputs.nth(at).evaluate(
                "(e, value) => { e.value = value; e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change')); }",
                str(value),
            )
        gamma = 1 + alpha / beta
        await seen.until(f"({READINGS})()[1] === '{gamma:.2f}'")
        shares = _sharpened(gamma)
        entropy = -sum(share * math.log(share) for share in shares if share)
        _, _, nats, size, distinct, most = await seen.page.evaluate(READINGS)
        assert nats.replace("−", "-") in (f"{entropy:.2f}", f"{-entropy:.2f}")
        assert size == f"{math.exp(entropy):.1f}"
        assert distinct == f"{sum(1 - (1 - share) ** 100 for share in shares):.1f}"
        assert most == f"{max(shares):.1%}"
        assert await seen.page.eval_on_selector_all(bars, widths) != before
        assert seen.complaints == []


async def test_a_slider_is_moved_by_key_and_has_its_name(browser: Any, pages: Mapping[str, Path]) -> None:
    async with opened(browser, pages["sharpen"], 360) as seen:
        await seen.page.wait_for_selector(DRAWN)
        alpha = seen.page.get_by_role("slider", name="alpha")
        await alpha.press("ArrowRight")
        await seen.until(f"({READINGS})()[1] === '{1 + 0.58 / 0.2:.2f}'")
        assert await alpha.input_value() == "0.58"


async def test_the_charts_follow_a_change_of_scheme(browser: Any, pages: Mapping[str, Path]) -> None:
    async with opened(browser, pages["sharpen"]) as seen:
        await seen.page.wait_for_selector(DRAWN)
        await seen.page.emulate_media(color_scheme="dark")
        await seen.until(
            f"[...document.querySelectorAll('.chart svg text')].every(e => ({LUMINANCE})(getComputedStyle(e).fill) > 0.6)"
        )
        assert await seen.page.locator(".sliders input[type=range]").count() == 2
        assert seen.complaints == []


async def test_a_long_answer_leaves_room_for_its_figures(browser: Any, pages: Mapping[str, Path]) -> None:
    async with opened(browser, pages["sharpen"], 360) as seen:
        widest = await seen.page.eval_on_selector_all(
            "#figures-1 tbody th", "all => Math.max(...all.map(e => e.getBoundingClientRect().width))"
        )
        assert widest < 0.65 * 360


async def test_tables_sort_by_their_figures(browser: Any, pages: Mapping[str, Path]) -> None:
    async with opened(browser, pages["sharpen"]) as seen:
        header = seen.page.locator("#figures-1 thead th button", has_text="before")
        values = "all => all.map(row => Number(row.cells[1].dataset.sort))"
        orders = []
        for _ in range(2):
            await header.click()
            orders.append(await seen.page.eval_on_selector_all("#figures-1 tbody tr", values))
        assert orders[1] == orders[0][::-1] == sorted(orders[0])
        assert len(orders[0]) == len(BASE)


async def test_no_script_of_an_answer_runs_even_unescaped(browser: Any, tmp_path: Path) -> None:
    """The page's own policy stands behind the escaping: with it undone, still nothing runs."""
    page = report.write(sharpen(), tmp_path, pictures=False)
    text = page.read_text(encoding="utf-8")
    page.write_text(
        text.replace("&lt;script&gt;", "<script>").replace("&lt;/script&gt;", "</script>"), encoding="utf-8"
    )
    async with opened(browser, page) as seen:
        await seen.page.wait_for_selector(DRAWN)
        assert await seen.page.locator("main script").count() > 0
        assert await seen.page.evaluate("window.pwned") is None
        assert seen.complaints
