"""Pipelines against a real server: generated and kept records, and that nothing is asked or done twice."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import servers
import teacher
from aiohttp import web

pytest.importorskip("pyarrow")

from outspoken import NothingLeftError, OutputError, OutspokenError, UsageError
from outspoken.checking.maths import Checker
from outspoken.synth import pipeline as pipelines
from outspoken.synth.manifest import StepManifest
from outspoken.synth.pipeline import Pipeline
from outspoken.synth.records import count, fill, rows_in
from outspoken.synth.spec import read
from outspoken.synth.steps import generate
from outspoken.synth.steps.answer import AnswerOptions
from outspoken.synth.steps.answer import _is_wrong as is_wrong
from outspoken.synth.steps.base import in_thread

GENERATE = """
[[step]]
do = "generate"
instruction = "Make a sum about {topic}."
topics = ["蘋果", "تفاح", "trains"]
count = 40
k = 4
"""
DEDUPLICATE = '[[step]]\ndo = "deduplicate"\n'
ANSWER = '[[step]]\ndo = "answer"\nsamples = 3\nfinal = "maths"\nagreement = 0.6\n'
REPORT = '[report]\nembedder = "none"\n'


async def run(folder: Path, text: str, url: str, **options: Any) -> tuple[dict[str, Any], dict[str, bool]]:
    """The summary, and for each step whether it was done just now."""
    spec = read(f"{text}\n{REPORT}", where="mine.toml", stem="mine", folder=folder.parent)
    pipeline = Pipeline(spec.changed(model=f"{url}#teacher"), folder)
    done: dict[str, bool] = {}

    def on_step(manifest: StepManifest, just_now: bool) -> None:
        done[manifest.step] = just_now

    try:
        return (await pipeline.run(on_step=on_step, **options)).to_dict(), done
    finally:
        pipeline.close()


def records(folder: Path, name: str) -> list[dict[str, Any]]:
    return [*rows_in(folder / f"{name}.parquet")]


async def test_generates_until_there_are_enough_different_records(tmp_path: Path) -> None:
    log: list[str] = []
    async with servers.serving(teacher.handler(log.append, numbers=9)) as served:
        summary, _ = await run(tmp_path / "out", GENERATE, served.base_url)
    made = records(tmp_path / "out", "01-generate")
    again = records(tmp_path / "out", "01-generate.removed")
    assert len({row["text"] for row in made}) == len(made) == summary["records"] == 40
    assert sorted(int(row["id"]) for row in [*made, *again]) == [*range(1, 41 + len(again))]
    said = {row["id"]: row["text"] for row in made}
    assert again
    assert all(said[row["because_of"]] == row["text"] and row["reason"] == "made before" for row in again)
    figures = summary["steps"][0]["figures"]
    assert figures["requests"] == len(log)
    assert figures["rounds"] > 1
    shares = [sum(f"about {topic}" in line for line in log) for topic in ("蘋果", "تفاح", "trains")]
    assert max(shares) - min(shares) <= 1 + len(log) // 10
    keys = {row["request_key"] for row in made}
    assert len(keys) >= len(made) / 4
    everything = GENERATE + "distinct = false\n"
    async with servers.serving(teacher.handler(log.append, numbers=9)) as served:
        summary, _ = await run(tmp_path / "all", everything, served.base_url)
    assert (summary["records"], summary["steps"][0]["removed"]) == (40, {})


async def test_stops_asking_a_model_with_nothing_new(tmp_path: Path) -> None:
    async with servers.serving(teacher.handler(lambda line: None, numbers=3)) as served:
        summary, _ = await run(tmp_path / "out", GENERATE, served.base_url)
    assert "hardly anything new: 9 of 40" in summary["partly"][0]
    assert summary["records"] == 9


async def test_stops_at_once_if_the_model_returns_no_record(tmp_path: Path) -> None:
    log: list[str] = []

    async def refusing(request: web.Request) -> web.StreamResponse:
        log.append("")
        return web.json_response(teacher.completion("I am sorry, I cannot help with that."))

    async with servers.serving(refusing) as served:
        with pytest.raises(OutspokenError):
            await run(tmp_path / "out", GENERATE.replace("40", "4000"), served.base_url)
    assert len(log) <= 150


async def test_continues_and_asks_nothing_twice(tmp_path: Path) -> None:
    log: list[str] = []
    folder, text = tmp_path / "out", GENERATE + DEDUPLICATE + ANSWER
    async with servers.serving(teacher.handler(log.append)) as served:
        first, _ = await run(folder, text, served.base_url)
        asked = len(log)
        again, done = await run(folder, text, served.base_url)
        assert not any(done.values())
        assert len(log) == asked
        assert again["records"] == first["records"]
        # The figures are those of the records, whenever they were paid for.
        assert [step["figures"] for step in again["steps"]] == [step["figures"] for step in first["steps"]]
        await run(folder, text.replace("0.6", "0.9"), served.base_url)
        assert len(log) == asked
        _, done = await run(folder, text.replace("0.6", "0.9"), served.base_url, first="deduplicate")
        assert [*done.values()] == [False, True, True]
        assert len(log) == asked
        _, done = await run(folder, text.replace("0.6", "0.9"), served.base_url, only="2")
        assert done == {"02-deduplicate": True}
        assert not (folder / "03-answer.json").exists()


async def test_records_without_agreement_are_removed(tmp_path: Path) -> None:
    async with servers.serving(teacher.handler(lambda line: None)) as served:
        await run(tmp_path / "out", GENERATE + DEDUPLICATE + ANSWER, served.base_url)
    kept = records(tmp_path / "out", "03-answer")
    removed = records(tmp_path / "out", "03-answer.removed")
    assert kept
    assert removed
    for row in kept:
        one, other = teacher._SUM.search(row["text"]).groups()  # type: ignore[union-attr]
        assert row["final"] == str(int(one) + int(other))
        assert (row["agreement"], len(row["samples"])) == (1.0, 3)
    assert {row["reason"] for row in removed} == {"the teacher disagrees with itself"}


async def test_wrong_answers_are_wrong(tmp_path: Path) -> None:
    text = GENERATE.replace("40", "8") + ANSWER.replace("agreement = 0.6", "agreement = 0.1\nnegatives = 3")
    async with servers.serving(teacher.handler(lambda line: None)) as served:
        summary, _ = await run(tmp_path / "out", text, served.base_url)
    for row in records(tmp_path / "out", "02-answer"):
        assert row["negatives"]
        assert all(f"is {row['final']}." not in negative for negative in row["negatives"])
    assert summary["steps"][1]["figures"]["negatives"] >= 8


@pytest.mark.parametrize(("answer", "wrong"), [("x = 5", False), ("5.0", False), ("x = 6", True), ("6", True)])
async def test_the_right_answer_in_another_form_is_not_wrong(answer: str, wrong: bool) -> None:
    options = AnswerOptions(final="maths", negatives=1)
    async with Checker() as checker:
        assert await is_wrong(options, f"So \\boxed{{{answer}}}", "5", checker) is wrong


async def test_an_empty_result_names_the_step(tmp_path: Path) -> None:
    text = GENERATE.replace("40", "8") + ANSWER
    async with servers.serving(teacher.handler(lambda line: None, certain=-1)) as served:
        with pytest.raises(NothingLeftError, match="02-answer kept 0 of") as caught:
            await run(tmp_path / "out", text, served.base_url)
    assert "the teacher disagrees with itself" in str(caught.value)
    assert count(tmp_path / "out" / "01-generate.parquet") == 8
    assert (tmp_path / "out" / "report.html").is_file()


async def test_a_budget_ends_the_step_and_replies_are_kept(tmp_path: Path) -> None:
    text = GENERATE + "budget_tokens = 200\nmax_tokens = 20\nconcurrency = 1\n" + DEDUPLICATE
    async with servers.serving(teacher.handler(lambda line: None)) as served:
        summary, _ = await run(tmp_path / "out", text, served.base_url)
        assert 0 < summary["records"] < 40
        assert "01-generate" in summary["partly"][0]
        more, done = await run(tmp_path / "out", text.replace("200", "90000"), served.base_url)
    assert done["01-generate"]
    assert more["steps"][0]["figures"]["distinct"] == 40


async def test_a_custom_step(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def short(records):\n"
        "    for record in records:\n"
        "        if int(record['id']) % 2:\n"
        "            yield {**record, 'length': len(record['text'])}\n"
        "    yield {'text': 'one more', 'length': 8}\n"
    )
    text = GENERATE.replace("40", "10") + '[[step]]\ndo = "own.py:short"\n' + DEDUPLICATE
    async with servers.serving(teacher.handler(lambda line: None)) as served:
        summary, _ = await run(tmp_path / "out", text, served.base_url)
        made = records(tmp_path / "out", "02-short")
        assert made[-1]["id"] == "02-short-1"
        assert all(row["length"] == len(row["text"]) for row in made)
        assert summary["steps"][1]["removed"] == {"left out by the function": 5}
        (tmp_path / "own.py").write_text("def short(records):\n    return 1 / 0\n")
        with pytest.raises(UsageError, match="ZeroDivisionError"):
            await run(tmp_path / "out", text, served.base_url)
    assert count(tmp_path / "out" / "01-generate.parquet") == 10


async def test_starts_from_the_users_records(tmp_path: Path) -> None:
    lines = [json.dumps({"question": text, "n": 1}, ensure_ascii=False) for text in ("水", "水 ", "火", "🔥")]
    (tmp_path / "mine.jsonl").write_text("\n".join([*lines, "{broken"]), encoding="utf-8")
    text = f'input = "mine.jsonl"\ntext = "question"\n{DEDUPLICATE}'
    summary, _ = await run(tmp_path / "out", text, "http://127.0.0.1:1/v1")
    assert summary["records"] == 3
    assert "mine.jsonl:5" in summary["warnings"][0]
    (row, *_) = records(tmp_path / "out", "01-deduplicate")
    assert (row["id"], row["text"], json.loads(row["value"])) == ("1", "水", {"question": "水", "n": 1})


async def test_cancelling_waits_for_the_thread_that_reads_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.jsonl").write_text('{"text": "水"}')
    began, ended = threading.Event(), threading.Event()

    def reading(source: Path, text: str, out: Path, check: Callable[[], None]) -> None:
        began.set()
        try:
            while True:
                check()
        finally:
            ended.set()

    monkeypatch.setattr(pipelines, "import_records", reading)
    text = f'input = "mine.jsonl"\n{DEDUPLICATE}'
    task = asyncio.create_task(run(tmp_path / "out", text, "http://127.0.0.1:1/v1"))
    while not began.is_set():
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_invalid_input(tmp_path: Path) -> None:
    text, url = f'input = "mine.jsonl"\n{DEDUPLICATE}', "http://127.0.0.1:1/v1"
    with pytest.raises(UsageError, match=r"mine\.jsonl"):
        await run(tmp_path / "out", text, url)
    (tmp_path / "mine.jsonl").write_text('{"question": "?"}')
    with pytest.raises(UsageError, match="has no column 'text': the columns are"):
        await run(tmp_path / "out", text, url)


async def test_a_folder_with_other_content_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds something else"):
        await run(tmp_path, GENERATE, "http://127.0.0.1:1/v1")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    spec = read(GENERATE, where="mine.toml", stem="mine")
    held = Pipeline(spec, tmp_path / "out")
    with pytest.raises(UsageError, match="another process is writing"):
        Pipeline(spec, tmp_path / "out")
    held.close()
    other = read(GENERATE, where="other.toml", stem="other")
    with pytest.raises(UsageError, match="holds the pipeline mine"):
        Pipeline(other, tmp_path / "out")


async def test_too_little_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with servers.serving(teacher.handler(lambda line: None)) as served:
        await run(tmp_path / "out", GENERATE.replace("40", "8"), served.base_url)
        monkeypatch.setattr(pipelines, "_ROOM", 2**60)
        with pytest.raises(OutputError, match="make room, then give the same command again"):
            await run(tmp_path / "out", GENERATE.replace("40", "8") + DEDUPLICATE, served.base_url)
    assert count(tmp_path / "out" / "01-generate.parquet") == 8


async def test_a_server_that_fails_keeps_the_earlier_steps(tmp_path: Path) -> None:
    folder, text = tmp_path / "out", GENERATE.replace("40", "8")
    async with servers.serving(teacher.handler(lambda line: None)) as served:
        await run(folder, text, served.base_url)
        url = served.base_url
    more = text + ANSWER + 'model = "http://127.0.0.1:1/v1#m"\nattempts = 1\n'
    with pytest.raises(OutspokenError):
        await run(folder, more, url)
    assert count(folder / "01-generate.parquet") == 8
    assert not (folder / "02-answer.json").exists()


async def test_one_budget_for_all_rounds_of_a_step(tmp_path: Path) -> None:
    text = GENERATE + "avoid = 2\nbudget_tokens = 240\nmax_tokens = 20\nconcurrency = 1\n"
    log: list[str] = []
    async with servers.serving(teacher.handler(log.append)) as served:
        for _ in range(3):  # a budget is the step's, however often it is begun again
            summary, _ = await run(tmp_path / "out", text, served.base_url)
    figures = summary["steps"][0]["figures"]
    assert figures["tokens"] == 30 * len(log) <= 240
    assert figures["rounds"] > 1
    assert "the budget of" in summary["partly"][0]


async def test_failed_requests_are_repeated(tmp_path: Path) -> None:
    folder, text, ill = tmp_path / "out", GENERATE.replace("40", "12") + ANSWER + "attempts = 1\n", True
    log: list[str] = []
    handler = teacher.handler(
        log.append, certain=1000, fails=lambda said: ill and "Make" not in said and " 1" in said
    )
    async with servers.serving(handler) as served:
        summary, _ = await run(folder, text, served.base_url)
        answered = summary["records"]
        assert 0 < answered < 12
        assert "the same command tries again" in summary["partly"][0]
        assert summary["steps"][1]["removed"] == {"not answered yet": 12 - answered}
        ill, asked = False, len(log)
        summary, done = await run(folder, text, served.base_url)
    assert (summary["records"], summary["partly"]) == (12, [])
    assert done == {"01-generate": False, "02-answer": True}
    # Some of a record's three answers may have come before.
    assert 12 - answered <= len(log) - asked <= 3 * (12 - answered)


async def test_answers_belong_to_their_records_whatever_the_ids(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def made(records):\n    for r in records:\n"
        "        yield {**r, 'id': '7' if r['id'] == '2' else 'é ' + r['id']}\n",
        encoding="utf-8",
    )
    text = GENERATE.replace("40", "10") + '[[step]]\ndo = "own.py:made"\n' + ANSWER
    async with servers.serving(teacher.handler(lambda line: None, certain=1000)) as served:
        await run(tmp_path / "out", text, served.base_url)
    kept = records(tmp_path / "out", "03-answer")
    assert len(kept) == 10
    for row in kept:
        assert row["final"] == str(sum(int(term) for term in teacher._SUM.search(row["text"]).groups()))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("for r in records: yield {**r, 'id': ''}", "an id is a text, and not empty"),
        ("return 5", "not a list or an iterator"),
        ("raise SystemExit(7)", "sys.exit(7)"),
        ("return [next(iter(()))]", "next() without a record, line 2"),
        ("for r in records: yield {**r, 'text': '\\ud800'}", "values for text that cannot form a column"),
        ("yield {'id': 'x', 'text': 'a'}; yield {'id': 'x', 'text': 'b'}", "two records with the id 'x'"),
        ("yield {'id': 'x'}", "without text"),
        ("next(records); x = 1 / 0; yield x", "division by zero, line 2"),
    ],
)
async def test_a_custom_step_with_an_invalid_result(body: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"text": "水"}\n{"text": "火"}', encoding="utf-8")
    (tmp_path / "own.py").write_text(f"def mine(records):\n    {body}\n")
    with pytest.raises(UsageError) as caught:
        await run(
            tmp_path / "out", 'input = "mine.jsonl"\n[[step]]\ndo = "own.py:mine"\n', "http://127.0.0.1:1/v1"
        )
    assert said in str(caught.value)


async def test_a_custom_step_may_return_odd_columns_and_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"text": "水"}\n{"text": "火"}', encoding="utf-8")
    (tmp_path / "beside_own.py").write_text("NAME = 'odd'\n")
    (tmp_path / "own.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nimport beside_own\n"
        "@dataclass\nclass Thing:\n    a: int = 1\n"
        "def mine(records):\n"
        "    print('on its way')\n"
        "    for at, r in enumerate(records):\n"
        "        yield {**r, beside_own.NAME: ['x', 2**70][at], 'empty': {}, 'thing': Thing().a}\n"
    )
    spec = 'input = "mine.jsonl"\n[[step]]\ndo = "own.py:mine"\n'
    await run(tmp_path / "out", spec, "http://127.0.0.1:1/v1")
    (first, second) = records(tmp_path / "out", "01-mine")
    assert (first["odd"], second["odd"], first["empty"], first["thing"]) == ('"x"', str(2**70), "{}", 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GENERATE + '[[step]]\ndo = "answer"\nprompt = "{qestion} {text}"', "unknown field in prompt: 'qestion'"),
        (GENERATE + '[[step]]\ndo = "export"', "unknown field in completion: 'answer'"),
        (
            GENERATE + '[[step]]\ndo = "answer"\n[[step]]\ndo = "export"\nformats = ["preferences"]',
            "negatives = 3",
        ),
        (GENERATE + DEDUPLICATE + 'meaning = 0.9\nembedder = "minilmm"', "did you mean 'minilm'"),
        (GENERATE + '[[step]]\ndo = "decontaminate"\nagainst = ["no.jsonl"]', "step 2 (decontaminate)"),
        (GENERATE + '[[step]]\ndo = "answer"\ntemperature = "hot"', "step 2 (answer): temperature must be"),
        (GENERATE.replace("topics =", "# ") + 'topics_file = "empty.txt"', "topics_file: "),
    ],
)
async def test_problems_of_later_steps_are_reported_before_anything_is_asked(
    text: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "empty.txt").touch()
    log: list[str] = []
    async with servers.serving(teacher.handler(log.append)) as served:
        with pytest.raises(UsageError) as caught:
            await run(tmp_path / "out", text, served.base_url)
    assert said in str(caught.value)
    assert not log


def test_braces_without_fields_stay() -> None:
    template = r'{"a": {"b": 1}} \frac{1}{\sqrt{2}} {text} {{text}} \boxed{{{text}}} {水}'
    filled = fill(template, {"text": "x {text}", "水": 3})
    assert filled == r'{"a": {"b": 1}} \frac{1}{\sqrt{2}} x {text} {text} \boxed{x {text}} 3'


async def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / ".lock").touch()  # all that a full disk let it make
    async with servers.serving(teacher.handler(lambda line: None)) as served:
        await run(folder, GENERATE.replace("40", "8") + DEDUPLICATE, served.base_url)
        notes = {"02-notes.json": "mine", "07-data.json": "{}", "08-list.json": "[1]"}
        for name, text in notes.items():
            (folder / name).write_text(text)
        await run(folder, GENERATE.replace("40", "8"), served.base_url)
    assert {name: (folder / name).read_text() for name in notes} == notes
    # A step that the spec had once is no part of the report.
    assert not (folder / "02-deduplicate.json").exists()
    assert [step["step"] for step in json.loads((folder / "report.json").read_bytes())["steps"]] == ["01-generate"]


async def test_damaged_files_are_written_again_from_the_ledger(tmp_path: Path) -> None:
    folder, text = tmp_path / "out", GENERATE.replace("40", "8") + DEDUPLICATE
    log: list[str] = []
    async with servers.serving(teacher.handler(log.append)) as served:
        await run(folder, text, served.base_url)
        before, asked = records(folder, "01-generate"), len(log)
        for path in (folder / "01-generate" / "round-01.parquet", folder / "01-generate.parquet"):
            path.write_bytes(bytes(path.stat().st_size))
        (folder / "01-generate" / "round-01.json").write_text("{")
        (folder / "02-deduplicate.json").write_text("{}")
        with pytest.raises(UsageError, match="make it again with --from generate"):
            await run(folder, text, served.base_url)
        await run(folder, text, served.base_url, first="generate")
    assert records(folder, "01-generate") == before
    assert len(log) == asked


async def test_a_key_in_a_url_is_not_written(tmp_path: Path) -> None:
    async with servers.serving(teacher.handler(lambda line: None)) as served:
        text = GENERATE.replace("40", "8") + ANSWER + f'model = "{served.base_url}?key=never-to-be-seen#m"\n'
        text += '[[step]]\ndo = "export"\n'
        await run(tmp_path / "out", text, f"{served.base_url}?api_key=never-to-be-seen")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != "synth.json"]
    assert not [path.name for path in files if b"never-to-be-seen" in path.read_bytes()]


async def test_without_a_count_there_is_one_prompt_for_each_topic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "_FIRST_PROMPTS", 2)
    async with servers.serving(teacher.handler(lambda line: None)) as served:
        summary, _ = await run(tmp_path / "out", GENERATE.replace("count = 40\n", ""), served.base_url)
    assert summary["steps"][0]["figures"]["rounds"] == 2
    assert [row["topic"] for row in records(tmp_path / "out", "01-generate")].count("trains") == 4
    assert summary["records"] == 12


async def test_work_that_calls_next_in_vain_ends() -> None:
    async with asyncio.timeout(30):
        with pytest.raises(RuntimeError, match="next"):
            await in_thread(lambda _: next(iter(())))
