"""The share of each answer, prompt by prompt, and how well independent answers fit a reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from outspoken.errors import UndefinedError
from outspoken.io.dataclass_json import to_json
from outspoken.measure.divergence import Significance, chi_square
from outspoken.measure.measures import MeasureInput
from outspoken.measure.values import Group

__all__ = ["AnswerShares", "answer_shares"]

_MAX_ANSWERS = 60


@dataclass(frozen=True, slots=True)
class AnswerShares:
    """The share of each answer to one prompt, the 60 largest at most, by the index of the group.

    `reference` holds the shares that the answers ought to have, None if it is unknown. `chi_square` tests the
    responses of a group against it, for groups whose responses are independent.
    """

    prompt_id: str
    prompt: str
    reference: Mapping[str, float] | None
    groups: Mapping[int, Mapping[str, float]]
    chi_square: Mapping[int, Significance]

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary."""
        return dict(to_json(self, methods=True))


def answer_shares(groups: Sequence[Group], inputs: Sequence[Mapping[str, MeasureInput]]) -> Iterable[AnswerShares]:
    """The shares for each prompt whose answers are known. `inputs` holds those of each group, by prompt id."""
    prompts = {prompt.prompt_id: prompt.prompt for group in groups for prompt in group.prompts}
    for prompt_id, text in prompts.items():
        by_group = {index: own[prompt_id] for index, own in enumerate(inputs) if prompt_id in own}
        answers = next(iter(by_group.values())).answers
        if not answers.known:
            continue
        tests = {index: _fit(one) for index, one in by_group.items()}
        yield AnswerShares(
            prompt_id,
            text,
            _largest(answers.reference) if answers.reference else None,
            {index: _largest(one.weights) for index, one in by_group.items() if one.responses},
            {index: test for index, test in tests.items() if test is not None},
        )


def _fit(inputs: MeasureInput) -> Significance | None:
    """Chi-square against the reference; None without one, and if several responses came from one call."""
    calls = [response.call for response in inputs.responses]
    reference = {answer: share for answer, share in (inputs.answers.reference or {}).items() if share}
    counts = {answer: count for answer, count in inputs.counts.items() if answer in reference}
    if None in calls or len(set(calls)) < len(calls) or not counts:
        return None
    try:
        return chi_square(counts, reference)
    except UndefinedError:
        return None


def _largest(weights: Mapping[str, float]) -> dict[str, float]:
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:_MAX_ANSWERS])
