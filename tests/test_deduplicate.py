"""The step `deduplicate`: the records it keeps and removes, the reasons, and cancelling."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="extra `synth` is not installed")
pytest.importorskip("scipy", reason="extra `synth` is not installed")
pa = pytest.importorskip("pyarrow", reason="extra `synth` is not installed")
pq = pytest.importorskip("pyarrow.parquet", reason="extra `synth` is not installed")

from outspoken.errors import UsageError  # noqa: E402
from outspoken.measure import embedding  # noqa: E402
from outspoken.models.base import Embeddings  # noqa: E402
from outspoken.synth.dedup.search import near_duplicates  # noqa: E402
from outspoken.synth.steps.base import Step, StepOutcome, StepProgress  # noqa: E402
from outspoken.synth.steps.deduplicate import DeduplicateOptions, run  # noqa: E402

TOM = "Tom has 5 apples and eats two of them in the garden of his aunt. How many are left?"
WALK = "今天天气很好，我们一起去公园散步，然后回家做晚饭，最后看一部电影吧，明天还要去学校上课"
EMOJI = "🎉 Party at noon 🎉 bring cake, bring tea ☕, bring friends from far away 😀😀"
ARABIC = "ذهبنا إلى الحديقة في الصباح الباكر ثم عدنا إلى البيت لنأكل الطعام مع الأصدقاء"


def source(folder: Path, texts: Sequence[Any], rows_a_group: int = 3, **more: Sequence[Any]) -> Path:
    path = folder / "01-generate.parquet"
    columns = {"id": [f"r{number}" for number in range(len(texts))], "text": texts, **more}
    pq.write_table(pa.table(columns), path, row_group_size=rows_a_group)
    return path


def step(path: Path, **more: Any) -> Step:
    return Step("02-deduplicate", path.parent, path, **more)


def done(
    options: DeduplicateOptions, at: Step
) -> tuple[StepOutcome, list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The outcome, the kept rows, and the removed ones by id."""
    outcome = asyncio.run(run(options, at))
    removed = pq.read_table(at.removed).to_pylist() if at.removed.exists() else []
    return outcome, pq.read_table(at.out).to_pylist(), {row["id"]: row for row in removed}


