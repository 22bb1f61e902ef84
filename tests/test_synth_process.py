"""`outspoken synth` as a process: killed at any moment, interrupted, with invalid arguments."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow")

from outspoken.synth.records import rows_in

HERE = Path(__file__).parent
CONCURRENCY = 4
SPEC = f"""
[[step]]
do = "generate"
instruction = "Make a sum about {{topic}}."
topics = ["蘋果", "trains"]
count = 60
k = 2
concurrency = {CONCURRENCY}

[[step]]
do = "deduplicate"

[[step]]
do = "answer"
samples = 2
final = "maths"
concurrency = {CONCURRENCY}

[report]
embedder = "none"
"""


@contextmanager
def teaching(log: Path, seconds: float) -> Iterator[str]:
    command = [sys.executable, str(HERE / "teacher.py"), str(log), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1#teacher"
        finally:
            process.terminate()


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "outspoken", "synth", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1", "OUTSPOKEN_API_KEY": "sk-never-to-be-seen", "NO_PROXY": "127.0.0.1"}


def run(*arguments: Any, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
    )


def test_continues_after_being_killed_at_any_moment(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SPEC, encoding="utf-8")
    log, kills, chance = tmp_path / "log", 0, random.Random(7)
    with teaching(log, 0.03) as url:
        arguments = ("mine.toml", "--out", "out", "--model", url, "--json")
        for _ in range(6):
            with subprocess.Popen(
                command(*arguments),
                cwd=tmp_path,
                env=environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            ) as process:
                try:
                    process.wait(chance.uniform(0.8, 2.5))
                except subprocess.TimeoutExpired:
                    process.kill()
                    kills += 1
        done = run(*arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        again = run(*arguments, folder=tmp_path)
        overwritten = run(*arguments, "--overwrite", folder=tmp_path)
        quiet = run(*arguments, "--quiet", folder=tmp_path)
    assert kills
    summary = json.loads(done.stdout)
    assert summary["records"] == json.loads(again.stdout)["records"]
    assert again.stderr.count("done before") == 3
    assert "continuing in out: finished steps: 3 of 3" in again.stderr
    assert "done before" not in overwritten.stderr
    assert json.loads(overwritten.stdout)["records"] == summary["records"]
    assert (quiet.returncode, quiet.stderr) == (0, "")
    requests = len(log.read_text(encoding="utf-8").splitlines())
    with sqlite3.connect(tmp_path / "out" / "ledger.sqlite") as ledger:
        (replies,) = ledger.execute("SELECT count(*) FROM reply").fetchone()
    # Only what was under way when it was killed may have been asked again.
    assert replies <= requests <= replies + kills * CONCURRENCY
    made = [*rows_in(tmp_path / "out" / "01-generate.parquet")]
    assert len({row["text"] for row in made}) == len(made) == 60
    assert len({row["id"] for row in made}) == len(made)
    assert not [*(tmp_path / "out").glob("**/*.tmp")]
    everything = b"".join(path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert b"never-to-be-seen" not in everything


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_an_interrupt_says_how_to_continue(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SPEC, encoding="utf-8")
    with teaching(tmp_path / "log", 0.1) as url:
        arguments = ("mine.toml", "--out", "out", "--model", url)
        with subprocess.Popen(
            command(*arguments), cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            deadline = time.monotonic() + 60
            while not (tmp_path / "log").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert b"the same command continues from there" in said
        assert b"Traceback" not in said
        done = run(*arguments, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["steps"][0]["figures"]
    assert figures["requests"] >= 30


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no.toml"], "cannot read the pipeline no.toml"),
        (["qestions"], "did you mean 'questions'"),
        (["mine.toml", "--engine", "rya"], "did you mean 'ray'"),
        (["mine.toml", "--workers", "2"], "belong to --engine ray"),
        (["mine.toml", "--from", "1", "--only", "2"], "exclude each other"),
        (["mine.toml", "--from", "1", "--overwrite"], "exclude each other"),
        (["mine.toml", "--only", "answr", "--model", "replay/x"], "did you mean '03-answer'"),
        (["mine.toml", "--count", "0"], "count must be a whole number from 1 on"),
    ],
)
def test_invalid_arguments(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(SPEC, encoding="utf-8")
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_lists_and_shows_the_shipped_pipelines(tmp_path: Path) -> None:
    listed = json.loads(run("--json", folder=tmp_path).stdout)
    assert "questions" in {each["name"] for each in listed["pipelines"]}
    shown = run("questions", "--show", folder=tmp_path).stdout
    (tmp_path / "own.toml").write_text(shown, encoding="utf-8")
    assert 'do = "generate"' in shown
    assert not (tmp_path / "questions-synth").exists()


@pytest.mark.proof(only=True)
@pytest.mark.xdist_group("ray")
def test_ray_gives_the_same_records(tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    text = SPEC.partition('[[step]]\ndo = "answer"')[0] + '[report]\nembedder = "none"\n'
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with teaching(tmp_path / "log", 0.0) as url:
        arguments = ("mine.toml", "--out", "out", "--model", url, "--engine", "ray", "--json")
        done = run(*arguments, folder=tmp_path)
        assert done.returncode == 0, done.stderr
        asked = len((tmp_path / "log").read_text(encoding="utf-8").splitlines())
        again = run(*arguments, folder=tmp_path)
    assert json.loads(again.stdout)["records"] == json.loads(done.stdout)["records"] == 60
    assert len((tmp_path / "log").read_text(encoding="utf-8").splitlines()) == asked
    assert len({row["text"] for row in rows_in(tmp_path / "out" / "02-deduplicate.parquet")}) == 60
