"""Figures, intervals and comparisons of groups of responses; everything that is left out is reported."""

from __future__ import annotations

import inspect
import json
import math
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import servers
from aiohttp import web

import outspoken
from outspoken import UsageError
from outspoken.measure import Answers, Cost, Group, PromptGroup, Response, ameasure, analyse, api, measure
from outspoken.measure.cost import busy_seconds
from outspoken.measure.measures import MEASURES
from outspoken.measure.sets import semantic_diversity
from outspoken.settings import Settings

CRITERIA = ("Relevance", "Comedic Device", "Humor Quality")
SHARED = Path(__file__).parents[2] / "shared" / "data"
DESIGN = [
    "rouge_l",
    "distinct_1",
    "distinct_2",
    "distinct_3",
    "self_bleu",
    "compression_ratio",
    "distinct_answers",
    "effective_size",
    "entropy",
]
OF_REFERENCE = ["coverage", "precision", "kl_reference", "kl_reference_shared", "kl_uniform", "js", "tv"]


class Letters:
    """Embeds a text by the letters in it, so that the truth is known."""

    name = identity = "letters"

    async def embed(self, texts: list[str], progress: Any = None) -> np.ndarray:
        if progress:
            progress(len(texts), len(texts))
        return np.array([[text.count(letter) + 1e-3 for letter in "abcdé茶"] for text in texts], dtype=np.float32)


def shared(name: str) -> Path:
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the shared data is absent: {name}")
    return path


def group(method: str, texts: dict[str, list[str]], **settings: Any) -> Group:
    prompts = tuple(
        PromptGroup(name, f"prompt {name}", tuple(Response(text, call=at) for at, text in enumerate(result)))
        for name, result in texts.items()
    )
    return Group(method, "m", prompts, settings)


async def test_pairs_are_pooled_over_prompts_and_sets_are_averaged():
    texts = {"p": ["aab", "abb", "ccc"], "q": ["茶 é", "dd"]}
    analysis = await analyse([group("direct", texts)], embedder=Letters(), resamples=200)  # type: ignore[arg-type]
    pairs = []
    for result in texts.values():
        vectors = await Letters().embed(result)
        pairs += [semantic_diversity(vectors[[i, j]]) for i, j in combinations(range(len(result)), 2)]
    (measured,) = analysis.groups
    assert measured.figures["semantic_diversity"].value == pytest.approx(np.mean(pairs))
    assert measured.figures["distinct_answers"].value == 2.5
    assert measured.figures["effective_size"].value == pytest.approx(2.5)
    assert measured.figures["entropy"].value == pytest.approx((math.log(3) + math.log(2)) / 2)
    assert measured.responses == 5
    assert {"vendi", "semantic_diversity", *DESIGN} <= measured.figures.keys() | measured.undefined.keys()


async def test_what_is_undefined_is_named_and_not_zero():
    one = group("direct", {"p": ["only one"], "q": ["a b c d", "a b c e"]})
    analysis = await analyse([one], resamples=200)
    (measured,) = analysis.groups
    assert (measured.figures["rouge_l"].units, measured.figures["rouge_l"].unit) == (2, "draw")
    assert measured.figures["rouge_l"].value == pytest.approx(0.75)
    assert "one response has no diversity" in measured.undefined["rouge_l"]
    assert "(1 of 2 prompts)" in measured.undefined["rouge_l"]
    assert "semantic_diversity" not in measured.figures
    assert "no embeddings" in measured.undefined["semantic_diversity"]
    assert any("1 prompt with one response" in warning for warning in analysis.warnings)
    assert any("1 to 2 responses" in warning for warning in analysis.warnings)


async def test_failures_and_empty_answers_are_counted_and_never_measured():
    prompt = PromptGroup("p", "?", (Response("a"), Response("b")), failures=3, empty=2)
    analysis = await analyse([Group("direct", "m", (prompt,))], resamples=200)
    (entry,) = analysis.to_dict()["groups"]
    assert (entry["responses"], entry["failures"], entry["empty"]) == (2, 3, 2)
    assert entry["measures"]["distinct_answers"]["value"] == 2
    assert any("3 responses missing" in warning for warning in analysis.warnings)
    assert any("2 empty responses" in warning for warning in analysis.warnings)
    with pytest.raises(UsageError, match="no response to measure"):
        await analyse([Group("direct", "m", (PromptGroup("p", "?", (), failures=4),))])


