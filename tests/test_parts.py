from __future__ import annotations

import csv
import datetime
import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import polars
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken import MissingExtraError, OutputError, UsageError
from outspoken.batch import output_formats as module
from outspoken.batch.output import Output, Overwrite
from outspoken.batch.output_formats import COLUMNS
from outspoken.batch.sources import PromptRow, read

WORLD = ["你好，世界", "日本語テキスト", "مرحبا بالعالم", "שלום", "👩‍👩‍👧‍👦🎉", 'a\u2028b\x85"\\\n\t', "\x00"]


def columns(texts: list[str], **other: list[Any]) -> dict[str, list[Any]]:
    """A part's own columns, with one response for each text."""
    count = len(texts)
    usual: dict[str, list[Any]] = {
        "prompt_id": [f"p{at}" for at in range(count)],
        "prompt": ["问题？"] * count,
        "text": texts,
        "stated": [None if at % 2 else 0.25 for at in range(count)],
        "probability": [1 / 3] * count,
        "method": ["vs-standard"] * count,
        "template": ["standard"] * count,
        "model": ["replay/x"] * count,
        "k": [5] * count,
        **{name: [None] * count for name in ("tau", "words", "temperature", "top_p", "settings")},
        "rank": list(range(count)),
        "call": [0] * count,
        "request_key": ["k"] * count,
        "repairs": [["fence", "引号"] if at % 2 else [] for at in range(count)],
        "value": [None] * count,
    }
    return {**usual, **other}


@pytest.fixture
def claimed(tmp_path: Path) -> Iterator[Any]:
    """Outputs in a folder of their own, claimed, and released in the end."""
    held: list[Output] = []

    def claim(name: str, *, own: bool = False, overwrite: Overwrite = False) -> Output:
        output = Output(f"{tmp_path}/{name}")
        output.claim(overwrite=overwrite, conflict=lambda: "" if own else "was not written by this command")
        held.append(output)
        return output

    yield claim
    for output in held:
        output.release()


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def merged(output: Output, *carried: dict[str, list[Any]]) -> Any:
    """The table that comes of parts with these carried columns, one row for each of their values."""
    for number, part in enumerate(carried):
        output.write(number, columns(["t"] * len(next(iter(part.values())))), part)
    output.assemble(range(len(carried)), finished=True)
    return pyarrow.parquet.read_table(output.path)


@pytest.mark.parametrize("name", ["out.parquet", "OUT.PARQUET", "out.jsonl", "out.ndjson"])
def test_parts_become_one_file_that_others_read(tmp_path: Path, claimed: Any, name: str) -> None:
    output = claimed(name)
    assert output.parts == tmp_path / f"{name}.parts"
    carried = {"x": [1, 2, 3], "目录": [{"k": ["v", "词"]}] * 3, "text": ["mine", "مي", None]}
    for number, texts in ((1, WORLD[3:6]), (0, WORLD[:3])):
        size = output.write(number, columns(texts), carried)
        assert size == output.size(number) == (output.parts / f"part-{number:06d}.{output.format}").stat().st_size
    assert output.size(2) is None
    output.assemble([0, 1], finished=True)
    output.release()
    assert names(tmp_path) == [name]
    frame = polars.read_parquet(output.path) if output.format == "parquet" else polars.read_ndjson(output.path)
    assert frame.columns == [*COLUMNS, "x", "目录", "input_text"]
    assert frame["text"].to_list() == WORLD[:6]
    assert frame["stated"].to_list() == [0.25, None, 0.25] * 2
    assert frame["repairs"].to_list() == [[], ["fence", "引号"], []] * 2
    assert frame["rank"].to_list() == [0, 1, 2] * 2
    assert frame["input_text"].to_list() == carried["text"] * 2
    assert frame["目录"].to_list() == carried["目录"] * 2
    if output.format == "parquet":
        assert pyarrow.parquet.read_table(output.path).to_pylist() == frame.to_dicts()


