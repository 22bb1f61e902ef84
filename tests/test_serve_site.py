"""The routes of the page without a browser: files, policies, and access to reports only."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

starlette = pytest.importorskip("starlette.applications", reason="starlette is not installed")

from page_server import site_routes  # noqa: E402


class Answer:
    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def get(reports: Path | None, path: str, method: str = "GET", **headers: str) -> Answer:
    """The response to a request whose path no client has normalised."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "server": ("localhost", 80),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    await starlette.Starlette(routes=site_routes(reports))(scope, receive, send)
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], found, b"".join(message.get("body", b"") for message in sent[1:]))


def put(folder: Path, title: str = "A title", results: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.html").write_text(f"<!doctype html><title>{title}</title><p>{title}", encoding="utf-8")
    if results is not None:
        (folder / "results.json").write_text(results, encoding="utf-8")
    return folder


async def test_the_page_has_a_strict_policy() -> None:
    page = await get(None, "/")
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    for part in (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    ):
        assert part in policy
    assert "unsafe" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["referrer-policy"] == "no-referrer"
    text = page.body.decode()
    assert "<style" not in text
    assert " style=" not in text
    assert " onclick" not in text
    assert text.count("<script") == 1
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("name", ["main.js", "words.js", "site.css", "base.css"])
async def test_its_files_have_types_and_tags(name: str) -> None:
    file = await get(None, f"/site/{name}")
    kind = "text/css" if name.endswith("css") else "text/javascript"
    assert (file.status, file.headers["content-type"]) == (200, f"{kind}; charset=utf-8")
    assert file.headers["x-content-type-options"] == "nosniff"
    tag = file.headers["etag"]
    for known in (tag, f'"other", W/{tag}', "*"):
        again = await get(None, f"/site/{name}", if_none_match=known)
        assert (again.status, again.body) == (304, b"")
    assert (await get(None, f"/site/{name}", if_none_match='"other"')).status == 200
    head = await get(None, f"/site/{name}", "HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(len(file.body)))


@pytest.mark.parametrize(
    "name", ["index.html", "__init__.py", "nothing.js", "..", "../site.py", "%2e%2e/site.py", "main.js/", ""]
)
async def test_no_other_files_are_served(name: str) -> None:
    assert (await get(None, f"/site/{name}")).status in (404, 307)


async def test_no_script_creates_html_from_text() -> None:
    for name in ("main.js", "api.js", "board.js", "code.js", "compare.js", "words.js"):
        script = (await get(None, f"/site/{name}")).body.decode()
        for way in (
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "Function(",
        ):
            assert way not in script, (name, way)


async def test_reports_are_listed_newest_first_with_their_titles(tmp_path: Path) -> None:
    put(tmp_path / "dice", "x", json.dumps({"title": "擲骰子 🎲", "format": 1}))
    put(tmp_path / "theory", "Typicality &amp; bias", json.dumps({"kind": "typicality"}))
    put(tmp_path / "odd", "Odd", "{broken")
    put(tmp_path / "list", "A list", "[1]")
    (tmp_path / "untitled").mkdir()
    (tmp_path / "untitled" / "report.html").write_bytes(b"\xff\xfe no title")
    (tmp_path / "empty").mkdir()
    (tmp_path / "stray.txt").write_text("x")
    for age, name in enumerate(("dice", "theory", "odd", "list", "untitled")):
        os.utime(tmp_path / name / "report.html", (1_000_000 - age, 1_000_000 - age))
    found = (await get(tmp_path, "/reports")).json["reports"]
    assert [(one["name"], one["title"], one["kind"]) for one in found] == [
        ("dice", "擲骰子 🎲", "experiment"),
        ("theory", "Typicality & bias", "typicality"),
        ("odd", "Odd", "report"),
        ("list", "A list", "report"),
        ("untitled", "untitled", "report"),
    ]
    assert found[0]["modified"] == 1_000_000


async def test_a_folder_may_be_a_report_itself(tmp_path: Path) -> None:
    own = put(tmp_path / "mine", "Mine")
    put(own / "mine", "Inner")
    found = (await get(own, "/reports")).json["reports"]
    assert {one["title"] for one in found} == {"Mine", "Inner"}
    for one in found:
        assert one["title"].encode() in (await get(own, f"/reports/{one['name']}")).body


async def test_a_changed_report_is_read_again(tmp_path: Path) -> None:
    put(tmp_path / "one", "x", json.dumps({"title": "Before"}))
    assert (await get(tmp_path, "/reports")).json["reports"][0]["title"] == "Before"
    put(tmp_path / "one", "x", json.dumps({"title": "After"}))
    os.utime(tmp_path / "one" / "results.json", (2_000_000, 2_000_000))
    assert (await get(tmp_path, "/reports")).json["reports"][0]["title"] == "After"


async def test_a_report_is_served_in_a_sandbox(tmp_path: Path) -> None:
    put(tmp_path / "one")
    report = await get(tmp_path, "/reports/one")
    frame = await get(None, "/reports-frame")
    for answer in (report, frame):
        policy = answer.headers["content-security-policy"]
        assert answer.status == 200
        assert policy.startswith("sandbox ")
        assert "allow-same-origin" not in policy
        assert "default-src 'none'" in policy
        assert "connect-src" not in policy
    assert b"<title>A title</title>" in report.body


async def test_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "root"
    put(root / "fine")
    put(tmp_path / "secret", "SECRET")
    put(tmp_path, "SECRET")
    put(root / "fine" / "deep", "SECRET")
    (root / "link").symlink_to(tmp_path / "secret", target_is_directory=True)
    (root / "linked").mkdir()
    (root / "linked" / "report.html").symlink_to(tmp_path / "secret" / "report.html")
    (root / "partial").mkdir()
    (root / "partial" / "report.html").write_text("<title>Partial</title>")
    (root / "partial" / "results.json").symlink_to(
        put(tmp_path / "s2", "x", '{"title": "SECRET"}') / "results.json"
    )
    os.mkfifo(root / "fine" / "results.json")
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "report.html")
    listed = (await get(root, "/reports")).json["reports"]
    assert {(one["name"], one["title"]) for one in listed} == {("fine", "A title"), ("partial", "Partial")}
    ways = [
        "..",
        ".",
        "../secret",
        "%2e%2e",
        "..%2fsecret",
        "link",
        "linked",
        "pipe",
        "fine/deep",
        "fine/",
        "-",
        "",
        "\x00",
        "fine\x00",
    ]
    for way in (*ways, str(tmp_path / "secret"), "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")):
        answer = await get(root, f"/reports/{way}")
        assert answer.status in (404, 307), way
        assert b"SECRET" not in answer.body


@pytest.mark.parametrize("missing", [False, True])
async def test_without_reports_there_are_none(tmp_path: Path, missing: bool) -> None:
    folder = tmp_path / "absent" if missing else None
    assert (await get(folder, "/reports")).json == {"reports": []}
    answer = await get(folder, "/reports/one")
    assert answer.status == 404
    assert answer.json["error"]["code"] == "not_found"
