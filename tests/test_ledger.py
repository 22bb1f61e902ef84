"""The ledger: stable keys, and replies that survive everything except the loss of the file."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from outspoken.chat import ChatRequest, Message, Sampling
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import LedgerError, UnknownNameError, UsageError
from outspoken.ledger import Ledger, LedgerEntry, PartCounts, PartRecord, checks, entry_of, reply_of, request_of
from outspoken.ledger.keys import KEY_VERSION, digest_of, reply_digest, write_reply
from outspoken.ledger.reader import LedgerReader, Problem
from outspoken.models.replay import Replay

pytestmark = pytest.mark.core


posix = pytest.mark.skipif(os.name != "posix", reason="signals, limits and permissions as POSIX has them")

SCHEMA = {"type": "object", "properties": {"茶": {"type": "string"}}, "required": ["茶"]}
REQUEST = ChatRequest(
    (Message("system", "Be brief."), Message("user", "講個笑話 ☕ مرحبا")),
    Sampling(0.7, 0.9, 100, 42, ("END",), {"top_k": 40, "min_p": 0.05}),
    SCHEMA,
)
MODEL = "openai/gpt-4.1"


def entry(text: object = "x", model: str = "m", schema: dict[str, Any] | None = None) -> LedgerEntry:
    return entry_of(model, ChatRequest((Message("user", str(text)),), schema=schema), (0, 0, 0))


def fill(path: Path, count: int, *, model: str = "m", schema: dict[str, Any] | None = None) -> list[str]:
    entries = [entry(number, model, schema) for number in range(count)]
    with Ledger(path) as ledger:
        for number, each in enumerate(entries):
            ledger.put(each, ChatReply(f"reply {number}", usage=Usage(3, 2, 1), model="served"), 0.5)
    return [each.key for each in entries]


def keys_in(path: Path) -> list[str]:
    with LedgerReader(path) as reader:
        return [row["key"] for row in reader.rows("SELECT key FROM reply ORDER BY rowid")]


def problems_of(path: Path) -> list[Problem]:
    with LedgerReader(path) as reader:
        return checks.verify(reader)[1]


def change(path: Path, statement: str, *values: Any) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function("reply_digest", 4, reply_digest)
    assert connection.execute(statement, values).rowcount != 0
    connection.close()


def python(code: str, *arguments: object, **more: Any) -> subprocess.Popen[str]:
    """A new process that runs `code` after the imports that all of them need."""
    head = """
import asyncio, os, sys, time
from outspoken.chat import ChatRequest, Message
from outspoken.chat_reply import ChatReply
from outspoken.errors import LedgerError
from outspoken.ledger import Ledger, entry_of
def entry(text, schema=None):
    return entry_of("m", ChatRequest((Message("user", str(text)),), schema=schema), (0, 0, 0))
