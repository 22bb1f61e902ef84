"""The step `verify`: the records it keeps, and the verdicts on the others."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from servers import serving

from outspoken.checking.sandbox import Sandbox
from outspoken.errors import OutspokenError, UnknownNameError, UsageError
from outspoken.synth.records import pa, rows_in
from outspoken.synth.steps.base import Step, StepOutcome
from outspoken.synth.steps.verify import VerifyOptions, run

pq = pytest.importorskip("pyarrow.parquet")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is for Linux")


def step_of(folder: Path, records: list[dict[str, Any]], model: str | None = None) -> Step:
    source = folder / "01-answer.parquet"
    rows = [{"id": str(at), "text": f"question {at}", **record} for at, record in enumerate(records)]
    names = list(dict.fromkeys(name for row in rows for name in row)) or ["id", "text"]
    table = pa.table({name: pa.array([row.get(name) for row in rows]) for name in names})
    if not rows:
        table = pa.schema([("id", pa.string()), ("text", pa.string())]).empty_table()
    pq.write_table(table, source)
    return Step("02-verify", folder, source, model=model)


async def verified(
    folder: Path, options: VerifyOptions, records: list[dict[str, Any]], model: str | None = None
) -> tuple[StepOutcome, list[dict[str, Any]], list[dict[str, Any]]]:
    step = step_of(folder, records, model)
    outcome = await run(options, step)
    removed = list(rows_in(step.removed)) if step.removed.is_file() else []
    assert (step.progress.done, step.progress.total) == (len(records), len(records))
    return outcome, list(rows_in(step.out)), removed


async def test_by_mathematics(tmp_path: Path) -> None:
    records = [
        {"final": "18", "expected": "…\n#### 18"},
        {"final": r"\frac{1}{2}", "expected": "0.5"},
        {"final": "(x+1)^2", "expected": "x^2+2x+1"},
        {"final": "１９", "expected": "18"},
        {"final": "", "expected": "18"},
        {"final": "5", "expected": "10^{10^{10^{10}}}"},
        {"final": "18", "expected": None},
        {"final": "18", "expected": " "},
        {"final": "星期二", "expected": "星期二。"},
    ]
    outcome, kept, removed = await verified(tmp_path, VerifyOptions(seconds=2), records)
    assert [row["id"] for row in kept] == ["0", "1", "2", "8"]
    assert {row["verdict"] for row in kept} == {"right"}
    assert all(row["verified"] for row in kept)
    assert {row["id"]: row["reason"] for row in removed} == {
        "3": "the answer is wrong",
        "4": "no answer was given",
        "5": "the comparison took longer than 2 s",
        "6": "has no expected",
        "7": "no right answer is known",
    }
    assert removed[0]["verdict"] == "１９ is not 18"
    assert not any(row["verified"] for row in removed)
    assert outcome.kept == 4
    assert dict(outcome.removed) == {row["reason"]: 1 for row in removed}
    assert outcome.figures["right"] == 4
    assert outcome.figures["comparisons that took too long"] == 1


async def test_whole_solutions_are_compared_by_their_final_answers(tmp_path: Path) -> None:
    options = VerifyOptions(given="{answer}", expected="{solution}")
    records = [
        {"answer": r"Add 3 and 4.\nThe answer is \boxed{7}.", "solution": "3 + 4 = 7\n#### 7"},
        {"answer": "Add 3 and 5.\nThat makes 8", "solution": "3 + 4 = 7\n#### 7"},
    ]
    _, kept, removed = await verified(tmp_path, options, records)
    assert [row["id"] for row in kept] == ["0"]
    assert removed[0]["verdict"] == "8 is not 7"


async def test_all_records_can_be_kept(tmp_path: Path) -> None:
    records = [{"final": "1", "expected": "1"}, {"final": "2", "expected": "1"}]
    outcome, kept, removed = await verified(tmp_path, VerifyOptions(keep="all"), records)
    assert [row["verified"] for row in kept] == [True, False]
    assert [row["verdict"] for row in kept] == ["right", "2 is not 1"]
    assert (removed, dict(outcome.removed)) == ([], {})
    assert outcome.figures["wrong"] == {"the answer is wrong": 1}


async def test_fields_of_the_value_can_be_used_and_columns_stay(tmp_path: Path) -> None:
    records = [{"value": json.dumps({"result": 12}), "final": "12.0", "probability": 0.25}]
    _, kept, _ = await verified(tmp_path, VerifyOptions(expected="{result}"), records)
    assert kept == [
        {"id": "0", "text": "question 0", **records[0], "verified": True, "verdict": "right"},
    ]


async def test_a_field_that_no_record_has_is_an_error(tmp_path: Path) -> None:
    step = step_of(tmp_path, [{"final": "1", "expectd": "1"}, {"final": "1", "expectd": "1"}])
    with pytest.raises(UnknownNameError, match="did you mean 'expectd'"):
        await run(VerifyOptions(), step)
    assert not step.out.exists()


async def test_no_records_are_no_error(tmp_path: Path) -> None:
    outcome, kept, removed = await verified(tmp_path, VerifyOptions(), [])
    assert (outcome.kept, kept, removed) == (0, [], [])
    assert {"verified", "verdict"} <= set(pq.read_schema(tmp_path / "02-verify.parquet").names)


@on_linux
async def test_by_unit_tests(tmp_path: Path) -> None:
    add = "```python\ndef add(a, b):\n    return a + b  # 加\n```"
    records = [
        {"answer": add, "tests": "assert add(1, 2) == 3"},
        {"answer": "def add(a, b): return a - b", "tests": "assert add(1, 2) == 3"},
        {"answer": "def add(a, b):\n    while True: pass", "tests": "assert add(1, 2) == 3"},
        {"answer": "import os\nwhile True: os.fork()", "tests": "assert True"},
        {"answer": "x = bytearray(2**30)", "tests": "assert True"},
        {"answer": f"open('{tmp_path}/x', 'w')", "tests": "assert True"},
        {"answer": "import socket; socket.socket()", "tests": "assert True"},
        {"answer": "raise SystemExit(0)", "tests": "assert True"},
        {"answer": None, "tests": "assert True"},
    ]
    outcome, kept, removed = await verified(tmp_path, VerifyOptions(by="tests", seconds=2, memory=256), records)
    assert [row["id"] for row in kept] == ["0"]
    assert [row["reason"] for row in removed] == [
        "failed an assertion",
        "took longer than 2 s",
        "tried to start a process",
        "used more memory than 256 MiB",
        "tried to write outside its folder",
        "tried to open a socket",
        "ended too early",
        "has no answer",
    ]
    assert removed[0]["verdict"].endswith("in line 1 of the tests: assert add(1, 2) == 3")
    assert sum(outcome.removed.values()) == 8
    assert not (tmp_path / "x").exists()


@on_linux
async def test_cancelling_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(programs))
    step = step_of(tmp_path, [{"answer": "open('x', 'w').close()\nwhile True: pass", "tests": "assert 1"}] * 5)
    task = asyncio.create_task(run(VerifyOptions(by="tests", seconds=60), step))
    while not list(programs.glob("*/*/x")):
        await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not list(programs.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01-answer.parquet", "programs"]


async def test_a_broken_sandbox_ends_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run_nothing(*_arguments: Any, **_options: Any) -> None:
        raise OutspokenError("no room")

    monkeypatch.setattr(Sandbox, "run", run_nothing)
    monkeypatch.setattr(Sandbox, "__aenter__", lambda self: asyncio.sleep(0, self))
    step = step_of(tmp_path, [{"answer": "x = 1", "tests": "assert x"}] * 3)
    with pytest.raises(OutspokenError, match="no room"):
        await run(VerifyOptions(by="tests"), step)
    assert not step.out.exists()


async def test_without_a_sandbox_nothing_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    step = step_of(tmp_path, [{"answer": "x = 1", "tests": "assert x"}])
    with pytest.raises(UsageError, match="cannot be run in a sandbox here"):
        await run(VerifyOptions(by="tests"), step)


FUNCTION = """
def is_right(record):
    what = record["answer"]
    if what == "raise":
        raise KeyError("日本")
    return {"yes": True, "no": False, "why": "too short", "none": None}[what]

