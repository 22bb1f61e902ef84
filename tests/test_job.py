"""`outspoken run` as processes, against a server that goes wrong by a plan: what is stored is not asked for again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import servers
from aiohttp import web
from faults import EFFECTS, SOUND, Effect, Record, conversation_of, read_log
from proofs import repetitions

from outspoken import Ledger, OutputError, UsageError
from outspoken.batch.file import BatchJob, FileRun
from outspoken.batch.plan import RunPlan
from outspoken.ledger import checks, reply_of, request_of
from outspoken.ledger.reader import LedgerReader

polars = pytest.importorskip("polars")

HERE = Path(__file__).parent
# The whole of it, `OUTSPOKEN_TEST_PROMPTS=5000 OUTSPOKEN_TEST_KILLS=30`, takes some minutes.
PROMPTS = int(os.environ.get("OUTSPOKEN_TEST_PROMPTS", repetitions(1500, 500)))
KILLS = int(os.environ.get("OUTSPOKEN_TEST_KILLS", repetitions(10, 3)))


@dataclass
class Server:
    url: str
    log: Path

    def records(self) -> list[Record]:
        return [record for record in read_log(self.log) if record.sent]

    @property
    def answered(self) -> list[Record]:
        """Replies that were handed over whole and that are to be paid for."""
        return [record for record in self.records() if effect(record) in (Effect.USABLE, Effect.CONTENT)]


def effect(record: Record) -> Effect | None:
    """None for a refusal by the server that is no part of its plan."""
    if record.kind == SOUND:
        return Effect.USABLE
    return {fault.value: effect for fault, effect in EFFECTS.items()}.get(record.kind)


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[Server]:
    log = folder / "server.jsonl"
    command = [sys.executable, str(HERE / "faults.py"), "--seed", "3", "--port", "0", "--log", str(log), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(f"http://127.0.0.1:{process.stdout.readline().strip()}/v1#m", log)
        finally:
            process.terminate()


def command(*arguments: Any) -> list[str]:
    return [sys.executable, "-m", "outspoken", "run", *map(str, arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1", "OUTSPOKEN_API_KEY": "sk-never-to-be-seen", "NO_PROXY": "127.0.0.1"}


def run(*arguments: Any, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), input=stdin, capture_output=True, env=environment(), timeout=900)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def replies(ledger: Path) -> int:
    """How many are in the ledger, all of them sound."""
    with LedgerReader(ledger) as reader:
        count, problems = checks.verify(reader)
    assert problems == []
    return count


def cited(out: Path, ledger: Path) -> int:
    """How many rows the output has; the reply that the `request_key` of each one names holds its text."""
    texts = set()
    with Ledger(ledger) as kept:
        for row in kept.stored():
            with contextlib.suppress(ValueError):
                texts |= {(row.key, each["text"]) for each in json.loads(reply_of(row.reply).text)["responses"]}
    rows = polars.read_parquet(out, columns=["request_key", "text"]).rows()
    assert [row for row in rows if row not in texts] == []
    return len(rows)


def asked_again(server: Server, ledger: Path, seconds: float = 0.5) -> int:
    """How many requests came so long after the last reply to their conversation had been stored."""
    stored: dict[str, float] = {}
    with Ledger(ledger) as kept:
        for row in kept.stored():
            messages = [{"role": role, "content": said} for role, said in request_of(row.request)["messages"]]
            stored[conversation_of(messages)] = row.created
    assert stored.keys() <= {record.conversation for record in read_log(server.log)}
    return sum(
        record.came > stored.get(record.conversation, math.inf) + seconds for record in read_log(server.log)
    )


def summary(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for n in range(PROMPTS):
            line = {"id": f"p{n}", "prompt": f"Tell me a joke about {n} 咖啡 قهوة ☕", "topic": n % 7}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


def few(path: Path, count: int) -> Path:
    shorter = path.with_name("few.jsonl")
    shorter.write_text(
        "".join(path.read_text(encoding="utf-8").splitlines(keepends=True)[:count]), encoding="utf-8"
    )
    return shorter


FAULTS = ("--share", "0.2", "--pace", "0.0001", "--huge", "100000")


@pytest.mark.proof
def test_every_prompt_is_answered_and_nothing_is_asked_twice(tmp_path: Path, prompts: Path) -> None:
    out, ledger = tmp_path / "out.parquet", tmp_path / "run.sqlite"
    with serving(tmp_path, *FAULTS) as server:
        done = run(prompts, "--out", out, "--model", server.url, "--ledger", ledger, "--json", "--timeout", 30)
        assert done.returncode == 0, done.stderr
        answered = server.answered
    found = summary(done)
    assert (found["prompts"], found["failures"], found["bad_rows"]) == (PROMPTS, 0, 0)
    usable = Counter(record.key for record in answered if effect(record) is Effect.USABLE)
    assert max(usable.values()) == 1
    assert replies(ledger) == len(answered) == found["requests"]
    table = polars.read_parquet(out)
    assert table["prompt_id"].n_unique() == PROMPTS
    assert table["prompt_id"].unique(maintain_order=True).to_list() == [f"p{n}" for n in range(PROMPTS)]
    assert (table["topic"] == table["prompt_id"].str.slice(1).cast(int) % 7).all()
    assert cited(out, ledger) == len(table)
    assert b"sk-never" not in ledger.read_bytes()


@pytest.mark.proof
def test_killed_many_times_and_gone_on_with(tmp_path: Path, prompts: Path) -> None:
    out, ledger = tmp_path / "out.parquet", tmp_path / "run.sqlite"
    arguments = (prompts, "--out", out, "--ledger", ledger, "--concurrency", 16, "--timeout", 30)
    moment = random.Random(5)
    lost, before, kept = 0, 0, 0
    with serving(tmp_path, *FAULTS) as server:
        for _ in range(KILLS):
            with subprocess.Popen(
                command(*arguments, "--model", server.url), env=environment(), stderr=subprocess.DEVNULL
            ) as process:
                _more_than(before, server, process)
                time.sleep(moment.uniform(0, 0.6))
                process.kill()
            time.sleep(0.2)  # the server notices
            before = len(server.records())
            answers = len(server.answered)
            kept = replies(ledger)
            # Only what was on its way at the moment of a kill can be missing.
            assert 0 <= answers - kept - lost <= 100
            lost = answers - kept
        done = run(*arguments, "--model", server.url, "--json")
        assert done.returncode == 0, done.stderr
        answered = server.answered
    found = summary(done)
    assert (found["prompts"], found["failures"]) == (PROMPTS, 0)
    rows = replies(ledger)
    # No request whose reply is in the ledger was made again: all that was answered twice had been lost.
    assert len(answered) - rows == lost
    assert found["from_ledger"] + found["requests"] == rows
    table = polars.read_parquet(out)
    assert table["prompt_id"].unique(maintain_order=True).to_list() == [f"p{n}" for n in range(PROMPTS)]
    assert table.group_by("prompt_id").len()["len"].unique().to_list() == [5]
    assert cited(out, ledger) == 5 * PROMPTS
    assert asked_again(server, ledger) == 0
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["out.parquet", "prompts.jsonl", "run.sqlite", "server.jsonl"]


@pytest.mark.proof
def test_two_processes_on_one_ledger(tmp_path: Path, prompts: Path) -> None:
    """Both ask for the same, and get different replies: those that are stored are in the outputs of both."""
    ledger, outs = tmp_path / "run.sqlite", [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    source = few(prompts, repetitions(PROMPTS, 150))
    shared = (source, "--ledger", ledger, "--concurrency", 16, "--timeout", 30)
    moment = random.Random(7)
    with serving(tmp_path, *FAULTS) as server:

        def both() -> list[subprocess.Popen[bytes]]:
            lines = [command(*shared, "--out", out, "--model", server.url, "--quiet") for out in outs]
            return [subprocess.Popen(line, env=environment()) for line in lines]

        for _ in range(KILLS):
            before, processes = len(server.records()), both()
            _more_than(before, server, processes[0])
            time.sleep(moment.uniform(0, 0.6))
            for process in processes:
                process.kill()
                process.wait()
        assert [process.wait(timeout=900) for process in both()] == [0, 0]
        assert len(server.answered) > replies(ledger)  # some requests of both were under way at the same time
        assert asked_again(server, ledger) == 0
    for out in outs:
        assert cited(out, ledger) == 5 * len(source.read_bytes().splitlines())
    tables = [polars.read_parquet(out).drop("call") for out in outs]
    assert tables[0].equals(tables[1])


def _more_than(count: int, server: Server, process: subprocess.Popen[Any]) -> None:
    _wait_for(lambda: len(server.records()) > count or process.poll() is not None)


def _wait_for(condition: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_run_fits_into_few_open_files(tmp_path: Path) -> None:
    """Failures, parts, the ledger and its log need some of them as well."""
    source, out = tmp_path / "prompts.txt", tmp_path / "out.csv"
    count = repetitions(5_000, 400)
    source.write_text("".join(f"Tell me a joke about {n}\n" for n in range(count)))
    with serving(tmp_path, "--share", "0.1", "--kinds", "500,dropped,429", "--delay", "0.02") as server:
        line = command(source, "--out", out, "--model", server.url, "--attempts", 1, "--json")
        limited = ["bash", "-c", 'ulimit -n 64; exec "$@"', "run", *line]
        done = subprocess.run(limited, capture_output=True, env=environment(), text=True, timeout=900)
        assert done.returncode == 3
        assert re.search(r"at most \d\d requests at once: raise the limit of open files", done.stderr)
        assert 8 < max(record.peak for record in server.records()) < 50
    found = summary(done)
    assert (tmp_path / "out.csv.failures.jsonl").stat().st_mode & 0o777 == 0o600
    assert found["prompts"] == count
    assert found["failures"] == len((tmp_path / "out.csv.failures.jsonl").read_text().splitlines()) > count / 50
    assert set(found["causes"]) <= {"HTTP 500", "HTTP 429"} | {
        name for name in found["causes"] if "broke off" in name
    }


def test_the_soft_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("a\n")
    with serving(tmp_path, "--share", "0") as server:
        line = command(source, "--out", out, "--model", server.url)
        limited = ["bash", "-c", 'ulimit -Sn 64; exec "$@"', "run", *line]
        done = subprocess.run(limited, capture_output=True, env=environment(), text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_finished_run_asks_nothing_more(tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "out.jsonl"
    source = few(prompts, 50)
    with serving(tmp_path, "--share", "0") as server:
        first = summary(run(source, "--out", out, "--model", server.url, "--json"))
        written = out.read_bytes()
        again = run(source, "--out", out, "--model", server.url, "--json")
        assert again.returncode == 0
        assert f"nothing is left to do: {out} is complete" in again.stderr
        refused = run(source, "--out", out, "--model", server.url, "-k", 4, "--temperature", 0.5)
        assert refused.returncode == 2
        assert "(k was 5, is 4; temperature was not set, is 0.5): replace it with --overwrite" in refused.stderr
        assert "or choose another --out" in refused.stderr
        overwritten = summary(run(source, "--out", out, "--model", server.url, "--json", "--overwrite"))
        assert len(server.records()) == 50
    assert out.read_bytes() == written
    for other in (summary(again), overwritten):
        assert (other["requests"], other["from_ledger"], other["tokens"]) == (0, 50, 0)
        assert [other[name] for name in ("prompts", "responses", "distinct")] == [50, 250, 250]
    assert first["requests"] == 50


def test_an_output_of_something_else_is_refused_and_left_alone(tmp_path: Path, prompts: Path) -> None:
    source, out = few(prompts, 4), tmp_path / "out.jsonl"
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text("mine\n")
    with serving(tmp_path, "--share", "0") as server:
        run(source, "--out", out, "--model", server.url)
        source.write_text("".join(reversed(source.read_text(encoding="utf-8").splitlines(keepends=True))))
        before = {path: path.read_bytes() for path in tmp_path.iterdir()}
        for arguments, message in (
            (
                (out,),
                "was written with other settings (the prompts begin differently): replace it with --overwrite",
            ),
            ((out, "--ledger", tmp_path / "other.sqlite"), f"is not known to the ledger {tmp_path}/other.sqlite"),
            ((foreign,), f"is not known to the ledger {foreign}.ledger.sqlite: replace it with --overwrite"),
        ):
            refused = run(source, "--out", *arguments, "--model", server.url)
            assert refused.returncode == 2
            assert message in refused.stderr
            assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
        replaced = run(
            source,
            "--out",
            foreign,
            "--ledger",
            f"{out}.ledger.sqlite",
            "--model",
            server.url,
            "--overwrite",
            "--quiet",
        )
        assert (replaced.returncode, replaced.stderr) == (0, "")
        assert len(server.records()) == 4
    assert len(foreign.read_text(encoding="utf-8").splitlines()) == 20


def test_from_a_table_of_a_spreadsheet_to_another(tmp_path: Path) -> None:
    out = tmp_path / "names.csv"
    source = tmp_path / "prompts.csv"
    rows = [f'{n};"Nenne einen Tee; {n} ☕";x' for n in range(20)]
    source.write_bytes("\r\n".join(["id;prompt;Größe", *rows, ";;", ""]).encode("utf-8-sig"))
    with serving(tmp_path, "--share", "0") as server:
        arguments = (source, "--out", out, "--model", server.url, "-k", 2, "--json")
        stopped = run(*arguments, "--max-seconds", 0.001)
        assert stopped.returncode in (1, 3)
        done = run(*arguments)
        assert (done.returncode, summary(done)["bad_rows"]) == (0, 0)
        written = out.read_bytes()
        again = run(*arguments)
        assert f"nothing is left to do: {out} is complete" in again.stderr
        overwritten = run(*arguments, "--overwrite")
        assert (summary(overwritten)["requests"], out.read_bytes()) == (0, written)
    table = polars.read_csv(out)
    assert table["prompt"].unique(maintain_order=True).to_list() == [f"Nenne einen Tee; {n} ☕" for n in range(20)]
    assert (table["Größe"] == "x").all()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "names.csv",
        "names.csv.ledger.sqlite",
        "prompts.csv",
        "server.jsonl",
    ]


def test_more_prompts_and_more_responses_cost_only_what_is_new(tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "out.parquet"
    source = few(prompts, 30)
    with serving(tmp_path, "--share", "0") as server:
        summary(run(source, "--out", out, "--model", server.url, "--json"))
        source = few(prompts, 40)
        longer = summary(run(source, "--out", out, "--model", server.url, "--json"))
        wider = summary(run(source, "--out", out, "--model", server.url, "--json", "--overwrite", "--n", 10))
    assert (longer["requests"], longer["from_ledger"], longer["prompts"]) == (10, 30, 40)
    assert (wider["requests"], wider["from_ledger"], wider["responses"]) == (40, 40, 400)


@pytest.mark.parametrize("presses", [1, 2])
def test_interrupting_keeps_what_came(tmp_path: Path, prompts: Path, presses: int) -> None:
    out, ledger = tmp_path / "out.parquet", tmp_path / "run.sqlite"
    arguments = (prompts, "--out", out, "--ledger", ledger, "--concurrency", 8, "--json")
    with serving(tmp_path, "--share", "0", "--delay", "0.05") as server:
        with subprocess.Popen(
            command(*arguments, "--model", server.url),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            _wait_for(lambda: len(server.records()) > 40)
            for _ in range(presses):
                process.send_signal(signal.SIGINT)
                time.sleep(0.01)
            said, complaints = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in complaints
        _wait_for(lambda: True)
        answered = len(server.answered)
        rows = replies(ledger)
        if presses == 1:
            assert rows == answered == json.loads(said)["requests"]
            assert polars.read_parquet(out)["prompt_id"].n_unique() == rows
        else:
            assert answered - rows <= 8
        done = run(few(prompts, 60), *arguments[1:], "--model", server.url)
        assert done.returncode == 0, done.stderr
        assert re.search(rf"continuing .*out\.parquet: {min(rows, 60)} of 60 prompts done", done.stderr)
        # Of the first sixty prompts nothing that had been kept was asked again.
        assert len(server.answered) - answered <= 60 - min(rows, 60) + 8
    assert polars.read_parquet(out)["prompt_id"].n_unique() == 60


@pytest.mark.parametrize("delay", [0.0, 0.4])
def test_a_second_interrupt_at_any_moment(tmp_path: Path, prompts: Path, delay: float) -> None:
    """While the command is starting, stopping or leaving."""
    with serving(tmp_path, "--share", "0", "--delay", "0.2") as server:
        running = []
        for number, gap in enumerate((0.02, 0.15, 0.3)):
            line = command(
                prompts, "--out", tmp_path / f"{number}.parquet", "--model", server.url, "--concurrency", 8
            )
            process = subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True)
            _wait_for((tmp_path / f"{number}.parquet.ledger.sqlite").exists)
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            time.sleep(gap)
            process.send_signal(signal.SIGINT)
            running.append(process)
        for process in running:
            _, said = process.communicate(timeout=60)
            assert process.returncode == 130
            assert not re.search(r"Traceback|Exception|Interrupt\b", said)
    for number in range(3):
        replies(tmp_path / f"{number}.parquet.ledger.sqlite")


def test_an_interrupted_continuation_takes_nothing_away(tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "out.parquet"
    with serving(tmp_path, "--share", "0", "--delay", "0.2") as server:
        arguments = (prompts, "--out", out, "--model", server.url, "--concurrency", 16)
        limited = run(*arguments, "--json", "--max-seconds", 2)
        assert limited.returncode == 3
        had = polars.read_parquet(out)["prompt_id"].n_unique()
        assert had == summary(limited)["prompts"] > 0
        again = run(*arguments, "--json", "--max-seconds", 0.01)
        assert again.returncode == 3
    assert polars.read_parquet(out)["prompt_id"].n_unique() >= had


async def test_an_output_that_goes_away_costs_no_reply(tmp_path: Path, prompts: Path) -> None:
    with serving(tmp_path, "--share", "0", "--delay", "0.01") as server:
        running = FileRun(
            BatchJob(prompts, tmp_path / "out.parquet", RunPlan.make(server.url, None, {"concurrency": 16}))
        )
        work = asyncio.ensure_future(running.run())
        while running.metrics.requests < 50:
            await asyncio.sleep(0.01)
        shutil.rmtree(running.output.parts)
        with pytest.raises(OutputError, match="cannot be written"):
            await work
        running.close()
        answered = len(server.answered)
    assert replies(running.ledger_path) == answered == running.metrics.requests


def test_bad_rows_are_told_and_the_others_run(tmp_path: Path) -> None:
    source = tmp_path / "prompts.jsonl"
    source.write_bytes(
        b'{"id": 1, "prompt": "good"}\n{"id": 2, "prompt": \n{"id": 3}\n\n{"id": 4, "prompt": "\\ud800"}\n'
        b'{"id": 1, "prompt": "again"}\n{"id": 5, "prompt": "caf\xe9"}\n{"id": 6, "prompt": "\xe5\xa5\xbd"}\n'
    )
    out = tmp_path / "out.jsonl"
    with serving(tmp_path, "--share", "0") as server:
        done = run(source, "--out", out, "--model", server.url)
    assert done.returncode == 3
    assert [line.split() for line in done.stderr.splitlines()][1] == ["5", "bad", "row", "in", "the", "input"]
    assert f"  {source}:3: no prompt: the columns are id\n" in done.stderr
    failures = [json.loads(line) for line in (tmp_path / "out.jsonl.failures.jsonl").read_text().splitlines()]
    assert [failure["where"].rpartition(":")[2] for failure in failures] == ["2", "3", "5", "6", "7"]
    assert "first at" in failures[3]["message"]
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {row["prompt_id"]: row["prompt"] for row in rows} == {"1": "good", "6": "好"}


def test_what_fails_is_told_and_asked_again_the_next_time(tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "out.parquet"
    source = few(prompts, 20)
    with serving(tmp_path, "--share", "0.5", "--kinds", "500", "--bound", "3") as server:
        arguments = (source, "--out", out, "--model", server.url, "--json")
        first = run(*arguments, "--attempts", 1)
        assert first.returncode == 3
        failed = summary(first)["failures"]
        assert 0 < failed < 20
        assert summary(first)["causes"] == {"HTTP 500": failed}
        assert len(Path(summary(first)["failures_file"]).read_text().splitlines()) == failed
        second = run(*arguments)
        assert second.returncode == 0, second.stderr
    assert (summary(second)["requests"], summary(second)["from_ledger"]) == (failed, 20 - failed)
    assert not (tmp_path / "out.parquet.failures.jsonl").exists()


def test_a_dead_server_is_told_in_one_line(tmp_path: Path, prompts: Path) -> None:
    done = run(prompts, "--out", tmp_path / "out.parquet", "--model", "http://127.0.0.1:9/v1#m", "--attempts", 2)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "nothing answers" in line
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("missing.jsonl", "--out", "o.parquet"), "no such file"),
        (("empty.jsonl", "--out", "o.parquet"), "no rows"),
        (("columns.csv", "--out", "o.parquet"), "the columns are a, b"),
        (("good.txt", "--out", "nowhere/o.parquet"), "does not exist"),
        (("good.txt", "--out", "o.xlsx"), "must end in"),
        (("good.txt", "--out", "o.parquet", "--n", "0"), "n must be"),
        (("good.txt", "--out", "o.parquet", "--budget-usd", "1"), "no price"),
        (("good.txt", "--out", "o.parquet", "--engine", "spark"), "unknown engine"),
        (("good.txt", "--out", "o.parquet", "--workers", "2"), "--engine ray"),
    ],
)
def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").touch()
    Path("columns.csv").write_text("a,b\n1,2\n")
    Path("good.txt").write_text("a prompt\n")
    done = run(*arguments, "--model", "http://127.0.0.1:9/v1#m")
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["columns.csv", "empty.jsonl", "good.txt"]


def test_an_output_that_was_begun_over_ray_is_refused(tmp_path: Path) -> None:
    source, out = tmp_path / "good.txt", tmp_path / "o.parquet"
    source.write_text("a prompt\n")
    (tmp_path / "o.parquet.shards").mkdir()
    before = sorted(tmp_path.rglob("*"))
    plan = RunPlan.make("http://127.0.0.1:9/v1#m", None, {})
    with pytest.raises(UsageError, match=r"o\.parquet was begun over Ray: .* --engine ray, .* --overwrite"):
        FileRun(BatchJob(source, out, plan))
    assert sorted(tmp_path.rglob("*")) == before
    FileRun(BatchJob(source, out, plan, overwrite=True)).close()
    FileRun(BatchJob(source, out, plan)).close()  # what was started over here goes on here


def test_a_file_that_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "good.txt"
    source.write_text("a prompt\n")
    done = run(source, "--out", tmp_path / "o.parquet", "--ledger", source, "--model", "http://127.0.0.1:9/v1#m")
    assert done.returncode == 1
    assert "is not a ledger" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["good.txt"]
    assert source.read_text() == "a prompt\n"


def test_prompts_from_standard_input_into_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with serving(tmp_path, "--share", "0") as server:
        done = run("-", "--out", out, "--model", server.url, "--n", 2, stdin="一個\nשלום\n".encode())
    assert done.returncode == 0, done.stderr
    table = polars.read_parquet(out)
    assert table["prompt"].to_list() == ["一個", "一個", "שלום", "שלום"]
    assert table["rank"].is_between(1, 5).all()


def test_a_dry_run_asks_nothing_and_writes_nothing(tmp_path: Path, prompts: Path) -> None:
    source = few(prompts, 20)
    out = tmp_path / "out.parquet"
    before = sorted(tmp_path.iterdir())
    done = run(source, "--out", out, "--model", "http://127.0.0.1:9/v1#m", "--n", 12, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    found = summary(done)
    assert (found["prompts"], found["requests"], found["from_ledger"], found["usd"]) == (20, 60, 0, None)
    assert found["tokens"] > 0
    assert sorted(tmp_path.iterdir()) == before
    with serving(tmp_path, "--share", "0") as server:
        run(source, "--out", out, "--model", server.url)
        asked = len(server.records())
        later = run(source, "--out", out, "--model", server.url, "--n", 12, "--dry-run")
        assert len(server.records()) == asked
    assert "about 40 requests (20 more in the ledger)" in later.stdout


async def test_a_repeated_direct_answer_is_a_response_again(tmp_path: Path):
    """How often each answer came is what one asks a model directly for."""
    source, out = tmp_path / "prompts.txt", tmp_path / "out.jsonl"
    source.write_text("说出一个州\n", encoding="utf-8")

    async def always_the_same(request: web.Request) -> web.Response:
        return web.json_response(servers.COMPLETION)

    async with servers.serving(always_the_same) as server:
        model = f"{server.base_url}#m"
        running = FileRun(BatchJob(source, out, RunPlan.make(model, None, {"method": "direct", "n": 7})))
        summary = await running.run()
        running.close()
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    text = servers.COMPLETION["choices"][0]["message"]["content"]
    assert [(row["text"], row["probability"]) for row in rows] == [(text, 1.0)] * 7
    assert len({row["request_key"] for row in rows}) == summary.requests == 7
