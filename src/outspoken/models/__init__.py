"""Models by name. Each kind of model is imported when its first name is asked for."""

from __future__ import annotations

import os
from functools import lru_cache
from urllib.parse import parse_qsl

from outspoken.errors import UnknownNameError, UsageError
from outspoken.models.base import Capabilities, Model

__all__ = ["DEFAULT", "Capabilities", "Model", "default_name", "resolve"]

DEFAULT = "local/smollm2"

_LOCAL_SETTINGS = ("slots", "context", "threads")


def default_name() -> str:
    """`$OUTSPOKEN_MODEL`, or the embedded model."""
    return os.environ.get("OUTSPOKEN_MODEL") or DEFAULT


def resolve(name: str) -> Model:
    """The model behind a name such as `local/smollm2`, `openai/gpt-4.1` or `http://localhost:8000/v1#model`.

    A local model takes its settings after a question mark: `local/smollm2?context=8192&slots=2&threads=4`.

    Nothing is loaded and nothing is sent yet. Raises `UsageError` for a name that means nothing, a missing key or
    a missing extra.
    """
    from outspoken.models.providers import PROVIDERS, URL_KEY_VARIABLE

    if name.startswith(("http://", "https://")):
        return _remote(name, os.environ.get(URL_KEY_VARIABLE))
    provider, _, rest = name.partition("/")
    if not rest:
        raise UsageError(
            f"the model {name!r} has no provider: write provider/name, such as {DEFAULT} or openai/gpt-4.1"
        )
    if provider == "local":
        return _local(rest)
    if provider == "replay":
        from outspoken.models.replay import Replay

        return Replay(rest)
    if row := PROVIDERS.get(provider):
        return _remote(name, *map(os.environ.get, (*row.key_variables, row.base_url_variable)))
    return _remote(name)


def _local(name: str) -> Model:
    """`smollm2`, or a path, with its settings: `smollm2?context=8192&slots=2`."""
    from outspoken.models.local import local

    source, _, query = name.partition("?")
    settings: dict[str, int] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in _LOCAL_SETTINGS:
            raise UnknownNameError("setting of a local model", key, _LOCAL_SETTINGS)
        if not value.isdecimal():
            raise UsageError(f"{key} of a local model must be a whole number, not {value!r}")
        settings[key] = int(value)
    return local(source, **settings)  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _remote(name: str, *environment: str | None) -> Model:
    """One model, hence one set of connections, for a name as long as what the environment says of it stays."""
    from outspoken.models.providers import at_provider, at_url

    if name.startswith(("http://", "https://")):
        return at_url(name)
    provider, _, rest = name.partition("/")
    return at_provider(provider, rest)
