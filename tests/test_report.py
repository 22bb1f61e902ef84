"""The report of an experiment: its words, its charts and its files."""

from __future__ import annotations

import copy
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from results_sample import EVIL, ablation, sample

from outspoken.errors import OutputError, UsageError
from outspoken.experiment import charts, report, report_tables
from outspoken.experiment.report_text import conclude
from outspoken.experiment.results import ExperimentResults
from outspoken.experiment.results_view import ResultsView
from outspoken.report.charts import DARK, LIGHT, OTHERS, SHAPES, LabelledPoint, label_places
from outspoken.report.format import dollars, duration, number, percent

pytest.importorskip("altair", reason="altair is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")


def view(results: dict[str, Any]) -> ResultsView:
    return ResultsView(ExperimentResults.from_dict(results))


def render(results: dict[str, Any]) -> str:
    return report.render(ExperimentResults.from_dict(results))


def only(results: dict[str, Any], task: str, model: str) -> dict[str, Any]:
    """The part of the results that is about one task and model."""
    here = {"task": task, "model": model}.items()
    return {
        **copy.deepcopy(results),
        "groups": [group for group in results["groups"] if here <= group.items()],
        "comparisons": [copy.deepcopy(entry) for entry in results["comparisons"] if here <= entry.items()],
        "distributions": [],
        "calibration": [],
        "examples": [],
    }