@pytest.mark.parametrize("name", ["out.csv", "OUT.TSV"])
def test_tables_of_separated_values_that_others_read(tmp_path: Path, claimed: Any, name: str) -> None:
    output = claimed(name)
    texts = ["=1+1", 'a,b\t"c"', "line\nline\r\nline\rend", " blanks ", "0012", *WORLD[:6]]
    first = {"n": [1.5, *[2] * 4], "目录": [{"k": ["v", "词"]}] * 5, "text": ["mine", None, "x;y", "", "-"]}
    output.write(0, columns(texts[:5]), first)
    output.write(1, columns(texts[5:]), {"more": [True, *["x"] * 5], "n": [2**70, *[None] * 5]})
    output.write(2, columns([]), {})
    assert [path.suffix for path in output.parts.glob("part-*")] == [".jsonl"] * 3
    output.assemble([0, 1, 2], finished=True)
    output.release()
    assert names(tmp_path) == [name]
    separator = "," if name.endswith("csv") else "\t"
    with output.path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter=separator))
    assert list(rows[0]) == [*COLUMNS, "n", "目录", "input_text", "more"]
    assert [row["text"] for row in rows] == texts
    assert [row["stated"] for row in rows] == [["0.25", ""][at % 2] for at in [*range(5), *range(6)]]
    assert [json.loads(row["repairs"]) for row in rows[:2]] == [[], ["fence", "引号"]]
    assert [row["n"] for row in rows[:6]] == ["1.5", "2", "2", "2", "2", str(2**70)]
    assert [row["more"] for row in rows[4:7]] == ["", "true", "x"]
    assert json.loads(rows[0]["目录"]) == first["目录"][0]
    frame = polars.read_csv(output.path, separator=separator, schema_overrides={"n": polars.String})
    assert frame["text"].to_list() == texts
    assert frame["probability"].dtype == polars.Float64
    table = pandas.read_csv(output.path, sep=separator, dtype={"text": str, "n": str})
    assert table["text"].to_list() == texts
    assert table["rank"].dtype == "int64"
    assert [
        row.columns["text"] for row in read(output.path, id_column="request_key") if isinstance(row, PromptRow)
    ] == texts[:1]
    assert [row.columns["text"] for row in read(output.path) if isinstance(row, PromptRow)] == texts


def test_a_table_without_rows_has_its_columns(claimed: Any) -> None:
    output = claimed("out.csv")
    output.assemble([], finished=True)
    assert output.path.read_text() == ",".join(COLUMNS) + "\n"


def test_json_lines_are_readable_text_and_keep_what_was_nested(claimed: Any) -> None:
    output = claimed("o.jsonl")
    moment = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)
    odd = [1, "a", None, {"k": [1, {"é": None}]}, True, 0.1, 2**70]
    carried = {
        "odd": odd,
        "flag": [True, False, None, True, False, True, False],
        "100%s": [float("nan"), 1.5, float("inf"), None, -0.0, 1e300, 5e-324],
        "deep": [[float("nan"), "x"], [], {"a": float("-inf")}, (), "s", 1, None],
        "when": [moment, moment.date(), moment.time(), Decimal("1.10"), b"\x00\xff", None, 1],
    }
    output.write(0, columns(WORLD), carried)
    output.assemble([0], finished=True)
    written = output.path.read_text(encoding="utf-8")
    assert "你好，世界" in written
    rows = [json.loads(line, parse_constant=pytest.fail) for line in written.split("\n")[:-1]]
    assert [row["text"] for row in rows] == WORLD
    assert [row["odd"] for row in rows] == odd
    assert [row["flag"] for row in rows] == carried["flag"]
    assert [row["100%s"] for row in rows] == [None, 1.5, None, None, -0.0, 1e300, 5e-324]
    assert [row["deep"] for row in rows] == [[None, "x"], [], {"a": None}, [], "s", 1, None]
    assert [row["when"] for row in rows] == [
        "2026-01-02T03:04:00+00:00",
        "2026-01-02",
        "03:04:00",
        "1.10",
        "AP8=",
        None,
        1,
    ]


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl"])
def test_no_rows_and_no_parts(claimed: Any, name: str) -> None:
    output = claimed(name)
    output.write(0, columns([]), {"x": []})
    output.assemble([0], finished=False)
    assert _count(output.path) == 0
    output.assemble([], finished=True)
    assert _count(output.path) == 0
    if output.format == "parquet":
        assert pyarrow.parquet.read_schema(output.path).names == list(COLUMNS)


