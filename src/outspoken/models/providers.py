"""Where models are reached, as data: one row for each provider, and how a row becomes a model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outspoken.errors import MissingKeyError, UnknownNameError
from outspoken.models.base import Capabilities, Model

if TYPE_CHECKING:
    from outspoken.models.openai_compatible import OpenAICompatible

__all__ = ["PROVIDERS", "URL_KEY_VARIABLE", "Provider", "at_provider", "at_url", "openai_compatible"]

URL_KEY_VARIABLE = "OUTSPOKEN_API_KEY"


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    `key_variables` are the environment variables that may hold its key (the first that is set counts; none means
    that it takes no key), `base_url_variable` the one that replaces `base_url`. `any_llm` is what can be done
    where the provider is reached through any-llm, by its name there; None means that it speaks OpenAI's chat
    completions itself.
    """

    name: str
    base_url: str = ""
    key_variables: tuple[str, ...] = ()
    base_url_variable: str = ""
    max_tokens_field: str = "max_tokens"
    any_llm: Capabilities | None = None

    def key(self) -> str | None:
        """The key in the environment. Raises `MissingKeyError` where one is needed and none is set."""
        for variable in self.key_variables:
            if value := os.environ.get(variable, "").strip():
                return value
        if self.key_variables:
            raise MissingKeyError(self.name, self.key_variable)
        return None

    @property
    def key_variable(self) -> str:
        return " or ".join(self.key_variables)


_ROWS = (
    Provider(
        "openai",
        "https://api.openai.com/v1",
        ("OPENAI_API_KEY",),
        base_url_variable="OPENAI_BASE_URL",
        max_tokens_field="max_completion_tokens",
    ),
    Provider("openrouter", "https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)),
    Provider("groq", "https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
    Provider("deepseek", "https://api.deepseek.com", ("DEEPSEEK_API_KEY",)),
    Provider("xai", "https://api.x.ai/v1", ("XAI_API_KEY",)),
    Provider("together", "https://api.together.xyz/v1", ("TOGETHER_API_KEY",)),
    Provider("fireworks", "https://api.fireworks.ai/inference/v1", ("FIREWORKS_API_KEY",)),
    Provider("cerebras", "https://api.cerebras.ai/v1", ("CEREBRAS_API_KEY",)),
    Provider("nvidia", "https://integrate.api.nvidia.com/v1", ("NVIDIA_API_KEY",)),
    Provider("ollama", "http://localhost:11434/v1"),
    Provider("lmstudio", "http://localhost:1234/v1"),
    Provider("vllm", "http://localhost:8000/v1"),
    Provider("llamacpp", "http://localhost:8080/v1"),
    Provider(
        "anthropic",
        key_variables=("ANTHROPIC_API_KEY",),
        any_llm=Capabilities(schema=True, extra=True, stream=True),
    ),
    Provider(
        "gemini",
        key_variables=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        any_llm=Capabilities(schema=True, seed=True, extra=True, stream=True),
    ),
)
PROVIDERS = {row.name: row for row in _ROWS}


def at_provider(name: str, model: str) -> Model:
    """The `model` of the provider `name`.

    Raises `UnknownNameError`, `MissingKeyError`, or `MissingExtraError` where the provider needs any-llm.
    """
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

    base_url, _, model = url.partition("#")
    return OpenAICompatible(base_url, model, api_key=os.environ.get(URL_KEY_VARIABLE))
