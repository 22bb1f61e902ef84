"""Public names that are imported when they are first used, so that importing a package stays cheap."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from outspoken._extras import missing_extra

__all__ = ["attach"]


def attach(
    package: str, homes: Mapping[str, Iterable[str]], modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package: `homes` says in which of its modules its public names live, and
    `modules` are those of its modules that are public themselves."""
    home_of = {name: home for home, names in homes.items() for name in names}
    whole = frozenset(modules)

    def get(name: str) -> Any:
        if name in whole:
            return importlib.import_module(f"{package}.{name}")
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
        except ModuleNotFoundError as error:
            raise missing_extra(error) or error from error
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted(sys.modules[package].__all__)

    return get, listed
