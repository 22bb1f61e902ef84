"""The wordings of the methods, in TOML files that a user can list, print and replace.

A new template is a new TOML file here. This package may import `methods.table` and plain values.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, get_args

from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.toml_library import TomlLibrary
from outspoken.methods.table import METHODS, Wording
from outspoken.reply_shape import Kind, Scale

__all__ = ["Template", "Wording", "load", "names", "source"]

_CLAUSES = ("length", "length_of_one", "tail", "full", "value", "value_of_one", "unreadable")
_WORDING = ("like", "reply", "reasoning", "system", "user", "more", "weight")
_WEIGHT = ("key", "scale", "definition")
_TOP = ("about", "base", "system", "weight", "clauses")
_LIBRARY = TomlLibrary("template", __package__, ".")
_Table = dict[str, Any]
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Template:
    """A named set of wordings, one for each method. `hash` changes whenever any word changes."""

    name: str
    about: str
    hash: str
    clauses: Mapping[str, str]
    wordings: Mapping[str, Wording]

    def wording(self, method: str) -> Wording:
        """The wording of a method: the template's, or the method's own."""
        wording = self.wordings.get(method) or METHODS[method].wording
        if wording is None:
            raise UsageError(f"the template {self.name} has no wording for {method}")
        return wording

    def fill(self, text: str, values: Mapping[str, object]) -> str:
        """Replace the names in braces by clauses and values.

        A clause without values is removed, with its line if nothing else is in it. Inserted text is not searched
        for names, so braces in a user's prompt stay as they are.
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
    return tuple(sorted(_LIBRARY.names(), key=lambda name: (name != "standard", name != "paper", name)))


def source(name: str) -> str:
    """The text of a template's file, by a shipped name or a path that ends in .toml."""
    return _LIBRARY.find(name).text


def load(name: str) -> Template:
    """Load a template by a shipped name, or by a path that ends in .toml.

    Raises `UsageError` if the file does not exist, is not TOML, or has a key that no template has.
    """
    return _load_file(name) if name.endswith(".toml") else _load_shipped(name)


@cache
def _load_shipped(name: str) -> Template:
    return _load_file(name)


def _load_file(name: str) -> Template:
    table = _resolve(name, ())
    digest = hashlib.sha256(json.dumps(table, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
    try:
        wordings = {
            name: _wording(table, name) for name, method in METHODS.items() if name in table or not method.wording
        }
        clauses = {clause: table["clauses"][clause] for clause in _CLAUSES}
    except KeyError as error:
        raise UsageError(f'the template {name} lacks {error}: add it, or begin with base = "standard"') from error
    return Template(name, table.get("about", ""), digest, clauses, wordings)


def _resolve(name: str, above: tuple[str, ...]) -> _Table:
    """The table of a template, completed with its base."""
    if name in above:
        raise UsageError(f"the template {name} is its own base")
    table = _LIBRARY.find(name).table()
    _check(name, table)
    base = table.pop("base", None)
    return _overlay(_resolve(base, (*above, name)), table) if base else table


def _overlay(under: _Table, over: _Table) -> _Table:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and "like" not in value:
            value = _overlay(below, value)
        merged[key] = value
    # A weight for all methods also replaces the base's weights for single methods.
    if "weight" in over:
        for method in METHODS:
            if method in merged and "weight" not in over.get(method, {}):
                merged[method] = {key: value for key, value in merged[method].items() if key != "weight"}
    return merged


def _check(name: str, table: _Table) -> None:
    def known(where: str, part: Any, keys: tuple[str, ...]) -> None:
        if not isinstance(part, dict):
            raise UsageError(f"the template {name}: {where} must be a table")
        for key, value in part.items():
            if key not in keys:
                raise UnknownNameError(f"key in {where} of the template {name}:", key, keys)
            wanted = (
                bool if key == "reasoning" else dict if key in ("weight", "clauses") or key in METHODS else str
            )
            if not isinstance(value, wanted):
                raise UsageError(f"the template {name}: {key} in {where} must be a {wanted.__name__}")

    known("the file", table, (*_TOP, *METHODS))
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


def _wording(table: _Table, method: str) -> Wording:
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
        system=str(part.get("system", table.get("system", ""))),
        user=user,
        more=part.get("more", ""),
        reasoning=part.get("reasoning", False),
        weight_key=weight["key"],
        scale=weight["scale"],
        definition=weight.get("definition", ""),
    )
