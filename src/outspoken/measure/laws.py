"""Known laws that draws are compared with: `uniform:1:6`, `normal:100:15`, `binomial:10:0.3`, a file of counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from outspoken.errors import UnknownNameError, UsageError
from outspoken.measure.answer_numbers import as_number
from outspoken.measure.answer_sets import Answers, load
from outspoken.measure.divergence import is_weight

__all__ = ["LAWS", "Law", "read_law"]

_TAIL = 1e-9
_MOST = 10_000


@dataclass(frozen=True, slots=True)
class Law:
    """A distribution of numbers or of categories.

    `shares` are the probabilities of the answers of a discrete law, by their text; None for a continuous one.
    `numbers` is scipy's distribution of the values, None for categories. `estimated` says that the shares come
    from counts, so that an answer without one may be possible.
    """

    title: str
    shares: Mapping[str, float] | None = None
    numbers: Any = field(default=None, repr=False)
    estimated: bool = False

    @property
    def answers(self) -> Answers | None:
        """The answers of a discrete law as a reference; None for a continuous one."""
        return None if self.shares is None else Answers.counts(dict(self.shares))

    @property
    def mean(self) -> float:
        return float(self.numbers.mean())

    @property
    def sd(self) -> float:
        return float(self.numbers.std())

    def draw(self, size: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float64]:
        """Random numbers from a law of numbers, of this shape."""
        return np.asarray(self.numbers.rvs(size=size, random_state=random), dtype=np.float64)


def read_law(spec: str | PathLike[str]) -> Law:
    """The law with this name and parameters, or of the counts in a file.

    - `uniform:LOW:HIGH`: whole numbers from LOW to HIGH; any number between them if one has a decimal point.
    - `normal:MEAN:SD`, `exponential:MEAN`: continuous.
    - `binomial:TRIALS:P`, `poisson:MEAN`: whole numbers.
    - `counts:ANSWER=COUNT,…`, or a JSON file of counts, `{answer: count}`: numbers if all answers are, else
      categories.

    Raises `UsageError` for an unknown name, parameters that cannot be, and a file that cannot be read.
    """
    text = fspath(spec)
    name, *parameters = text.split(":")
    if name == "counts" and parameters:
        return _of_counts(text)
    if name not in LAWS:
        if ":" in text and not Path(text).exists():
            raise UnknownNameError("law", name, (*LAWS, "counts"))
        return _of_file(Path(text))
    needs, make = LAWS[name]
    if len(parameters) != len(needs):
        raise UsageError(f"the law {name} needs {' and '.join(needs)}: {name}:{':'.join(needs)}, not {text!r}")
    values = []
    for what, parameter in zip(needs, parameters, strict=True):
        try:
            values.append(float(parameter))
        except ValueError:
            values.append(math.nan)
        if not math.isfinite(values[-1]):
            raise UsageError(f"{what} of the law {text!r} must be a finite number, not {parameter!r}")
    return make(text, values, any("." in parameter for parameter in parameters))


def _discrete(title: str, numbers: Any) -> Law:
    """A law of whole numbers, with the answers that have all but 1e-9 of the probability."""
    low, high = int(numbers.ppf(_TAIL)), int(numbers.ppf(1 - _TAIL))
    if high - low > _MOST:
        raise UsageError(
            f"the law has about {high - low:,} possible answers, more than {_MOST:,}: take a continuous one of "
            "the same shape, such as uniform:LOW.0:HIGH or normal:MEAN:SD"
        )
    places = np.arange(max(low, int(numbers.support()[0])), high + 1)
    return Law(title, {str(place): float(numbers.pmf(place)) for place in places}, numbers)


def _uniform(text: str, values: list[float], continuous: bool) -> Law:
    low, high = values
    if not low < high:
        raise UsageError(f"the law {text!r} is empty: write the smaller number first, uniform:LOW:HIGH")
    if continuous or low != int(low) or high != int(high):
        return Law(f"uniform from {low:g} to {high:g}", None, stats.uniform(low, high - low))
    return _discrete(
        f"whole numbers from {low:g} to {high:g}, equally likely", stats.randint(int(low), int(high) + 1)
    )


def _normal(text: str, values: list[float], continuous: bool) -> Law:
    mean, sd = values
    if not sd > 0:
        raise UsageError(f"the standard deviation of the law {text!r} must be above 0")
    return Law(f"normal with mean {mean:g} and standard deviation {sd:g}", None, stats.norm(mean, sd))


def _binomial(text: str, values: list[float], continuous: bool) -> Law:
    trials, p = values
    if trials < 1 or trials != int(trials) or not 0 < p < 1:
        raise UsageError(f"the law {text!r} needs a whole number of trials and a probability between 0 and 1")
    return _discrete(f"binomial, {trials:g} trials with probability {p:g}", stats.binom(int(trials), p))


def _poisson(text: str, values: list[float], continuous: bool) -> Law:
    if not values[0] > 0:
        raise UsageError(f"the mean of the law {text!r} must be above 0")
    return _discrete(f"Poisson with mean {values[0]:g}", stats.poisson(values[0]))


def _exponential(text: str, values: list[float], continuous: bool) -> Law:
    if not values[0] > 0:
        raise UsageError(f"the mean of the law {text!r} must be above 0")
    return Law(f"exponential with mean {values[0]:g}", None, stats.expon(scale=values[0]))


def _of_file(path: Path) -> Law:
    answers = load(path)
    if not isinstance(answers, Answers) or answers.reference is None:
        raise UsageError(f"{path} holds questions: a law is one object of answers and counts")
    return _of_shares(f"the counts in {path.name}", answers.reference)


def _of_counts(text: str) -> Law:
    """The law in `counts:red=70,blue=30`."""
    counts: dict[str, float] = {}
    for entry in text.partition(":")[2].split(","):
        answer, equals, written = (part.strip() for part in entry.rpartition("="))
        try:
            count = float(written) if equals and answer else math.nan
        except ValueError:
            count = math.nan
        if not is_weight(count):
            raise UsageError(f"{entry!r} in the law {text!r} is no count: write counts:ANSWER=COUNT,ANSWER=COUNT")
        counts[answer] = counts.get(answer, 0.0) + count
    shares = Answers.counts(counts).reference or {}
    return _of_shares("counts of " + ", ".join(f"{answer} {count:g}" for answer, count in counts.items()), shares)


def _of_shares(title: str, reference: Mapping[str, float]) -> Law:
    numbers = [as_number(answer) for answer in reference]
    if None in numbers:
        return Law(title, dict(reference), None, estimated=True)
    names: dict[float | None, str] = {}
    shares: dict[str, float] = {}
    for value, (answer, share) in zip(numbers, reference.items(), strict=True):
        name = names.setdefault(value, answer)  # "1" and "1.0" are one number
        shares[name] = shares.get(name, 0.0) + share
    table = _Table(np.array(list(names), dtype=np.float64), np.array(list(shares.values())))
    return Law(title, shares, table, estimated=True)


class _Table:
    """A discrete law of any numbers, with the part of scipy's interface that is used here."""

    def __init__(self, values: NDArray[np.float64], shares: NDArray[np.float64]) -> None:
        order = np.argsort(values)
        self._values, self._shares = values[order], shares[order]

    def mean(self) -> float:
        return float(self._values @ self._shares)

    def std(self) -> float:
        return math.sqrt(float((self._values - self.mean()) ** 2 @ self._shares))

    def cdf(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        sums = np.concatenate([[0.0], np.cumsum(self._shares)])
        return np.asarray(sums[np.searchsorted(self._values, x, side="right")])

    def rvs(self, size: tuple[int, ...], random_state: np.random.Generator) -> NDArray[np.float64]:
        return random_state.choice(self._values, size, p=self._shares)


Make = Callable[[str, list[float], bool], Law]
LAWS: Mapping[str, tuple[tuple[str, ...], Make]] = {
    "uniform": (("LOW", "HIGH"), _uniform),
    "normal": (("MEAN", "SD"), _normal),
    "binomial": (("TRIALS", "P"), _binomial),
    "poisson": (("MEAN",), _poisson),
    "exponential": (("MEAN",), _exponential),
}
"""The laws by name, with the names of their parameters."""
