from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outspoken.candidate import Candidate
from outspoken.chat import Message
from outspoken.distribution import Distribution
from outspoken.errors import UsageError
from outspoken.serve.pool.pool import Pool
from outspoken.serve.pool.pools import Pools
from outspoken.serve.pool.store import PoolStore
from outspoken.serve.pool.values import Draw, ExhaustedError, FillResult, PoolRequest
from outspoken.settings import Settings

WANT = PoolRequest((Message("user", "首都は？ 🗼"),), Settings(method="vs-multi", k=10), "test/model")
FEW = PoolRequest((Message("user", "首都は？ 🗼"),), Settings(method="vs-multi", k=2), "test/model")


def distribution_of(call: int, k: int = 10) -> Distribution:
    """A distribution with inexact weights, candidates with all fields, and half of a surrogate pair."""
    raw = [
        Candidate(f"答え {call}-{at} \ud83d", 1 / (at + 3), 0.1, ("mended",), {"at": at}, {"v": [at]})
        for at in range(k)
    ]
    total = sum(c.probability for c in raw)
    return Distribution(
        tuple(Candidate(c.text, c.probability / total, c.stated, c.repairs, c.meta, c.value) for c in raw),
        mass=0.9,
        reasoning=("想一想",),
    )


class Upstream:
    """New texts with each call, counted from `first`; stores the conversations of the calls."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.histories: list[tuple[Message, ...]] = []

    async def __call__(self, want: PoolRequest, history: tuple[Message, ...], listener: Any = None) -> FillResult:
        call = self.first + len(self.histories)
        self.histories.append(history)
        return FillResult(
            distribution_of(call, want.settings.k), (*history, Message("assistant", f"العربية {call} \ud83d"))
        )


def texts(draws: list[Draw]) -> list[str]:
    return [draw.candidate.text for draw in draws]


async def test_a_pool_continues_after_a_restart(tmp_path: Path) -> None:
    path, before, after = tmp_path / "pools.sqlite", Upstream(), Upstream(100)
    pools = Pools(before, ahead=0, store=PoolStore(path))
    drawn = await pools.draw("a", WANT, 23)
    seeded = await pools.draw("a", WANT, 4, seed=5)
    await pools.draw("b", WANT)
    whole = await pools.distribution("a", WANT)
    await pools.close()
    await pools.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in tmp_path.iterdir()] == ["pools.sqlite"]

    pools = Pools(after, ahead=0, store=PoolStore(path))
    assert (len(pools), pools.texts) == (2, 40)
    assert await pools.draw("a", WANT, 4, seed=5) == seeded
    assert await pools.distribution("a", WANT) == whole
    more = await pools.draw("a", WANT, 7)
    assert after.histories == []
    assert {*texts(drawn), *texts(more)} == {c.text for call in range(3) for c in distribution_of(call)}
    assert [draw.number for draw in more] == list(range(24, 31))
    await pools.draw("a", WANT)
    assert after.histories == [tuple(Message("assistant", f"العربية {call} \ud83d") for call in range(3))]
    await pools.close()


async def test_exhaustion_survives_a_restart(tmp_path: Path) -> None:
    async def same(want: PoolRequest, history: tuple[Message, ...], listener: Any = None) -> FillResult:
        return FillResult(distribution_of(0, 2), (*history, Message("assistant", "again")))

    store = tmp_path / "pools.sqlite"
    pools = Pools(same, store=PoolStore(store))
    with pytest.raises(ExhaustedError):
        await pools.draw("a", FEW, 3)
    assert len(await pools.draw("a", FEW, 2)) == 2  # the failed draw took nothing
    await pools.close()
    pools = Pools(Upstream(), store=PoolStore(store))
    with pytest.raises(ExhaustedError):
        await pools.draw("a", FEW)
    assert len(await pools.draw("a", FEW, 2, recycle=True)) == 2
    await pools.close()


CHILD = """
import asyncio, json, os, sys
from test_pool_store import FEW, WANT, PoolStore, Pools, Upstream, texts

