"""The step balance: clusters compared with SciPy's and brute force, and the records kept of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy", reason="extra `synth` is not installed")
pytest.importorskip("regex", reason="extra `synth` is not installed")
vq = pytest.importorskip("scipy.cluster.vq", reason="extra `synth` is not installed")
pa = pytest.importorskip("pyarrow", reason="extra `synth` is not installed")
pq = pytest.importorskip("pyarrow.parquet")

from outspoken.errors import UnknownNameError, UsageError  # noqa: E402
from outspoken.measure.embedding import Embedder  # noqa: E402
from outspoken.models.base import Embeddings  # noqa: E402
from outspoken.models.local import Local  # noqa: E402
from outspoken.synth import kmeans  # noqa: E402
from outspoken.synth.kmeans import Clustering, nearest, shares, spread  # noqa: E402
from outspoken.synth.steps import balance  # noqa: E402
from outspoken.synth.steps.balance import FULL, NO_TEXT, BalanceOptions, run  # noqa: E402
from outspoken.synth.steps.base import Step  # noqa: E402

WORDS = ("tea", "茶", "شاي", "☕")


def step_of(folder: Path, texts: Sequence[str | None], seed: int = 0) -> Step:
    source = folder / "01-generate.parquet"
    ids = [f"r{number}" for number in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": pa.array(texts, pa.string()), "topic": ids}), source)
    return Step("02-balance", folder, source, seed)


class Planted:
    """Embeds a text by its first word, which is a direction, and the number after it, a deviation."""

    name, batch, parallel = "planted", 64, 1

    async def identity(self) -> str:
        return "planted"

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        rows = np.zeros((len(texts), 6))
        for row, text in zip(rows, texts, strict=True):
            word, _, number = text.partition(" ")
            row[WORDS.index(word)] = 3.0
            row[4:] = 0.01 * int(number or 0), 0.01
            row *= 1 + int(number or 0) % 3  # the direction alone counts
        return Embeddings(rows.tolist())

    async def aclose(self) -> None:
        pass


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "embedder", lambda name, **_: Embedder(Planted()))


def many(*counts: int) -> list[str]:
    return [f"{word} {number}" for word, count in zip(WORDS, counts, strict=False) for number in range(count)]


def rows_of(step: Step) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    gone = pq.read_table(step.removed).to_pylist() if step.removed.exists() else []
    return pq.read_table(step.out).to_pylist(), gone


@pytest.mark.usefixtures("planted")
async def test_a_large_cluster_is_reduced(tmp_path: Path) -> None:
    texts = [*many(40, 12, 3, 1), None, " "]
    step = step_of(tmp_path, texts)
    outcome = await run(BalanceOptions(most=5, clusters=4), step)
    kept, gone = rows_of(step)
    assert Counter(row["text"].split()[0] for row in kept) == {"tea": 5, "茶": 5, "شاي": 3, "☕": 1}
    assert [row["id"] for row in kept] == sorted((row["id"] for row in kept), key=lambda name: int(name[1:]))
    assert all(row["topic"] == row["id"] for row in kept + gone)
    assert {(row["text"].split()[0], row["cluster"]) for row in kept} == set(zip(WORDS, range(4), strict=True))
    assert (len(kept) + len(gone), outcome.kept) == (58, len(kept))
    assert outcome.removed == {FULL: 42, NO_TEXT: 2} == Counter(row["reason"] for row in gone)
    by_id = {row["id"]: row for row in kept}
    for row in gone:
        if row["reason"] == FULL:
            assert by_id[row["because_of"]]["cluster"] == row["cluster"]
            assert 0.9 < row["similarity"] <= 1
        else:
            assert (row["because_of"], row["similarity"], row["cluster"]) == (None, None, None)
    # Those kept are spread: both ends of the largest cluster are among them.
    assert {"r0", "r39"} <= by_id.keys()
    figures = outcome.figures
    assert (figures["clusters"], figures["sizes_before"], figures["sizes_after"]) == (
        4,
        [40, 12, 3, 1],
        [5, 5, 3, 1],
    )
    before = np.array([40, 12, 3, 1]) / 56
    assert figures["effective_before"] == pytest.approx(np.exp(-(before * np.log(before)).sum()))
    assert figures["effective_before"] < figures["effective_after"] < 4
    assert [text.split()[0] for text in figures["examples"]] == list(WORDS)


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("settings", "sizes", "message"),
    [
        ({"total": 20}, [8, 8, 3, 1], ""),
        ({"total": 19}, [8, 7, 3, 1], ""),
        ({"total": 56}, [40, 12, 3, 1], "all of them are kept"),
        ({"total": 1000}, [40, 12, 3, 1], "all of them are kept"),
        ({"total": 2}, [1, 1, 0, 0], "the smaller ones keep nothing"),
        ({}, [28, 12, 3, 1], ""),
        ({"most": 1}, [1, 1, 1, 1], ""),
    ],
)
async def test_totals_and_the_default_limit(
    tmp_path: Path, settings: dict[str, int], sizes: list[int], message: str
) -> None:
    step = step_of(tmp_path, many(40, 12, 3, 1))
    outcome = await run(BalanceOptions(clusters=4, **settings), step)
    kept, gone = rows_of(step)
    assert outcome.figures["sizes_after"] == sizes
    assert [sum(row["cluster"] == number for row in kept) for number in range(4)] == sizes
    assert len(gone) == 56 - sum(sizes)
    assert all((row["because_of"] is None) == (sizes[row["cluster"]] == 0) for row in gone)
    assert bool(outcome.warnings) == bool(message)
    assert message in "".join(outcome.warnings)


@pytest.mark.usefixtures("planted")
async def test_same_seed_same_records(tmp_path: Path) -> None:
    found = []
    for seed in (3, 3, -4):
        step = step_of(tmp_path, many(60, 30, 30, 30), seed)
        await run(BalanceOptions(most=4), step)
        found.append(rows_of(step))
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.usefixtures("planted")
async def test_no_records_one_record_and_equal_ones(tmp_path: Path) -> None:
    outcome = await run(BalanceOptions(most=2), step_of(tmp_path, []))
    assert (outcome.kept, outcome.removed, outcome.figures["sizes_before"]) == (0, {}, [])
    assert pq.read_schema(tmp_path / "02-balance.parquet").names == ["id", "text", "topic", "cluster"]
    outcome = await run(BalanceOptions(most=2), step_of(tmp_path, ["", None]))
    assert (outcome.kept, outcome.removed) == (0, {NO_TEXT: 2})
    outcome = await run(BalanceOptions(most=2), step_of(tmp_path, ["tea 1"]))
    assert (outcome.kept, outcome.removed, outcome.figures["effective_after"]) == (1, {}, 1)
    step = step_of(tmp_path, ["tea 1"] * 5 + ["茶 1"] * 4)
    outcome = await run(BalanceOptions(most=3, clusters=6), step)
    assert outcome.figures["sizes_before"] == [5, 4]
    assert outcome.warnings == ("the records have only 2 different embeddings, so there are only 2 clusters",)
    assert Counter(row["text"] for row in rows_of(step)[0]) == {"tea 1": 3, "茶 1": 3}


@pytest.mark.usefixtures("planted")
async def test_more_clusters_than_records(tmp_path: Path) -> None:
    step = step_of(tmp_path, ["tea 1", "茶 1", ""])
    with pytest.raises(UsageError, match="2 records cannot form 3 clusters"):
        await run(BalanceOptions(most=1, clusters=3), step)
    assert not step.out.exists()


async def test_real_texts_of_two_kinds(tmp_path: Path, minilm: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    await minilm.load()
    (tmp_path / "models").symlink_to(minilm._file().parent)
    monkeypatch.setenv("OUTSPOKEN_CACHE", str(tmp_path))
    cats = [
        f"My {colour} cat sleeps on the {place}." for colour in ("grey", "old", "fat") for place in ("mat", "bed")
    ]
    shares_ = ["Shares fell as inflation rose.", "The central bank raised its interest rate."]
    step = step_of(tmp_path, [*cats, *shares_])
    outcome = await run(BalanceOptions(most=2, clusters=2), step)
    kept, _ = rows_of(step)
    assert outcome.figures["sizes_before"] == [6, 2]
    assert [row["text"] for row in kept][2:] == shares_


# Clusters


def unit(n: int, d: int, seed: int) -> Any:
    rows = np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def clustered(vectors: Any, k: int, seed: int = 0) -> Clustering:
    made = Clustering(vectors, k, seed)
    assert not any(made.work())
    return made


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_clusters_are_as_good_as_those_of_scipy(seed: int) -> None:
    vectors = unit(3000, 16, seed)
    made = clustered(vectors, 12, seed)
    labels, distances = nearest(vectors, made.centres)
    centres, theirs = vq.kmeans2(vectors.astype(float), 12, iter=50, minit="++", seed=seed)
    assert (made.labels == labels).all()
    assert distances.sum() <= 1.02 * ((vectors - centres[theirs]) ** 2).sum()
    brute = ((vectors[:, None] - made.centres[None]) ** 2).sum(2)
    assert (brute.argmin(1) == labels).mean() > 0.999
    assert distances == pytest.approx(brute.min(1), abs=1e-5)
    assert (np.diff(np.bincount(labels)) <= 0).all()


def test_planted_clusters_are_found_from_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans, "_SAMPLE_PER_CLUSTER", 20)
    centres = unit(10, 32, 5)
    truth = np.random.default_rng(6).integers(0, 10, 5000)
    vectors = centres[truth] + 0.05 * unit(5000, 32, 7)
    made = clustered((vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), 10)
    assert len({(int(a), int(b)) for a, b in zip(truth, made.labels, strict=True)}) == 10


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 100))
def test_shares_are_as_even_as_possible(sizes: list[int], total: int) -> None:
    found = shares(np.array(sizes), total)
    assert found.sum() == min(total, sum(sizes))
    assert (found <= sizes).all()
    assert (found >= 0).all()
    for mine, size in zip(found, sizes, strict=True):
        assert mine == size or mine >= found.max() - 1


@given(st.integers(1, 25), st.integers(1, 30), st.integers(0, 1000))
def test_spread_is_farthest_first(count: int, wanted: int, seed: int) -> None:
    vectors = unit(count, 4, seed)
    found = spread(vectors, vectors.mean(0), wanted)
    cosines = vectors @ vectors.T
    assert len(set(found.taken)) == len(found.taken) == min(wanted, count)
    for place in range(1, len(found.taken)):
        best = np.delete(cosines[:, found.taken[:place]].max(1), found.taken[:place]).min()
        assert cosines[found.taken[place], found.taken[:place]].max() == pytest.approx(best, abs=1e-6)
    others = [at for at in range(count) if at not in found.taken]
    assert found.stands_for[found.taken].tolist() == found.taken
    assert found.cosines[others] == pytest.approx(cosines[others][:, found.taken].max(1), abs=1e-6)
    assert found.cosines == pytest.approx(cosines[np.arange(count), found.stands_for], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"most": 1, "total": 2}, "exclude each other"),
        ({"most": 0}, "most must be a whole number from 1 on"),
        ({"total": -1}, "total must be a whole number from 1 on"),
        ({"clusters": 0}, "clusters must be a whole number from 1 on"),
    ],
)
def test_invalid_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        BalanceOptions(**settings)


def test_an_embedder_that_does_not_exist() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'wordllama'"):
        BalanceOptions(embedder="wordlama")


@pytest.mark.usefixtures("planted")
async def test_cancelled_while_clustering(tmp_path: Path) -> None:
    step = step_of(tmp_path, many(600, 600))
    task = asyncio.create_task(run(BalanceOptions(most=2, clusters=300), step))
    while step.progress.stage != "clustering":
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [path.name for path in tmp_path.iterdir()] == ["01-generate.parquet"]