def ids(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def test_each_removed_record_names_the_kept_one_that_stands_for_it(tmp_path: Path):
    near = TOM.replace("garden", "gardens")
    texts = [
        TOM,
        WALK,
        f'"{TOM.upper()}"',
        near,
        WALK.replace("公园", "公圆"),
        EMOJI,
        near + " ",
        ARABIC,
        ARABIC + ".",
    ]
    path = source(tmp_path, texts, number=list(range(9)), value=[f'{{"n": {n}}}' for n in range(9)])
    at = step(path)
    outcome, kept, removed = done(DeduplicateOptions(near=0.8), at)
    assert ids(kept) == ["r0", "r1", "r5", "r7"]
    assert kept[1] == {"id": "r1", "text": WALK, "number": 1, "value": '{"n": 1}'}
    said = {name: (row["reason"], row["because_of"]) for name, row in removed.items()}
    assert said == {
        "r2": ("the same text", "r0"),
        "r3": ("nearly the same text", "r0"),
        "r4": ("nearly the same text", "r1"),
        # It has the same text as a removed record, and the same reason.
        "r6": ("nearly the same text", "r0"),
        "r8": ("the same text", "r7"),
    }
    assert removed["r2"]["similarity"] == removed["r8"]["similarity"] == 1
    assert 0.8 <= removed["r3"]["similarity"] == removed["r6"]["similarity"] < 1
    assert removed["r4"]["number"] == 4
    assert (outcome.kept, outcome.removed) == (4, {"the same text": 2, "nearly the same text": 3})
    assert outcome.figures["most_for_one"] == 3
    assert outcome.figures["near"]["recall_at_similarity"] >= 0.995
    assert (outcome.warnings, outcome.partly) == ((), "")


def test_stages_that_are_off(tmp_path: Path):
    texts = [TOM, TOM.replace("garden", "gardens"), TOM.lower(), WALK]
    path = source(tmp_path, texts)
    assert ids(done(DeduplicateOptions(near=0), step(path))[1]) == ["r0", "r1", "r3"]
    _, kept, removed = done(DeduplicateOptions(exact=False), step(path))
    assert ids(kept) == ["r0", "r3"]
    assert removed["r2"]["reason"] == "nearly the same text"
    assert removed["r2"]["similarity"] == 1


def test_without_removed_records_there_is_no_file_and_an_old_one_is_deleted(tmp_path: Path):
    path = source(tmp_path, [TOM, TOM, WALK])
    at = step(path)
    assert done(DeduplicateOptions(), at)[2]
    source(tmp_path, [TOM, WALK])
    outcome, kept, removed = done(DeduplicateOptions(), at)
    assert (ids(kept), removed, outcome.removed) == (["r0", "r1"], {}, {})
    assert not at.removed.exists()


def test_no_records(tmp_path: Path):
    path = tmp_path / "01-generate.parquet"
    pq.write_table(pa.table({"id": pa.array([], pa.string()), "text": pa.array([], pa.string())}), path)
    outcome, kept, _ = done(DeduplicateOptions(), step(path))
    assert (outcome.kept, kept) == (0, [])


def many(count: int) -> list[str]:
    generator = random.Random(3)
    words = ["".join(generator.choices("abcdefghijklmnopqrstuvwxyz今天気😀", k=5)) for _ in range(300)]
    texts = [" ".join(generator.choices(words, k=15)) for _ in range(count)]
    for at in range(1, count, 5):
        signs = list(texts[generator.randrange(at)])
        signs[generator.randrange(len(signs))] = "#"
        texts[at] = "".join(signs)
    return texts


@pytest.mark.parametrize("rows_a_group", [7, 100_000])
def test_a_file_gives_the_same_result_as_texts_in_memory(tmp_path: Path, rows_a_group: int):
    texts = many(5000)
    _, kept, removed = done(DeduplicateOptions(), step(source(tmp_path, texts, rows_a_group)))
    stands_for = near_duplicates(texts).tolist()
    assert ids(kept) == [f"r{at}" for at, other in enumerate(stands_for) if at == other]
    because = {f"r{at}": f"r{other}" for at, other in enumerate(stands_for) if at != other}
    assert {name: row["because_of"] for name, row in removed.items()} == because
    assert len(because) > 500


# Meaning


class Table:
    """An embedder whose vectors come from a table of angles."""

    name, batch, parallel = "table", 2, 1

    def __init__(self, degrees: dict[str, float]) -> None:
        self.degrees = degrees
        self.asked: list[str] = []

    async def identity(self) -> str:
        return self.name

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        self.asked += texts
        angles = np.radians([self.degrees[text] for text in texts])
        return Embeddings((np.stack([np.cos(angles), np.sin(angles)], axis=1) * 3).tolist())

    async def aclose(self) -> None:
        self.asked.append("(closed)")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    made = Table({})
    monkeypatch.setattr(embedding, "embedder", lambda name: embedding.Embedder(made))
    return made


def test_removing_by_meaning_always_warns(tmp_path: Path, table: Table):
    texts = ["Wie heißt du?", "你叫什么名字？", "What is your name?", "  ", "", "Что нового сегодня?"]
    table.degrees = {texts[0]: 0, texts[1]: 10, texts[2]: 30, texts[5]: 90}
    outcome, kept, removed = done(DeduplicateOptions(meaning=0.9), step(source(tmp_path, texts)))
    assert ids(kept) == ["r0", "r2", "r3", "r5"]
    assert removed["r1"]["reason"] == "the same meaning"
    assert removed["r1"]["because_of"] == "r0"
    assert removed["r1"]["similarity"] == pytest.approx(np.cos(np.radians(10)))
    assert removed["r4"]["reason"] == "the same text"
    assert outcome.figures["meaning"] == {"cosine": 0.9, "embedder": "minilm"}
    assert "a cosine of 0.9 or more removed 1: it hardly sees a negation" in outcome.warnings[0]
    assert table.asked[-1] == "(closed)"


def test_records_whose_stand_in_is_removed_are_compared_again(tmp_path: Path, table: Table):
    far, close, other = TOM.replace("5", "50"), TOM.replace("5", "7"), TOM.replace("5", "51")
    texts = ["Tom eats apples.", TOM, far, close, far.upper(), other, WALK]
    table.degrees = {texts[0]: 0, TOM: 10, far: 60, close: 12, other: 61, WALK: 180}
    _, kept, removed = done(DeduplicateOptions(near=0.85, meaning=0.9), step(source(tmp_path, texts)))
    said = {name: (row["reason"], row["because_of"]) for name, row in removed.items()}
    assert ids(kept) == ["r0", "r2", "r6"]
    assert said == {
        "r1": ("the same meaning", "r0"),
        "r3": ("the same meaning", "r0"),
        "r4": ("the same text", "r2"),
        "r5": ("the same meaning", "r2"),
    }
    table.degrees[other] = 120
    _, kept, removed = done(DeduplicateOptions(near=0.85, meaning=0.9), step(source(tmp_path, texts)))
    assert (removed["r5"]["reason"], removed["r5"]["because_of"]) == ("nearly the same text", "r2")
    assert removed["r5"]["similarity"] > 0.85
    assert ids(kept) == ["r0", "r2", "r6"]


def test_meanings_are_compared_with_all_kept_records(tmp_path: Path, table: Table):
    generator = random.Random(1)
    texts = [f"number {number}" for number in range(1500)]
    table.degrees = {text: generator.randrange(3600) / 10 for text in texts}
    options = DeduplicateOptions(near=0, meaning=0.99983)
    kept: list[str] = []
    wanted: dict[str, str] = {}
    for text in texts:
        angle = table.degrees[text]
        like = (old for old in kept if np.cos(np.radians(angle - table.degrees[old])) >= 0.99983)
        if (first := next(like, None)) is None:
            kept.append(text)
        else:
            wanted[text] = first
    _, rows, removed = done(options, step(source(tmp_path, texts, 1000)))
    assert [row["text"] for row in rows] == kept
    assert {row["text"]: f"number {row['because_of'][1:]}" for row in removed.values()} == wanted
    assert len(wanted) > 500


# Errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"near": 0.3}, r"from 0\.5 to 1"),
        ({"near": 90}, r"from 0\.5 to 1"),
        ({"meaning": 1.5}, "a number from 0 to 1, not 1.5: a cosine"),
        ({"exact": False, "near": 0}, "all off"),
    ],
)
def test_invalid_options(options: dict[str, Any], message: str):
    with pytest.raises(UsageError, match=message):
        DeduplicateOptions(**options)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["a", None, "b"], r"record 2 of 01-generate\.parquet has no text"),
        ([1, 2, 3], "holds int64, not strings"),
    ],
)
def test_invalid_texts(tmp_path: Path, texts: list[Any], message: str):
    at = step(source(tmp_path, texts))
    with pytest.raises(UsageError, match=message):
        asyncio.run(run(DeduplicateOptions(), at))
    assert sorted(os.listdir(tmp_path)) == ["01-generate.parquet"]


