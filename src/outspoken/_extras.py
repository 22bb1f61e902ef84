"""Optional dependencies: imported where they are used, with an error that names the extra."""

from __future__ import annotations

import importlib
from typing import Any

from outspoken.errors import MissingExtraError

__all__ = ["need"]


def need(module: str, what: str, extra: str) -> Any:
    """Import `module` for `what`, or raise `MissingExtraError` naming the `extra` that brings it."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise MissingExtraError(what, extra) from error
