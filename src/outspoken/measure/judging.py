"""The quality of groups of responses, by a judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from outspoken.measure.judge import Judge, JudgedItem
from outspoken.measure.values import Group

__all__ = ["Quality", "judge_quality"]

Quality = dict[tuple[int, str], list[float]]


async def judge_quality(
    groups: Sequence[Group], judge: Judge, progress: Callable[[int, int], None] | None = None
) -> tuple[Quality, tuple[str, ...]]:
    """A judge's values by (group, prompt id), as `analyse` takes them, and what is to be told of the verdicts.

    Raises what made everything fail, as `Judge.score` does. A response without a score is in no figure.
    """
    places = [
        (at, asked, response)
        for at, group in enumerate(groups)
        for asked in group.prompts
        for response in asked.responses
    ]
    verdicts = await judge.score(
        [JudgedItem(asked.prompt, response.text) for _, asked, response in places], progress
    )
    values: Quality = {}
    for (at, asked, _), verdict in zip(places, verdicts, strict=True):
        if verdict.value is not None:
            values.setdefault((at, asked.prompt_id), []).append(verdict.value)
    summary = judge.summary(verdicts)
    told = []
    if without := sum(verdict.value is None for verdict in verdicts):
        told.append(
            f"{judge.model.name} gave no score to {without:,} of {len(verdicts):,} responses "
            f"({summary.unreadable:,} of its answers could not be read); they are in no figure of quality"
        )
    if summary.retried:
        told.append(f"{summary.retried:,} verdicts of {judge.model.name} had to be asked for again")
    return values, tuple(told)
