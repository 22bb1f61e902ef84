"""The page of the server in a real browser: its content, its requests, its security."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from browser import Seen, visiting

pytest.importorskip("uvicorn", reason="uvicorn is not installed")
pytest.importorskip("starlette.applications", reason="starlette is not installed")

from page_server import BITING, EVIL, STATES, Script, serving

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("browser")]

PROMPT = "Name a US state."
BITING_PROMPT = "It's \"$HOME\" `ls` \\n \\ !x 100% \u202e{'a': 1}\n第二行 🐈‍⬛ \t'''\"\"\" ${y} </script>"
KEY = "osk-a-client's-key"


@dataclass
class House:
    """The server, its script, and a browser for it."""

    browser: Any
    address: str
    script: Script

    def page(self, width: int = 1280, **context: Any) -> AbstractAsyncContextManager[Seen]:
        return self._page(width, {"reduced_motion": "reduce", "locale": "en", **context})

    @asynccontextmanager
    async def _page(self, width: int, context: dict[str, Any]) -> AsyncIterator[Seen]:
        async with visiting(self.browser, self.address, width, **context) as seen:
            if not self.script.key:
                await seen.until("document.querySelector('#model').value !== ''")
            yield seen
            assert {urlsplit(url)[:2] for url in seen.requests if not url.startswith(("data:", "blob:"))} == {
                urlsplit(self.address)[:2]
            }


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def running(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    reports = tmp_path_factory.mktemp("reports")
    (reports / "dice").mkdir()
    (reports / "dice" / "report.html").write_text(REPORT, encoding="utf-8")
    script = Script()
    async with serving(script, reports) as address:
        yield House(browser, address, script)


@pytest.fixture
def house(running: House) -> House:
    running.script.__init__()  # type: ignore[misc]
    return running


async def asked(seen: Seen, prompt: str = PROMPT) -> None:
    await seen.page.fill("#prompt", prompt)
    await seen.page.click("#go")
    await seen.until("!document.querySelector('#draw').disabled && !document.querySelector('#go[aria-disabled]')")


async def drawn(seen: Seen, count: int) -> None:
    await seen.page.click("#draw")
    await seen.until(
        f"document.querySelectorAll('#log li').length === {count} && document.querySelector('#draw-stop').hidden"
    )


async def texts(seen: Seen, selector: str) -> list[str]:
    return list(await seen.page.locator(selector).all_inner_texts())


# The distribution.


async def test_candidates_stream_in_and_settle(house: House) -> None:
    house.script.pace = 0.12
    shares = "[...document.querySelectorAll('.segment')].map(e => Number(e.style.flexGrow))"
    async with house.page() as seen:
        page = seen.page
        await page.fill("#prompt", PROMPT)
        await page.select_option("#model", "openai/gpt-4.1")
        await page.fill("#k", "7")
        await page.fill("#tau", "0.2")
        await page.fill("#temperature", "0.9")
        await page.locator("#more summary").click()
        await page.fill("#system", "You are terse.")
        await page.click("#go")
        counts = []
        async with asyncio.timeout(20):
            while not counts or counts[-1] < len(STATES):
                now = await page.evaluate(shares)
                assert not now or sum(now) == pytest.approx(1, abs=1e-6)
                counts.append(len(now))
                await asyncio.sleep(0.02)
        assert {1, 2, 3} <= set(counts), "they came one by one"
        await seen.until("!document.querySelector('#draw').disabled")
        assert await texts(seen, ".card .text") == [text for text, _ in STATES]
        assert await texts(seen, ".card .share") == ["30.8%", "23.1%", "23.1%", "15.4%", "7.7%"]
        widths = await page.eval_on_selector_all(
            ".segment", "all => all.map(e => e.getBoundingClientRect().width)"
        )
        assert [width / sum(widths) for width in widths] == pytest.approx([s / 1.3 for _, s in STATES], abs=0.01)
        bars = await page.eval_on_selector_all(
            ".card .bar",
            "all => all.map(e => e.firstChild.getBoundingClientRect().width / e.getBoundingClientRect().width)",
        )
        assert bars == pytest.approx([s / 1.3 / 0.5 for _, s in STATES], abs=0.01), "a full bar is 50 %"
        figures = {name: " ".join((await page.inner_text(f"[data-figure={name}] dd:not(.fine)")).split())
                   for name in ("effective", "entropy", "mass", "requests", "tokens")}  # fmt: skip
        assert figures == {"effective": "4.6 of 5", "entropy": "1.52 nats", "mass": "1.30", "requests": "1",
                           "tokens": "198 120 in, 78 out"}  # fmt: skip
        assert (await page.inner_text("#live")).startswith(
            "5 answers, effective size 4.6. Most probable: New York"
        )
        assert await texts(seen, "#model option") == ["local/smollm2", "openai/gpt-4.1"]
        assert seen.complaints == []
    assert house.script.bodies("/v1/distributions") == [
        {
            "model": "openai/gpt-4.1",
            "messages": [{"role": "system", "content": "You are terse."}, {"role": "user", "content": PROMPT}],
            "temperature": 0.9,
            "outspoken": {"method": "vs-standard", "k": 7, "tau": 0.2},
            "stream": True,
        }
    ]


async def test_what_was_set_aside_missing_or_reasoned_is_shown(house: House) -> None:
    aside = [{"text": "Ontario", "probability": 0, "stated": 0.9, "repairs": ["read loosely", "above tau"]}]
    house.script.more = {
        "set_aside": aside,
        "missing": 2,
        "reasoning": ["I think of <b>maps</b>."],
        "stopped": "no budget",
    }
    async with house.page() as seen:
        await asked(seen)
        assert await seen.page.inner_text("#board-notes") == "2 answers are missing. It ended early: no budget"
        assert not await seen.page.locator("#aside li").is_visible()
        await seen.page.click("#aside summary")
        assert await texts(seen, "#aside li p") == ["Ontario", "above tau"]
        await seen.page.click("#thoughts summary")
        assert await texts(seen, "#thoughts li") == ["I think of <b>maps</b>."]


async def test_equal_texts_and_missing_probabilities(house: House) -> None:
    """A repeated text becomes one card, and a candidate without a stated probability is marked."""
    house.script.candidates = (("Ohio", 0.5), ("Ohio", 0.5), ("Iowa", None))
    merged = {"text": "Ohio", "probability": 1.0, "stated": 1.0, "repairs": ["merged 2 equal texts"]}
    house.script.more = {
        "candidates": [merged, {"text": "Iowa", "probability": 0.0, "stated": None, "repairs": []}]
    }
    async with house.page() as seen:
        await asked(seen)
        assert await texts(seen, ".card .text") == ["Ohio", "Iowa"]
        assert await texts(seen, ".card .meta") == [
            "stated 100.0% · merged 2 equal texts",
            "no probability stated",
        ]
        assert await seen.page.locator(".segment").count() == 2


@pytest.mark.parametrize("width", [320, 360, 1280, 1900])
async def test_text_of_a_model_stays_text_and_fits(house: House, width: int) -> None:
    house.script.candidates = BITING
    house.script.draws = [(EVIL, {}), ("W" * 400, {"verbalized": False})]
    async with house.page(width) as seen:
        await asked(seen, EVIL + "W" * 300)
        await drawn(seen, 1)
        await drawn(seen, 2)
        await seen.page.fill("#each", "2")
        house.script.draws = [(EVIL, {}), ("V" * 300, {})]
        await seen.page.click("#compare-go")
        await seen.until("document.querySelector('#compare-stop').hidden")
        assert EVIL in await texts(seen, ".card .text")
        assert EVIL in await texts(seen, ".given .text")
        assert await seen.page.locator("main :is(script, img)").count() == 0
        assert await seen.page.evaluate("window.pwned") is None
        right = seen.page.locator(".card .text").first
        assert await right.evaluate("e => getComputedStyle(e).direction") == "rtl"
        assert await seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        beyond = "all => all.filter(e => e.offsetParent && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML)"
        assert await seen.page.eval_on_selector_all("main :not(code, pre), main button", beyond) == []
        await seen.page.click("#open-history")
        assert EVIL[:30] in (await texts(seen, "#history-list li"))[0]
        assert seen.complaints == []


# A draw.


async def test_a_draw_happens_on_the_page(house: House) -> None:
    house.script.draws = [("Texas", {}), ("Arizona", {"probability": 0.077}), ("Texas", {"again": True})]
    house.script.answers_in = 0.4
    async with house.page(reduced_motion="no-preference") as seen:
        page = seen.page
        await asked(seen)
        await page.locator("h2").first.click()
        await page.keyboard.press("d")
        places = set()
        for _ in range(12):
            places.add(await page.evaluate("document.querySelector('.needle').style.insetInlineStart"))
            await asyncio.sleep(0.03)
        assert len(places) > 2, "the marker runs while the server draws"
        await seen.until("document.querySelectorAll('#log li').length === 1")
        await asyncio.sleep(0.1)
        needle = "(() => { const b = document.querySelector('.needle').getBoundingClientRect(); return b.left + b.width / 2 })()"
        texas = await page.locator(".segment").nth(1).bounding_box()
        assert texas["x"] <= await page.evaluate(needle) <= texas["x"] + texas["width"]
        assert await texts(seen, ".card.marked .text") == ["Texas"]
        house.script.answers_in = 0
        await drawn(seen, 2)
        await drawn(seen, 3)
        assert await texts(seen, "#log .what") == ["Texas", "Arizona", "Texas"]
        assert await texts(seen, "#log .times") == ["×2", "", ""]
        assert await page.inner_text("#outcome") == "Texas"
        about = await page.inner_text("#outcome-about")
        for part in ("23.1%", "dist-1f0c", "the pool starts again"):
            assert part in about
        assert "drawn 2 times" in await page.locator(".card").nth(1).inner_text()
        assert await page.inner_text("#log-title") == "3 draws so far"
        assert seen.complaints == []
    expected = {
        key: value for key, value in house.script.bodies("/v1/distributions")[0].items() if key != "stream"
    }
    assert house.script.bodies("/v1/chat/completions") == [expected] * 3


async def test_a_draw_from_a_newer_distribution(house: House) -> None:
    house.script.draws = [("Ohio", {"distribution": "dist-2 new", "probability": 0.4})]
    async with house.page() as seen:
        await asked(seen)
        await drawn(seen, 1)
        card = seen.page.locator(".card.elsewhere")
        assert await card.locator(".text").inner_text() == "Ohio"
        assert "from another distribution" in await card.inner_text()
        assert await seen.page.locator(".segment").count() == len(STATES)
        assert "newer distribution" in await seen.page.inner_text("#draw-error")
        await seen.page.click("#draw-error button")
        await seen.until("document.querySelectorAll('.card').length === 5")
        assert await texts(seen, "#log .what") == ["Ohio"]
        assert any(url.endswith("/v1/distributions/dist-2%20new") for url in seen.requests)


async def test_a_refusal_is_shown(house: House) -> None:
    house.script.draws = [("I cannot say.", {"verbalized": False, "probability": None})]
    async with house.page() as seen:
        await asked(seen)
        await drawn(seen, 1)
        assert (
            await seen.page.inner_text("#outcome") == "The model gave no list of answers, but this: I cannot say."
        )
        assert await seen.page.locator(".card").count() == len(STATES)


# The comparison.


async def test_direct_beside_verbalized(house: House) -> None:
    house.script.answers_in = 0.03
    async with house.page() as seen:
        await seen.page.fill("#prompt", PROMPT)
        await seen.page.fill("#each", "10")
        await seen.page.click("#compare-go")
        await seen.until("document.querySelector('#compare-stop').hidden")
        direct, verbalized = [await seen.page.inner_text(f"[data-arm={arm}]") for arm in ("direct", "verbalized")]
        assert "1 distinct of 10" in direct
        assert "3.3% semantic diversity" in direct
        assert "×10" in direct
        assert "10 distinct of 10" in verbalized
        assert "33.3% semantic diversity" in verbalized
        assert await seen.page.locator("[data-arm=verbalized] .given li").count() == 10
        assert "1 distinct of 10" in await seen.page.inner_text("#live")
        assert seen.complaints == []
    assert 1 < house.script.most_together <= 4
    bodies = house.script.bodies("/v1/chat/completions")
    plain = {"model": "local/smollm2", "messages": [{"role": "user", "content": PROMPT}]}
    assert [body for body in bodies if "outspoken" not in body] == [plain] * 10
    assert [body for body in bodies if "outspoken" in body] == [
        {**plain, "outspoken": {"method": "vs-standard", "k": 5}}
    ] * 10


async def test_a_missing_measure_has_its_reason(house: House) -> None:
    house.script.note = "no embedding model is installed: outspoken[measure]"
    async with house.page() as seen:
        await seen.page.fill("#prompt", PROMPT)
        await seen.page.fill("#each", "2")
        await seen.page.click("#compare-go")
        await seen.until("document.querySelector('#compare-stop').hidden")
        assert await texts(seen, ".note") == [house.script.note] * 2
        await seen.page.fill("#each", "51")
        await seen.page.click("#compare-go")
        assert "“Answers each”" in await seen.page.inner_text("#compare-error")


# Stopping, and failures.


async def test_whatever_runs_can_be_stopped(house: House) -> None:
    house.script.pace = house.script.answers_in = 30
    async with house.page() as seen:
        page = seen.page
        await page.fill("#prompt", PROMPT)
        await page.keyboard.press("Control+Enter")
        await seen.until(
            "document.querySelectorAll('.card').length === 0 && !document.querySelector('#stop').hidden"
        )
        await page.keyboard.press("Escape")
        await seen.until("document.querySelector('#stop').hidden")
        assert await page.inner_text("#ask-error") == "Stopped."
        await page.click("#compare-go")
        await seen.until("!document.querySelector('#compare-stop').hidden")
        await page.click("#compare-stop")
        await seen.until("document.querySelector('#compare-stop').hidden")
        assert await page.inner_text("#compare-error") == "Stopped."
        house.script.pace = 0
        await asked(seen)
        assert await page.inner_text("#ask-error") == ""
        await page.click("#draw")
        await page.click("#draw-stop")
        await seen.until("document.querySelector('#draw-stop').hidden")
        assert await page.inner_text("#draw-error") == "Stopped."
        assert await page.locator(".card.marked").count() == 0
        assert seen.complaints == []


async def test_errors_are_shown_beside_their_cause(house: House) -> None:
    async with house.page() as seen:
        page = seen.page
        await page.click("#go")
        assert await page.inner_text("#ask-error") == "Write a prompt first."
        assert await page.evaluate("document.activeElement.id") == "prompt"
        await page.fill("#prompt", PROMPT)
        await page.fill("#k", "1001")
        await page.click("#go")
        assert "“k, answers”" in await page.inner_text("#ask-error")
        await page.fill("#k", "5")
        house.script.fails_after = 2
        await page.click("#go")
        await seen.until(
            "document.querySelector('#ask-error').textContent !== '' && document.querySelector('#stop').hidden"
        )
        assert await page.inner_text("#ask-error") == "The server reports an error: the upstream is gone"
        assert await page.locator(".card").count() == 2, "what came stays"
        assert await page.locator("#draw").is_disabled()
        house.script.fails_after = None
        await asked(seen)
        assert await page.inner_text("#ask-error") == ""
        house.script.refuses = (429, "this key may ask 60 times a minute")
        await page.click("#draw")
        await seen.until("document.querySelector('#draw-error').textContent !== ''")
        assert (
            await page.inner_text("#draw-error")
            == "The server reports an error (429): this key may ask 60 times a minute"
        )
        await page.click("#compare-go")
        await seen.until("document.querySelector('#compare-stop').hidden")
        assert all("60 times a minute" in text for text in await texts(seen, ".arm-column .message"))
        await page.route("**/v1/**", lambda route: route.abort())
        await page.click("#draw")
        await seen.until("document.querySelector('#draw-error').textContent.includes('reached')")
        assert await page.inner_text("#draw-error") == "The server cannot be reached. Is it still running?"


async def test_a_stream_that_breaks_off_is_reported(house: House) -> None:
    async with house.page() as seen:
        await seen.page.route(
            "**/v1/distributions",
            lambda route: route.fulfill(body='event: candidate\rdata: {"text": "a", "stated": null,\rdata: "weights": [1]}\r\r',
                                        content_type="text/event-stream"),
        )  # fmt: skip
        await seen.page.fill("#prompt", PROMPT)
        await seen.page.click("#go")
        await seen.until("document.querySelector('#ask-error').textContent !== ''")
        assert await seen.page.inner_text("#ask-error") == "The answer ended before it was complete. Ask again."


async def test_the_key_is_requested_and_stored_for_the_tab_only(house: House) -> None:
    house.script.key = KEY
    async with house.page() as seen:
        page = seen.page
        await page.locator("#key[open]").wait_for()
        await page.fill("#key-value", "wrong")
        await page.click("#key-save")
        await seen.until("document.querySelector('#key-error').textContent !== ''")
        assert await page.inner_text("#key-error") == "the client key is missing or wrong"
        await page.fill("#key-value", KEY)
        await page.keyboard.press("Enter")
        await seen.until(
            "document.querySelector('#model').value !== '' && !document.querySelector('#reports').hidden"
        )
        assert await page.input_value("#key-value") == ""
        await asked(seen)
        house.script.key = KEY + "2"
        await page.click("#draw")
        await page.locator("#key[open]").wait_for()
        await page.fill("#key-value", KEY + "2")
        await page.click("#key-save")
        await seen.until("document.querySelectorAll('#log li').length === 1")
        kept = await page.evaluate("JSON.stringify(localStorage) + document.documentElement.outerHTML")
        assert KEY not in kept
        assert "OUTSPOKEN_KEY" in await page.inner_text("#code-key")
        for kind in ("curl", "python", "javascript"):
            await page.click(f"#tab-{kind}")
            code = await page.inner_text("#snippet-code")
            assert "OUTSPOKEN_KEY" in code
            assert KEY not in code
        assert not any(KEY in url for url in seen.requests)
        await page.reload()
        await seen.until("document.querySelector('#model').value !== ''")
        assert not await page.locator("#key").is_visible()


async def test_without_a_key_the_page_reports_that_one_is_needed(house: House) -> None:
    house.script.key = KEY
    async with house.page() as seen:
        await seen.page.locator("#key[open]").wait_for()
        await seen.page.keyboard.press("Escape")
        await seen.until("document.querySelector('#page-error').textContent !== ''")
        assert await seen.page.inner_text("#page-error") == "The server does not answer without a key."
        await seen.page.fill("#prompt", PROMPT)
        await seen.page.click("#go")
        await seen.page.locator("#key[open]").wait_for()
        await seen.page.fill("#key-value", KEY)
        await seen.page.click("#key-save")
        await seen.until("!document.querySelector('#draw').disabled")
        assert house.script.bodies("/v1/distributions")[0]["model"] == "local/smollm2"


# The code.


async def shown_code(house: House, kind: str, prompt: str) -> str:
    async with house.page() as seen:
        await seen.page.fill("#prompt", prompt)
        await seen.page.select_option("#method", "vs-cot" if kind == "curl" else "sequence")
        await seen.page.click(f"#tab-{kind}")
        return str(await seen.page.evaluate("document.querySelector('#snippet-code').textContent"))


async def ran(*command: str, folder: Path, stdin: str = "") -> str:
    environment = {**os.environ, "OUTSPOKEN_KEY": KEY, "PYTHONIOENCODING": "utf-8", "NO_PROXY": "*"}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await asyncio.wait_for(process.communicate(stdin.encode()), 60)
    assert process.returncode == 0, error.decode()
    return out.decode()


@pytest.mark.parametrize("locked", [False, True])
@pytest.mark.parametrize("kind", ["curl", "python", "javascript"])
async def test_the_code_runs(
    house: House, tmp_path: Path, request: pytest.FixtureRequest, kind: str, locked: bool
) -> None:
    house.script.draws = [("Ohio 🐈", {})]
    code = await shown_code(house, kind, BITING_PROMPT)
    if locked:
        house.script.key = KEY
        code = locked_form(code, kind)
    if kind == "curl":
        if shutil.which("curl") is None:
            pytest.skip("curl is not installed")
        said = await ran("sh", folder=tmp_path, stdin=code)
        answer = json.loads(said)["choices"][0]["message"]["content"]
    elif kind == "python":
        pytest.importorskip("openai", reason="the openai package is not installed")
        answer = (await ran(sys.executable, "-c", code, folder=tmp_path)).strip()
    else:
        (tmp_path / "node_modules").symlink_to(request.getfixturevalue("node_modules"))
        (tmp_path / "ask.mjs").write_text(code, encoding="utf-8")
        answer = (await ran("node", "ask.mjs", folder=tmp_path)).strip()
    assert answer == "Ohio 🐈"
    (body,) = house.script.bodies("/v1/chat/completions")
    assert body["messages"] == [{"role": "user", "content": BITING_PROMPT}]
    own = {"k": 5} if kind == "curl" else {"method": "sequence", "k": 5}
    assert (body["model"], body["outspoken"]) == (
        "local/smollm2:vs-cot" if kind == "curl" else "local/smollm2",
        own,
    )


def locked_form(code: str, kind: str) -> str:
    """The same code as the page shows it for a server with keys; the test of the key's dialog checks that it does."""
    if kind == "curl":
        return code.replace("  -d '", '  -H "Authorization: Bearer $OUTSPOKEN_KEY" \\\n  -d \'', 1)
    if kind == "python":
        return "import os\n" + code.replace('api_key="none"', 'api_key=os.environ["OUTSPOKEN_KEY"]')
    return code.replace('apiKey: "none"', "apiKey: process.env.OUTSPOKEN_KEY")


