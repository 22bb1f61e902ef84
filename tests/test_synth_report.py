"""The report of a pipeline: its measures, compared with the records themselves, and its page."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chart_legends import check_legends
from synth_report_sample import ARABIC, EVIL, TOPICS, generated, pipeline, step

pytest.importorskip("altair", reason="altair is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")

from outspoken.errors import ProviderError, UnknownNameError, UsageError
from outspoken.measure import lexical
from outspoken.measure.tokenization import words
from outspoken.models.local import Local
from outspoken.report.charts import spec
from outspoken.report.format import share
from outspoken.synth.records import rows_in
from outspoken.synth.report import builder, charts, coverage_map, diversity
from outspoken.synth.report import text as report_text
from outspoken.synth.report.diversity import TextPool, size_of
from outspoken.synth.report.document import PipelineReport, RecordExample
from outspoken.synth.report.html_page import render_page, write_page
from outspoken.synth.report.samples import RecordSample
from outspoken.synth.steps.base import StepProgress

STEPS = ("01-generate", "02-deduplicate", "03-decontaminate", "04-answer", "05-verify", "06-balance", "07-export")


class ByTopic:
    """Embeds a text by its topic: a direction for each topic, and some noise."""

    name = "by-topic"
    warnings = ("1 text is too long",)

    def __init__(self, folder: Path) -> None:
        self._topics = {row["text"]: row["topic"] for row in rows_in(folder / "01-generate.parquet")}

    async def embed(self, texts: list[str], progress: Any = None) -> np.ndarray[Any, Any]:
        axes = np.eye(8)
        rng = np.random.default_rng(5)
        order = list(TOPICS)
        progress(len(texts), len(texts))
        return np.array([axes[order.index(self._topics[t])] + rng.normal(0, 0.05, 8) for t in texts], "float32")

    async def aclose(self) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline(tmp_path_factory.mktemp("synth") / "fractions", 300)


@pytest.fixture(scope="module")
def plain(folder: Path) -> PipelineReport:
    return asyncio.run(builder.build_report(folder, embedder="none", planned=STEPS))


@pytest.fixture(scope="module")
def mapped(folder: Path) -> PipelineReport:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(builder, "embedder_named", lambda name: ByTopic(folder))
        return asyncio.run(builder.build_report(folder, name="Fractions & <b>more</b>", planned=STEPS))


def texts_in(folder: Path, name: str) -> list[str]:
    return [row["text"] for row in rows_in(folder / f"{name}.parquet")]


def main_part(html: str) -> str:
    return html.split("<main>")[1].split('<script type="application/json"')[0]


# Counts and cost.


def test_the_steps_match_the_files(folder: Path, plain: PipelineReport) -> None:
    assert [entry.step for entry in plain.steps] == list(STEPS)
    left = 300
    for entry in plain.steps:
        kept = len(texts_in(folder, entry.step))
        assert (entry.records, entry.kept) == (left, kept)
        assert entry.kept_share == pytest.approx(kept / left)
        assert entry.cumulative == pytest.approx(kept / 300)
        removed = folder / f"{entry.step}.removed.parquet"
        reasons = Counter(row["reason"] for row in rows_in(removed)) if removed.exists() else {}
        assert entry.removed == reasons
        left = kept
    assert (plain.generated, plain.kept) == (300, left)
    assert plain.unfinished == ()


def test_the_cost_per_record_includes_all_steps(plain: PipelineReport) -> None:
    each, kept = plain.cost.per_record, plain.kept
    assert each["requests"] == pytest.approx((300 // 4 + 4 * 300) / kept)
    assert each["tokens"] == pytest.approx((61 + 900) * 300 / kept)
    assert each["usd"] == pytest.approx((0.00031 + 0.0011) * 300 / kept)
    assert each["seconds"] == pytest.approx((61.2 + 0.8 + 610.0 + 4 * 12.5) / kept)
    assert report_text.lead(plain).startswith(f"300 generated, {kept} kept ({100 * kept / 300:.0f} %); ")


def test_the_document_is_in_the_folder_and_gives_the_same_page(folder: Path, tmp_path: Path) -> None:
    document = asyncio.run(builder.build_report(folder, embedder="none"))
    read = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert read == document.to_dict()
    assert PipelineReport.from_dict(read) == document
    assert read["steps"][1]["yield"] == document.steps[1].kept_share
    page = write_page(PipelineReport.from_dict(read), tmp_path)
    assert page == tmp_path / "report.html"
    assert page.read_text(encoding="utf-8") == render_page(document)


# Diversity.


def test_all_steps_are_measured_on_equally_many_records(folder: Path, plain: PipelineReport) -> None:
    rows = plain.diversity.steps
    last = [text for text in texts_in(folder, STEPS[-1]) if words(text)]
    assert {row.n for row in rows} == {len(last)} == {plain.diversity.n}
    figures = rows[-1].measures
    assert figures["distinct_2"].value == pytest.approx(lexical.distinct_n(last, 2))
    assert figures["self_bleu"].value == pytest.approx(lexical.self_bleu(last))
    assert rows[-1].choices == 1
    assert figures["self_bleu"].low is None
    for row in rows[:5]:
        assert row.choices == diversity.CHOICES
        for name, spread in row.measures.items():
            assert spread.low <= spread.value <= spread.high, (row.step, name)
    whole = texts_in(folder, STEPS[0])
    assert rows[0].measures["self_bleu"].value < lexical.self_bleu([t for t in whole if words(t)])


def test_the_range_of_a_figure_is_that_of_its_random_choices() -> None:
    texts = tuple(row["text"] for row in generated(60, 3) if words(row["text"]))
    pools = [TextPool("01-a", "a", 60, texts), TextPool("02-b", "b", 20, texts[:20])]
    rows = asyncio.run(diversity.measure_diversity(pools, 20, None, 7, StepProgress())).steps
    rng = np.random.default_rng([7, False])
    found = [
        lexical.compression_ratio([texts[at] for at in np.sort(rng.choice(len(texts), 20, replace=False))])
        for _ in range(diversity.CHOICES)
    ]
    spread = rows[0].measures["compression_ratio"]
    assert (spread.low, spread.high) == (min(found), max(found))
    assert spread.value == pytest.approx(sum(found) / len(found))


def test_embeddings_are_measured_too(folder: Path, mapped: PipelineReport) -> None:
    names = [measure.name for measure in mapped.diversity.measures]
    assert names[:2] == ["semantic_diversity", "vendi"]
    rows = mapped.diversity.steps
    # Balance takes from the fullest topic, so meaning spreads, and by more than chance.
    assert rows[-1].measures["vendi"].value > rows[4].measures["vendi"].high
    assert 1 < rows[0].measures["vendi"].value < 8


@pytest.mark.parametrize(
    ("sizes", "sample", "n"),
    [((100, 40, 12), 2000, 12), ((100, 40, 3), 2000, 40), ((9, 5, 2), 2000, 2), ((5000, 3000), 500, 500),
     ((1, 0), 2000, 0), ((), 2000, 0)],
)  # fmt: skip
def test_a_tiny_step_does_not_limit_the_others(sizes: tuple[int, ...], sample: int, n: int) -> None:
    pools = [TextPool(str(at), str(at), size, ("a text",) * size) for at, size in enumerate(sizes)]
    assert size_of(pools, sample) == n


def test_undefined_measures_are_listed(tmp_path: Path) -> None:
    rows = [{"id": str(at), "text": text} for at, text in enumerate(["猫", "犬", "鳥", "魚"])]
    step(tmp_path, "01-generate", rows)
    document = asyncio.run(builder.build_report(tmp_path, embedder="none"))
    (row,) = document.diversity.steps
    assert "distinct_2" in row.undefined
    assert "distinct_2" not in row.measures
    assert "Undefined measures" in render_page(document)


# The map.


def test_every_point_has_the_fate_of_its_record(folder: Path, mapped: PipelineReport) -> None:
    points = mapped.map.points
    fates = Counter(point.fate for point in points)
    lost = {entry.label: sum(entry.removed.values()) for entry in mapped.steps}
    expected = {label: count for label, count in lost.items() if count}
    # The record of nothing but marks has no words, but it has a meaning to the embedder.
    assert fates == {**expected, "kept": mapped.kept}
    assert set(mapped.map.fates) == set(fates)
    kept = set(texts_in(folder, STEPS[-1]))
    assert all(point.text in kept for point in points if point.fate == "kept" and len(point.text) < 200)


def test_clusters_match_the_topics(mapped: PipelineReport) -> None:
    clusters = mapped.clusters
    assert sum(cluster.generated for cluster in clusters) == 300
    assert sum(cluster.kept for cluster in clusters) == mapped.kept
    sizes = [cluster.generated for cluster in clusters]
    assert sizes == sorted(sizes, reverse=True)
    things = {thing for things in TOPICS.values() for thing in things}
    for cluster in clusters:
        topics = {
            topic
            for topic, things in TOPICS.items()
            for text in cluster.examples
            if any(thing in text for thing in things)
        }
        assert len(topics) <= 1
        assert 1 <= len(cluster.examples) <= 3
    assert any(word in " ".join(things) for word in clusters[0].words)
    said = report_text.extreme_clusters(clusters)
    assert said.startswith("Fullest: cluster ")
    assert str(min(cluster.kept for cluster in clusters)) in said.split("Emptiest")[1]


def test_the_projection_is_that_of_principal_components() -> None:
    vectors = np.random.default_rng(2).normal(size=(50, 6)) * [5, 3, 1, 1, 1, 1] + 9
    found = coverage_map.project(vectors)
    centred = vectors - vectors.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.points), np.abs(u[:, :2] * s[:2]), atol=1e-9)
    np.testing.assert_allclose(found.explained, (s**2 / (s**2).sum())[:2])
    again = coverage_map.project(np.vstack([vectors[25:], vectors[:25]]))
    np.testing.assert_allclose(again.points, np.vstack([found.points[25:], found.points[:25]]), atol=1e-9)
    assert coverage_map.project(np.ones((3, 4))).explained == (0.0, 0.0)
    assert coverage_map.project(np.arange(3.0)[:, None]).points.shape == (3, 2)


def test_planted_clusters_are_found() -> None:
    rng = np.random.default_rng(0)
    sizes = (30, 20, 10)
    vectors = np.vstack([np.eye(5)[at] + rng.normal(0, 0.1, (size, 5)) for at, size in enumerate(sizes)])
    labels = coverage_map.cluster_labels(vectors * rng.uniform(0.5, 3, (60, 1)), 3, 4)
    assert labels == [0] * 30 + [1] * 20 + [2] * 10
    assert coverage_map.nearest_first(vectors, [0, 1, 59])[-1] == 59
    assert [coverage_map.cluster_count(count) for count in (2, 19, 20, 72, 2000)] == [0, 0, 3, 6, 12]


def test_distinctive_terms() -> None:
    inside = ["The cat sat.", "A cat ran.", "Cats? A cat!"]
    outside = ["The dog sat.", "A dog ran.", "The end.", "A sea."]
    assert coverage_map.distinctive_terms(inside, outside)[0] == "cat"
    assert "the" not in coverage_map.distinctive_terms(inside, outside)
    chinese = coverage_map.distinctive_terms(["小明买西瓜", "西瓜很大", "他吃西瓜"], ["小明跑步", "天气很好"])
    assert chinese[0] == "西瓜"
    assert coverage_map.distinctive_terms(["a b"], []) == []


# Samples.


def test_a_sample_depends_only_on_seed_and_ids() -> None:
    rows = [{"id": str(at)} for at in range(2000)]

    def ids(rows: list[dict[str, str]], size: int, seed: int = 3) -> list[str]:
        sample = RecordSample(size, seed)
        for row in rows:
            sample.offer(row)
        return [row["id"] for row in sample.rows]

    assert ids(rows, 50) == ids(rows[::-1], 50)
    assert ids(rows, 50) != ids(rows, 50, seed=4)
    assert ids(rows, 80)[:50] == ids(rows, 50)
    half = ids([row for row in rows if int(row["id"]) % 2], 1000)
    assert [key for key in ids(rows, 2000) if int(key) % 2] == half
    low = sum(int(key) < 1000 for seed in range(20) for key in ids(rows, 100, seed))
    assert abs(low - 1000) < 4 * math.sqrt(500)


def test_only_a_sample_is_measured(folder: Path) -> None:
    document = asyncio.run(builder.build_report(folder, embedder="none", sample=40, seed=-1))
    # A record without a word has no place in a measure of words.
    assert {row.of for row in document.diversity.steps} <= {37, 38, 39, 40}
    assert document.diversity.n <= 40
    assert "Of a step with more than 40 records" in " ".join(report_text.diversity_method(document.diversity))
    assert document.covered["topic"].values[0].generated > 100


# Topics and examples.


def test_topics_are_counted_also_those_without_records(folder: Path, plain: PipelineReport) -> None:
    found = {entry.value: entry for entry in plain.covered["topic"].values}
    came = Counter(row["topic"] for row in rows_in(folder / "01-generate.parquet"))
    kept = Counter(row["topic"] for row in rows_in(folder / "07-export.parquet"))
    assert {name: (entry.generated, entry.kept) for name, entry in found.items()} == {
        name: (came[name], kept[name]) for name in TOPICS
    }
    assert "5 of 6 topics have a record that was kept" in render_page(plain)


def test_every_reason_has_examples_and_their_stand_ins(folder: Path, plain: PipelineReport) -> None:
    groups = {(group.step, group.reason): group for group in plain.examples.removed}
    counts = {(e.step, reason): count for e in plain.steps for reason, count in e.removed.items()}
    assert {key: group.count for key, group in groups.items()} == counts
    kept = {row["id"]: row["text"] for row in rows_in(folder / "02-deduplicate.parquet")}
    near = groups["02-deduplicate", "nearly the same text"].records
    assert len(near) == 3
    for record in near:
        assert record.because_text == kept[record.because_of]
        assert record.similarity == 0.93
    (foreign, *_) = groups["03-decontaminate", "shares 13 words with a question"].records
    assert (foreign.because_of, foreign.because_text) == ("gsm8k.jsonl:17", None)
    ids = {row["id"] for row in rows_in(folder / "07-export.parquet")}
    assert len(plain.examples.kept) == 6
    assert {record.id for record in plain.examples.kept} <= ids
    assert plain.examples.kept[0].also["answer"].startswith("First take")


def test_the_users_own_records_are_measured_before_the_first_step(tmp_path: Path) -> None:
    """Fields that are not columns are read from the record's value."""
    rows = [
        {"id": str(at), "text": f"{text} {at // 2}", "value": json.dumps({"topic": f"主题{at % 3}", "text": "no"})}
        for at, text in enumerate(["How much?"] * 30)
    ]
    removed = [{**row, "reason": "the same text"} for row in rows[1::2]]
    step(tmp_path, "01-deduplicate", rows[::2], removed, before=30, source="00-input.parquet")
    document = asyncio.run(builder.build_report(tmp_path, embedder="none"))
    first, last = document.diversity.steps
    assert (first.label, first.kept, last.kept) == ("the input", 30, 15)
    assert first.measures["distinct"].high < last.measures["distinct"].value == 1
    assert report_text.lead(document).startswith("30 read, 15 kept (50 %)")
    assert "in the input to 100 after deduplicate" in report_text.sentences(document)[1]
    topics = {entry.value: (entry.generated, entry.kept) for entry in document.covered["topic"].values}
    assert topics == {f"主题{at}": (10, 5) for at in range(3)}
    assert document.examples.removed[0].records[0].also["topic"].startswith("主题")
    assert "主题0" in render_page(document)


