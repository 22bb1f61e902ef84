"""The step decontaminate: questions of real benchmarks that it finds or leaves, and invalid files."""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy", reason="extra `synth` is not installed")
pytest.importorskip("regex", reason="extra `synth` is not installed")
pa = pytest.importorskip("pyarrow", reason="extra `synth` is not installed")
pq = pytest.importorskip("pyarrow.parquet")

from outspoken.errors import UnknownNameError, UsageError  # noqa: E402
from outspoken.measure.embedding import Embedder  # noqa: E402
from outspoken.measure.tokenization import words  # noqa: E402
from outspoken.models.base import Embeddings  # noqa: E402
from outspoken.models.local import Local  # noqa: E402
from outspoken.synth.steps import decontaminate  # noqa: E402
from outspoken.synth.steps.base import Step  # noqa: E402
from outspoken.synth.steps.decontaminate import (  # noqa: E402
    BY_MEANING,
    BY_WORDS,
    DecontaminateOptions,
    NgramIndex,
    read_questions,
    run,
)

SHARED = Path(__file__).parents[2] / "shared" / "data"
DUCKS = "Janet’s ducks lay 16 eggs a day. She eats three for breakfast and sells the rest. How many does she sell?"
CHINESE = "小明有十六个苹果，他吃了三个，又给了朋友四个，请问小明现在还剩下多少个苹果？"
ARABIC = "لدى سارة ستة عشر كتابا وأعطت ثلاثة منها لأخيها وأربعة لصديقتها فكم كتابا بقي معها الآن؟"
EMOJI = "🦆 🥚 🥚 🍳 🐓 🧺 🛒 🏠 🌻 🚜 how many?"
QUESTIONS = [DUCKS, CHINESE, ARABIC, EMOJI, "Compute $\\sin 60^\\circ$."]


def step_of(folder: Path, texts: Sequence[str | None], **columns: Any) -> Step:
    source = folder / "01-generate.parquet"
    table = {"id": [f"r{number}" for number in range(len(texts))], "text": pa.array(texts, pa.string()), **columns}
    pq.write_table(pa.table(table), source)
    return Step("02-decontaminate", folder, source)