async def test_code_is_copied_and_the_distribution_downloaded(house: House, tmp_path: Path) -> None:
    async with house.page(permissions=["clipboard-read", "clipboard-write"], accept_downloads=True) as seen:
        page = seen.page
        await asked(seen)
        await page.click("#copy")
        await seen.until("document.querySelector('#copy').textContent === 'Copied'")
        assert await page.evaluate("navigator.clipboard.readText()") == await page.inner_text("#snippet-code")
        async with page.expect_download() as coming:
            await page.click("#download")
        download = await coming.value
        assert download.suggested_filename == "dist-1f0c.json"
        await download.save_as(tmp_path / "it.json")
        saved = json.loads((tmp_path / "it.json").read_text(encoding="utf-8"))
        assert [one["text"] for one in saved["candidates"]] == [text for text, _ in STATES]
        assert seen.complaints == []


# History, language, keyboard, reports.


async def test_history_is_kept_recalled_and_cleared(house: House) -> None:
    async with house.page() as seen:
        page = seen.page
        await asked(seen, "Question 49")
        await page.evaluate(
            """() => { const [entry] = JSON.parse(localStorage.getItem("outspoken-history"));
            localStorage.setItem("outspoken-history", JSON.stringify(Array(50).fill(entry))); }"""
        )
        for at in (50, 51):
            await asked(seen, f"Question {at}")
        await page.reload()
        await seen.until("document.querySelector('#model').value !== ''")
        await page.click("#open-history")
        rows = page.locator("#history-list li")
        assert await rows.count() == 50
        assert "Question 51" in await rows.first.inner_text()
        await rows.nth(1).locator("button").click()
        assert await page.input_value("#prompt") == "Question 50"
        assert await texts(seen, ".card .text") == [text for text, _ in STATES]
        house.script.draws = [("Texas", {})]
        await drawn(seen, 1)
        assert house.script.bodies("/v1/chat/completions")[0]["messages"][0]["content"] == "Question 50"
        await page.click("#open-history")
        await page.click("#history-clear")
        await page.click("#open-history")
        assert await rows.count() == 0
        assert "Nothing yet" in await page.inner_text("#history-note")
        assert await page.evaluate("localStorage.getItem('outspoken-history')") is None


