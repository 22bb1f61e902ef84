"""The step that writes records for others to use: chats, preference pairs, tables, a data set with its card."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.atomic import write_file, output_errors
from outspoken.same_text import text_key
from outspoken.settings import option
from outspoken.synth.records import (
    RecordWriter,
    batches,
    check_room,
    count,
    fields_of,
    fill,
    names_in,
    pa,
    pq,
    with_columns,
)
from outspoken.synth.steps.dataset_card import ExportContents, card, steps_before
from outspoken.synth.steps.base import Step, StepOutcome
from outspoken.synth.steps.export_files import FORMATS, Example, ExportFiles

__all__ = ["ExportOptions", "run"]

NO_PROMPT = "its prompt is empty or lacks a field"
NO_COMPLETION = "its completion is empty or lacks a field"

_ROWS_AT_ONCE = 2048
_ROOM_FOR_EACH = 2


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write the folder `export`: train.jsonl (chats), preferences.jsonl (pairs for DPO, from the wrong answers
    that the step answer makes), train.parquet, and data/ with a data set that `datasets.load_dataset` and the
    Hugging Face hub read; what is held out is in test.jsonl and so on. README.md is the card of them all.

    A record whose text equals another's but for case and punctuation is on the same side of the split.
    """

    formats: tuple[str, ...] = option(("chat", "parquet", "datasets"), f"What to write: {', '.join(FORMATS)}.")
    prompt: str = option("{text}", "What the user says in a chat; {fields} of the record are filled in.")
    completion: str = option("{answer}", "What the assistant answers; {answer} comes from the step answer.")
    system: str = option("", "A system message before each chat.")
    test_share: float = option(
        0.0, "Share of the records to hold out, chosen by a hash of their text and the seed."
    )
    licence: str = option(
        "", "The licence of the data, such as cc-by-4.0; the card says unknown where none is given."
    )

    def __post_init__(self) -> None:
        if not self.formats or isinstance(self.formats, str):
            raise UsageError(f"formats must be a list of some of {', '.join(FORMATS)}")
        for name in self.formats:
            if name not in FORMATS:
                raise UnknownNameError("format", name, FORMATS)
        for name in ("prompt", "completion"):
            if not getattr(self, name).strip():
                raise UsageError(f'{name} is empty: say what it is made of, {name} = "{{text}}"')
        if not 0 <= self.test_share < 1:
            raise UsageError(f"test_share must be a share from 0 to below 1, not {self.test_share:g}")
        if "preferences" in self.formats:
            used = names_in(self.completion)
            if "answer" not in used or "final" in used:
                raise UsageError(
                    "preferences puts a wrong answer in the place of {answer}: completion must hold {answer}, and "
                    "not {final}, which would stay the right one"
                )

    def templates(self) -> dict[str, str]:
        """The templates of its options, by their name."""
        return {"prompt": self.prompt, "completion": self.completion}


async def run(options: ExportOptions, step: Step) -> StepOutcome:
    """Write all files, and pass the records on; nothing is written where a template names no field."""
    source = step.needed()
    before = steps_before(step)
    if any(manifest.get("do") == "export" for manifest in before):
        raise UsageError("a pipeline exports once, into its folder export: give all formats to one step")
    await asyncio.to_thread(_check, options, source)
    check_room(step.folder, _ROOM_FOR_EACH * len(options.formats) * source.stat().st_size)
    folder = step.folder / "export"
    total, done = count(source), 0
    removed, origins = Counter[str](), Counter[tuple[str, str]]()
    with ExitStack() as stack:
        kept, gone = stack.enter_context(RecordWriter(step.out)), stack.enter_context(RecordWriter(step.removed))
        files = stack.enter_context(ExportFiles(folder, options.formats))
        for table in batches(source, rows=_ROWS_AT_ONCE):
            step.watch.tell("exporting", done, total)
            found = await asyncio.to_thread(_examples, options, step.seed, table)
            rest = table.filter(pa.array([isinstance(entry, Example) for entry in found], pa.bool_()))
            kept.write(rest)
            files.write([entry for entry in found if isinstance(entry, Example)], rest)
            origins.update(_origins(rest))
            reasons = [entry for entry in found if isinstance(entry, str)]
            if reasons:
                out = table.filter(pa.array([isinstance(entry, str) for entry in found], pa.bool_()))
                gone.write(with_columns(out, {"reason": pa.array(reasons, pa.string())}))
                removed.update(reasons)
            done += table.num_rows
    contents = ExportContents(
        files.train, files.test, files.rows, dict(origins), files.columns, files.renamed, files.digest
    )
    text = card(step, before, asdict(options), contents)
    await asyncio.to_thread(_finish, folder, text, files)
    figures = {
        "folder": folder.name,
        "files": files.rows,
        "train": files.train,
        "test": files.test,
        "pairs": files.pairs,
    }
    return StepOutcome(kept.rows, dict(removed), figures, tuple(_warnings(options, files)))