def broken(record):
    return record["nothing"]
"""


async def test_by_the_users_function(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FUNCTION, encoding="utf-8")
    options = VerifyOptions(by="function", function=f"{tmp_path}/mine.py:is_right")
    records = [{"answer": each} for each in ("yes", "no", "why", "none", "raise", "yes")]
    outcome, kept, removed = await verified(tmp_path, options, records)
    assert [row["id"] for row in kept] == ["0", "5"]
    assert [row["reason"] for row in removed] == [
        "the function says no",
        "too short",
        "the function gave no answer",
        "the function raised KeyError",
    ]
    assert removed[3]["verdict"] == "KeyError: '日本'"
    assert outcome.warnings == ()


async def test_a_function_that_always_raises_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FUNCTION, encoding="utf-8")
    options = VerifyOptions(by="function", function=f"{tmp_path}/mine.py:broken")
    outcome, kept, _ = await verified(tmp_path, options, [{"answer": "yes"}] * 3)
    assert kept == []
    assert dict(outcome.removed) == {"the function raised KeyError": 3}
    assert outcome.warnings == (f"{tmp_path}/mine.py:broken raised on every record: KeyError: 'nothing'",)


RUBRIC = """
prompt = "You are a strict teacher."

[[criteria]]
name = "Correct"
about = "Whether it is right."
low = 0
high = 10
"""


async def test_by_a_judge(tmp_path: Path) -> None:
    (tmp_path / "strict.toml").write_text(RUBRIC, encoding="utf-8")
    scores = {"good": '{"Correct": 9}', "bad": '{"Correct": 3}', "odd": "I would rather not."}

    async def judge(request: web.Request) -> web.Response:
        question = (await request.json())["messages"][1]["content"]
        said = next(answer for word, answer in scores.items() if word in question)
        message = {"role": "assistant", "content": said}
        return web.json_response({"choices": [{"message": message, "finish_reason": "stop"}], "usage": {}})

    records = [{"answer": word} for word in ("good", "bad", "odd", "good")]
    options = VerifyOptions(by="judge", rubric=f"{tmp_path}/strict.toml", at_least=60)
    async with serving(judge) as served:
        model = f"{served.base_url}#judge"
        outcome, kept, removed = await verified(tmp_path, options, records, model)
        asked = len(served.requests)
        again, _, _ = await verified(tmp_path, options, records, model)
    assert [(row["id"], row["verdict"]) for row in kept] == [("0", "90.0 of 100"), ("3", "90.0 of 100")]
    assert [row["reason"] for row in removed] == ["the judge gave less than 60", "the judge cannot be read"]
    assert outcome.figures["requests"] == asked
    assert outcome.figures["failures"] == 1
    assert again.figures["from_ledger"] >= 3
    assert again.kept == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "math"}, "did you mean 'maths'"),
        ({"by": "mine.py:f"}, 'by = "function", function = "mine.py:f"'),
        ({"by": "function"}, "name the function"),
        ({"by": "function", "function": "f"}, "name the function"),
        ({"by": "judge"}, "name the rubric"),
        ({"keep": "wrong"}, "known: all, right"),
        ({"seconds": 0}, "seconds must be a number above 0"),
        ({"memory": 1}, "memory must be a whole number from 16 on"),
        ({"at_least": 101}, "from 0 to 100"),
    ],
)
def test_invalid_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        VerifyOptions(**options)
    assert message in str(caught.value)


def test_problems_are_reported_before_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    VerifyOptions().check()
    VerifyOptions(by="judge", rubric=f"{tmp_path}/creative").check()
    with pytest.raises(UsageError, match="rubric"):
        VerifyOptions(by="judge", rubric=f"{tmp_path}/none.toml").check()
    with pytest.raises(UsageError, match=r"no Python file"):
        VerifyOptions(by="function", function=f"{tmp_path}/none.py:f").check()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match="cannot be run in a sandbox here"):
        VerifyOptions(by="tests").check()


async def test_a_file_without_the_function(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FUNCTION, encoding="utf-8")
    step = step_of(tmp_path, [{"answer": "yes"}])
    with pytest.raises(UsageError, match="is_right"):
        await run(VerifyOptions(by="function", function=f"{tmp_path}/mine.py:is_wrong"), step)