def lines(path: Path, rows: Sequence[Any]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def bench(tmp_path: Path) -> str:
    return lines(tmp_path / "bench.jsonl", [{"question": text, "answer": "#### 9"} for text in QUESTIONS])


async def ids_left(options: DecontaminateOptions, step: Step) -> list[str]:
    await run(options, step)
    return pq.read_table(step.out)["id"].to_pylist()


def shared(name: str) -> str:
    if not (SHARED / name).is_file():
        pytest.skip(f"the shared data is absent: {name}")
    return str(SHARED / name)


async def test_copies_in_any_script_are_removed(tmp_path: Path, bench: str) -> None:
    texts = [
        "Write a story about a duck that sells eggs on a market far away from here.",
        "Solve this: " + DUCKS.upper().replace("’", "'"),
        "请回答：" + CHINESE[:-4] + "？",
        "小明有十六本书，小红有三支铅笔，请问他们一共有多少件文具？",
        "سؤال: " + ARABIC,
        EMOJI,
        "compute sin 60 circ",
        "Please compute sin 60 circ for me.",
        None,
        "",
    ]
    step = step_of(tmp_path, texts, topic=[f"t{number}" for number in range(10)])
    outcome = await run(DecontaminateOptions(against=(bench,)), step)
    kept, gone = pq.read_table(step.out).to_pylist(), pq.read_table(step.removed).to_pylist()
    assert [row["id"] for row in kept] == ["r0", "r3", "r7", "r8", "r9"]
    assert kept[1] == {"id": "r3", "text": texts[3], "topic": "t3"}
    assert [(row["id"], row["because_of"]) for row in gone] == [
        ("r1", "bench.jsonl:1"),
        ("r2", "bench.jsonl:2"),
        ("r4", "bench.jsonl:3"),
        ("r5", "bench.jsonl:4"),
        ("r6", "bench.jsonl:5"),
    ]
    assert gone[0]["shared"] == " ".join(words(DUCKS))
    assert gone[1]["shared"] == "小明有十六个苹果他吃了三个又给了朋友四个请问小明现在还剩下多少"
    assert [row["similarity"] for row in gone] == [1, pytest.approx(24 / 27), 1, 1, 1]
    assert outcome.removed == {BY_WORDS: 5}
    assert outcome.kept == 5
    assert outcome.figures == {
        "questions": 5,
        "questions_met": 5,
        "benchmarks": [{"file": "bench.jsonl", "questions": 5, "removed": 5}],
    }
    assert outcome.warnings == (
        "1 of 5 questions have fewer than 8 words: of these only exact copies are recognised by their words",
    )


async def test_nothing_removed_nothing_kept_and_no_records(tmp_path: Path, bench: str) -> None:
    options = DecontaminateOptions(against=(bench,))
    step = step_of(tmp_path, ["a text of its own"])
    assert await ids_left(options, step) == ["r0"]
    assert not step.removed.exists()
    assert await ids_left(options, step_of(tmp_path, QUESTIONS)) == []
    empty = step_of(tmp_path, [])
    outcome = await run(options, empty)
    assert (outcome.kept, outcome.removed) == (0, {})
    assert pq.read_schema(empty.out).names == ["id", "text"]


@pytest.mark.parametrize(("numbers", "left"), [(True, ["r0"]), (False, [])])
async def test_other_numbers(tmp_path: Path, numbers: bool, left: list[str]) -> None:
    """There are fewer words between the numbers than in an n-gram."""
    asked = "Tom buys 12 apples at $3 each, gets 4 more, and eats 2: what did the 9 days cost him?"
    other = re.sub(r"\d+", lambda number: str(int(number.group()) + 5), asked)
    options = DecontaminateOptions(against=(lines(tmp_path / "b.jsonl", [{"prompt": asked}]),), numbers=numbers)
    assert await ids_left(options, step_of(tmp_path, [other])) == left


async def test_any_shared_run_and_longer_runs(tmp_path: Path) -> None:
    asked = " ".join(f"word{number}" for number in range(100))
    record = " ".join(
        [*(f"word{number}" for number in range(40, 50)), *(f"other{number}" for number in range(90))]
    )
    bench = lines(tmp_path / "b.jsonl", [{"text": asked}])
    step = step_of(tmp_path, [record])
    for settings, left in (
        ({}, ["r0"]),
        ({"overlap": 0.0}, []),
        ({"overlap": 3 / 93}, []),
        ({"overlap": 0.04}, ["r0"]),
        ({"overlap": 0.0, "ngram": 10}, []),
        ({"overlap": 0.0, "ngram": 11}, ["r0"]),
    ):
        assert await ids_left(DecontaminateOptions(against=(bench,), **settings), step) == left, settings


def test_phrases_of_a_benchmark_do_not_count() -> None:
    phrase = "answer this question of the examination with one letter and nothing else please"
    questions = [f"{phrase} what is the thing number {number} of all these many things" for number in range(11)]
    phrase_alone = NgramIndex(questions, 8).find(f"{phrase} who wrote faust", 0.3)
    assert phrase_alone is None
    assert NgramIndex(questions[:10], 8).find(f"{phrase} who wrote faust", 0.3) is not None
    found = NgramIndex(questions * 3, 8).find(f"please {questions[7]}", 0.3)
    assert found is not None
    assert found.question == 7


@given(st.lists(st.text("ab 茶🍵", max_size=40), min_size=1, max_size=8), st.text("ab 茶🍵", max_size=40))
def test_shares_are_those_of_brute_force(questions: list[str], text: str) -> None:
    def runs(value: str) -> set[tuple[str, ...]]:
        terms = words(value)
        return {tuple(terms[at : at + 2]) for at in range(len(terms) - 1)}

    mine = runs(text)
    shares = [
        1.0
        if words(each) and words(each) == words(text)
        else len(mine & runs(each)) / max(1, min(len(mine), len(runs(each))))
        for each in questions
    ]
    found = NgramIndex(questions, 2).find(text, 0.0)
    assert (found.share if found else 0) == max(shares)
    if found:
        assert shares[found.question] == found.share
        assert found.passage


EDITS: dict[str, tuple[Callable[[str, random.Random], str], float]] = {
    "copied": (lambda text, _: text.upper(), 1.0),
    "in other words around it": (lambda text, _: f"Think step by step, my dear. {text} Tell me now!", 0.99),
    "a word in twenty left out": (
        lambda text, rng: " ".join(w for w in text.split() if rng.random() > 0.05),
        0.94,
    ),
    "other names": (lambda text, _: re.sub(r"(?<=[a-z] )[A-Z][a-z]+|^[A-Z][a-z]+", "Zorb", text), 0.85),
}


@pytest.mark.parametrize("edit", EDITS)
def test_edited_questions_are_recognised(edit: str) -> None:
    questions = [each.text for each in read_questions([shared("gsm8k/test.jsonl"), shared("math/math.jsonl")])]
    index, rng = NgramIndex(questions, 8), random.Random(1)
    change, least = EDITS[edit]
    found = [index.find(change(text, rng), 0.3) for text in questions]
    right = sum(match is not None and match.question == number for number, match in enumerate(found))
    assert right >= least * len(questions)


def test_different_questions_are_not_confused() -> None:
    gsm8k, math = (
        [each.text for each in read_questions([shared(name)])] for name in ("gsm8k/test.jsonl", "math/math.jsonl")
    )
    whole, half = NgramIndex(gsm8k, 8), NgramIndex(gsm8k[::2], 8)
    assert [text for text in math if whole.find(text, 0.3)] == []
    assert sum(half.find(text, 0.3) is not None for text in gsm8k[1::2]) <= 4


async def test_questions_planted_in_many_records(tmp_path: Path) -> None:
    against = (shared("gsm8k/test.jsonl"), shared("math/math.jsonl"))
    questions = read_questions(against)
    rng = random.Random(2)
    texts = [" ".join(rng.choices(questions[number % 1319].text.split(), k=50)) for number in range(20_000)]
    planted = {3: 0, 8191: 700, 8192: 1318, 19_999: 1500}
    for at, number in planted.items():
        texts[at] = f"Here is a problem. {questions[number].text}"
    step = step_of(tmp_path, texts)
    outcome = await run(DecontaminateOptions(against=against), step)
    gone = pq.read_table(step.removed).to_pylist()
    assert {row["id"]: row["because_of"] for row in gone} == {
        f"r{at}": f"{'test' if number < 1319 else 'math'}.jsonl:{number % 1319 + 1}"
        for at, number in planted.items()
    }
    assert outcome.kept == 19_996
    assert (step.progress.done, step.progress.total) == (16_384, 20_000)


class Counted:
    """An embedder of two dimensions: how often `cat` occurs in a text, and a constant."""

    name, batch, parallel = "counted", 64, 1

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def identity(self) -> str:
        return "counted"

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        self.asked += texts
        return Embeddings([[2.0 * text.count("cat"), 1.0] for text in texts], tuple(range(len(texts))))

    async def aclose(self) -> None:
        pass


async def test_meaning(tmp_path: Path, bench: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted()
    monkeypatch.setattr(decontaminate, "embedder", lambda name, **_: Embedder(counted))
    bench = lines(tmp_path / "b.jsonl", [{"problem": text} for text in ("cat cat cat cat 猫", DUCKS)])
    step = step_of(tmp_path, ["a cat and a cat, cat, cat 🐈", "dog", DUCKS, "", None])
    options = DecontaminateOptions(against=(bench,), meaning=0.999)
    outcome = await run(options, step)
    gone = pq.read_table(step.removed).to_pylist()
    assert [(row["id"], row["reason"], row["because_of"]) for row in gone] == [
        ("r0", BY_MEANING, "b.jsonl:1"),
        ("r1", BY_MEANING, "b.jsonl:2"),
        ("r2", BY_WORDS, "b.jsonl:2"),
    ]
    assert gone[0]["shared"] is None
    assert gone[0]["similarity"] == pytest.approx(1)
    assert outcome.removed == {BY_MEANING: 2, BY_WORDS: 1}
    assert counted.asked.count(DUCKS) == 1  # what shares its words is not embedded
    assert any("only the beginning was embedded" in line for line in outcome.warnings)


async def test_paraphrases_by_the_default_embedder(
    tmp_path: Path, minilm: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    await minilm.load()
    (tmp_path / "models").symlink_to(minilm._file().parent)
    monkeypatch.setenv("OUTSPOKEN_CACHE", str(tmp_path))
    questions = [each.text for each in read_questions([shared("gsm8k/test.jsonl")])][:12]
    bench = lines(tmp_path / "b.jsonl", [{"question": text} for text in questions])
    texts = [
        "Every day Janet collects 16 eggs from her ducks. Three go into her breakfast and four into muffins that she "
        "bakes for friends; what is left she takes to the farmers' market, at $2 a duck egg. What are her daily "
        "takings there, in dollars?",
        "A train leaves Paris at noon at 80 km/h. When does it reach Lyon, 400 km away?",
    ]
    step = step_of(tmp_path, texts)
    assert await ids_left(DecontaminateOptions(against=(bench,)), step) == ["r0", "r1"]
    assert await ids_left(DecontaminateOptions(against=(bench,), meaning=0.85), step) == ["r1"]
    (row,) = pq.read_table(step.removed).to_pylist()
    assert row["because_of"] == "b.jsonl:1"
    assert 0.85 <= row["similarity"] < 1


# Files


def test_all_file_formats(tmp_path: Path) -> None:
    array, table, sheet, plain = (tmp_path / name for name in ("a.json", "b.parquet", "c.csv", "d.txt"))
    array.write_text(json.dumps([{"problem": "1 茶?"}, "2?"]), encoding="utf-8")
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "3?"}]
    pq.write_table(pa.table({"prompt": [chat], "data_source": ["x"]}), table)
    with sheet.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "frage"), ("1", "4\nا?"), ("2", "5?")])
    plain.write_text("6?\n\n7?\n", encoding="utf-8")
    found = [(each.text, each.where) for each in read_questions([str(array), str(table)])]
    assert found == [("1 茶?", "a.json: row 1"), ("2?", "a.json: row 2"), ("3?", "b.parquet: row 1")]
    assert [(each.text, each.where) for each in read_questions([str(sheet)], "frage")] == [
        ("4\nا?", "c.csv:2"),
        ("5?", "c.csv:4"),
    ]
    assert [each.where for each in read_questions([str(plain)])] == ["d.txt:1", "d.txt:3"]


