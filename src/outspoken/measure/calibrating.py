"""The calibration of a group's stated probabilities: against direct answers of the same model, and a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from outspoken.errors import UndefinedError
from outspoken.measure.answer_sets import Answers
from outspoken.measure.calibration import Bin, Calibration, against, reliability
from outspoken.measure.sets import answer_weights
from outspoken.measure.statistics import Estimate, mean_estimate
from outspoken.measure.values import Asked, Group, Response

__all__ = ["Calibrated", "calibrate", "stated_of"]


@dataclass(frozen=True, slots=True)
class Calibrated:
    """The calibration of the group at `group` against `source`: the answers of the "direct" group of the same
    model, or the "reference". Figures are means over prompts, `bins` the reliability curve of all answers;
    `undefined` counts the prompts that cannot be calibrated: those with one answer in all, and those where nothing
    that was stated was ever observed."""

    group: int
    source: str
    total_variation: Estimate
    ece: Estimate
    rank_correlation: Estimate | None
    bins: tuple[Bin, ...]
    undefined: int = 0

    def to_dict(self) -> dict[str, Any]:
        rank = self.rank_correlation
        return {
            "group": self.group,
            "against": self.source,
            "total_variation": self.total_variation.to_dict(),
            "ece": self.ece.to_dict(),
            "rank_correlation": None if rank is None else rank.to_dict(),
            "bins": [asdict(entry) for entry in self.bins],
            "undefined": self.undefined,
        }


def calibrate(
    groups: Sequence[Group],
    answers: Callable[[Asked], Answers] | None = None,
    *,
    seed: int = 0,
    resamples: int = 10_000,
) -> tuple[Calibrated, ...]:
    """Every group with stated probabilities, against whatever there is to hold them against."""
    known = answers or (lambda asked: Answers.free())
    found = []
    for at, group in enumerate(groups):
        for source, observed in _sources(group, groups, known):
            made = _calibrated(at, source, group, observed, known, seed, resamples)
            if made is not None:
                found.append(made)
    return tuple(found)


def stated_of(responses: Sequence[Response], label: Callable[[str], str]) -> dict[str, float]:
    """The probability stated for each answer: the mean over the calls that stated any, where an answer that a call
    did not name counts 0 in it."""
    calls: dict[int | None, dict[str, float]] = {}
    for response in responses:
        if response.stated is not None:
            call = calls.setdefault(response.call, {})
            answer = label(response.text)
            call[answer] = call.get(answer, 0.0) + response.stated
    total: dict[str, float] = {}
    for call in calls.values():
        for answer, value in call.items():
            # What a call states beyond 1 for one answer is no probability.
            total[answer] = total.get(answer, 0.0) + min(value, 1.0) / len(calls)
    return total


_Observed = Callable[[Asked], Mapping[str, float] | None]


def _sources(
    group: Group, groups: Sequence[Group], known: Callable[[Asked], Answers]
) -> Iterator[tuple[str, _Observed]]:
    direct = next((other for other in groups if other.method == "direct" and other.model == group.model), None)
    if direct is not None and direct is not group:
        frequencies = {
            asked.prompt_id: answer_weights(asked.responses, known(asked).label)
            for asked in direct.prompts
            if asked.responses
        }
        yield "direct", lambda asked: frequencies.get(asked.prompt_id)
    yield "reference", lambda asked: known(asked).reference


def _calibrated(
    at: int,
    source: str,
    group: Group,
    observed: _Observed,
    known: Callable[[Asked], Answers],
    seed: int,
    resamples: int,
) -> Calibrated | None:
    made: list[Calibration] = []
    pairs: list[tuple[float, float]] = []
    undefined = 0
    for asked in group.prompts:
        seen = observed(asked)
        stated = stated_of(asked.responses, known(asked).label)
        if not seen or not stated:
            continue
        # Texts of which none comes twice are no answers that a frequency could be known of.
        if not stated.keys() & seen.keys():
            undefined += 1
            continue
        try:
            made.append(against(stated, seen))
        except UndefinedError:
            undefined += 1
            continue
        pairs += [(stated.get(answer, 0.0), seen.get(answer, 0.0)) for answer in {**stated, **seen}]
    if not made:
        return None

    def mean(values: list[float]) -> Estimate:
        return mean_estimate(values, seed=seed, resamples=resamples)

    ranks = [found.rank_correlation for found in made if found.rank_correlation is not None]
    said, observed_shares = zip(*pairs, strict=True)
    return Calibrated(
        at,
        source,
        mean([found.total_variation for found in made]),
        mean([found.ece for found in made]),
        mean(ranks) if ranks else None,
        reliability(said, observed_shares),
        undefined,
    )
