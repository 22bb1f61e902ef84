"""Sentences that a reader of the figures of groups should know: what is missing, and what cannot be compared."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from outspoken.io.text import plural
from outspoken.measure.same_meaning import ACCURACY

if TYPE_CHECKING:
    from outspoken.measure.measured import MeasuredGroup

__all__ = ["warnings_about"]


def warnings_about(groups: Sequence[MeasuredGroup]) -> Iterable[str]:
    for measured in groups:
        group = measured.group
        name = " ".join(part for part in (group.model, group.method) if part) or "the responses"
        if measured.failures:
            yield f"{name}: {plural(measured.failures, 'response')} missing, which no measure counts"
        if measured.empty:
            yield f"{name}: {plural(measured.empty, 'empty response')}, which no measure counts"
        sizes = [len(prompt.responses) for prompt in group.prompts]
        if sizes and min(sizes) != max(sizes):
            yield f"{name}: prompts have {min(sizes):,} to {plural(max(sizes), 'response')}"
        if none := sizes.count(0):
            yield f"{name}: {plural(none, 'prompt')} without a response, which no measure counts"
        if single := sizes.count(1):
            yield f"{name}: {plural(single, 'prompt')} with one response, whose diversity is undefined"
    if incomplete := _incomplete_calls(groups):
        yield (
            f"{plural(incomplete, 'call lacks', 'calls lack')} the probability of some responses: within "
            "these calls all responses have the same weight"
        )
    means = {
        round(measured.responses / len(measured.group.prompts), 1) for measured in groups if measured.group.prompts
    }
    if len(means) > 1:
        yield (
            f"the groups have {min(means):g} to {max(means):g} responses a prompt: distinct answers, effective "
            "size, Vendi, distinct-n, self-BLEU and compression depend on that number (`outspoken measure "
            "--per-prompt` compares equal numbers)"
        )
    prompts = [{prompt.prompt_id for prompt in measured.group.prompts} for measured in groups]
    common = set.intersection(*prompts)
    if any(ids != common for ids in prompts):
        yield (
            "the groups differ in their prompts: two groups are compared on those that both have "
            f"({len(common):,} are in all groups)"
        )
    if any("distinct_meanings" in measured.figures for measured in groups):
        yield f"different answers by meaning are {ACCURACY}"


def _incomplete_calls(groups: Sequence[MeasuredGroup]) -> int:
    """The number of calls that have a probability for some of their responses and none for others."""
    missing: dict[tuple[int, str, int | None], set[bool]] = {}
    for index, measured in enumerate(groups):
        for prompt in measured.group.prompts:
            for response in prompt.responses:
                key = (index, prompt.prompt_id, response.call)
                missing.setdefault(key, set()).add(response.probability is None)
    return sum(len(values) > 1 for values in missing.values())
