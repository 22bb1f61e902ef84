"""The step `generate`: asks a model in rounds until it has written enough different records."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from outspoken.batch.plan import RunPlan
from outspoken.batch.sources import PromptRow
from outspoken.batch.sources import read as read_prompts
from outspoken.errors import UnknownNameError, UsageError, errors_at
from outspoken.io.text import read_json
from outspoken.json_schema import validator
from outspoken.methods.table import find as find_method
from outspoken.same_text import text_key
from outspoken.settings import check_values, option
from outspoken.synth.records import batches, fill, names_in, pa, with_columns
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, filter_records
from outspoken.synth.steps.batch_requests import ASKING, BatchRequests, PromptLine

__all__ = ["GenerateOptions", "GenerationPrompts", "run"]

_REPEATED = "made before"
_MARGIN, _MIN_PROMPTS, _FIRST_PROMPTS, _MAX_PROMPTS, _GROWTH = 1.1, 4, 50, 50_000, 4
_EXCERPT, _QUOTABLE = 300, 100_000
_SLOTS = ("topic", "persona", "examples")


@dataclass(frozen=True, kw_only=True)
class GenerateOptions(StepOptions):
    """Ask a model for records until there are `count` different ones. Raises `UsageError` for invalid options."""

    ASKING = ASKING

    instruction: str = option("", "The prompt; {topic}, {persona} and {examples} are filled in.")
    topics: tuple[str, ...] = option((), "Values of {topic}; the prompts take turns with them.")
    topics_file: str = option("", "Topics from a file: one a line, or a column `prompt`.", path=True)
    personas: tuple[str, ...] = option((), "Values of {persona}; the prompts take turns with them.")
    personas_file: str = option("", "Personas from a file, as topics_file.", path=True)
    seeds: str = option("", "A file of records; each prompt quotes some of them as {examples}.", path=True)
    seeds_column: str = option("", "The column of `seeds` that is quoted. Default: prompt, else messages.")
    examples: int = option(3, "The number of seeds that a prompt quotes.", low=1)
    avoid: int = option(0, "Quote this many of the records so far, and ask not to repeat them.", low=0)
    schema: str | dict[str, Any] = option("", "A JSON schema of a record: a table or a file.", path=True)
    fields: tuple[str, ...] = option((), "Names of a record's fields, all text: the short form of a schema.")
    text: str = option("", "The field that is the record's text. Default: the first text of the schema.")
    count: int | None = option(None, "Number of records. Default: those of one call for each topic.", low=1)
    distinct: bool = option(True, "Count only different records (compared as deduplicate compares them).")
    least_new: float = option(
        0.02, "Stop if less than this share of two successive rounds is new.", low=0, below=1
    )
    model: str = option("", "The model. Default: the spec's.")
    asking: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise UsageError('instruction is missing: instruction = "Write a word problem about {topic}."')
        check_values(self)
        for name in ("topics", "personas"):
            if not all(each.strip() for each in getattr(self, name)):
                raise UsageError(f"{name} contains an empty one: remove it")
        self._check_slots()
        self.record, self.text_field  # noqa: B018  (their own checks)

    def _check_slots(self) -> None:
        used = names_in(self.instruction)
        for name in used:
            if name not in _SLOTS:
                raise UnknownNameError(
                    "field in the instruction", name, _SLOTS, see=f"write {{{{{name}}}}} for braces"
                )
        for name in ("topic", "persona"):
            many, file = f"{name}s", f"{name}s_file"
            if getattr(self, many) and getattr(self, file):
                raise UsageError(f"{many} and {file} exclude each other: give one of them")
            given = getattr(self, many) or getattr(self, file)
            if given and name not in used:
                raise UsageError(f"{many} are given and the instruction has no {{{name}}}: add it there")
            if name in used and not given:
                raise UsageError(
                    f"the instruction has {{{name}}} and there are no {many}: give {many} = [...] or {file}"
                )
        if "examples" in used and not self.seeds:
            raise UsageError('the instruction has {examples} and there are no seeds: give seeds = "FILE"')

    @cached_property
    def record(self) -> dict[str, Any] | None:
        """The JSON schema of a record, None for records that are text. Raises `UsageError` if it is invalid."""
        if self.fields:
            if self.schema:
                raise UsageError("schema and fields exclude each other: give one of them")
            if not all(name.isidentifier() for name in self.fields):
                raise UsageError(f"fields must be names of letters, digits and _, not {list(self.fields)!r}")
            return {
                "type": "object",
                "properties": {name: {"type": "string", "minLength": 1} for name in self.fields},
                "required": list(self.fields),
                "additionalProperties": False,
            }
        if not self.schema:
            return None
        schema: object = self.schema
        if isinstance(schema, str):
            schema = read_json(Path(schema), "schema")
        if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
            raise UsageError("the schema of a record must be an object with properties")
        validator(schema)
        options = {*self.__dataclass_fields__, *ASKING} - {"examples"}  # a keyword of JSON Schema
        if misplaced := [name for name in schema if name in options]:
            raise UsageError(
                f"{misplaced[0]} stands below the schema and became part of it: write it above [step.schema]"
            )
        return schema

    @cached_property
    def text_field(self) -> str:
        """The field that is the record's text, "" for records that are text."""
        if self.record is None:
            if self.text:
                raise UsageError("text names a field of a record: give its schema or fields too")
            return ""
        properties = self.record["properties"]
        if self.text and self.text not in properties:
            raise UnknownNameError("field for text", self.text, properties)
        types = {name: kind.get("type") for name, kind in properties.items() if isinstance(kind, dict)}
        name: str = self.text or next((name for name, kind in types.items() if kind == "string"), "")
        if not name:
            raise UsageError(
                'no field of the schema has the type string: name the right field with text = "FIELD"'
            )
        if name not in self.record.get("required", ()):
            raise UsageError(f'the schema must require {name!r}, the record\'s text: required = ["{name}"]')
        return name

    def check(self, model: str | None = None) -> None:
        GenerationPrompts(self, 0)
        self.plan(model)

    def model_name(self, default: str | None) -> str | None:
        return self.model or default

    def fields_after(self, before: object) -> set[str]:
        return {*_SCHEMA.names, *(self.record["properties"] if self.record else ())}

    def plan(self, model: str | None) -> RunPlan:
        """The plan of each round: one call for each prompt, k calls if the method's calls are independent."""
        # The next round makes up for missing candidates of a call.
        plan = RunPlan.make(self.model or model, self.record, {**self.asking, "max_calls": 1})
        if find_method(plan.settings.method).independent:
            k = plan.settings.k
            plan = RunPlan.make(plan.model, self.record, {**self.asking, "n": k, "max_calls": k})
        return plan