async def main(path, wait):
    pools = Pools(Upstream(), store=PoolStore(path))
    drawn = []
    for _ in range(10):
        drawn += texts(await pools.draw("a", WANT, 3))
        await asyncio.sleep(wait / 10)
    await asyncio.sleep(wait)
    print(json.dumps(drawn), flush=True)
    os._exit(9)

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


def killed(path: Path, wait: float) -> list[str]:
    """The draws of a process that ended abruptly, `wait` seconds after its last draw."""
    ended = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(wait)],
        capture_output=True,
        cwd=Path(__file__).parent,
        timeout=60,
    )
    assert ended.returncode == 9, ended.stderr.decode()
    drawn: list[str] = json.loads(ended.stdout)
    return drawn


async def test_what_was_drawn_before_a_kill_is_not_drawn_again(tmp_path: Path) -> None:
    path, after = tmp_path / "pools.sqlite", Upstream(100)
    drawn = killed(path, 1.5)
    assert len(set(drawn)) == 30
    pools = Pools(after, ahead=0, store=PoolStore(path))
    left = pools.texts - 30
    more = texts(await pools.draw("a", WANT, left))
    assert after.histories == []
    assert left >= 5  # the candidates of the fill ahead were saved
    assert not set(more) & set(drawn)
    await pools.close()


async def test_a_kill_while_saving_leaves_a_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "pools.sqlite"
    for wait in (0.0, 0.26):
        killed(path, wait)
        store = PoolStore(path)
        assert store.aside is None
        pools = Pools(Upstream(100), store=store)
        assert pools.texts % 10 == 0
        await pools.draw("a", WANT)
        await pools.close()


async def filled(path: Path, pools: int = 3) -> None:
    keeper = Pools(Upstream(), ahead=0, store=PoolStore(path))
    for at in range(pools):
        await keeper.draw(f"key {at}", WANT, 12)
    await keeper.close()