async def test_a_browser_with_full_storage_keeps_less(house: House) -> None:
    async with house.page() as seen:
        await seen.page.evaluate(
            """() => { const real = Storage.prototype.setItem;
            Storage.prototype.setItem = function (name, value) {
              if (value.length > window.room) throw new DOMException("full", "QuotaExceededError");
              real.call(this, name, value);
            }; window.room = 3000; }"""
        )
        for at in range(4):
            await asked(seen, f"Question {at}")
        await seen.page.click("#open-history")
        shown = await texts(seen, "#history-list .what")
        assert 0 < len(shown) < 4
        assert shown[0] == "Question 3"
        assert "oldest" in await seen.page.inner_text("#history-note")
        await seen.page.keyboard.press("Escape")
        await seen.page.evaluate("window.room = 0")
        await asked(seen, "One more")
        await seen.page.click("#open-history")
        assert "stores no history" in await seen.page.inner_text("#history-note")
        assert seen.complaints == []


async def test_the_page_has_two_languages(house: House) -> None:
    places = (
        "all => all.map(e => [e.dataset.t, e.textContent]).filter(([, text]) => !text || text === 'undefined')"
    )
    async with house.page(locale="zh-TW") as seen:
        page = seen.page
        assert await page.evaluate("document.documentElement.lang") == "zh-Hant"
        assert await page.inner_text("#go span") == "提問"
        await asked(seen, "說出美國的一個州。")
        assert "有效大小" in await page.inner_text("#figures")
        assert await page.eval_on_selector_all("[data-t]", places) == []
        await page.click("#language")
        assert await page.evaluate("document.documentElement.lang") == "en"
        assert "Effective size" in await page.inner_text("#figures")
        assert not re.search("[\u4e00-\u9fff]", (await page.inner_text("main")).replace("說出美國的一個州。", ""))
        await page.reload()
        await seen.until("document.querySelector('#model').value !== ''")
        assert await page.inner_text("#go span") == "Ask"
        assert seen.complaints == []


