"""`outspoken measure` and `outspoken compare` as a user types them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from outspoken.cli import measure_tables

SHARED = Path(__file__).parents[2] / "shared" / "data"
NAMES = (
    "semantic_diversity rouge_l distinct_1 distinct_2 distinct_3 self_bleu compression_ratio vendi distinct_answers "
    "effective_size entropy"
)


def outspoken(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "outspoken", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, encoding="utf-8")


def responses(path: Path) -> Path:
    """Two methods on eight prompts, in three scripts."""
    rows = [
        {"prompt": f"问题 {prompt}", "text": text, "method": method, "model": "m"}
        for prompt in range(8)
        for method, texts in {
            "direct": ["the same tea again", "the same tea again!", "the same tea, once more"],
            "vs-standard": [f"oolong from hill number {prompt}", "龙井茶来自杭州", "قهوة ☕ بلا سكر"],
        }.items()
        for text in texts
    ]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_document_that_scripts_rely_on(tmp_path: Path, minilm: str):
    done = outspoken("measure", responses(tmp_path / "回答.jsonl"), "--json", "--resamples", 500)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    direct, verbalized = result["groups"]
    assert (direct["method"], direct["model"], direct["prompts"], direct["responses"]) == ("direct", "m", 8, 24)
    for name in NAMES.split():
        figure = verbalized["measures"][name]
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert verbalized["measures"]["semantic_diversity"]["low"] > direct["measures"]["semantic_diversity"]["high"]
    pair = next(entry for entry in result["comparisons"] if entry["measure"] == "semantic_diversity")
    assert (pair["a"], pair["b"], pair["units"]) == (0, 1, 8)
    assert pair["high"] < 0
    assert pair["p"] <= pair["p_holm"] < 0.05


def test_the_table_has_intervals_and_p_values(tmp_path: Path):
    done = outspoken("measure", responses(tmp_path / "r.jsonl"), "--embedder", "none", "--resamples", 300)
    assert done.returncode == 0, done.stderr
    assert "Different answers ↑" in done.stdout
    assert "p (Holm)" in done.stdout
    assert "[" in done.stdout
    assert "\x1b[" not in done.stdout + done.stderr


def test_the_reference_adds_its_figures(tmp_path: Path):
    reference = SHARED / "states" / "reference_redpajama_counts.json"
    if not reference.exists():
        pytest.skip("the shared data is absent: states")
    source = SHARED / "states" / "direct_gpt-4.1_500.json"
    done = outspoken("measure", source, "--reference", reference, "--embedder", "none", "--json")
    measures = json.loads(done.stdout)["groups"][0]["measures"]
    for name in ["coverage", "precision", "kl_reference", "kl_reference_shared", "kl_uniform", "js", "tv"]:
        assert measures[name]["value"] >= 0
    assert measures["tv"]["unit"] == "call"
    assert "it depends on the answers that never appeared" in measures["coverage"]["note"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no rows"),
        ('{"prompt": "p", "answer": "a"}\n', "text"),
        ('{"prompt": "p", "text": null}\n', "no response to measure"),
        ("not json\n", "JSON"),
    ],
)
def test_bad_files_are_named_in_one_line(tmp_path: Path, text: str, message: str):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    done = outspoken("measure", path, "--embedder", "none")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_a_cost_has_the_name_of_its_column():
    def measured(model: str) -> Any:
        cost = SimpleNamespace(requests=4, tokens=90, per_distinct=SimpleNamespace(tokens=45, usd=None))
        group = SimpleNamespace(method="direct", model=model, settings={}, prompts=[])
        return SimpleNamespace(group=group, responses=2, figures={}, cost_summary=cost)

    screen = Console(width=60, file=io.StringIO())  # one column at a time
    measure_tables._figures(screen, [measured("small"), measured("large")], every=False)
    lines = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split(":")[0] for line in lines if "requests" in line] == ["small", "large"]


def test_compare_asks_with_both_methods(tmp_path: Path, smollm2: str):
    ledger = tmp_path / "kept.sqlite"
    command = [
        "compare",
        "Name a US state.",
        "-n",
        2,
        "-k",
        2,
        "--seed",
        1,
        "--embedder",
        "none",
        "--ledger",
        ledger,
    ]
    command += ["--max-tokens", 40, "--model", "local/smollm2"]
    done = outspoken(*command, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    direct, verbalized = result["groups"]
    assert (direct["method"], direct["responses"], verbalized["method"]) == ("direct", 2, "vs-standard")
    assert direct["cost"]["requests"] == 2
    assert direct["cost"]["per_distinct"]["tokens"] >= direct["cost"]["per_response"]["tokens"] > 0
    again = outspoken(*command)
    assert again.returncode == 0, again.stderr
    assert "different answers a prompt" in again.stdout.splitlines()[-1]
    assert "tokens for each different answer" in again.stdout.splitlines()[-1]
    assert json.loads(done.stdout)["responses"][0]["responses"][0]["text"].split()[0] in again.stdout
    refused = outspoken("compare", "p", "--methods", "direct", "--embedder", "none")
    assert (refused.returncode, "two different methods" in refused.stderr) == (2, True)


def test_the_ledger_of_the_run_adds_what_it_cost(tmp_path: Path, smollm2: str):
    (tmp_path / "prompts.txt").write_text("Name a US state.\n说出一种茶。\n", encoding="utf-8")
    out = tmp_path / "out.jsonl"
    settings = ("--method", "direct", "--n", 2, "--seed", 1, "--max-tokens", 20, "--model", "local/smollm2")
    done = outspoken("run", tmp_path / "prompts.txt", "--out", out, *settings)
    assert done.returncode == 0, done.stderr
    ledger = tmp_path / "out.jsonl.ledger.sqlite"
    measured = outspoken("measure", out, "--ledger", ledger, "--embedder", "none", "--json")
    assert measured.returncode == 0, measured.stderr
    cost = json.loads(measured.stdout)["groups"][0]["cost"]
    assert (cost["requests"], cost["usd"]) == (4, 0)
    assert cost["per_response"]["tokens"] == cost["tokens"] / 4 > 0
    assert 0 < cost["wall_seconds"] <= cost["model_seconds"]
    row = json.loads(out.read_text(encoding="utf-8").splitlines()[0])
    out.write_text(json.dumps({**row, "request_key": "0" * 64}) + "\n", encoding="utf-8")
    refused = outspoken("measure", out, "--ledger", ledger, "--embedder", "none")
    assert (refused.returncode, "lacks 1 of the 1 reply" in refused.stderr) == (2, True)
