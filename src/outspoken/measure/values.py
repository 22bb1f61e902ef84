"""What is measured: responses, grouped by prompt, and prompts by how they were asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Group", "PromptGroup", "Response"]


@dataclass(frozen=True, slots=True)
class Response:
    """One response to a prompt.

    `probability` is its weight among the responses of its `call` (the request, or the requests of one execution
    of a method, that it came from), `stated` what the model said. `partition` and `score` are an equivalence class
    and a quality that came with a recording. `request` is the ledger's key of its reply.
    """

    text: str
    probability: float | None = None
    stated: float | None = None
    call: int | None = None
    request: str = ""
    partition: int | None = None
    score: float | None = None


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """A prompt and what came of it. `failures` are answers that never came, `empty` those without any text;
    neither is among `responses`."""

    prompt_id: str
    prompt: str
    responses: tuple[Response, ...]
    failures: int = 0
    empty: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts that were asked in one way: by one method, of one model, with the same `settings`."""

    method: str
    model: str
    prompts: tuple[PromptGroup, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
