"""Prompts in CSV as spreadsheets and databases write it, and JSON that is not one object a line."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken import UsageError
from outspoken.batch.sources import BadRow, PromptRow, read

pytestmark = pytest.mark.core

CASES = [
    ("semicolons", b'\xef\xbb\xbfid;prompt;note\r\n1;Name a tea;x\r\n2;"Name; a cup";y\r\n'),
    ("a line sep=", b'sep=;\r\nid;prompt;note\r\n1;Name a tea;x\r\n2;"Name; a cup";y\r\n'),
    ("sep= in quotes, and an empty line", b'\n"sep=|"\nid|prompt|note\n1|Name a tea|x\n2|Name; a cup|y\n'),
    ("tabs in a .csv", b"id\tprompt\tnote\n1\tName a tea\tx\n2\tName; a cup\ty\n"),
    ("bars", b"id|prompt|note\n1|Name a tea|x\n2|Name; a cup|y\n"),
    ("blanks round the names", b" id , prompt,note \n1,Name a tea,x\n2,Name; a cup,y\n"),
    ("blanks after the commas", b'id, prompt, note\n1, Name a tea, x\n2, "Name; a cup", y\n'),
    ("CR only", b'id;prompt;note\r1;Name a tea;x\r2;"Name; a cup";y\r'),
    ("UTF-16, tabs", "id\tprompt\tnote\r\n1\tName a tea\tx\r\n2\tName; a cup\ty\r\n".encode("utf-16")),
    ("UTF-16, big-endian", b"\xfe\xff" + 'id;prompt;note\n1;Name a tea;x\n2;"Name; a cup";y'.encode("utf-16-be")),
    (
        "empty lines, rows and columns",
        b'\n;;;;\nid;prompt;note;;\n\n1;Name a tea;x;;\n;;;;\n  \n2;"Name; a cup";y\n;;\n',
    ),
    ("all quoted", b'"id","prompt","note"\n"1","Name a tea","x"\n"2","Name; a cup","y"\n'),
]


def put(folder: Path, data: bytes, name: str = "prompts.csv") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.csv.gz"])
@pytest.mark.parametrize("data", [data for _, data in CASES], ids=[name for name, _ in CASES])
def test_the_usual_dialects(tmp_path: Path, data: bytes, name: str) -> None:
    rows = list(read(put(tmp_path, gzip.compress(data) if name.endswith(".gz") else data, name)))
    assert all(isinstance(row, PromptRow) for row in rows), rows
    found = [(row.id, row.messages[0].content, row.columns) for row in rows if isinstance(row, PromptRow)]
    assert found == [("1", "Name a tea", {"note": "x"}), ("2", "Name; a cup", {"note": "y"})]


@pytest.mark.parametrize("name", ["semicolon.csv", "array_in.jsonl"])
def test_files_as_users_have_them(name: str) -> None:
    path = Path(__file__).parent / "data" / "prompts" / name
    assert [row.messages[0].content for row in read(path) if isinstance(row, PromptRow)] == [
        "Name a tea" + "." * (name == "array_in.jsonl"),
        "Name; a cup" if name == "semicolon.csv" else "Name a cup.",
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), max_size=12)
NAMES = st.text("abcé 中_", min_size=1, max_size=6).filter(str.strip).map(lambda name: f"x{name}x")


@given(
    st.lists(NAMES, min_size=1, max_size=4, unique=True),
    st.lists(st.lists(TEXT, min_size=5, max_size=5), min_size=1, max_size=12),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    st.booleans(),
)
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    cells: list[list[str]],
    separator: str,
    end: str,
    encoding: str,
    quoting: Any,
    named: bool,
) -> None:
    """Any texts, written by the csv module in any of these forms."""
    file = io.StringIO(newline="")
    if named:
        file.write(f"sep={separator}{end}")
    # A minimal writer does not quote line ends other than its own.
    quoting = csv.QUOTE_ALL if end != "\n" else quoting
    writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting)
    writer.writerow(["prompt", *names])
    for number, row in enumerate(cells):
        writer.writerow([f"{number}{row[0]}", *row[1 : len(names) + 1]])
    path = put(tmp_path_factory.mktemp("any"), file.getvalue().encode(encoding))
    rows = [row for row in read(path) if isinstance(row, PromptRow)]
    assert [row.messages[0].content for row in rows] == [f"{number}{row[0]}" for number, row in enumerate(cells)]
    assert [list(row.columns.items()) for row in rows] == [
        list(zip(names, row[1:], strict=False)) for row in cells
    ]


def test_rows_are_named_by_the_line_on_which_they_begin(tmp_path: Path) -> None:
    data = 'sep=;\nid;prompt\n1;"a\n\nb"\n\n2\n;;\n3;c;d\n4;e\0f\n5;"g'
    rows = list(read(put(tmp_path, data.encode())))
    assert [row.where.rpartition(":")[2] for row in rows] == ["3", "7", "9", "10", "11"]
    assert [row.reason for row in rows if isinstance(row, BadRow)] == [
        "1 cell, and the header has 2",
        "3 cells, and the header has 2: a cell with ';' in it needs quotation marks",
        "NUL characters, as in a file that is not text",
        "not CSV: a quotation mark is never closed, so 1 line cannot be read",
    ]


def test_one_column_with_any_separator_in_its_texts(tmp_path: Path) -> None:
    (row, other) = read(put(tmp_path, b'prompt\na; b | c\n"d, e"\n'))
    assert [each.messages[0].content for each in (row, other) if isinstance(each, PromptRow)] == [
        "a; b | c",
        "d, e",
    ]


def test_a_packed_table_that_is_cut_off_keeps_what_could_be_read(tmp_path: Path) -> None:
    table = "id;prompt\n" + "".join(f"{n};prompt {n**7}\n" for n in range(3_000))
    *rows, last = read(put(tmp_path, gzip.compress(table.encode())[:-3_000], "p.csv.gz"))
    assert len(rows) > 1_000
    assert isinstance(last, BadRow)
    assert "cannot be read from here on" in last.reason


@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_lines_end_as_they_do_anywhere(tmp_path: Path, suffix: str, end: str, encoding: str) -> None:
    texts = ["Käse", "中文 \u2028 \x85", "c"]
    written = [json.dumps({"prompt": text}, ensure_ascii=False) if suffix == "jsonl" else text for text in texts]
    rows = read(put(tmp_path, end.join([*written, ""]).encode(encoding), f"p.{suffix}"))
    found = [(row.messages[0].content, row.where.rpartition(":")[2]) for row in rows if isinstance(row, PromptRow)]
    assert found == list(zip(texts, "123", strict=True))


OBJECTS = [{"id": 1, "prompt": "Name a tea."}, {"id": 2, "prompt": "Name a cup.", "x": {"y": ["z"]}}]


@pytest.mark.parametrize(
    "data",
    [
        json.dumps(OBJECTS),
        json.dumps(OBJECTS, indent=2),
        "\n\n" + json.dumps(OBJECTS, indent=1).replace("\n", "\r\n"),
        "\n".join(json.dumps(each, indent=2) for each in OBJECTS),
        "".join(json.dumps(each, indent=2) for each in OBJECTS),
        "\ufeff{\n" + json.dumps(OBJECTS[0])[1:] + "\n" + json.dumps(OBJECTS[1]),
    ],
)
@pytest.mark.parametrize("place", ["file", "standard input"])
def test_json_that_is_not_one_object_a_line(
    tmp_path: Path, data: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path: Path | str = put(tmp_path, data.encode(), "p.jsonl")
    if place == "standard input":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data.encode()))))
        path = "-"
    rows = [row for row in read(path) if isinstance(row, PromptRow)]
    assert [(row.id, row.messages[0].content) for row in rows] == [("1", "Name a tea."), ("2", "Name a cup.")]
    assert rows[1].columns == {"x": {"y": ["z"]}}


def test_a_line_that_is_a_chat_is_a_prompt(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    rows = list(read(put(tmp_path, f"{json.dumps(chat)}\n{json.dumps(chat)}\n".encode(), "p.jsonl")))
    assert [len(row.messages) for row in rows if isinstance(row, PromptRow)] == [2, 2]


def test_json_over_many_lines_is_bounded(tmp_path: Path) -> None:
    path = put(tmp_path, b"[\n" + b'"' + b"x" * 64 * 2**20 + b'"\n]', "p.jsonl")
    with pytest.raises(UsageError, match="more than 64 MiB: write each object on one line"):
        read(path)
