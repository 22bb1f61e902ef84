"""Stated probabilities beside the model's own log-probabilities of the same responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from outspoken.engine import score_all
from outspoken.errors import UndefinedError, UsageError
from outspoken.io.text import plural
from outspoken.measure.calibration import Calibration, GroupCalibration, against_logprobs, reliability
from outspoken.measure.statistics import mean_estimate
from outspoken.measure.values import Group, PromptGroup, Response, by_call
from outspoken.models.base import Model, Score

__all__ = ["calibrate_by_logprobs"]

Calls = list[tuple[str, list[Response]]]


async def calibrate_by_logprobs(
    groups: Sequence[Group], model: Model, progress: Callable[[str, int, int], None] | None = None
) -> tuple[tuple[GroupCalibration, ...], tuple[str, ...]]:
    """The calibration of each group with stated probabilities, and sentences about what could not be scored.

    Each response is scored after its prompt in the model's chat template. Within a call, both sides are divided by
    their sums, so the figures say how well the responses of a call are weighted relative to each other. The
    figures are means over calls of at least two scored responses; the unit of their intervals is the prompt.
    """
    found, problems = [], []
    for index, group in enumerate(groups):
        calls = [pair for prompt in group.prompts for pair in _calls(prompt)]
        if not calls:
            continue
        pairs = [(prompt, response.text) for prompt, own in calls for response in own]
        contexts = {
            prompt: await model.chat_text(prompt) for prompt in dict.fromkeys(prompt for prompt, _ in pairs)
        }
        show = None if progress is None else partial(progress, f"scoring {group.method}")
        scores = await score_all(model, [(contexts[prompt], text) for prompt, text in pairs], progress=show)
        calibration, missing = _calibration(index, calls, iter(scores))
        found += [] if calibration is None else [calibration]
        if missing:
            problems.append(f"{group.method}: {plural(missing, 'response')} could not be scored by {model.name}")
    return tuple(found), tuple(problems)


def _calls(prompt: PromptGroup) -> Calls:
    """The responses with a stated probability of each call with several of them, with the text of the prompt."""
    stated = [response for response in prompt.responses if response.stated is not None and response.stated >= 0]
    calls = by_call(stated).values()
    return [(prompt.prompt, own) for own in calls if len(own) > 1 and any(one.stated for one in own)]


def _calibration(
    index: int, calls: Calls, scores: Iterator[Score | UsageError]
) -> tuple[GroupCalibration | None, int]:
    """The calibration of one group, and the number of responses without a score."""
    by_prompt: dict[str, list[Calibration]] = {}
    stated_all: list[float] = []
    observed_all: list[float] = []
    missing = undefined = 0
    for prompt, own in calls:
        results = [next(scores) for _ in own]
        known = [(one, score) for one, score in zip(own, results, strict=True) if isinstance(score, Score)]
        missing += len(own) - len(known)
        try:
            one = against_logprobs([r.stated or 0.0 for r, _ in known], [score.total for _, score in known])
        except UndefinedError:
            undefined += 1
            continue
        by_prompt.setdefault(prompt, []).append(one)
        stated_all += [part.stated for part in one.bins for _ in range(part.count)]
        observed_all += [part.observed for part in one.bins for _ in range(part.count)]
    if not by_prompt:
        return None, missing
    every = list(by_prompt.values())
    ranks = [[one.rank_correlation for one in own if one.rank_correlation is not None] for own in every]
    return GroupCalibration(
        index,
        "logprobs",
        mean_estimate([sum(one.total_variation for one in own) for own in every], [len(own) for own in every]),
        mean_estimate([sum(one.brier for one in own) for own in every], [len(own) for own in every]),
        mean_estimate([sum(own) for own in ranks if own], [len(own) for own in ranks if own])
        if any(ranks)
        else None,
        reliability(stated_all, observed_all),
        undefined,
    ), missing