async def test_methods_are_compared_on_the_prompts_that_they_share():
    names = [f"p{number}" for number in range(12)]
    narrow = group("direct", {name: ["a a", "a a", f"a {name}"] for name in names})
    wide = group("vs-standard", {name: [f"{name} x", f"y {name}", "z w"] for name in (*names[2:], "other")})
    analysis = await analyse([narrow, wide], resamples=500)
    result = next(item for item in analysis.comparisons if item.measure == "distinct_answers")
    assert (result.a, result.b, result.comparison.units) == (0, 1, 10)
    assert result.comparison.difference == -1
    assert result.comparison.p is not None
    assert result.comparison.p < 0.01
    assert any("differ in their prompts" in warning for warning in analysis.warnings)
    only = await analyse([narrow, wide, wide], pairs=[(1, 0)], resamples=100)
    assert {(item.a, item.b) for item in only.comparisons} == {(1, 0)}
    assert next(item for item in only.comparisons if item.measure == "distinct_answers").comparison.difference == 1


async def test_holm_runs_over_the_pairs_of_one_measure():
    groups = [
        group(name, {f"p{at}": [f"{letter} {at % size}", f"{at} {letter}"] for at in range(9)})
        for name, letter, size in (("direct", "a", 1), ("sequence", "b", 3), ("vs-cot", "c", 9))
    ]
    analysis = await analyse(groups, resamples=300)
    family = [item.comparison for item in analysis.comparisons if item.measure == "rouge_l"]
    assert len(family) == 3
    assert all(item.p_holm >= item.p for item in family)  # type: ignore[operator]
    smallest = min(family, key=lambda item: item.p)  # type: ignore[arg-type, return-value]
    assert smallest.p_holm == pytest.approx(min(1, 3 * smallest.p))  # type: ignore[operator]


async def test_one_prompt_with_known_answers_is_resampled_by_its_calls():
    answers = Answers.counts({"Texas": 3, "Ohio": 1, "茶州": 1})
    direct = group("direct", {"p": ["Texas"] * 30 + ["ohio."] * 10})
    spread = group("vs-standard", {"p": ["Texas", "Ohio", "茶州"] * 12})
    analysis = await analyse([direct, spread], answers=lambda prompt: answers, resamples=300)
    one, other = analysis.groups
    tv = one.figures["tv"]
    assert (tv.unit, tv.units, tv.value) == ("draw", 40, pytest.approx(0.2))
    assert tv.low < tv.value < tv.high  # type: ignore[operator]
    assert one.figures["coverage"].low is None
    assert one.figures["coverage"].value == pytest.approx(2 / 3)
    assert other.figures["precision"].value == 1
    result = next(item for item in analysis.comparisons if item.measure == "tv").comparison
    assert result.p is not None
    assert 0 < result.p <= 1
    assert result.low < result.difference < result.high  # type: ignore[operator]
    (shown,) = analysis.distributions
    assert shown.reference == pytest.approx({"Texas": 0.6, "Ohio": 0.2, "茶州": 0.2})
    assert shown.groups[0] == pytest.approx({"Texas": 0.75, "Ohio": 0.25})
    # 30 and 10 and 0 of 40 against 24, 8 and 8.
    assert shown.chi_square[0].statistic == pytest.approx(36 / 24 + 4 / 8 + 8)
    assert shown.chi_square[0].dof == 2
    assert "ks" not in one.figures
    assert "numbers" in one.undefined["ks"]


async def test_numbers_have_a_kolmogorov_smirnov_distance_and_lists_no_chi_square():
    die = Answers.counts(dict.fromkeys("123456", 1))
    rolls = group("direct", {"p": ["1", "1", "2", "6"]})
    listed = Group("sequence", "m", (PromptGroup("p", "?", tuple(Response(face, call=0) for face in "3456")),))
    analysis = await analyse([rolls, listed], answers=lambda prompt: die, resamples=100)
    assert analysis.groups[0].figures["ks"].value == pytest.approx(3 / 4 - 2 / 6)
    assert analysis.groups[1].figures["ks"].value == pytest.approx(2 / 6)
    assert set(analysis.distributions[0].chi_square) == {0}


