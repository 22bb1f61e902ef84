"""The files of an export: JSON lines and Parquet, and the card of the data set."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken._version import __version__
from outspoken.io.atomic import output_errors
from outspoken.models import weight_files
from outspoken.synth.manifest import StepManifest, spec_text, without_folders
from outspoken.synth.records import PendingFile, RecordWriter, pa, table_of, with_columns
from outspoken.synth.steps.base import Step, StepCost, StepFiles

__all__ = ["FORMATS", "PAIRS", "Example", "ExportContents", "ExportFiles", "card", "steps_before"]

FORMATS: Mapping[str, tuple[str, str]] = {
    "chat": ("train.jsonl", "test.jsonl"),
    "preferences": ("preferences.jsonl", "preferences-test.jsonl"),
    "parquet": ("train.parquet", "test.parquet"),
    "datasets": ("data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"),
}
"""The formats, each with its files: of the records to train on, and of those held out."""

PAIRS = ("preferences/train-00000-of-00001.parquet", "preferences/test-00000-of-00001.parquet")
"""The files of preference pairs for `datasets`, which reads one kind of file from a folder."""

_RESERVED = ("messages", "prompt", "completion", "chosen", "rejected")
"""Columns by which TRL recognises the kind of a data set: columns of records with these names are renamed."""

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PAIR = pa.schema([("prompt", _MESSAGES), ("chosen", _MESSAGES), ("rejected", _MESSAGES)])

_Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Example:
    """One record to train on: a chat of one turn, and `wrong` answers to the same prompt."""

    system: str
    prompt: str
    completion: str
    wrong: tuple[str, ...] = ()
    held_out: bool = False

    @property
    def prompt_messages(self) -> _Messages:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.prompt}]

    @property
    def messages(self) -> _Messages:
        return [*self.prompt_messages, _answer(self.completion)]

    @property
    def pairs(self) -> list[dict[str, _Messages]]:
        """The pairs in the explicit form that TRL's `DPOTrainer` takes, as messages."""
        return [
            {"prompt": self.prompt_messages, "chosen": [_answer(self.completion)], "rejected": [_answer(text)]}
            for text in self.wrong
        ]


@dataclass(slots=True)
class ExportContents:
    """The numbers of records to `train` on, held out for a `test`, and of preference `pairs`; the `rows` of each
    file, the `columns` of the tables, the new names of `renamed` columns, and a `digest` of the content."""

    train: int = 0
    test: int = 0
    rows: dict[str, int] = field(default_factory=dict)
    pairs: int = 0
    columns: Sequence[str] = ()
    renamed: dict[str, str] = field(default_factory=dict)
    digest: str = ""


class ExportFiles(ExitStack):
    """Writes examples in several formats at once. All files appear at the end, those without content never.

    Raises `OutputError` if it cannot write.
    """

    def __init__(self, folder: Path, formats: Sequence[str]) -> None:
        super().__init__()
        self.contents = ExportContents()
        self._folder = folder
        self._formats = tuple(name for name in FORMATS if name in formats)
        self._files: dict[str, PendingFile] = {}
        self._hash = hashlib.blake2b(digest_size=12)

    def write(self, examples: Sequence[Example], records: Any) -> None:
        """Add examples, and the table of their records."""
        for split in (0, 1):
            selected = [example.held_out == bool(split) for example in examples]
            chosen = list(itertools.compress(examples, selected))
            if not chosen:
                continue
            pairs = [pair for example in chosen for pair in example.pairs]
            table = self._table(records.filter(pa.array(selected)), chosen)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
            self._hash.update(sink.getvalue())
            self._hash.update(json.dumps(pairs, ensure_ascii=False).encode())
            self.contents.digest = self._hash.hexdigest()
            for name in self._formats:
                path = FORMATS[name][split]
                if name == "chat":
                    self._write(path, [{"messages": example.messages} for example in chosen])
                elif name == "preferences" and pairs:
                    self._write(path, pairs)
                elif name != "preferences":
                    self._write(path, table)
            if pairs and {"preferences", "datasets"} <= set(self._formats):
                self._write(PAIRS[split], table_of(pairs, _PAIR))
            self.contents.pairs += len(pairs)
            self.contents.test += len(chosen) if split else 0
            self.contents.train += 0 if split else len(chosen)

    def remove_other_files(self) -> None:
        """Remove the files of an earlier export that this one did not write."""
        for name in itertools.chain(*FORMATS.values(), PAIRS):
            if name not in self._files:
                with output_errors(self._folder / name):
                    (self._folder / name).unlink(missing_ok=True)

    def _table(self, records: Any, examples: Sequence[Example]) -> Any:
        names = list(records.schema.names)
        for name in _RESERVED:
            if name in names:
                other = f"record_{name}"
                while other in names:
                    other += "_"
                names[names.index(name)] = self.contents.renamed[name] = other
        table = records.rename_columns(names)
        table = with_columns(table, {"messages": pa.array([example.messages for example in examples], _MESSAGES)})
        self.contents.columns = list(table.schema.names)
        return table

    def _write(self, name: str, rows: Any) -> None:
        if name not in self._files:
            kind = _JsonLines if name.endswith(".jsonl") else RecordWriter
            self._files[name] = self.enter_context(kind(self._folder / name, private=False))
        self._files[name].write(rows)
        self.contents.rows[name] = self._files[name].rows


