"""Imports on first use: optional dependencies, and the public names of a package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any

from outspoken.errors import MissingExtraError

__all__ = ["EXTRAS", "attach", "installed_version", "missing_extra", "need"]

# The extra that each of these packages needs, as its modules import third-party libraries.
EXTRAS: Mapping[str, str] = MappingProxyType(
    {
        "outspoken.experiment": "measure",
        "outspoken.measure": "measure",
        "outspoken.serve": "serve",
        "outspoken.synth": "synth",
        "outspoken.theory": "measure",
        "outspoken.training": "train",
    }
)


def need(module: str, what: str, extra: str) -> Any:
    """Import `module` for `what`, or raise `MissingExtraError` naming the `extra` that installs it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingExtraError(what, extra) from error


def installed_version(package: str) -> str | None:
    """The version of an installed package, None if it is not installed."""
    from importlib import metadata

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """The error that names the extra to install, if one of our modules imported a library that is not installed.

    None if the import was not ours, or if our package has no extra.
    """
    if error.name is None or error.name.split(".")[0] == __package__:
        return None
    package = ""
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        name = str(trace.tb_frame.f_globals.get("__name__", ""))
        if name.startswith(f"{__package__}."):
            package = ".".join(name.split(".")[:2])
        trace = trace.tb_next
    return MissingExtraError(package, EXTRAS[package]) if package in EXTRAS else None


def attach(
    package: str, homes: Mapping[str, Iterable[str]], modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package whose public names are imported on first use.

    `homes` maps each module of the package to the public names defined in it; `modules` are modules that are
    public themselves. Type checkers read the package's `__init__.pyi`, which `tools/stubs.py` writes from these
    two declarations, so a misspelt name is an error for them too.
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    public_modules = frozenset(modules)
    public = sorted(home_of)

    def get(name: str) -> Any:
        if name in public_modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        try:
            value = getattr(importlib.import_module(f"{package}.{home_of[name]}"), name)
        except ModuleNotFoundError as error:
            raise missing_extra(error) or error from error
        setattr(sys.modules[package], name, value)
        return value

    return get, lambda: public, public
