"""The step that makes records: a model is asked in rounds, until there are as many different ones as wanted."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from outspoken.batch.plan import RunPlan
from outspoken.batch.sources import PromptRow
from outspoken.batch.sources import read as read_prompts
from outspoken.errors import UnknownNameError, UsageError
from outspoken.same_text import text_key
from outspoken.settings import option
from outspoken.synth.record_shape import schema_of, subject_of
from outspoken.synth.records import RecordWriter, batches, fill, names_in, pa, with_columns
from outspoken.synth.steps.base import Step, StepOutcome
from outspoken.synth.steps.batch_requests import ASKING, BatchRequests

__all__ = ["GenerateOptions", "GenerationPrompts", "check", "run"]

_INDEPENDENT = ("direct", "direct-cot")
_AGAIN = "made before"
_MARGIN, _LEAST_ASKS, _FIRST_ASKS, _MOST_ASKS, _GROWTH = 1.1, 4, 50, 50_000, 4
_EXCERPT, _QUOTABLE = 300, 100_000


@dataclass(frozen=True, kw_only=True)
class GenerateOptions:
    """Ask a model for records until there are `count` different ones. Raises `UsageError` for what cannot be."""

    ASKING = ASKING

    instruction: str = option("", "What to ask for; {topic}, {persona} and {examples} are filled in.")
    topics: tuple[str, ...] = option((), "Each record is asked for with one of these as {topic}, in turn.")
    topics_file: str = option("", "Topics from a file: a line each, or a column `prompt`.", path=True)
    personas: tuple[str, ...] = option((), "Each record is asked for with one of these as {persona}, in turn.")
    personas_file: str = option("", "Personas from a file, as topics_file.", path=True)
    seeds: str = option("", "A file of records from which each prompt quotes some as {examples}.", path=True)
    seeds_column: str = option("", "The column of `seeds` that is quoted. Default: prompt, else messages.")
    examples: int = option(3, "How many of the seeds a prompt quotes.")
    avoid: int = option(0, "Quote so many of the records made so far, as ones not to repeat.")
    schema: str | dict[str, Any] = option("", "A JSON schema of a record, in place or as a file.", path=True)
    fields: tuple[str, ...] = option((), "Names of a record's fields, all text: the short form of a schema.")
    text: str = option("", "The field that says what a record is about. Default: the first text of the schema.")
    count: int | None = option(None, "How many records. Default: what one call for each topic gives.")
    distinct: bool = option(True, "Count different records alone (text made equal as by deduplicate).")
    least_new: float = option(0.02, "Give up when less than this share of two rounds in a row is new.")
    model: str = option("", "The model. Default: the spec's.")
    asking: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise UsageError('instruction is missing: instruction = "Write a word problem about {topic}."')
        for name, value, least in (("examples", self.examples, 1), ("avoid", self.avoid, 0)):
            if value < least:
                raise UsageError(f"{name} must be at least {least}, not {value}")
        if self.count is not None and self.count < 1:
            raise UsageError(f"count must be at least 1, not {self.count}")
        if not 0 <= self.least_new < 1:
            raise UsageError(f"least_new must be from 0 to below 1, not {self.least_new:g}")
        for name in ("topics", "personas"):
            if not all(each.strip() for each in getattr(self, name)):
                raise UsageError(f"{name} has an empty one: leave it out")
        self._check_names()
        self.record, self.subject  # noqa: B018  (their own checks)

    def _check_names(self) -> None:
        used = names_in(self.instruction)
        for name in used:
            if name not in ("topic", "persona", "examples"):
                raise UnknownNameError(
                    "field in the instruction",
                    name,
                    ("topic", "persona", "examples"),
                    see=f"write {{{{{name}}}}} for braces",
                )
        for name in ("topic", "persona"):
            many, file = f"{name}s", f"{name}s_file"
            if getattr(self, many) and getattr(self, file):
                raise UsageError(f"{many} and {file} exclude each other: say one of them")
            given = bool(getattr(self, many) or getattr(self, file))
            if given != (name in used):
                raise UsageError(
                    f"{many} are given and the instruction has no {{{name}}}: write it where one belongs"
                    if given
                    else f"the instruction has {{{name}}} and there are no {many}: give {many} = [...] or {file}"
                )
        if "examples" in used and not self.seeds:
            raise UsageError('the instruction has {examples} and there are no seeds: give seeds = "FILE"')

    @cached_property
    def record(self) -> Mapping[str, Any] | None:
        """The JSON schema of a record, None where it is text."""
        known = (*self.__dataclass_fields__, *ASKING)
        found: Mapping[str, Any] | None = schema_of(self.schema, self.fields, known)
        return found

    @cached_property
    def subject(self) -> str:
        """The field whose text is the record's, "" where the record is text."""
        return subject_of(self.record, self.text)

    @property
    def made(self) -> tuple[str, ...]:
        """The names of the fields of its records."""
        return (*_SCHEMA.names, *(self.record or {}).get("properties", ()))

    def plan(self, model: str | None) -> RunPlan:
        """What each prompt is asked: one call, or k of them for the methods whose calls give one response."""
        # What a call does not bring, the next round makes up for.
        made = RunPlan.make(self.model or model, self.record, {**self.asking, "max_calls": 1})
        if made.settings.method in _INDEPENDENT:
            k = made.settings.k
            made = RunPlan.make(made.model, self.record, {**self.asking, "n": k, "max_calls": k})
        return made


