"""Files that hold prompts, replies or hashes of keys can be read by their owner only, whatever the umask."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from outspoken.cli.app import app
from outspoken.experiment.grid import Grid
from outspoken.experiment.runner import GridRun
from outspoken.experiment.spec import load
from outspoken.measure.embedding_cache import EmbeddingCache
from outspoken.training.questions import AnswerFile, StudentAnswer

pytestmark = pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def _replies(folder: Path, *texts: str) -> str:
    path = folder / "recorded.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return f"replay/{path}"


def _others_can_read(folder: Path) -> set[str]:
    """The files below `folder` that are open to others, unless a folder above them is not."""
    found = set()
    for path in folder.rglob("*"):
        above = [parent for parent in path.parents if parent != folder and folder in parent.parents]
        if path.is_file() and all(stat.S_IMODE(each.stat().st_mode) & 0o077 for each in (path, *above)):
            found.add(path.relative_to(folder).as_posix())
    return found


def _run(*words: object) -> None:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code in (0, 3), done.output


def test_a_run_keeps_its_ledger_and_failures_private(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "prompts.txt").write_text("Name a tree.\nName a bird.\n")
    model = _replies(tmp_path, "oak")
    _run(
        "run",
        tmp_path / "prompts.txt",
        "--out",
        work / "out.jsonl",
        "--model",
        model,
        "--method",
        "direct",
        "-k",
        1,
    )
    assert (work / "out.jsonl.failures.jsonl").exists()
    assert {name.partition(".parts")[0] for name in _others_can_read(work)} == {"out.jsonl"}


def test_recordings_are_private(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    record = work / "r.jsonl"
    _run("ask", "x", "--model", _replies(tmp_path, "1. a"), "--method", "direct", "-k", 1, "--record", record)
    assert record.read_text()
    assert not _others_can_read(work)


def test_a_pipeline_keeps_all_but_its_export_and_report_private(tmp_path: Path) -> None:
    texts = [json.dumps({"responses": [{"text": "Why is snow white?", "probability": 0.4}]})] * 4
    spec = tmp_path / "mine.toml"
    spec.write_text(
        '[report]\nembedder = "none"\n[[step]]\ndo = "generate"\ninstruction = "Ask."\ncount = 1\n'
        '[[step]]\ndo = "deduplicate"\nnear = 0.0\n[[step]]\ndo = "export"\ncompletion = "{text}"\nformats = ["parquet"]\n'
    )
    _run("synth", spec, "--out", tmp_path / "work", "--model", _replies(tmp_path, *texts))
    shown = _others_can_read(tmp_path / "work")
    assert "01-generate.parquet" not in shown
    assert not [
        name for name in shown if name.endswith((".sqlite", ".parquet", ".jsonl")) and "export/" not in name
    ]
    assert any("export/" in name for name in shown)


def test_an_experiment_keeps_its_prompts_and_ledger_private(tmp_path: Path) -> None:
    spec = load("dice").changed(models=(_replies(tmp_path, "1. 3"),), n=2)
    GridRun(Grid.make(spec), tmp_path / "work").close()
    shown = _others_can_read(tmp_path / "work")
    assert list((tmp_path / "work").rglob("*.jsonl"))
    assert not [name for name in shown if name.endswith((".sqlite", ".jsonl"))]


def test_answers_embeddings_and_keys_are_private(tmp_path: Path) -> None:
    with AnswerFile(tmp_path / "answers" / "a.jsonl") as answers:
        answers.add([StudentAnswer("k", 0, "text", 1, "stop")])
    cache = EmbeddingCache(tmp_path / "cache" / "e.sqlite")
    assert cache.get("model", ["text"]) == {}
    _run("client-key", "alice", "--file", tmp_path / "keys.txt")
    assert not _others_can_read(tmp_path)