class _JsonLines(PendingFile):
    def write(self, rows: Sequence[Mapping[str, object]]) -> None:
        if self._file is None:
            self._open()
        with output_errors(self.path):
            self._file.writelines(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        self.rows += len(rows)


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


_LICENCES = frozenset(
    (
        *("agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0"),
        *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0"),
        *("cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "gemma"),
        *("gfdl", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "mit"),
        *("mpl-2.0", "odbl", "odc-by", "openrail", "pddl", "unknown", "unlicense", "wtfpl"),
    )
)
"""The hub's names of licences; any other licence is `other`, with its name."""

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_SPLITS = ("train", "test")
_JSON_PAIRS = FORMATS["preferences"]
# The files of the configs default and preferences, all of one kind.
_CONFIGS = (
    (FORMATS["datasets"], PAIRS),
    (FORMATS["parquet"], ()),
    (FORMATS["chat"], _JSON_PAIRS),
    ((), _JSON_PAIRS),
)
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def steps_before(step: Step) -> list[StepManifest]:
    """The manifests of the steps whose records reach this one, in their order: each names its source."""
    manifests: dict[str, StepManifest] = {}
    source = step.source.name if step.source is not None else None
    while source and source not in manifests:
        if (done := StepManifest.load(StepFiles(Path(source).stem, step.folder))) is None:
            break
        manifests[source] = done
        source = done.source
    return list(manifests.values())[::-1]


def card(
    step: Step,
    before: Sequence[StepManifest],
    settings: Mapping[str, object],
    contents: ExportContents,
    origins: Mapping[tuple[str, str], int],
) -> str:
    """README.md of a data set: YAML for the Hugging Face hub, and Markdown for people.

    `settings` are those of the step export, which has no manifest yet. `origins` are the numbers of records from
    each method and model.
    """
    jinja = need("jinja2", "the card of a data set", "synth")
    environment = jinja.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"block": _block, "grouped": "{:,}".format, "inline": _inline, "quoted": _quoted}
    environment.filters["without_folders"] = without_folders
    name, source, text = _pipeline(step.folder)
    own = StepManifest(
        step=step.name, do="export", settings=settings, seed=step.seed, model=step.model, kept=contents.train
    )
    done = {manifest.do: manifest for manifest in before}
    licence = str(settings.get("licence") or "").strip()
    known = (licence or "unknown").lower()
    template = (resources.files("outspoken.synth.steps") / "dataset_card.jinja").read_text("utf-8")
    result: str = environment.from_string(template).render(
        name=name,
        version=__version__,
        seed=step.seed,
        settings=settings,
        contents=contents,
        before=before,
        done=done,
        by_model="generate" in done or "answer" in done,
        licence=licence,
        licence_key=known if known in _LICENCES else "other",
        licence_name="" if known in _LICENCES else re.sub(r"[^a-z0-9.]+", "-", known).strip("-"),
        licences=_licences(before, origins),
        size=next((label for limit, label in _SIZES if contents.train + contents.test < limit), "n>10M"),
        configs=_configs(contents),
        files=[(f"`{file}`", f"{rows:,}") for file, rows in contents.rows.items()],
        steps=[_step_row(manifest) for manifest in before],
        models=[_model_row(manifest, cost) for manifest in before if (cost := manifest.spent)],
        origins=[
            (model or "unknown", method or "unknown", f"{count:,}")
            for (method, model), count in sorted(origins.items(), key=lambda entry: (-entry[1], entry[0]))
            if any(any(origin) for origin in origins)
        ],
        spec=spec_text(name, source, [*before, own], text),
    )
    return result


def _pipeline(folder: Path) -> tuple[str, str | None, str]:
    """The pipeline's name, its input file and the column of the text, from the folder's synth.json."""
    try:
        mark = json.loads((folder / "synth.json").read_bytes())
        spec = tomllib.loads(mark["spec"])
        source = spec.get("input")
        return str(mark["name"]), Path(source).name if source else None, str(spec.get("text", "text"))
    except (OSError, ValueError, KeyError, TypeError):
        return folder.resolve().name, None, "text"


def _configs(contents: ExportContents) -> dict[str, dict[str, str]]:
    """The parts of the data set, each with its files by split; all of one kind, as `datasets` requires."""
    for default, pairs in _CONFIGS:
        configs = {}
        for name, files in (("default", default), ("preferences", pairs)):
            written = {split: file for split, file in zip(_SPLITS, files, strict=False) if file in contents.rows}
            if written:
                configs[name] = written
        if configs:
            return configs
    return {}


def _step_row(manifest: StepManifest) -> tuple[str, ...]:
    removed = "; ".join(f"{count:,} {reason}" for reason, count in manifest.removed.items())
    return manifest.step, f"{manifest.records:,}", f"{manifest.kept:,}", removed


def _model_row(manifest: StepManifest, cost: StepCost) -> tuple[str, ...]:
    counts = (cost.requests, cost.from_ledger, cost.tokens, cost.failures)
    usd = "unknown" if cost.usd is None else f"{cost.usd:,.4f}"
    return manifest.step, manifest.model or "the default", *(f"{count:,}" for count in counts), usd


def _licences(before: Sequence[StepManifest], origins: Mapping[tuple[str, str], int]) -> dict[str, str]:
    known = {f"local/{row.name}": f"{row.licence} {row.licence_url}".strip() for row in weight_files.listing()}
    asked = (manifest.model for manifest in before if manifest.model and manifest.spent)
    names = sorted({*asked, *(model for _, model in origins if model)})
    return {name: known.get(name, "look it up") for name in names}


def _block(text: str, kind: str = "text") -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return "\n".join((f"{fence}{kind}", text.rstrip("\n"), fence))


def _inline(text: str) -> str:
    """A text on one line without HTML."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())


def _quoted(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(text, ensure_ascii=False))