# What is not finished, empty or broken.


def test_a_partly_done_step_is_reported(tmp_path: Path) -> None:
    pipeline(tmp_path, 60, partly="the budget is spent")
    document = asyncio.run(builder.build_report(tmp_path, embedder="none", planned=[*STEPS, "08-mine"]))
    html = main_part(render_page(document))
    assert "07-export is only partly done: the budget is spent." in html
    assert "08-mine was not finished" in html


def test_steps_after_a_missing_one_do_not_count(tmp_path: Path) -> None:
    pipeline(tmp_path, 60)
    (tmp_path / "04-answer.json").unlink()
    document = asyncio.run(builder.build_report(tmp_path, embedder="none", planned=STEPS))
    assert [entry.step for entry in document.steps] == list(STEPS[:3])
    assert document.missing == STEPS[3:]
    assert "04-answer, 05-verify, 06-balance, 07-export were not finished" in render_page(document)
    alone = asyncio.run(builder.build_report(tmp_path, embedder="none"))
    assert alone.missing == ("04-answer",)
    assert any("05-verify read" in warning and "03-decontaminate kept" in warning for warning in alone.warnings)


def test_if_nothing_is_left_the_report_says_which_step_removed_what(tmp_path: Path) -> None:
    rows = generated(30)
    step(tmp_path, "01-generate", rows)
    step(tmp_path, "02-deduplicate", rows[:18], [{**r, "reason": "the same text"} for r in rows[18:]], before=30)
    gone = [{**r, "reason": "wrong" if at < 10 else "no answer"} for at, r in enumerate(rows[:18])]
    step(tmp_path, "03-verify", [], gone, before=18)
    document = asyncio.run(builder.build_report(tmp_path, embedder="none"))
    lead = report_text.lead(document)
    assert lead == (
        "30 generated, none kept: deduplicate removed 12 (the same text), verify removed 18 (wrong: 10)."
    )
    assert lead in render_page(document)
    assert document.cost.per_record["seconds"] is None


