"""The share of each answer, prompt by prompt, and how well independent answers fit a reference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from outspoken.errors import UndefinedError
from outspoken.measure.divergence import Significance, chi_square
from outspoken.measure.measures import MeasureInput
from outspoken.measure.values import Group

__all__ = ["distributions"]

# So many answers a distribution shows; the rest is summed up under this name.
_SHOWN_ANSWERS = 60


def distributions(
    groups: Sequence[Group], materials: Sequence[Mapping[str, MeasureInput]]
) -> Iterable[dict[str, Any]]:
    """The share of each answer, for the prompts whose answers are known."""
    prompts = {asked.prompt_id: asked.prompt for group in groups for asked in group.prompts}
    for prompt_id, prompt in prompts.items():
        of_prompt = {at: of_group[prompt_id] for at, of_group in enumerate(materials) if prompt_id in of_group}
        answers = next(iter(of_prompt.values())).answers
        if not answers.known:
            continue
        yield {
            "prompt_id": prompt_id,
            "prompt": prompt,
            "reference": _largest(answers.reference) if answers.reference else None,
            "groups": {at: _largest(material.found) for at, material in of_prompt.items() if material.responses},
            "chi_square": {
                at: found.to_dict() for at, material in of_prompt.items() if (found := _fit(material)) is not None
            },
        }


def _fit(material: MeasureInput) -> Significance | None:
    """Chi-square of the known answers against the reference; None where the responses are not independent (several
    came from one call), or there is no reference."""
    calls = [response.call for response in material.responses]
    reference = {answer: share for answer, share in (material.answers.reference or {}).items() if share}
    counts = {answer: count for answer, count in material.counts.items() if answer in reference}
    if None in calls or len(set(calls)) < len(calls) or not counts:
        return None
    try:
        return chi_square(counts, reference)
    except UndefinedError:
        return None


def _largest(weights: Mapping[str, float]) -> dict[str, float]:
    ranked = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:_SHOWN_ANSWERS])
