"""`outspoken ledger` as a user meets it: real processes, their two streams and their exit codes."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from outspoken.chat import ChatRequest, Message, Sampling
from outspoken.chat_reply import ChatReply, Usage
from outspoken.ledger import Ledger, PartRecord, entry_of
from outspoken.ledger.keys import reply_digest

SCHEMA = {"title": "茶", "type": "object"}
STEERING = "\x1b[31mred\x1b[0m \x9b31m half \ud83d\u202e [b]x[/b]"


def outspoken(*arguments: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "outspoken", "ledger", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
        timeout=120,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def _request(number: int) -> ChatRequest:
    messages = (Message("system", "簡短。"), Message("user", f"笑話 {number}"))
    return ChatRequest(messages, Sampling(0.7, extra={"min_p": 0.1}), SCHEMA)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """12 replies of openai/gpt-4.1, 30 days old, and 8 of local/茶."""
    path = tmp_path / "run 茶.sqlite"
    with Ledger(path) as ledger:
        for number in range(20):
            model = "openai/gpt-4.1" if number < 12 else "local/茶"
            reply = ChatReply(f"مرحبا {number} {STEERING}", usage=Usage(1000, 10), model="served", reasoning="why")
            ledger.put(entry_of(model, _request(number), (0, number, 0)), reply, 1.25)
        ledger.note_run("1.0", {})
        ledger.put_part("out.parquet", 0, PartRecord("d", 1, True))
        ledger.put_part("out.parquet", 1, PartRecord("d", 1, False))
        ledger.put_part("out.parquet", -1, PartRecord("d", 1, True))
    created = "created - 30 * 86400"
    digest = f"reply_digest(key, reply, seconds, {created})"
    _change(path, f"UPDATE reply SET created = {created}, digest = {digest} WHERE rowid <= 12")
    return path


def _change(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.create_function("reply_digest", 4, reply_digest)
    connection.execute(statement)
    connection.close()


def _key(number: int) -> str:
    model = "openai/gpt-4.1" if number < 12 else "local/茶"
    return entry_of(model, _request(number), (0, number, 0)).key


def test_show_tells_what_is_in_it(file: Path) -> None:
    found = json.loads(outspoken("show", file, "--json").stdout)
    assert found["replies"] == 20
    assert (found["format"], found["schemas"], found["runs"]) == (2, 1, 1)
    assert found["size"] == file.stat().st_size
    assert found["outputs"] == [{"output": "out.parquet", "parts": 2, "complete": 1}]
    assert [(row["model"], row["replies"]) for row in found["models"]] == [("openai/gpt-4.1", 12), ("local/茶", 8)]
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in found["models"]] == [
        (12_000, 120),
        (8_000, 80),
    ]
    assert 29 < (found["models"][1]["first"] - found["models"][0]["last"]) / 86_400 < 31
    text = outspoken("show", file).stdout
    for part in ("20 replies", "local/茶", "12,000", "format 2", "out.parquet: 2 parts recorded, 1 complete"):
        assert part in text
    assert sorted(each.name for each in file.parent.iterdir()) == [file.name]


def test_show_a_key_in_full(file: Path) -> None:
    key = _key(3)
    text = outspoken("show", file, key.upper()[:10]).stdout
    for part in (key, "openai/gpt-4.1", "簡短。", "笑話 3", '"min_p": 0.1', '"title": "茶"', "1,000 + 10", "why"):
        assert part in text
    assert "مرحبا 3 \\x1b[31mred\\x1b[0m \\x9b31m half \\ud83d" in text
    assert "[b]x[/b]" in text
    assert "\x1b" not in text
    entry = json.loads(outspoken("show", file, key, "--json").stdout)
    assert entry["text"] == f"مرحبا 3 {STEERING}"
    assert (entry["key"], entry["asked_model"], entry["schema"]) == (key, "openai/gpt-4.1", SCHEMA)
    assert entry["messages"][1] == {"role": "user", "content": "笑話 3"}


def test_a_damaged_reply_is_said_to_be_damaged(file: Path) -> None:
    _change(file, "UPDATE reply SET reply = 'x' WHERE rowid = 4")
    done = outspoken("show", file, _key(3))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"the reply {_key(3)} is damaged" in done.stderr


def test_verify(file: Path) -> None:
    good = outspoken("verify", file)
    assert (good.returncode, good.stderr) == (0, "")
    assert "20 replies are intact; no problems" in good.stdout
    assert json.loads(outspoken("verify", file, "--json").stdout) == {
        "file": str(file),
        "sound": 20,
        "ok": True,
        "problems": [],
    }
    _change(file, "UPDATE reply SET request = replace(request, '笑話 3', '笑話 4') WHERE rowid = 4")
    bad = outspoken("verify", file)
    assert bad.returncode == 1
    assert f"{_key(3)}: the key is not that" in bad.stdout
    found = outspoken("verify", file, "--json")
    assert found.returncode == 1
    document = json.loads(found.stdout)
    assert (document["ok"], document["sound"]) == (False, 19)
    assert [problem["where"] for problem in document["problems"]] == [_key(3)]


def test_export_to_a_file_and_to_a_pipe(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "replies.jsonl"
    piped = outspoken("export", file)
    done = outspoken("export", file, "--out", out)
    assert (piped.returncode, piped.stderr, done.returncode, done.stdout) == (0, "", 0, "")
    assert out.read_text("utf-8") == piped.stdout
    assert [json.loads(line)["key"] for line in piped.stdout.splitlines()] == [
        _key(number) for number in range(20)
    ]
    assert "\\ud83d" in piped.stdout
    only = outspoken("export", file, "--model", "local/茶").stdout.splitlines()
    assert [json.loads(line)["asked_model"] for line in only] == ["local/茶"] * 8
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([file.name, out.name])


def test_export_replaces_nothing_unasked(file: Path, tmp_path: Path) -> None:
    out, before = tmp_path / "mine.jsonl", file.read_bytes()
    out.write_text("mine")
    refused = outspoken("export", file, "--out", out)
    assert (refused.returncode, out.read_text()) == (2, "mine")
    assert "--overwrite" in refused.stderr
    unknown = outspoken("export", file, "--out", out, "--overwrite", "--model", "none")
    assert (unknown.returncode, out.read_text()) == (2, "mine")
    assert outspoken("export", file, "--out", out, "--overwrite").returncode == 0
    assert len(out.read_text("utf-8").splitlines()) == 20
    itself = outspoken("export", file, "--out", file, "--overwrite")
    assert itself.returncode == 2
    assert "the ledger itself" in itself.stderr
    assert file.read_bytes() == before
    assert outspoken("export", file, "--out", tmp_path, "--overwrite").returncode == 2
    nowhere = outspoken("export", file, "--out", tmp_path / "none" / "x.jsonl")
    assert nowhere.returncode == 1
    assert "cannot be written" in nowhere.stderr


def test_export_leaves_damaged_rows_out_and_says_so(file: Path, tmp_path: Path) -> None:
    _change(file, "UPDATE reply SET reply = 'x' WHERE rowid = 4")
    done = outspoken("export", file, "--out", tmp_path / "r.jsonl")
    assert done.returncode == 3
    assert f"damaged: {_key(3)}: a stored reply cannot be read" in done.stderr
    assert len((tmp_path / "r.jsonl").read_bytes().splitlines()) == 19


def test_a_closed_pipe_is_no_error(file: Path) -> None:
    with Ledger(file) as ledger:
        for number in range(200):
            ledger.put(entry_of("m", _request(number), (0, 0, 0)), ChatReply("x" * 10_000), 0.0)
    command = f"'{sys.executable}' -m outspoken ledger export '{file}' | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.count(b"\n") == 1


def test_prune_says_what_would_go_and_wants_a_yes(file: Path) -> None:
    dry = outspoken("prune", file, "--older-than", "7", "--dry-run")
    assert (dry.returncode, dry.stderr) == (0, "")
    assert "12 of 20 replies, paid for with 12,120 tokens, would be deleted" in dry.stdout
    refused = outspoken("prune", file, "--older-than", "7")
    assert refused.returncode == 2
    assert "12 of 20 replies" in refused.stderr
    assert "--yes" in refused.stderr
    assert json.loads(outspoken("show", file, "--json").stdout)["replies"] == 20
    done = outspoken("prune", file, "--older-than", "7", "--yes")
    assert done.returncode == 0
    assert "12 replies deleted" in done.stdout
    assert [row["model"] for row in json.loads(outspoken("show", file, "--json").stdout)["models"]] == ["local/茶"]
    assert outspoken("verify", file).returncode == 0
    again = outspoken("prune", file, "--older-than", "7", "--yes")
    assert (again.returncode, again.stdout[:15]) == (0, "0 of 8 replies,")
    assert outspoken("prune", file, "--model", "local/茶", "--yes").returncode == 0
    assert json.loads(outspoken("show", file, "--json").stdout)["replies"] == 0


@pytest.mark.skipif(os.name != "posix", reason="a terminal as POSIX has it")
@pytest.mark.parametrize(
    ("answer", "code", "left", "said"),
    [("y\n", 0, 12, "8 replies deleted"), ("n\n", 1, 20, "nothing was deleted"), ("\x03", 130, 20, "interrupted")],
)
def test_prune_asks_on_a_terminal(answer: str, code: int, left: int, said: str, file: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    command = ["-m", "outspoken", "ledger", "prune", str(file), "--model", "local/茶"]
    screen = pexpect.spawn(sys.executable, command, timeout=60, encoding="utf-8")
    screen.expect_exact("Delete 8 of 20 replies, paid for with 8,080 tokens?")
    screen.send(answer)
    screen.expect_exact(said)
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == code
    assert json.loads(outspoken("show", file, "--json").stdout)["replies"] == left


@pytest.mark.skipif(os.name != "posix", reason="a terminal as POSIX has it")
def test_verify_shows_a_bar_on_a_terminal_for_a_large_file(tmp_path: Path) -> None:
    pexpect = pytest.importorskip("pexpect")
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        for number in range(1_000):
            ledger.put(entry_of("m", _request(number), (0, 0, 0)), ChatReply("x" * 10_000), 0.0)
    command = ["-m", "outspoken", "ledger", "verify", str(path)]
    screen = pexpect.spawn(sys.executable, command, timeout=60, encoding="utf-8", dimensions=(24, 120))
    screen.expect("━")
    screen.expect_exact("1,000 replies are intact")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0
    assert "━" not in outspoken("verify", path).stderr


BAD: list[tuple[list[str], int, str]] = [
    (["show", "NONE"], 2, "there is no ledger"),
    (["verify", "NONE"], 2, "there is no ledger"),
    (["export", "NONE"], 2, "there is no ledger"),
    (["prune", "NONE", "--older-than", "1", "--yes"], 2, "there is no ledger"),
    (["show", "FOLDER"], 1, "is a folder"),
    (["verify", "TEXT"], 1, "is not a ledger"),
    (["show", "FILE", "g"], 2, "is not a key"),
    (["show", "FILE", ""], 2, "is not a key"),
    (["show", "FILE", "0" * 32], 2, "no key in"),
    (["export", "FILE", "--model", "openai/gpt-4.2"], 2, "did you mean 'openai/gpt-4.1'"),
    (["prune", "FILE"], 2, "--older-than DAYS, --model M, --damaged, or several"),
    (["prune", "FILE", "--older-than", "-1", "--yes"], 2, "days from 0"),
    (["prune", "FILE", "--model", "x", "--yes"], 2, "unknown model 'x'"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_line_with_the_remedy(
    arguments: list[str], code: int, message: str, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("text" * 100)
    places: dict[str, Any] = {
        "NONE": tmp_path / "none",
        "FOLDER": tmp_path,
        "TEXT": tmp_path / "text",
        "FILE": file,
    }
    before = file.read_bytes()
    done = outspoken(*(places.get(argument, argument) for argument in arguments))
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
    assert "Traceback" not in done.stderr
    assert file.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([file.name, "text"])


def test_an_ambiguous_beginning_names_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        for number in range(40):
            ledger.put(entry_of("m", _request(number), (0, 0, 0)), ChatReply("x"), 0.0)
    keys = [entry_of("m", _request(number), (0, 0, 0)).key for number in range(40)]
    first = next(key for key in keys if sum(other[0] == key[0] for other in keys) > 1)
    done = outspoken("show", path, first[0])
    assert done.returncode == 2
    assert sum(key in done.stderr for key in keys) >= 2
    assert outspoken("show", path, first).returncode == 0


@pytest.mark.parametrize("name", ["show", "verify", "export", "prune"])
def test_every_help_has_an_example(name: str) -> None:
    done = outspoken(name, "--help")
    assert done.returncode == 0
    assert "Example: " in done.stdout