def _count(path: Path) -> int:
    if path.suffix == ".parquet":
        return int(pyarrow.parquet.read_metadata(path).num_rows)
    return path.read_bytes().count(b"\n")


def test_own_columns_have_the_same_types_whatever_stands_in_them(claimed: Any) -> None:
    output = claimed("o.parquet")
    output.write(0, columns(["t"], stated=[None], value=[None], repairs=[[]]), {})
    output.write(1, columns(["t"], stated=[1], value=['{"a": 1}'], repairs=[["r"]]), {})
    one, other = (pyarrow.parquet.read_schema(output.parts / f"part-00000{at}.parquet") for at in (0, 1))
    assert one == other
    assert [str(field.type).replace("element", "item") for field in one] == [
        kind.replace("list<", "list<item: ") for kind in COLUMNS.values()
    ]


@pytest.mark.parametrize(
    ("carried", "kind", "values"),
    [
        ([[1], [2.5]], "double", [1, 2.5]),
        ([[None], [3], [None]], "int64", [None, 3, None]),
        ([["词"], [None]], "string", ["词", None]),
        ([[None], [None]], "null", [None, None]),
        ([[[]], [["a"]]], "list<", [[], ["a"]]),
        ([[{"a": 1}], [{"b": "x", "a": 0.5}]], "struct<", [{"a": 1, "b": None}, {"a": 0.5, "b": "x"}]),
        ([[1], ["a"]], "string", ["1", '"a"']),
        ([["a"], [1, "b"]], "string", ['"a"', "1", '"b"']),
        ([[True], [1]], "string", ["true", "1"]),
        ([[{"a": "词"}], ["x"]], "string", ['{"a": "词"}', '"x"']),
        ([[{"a": 1}], [{"a": "x"}]], "string", ['{"a": 1}', '{"a": "x"}']),
        ([[2**60 + 1], [0.5]], "string", [str(2**60 + 1), "0.5"]),
        ([[2**60 + 1, 0.5]], "string", [str(2**60 + 1), "0.5"]),
        ([[2**70, None]], "string", [str(2**70), None]),
        ([[{}], [{}]], "string", ["{}", "{}"]),
        ([[{"a": {}}], [{"a": {"b": 1}}]], "string", ['{"a": {}}', '{"a": {"b": 1}}']),
        ([[float("nan"), "a"]], "string", ["null", '"a"']),
        ([[datetime.date(2026, 1, 2)], [datetime.date(1, 1, 1)]], "date32", [datetime.date(2026, 1, 2), datetime.date(1, 1, 1)]),
        ([[datetime.date(2026, 1, 2)], [7]], "string", ['"2026-01-02"', "7"]),
        ([[{f"k{part}-{at}": at for at in range(200)}] for part in (1, 2)], "string", [json.dumps({f"k{part}-{at}": at for at in range(200)}) for part in (1, 2)]),
    ],
)  # fmt: skip
def test_carried_types_are_unified(claimed: Any, carried: list[list[Any]], kind: str, values: list[Any]) -> None:
    table = merged(claimed("o.parquet"), *({"x": part} for part in carried))
    assert str(table.schema.field("x").type).startswith(kind)
    assert table["x"].to_pylist() == values


def test_a_mapping_with_very_many_keys_is_json_text(claimed: Any) -> None:
    counts = [{f"word{at}": at} for at in range(1_000)]
    table = merged(claimed("o.parquet"), {"x": counts})
    assert [json.loads(text) for text in table["x"].to_pylist()] == counts


