"""The card of a data set, from the manifests: where it comes from, how it was made, how to make it again."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outspoken._version import __version__
from outspoken.models import weight_files
from outspoken.synth.spec import spec_text, without_folders
from outspoken.synth.steps.base import Step
from outspoken.synth.steps.export_files import FORMATS, PAIRS

__all__ = ["ExportContents", "card", "steps_before"]

Manifest = Mapping[str, Any]

_LICENCES = frozenset(
    (
        *("agpl-3.0", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0"),
        *("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0"),
        *(
            "cc-by-sa-3.0",
            "cc-by-sa-4.0",
            "cc0-1.0",
            "cdla-permissive-1.0",
            "cdla-permissive-2.0",
            "gemma",
            "gfdl",
        ),
        *("gpl-2.0", "gpl-3.0", "lgpl-3.0", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "mit"),
        *("mpl-2.0", "odbl", "odc-by", "openrail", "pddl", "unknown", "unlicense", "wtfpl"),
    )
)
"""What the hub calls licences; another one is `other`, with its name."""

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
_SPLITS = ("train", "test")
_LINES = FORMATS["preferences"]
_KINDS = ((FORMATS["datasets"], PAIRS), (FORMATS["parquet"], ()), (FORMATS["chat"], _LINES), ((), _LINES))
_COUNTS = ("requests", "from_ledger", "tokens", "failures")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class ExportContents:
    """What was exported: how many records to train on and held out, the `rows` of each file, how many records come
    from each (method, model), the `columns` of the tables, and those that are `renamed` there."""

    train: int
    test: int
    rows: Mapping[str, int]
    origins: Mapping[tuple[str, str], int] = field(default_factory=dict)
    columns: Sequence[str] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


def steps_before(step: Step) -> list[dict[str, Any]]:
    """The manifests of the steps whose records this one gets, in their order: each names its source."""
    found: dict[str, dict[str, Any]] = {}
    source = step.source.name if step.source is not None else None
    while source and source not in found:
        try:
            found[source] = json.loads((step.folder / source).with_suffix(".json").read_bytes())
        except (OSError, ValueError):
            break
        source = found[source].get("source")
    return list(found.values())[::-1]


def card(step: Step, before: Sequence[Manifest], settings: Mapping[str, Any], contents: ExportContents) -> str:
    """README.md of a data set: YAML that the Hugging Face hub reads, and Markdown for people.

    `settings` are those of the step export itself, which has no manifest yet.
    """
    name, source, text = _told(step.folder)
    own = {"do": "export", "settings": settings, "seed": step.seed, "model": step.model}
    licence = str(settings.get("licence") or "").strip()
    sections = (
        _front(name, licence, contents, is_synthetic=_has(before, "generate", "answer")),
        [f"# {_inline(name)}"],
        [f"Made with Outspoken {__version__}. {_author(before)}"],
        ["## What is in it", "", *_inside(settings, contents)],
        ["## How it was made", "", *_made(before)],
        ["## Models", "", *_models(before, contents)],
        ["## Licence", "", *_licence(licence, before, contents)],
        ["## Known limits", "", *_limits(before)],
        ["## Make it again", "", *_again(spec_text(name, source, [*before, own], text), step.seed)],
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _told(folder: Path) -> tuple[str, str | None, str]:
    """The pipeline's name, the file it began with and its column of text, from what it left in its folder."""
    try:
        mark = json.loads((folder / "synth.json").read_bytes())
        spec = tomllib.loads(mark["spec"])
        source = spec.get("input")
        return str(mark["name"]), Path(source).name if source else None, str(spec.get("text", "text"))
    except (OSError, ValueError, KeyError, TypeError):
        return folder.resolve().name, None, "text"


def _has(before: Sequence[Manifest], *steps: str) -> bool:
    return any(manifest.get("do") in steps for manifest in before)


def _author(before: Sequence[Manifest]) -> str:
    if _has(before, "generate"):
        return "Synthetic: language models wrote these records, not people."
    if _has(before, "answer"):
        return "Synthetic in part: the records came as a file, and a language model answered them."
    return "The records came as a file; who wrote them is not known here."


