"""The step `export`: writes records as chats, preference pairs, tables, and a data set."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

from outspoken.engine.concurrency import in_thread
from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.atomic import check_room, write_bytes
from outspoken.same_text import text_key
from outspoken.settings import check_values, option
from outspoken.synth.records import Record, fields_of, fill, names_in, pa, pq, rows_in
from outspoken.synth.steps.base import BatchDecision, Step, StepOptions, StepOutcome, filter_records
from outspoken.synth.steps.export_files import FORMATS, Example, ExportContents, ExportFiles, card, steps_before

__all__ = ["ExportOptions", "run"]

NO_PROMPT = "its prompt is empty or lacks a field"
NO_COMPLETION = "its completion is empty or lacks a field"

_ROWS = 2048
# The free disk space needed for each format, relative to the size of the source.
_ROOM_FOR_EACH = 2


@dataclass(frozen=True, kw_only=True)
class ExportOptions(StepOptions):
    """Write the folder `export`: train.jsonl (chats), preferences.jsonl (pairs for DPO, from the wrong answers
    that the step answer generates), train.parquet, and data/ with a data set that `datasets.load_dataset` and the
    Hugging Face hub read; held-out records are in test.jsonl and so on. README.md is the card of the data set.

    Records whose texts differ only in case and punctuation are on the same side of the split.
    """

    formats: tuple[str, ...] = option(("chat", "parquet", "datasets"), f"Some of {', '.join(FORMATS)}.")
    prompt: str = option("{text}", "The user's message in a chat; {fields} of the record are filled in.")
    completion: str = option("{answer}", "The assistant's message; {answer} comes from the step answer.")
    system: str = option("", "A system message before each chat.")
    test_share: float = option(
        0.0, "Share of the records to hold out, chosen by a hash of their text and the seed.", low=0, below=1
    )
    licence: str = option("", "The licence of the data, such as cc-by-4.0. Default: the card says unknown.")

    def __post_init__(self) -> None:
        check_values(self)
        if not self.formats or isinstance(self.formats, str):
            raise UsageError(f"formats must be a list of some of {', '.join(FORMATS)}")
        for name in self.formats:
            if name not in FORMATS:
                raise UnknownNameError("format", name, FORMATS)
        for name, template in self.templates().items():
            if not template.strip():
                raise UsageError(f'{name} is empty: give a template, {name} = "{{text}}"')
        if "preferences" in self.formats:
            used = names_in(self.completion)
            if "answer" not in used or "final" in used:
                raise UsageError(
                    "preferences replaces {answer} by a wrong answer: completion must hold {answer}, and not "
                    "{final}, which would stay the right one"
                )

    def templates(self) -> dict[str, str]:
        return {"prompt": self.prompt, "completion": self.completion}

    def fields_after(self, before: Collection[str] | None) -> set[str] | None:
        after = super().fields_after(before)
        if after is not None and "preferences" in self.formats and "negatives" not in after:
            raise UsageError("preferences need wrong answers: have the step answer generate them, negatives = 3")
        return after


async def run(options: ExportOptions, step: Step) -> StepOutcome:
    """Write all files; the exported records are kept. Unknown fields are reported before anything is written."""
    source = step.needed_source()
    before = steps_before(step)
    if any(manifest.do == "export" for manifest in before):
        raise UsageError("a pipeline exports once, into its folder export: give all formats to one step")
    await asyncio.to_thread(_check_fields, options, source)
    check_room(step.folder, _ROOM_FOR_EACH * len(options.formats) * source.stat().st_size)
    folder = step.folder / "export"
    origins = Counter[tuple[str, str]]()
    with ExportFiles(folder, options.formats) as files:

        def export(table: Any) -> list[str | None]:
            rows = table.to_pylist()
            results = [_example(options, step.seed, row) for row in rows]
            reasons = [result if isinstance(result, str) else None for result in results]
            kept = [reason is None for reason in reasons]
            examples = [result for result in results if isinstance(result, Example)]
            files.write(examples, table.filter(pa.array(kept, pa.bool_())))
            pairs = ((row.get("method"), row.get("model")) for row in compress(rows, kept))
            origins.update((str(method or ""), str(model or "")) for method, model in pairs)
            return reasons

        async def decide(table: Any, _: int) -> BatchDecision:
            return BatchDecision(table, await in_thread(lambda _: export(table)))

        outcome = await filter_records(step, "exporting", decide, rows=_ROWS)
    contents = files.contents
    text = card(step, before, asdict(options), contents, origins)
    await asyncio.to_thread(write_bytes, folder / "README.md", text.encode("utf-8", "backslashreplace"))
    await asyncio.to_thread(files.remove_other_files)
    counted = {name: getattr(contents, name) for name in ("train", "test", "pairs")}
    figures = {"folder": folder.name, "files": dict(contents.rows), **counted}
    return replace(outcome, figures=figures, warnings=tuple(_warnings(options, contents)))


def _check_fields(options: ExportOptions, source: Path) -> None:
    """Raise `UnknownNameError` for a field that no record has, `UsageError` if wrong answers are missing."""
    columns = pq.read_schema(source).names
    if "preferences" in options.formats and "negatives" not in columns:
        raise UsageError(
            "preferences needs wrong answers, and the records have none: ask for some in the step answer "
            "(negatives = 3), or leave preferences out"
        )
    known = set(columns) - {"value"}
    wanted = {
        name: f"field in the {option}"
        for option, template in options.templates().items()
        for name in names_in(template)
    }
    if "value" in columns:
        for row in rows_in(source, ("value",)):
            if wanted.keys() <= known:
                break
            known |= fields_of(row).keys()
    for name, kind in wanted.items():
        if name not in known:
            by_answer = name in ("answer", "final", "negatives")
            see = "the step answer writes it" if by_answer else f"write {{{{{name}}}}} for braces"
            raise UnknownNameError(kind, name, known, see=see)


def _example(options: ExportOptions, seed: int, row: Record) -> Example | str:
    """A record as a chat, or why it is not exported."""
    fields = fields_of(row)
    prompt, completion = (_filled(template, fields) for template in options.templates().values())
    if not prompt or not completion:
        return NO_COMPLETION if prompt else NO_PROMPT
    wrong: dict[str, None] = {}
    negatives = row.get("negatives")
    if "preferences" in options.formats and isinstance(negatives, list):
        answers = (text for text in negatives if text and text.strip())
        wrong = dict.fromkeys(fill(options.completion, {**fields, "answer": text}) for text in answers)
        wrong.pop(completion, None)
    text = row.get("text")
    key = text_key(text if isinstance(text, str) else prompt)
    position = int.from_bytes(hashlib.blake2b(f"{seed}\0{key}".encode(), digest_size=8).digest(), "big") / 2**64
    return Example(options.system, prompt, completion, tuple(wrong), position < options.test_share)


def _filled(template: str, fields: Record) -> str:
    """The filled template, "" if a field is missing or null, or the result is blank."""
    if any(fields.get(name) is None for name in names_in(template)):
        return ""
    text = fill(template, fields)
    return text if text.strip() else ""


def _warnings(options: ExportOptions, contents: ExportContents) -> Iterator[str]:
    if options.test_share and not contents.test and contents.train:
        yield f"no record fell into the {options.test_share:.0%} to hold out: there is no test set"
    if contents.test and not contents.train:
        yield "all records were held out: there is no training set; lower test_share"
    if "preferences" in options.formats and not contents.pairs:
        yield "no record has a wrong answer that differs from its right one: there are no preferences"
