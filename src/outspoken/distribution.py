"""Candidates with weights that sum to 1, and the operations on them.

Stated probabilities become weights in `weights_from_stated`; `outspoken.parsing.candidates` reads the stated
probabilities from the reply.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

from outspoken import display
from outspoken._imports import need
from outspoken.candidate import NO_META, Candidate, Verbalized
from outspoken.chat_reply import Usage
from outspoken.errors import UsageError
from outspoken.provenance import Provenance
from outspoken.same_text import text_key

if TYPE_CHECKING:
    import pandas
    import polars
    from rich.console import Group

__all__ = ["Distribution", "warnings_about", "weights_from_stated"]

_NO_DISTRIBUTION = "the model did not state a distribution"


@dataclass(frozen=True)
class Distribution(Sequence[Candidate]):
    """The candidates of one prompt, most probable first, with probabilities that sum to 1.

    `mass` is the sum of the stated probabilities before normalising (None if none was stated), `missing` the
    number of requested candidates that are missing. `refused` and `cut_off` count the replies that the model, or a
    filter of the provider, refused, and those that ended at the limit of tokens. `set_aside` holds candidates that
    were read but are not part of the distribution; the last of their `repairs` is the reason. `reasoning` is the
    model's reasoning, one entry per reply. `stopped` is the message of the error, if any, that prevented further
    requests. `warnings` has a line if the model stated no distribution, see `warnings_about`.
    """

    candidates: tuple[Candidate, ...]
    mass: float | None = None
    missing: int = 0
    set_aside: tuple[Candidate, ...] = ()
    reasoning: tuple[str, ...] = ()
    stopped: str = ""
    provenance: Provenance = Provenance()
    refused: int = 0
    cut_off: int = 0
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.candidates:
            raise UsageError("a distribution needs at least one candidate")
        total = math.fsum(candidate.probability for candidate in self.candidates)
        if not abs(total - 1) < 1e-6 or any(c.probability < 0 for c in self.candidates):
            raise UsageError(f"probabilities must be at least 0 and sum to 1, not to {total:g}")
        ranked = tuple(sorted(self.candidates, key=lambda candidate: -candidate.probability))
        object.__setattr__(self, "candidates", ranked)

    @classmethod
    def from_verbalized(
        cls,
        verbalized: Iterable[Verbalized],
        *,
        missing: int = 0,
        set_aside: Iterable[Verbalized] = (),
        reasoning: Iterable[str] = (),
        stopped: str = "",
        provenance: Provenance | None = None,
        refused: int = 0,
        cut_off: int = 0,
    ) -> Distribution:
        """Weigh the candidates of replies, see `weights_from_stated`.

        Equal texts (see `text_key`) become one candidate whose weights add up.
        """
        entries = tuple(verbalized)
        stated = [entry.stated for entry in entries if entry.stated is not None]
        return cls(
            tuple(map(_candidate, entries, weights_from_stated(entries))),
            math.fsum(stated) if stated else None,
            missing,
            tuple(_candidate(entry, 0.0) for entry in set_aside),
            tuple(reasoning),
            stopped,
            provenance or Provenance(),
            refused,
            cut_off,
            warnings_about(entries) if stated else (),
        ).dedupe()

    def __len__(self) -> int:
        return len(self.candidates)

    @overload
    def __getitem__(self, at: int) -> Candidate: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, at: int | slice) -> Candidate | tuple[Candidate, ...]:
        return self.candidates[at]

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self.candidates)

    @property
    def texts(self) -> tuple[str, ...]:
        return tuple(candidate.text for candidate in self.candidates)

    @property
    def probabilities(self) -> tuple[float, ...]:
        return tuple(candidate.probability for candidate in self.candidates)

    @overload
    def draw(self, n: None = None, *, seed: int | None = None, replace: bool = True) -> Candidate: ...
    @overload
    def draw(self, n: int, *, seed: int | None = None, replace: bool = True) -> list[Candidate]: ...
    def draw(
        self, n: int | None = None, *, seed: int | None = None, replace: bool = True
    ) -> Candidate | list[Candidate]:
        """Draw by probability: one candidate, or a list of `n`.

        The same `seed` gives the same draws. Without replacement, the remaining probabilities are renormalised
        after each draw (successive sampling), so `n` may not exceed the number of candidates with a probability
        above 0. Raises `UsageError` if it does.
        """
        generator = random.Random(seed)
        if n is None:
            return generator.choices(self.candidates, self.probabilities)[0]
        if n < 0:
            raise UsageError(f"cannot draw {n} candidates: n must be at least 0")
        if replace:
            return generator.choices(self.candidates, self.probabilities, k=n)
        remaining = [candidate for candidate in self.candidates if candidate.probability > 0]
        if n > len(remaining):
            raise UsageError(
                f"cannot draw {n} different candidates from {len(remaining)}: raise k or draw with replacement"
            )
        drawn = []
        for _ in range(n):
            index = generator.choices(range(len(remaining)), [c.probability for c in remaining])[0]
            drawn.append(remaining.pop(index))
        return drawn

    def argmax(self) -> Candidate:
        """The most probable candidate; the first stated one of equals."""
        return self.candidates[0]

    def tail(self, tau: float) -> Distribution:
        """The candidates whose stated probability (or, if none was stated, weight) is below `tau`.

        Raises `UsageError` if there are none.
        """
        if not 0 < tau < 1:
            raise UsageError(f"tau must be between 0 and 1, not {tau:g}")

        def level(candidate: Candidate) -> float:
            return candidate.probability if candidate.stated is None else candidate.stated

        inside = [candidate for candidate in self.candidates if level(candidate) < tau]
        if not inside:
            raise UsageError(
                f"no candidate lies below {tau:g}, the lowest is {min(map(level, self)):g}: raise tau"
            )
        total = math.fsum(candidate.probability for candidate in inside)
        share = 1 / len(inside)
        return self._with(inside, [c.probability / total if total > 0 else share for c in inside])

    def merge(self, *others: Distribution) -> Distribution:
        """The equal mixture of this distribution and others; equal texts become one candidate.

        `mass` is the mean over the distributions that have one; usage and requests add up.
        """
        parts = (self, *others)
        weighted = [
            replace(candidate, probability=candidate.probability / len(parts))
            for part in parts
            for candidate in part
        ]
        masses = [part.mass for part in parts if part.mass is not None]
        usage = sum((part.provenance.usage for part in parts), Usage())
        requests = sum(part.provenance.requests for part in parts)
        model = "; ".join(dict.fromkeys(part.provenance.model for part in parts))
        return Distribution(
            tuple(weighted),
            math.fsum(masses) / len(masses) if masses else None,
            sum(part.missing for part in parts),
            tuple(candidate for part in parts for candidate in part.set_aside),
            tuple(thought for part in parts for thought in part.reasoning),
            "; ".join(part.stopped for part in parts if part.stopped),
            replace(self.provenance, usage=usage, requests=requests, model=model),
            sum(part.refused for part in parts),
            sum(part.cut_off for part in parts),
            tuple(dict.fromkeys(warning for part in parts for warning in part.warnings)),
        ).dedupe()

    def dedupe(self, key: Callable[[str], Hashable] | None = None) -> Distribution:
        """Merge candidates whose texts have the same `key` (default: `text_key`).

        The most probable text represents the others; probabilities and stated values add up, and a repair names
        the number merged.
        """
        groups: dict[Hashable, list[Candidate]] = {}
        for candidate in self.candidates:
            groups.setdefault((key or text_key)(candidate.text), []).append(candidate)
        if len(groups) == len(self.candidates):
            return self
        return replace(self, candidates=tuple(map(_merged, groups.values())))

    def tempered(self, t: float) -> Distribution:
        """Raise every probability to the power 1/t and normalise: t > 1 flattens, t < 1 sharpens."""
        if not t > 0:
            raise UsageError(f"the temperature t must be above 0, not {t:g}")
        logs = [math.log(p) / t if p > 0 else -math.inf for p in self.probabilities]
        return self._with(self.candidates, _softmax(logs))

    def _with(self, candidates: Sequence[Candidate], weights: Sequence[float]) -> Distribution:
        pairs = zip(candidates, weights, strict=True)
        return replace(self, candidates=tuple(replace(c, probability=weight) for c, weight in pairs))

    def entropy(self) -> float:
        """Shannon entropy of the probabilities, in nats: -sum p ln p."""
        return -math.fsum(p * math.log(p) for p in self.probabilities if p > 0) + 0.0

    def effective_size(self) -> float:
        """exp(entropy): the number of equally likely candidates with the same entropy (Hill number, order 1)."""
        return math.exp(self.entropy())

    def to_dict(self) -> dict[str, Any]:
        """A dictionary for JSON: the fields of the provenance, then the candidates."""
        return {
            **self.provenance.to_dict(),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "mass": self.mass,
            "missing": self.missing,
            "refused": self.refused,
            "cut_off": self.cut_off,
            "set_aside": [candidate.to_dict() for candidate in self.set_aside],
            "reasoning": list(self.reasoning),
            "stopped": self.stopped,
            "warnings": list(self.warnings),
            "entropy": self.entropy(),
            "effective_size": self.effective_size(),
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Distribution:
        """The distribution that `to_dict` wrote. Raises `UsageError` for anything else."""
        try:
            return cls(
                tuple(map(Candidate.from_dict, entry["candidates"])),
                entry.get("mass"),
                entry.get("missing", 0),
                tuple(map(Candidate.from_dict, entry.get("set_aside", ()))),
                tuple(entry.get("reasoning", ())),
                entry.get("stopped", ""),
                Provenance.from_dict(entry),
                entry.get("refused", 0),
                entry.get("cut_off", 0),
                tuple(entry.get("warnings", ())),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"not a distribution ({error!r}): pass what `to_dict` returned") from error

    def to_json(self, *, indent: int | None = None) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=indent)

    @classmethod
    def from_json(cls, text: str | bytes) -> Distribution:
        try:
            entry = json.loads(text)
        except ValueError as error:
            raise UsageError(f"not JSON ({error}): pass what `to_json` returned") from error
        if not isinstance(entry, dict):
            raise UsageError("not a distribution (not a JSON object): pass what `to_json` returned")
        return cls.from_dict(entry)

    def to_polars(self) -> polars.DataFrame:
        """A table with a row for each candidate, with its prompt, method and model. Needs the extra `tables`."""
        frame = need("polars", "Distribution.to_polars()", "tables")
        types = {"stated": frame.Float64, "repairs": frame.List(frame.String), "rank": frame.Int64}
        table: polars.DataFrame = frame.DataFrame(display.columns(self), schema_overrides=types)
        return table

    def to_pandas(self) -> pandas.DataFrame:
        """The table of `to_polars` for pandas. Needs the extra `pandas`."""
        frame = need("pandas", "Distribution.to_pandas()", "pandas")
        table: pandas.DataFrame = frame.DataFrame(display.columns(self)).astype({"stated": "float64"})
        return table

    @property
    def cost(self) -> float | None:
        """US dollars for the replies, None if the price or the number of tokens is unknown.

        Prices are those of `outspoken.prices.price_of`. A reply from a cache or a ledger counts with what it cost.
        """
        from outspoken.prices import price_of

        price, usage = price_of(self.provenance.model), self.provenance.usage
        if price is None or (
            self.provenance.requests and not usage.total_tokens and (price.input or price.output)
        ):
            return None
        return price.cost(usage)

    def __str__(self) -> str:
        return display.plain(self)

    def __rich__(self) -> Group:
        return display.table(self)

    def _repr_html_(self) -> str:
        return display.html(self)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The form in IPython's terminal."""
        printer.text("Distribution(...)" if cycle else display.plain(self))


