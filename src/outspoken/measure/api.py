"""`measure` and `compare`: recorded responses, or prompts asked now, into figures with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from outspoken.batch.prices import price_of
from outspoken.engine import run
from outspoken.errors import UsageError
from outspoken.ledger import Ledger
from outspoken.measure import response_files
from outspoken.measure.analysis import Analysis, Progress, analyse
from outspoken.measure.answer_sets import Answers, load
from outspoken.measure.comparing import ask
from outspoken.measure.cost import Cost, cost_of
from outspoken.measure.judge import Judge, Quality, judge_quality
from outspoken.measure.rubrics import Rubric
from outspoken.measure.values import Group, PromptGroup
from outspoken.models.base import Model

__all__ = ["acompare", "ameasure", "compare", "measure"]

Source = str | PathLike[str]
Reference = Source | Mapping[str, Any]


def measure(responses: Source | Sequence[Source] | Iterable[Mapping[str, Any]], **options: Any) -> Analysis:
    """`ameasure` for synchronous code: `outspoken.measure.measure("responses.parquet").to_dict()`."""
    return run(ameasure(responses, **options))


async def ameasure(
    responses: Source | Sequence[Source] | Iterable[Mapping[str, Any]],
    *,
    reference: Reference | None = None,
    embedder: str | None = "minilm",
    by: Sequence[str] = (),
    per_prompt: int | None = None,
    ledger: Source | None = None,
    judge: str | Model | None = None,
    rubric: str | Rubric = "creative",
    verdicts: Source | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    progress: Progress | None = None,
) -> Analysis:
    """Measure recorded responses, and compare the methods and models in them.

    `responses` are files (`outspoken.measure.response_files.read_all` says which) or mappings with the same
    fields. `reference` says what the answers ought to be: `{answer: count}`, or a file that
    `outspoken.measure.answer_sets.load` reads. `embedder` is a name for `outspoken.measure.embedding.embedder`
    (None: no embeddings, so no figures that need them). `by` names further columns to group by, `per_prompt` takes
    the first so many responses of each prompt, `ledger`, the ledger of the run, adds what they cost. `judge`, a
    model, says by `rubric` how good they are; with `verdicts`, the path of a ledger, nothing is judged twice.

    Raises `UsageError` for what cannot be read or measured.
    """
    known = None if reference is None else _reference(reference)
    if isinstance(responses, (str, PathLike)):
        responses = [responses]
    sources: list[Any] = list(responses)
    in_memory = all(isinstance(source, Mapping) for source in sources)
    if not in_memory and not all(isinstance(source, (str, PathLike)) for source in sources):
        raise UsageError(
            "responses are paths of files, or mappings with prompt and text; not both, and nothing else"
        )
    found = response_files.from_rows(sources, by=by) if in_memory else response_files.read_all(sources, by=by)
    groups = found.groups
    if per_prompt is not None:
        groups = tuple(_first(group, per_prompt) for group in groups)
    costs = None if ledger is None else [_cost(group, Path(ledger)) for group in groups]
    quality: Quality = {}
    told: tuple[str, ...] = ()
    if judge is not None:
        with nullcontext() if verdicts is None else Ledger(Path(verdicts)) as kept:
            quality, told = await _judged(groups, Judge(judge, rubric, ledger=kept, seed=seed), progress)
    analysis = await _analysed(
        groups,
        embedder,
        answers=known,
        quality=quality,
        costs=costs,
        seed=seed,
        resamples=resamples,
        progress=progress,
    )
    warnings = (*found.problems, *_unanswered(groups, known), *told, *analysis.warnings)
    return replace(analysis, warnings=tuple(dict.fromkeys(warnings)))


def compare(prompts: Sequence[str], methods: Sequence[str], **options: Any) -> tuple[list[Group], Analysis]:
    """`acompare` for synchronous code."""
    return run(acompare(prompts, methods, **options))


async def acompare(
    prompts: Sequence[str],
    methods: Sequence[str] = ("direct", "vs-standard"),
    *,
    model: str | Model | None = None,
    n: int = 10,
    ledger: Source | None = None,
    embedder: str | None = "minilm",
    progress: Progress | None = None,
    **options: Any,
) -> tuple[list[Group], Analysis]:
    """Ask `prompts` by each of the `methods`, `n` responses to each, and measure what came: the groups of
    responses, one a method, and their analysis. `options` are those of `outspoken.run`.

    Raises `UsageError` for what cannot be asked, and what made everything fail, where nothing came of it.
    """
    if len(set(methods)) < max(2, len(methods)):
        raise UsageError("comparing takes two different methods at least: name them, with commas between them")
    groups, costs, problems = await ask(
        prompts,
        methods,
        model=model,
        n=n,
        ledger=None if ledger is None else Path(ledger),
        progress=progress,
        **options,
    )
    analysis = await _analysed(groups, embedder, costs=costs, progress=progress)
    return groups, replace(analysis, warnings=(*problems, *analysis.warnings))


async def _judged(
    groups: Sequence[Group], judge: Judge, progress: Progress | None
) -> tuple[Quality, tuple[str, ...]]:
    def show(done: int, total: int) -> None:
        if progress:
            progress("judging", done, total)

    return await judge_quality(groups, judge, show)


async def _analysed(groups: Sequence[Group], embedder: str | None, **more: Any) -> Analysis:
    if embedder is None:
        return await analyse(groups, **more)
    from outspoken.measure.embedding import embedder as embedder_named

    named = embedder_named(embedder)
    try:
        analysis = await analyse(groups, embedder=named, **more)
        return replace(analysis, warnings=(*analysis.warnings, *named.warnings))
    finally:
        await named.aclose()


def _reference(reference: Reference) -> Callable[[PromptGroup], Answers]:
    if not isinstance(reference, (Mapping, str, PathLike)):
        raise UsageError("a reference is a mapping {answer: count}, or the path of a file")
    found = Answers.counts(reference) if isinstance(reference, Mapping) else load(Path(reference))
    if isinstance(found, Answers):
        return lambda asked: found
    return lambda asked: found.get(asked.prompt, Answers.free())


def _unanswered(groups: Sequence[Group], known: Callable[[PromptGroup], Answers] | None) -> Iterable[str]:
    """Which prompts a file of questions does not hold."""
    if known is None:
        return
    missing = {asked.prompt: None for group in groups for asked in group.prompts if not known(asked).known}
    if missing:
        yield f"the reference has no answers to {len(missing):,} prompts, the first: {next(iter(missing))!r}"


def _first(group: Group, count: int) -> Group:
    if count < 1:
        raise UsageError(f"--per-prompt must be at least 1, not {count}")
    prompts = tuple(replace(asked, responses=asked.responses[:count]) for asked in group.prompts)
    return replace(group, prompts=prompts)


def _cost(group: Group, ledger: Path) -> Cost:
    """What the replies cost that the responses came from. Raises `UsageError` where the ledger lacks some."""
    keys = {response.request for asked in group.prompts for response in asked.responses}
    price = price_of(group.model)
    cost = cost_of(ledger, keys, None if price is None else price.cost)
    if cost.requests < len(keys):
        raise UsageError(
            f"{ledger} lacks {len(keys) - cost.requests:,} of the {len(keys):,} replies of {group.method}: name "
            "the ledger of the run that wrote these responses"
        )
    return cost