def with_direct(results: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The comparisons of the primary measure with the baseline, whose group is the first."""
    base = results["groups"][0]["id"]
    return (e for e in results["comparisons"] if e["measure"] == results["primary"] and e["b"] == base)


# The words.


def test_the_answer_names_arm_difference_certainty_and_price() -> None:
    lead = conclude(view(only(sample(), "jokes", "openai/gpt-4.1"))).lead
    assert re.fullmatch(
        r"vs-multi leads: semantic diversity 29\.\d against 10\.\d for direct, 1[89]\.\d more or 2\.\d times as much "
        r"\(95 % interval of the difference 1\d\.\d to 2\d\.\d\)\. "
        r"The difference is significant: p = 0\.002 after Holm's correction, over 40 prompts\. "
        r"The price: 210 tokens for each distinct response against 410 for direct \(0\.51 times\); "
        r"quality −?\S+ \(−\S+ to \S+\), not significant\.",
        lead,
    )


def test_no_arm_leads_without_a_significant_difference() -> None:
    conclusion = conclude(view(only(sample(), "jokes", "local/smollm2")))
    assert not conclusion.tasks[0].significant
    assert conclusion.lead.startswith(
        "No arm has a significantly higher semantic diversity than direct. The best of the others is vs-cot: 1"
    )
    assert (
        "not significant, because the interval includes 0; a difference of this size needs about"
        in conclusion.lead
    )
    assert "and there were 40." in conclusion.lead


def test_several_tasks_and_models_are_counted() -> None:
    lead = conclude(view(sample())).lead
    assert lead.startswith(
        "Of 4 combinations of task and model, vs-multi leads in 3, with a significantly higher semantic diversity than "
        "direct; in 1 no arm is significantly better than direct. Where it leads, vs-multi lies 7."
    )
    assert re.search(r"lies 7\.\d to 1\d\.\d above direct \(p at most 0\.002\), at 0\.51 times its tokens", lead)


def test_without_significant_differences_the_reason_is_given() -> None:
    results = sample()
    for entry in results["comparisons"]:
        entry["units"] = 2
    assert conclude(view(results)).lead == (
        "In none of 4 combinations of task and model is there an arm with a significantly higher semantic diversity "
        "than direct, because 2 prompts cannot show a difference: at least 6 are needed."
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"units": 5}, "5 prompts cannot show a difference: at least 6 are needed"),
        ({"low": None, "high": None}, "there is no interval"),
        ({"low": -0.001}, "the interval includes 0"),
        ({"p_holm": 0.051}, "after correction for the number of comparisons, chance is not ruled out"),
        ({"p_holm": None}, "there is no test of it"),
    ],
)
def test_each_reason_alone_makes_a_difference_insignificant(change: dict[str, Any], why: str) -> None:
    results = only(sample(), "jokes", "openai/gpt-4.1")
    for entry in with_direct(results):
        entry.update(change)
    conclusion = conclude(view(results))
    assert not conclusion.tasks[0].significant
    assert f"not significant, because {why}" in conclusion.lead


def test_calls_of_one_prompt_are_significant_by_their_interval_alone() -> None:
    results = only(sample(), "jokes", "openai/gpt-4.1")
    for entry in with_direct(results):
        entry["p"] = entry["p_holm"] = None
    for group in results["groups"]:
        group["measures"][results["primary"]]["unit"] = "call"
    conclusion = conclude(view(results))
    assert conclusion.tasks[0].significant
    assert "significant by its interval alone, over" in " ".join((conclusion.lead, *conclusion.tasks[0].sentences))
    assert "p <" not in conclusion.lead


def test_a_difference_too_small_to_display_is_not_0_less() -> None:
    results = only(sample(), "jokes", "local/smollm2")
    for entry in with_direct(results):
        entry.update(difference=-0.0001)
    assert re.search(r": 1\d\.\d, the same to these digits \(95 % interval", conclude(view(results)).lead)


def test_the_order_in_which_a_pair_was_compared_does_not_matter() -> None:
    results = only(sample(), "jokes", "openai/gpt-4.1")
    turned = copy.deepcopy(results)
    for entry in turned["comparisons"]:
        entry.update(
            a=entry["b"], b=entry["a"], difference=-entry["difference"], low=-entry["high"], high=-entry["low"]
        )
        entry["effect"] = -entry["effect"]
    assert conclude(view(turned)).lead == conclude(view(results)).lead


def test_if_less_is_better_the_lowest_wins_and_the_higher_is_worse() -> None:
    results = {**only(sample(), "states", "openai/gpt-4.1"), "primary": "rouge_l", "quality": None}
    conclusion = conclude(view(results))
    assert conclusion.lead.startswith(
        "vs-multi leads: ROUGE-L 30.0 against 49.0 for direct, 19.0 less or 0.61 times as much"
    )
    worse = {**results, "measures": [{**m, "better": "higher"} for m in results["measures"]]}
    sentences = conclude(view(worse)).tasks[0].sentences
    assert sentences[-1].startswith("Significantly worse than direct: sequence, multi-turn, vs-standard")


def test_a_better_figure_without_significance_is_reported() -> None:
    results = only(sample(), "jokes", "openai/gpt-4.1")
    (entry,) = (e for e in with_direct(results) if e["a"] == "g7")
    entry["p_holm"] = 0.2
    sentences = conclude(view(results)).tasks[0].sentences
    assert sentences[0].startswith("vs-cot leads")
    assert "With a better figure, but no significant difference: vs-multi." in sentences


def test_nothing_to_compare_says_why() -> None:
    results = only(sample(), "jokes", "openai/gpt-4.1")
    for group in results["groups"]:
        group["measures"] = {}
        group["undefined"] = {"semantic_diversity": "one response a prompt"}
    assert conclude(view(results)).lead == (
        "There is nothing to compare: semantic diversity is undefined for direct (one response a prompt)."
    )
    assert charts.figures(view(results)) == []
    assert "There is nothing to draw" in render(results)
    assert "no group" in conclude(view({**results, "groups": []})).lead


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (-0.0004, "−4.0e−04"),
        (0.0521, "0.052"),
        (-3.14159, "−3.14"),
        (31.25, "31.2"),
        (14886.5, "14,886"),
    ],
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_an_interval_has_the_decimals_of_its_value() -> None:
    assert number(-0.02, like=31.0) == "0.0"
    assert number(9.87, like=31.0) == "9.9"


def test_rounded_numbers_have_the_form_of_their_value() -> None:
    assert (percent(-0.0004), percent(-0.02)) == ("0.0 %", "−2.0 %")
    assert (dollars(0.0999), dollars(0.051)) == ("$0.10", "$0.051")
    assert (duration(59.97), duration(59.9)) == ("1 min 00 s", "59.9 s")


def test_recordings_of_several_models_are_seen_together() -> None:
    """One group a model, all of one arm: the first is what the others are compared with."""
    results = only(sample(), "jokes", "openai/gpt-4.1")
    keep = {"g1": "people", "g2": "gpt-4o", "g7": "claude"}
    results["groups"] = [
        {**g, "arm": "curated", "model": keep[g["id"]]} for g in results["groups"] if g["id"] in keep
    ]
    results["comparisons"] = [e for e in results["comparisons"] if {e["a"], e["b"]} <= set(keep)]
    results["baseline"] = "curated"
    conclusion = conclude(view(results))
    assert [verdict.task for verdict in conclusion.tasks] == ["jokes"]
    assert conclusion.lead.startswith(
        "curated of claude leads: semantic diversity 29.7 against 10.8 for curated of people"
    )
    (figure,) = charts.figures(view(results))
    assert len(figure.chart.to_dict()["layer"][3]["encoding"]) > 0
    assert "curated of gpt-4o" in render(results)


def test_one_arm_over_an_axis_is_compared_with_its_first_value() -> None:
    results = ablation()
    results["groups"] = [group for group in results["groups"] if group["arm"] == "vs-standard"]
    first, *rest = (group["id"] for group in results["groups"])
    spread = results["comparisons"][-1]
    results["comparisons"] = [{**spread, "a": each, "b": first} for each in rest]
    results["baseline"] = "vs-standard"
    lead = conclude(view(results)).lead
    assert lead.startswith(
        "vs-standard at k = 20 leads: semantic diversity 26.0 against 14.0 for vs-standard at k = 1"
    )


def test_an_axis_over_models_has_one_chart() -> None:
    results = sample()
    capability = {"openai/gpt-4.1": 60.0, "local/smollm2": 20.0}
    for group in results["groups"]:
        group["settings"] = {"capability": capability[group["model"]]}
    results["axis"] = "capability"
    conclusion = charts.figures(view(results))
    assert [figure.title for figure in conclusion] == [
        "Semantic diversity over capability, jokes",
        "Quality over capability, jokes",
        "Semantic diversity over capability, states",
    ]
    spec = conclusion[0].chart.to_dict()
    rows = spec["datasets"][spec["layer"][1]["data"]["name"]]
    assert {row["at"] for row in rows} == {20.0, 60.0}
    for group in results["groups"]:
        group["settings"] = {}
    assert [figure.name for figure in charts.figures(view(results))] == ["plane", "plane", "dots", "dots"]


def test_what_is_resampled_is_named() -> None:
    results = only(sample(), "states", "openai/gpt-4.1")
    for group in results["groups"]:
        group["measures"]["semantic_diversity"]["unit"] = "call"
    assert "over 40 calls" in conclude(view(results)).lead


# The page as text.


def test_what_models_wrote_is_text_and_nothing_else() -> None:
    html = render(sample())
    assert EVIL not in html
    assert "&lt;script&gt;window.pwned" in html
    assert html.count("</script>") == 3
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", html)
    assert "<i>Puerto Rico" not in html
    assert "{{" not in html.split("<main>")[1].split('<script type="application/json"')[0].replace(
        "{{ 7 * 7 }}", ""
    )


def test_the_order_of_the_sections() -> None:
    html = render(sample())
    wanted = [
        "answer",
        "charts",
        "distributions",
        "calibration",
        "figures",
        "comparisons",
        "examples",
        "cost",
        "warnings",
        "again",
    ]
    assert re.findall(r'<section id="(\w+)"', html) == wanted
    headline, published = html.index(">Semantic diversity</button>"), html.index(">KL, smoothed</button>")
    assert headline < html.index(">Vendi score</button>") < published
    assert "as published" in html[published : published + 200]


def test_what_is_undefined_says_why() -> None:
    results = sample()
    assert "<li>Quality: there is no rubric for states</li>" in render(results)
    group = results["groups"][1]
    group["measures"].pop("vendi")
    group["undefined"] = {"vendi": "one response"}
    assert "<li>undefined: one response</li>" in render(results)


def test_an_ablation_draws_a_line_over_its_axis() -> None:
    (figure,) = charts.figures(view(ablation()))
    layers = figure.chart.to_dict()["layer"]
    assert [layer["mark"]["type"] for layer in layers] == ["area", "line", "point", "rule"]
    (words,) = charts.figures(view(ablation("wording", ("confidence", "percentage"))))
    assert [layer["mark"]["type"] for layer in words.chart.to_dict()["layer"]] == ["rule", "point", "rule"]
    (wide,) = charts.figures(view(ablation("tau", (0.001, 0.01, 0.1, 1.0))))
    assert wide.chart.to_dict()["layer"][1]["encoding"]["x"]["scale"]["type"] == "log"


def test_the_plane_with_judged_quality_and_points_without() -> None:
    conclusion = charts.figures(view(sample()))
    assert [figure.name for figure in conclusion] == ["plane", "plane", "dots", "dots"]
    assert "On the Pareto front" in conclusion[0].caption
    for figure in conclusion:
        figure.chart.to_dict(validate=True)


def test_figures_without_intervals_are_drawn_as_points() -> None:
    results = only(sample(), "jokes", "openai/gpt-4.1")
    for group in results["groups"]:
        for estimate in filter(None, group["measures"].values()):
            estimate.update(low=None, high=None)
    for quality, wanted in (("quality", ["line", "point", "text"]), (None, ["rule", "point"])):
        (figure,) = charts.figures(view({**results, "quality": quality}))
        assert list(dict.fromkeys(layer["mark"]["type"] for layer in figure.chart.to_dict()["layer"])) == wanted


def test_answers_beyond_the_top_are_summed() -> None:
    results = sample()
    entry = results["distributions"][0]
    spec = charts.answers(view(results), view(results).results.distributions[0], "g15").to_dict()
    for layer, shares in zip(
        sorted(spec["layer"], key=lambda layer: layer["mark"]["size"], reverse=True),
        [entry["reference"], entry["groups"]["g15"]],
        strict=True,
    ):
        rows = spec["datasets"][layer["data"]["name"]]
        assert len(rows) == 13
        assert rows[-1]["answer"] == OTHERS
        assert rows[0]["share"] == shares[rows[0]["answer"]]
        assert sum(row["share"] for row in rows) == pytest.approx(1)


@pytest.mark.parametrize("calibration", [None, []])
def test_without_stated_probabilities_there_is_no_section(calibration: list[Any] | None) -> None:
    results = {**sample(), "calibration": calibration}
    if calibration is None:
        del results["calibration"]
    assert 'id="calibration"' not in render(results)
    assert charts.reliabilities(view(results)) == []


def test_stated_probabilities_are_drawn_against_observed_ones() -> None:
    results = sample()
    conclusion = charts.reliabilities(view(results))
    assert [figure.title for figure in conclusion] == [
        f"states · {model} · against {source}"
        for model in ("openai/gpt-4.1", "local/smollm2")
        for source in ("direct answers", "the reference")
    ]
    spec = conclusion[0].chart.to_dict(validate=True)
    diagonal, curve, points = (spec["datasets"][layer["data"]["name"]] for layer in spec["layer"])
    entries = [
        e for e in results["calibration"] if e["against"] == "direct" and e["group"] in ("g19", "g20", "g21")
    ]
    most = max(max(part["stated"], part["observed"]) for entry in entries for part in entry["bins"])
    assert diagonal == [{"stated": 0, "observed": 0}, {"stated": most, "observed": most}]
    wanted = [(part["stated"], part["observed"], part["count"]) for entry in entries for part in entry["bins"]]
    assert [(row["stated"], row["observed"], row["count"]) for row in points] == wanted
    assert curve == points
    scales = [spec["layer"][2]["encoding"][axis]["scale"]["domain"] for axis in ("x", "y")]
    assert scales == [[0, most]] * 2


def test_an_axis_has_a_reliability_chart_for_each_of_its_values() -> None:
    results = ablation()
    (entry, *_) = sample()["calibration"]
    results["calibration"] = [
        {**entry, "task": group["task"], "group": group["id"]}
        for group in results["groups"]
        if group["method"] != "direct"
    ]
    conclusion = charts.reliabilities(view(results))
    assert [figure.title for figure in conclusion] == [
        f"jokes · openai/gpt-4.1 · k = {k} · against direct answers" for k in (1, 3, 5, 10, 20)
    ]
    points = conclusion[0].chart.to_dict()["layer"][2]["data"]["name"]
    assert {row["arm"] for row in conclusion[0].chart.to_dict()["datasets"][points]} == {"vs-standard", "vs-cot"}


def test_the_table_of_stated_probabilities() -> None:
    results = sample()
    first = results["calibration"][0]
    first.update(undefined=2, rank_correlation=None)
    first["total_variation"] = {"value": 0.9996, "low": 0.99, "high": 1.0, "units": 2, "note": "from 2 prompts"}
    results["calibration"][1]["total_variation"]["value"] = 1.0
    conclusion = report_tables.calibration(view(results))
    arm, against, variation, _, rank, count, task, model = conclusion.rows[0].cells
    assert (arm.text, against.text, task.text, model.text) == (
        "vs-standard", "direct answers", "states", "openai/gpt-4.1",
    )  # fmt: skip
    assert (variation.text, variation.under) == ("1.000", "0.990 to 1.000")
    assert (rank.text, rank.sort) == ("–", None)
    assert (count.text, count.sort) == ("168", 168)
    assert [conclusion.notes[at - 1] for at in (*variation.notes, *count.notes)] == [
        "from 2 prompts",
        "2 prompts left out: one answer in all, or no answer in common",
    ]
    reference = next(row for row in conclusion.rows if row.cells[2].sort == 1.0)
    assert reference.cells[2].text == "1.000", "a column has one number of decimals"
    html = render(results)
    assert "frequencies in 30 samples per prompt, which vary by chance" in html
    results["calibration"] = [entry for entry in results["calibration"] if entry["against"] == "reference"]
    assert "which vary by chance" not in render(results)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((0.9996, 1.0, 0.952), ["1.000", "1.000", "0.952"]),
        ((100.0, 31.25, 5.2), ["100.0", "31.2", "5.2"]),
        ((14.886, 0.584, 0.0), ["14.89", "0.58", "0.00"]),
        ((20.0, 0.003), ["20.00", "0.003"]),
    ],
)
def test_a_column_has_one_number_of_decimals(values: tuple[float, ...], texts: list[str]) -> None:
    results = only(sample(), "states", "openai/gpt-4.1")
    results["groups"] = results["groups"][: len(values)]
    for group, value in zip(results["groups"], values, strict=True):
        group["measures"]["vendi"]["value"] = value
    results["comparisons"] = []
    table = report_tables.figures(view(results), "states", "openai/gpt-4.1")
    (at,) = (at for at, column in enumerate(table.columns) if column.title == "Vendi score")
    assert [row.cells[at].text for row in table.rows] == texts


def test_labels_cover_no_point_and_no_other_label() -> None:
    spots = ((0, 0), (1, 1), (1.01, 1.0), (0.5, 0.2), (1.0, 0.98), (1.02, 1.02), (0.99, 1.01))
    places = label_places([LabelledPoint("vs-standard", x, y) for x, y in spots])
    assert places[0] is not None
    assert None in places, "five points on one spot cannot all be named"


def test_each_colour_stands_out_from_its_paper() -> None:
    def light(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for colours, paper in ((LIGHT, "#fbfbf9"), (DARK, "#15171b")):
        assert len(set(colours)) == len(SHAPES)
        for colour in colours:
            bright, dim = sorted((light(colour) + 0.05, light(paper) + 0.05), reverse=True)
            assert bright / dim >= 3, colour


@pytest.mark.parametrize(("change", "message"), [({"format": 2}, "format 1"), ({"quality": "beauty"}, "beauty")])
def test_other_documents_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        render({**sample(), **change})
    with pytest.raises(UsageError, match="has no groups"):
        render({key: value for key, value in sample().items() if key != "groups"})


# Files.


def test_pictures_of_every_chart(tmp_path: Path) -> None:
    results = sample()
    path = report.write(ExperimentResults.from_dict(results), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    conclusion = sorted(path.parent.glob("charts/*"))
    assert len(conclusion) == 2 * (4 + len(results["distributions"]) + len(charts.reliabilities(view(results))))
    for file in conclusion:
        content = file.read_bytes()
        if file.suffix == ".png":
            width, height = struct.unpack(">II", content[16:24])
            assert width > 900
            assert height > 400
        else:
            text = content.decode()
            assert text.startswith("<svg")
            assert "vs-multi" in text
            assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    assert not list(tmp_path.rglob(".*"))


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        report.write(ExperimentResults.from_dict(sample()), tmp_path / "file", pictures=False)