async def test_the_page_works_by_keyboard_alone(house: House) -> None:
    house.script.draws = [("Texas", {})]
    async with house.page() as seen:
        keys, focused = seen.page.keyboard, "document.activeElement.id"
        await keys.press("Tab")
        assert await seen.page.inner_text(":focus") == "Skip to the prompt"
        assert (await seen.page.locator(":focus").bounding_box())["y"] >= 0
        await keys.press("Enter")
        assert await seen.page.evaluate(focused) == "prompt"
        await keys.type("Add d, c and ?")
        assert await seen.page.input_value("#prompt") == "Add d, c and ?"
        await keys.press("Control+Enter")
        await seen.until("!document.querySelector('#draw').disabled && document.querySelector('#stop').hidden")
        await keys.press("Escape")
        assert await seen.page.evaluate(focused) == "distribution"
        await keys.press("d")
        await seen.until("document.querySelectorAll('#log li').length === 1")
        await keys.press("?")
        assert await seen.page.locator("#help dt").count() == 8
        await keys.press("Escape")
        await keys.press("e")
        assert await seen.page.evaluate(focused) == "snippet"
        await keys.press("Shift+Tab")
        await keys.press("Shift+Tab")
        assert await seen.page.evaluate(focused) == "tab-curl"
        await keys.press("ArrowRight")
        assert await seen.page.evaluate(focused) == "tab-python"
        assert "from openai import OpenAI" in await seen.page.inner_text("#snippet-code")
        outline = await seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        await keys.press("?")
        await seen.page.uncheck("#single")
        await keys.press("Escape")
        await keys.press("/")
        assert await seen.page.evaluate(focused) != "prompt"
        assert seen.complaints == []


