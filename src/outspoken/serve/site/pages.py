"""The page of the server, its files, and the reports of experiments that can be opened from it."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import stat
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from outspoken.serve.http.responses import json_answer
from outspoken.serve.openai.chat_response import error_body
from outspoken.serve.openai.fields import RequestError

__all__ = ["pages"]

# The folder itself, where it holds a report; no name of a sub-folder stands for anything but itself.
_ITSELF = "-"
_MOST_REPORTS = 1000
_LARGEST_REPORT = 64 * 2**20
_LARGEST_RESULTS = 16 * 2**20
_KINDS = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_TITLE = re.compile(r"<title>(.*?)</title>", re.IGNORECASE | re.DOTALL)

_SHARED = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# A report holds what models wrote, and scripts: it lives in an origin of its own, without a network. The client's
# key, which the page keeps, is out of its reach.
_REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads allow-popups; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_FRAME = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>report</title><script>
addEventListener("message", function shown(event) {
  if (event.source !== parent || event.origin !== location.origin || typeof event.data !== "string") return;
  removeEventListener("message", shown);
  document.open();
  document.write(event.data);
  document.close();
});
</script></head><body></body></html>
"""


def pages(reports: Path | None) -> list[Route]:
    """The routes of the page: `/`, `/site/NAME`, `/reports`, `/reports/NAME` and `/reports-frame`.

    `reports` is a folder: its own report and those of its direct sub-folders are listed, None lists none. The
    files of the page are read now and served from memory. The caller asks for a client's key where one is needed.
    """
    base = resources.files("outspoken.report") / "base.css"
    files = {"base.css": _answers(base.read_bytes(), ".css")}
    for file in (resources.files("outspoken.serve.site") / "static").iterdir():
        if (kind := os.path.splitext(file.name)[1]) in _KINDS:
            files[file.name] = _answers(file.read_bytes(), kind)
    index = files.pop("index.html")

    async def site(request: Request) -> Response:
        found = files.get(request.path_params["name"])
        return _missing("the page has no such file") if found is None else await found(request)

    # Not coroutines: the disk is read in a thread of its own.
    def listed(request: Request) -> Response:
        found = [_about(name, folder) for name, folder in _reports(reports).items()]
        return json_answer({"reports": sorted(found, key=lambda entry: -entry["modified"])}, headers=_SHARED)

    def report(request: Request) -> Response:
        folder = _reports(reports).get(request.path_params["name"])
        content = None if folder is None else _read(folder / "report.html", _LARGEST_REPORT)
        if content is None:
            return _missing("there is no such report: GET /reports lists them")
        headers = {**_SHARED, "Content-Security-Policy": _REPORT_POLICY}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    return [
        Route("/", index),
        Route("/site/{name}", site),
        Route("/reports", listed),
        Route("/reports/{name}", report),
        Route("/reports-frame", _answers(_FRAME.encode(), ".html", _REPORT_POLICY)),
    ]


def _answers(content: bytes, kind: str, policy: str = _PAGE_POLICY) -> Callable[[Request], Awaitable[Response]]:
    """What answers with a file from memory, or with 304 where the browser has it."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_SHARED, "Content-Security-Policy": policy, "ETag": tag}

    async def answer(request: Request) -> Response:
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or tag in [entry.strip().removeprefix("W/") for entry in known.split(",")]:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=f"{_KINDS[kind]}; charset=utf-8", headers=headers)

    return answer


def _missing(message: str) -> Response:
    status, body = error_body(RequestError(message, status=404, code="not_found"))
    return json_answer(body, status, headers=_SHARED)


def _reports(root: Path | None) -> Mapping[str, Path]:
    """The folders that hold a report, by their names: no other name opens anything. Links are not followed."""
    if root is None:
        return {}
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)[:_MOST_REPORTS]
    except OSError:
        return {}
    folders = {entry.name: Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)}
    folders[_ITSELF] = root
    return {
        name: folder
        for name, folder in folders.items()
        if _is_file(folder / "report.html") and _can_be_shown(name, folder / "report.html")
    }


def _can_be_shown(name: str, page: Path) -> bool:
    # A name that is not UTF-8 has half surrogates in it.
    return name.isprintable() and page.lstat().st_size <= _LARGEST_REPORT


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _read(path: Path, most: int) -> bytes | None:
    """The bytes of a file; None where it is a link, too large or cannot be read."""
    try:
        if not _is_file(path):
            return None
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            content = file.read(most + 1)
    except OSError:
        return None
    return content if len(content) <= most else None


def _about(name: str, folder: Path) -> dict[str, Any]:
    try:
        modified = (folder / "report.html").stat().st_mtime
        results = folder / "results.json"
        changed = results.lstat().st_mtime_ns if _is_file(results) else 0
    except OSError:
        modified, changed = 0.0, 0
    title, kind = _titled(folder, modified, changed)
    own = folder.name if name == _ITSELF else name
    return {"name": name, "title": title or own, "kind": kind, "modified": int(modified)}


@lru_cache(maxsize=_MOST_REPORTS)
def _titled(folder: Path, modified: float, changed: int) -> tuple[str, str]:
    """The title of a report and what it is of; read again where the files have changed since."""
    page = (_read(folder / "report.html", _LARGEST_REPORT) or b"")[:65536].decode("utf-8", "replace")
    found = _TITLE.search(page)
    title = html.unescape(found[1]).strip() if found else ""
    try:
        results = json.loads(_read(folder / "results.json", _LARGEST_RESULTS) or b"")
    except (ValueError, RecursionError):
        results = None
    if not isinstance(results, dict):
        return title, "report"
    said, kind = results.get("title"), results.get("kind", "experiment")
    return said if isinstance(said, str) and said else title, kind if isinstance(kind, str) else "report"
