"""Commands on narrow terminals, in any encoding, with any fate of their streams, and with hostile text."""

from __future__ import annotations

import io
import json
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import Commands
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from typer.testing import CliRunner

from outspoken.chat import ChatRequest, Message
from outspoken.chat_reply import ChatReply, Usage
from outspoken.cli.app import app
from outspoken.distribution import Distribution, Verbalized
from outspoken.ledger import Ledger, entry_of
from outspoken.report import html
from outspoken.terminal import ENCODING_ERRORS, ShareBar, TextTable, visible, writable

LIGHTHOUSE = "The lighthouse keeper counted the waves as though each one owed him something."
TEXTS = (
    LIGHTHOUSE,
    "灯台守は波を数えた。一つ一つの波が彼に何かを借りているかのように。",
    "حارس المنارة يعد الأمواج",
    "Families 👩‍👩‍👧‍👦 and flags 🇨🇭 on the coast",
    "https://example.com/a/very/long/path/without/any/blank/that/must/be/broken/somewhere",
    "Die “Leuchtturmwärterin” zählte … – Wellen",
)
HOSTILE = "safe\x1b[31mred\x07 \u202egnp.exe\u2066 \x9b1m"
REPLY = json.dumps(
    {"responses": [{"text": text, "probability": 0.1} for text in (*TEXTS, HOSTILE)]}, ensure_ascii=False
).encode()
ESCAPE = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each command that shows a table and needs no model."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "reply.txt").write_bytes(REPLY)
    (folder / "replies.jsonl").write_text((json.dumps({"text": REPLY.decode()}) + "\n") * 20, encoding="utf-8")
    counts = {text: 9 - at for at, text in enumerate((*TEXTS, HOSTILE))}
    (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
    rows = [
        {"prompt": "问题 " * 9, "text": text, "method": method, "model": "provider/a-model-with-a-long-name"}
        for method in ("direct", "vs-standard", "vs-cot")
        for text in (*TEXTS, HOSTILE)[: 3 if method == "direct" else None]
    ]
    (folder / "responses.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with Ledger(folder / "ledger.sqlite") as ledger:
        request = ChatRequest((Message("user", LIGHTHOUSE + HOSTILE),))
        reply = ChatReply(HOSTILE + TEXTS[1], usage=Usage(1_000_000, 1_000_000))
        ledger.put(entry_of("provider/a-model-with-a-long-name", request, (0, 0, 0)), reply, 1.0)
    return folder


SHOWN: dict[str, list[str]] = {
    "ask": ["ask", "x", "-k", "7", "--model", "replay/{}/replies.jsonl"],
    "compare": ["compare", "x", "y", "--methods", "vs-standard,vs-cot", "-n", "7", "--embedder", "none"],
    "parse": ["parse", "{}/reply.txt"],
    "measure": ["measure", "{}/responses.jsonl", "--embedder", "none", "--resamples", "100"],
    "sharpen": ["sharpen", "{}/counts.json", "--gamma", "2"],
    "levels": ["levels", "{}/counts.json", "--gamma", "2", "--replies", "50"],
    "gamma": ["gamma", "{}/responses.jsonl", "--reference", "{}/counts.json", "--method", "vs-cot"],
    "ledger": ["ledger", "show", "{}/ledger.sqlite"],
    "methods": ["methods"],
    "templates": ["templates"],
    "experiment": ["experiment"],
    "synth": ["synth"],
    "steps": ["synth", "--steps"],
    "models": ["models"],
    "doctor": ["doctor", "--no-ask"],
}
SHOWN["compare"] += ["--model", "replay/{}/replies.jsonl"]


def _command(name: str, files: Path) -> list[str]:
    return [word.format(files) for word in SHOWN[name]]


def _columns(text: str) -> int:
    """The cells that a text takes, computed without rich: joined and combining characters take none."""
    wide, joined = 0, False
    for character in text:
        if joined or unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Cf"):
            joined = character == "\u200d"
            continue
        wide += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return wide


def _is_readable(lines: list[str], columns: int) -> None:
    """No line is wider than the terminal, and there is no column that is one letter wide."""
    letters = 0
    for line in lines:
        assert _columns(line) <= columns or cell_len(line) <= columns, line
        letters = letters + 1 if len(line.strip()) == 1 else 0
        assert letters < 3, lines


@pytest.mark.parametrize("columns", [120, 80, 60, 40, 30, 20])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_a_distribution_fits_every_terminal(columns: int, encoding: str) -> None:
    distribution = Distribution.from_verbalized([Verbalized(text, 0.1, repairs=("surrogate",)) for text in TEXTS])
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding, "strict")
    Console(file=out, width=columns, markup=False, emoji=False, highlight=False).print(distribution)
    out.flush()
    shown = raw.getvalue().decode(encoding)
    _is_readable(shown.splitlines(), columns)
    together = re.sub(r"\s|^\d\.\d+|0\.1$", "", shown, flags=re.MULTILINE)
    for text in TEXTS:
        expected = writable(visible(text), encoding)
        assert re.sub(r"\s", "", expected) in together or columns > 60, (expected, shown)


def test_a_distribution_can_be_printed_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii", "strict")
    monkeypatch.setattr("sys.stdout", out)
    print(Distribution.from_verbalized([Verbalized(text, 0.1) for text in TEXTS]))
    out.flush()


@given(
    st.lists(st.lists(st.text(max_size=30), min_size=3, max_size=3), min_size=1, max_size=4),
    st.integers(10, 120),
    st.sampled_from(["utf-8", "ascii", "cp437"]),
)
def test_any_table_fits_any_terminal(rows: list[list[str]], columns: int, encoding: str) -> None:
    table = TextTable("a title", "a number", right=True)
    table.add_column("")
    table.add_column("the last")
    for first, second, third in rows:
        table.add_row(first, second, ShareBar(0.5), (third, "noted"), style="dim")
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding, "strict")
    Console(file=out, width=columns).print(table)
    out.flush()
    for line in raw.getvalue().decode(encoding).splitlines():
        assert cell_len(line) <= columns
        assert visible(line) == line