def _front(name: str, licence: str, contents: ExportContents, *, is_synthetic: bool) -> list[str]:
    """What the hub reads. Texts are quoted as in JSON, which is YAML."""
    known = (licence or "unknown").lower()
    lines = ["---", f"pretty_name: {_quoted(name)}"]
    lines.append(f"license: {_quoted(known if known in _LICENCES else 'other')}")
    short = re.sub(r"[^a-z0-9.]+", "-", known).strip("-")
    if known not in _LICENCES and short:
        lines.append(f"license_name: {_quoted(short)}")
    size = next((label for least, label in _SIZES if contents.train + contents.test < least), "n>10M")
    lines += ["tags:", *(['- "synthetic"'] if is_synthetic else []), '- "outspoken"']
    lines += ["size_categories:", f"- {_quoted(size)}"]
    lines += ["task_categories:", '- "text-generation"']
    if parts := _parts(contents):
        lines.append("configs:")
    for config, files in parts.items():
        lines += [f"- config_name: {_quoted(config)}", "  data_files:"]
        for split, file in files.items():
            lines += [f"  - split: {_quoted(split)}", f"    path: {_quoted(file)}"]
    if parts:
        lines.append("dataset_info:")
    for config in parts:
        # `datasets` keeps what it has read by what stands here: another export must not be taken for it.
        lines += [f"- config_name: {_quoted(config)}", f"  description: {_quoted(f'data {contents.digest}')}"]
    return [*lines, "---"]


def _parts(contents: ExportContents) -> dict[str, dict[str, str]]:
    """The parts of the data set, each with its files by split; all of one kind, as `datasets` wants."""
    for default, pairs in _KINDS:
        found = {}
        for name, files in (("default", default), ("preferences", pairs)):
            there = {split: file for split, file in zip(_SPLITS, files, strict=False) if file in contents.rows}
            if there:
                found[name] = there
        if found:
            return found
    return {}


def _inside(settings: Mapping[str, Any], contents: ExportContents) -> Iterator[str]:
    yield f"{contents.train:,} records to train on, {contents.test:,} held out (chosen by a hash of their text)."
    yield ""
    yield from _table(("file", "rows"), ((f"`{file}`", f"{rows:,}") for file, rows in contents.rows.items()))
    if contents.columns:
        yield ""
        yield f"Columns of the tables: {', '.join(f'`{name}`' for name in contents.columns)}."
    for old, new in contents.renamed.items():
        yield f"`{new}` is the record's own `{old}`, a name that trainers take for something else."
    yield from ("", *_block('from datasets import load_dataset\n\ndata = load_dataset("export")', "python"))
    yield ""
    yield "A chat is made of a record by these templates:"
    for kind in ("system", "prompt", "completion"):
        if settings.get(kind):
            yield from ("", f"{kind}:", "", *_block(str(settings[kind])))


def _made(before: Sequence[Manifest]) -> Iterator[str]:
    if not before:
        yield "This folder says nothing of how the records were made: they came as a file."
        return
    rows = []
    for manifest in before:
        removed = [f"{count:,} {reason}" for reason, count in (manifest.get("removed") or {}).items()]
        counts = (f"{int(manifest.get(name) or 0):,}" for name in ("records", "kept"))
        rows.append((str(manifest.get("step")), *counts, "; ".join(removed)))
    yield from _table(("step", "records", "kept", "removed"), rows)
    for manifest in before:
        if manifest.get("partly"):
            yield from (
                "",
                f"{_inline(str(manifest.get('step')))} is not finished: {_inline(manifest['partly'])}.",
            )


