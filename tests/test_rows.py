from __future__ import annotations

import datetime
import gzip
import io
import json
import sqlite3
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken import Message, MissingExtraError, OutputError, UsageError
from outspoken.batch.sources import BadRow, PromptRow, read, rows_of

WORLD = [
    "你好，世界。讲个故事",
    "日本語の詩を書いて",
    "حدثني عن البحر",
    "ספר לי סיפור",
    "👩‍👩‍👧‍👦🎉",
    "e\u0301 = é",
    "a\u2028b\x85c",
]


def put(folder: Path, name: str, data: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def good(path: Path, **columns: str) -> list[PromptRow]:
    rows = list(read(path, **columns))
    assert all(isinstance(row, PromptRow) for row in rows), rows
    return [row for row in rows if isinstance(row, PromptRow)]


def texts(rows: list[PromptRow]) -> list[str]:
    return [row.messages[-1].content for row in rows]


def reasons(path: Path, **columns: str) -> list[str]:
    """One entry a row: why it is bad, or "" where it is good."""
    return [row.reason if isinstance(row, BadRow) else "" for row in read(path, **columns)]


def lines(*values: Any) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def table(path: Path, columns: dict[str, Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(columns), path)
    return path


def test_json_lines_become_rows(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "p.jsonl",
        lines({"id": "a", "prompt": "One?", "x": 1, "tags": ["t"]}, "Two?") + "\n \n" + lines({"prompt": "One?"}),
    )
    first, second, third = good(path)
    assert first == PromptRow(0, f"{path}:1", "a", (Message("user", "One?"),), {"x": 1, "tags": ["t"]}, 0)
    assert second == PromptRow(1, f"{path}:2", "2", (Message("user", "Two?"),), {}, 0)
    assert third == PromptRow(2, f"{path}:5", "3", (Message("user", "One?"),), {}, 1)


@pytest.mark.parametrize(
    "name",
    [
        "p.jsonl",
        "p.NDJSON",
        "p.jsonl.gz",
        "p.json",
        "p.json.gz",
        "p.csv",
        "p.tsv",
        "p.csv.gz",
        "p.parquet",
        "p.txt",
        "p.prompts",
        "p.txt.gz",
        "noend",
    ],
)
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_format_keeps_every_script(tmp_path: Path, name: str, mark: bytes) -> None:
    kind = name.lower().removesuffix(".gz").partition(".")[2]
    if kind == "parquet":
        path = table(tmp_path / name, {"prompt": WORLD})
    else:
        written = {
            "jsonl": lines(*({"prompt": text} for text in WORLD)),
            "ndjson": lines(*WORLD),
            "json": json.dumps([{"prompt": text} for text in WORLD[:3]] + WORLD[3:]),
            "csv": "prompt\r\n" + "".join(f'"{text}"\r\n' for text in WORLD),
            "tsv": "n\tprompt\n" + "".join(f"1\t{text}\n" for text in WORLD),
        }.get(kind, "\n\n".join(WORLD))
        data = mark + written.encode()
        path = put(tmp_path, name, gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    rows = good(path)
    assert texts(rows) == WORLD
    assert [row.id for row in rows] == [str(number) for number in range(1, len(WORLD) + 1)]


def test_messages_are_read_in_every_format(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "简短"}, {"role": "user", "content": "Hi"}]
    quoted = json.dumps(chat).replace('"', '""')
    for path in (
        put(tmp_path, "p.jsonl", lines({"messages": chat, "x": 1})),
        put(tmp_path, "text.jsonl", lines({"messages": json.dumps(chat), "x": 1})),
        put(tmp_path, "p.csv", f'messages,x\n"{quoted}",1\n'),
        table(tmp_path / "p.parquet", {"messages": [chat], "x": [1]}),
    ):
        (row,) = good(path)
        assert row.messages == (Message("system", "简短"), Message("user", "Hi"))
        assert list(row.columns) == ["x"]


def test_the_prompt_column_wins_over_messages_which_is_carried(tmp_path: Path) -> None:
    (row,) = good(put(tmp_path, "p.jsonl", lines({"messages": [], "prompt": "a"})))
    assert (texts([row]), row.columns) == (["a"], {"messages": []})


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = put(tmp_path, "p.csv", "id,Frage,nr\nx,Wie?,7\n")
    (row,) = good(path, prompt_column="Frage", id_column="nr")
    assert (row.id, texts([row]), row.columns) == ("7", ["Wie?"], {"id": "x"})
    (row,) = good(path, prompt_column="id")
    assert (row.id, texts([row])) == ("1", ["x"])


def test_csv_keeps_quoted_newlines_and_knows_the_line_of_each_row(tmp_path: Path) -> None:
    path = put(tmp_path, "p.csv", 'id,prompt,note\na,"line one\r\nline ""two""\n",n\n\nb,"b, b",\n')
    first, second = good(path)
    assert first == PromptRow(
        0, f"{path}:2", "a", (Message("user", 'line one\r\nline "two"\n'),), {"note": "n"}, 0
    )
    assert (second.where, second.id, texts([second]), second.columns) == (f"{path}:6", "b", ["b, b"], {"note": ""})


def test_a_csv_field_may_be_long(tmp_path: Path) -> None:
    assert texts(good(put(tmp_path, "p.csv", f"prompt\n{'x' * 200_000}\n"))) == ["x" * 200_000]


def test_bad_lines_of_json(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "p.jsonl",
        lines({"prompt": "ok", "a": 1})
        + '{"prompt": "cut\n'
        + '{"prompt": "ok"} x\n'
        + lines({"a": 1, "b": 2}, {"prompt": " \n"}, {"prompt": None}, {"prompt": 3}, 7, ["ok"], "", {})
        + '{"prompt": "\\ud83d"}\n{"prompt": "ok", "a": ["\\udc00"]}\n{"prompt": "\\ud83d\\ude00"}\n',
    )
    path.write_bytes(path.read_bytes() + b'{"prompt": "\xff"}\n{"prompt": "\xed\xa0\xbd"}\n')
    found = reasons(path)
    lone = "lone surrogate: half of a character, which UTF-8 cannot encode"
    assert found[1].startswith("not JSON: ")
    assert "column" in found[1]
    assert "line 1" not in found[1]
    assert found[2].startswith("not JSON: trailing characters")
    assert found[3:6] == ["no prompt: the columns are a, b", "empty prompt", "empty prompt"]
    assert "not int" in found[6]
    assert found[7] == "neither a JSON object nor a JSON string"
    assert found[8] == "a JSON array: a line holds one object or one text"
    assert found[9:11] == ["empty prompt", "no prompt: the columns are none"]
    assert found[11:] == [lone, lone, "", "not UTF-8", "not UTF-8"]
    assert [row.number for row in read(path)] == list(range(len(found)))
    assert list(read(path))[4].where == f"{path}:5"


def test_bad_messages(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "p.jsonl",
        lines(
            {"messages": [{"role": "user", "content": "ok"}]},
            {"messages": []},
            {"messages": [{"role": "robot", "content": "x"}]},
            {"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]},
            {"messages": [{"role": "user", "content": " "}]},
            {"messages": "plain text"},
            {"messages": '"text"'},
            {"messages": '[{"role": "user", "content": "\\ud83d"}]'},
            {"messages": ""},
        ),
    )
    found = reasons(path)
    for reason, part in zip(
        found,
        [
            "",
            "list of messages is empty",
            "'robot'",
            "end the chat with",
            "prompt is empty",
            "messages: not JSON",
            "not a JSON list",
            "messages: lone surrogate",
            "empty prompt",
        ],
        strict=True,
    ):
        assert part in reason
        assert bool(part) == bool(reason)


def test_ids_as_text_and_ids_that_cannot_be(tmp_path: Path) -> None:
    ids: list[Any] = [7, 1.5, "é", "", None, True, [1], {"a": 1}, "7"]
    path = put(tmp_path, "p.jsonl", lines(*({"id": value, "prompt": "p"} for value in ids), {"prompt": "p"}))
    rows = list(read(path))
    assert [row.id for row in rows if isinstance(row, PromptRow)] == ["7", "1.5", "é", "4", "5", "10"]
    wrong = "the id in 'id' must be text or a number"
    assert [row.reason for row in rows if isinstance(row, BadRow)] == [
        wrong,
        wrong,
        wrong,
        f"duplicate id '7', first at {path}:1",
    ]
    assert [row.occurrence for row in rows if isinstance(row, PromptRow)] == [0, 1, 2, 3, 4, 5]


def test_an_id_column_that_was_named_must_be_filled(tmp_path: Path) -> None:
    path = put(
        tmp_path, "p.jsonl", lines({"key": "a", "prompt": "p"}, {"prompt": "p"}, {"key": "", "prompt": "p"})
    )
    missing = "no id: the column 'key' is empty"
    assert reasons(path, id_column="key") == ["", missing, missing]


def test_an_id_given_clashes_with_one_that_we_would_give(tmp_path: Path) -> None:
    path = put(tmp_path, "p.jsonl", lines({"id": "2", "prompt": "a"}, {"prompt": "b"}))
    assert reasons(path) == ["", f"duplicate id '2', first at {path}:1"]


def test_a_bad_row_takes_no_id_and_no_occurrence(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "p.jsonl",
        lines(
            {"id": "a", "prompt": ""},
            {"id": "a", "prompt": "p"},
            {"id": "a", "prompt": "p"},
            {"id": "b", "prompt": "p"},
        ),
    )
    rows = list(read(path))
    assert [type(row) for row in rows] == [BadRow, PromptRow, BadRow, PromptRow]
    assert [row.occurrence for row in rows if isinstance(row, PromptRow)] == [0, 1]


def test_a_chat_is_no_repetition_of_the_text_that_spells_it(tmp_path: Path) -> None:
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    other = [{"role": "system", "content": "su"}, {"role": "user", "content": "u"}]
    spelled = json.dumps([["system", "s"], ["user", "u"]])
    path = put(
        tmp_path,
        "p.jsonl",
        lines(*({"messages": value} for value in (chat, other, [{"role": "user", "content": spelled}], chat))),
    )
    assert [row.occurrence for row in good(path)] == [0, 0, 0, 1]


def test_bad_lines_of_csv(tmp_path: Path) -> None:
    data = b'prompt,x\nok,1\n"a"b,1\nshort\n\xff,1\nlong,1,2\nok,"caf\xe9\n"\nfine,\xc3\xa9\n"open,1\nno end'
    path = put(tmp_path, "p.csv", data)
    found = reasons(path)
    assert found[0] == found[6] == ""
    assert found[1].startswith("not CSV: ")
    not_utf8 = (
        "not UTF-8: save it in a spreadsheet as CSV UTF-8, or convert it (iconv -f WINDOWS-1252 -t UTF-8 FILE)"
    )
    assert found[2:6] == [
        "1 cell, and the header has 2",
        not_utf8,
        "3 cells, and the header has 2: a cell with ',' in it needs quotation marks",
        not_utf8,
    ]
    assert found[7] == "not CSV: a quotation mark is never closed, so 2 lines cannot be read"
    assert [row.where.rpartition(":")[2] for row in read(path)] == ["2", "3", "4", "5", "6", "7", "9", "10"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("e.jsonl", b"", "holds no rows"),
        ("e.jsonl", b"\xef\xbb\xbf", "holds no rows"),
        ("e.txt", b"\n \n", "holds no rows"),
        ("e.json", b"[]", "holds no rows"),
        ("e.csv", b"", "holds no rows"),
        ("e.csv", b"prompt,x\n", "holds no rows"),
        ("e.csv", b"a;b\n1;2\n", "no column 'prompt' (or 'messages'): the columns are a, b;"),
        ("e.csv", b"prompt,prompt\n1,2\n", "several columns named prompt"),
        ("e.csv", b"pr\xf6mpt\n1\n", "is not UTF-8: save it in a spreadsheet as CSV UTF-8"),
        ("e.csv", b"pr\xf6mpt,x\n1,\xc3\xa9\n", "is not UTF-8: save it"),
        ("e.csv", b"prompt;x\nK\xe4se;1\nTee;2\n", "is not UTF-8: save it"),
        ("e.csv", b"prompt;x\nK\x81se;1\nTee;2\n", "is not UTF-8"),
        ("e.csv", b'"prompt\n', "is not CSV"),
        ("e.jsonl", b'{"a": 1, "\xc3\xa9": 2}\n', "the columns are a, \u00e9;"),
        ("e.jsonl", b'broken\n{"a": 1}\n{"prompt": "p"}\n', "the columns are a;"),
        ("e.txt", "中\n".encode("utf-16-be"), "contains NUL bytes"),
        ("e.jsonl", '{"prompt": "p"}\n'.encode("utf-16-le"), "contains NUL bytes"),
        ("e.json", '["p"]'.encode("utf-16")[:-1], "cannot read"),
        ("e.csv", "prompt\np\n".encode("utf-16")[:9], "cannot be read: 'utf-16"),
        ("e.csv", b"PK\x03\x04\x14\0\6\0\x08\0\0\0", "is a workbook of a spreadsheet"),
        ("e.xlsx", b"PK\x03\x04\x14\0\6\0\x08\0\0\0", "save the sheet as CSV"),
        ("e.jsonl", gzip.compress(b'"p"', mtime=0), "must end in .gz"),
        ("e.csv", b"PAR1", "must end in .parquet"),
        ("e.jsonl", b'[\n{"prompt": "p"},\n', "is not JSON: EOF"),
        ("e.jsonl", b'[{"x": 1}]', "the columns are x;"),
        ("e.jsonl", b"[]", "holds no rows"),
        ("e.jsonl", b'{\n  "prompt": "p"\n}\n{\n  "prompt": "q",\n}\n', "the JSON that line 4 of"),
        ("e.json", b'{"prompt": "p"}', "must contain a JSON array"),
        ("e.json", b'{"prompt": "p"}\n{"prompt": "q"}', "belongs in a .jsonl file"),
        ("e.json", b'["\xff"]', "is not UTF-8"),
        ("e.jsonl.gz", b"{}", "cannot be read: Not a gzipped file"),
        ("e.json.gz", gzip.compress(b'["p"]', mtime=0)[:-4], "cannot be read"),
        ("e.parquet", b"PAR1 no", "cannot be read as Parquet"),
    ],
)
def test_files_that_cannot_be_read_at_all(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = put(tmp_path, name, data)
    with pytest.raises(UsageError) as caught:
        list(read(path))
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    loop = tmp_path / "loop.txt"
    loop.symlink_to(loop)
    for path, message in (
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path / "none.parquet", "no such file"),
        (tmp_path, "is a folder"),
        (loop, "cannot be read: Too many levels"),
        (tmp_path / f"{'x' * 300}.csv", "cannot be read: File name too long"),
    ):
        with pytest.raises(UsageError, match=message):
            read(path)


def test_what_is_wrong_is_said_before_the_first_row_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no column 'q'"):
        read(put(tmp_path, "p.csv", "prompt\nx\n"), prompt_column="q")
    with pytest.raises(UsageError, match="no column 'key': the columns are prompt"):
        read(put(tmp_path, "p.jsonl", lines({"prompt": "x"})), id_column="key")


def test_many_columns_are_not_all_listed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"c19 and 5 more;"):
        read(put(tmp_path, "p.csv", ",".join(f"c{at}" for at in range(25)) + "\n"))


def test_a_file_that_ends_too_early_says_so_after_what_could_be_read(tmp_path: Path) -> None:
    many = lines(*({"prompt": f"prompt {at} {at**9}"} for at in range(5_000)))
    path = put(tmp_path, "p.jsonl.gz", gzip.compress(many.encode())[:20_000])
    *rows, last = read(path)
    assert len(rows) > 100
    assert all(isinstance(row, PromptRow) for row in rows)
    assert isinstance(last, BadRow)
    assert last.number == len(rows)
    assert last.where == f"{path}:{len(rows) + 1}"
    assert "cannot be read from here on" in last.reason


def test_half_a_surrogate_pair_in_a_json_array_costs_one_row(tmp_path: Path) -> None:
    path = put(
        tmp_path,
        "p.json",
        '["ok", "\\ud83d", {"prompt": "p", "x": {"\\udc00": 1}}, {"prompt": "\\ud83d\\ude00"}, 5]',
    )
    rows = list(read(path))
    assert [type(row) for row in rows] == [PromptRow, BadRow, BadRow, PromptRow, BadRow]
    assert rows[1].where == f"{path}: row 2"


def test_a_large_json_array_is_refused_with_advice(tmp_path: Path) -> None:
    path = put(tmp_path, "p.json", b'["' + b"x" * 64 * 2**20 + b'"]')
    with pytest.raises(UsageError, match="make it JSON lines"):
        read(path)


def test_parquet_types_are_carried(tmp_path: Path) -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)
    columns = {
        "prompt": ["a", None, "c"],
        "id": [10, 11, 10],
        "when": pyarrow.array([moment] * 3, pyarrow.timestamp("us", "UTC")),
        "nano": pyarrow.array([1_700_000_000_000_000_123] * 3, pyarrow.timestamp("ns")),
        "nest": [{"k": [1, 2]}] * 3,
        "kind": pyarrow.array(["x", "y", "x"]).dictionary_encode(),
    }
    path = table(tmp_path / "p.parquet", columns)
    first, second, third = read(path)
    assert isinstance(first, PromptRow)
    assert (first.id, first.where) == ("10", f"{path}: row 1")
    assert first.columns == {
        "when": moment,
        "nano": datetime.datetime(2023, 11, 14, 22, 13, 20),
        "nest": {"k": [1, 2]},
        "kind": "x",
    }
    assert second == BadRow(1, f"{path}: row 2", "empty prompt")
    assert third == BadRow(2, f"{path}: row 3", f"duplicate id '10', first at {path}: row 1")