@pytest.mark.parametrize("damage", ["torn", "overwritten"])
async def test_a_damaged_file_is_renamed(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pools.sqlite"
    await filled(path)
    content = path.read_bytes()
    broken = {
        "torn": content[: len(content) // 2],
        "overwritten": content[:4096] + b"\xff" * (len(content) - 4096),
    }[damage]
    path.write_bytes(broken)
    (tmp_path / "pools.sqlite-wal").write_bytes(b"of the broken one")
    (tmp_path / "pools.sqlite.damaged-1").write_bytes(b"an older one")
    with caplog.at_level(logging.WARNING):
        store = PoolStore(path)
    assert store.aside == tmp_path / "pools.sqlite.damaged-2"
    assert store.aside.read_bytes() == broken
    assert (tmp_path / "pools.sqlite.damaged-1").read_bytes() == b"an older one"
    assert "damaged" in caplog.text
    pools = Pools(Upstream(), store=store)
    assert len(pools) == 0
    assert len(await pools.draw("a", WANT)) == 1
    await pools.close()
    with closing(PoolStore(path)) as again:
        assert again.aside is None


@pytest.mark.parametrize("content", [b"my notes", "這不是資料庫".encode() * 1000])
def test_a_file_of_another_kind_is_not_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="something other than pools"):
        PoolStore(path)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pool SET waiting = '[[' WHERE key = 'key 1'",
        "UPDATE fill SET digests = x'00' WHERE key = 'key 1'",
        "DELETE FROM fill WHERE key = 'key 1'",
    ],
)
async def test_an_unreadable_pool_does_not_affect_others(
    tmp_path: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pools.sqlite"
    await filled(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount > 0
    with closing(PoolStore(path)) as store, caplog.at_level(logging.WARNING):
        assert [record.key for record in store.load()] == ["key 0", "key 2"]
        assert "cannot be read" in caplog.text
        caplog.clear()
        assert len(store.load()) == 2
        assert not caplog.text


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE fill SET distribution = '{\"candidates\": []}' WHERE key = 'key 1'",
        "UPDATE fill SET distribution = NULL WHERE key = 'key 1' AND number = 1",
        "UPDATE pool SET waiting = '[[2, 99]]' WHERE key = 'key 1'",
        "UPDATE pool SET waiting = '[[9, 0]]' WHERE key = 'key 1'",
        "UPDATE talk SET history = '7' WHERE key = 'key 1'",
    ],
)
async def test_a_pool_that_is_unreadable_when_drawn_from_starts_again(
    tmp_path: Path, statement: str, caplog: pytest.LogCaptureFixture
) -> None:
    path, upstream = tmp_path / "pools.sqlite", Upstream(100)
    await filled(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(statement).rowcount > 0
    pools = Pools(upstream, ahead=0, store=PoolStore(path))
    await pools.draw("key 0", WANT)
    assert upstream.histories == []
    with caplog.at_level(logging.WARNING):
        (draw,) = await pools.draw("key 1", WANT)
    assert "cannot be read" in caplog.text
    assert (draw.number, draw.upstream, upstream.histories, pools.texts) == (1, 1, [()], 50)
    await pools.close()
    with closing(PoolStore(path)) as store:
        assert {record.key: len(record.fills) for record in store.load()} == {"key 0": 2, "key 1": 1, "key 2": 2}


async def test_dropped_pools_are_deleted(tmp_path: Path) -> None:
    path = tmp_path / "pools.sqlite"
    await filled(path, 6)
    pools = Pools(Upstream(), ahead=0, max_pools=4, store=PoolStore(path))
    assert (len(pools), pools.texts) == (4, 80)
    await pools.draw("key 2", WANT)
    await pools.draw("new", WANT)  # key 3 makes room
    await pools.close()
    with closing(PoolStore(path)) as store:
        assert {record.key for record in store.load()} == {"key 2", "key 4", "key 5", "new"}
    await asyncio.sleep(0.03)
    pools = Pools(Upstream(), ahead=0, idle_seconds=0.01, store=PoolStore(path))
    assert len(pools) == 0
    await pools.close()
    with closing(sqlite3.connect(path)) as connection:
        for table in ("pool", "talk", "fill"):
            assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)


async def test_old_distributions_are_deleted_but_their_texts_remembered(tmp_path: Path) -> None:
    path = tmp_path / "pools.sqlite"
    pools = Pools(Upstream(), ahead=0, store=PoolStore(path))
    drawn = [text for _ in range(15) for text in texts(await pools.draw("a", WANT, 100))]
    whole = await pools.distribution("a", WANT)
    await pools.close()
    with closing(sqlite3.connect(path)) as connection:
        kept = connection.execute("SELECT number FROM fill WHERE distribution IS NOT NULL").fetchall()
    assert [number for (number,) in kept] == [1, *range(52, 151)]
    pools = Pools(Upstream(), ahead=0, store=PoolStore(path))
    assert pools.texts == 1500
    assert await pools.distribution("a", WANT) == whole
    pools_of_old_texts = Pools(Upstream(20), ahead=0)
    repeats = texts(await pools_of_old_texts.draw("a", WANT, 10))
    assert set(repeats) <= set(drawn)
    with pytest.raises(ExhaustedError):
        await pools.draw("a", WANT)  # its upstream repeats the texts that were drawn before the restart
    await pools.close()
    await pools_of_old_texts.close()


