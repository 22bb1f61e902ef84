"""The sources of gamma: recorded draws, and log-probabilities from files or from models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path

from outspoken.batch import sources
from outspoken.batch.source_formats import listed
from outspoken.engine import score_all
from outspoken.errors import UndefinedError, UsageError
from outspoken.ledger import Ledger
from outspoken.measure import answer_sets
from outspoken.measure.sets import answer_weights
from outspoken.measure.values import Group, by_call
from outspoken.models.base import Model, Score
from outspoken.theory.gamma_result import Point

__all__ = [
    "count_draws",
    "read_points",
    "read_questions",
    "score_points",
    "single_group",
    "stated_shares",
    "states_shares",
]

_COLUMNS = ("prompt", "answer", "base", "aligned")


def single_group(groups: Sequence[Group], method: str | None = None, model: str | None = None) -> Group:
    """The only group of responses of this method and model. Raises `UsageError` if there are none or several."""
    fitting = [g for g in groups if method in (None, g.method) and model in (None, g.model)]
    if len(fitting) == 1:
        return fitting[0]
    names = listed(f"{g.method} {g.model}".strip() for g in fitting or groups)
    if fitting:
        raise UsageError(
            f"gamma is measured for one method and one model, and there are {names}: give --method or --model"
        )
    raise UsageError(f"there are no responses of that method and model: there are {names}")


def states_shares(group: Group) -> bool:
    """Whether the responses carry probabilities other than 1, from lists or stated distributions."""
    return any(response.probability not in (None, 1) for prompt in group.prompts for response in prompt.responses)


def stated_shares(group: Group, label: Callable[[str], str]) -> list[dict[str, float]]:
    """The shares of the answers in each call; all calls are of one question. They sum to 1 in each."""
    calls = [own for prompt in group.prompts for own in by_call(prompt.responses).values()]
    if not calls:
        raise UndefinedError("there are no responses to measure gamma from: give a file that holds some")
    return [answer_weights(responses, label) for responses in calls]


def count_draws(group: Group, label: Callable[[str], str]) -> tuple[list[dict[str, int]], str]:
    """The counts of answers in each trial, and what a trial is: "trial" for a call, or "prompt" if there are
    several prompts, which are then treated as wordings of one question.

    `label` is as in `outspoken.measure.answer_sets.Answers`. Raises `UsageError` for responses with a probability
    other than 1, which are no draws (`stated_shares` reads them).
    """
    several = len(group.prompts) > 1
    trials: dict[object, Counter[str]] = {}
    for prompt in group.prompts:
        for at, response in enumerate(prompt.responses):
            if response.probability not in (None, 1):
                raise UsageError("these responses have probabilities, so they are no draws of the model")
            trial = prompt.prompt_id if several else (response.call, at if response.call is None else 0)
            trials.setdefault(trial, Counter())[label(response.text)] += 1
    if not trials:
        raise UndefinedError("there are no responses to measure gamma from: give a file that holds some")
    return [dict(trial) for trial in trials.values()], "prompt" if several else "trial"


def read_points(path: str | PathLike[str]) -> list[Point]:
    """The rows of a file with `prompt`, `answer`, and the natural log-probabilities `base` and `aligned`.

    It is JSON lines, JSON, CSV or Parquet; see `outspoken.batch.sources.read`. Log-probabilities are of whole
    answers. Raises `UsageError`, naming the row, for a row that cannot be used.
    """
    points = []
    for row in sources.read(str(path) if str(path) == "-" else Path(path), prompt_column="prompt"):
        if isinstance(row, sources.BadRow):
            raise UsageError(f"{row.where}: {row.reason}")
        if missing := [name for name in _COLUMNS[1:] if row.columns.get(name) in (None, "")]:
            raise UsageError(f"{row.where} has no {missing[0]}: each row needs {', '.join(_COLUMNS)}")
        prompt = "\n".join(message.content for message in row.messages)
        base, aligned = (_logprob(row.columns, name, row.where) for name in _COLUMNS[2:])
        points.append(Point(prompt, str(row.columns["answer"]), base, aligned))
    return points


def read_questions(path: str | PathLike[str], prompt: str | None = None) -> dict[str, tuple[str, ...]]:
    """The right answers to each question of a file that `outspoken.measure.answer_sets.load` reads.

    `prompt` is the question if the file holds only counts. Raises `UsageError` if the question is missing, or
    given both in the file and as `prompt`.
    """
    content = answer_sets.load(Path(path))
    if isinstance(content, answer_sets.Answers):
        if not prompt:
            raise UsageError(f"{path} holds answers without their question: give it with --prompt")
        content = {prompt: content}
    elif prompt:
        raise UsageError(f"{path} holds questions: leave --prompt out")
    return {question: answers.known or () for question, answers in content.items()}


async def score_points(
    questions: Mapping[str, Sequence[str]],
    base: Model,
    aligned: Model,
    *,
    prompt_format: str = "{prompt}\nAnswer: ",
    chat: bool = True,
    ledger: Ledger | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Point]:
    """The log-probabilities of every answer under both models.

    `prompt_format` is the text before an answer for the base model. The aligned model gets the question in its
    chat template, or without `chat` the same text as the base model. Raises `UsageError` for a format without
    "{prompt}" and for answers that cannot be scored.
    """
    if "{prompt}" not in prompt_format:
        raise UsageError(f"the prompt format {prompt_format!r} must contain {{prompt}}")
    plain = {question: prompt_format.replace("{prompt}", question) for question in questions}
    templated = {question: await aligned.chat_text(question) for question in questions} if chat else plain
    pairs = [(question, answer) for question, known in questions.items() for answer in known]
    results = []
    for model, contexts in ((base, plain), (aligned, templated)):
        texts = [(contexts[question], answer) for question, answer in pairs]
        show = None if progress is None else partial(progress, f"scoring with {model.name}")
        results.append(await score_all(model, texts, ledger=ledger, progress=show))
    points = []
    for (question, answer), first, second in zip(pairs, *results, strict=True):
        if not (isinstance(first, Score) and isinstance(second, Score)):
            why = first if isinstance(first, UsageError) else second
            raise UsageError(f"the answer {answer!r} to {question!r} cannot be scored: {why}")
        points.append(Point(question, answer, first.total, second.total))
    return points


def _logprob(columns: Mapping[str, object], name: str, where: str) -> float:
    value = columns[name]
    try:
        return float("nan") if isinstance(value, bool) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise UsageError(f"{where}: {name} must be a natural log-probability, not {value!r}") from None
