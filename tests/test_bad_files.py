"""Every command with every kind of bad file in the place of each file that it reads or writes.

The commands and their parameters are taken from the command line itself, so that a new one is tested too: it needs a
row in `GOOD`, and each of its texts that is no file is named in `TEXTS`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from proofs import PROOFS
from typer.testing import CliRunner

from outspoken.cli.app import app
from outspoken.ledger import Ledger

LINE = (100 if PROOFS else 1) * 2**20
"""The length of a long line, in bytes."""

GOOD: dict[str, str] = {
    "ask": "ask x --model replay/{good}/replies.jsonl",
    "run": "run {good}/prompts.jsonl --out {new}.jsonl --model replay/{good}/replies.jsonl",
    "compare": "compare x y --embedder none --model replay/{good}/replies.jsonl",
    "parse": "parse {good}/reply.txt",
    "serve": "serve --port 0 --model replay/{good}/replies.jsonl --host no.such.host.invalid",
    "client-key": "client-key alice",
    "measure": "measure {good}/responses.jsonl --embedder none --resamples 100",
    "experiment": "experiment dice -n 2 --embedder none --models replay/{good}/replies.jsonl",
    "synth": "synth {good}/mine.toml --model replay/{good}/replies.jsonl --out {new}",
    "train": "train {good}/rows.jsonl --out {new} --max-steps 1",
    "evaluate": "evaluate {good}/rows.jsonl --out {new} --student replay/{good}/replies.jsonl",
    "typicality": "typicality {good}/preferences.jsonl --base replay/{good}/replies.jsonl --out {new}",
    "sharpen": "sharpen {good}/counts.json --gamma 2",
    "gamma": "gamma {good}/responses.jsonl --reference {good}/counts.json",
    "levels": "levels {good}/counts.json --gamma 2 --replies 50",
    "score": "score x y --model replay/{good}/replies.jsonl",
    "methods": "methods",
    "templates": "templates standard",
    "doctor": "doctor --no-ask",
    "models list": "models list",
    "models get": "models get nothing",
    "models remove": "models remove nothing",
    "ledger show": "ledger show {good}/ledger.sqlite",
    "ledger verify": "ledger verify {good}/ledger.sqlite",
    "ledger export": "ledger export {good}/ledger.sqlite",
    "ledger prune": "ledger prune {good}/ledger.sqlite --older-than 1 --yes",
}
"""A command of each kind that would work, or whose model would fail."""

WITH = {
    "ask messages": ("x", ""),
    "score answers": ("x y", "x"),
    "measure rubric": ("--resamples", "--judge replay/{good}/replies.jsonl --verdicts {new}.sqlite --resamples"),
    "measure verdicts": ("--resamples", "--judge replay/{good}/replies.jsonl --resamples"),
    "experiment name": ("--embedder", "--dry-run --embedder"),
    "experiment tasks": ("--embedder", "--dry-run --embedder"),
    "experiment data": ("dice", "coverage-qa --dry-run"),
    "experiment reference": ("dice", "us-states --dry-run"),
    "train chat_template": ("--max-steps 1", "--max-steps 1 --overwrite"),
}
"""What a command has instead, for the file of this parameter to be read, or nothing to be asked."""

WORKS = {
    ("run prices", "empty"),
    ("train chat_template", "empty"),
    ("train chat_template", "long"),
    ("train chat_template", "brackets"),
    ("ledger export out", "loop"),
    ("parse file", "brackets"),
}
"""Where a bad file is none, or a test of its own has it."""

SLOW = {("train data", "long"), ("train data", "brackets"), ("train data", "empty")}
"""What loads a model to train before it fails: for `make proofs`."""

FILES = {
    "run prompts": ".jsonl",
    "parse file": ".txt",
    "measure rubric": ".toml",
    "experiment name": ".toml",
    "experiment tasks": ".toml",
    "experiment recorded": ".jsonl",
    "synth spec": ".toml",
    "template": ".toml",
    "prices": ".toml",
    "templates name": ".toml",
}
"""Texts that may be files, with the ending of such a file."""

WRITTEN = {"out", "cache", "record", "pool", "verdicts", "client-key file", "ledger"}
"""Files and folders that the command writes."""

TEXTS = {
    *(
        "prompt",
        "model",
        "method",
        "on_short",
        "prompt_column",
        "id_column",
        "engine",
        "address",
        "law",  # a name or a file of counts: tests of laws
        "score",
        "fail_under",
        "fail_over",
        "methods",
        "models",
    ),
    *(
        "embedder",
        "upstream",
        "host",
        "allow_origin",
        "name",
        "by",
        "judge",
        "first",
        "only",
        "objective",
        "schedule",
    ),
    *(
        "dtype",
        "student",
        "arm",
        "stop",
        "question_format",
        "instruction",
        "base",
        "prompt_format",
        "aligned",
        "texts",
    ),
    *("key", "compare prompts", "filter"),
}
"""Texts that are no files."""

SUFFIXES = {
    "schema": ".json",
    "messages": ".json",
    "responses": ".jsonl",
    "reference": ".json",
    "data": ".jsonl",
    "questions": ".jsonl",
    "preferences": ".jsonl",
    "distribution": ".json",
    "source": ".jsonl",
    "answers": ".json",
}


def _commands(command: Any, *path: str) -> Iterator[tuple[str, Any]]:
    if getattr(command, "commands", None):
        for name, inner in command.commands.items():
            yield from _commands(inner, *path, name)
    else:
        yield " ".join(path), command


COMMANDS = dict(_commands(typer.main.get_command(app)))


def _files(name: str) -> Iterator[tuple[Any, str]]:
    """The parameters of a command that are files, with the ending of their names."""
    for parameter in COMMANDS[name].params:
        kind = str(parameter.type_descriptor)
        both = f"{name} {parameter.name}"
        suffix = FILES.get(both) or FILES.get(parameter.name) or SUFFIXES.get(parameter.name, "")
        if both in FILES or parameter.name in FILES or "Path" in kind:
            yield parameter, suffix
        elif "str" in kind.partition("parameter_info")[0]:
            assert both in TEXTS or parameter.name in TEXTS, f"say in this file whether {both} is a file"


CASES = [(name, parameter, suffix) for name in COMMANDS for parameter, suffix in _files(name)]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    lines: dict[str, list[dict[str, Any]]] = {
        "replies": [{"text": "1. oak"}] * 9,
        "prompts": [{"prompt": "Name a tree."}],
        "responses": [{"prompt": "x", "text": text, "method": "m"} for text in ("oak", "elm", "oak")],
        "rows": [{"prompt": "2 + 2?", "answer": "4", "completion": "4"}],
        "preferences": [{"prompt": "x", "chosen": "a", "rejected": "b"}] * 9,
    }
    for name, rows in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "reply.txt").write_text("1. oak\n2. elm\n")
    (folder / "counts.json").write_text('{"oak": 3, "elm": 1}')
    (folder / "mine.toml").write_text('[[step]]\ndo = "generate"\ninstruction = "Ask."\ncount = 1\n')
    Ledger(folder / "ledger.sqlite").close()
    return folder


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad")


def _bad_files(folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    """Each kind of file that cannot be what is needed."""

    def written(kind: str, content: bytes) -> tuple[str, Path]:
        path = folder / f"{kind}{suffix}"
        if not path.exists():
            path.write_bytes(content)
        return kind, path

    yield "missing", folder / f"missing{suffix}"
    inside = folder / f"folder{suffix}"
    inside.mkdir(exist_ok=True)
    yield "folder", inside
    yield written("empty", b"")
    yield written("binary", bytes(range(256)) * 64)
    yield written("long", b"x" * LINE)
    yield written("brackets", b"[" * LINE)
    unreadable = folder / f"unreadable{suffix}"
    if Path("/proc/self/mem").exists():  # reading it fails, whoever one is
        unreadable.unlink(missing_ok=True)
        unreadable.symlink_to("/proc/self/mem")
        yield "unreadable", unreadable
    yield "loop", _loop(folder, suffix)
    yield "long name", folder / ("x" * 300 + suffix)


def _loop(folder: Path, suffix: str) -> Path:
    """A link to itself."""
    loop = folder / f"loop{suffix}"
    loop.unlink(missing_ok=True)
    loop.symlink_to(loop)
    return loop


def _bad_outputs(folder: Path, suffix: str) -> Iterator[tuple[str, Path]]:
    """Each kind of place where nothing can be written."""
    (folder / "file").write_text("mine")
    yield "below a file", folder / "file" / f"out{suffix}"
    yield "long name", folder / ("x" * 300 + suffix)
    if Path("/proc/self").exists():
        yield "not writable", Path(f"/proc/self/none/out{suffix}")
    yield "loop", _loop(folder, suffix)


def test_every_command_is_here() -> None:
    assert set(GOOD) == set(COMMANDS), "give the new command a row in GOOD"


def _words(name: str, parameter: Any, path: Path, good: Path, new: Path) -> list[str]:
    """The command with this path in the place of the parameter."""
    line = GOOD[name]
    if f"{name} {parameter.name}" in WITH:
        line = line.replace(*WITH[f"{name} {parameter.name}"], 1)
    words = [word.format(good=good, new=new) for word in line.split()]
    if parameter.param_type_name == "argument":
        first = len(name.split())
        keep = len(words) == first or words[first].startswith("-")
        return [*words[:first], str(path), *words[first if keep else first + 1 :]]
    option = max(parameter.opts, key=len)
    if option in words:
        at = words.index(option)
        del words[at : at + 2]
    return [*words, option, str(path)]


@pytest.mark.parametrize(("name", "parameter", "suffix"), CASES, ids=lambda value: getattr(value, "name", None))
def test_bad_files(
    name: str, parameter: Any, suffix: str, good: Path, bad: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says what is wrong, exit code 2 or 1, and nothing that looks like a fault of ours."""
    monkeypatch.setenv("OUTSPOKEN_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    both = f"{name} {parameter.name}"
    is_output = parameter.name in WRITTEN or both in WRITTEN
    for number, (kind, path) in enumerate((_bad_outputs if is_output else _bad_files)(bad, suffix)):
        if (both, kind) in WORKS or (not PROOFS and (both, kind) in SLOW):
            continue
        words = _words(name, parameter, path, good, tmp_path / f"new{number}")
        done = CliRunner().invoke(app, words)
        said = f"{' '.join(words)[:400]}: {done.stderr[:1000]}"
        assert done.exit_code in (1, 2), said
        for unwanted in ("Traceback", "fault in outspoken", "[Errno", "Error:"):
            assert unwanted not in done.stderr, said
        if "Usage:" in done.stderr:
            continue  # the command line itself refuses it
        errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        if both == "run prompts" and not errors:
            assert "failure" in done.stderr  # of the only row
            continue
        assert len(errors) == 1, said
        assert len(errors[0]) > 30, said


def test_a_path_with_a_null_character_is_refused() -> None:
    for words in (["ask", "x", "--schema", "a\0b"], ["parse", "a\0b"], ["run", "a\0b.jsonl", "--out", "o.jsonl"]):
        assert CliRunner().invoke(app, words).exit_code == 2


@pytest.mark.parametrize("form", ["replay/{}", "local/{}", "transformers/{}"])
def test_a_model_that_is_a_bad_file(form: str, bad: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUTSPOKEN_OFFLINE", "1")
    for kind, path in _bad_files(bad, ".gguf"):
        done = CliRunner().invoke(app, ["ask", "x", "--model", form.format(path)])
        assert done.exit_code in (1, 2), kind
        assert done.stderr.startswith("error: "), kind
        assert "fault in outspoken" not in done.stderr, (kind, done.stderr)
        assert "[Errno" not in done.stderr, (kind, done.stderr)
