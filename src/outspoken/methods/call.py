"""The input of a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from outspoken.chat import Message
from outspoken.settings import Settings
from outspoken.templates import Template

__all__ = ["MethodCall"]


@dataclass(frozen=True, slots=True)
class MethodCall:
    """The input of one call of a method: the chat, the settings, and the model's abilities.

    `enforce`: the model's decoder can enforce a JSON schema. `schema` is the caller's JSON schema for structured
    candidates; `validate` turns a JSON value into the candidate's value or raises `ValueError`. `prompt_id` is the
    caller's name for the prompt, recorded in the distribution's provenance.
    """

    messages: tuple[Message, ...]
    settings: Settings
    template: Template
    model: str = ""
    enforce: bool = False
    schema: Mapping[str, Any] | None = None
    validate: Callable[[Any], Any] | None = None
    prompt_id: str = ""
