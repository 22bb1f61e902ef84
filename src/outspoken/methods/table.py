"""The table of methods: everything else about methods derives from its rows.

A new method of the package needs a row in `_ROWS`, its wording in each template of `outspoken/templates`, and a
generator in `outspoken.methods.steps` if its conversation is of a new kind. `register` adds one from outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from outspoken.errors import UnknownNameError, UsageError
from outspoken.reply_shape import Kind, Scale

if TYPE_CHECKING:
    from outspoken.chat import ChatRequest
    from outspoken.chat_reply import ChatReply
    from outspoken.distribution import Distribution

__all__ = ["METHODS", "Method", "Wording", "find", "register"]

ENTRY_POINTS = "outspoken.methods"
"""The group of entry points for methods of other packages: each is a `Method` or a function that returns one."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class Wording:
    """The messages of one method.

    `system` and `user` open the conversation, `more` asks for further responses. `reply` is the requested kind of
    reply; `reasoning`: the model is to reason first. Each candidate has its probability, or a number for it on
    another `scale`, under `weight_key`; `definition` explains it to the model.
    """

    reply: Kind
    user: str
    system: str = ""
    more: str = ""
    reasoning: bool = False
    weight_key: str = "probability"
    scale: Scale = "probability"
    definition: str = ""


@dataclass(frozen=True, slots=True)
class Method:
    """One way of asking a model for responses.

    `candidates_per_request` is "one" or "k" (the setting). `states_probabilities`: the model states a probability
    for each candidate. `conversation`: later requests continue the conversation of the first; otherwise each
    request starts a new one. `turns`: the setting `turns` applies, and each turn asks for k candidates.
    `server_suffix`, such as `:vs`, selects the method after a model's name on the server.

    `generator` makes the requests and reads the replies, see `outspoken.methods.steps`; None: a generator of the
    package, which the other fields determine. `wording` is used with every template that has none for this method.
    """

    name: str
    about: str
    candidates_per_request: Literal["one", "k"] = "k"
    states_probabilities: bool = False
    conversation: bool = True
    turns: bool = False
    server_suffix: str = ""
    generator: Callable[..., Generator[ChatRequest, ChatReply, Distribution]] | None = None
    wording: Wording | None = None

    @property
    def independent(self) -> bool:
        """Whether each candidate comes from a separate conversation."""
        return self.candidates_per_request == "one" and not self.conversation

    def turn_count(self, turns: int) -> int:
        """The number of turns of one call with the setting `turns`."""
        return turns if self.turns else 1

    def candidates(self, k: int, turns: int) -> int:
        """The number of candidates that one call asks for."""
        return k * self.turn_count(turns)

    def requests(self, k: int, turns: int) -> int:
        """The number of requests of one call without repetitions."""
        return k if self.candidates_per_request == "one" else self.turn_count(turns)


_ROWS = (
    Method("direct", "the prompt itself; k calls of one candidate each", "one", conversation=False),
    Method("direct-cot", "think first, then one answer; k calls of one candidate each", "one", conversation=False),
    Method("sequence", "k answers in one call, no probabilities"),
    Method("multi-turn", "one answer a turn in one conversation, k turns", "one"),
    Method(
        "vs-standard",
        "k answers and their probabilities in one call",
        states_probabilities=True,
        server_suffix=":vs",
    ),
    Method(
        "vs-cot",
        "think first, then k answers and their probabilities",
        states_probabilities=True,
        server_suffix=":vs-cot",
    ),
    Method(
        "vs-multi",
        "vs-standard, then k more a turn in the same conversation",
        states_probabilities=True,
        turns=True,
        server_suffix=":vs-multi",
    ),
)
_methods = {row.name: row for row in _ROWS}

METHODS: Mapping[str, Method] = MappingProxyType(_methods)
"""All methods by name, in the order in which they are listed. A live view: registered methods appear in it."""


def register(method: Method) -> Method:
    """Add a method, for this process; returns it.

    It can then be used by name, or as the returned object. Registering the same method again changes nothing.
    Raises `UsageError` for a name that is taken or malformed, or without a wording.
    """
    if _methods.get(method.name) == method:
        return method
    if not _NAME.fullmatch(method.name):
        raise UsageError(
            f"a method's name is lower-case letters and digits, in parts joined by hyphens, not {method.name!r}"
        )
    if method.name in _methods:
        raise UsageError(f"there is a method {method.name} already: choose another name")
    if method.wording is None:
        raise UsageError(f"the method {method.name} has no wording: pass wording=Wording(...)")
    if "{input_prompt}" not in method.wording.user:
        raise UsageError(f"the wording of {method.name} must contain {{input_prompt}} in its user part")
    _methods[method.name] = method
    return method


def find(name: str | Method) -> Method:
    """The method of that name, also from an installed package (entry points `outspoken.methods`).

    Raises `UnknownNameError` with the closest match, and `UsageError` for a `Method` that was not registered.
    """
    if isinstance(name, Method):
        if _methods.get(name.name) != name:
            raise UsageError(f"the method {name.name} is not registered: pass what register(...) returned")
        return name
    if name not in _methods:
        load_plugins()
    if name not in _methods:
        raise UnknownNameError("method", name, METHODS)
    return _methods[name]


def load_plugins() -> None:
    """Register the methods of installed packages."""
    for entry in entry_points(group=ENTRY_POINTS):
        loaded = entry.load()
        register(loaded if isinstance(loaded, Method) else loaded())
