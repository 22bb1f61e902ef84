"""The step that has a teacher answer each record, several times where it is to agree with itself."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from outspoken.batch.plan import RunPlan
from outspoken.checking.maths import Checker, final_answer
from outspoken.errors import UnknownNameError, UsageError
from outspoken.same_text import text_key
from outspoken.settings import option
from outspoken.synth.records import RecordWriter, batches, fields_of, fill, pa, rows_in, with_columns
from outspoken.synth.steps.base import Step, StepOutcome
from outspoken.synth.steps.batch_requests import ASKING, BatchRequests

__all__ = ["AnswerOptions", "run"]

_FINAL = ("none", "maths", "text")
_DISAGREES = "the teacher disagrees with itself"
_SILENT = "the teacher gave no answer"
_NOT_YET = "not answered yet"
_NO_FINAL = "no final answer can be read"
_COLUMNS = {
    "answer": pa.string(),
    "final": pa.string(),
    "agreement": pa.float64(),
    "samples": pa.list_(pa.string()),
}
_NEGATIVES = pa.list_(pa.string())


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Have a teacher answer each record. With several `samples` the answer that most of them agree on is taken."""

    ASKING = ASKING

    prompt: str = option("{text}", "What the teacher is asked; {fields} of the record are filled in.")
    system: str = option("", "A system message before it.")
    samples: int = option(1, "Answers to each record, each by a call of its own.")
    final: str = option(
        "none", "How the final answer is read and compared: maths, text (the whole answer), or none."
    )
    agreement: float = option(0.5, "Remove records on whose final answer fewer than this share of samples agree.")
    negatives: int = option(0, "Wrong answers to make for each record, by verbalized sampling.")
    negatives_prompt: str = option(
        "Give plausible but wrong answers to this problem, of the kind that a student who makes a mistake would "
        "write: a short solution each, with its wrong final answer at the end.\n\nProblem: {text}\n\n"
        "The right answer, for you alone: {final}",
        "What is asked for them; {final} is the right answer.",
    )
    model: str = option("", "The teacher. Default: the spec's model.")
    asking: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.final not in _FINAL:
            raise UnknownNameError("way to read the final answer", self.final, _FINAL)
        if self.samples < 1 or self.negatives < 0:
            raise UsageError("samples must be at least 1, and negatives at least 0")
        if not 0 <= self.agreement <= 1:
            raise UsageError(f"agreement must be from 0 to 1, not {self.agreement:g}")
        if self.samples > 1 and self.final == "none":
            raise UsageError('several samples must be compared: say how with final = "maths" or "text"')
        if self.negatives and self.final == "none":
            raise UsageError('wrong answers are told by their final answer: add final = "maths" or "text"')
        if "k" in self.asking or "turns" in self.asking:
            raise UsageError("k and turns belong to generate: say how many answers with samples")

    def templates(self) -> dict[str, str]:
        """The templates of its options that are filled, by their name."""
        return {"prompt": self.prompt} | ({"negatives_prompt": self.negatives_prompt} if self.negatives else {})

    def plan(self, model: str | None) -> RunPlan:
        """What each record is asked. Raises `UsageError` for what cannot be."""
        options = {"method": "direct", **self.asking, "k": 1, "n": self.samples}
        made = RunPlan.make(self.model or model, None, options)
        if made.settings.method not in ("direct", "direct-cot"):
            raise UsageError(f"{made.settings.method} gives several answers in one: take direct or direct-cot")
        return made


async def run(options: AnswerOptions, step: Step) -> StepOutcome:
    """Ask, then keep what the samples agree on; with `negatives` ask once more for wrong ones."""
    source = step.needed()
    plan = options.plan(step.model)
    step.watch.tell("asking the teacher", 0)
    asking = BatchRequests(step)
    answers = await asking.ask("answers", _prompts(source, options.prompt, options.system), plan)
    chosen = step.folder / step.name / "chosen.parquet" if options.negatives else step.out
    async with Checker() as checker:
        kept, removed = await _choose(options, step, asking, answers, chosen, checker)
        if options.negatives:
            found = await _negatives(options, step, asking, chosen, plan, checker)
    figures: dict[str, Any] = asdict(asking.spent)
    if options.negatives:
        figures["negatives"] = found
    if checker.timeouts:
        figures["comparisons that took too long"] = checker.timeouts
    return StepOutcome(kept, removed, figures, asking.problems, partly=asking.partly)


def _prompts(source: Path, template: str, system: str = "") -> Iterator[dict[str, Any]]:
    """The records as prompts, called by their place from 1; `draw` tells those that say the same apart."""
    seen: dict[bytes, int] = {}
    for number, row in enumerate(rows_in(source), 1):
        text = fill(template, fields_of(row))
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        draw = seen[key] = seen.get(key, -1) + 1
        messages = [{"role": "system", "content": system}] if system else []
        yield {"id": str(number), "prompt": [*messages, {"role": "user", "content": text}], "draw": draw}