def test_invalid_files(tmp_path: Path):
    path = tmp_path / "01-generate.parquet"
    path.write_text("no Parquet")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        asyncio.run(run(DeduplicateOptions(), step(path)))
    pq.write_table(pa.table({"id": ["1"], "texts": ["x"]}), path)
    with pytest.raises(UsageError, match="did you mean 'texts'"):
        asyncio.run(run(DeduplicateOptions(), step(path)))
    with pytest.raises(UsageError, match="none came before"):
        asyncio.run(run(DeduplicateOptions(), Step("01-deduplicate", tmp_path)))


@pytest.mark.parametrize("stage", ["reading", "sorting", "comparing", "writing"])
async def test_cancelling_ends_soon_and_leaves_nothing_behind(tmp_path: Path, stage: str):
    class Cancelling(StepProgress):
        def update(self, what: str, done: int, total: int | None = None) -> None:
            super().update(what, done, total)
            if what == stage:
                loop.call_soon_threadsafe(task.cancel)
                reached.wait(10)

    loop, reached = asyncio.get_running_loop(), threading.Event()
    path = source(tmp_path, many(20_000), 1000)
    at = step(path, progress=Cancelling())
    task = asyncio.ensure_future(run(DeduplicateOptions(), at))
    await asyncio.sleep(0)
    task.add_done_callback(lambda _: None)
    while not task.cancelling():
        await asyncio.sleep(0.01)
    reached.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert at.progress.stage == stage
    assert sorted(os.listdir(tmp_path)) == ["01-generate.parquet"]
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("outspoken-near")]
