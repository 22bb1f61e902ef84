"""Specs: checked completely, and every mistake is reported with its remedy."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("pyarrow")

from outspoken import UsageError
from outspoken.cli.app import app
from outspoken.synth import spec as specs
from outspoken.synth.spec import STEPS, PipelineSpec, load, read
from outspoken.synth.steps.base import StepOptions

GENERATE = '[[step]]\ndo = "generate"\ninstruction = "Ask about {topic}."\ntopics = ["水", "🌊"]\n'


def spec(text: str) -> PipelineSpec:
    return read(text, where="mine.toml", stem="mine")


def test_reads_a_spec() -> None:
    made = spec(
        f'name = "早"\nseed = 3\nmodel = "local/smollm2"\n[report]\nsample = 10\n{GENERATE}k = 7\ncount = 9\n'
    )
    assert (made.name, made.seed, made.model, made.report.sample) == ("早", 3, "local/smollm2", 10)
    (step,) = made.steps
    assert step.name == "01-generate"
    assert (step.options.topics, step.options.count, step.options.asking) == (("水", "🌊"), 9, {"k": 7})
    assert step.settings()["topics"] == ("水", "🌊")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae = 'x'\n" + GENERATE, "unknown key in mine.toml: 'nmae': did you mean 'name'"),
        ("seed = 'x'\n" + GENERATE, "seed must be a whole number, not 'x'"),
        ("seed = true\n" + GENERATE, "seed must be a whole number, not True"),
        ("name = ", "is not TOML"),
        ("name = 'x'", "has no steps"),
        ('[[step]]\ndo = "dedupe"', "did you mean 'deduplicate'"),
        ("[[step]]\nname = 'x'", "step 1 must say what to do"),
        (
            GENERATE + 'tpics = ["x"]',
            "unknown key in step 1 (generate) of mine.toml: 'tpics': did you mean 'topics'",
        ),
        (GENERATE + "temprature = 1.0", "did you mean 'temperature'"),
        (GENERATE + "count = 1.5", "count must be a whole number, not 1.5"),
        (GENERATE + "count = 0", "step 1 (generate) of mine.toml: count must be a whole number from 1 on"),
        (GENERATE + "fields = 'question'", "fields must be a list of texts, not 'question'"),
        (GENERATE + "least_new = 1", "least_new must be a number of at least 0 and below 1"),
        (GENERATE + GENERATE, "generate begins a pipeline"),
        ('[[step]]\ndo = "deduplicate"', 'input = "records.jsonl"'),
        ("[report]\nsmaple = 2\n" + GENERATE, "did you mean 'sample'"),
        ("[report]\nsample = 1\n" + GENERATE, "[report] of mine.toml: sample must be a whole number from 2 on"),
        ('[[step]]\ndo = "generate"', "instruction is missing"),
        ('[[step]]\ndo = "generate"\ninstruction = "Ask {topic}."', "there are no topics"),
        ('[[step]]\ndo = "generate"\ninstruction = "Ask."\ntopics = ["x"]', "no {topic}"),
        ('[[step]]\ndo = "generate"\ninstruction = "Ask {tpic}."', "did you mean 'topic'"),
        ('[[step]]\ndo = "generate"\ninstruction = "Ask {examples}."', "there are no seeds"),
        ('[[step]]\ndo = "generate"\ninstruction = "Ask."\ntext = "x"', "give its schema or fields"),
        (
            '[[step]]\ndo = "generate"\ninstruction = "Ask."\nfields = ["question"]\ntext = "qestion"',
            "did you mean 'question'",
        ),
        ('[[step]]\ndo = "generate"\ninstruction = "Ask."\nschema = "no.json"', "cannot read the schema no.json"),
        (GENERATE + '[[step]]\ndo = "answer"\nsamples = 3', "must be compared"),
        (GENERATE + '[[step]]\ndo = "answer"\nk = 3', "how many answers with samples"),
        (GENERATE + '[[step]]\ndo = "answer"\nfinal = "math"', "did you mean 'maths'"),
        (GENERATE + '[[step]]\ndo = "no.py:f"', "there is no file no.py"),
    ],
)
def test_mistakes_are_reported(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        spec(text)
    assert message in str(caught.value)


def test_paths_are_relative_to_the_spec(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("def mine(records):\n    return records\n")
    (tmp_path / "shape.json").write_text(
        '{"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}'
    )
    text = GENERATE + 'schema = "shape.json"\n[[step]]\ndo = "own.py:mine"\n'
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    made = load(str(tmp_path / "mine.toml"))
    assert made.name == "mine"
    assert made.steps[0].options.text_field == "q"
    assert (made.steps[1].name, made.steps[1].is_custom) == ("02-mine", True)


def test_steps_are_found_by_number_and_name() -> None:
    made = spec(GENERATE + '[[step]]\ndo = "deduplicate"\n')
    assert made.step("deduplicate") is made.step("2") is made.step("02-deduplicate") is made.steps[1]
    with pytest.raises(UsageError, match="did you mean '02-deduplicate'"):
        made.step("dedupliate")


def test_changes_by_the_command_line() -> None:
    made = spec(GENERATE + "count = 3\n").changed(model="local/x", count=8, seed=5)
    assert (made.model, made.seed, made.steps[0].options.count) == ("local/x", 5, 8)


@pytest.mark.parametrize("name", specs.names())
def test_shipped_specs_are_complete(name: str) -> None:
    made = load(name)
    assert made.about
    assert made.steps[0].do == "generate"
    assert made.steps[-1].do == "export"


def test_every_option_has_help() -> None:
    for do, kind in STEPS.items():
        for entry in fields(kind.options):
            assert entry.name == "asking" or entry.metadata["help"], (do, entry.name)


def test_the_table_of_steps() -> None:
    for name, kind in STEPS.items():
        assert kind.name == name
        assert issubclass(kind.options, StepOptions)
        assert inspect.iscoroutinefunction(kind.run)
        assert kind.options.__module__ == kind.run.__module__ == f"outspoken.synth.steps.{name}"
        # A step that asks a model takes the settings of a run, and keeps them in its field `asking`.
        assert bool(kind.options.ASKING) == ("asking" in [entry.name for entry in fields(kind.options)])


def test_the_specs_in_the_docs_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parent.parent / "docs" / "synth.md").read_text(encoding="utf-8")
    made = re.findall(r"^```toml\n(.*?)^```$", page, re.M | re.S)
    (tmp_path / "own.py").touch()
    assert made
    for text in made:
        assert len(read(text, where="docs", stem="docs", folder=tmp_path).steps) > 5
    for do in STEPS:
        assert f"**{do}**" in page


@pytest.mark.parametrize("name", ["my data", "漢字 🍎", "بيانات", "a.b-c"])
def test_valid_names(name: str) -> None:
    assert read(GENERATE, where="x", stem=name).name == name


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", ".hidden", " ", "a\nb", "x" * 61])
def test_invalid_names(name: str) -> None:
    with pytest.raises(UsageError, match="is also the folder's"):
        read(GENERATE, where="x", stem=name)


def test_code_of_a_spec_is_named_before_it_runs_and_is_not_imported_to_be_shown(tmp_path: Path) -> None:
    (tmp_path / "records.jsonl").write_text('{"text": "a tree"}\n')
    (tmp_path / "own.py").write_text(
        "import pathlib, sys\n"
        "print('imported', file=sys.stderr)\n"
        "def same(records): return records\n"
        "def right(record): return True\n"
    )
    file = tmp_path / "mine.toml"
    file.write_text(
        'input = "records.jsonl"\n[report]\nembedder = "none"\n'
        '[[step]]\ndo = "own.py:same"\n[[step]]\ndo = "verify"\nby = "function"\nfunction = "own.py:right"\n'
    )
    functions = tuple(f"{tmp_path}/own.py:{name}" for name in ("same", "right"))
    assert load(str(file)).functions == functions
    shown = CliRunner().invoke(app, ["synth", str(file), "--show"])
    assert (shown.exit_code, "imported" in shown.stderr) == (0, False)
    done = CliRunner().invoke(app, ["synth", str(file), "--out", str(tmp_path / "out"), "--model", "replay/none"])
    first = done.stderr.splitlines()[0]
    assert first.startswith("the spec runs code with your rights: ")
    assert all(function in first for function in functions)