async def test_quality_and_cost_are_among_the_figures():
    result = group("direct", {"p": ["a b", "c d", "c d"], "q": ["e", "f", "g"]})
    quality = {(0, "p"): [50.0, 70.0], (0, "q"): [90.0]}
    analysis = await analyse([result], quality=quality, costs=[Cost(6, 600, 12.0, 0.5)], resamples=100)
    (entry,) = analysis.to_dict()["groups"]
    assert entry["measures"]["quality"]["value"] == 70
    assert entry["cost"]["per_response"] == {"tokens": 100, "usd": pytest.approx(0.5 / 6)}
    assert entry["cost"]["per_distinct"]["tokens"] == 120


def test_the_options_have_one_list_and_help_describes_each():
    parameters = inspect.signature(ameasure).parameters.values()
    options = {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY}
    assert list(options) == list(api.MeasureOptions.__annotations__)
    for function in (ameasure, measure):
        table = " ".join((function.__doc__ or "").split("Options:")[1].split())
        for name, default in options.items():
            assert re.search(rf"\b{name}: [A-Z][^:]*(: .*?)? Default: {re.escape(repr(default))}\.", table), name
    own = {"model", "n", "ledger", "embedder", "same", "progress"}
    assert set(api.CompareOptions.__annotations__) - own == set(Settings.__dataclass_fields__) - {"method"}
    for function in (api.acompare, api.compare):
        assert all(f"- `{name}`: " in (function.__doc__ or "") for name in own)
        assert all(f"        {name}: " in (function.__doc__ or "") for name in ("k", "tau", "extra"))
    with pytest.raises(UsageError, match="several methods"):
        api.compare(["p"], method="direct")


async def test_nothing_is_asked_if_a_method_is_unknown(tmp_path: Path):
    async def never(request: web.Request) -> web.Response:
        raise web.HTTPInternalServerError

    async with servers.serving(never) as server:
        options: Any = {"model": f"{server.base_url}#m", "embedder": None, "ledger": tmp_path / "l.sqlite"}
        with pytest.raises(UsageError, match="did you mean 'vs-cot'"):
            await api.acompare(["p"], ("direct", "vs-cott"), **options)
    assert server.bodies == []
    assert not (tmp_path / "l.sqlite").exists()


def test_the_recorded_states_come_out_exactly():
    analysis = measure(
        shared("states/direct_gpt-4.1_500.json"),
        reference=shared("states/reference_redpajama_counts.json"),
        embedder=None,
    )
    figures = analysis.groups[0].figures
    assert [name for name in OF_REFERENCE if name in figures] == OF_REFERENCE
    assert figures["kl_reference"].value == pytest.approx(14.886465, abs=1e-6)
    assert figures["kl_reference_shared"].value == pytest.approx(0.584276, abs=1e-6)
    assert figures["kl_uniform"].value == pytest.approx(2.479683, abs=1e-6)
    assert figures["kl_uniform_published"].value == pytest.approx(0.513570, abs=1e-6)
    # The measures that tables show first contain no constant.
    order = list(MEASURES)
    assert order.index("kl_reference_shared") < order.index("kl_reference")
    assert MEASURES["kl_reference"].kind == MEASURES["kl_uniform_published"].kind == "published"


def test_people_against_a_model_in_one_table():
    files = [shared(f"novelty_bench/{name}_curated.jsonl") for name in ("gpt-4o", "humans")]
    analysis = measure(files, embedder=None, resamples=1000)
    model, people = analysis.groups
    truth = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert model.figures["utility_k"].value == pytest.approx(np.mean([row["utility"] for row in truth]))
    assert model.figures["distinct_k"].value == pytest.approx(np.mean([row["distinct"] + 1 for row in truth]))
    assert people.figures["distinct_k"].value > model.figures["distinct_k"].high  # type: ignore[operator]
    eight = measure(files, embedder=None, per_prompt=8, resamples=100)
    assert {measured.responses for measured in eight.groups} == {800}
    assert not any("responses a prompt" in warning for warning in eight.warnings)


def test_rows_in_memory_and_what_is_refused(tmp_path: Path):
    rows = [{"prompt": "说", "text": text, "method": "direct"} for text in ("茶", "茶。", "قهوة")]
    figures = outspoken.measure.measure(rows, embedder=None, resamples=100).groups[0].figures
    assert figures["distinct_answers"].value == 2
    with pytest.raises(UsageError, match="no such file"):
        measure(tmp_path / "none.jsonl", embedder=None)
    with pytest.raises(UsageError, match="paths of files, or mappings"):
        measure([1], embedder=None)  # type: ignore[list-item]
    with pytest.raises(UsageError, match="a mapping"):
        measure(rows, embedder=None, reference=[1])
    with pytest.raises(UsageError, match="at least 100"):
        measure(rows, embedder=None, resamples=1)
    with pytest.raises(UsageError, match="at least 1"):
        measure(rows, embedder=None, per_prompt=0)
    (tmp_path / "bad.json").write_text('{"Texas": -1}')
    with pytest.raises(UsageError, match="Texas"):
        measure(rows, embedder=None, reference=tmp_path / "bad.json")


