"""What gamma is measured from: recorded draws, and files of log-probabilities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

from outspoken.batch import sources
from outspoken.batch.source_formats import listed
from outspoken.engine import score_all
from outspoken.errors import UndefinedError, UsageError
from outspoken.ledger import Ledger
from outspoken.measure import answer_sets
from outspoken.measure.values import Group
from outspoken.models.base import Model, Score
from outspoken.theory.gamma_result import Point

__all__ = ["draws_of", "one_group", "questions_of", "read_points", "score_points"]

_COLUMNS = ("prompt", "answer", "base", "aligned")


def one_group(groups: Sequence[Group], method: str | None = None, model: str | None = None) -> Group:
    """The one group of responses by this method and of this model. Raises `UsageError` for none or several."""
    fitting = [g for g in groups if method in (None, g.method) and model in (None, g.model)]
    if len(fitting) == 1:
        return fitting[0]
    named = listed(f"{g.method} {g.model}".strip() for g in fitting or groups)
    if fitting:
        raise UsageError(f"gamma is of one method and one model, and there are {named}: name --method or --model")
    raise UsageError(f"no responses are of that method and model: there are {named}")


def draws_of(group: Group, label: Callable[[str], str]) -> tuple[list[dict[str, int]], str]:
    """The counts of answers in each run of draws, and what a run is: a "trial", which is a call, or a "prompt"
    where there are several, which are then taken for wordings of one question.

    `label` is as in `outspoken.measure.answer_sets.Answers`. Raises `UsageError` for responses with a probability
    other than 1, those of a list or a distribution: they are no draws.
    """
    several = len(group.prompts) > 1
    runs: dict[Any, Counter[str]] = {}
    for asked in group.prompts:
        for at, response in enumerate(asked.responses):
            if response.probability not in (None, 1):
                raise UsageError(
                    "these responses carry probabilities, so they are no draws of the model: give single answers, "
                    "as the method direct asks for them"
                )
            run = asked.prompt_id if several else (response.call, at if response.call is None else 0)
            runs.setdefault(run, Counter())[label(response.text)] += 1
    if not runs:
        raise UndefinedError("there are no responses to measure gamma of: give a file that holds some")
    return [dict(run) for run in runs.values()], "prompt" if several else "trial"


def read_points(path: str | PathLike[str]) -> list[Point]:
    """A file with `prompt`, `answer`, `base` and `aligned`, the natural log-probabilities of whole answers.

    JSON lines, JSON, CSV or Parquet, as `outspoken.batch.sources.read` reads them. Raises `UsageError`, naming the
    row, for one that cannot be used.
    """
    points = []
    for row in sources.read(str(path) if str(path) == "-" else Path(path), prompt_column="prompt"):
        if isinstance(row, sources.BadRow):
            raise UsageError(f"{row.where}: {row.reason}")
        if lacking := [name for name in _COLUMNS[1:] if row.columns.get(name) in (None, "")]:
            raise UsageError(f"{row.where} has no {lacking[0]}: each row needs {', '.join(_COLUMNS)}")
        prompt = "\n".join(message.content for message in row.messages)
        base, aligned = (_logprob(row.columns, name, row.where) for name in _COLUMNS[2:])
        points.append(Point(prompt, str(row.columns["answer"]), base, aligned))
    return points


def questions_of(path: str | PathLike[str], prompt: str | None = None) -> dict[str, tuple[str, ...]]:
    """The right answers to each question of a file that `outspoken.measure.answer_sets.load` reads; `prompt` is
    the
    question of one that holds counts. Raises `UsageError` where the question is missing, or said twice."""
    found = answer_sets.load(Path(path))
    if isinstance(found, answer_sets.Answers):
        if not prompt:
            raise UsageError(f"{path} holds answers and not their question: give it with --prompt")
        found = {prompt: found}
    elif prompt:
        raise UsageError(f"{path} holds questions: leave --prompt out")
    return {question: known.known or () for question, known in found.items()}


async def score_points(
    questions: Mapping[str, Sequence[str]],
    base: Model,
    aligned: Model,
    *,
    text_format: str = "{prompt}\nAnswer: ",
    chat: bool = True,
    ledger: Ledger | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Point]:
    """The log-probabilities of every answer under both models.

    The base model is asked by `text_format`, the aligned one by its chat template, or without `chat` as the
    base model is. Raises `UsageError` for a format without "{prompt}" and for answers that cannot be scored.
    """
    if "{prompt}" not in text_format:
        raise UsageError(f"the format {text_format!r} must hold {{prompt}}: what stands before an answer")
    plain = {question: text_format.replace("{prompt}", question) for question in questions}
    templated = {question: await aligned.chat_text(question) for question in questions} if chat else plain
    found = []
    for model, asked in ((base, plain), (aligned, templated)):
        texts = [(asked[question], answer) for question, known in questions.items() for answer in known]
        show = None if progress is None else partial(progress, f"scoring with {model.name}")
        found.append(await score_all(model, texts, ledger=ledger, progress=show))
    named = [(question, answer) for question, known in questions.items() for answer in known]
    points = []
    for (question, answer), first, second in zip(named, *found, strict=True):
        if not (isinstance(first, Score) and isinstance(second, Score)):
            why = first if isinstance(first, UsageError) else second
            raise UsageError(f"the answer {answer!r} to {question!r} cannot be scored: {why}")
        points.append(Point(question, answer, first.total, second.total))
    return points


def _logprob(columns: Mapping[str, Any], name: str, where: str) -> float:
    value = columns[name]
    try:
        return float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {name} must be a natural log-probability, not {value!r}") from None