def test_files_of_the_same_name_are_distinguished(tmp_path: Path) -> None:
    for folder in ("x/gsm8k", "x/math", "y/math"):
        (tmp_path / folder).mkdir(parents=True)
        lines(tmp_path / folder / "test.jsonl", ["1?"])
    paths = [str(tmp_path / folder / "test.jsonl") for folder in ("x/gsm8k", "x/math", "y/math", "x/math")]
    assert [each.file for each in read_questions(paths)] == [
        "gsm8k/test.jsonl",
        "x/math/test.jsonl",
        "y/math/test.jsonl",
    ]


@pytest.mark.parametrize(
    ("name", "content", "messages"),
    [
        (
            "b.jsonl",
            '{"frage": "1?", "答案": 2}',
            ["b.jsonl has no column 'question', ", "frage, 答案", 'column = "NAME"'],
        ),
        ("b.jsonl", '{"question": "1?"}\n{"question": ""}', ["b.jsonl:2: no text in the column 'question'"]),
        ("b.jsonl", '{"question": "1?"}\n{"question": 7}', ["b.jsonl:2: no text", "correct"]),
        ("b.jsonl", '{"question": "1?"}\n{"quest', ["b.jsonl:2: not JSON", "remove it"]),
        ("b.jsonl", "", ["b.jsonl holds no rows"]),
        ("b.json", '{"question": "1?"}', ["b.json must contain a JSON array"]),
        ("b.csv", "id,problems\n1,2\n", ["b.csv has no column", "id, problems"]),
        ("b.csv", "id,problem\n1\n", ["b.csv:2: 1 cell,"]),
        ("b.parquet", "no parquet", ["b.parquet cannot be read as Parquet"]),
        (".", "", ["is a folder"]),
        ("none.jsonl", None, ["no such file", "none.jsonl"]),
    ],
)
async def test_invalid_benchmark_files(
    tmp_path: Path, name: str, content: str | None, messages: list[str]
) -> None:
    path = tmp_path / name
    if content is not None and not path.is_dir():
        path.write_text(content, encoding="utf-8")
    options = DecontaminateOptions(against=(str(path),))
    step = step_of(tmp_path, ["a text"])
    with pytest.raises(UsageError) as raised:
        await run(options, step)
    assert all(part in str(raised.value) for part in messages), raised.value
    assert not step.out.exists()
    with pytest.raises(UsageError):
        options.check()