async def test_stated_probabilities_are_compared_with_direct_answers_and_a_reference():
    def states(*pairs: tuple[str, float], call: int = 0) -> tuple[Response, ...]:
        return tuple(Response(text, value, value, call) for text, value in pairs)

    prompts = [f"p{number}" for number in range(7)]
    direct = group("direct", {name: ["Texas", "Texas", "Texas", "ohio"] for name in prompts})
    calls = (
        *states(("Texas", 0.75), ("Ohio", 0.25)),
        *states(("TEXAS.", 0.55), ("Ohio", 0.25), ("Utah", 0.2), call=1),
    )
    stated = Group("vs-standard", "m", tuple(PromptGroup(name, name, calls) for name in prompts))
    answers = Answers.counts({"Texas": 1, "Ohio": 1, "Utah": 2})
    analysis = await analyse([direct, stated], answers=lambda prompt: answers, resamples=100)
    by_direct, by_reference = analysis.calibration
    assert (by_direct.group, by_direct.source, by_reference.source) == (1, "direct", "reference")
    # Stated 0.65, 0.25 and 0.1 against 0.75, 0.25 and 0.
    assert by_direct.total_variation.value == pytest.approx(0.1)
    assert by_direct.brier.value == pytest.approx(0.02)
    assert by_direct.rank_correlation is not None
    assert by_direct.rank_correlation.value == pytest.approx(1)
    assert sum(entry.count for entry in by_direct.bins) == 3 * len(prompts)
    assert by_reference.total_variation.value == pytest.approx(0.4)
    assert json.dumps(analysis.to_dict()["calibration"])


async def test_prompts_that_cannot_be_calibrated_are_counted():
    one = PromptGroup("p", "p", (Response("Texas", 1.0, 1.0, 0),))
    two = PromptGroup("q", "q", (Response("Texas", 0.5, 0.5, 0), Response("Ohio", 0.5, 0.5, 0)))
    direct = group("direct", {"p": ["Texas"], "q": ["Texas"]})
    (result,) = (await analyse([direct, Group("vs-cot", "m", (one, two))], resamples=100)).calibration
    assert (result.undefined, result.total_variation.units) == (1, 1)


async def test_a_judge_adds_quality_and_its_nonsense_is_reported(tmp_path: Path):
    async def verdict(request: web.Request) -> web.Response:
        message = json.dumps((await request.json())["messages"], ensure_ascii=False)
        score = 4 if "茶" in message else 1
        content = "I would rather not." if "dull" in message else json.dumps(dict.fromkeys(CRITERIA, score))
        reply = {
            **servers.COMPLETION,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": content}}],
        }
        return web.json_response(reply)

    rows = [
        {"prompt": f"joke {at}", "text": text, "method": method}
        for at in range(3)
        for method, texts in {"direct": ["plain", "dull"], "vs-standard": [f"茶 {at}", "茶 😀"]}.items()
        for text in texts
    ]
    async with servers.serving(verdict) as server:
        settings = {"judge": f"{server.base_url}#m", "rubric": "joke", "verdicts": tmp_path / "v.sqlite"}
        analysis = await ameasure(rows, embedder=None, resamples=100, **settings)
        prompt = len(server.bodies)
        await ameasure(rows, embedder=None, resamples=100, **settings)
        assert len(server.bodies) == prompt
    direct, verbalized = analysis.groups
    assert direct.figures["quality"].value == pytest.approx(20)
    assert verbalized.figures["quality"].value == pytest.approx(80)
    assert any("gave no score to 3 of 12 responses" in warning for warning in analysis.warnings)


