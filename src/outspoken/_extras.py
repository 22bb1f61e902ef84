"""Optional dependencies: imported where they are used, with an error that names the extra."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any

from outspoken.errors import MissingExtraError

__all__ = ["EXTRAS", "missing_extra", "need"]

# The extra that a package of ours needs as a whole: its modules import third-party libraries at their top.
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
    """Import `module` for `what`, or raise `MissingExtraError` naming the `extra` that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingExtraError(what, extra) from error


def missing_extra(error: ModuleNotFoundError) -> MissingExtraError | None:
    """What to say where a module of ours imports a library that is not installed: the extra of its package.

    None where the import was not of ours, or its package has no extra.
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