async def test_records_without_a_text(tmp_path: Path, bench: str) -> None:
    pq.write_table(pa.table({"id": ["1"], "texts": ["茶"]}), tmp_path / "01-own.parquet")
    step = Step("02-decontaminate", tmp_path, tmp_path / "01-own.parquet")
    with pytest.raises(UnknownNameError, match=r"'text': did you mean 'texts'"):
        await run(DecontaminateOptions(against=(bench,)), step)
    assert not step.out.exists()


def test_a_missing_column(tmp_path: Path, bench: str) -> None:
    with pytest.raises(UsageError, match=r"no column 'Question': the columns are question, answer; say which"):
        read_questions([bench], "Question")
    assert read_questions([bench], "answer")[0].text == "#### 9"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "against is missing"),
        ({"against": "b.jsonl"}, "list of files"),
        ({"against": ("b",), "ngram": 0}, "ngram must be a whole number from 1 to 100"),
        ({"against": ("b",), "overlap": 1.5}, "overlap must be a number from 0 to 1"),
        ({"against": ("b",), "meaning": 0.0}, "meaning must be a number above 0"),
        ({"against": ("b",), "meaning": float("nan")}, "meaning must be a number above 0"),
    ],
)
def test_invalid_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        DecontaminateOptions(**settings)


def test_an_embedder_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'minilm'"):
        DecontaminateOptions(against=("b",), meaning=0.9, embedder="minilmm")
    DecontaminateOptions(against=("b",), embedder="minilmm")
