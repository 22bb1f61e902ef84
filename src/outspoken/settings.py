"""The settings of one call: the one place where each is declared.

From these fields come Python's arguments (`outspoken._options`, written by `make generated`), the options of the
command line, the fields of a server's request, and what `help()` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache, cached_property, lru_cache
from numbers import Real
from operator import ge, gt, le, lt
from typing import Any, Literal, TypeVar

from outspoken._options import Options
from outspoken.chat import Sampling
from outspoken.errors import UnknownNameError, UsageError
from outspoken.methods.table import METHODS, find

__all__ = [
    "MAX_K",
    "Options",
    "RequestLimits",
    "Settings",
    "check_values",
    "option",
    "read_call",
    "read_options",
    "split",
]

MAX_K = 1000
MAX_TURNS = 1000

_BOUNDS = {"above": ("above", gt), "low": ("of at least", ge), "below": ("below", lt), "high": ("at most", le)}

T = TypeVar("T")
U = TypeVar("U")


def option(default: Any, about: str, **more: Any) -> Any:
    """A field of a settings class. `about` is its help on the command line and in `help()`.

    Further metadata: `flags` are the names on the command line, `cli=False` leaves the option out there; `low`
    and `high` bound a number, `above` and `below` exclude the bound itself, `hint` says what to do about a value
    outside; `choices` lists the values of a text; `excludes` names a setting that cannot be given beside this one;
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
        hint="for more responses ask several times, or use more turns of vs-multi",
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
    top_up: int = option(
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
    seed: int | None = option(None, "Seed of the model's sampling and of the draw.", low=0, high=2**32 - 1)
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
        for name in ("method", "template"):
            if not isinstance(value := getattr(self, name), str):
                raise UsageError(f"{name} must be text, not {value!r}")
        if self.method not in METHODS:
            find(self.method)
        check_values(self)
        if self.tau is not None and not METHODS[self.method].states_probabilities:
            raise UsageError(f"tau needs stated probabilities, and {self.method} asks for none: use a vs- method")
        self.sampling  # noqa: B018  (checks its own fields)

    @classmethod
    def read(cls, options: Options | Mapping[str, object]) -> Settings:
        """Settings from keyword arguments. Raises `UsageError` for unknown names and invalid values."""
        return read_options(cls, options)

    @cached_property
    def sampling(self) -> Sampling:
        return Sampling(self.temperature, self.top_p, self.max_tokens, self.seed, self.stop, self.extra)


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """The limits of each request to the model. Raises `UsageError` for invalid values."""

    timeout: float = option(600.0, "Most seconds for one attempt at a request.", above=0)
    total_timeout: float = option(
        1800.0, "Most seconds for one request, with all its attempts and waits.", above=0
    )
    attempts: int = option(
        6, "Most attempts at one request. In a run, those that an overloaded server refuses do not count.", low=1
    )

    def __post_init__(self) -> None:
        check_values(self)


def read_call(options: Options | Mapping[str, object]) -> tuple[Settings, RequestLimits]:
    """The settings of a call and of its requests. Raises `UsageError` for unknown names and invalid values."""
    try:
        return _known_call(**options)
    except TypeError:  # a value that cannot be hashed
        return split(options, Settings, RequestLimits)


# Most calls of a program have the same options. With `typed`, k=True is another option than k=1.
@lru_cache(maxsize=256, typed=True)
def _known_call(**options: object) -> tuple[Settings, RequestLimits]:
    return split(options, Settings, RequestLimits)


def split(options: Mapping[str, object], one: type[T], other: type[U]) -> tuple[T, U]:
    """Settings of two kinds from keyword arguments. Raises `UsageError` for unknown names and invalid values."""
    of_one, of_other = one.__dataclass_fields__, other.__dataclass_fields__  # type: ignore[attr-defined]
    for name in options:
        if name not in of_one and name not in of_other:
            raise UnknownNameError("option", name, [*of_one, *of_other])
    return (
        one(**{name: value for name, value in options.items() if name in of_one}),
        other(**{name: value for name, value in options.items() if name in of_other}),
    )


def read_options(kind: type[T], options: Mapping[str, object]) -> T:
    """Settings of this kind from keyword arguments. Raises `UsageError` for unknown names and invalid values."""
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in options:
        if name not in known:
            raise UnknownNameError("option", name, known)
    return kind(**options)


def check_values(settings: Any) -> None:
    """Check each value against the type, the bounds and the choices of its field. Raises `UsageError`."""
    for entry in _checked_fields(settings.__class__):
        value = getattr(settings, entry.name)
        if value is None and entry.optional:
            continue
        if entry.choices is not None:
            if value not in entry.choices:
                raise UnknownNameError(entry.name, str(value), entry.choices)
        elif not _is_within(value, entry):
            raise UsageError(f"{entry.name} must be {entry.range}, not {value!r}{entry.hint}")
        if entry.excludes and getattr(settings, entry.excludes) is not None:
            raise UsageError(f"{entry.name} and {entry.excludes} exclude each other: give one of them")


@dataclass(frozen=True, slots=True)
class _CheckedField:
    name: str
    optional: bool
    number: Any
    choices: tuple[str, ...] | None
    bounds: tuple[tuple[Callable[[Any, Any], bool], float], ...]
    range: str
    hint: str
    excludes: str


def _is_within(value: Any, entry: _CheckedField) -> bool:
    if isinstance(value, bool) or not isinstance(value, entry.number):
        return False
    return all(holds(value, bound) for holds, bound in entry.bounds)


@cache
def _checked_fields(kind: Any) -> tuple[_CheckedField, ...]:
    """The numbers and the choices among the fields."""
    checked = []
    for entry in fields(kind):
        type_name, declared = str(entry.type), entry.metadata
        if type_name.startswith(("int", "float")) or "choices" in declared:
            checked.append(
                _CheckedField(
                    entry.name,
                    "None" in type_name,
                    int if type_name.startswith("int") else Real,
                    declared.get("choices"),
                    tuple((holds, declared[key]) for key, (_, holds) in _BOUNDS.items() if key in declared),
                    _range(type_name, declared),
                    f": {declared['hint']}" if "hint" in declared else "",
                    declared.get("excludes", ""),
                )
            )
    return tuple(checked)


def _range(kind: str, declared: Mapping[str, Any]) -> str:
    """What a number may be, in words."""
    if kind.startswith("int"):
        low, high = declared.get("low"), declared.get("high")
        upper = "on" if high is None else f"to {high:,}"
        return "a whole number" + ("" if low is None else f" from {low} {upper}")
    if "low" in declared and "high" in declared:
        return f"a number from {declared['low']:g} to {declared['high']:g}"
    bounds = [f"{word} {declared[at]:g}" for at, (word, _) in _BOUNDS.items() if at in declared]
    return " ".join(["a number", " and ".join(bounds)]).rstrip()