async def test_a_rare_candidate_is_kept_until_it_is_drawn(tmp_path: Path) -> None:
    calls = 0

    async def fill(want: PoolRequest, history: tuple[Message, ...], listener: Any = None) -> FillResult:
        nonlocal calls
        calls += 1
        last = Candidate("一萬年一次", 1e-12) if calls == 2 else Candidate(f"last of {calls}", 0.01)
        others = [Candidate(f"{calls}-{at}", (1 - last.probability) / 99) for at in range(99)]
        return FillResult(Distribution((*others, last)), history)

    path, hundred = tmp_path / "pools.sqlite", PoolRequest(WANT.messages, Settings(k=100), "m")
    pools, drawn = Pools(fill, ahead=1, store=PoolStore(path)), set[str]()
    for _ in range(40):
        drawn.update(texts(await pools.draw("a", hundred, 60)))
        await asyncio.sleep(0.001)
    assert "一萬年一次" not in drawn
    await pools.close()
    pools = Pools(fill, ahead=0, store=PoolStore(path))
    left, called = pools.texts - 2400, calls
    rest = texts(await pools.draw("a", hundred, left))
    assert calls == called
    assert rest[-1] == "一萬年一次"
    await pools.close()


async def test_a_file_of_another_program_is_not_changed(tmp_path: Path) -> None:
    other = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE reply (key TEXT)")
    content = other.read_bytes()
    with pytest.raises(UsageError, match="something other"):
        PoolStore(other)
    assert other.read_bytes() == content
    newer = tmp_path / "newer.sqlite"
    PoolStore(newer).close()
    with closing(sqlite3.connect(newer)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(UsageError, match="newer version"):
        PoolStore(newer)
    with pytest.raises(UsageError, match="can be written"):
        PoolStore(tmp_path / "absent" / "pools.sqlite")
    with pytest.raises(UsageError, match="can be written"):
        PoolStore(tmp_path)


def test_two_servers_cannot_share_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("outspoken.serve.pool.store._SECONDS_TO_WAIT", 0.05)
    path = tmp_path / "pools.sqlite"
    with closing(PoolStore(path)), pytest.raises(UsageError, match="in use by another server"):
        PoolStore(path)
    PoolStore(path).close()


async def test_a_failing_store_is_logged_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("outspoken.serve.pool.store.SECONDS_TO_GATHER", 0.01)
    path = tmp_path / "pools.sqlite"
    store = PoolStore(path)
    store.writer.submit(store._connection.execute, "PRAGMA max_page_count = 9").result()
    pools = Pools(Upstream(), ahead=0, store=store)
    with caplog.at_level(logging.WARNING):
        await pools.draw("a", WANT, 50)
        async with asyncio.timeout(10):
            while "cannot be saved" not in caplog.text:
                await asyncio.sleep(0.01)
        for _ in range(4):
            await pools.draw("a", WANT, 50)
            await asyncio.sleep(0.05)
    assert caplog.text.count("cannot be saved") == 1
    store.writer.submit(store._connection.execute, "PRAGMA max_page_count = 1000000").result()
    await pools.close()
    with closing(PoolStore(path)) as again:
        (record,) = again.load()
        assert (record.drawn, len(record.fills)) == (250, 25)


async def test_a_record_read_is_the_record_written(tmp_path: Path) -> None:
    def ignore(pool: Pool, new: int, size: int) -> None:
        pass

    pool = Pool("é 🎉", Upstream(), ahead=0, fill_seconds=9, changed=ignore, saved=True)
    await pool.draw(WANT, 15)
    written = pool.record()
    with closing(PoolStore(tmp_path / "pools.sqlite")) as store:
        store.save([written])
        assert store.load() == [replace(written, shown_from=1)]
        await pool.draw(WANT, 10)  # while the first record was being written
        pool.recorded(written)
        later = pool.record()
        assert [fill.number for fill in later.fills] == [3]
        assert later.history is not None
        store.save([later])
        (read,) = store.load()
        assert (read.drawn, read.waiting, read.history) == (25, later.waiting, later.history)
        assert read.fills == (*written.fills, *later.fills)
        pool.recorded(later)
        assert (pool.record().fills, pool.record().history) == ((), None)
