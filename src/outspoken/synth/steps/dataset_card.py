"""The card of an exported data set: its origin, how it was generated, and how to generate it again."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from outspoken._version import __version__
from outspoken.models import weight_files
from outspoken.synth.manifest import StepManifest
from outspoken.synth.spec_writer import spec_text, without_folders
from outspoken.synth.steps.base import Step
from outspoken.synth.steps.export_files import FORMATS, PAIRS, ExportContents

__all__ = ["card", "steps_before"]

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
# The files of the configs default and preferences: `datasets` wants all of one kind.
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
        try:
            document = json.loads((step.folder / source).with_suffix(".json").read_bytes())
            manifests[source] = StepManifest.from_dict(document)
        except (OSError, ValueError):
            break
        source = manifests[source].source
    return list(manifests.values())[::-1]


def card(
    step: Step,
    before: Sequence[StepManifest],
    settings: Mapping[str, object],
    contents: ExportContents,
    origins: Mapping[tuple[str, str], int],
) -> str:
    """README.md of a data set: YAML that the Hugging Face hub reads, and Markdown for people.

    `settings` are those of the step export itself, which has no manifest yet. `origins` are the numbers of records
    from each method and model.
    """
    name, source, text = _pipeline(step.folder)
    own = StepManifest(
        step=step.name, do="export", settings=settings, seed=step.seed, model=step.model, kept=contents.train
    )
    licence = str(settings.get("licence") or "").strip()
    sections = (
        _front_matter(name, licence, contents, is_synthetic=_has(before, "generate", "answer")),
        [f"# {_inline(name)}"],
        [f"Made with Outspoken {__version__}. {_authors(before)}"],
        ["## What is in it", "", *_contents(settings, contents)],
        ["## How it was made", "", *_steps(before)],
        ["## Models", "", *_models(before, origins)],
        ["## Licence", "", *_licence(licence, before, origins)],
        ["## Known limits", "", *_limits(before)],
        ["## Make it again", "", *_again(spec_text(name, source, [*before, own], text), step.seed)],
    )
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


def _pipeline(folder: Path) -> tuple[str, str | None, str]:
    """The pipeline's name, its input file and the column of the text, from the file that marks its folder."""
    try:
        mark = json.loads((folder / "synth.json").read_bytes())
        spec = tomllib.loads(mark["spec"])
        source = spec.get("input")
        return str(mark["name"]), Path(source).name if source else None, str(spec.get("text", "text"))
    except (OSError, ValueError, KeyError, TypeError):
        return folder.resolve().name, None, "text"


def _has(before: Sequence[StepManifest], *steps: str) -> bool:
    return any(manifest.do in steps for manifest in before)


def _authors(before: Sequence[StepManifest]) -> str:
    if _has(before, "generate"):
        return "Synthetic: language models wrote these records, not people."
    if _has(before, "answer"):
        return "Synthetic in part: the records came as a file, and a language model answered them."
    return "The records came as a file; who wrote them is not known here."


def _front_matter(name: str, licence: str, contents: ExportContents, *, is_synthetic: bool) -> list[str]:
    """The YAML for the hub. Texts are quoted as in JSON, which is valid YAML."""
    known = (licence or "unknown").lower()
    lines = ["---", f"pretty_name: {_quoted(name)}"]
    lines.append(f"license: {_quoted(known if known in _LICENCES else 'other')}")
    short = re.sub(r"[^a-z0-9.]+", "-", known).strip("-")
    if known not in _LICENCES and short:
        lines.append(f"license_name: {_quoted(short)}")
    size = next((label for limit, label in _SIZES if contents.train + contents.test < limit), "n>10M")
    lines += ["tags:", *(['- "synthetic"'] if is_synthetic else []), '- "outspoken"']
    lines += ["size_categories:", f"- {_quoted(size)}"]
    lines += ["task_categories:", '- "text-generation"']
    configs = _configs(contents)
    if configs:
        lines.append("configs:")
    for config, files in configs.items():
        lines += [f"- config_name: {_quoted(config)}", "  data_files:"]
        for split, file in files.items():
            lines += [f"  - split: {_quoted(split)}", f"    path: {_quoted(file)}"]
    if configs:
        lines.append("dataset_info:")
    for config in configs:
        # `datasets` caches data under this description: it must not mistake another export for this one.
        lines += [f"- config_name: {_quoted(config)}", f"  description: {_quoted(f'data {contents.digest}')}"]
    return [*lines, "---"]


def _configs(contents: ExportContents) -> dict[str, dict[str, str]]:
    """The parts of the data set, each with its files by split; all of one kind, as `datasets` wants."""
    for default, pairs in _CONFIGS:
        configs = {}
        for name, files in (("default", default), ("preferences", pairs)):
            written = {split: file for split, file in zip(_SPLITS, files, strict=False) if file in contents.rows}
            if written:
                configs[name] = written
        if configs:
            return configs
    return {}


