"""The command line as a user meets it: real processes, their two streams and their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from outspoken.cli.common import command
from outspoken.cli.options import QUIET

pytestmark = pytest.mark.core


REPLY = json.dumps(
    {
        "responses": [
            {"text": t, "probability": p} for t, p in (("咖啡 ☕", 0.5), ("مرحبا", 0.3), ("[b]x[/b]", 0.2))
        ]
    },
    ensure_ascii=False,
)


def outspoken(
    *arguments: str, stdin: str | bytes = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "outspoken", *arguments],
        input=stdin.encode() if isinstance(stdin, str) else stdin,
        capture_output=True,
        env={**os.environ, "NO_COLOR": "1", **(environment or {})},
        timeout=120,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.fixture
def replay(tmp_path: Path) -> str:
    path = tmp_path / "replies.jsonl"
    path.write_text(json.dumps({"text": REPLY}) + "\n", encoding="utf-8")
    return f"replay/{path}"


def test_ask_prints_the_distribution(replay: str) -> None:
    done = outspoken("ask", "x", "-k", "3", "--model", replay)
    assert done.returncode == 0, done.stderr
    for part in ("咖啡 ☕", "مرحبا", "[b]x[/b]", "0.500", "effective size"):
        assert part in done.stdout
    assert "\x1b" not in done.stdout


def test_ask_json_is_one_document_with_what_scripts_rely_on(replay: str) -> None:
    done = outspoken("ask", "笑話", "-k", "3", "--model", replay, "--seed", "4", "--json", "--draw", "2")
    entry = json.loads(done.stdout)
    assert {
        "prompt",
        "method",
        "model",
        "template",
        "k",
        "candidates",
        "mass",
        "usage",
        "requests",
        "seed",
    } <= set(entry)
    assert entry["prompt"] == "笑話"
    assert entry["seed"] == 4
    assert entry["candidates"][0] == {"text": "咖啡 ☕", "probability": 0.5, "stated": 0.5, "repairs": []}
    assert len(entry["draws"]) == 2
    assert "咖啡" in done.stdout


def test_ask_draw_prints_only_the_draws_and_repeats_with_its_seed(replay: str) -> None:
    runs = [outspoken("ask", "x", "-k", "3", "--model", replay, "--draw", "3", "--seed", "9") for _ in range(2)]
    assert runs[0].stdout == runs[1].stdout
    assert len(runs[0].stdout.splitlines()) == 3
    distinct = outspoken("ask", "x", "-k", "3", "--model", replay, "--draw", "3", "--distinct")
    assert sorted(distinct.stdout.splitlines()) == sorted(["咖啡 ☕", "مرحبا", "[b]x[/b]"])


def test_ask_reads_standard_input_and_whole_chats(replay: str, tmp_path: Path) -> None:
    entry = json.loads(outspoken("ask", "-", "-k", "3", "--model", replay, "--json", stdin="從管道來\n").stdout)
    assert entry["prompt"] == "從管道來"
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps([{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]))
    done = outspoken("ask", "--messages", str(chat), "-k", "3", "--model", replay, "--json")
    assert json.loads(done.stdout)["prompt"][0] == {"role": "system", "content": "s"}


def test_a_recording_can_be_replayed(replay: str, tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    first = outspoken("ask", "x", "-k", "3", "--model", replay, "--record", str(record), "--json")
    again = outspoken("ask", "x", "-k", "3", "--model", f"replay/{record}", "--json")
    assert json.loads(first.stdout)["candidates"] == json.loads(again.stdout)["candidates"]
    other = outspoken("ask", "something else", "-k", "3", "--model", f"replay/{record}")
    assert other.returncode == 2


def test_a_schema_gives_values(tmp_path: Path) -> None:
    schema = tmp_path / "drink.json"
    schema.write_text('{"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}')
    path = tmp_path / "replies.jsonl"
    reply = json.dumps({"responses": [{"text": {"name": "茶"}, "probability": 0.5}]})
    path.write_text(json.dumps({"text": reply}) + "\n")
    done = outspoken("ask", "x", "-k", "1", "--model", f"replay/{path}", "--schema", str(schema), "--json")
    assert json.loads(done.stdout)["candidates"][0]["value"] == {"name": "茶"}


BAD: list[tuple[list[str], int, str]] = [
    (["ask", ""], 2, "the prompt is empty"),
    (["ask"], 2, "give one prompt: outspoken ask"),
    (["ask"], 2, "- for standard input"),
    (["ask", "x", "--method", "vs"], 2, "did you mean 'vs-standard'?"),
    (["ask", "x", "--attempts", "0"], 2, "attempts must be"),
    (["ask", "x", "--cache", ".", "--model", "http://127.0.0.1:9/v1#m"], 1, "is a folder"),
    (["ask", "x", "-k", "0"], 2, "k must be a whole number from 1"),
    (["ask", "x", "-k", "10000"], 2, "not 10000"),
    (["ask", "x", "--tau", "1"], 2, "tau must be a number above 0 and below 1"),
    (["ask", "x", "--tau", "0"], 2, "tau must be a number above 0 and below 1"),
    (["ask", "x", "--method", "vs-standrad"], 2, "did you mean 'vs-standard'"),
    (["ask", "x", "--template", "standart"], 2, "did you mean 'standard'"),
    (["ask", "x", "--template", "./none.toml"], 2, "cannot read the template"),
    (["ask", "x", "--model", "opneai/gpt-4.1"], 2, "did you mean 'openai'"),
    (["ask", "x", "--model", "local/smolm2"], 2, "did you mean 'smollm2'"),
    (["ask", "x", "--model", "local//none.gguf"], 2, "none.gguf"),
    (["ask", "x", "--model", "openai/gpt-4.1"], 2, "OPENAI_API_KEY"),
    (["ask", "x", "--attempts", "1", "--model", "http://127.0.0.1:9/v1#m"], 1, "is the server running"),
    (["ask", "x", "--model", "replay/none.jsonl"], 2, "none.jsonl"),
    (["ask", "x", "--draw", "0"], 2, "--draw"),
    (["ask", "x", "--schema", "none.json"], 2, "cannot read the schema none.json: there is no such file"),
    (["ask", "x", "--messages", "none.json"], 2, "give one prompt"),
    (["ask", "--messages", "none.json"], 2, "cannot read the file of messages none.json: there is no such file"),
    (["parse", "none.txt"], 2, "cannot read the reply none.txt"),
    (["templates", "papr"], 2, "did you mean 'paper'"),
    (["models", "get", "smolm2"], 2, "did you mean 'smollm2'"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=lambda value: str(value)[:60])
def test_bad_input_is_one_line_with_the_remedy(arguments: list[str], code: int, message: str) -> None:
    done = outspoken(*arguments, environment={"OPENAI_API_KEY": ""})
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback() -> None:
    done = outspoken("ask", "x", "-k", "0", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_debug_shows_what_is_sent_and_received(replay: str) -> None:
    done = outspoken("ask", "-", "-k", "3", "--model", replay, "--debug", "--quiet", stdin=b"one\r\ntwo\r\n")
    sent, received = done.stderr.splitlines()
    assert '\\"one\\ntwo\\"' in sent  # as Unix ends lines, and without the last end
    assert "咖啡 ☕" in received
    assert (
        json.loads(outspoken("ask", "-", "-k", "3", "--model", replay, "--json", stdin="x\n\n").stdout)["prompt"]
        == "x\n"
    )


def test_ask_keeps_replies_in_a_cache_and_says_what_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    texts = [{"text": "fig"}, {"text": "", "refusal": "I can't."}, {"text": "ki", "finish": "length"}]
    path.write_text("".join(json.dumps(text) + "\n" for text in texts))
    ask = ("ask", "x", "--method", "direct", "-k", "3", "--model", f"replay/{path}", "--json")
    first = outspoken(*ask, "--cache", str(tmp_path / "cache.sqlite"))
    assert (
        "1 of the requested candidates are missing: 1 of 3 replies refused; 1 of 3 replies cut off" in first.stderr
    )
    entry = json.loads(first.stdout)
    assert (entry["refused"], entry["cut_off"], entry["missing"]) == (1, 1, 1)
    path.write_text("")  # there is nothing left to ask
    assert outspoken(*ask, "--cache", str(tmp_path / "cache.sqlite")).stdout == first.stdout


def test_ask_warns_of_numbers_that_are_no_distribution(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    reply = json.dumps({"responses": [{"text": text, "probability": 0.9} for text in "abc"]})
    path.write_text(json.dumps({"text": reply}) + "\n")
    warning = "the model did not state a distribution (3 times 0.9): weights are nearly uniform"
    for more in ((), ("--json",), ("--draw", "1")):
        done = outspoken("ask", "x", "-k", "3", "--model", f"replay/{path}", *more)
        assert (warning in done.stdout.splitlines(), warning in done.stderr) == (more == (), more != ())
    assert json.loads(outspoken("parse", "--json", stdin=reply).stdout)["warnings"] == [warning]


def test_an_unreadable_reply_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text(json.dumps({"text": "I'm sorry, I can't."}) + "\n")
    done = outspoken("ask", "x", "--top-up", "0", "--model", f"replay/{path}")
    assert done.returncode == 1
    assert "the model wrote: I'm sorry, I can't." in done.stderr


def test_parse_reads_a_file_or_a_pipe(tmp_path: Path) -> None:
    reply = (
        "Sure!\n```json\n{'responses': [{'text': 'a', 'probability': '70%'}, {'text': 'b', 'probability': '30%'}]}"
    )
    piped = outspoken("parse", "--json", stdin=reply)
    (tmp_path / "reply.txt").write_text(reply)
    filed = outspoken("parse", str(tmp_path / "reply.txt"), "--json")
    assert piped.stdout == filed.stdout
    entry = json.loads(piped.stdout)
    assert [(c["text"], c["stated"]) for c in entry["candidates"]] == [("a", 0.7), ("b", 0.3)]
    assert all(c["probability"] for c in entry["candidates"])
    assert entry["candidates"][0]["repairs"]
    table = outspoken("parse", stdin=reply)
    assert "0.700" in table.stdout


def test_parse_reads_the_answer_of_a_method_that_has_one() -> None:
    reply = "<|channel|>analysis<|message|>One word.<|end|><|start|>assistant<|channel|>final<|message|>Four."
    entry = json.loads(outspoken("parse", "-m", "direct", "--json", stdin=reply).stdout)
    assert [candidate["text"] for candidate in entry["candidates"]] == ["Four."]
    assert entry["reasoning"] == "One word."
    assert "did you mean 'direct'" in outspoken("parse", "-m", "direkt", stdin=reply).stderr


def test_control_characters_of_a_reply_are_escaped() -> None:
    reply = json.dumps({"responses": [{"text": "\x1b[2Jred \x9b31m", "probability": 0.5}]})
    shown = outspoken("parse", stdin=reply)
    assert "\\x1b[2Jred \\x9b31m" in shown.stdout
    refused = outspoken("parse", stdin="\x1b[2JNo.")
    assert "\x1b" not in shown.stdout + refused.stderr


@pytest.mark.parametrize("stdin", ["", "I'm sorry, I can't help with that.", b"\xff\xfe\x00", "[]"])
def test_parse_refuses_what_holds_no_candidate(stdin: str | bytes) -> None:
    done = outspoken("parse", stdin=stdin)
    assert done.returncode == 1
    assert done.stderr.startswith("error:")
    assert done.stdout == ""


def test_the_lists() -> None:
    assert "vs-standard" in outspoken("methods").stdout
    assert {entry["name"] for entry in json.loads(outspoken("methods", "--json").stdout)} >= {"direct", "vs-multi"}
    assert "standard" in outspoken("templates").stdout
    assert "{input_prompt}" in outspoken("templates", "standard").stdout
    assert json.loads(outspoken("templates", "paper", "--json").stdout)["hash"]
    listed: dict[str, Any] = json.loads(outspoken("models", "--json").stdout)
    assert {row["name"] for row in listed["local"]} >= {"smollm2", "gemma3-270m"}
    assert "local/smollm2" in outspoken("models", "list").stdout


def test_doctor_tells_keys_without_their_values() -> None:
    done = outspoken("doctor", "--no-ask", environment={"OPENAI_API_KEY": "sk-very-secret"})
    assert done.returncode == 0
    assert "OPENAI_API_KEY" in done.stdout
    assert "sk-very-secret" not in done.stdout + done.stderr
    entry = json.loads(outspoken("doctor", "--no-ask", "--json").stdout)
    assert entry["packages"]["core"]["aiohttp"]


def test_doctor_says_whether_the_model_answers(replay: str) -> None:
    good = outspoken("doctor", "--model", replay)
    assert good.returncode == 0
    assert "answers in" in good.stdout
    bad = outspoken("doctor", "--model", "http://127.0.0.1:9/v1#m", "--json")
    assert bad.returncode == 1
    assert "is the server running" in json.loads(bad.stdout)["model"]["error"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("outspoken do", "doctor"),
        ("outspoken ask --tem", "--template"),
        ("outspoken ask x --method vs-m", "vs-multi"),
    ],
)
def test_the_shell_completes(words: str, offered: str) -> None:
    script = Path(sys.executable).with_name("outspoken")
    if not script.exists():
        pytest.skip("the console script is not installed")
    asked = {
        "_OUTSPOKEN_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run([script], capture_output=True, text=True, env={**os.environ, **asked}, timeout=60)
    assert offered in done.stdout.split()


def test_a_closed_pipe_is_no_error(replay: str) -> None:
    command = f"'{sys.executable}' -m outspoken templates standard | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C differently")
def test_ctrl_c_ends_at_once_with_130() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        asking = subprocess.Popen(
            [sys.executable, "-m", "outspoken", "ask", "x", "--model", f"http://127.0.0.1:{port}/v1#m"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        silent.settimeout(60)
        connection, _ = silent.accept()
        time.sleep(0.2)
        asking.send_signal(signal.SIGINT)
        out, err = asking.communicate(timeout=30)
        connection.close()
    assert (asking.returncode, out) == (130, "")
    assert err.strip() == "interrupted"


def test_a_fault_of_our_own_is_shown_with_quiet_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @command()
    def broken() -> None:
        raise ZeroDivisionError("nothing")

    monkeypatch.setenv(QUIET, "1")
    with pytest.raises(typer.Exit) as caught:
        broken()
    assert caught.value.exit_code == 1
    assert "this is a fault in outspoken itself (ZeroDivisionError: nothing)" in capsys.readouterr().err