async def test_every_control_has_a_name(house: House) -> None:
    async with house.page() as seen:
        await asked(seen)
        nameless = """all => all.filter(e => e.offsetParent && !(e.textContent.trim() && e.matches('button, a, summary'))
            && !e.labels?.length && !e.getAttribute('aria-label')).map(e => e.outerHTML)"""
        assert await seen.page.eval_on_selector_all("button, a, summary, input, select, textarea", nameless) == []
        levels = await seen.page.eval_on_selector_all(
            "h1, h2, h3", "all => all.filter(e => e.offsetParent).map(e => e.tagName)"
        )
        assert levels.count("H1") == 1


REPORT = """<!doctype html><html lang="en"><head><title>Dice &amp; more</title></head><body><h1>Dice</h1><script>
const tried = [];
const attempt = (name, does) => { try { does(); tried.push(name); } catch { } };
attempt("parent", () => parent.document.title);
attempt("storage", () => sessionStorage.getItem("outspoken-key"));
attempt("cookie", () => document.cookie);
attempt("top", () => { top.location.href = "about:blank"; });
fetch("/about.json").then(() => tried.push("network"), () => { }).then(() => {
  document.body.append(Object.assign(document.createElement("p"), { id: "tried", textContent: "tried: " + tried.join() }));
});
</script></body></html>"""


