"""Responses by prompt, prompts by how they were asked, and results as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from outspoken.io.dataclass_json import to_json

__all__ = ["Group", "JsonResult", "PromptGroup", "Response", "by_call", "group_label"]


class JsonResult:
    """The base of dataclasses that are part of a result."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return dict(to_json(self, methods=True))


@dataclass(frozen=True, slots=True)
class Response:
    """One response to a prompt.

    `probability` is its weight among the responses of its `call` (the request, or all requests of one execution of
    a method, that it came from), `stated` the probability that the model stated. `partition` (an equivalence
    class) and `score` (a quality) come from recordings that have them. `request` is the ledger key of its reply.
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
    """A prompt and its responses, without `failures` (missing ones) and `empty` ones, which are counted."""

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
    settings: Mapping[str, object] = field(default_factory=dict)


def by_call(responses: Iterable[Response]) -> dict[int | None, list[Response]]:
    """The responses of each call, in order; those without a call form one together."""
    calls: dict[int | None, list[Response]] = {}
    for response in responses:
        calls.setdefault(response.call, []).append(response)
    return calls


def group_label(group: Group, groups: Sequence[Group]) -> str:
    """The name of a group: what distinguishes it from the other `groups`.

    That is its method and model, and those of its settings in which groups of the same method and model differ.
    """
    models, methods = ({getattr(one, name) for one in groups} for name in ("model", "method"))
    parts = [group.method] if len(methods) > 1 or len(models) == 1 else []
    parts += [group.model] if len(models) > 1 else []
    alike = [one for one in groups if (one.method, one.model) == (group.method, group.model)]
    names = dict.fromkeys(name for one in alike for name in one.settings)
    differing = [name for name in names if len({repr(one.settings.get(name)) for one in alike}) > 1]
    parts += [f"{name}={group.settings[name]}" for name in differing if group.settings.get(name) is not None]
    return " ".join(parts) or group.method