def test_columns_that_some_parts_lack_are_null_there(claimed: Any) -> None:
    table = merged(claimed("o.parquet"), {"a": [1]}, {"b": ["x"]}, {"a": [2], "b": [3]})
    assert table.column_names == [*COLUMNS, "a", "b"]
    assert table["a"].to_pylist() == [1, None, 2]
    assert table["b"].to_pylist() == [None, '"x"', "3"]


def test_renamed_columns_never_fall_together(claimed: Any) -> None:
    table = merged(claimed("o.parquet"), {"text": ["a"], "input_text": ["b"], "model": ["c"]})
    assert table.select(["input_input_text", "input_text", "input_model"]).to_pylist() == [
        {"input_input_text": "a", "input_text": "b", "input_model": "c"}
    ]


def test_unfinished_parts_stay_and_go_into_the_next_file(tmp_path: Path, claimed: Any) -> None:
    output = claimed("o.parquet")
    output.write(0, columns(["a"]), {"x": [1]})
    output.assemble([0], finished=False)
    output.release()
    assert names(tmp_path) == ["o.parquet", "o.parquet.parts", "o.parquet.parts/part-000000.parquet"]
    again = claimed("o.parquet", own=True)
    assert again.size(0)
    again.write(1, columns(["b"]), {"x": ["y"]})
    again.assemble([0, 1], finished=True)
    assert polars.read_parquet(again.path).select("text", "x").rows() == [("a", "1"), ("b", '"y"')]
    assert names(tmp_path) == ["o.parquet"]