@pytest.mark.parametrize("key", ["", KEY])
async def test_reports_open_in_their_own_origin(house: House, key: str) -> None:
    house.script.key = key
    async with house.page() as seen:
        page = seen.page
        if key:
            await page.locator("#key[open]").wait_for()
            await page.fill("#key-value", KEY)
            await page.click("#key-save")
        await page.locator("#report-list button").click()
        await page.locator("#report[open]").wait_for()
        assert await page.inner_text("#report-title") == "Dice & more"
        inside = page.frame_locator("#report-place iframe")
        assert await inside.locator("h1").inner_text() == "Dice"
        assert await inside.locator("#tried").inner_text() == "tried:"
        assert page.url == house.address
        await page.keyboard.press("Escape")
        await seen.until("document.querySelectorAll('iframe').length === 0")


async def test_the_page_works_with_the_real_server(house: House) -> None:
    """The real server, with a client key, in front of an upstream that never repeats itself."""
    for name in ("starlette", "httptools", "prometheus_client"):
        pytest.importorskip(name)
    from serve_app import scripted

    from outspoken.serve.keys import Keys, hash_key

    keys = Keys([("someone", hash_key(KEY))])
    async with (
        scripted(keys=keys) as (server, _, _),
        visiting(house.browser, server.origin + "/", locale="en", reduced_motion="reduce") as seen,
    ):
        page = seen.page
        await page.locator("#key[open]").wait_for()
        await page.fill("#key-value", KEY)
        await page.click("#key-save")
        await seen.until("document.querySelector('#model').value === 'm'")
        assert await texts(seen, "#model option") == ["m", "其他"]
        await page.fill("#k", "4")
        await asked(seen, "講一個笑話。")
        assert await texts(seen, ".card .share") == ["25.0%"] * 4
        for count in range(1, 9):
            await drawn(seen, count)
            if await page.inner_text("#draw-error"):
                break
        assert len(set(await texts(seen, "#log .what"))) == count, "none twice before all are used up"
        assert "newer distribution" in await page.inner_text("#draw-error")
        await page.click("#draw-error button")
        await seen.until("document.querySelectorAll('.card').length === 4")
        assert await page.inner_text("#outcome") in await texts(seen, ".card .text")
        await page.fill("#each", "5")
        await page.click("#compare-go")
        await seen.until("document.querySelector('#compare-stop').hidden")
        assert await texts(seen, ".arm-column .message") == ["", ""]
        assert [text.split("\n")[2] for text in await texts(seen, ".arm-column")] == ["5 distinct of 5"] * 2
        assert seen.complaints == []