def test_text_in_parquet_that_is_not_utf8_costs_one_row(tmp_path: Path) -> None:
    broken = pyarrow.array([b"a", b"\xff", b"c"]).view(pyarrow.binary())
    column = pyarrow.StringArray.from_buffers(3, broken.buffers()[1], broken.buffers()[2])
    assert reasons(table(tmp_path / "p.parquet", {"prompt": column})) == ["", "not UTF-8", ""]


def test_parquet_without_prompts_or_rows(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the columns are a, b;"):
        read(table(tmp_path / "p.parquet", {"a": [1], "b": [2]}))
    with pytest.raises(UsageError, match="holds no rows"):
        read(table(tmp_path / "q.parquet", {"prompt": pyarrow.array([], pyarrow.string())}))


def test_parquet_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table(tmp_path / "p.parquet", {"prompt": ["a"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"install .*\[tables\]"):
        read(path)


def test_parquet_in_many_batches(tmp_path: Path) -> None:
    rows = good(table(tmp_path / "p.parquet", {"prompt": [f"p{at}" for at in range(1_000)]}))
    assert (
        [row.where.rpartition(" ")[2] for row in rows]
        == [row.id for row in rows]
        == [str(at) for at in range(1, 1_001)]
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'\n{"prompt": "a", "id": "x"}\n{"prompt": "b"}\n', [("x", "a", 2), ("2", "b", 3)]),
        ("\ufeff词\n\n{ b\n".encode(), [("1", "词", 1), ("2", "{ b", 3)]),
        (b'"quoted"\n', [("1", '"quoted"', 1)]),
    ],
)
def test_standard_input(
    monkeypatch: pytest.MonkeyPatch, data: bytes, expected: list[tuple[str, str, int]]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))
    rows = [row for row in read("-") if isinstance(row, PromptRow)]
    assert [(row.id, row.messages[0].content, row.where) for row in rows] == [
        (id_, text, f"standard input:{at}") for id_, text, at in expected
    ]