def _finish(folder: Path, text: str, files: ExportFiles) -> None:
    with output_errors(folder):
        folder.mkdir(exist_ok=True)
    write_file(folder / "README.md", lambda file: file.write(text.encode("utf-8", "backslashreplace")))
    files.forget_others()


def _check(options: ExportOptions, source: Path) -> None:
    """Raise `UnknownNameError` where a template names what is in no record, `UsageError` without wrong answers."""
    columns = pq.read_schema(source).names
    if "preferences" in options.formats and "negatives" not in columns:
        raise UsageError(
            "preferences needs wrong answers, and the records have none: ask for some in the step answer "
            "(negatives = 3), or leave preferences out"
        )
    known = set(columns) - {"value"}
    wanted = {
        name: f"field in the {kind}"
        for kind in ("prompt", "completion")
        for name in names_in(getattr(options, kind))
    }
    if "value" in columns and not wanted.keys() <= known:
        for table in batches(source, ("value",)):
            for row in table.to_pylist():
                known |= fields_of(row).keys()
            if wanted.keys() <= known:
                break
    for name, kind in wanted.items():
        if name not in known:
            see = (
                "the step answer writes it"
                if name in ("answer", "final", "negatives")
                else f"write {{{{{name}}}}} for braces"
            )
            raise UnknownNameError(kind, name, known, see=see)


def _examples(options: ExportOptions, seed: int, table: Any) -> list[Example | str]:
    return [_example(options, seed, row) for row in table.to_pylist()]


def _origins(table: Any) -> Iterator[tuple[str, str]]:
    """The method and the model of each record, as far as it tells."""
    named = [name for name in ("method", "model") if name in table.schema.names]
    for row in table.select(named).to_pylist() if named else ():
        yield str(row.get("method") or ""), str(row.get("model") or "")


def _example(options: ExportOptions, seed: int, row: Mapping[str, Any]) -> Example | str:
    """One record as a chat, or why it is none."""
    fields = fields_of(row)
    prompt = _filled(options.prompt, fields)
    if not prompt:
        return NO_PROMPT
    completion = _filled(options.completion, fields)
    if not completion:
        return NO_COMPLETION
    wrong: dict[str, None] = {}
    if "preferences" in options.formats:
        answers = ({**fields, "answer": text} for text in row["negatives"] or () if text and text.strip())
        wrong = dict.fromkeys(fill(options.completion, each) for each in answers)
        wrong.pop(completion, None)
    text = row.get("text")
    held_out = _place(seed, text if isinstance(text, str) else prompt) < options.test_share
    return Example(options.system, prompt, completion, tuple(wrong), held_out)


def _filled(template: str, fields: Mapping[str, Any]) -> str:
    """The template with the fields in it, "" where one of them is missing or null, or nothing is said."""
    if any(fields.get(name) is None for name in names_in(template)):
        return ""
    text = fill(template, fields)
    return text if text.strip() else ""


def _place(seed: int, text: str) -> float:
    """Where a text falls between 0 and 1, by the seed."""
    digest = hashlib.blake2b(f"{seed}\0{text_key(text)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _warnings(options: ExportOptions, files: ExportFiles) -> list[str]:
    told = []
    if options.test_share and not files.test and files.train:
        told.append(f"no record fell into the {options.test_share:.0%} to hold out: there is no test set")
    if files.test and not files.train:
        told.append("all records were held out: there is no training set; lower test_share")
    if "preferences" in options.formats and not files.pairs:
        told.append("no record has a wrong answer that differs from its right one: there are no preferences")
    return told