# Appearance.


@pytest.mark.parametrize(
    ("width", "locale", "scheme"),
    [(1280, "en", "light"), (1280, "zh-TW", "dark"), (360, "en", "dark"), (360, "zh-TW", "light")],
)
async def test_pictures(house: House, tmp_path: Path, width: int, locale: str, scheme: str) -> None:
    """Pictures to look at, in the folder that OUTSPOKEN_SCREENSHOTS names; paper and ink differ."""
    folder = Path(os.environ.get("OUTSPOKEN_SCREENSHOTS") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    house.script.draws = [("Texas", {}), ("Colorado", {})]
    async with house.page(width, locale=locale, color_scheme=scheme) as seen:
        name = f"{width}-{scheme}-{locale}"
        await seen.page.screenshot(path=folder / f"page-empty-{name}.png", full_page=True)
        await asked(seen, PROMPT if locale == "en" else "說出美國的一個州。")
        await drawn(seen, 1)
        await drawn(seen, 2)
        await seen.page.click("#compare-go")
        await seen.until("document.querySelector('#compare-stop').hidden")
        await seen.page.screenshot(path=folder / f"page-{name}.png", full_page=True)
        luminance = """colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number);
            return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255; }"""
        paper, ink = [
            await seen.page.evaluate(f"({luminance})(getComputedStyle(document.body).{what})")
            for what in ("backgroundColor", "color")
        ]
        assert (paper < 0.2, ink > 0.7) == (scheme == "dark", scheme == "dark")
        assert await seen.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert seen.complaints == []