def test_empty_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(b"\n"))))
    with pytest.raises(UsageError, match="standard input holds no rows"):
        read("-")


def test_a_reader_that_is_left_early_closes_its_file(tmp_path: Path) -> None:
    path = put(tmp_path, "p.jsonl", lines(*["p"] * 10))
    rows = read(path)
    next(rows)
    del rows  # an open file would be a ResourceWarning, hence an error


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = put(
            tmp_path,
            "p.jsonl",
            "".join(f'{{"id": "r{at}", "prompt": "{at} {"x" * 2_000}"}}\n' for at in range(count)),
        )
        tracemalloc.start()
        assert sum(isinstance(row, PromptRow) for row in read(path)) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(10)
    assert peak(4_000) < peak(400) + 2**20


def test_a_full_temporary_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(*args: Any, **settings: Any) -> sqlite3.Connection:
        base = connect(*args, **settings)
        base.execute("PRAGMA max_page_count = 20")
        return base

    monkeypatch.setattr(sqlite3, "connect", small)
    path = put(tmp_path, "p.txt", "".join(f"prompt {at}\n" for at in range(5_000)))
    with pytest.raises(OutputError, match="make room, or name another folder in SQLITE_TMPDIR"):
        list(read(path))


def test_rows_of_prompts_in_memory() -> None:
    moment = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    chat = [Message("system", "短"), Message("user", "Hi")]
    given_rows = ["One?", chat, {"prompt": "One?", "id": 7, "when": moment, ("odd", 1): b"x"}, "", 5, chat]
    rows = list(rows_of(given_rows))
    assert rows[0] == PromptRow(0, "prompts: item 1", "1", (Message("user", "One?"),), {}, 0)
    assert rows[1] == PromptRow(1, "prompts: item 2", "2", tuple(chat), {}, 0)
    assert rows[2] == PromptRow(
        2, "prompts: item 3", "7", (Message("user", "One?"),), {"when": moment, ("odd", 1): b"x"}, 1
    )
    assert [row.reason for row in rows if isinstance(row, BadRow)] == [
        "empty prompt",
        "neither a JSON object nor a JSON string",
    ]
    assert isinstance(rows[5], PromptRow)
    assert rows[5].occurrence == 1
    assert "prompt" in given_rows[2]  # the caller's own mapping is left alone


