"""Runs over a real Ray cluster of three machines' worth of processes, against servers that go wrong."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from faults import ALL, EFFECTS, SOUND, Effect, Fault, Record, read_log
from proofs import PROOFS

from outspoken.batch.file import BatchJob, FileRun
from outspoken.batch.plan import RunPlan
from outspoken.batch.ray.driver import RayRun
from outspoken.chat import ChatRequest, Message, Sampling
from outspoken.chat_reply import ChatReply
from outspoken.errors import ProviderError, UsageError
from outspoken.models.base import Model
from outspoken.models.openai_wire import chat_body, encode

# Ray reads these when it is imported, and its nodes inherit them.
for name, value in (
    ("RAY_USAGE_STATS_ENABLED", "0"),
    ("RAY_BACKEND_LOG_LEVEL", "fatal"),
    ("RAY_DEDUP_LOGS_SKIP_REGEX", "."),
    ("NO_PROXY", "127.0.0.1,localhost"),
):
    os.environ.setdefault(name, value)

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install '.[ray]'")
pytest.importorskip("ray.data", reason="Ray Data is not installed: pip install '.[ray]'")
arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

from test_deduplicate import TOM, done, many, step  # noqa: E402
from test_deduplicate import source as records  # noqa: E402

from outspoken.synth.steps.base import ExecutionEngine, Step, StepProgress  # noqa: E402
from outspoken.synth.steps.deduplicate import DeduplicateOptions, run  # noqa: E402

HERE = Path(__file__).parent
PATIENCE = 240.0
# Faults after which the very same request is sent again, or none: then every answer is one row of a ledger.
CLEAN = [fault for fault in ALL if EFFECTS[fault] is not Effect.CONTENT and fault is not Fault.HUGE]
QUICK_DEATHS = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 5000,
    "health_check_failure_threshold": 5,
}

# Ray sets deprecated settings of its own, and leaves the files and processes of its nodes to the garbage collector.
pytestmark = [
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\."),
    pytest.mark.filterwarnings(r"ignore:unclosed file .*/session_\d.*/logs/:ResourceWarning"),
    pytest.mark.filterwarnings(r"ignore:subprocess \d+ is still running:ResourceWarning"),
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head that takes no work, and two nodes of one processor each."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": QUICK_DEATHS}
    made = Cluster(initialize_head=True, head_node_args=head)
    try:
        for _ in range(2):
            made.add_node(num_cpus=1)
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


class Server:
    """A process of `tests/faults.py`, and what it has answered."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log
        self.model = f"http://127.0.0.1:{port}/v1#m"

    @property
    def records(self) -> list[Record]:
        return read_log(self.log) if self.log.exists() else []

    @property
    def replies(self) -> dict[str, list[float]]:
        """When each body was answered with a whole reply."""
        found: dict[str, list[float]] = {}
        for record in self.records:
            if record.sent and (record.kind == SOUND or EFFECTS.get(record.kind) is not Effect.TRANSPORT):
                found.setdefault(record.key, []).append(record.time)
        return found