def _models(before: Sequence[Manifest], contents: ExportContents) -> Iterator[str]:
    rows = []
    for manifest in before:
        if figures := _asked(manifest):
            usd = figures.get("usd")
            counts = (f"{int(figures.get(name) or 0):,}" for name in _COUNTS)
            cost = "unknown" if usd is None else f"{usd:,.4f}"
            rows.append((str(manifest.get("step")), manifest.get("model") or "the default", *counts, cost))
    heads = ("step", "model", "requests", "from the ledger", "tokens", "failures", "USD")
    yield from _table(heads, rows) if rows else ("No step of this pipeline asked a model.",)
    if any(any(origin) for origin in contents.origins):
        yield ""
        ordered = sorted(contents.origins.items(), key=lambda entry: (-entry[1], entry[0]))
        yield from _table(
            ("records come from the model", "by the method", "records"),
            ((model or "unknown", method or "unknown", f"{count:,}") for (method, model), count in ordered),
        )


def _asked(manifest: Manifest) -> Mapping[str, Any]:
    """The figures of a step that asked a model, else nothing."""
    figures = manifest.get("figures") or {}
    return figures if "requests" in figures else {}


def _licence(licence: str, before: Sequence[Manifest], contents: ExportContents) -> Iterator[str]:
    yield f"Of this data: {_inline(licence)}." if licence else "Of this data: unknown, none was stated."
    known = {f"local/{row.name}": f"{row.licence} {row.licence_url}".strip() for row in weight_files.listing()}
    asked = (str(manifest["model"]) for manifest in before if manifest.get("model") and _asked(manifest))
    names = sorted({*asked, *(model for _, model in contents.origins if model)})
    if names or _has(before, "generate", "answer"):
        yield from ("", "What the models' licences and terms of use say of their output holds too:", "")
    yield from (f"- {_inline(name)}: {known.get(name, 'look it up')}" for name in names)


def _limits(before: Sequence[Manifest]) -> Iterator[str]:
    done = {str(manifest.get("do")): manifest for manifest in before}
    if _has(before, "generate", "answer"):
        yield "- What a language model wrote can be wrong, and it carries the model's manner and biases."
    if "verify" in done:
        removed = sum((done["verify"].get("removed") or {}).values())
        step = _inline(str(done["verify"].get("step")))
        yield f"- Verified in the step {step}, which removed {removed:,}; its settings below say how."
    elif "answer" in done:
        samples = (done["answer"].get("settings") or {}).get("samples") or 1
        yield (
            f"- No answer was verified: of {samples} samples the teacher's most frequent one was taken."
            if samples > 1
            else "- No answer was verified."
        )
    else:
        yield "- Nothing in it was verified."
    if "decontaminate" in done:
        settings = done["decontaminate"].get("settings") or {}
        files = ", ".join(without_folders(list(settings.get("against") or ()))) or "benchmarks"
        cosine = settings.get("meaning")
        also = (
            "; paraphrases were not looked for"
            if cosine is None
            else f", and by meaning from a cosine of {cosine}"
        )
        yield f"- Compared with the questions of {_inline(files)} by runs of {settings.get('ngram')} words{also}."
    else:
        yield "- Compared with no benchmark: it may hold questions of those that a model is evaluated on."
    if "deduplicate" not in done:
        yield "- No near-duplicates were looked for."
    for manifest in before:
        told = manifest.get("warnings") or ()
        yield from (f"- {_inline(str(manifest.get('step')))}: {_inline(text)}." for text in told)


def _again(spec: str, seed: int) -> Iterator[str]:
    yield f"With `pip install 'outspoken[synth]=={__version__}'`, the seed {seed}, and this spec, which holds all"
    yield "settings of all steps; files stand in it by their names alone."
    yield ""
    yield from _block(spec, "toml")
    yield ""
    yield from _block("outspoken synth spec.toml --out FOLDER", "sh")
    yield ""
    yield "The ledger in the pipeline's folder (`ledger.sqlite`) holds every reply: with it no model is asked"
    yield "again, and the same records come. Without it a model may answer otherwise."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(_inline(cell).replace('|', '&#124;') for cell in cells)} |"


def _block(text: str, kind: str = "text") -> list[str]:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}{kind}", text.rstrip("\n"), fence]


def _inline(text: str) -> str:
    """A text in one line, in which nothing opens HTML."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())


def _quoted(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(text, ensure_ascii=False))
