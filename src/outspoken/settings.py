"""The settings of one call: the one place where each is declared.

From these fields come Python's arguments (`outspoken._options`, written by `make generated`), the options of the
command line, the fields of a server's request, and what `help()` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any, Literal

from outspoken._options import Options
from outspoken.chat import Sampling
from outspoken.errors import UnknownNameError, UsageError
from outspoken.methods.table import METHODS, find

__all__ = ["MAX_K", "Options", "Settings", "option"]

MAX_K = 1000
MAX_TURNS = 1000


def option(default: Any, about: str, **more: Any) -> Any:
    """A field of a settings class. `about` is its help on the command line and in `help()`.

    Further metadata: `flags` are the names on the command line, `cli=False` leaves the option out there; `low`
    and `high` bound a number, `above` and `below` exclude the bound itself; `choices` lists the values of a text;
    `typed` is the type of the keyword argument if it accepts more than the field holds; `request` is the place of
    the field in a request to the server: its "body", or the object "outspoken" in it.
    """
    return field(default=default, metadata={"help": about, **more})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How one prompt is asked. Raises `UsageError` for invalid values."""

    method: str = option(
        "vs-standard",
        "The method; `outspoken methods` lists them.",
        flags=("--method", "-m"),
        typed="MethodName | Method",
        request="outspoken",
    )
    k: int = option(
        5,
        "Candidates per call (direct, direct-cot, multi-turn: in all).",
        flags=("-k",),
        low=1,
        high=MAX_K,
        request="outspoken",
    )
    tau: float | None = option(
        None,
        "Ask for the tail: candidates with a probability below this (vs-* only).",
        above=0,
        below=1,
        request="outspoken",
    )
    template: str = option(
        "standard", "The wording: a name from `outspoken templates`, or a .toml file.", request="outspoken"
    )
    words: int | None = option(
        None, "Target length of a response, in words.", low=1, high=100_000, request="outspoken"
    )
    turns: int = option(2, "Turns of vs-multi, each of k candidates.", low=1, high=MAX_TURNS, request="outspoken")
    retries: int = option(
        2, "How often to ask again for candidates that are missing or unreadable.", low=0, high=100
    )
    on_short: Literal["return", "raise"] = option(
        "return",
        "If candidates are still missing then: return the others (and say so) or raise.",
        choices=("return", "raise"),
    )
    temperature: float | None = option(None, "Sampling temperature of the model.", low=0, high=10, request="body")
    top_p: float | None = option(
        None,
        "Nucleus sampling of the model: the share of probability to sample from.",
        above=0,
        high=1,
        request="body",
    )
    max_tokens: int | None = option(None, "Most tokens of one reply.", low=1, request="body")
    seed: int | None = option(None, "Seed of the model's sampling and of the draw.")
    stop: tuple[str, ...] = option((), "Strings at which the model stops.", cli=False)
    extra: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "Further sampling settings by the provider's own names (min_p, top_k).",
            "cli": False,
        },
    )

    def __post_init__(self) -> None:
        if not isinstance(self.method, str):
            object.__setattr__(self, "method", getattr(self.method, "name", self.method))
        for name in ("method", "template", "on_short"):
            if not isinstance(value := getattr(self, name), str):
                raise UsageError(f"{name} must be text, not {value!r}")
        if self.method not in METHODS:
            find(self.method)
        for name, hint in _WHOLE.items():
            _check_whole(name, getattr(self, name), hint)
        if self.tau is not None:
            if isinstance(self.tau, bool) or not isinstance(self.tau, Real) or not 0 < self.tau < 1:
                raise UsageError(f"tau must lie between 0 and 1, both excluded, not {self.tau!r}")
            if not METHODS[self.method].states_probabilities:
                raise UsageError(
                    f"tau needs stated probabilities, and {self.method} asks for none: use a vs- method"
                )
        if self.on_short not in ("return", "raise"):
            raise UnknownNameError("on_short", self.on_short, ("return", "raise"))
        self.sampling  # noqa: B018  (checks its own fields)

    @classmethod
    def read(cls, options: Options | Mapping[str, object]) -> Settings:
        """Settings from keyword arguments. Raises `UsageError` for unknown names and invalid values."""
        for name in options:
            if name not in cls.__dataclass_fields__:
                raise UnknownNameError("option", name, cls.__dataclass_fields__)
        return cls(**options)

    @cached_property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.seed, self.stop, self.extra)


_WHOLE = {
    "k": "for more responses ask several times, or use more turns of vs-multi",
    "turns": "",
    "retries": "",
    "words": "",
}
"""Settings that are whole numbers, each with a hint for values out of range."""


def _check_whole(name: str, value: object, hint: str) -> None:
    metadata = Settings.__dataclass_fields__[name].metadata
    low, high = metadata["low"], metadata["high"]
    if value is None and name == "words":
        return
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UsageError(
            f"{name} must be a whole number from {low} to {high:,}, not {value!r}" + (f": {hint}" if hint else "")
        )