@pytest.mark.parametrize("rows", [[], [{"id": "1", "text": ARABIC}], [{"id": "1", "text": ""}, {"id": "2"}]])
def test_a_report_of_hardly_any_records(rows: list[dict[str, Any]], tmp_path: Path) -> None:
    step(tmp_path, "01-generate", rows)
    document = asyncio.run(builder.build_report(tmp_path, embedder="none"))
    html = main_part(render_page(document))
    assert "No step kept two records" in html
    assert ("Nothing was generated" in html) == (not rows)


def test_missing_and_damaged_files_are_warnings(tmp_path: Path) -> None:
    pipeline(tmp_path, 60)
    (tmp_path / "02-deduplicate.removed.parquet").unlink()
    (tmp_path / "06-balance.parquet").write_bytes(b"PAR1 no more")
    document = asyncio.run(builder.build_report(tmp_path, embedder="none"))
    assert any("02-deduplicate.removed.parquet is missing" in warning for warning in document.warnings)
    assert sum("06-balance.parquet" in warning for warning in document.warnings) == 1
    assert "balance" in report_text.unmeasured_steps(document.diversity)
    assert "2 warnings" not in render_page(document)


@pytest.mark.parametrize(
    ("name", "text", "match"),
    [(None, "", "no finished step"), ("01-generate.json", "{", "cannot be read"),
     ("01-generate.json", "[1]", "no manifest")],
)  # fmt: skip
def test_a_folder_without_a_pipeline_is_refused(name: str | None, text: str, match: str, tmp_path: Path) -> None:
    if name:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=match):
        asyncio.run(builder.build_report(tmp_path, embedder="none"))


