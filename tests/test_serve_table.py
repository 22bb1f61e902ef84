"""The table of addresses: each row is routed, guarded and documented as it says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

for name in ("starlette", "uvicorn", "httptools", "prometheus_client"):
    pytest.importorskip(name)

from serve_app import Running, running, scripted  # noqa: E402

from outspoken.chat import ChatRequest  # noqa: E402
from outspoken.chat_reply import ChatReply  # noqa: E402
from outspoken.models.base import Model  # noqa: E402
from outspoken.serve.backend import OneModel  # noqa: E402
from outspoken.serve.keys import ClientLimits, Keys, hash_key  # noqa: E402
from outspoken.serve.openai.chat_request import OWN_FIELDS, SETTINGS  # noqa: E402
from outspoken.serve.routes.address import Address, document, openapi_path  # noqa: E402
from outspoken.serve.routes.table import ADDRESSES  # noqa: E402
from outspoken.settings import Settings  # noqa: E402

ROWS = ADDRESSES.addresses
DOCS = Path(__file__).parent.parent / "docs" / "serve.md"


class Silent(Model):
    name = "test/m"

    async def complete(self, request: ChatRequest) -> ChatReply:
        return ChatReply("…")


def filled(row: Address) -> str:
    """A path that belongs to this row."""
    return re.sub(r"\{\w+(:\w+)?\}", "x", row.path)


async def call(server: Running, method: str, row: Address, key: str = "") -> tuple[int, str, Any]:
    """Status, text and headers of a response; the body of the request is an empty object."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with server.session.request(
        method, server.origin + filled(row), data=b"{}", headers=headers
    ) as response:
        return response.status, await response.text(), response.headers


def test_the_rows_are_consistent() -> None:
    assert len({row.path for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.summary.endswith(".")
        assert ADDRESSES.find(filled(row)) is row
        assert row.label in (row.path, row.path.partition("{")[0] + "…")
    assert ADDRESSES.find("/nothing") is None


async def test_every_row_is_routed() -> None:
    async with scripted() as (server, _, _):
        for row in ROWS:
            for method in row.methods:
                status, text, _ = await call(server, method, row)
                assert status != 405, (row.path, method)
                assert "nothing exists at" not in text, (row.path, method)
        async with server.session.get(server.origin + "/metrics") as response:
            labels = set(re.findall(r'outspoken_requests_total\{route="([^"]+)"', await response.text()))
        assert {row.label for row in ROWS} == labels
    async with running(OneModel(Silent())) as server:
        for row in ROWS:
            status, text, headers = await call(server, "PUT", row)
            if row.needs_upstream:
                assert (status, "nothing exists at" in text) == (404, True)
            else:
                assert status == 405, row.path
                assert {*headers["allow"].split(", ")} - {"HEAD"} == {*row.methods}


async def test_every_row_is_guarded() -> None:
    limits = ClientLimits(per_minute=1, burst=1)
    keys = Keys([(f"client{at}", hash_key(f"key {at}")) for at in range(len(ROWS))], limits)
    async with scripted(keys=keys) as (server, _, _):
        for at, row in enumerate(ROWS):
            method = row.methods[0]
            status, _, _ = await call(server, method, row)
            assert (status != 401) == row.open, row.path
            first, _, _ = await call(server, method, row, f"key {at}")
            assert first not in (401, 429), row.path
            second, _, _ = await call(server, method, row, f"key {at}")
            assert (second == 429) == (not row.open), row.path


def test_every_row_is_documented() -> None:
    described: Any = document(ROWS)["paths"]
    assert list(described) == [openapi_path(row) for row in ROWS if row.response is not None]
    for row in ROWS:
        if row.response is None:
            continue
        operations = described[openapi_path(row)]
        assert [*operations] == [method.lower() for method in row.methods]
        for operation in operations.values():
            assert operation["summary"] == row.summary
            assert ("requestBody" in operation) == (row.request is not None)
            assert (operation.get("security") == []) == row.open
    page = DOCS.read_text(encoding="utf-8")
    listed = page.partition("| address | client key | what it does |\n|---|---|---|\n")[2].partition("\n\n")[0]
    assert listed.splitlines() == [docs_line(row) for row in ROWS if row.listed]


def docs_line(row: Address) -> str:
    """The row in the list of docs/serve.md."""
    method = "" if row.needs_upstream else f"{row.methods[0]} "
    text = " ".join(part for part in (row.summary, row.details) if part)
    return f"| `{method}{openapi_path(row)}` | {'no' if row.open else 'yes'} | {text} |"


def test_the_fields_of_a_request_are_the_declared_settings() -> None:
    for name, field in SETTINGS.items():
        assert field.metadata is Settings.__dataclass_fields__[name].metadata
    described: Any = document(ROWS)["paths"]["/v1/distributions"]["post"]
    properties = described["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert [*properties["outspoken"]["properties"]] == [*OWN_FIELDS]
    assert {*SETTINGS} - {*OWN_FIELDS} <= {*properties}
    k = properties["outspoken"]["properties"]["k"]
    assert (k["type"], k["minimum"], k["maximum"]) == (["integer", "null"], 1, 1000)
    assert "vs-standard" in properties["outspoken"]["properties"]["method"]["enum"]
    page = DOCS.read_text(encoding="utf-8")
    for name in OWN_FIELDS:
        assert re.search(rf"^\| [^|]*`{name}`", page, re.MULTILINE), f"docs/serve.md lacks the field {name}"