async def _choose(
    options: AnswerOptions, step: Step, asking: BatchRequests, answers: Path, out: Path, checker: Checker
) -> tuple[int, Counter[str]]:
    """Write the records with their answers to `out`, but for those without one; how many, and why not the rest."""
    source, removed, done = step.needed(), Counter[str](), 0
    by_record = _Grouped(answers)
    with RecordWriter(out) as kept, RecordWriter(step.removed) as gone:
        for table in batches(source, rows=256):
            columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
            reasons: list[str | None] = []
            for number in range(done + 1, done + table.num_rows + 1):
                texts = by_record.take(number)
                found, reason = await _agreed(options, texts, checker)
                if not texts and (asking.stopped or str(number) in asking.failed):
                    reason = _NOT_YET
                for name in _COLUMNS:
                    columns[name].append(found.get(name))
                reasons.append(reason)
            table = with_columns(table, {n: pa.array(v, _COLUMNS[n]) for n, v in columns.items()})
            kept.write(table.filter(pa.array([reason is None for reason in reasons])))
            bad = [reason for reason in reasons if reason is not None]
            if bad:
                rest = table.filter(pa.array([reason is not None for reason in reasons]))
                gone.write(with_columns(rest, {"reason": pa.array(bad)}))
            removed.update(bad)
            done += len(reasons)
            step.watch.tell("comparing answers", done)
    return kept.rows, removed


async def _agreed(
    options: AnswerOptions, texts: Sequence[str], checker: Checker
) -> tuple[dict[str, Any], str | None]:
    """The columns of one record, and why it is removed (None: it is not)."""
    if not texts:
        return {}, _SILENT
    if options.final == "none":
        return {"answer": texts[0]}, None
    finals = [_final(options, text) for text in texts]
    told = [(final, text) for final, text in zip(finals, texts, strict=True) if final]
    columns: dict[str, Any] = {"samples": [final or "" for final in finals]}
    if not told:
        return columns, _NO_FINAL
    classes: list[Any] = [text_key(final) for final, _ in told]
    if options.final == "maths":
        classes = [*await checker.groups([final for final, _ in told])]
    largest = max(dict.fromkeys(classes), key=classes.count)  # the earliest of equally large ones
    final, text = told[classes.index(largest)]
    agreement = classes.count(largest) / len(texts)
    columns |= {"answer": text, "final": final, "agreement": agreement}
    return columns, None if agreement >= options.agreement else _DISAGREES


async def _negatives(
    options: AnswerOptions, step: Step, asking: BatchRequests, chosen: Path, plan: RunPlan, checker: Checker
) -> int:
    """Ask for wrong answers, unless it was stopped, and add those that really are wrong; how many there are."""
    answers: Path | None = None
    if not asking.stopped:
        wrong = RunPlan.make(plan.model, None, {**options.asking, "method": "vs-standard", "k": options.negatives})
        step.watch.tell("asking for wrong answers", 0)
        answers = await asking.ask("negatives", _prompts(chosen, options.negatives_prompt), wrong)
    by_record, total, done = _Grouped(answers), 0, 0
    with RecordWriter(step.out) as writer:
        for table in batches(chosen, rows=256):
            column = []
            for right in table["final"].to_pylist():
                done += 1
                told = [(text, _final(options, text)) for text in by_record.take(done)]
                wrong_ones = [
                    text for text, final in told if final and not await _is_same(options, final, right, checker)
                ]
                column.append(wrong_ones)
                total += len(wrong_ones)
            writer.write(with_columns(table, {"negatives": pa.array(column, _NEGATIVES)}))
    return total


def _final(options: AnswerOptions, text: str) -> str | None:
    return final_answer(text) if options.final == "maths" else text.strip()


async def _is_same(options: AnswerOptions, one: str, other: str, checker: Checker) -> bool:
    if options.final == "text":
        return text_key(one) == text_key(other)
    return await checker.same(one, other) is not False


class _Grouped:
    """The texts of responses by prompt, taken in the order in which the prompts were asked."""

    def __init__(self, path: Path | None) -> None:
        rows = rows_in(path, ("prompt_id", "text")) if path is not None and path.is_file() else iter(())
        self._groups = ((key, [row["text"] for row in rows]) for key, rows in groupby(rows, _prompt_id))
        self._next: tuple[str, list[str]] | None = next(self._groups, None)

    def take(self, number: int) -> list[str]:
        if self._next is None or self._next[0] != str(number):
            return []
        texts = self._next[1]
        self._next = next(self._groups, None)
        return texts


def _prompt_id(row: Mapping[str, Any]) -> str:
    return str(row["prompt_id"])
