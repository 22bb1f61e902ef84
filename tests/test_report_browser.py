"""The report of an experiment in a real browser: narrow and wide, light and dark, offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import opened
from results_sample import METHODS, PROMPTS, sample

from outspoken.experiment import report
from outspoken.experiment.results import ExperimentResults

pytest.importorskip("altair", reason="altair is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]

DRAWN = "html[data-drawn]"
LUMINANCE = """(colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
}"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(ExperimentResults.from_dict(sample()), tmp_path_factory.mktemp("report"), pictures=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1600])
async def test_the_page_in_a_browser(browser: Any, page: Path, width: int, scheme: str) -> None:
    async with opened(browser, page, width, 900, scheme) as seen:
        await seen.page.wait_for_selector(DRAWN)
        marks = await seen.page.eval_on_selector_all(
            ".chart",
            "all => all.filter(e => e.offsetParent).map(e => e.querySelectorAll('svg .mark-symbol path, svg .mark-rect path').length)",
        )
        assert len(marks) == 4 + 2 * len(METHODS) + 4
        assert min(marks) >= len(METHODS)
        inside = await seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert inside
        wide = await seen.page.eval_on_selector_all(
            ".chart svg", "all => all.every(e => e.getBoundingClientRect().right <= innerWidth)"
        )
        assert wide
        paper = await seen.page.evaluate(f"({LUMINANCE})(getComputedStyle(document.body).backgroundColor)")
        ink = await seen.page.evaluate(f"({LUMINANCE})(getComputedStyle(document.body).color)")
        labels = await seen.page.eval_on_selector_all(
            ".chart svg text", f"all => all.map(e => ({LUMINANCE})(getComputedStyle(e).fill))"
        )
        dark = scheme == "dark"
        assert (paper < 0.2, ink > 0.7) == (dark, dark)
        assert all((label > 0.6) == dark for label in labels)
        assert await seen.page.evaluate("window.pwned") is None
        assert seen.requests == []
        assert seen.complaints == []


async def test_the_charts_follow_a_change_of_scheme(browser: Any, page: Path) -> None:
    async with opened(browser, page) as seen:
        await seen.page.wait_for_selector(DRAWN)
        await seen.page.emulate_media(color_scheme="dark")
        await seen.until(
            f"[...document.querySelectorAll('.chart svg text')].every(e => ({LUMINANCE})(getComputedStyle(e).fill) > 0.6)"
        )
        assert seen.complaints == []


async def test_headers_sort_by_click_and_by_key(browser: Any, page: Path) -> None:
    async with opened(browser, page) as seen:
        column = "all => all.map(row => row.cells[1].querySelector('.value').firstChild.textContent)"
        rows, header = "#figures-1 tbody tr", seen.page.locator("#figures-1 thead th").nth(1)
        await header.locator("button").click()
        falling = [float(text) for text in await seen.page.eval_on_selector_all(rows, column)]
        assert falling == sorted(falling, reverse=True)
        assert await header.get_attribute("aria-sort") == "descending"
        await header.locator("button").press("Enter")
        rising = [float(text) for text in await seen.page.eval_on_selector_all(rows, column)]
        assert rising == falling[::-1]
        assert await header.get_attribute("aria-sort") == "ascending"
        await seen.page.locator("#figures-1 thead th button").first.press("Space")
        names = await seen.page.eval_on_selector_all(rows, "all => all.map(row => row.cells[0].innerText.trim())")
        assert names == sorted(METHODS)
        assert await header.get_attribute("aria-sort") is None


async def test_missing_values_sort_last_in_both_directions(browser: Any, page: Path) -> None:
    async with opened(browser, page) as seen:
        header = seen.page.locator("#all-costs thead th button", has_text="dollars").first
        for _ in range(2):
            await header.click()
            shown = await seen.page.eval_on_selector_all(
                "#all-costs tbody tr", "all => all.map(row => row.cells[9].innerText)"
            )
            assert shown[-14:] == ["–"] * 14


async def test_prompts_and_comparisons_are_chosen(browser: Any, page: Path) -> None:
    async with opened(browser, page) as seen:
        await seen.page.wait_for_selector(DRAWN)
        await seen.page.locator("select[data-shows=example]").select_option("2")
        assert (
            await seen.page.locator("[data-part=example]:visible blockquote").inner_text() == PROMPTS["jokes"][2]
        )
        right = seen.page.locator("[data-part=example]:visible li", has_text="القهوة").first
        assert await right.evaluate("e => getComputedStyle(e).direction") == "rtl"
        await seen.page.locator("select[data-shows=distribution]").select_option("1")
        await seen.until("document.querySelectorAll('.chart svg').length === 36")
        visible = seen.page.locator("#all-comparisons tbody tr:visible")
        assert await visible.count() == 4 * 6
        assert (await visible.first.inner_text()).split("\n")[0].startswith("direct-cot − direct")
        await seen.page.locator("select[data-key=pairs]").select_option("")
        assert await visible.count() == 4 * 21
        assert seen.complaints == []


async def test_reliability_charts_are_square_and_their_table_sorts(browser: Any, page: Path) -> None:
    async with opened(browser, page, 360) as seen:
        await seen.page.wait_for_selector(DRAWN)
        sides = await seen.page.eval_on_selector_all(
            "#calibration .chart svg .background",
            "all => all.map(e => e.getBBox()).filter(box => box.width > 100).map(box => [box.width, box.height])",
        )
        assert len(sides) >= 4
        assert all(width == height for width, height in sides)
        values = "all => all.map(row => Number(row.cells[2].dataset.sort))"
        await seen.page.locator("#all-calibration thead th button", has_text="total variation").click()
        falling = await seen.page.eval_on_selector_all("#all-calibration tbody tr", values)
        assert len(falling) == 12
        assert falling == sorted(falling, reverse=True)


async def test_pairs_without_a_comparison_are_reported(browser: Any, tmp_path: Path) -> None:
    results = sample()
    bases = {group["id"] for group in results["groups"] if group["arm"] == "direct"}
    results["comparisons"] = [
        entry
        for entry in results["comparisons"]
        if entry["measure"] != results["primary"] or not {entry["a"], entry["b"]} & bases
    ]
    async with opened(
        browser, report.write(ExperimentResults.from_dict(results), tmp_path, pictures=False)
    ) as seen:
        message = seen.page.get_by_text("This measure compares no such pair")
        assert await message.is_visible()
        await seen.page.locator("select[data-key=pairs]").select_option("others")
        assert not await message.is_visible()
        assert await seen.page.locator("#all-comparisons tbody tr:visible").count() == 4 * 15


async def test_no_script_of_a_response_runs_even_unescaped(browser: Any, page: Path, tmp_path: Path) -> None:
    """The page's policy backs up the escaping: without the escaping, still nothing runs."""
    broken = tmp_path / "broken.html"
    broken.write_text(
        page.read_text(encoding="utf-8")
        .replace("&lt;script&gt;", "<script>")
        .replace("&lt;/script&gt;", "</script>"),
        encoding="utf-8",
    )
    async with opened(browser, broken) as seen:
        await seen.page.wait_for_selector(DRAWN)
        assert await seen.page.locator("main script").count() > 0
        assert await seen.page.evaluate("window.pwned") is None
        assert seen.complaints
