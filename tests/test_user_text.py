"""Texts that users write with any editor: a mark at the beginning, UTF-16, line ends of Windows and of old Macs."""

from __future__ import annotations

import codecs
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Commands

from outspoken import templates
from outspoken.errors import UsageError
from outspoken.experiment import spec as experiments
from outspoken.io.text import decoded, read_bytes, read_json, read_text
from outspoken.measure import rubrics
from outspoken.measure.answer_sets import load as load_answers
from outspoken.prices import price_of
from outspoken.serve.keys import Keys, hash_key
from outspoken.synth import spec as pipelines
from outspoken.tasks import task as tasks

WORDS = "Name a tree: 木 🌳"

ENCODINGS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16 of Windows": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "utf-16, big end first": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "utf-32": lambda text: text.encode("utf-32"),
    "line ends of Windows": lambda text: text.replace("\n", "\r\n").encode(),
    "line ends of old Macs": lambda text: text.replace("\n", "\r").encode(),
    "all at once": lambda text: text.replace("\n", "\r\n").encode("utf-16"),
}

PIPELINE = f'about = """{WORDS}\ntwice"""\n[[step]]\ndo = "generate"\ninstruction = "{WORDS}"\n'
EXPERIMENT = f'title = "{WORDS}"\nabout = """a\nb"""\ntasks = ["dice"]\narms = ["direct"]\n'
TASK = f'title = "{WORDS}"\nabout = """a\nb"""\nprompts = ["{WORDS}"]\n'

READERS: dict[str, tuple[str, str, Callable[[Path], Any]]] = {
    "text": (".txt", f"{WORDS}\nb\n", lambda file: read_text(file, "text")),
    "json": (
        ".json",
        json.dumps({"a": WORDS}, ensure_ascii=False, indent=1),
        lambda file: read_json(file, "schema"),
    ),
    "template": (
        ".toml",
        f'base = "standard"\nabout = """{WORDS}\nb"""\n',
        lambda file: templates.load(str(file)).about,
    ),
    "pipeline": (".toml", PIPELINE, lambda file: pipelines.load(str(file)).about),
    "experiment": (".toml", EXPERIMENT, lambda file: experiments.load(str(file)).about),
    "task": (".toml", TASK, lambda file: (tasks.load(file).about, tasks.load(file).prompts)),
    "rubric": (".toml", rubrics.source("joke"), lambda file: rubrics.load(str(file))),
    "prices": (".toml", '["x/木"]\ninput = 1\noutput = 2\n', lambda file: price_of("x/木", file)),
    "answers": (".json", '{\n"木": 2,\n"🌳": 1}', load_answers),
    "keys": (".txt", f"a:{hash_key('k')}\nb:{hash_key('l')}\n", lambda file: len(Keys.load(file))),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("reader", READERS)
def test_every_editor_will_do(reader: str, encoding: str, tmp_path: Path) -> None:
    suffix, text, read = READERS[reader]
    plain, other = tmp_path / "plain", tmp_path / "other"
    for folder, content in ((plain, text.encode()), (other, ENCODINGS[encoding](text))):
        folder.mkdir()
        (folder / f"mine{suffix}").write_bytes(content)
    expected, found = (read(folder / f"mine{suffix}") for folder in (plain, other))
    assert repr(found).replace(str(other), "") == repr(expected).replace(str(plain), "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (WORDS.encode("utf-16-le"), "UTF-16 without its mark"),
        ("Straße".encode("latin-1"), "it is not UTF-8; save it as UTF-8"),
        (bytes(range(256)), "it is binary"),
        (codecs.BOM_UTF16_LE + b"a", "it is binary|it is not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_with_the_cause(content: bytes, reason: str) -> None:
    with pytest.raises(UsageError, match=rf"cannot read the schema s\.json: .*({reason})"):
        decoded(content, "the schema s.json")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_is_piped_in_has_line_feeds_and_no_mark(commands: Commands, encoding: str, tmp_path: Path) -> None:
    record = tmp_path / "r.jsonl"
    (tmp_path / "replies.jsonl").write_text('{"text": "oak"}\n')
    words = ("ask", "-", "--method", "direct", "-k", 1, "--record", record, "--model")
    done = commands(
        *words, f"replay/{tmp_path}/replies.jsonl", stdin=ENCODINGS[encoding](f"{WORDS}\nIn a word.\n")
    )
    assert done.code == 0, done.err
    (message,) = json.loads(record.read_text(encoding="utf-8"))["messages"]
    assert "\r" not in message["content"]
    assert f"{WORDS}\nIn a word." in message["content"]
    assert "\ufeff" not in message["content"]


def test_what_is_piped_in_and_no_text_is_refused(commands: Commands) -> None:
    done = commands("ask", "-", "--model", "replay/none", stdin=bytes(range(256)))
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "cannot read standard input: it is binary" in done.err


def test_ask_without_a_prompt_names_standard_input(commands: Commands) -> None:
    assert "- for standard input" in commands("ask").err


def test_reading_takes_no_more_memory_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "small.txt").write_text(WORDS, encoding="utf-8")
    tracemalloc.start()
    try:
        assert read_text(tmp_path / "small.txt", "text", most=2**33) == WORDS
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [0, 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_files_are_read_whole_up_to_their_limit(size: int, tmp_path: Path) -> None:
    file = tmp_path / "large.txt"
    file.write_bytes(b"x" * size)
    assert len(read_bytes(file, "text", most=3 * 2**20)) == size
    if size:
        with pytest.raises(UsageError, match="name the right file"):
            read_bytes(file, "text", most=size - 1)
