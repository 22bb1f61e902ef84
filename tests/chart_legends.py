"""The legends of a chart in Vega-Lite's JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def parts(document: Any) -> Iterator[dict[str, Any]]:
    if isinstance(document, dict):
        yield document
        for each in document.values():
            yield from parts(each)
    elif isinstance(document, list):
        for each in document:
            yield from parts(each)


def check_legends(document: dict[str, Any]) -> int:
    """Every legend lists the values of its field in the data, in the order of the scale. Returns how many there are."""
    rows = [row for part in parts(document) for rows in part.get("datasets", {}).values() for row in rows]
    rows += [row for part in parts(document) for row in part.get("values", ()) if isinstance(row, dict)]
    checked = 0
    for part in parts(document):
        for channel in ("color", "shape"):
            encoding = part.get("encoding", {}).get(channel)
            domain = (encoding or {}).get("scale", {}).get("domain") if isinstance(encoding, dict) else None
            if domain and encoding.get("legend", {}) is not None:
                drawn = {row.get(encoding["field"]) for row in rows}
                assert encoding["legend"]["values"] == [one for one in domain if one in drawn]
                checked += 1
    return checked
