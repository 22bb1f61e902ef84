"""Models by name: one file for each way to reach a model, imported when a name first needs it.

`base` has the interface; the other public modules are its subclasses and the data about them (`providers`,
`weight_files`); modules with an underscore are their parts. They may import `ledger` and the layers below it, but
no method or engine. A provider that speaks OpenAI's protocol is a row in `providers`; another way to reach a model
is a subclass of `Model` in a new file, and a branch of `get_model`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar, get_type_hints
from urllib.parse import parse_qsl

from outspoken.errors import UnknownNameError, UsageError
from outspoken.models.base import Capabilities, Model, Score
from outspoken.models.providers import PROVIDERS, URL_KEY_VARIABLE, Provider

if TYPE_CHECKING:
    from outspoken.models.openai_compatible import OpenAICompatible

__all__ = [
    "DEFAULT",
    "Capabilities",
    "Model",
    "Score",
    "default_name",
    "get_model",
    "model_at_url",
    "model_of_provider",
    "openai_model",
]

Settings = TypeVar("Settings")

DEFAULT = "local/smollm2"


def default_name() -> str:
    """`$OUTSPOKEN_MODEL`, or the embedded model."""
    return os.environ.get("OUTSPOKEN_MODEL") or DEFAULT


def get_model(name: str) -> Model:
    """The model with a name such as `local/smollm2`, `openai/gpt-4.1` or `http://localhost:8000/v1#model`.

    The settings of a model in this process follow a question mark: `local/smollm2?context=8192&slots=2` (see
    `LocalSettings` and `TransformersSettings`).

    Nothing is loaded or sent yet. Raises `UsageError` for an unknown name or setting, a missing key or extra.
    """
    if not isinstance(name, str):
        raise UsageError(f"a model is a name such as {DEFAULT}, or an outspoken.Model, not {name!r}")
    if name.startswith(("http://", "https://")):
        return _remote_model(name, os.environ.get(URL_KEY_VARIABLE))
    provider, _, rest = name.partition("/")
    if not rest:
        raise UsageError(
            f"the model {name!r} has no provider: write provider/name, such as {DEFAULT} or openai/gpt-4.1"
        )
    source, _, query = rest.partition("?")
    if provider == "local":
        from outspoken.models.local import LocalSettings, local

        return local(source, _settings(LocalSettings, query, "a local model"))
    if provider == "transformers":
        from outspoken.models.transformers import Transformers, TransformersSettings

        return Transformers(source, _settings(TransformersSettings, query, "a transformers model"))
    if provider == "replay":
        from outspoken.models.replay import Replay

        return Replay(rest)
    if row := PROVIDERS.get(provider):
        return _remote_model(name, *map(os.environ.get, (*row.key_variables, row.base_url_variable)))
    return _remote_model(name)


def _settings(kind: type[Settings], query: str, model: str) -> Settings:
    """The settings in the query of a name: the fields of the dataclass `kind`, each a whole number or a text."""
    types = get_type_hints(kind)
    values: dict[str, object] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in types:
            raise UnknownNameError(f"setting of {model}", name, types)
        if types[name] is not str and not value.isdecimal():
            raise UsageError(f"{name} of {model} must be a whole number, not {value!r}")
        values[name] = value if types[name] is str else int(value)
    return kind(**values)


@lru_cache(maxsize=64)
def _remote_model(name: str, *environment: str | None) -> Model:
    """One model, and so one set of connections, for each name and the values of its environment variables."""
    if name.startswith(("http://", "https://")):
        return model_at_url(name)
    provider, _, model = name.partition("/")
    return model_of_provider(provider, model)


def model_of_provider(name: str, model: str) -> Model:
    """The `model` of the provider `name`.

    Raises `UnknownNameError`, `MissingKeyError`, or `MissingExtraError` if the provider needs any-llm.
    """
    if name not in PROVIDERS:
        raise UnknownNameError("provider", name, [*PROVIDERS, "local", "replay"])
    provider = PROVIDERS[name]
    if provider.any_llm is None:
        return openai_model(provider, model)
    from outspoken.models.any_llm import AnyLLM

    return AnyLLM(provider, model)


def openai_model(provider: Provider, model: str) -> OpenAICompatible:
    """The `model` of a provider that speaks OpenAI's chat completions. Raises `MissingKeyError`."""
    from outspoken.models.openai_compatible import OpenAICompatible

    return OpenAICompatible(
        os.environ.get(provider.base_url_variable) or provider.base_url,
        model,
        api_key=provider.key(),
        name=f"{provider.name}/{model}",
        max_tokens_field=provider.max_tokens_field,
        key_variable=provider.key_variable or URL_KEY_VARIABLE,
    )


def model_at_url(url: str) -> OpenAICompatible:
    """The model at `http://localhost:8000/v1#name`; without a name, the server's only model.

    Only the key in `$OUTSPOKEN_API_KEY` is sent there: a provider's key is sent to that provider alone.
    """
    from outspoken.models.openai_compatible import OpenAICompatible

    base_url, _, model = url.partition("#")
    return OpenAICompatible(base_url, model, api_key=os.environ.get(URL_KEY_VARIABLE))
