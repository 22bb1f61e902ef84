"""Digests of prompts and settings: whether a part of an output is up to date, and which job wrote the output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict

from outspoken.batch.plan import RunPlan
from outspoken.batch.sources import BadRow, PromptRow
from outspoken.io.text import shorten

__all__ = ["PartDigest", "combined", "describe_difference", "digest_of", "fingerprint", "prompt_digest"]

_SHOWN = 3
_LONGEST = 60
_CHANGED = {
    "wording": "the wording of the template has changed",
    "schema": "the JSON schema has changed",
    "first_prompt": "the prompts begin differently",
}


def fingerprint(plan: RunPlan) -> dict[str, object]:
    """The settings that the output depends on, unlike those that only affect the pace."""
    return {
        "model": plan.model.name,
        "wording": plan.template.hash,
        "schema": plan.schema,
        **asdict(plan.settings),
        **asdict(plan.run.goal),
    }


class PartDigest:
    """The digest of a part, which depends on the settings and on the rows that are added."""

    def __init__(self, settings: Mapping[str, object]) -> None:
        self._hash = hashlib.sha256(_json(settings).encode())

    def add(self, row: PromptRow) -> None:
        messages = [(message.role, message.content) for message in row.messages]
        self._hash.update(repr((row.id, messages, row.occurrence, row.columns)).encode())

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def digest_of(rows: Iterable[PromptRow | BadRow], plan: RunPlan, size: int) -> tuple[str, int]:
    """The combined digest of these rows in parts of `size`, and the number of bad rows."""
    settings, bad_rows = fingerprint(plan), 0
    digests: dict[int, PartDigest] = {}
    for row in rows:
        number = row.number // size
        if number not in digests:
            digests[number] = PartDigest(settings)
        if isinstance(row, PromptRow):
            digests[number].add(row)
        else:
            bad_rows += 1
    return combined(digest.hexdigest() for digest in digests.values()), bad_rows


def combined(digests: Iterable[str]) -> str:
    """One digest for the digests of several parts."""
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def prompt_digest(row: PromptRow | BadRow) -> str:
    """The digest of the text of one prompt ("" for a bad row)."""
    if isinstance(row, BadRow):
        return ""
    return hashlib.sha256(_json([message.to_dict() for message in row.messages]).encode()).hexdigest()[:16]


def describe_difference(earlier: Mapping[str, object], now: Mapping[str, object]) -> str:
    """The settings that differ between two runs, as a predicate ("was written with ..."); "" if none does.

    `earlier` was read from JSON. Settings that it does not have are not compared.
    """
    current: dict[str, object] = json.loads(_json(now))
    names = [name for name, value in current.items() if name in earlier and earlier[name] != value]
    if not names:
        return ""
    changes = [
        _CHANGED.get(name) or f"{name} was {_shown(earlier[name])}, is {_shown(current[name])}"
        for name in names[:_SHOWN]
    ]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"was written with other settings ({'; '.join(changes)}{more})"


def _shown(value: object) -> str:
    return "not set" if value is None else shorten(json.dumps(value, ensure_ascii=False), _LONGEST)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, default=str)