@pytest.mark.parametrize("columns", [100, 40, 20])
@pytest.mark.parametrize("name", SHOWN)
def test_every_table_can_be_read(commands: Commands, files: Path, name: str, columns: int) -> None:
    done = commands(*_command(name, files), columns=columns)
    assert done.code == 0, done.err
    assert not ESCAPE.search(done.out), "colours where there is no terminal"
    lines = done.text.splitlines()
    letters = 0
    for line in lines:
        assert visible(line) == line
        letters = letters + 1 if len(line.strip()) == 1 else 0
        assert letters < 3, done.text
    if name in ("ask", "parse", "sharpen"):
        _is_readable([line for line in lines if "effective size" not in line], columns)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("name", SHOWN)
def test_every_encoding_will_do(commands: Commands, files: Path, name: str, encoding: str) -> None:
    done = commands(*_command(name, files), encoding=encoding)
    assert done.code == 0, done.err
    shown = done.out.decode(encoding)
    if name in ("ask", "parse", "sharpen", "levels", "compare"):
        flat = re.sub(r"\s", "", shown)
        assert writable("彼に", encoding) in flat
        assert writable("–", encoding) in flat


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-16", "utf-8"])
def test_json_is_the_same_in_every_encoding(commands: Commands, files: Path, encoding: str) -> None:
    expected = json.loads(commands("parse", files / "reply.txt", "--json").out)
    assert [candidate["text"] for candidate in expected["candidates"]][:6] == list(TEXTS)
    done = commands("parse", files / "reply.txt", "--json", encoding=encoding)
    assert json.loads(done.out.decode(encoding)) == expected
    exported = commands("ledger", "export", files / "ledger.sqlite", encoding=encoding).out.decode(encoding)
    assert json.loads(exported)["text"] == HOSTILE + TEXTS[1]


def test_a_file_that_is_printed_stays_the_file(commands: Commands) -> None:
    """In UTF-8, so that it can be read again as a template or a spec."""
    for words in (("templates", "standard"), ("synth", "maths", "--show")):
        assert commands(*words, encoding="cp1252").out == commands(*words).out


