"""TOML files that ship with the package, and files of the same kind that users write."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.text import read_text

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

__all__ = ["TomlFile", "TomlLibrary", "TomlTable", "check_table", "parse"]

TomlTable = dict[str, Any]
"""The top level of a TOML file."""

_MAX_SIZE = 2**22
_KINDS = {bool: "true or false", dict: "a table", int: "a whole number", list: "a list", str: "text"}


@dataclass(frozen=True, slots=True)
class TomlFile:
    """The text of a file. `where` names it in errors, `stem` is its name without the suffix, and paths in it are
    relative to `folder`."""

    where: str
    stem: str
    text: str
    folder: Path

    def table(self) -> TomlTable:
        """The parsed text. Raises `UsageError` if it is not TOML."""
        return parse(self.text, self.where)


class TomlLibrary:
    """The TOML files in a folder of a package; errors call each a `kind` ("task")."""

    def __init__(self, kind: str, package: str, folder: str = "library") -> None:
        self._kind, self._package, self._name = kind, package, folder

    @cached_property
    def _folder(self) -> Traversable:
        from importlib import resources  # takes milliseconds, and most commands read no such file

        return resources.files(self._package) / self._name

    def names(self) -> tuple[str, ...]:
        """The names of the shipped files."""
        files = (file.name for file in self._folder.iterdir())
        return tuple(sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml")))

    def find(self, name: str | Path) -> TomlFile:
        """A shipped file by its name, or a user's by its path, which ends in .toml.

        Raises `UsageError` for a file that cannot be read and for an unknown name.
        """
        where = str(name)
        if where.endswith(".toml"):
            path = Path(where)
            return TomlFile(where, path.stem, read_text(path, self._kind, most=_MAX_SIZE), path.parent)
        if where not in self.names():
            raise UnknownNameError(self._kind, where, self.names(), see="or give a file: ./mine.toml")
        text = (self._folder / f"{where}.toml").read_text(encoding="utf-8")
        return TomlFile(f"{self._kind} {where}", where, text, Path())


def check_table(table: Mapping[str, object], kinds: Mapping[str, type | None], where: str) -> None:
    """Raise `UsageError` for a key that is not among `kinds`, and for a value of another type (None: any)."""
    for key, value in table.items():
        if key not in kinds:
            raise UnknownNameError(f"key in {where}:", key, kinds)
        if (kind := kinds[key]) is not None and type(value) is not kind:
            raise UsageError(f"{where}: {key} must be {_KINDS[kind]}, not {value!r}")


def parse(text: str, where: str) -> TomlTable:
    """The table in a text, which `where` names. Raises `UsageError` if it is not TOML."""
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{where} is not TOML: {reason}") from error