async def run(options: GenerateOptions, step: Step) -> StepOutcome:
    """Ask in rounds; each is a separate batch run, whose files stay in the step's folder."""
    plan = options.plan(step.model)
    responses = _Responses(options.count, options.distinct)
    prompts = GenerationPrompts(options, step.seed)
    per_prompt = find_method(plan.settings.method).candidates(plan.settings.k, plan.settings.turns)
    size = prompts.combinations if options.count is None else -(-options.count // per_prompt)
    requests, rounds = BatchRequests(step), list[Path]()
    poor_rounds, partly = 0, ""
    size = min(size, _FIRST_PROMPTS)
    while size:
        if options.avoid and options.count:
            size = min(size, max(_MIN_PROMPTS, -(-options.count // per_prompt // 4)))
        step.progress.update(f"round {len(rounds) + 1}", responses.counted, options.count)
        before, seen = responses.counted, responses.seen
        batch = prompts.take(size, responses.quotable(options.avoid, step.seed))
        path = await requests.ask(f"round-{len(rounds) + 1:02}", batch, plan)
        if path.is_file():
            rounds.append(path)
            for table in batches(path, ["value" if options.text_field else "text"]):
                responses.add(_texts(table, options.text_field))
        new, received = responses.counted - before, responses.seen - seen
        poor_rounds = poor_rounds + 1 if new <= options.least_new * received else 0
        if requests.stopped or not responses.seen:
            break
        if options.count is None:
            size = min(prompts.combinations - prompts.taken, _MAX_PROMPTS)
            continue
        if responses.counted >= options.count:
            break
        if poor_rounds == 2:
            partly = (
                f"the model has hardly anything new: {responses.counted:,} of {options.count:,} after "
                f"{responses.seen:,} responses (add topics, raise the temperature, or use another method)"
            )
            break
        wanted = math.ceil((options.count - responses.counted) / max(new / size, 0.05) * _MARGIN)
        size = max(_MIN_PROMPTS, min(wanted, _MAX_PROMPTS if new > received / 2 else _GROWTH * size))
    outcome = await _write(options, step, rounds, responses)
    counts = {"responses": responses.seen, "distinct": responses.distinct, "rounds": len(rounds)}
    if options.count is None:
        partly = requests.partly
    elif not partly and responses.counted < options.count:
        what = "different records" if options.distinct else "records"
        reason = requests.partly or "no reply held a record"
        partly = f"{reason}: {responses.counted:,} of {options.count:,} {what}"
    figures = {**asdict(requests.spent), **counts}
    return replace(outcome, figures=figures, warnings=requests.problems, partly=partly)


class _Responses:
    """The responses so far, numbered from 1 and compared by the digest of their text; `first_with_text` has for
    each the number of the first one with the same text."""

    def __init__(self, count: int | None, distinct: bool) -> None:
        self.seen = self._enough = 0
        self.first_with_text = array("q")
        self._count, self._distinct = count, distinct
        self._first_by_digest: dict[bytes, int] = {}
        self._excerpts: list[str] = []

    @property
    def distinct(self) -> int:
        return len(self._first_by_digest)

    @property
    def counted(self) -> int:
        """The number of responses that count towards `count`."""
        return self.distinct if self._distinct else self.seen

    @property
    def used(self) -> int:
        """The number of responses up to the one that completes `count`; of all if there are fewer."""
        return self._enough or self.seen

    def add(self, texts: list[str]) -> None:
        for text in texts:
            self.seen += 1
            digest = hashlib.blake2b(text_key(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()
            if digest not in self._first_by_digest and len(self._excerpts) < _QUOTABLE:
                self._excerpts.append(text[:_EXCERPT])
            self.first_with_text.append(self._first_by_digest.setdefault(digest, self.seen))
            if not self._enough and self.counted == self._count:
                self._enough = self.seen

    def quotable(self, most: int, seed: int) -> list[str]:
        """A random choice of texts, of which each prompt may quote up to `most`."""
        if not most:
            return []
        return random.Random(seed).sample(self._excerpts, min(len(self._excerpts), 50 * most))


_NAMES = "id text value prompt topic persona round method template model stated probability rank call request_key"
_TYPES = dict.fromkeys(("round", "rank", "call"), pa.int64())
_TYPES |= {**dict.fromkeys(("stated", "probability"), pa.float64()), "repairs": pa.list_(pa.string())}
_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in [*_NAMES.split(), "repairs"]])


async def _write(options: GenerateOptions, step: Step, rounds: list[Path], responses: _Responses) -> StepOutcome:
    """Write the responses as records in the order of their prompts, up to the one that completes `count`.

    With `distinct` those with the text of an earlier one are removed.
    """

    def tables() -> Iterator[Any]:
        start = 0
        for number, path in enumerate(rounds, 1):
            for table in batches(path):
                table = table.slice(0, responses.used - start)
                yield _as_records(table, options.text_field, start, number)
                start += table.num_rows

    async def decide(table: Any, _: int) -> BatchDecision:
        ids = table["id"].to_pylist()
        firsts = [str(responses.first_with_text[int(own) - 1]) for own in ids]
        repeated = [options.distinct and first != own for first, own in zip(firsts, ids, strict=True)]
        because = pa.array(list(itertools.compress(firsts, repeated)), pa.string())
        return BatchDecision(table, [_REPEATED if gone else None for gone in repeated], {"because_of": because})

    return await filter_records(step, "writing", decide, tables=tables(), total=responses.used, schema=_SCHEMA)


def _as_records(table: Any, text_field: str, start: int, number: int) -> Any:
    """Responses of round `number` as records, with ids that count on from `start`."""
    rows = table.num_rows
    columns = {
        "id": pa.array([str(at) for at in range(start + 1, start + rows + 1)], pa.string()),
        "text": pa.array(_texts(table, text_field), pa.string()),
        "round": pa.array([number] * rows, pa.int64()),
    }
    missing = {"topic", "persona"} - set(table.column_names)
    columns |= {name: pa.nulls(rows, pa.string()) for name in missing}
    return with_columns(table, columns).select(_SCHEMA.names)


def _texts(table: Any, text_field: str) -> list[str]:
    """The texts of responses, or the field `text_field` of their values."""
    if not text_field:
        texts: list[str] = table["text"].to_pylist()
        return texts
    values = [json.loads(value)[text_field] for value in table["value"].to_pylist()]
    return [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]


class GenerationPrompts:
    """The prompts in order, of which `taken` were asked. The `combinations` of topics and personas take turns."""

    def __init__(self, options: GenerateOptions, seed: int) -> None:
        self._options = options
        self._seed = seed
        topics = list(options.topics) or _lines("topics_file", options.topics_file)
        personas = list(options.personas) or _lines("personas_file", options.personas_file)
        self._pairs: list[tuple[str, str]] = list(itertools.product(topics or ("",), personas or ("",)))
        random.Random(seed).shuffle(self._pairs)
        self._seeds = _lines("seeds", options.seeds, options.seeds_column)
        self.combinations = len(self._pairs)
        self.taken = 0

    def take(self, count: int, quotable: list[str]) -> Iterator[PromptLine]:
        """The next `count` prompts. `draw` distinguishes prompts with the same topic and persona."""
        first, self.taken = self.taken, self.taken + count
        for number in range(first, first + count):
            topic, persona = self._pairs[number % len(self._pairs)]
            rng = random.Random(f"{self._seed}/{number}")
            examples = rng.sample(self._seeds, min(self._options.examples, len(self._seeds)))
            values = {"topic": topic, "persona": persona, "examples": _bullets(examples)}
            prompt = fill(self._options.instruction, values)
            if examples and "{examples}" not in self._options.instruction:
                prompt += f"\n\nExamples:\n{_bullets(examples)}"
            if quotable:
                quoted = rng.sample(quotable, min(self._options.avoid, len(quotable)))
                prompt += f"\n\nThese are there already; do not repeat any of them:\n{_bullets(quoted)}"
            line: PromptLine = {"id": str(number + 1), "prompt": prompt, "draw": number // len(self._pairs)}
            if topic:
                line["topic"] = topic
            if persona:
                line["persona"] = persona
            yield line


def _bullets(texts: list[str]) -> str:
    return "\n".join("- " + " ".join(text.split()) for text in texts)


def _lines(name: str, path: str, column: str = "") -> list[str]:
    """The texts of the file given as the option `name`, read as a file of prompts."""
    if not path:
        return []
    remedy = f"name the right one with {name}_column" if name == "seeds" else "rename the right one to prompt"
    with errors_at(name):
        rows = [*read_prompts(path, prompt_column=column or None, remedy=remedy)]
    texts = [row.messages[-1].content for row in rows if isinstance(row, PromptRow)]
    if not texts:
        raise UsageError(f"{name}: {path} holds no text: write one text per line")
    return texts
