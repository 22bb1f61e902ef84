"""References: which answers are right for each prompt, from counts, a file, or a known law."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path

from outspoken.errors import UsageError
from outspoken.io.text import plural
from outspoken.measure.answer_sets import Answers, load
from outspoken.measure.laws import Law
from outspoken.measure.values import Group, PromptGroup

__all__ = ["Reference", "answers_of", "problems_with"]

Reference = str | PathLike[str] | Mapping[str, object]


def answers_of(reference: Reference | None, law: Law | None) -> Callable[[PromptGroup], Answers] | None:
    """The answers to each prompt: those of the reference, or else of a discrete law; None without either."""
    if reference is None:
        own = None if law is None else law.answers
        return None if own is None else partial(_always, own)
    if not isinstance(reference, (Mapping, str, PathLike)):
        raise UsageError("a reference must be a mapping {answer: count}, or the path of a file")
    answers = Answers.counts(reference) if isinstance(reference, Mapping) else load(Path(reference))
    if isinstance(answers, Answers):
        return lambda prompt: answers
    return lambda prompt: answers.get(prompt.prompt, Answers.free())


def _always(answers: Answers, prompt: PromptGroup) -> Answers:
    return answers


def problems_with(groups: Sequence[Group], answers: Callable[[PromptGroup], Answers] | None) -> Iterable[str]:
    """Sentences about prompts without answers, and answers without counts."""
    if answers is None:
        return
    by_text = {prompt.prompt: prompt for group in groups for prompt in group.prompts}
    equal = sum(own.known is not None and own.reference is None for own in map(answers, by_text.values()))
    if equal:
        yield (
            f"the reference of {plural(equal, 'prompt')} has no counts: its known answers count as equally "
            "likely, and distances are from equal shares"
        )
    missing = {prompt.prompt: None for group in groups for prompt in group.prompts if not answers(prompt).known}
    if missing:
        prompts = plural(len(missing), "prompt")
        yield f"the reference has no answers to {prompts}, the first: {next(iter(missing))!r}"