def test_small_parts_share_a_row_group_and_large_ones_do_not(
    claimed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GROUP_ROWS", 25)
    output = claimed("o.parquet")
    for number in range(7):
        output.write(number, columns([f"{number}-{at}" for at in range(10)]), {})
    output.assemble(range(7), finished=True)
    found = pyarrow.parquet.ParquetFile(output.path)
    assert max(found.metadata.row_group(at).num_rows for at in range(found.num_row_groups)) <= 25
    assert 3 <= found.num_row_groups <= 6
    assert found.read()["text"].to_pylist() == [f"{number}-{at}" for number in range(7) for at in range(10)]


@pytest.mark.parametrize("name", ["folder/", "folder", "made.parquet"])
def test_a_folder_keeps_its_parts_and_their_schemas_agree(tmp_path: Path, claimed: Any, name: str) -> None:
    if name == "made.parquet":
        (tmp_path / name).mkdir()
    output = claimed(name)
    assert output.parts == output.path == tmp_path / name.rstrip("/")
    output.write(0, columns(["a"]), {"x": [1]})
    output.write(1, columns(["b"]), {"y": ["词"]})
    output.write(2, columns(["c"]), {"x": [0.5], "y": [7]})
    output.write(3, columns(["stale"]), {})
    output.assemble([0, 1, 2], finished=True)
    output.release()
    assert names(output.path) == ["part-000000.parquet", "part-000001.parquet", "part-000002.parquet"]
    assert polars.read_parquet(output.path / "*.parquet").select("text", "x", "y").rows() == [
        ("a", 1.0, None),
        ("b", None, '"词"'),
        ("c", 0.5, "7"),
    ]
    before = [path.stat().st_ino for path in sorted(output.path.iterdir())]
    claimed(name, own=True).assemble([0, 1, 2], finished=False)
    assert [path.stat().st_ino for path in sorted(output.path.glob("part*"))] == before


@pytest.mark.parametrize("name", ["o.xlsx", "o.v2", "o.jsonl.gz", "o.csv.gz", ""])
def test_outputs_of_unknown_kinds(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.parquet"):
        Output(name)


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl", "o.csv", "folder"])
def test_what_exists_is_neither_continued_nor_replaced_unasked(tmp_path: Path, claimed: Any, name: str) -> None:
    first = claimed(name)
    first.write(0, columns(["a"]), {})
    first.assemble([0], finished=False)
    first.release()
    before = names(tmp_path)
    with pytest.raises(UsageError, match=r"exists.*: replace it with --overwrite .*, or choose another --out"):
        claimed(name)
    assert names(tmp_path) == before
    kept = claimed(name, own=True)
    assert kept.size(0) is not None
    kept.release()
    same = claimed(name, own=True, overwrite="changed")
    assert same.size(0) is not None
    same.release()
    fresh = claimed(name, overwrite="changed")
    assert fresh.size(0) is None
    assert name == "folder" or not fresh.path.exists()
    fresh.write(0, columns(["a"]), {})
    fresh.release()
    assert claimed(name, own=True, overwrite=True).size(0) is None


def test_parts_alone_count_as_existing(claimed: Any) -> None:
    first = claimed("o.jsonl")
    first.write(0, columns(["a"]), {})
    first.release()
    with pytest.raises(UsageError, match=r"o\.jsonl exists in parts"):
        claimed("o.jsonl")


@pytest.mark.parametrize("settings", [{}, {"own": True}, {"overwrite": True}])
@pytest.mark.parametrize(("name", "where"), [("folder", "folder"), ("o.jsonl", "o.jsonl.parts")])
def test_files_of_others_are_never_touched(
    tmp_path: Path, claimed: Any, name: str, where: str, settings: dict[str, bool]
) -> None:
    first = claimed(name)
    first.write(0, columns(["a"]), {})
    first.release()
    for foreign in ("thesis.docx", "part-1.parquet", "lock.txt"):
        (tmp_path / where / foreign).write_text("mine")
    before = names(tmp_path)
    with pytest.raises(UsageError, match=r"of others \(lock\.txt, part-1\.parquet, thesis\.docx\)"):
        claimed(name, **settings)
    assert names(tmp_path) == before


def test_hidden_files_do_not_matter_and_stay(tmp_path: Path, claimed: Any) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ".DS_Store").write_text("x")
    claimed("folder", overwrite=True).release()
    assert names(tmp_path) == ["folder", "folder/.DS_Store"]


def test_an_empty_folder_of_the_user_stays(tmp_path: Path, claimed: Any) -> None:
    (tmp_path / "folder").mkdir()
    claimed("folder").release()
    claimed("new").release()
    assert names(tmp_path) == ["folder"]


def test_outputs_that_cannot_be_written(tmp_path: Path, claimed: Any) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "o.jsonl.parts").write_text("x")
    (tmp_path / "l.jsonl.parts").mkdir()
    (tmp_path / "l.jsonl.parts" / "lock").write_text("this is no lock" * 100)
    (tmp_path / "d.jsonl.parts" / "lock").mkdir(parents=True)
    for name, message in (
        ("none/o.jsonl", "does not exist"),
        ("file/o.jsonl", "does not exist"),
        ("file", "is a file"),
        ("o.jsonl", "is a file"),
        ("l.jsonl", "cannot be locked: file is not a database"),
        ("d.jsonl", "cannot be locked: unable to open"),
        ("x" * 300 + ".jsonl", "cannot be written"),
    ):
        with pytest.raises(UsageError, match=message):
            claimed(name)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to")