async def run(options: GenerateOptions, step: Step) -> StepOutcome:
    """Ask in rounds; every round is a run of its own, whose files stay in the step's folder."""
    plan = options.plan(step.model)
    made = _Made(options.count, options.distinct)
    asks = GenerationPrompts(options, step.seed)
    a_call = plan.settings.k * (plan.settings.turns if plan.settings.method == "vs-multi" else 1)
    size = asks.kinds if options.count is None else -(-options.count // a_call)
    asking, rounds = BatchRequests(step), list[Path]()
    poor, partly = 0, ""
    size = min(size, _FIRST_ASKS)
    while size:
        if options.avoid and options.count:
            size = min(size, max(_LEAST_ASKS, -(-options.count // a_call // 4)))
        step.watch.tell(f"round {len(rounds) + 1}", made.found, options.count)
        prompts = asks.take(size, made.quoted(options.avoid, step.seed))
        path = await asking.ask(f"round-{len(rounds) + 1:02}", prompts, plan)
        before, seen = made.found, made.seen
        if path.is_file():
            rounds.append(path)
            for table in batches(path, ["value" if options.subject else "text"]):
                made.take(_texts(table, options.subject))
        new, came = made.found - before, made.seen - seen
        poor = poor + 1 if new <= options.least_new * came else 0
        if asking.stopped or not made.seen:
            break
        if options.count is None:
            size = min(asks.kinds - asks.taken, _MOST_ASKS)
            continue
        if made.found >= options.count:
            break
        if poor == 2:
            partly = (
                f"the model has hardly anything new: {made.found:,} of {options.count:,} after {made.seen:,} "
                "responses (name more topics, raise the temperature, or take another method)"
            )
            break
        wanted = math.ceil((options.count - made.found) / max(new / size, 0.05) * _MARGIN)
        size = max(_LEAST_ASKS, min(wanted, _MOST_ASKS if new > came / 2 else _GROWTH * size))
    kept, again = _write(options, step, rounds, made)
    figures = {**asdict(asking.spent), "responses": made.seen, "distinct": made.different, "rounds": len(rounds)}
    if options.count is None:
        partly = asking.partly
    elif not partly and made.found < options.count:
        what = "different records" if options.distinct else "records"
        why = asking.partly or "no reply held a record"
        partly = f"{why}: {made.found:,} of {options.count:,} {what}"
    return StepOutcome(kept, {_AGAIN: again} if again else {}, figures, asking.problems, partly)


def check(options: GenerateOptions) -> None:
    """Raise `UsageError` for a file of topics, personas or seeds that cannot be read."""
    GenerationPrompts(options, 0)


class _Made:
    """The responses so far, numbered from 1, by the digest of their text.

    `stands_for` holds for each the number of the first that said it.
    """

    def __init__(self, count: int | None, distinct: bool) -> None:
        self.seen = self._enough = 0
        self.stands_for = array("q")
        self._count, self._distinct = count, distinct
        self._firsts: dict[bytes, int] = {}
        self._texts: list[str] = []

    @property
    def different(self) -> int:
        return len(self._firsts)

    @property
    def found(self) -> int:
        """Those that count."""
        return len(self._firsts) if self._distinct else self.seen

    @property
    def used(self) -> int:
        """How many of them it takes, from the first, to have `count`; all where there are fewer."""
        return self._enough or self.seen

    def take(self, texts: list[str]) -> None:
        for text in texts:
            self.seen += 1
            key = hashlib.blake2b(text_key(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if key not in self._firsts and len(self._texts) < _QUOTABLE:
                self._texts.append(text[:_EXCERPT])
            self.stands_for.append(self._firsts.setdefault(key, self.seen))
            if not self._enough and self.found == self._count:
                self._enough = self.seen

    def quoted(self, most: int, seed: int) -> list[str]:
        """Texts to choose from that a prompt may quote."""
        return random.Random(seed).sample(self._texts, min(len(self._texts), 50 * most)) if most else []


_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.string()),
        ("value", pa.string()),
        ("prompt", pa.string()),
        ("topic", pa.string()),
        ("persona", pa.string()),
        ("round", pa.int64()),
        ("method", pa.string()),
        ("template", pa.string()),
        ("model", pa.string()),
        ("stated", pa.float64()),
        ("probability", pa.float64()),
        ("rank", pa.int64()),
        ("call", pa.int64()),
        ("request_key", pa.string()),
        ("repairs", pa.list_(pa.string())),
    ]
)


def _write(options: GenerateOptions, step: Step, rounds: list[Path], made: _Made) -> tuple[int, int]:
    """The responses as records, in the order in which they were asked for, up to the one that makes `count`.

    Where different ones are wanted, those that say what an earlier one said are removed. How many of both.
    """
    start = 0
    with RecordWriter(step.out, _SCHEMA) as kept, RecordWriter(step.removed) as gone:
        for number, path in enumerate(rounds, 1):
            for table in batches(path):
                table = table.slice(0, made.used - start)
                fits = table.num_rows
                own, stand = range(start + 1, start + fits + 1), made.stands_for[start : start + fits]
                start += fits
                columns = {
                    "id": pa.array([str(at) for at in own], pa.string()),
                    "text": pa.array(_texts(table, options.subject), pa.string()),
                    "round": pa.array([number] * fits, pa.int64()),
                }
                missing = {name: pa.nulls(fits, pa.string()) for name in ("topic", "persona")}
                columns |= {name: nulls for name, nulls in missing.items() if name not in table.column_names}
                table = with_columns(table, columns).select(_SCHEMA.names)
                new = [one == other or not options.distinct for one, other in zip(own, stand, strict=True)]
                kept.write(table.filter(pa.array(new, pa.bool_())))
                if not all(new):
                    because = pa.array([str(at) for at, fresh in zip(stand, new, strict=True) if not fresh])
                    rest = table.filter(pa.array([not fresh for fresh in new]))
                    reasons = pa.array([_AGAIN] * len(because))
                    gone.write(with_columns(rest, {"reason": reasons, "because_of": because}))
    return kept.rows, gone.rows


def _texts(table: Any, subject: str) -> list[str]:
    """What responses say: their text, or the field `subject` of their value."""
    if not subject:
        texts: list[str] = table["text"].to_pylist()
        return texts
    return [_field(value, subject) for value in table["value"].to_pylist()]


def _field(value: str, subject: str) -> str:
    found = json.loads(value)[subject]
    return found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)


class GenerationPrompts:
    """The prompts in their order; topics and personas take turns, so that each has its share."""

    def __init__(self, options: GenerateOptions, seed: int) -> None:
        self._options = options
        self._seed = seed
        topics = list(options.topics) or _lines("topics_file", options.topics_file)
        personas = list(options.personas) or _lines("personas_file", options.personas_file)
        pairs: list[tuple[str | None, str | None]]
        pairs = list(itertools.product(topics or (None,), personas or (None,)))
        random.Random(seed).shuffle(pairs)
        self._pairs = pairs
        self._seeds = _lines("seeds", options.seeds, options.seeds_column)
        self._next = 0

    @property
    def taken(self) -> int:
        return self._next

    @property
    def kinds(self) -> int:
        return len(self._pairs)

    def take(self, count: int, known: list[str]) -> Iterator[dict[str, Any]]:
        """The next `count` prompts; `draw` tells the same one from its earlier times."""
        first, self._next = self._next, self._next + count
        for number in range(first, first + count):
            topic, persona = self._pairs[number % len(self._pairs)]
            chosen = random.Random(f"{self._seed}/{number}")
            examples = chosen.sample(self._seeds, min(self._options.examples, len(self._seeds)))
            values = {"topic": topic, "persona": persona, "examples": _listed(examples)}
            prompt = fill(self._options.instruction, values)
            if examples and "{examples}" not in self._options.instruction:
                prompt += f"\n\nExamples:\n{_listed(examples)}"
            if known:
                quoted = chosen.sample(known, min(self._options.avoid, len(known)))
                prompt += f"\n\nThese are there already; do not repeat any of them:\n{_listed(quoted)}"
            row = {"id": str(number + 1), "prompt": prompt, "draw": number // len(self._pairs)}
            yield row | {name: values[name] for name in ("topic", "persona") if values[name] is not None}


def _listed(texts: list[str]) -> str:
    return "\n".join("- " + " ".join(text.split()) for text in texts)


def _lines(name: str, path: str, column: str = "") -> list[str]:
    """The texts of the file that the option `name` names, read as prompts are."""
    if not path:
        return []
    remedy = f"say which one with {name}_column" if name == "seeds" else "call the right one prompt"
    try:
        rows = [*read_prompts(path, prompt_column=column or None, remedy=remedy)]
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    texts = [row.messages[-1].content for row in rows if isinstance(row, PromptRow)]
    if not texts:
        raise UsageError(f"{name}: {path} holds no text: write one a line")
    return texts