def test_errors_and_prompts_in_an_encoding_without_them(commands: Commands, tmp_path: Path) -> None:
    done = commands("parse", tmp_path / "né ☕.txt", encoding="ascii")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "n\\xe9 \\u2615.txt: there is no such file" in done.err
    arguments = os.fsencode("é").decode("ascii", "surrogateescape")  # as a C locale leaves them
    done = commands("ask", arguments, "--model", f"replay/{tmp_path}/none.jsonl", encoding="ascii")
    assert "surrogate" not in done.err
    done = commands("ask", "\udcff", "--model", "replay/none.jsonl")
    assert done.code == 2
    assert "not UTF-8" in done.err


def _pages(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the command line with its words."""
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _pages(inner, *path, name)


@pytest.mark.parametrize(("words", "command"), list(_pages(typer.main.get_command(app))))
def test_help_on_a_narrow_terminal(words: tuple[str, ...], command: Any) -> None:
    options = [option for param in command.params for option in param.opts if option.startswith("--")]
    for columns in (40, 20):
        done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": str(columns)})
        assert done.exit_code == 0
        lines = done.output.splitlines()
        assert all(any(option in line for line in lines) for option in options)
        for line in lines:
            is_name = "<" in line or line.startswith(("  -", "Usage:", " " * 9)) or " " not in line.strip()
            assert cell_len(line) <= columns or is_name, lines


@pytest.mark.parametrize("columns", [100, 40])
def test_help_in_ascii(commands: Commands, columns: int) -> None:
    done = commands("run", "--help", columns=columns, encoding="ascii")
    assert done.code == 0, done.err
    assert b"\\u" not in done.out
    assert b"--overwrite" in done.out


STREAMS = [
    ("/dev/full", "", 1, "error: standard output cannot be written: the disk is full"),
    ("closed", "", 0, ""),
    ("gone", "", 0, ""),
    ("closed", "closed", 0, None),
    ("", "/dev/full", 0, None),
    ("", "gone", 0, None),
]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize(("stdout", "stderr", "code", "said"), STREAMS)
@pytest.mark.parametrize(
    "words",
    [
        ["parse"],
        ["parse", "--json"],
        ["methods"],
        ["--help"],
        ["run", "--help"],
        ["--version"],
        ["templates", "xml"],
    ],
    ids=" ".join,
)
def test_streams_that_cannot_be_written(
    commands: Commands, words: list[str], stdout: str, stderr: str, code: int, said: str | None
) -> None:
    done = commands(*words, stdin=REPLY, stdout=stdout, stderr=stderr)
    assert done.code == code
    if said is not None:
        errors = [line for line in done.err.splitlines() if not line.startswith("repaired:")]
        assert len(errors) == bool(said)
        assert "".join(errors).startswith(said)


def test_an_error_whose_stream_is_closed_keeps_its_code(commands: Commands) -> None:
    for stderr in ("closed", "/dev/full", "gone"):
        assert commands("parse", "none.txt", stderr=stderr).code == 2
        assert commands("ask", stdout="closed", stderr=stderr).code == 2


def test_a_closed_stream_is_no_file_of_ours(commands: Commands, tmp_path: Path) -> None:
    """The number of a closed stream must not become the ledger's: what a library prints would end there."""
    (tmp_path / "prompts.txt").write_text("Name a tree.\n")
    words = ["run", tmp_path / "prompts.txt", "--out", tmp_path / "o.jsonl", "-k", 1, "--model"]
    (tmp_path / "replies.jsonl").write_text('{"text": "oak"}\n')
    done = commands(
        *words, f"replay/{tmp_path}/replies.jsonl", "--method", "direct", stdout="closed", stderr="closed"
    )
    assert done.code == 0
    assert commands("ledger", "verify", tmp_path / "o.jsonl.ledger.sqlite").code == 0


@pytest.mark.parametrize("columns", [40, 20])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_ask_on_a_terminal(commands: Commands, files: Path, columns: int, encoding: str, term: str) -> None:
    done = commands(*_command("ask", files), columns=columns, encoding=encoding, terminal=True, env={"TERM": term})
    assert done.code == 0
    if term == "dumb":
        assert not ESCAPE.search(done.out)
    # The last frame of the live display is what stays.
    last = re.split(rb"\x1b\[[0-9]*[AJK]", done.out)[-1] if term == "xterm" else done.out
    lines = ESCAPE.sub(b"", last).decode(encoding).replace("\r", "").splitlines()
    _is_readable(lines, columns)
    assert "lighthouse" in "".join(line.strip() for line in lines)


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_progress_on_a_narrow_terminal(commands: Commands, files: Path, tmp_path: Path, term: str) -> None:
    (tmp_path / "prompts.txt").write_text("Name a tree.\n" * 3)
    run = ["run", tmp_path / "prompts.txt", "--out", tmp_path / "o.jsonl", "--model"]
    for words in ([*run, f"replay/{files}/replies.jsonl"], _command("measure", files), _command("compare", files)):
        done = commands(*words, columns=40, encoding="ascii", terminal=True, env={"TERM": term})
        assert done.code == 0, done.out
        assert done.out.isascii()
        for line in re.split(rb"[\r\n]+", ESCAPE.sub(b"", done.out)):
            assert b"\x1b" not in line
        assert term == "xterm" or not ESCAPE.search(done.out)


def test_colours_only_where_they_are_wanted(commands: Commands, files: Path) -> None:
    words = _command("sharpen", files)
    colour = re.compile(rb"\x1b\[3[0-9]m")
    for env, wanted in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        done = commands(*words, terminal=True, env={"NO_COLOR": "", **env})
        assert bool(colour.search(done.out)) == wanted
    assert not ESCAPE.search(commands(*words, env={"NO_COLOR": ""}).out)


@pytest.mark.parametrize("terminal", [True, False])
def test_text_that_steers_the_terminal_is_shown_escaped(
    commands: Commands, files: Path, tmp_path: Path, terminal: bool
) -> None:
    """In tables, sentences, errors and the names of files."""
    named = tmp_path / HOSTILE.replace("/", "")
    named.write_text("{")
    spec = tmp_path / "mine.toml"
    spec.write_text('name = "x\\u001b[31m"\nabout = "\\u202e"\n')
    hostile = [
        _command(name, files) for name in ("ask", "compare", "parse", "sharpen", "levels", "gamma", "ledger")
    ]
    hostile += [
        ["ledger", "show", str(files / "ledger.sqlite"), _key(files)],
        ["parse", f"{named}/none"],
        ["ask", "x", "--schema", str(named)],
        ["ask", "x", "--model", f"nobody/{HOSTILE}"],
        ["ask", "x", "--method", HOSTILE],
        ["measure", str(named)],
        ["synth", str(spec)],
        ["experiment", str(spec)],
        ["run", str(named), "--out", str(tmp_path / "o.jsonl"), "--model", "replay/none"],
    ]
    for words in hostile:
        done = commands(*words, terminal=terminal)
        shown = done.out.decode() + done.err
        assert done.code in (0, 2), shown
        for unwanted in ("\x1b[31m", "\x07", "\u202e", "\u2066", "\x9b"):
            assert unwanted not in shown, words


def _key(files: Path) -> str:
    with Ledger(files / "ledger.sqlite") as ledger:
        return (
            entry_of(
                "provider/a-model-with-a-long-name",
                ChatRequest((Message("user", LIGHTHOUSE + HOSTILE),)),
                (0, 0, 0),
            ).key
            if ledger
            else ""
        )


def test_draws_are_passed_on_as_they_are(commands: Commands, files: Path) -> None:
    """Another program gets the text itself, a terminal the text made visible."""
    words = [*_command("ask", files), "--draw", "7", "--distinct", "--seed", "1"]
    assert HOSTILE in commands(*words).text
    assert HOSTILE not in commands(*words, terminal=True).text


def test_html_shows_what_turns_the_direction() -> None:
    document = html.printable({HOSTILE: [HOSTILE, 1, None]})
    assert "\u202e" not in str(document)
    assert "\\u202egnp.exe" in next(iter(document))
    page = Distribution.from_verbalized([Verbalized(HOSTILE, 0.5)])._repr_html_()
    assert "\u202e" not in page
    assert "\\u202e" in page


@given(st.text(), st.sampled_from(["ascii", "cp1252", "latin-1", "koi8-r", "utf-8", "utf-16"]))
def test_writable_text_can_be_written(text: str, encoding: str) -> None:
    shown = writable(visible(text), encoding)
    assert shown.encode(encoding).decode(encoding) == shown
    assert visible(shown) == shown
    text.encode(encoding, ENCODING_ERRORS)