def test_an_unknown_embedder_is_refused_and_a_failing_one_is_a_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownNameError, match="minilm"):
        asyncio.run(builder.build_report(folder, embedder="minilmm"))

    class Failing(ByTopic):
        async def embed(self, texts: list[str], progress: Any = None) -> np.ndarray[Any, Any]:
            raise ProviderError("the server is away")

    monkeypatch.setattr(builder, "embedder_named", lambda name: Failing(folder))
    document = asyncio.run(builder.build_report(folder))
    assert document.map is None
    assert any("the server is away" in warning for warning in document.warnings)
    assert "the server is away" in main_part(render_page(document)).split('id="map"')[1]


def test_a_text_without_a_vector_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(ByTopic):
        async def embed(self, texts: list[str], progress: Any = None) -> np.ndarray[Any, Any]:
            found = await super().embed(texts, progress)
            found[[ARABIC in text for text in texts]] = 0
            return found

    monkeypatch.setattr(builder, "embedder_named", lambda name: Blind(folder))
    document = asyncio.run(builder.build_report(folder))
    assert any("1 of the texts mean nothing to by-topic" in warning for warning in document.warnings)
    assert all(point.text != ARABIC for point in document.map.points)


async def test_measuring_reports_progress_and_can_be_cancelled(folder: Path) -> None:
    class Noting(StepProgress):
        def update(self, stage: str, done: int, total: int | None = None) -> None:
            stages[stage] = total
            if stage == "measuring diversity" and done == 1:
                raise asyncio.CancelledError

    stages: dict[str, int | None] = {}
    before = (folder / "report.json").read_bytes()
    with pytest.raises(asyncio.CancelledError):
        await builder.build_report(folder, embedder="none", progress=Noting(), seed=99)
    assert stages == {"reading records": 7, "measuring diversity": 7}
    assert (folder / "report.json").read_bytes() == before