@contextmanager
def serving(
    folder: Path, *, share: float = 0.1, kinds: Sequence[Fault] = ALL, delay: float = 0.0, port: int = 0
) -> Iterator[Server]:
    log = folder / f"requests-{uuid.uuid4().hex}.jsonl"
    command = [sys.executable, str(HERE / "faults.py"), "--seed", "1", "--share", str(share), "--log", str(log)]
    command += ["--pace", "0.0002", "--huge", "20000", "--delay", str(delay), "--port", str(port)]
    with subprocess.Popen([*command, "--kinds", ",".join(kinds)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(int(process.stdout.readline()), log)
        finally:
            process.terminate()
            process.wait(PATIENCE)


async def eventually(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.02)


def prompts(path: Path, count: int) -> Path:
    lines = [
        {"id": f"p{number}", "prompt": f"写一首诗 {number} ☕ 👩🏽‍🚀", "topic": "茶"} for number in range(count)
    ]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


def job(source: Path, out: Path | str, model: str, **options: Any) -> BatchJob:
    return BatchJob(source, out, RunPlan.make(model, None, options))


async def over_ray(job: BatchJob, workers: int | None = 2) -> dict[str, Any]:
    running = RayRun(job, address=None, workers=workers)
    try:
        async with asyncio.timeout(PATIENCE):
            return (await running.run()).to_dict()
    finally:
        running.close()


@asynccontextmanager
async def command_line(cluster: Any, *arguments: Any) -> AsyncGenerator[asyncio.subprocess.Process]:
    """`outspoken run` over the cluster, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "outspoken", "run", *map(str, arguments)),
        *("--engine", "ray", "--address", cluster.address, "--workers", "2", "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def rows(path: Path) -> list[dict[str, Any]]:
    table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return sorted(table, key=lambda row: (row["prompt_id"], row["call"], row["rank"]))


def ledgers(out: Path) -> list[Path]:
    return sorted(out.with_name(out.name + ".shards").glob("*.sqlite"))


def stored(out: Path) -> dict[str, float]:
    """When the reply to each request was first stored, by the digest of the body that asked for it."""
    found: dict[str, float] = {}
    for path in ledgers(out):
        with contextlib.closing(sqlite3.connect(path)) as base:
            for text, created in base.execute("SELECT request, created FROM reply"):
                said = json.loads(text)
                assert said["schema"] is None
                messages = tuple(Message(*message) for message in said["messages"])
                request = ChatRequest(messages, Sampling(**said["sampling"]))
                key = hashlib.sha256(encode(chat_body(request, "m"))).hexdigest()[:16]
                found[key] = min(created, found.get(key, created))
    return found


def asked_again(server: Server, out: Path) -> list[str]:
    """The requests that were answered twice. None of them may have been in a ledger when it was sent again."""
    in_ledgers, replies = stored(out), server.replies
    assert replies.keys() == in_ledgers.keys()
    again = {key: times for key, times in replies.items() if len(times) > 1}
    for key, times in again.items():
        *_, before, last = sorted(times)
        assert in_ledgers[key] > (before + last) / 2, "a reply that stood in a ledger was asked for again"
    return list(again)


def attempts(out: Path) -> list[int]:
    """How often each shard was begun."""
    found = []
    for path in ledgers(out):
        with contextlib.closing(sqlite3.connect(path)) as base:
            found += base.execute("SELECT count(*) FROM run").fetchone()
    return found


# Each prompt is one request, whose body no other has.
ONE_EACH = {"method": "direct", "k": 1, "concurrency": 8}


def one_each(source: Path, out: Path, server: Any) -> list[Any]:
    """`ONE_EACH` on the command line."""
    settings = ("--method", "direct", "-k", 1, "--concurrency", 8)
    return [source, "--out", out, "--model", server.model, *settings]


# The same as on one machine


def table_of_all_types(path: Path) -> Path:
    """Prompts with every type of column that a Parquet file brings, some of them twice, some of them bad."""
    count = 30
    day = datetime.datetime(2024, 2, 29, 12, 30, 0, 123456)
    some = [number % 3 > 0 for number in range(count)]
    columns = {
        "prompt": ["", None, *(f"讲个笑话 {number // 2} 😀 قهوة" for number in range(2, count))],
        "whole": arrow.array([2**62 + number if some[number] else None for number in range(count)]),
        "text": [None if some[number] else f"naïve \0 \u2028 {number} 👩🏽‍🚀" for number in range(count)],
        "flag": [bool(flag) for flag in some],
        "real": arrow.array([0.1 * number for number in range(count)], arrow.float32()),
        "raw": [bytes([number, 255]) for number in range(count)],
        "day": arrow.array([day.date()] * count),
        "clock": arrow.array([day.time()] * count),
        "moment": arrow.array([day] * count, arrow.timestamp("us", "Asia/Shanghai")),
        "offset": arrow.array([day] * count, arrow.timestamp("us", "+05:30")),
        "nanos": arrow.array([number * 1_000_000_007 for number in range(count)], arrow.timestamp("ns")),
        "span": arrow.array([number * 1_000_001 for number in range(count)], arrow.duration("us")),
        "money": arrow.array([Decimal(f"{number}.10") for number in range(count)]),
        "tags": [[f"标签{number}", None] for number in range(count)],
        "nested": [{"a": [{"b": number}], "c": b"\x00"} for number in range(count)],
        "pairs": arrow.array(
            [[("k", number)] for number in range(count)], arrow.map_(arrow.string(), arrow.int64())
        ),
        "model": [f"mine {number}" for number in range(count)],
    }
    parquet.write_table(arrow.table(columns), path)
    return path


async def test_it_gives_what_one_machine_gives(cluster: Any, tmp_path: Path):
    source = table_of_all_types(tmp_path / "提示.parquet")
    options = {"n": 7, "k": 4, "seed": 11, "concurrency": 16}
    with serving(tmp_path) as server:
        summary = await over_ray(job(source, tmp_path / "ray.parquet", server.model, **options))
        assert server.records
    with serving(tmp_path, port=server.port) as again:
        running = FileRun(job(source, tmp_path / "local.parquet", again.model, **options))
        local = (await running.run()).to_dict()
        running.close()
    assert rows(tmp_path / "ray.parquet") == rows(tmp_path / "local.parquet")
    assert parquet.read_schema(tmp_path / "ray.parquet") == parquet.read_schema(tmp_path / "local.parquet")
    same = ("prompts", "responses", "distinct", "bad_rows", "failures", "short", "requests", "tokens")
    assert {name: summary[name] for name in same} == {name: local[name] for name in same}
    assert (summary["prompts"], summary["bad_rows"], summary["workers"]) == (28, 2, 2)
    assert summary["shards"] >= 4
    failures = [(tmp_path / f"{name}.parquet.failures.jsonl").read_text() for name in ("ray", "local")]
    assert sorted(failures[0].splitlines()) == sorted(failures[1].splitlines())
    assert "empty prompt" in failures[0]


@pytest.mark.proof
async def test_a_finished_run_is_resumed_without_a_request(cluster: Any, tmp_path: Path):
    source = prompts(tmp_path / "prompts.jsonl", 24)
    with serving(tmp_path) as server:
        for out in (tmp_path / "out.jsonl", f"{tmp_path}/folder/")[: 2 if PROOFS else 1]:
            first = await over_ray(job(source, out, server.model, n=3, k=3, seed=1))
            asked = len(server.records)
            second = await over_ray(job(source, out, server.model, n=3, k=3, seed=1))
            assert len(server.records) == asked
            assert second["requests"] == 0
            assert second["from_ledger"] == first["requests"]
            assert [second[name] for name in ("prompts", "responses")] == [24, first["responses"]]
        with pytest.raises(
            UsageError, match=r"k was 3, is 5; n was 3, is not set; .*: replace it with --overwrite"
        ):
            await over_ray(job(source, tmp_path / "out.jsonl", server.model))
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["prompt_id"] for line in lines} == {f"p{number}" for number in range(24)}
    assert "茶" in lines[0]
    assert len(lines) == first["responses"]
    if PROOFS:
        assert parquet.read_table(tmp_path / "folder").num_rows == len(lines)


@pytest.mark.proof(only=True)
async def test_prompts_that_were_added_are_all_that_is_asked(cluster: Any, tmp_path: Path):
    source, out = prompts(tmp_path / "prompts.jsonl", 20), tmp_path / "out.parquet"
    with serving(tmp_path, share=0) as server:
        await over_ray(job(source, out, server.model, **ONE_EACH))
        prompts(source, 31)
        summary = await over_ray(job(source, out, server.model, **ONE_EACH), workers=1)
        assert len(server.records) == 31
        assert (summary["prompts"], summary["requests"]) == (31, 11)
        assert [row["prompt_id"] for row in rows(out)] == sorted(f"p{number}" for number in range(31))
        source.write_text(source.read_text().replace("诗 3 ", "歌 3 "))
        with pytest.raises(UsageError, match=r"has changed since .* --overwrite"):
            await over_ray(job(source, out, server.model, **ONE_EACH))
        changed = job(source, out, server.model, **ONE_EACH)
        changed = BatchJob(changed.source, changed.out, changed.plan, overwrite=True)
        assert (await over_ray(changed))["requests"] == 1
    assert len(rows(out)) == 31


# What breaks


def with_a_worker(cluster: Any) -> Any:
    """A node of the cluster on which a worker is at work, if there is one yet."""
    busy = {
        actor["Address"]["NodeID"]
        for actor in ray._private.state.actors().values()
        if actor["State"] == "ALIVE" and "MapWorker" in actor["ActorClassName"]
    }
    return next((node for node in cluster.worker_nodes if node.node_id in busy), None)


def under_way(out: Path) -> int:
    """How many shards are begun and have most of their prompts before them, of 25 each."""
    count = 0
    for path in ledgers(out):
        with contextlib.closing(sqlite3.connect(path)) as base:
            try:
                (replies,) = base.execute("SELECT count(*) FROM reply").fetchone()
            except sqlite3.OperationalError:  # it is being made
                continue
        count += 0 < replies < 12
    return count


@pytest.mark.proof(only=True)
async def test_a_machine_dies_and_the_run_goes_on(cluster: Any, tmp_path: Path):
    source, out = prompts(tmp_path / "prompts.jsonl", 200), tmp_path / "out.parquet"
    with serving(tmp_path, kinds=CLEAN, delay=0.5) as server:
        running = asyncio.create_task(over_ray(job(source, out, server.model, **ONE_EACH)))
        try:
            # A machine between two shards would lose nothing: both have to be in the middle of one.
            await eventually(lambda: running.done() or (under_way(out) == 2 and with_a_worker(cluster)))
            assert not running.done()
            await asyncio.to_thread(cluster.remove_node, with_a_worker(cluster), allow_graceful=False)
            assert not running.done()
            summary = await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            cluster.add_node(num_cpus=1)
        assert (summary["prompts"], summary["failures"], summary["stopped"]) == (200, 0, "")
        assert len(asked_again(server, out)) <= ONE_EACH["concurrency"]
    assert max(attempts(out)) > 1
    assert {row["prompt_id"] for row in rows(out)} == {f"p{number}" for number in range(200)}


@pytest.mark.proof(only=True)
async def test_the_driver_is_killed_and_resumed(cluster: Any, tmp_path: Path):
    source, out = prompts(tmp_path / "prompts.jsonl", 160), tmp_path / "out.parquet"
    with serving(tmp_path, kinds=CLEAN, delay=0.1) as server:
        async with command_line(cluster, *one_each(source, out, server)) as process:
            await eventually(lambda: process.returncode is not None or len(server.replies) > 40)
            assert process.returncode is None
            process.kill()
            await process.wait()
        killed = len(server.replies)
        assert killed < 160
        summary = await over_ray(job(source, out, server.model, **ONE_EACH))
        assert (summary["prompts"], summary["failures"], summary["stopped"]) == (160, 0, "")
        assert summary["from_ledger"] > 20
        assert len(asked_again(server, out)) <= ONE_EACH["concurrency"]
    assert {row["prompt_id"] for row in rows(out)} == {f"p{number}" for number in range(160)}


@pytest.mark.proof(only=True)
async def test_ctrl_c_keeps_what_is_done(cluster: Any, tmp_path: Path):
    source, out = prompts(tmp_path / "prompts.jsonl", 160), tmp_path / "out.parquet"
    with serving(tmp_path, kinds=CLEAN, delay=0.1) as server:
        async with command_line(cluster, *one_each(source, out, server)) as process:
            await eventually(lambda: process.returncode is not None or len(server.replies) > 40)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(PATIENCE):
                written, said = await process.communicate()
        assert process.returncode == 130, said.decode()
        summary = json.loads(written)
        assert summary["stopped"] == "interrupted"
        assert b"continuing" not in written
        done = rows(out)
        assert 40 < len(done) == summary["responses"] == summary["requests"] < 160
        # What was under way was waited for: nothing is lost, so nothing is asked twice.
        assert len(done) == len(server.replies) == len(stored(out))
        summary = await over_ray(job(source, out, server.model, **ONE_EACH))
        assert (summary["prompts"], summary["requests"]) == (160, 160 - len(done))
        assert not asked_again(server, out)
    assert {row["prompt_id"] for row in rows(out)} == {f"p{number}" for number in range(160)}


@pytest.mark.proof(only=True)
async def test_a_second_ctrl_c_ends_it_at_once_and_loses_nothing(cluster: Any, tmp_path: Path):
    source, out = prompts(tmp_path / "prompts.jsonl", 160), tmp_path / "out.parquet"
    with serving(tmp_path, share=0, delay=0.1) as server:
        running = RayRun(job(source, out, server.model, **ONE_EACH), address=None, workers=2)
        work = asyncio.create_task(running.run())
        await eventually(lambda: work.done() or len(server.replies) > 10)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        running.close()
        assert not out.exists()
        assert len(server.replies) < 160
        summary = await over_ray(job(source, out, server.model, **ONE_EACH))
        assert summary["prompts"] == 160
        assert summary["from_ledger"] > 5
        assert len(asked_again(server, out)) <= ONE_EACH["concurrency"]


@pytest.mark.proof(only=True)
async def test_the_run_goes_on_where_the_board_is_lost(cluster: Any, tmp_path: Path):
    source, out = prompts(tmp_path / "prompts.jsonl", 80), tmp_path / "out.parquet"
    with serving(tmp_path, share=0, delay=0.1) as server:
        options = {**ONE_EACH, "budget_tokens": 1_000_000, "max_tokens": 40}
        running = RayRun(job(source, out, server.model, **options), address=None, workers=2)
        work = asyncio.create_task(running.run())
        await eventually(lambda: work.done() or len(server.replies) > 10)
        assert not work.done()
        ray.kill(running._board, no_restart=False)
        async with asyncio.timeout(PATIENCE):
            summary = (await work).to_dict()
        running.close()
        assert (summary["prompts"], summary["requests"], summary["stopped"]) == (80, 80, "")
        assert not asked_again(server, out)


async def test_the_budget_is_that_of_all_workers(cluster: Any, tmp_path: Path):
    source, out = prompts(tmp_path / "prompts.jsonl", 200), tmp_path / "out.parquet"
    with serving(tmp_path, share=0) as server:
        options = {**ONE_EACH, "concurrency": 32, "budget_tokens": 4000, "max_tokens": 40}
        summary = await over_ray(job(source, out, server.model, **options))
        assert summary["stopped"] == "the budget of 4,000 tokens does not suffice for another request"
        # Requests differ by a token or two, and a request is let go by the mean of those before it.
        assert 3600 < summary["tokens"] <= 4000 + 2 * 32
        assert len(rows(out)) == summary["requests"] == len(stored(out))
        summary = await over_ray(job(source, out, server.model, max_tokens=40, **ONE_EACH))
        assert summary["prompts"] == 200
        assert not asked_again(server, out)


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (40, "everything fails .*: nothing answers"),
        pytest.param(160, "on .+: nothing", marks=pytest.mark.proof(only=True)),
    ],
)
async def test_where_all_fails_the_error_is_raised(cluster: Any, tmp_path: Path, count: int, message: str):
    with serving(tmp_path) as gone:
        pass
    wanted = job(prompts(tmp_path / "prompts.jsonl", count), tmp_path / "out.parquet", gone.model, attempts=1)
    with pytest.raises(ProviderError, match=message):
        await over_ray(wanted)


# What is refused before anything is sent


class Own(Model):
    name = "openai-of-my-own"

    async def complete(self, request: ChatRequest) -> ChatReply:
        raise AssertionError


async def test_what_cannot_be_is_refused(cluster: Any, tmp_path: Path):
    source, out, model = (
        prompts(tmp_path / "prompts.jsonl", 3),
        tmp_path / "out.parquet",
        "http://127.0.0.1:9/v1#m",
    )
    plan = RunPlan.make(model, None, {})
    refused: list[tuple[BatchJob, int | None, str]] = [
        (BatchJob(source, out, plan), 0, "at least 1"),
        (BatchJob(source, out, plan, ledger=tmp_path / "a.sqlite"), None, "its own ledger"),
        (BatchJob("-", out, plan), None, "standard input"),
        (BatchJob(source, out, RunPlan.make(Own(), None, {})), None, "by its name"),
        (BatchJob(tmp_path / "none.jsonl", out, plan), None, "no such file"),
    ]
    for wanted, workers, message in refused:
        with pytest.raises(UsageError, match=message):
            RayRun(wanted, address=None, workers=workers)
    (tmp_path / "out.parquet.ledger.sqlite").touch()
    with pytest.raises(UsageError, match=r"begun without Ray, .* --engine local"):
        RayRun(BatchJob(source, out, plan), address=None, workers=None)
    assert not out.with_name(out.name + ".parts").exists()


@pytest.mark.parametrize(
    ("address", "code", "message"),
    [
        ("ray://127.0.0.1:1", 2, "ray:// .* --address auto"),
        ("127.0.0.1:1", 1, "the Ray cluster at 127.0.0.1:1 cannot be reached"),
    ],
)
def test_a_cluster_that_is_not_there(tmp_path: Path, address: str, code: int, message: str):
    source = prompts(tmp_path / "prompts.jsonl", 3)
    command = [sys.executable, "-m", "outspoken", "run", source, "--out", tmp_path / "out.parquet"]
    command += ["--model", "http://127.0.0.1:9/v1#m", "--engine", "ray", "--address", address]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == code
    assert re.search(f"error: {message}", done.stderr)


# Deduplicating


def test_deduplicating_gives_what_one_machine_gives(
    tmp_path: Path, cluster: Any, capfd: pytest.CaptureFixture[str]
):
    path = records(tmp_path, [*many(3000), TOM, TOM.upper(), "", ""], 500)
    here = step(path)
    there = Step("03-ray", tmp_path, path, engine=ExecutionEngine("ray", None, 2))
    for options in (DeduplicateOptions(), DeduplicateOptions(exact=False), DeduplicateOptions(near=0)):
        assert done(options, there) == done(options, here)
    records(tmp_path, [*many(900), None], 100)
    with pytest.raises(UsageError, match=r"record 901 of .* has no text"):
        asyncio.run(run(DeduplicateOptions(), there))
    assert "Unhandled" not in capfd.readouterr().err
    records(tmp_path, many(3000), 100)

    class Stopping(StepProgress):
        def update(self, stage: str, done: int, total: int | None = None) -> None:
            if stage == "comparing":
                raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        asyncio.run(
            run(
                DeduplicateOptions(),
                Step("04-stopped", tmp_path, path, engine=ExecutionEngine("ray"), progress=Stopping()),
            )
        )
    assert not list(tmp_path.glob("*04-*"))
    with pytest.raises(UsageError, match="workers must be at least 1"):
        asyncio.run(
            run(DeduplicateOptions(), Step("03-ray", tmp_path, path, engine=ExecutionEngine("ray", None, 0)))
        )
