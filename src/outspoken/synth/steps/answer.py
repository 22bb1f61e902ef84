"""The step `answer`: a teacher model answers each record, several times if its answers are compared."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from outspoken.batch.plan import RunPlan
from outspoken.checking.maths import Checker, final_answer
from outspoken.errors import UsageError
from outspoken.methods.table import find as find_method
from outspoken.same_text import text_key
from outspoken.settings import check_values, option
from outspoken.synth.records import RecordWriter, batches, count, fields_of, fill, pa, rows_in, with_columns
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, filter_records
from outspoken.synth.steps.batch_requests import ASKING, BatchRequests, PromptLine

__all__ = ["AnswerOptions", "run"]

_DISAGREES = "the teacher disagrees with itself"
_NO_ANSWER = "the teacher gave no answer"
_NOT_YET = "not answered yet"
_NO_FINAL = "no final answer can be read"
_ROWS = 256
_TEXTS = pa.list_(pa.string())
_ADDED = {"answer": pa.string(), "final": pa.string(), "agreement": pa.float64(), "samples": _TEXTS}


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(StepOptions):
    """Have a teacher answer each record. Of several `samples` the most frequent answer is taken."""

    ASKING = ASKING

    prompt: str = option("{text}", "The prompt for the teacher; {fields} of the record are filled in.")
    system: str = option("", "A system message before it.")
    samples: int = option(1, "Answers to each record, each from a separate call.", low=1)
    final: str = option(
        "none",
        "How the final answer is read and compared: maths, text (the whole answer), or none.",
        choices=("maths", "none", "text"),
    )
    agreement: float = option(
        0.5, "Remove records on whose final answer fewer than this share of samples agree.", low=0, high=1
    )
    negatives: int = option(0, "Wrong answers to generate for each record, by verbalized sampling.", low=0)
    negatives_prompt: str = option(
        "Give plausible but wrong answers to this problem, of the kind that a student who makes a mistake would "
        "write: a short solution each, with its wrong final answer at the end.\n\nProblem: {text}\n\n"
        "The right answer, for you alone: {final}",
        "The prompt for wrong answers; {final} is the right answer.",
    )
    model: str = option("", "The teacher. Default: the spec's model.")
    asking: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_values(self)
        if self.samples > 1 and self.final == "none":
            raise UsageError('several samples must be compared: say how with final = "maths" or "text"')
        if self.negatives and self.final == "none":
            raise UsageError('wrong answers are recognised by their final answer: add final = "maths" or "text"')
        if "k" in self.asking or "turns" in self.asking:
            raise UsageError("k and turns belong to generate: say how many answers with samples")

    def check(self, model: str | None = None) -> None:
        self.plan(model)

    def model_name(self, default: str | None) -> str | None:
        return self.model or default

    def templates(self) -> dict[str, str]:
        return {"prompt": self.prompt} | ({"negatives_prompt": self.negatives_prompt} if self.negatives else {})

    def added_fields(self) -> tuple[str, ...]:
        return (*_ADDED, *(("negatives",) if self.negatives else ()))

    def plan(self, model: str | None) -> RunPlan:
        """The plan of the run that asks for answers. Raises `UsageError` for invalid settings."""
        settings = {"method": "direct", **self.asking, "k": 1, "n": self.samples}
        plan = RunPlan.make(self.model or model, None, settings)
        if not find_method(plan.settings.method).independent:
            raise UsageError(f"{plan.settings.method} gives several answers in one: use direct or direct-cot")
        return plan


async def run(options: AnswerOptions, step: Step) -> StepOutcome:
    """Ask, then keep the records whose samples agree; with `negatives` ask once more for wrong answers."""
    source = step.needed_source()
    plan = options.plan(step.model)
    step.progress.update("asking the teacher", 0)
    requests = BatchRequests(step)
    path = await requests.ask("answers", _prompts(source, options.prompt, options.system), plan)
    answers = _by_prompt(path)
    chosen = step.folder / step.name / "chosen.parquet" if options.negatives else step.out
    async with Checker() as checker:

        async def decide(table: Any, _: int) -> BatchDecision:
            choices = []
            for prompt_id, texts in itertools.islice(answers, table.num_rows):
                pending = not texts and (requests.stopped or prompt_id in requests.failed)
                choices.append(_Choice(_NOT_YET) if pending else await _choose(options, texts, checker))
            columns = {
                name: pa.array([getattr(choice, name) for choice in choices], kind)
                for name, kind in _ADDED.items()
            }
            return BatchDecision(with_columns(table, columns), [choice.removed for choice in choices])

        outcome = await filter_records(step, "comparing answers", decide, rows=_ROWS, out=chosen)
        negatives = await _negatives(options, step, requests, chosen, plan, checker) if options.negatives else 0
    figures: dict[str, object] = asdict(requests.spent)
    figures |= {"negatives": negatives} if options.negatives else {}
    figures |= {"comparisons that took too long": checker.timeouts} if checker.timeouts else {}
    return replace(outcome, figures=figures, warnings=requests.problems, partly=requests.partly)


def _prompts(source: Path, template: str, system: str = "") -> Iterator[PromptLine]:
    """The records as prompts, each with its 1-based position as id."""
    draws: dict[bytes, int] = {}
    for number, row in enumerate(rows_in(source), 1):
        text = fill(template, fields_of(row))
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        draw = draws[key] = draws.get(key, -1) + 1
        messages = [{"role": "system", "content": system}] if system else []
        yield {"id": str(number), "prompt": [*messages, {"role": "user", "content": text}], "draw": draw}


@dataclass(frozen=True, slots=True)
class _Choice:
    """The columns that a record gets, and why it is `removed` (None: it is kept)."""

    removed: str | None = None
    answer: str | None = None
    final: str | None = None
    agreement: float | None = None
    samples: list[str] | None = None


async def _choose(options: AnswerOptions, texts: Sequence[str], checker: Checker) -> _Choice:
    if not texts:
        return _Choice(_NO_ANSWER)
    if options.final == "none":
        return _Choice(answer=texts[0])
    finals = [_final(options, text) for text in texts]
    samples = [final or "" for final in finals]
    readable = [(final, text) for final, text in zip(finals, texts, strict=True) if final]
    if not readable:
        return _Choice(_NO_FINAL, samples=samples)
    classes: list[object] = [text_key(final) for final, _ in readable]
    if options.final == "maths":
        classes = [*await checker.groups([final for final, _ in readable])]
    largest = max(dict.fromkeys(classes), key=classes.count)  # the earliest of equally large ones
    final, text = readable[classes.index(largest)]
    agreement = classes.count(largest) / len(texts)
    return _Choice(None if agreement >= options.agreement else _DISAGREES, text, final, agreement, samples)


async def _negatives(
    options: AnswerOptions, step: Step, requests: BatchRequests, chosen: Path, plan: RunPlan, checker: Checker
) -> int:
    """Ask for wrong answers unless the run was stopped, and add those that are wrong; returns their number."""
    path: Path | None = None
    if not requests.stopped:
        settings = {**options.asking, "method": "vs-standard", "k": options.negatives}
        step.progress.update("asking for wrong answers", 0)
        prompts = _prompts(chosen, options.negatives_prompt)
        path = await requests.ask("negatives", prompts, RunPlan.make(plan.model, None, settings))
    answers, total = _by_prompt(path), 0
    with RecordWriter(step.out) as writer:
        for table in batches(chosen, rows=_ROWS):
            step.progress.update("comparing wrong answers", writer.rows, count(chosen))
            column = [
                [text for text in next(answers)[1] if await _is_wrong(options, text, right, checker)]
                for right in table["final"].to_pylist()
            ]
            writer.write(with_columns(table, {"negatives": pa.array(column, _TEXTS)}))
            total += sum(map(len, column))
    return total


def _final(options: AnswerOptions, text: str) -> str | None:
    return final_answer(text) if options.final == "maths" else text.strip()


async def _is_wrong(options: AnswerOptions, text: str, right: str, checker: Checker) -> bool:
    """Whether a text has a final answer that is certainly not the right one."""
    final = _final(options, text)
    if not final or options.final == "text":
        return bool(final) and text_key(str(final)) != text_key(right)
    return await checker.same(right, final) is False


def _by_prompt(path: Path | None) -> Iterator[tuple[str, list[str]]]:
    """The id of each prompt, counted from 1 without end, and the texts of its responses."""
    rows = rows_in(path, ("prompt_id", "text")) if path is not None and path.is_file() else iter(())
    numbers = map(str, itertools.count(1))
    for prompt_id, responses in itertools.groupby(rows, lambda row: str(row["prompt_id"])):
        for number in numbers:
            if number == prompt_id:
                break
            yield number, []
        yield prompt_id, [str(row["text"]) for row in responses]
    for number in numbers:
        yield number, []