async def test_the_embedded_model_draws_the_map(minilm: Local, tmp_path: Path) -> None:
    pipeline(tmp_path, 40)
    document = await builder.build_report(tmp_path)
    assert document.settings["embedder"] == "minilm"
    assert len(document.map.points) == 40
    semantic = document.diversity.steps[-1].measures["semantic_diversity"].value
    assert 0 < semantic < 1
    assert sum(document.map.explained) < 1


# The words and the page.


def test_the_lead_contains_what_is_known(plain: PipelineReport) -> None:
    free = replace(plain.cost, asked=False)
    assert report_text.lead(replace(plain, cost=free)).endswith("No step asked a model.")
    each = {**plain.cost.per_record, "usd": None}
    unpriced = replace(plain, cost=replace(plain.cost, per_record=each))
    lead = report_text.lead(unpriced)
    assert "$" not in lead
    facts = dict(fact[:2] for fact in report_text.facts(unpriced))
    assert facts["dollars per accepted record"] == "not known"
    first = replace(plain.steps[0], source="00-input.parquet")
    read = replace(plain, steps=(first, *plain.steps[1:]))
    assert report_text.lead(read).startswith("300 read, ")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 9, "0 %"), (9, 9, "100 %"), (1, 5000, "< 0.1 %"), (4999, 5000, "> 99.9 %"), (1, 200, "0.5 %"),
     (995, 1000, "99.5 %"), (1, 3, "33 %"), (1, 0, "–")],
)  # fmt: skip
def test_a_share_is_0_or_100_only_if_it_is_exact(part: int, whole: int, text: str) -> None:
    assert share(part, whole) == text