"""
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


def output_of(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def no_privileges() -> None:
    """Drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, so that permissions apply to root, too."""
    if os.geteuid() == 0:
        library = ctypes.CDLL(None)
        for capability in (1, 2):
            library.prctl(24, capability, 0, 0, 0)


# Keys.


def test_a_key_stays_what_it_is_for_as_long_as_its_version() -> None:
    # If this fails, replies that users paid for are not found again: raise KEY_VERSION, and update these values.
    made = entry_of(MODEL, REQUEST, (0, 1, 2))
    assert (KEY_VERSION, made.key) == (1, "13749a4cf3297e3a53fe1ff53944b02c")
    assert made.request == (
        '{"draw":[0,1,2],"messages":[["system","Be brief."],["user","講個笑話 ☕ مرحبا"]],"model":"openai/gpt-4.1",'
        '"sampling":{"extra":{"min_p":0.05,"top_k":40},"max_tokens":100,"seed":42,"stop":["END"],"temperature":0.7,'
        f'"top_p":0.9}},"schema":"{made.schema_hash}","v":1}}'
    )
    assert made.schema == '{"properties":{"茶":{"type":"string"}},"required":["茶"],"type":"object"}'
    assert made.schema_hash == "11dd398205ea64f6e86a7697ca406a47"


def test_everything_that_changes_the_answer_changes_the_key() -> None:
    sampling = REQUEST.sampling
    others = [
        entry_of("openai/gpt-4.1-mini", REQUEST, (0, 1, 2)),
        entry_of(MODEL, replace(REQUEST, messages=REQUEST.messages[1:]), (0, 1, 2)),
        entry_of(MODEL, replace(REQUEST, messages=REQUEST.messages[::-1]), (0, 1, 2)),
        entry_of(MODEL, replace(REQUEST, messages=(Message("user", "Be brief."), REQUEST.messages[1])), (0, 1, 2)),
        entry_of(
            MODEL, replace(REQUEST, messages=(*REQUEST.messages[:1], Message("user", "講個笑話"))), (0, 1, 2)
        ),
        *(
            entry_of(MODEL, replace(REQUEST, sampling=replace(sampling, **{name: value})), (0, 1, 2))
            for name, value in [
                *(("temperature", value) for value in (None, 0.0, 0.71)),
                *(("top_p", value) for value in (None, 0.91)),
                *(("max_tokens", value) for value in (None, 101)),
                *(("seed", value) for value in (None, 0, 43)),
                *(("stop", value) for value in ((), ("END", "x"))),
                *(("extra", value) for value in ({}, {"top_k": 40}, {"top_k": 41, "min_p": 0.05})),
            ]
        ),
        entry_of(MODEL, replace(REQUEST, schema=None), (0, 1, 2)),
        entry_of(MODEL, replace(REQUEST, schema={}), (0, 1, 2)),
        entry_of(MODEL, replace(REQUEST, schema={**SCHEMA, "required": []}), (0, 1, 2)),
        *(entry_of(MODEL, REQUEST, draw) for draw in ((1, 1, 2), (0, 0, 2), (0, 1, 3), (0, 1))),
        entry_of(MODEL, REQUEST, (0, 1, 2)),
    ]
    assert len({each.key for each in others}) == len(others)
    assert len({each.request for each in others}) == len(others)


def test_nothing_else_changes_the_key() -> None:
    turned = replace(
        REQUEST,
        schema=json.loads(json.dumps(dict(reversed(SCHEMA.items())))),
        sampling=replace(REQUEST.sampling, extra={"min_p": 0.05, "top_k": 40}),
        shape=replace(REQUEST.shape, k=17),
    )
    assert entry_of(MODEL, turned, (0, 1, 2)) == entry_of(MODEL, REQUEST, (0, 1, 2))


def test_keys_do_not_depend_on_the_process() -> None:
    code = 'print(entry("講個笑話", {"a": 1, "b": [{"d": 2, "c": 3}]}).key)'
    found = {output_of(python(code, env={**os.environ, "PYTHONHASHSEED": seed})).strip() for seed in ("1", "2")}
    assert found == {entry("講個笑話", schema={"b": [{"c": 3, "d": 2}], "a": 1}).key}


@pytest.mark.parametrize(
    "request_",
    [
        REQUEST,
        ChatRequest((Message("user", "a\x00b\u2028\x7f'\"\\"),)),
        ChatRequest((Message("user", "x"),), Sampling(1e-7, stop=("\n",))),
        # `logit_bias` has token ids as keys; sorted as text they have another order.
        ChatRequest((Message("user", "x"),), Sampling(extra={"logit_bias": {9: 1.5, 10: -100}})),
        ChatRequest((Message("user", "x"),), schema={"enum": [1, 1.0, None, True], "x": {9: 0, 10: 0}}),
    ],
    ids=["whole", "signs", "small", "number-keys", "schema"],
)
def test_a_key_can_be_derived_again_from_what_is_stored(request_: ChatRequest) -> None:
    made = entry_of("m", request_, (0, 0, 0))
    body = request_of(made.request)
    assert digest_of(made.request) == made.key
    assert [Message(*each) for each in body["messages"]] == list(request_.messages)
    assert body["draw"] == [0, 0, 0]
    if made.schema:
        canonical = json.dumps(json.loads(made.schema), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        assert digest_of(canonical) == made.schema_hash
        assert body["schema"] == made.schema_hash


def _deep() -> dict[str, Any]:
    deep: dict[str, Any] = {}
    for _ in range(100_000):
        deep = {"a": deep}
    return deep


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), {1, 2}, "\ud800", b"x", {(1, 2): 3}])
@pytest.mark.parametrize("place", ["schema", "extra"])
def test_what_json_cannot_hold_is_the_callers_fault(value: Any, place: str) -> None:
    wrong = {"a": value}
    request = ChatRequest(
        (Message("user", "x"),),
        Sampling(extra=wrong if place == "extra" else {}),
        wrong if place == "schema" else None,
    )
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        entry_of("m", request, (0, 0, 0))


def test_a_lone_surrogate_in_a_prompt_and_a_bottomless_schema_are_the_callers_fault() -> None:
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        entry("half \ud83d")
    with pytest.raises(UsageError, match="cannot be written as JSON"):
        entry("x", schema=_deep())


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{", '{"b":1,"a":2}', '{"a": 1}', '{"a":NaN}', '{"a":"\\u8336"}', "[" * 100_000],
)
def test_a_stored_request_that_is_not_canonical_is_an_error(text: str) -> None:
    with pytest.raises(LedgerError, match="not canonical"):
        request_of(text)


@pytest.mark.parametrize(
    "text", ["", "[]", "1", '{"text": "x"}', '{"finish": "x"}', "[" * 100_000, '{"text":"","finish":"","usage":1}']
)
def test_a_stored_reply_that_is_none_is_an_error(text: str) -> None:
    with pytest.raises(LedgerError, match="cannot be read"):
        reply_of(text)


# Written and read again.

REPLIES = {
    "plain": ChatReply("plain"),
    "empty": ChatReply("", finish="content_filter", refusal="No."),
    "chinese": ChatReply("茶水間的笑話：" + "很長" * 5_000, model="通義"),
    "emoji": ChatReply("👩‍👩‍👧‍👦🏳️‍🌈e\u0301\U0010ffff", finish="length"),
    "right-to-left": ChatReply("\u202bمرحبا שלום\u202c"),
    "lone surrogates": ChatReply("a\ud83d b\ude00 茶", reasoning="\udfff"),
    "controls": ChatReply("\x00\x01\x7f\x85\u2028\u2029\ufeff\r\n\\u0041\"'"),
    "everything": ChatReply("x", "tool", Usage(1, 2, 3), "m", "why", "no", True),
    "10 MB": ChatReply("茶a" * 2_500_000 + "end"),
}


@pytest.mark.parametrize("name", REPLIES)
def test_what_is_put_is_what_one_gets(name: str, tmp_path: Path) -> None:
    path, made = tmp_path / "茶 %41?#.sqlite", entry("笑\x00")
    with Ledger(path) as ledger:
        assert ledger.get(made.key) is None
        ledger.put(made, REPLIES[name], 1.5)
    with Ledger(path) as ledger:
        assert ledger.get(made.key) == REPLIES[name]
        (stored,) = ledger.stored()
        assert (stored.key, stored.request, stored.seconds) == (made.key, made.request, 1.5)
        assert abs(stored.created - time.time()) < 3600
    assert reply_of(write_reply(REPLIES[name])) == REPLIES[name]
    assert problems_of(path) == []


def test_the_first_reply_stays(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        for text in ("first", "second"):
            ledger.put(entry(), ChatReply(text), 0.0)
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.put(entry(), ChatReply("third"), 0.0)
        ledger.close()
        ledger.close()
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert [reply_of(row.reply).text for row in ledger.stored()] == ["first"]


async def test_settled_means_that_others_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger, Ledger(path) as other:
        await ledger.settled()
        for number in range(250):
            ledger.put(entry(number), ChatReply(str(number)), 0.0)
            if number % 50 == 49:
                await ledger.settled()
                assert [reply_of(row.reply).text for row in other.stored()] == list(map(str, range(number + 1)))
        other.put(entry("other"), ChatReply("from the other"), 0.0)
        await other.settled()
        assert ledger.get(entry("other").key) == ChatReply("from the other")


async def test_the_stored_reply_is_the_one_that_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger, Ledger(path) as other:
        mine = await asyncio.gather(*(ledger.store(entry(n), ChatReply(f"mine {n}"), 0.0) for n in range(250)))
        assert [reply.text for reply in mine] == [f"mine {n}" for n in range(250)]
        theirs = await asyncio.gather(*(other.store(entry(n), ChatReply(f"theirs {n}"), 0.0) for n in range(300)))
        assert [reply.text for reply in theirs] == [f"{'mine' if n < 250 else 'theirs'} {n}" for n in range(300)]
        assert (await ledger.store(entry(299), ChatReply("mine"), 0.0)).text == "theirs 299"
        assert ledger.get(entry(299).key) == other.get(entry(299).key) == ChatReply("theirs 299")
    assert problems_of(path) == []


async def test_a_caller_that_is_cancelled_leaves_its_reply_in_the_ledger(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        tasks = [asyncio.create_task(ledger.store(entry(n), ChatReply(str(n)), 0.0)) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in found] == [True, False] * 10
        assert len(list(ledger.stored())) == 20


async def test_callers_are_told_that_the_disk_is_full(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.sqlite")
    ledger._out.execute("PRAGMA max_page_count = 20")
    stores = [ledger.store(entry(n), ChatReply("x" * 10_000), 0.0) for n in range(150)]
    found = await asyncio.gather(*stores, return_exceptions=True)
    assert {type(each) for each in found} == {LedgerError}
    with pytest.raises(LedgerError, match="not stored: 150 replies"):
        ledger.close()


@posix
def test_opening_a_ledger_again_leaves_its_locks_alone(tmp_path: Path) -> None:
    """A process that is the last one to close the file removes the write-ahead log."""
    path = tmp_path / "l.sqlite"
    fill(path, 3)
    with LedgerReader(path), Ledger(path) as ledger:
        asyncio.run(ledger.store(entry("first"), ChatReply("x"), 0.0))
        log = Path(f"{path}-wal").stat().st_ino
        with Ledger(path), LedgerReader(path):
            pass
        assert output_of(python("Ledger(sys.argv[1]).close(); print('closed')", path)) == "closed\n"
        assert Path(f"{path}-wal").stat().st_ino == log
        asyncio.run(ledger.store(entry("second"), ChatReply("x"), 0.0))
    assert keys_in(path)[3:] == [entry("first").key, entry("second").key]
    assert problems_of(path) == []


@posix
def test_only_the_owner_reads_a_ledger(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Ledger(tmp_path / "l.sqlite") as ledger:
            ledger.put(entry(), ChatReply("x"), 0.0)
            asyncio.run(ledger.settled())
            modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
        assert modes == dict.fromkeys(("l.sqlite", "l.sqlite-wal", "l.sqlite-shm"), 0o600)
        (tmp_path / "l.sqlite").chmod(0o640)  # the owner may share it
        with Ledger(tmp_path / "l.sqlite"):
            assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o640}
    finally:
        os.umask(before)


def test_schemas_are_stored_once_and_found_by_their_hash(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    fill(path, 150, schema=SCHEMA)
    other = {"type": "array", "x": "مرحبا"}
    with Ledger(path) as ledger:
        ledger.put(entry("more", schema=dict(SCHEMA)), ChatReply("x"), 0.0)
        ledger.put(entry("more", schema=other), ChatReply("x"), 0.0)
        ledger.put(entry("none"), ChatReply("x"), 0.0)
    with Ledger(path) as ledger:
        assert len(list(ledger.rows("SELECT * FROM schema"))) == 2
        for schema in (SCHEMA, other):
            stored = dict(ledger.rows("SELECT hash, text FROM schema"))
            assert json.loads(stored[entry(schema=schema).schema_hash]) == schema
        assert len(list(ledger.stored())) == 153
        assert (
            len(list(ledger.stored("json_extract(request, '$.schema') = ?", entry(schema=other).schema_hash))) == 1
        )


def test_parts_are_remembered_by_output(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    first, second = PartRecord("d1", 10, True, PartCounts(prompts=2), "茶"), PartRecord("d2", 20, False)
    with Ledger(path) as ledger:
        ledger.note_run("1.0", {"out": "a", "path": path})
        ledger.put_part("a.parquet", 0, second)
        ledger.put_part("a.parquet", 0, first)
        ledger.put_part("a.parquet", 7, second)
        ledger.put_part("茶.jsonl", 0, second)
    with Ledger(path) as ledger:
        assert ledger.parts("a.parquet") == {0: first, 7: second}
        ledger.forget_parts("a.parquet")
        assert ledger.parts("a.parquet") == {}
        assert ledger.parts("茶.jsonl") == {0: second}
        assert [row["version"] for row in ledger.rows("SELECT * FROM run")] == ["1.0"]
    assert problems_of(path) == []
    change(path, "UPDATE part SET counts = 'x'")
    assert [problem.where for problem in problems_of(path)] == ["part 0 of 茶.jsonl"]


# Several processes.


def test_four_processes_write_one_file(tmp_path: Path) -> None:
    code = """
