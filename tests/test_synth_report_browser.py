"""The page of a pipeline in a real browser: narrow and wide, light and dark, offline, with texts in every script."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import opened
from synth_report_sample import ARABIC, EVIL, STRANGE, pipeline

pytest.importorskip("altair", reason="altair is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")

from outspoken.synth.report import builder
from outspoken.synth.report.document import PipelineReport
from outspoken.synth.report.html_page import write_page

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]

DRAWN = "html[data-drawn]"
OWN = "keep_only_those_questions_that_have_more_than_one_number_in_them"
LUMINANCE = """(colour) => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
  return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
}"""

# The middle of a point that no other mark covers.
ON_TOP = """all => all.map(e => [e, e.getBoundingClientRect()]).map(([e, r]) => [e, r.x + r.width / 2, r.y + r.height / 2])
  .filter(([e, x, y]) => document.elementFromPoint(x, y) === e).at(-1).slice(1)"""


class Random:
    """Embeds texts at random."""

    name = "random"
    warnings = ()

    async def embed(self, texts: list[str], progress: Any = None) -> np.ndarray[Any, Any]:
        return np.random.default_rng(1).normal(size=(len(texts), 16)).astype("float32")

    async def aclose(self) -> None:
        pass


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with long names, a custom step, and strange records among the examples."""
    folder = pipeline(
        tmp_path_factory.mktemp("synth"), 240, do=f"/a/rather/long/path/to/mine.py:{OWN}", partly=EVIL
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "embedder_named", lambda name: Random())
        document = asyncio.run(builder.build_report(folder, name="分数 " + "x" * 70)).to_dict()
    strange = [{"id": str(at), "text": text, "also": {"answer": text}} for at, text in enumerate(STRANGE)]
    document["examples"]["kept"] = strange
    document["warnings"].append("y" * 300)
    document["clusters"][0].update(examples=[STRANGE[-1], ARABIC], words=["z" * 40] * 5)
    document["covered"]["topic"]["values"][0]["value"] = STRANGE[-2]
    return write_page(PipelineReport.from_dict(document), folder)


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (1280, "light"), (360, "dark"), (1280, "dark")])
async def test_the_page_works_in_a_browser(browser: Any, page: Path, width: int, scheme: str) -> None:
    async with opened(browser, page, width, 900, scheme) as seen:
        await seen.page.wait_for_selector(DRAWN)
        marks = await seen.page.eval_on_selector_all(
            ".chart", "all => all.map(e => e.querySelectorAll('svg .role-mark path').length)"
        )
        assert len(marks) == 8
        assert min(marks) >= 7
        assert await seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        wide = await seen.page.evaluate(
            """[...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, svg, pre') &&
              e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"""
        )
        assert wide == []
        cut = await seen.page.evaluate(
            """[...document.querySelectorAll('.chart')].flatMap(chart => {
              const frame = chart.getBoundingClientRect();
              return [...chart.querySelectorAll('svg text')].map(e => [e.textContent, e.getBoundingClientRect()])
                .filter(([, box]) => box.left < frame.left - 1 || box.right > frame.right + 1).map(([text]) => text);
            })"""
        )
        assert cut == []
        labels = await seen.page.eval_on_selector_all(
            ".chart svg text", f"all => all.map(e => ({LUMINANCE})(getComputedStyle(e).fill))"
        )
        dark = scheme == "dark"
        paper = await seen.page.evaluate(f"({LUMINANCE})(getComputedStyle(document.body).backgroundColor)")
        assert (paper < 0.2) == dark
        assert all((label > 0.6) == dark for label in labels)
        assert await seen.page.evaluate("window.pwned") is None
        assert seen.requests == []
        assert seen.complaints == []


async def test_the_answer_and_its_chart_are_on_the_first_screen(browser: Any, page: Path) -> None:
    async with opened(browser, page) as seen:
        await seen.page.wait_for_selector(DRAWN)
        top = "e => e.getBoundingClientRect().top"
        assert (
            await seen.page.eval_on_selector(".lead", top)
            < await seen.page.eval_on_selector("#chart-0", top)
            < 900
        )


async def test_a_long_text_is_cut_until_it_is_opened(browser: Any, page: Path) -> None:
    async with opened(browser, page, 360) as seen:
        long = seen.page.locator("#examples .record > details.long").last
        before = await long.evaluate("e => e.getBoundingClientRect().height")
        await long.locator("summary").click()
        after = await long.evaluate("e => e.getBoundingClientRect().height")
        assert after > 3 * before
        assert await long.locator("p").text_content() == STRANGE[-1]
        assert await long.locator("summary").inner_text() == ""


async def test_each_text_has_its_own_direction(browser: Any, page: Path) -> None:
    async with opened(browser, page) as seen:
        said = seen.page.locator("#examples .record > .said")
        ways = await said.evaluate_all("all => all.map(e => [e.textContent, getComputedStyle(e).direction])")
        assert dict(ways)[ARABIC] == "rtl"
        assert dict(ways)[STRANGE[2]] == "ltr"


@pytest.mark.parametrize("width", [360, 1280])
async def test_pointing_at_a_record_shows_its_text(browser: Any, page: Path, width: int) -> None:
    async with opened(browser, page, width) as seen:
        await seen.page.wait_for_selector(DRAWN)
        points = seen.page.locator("#map svg .layer_0_marks path")
        assert await points.count() == 240
        await points.last.scroll_into_view_if_needed()
        x, y = await points.evaluate_all(ON_TOP)
        await seen.page.mouse.move(x, y)
        await seen.until("document.querySelector('#vg-tooltip-element.visible') !== null")
        text, box = await seen.page.eval_on_selector(
            "#vg-tooltip-element",
            "e => [e.innerText, (({left, right}) => ({left, right}))(e.getBoundingClientRect())]",
        )
        assert "cluster" in text
        assert "kept" in text or "removed by" in text
        assert box["left"] >= 0
        assert box["right"] <= width
        keys = await seen.page.eval_on_selector_all(
            "#vg-tooltip-element td", "all => all.map(e => e.getBoundingClientRect()).map(r => [r.left, r.right])"
        )
        assert all(right <= left + 1 for (_, right), (left, _) in zip(keys[::2], keys[1::2], strict=True))


async def test_tables_sort_by_their_figures(browser: Any, page: Path) -> None:
    async with opened(browser, page) as seen:
        header = seen.page.locator("#all-steps thead th button", has_text="kept")
        await header.click()
        kept = await seen.page.eval_on_selector_all(
            "#all-steps tbody tr", "all => all.map(r => +r.cells[2].dataset.sort)"
        )
        assert kept == sorted(kept, reverse=True)
        assert kept[0] == 240


async def test_no_script_of_a_record_runs_even_unescaped(browser: Any, page: Path, tmp_path: Path) -> None:
    """Even without the escaping the page's security policy runs no script."""
    text = (
        page.read_text(encoding="utf-8")
        .replace("&lt;script&gt;", "<script>")
        .replace("&lt;/script&gt;", "</script>")
    )
    opened_up = tmp_path / "report.html"
    opened_up.write_text(text, encoding="utf-8")
    async with opened(browser, opened_up) as seen:
        await seen.page.wait_for_selector(DRAWN)
        assert await seen.page.locator("main script").count() > 0
        assert await seen.page.evaluate("window.pwned") is None
