"""The page of the server, its files, and the reports of experiments that it can open."""

from __future__ import annotations

import hashlib
import html
import json
import os
import re
import stat
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from outspoken.serve.http.responses import json_response
from outspoken.serve.openai.errors import RequestError, error_body

__all__ = ["Site"]

# The name of the folder's own report. A sub-folder with this name is not listed.
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
# A report contains scripts and text of models: it runs in a separate origin without network access, and cannot
# reach the client's key in the page.
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


class Site:
    """The page, its files, and the reports in a folder.

    `reports` is the folder: its own report and those of its direct sub-folders are listed; None lists none. The
    files of the page are served from memory. `Middleware` checks the client's key.
    """

    def __init__(self, reports: Path | None) -> None:
        self.reports = reports
        base = resources.files("outspoken.report") / "base.css"
        self._files = {"base.css": _StaticFile(base.read_bytes(), ".css")}
        for file in (resources.files("outspoken.serve") / "static").iterdir():
            if (kind := os.path.splitext(file.name)[1]) in _KINDS:
                self._files[file.name] = _StaticFile(file.read_bytes(), kind)
        self._index = self._files.pop("index.html")
        self._frame = _StaticFile(_FRAME.encode(), ".html", _REPORT_POLICY)

    async def index(self, request: Request) -> Response:
        return self._index.response(request)

    async def frame(self, request: Request) -> Response:
        return self._frame.response(request)

    async def file(self, request: Request) -> Response:
        file = self._files.get(request.path_params["name"])
        return _missing("the page has no such file") if file is None else file.response(request)

    async def list_reports(self, _: Request) -> Response:
        return json_response({"reports": await run_in_threadpool(_listed, self.reports)}, headers=_SHARED)

    async def report(self, request: Request) -> Response:
        content = await run_in_threadpool(_report, self.reports, request.path_params["name"])
        if content is None:
            return _missing("there is no such report: GET /reports lists them")
        headers = {**_SHARED, "Content-Security-Policy": _REPORT_POLICY}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)


class _StaticFile:
    def __init__(self, content: bytes, kind: str, policy: str = _PAGE_POLICY) -> None:
        self._content = content
        self._type = f"{_KINDS[kind]}; charset=utf-8"
        self._tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        self._headers = {**_SHARED, "Content-Security-Policy": policy, "ETag": self._tag}

    def response(self, request: Request) -> Response:
        """The content, or status 304 if the browser has it."""
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or self._tag in [tag.strip().removeprefix("W/") for tag in known.split(",")]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, media_type=self._type, headers=self._headers)


def _missing(message: str) -> Response:
    status, body = error_body(RequestError(message, status=404, code="not_found"))
    return json_response(body, status, headers=_SHARED)


def _reports(root: Path | None) -> dict[str, Path]:
    """The folders that contain a report, by name. Links are not followed."""
    if root is None:
        return {}
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)[:_MOST_REPORTS]
    except OSError:
        return {}
    folders = {entry.name: Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)}
    folders[_ITSELF] = root
    pages = {name: _status(folder / "report.html") for name, folder in folders.items()}
    # A name that is not UTF-8 contains halves of surrogate pairs.
    return {
        name: folders[name]
        for name, page in pages.items()
        if page is not None and page.st_size <= _LARGEST_REPORT and name.isprintable()
    }


def _report(root: Path | None, name: str) -> bytes | None:
    folder = _reports(root).get(name)
    return None if folder is None else _read(folder / "report.html", _LARGEST_REPORT)


def _listed(root: Path | None) -> list[dict[str, Any]]:
    """The reports as the page lists them, the newest first."""
    entries = []
    for name, folder in _reports(root).items():
        page, results = _status(folder / "report.html"), _status(folder / "results.json")
        modified = page.st_mtime if page else 0.0
        title, kind = _title_and_kind(folder, modified, results.st_mtime_ns if results else 0)
        own = folder.name if name == _ITSELF else name
        entries.append({"name": name, "title": title or own, "kind": kind, "modified": int(modified)})
    return sorted(entries, key=lambda entry: -entry["modified"])


@lru_cache(maxsize=_MOST_REPORTS)
def _title_and_kind(folder: Path, modified: float, changed: int) -> tuple[str, str]:
    """The title and the kind of a report, read again if one of the other arguments changes."""
    page = (_read(folder / "report.html", _LARGEST_REPORT) or b"")[:65536].decode("utf-8", "replace")
    match = _TITLE.search(page)
    title = html.unescape(match[1]).strip() if match else ""
    try:
        results = json.loads(_read(folder / "results.json", _LARGEST_RESULTS) or b"")
    except (ValueError, RecursionError):
        results = None
    if not isinstance(results, dict):
        return title, "report"
    stated, kind = results.get("title"), results.get("kind", "experiment")
    return stated if isinstance(stated, str) and stated else title, kind if isinstance(kind, str) else "report"


def _status(path: Path) -> os.stat_result | None:
    """The status of a file; None if it does not exist, or is something else, such as a link."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _read(path: Path, most: int) -> bytes | None:
    """The bytes of a file; None if it is a link, too large or unreadable."""
    if _status(path) is None:
        return None
    try:
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            content = file.read(most + 1)
    except OSError:
        return None
    return content if len(content) <= most else None