schema = {"title": sys.argv[2]}
with Ledger(sys.argv[1]) as ledger:
    for number in range(500):
        ledger.put(entry(f"{sys.argv[2]} {number}", schema), ChatReply(f"{sys.argv[2]} {number} 茶" * 20), 0.1)
        if number % 5 == 0:
            ledger.put(entry(f"shared {number}"), ChatReply("shared"), 0.1)
        if number % 100 == 0:
            asyncio.run(ledger.settled())
"""
    path = tmp_path / "l.sqlite"
    for process in [python(code, path, name) for name in "abcd"]:
        output_of(process)
    stored = keys_in(path)
    expected = {entry(f"{name} {number}", schema={"title": name}).key for name in "abcd" for number in range(500)}
    expected |= {entry(f"shared {number}").key for number in range(0, 500, 5)}
    assert len(stored) == len(expected) == 2_100
    assert set(stored) == expected
    assert problems_of(path) == []


def test_processes_may_make_the_same_file_at_the_same_moment(tmp_path: Path) -> None:
    code = """
print("ready", flush=True)
for line in sys.stdin:
    try:
        with Ledger(line.strip()) as ledger:
            ledger.put(entry(os.getpid()), ChatReply("x"), 0.0)
        print("done", flush=True)
    except LedgerError as error:
        print(error, flush=True)