def test_an_excerpt_does_not_cut_characters() -> None:
    family = "👨‍👩‍👧‍👦"
    assert report_text.excerpt(family * 50, 20) == f"{family * 20}…"
    assert report_text.excerpt("short") == ""
    assert report_text.excerpt(family * 15, 20) == ""


def test_texts_by_models_are_escaped(mapped: PipelineReport) -> None:
    first = RecordExample("1", EVIL, {"answer": EVIL, "topic": "\ud83d\x00"})
    examples = replace(mapped.examples, kept=(first,))
    warnings = (*mapped.warnings, EVIL)
    html = render_page(replace(mapped, examples=examples, warnings=warnings, unfinished=(EVIL,)))
    assert EVIL not in html
    assert "&lt;script&gt;window.pwned" in main_part(html)
    assert "<b>more</b>" not in html
    assert html.count("</script>") == 3
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", html)
    assert main_part(html).split("</section>")[0].index("lead") < main_part(html).index("chart-0")


def test_every_chart_is_valid_vega_lite(mapped: PipelineReport) -> None:
    figures = charts.figures(mapped)
    assert [figure.name for figure in figures] == ["steps", *["diversity"] * 6, "map"]
    for figure in figures:
        json.dumps(figure.chart.to_dict(validate=True), allow_nan=False)
        check_legends(spec(figure.chart, 560))


@pytest.mark.parametrize("document", [{}, {"kind": "gamma"}, {"kind": "synth", "format": 0}])
def test_other_documents_are_refused(document: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no report of a pipeline"):
        PipelineReport.from_dict(document)
