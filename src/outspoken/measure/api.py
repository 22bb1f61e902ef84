"""`measure` takes recorded responses and `compare` asks prompts: both return figures with intervals."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from outspoken._options import CallOptions
from outspoken.batch.plan import RunEngine, RunPlan
from outspoken.batch.response_columns import select_responses
from outspoken.batch.sources import BadRow, PromptRow, rows_of
from outspoken.engine import PromptResult, RunMetrics, run
from outspoken.errors import OutspokenError, UsageError
from outspoken.io.text import plural
from outspoken.ledger import Ledger
from outspoken.measure import response_files
from outspoken.measure.analysis import Analysis, Progress, Sameness, analyse
from outspoken.measure.calibration import GroupCalibration
from outspoken.measure.cost import Cost, cost_of
from outspoken.measure.fidelity import GroupFidelity, group_fidelities
from outspoken.measure.judge import Judge, Quality, judge_quality
from outspoken.measure.laws import read_law
from outspoken.measure.logprob_calibration import calibrate_by_logprobs
from outspoken.measure.references import Reference, answers_of, problems_with
from outspoken.measure.rubrics import Rubric
from outspoken.measure.values import Group, PromptGroup, Response
from outspoken.methods.table import METHODS, Method
from outspoken.models import get_model
from outspoken.models.base import Model
from outspoken.prices import price_of

if TYPE_CHECKING:
    from outspoken.measure.embedding import Embedder

__all__ = ["CompareOptions", "MeasureOptions", "acompare", "ameasure", "compare", "measure", "responses_of"]

Source = str | PathLike[str]
Responses = Source | Sequence[Source] | Iterable[Mapping[str, object]]


class MeasureOptions(TypedDict, total=False):
    """The options of `measure`, which describes them."""

    reference: Reference | None
    law: Source | None
    embedder: str | None
    by: Sequence[str]
    per_prompt: int | None
    ledger: Source | None
    judge: str | Model | None
    rubric: str | Rubric
    verdicts: Source | None
    same: Sameness
    score: str | Model | None
    seed: int
    resamples: int
    progress: Progress | None


class CompareOptions(CallOptions, total=False):
    """The options of `compare`, which describes them."""

    model: str | Model | None
    n: int
    ledger: Source | None
    embedder: str | None
    same: Sameness
    progress: Progress | None


def measure(responses: Responses, **options: Unpack[MeasureOptions]) -> Analysis:
    """Measure recorded responses, and compare the methods and models in them.

    `responses` are files (see `outspoken.measure.response_files.read_all`) or mappings with the same fields, such
    as `{"prompt": "Name a tea.", "text": "Oolong", "method": "direct"}`. Raises `UsageError` for responses that
    cannot be read or measured, and for invalid options.

    Options:
        reference: The shares that the answers ought to have: `{answer: count}`, or a file that
            `outspoken.measure.answer_sets.load` reads. Default: None.
        law: The law that the responses should follow, by name or as a file of counts, which
            `outspoken.measure.laws.read_law` reads; its answers are the reference without another. Default: None.
        embedder: The embedding model, see `outspoken.measure.embedding.embedder`; None leaves out the measures
            that need embeddings. Default: 'minilm'.
        by: Further columns to group by, in addition to method, model and template. Default: ().
        per_prompt: Measure only this many responses of each prompt, the first ones. Default: None.
        ledger: The ledger of the run that wrote the responses; adds their cost. Default: None.
        judge: A model that scores the quality of each response. Default: None.
        rubric: The criteria of the judge: 'creative', 'joke', a .toml file, or a `Rubric`. Default: 'creative'.
        verdicts: The ledger of the judge: nothing in it is judged again. Default: None.
        same: When two responses are one answer: if their texts are equal ('exact'), or if their meaning is, by
            their embeddings ('meaning'). Default: 'exact'.
        score: A model whose log-probabilities of the responses the stated ones are compared with: the one that
            was asked, with its weights in reach. Default: None.
        seed: The seed of the resampling and of the judge. Default: 0.
        resamples: The number of resamples of each bootstrap and each test, at least 100. Default: 10000.
        progress: Called with the name of a step, the number of parts done, and the number of all. Default: None.
    """
    return run(ameasure(responses, **options))


async def ameasure(
    responses: Responses,
    *,
    reference: Reference | None = None,
    law: Source | None = None,
    embedder: str | None = "minilm",
    by: Sequence[str] = (),
    per_prompt: int | None = None,
    ledger: Source | None = None,
    judge: str | Model | None = None,
    rubric: str | Rubric = "creative",
    verdicts: Source | None = None,
    same: Sameness = "exact",
    score: str | Model | None = None,
    seed: int = 0,
    resamples: int = 10_000,
    progress: Progress | None = None,
) -> Analysis:
    """`measure` for asynchronous code.

    Options:
        reference: The shares that the answers ought to have: `{answer: count}`, or a file that
            `outspoken.measure.answer_sets.load` reads. Default: None.
        law: The law that the responses should follow, by name or as a file of counts, which
            `outspoken.measure.laws.read_law` reads; its answers are the reference without another. Default: None.
        embedder: The embedding model, see `outspoken.measure.embedding.embedder`; None leaves out the measures
            that need embeddings. Default: 'minilm'.
        by: Further columns to group by, in addition to method, model and template. Default: ().
        per_prompt: Measure only this many responses of each prompt, the first ones. Default: None.
        ledger: The ledger of the run that wrote the responses; adds their cost. Default: None.
        judge: A model that scores the quality of each response. Default: None.
        rubric: The criteria of the judge: 'creative', 'joke', a .toml file, or a `Rubric`. Default: 'creative'.
        verdicts: The ledger of the judge: nothing in it is judged again. Default: None.
        same: When two responses are one answer: if their texts are equal ('exact'), or if their meaning is, by
            their embeddings ('meaning'). Default: 'exact'.
        score: A model whose log-probabilities of the responses the stated ones are compared with: the one that
            was asked, with its weights in reach. Default: None.
        seed: The seed of the resampling and of the judge. Default: 0.
        resamples: The number of resamples of each bootstrap and each test, at least 100. Default: 10000.
        progress: Called with the name of a step, the number of parts done, and the number of all. Default: None.
    """
    wanted = None if law is None else read_law(law)
    answers = answers_of(reference, wanted)
    records = _read(responses, by)
    groups = records.groups
    if per_prompt is not None:
        groups = tuple(_first_responses(group, per_prompt) for group in groups)
    costs = None if ledger is None else [_cost(group, Path(ledger)) for group in groups]
    quality: Quality = {}
    notes: tuple[str, ...] = ()
    async with _opened(embedder) as embedding:
        if judge is not None:
            with nullcontext() if verdicts is None else Ledger(Path(verdicts)) as store:
                scorer = Judge(judge, rubric, ledger=store, seed=seed)
                report = None if progress is None else partial(progress, "judging")
                quality, notes = await judge_quality(groups, scorer, report)
        analysis = await analyse(
            groups,
            embedder=embedding,
            answers=answers,
            quality=quality,
            costs=costs,
            same=same,
            seed=seed,
            resamples=resamples,
            progress=progress,
        )
        warnings = (*analysis.warnings, *(embedding.warnings if embedding else ()))
    scored: tuple[GroupCalibration, ...] = ()
    if score is not None:
        scoring = get_model(score) if isinstance(score, str) else score
        scored, problems = await calibrate_by_logprobs(groups, scoring, progress)
        notes = (*notes, *problems)
    fidelities: tuple[GroupFidelity, ...] = ()
    if wanted is not None:
        fidelities, problems = group_fidelities(groups, wanted, seed)
        notes = (*notes, *problems)
    warnings = (*records.problems, *problems_with(groups, answers), *notes, *warnings)
    calibration = (*analysis.calibration, *scored)
    warnings = tuple(dict.fromkeys(warnings))
    return replace(analysis, warnings=warnings, fidelity=fidelities, calibration=calibration)


def compare(
    prompts: Sequence[str],
    methods: Sequence[str | Method] = ("direct", "vs-standard"),
    **options: Unpack[CompareOptions],
) -> tuple[list[Group], Analysis]:
    """Ask `prompts` with each of the `methods`, and measure the responses.

    Returns the groups of responses, one for each method, and their analysis. The options are those of each call,
    below, and:

    - `model`: the model, as in `outspoken.verbalize`. Default: None.
    - `n`: the number of responses to each prompt by each method. Default: 10.
    - `ledger`: a file for every reply; nothing in it is asked again. Default: None.
    - `embedder`: the embedding model, as in `measure`. Default: 'minilm'.
    - `same`: when two responses are one answer, as in `measure`. Default: 'exact'.
    - `progress`: called with the name of a step, the number of parts done, and the number of all. Default: None.

    Raises `UsageError` for invalid arguments. If there is no response at all, raises the error of the first
    method.

    Options:
        k: Candidates per call (direct, direct-cot, multi-turn: in all). Default: 5.
        tau: Ask for the tail: candidates with a probability below this (vs-* only). Default: None.
        template: The wording: a name from `outspoken templates`, or a .toml file. Default: 'standard'.
        words: Target length of a response, in words. Default: None.
        turns: Turns of vs-multi, each of k candidates. Default: 2.
        top_up: How often to ask again for candidates that are missing or unreadable. Default: 2.
        on_short: If candidates are still missing then: return the others (and say so) or raise. Default: 'return'.
        temperature: Sampling temperature of the model. Default: None.
        top_p: Nucleus sampling of the model: the share of probability to sample from. Default: None.
        max_tokens: Most tokens of one reply. Default: None.
        seed: Seed of the model's sampling and of the draw. Default: None.
        stop: Strings at which the model stops. Default: ().
        extra: Further sampling settings by the provider's own names (min_p, top_k). Default: {}.
    """
    return run(acompare(prompts, methods, **options))


async def acompare(
    prompts: Sequence[str],
    methods: Sequence[str | Method] = ("direct", "vs-standard"),
    *,
    model: str | Model | None = None,
    n: int = 10,
    ledger: Source | None = None,
    embedder: str | None = "minilm",
    same: Sameness = "exact",
    progress: Progress | None = None,
    **options: Unpack[CallOptions],
) -> tuple[list[Group], Analysis]:
    """`compare` for asynchronous code.

    - `model`: the model, as in `outspoken.verbalize`. Default: None.
    - `n`: the number of responses to each prompt by each method. Default: 10.
    - `ledger`: a file for every reply; nothing in it is asked again. Default: None.
    - `embedder`: the embedding model, as in `measure`. Default: 'minilm'.
    - `same`: when two responses are one answer, as in `measure`. Default: 'exact'.
    - `progress`: called with the name of a step, the number of parts done, and the number of all. Default: None.

    Options:
        k: Candidates per call (direct, direct-cot, multi-turn: in all). Default: 5.
        tau: Ask for the tail: candidates with a probability below this (vs-* only). Default: None.
        template: The wording: a name from `outspoken templates`, or a .toml file. Default: 'standard'.
        words: Target length of a response, in words. Default: None.
        turns: Turns of vs-multi, each of k candidates. Default: 2.
        top_up: How often to ask again for candidates that are missing or unreadable. Default: 2.
        on_short: If candidates are still missing then: return the others (and say so) or raise. Default: 'return'.
        temperature: Sampling temperature of the model. Default: None.
        top_p: Nucleus sampling of the model: the share of probability to sample from. Default: None.
        max_tokens: Most tokens of one reply. Default: None.
        seed: Seed of the model's sampling and of the draw. Default: None.
        stop: Strings at which the model stops. Default: ().
        extra: Further sampling settings by the provider's own names (min_p, top_k). Default: {}.
    """
    if "method" in options:
        raise UsageError("compare takes several methods: name them in methods")
    if len(set(methods)) < max(2, len(methods)):
        raise UsageError("a comparison needs at least two different methods: name them, separated by commas")
    rows: list[PromptRow] = []
    for row in rows_of(prompts):
        if isinstance(row, BadRow):
            raise UsageError(f"{row.where}: {row.reason}")
        rows.append(row)
    if not rows:
        raise UsageError("there is no prompt to ask")
    plans = [RunPlan.make(model, None, _options_of(method, n, options)) for method in methods]
    async with _opened(embedder) as embedding:
        with nullcontext() if ledger is None else Ledger(Path(ledger)) as store:
            asked = [await _ask(rows, plan, store, progress) for plan in plans]
        groups = [group for group, _, _ in asked]
        errors = {group.method: error for group, _, error in asked if error is not None}
        if errors and not any(prompt.responses for group in groups for prompt in group.prompts):
            raise next(iter(errors.values()))
        costs = [cost for _, cost, _ in asked]
        analysis = await analyse(groups, embedder=embedding, costs=costs, same=same, progress=progress)
        problems = (f"{name} failed for some prompts; the first error: {error}" for name, error in errors.items())
        warnings = (*problems, *analysis.warnings, *(embedding.warnings if embedding else ()))
    return groups, replace(analysis, warnings=warnings)


def _options_of(method: str | Method, n: int, options: CallOptions) -> dict[str, Any]:
    """The options of one method.

    All methods ask for the responses alone: the direct ones do so in the published wording if no other is given,
    because a bare prompt also returns openings and explanations, which would count as different answers.
    """
    row = METHODS.get(method) if isinstance(method, str) else method
    wording = {"template": "paper"} if row is not None and row.independent else {}
    return {**wording, **options, "method": method, "n": n}


async def _ask(
    rows: Sequence[PromptRow], plan: RunPlan, ledger: Ledger | None, progress: Progress | None
) -> tuple[Group, Cost, OutspokenError | None]:
    metrics = RunMetrics()
    engine = RunEngine(plan, metrics, ledger)
    prompts: list[PromptGroup] = []
    error: OutspokenError | None = None
    method, wanted = plan.settings.method, plan.run.n or 0
    with engine.timed():
        async with aclosing(engine.results(iter(rows))) as results:
            async for result in results:
                if result.untouched:
                    continue
                responses = responses_of(result, plan)
                texts = tuple(response for response in responses if response.text.strip())
                error = error or result.error
                missing = max(0, wanted - len(responses)) if result.error is not None else 0
                row, empty = result.prompt, len(responses) - len(texts)
                prompts.append(PromptGroup(row.id, row.messages[-1].content, texts, missing, empty))
                if progress:
                    progress(method, len(prompts), len(rows))
    usage = metrics.usage + metrics.usage_from_ledger
    usd = None if plan.price is None else plan.price.cost(usage)
    requests = metrics.requests + metrics.from_ledger
    cost = Cost(requests, usage.total_tokens, metrics.model_seconds, usd, metrics.seconds)
    settings = {"template": plan.template.name}
    return Group(method, plan.model.name, tuple(prompts), settings), cost, engine.broken or error


def responses_of(result: PromptResult[PromptRow], plan: RunPlan) -> tuple[Response, ...]:
    """The responses to one prompt, as a run writes them.

    A conversation with one response per turn merges equal responses into one candidate and adds up their weights.
    Here each turn counts again.
    """
    method = METHODS[plan.settings.method]
    merged = method.conversation and method.candidates_per_request != "k"
    responses: list[Response] = []
    for call, index in select_responses(result.calls, plan.run.goal):
        candidate = call.distribution[index]
        values = candidate.text, candidate.probability, candidate.stated
        response = Response(*values, call.number, call.key_of(index))
        if merged:
            turns = call.distribution.provenance.k - call.distribution.missing
            responses += [replace(response, probability=None)] * round((response.probability or 0) * turns)
        else:
            responses.append(response)
    return tuple(responses)


@asynccontextmanager
async def _opened(name: str | None) -> AsyncIterator[Embedder | None]:
    """An embedder by its name, which is closed at the end; None for no name."""
    if name is None:
        yield None
        return
    from outspoken.measure.embedding import embedder

    async with aclosing(embedder(name)) as opened:
        yield opened


def _read(responses: Responses, by: Sequence[str]) -> response_files.Records:
    sources: list[Any] = [responses] if isinstance(responses, (str, PathLike)) else list(responses)
    if all(isinstance(source, Mapping) for source in sources):
        return response_files.from_rows(sources, by=by)
    if not all(isinstance(source, (str, PathLike)) for source in sources):
        raise UsageError("responses must be paths of files, or mappings with prompt and text")
    return response_files.read_all(sources, by=by)


def _first_responses(group: Group, count: int) -> Group:
    if count < 1:
        raise UsageError(f"per_prompt must be at least 1, not {count}")
    prompts = tuple(replace(prompt, responses=prompt.responses[:count]) for prompt in group.prompts)
    return replace(group, prompts=prompts)


def _cost(group: Group, ledger: Path) -> Cost:
    """The cost of the replies with the responses. Raises `UsageError` if the ledger lacks some of them."""
    keys = {response.request for prompt in group.prompts for response in prompt.responses}
    price = price_of(group.model)
    cost = cost_of(ledger, keys, None if price is None else price.cost)
    if cost.requests < len(keys):
        raise UsageError(
            f"{ledger} lacks {len(keys) - cost.requests:,} of the {plural(len(keys), 'reply')} of {group.method}: "
            "name the ledger of the run that wrote these responses"
        )
    return cost