"""
    processes = [python(code) for _ in range(4)]
    said: list[str] = []
    for process in processes:
        assert process.stdout is not None
        process.stdout.readline()
    for number in range(25):
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{tmp_path / str(number)}.sqlite\n")
            process.stdin.flush()
        said += [process.stdout.readline().strip() for process in processes if process.stdout]
    for process in processes:
        process.communicate(timeout=60)
    assert set(said) == {"done"}
    assert len(said) == 100
    assert all(len(keys_in(tmp_path / f"{number}.sqlite")) == 4 for number in range(25))


WRITER = """
async def main():
    number = 0
    with Ledger(sys.argv[1]) as ledger:
        while True:
            made = [entry(f"{sys.argv[2]} {number + each}", {"n": number % 3}) for each in range(1 + number % 37)]
            number += len(made)
            for each in made:
                ledger.put(each, ChatReply("茶" * (number * 7919 % 3_000)), 0.1)
            await ledger.settled()
            sys.stdout.write("".join(each.key + chr(10) for each in made))
            sys.stdout.flush()
asyncio.run(main())
"""


@posix
def test_what_settled_survives_sigkill_at_any_moment(tmp_path: Path) -> None:
    path, chance = tmp_path / "l.sqlite", random.Random(8)
    printed: set[str] = set()
    for attempt in range(8):
        # Two at once: one is killed while the other writes.
        pair = [python(WRITER, path, f"{attempt} {which}") for which in range(2)]
        for process in pair:
            assert process.stdout is not None
            printed.add(process.stdout.readline().strip())
        for process in pair:
            time.sleep(chance.uniform(0, 0.12))
            process.send_signal(signal.SIGKILL)
            # `communicate` would skip the bytes that reading the first line has buffered.
            with process:
                assert process.stdout is not None
                out = process.stdout.read()
            assert process.returncode == -signal.SIGKILL
            printed.update(out[: out.rfind("\n") + 1].split())
        if attempt % 2:
            assert problems_of(path) == []
            assert printed <= set(keys_in(path))
    assert len(printed) > 200
    assert printed <= set(keys_in(path))
    with Ledger(path) as ledger:
        assert all(ledger.get(key) is not None for key in printed)
    assert problems_of(path) == []


@posix
def test_a_torn_write_loses_the_end_and_nothing_else(tmp_path: Path) -> None:
    path, chance = tmp_path / "l.sqlite", random.Random(9)
    with Ledger(path) as ledger:
        for number in range(300):
            ledger.put(entry(number, schema={"n": number // 50}), ChatReply("茶" * 300), 0.0)
            if number % 10 == 9:
                asyncio.run(ledger.settled())
        log = tmp_path / "l.sqlite-wal"
        whole, header = log.read_bytes(), path.read_bytes()
    order = [entry(number, schema={"n": number // 50}).key for number in range(300)]
    kept = set()
    for attempt in range(30):
        torn = tmp_path / f"torn{attempt}.sqlite"
        at = chance.randrange(len(whole))
        end = chance.randbytes(chance.randrange(3) * 2_000)
        torn.write_bytes(header)
        Path(f"{torn}-wal").write_bytes(whole[:at] + end)
        try:
            found = keys_in(torn)
        except LedgerError:
            found = []  # torn before the tables were made
        assert found == order[: len(found)]
        kept.add(len(found))
        with Ledger(torn) as ledger:
            ledger.put(entry("more"), ChatReply("x"), 0.0)
        assert problems_of(torn) == []
        assert keys_in(torn) == [*found, entry("more").key]
    assert len(kept) > 5


# Files that are not ledgers.


def _text(path: Path) -> None:
    path.write_text("not a database\n" * 100)


def _other_database(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE precious (x)")
    connection.execute("INSERT INTO precious VALUES (1)")
    connection.close()


def _other_application(path: Path) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA application_id = 12345")
    connection.close()


def _newer(path: Path) -> None:
    fill(path, 3)
    change(path, "PRAGMA user_version = 3")


def _earlier(path: Path) -> None:
    fill(path, 3)
    change(path, "PRAGMA user_version = 1")


def _cut_off(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0" + b"\x10\x00\x02\x02" + b"\xff" * 300)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_text, "is not a ledger"),
        (_other_database, "is not a ledger"),
        (_other_application, "is not a ledger"),
        (_newer, "newer version of outspoken .format 3, known here 2.: upgrade"),
        (_earlier, "earlier version of outspoken .format 1, here 2.*name another file"),
        (_cut_off, "is not a ledger"),
        (Path.mkdir, "is a folder"),
    ],
)
def test_what_is_no_ledger_is_refused_and_left_as_it_was(make: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    make(path)
    before = path.read_bytes() if path.is_file() else b""
    for opener in (Ledger, LedgerReader):
        with pytest.raises(LedgerError, match=message):
            opener(path)
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert [each.name for each in tmp_path.iterdir()] == ["l.sqlite"]


def test_an_empty_file_becomes_a_ledger_and_a_missing_folder_does_not(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    path.touch()
    with pytest.raises(LedgerError, match="is not a ledger"):
        LedgerReader(path)
    assert path.stat().st_size == 0
    assert len(fill(path, 2)) == len(keys_in(path))
    with pytest.raises(LedgerError, match="there is no folder"):
        Ledger(tmp_path / "none" / "l.sqlite")
    assert not (tmp_path / "none").exists()


def test_a_reader_never_makes_a_ledger(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no ledger"):
        LedgerReader(tmp_path / "l.sqlite")
    assert list(tmp_path.iterdir()) == []


@posix
@pytest.mark.parametrize("locked", ["file", "folder", "new"])
def test_where_nothing_can_be_written_it_is_said_at_once_and_still_read(locked: str, tmp_path: Path) -> None:
    folder = tmp_path / "l"
    folder.mkdir()
    path = folder / "l.sqlite"
    if locked != "new":
        keys = fill(path, 3)
    target = path if locked == "file" else folder
    target.chmod(0o555)
    code = """
