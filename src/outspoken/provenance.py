"""How a distribution was produced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from outspoken.chat_reply import Usage

__all__ = ["Provenance"]


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a distribution was produced, in enough detail to produce it again.

    `prompt` is the user's text or list of messages, `prompt_id` its name in a run over many prompts.
    `template_hash` identifies the exact wording behind the template's name. `structured` is true if the model's
    decoder enforced the shape of every reply.
    """

    prompt: str | tuple[Mapping[str, str], ...] = field(default="", hash=False)
    prompt_id: str = ""
    model: str = ""
    method: str = ""
    template: str = ""
    template_hash: str = ""
    k: int = 0
    turns: int = 1
    tau: float | None = None
    words: int | None = None
    sampling: Mapping[str, object] = field(default_factory=dict, hash=False)
    structured: bool = False
    usage: Usage = Usage()
    requests: int = 0
    version: str = ""

    @property
    def seed(self) -> int | None:
        seed = self.sampling.get("seed")
        return seed if isinstance(seed, int) else None

    def to_dict(self) -> dict[str, Any]:
        entry = {each.name: getattr(self, each.name) for each in fields(self)}
        if not isinstance(self.prompt, str):
            entry["prompt"] = [dict(message) for message in self.prompt]
        if not self.prompt_id:
            del entry["prompt_id"]
        return entry | {"sampling": dict(self.sampling), "seed": self.seed, "usage": self.usage.to_dict()}

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Provenance:
        """The provenance that `to_dict` wrote; unknown keys are ignored and missing ones get their defaults."""
        known = {each.name: entry[each.name] for each in fields(cls) if each.name in entry}
        prompt, usage = entry.get("prompt", ""), entry.get("usage", {})
        counts = {each.name: usage.get(each.name, 0) for each in fields(Usage)}
        return cls(
            **known | {"prompt": prompt if isinstance(prompt, str) else tuple(prompt), "usage": Usage(**counts)}
        )
