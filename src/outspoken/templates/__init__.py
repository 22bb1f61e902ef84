"""The wordings of the methods: TOML files that a user can list, print and replace."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from outspoken.errors import UnknownNameError, UsageError
from outspoken.reply_shape import Kind, Scale

__all__ = ["METHODS", "Template", "Wording", "load", "names", "source"]

METHODS = ("direct", "direct-cot", "sequence", "multi-turn", "vs-standard", "vs-cot", "vs-multi")

_CLAUSES = ("length", "length_of_one", "tail", "full", "value", "value_of_one", "unreadable")
_WORDING = ("like", "reply", "reasoning", "system", "user", "more", "weight")
_WEIGHT = ("key", "scale", "definition")
_TOP = ("about", "base", "system", "weight", "clauses", *METHODS)
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Wording:
    """What one method says: `system` and `user` open the conversation, `more` asks for further responses."""

    reply: Kind
    system: str
    user: str
    more: str
    reasoning: bool
    weight_key: str
    scale: Scale
    definition: str


@dataclass(frozen=True, slots=True)
class Template:
    """A named set of wordings, one a method. `hash` changes whenever any word does."""

    name: str
    about: str
    hash: str
    clauses: Mapping[str, str]
    wordings: Mapping[str, Wording]

    def fill(self, text: str, values: Mapping[str, object]) -> str:
        """Put clauses and values in the place of their names in braces.

        A clause whose values are not given is dropped, with its line where it stands alone. What is put in is
        never read again, so braces in a user's prompt stay as they are.
        """
        words, schema, tau = (values.get(name) is not None for name in ("words", "schema", "tau"))
        clauses = self.clauses
        worded = _with_clauses(
            text,
            (
                ("length", clauses["length"] if words else ""),
                ("length_of_one", clauses["length_of_one"] if words else ""),
                ("value", clauses["value"] if schema else ""),
                ("value_of_one", clauses["value_of_one"] if schema else ""),
                ("sampling", clauses["tail" if tau else "full"]),
            ),
        )
        return _PLACEHOLDER.sub(lambda found: str(values.get(found[1], found[0])), worded)


@lru_cache(maxsize=256)
def _with_clauses(text: str, clauses: tuple[tuple[str, str], ...]) -> str:
    for name, clause in clauses:
        mark = "{" + name + "}"
        if clause:
            text = text.replace(mark, clause)
        else:
            text = re.sub(rf"(?m)^[ \t]*{re.escape(mark)}[ \t]*(\n|\Z)| ?{re.escape(mark)}", "", text)
    return text.strip("\n")


def names() -> tuple[str, ...]:
    """The names of the templates that ship with the package."""
    files = resources.files(__package__).iterdir()
    shipped = sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))
    return tuple(sorted(shipped, key=lambda name: (name != "standard", name != "paper", name)))


def source(name: str) -> str:
    """The text of a template's file: a shipped name, or a path."""
    if name.endswith(".toml"):
        try:
            return Path(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"cannot read the template {name}: {error}") from error
    if name not in names():
        raise UnknownNameError("template", name, names(), see="or give a file: ./mine.toml")
    return resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def load(name: str) -> Template:
    """Load a shipped template by its name, or a user's by its path, which ends in .toml.

    Raises `UsageError` where the file is not there, is not TOML, or says something that no template has.
    """
    return _load_file(name) if name.endswith(".toml") else _load_shipped(name)


@cache
def _load_shipped(name: str) -> Template:
    return _load_file(name)


def _load_file(name: str) -> Template:
    table = _resolve(name, ())
    digest = hashlib.sha256(json.dumps(table, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
    try:
        wordings = {method: _wording(table, method) for method in METHODS}
        clauses = {clause: table["clauses"][clause] for clause in _CLAUSES}
    except KeyError as error:
        raise UsageError(f'the template {name} lacks {error}: add it, or start with base = "standard"') from error
    return Template(name, table.get("about", ""), digest, clauses, wordings)


def _resolve(name: str, above: tuple[str, ...]) -> dict[str, Any]:
    """The table of a template with what its base says put under it."""
    if name in above:
        raise UsageError(f"the template {name} is its own base")
    try:
        table = tomllib.loads(source(name))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the template {name} is not TOML: {error}") from error
    _check(name, table)
    base = table.pop("base", None)
    return _overlay(_resolve(base, (*above, name)), table) if base else table


def _overlay(under: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and "like" not in value:
            value = _overlay(below, value)
        merged[key] = value
    # A weight that a template states for all methods also replaces the ones its base states for some.
    if "weight" in over:
        for method in METHODS:
            if method in merged and "weight" not in over.get(method, {}):
                merged[method] = {key: value for key, value in merged[method].items() if key != "weight"}
    return merged


def _check(name: str, table: Mapping[str, Any]) -> None:
    def known(where: str, part: Any, keys: tuple[str, ...]) -> None:
        if not isinstance(part, dict):
            raise UsageError(f"the template {name}: {where} must be a table")
        for key, value in part.items():
            if key not in keys:
                raise UnknownNameError(f"key in {where} of the template {name}:", key, keys)
            wanted = bool if key == "reasoning" else dict if key in ("weight", "clauses", *METHODS) else str
            if not isinstance(value, wanted):
                raise UsageError(f"the template {name}: {key} in {where} must be a {wanted.__name__}")

    known("the file", table, _TOP)
    known("[weight]", table.get("weight", {}), _WEIGHT)
    known("[clauses]", table.get("clauses", {}), _CLAUSES)
    for method in METHODS:
        part = table.get(method, {})
        known(f"[{method}]", part, _WORDING)
        known(f"weight of [{method}]", part.get("weight", {}), _WEIGHT)
        if part.get("reply", "text") not in get_args(Kind):
            raise UnknownNameError(f"reply in [{method}] of the template {name}:", part["reply"], get_args(Kind))
        if "like" in part and part["like"] not in METHODS:
            raise UnknownNameError(f"method in [{method}] of the template {name}:", part["like"], METHODS)


def _wording(table: Mapping[str, Any], method: str) -> Wording:
    part = dict(table[method])
    if "like" in part:
        part = {**table[part.pop("like")], **part}
    weight = {**table["weight"], **part.get("weight", {})}
    if weight["scale"] not in get_args(Scale):
        raise UnknownNameError("scale of a weight", weight["scale"], get_args(Scale))
    user = part.get("user", "{input_prompt}")
    if "{input_prompt}" not in user:
        raise UsageError(f"the wording of {method} must name {{input_prompt}} in its user part")
    return Wording(
        reply=part["reply"],
        system=part.get("system", table.get("system", "")),
        user=user,
        more=part.get("more", ""),
        reasoning=part.get("reasoning", False),
        weight_key=weight["key"],
        scale=weight["scale"],
        definition=weight.get("definition", ""),
    )
