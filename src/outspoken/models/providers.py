"""The providers of hosted models and local servers, one row each: base URL, key, capabilities."""

from __future__ import annotations

import os
from dataclasses import dataclass

from outspoken.errors import MissingKeyError
from outspoken.models.base import Capabilities

__all__ = ["PROVIDERS", "URL_KEY_VARIABLE", "Provider"]

URL_KEY_VARIABLE = "OUTSPOKEN_API_KEY"


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider.

    `key_variables` are the environment variables for its key: the first that is set counts; without any, the
    provider takes no key. The variable `base_url_variable` replaces `base_url`. `any_llm` is None for a provider
    that speaks OpenAI's chat completions; otherwise any-llm reaches it, under the same name, with these
    capabilities.
    """

    name: str
    base_url: str = ""
    key_variables: tuple[str, ...] = ()
    base_url_variable: str = ""
    max_tokens_field: str = "max_tokens"
    any_llm: Capabilities | None = None

    def key(self) -> str | None:
        """The key in the environment, None if it needs none. Raises `MissingKeyError` if the key is missing."""
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
