"""Models by name. Each kind of model is imported when its first name is asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from outspoken.errors import UnknownNameError, UsageError
from outspoken.models.base import Capabilities, Model, Score

if TYPE_CHECKING:
    from outspoken.models.openai_compatible import OpenAICompatible
    from outspoken.models.providers import Provider

__all__ = [
    "DEFAULT",
    "Capabilities",
    "Model",
    "Score",
    "at_provider",
    "at_url",
    "default_name",
    "get_model",
    "openai_compatible",
]

DEFAULT = "local/smollm2"

_LOCAL_SETTINGS = ("slots", "context", "threads")


def default_name() -> str:
    """`$OUTSPOKEN_MODEL`, or the embedded model."""
    return os.environ.get("OUTSPOKEN_MODEL") or DEFAULT


def get_model(name: str) -> Model:
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
    if provider == "transformers":
        return _transformers(rest)
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
    return local(source, **_settings(query, "a local model", _LOCAL_SETTINGS))


def _transformers(name: str) -> Model:
    """`gemma3-270m`, a path, or a name of the hub, with its settings: `gemma3-270m?dtype=float32`."""
    from outspoken.models.transformers import Transformers

    source, _, query = name.partition("?")
    return Transformers(source, **_settings(query, "a transformers model", ("dtype", "context")))


def _settings(query: str, of: str, known: Sequence[str]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in known:
            raise UnknownNameError(f"setting of {of}", key, known)
        if key != "dtype" and not value.isdecimal():
            raise UsageError(f"{key} of {of} must be a whole number, not {value!r}")
        settings[key] = value if key == "dtype" else int(value)
    return settings


@lru_cache(maxsize=64)
def _remote(name: str, *environment: str | None) -> Model:
    """One model, hence one set of connections, for a name as long as what the environment says of it stays."""
    if name.startswith(("http://", "https://")):
        return at_url(name)
    provider, _, rest = name.partition("/")
    return at_provider(provider, rest)


def at_provider(name: str, model: str) -> Model:
    """The `model` of the provider `name`.

    Raises `UnknownNameError`, `MissingKeyError`, or `MissingExtraError` where the provider needs any-llm.
    """
    from outspoken.models.providers import PROVIDERS

    if name not in PROVIDERS:
        raise UnknownNameError("provider", name, [*PROVIDERS, "local", "replay"])
    provider = PROVIDERS[name]
    if provider.any_llm is None:
        return openai_compatible(provider, model)
    from outspoken.models.any_llm import AnyLLM

    return AnyLLM(provider, model)


def openai_compatible(provider: Provider, model: str) -> OpenAICompatible:
    """The `model` of a provider that speaks OpenAI's chat completions. Raises `MissingKeyError`."""
    from outspoken.models.openai_compatible import OpenAICompatible
    from outspoken.models.providers import URL_KEY_VARIABLE

    return OpenAICompatible(
        os.environ.get(provider.base_url_variable) or provider.base_url,
        model,
        api_key=provider.key(),
        name=f"{provider.name}/{model}",
        max_tokens_field=provider.max_tokens_field,
        key_variable=provider.key_variable or URL_KEY_VARIABLE,
    )


def at_url(url: str) -> OpenAICompatible:
    """The model behind `http://localhost:8000/v1#name`, or the server's only one where no name is given.

    The one key that it may be sent is `$OUTSPOKEN_API_KEY`: a provider's key stays with the provider.
    """
    from outspoken.models.openai_compatible import OpenAICompatible
    from outspoken.models.providers import URL_KEY_VARIABLE

    base_url, _, model = url.partition("#")
    return OpenAICompatible(base_url, model, api_key=os.environ.get(URL_KEY_VARIABLE))