def test_one_shared_prompt_is_compared_by_itself():
    def rows(method: str, prompts: dict[str, list[str]]) -> list[dict[str, Any]]:
        return [
            {"prompt": prompt, "text": text, "method": method, "call": call}
            for prompt, texts in prompts.items()
            for call, text in enumerate(texts)
        ]

    shared_answers = ["Texas", "Ohio", "Texas"]
    both = rows("a", {"P1": shared_answers, "P2": ["Utah"] * 3}) + rows("b", {"P1": shared_answers})
    analysis = measure(both, embedder=None, reference={"Texas": 1, "Ohio": 1, "Utah": 8}, resamples=100)
    differences = {item.measure: item.comparison.difference for item in analysis.comparisons}
    assert differences["tv"] == differences["coverage"] == differences["kl_reference"] == 0


def test_missing_probabilities_are_reported():
    rows = [
        {"prompt": "p", "text": text, "call": 0, "probability": probability}
        for text, probability in (("A", "90%"), ("B", 0.05), ("C", math.nan))
    ]
    analysis = measure(rows, embedder=None, resamples=100)
    assert analysis.groups[0].figures["effective_size"].value == pytest.approx(3)
    assert any("1 call lacks the probability" in warning for warning in analysis.warnings)
    huge = [{"prompt": "p", "text": text, "probability": 1e308} for text in "ABCD"]
    assert measure(huge, embedder=None, resamples=100).groups[0].figures["entropy"].value == pytest.approx(
        math.log(4)
    )
    percent = measure(rows[:2], embedder=None, resamples=100).groups[0]
    assert percent.group.prompts[0].responses[0].probability == pytest.approx(0.9)


def test_prompts_of_different_files_are_identified_by_their_text(tmp_path: Path):
    def file(name: str, prompts: list[tuple[Any, str]], method: str) -> Path:
        rows = [
            {"prompt_id": number, "prompt": prompt, "text": f"{prompt} {at}", "method": method}
            for number, prompt in prompts
            for at in range(2)
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    one = file("1.jsonl", [("1", "A"), ("2", "B"), ("3", "C"), ("4", "A")], "direct")
    other = file("2.jsonl", [("1", "C"), ("2", "B"), ("3", "A")], "vs-cot")
    bare = file("3.jsonl", [(None, "C"), (None, "A")], "sequence")
    analysis = measure([one, other, bare], embedder=None, resamples=100)
    ids = [[sent.prompt_id for sent in measured.group.prompts] for measured in analysis.groups]
    assert ids == [["1", "2", "3", "4"], ["3", "2", "1"], ["3", "1"]]
    units = {(item.a, item.b): item.comparison.units for item in analysis.comparisons if item.measure == "entropy"}
    assert units == {(0, 1): 3, (0, 2): 2, (1, 2): 2}


def test_columns_to_group_by_are_json():
    rows = [
        {"prompt": "p", "text": str(at), "temperature": value} for at, value in enumerate((math.nan, 0.7, "x"))
    ]
    analysis = measure(rows, embedder=None, by=["temperature"], resamples=100)
    document = json.dumps(analysis.to_dict(), allow_nan=False)
    assert [entry["settings"]["temperature"] for entry in json.loads(document)["groups"]] == [None, 0.7, "x"]


def test_time_is_that_of_the_clock_and_that_of_the_model():
    """Eight requests of 5 seconds at once are 5 seconds on the clock and 40 of the model."""
    assert busy_seconds([(100.0, 105.0)] * 8) == 5
    assert busy_seconds([(0.0, 2.0), (1.0, 3.0), (10.0, 11.0)]) == 4
    assert busy_seconds([]) == 0


async def test_the_published_average_is_of_stated_shares_and_never_negative():
    answers = Answers.counts({"Texas": 6, "Ohio": 3, "Utah": 1})
    direct = group("direct", {"p": ["Texas"] * 12 + ["Ohio"] * 6 + ["Utah"] * 2})
    stated = tuple(
        Response(text, share, share, call)
        for call, shares in enumerate(({"Texas": 0.7, "Ohio": 0.3}, {"Texas": 0.5, "Utah": 0.5}))
        for text, share in shares.items()
    )
    verbalized = Group("vs-standard", "m", (PromptGroup("p", "prompt p", stated),))
    analysis = await analyse([direct, verbalized], answers=lambda prompt: answers, resamples=100)
    one, other = (measured.figures["kl_reference_published_average"] for measured in analysis.groups)
    assert one.value == pytest.approx(analysis.groups[0].figures["kl_reference"].value)
    assert other.value != pytest.approx(analysis.groups[1].figures["kl_reference"].value)
    for figure in (one, other):
        assert figure.low is None or figure.low >= 0