def weights_from_stated(verbalized: Sequence[Verbalized]) -> list[float]:
    """The weights of a reply's candidates: the one place where stated probabilities become weights that sum to 1.

    Stated probabilities are divided by their sum. Candidates without one share the rest of 1 equally (nothing if
    the stated ones sum to 1 or more). If none is stated, or all are zero, all weights are equal.
    """
    logs = [entry.log_stated for entry in verbalized if entry.log_stated is not None]
    if not logs or max(logs) == -math.inf:
        return [1 / len(verbalized)] * len(verbalized) if verbalized else []
    total = math.fsum(math.exp(min(log, 700.0)) for log in logs)
    unstated = len(verbalized) - len(logs)
    rest = max(0.0, 1.0 - total) if unstated else 0.0
    shares = iter(_softmax(logs))
    return [rest / unstated if entry.log_stated is None else (1 - rest) * next(shares) for entry in verbalized]


def warnings_about(verbalized: Sequence[Verbalized]) -> tuple[str, ...]:
    """A line if the probabilities that a reply states are no distribution, so that the weights say little.

    That is: two or more that are all 0; two or more with a sum above 1.5; three or more that are all equal and do
    not sum to 1 (0.95 to 1.05). A smaller sum alone is sound: the rest of 1 belongs to other responses. Each reply
    counts by itself; the line is about the first such reply.
    """
    replies: dict[object, list[float]] = {}
    for entry in verbalized:
        if entry.stated is not None:
            # Only later replies have a number.
            number = 0 if entry.meta is NO_META else entry.meta.get("request", 0)
            replies.setdefault(number, []).append(entry.stated)
    for stated in replies.values():
        total, count = sum(stated), len(stated)
        if count >= 2 and not total:
            return (f"{_NO_DISTRIBUTION} (all probabilities are 0): weights are nearly uniform",)
        if count >= 3 and min(stated) == max(stated) and abs(total - 1) > 0.05:
            return (f"{_NO_DISTRIBUTION} ({count} times {stated[0]:g}): weights are nearly uniform",)
        if count >= 2 and total > 1.5:
            return (f"{_NO_DISTRIBUTION} (the sum is {total:g}): weights are shares of the sum",)
    return ()


def _candidate(entry: Verbalized, probability: float) -> Candidate:
    meta = {} if entry.meta is NO_META else dict(entry.meta)
    return Candidate(entry.text, probability, entry.stated, entry.repairs, meta, entry.value)


def _softmax(logs: Sequence[float]) -> list[float]:
    top = max(logs)
    weights = [math.exp(log - top) for log in logs]
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _merged(group: list[Candidate]) -> Candidate:
    if len(group) == 1:
        return group[0]
    stated = [candidate.stated for candidate in group if candidate.stated is not None]
    repairs = [repair for candidate in group for repair in candidate.repairs]
    return replace(
        group[0],
        probability=math.fsum(candidate.probability for candidate in group),
        stated=math.fsum(stated) if stated else None,
        repairs=(*dict.fromkeys(repairs), f"merged {len(group)} equal texts"),
    )