from outspoken.ledger import checks
from outspoken.ledger.reader import LedgerReader
try:
    Ledger(sys.argv[1])
except LedgerError as error:
    print(error)
if sys.argv[2] != "new":
    with LedgerReader(sys.argv[1]) as reader:
        print(*(row["key"] for row in reader.rows("SELECT key FROM reply ORDER BY rowid")))
        print(checks.verify(reader))
"""
    try:
        lines = output_of(python(code, path, locked, preexec_fn=no_privileges)).splitlines()
    finally:
        target.chmod(0o755)
    assert lines[0].startswith("cannot write the ledger")
    if locked != "new":
        assert lines[1:] == [" ".join(keys), "(3, [])"]


# A full disk.


@posix
def test_rows_that_did_not_fit_are_written_when_there_is_room(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    code = """
import resource
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
ledger = Ledger(sys.argv[1])
ledger.put(entry("before", {"n": 0}), ChatReply("x"), 0.0)
asyncio.run(ledger.settled())
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
for number in range(300):
    try:
        ledger.put(entry(number, {"n": number // 150}), ChatReply("茶" * 1_000), 0.0)
    except LedgerError:
        break
for _ in range(2):
    try:
        asyncio.run(ledger.settled())
        sys.exit("it all fitted")
    except LedgerError as error:
        print(error)
try:
    ledger.put(entry("after"), ChatReply("x"), 0.0)
    sys.exit("nothing was said")
except LedgerError:
    pass
stored = len(list(ledger.rows("SELECT key FROM reply")))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
ledger.close()
print(number, stored)
"""
    *said, figures = output_of(python(code, path)).splitlines()
    last, stored = map(int, figures.split())
    assert len(said) == 2
    assert all("; not stored: " in line for line in said)
    assert 0 < stored < last + 2
    expected = [entry("before", schema={"n": 0}).key]
    expected += [entry(number, schema={"n": number // 150}).key for number in range(last + 1)]
    assert keys_in(path) == [*expected, entry("after").key]
    assert problems_of(path) == []


@posix
def test_a_ledger_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    code = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    Ledger(sys.argv[1])
except LedgerError as error:
    print(error)
"""
    assert output_of(python(code, tmp_path / "l.sqlite")).startswith("the ledger ")


def test_what_is_lost_when_it_stays_full_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    ledger = Ledger(path)
    ledger._out.execute("PRAGMA max_page_count = 20")
    for number in range(250):
        ledger.put(entry(number, schema=SCHEMA), ChatReply("x" * 1_000), 0.0)
    with pytest.raises(LedgerError, match=r"the disk is full: make room.*; not stored: 250 replies$"):
        asyncio.run(ledger.settled())
    assert list(ledger.rows("SELECT * FROM schema")) == []  # a schema comes with its replies or not at all
    with pytest.raises(LedgerError, match="not stored: 250 replies"):
        ledger.close()
    ledger.close()
    assert keys_in(path) == []
    assert fill(path, 3) == keys_in(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", disk], capture_output=True).returncode
    ):
        pytest.skip("mounting a small disk is not permitted")
    yield disk
    subprocess.run(["umount", disk], check=True)


def _fill_up(file: Any) -> None:
    while True:
        file.write(bytes(4096))


def test_a_real_disk_that_is_full(small_disk: Path) -> None:
    path, ballast = small_disk / "l.sqlite", small_disk / "ballast"
    ballast.write_bytes(bytes(10 * 2**20))
    with pytest.raises(LedgerError, match=r"the disk of .* is full .14 MiB free."):
        Ledger(path)
    assert not path.exists()
    ballast.unlink()
    ledger = Ledger(path)
    ledger.put(entry("before"), ChatReply("x"), 0.0)
    asyncio.run(ledger.settled())
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        _fill_up(file)
    for number in range(100):
        ledger.put(entry(number), ChatReply("x" * 3_000), 0.0)
    with pytest.raises(LedgerError, match="the disk is full: make room, then give the same command again"):
        asyncio.run(ledger.settled())
    ballast.unlink()
    ledger.close()
    assert keys_in(path) == [entry("before").key, *(entry(number).key for number in range(100))]
    assert problems_of(path) == []


# Damage.


@pytest.mark.parametrize(
    ("statement", "where", "reason"),
    [
        ("UPDATE reply SET key = '00' || substr(key, 3) WHERE rowid = 3", "key", "key is not that"),
        (
            "UPDATE reply SET request = replace(request, '\"2\"', '\"9\"') WHERE rowid = 3",
            "key",
            "key is not that",
        ),
        ("UPDATE reply SET request = request || ' ' WHERE rowid = 3", "key", "not canonical"),
        ("UPDATE reply SET request = 5 WHERE rowid = 3", "key", "not canonical"),
        ("UPDATE reply SET request = x'00ff' WHERE rowid = 3", "key", "not text"),
        ("UPDATE reply SET reply = substr(reply, 2) WHERE rowid = 3", "key", "cannot be read"),
        ('UPDATE reply SET reply = \'{"text":1,"finish":""}\' WHERE rowid = 3', "key", "wrong form"),
        ("UPDATE reply SET reply = replace(reply, 'reply 2', 'reply 9') WHERE rowid = 3", "key", "digest differs"),
        ("UPDATE reply SET reply = replace(reply, 'reply 2', '') WHERE rowid = 3", "key", "digest differs"),
        ("UPDATE reply SET reply = replace(reply, '[3,2,1]', '[3,1,1]') WHERE rowid = 3", "key", "digest differs"),
        ("UPDATE reply SET reply = reply || ' ' WHERE rowid = 3", "key", "digest differs"),
        ("UPDATE reply SET created = created - 1 WHERE rowid = 3", "key", "digest differs"),
        ("UPDATE reply SET seconds = 0 WHERE rowid = 3", "key", "digest differs"),
        ("UPDATE reply SET seconds = 'x' WHERE rowid = 3", "key", "times are not numbers"),
        ("UPDATE reply SET digest = '' WHERE rowid = 3", "key", "digest differs"),
        ("UPDATE reply SET request = CAST(x'ff' AS TEXT) WHERE rowid = 3", "row 3", "UTF-8"),
        ("UPDATE schema SET text = text || ' '", "schema", "its hash is not"),
        ("DELETE FROM schema", "schema", "is missing, and 10 replies"),
    ],
)
def test_verify_finds_what_was_changed_and_export_leaves_it_out(
    statement: str, where: str, reason: str, tmp_path: Path
) -> None:
    path = tmp_path / "l.sqlite"
    fill(path, 10, schema=SCHEMA)
    assert problems_of(path) == []
    change(path, statement)
    found = problems_of(path)
    with LedgerReader(path) as reader:
        broken = [row[0] for row in reader.rows("SELECT key FROM reply WHERE rowid = 3")]
    expected = {"key": broken[0], "schema": f"schema {entry(schema=SCHEMA).schema_hash}", "row 3": "row 3"}[where]
    assert found[0].where == expected
    assert reason in found[0].reason
    problems: list[Problem] = []
    with LedgerReader(path) as reader:
        lines = [json.loads(line) for line in checks.export(reader, problems)]
    assert [line["text"] for line in lines] == [f"reply {n}" for n in range(10) if where == "schema" or n != 2]
    assert all((line["schema"] is None) == (where == "schema") for line in lines)
    assert problems


async def test_replies_that_were_exchanged_are_named_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    keys = fill(path, 10)
    columns = "reply, seconds, created, digest"
    with LedgerReader(path) as reader:
        third, eighth = reader.rows(f"SELECT {columns} FROM reply WHERE rowid IN (3, 8) ORDER BY rowid")
    for key, values in ((keys[2], eighth), (keys[7], third)):
        change(path, f"UPDATE reply SET ({columns}) = (?, ?, ?, ?) WHERE key = ?", *values, key)
    assert [problem.where for problem in problems_of(path)] == [keys[2], keys[7]]
    with Ledger(path) as ledger:
        assert ledger.get(keys[3]) is not None
        for key in (keys[2], keys[7]):
            with pytest.raises(LedgerError, match=f"the reply {key} is not as it was written"):
                ledger.get(key)
    with LedgerReader(path) as reader:
        chosen = checks.select_for_pruning(reader, damaged=True)
        assert checks.select_for_pruning(reader, damaged=True, older_than=1).replies == 0
    assert checks.prune(path, chosen) == 2
    assert problems_of(path) == []
    with Ledger(path) as ledger:
        assert (await ledger.store(entry(2), ChatReply("new"), 0.0)).text == "new"


def test_export_gets_out_what_is_behind_damaged_pages(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        for number in range(400):
            ledger.put(entry(number), ChatReply(f"reply {number} " + "x" * 800), 0.0)
    data = bytearray(path.read_bytes())
    places = {data.index(f"reply {number} ".encode()) // 4096 * 4096 for number in (150, 151, 152, 280)}
    for at in places:
        data[at : at + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with LedgerReader(path) as reader:
        sound, problems = checks.verify(reader)
        lines = [json.loads(line)["text"].split()[1] for line in checks.export(reader, [])]
    assert problems[0].where == "file"
    gaps = [problem.where for problem in problems if problem.where.startswith("row")]
    assert len(gaps) == 2
    assert sound == len(lines)
    assert 380 < sound < 397
    assert set(lines) >= {"0", "140", "170", "260", "300", "399"}
    lost = sorted(set(map(str, range(400))) - set(lines), key=int)
    assert {"150", "151", "152", "280"} <= set(lost)
    told = [range(int(gap.split()[1]), int(gap.split()[-1]) + 1) for gap in gaps]
    assert [row - 1 for each in told for row in each] == list(map(int, lost))


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_file_that_was_cut_off_ends_in_problems_and_no_endless_search(share: float, tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    fill(path, 3_000, schema=SCHEMA)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with LedgerReader(path) as reader:
        sound, problems = checks.verify(reader)
        assert len(list(checks.export(reader, []))) == sound
    assert problems
    assert sound < 3_000


# Export and deletion.


async def test_an_export_answers_what_the_ledger_answered(tmp_path: Path) -> None:
    path, out = tmp_path / "l.sqlite", tmp_path / "r.jsonl"
    with Ledger(path) as ledger:
        for number, reply in enumerate(REPLIES.values()):
            request = replace(REQUEST, messages=(Message("system", "茶"), Message("user", f"{number} \x00 مرحبا")))
            ledger.put(entry_of("a" if number % 2 else "b", request, (0, number, 0)), reply, number / 8)
    problems: list[Problem] = []
    with LedgerReader(path) as reader:
        assert checks.save(checks.export(reader, problems), out, path) == len(REPLIES)
        assert len(list(checks.export(reader, problems, "a"))) == len(REPLIES) // 2
        with pytest.raises(UnknownNameError, match="known: a, b"):
            list(checks.export(reader, problems, "c"))
    assert problems == []
    replay = Replay(out)
    for number, reply in reversed(list(enumerate(REPLIES.values()))):
        messages = (Message("system", "茶"), Message("user", f"{number} \x00 مرحبا"))
        assert await replay.complete(ChatRequest(messages)) == reply
    for number, line in enumerate(map(json.loads, out.read_bytes().splitlines())):
        request = replace(REQUEST, messages=tuple(Message(**each) for each in line["messages"]))
        assert entry_of(line["asked_model"], request, tuple(line["draw"])).key == line["key"]
        assert line["schema"] == SCHEMA
        assert line["sampling"] == json.loads(json.dumps(REQUEST.sampling.to_dict()))
        assert (line["draw"], line["seconds"]) == ([0, number, 0], number / 8)
        assert abs(line["created"] - time.time()) < 3600


def test_delete_gives_the_room_back_and_forgets_what_was_made_of_it(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    fill(path, 2_000, model="old", schema={"n": 1})
    keys = fill(path, 20, model="new", schema={"n": 2})
    created = "created - 10 * 86400"
    set_ = f"created = {created}, digest = reply_digest(key, reply, seconds, {created})"
    change(path, f"UPDATE reply SET {set_} WHERE json_extract(request, '$.model') = 'old'")
    change(path, "UPDATE reply SET request = 'damaged' WHERE rowid = 7")
    with Ledger(path) as ledger:
        ledger.put_part("out", 0, PartRecord("d", 1, True))
    before = path.stat().st_size
    with LedgerReader(path) as reader:
        assert checks.select_for_pruning(reader, older_than=11).replies == 0
        assert checks.select_for_pruning(reader, older_than=9, model="new").replies == 0
        assert checks.select_for_pruning(reader, older_than=9, model="old").replies == 1_999
        assert checks.select_for_pruning(reader, model="new").tokens == 100
        chosen = checks.select_for_pruning(reader, older_than=9)
    assert (chosen.replies, chosen.tokens) == (2_000, 10_000)
    with Ledger(path) as other:
        assert checks.prune(path, chosen) == 2_000
        assert path.stat().st_size < before / 5
        assert not Path(f"{path}-wal").stat().st_size
        assert [row.key for row in other.stored()] == keys
        assert other.parts("out") == {}
        assert [row["text"] for row in other.rows("SELECT text FROM schema")] == ['{"n":2}']
    assert problems_of(path) == []


async def test_a_schema_that_another_process_deleted_comes_back_with_the_next_reply(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger, Ledger(path) as other:
        ledger.put(entry(1, schema=SCHEMA), ChatReply("x"), 0.0)
        await ledger.settled()
        assert other.delete("TRUE") == 1
        ledger.put(entry(2, schema=SCHEMA), ChatReply("x"), 0.0)
        await ledger.settled()
        assert ledger.delete("TRUE") == 1
        ledger.put(entry(3, schema=SCHEMA), ChatReply("x"), 0.0)
    assert keys_in(path) == [entry(3, schema=SCHEMA).key]
    assert problems_of(path) == []


def test_what_comes_after_the_question_is_not_deleted(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    fill(path, 3)
    with LedgerReader(path) as reader:
        chosen = checks.select_for_pruning(reader, model="m")
    with Ledger(path) as ledger:
        ledger.put(entry("later"), ChatReply("x"), 0.0)
    assert checks.prune(path, chosen) == 3
    assert keys_in(path) == [entry("later").key]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({}, "say which"),
        ({"older_than": -1}, "from 0"),
        ({"older_than": float("nan")}, "from 0"),
        ({"model": "n"}, "unknown model 'n'"),
    ],
)
def test_a_cut_that_says_nothing_sensible_is_refused(conditions: Any, message: str, tmp_path: Path) -> None:
    fill(tmp_path / "l.sqlite", 1)
    with LedgerReader(tmp_path / "l.sqlite") as reader, pytest.raises(UsageError, match=message):
        checks.select_for_pruning(reader, **conditions)