def test_a_folder_above_that_cannot_be_written_to() -> None:
    with pytest.raises(UsageError, match=r"nothing can be written to /proc/o\.jsonl"):
        Output("/proc/o.jsonl").claim()


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Another process, with `columns` of this file at hand."""
    program = (
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_parts import *\n"
        + textwrap.dedent(code)
    )
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("name", ["o.jsonl", "folder"])
def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path: Path, claimed: Any, name: str) -> None:
    holder = child(
        """
        output = Output(sys.argv[1])
        output.claim()
        output.write(0, columns(["a"]), {})
        print("held", flush=True)
        sys.stdin.read()
        """,
        str(tmp_path / name),
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        before = names(tmp_path)
        for settings in ({}, {"own": True}, {"overwrite": True}):
            with pytest.raises(UsageError, match="another process is writing"):
                claimed(name, **settings)
        assert names(tmp_path) == before
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert claimed(name, own=True).size(0) is not None


def test_two_outputs_in_one_process_exclude_each_other_too(claimed: Any) -> None:
    first = claimed("o.jsonl")
    with pytest.raises(UsageError, match="another process"):
        claimed("o.jsonl", own=True)
    with pytest.raises(UsageError, match="another process"):
        claimed("o.jsonl", overwrite=True)
    first.release()
    first.release()
    claimed("o.jsonl").release()


def test_of_many_at_once_one_gets_the_output_at_a_time(tmp_path: Path) -> None:
    inside = threading.Semaphore(1)

    def work(_: int) -> str:
        output = Output(tmp_path / "o.jsonl")
        try:
            output.claim(conflict=str)
        except UsageError:
            return "refused"
        alone = inside.acquire(blocking=False)
        output.write(0, columns(["a"]), {})
        if alone:
            inside.release()
        output.release()
        return "alone" if alone else "together"

    with ThreadPoolExecutor(8) as pool:
        outcomes = set(pool.map(work, range(100)))
    assert "together" not in outcomes
    assert "alone" in outcomes


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl", "o.csv", "folder"])
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_kill_in_the_middle_of_a_write_leaves_no_half_part(
    tmp_path: Path, claimed: Any, name: str, moment: str
) -> None:
    killed = child(
        """
        output = Output(sys.argv[1])
        output.claim()
        output.write(0, columns(["whole"]), {})
        setattr(os, sys.argv[2], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        output.write(1, columns(["half"]), {})
        """,
        str(tmp_path / name),
        moment,
    )
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    left = [file for file in names(tmp_path) if "part-000001" in file]
    assert len(left) == 1
    assert left[0].endswith(".tmp")
    output = claimed(name, own=True)
    assert output.size(1) is None
    assert not [file for file in names(tmp_path) if file.endswith(".tmp")]
    output.assemble([0], finished=True)
    found = output.path / "part-000000.parquet" if name == "folder" else output.path
    readers = {".jsonl": polars.read_ndjson, ".csv": polars.read_csv, ".parquet": polars.read_parquet}
    frame = readers[found.suffix](found)
    assert frame["text"].to_list() == ["whole"]


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl", "o.csv"])
def test_a_kill_while_assembling_leaves_the_parts(tmp_path: Path, claimed: Any, name: str) -> None:
    killed = child(
        """
        output = Output(sys.argv[1])
        output.claim()
        output.write(0, columns(["whole"]), {})
        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        output.assemble([0], finished=True)
        """,
        str(tmp_path / name),
    )
    killed.communicate()
    assert f".{name}.tmp" in names(tmp_path)
    output = claimed(name, own=True)
    assert f".{name}.tmp" not in names(tmp_path)
    output.assemble([0], finished=True)
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl"])
def test_a_full_disk_is_said_and_leaves_what_was_there(
    tmp_path: Path, claimed: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    output = claimed(name)
    size = output.write(0, columns(["a"]), {})

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = names(tmp_path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full: make room, then give the same command again"):
        output.write(0, columns(["b"] * 50), {})
    with pytest.raises(OutputError, match="the disk is full"):
        output.assemble([0], finished=True)
    assert names(tmp_path) == before
    assert output.size(0) == size


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl"])
def test_a_write_that_the_system_refuses_halfway(tmp_path: Path, name: str) -> None:
    pytest.importorskip("resource")
    limited = child(
        """
        import resource, random
        output = Output(sys.argv[1])
        output.claim()
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        noise = random.Random(1)
        try:
            output.write(0, columns([noise.randbytes(500).hex() for _ in range(1_000)]), {})
        except OutputError as error:
            print(error)
        """,
        str(tmp_path / name),
    )
    said, _ = limited.communicate()
    assert "cannot be written: File too large" in said
    assert names(tmp_path) == [f"{name}.parts", f"{name}.parts/lock"]


@pytest.mark.parametrize("name", ["o.parquet", "o.jsonl"])
def test_half_a_surrogate_pair_is_no_file(tmp_path: Path, claimed: Any, name: str) -> None:
    output = claimed(name)
    for own, carried in (
        (columns(["\ud83d"]), {}),
        (columns(["a"]), {"x": ["\ud83d"]}),
        (columns(["a"]), {"x": [{"k": "\ud83d"}]}),
    ):
        with pytest.raises(OutputError, match="surrogates not allowed"):
            output.write(0, own, carried)
    assert names(output.parts) == ["lock"]


def test_parts_that_are_missing_or_spoilt(claimed: Any) -> None:
    output = claimed("o.parquet")
    output.write(0, columns(["a"]), {})
    with pytest.raises(OutputError, match=r"part-000001\.parquet is missing: give the same command again"):
        output.assemble([0, 1], finished=True)
    (output.parts / "part-000000.parquet").write_bytes(b"PAR1 spoilt PAR1")
    with pytest.raises(OutputError, match=r"cannot be read .*: delete it and give the same command again"):
        output.assemble([0], finished=True)
    assert not output.path.exists()
    assert output.size(0) is not None


def test_parquet_needs_its_extra_and_json_lines_do_not(
    tmp_path: Path, claimed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"install .*\[tables\]"):
        claimed("o.parquet")
    assert names(tmp_path) == []
    output = claimed("o.jsonl")
    output.write(0, columns(["a"]), {"x": [1]})
    output.assemble([0], finished=True)
    assert names(tmp_path) == ["o.jsonl"]


def test_wrong_columns_are_the_programs_fault(claimed: Any) -> None:
    output = claimed("o.jsonl")
    with pytest.raises(ValueError, match="a part has the columns"):
        output.write(0, {"text": ["a"]}, {})
    with pytest.raises(ValueError, match=r"of one length, not of \[1, 2\]"):
        output.write(0, columns(["a"]), {"x": [1, 2]})


def test_parts_may_be_written_from_many_threads(claimed: Any) -> None:
    output = claimed("o.parquet")
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda number: output.write(number, columns([f"t{number}"] * 20), {"x": [number] * 20}), range(24)
            )
        )
        pool.submit(output.assemble, range(24), finished=True).result()
        pool.submit(output.release).result()
    assert polars.read_parquet(output.path)["text"].to_list() == [
        f"t{number}" for number in range(24) for _ in range(20)
    ]


plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
anything = st.recursive(
    st.none() | st.booleans() | numbers | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=6,
)
alike = st.sampled_from(
    [st.integers(-9, 9), numbers, plain, st.lists(numbers), st.dictionaries(st.sampled_from("ab"), numbers)]
)


def pruned(value: Any) -> Any:
    """Without the nulls that records of unequal keys are filled with."""
    if isinstance(value, dict):
        return {name: pruned(entry) for name, entry in value.items() if entry is not None}
    return [pruned(entry) for entry in value] if isinstance(value, list) else value


@given(
    st.lists(
        alike.flatmap(lambda kind: st.lists(kind | st.none(), min_size=1, max_size=3))
        | st.lists(anything, min_size=1, max_size=3),
        min_size=1,
        max_size=3,
    )
)
def test_whatever_is_carried_arrives(tmp_path_factory: pytest.TempPathFactory, values: list[list[Any]]) -> None:
    folder = tmp_path_factory.mktemp("any")
    for name in ("o.jsonl", "o.parquet"):
        output = Output(folder / name)
        output.claim()
        for number, part in enumerate(values):
            output.write(number, columns(["t"] * len(part)), {"x": part})
        output.assemble(range(len(values)), finished=True)
    expected = [value for part in values for value in part]
    written = (folder / "o.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert [json.loads(line)["x"] for line in written] == expected
    column = pyarrow.parquet.read_table(folder / "o.parquet").column("x").to_pylist()
    field = pyarrow.parquet.read_schema(folder / "o.parquet").field("x")
    if field.metadata and field.metadata.get(b"outspoken") == b"json":
        column = [None if text is None else json.loads(text) for text in column]
    assert [pruned(value) for value in column] == [pruned(value) for value in expected]