@pytest.mark.parametrize("value", ["\ud83d", [Message("user", "\ud83d")], {"prompt": "p", "x": [{"\udc00": 1}]}])
def test_half_a_surrogate_pair_in_memory(value: Any) -> None:
    (row,) = rows_of([value])
    assert isinstance(row, BadRow)
    assert row.reason.startswith("lone surrogate")


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip), min_size=1, max_size=8))
def test_any_text_comes_back_from_json_lines(tmp_path_factory: pytest.TempPathFactory, prompts: list[str]) -> None:
    path = put(
        tmp_path_factory.mktemp("any"),
        "p.jsonl",
        lines(*({"prompt": prompt, "copy": prompt} for prompt in prompts)),
    )
    rows = good(path)
    assert texts(rows) == prompts
    assert [row.columns["copy"] for row in rows] == prompts
    assert [row.occurrence for row in rows] == [prompts[:at].count(prompt) for at, prompt in enumerate(prompts)]


@given(st.binary(max_size=200))
def test_any_bytes_are_rows_or_a_usage_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for name in ("p.jsonl", "p.json", "p.csv", "p.txt", "p.jsonl.gz", "p.parquet"):
        try:
            rows = list(read(put(folder, name, b"prompt\n" + data if name == "p.csv" else data)))
        except UsageError:
            continue
        assert [row.number for row in rows] == list(range(len(rows)))


def test_draws_may_be_given(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '{"prompt": "水", "draw": 4}\n{"prompt": "水", "draw": 0}\n{"prompt": "水", "draw": -1}\n{"prompt": "水"}'
    )
    first, second, *bad = read(path, draw_column="draw")
    assert isinstance(first, PromptRow)
    assert isinstance(second, PromptRow)
    assert (first.occurrence, second.occurrence, dict(first.columns)) == (4, 0, {})
    assert [type(row) for row in bad] == [BadRow, BadRow]
