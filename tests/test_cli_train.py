"""`outspoken train` and `outspoken evaluate` as a person runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from click.testing import Result  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from outspoken.cli.app import app  # noqa: E402

SMALL = ["--batch-size", "4", "--dtype", "float32", "--learning-rate", "3e-3", "--threads", "1"]


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    rows: list[dict[str, str]] = [
        {"prompt": f"Q: {a} + {b}?\nA:", "completion": f" {a + b}"} for a in range(4) for b in range(6)
    ]
    return written(tmp_path / "sums.jsonl", [*rows, {"prompt": "é"}])


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    return written(
        tmp_path / "test.jsonl", [{"question": f"{a} + {a}?", "answer": f"#### {2 * a}"} for a in range(6)]
    )


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def outspoken(*words: str | Path) -> Result:
    """In this process: loading the libraries takes longer than anything here."""
    return CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "120", "TERM": "dumb"})


def test_from_data_to_a_comparison(tiny: Path, sums: Path, paper: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    trained = outspoken("train", sums, "--out", out, "--model", tiny, "--epochs", "4", *SMALL, "--json")
    assert trained.exit_code == 0, trained.stderr
    document = json.loads(trained.stdout)
    assert document["data"]["examples"] == 24
    assert document["data"]["skipped"] == {"has none of the shapes": 1}
    assert document["model"] == str(out / "model")
    again = outspoken("train", sums, "--out", out, "--model", tiny, "--epochs", "4", *SMALL)
    assert again.exit_code == 0, again.stderr
    assert "was trained already" in again.stderr
    assert "1 of 25 rows left out" in again.stderr
    assert "24 examples · 24 steps" in again.stdout

    words = ["evaluate", paper, "--student", f"before={tiny}", "--student", out, "--out", tmp_path / "e"]
    asked = [
        *words,
        "--question-format",
        r"Q: {question}\nA:",
        "--stop",
        r"\n",
        "--max-tokens",
        "6",
        "--samples",
        "2",
    ]
    found = outspoken(*asked, "--json")
    assert found.exit_code == 0, found.stderr
    result = json.loads(found.stdout)
    assert [entry["name"] for entry in result["students"]] == ["before", str(out)]
    assert result["settings"]["question_format"] == "Q: {question}\nA:"
    assert result["settings"]["stop"] == ["\n"]
    shown = outspoken(*asked)
    assert shown.exit_code == 0, shown.stderr
    for word in ("test: 6 of 6 questions", "greedy", "pass@2", "majority", "p (Holm)", "McNemar"):
        assert word in shown.stdout
    arms = outspoken(
        "evaluate", paper, "--arm", f"a={tiny},{out}", "--out", tmp_path / "e", "--plain", "--max-tokens", "3"
    )
    assert arms.exit_code == 0, arms.stderr
    assert "a (2 seeds)" in arms.stdout
    assert "2 seeds: how much they differ" in arms.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "{sums}", "--out", "{o}", "--model", "{tiny}", "--schedule", "cosin"], "did you mean 'cosine'"),
        (["train", "{sums}", "--out", "{o}", "--model", "{tiny}", "--objective", "dpo"], "none of the 25 rows"),
        (["train", "nothing.jsonl", "--out", "{o}"], "no such file or folder"),
        (["train", "{sums}", "--out", "{o}", "--chat-template", "nowhere"], "cannot read the chat template"),
        (["evaluate", "{sums}", "--student", "{tiny}", "--out", "{o}"], "'answer'"),
        (["evaluate", "{paper}", "--arm", "a", "--out", "{o}"], "must read NAME=dir1,dir2"),
        (["evaluate", "{paper}", "--out", "{o}"], "no student"),
        (
            ["evaluate", "{paper}", "--student", "a={tiny}", "--student", "a={tiny}", "--out", "{o}"],
            "have one name",
        ),
    ],
)
def test_errors_are_one_line_and_name_the_remedy(
    words: list[str], message: str, tiny: Path, sums: Path, paper: Path, tmp_path: Path
) -> None:
    places = {"sums": sums, "tiny": tiny, "paper": paper, "o": tmp_path / "o"}
    found = outspoken(*(word.format(**places) for word in words))
    assert found.exit_code == 2, found.stderr
    assert found.stdout == ""
    assert message in found.stderr
    assert len(found.stderr.strip().splitlines()) == 1


def test_ctrl_c_writes_a_checkpoint_and_says_how_to_go_on(tiny: Path, sums: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    command = ["train", str(sums), "--out", str(out), "--model", str(tiny), "--max-steps", "100000", *SMALL]
    begun = subprocess.Popen(
        [sys.executable, "-m", "outspoken", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (out / "training.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3)
    begun.send_signal(signal.SIGINT)
    printed, notes = begun.communicate(timeout=60)
    assert begun.returncode == 130, notes
    assert "the same command continues from there" in notes
    assert printed == ""
    document = json.loads((out / "training.json").read_text(encoding="utf-8"))
    assert document["finished"] is None
    assert (out / "checkpoints" / f"checkpoint-{document['steps']}").is_dir()


def test_an_upstream_that_answers_in_part_ends_with_3(paper: Path, tmp_path: Path) -> None:
    rows = [{"messages": [{"role": "user", "content": f"{a} + {a}?"}], "text": f"{2 * a}"} for a in range(5)]
    source = f"replay/{written(tmp_path / 'r.jsonl', rows)}"
    found = outspoken("evaluate", paper, "--student", f"r={source}", "--out", tmp_path / "o", "--json")
    assert found.exit_code == 3, found.stderr
    assert json.loads(found.stdout)["students"][0]["results"]["test"]["greedy"]["right"] == 5
    assert "r lacks 1 answer," in found.stderr


def test_the_commands_are_light_to_import() -> None:
    code = (
        "import sys, outspoken.cli.train, outspoken.cli.evaluate; "
        "print([name for name in ('torch', 'numpy', 'asyncio', 'transformers', 'trl') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.stdout.strip() == "[]"
