"""`outspoken sharpen`, `gamma` and `levels` as a user types them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from outspoken import __version__
from outspoken.candidate import Candidate
from outspoken.cli.app import app
from outspoken.distribution import Distribution
from outspoken.provenance import Provenance

STATES = Path(__file__).parents[2] / "shared/data/states"
COUNTS = {"Texas": 60, "加州": {"count": 30}, "نيويورك": 9, "[b]Ohio[/b]": 1}


def run(*arguments: object, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)


def document(*arguments: object, stdin: str | None = None) -> dict[str, Any]:
    done = run(*arguments, "--json", stdin=stdin)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    assert {"kind", "version", "command", "created", "warnings", "settings"} <= set(found)
    assert found["version"] == __version__
    return found


@pytest.fixture
def counts(tmp_path: Path) -> Path:
    return written(tmp_path / "計數.json", COUNTS)


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def states() -> tuple[Path, Path]:
    if not STATES.is_dir():
        pytest.skip("the recorded answers of ../shared/data/states are absent")
    return STATES / "direct_gpt-4.1_500.json", STATES / "reference_redpajama_counts.json"


def test_sharpen_as_the_readme_shows_it() -> None:
    _, reference = states()
    done = run("sharpen", "--alpha", 0.57, "--beta", 0.2, reference)
    assert done.exit_code == 0, done.output
    for part in ("New York", "14.7 %", "81.4 %", "38 others", "the power 3.85 (1 + 0.57 / 0.2)", "━"):
        assert part in done.stdout
    assert "\x1b" not in done.stdout
    found = document("sharpen", "--alpha", 0.57, "--beta", 0.2, reference)
    assert found["gamma"] == pytest.approx(3.85)
    assert found["after"]["entropy"] == pytest.approx(0.752332, abs=1e-6)
    assert found["settings"] == {"source": str(reference), "alpha": 0.57, "beta": 0.2, "gamma": None}


def test_sharpen_reads_counts_distributions_and_what_is_piped(counts: Path, tmp_path: Path) -> None:
    found = document("sharpen", counts, "--gamma", 2)
    assert [entry["text"] for entry in found["answers"]] == list(COUNTS)
    made = Provenance(prompt="說一個州", method="vs-standard", model="m")
    asked = Distribution((Candidate("Texas", 0.6), Candidate("加州", 0.4)), provenance=made)
    piped = document("sharpen", "-", "--gamma", 2, stdin=asked.to_json())
    assert piped["distribution"]["prompt"] == "說一個州"
    assert piped["answers"][0]["after"] == pytest.approx(0.36 / 0.52)
    assert document("sharpen", "-", "--gamma", 2, stdin=json.dumps(COUNTS))["after"] == found["after"]
    file = tmp_path / "asked.json"
    file.write_text(asked.to_json(), encoding="utf-8")
    assert document("sharpen", file, "--gamma", 2)["after"] == piped["after"]
    assert "[b]Ohio[/b]" in run("sharpen", counts, "--gamma", 2).stdout
    assert "flattens" in run("sharpen", counts, "--gamma", 0.5).stderr


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ({"a": -1, "b": 2}, ("--gamma", 2), "count of 'a' must be a finite number of at least 0"),
        ({"a": 5}, ("--gamma", 2), "one answer has all the weight"),
        ({"a": 5, "b": 0}, ("--gamma", 2), "give at least two"),
        ({"a": 0, "b": 0}, ("--gamma", 2), "no answer has a count above 0"),
        ({"a": 1, "b": 2}, ("--alpha", 1, "--beta", 0), "beta must be a finite number above 0"),
        ({"a": 1, "b": 2}, ("--alpha", 1, "--beta", 1, "--gamma", 2), "or gamma instead of both"),
        ({"a": 1, "b": 2}, (), "give alpha and beta, or gamma"),
        ({"a": 1, "b": 2}, ("--alpha", 1), "beta is missing"),
        ({"a": 1, "b": 2}, ("--gamma", "nan"), "gamma must be a finite number"),
        ({"q": {"answers": ["a"]}}, ("--gamma", 2), "holds questions"),
        ({"candidates": [{"text": "a"}]}, ("--gamma", 2), "not a distribution"),
        ({"candidates": []}, ("--gamma", 2), "at least one candidate"),
        ([], ("--gamma", 2), "holds no answers"),
        ({}, ("--gamma", 2), "holds no answers"),
    ],
)
def test_sharpen_names_what_is_wrong(tmp_path: Path, content: Any, options: tuple[Any, ...], message: str) -> None:
    refused(run("sharpen", written(tmp_path / "d.json", content), *options), message)


def refused(done: Result, message: str) -> None:
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    refused(run("sharpen", tmp_path / "none.json", "--gamma", 2), "cannot read")
    (tmp_path / "text.json").write_text("Texas", encoding="utf-8")
    refused(run("levels", tmp_path / "text.json", "--gamma", 2), "is not JSON")
    refused(run("sharpen", "-", "--gamma", 2, stdin="Texas"), "standard input is not JSON")
    refused(run("sharpen", "-", "--gamma", 2, stdin="[1]"), "standard input must hold counts")


def test_gamma_of_the_recorded_answers() -> None:
    source, reference = states()
    done = run("gamma", source, "--reference", reference)
    assert done.exit_code == 0, done.output
    for part in ("1.13 [1.04, 1.21]", "over 10 trials", "1,911", "does not describe these answers", "Texas"):
        assert part in done.stdout
    found = document("gamma", source, "--reference", reference)
    assert (found["how"], found["unit"], found["answers"]) == ("counts", "trial", 50)
    assert found["gamma"]["low"] < found["gamma"]["value"] < found["gamma"]["high"]
    assert 0 < found["gamma"]["p"] < 0.05


def test_gamma_of_responses_in_rows(counts: Path, tmp_path: Path) -> None:
    texts = ["Texas"] * 50 + ["texas."] * 6 + ["加州"] * 14 + ["Paris"]
    rows = [
        {"prompt": "p", "text": text, "method": "direct", "probability": 1.0, "call": at}
        for at, text in enumerate(texts)
    ]
    file = tmp_path / "回答.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    found = document("gamma", file, "--reference", counts)
    assert (found["unit"], found["units"]) == ("draw", 70)
    share = {point["answer"]: point["aligned"] for point in found["points"]}
    assert share["Texas"] == pytest.approx(56 / 70)
    assert "1 of 71 draws are left out, outside the reference: 'paris'" in found["warnings"][0]

    several = [{**row, "prompt": f"wording {at % 7}"} for at, row in enumerate(rows)]
    file.write_text("".join(json.dumps(row) + "\n" for row in several), encoding="utf-8")
    found = document("gamma", file, "--reference", counts)
    assert (found["unit"], found["units"]) == ("prompt", 7)
    assert "7 prompts are treated as wordings of one question" in found["warnings"][0]


def test_gamma_of_one_method_at_a_time(counts: Path, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "p", "text": t, "method": "direct"} for t in ("Texas", "加州") * 5]
    rows += [
        {"prompt": "p", "text": t, "method": "vs-standard", "probability": 0.5, "call": 0}
        for t in ("Texas", "加州")
    ]
    file = tmp_path / "r.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    refused(run("gamma", file, "--reference", counts), "--method or --model")
    stated = document("gamma", file, "--reference", counts, "--method", "vs-standard")
    assert (stated["how"], stated["unit"], stated["units"]) == ("shares", "call", 1)
    refused(run("gamma", file, "--reference", counts, "--method", "sequence"), "there are direct, vs-standard")
    assert document("gamma", file, "--reference", counts, "--method", "direct")["units"] == 10
    refused(run("gamma", file, "--method", "direct"), "--reference COUNTS")


def test_gamma_without_a_finite_one(counts: Path, tmp_path: Path) -> None:
    refused(run("gamma", written(tmp_path / "a.json", [{"Texas": 5}]), "--reference", counts), "no finite one")
    refused(run("gamma", written(tmp_path / "b.json", [{"Paris": 5}]), "--reference", counts), "none of 5 draws")
    even = written(tmp_path / "even.json", {"Texas": 1, "Ohio": 1})
    refused(
        run("gamma", written(tmp_path / "c.json", [{"Texas": 5, "Ohio": 1}]), "--reference", even),
        "have the same weight",
    )


def test_gamma_of_log_probabilities(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"問 {at}",
            "answer": f"a{k}",
            "base": -k - 1.0,
            "aligned": -2.0 * k - 3 - at + 0.3 * math.sin(9 * at + k),
        }
        for at in range(7)
        for k in range(4)
    ]
    file = tmp_path / "points.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    found = document("gamma", file)
    assert (found["how"], found["unit"], found["units"], found["answers"]) == ("logprobs", "prompt", 7, 28)
    assert found["gamma"]["value"] == pytest.approx(2, abs=0.1)
    assert found["points"][0]["fitted"] == pytest.approx(rows[0]["aligned"], abs=0.5)
    shown = run("gamma", file)
    assert "R² within prompts" in shown.stdout
    assert "above 1" in shown.stdout
    file.write_text('{"prompt": "p", "answer": "a", "base": -1}\n', encoding="utf-8")
    refused(run("gamma", file), "has no aligned")
    file.write_text('{"prompt": "p", "text": "a"}\n', encoding="utf-8")
    refused(run("gamma", file), "give --reference COUNTS")
    file.write_text('{"prompt": "p", "answer": "a", "base": "x", "aligned": -1}\n', encoding="utf-8")
    refused(run("gamma", file), "base must be a natural log-probability, not 'x'")
    refused(run("gamma", tmp_path / "none.jsonl"), "none.jsonl")


def test_levels_of_a_base(counts: Path) -> None:
    done = run("levels", counts, "--gamma", 3, "-k", 3, "--replies", 200)
    assert done.exit_code == 0, done.output
    for part in ("one answer", "a list of 3", "3 and their shares", "Texas", "It is smallest when"):
        assert part in done.stdout
    options = ("levels", counts, "--gamma", 3, "-k", 3, "--replies", 200, "--error", 0.3, "--seed", 2)
    found, again = document(*options), document(*options)
    assert [entry["level"] for entry in found["arms"]] == ["instance", "list", "distribution"]
    assert {**found, "created": ""} == {**again, "created": ""}
    refused(run("levels", counts, "--gamma", 3, "-k", 9), "k is 9: it must be from 1 to 4")
    refused(run("levels", counts, "--gamma", 3, "-k", 2, "--replies", 0), "replies is 0")


@pytest.mark.parametrize("name", ["sharpen", "gamma", "levels"])
def test_the_folder_gets_the_document_and_its_report(counts: Path, tmp_path: Path, name: str) -> None:
    pytest.importorskip("altair")
    pytest.importorskip("outspoken.theory.report")
    draws = written(
        tmp_path / "draws.json", [{"Texas": 8, "加州": 2, "نيويورك": 1}] * 3 + [{"Texas": 5, "加州": 4}] * 4
    )
    options: dict[str, tuple[Any, ...]] = {
        "sharpen": (counts, "--alpha", 0.57, "--beta", 0.2),
        "gamma": (draws, "--reference", counts),
        "levels": (counts, "--gamma", 3, "-k", 2, "--replies", 100),
    }
    wanted = 3 if name == "levels" else str(options[name][0])
    out = tmp_path / "報告"
    done = run(name, *options[name], "--out", out)
    assert done.exit_code == 0, done.output
    kept = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert (kept["kind"], kept["settings"]["gamma" if name == "levels" else "source"]) == (name, wanted)
    assert "Texas" in (out / "report.html").read_text(encoding="utf-8")
    assert "report.html" in done.stderr.replace("\n", "")


def test_the_results_of_something_else_are_not_overwritten(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    first.write_text('{"tea": 3, "茶": 1}', encoding="utf-8")
    second.write_text('{"coffee": 3, "maté": 1}', encoding="utf-8")
    folder = str(tmp_path / "made")
    for alpha in ("0.2", "0.4"):
        done = CliRunner().invoke(app, ["sharpen", str(first), "--alpha", alpha, "--beta", "1", "--out", folder])
        assert done.exit_code == 0, done.output
    for arguments in (["sharpen", str(second), "--gamma", "2"], ["levels", str(first), "--gamma", "2", "-k", "1"]):
        refused = CliRunner().invoke(app, [*arguments, "--out", folder])
        assert refused.exit_code == 2
        assert "name another folder" in refused.output
    kept = json.loads((tmp_path / "made" / "results.json").read_text(encoding="utf-8"))
    assert kept["settings"]["source"] == str(first)


def test_overwrite_replaces_results_of_outspoken_and_nothing_else(tmp_path: Path) -> None:
    first, second = (
        written(tmp_path / "first.json", {"tea": 3, "mint": 1}),
        written(tmp_path / "second.json", {"maté": 3, "茶": 1}),
    )
    folder = tmp_path / "made"
    assert run("sharpen", first, "--gamma", 2, "--out", folder).exit_code == 0
    assert run("levels", second, "--gamma", 2, "-k", 1, "--out", folder, "--overwrite").exit_code == 0
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["kind"] == "levels"
    written(folder / "results.json", {"kind": "mine", "settings": {"source": str(first)}})
    refused = run("sharpen", first, "--gamma", 2, "--out", folder, "--overwrite")
    assert (refused.exit_code, "something else" in refused.output) == (2, True)


def test_score_does_not_write_over_a_file(tmp_path: Path) -> None:
    kept = written(tmp_path / "kept.json", {"mine": 1})
    refused = run("score", "The capital of France is", " Paris", "--out", kept)
    assert (refused.exit_code, "--overwrite" in refused.output) == (2, True)
    assert json.loads(kept.read_text(encoding="utf-8")) == {"mine": 1}


def test_answers_cannot_control_the_terminal(tmp_path: Path) -> None:
    counts = written(tmp_path / "counts.json", {"\x1b[31mred": 3, "tea": 1})
    for arguments in (
        ["sharpen", counts, "--gamma", 2],
        ["levels", counts, "--gamma", 2, "-k", 2, "--replies", 50],
    ):
        done = run(*arguments)
        assert done.exit_code == 0, done.output
        assert "\x1b[31m" not in done.output
        assert "x1b[31mred" in done.output
