"""The step `export`: writes records for other programs as chats, preference pairs, tables, and a data set."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from outspoken.errors import UnknownNameError, UsageError
from outspoken.io.atomic import write_bytes
from outspoken.io.disk import check_room
from outspoken.same_text import text_key
from outspoken.settings import option
from outspoken.synth.record_templates import fields_of, fill, names_in
from outspoken.synth.records import Record, pa, pq, rows_in
from outspoken.synth.steps.base import Step, StepOptions, StepOutcome
from outspoken.synth.steps.dataset_card import card, steps_before
from outspoken.synth.steps.export_files import FORMATS, Example, ExportContents, ExportFiles
from outspoken.synth.steps.record_filter import BatchDecision, filter_records, in_thread

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

    formats: tuple[str, ...] = option(("chat", "parquet", "datasets"), f"What to write: {', '.join(FORMATS)}.")
    prompt: str = option("{text}", "The user's message in a chat; {fields} of the record are filled in.")
    completion: str = option("{answer}", "The assistant's message; {answer} comes from the step answer.")
    system: str = option("", "A system message before each chat.")
    test_share: float = option(
        0.0, "Share of the records to hold out, chosen by a hash of their text and the seed."
    )
    licence: str = option("", "The licence of the data, such as cc-by-4.0. Default: the card says unknown.")

    def __post_init__(self) -> None:
        if not self.formats or isinstance(self.formats, str):
            raise UsageError(f"formats must be a list of some of {', '.join(FORMATS)}")
        for name in self.formats:
            if name not in FORMATS:
                raise UnknownNameError("format", name, FORMATS)
        for name, template in self.templates().items():
            if not template.strip():
                raise UsageError(f'{name} is empty: give a template, {name} = "{{text}}"')
        if not 0 <= self.test_share < 1:
            raise UsageError(f"test_share must be a share from 0 to below 1, not {self.test_share:g}")
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
            examples, reasons = list[Example](), list[str | None]()
            for row in table.to_pylist():
                example = _example(options, step.seed, row)
                if isinstance(example, Example):
                    examples.append(example)
                reasons.append(None if isinstance(example, Example) else example)
            kept = table.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
            files.write(examples, kept)
            origins.update(_origins(kept))
            return reasons

        async def decide(table: Any) -> BatchDecision:
            return BatchDecision(table, await in_thread(lambda: export(table)))

        counts = await filter_records(step, "exporting", decide, rows=_ROWS)
    contents = files.contents
    text = card(step, before, asdict(options), contents, origins)
    await asyncio.to_thread(write_bytes, folder / "README.md", text.encode("utf-8", "backslashreplace"))
    await asyncio.to_thread(files.remove_other_files)
    figures = {
        "folder": folder.name,
        "files": dict(contents.rows),
        "train": contents.train,
        "test": contents.test,
        "pairs": contents.pairs,
    }
    return StepOutcome(counts.kept, counts.removed, figures, tuple(_warnings(options, contents)))


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


def _origins(table: Any) -> Iterator[tuple[str, str]]:
    """The method and the model of each record, as far as they are known."""
    names = [name for name in ("method", "model") if name in table.schema.names]
    for row in table.select(names).to_pylist() if names else ():
        yield str(row.get("method") or ""), str(row.get("model") or "")


def _example(options: ExportOptions, seed: int, row: Record) -> Example | str:
    """A record as a chat, or why it is not exported."""
    fields = fields_of(row)
    prompt = _filled(options.prompt, fields)
    if not prompt:
        return NO_PROMPT
    completion = _filled(options.completion, fields)
    if not completion:
        return NO_COMPLETION
    wrong: dict[str, None] = {}
    negatives = row.get("negatives")
    if "preferences" in options.formats and isinstance(negatives, list):
        answers = (text for text in negatives if text and text.strip())
        wrong = dict.fromkeys(fill(options.completion, {**fields, "answer": text}) for text in answers)
        wrong.pop(completion, None)
    text = row.get("text")
    held_out = _position(seed, text if isinstance(text, str) else prompt) < options.test_share
    return Example(options.system, prompt, completion, tuple(wrong), held_out)


def _filled(template: str, fields: Record) -> str:
    """The filled template, "" if a field is missing or null, or the result is blank."""
    if any(fields.get(name) is None for name in names_in(template)):
        return ""
    text = fill(template, fields)
    return text if text.strip() else ""


def _position(seed: int, text: str) -> float:
    """A position from 0 to 1 that depends on the text and the seed."""
    digest = hashlib.blake2b(f"{seed}\0{text_key(text)}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _warnings(options: ExportOptions, contents: ExportContents) -> Iterator[str]:
    if options.test_share and not contents.test and contents.train:
        yield f"no record fell into the {options.test_share:.0%} to hold out: there is no test set"
    if contents.test and not contents.train:
        yield "all records were held out: there is no training set; lower test_share"
    if "preferences" in options.formats and not contents.pairs:
        yield "no record has a wrong answer that differs from its right one: there are no preferences"