def _contents(settings: Mapping[str, object], contents: ExportContents) -> Iterator[str]:
    yield f"{contents.train:,} records to train on, {contents.test:,} held out (chosen by a hash of their text)."
    yield ""
    yield from _table(("file", "rows"), ((f"`{file}`", f"{rows:,}") for file, rows in contents.rows.items()))
    if contents.columns:
        yield ""
        yield f"Columns of the tables: {', '.join(f'`{name}`' for name in contents.columns)}."
    for old, new in contents.renamed.items():
        yield f"`{new}` is the record's own `{old}`, a name that has another meaning for trainers."
    yield from ("", *_block('from datasets import load_dataset\n\ndata = load_dataset("export")', "python"))
    yield ""
    yield "These templates turn a record into a chat:"
    for kind in ("system", "prompt", "completion"):
        if settings.get(kind):
            yield from ("", f"{kind}:", "", *_block(str(settings[kind])))


def _steps(before: Sequence[StepManifest]) -> Iterator[str]:
    if not before:
        yield "This folder does not record how the records were made: they came as a file."
        return
    rows = []
    for manifest in before:
        removed = "; ".join(f"{count:,} {reason}" for reason, count in manifest.removed.items())
        rows.append((manifest.step, f"{manifest.records:,}", f"{manifest.kept:,}", removed))
    yield from _table(("step", "records", "kept", "removed"), rows)
    for manifest in before:
        if manifest.partly:
            yield from ("", f"{_inline(manifest.step)} is not finished: {_inline(manifest.partly)}.")


def _models(before: Sequence[StepManifest], origins: Mapping[tuple[str, str], int]) -> Iterator[str]:
    rows = []
    for manifest in before:
        if cost := manifest.spent:
            counts = (cost.requests, cost.from_ledger, cost.tokens, cost.failures)
            usd = "unknown" if cost.usd is None else f"{cost.usd:,.4f}"
            model = manifest.model or "the default"
            rows.append((manifest.step, model, *(f"{count:,}" for count in counts), usd))
    heads = ("step", "model", "requests", "from the ledger", "tokens", "failures", "USD")
    yield from _table(heads, rows) if rows else ("No step of this pipeline asked a model.",)
    if any(any(origin) for origin in origins):
        yield ""
        ordered = sorted(origins.items(), key=lambda entry: (-entry[1], entry[0]))
        yield from _table(
            ("records come from the model", "by the method", "records"),
            ((model or "unknown", method or "unknown", f"{count:,}") for (method, model), count in ordered),
        )


def _licence(
    licence: str, before: Sequence[StepManifest], origins: Mapping[tuple[str, str], int]
) -> Iterator[str]:
    yield f"Of this data: {_inline(licence)}." if licence else "Of this data: unknown, none was stated."
    known = {f"local/{row.name}": f"{row.licence} {row.licence_url}".strip() for row in weight_files.listing()}
    asked = (manifest.model for manifest in before if manifest.model and manifest.spent)
    names = sorted({*asked, *(model for _, model in origins if model)})
    if names or _has(before, "generate", "answer"):
        yield from ("", "The models' licences and terms of use apply to their output too:", "")
    yield from (f"- {_inline(name)}: {known.get(name, 'look it up')}" for name in names)


def _limits(before: Sequence[StepManifest]) -> Iterator[str]:
    by_step = {manifest.do: manifest for manifest in before}
    if _has(before, "generate", "answer"):
        yield "- Text by a language model can be wrong, and has the model's style and biases."
    if verified := by_step.get("verify"):
        removed = sum(verified.removed.values())
        step = _inline(verified.step)
        yield f"- Verified in the step {step}, which removed {removed:,}; its settings are below."
    elif answered := by_step.get("answer"):
        samples = answered.settings.get("samples")
        yield (
            f"- No answer was verified: of {samples} samples the teacher's most frequent one was taken."
            if isinstance(samples, int) and samples > 1
            else "- No answer was verified."
        )
    else:
        yield "- Nothing in it was verified."
    if decontaminated := by_step.get("decontaminate"):
        settings = decontaminated.settings
        files = without_folders(settings.get("against"))
        names = ", ".join(files) if isinstance(files, list) and files else "benchmarks"
        cosine = settings.get("meaning")
        also = (
            "; paraphrases were not searched for"
            if cosine is None
            else f", and by meaning from a cosine of {cosine}"
        )
        yield f"- Compared with the questions of {_inline(names)} by runs of {settings.get('ngram')} words{also}."
    else:
        yield "- Compared with no benchmark: it may contain questions of those that a model is evaluated on."
    if "deduplicate" not in by_step:
        yield "- No near-duplicates were looked for."
    for manifest in before:
        yield from (f"- {_inline(manifest.step)}: {_inline(warning)}." for warning in manifest.warnings)


def _again(spec: str, seed: int) -> Iterator[str]:
    yield f"With `pip install 'outspoken[synth]=={__version__}'`, the seed {seed}, and this spec, which has all"
    yield "settings of all steps; files are given by their names alone."
    yield ""
    yield from _block(spec, "toml")
    yield ""
    yield from _block("outspoken synth spec.toml --out FOLDER", "sh")
    yield ""
    yield "The ledger in the pipeline's folder (`ledger.sqlite`) holds every reply: with it no model is asked"
    yield "again, and the result is the same. Without it a model may answer differently."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for cells in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(_inline(cell).replace('|', '&#124;') for cell in cells)} |"


def _block(text: str, kind: str = "text") -> list[str]:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return [f"{fence}{kind}", text.rstrip("\n"), fence]


def _inline(text: str) -> str:
    """A text on one line, in which nothing opens HTML."""
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())


def _quoted(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(text, ensure_ascii=False))
