"""Charts of every report: whole titles and labels, and a legend of the arms that are drawn."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from chart_legends import check_legends, parts
from results_sample import ablation, sample
from theory_sample import DOCUMENTS

from outspoken.experiment import report
from outspoken.experiment.results import ExperimentResults
from outspoken.report.charts import add_chart, alt, chart_of, spec, theme, title_lines, write_pictures
from outspoken.report.html import printable
from outspoken.theory import charts as theory_charts

pytest.importorskip("altair", reason="altair is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")

LONG_PROMPT = (
    "Please name one state of the United States of America at random, and say nothing else at all besides its name, "
    "neither a greeting nor an explanation of the choice that was made."
)
LONG_ARM = "vs-standard with temperature 0.7, k 20 and tau 0.05"


def long_names() -> dict[str, Any]:
    results = json.loads(json.dumps(sample()).replace("vs-standard", LONG_ARM))
    for entry in results["distributions"]:
        entry["prompt"] = LONG_PROMPT
    return dict(results)


def without_an_arm() -> dict[str, Any]:
    """The sample, where vs-multi has responses to jokes alone."""
    results = json.loads(json.dumps(sample()))
    gone = {one["id"] for one in results["groups"] if (one["task"], one["arm"]) == ("states", "vs-multi")}
    results["groups"] = [one for one in results["groups"] if one["id"] not in gone]
    results["comparisons"] = [one for one in results["comparisons"] if not gone & {one["a"], one["b"]}]
    results["calibration"] = [one for one in results["calibration"] if one["group"] not in gone]
    for one in (*results["distributions"], *results["examples"]):
        one["groups"] = {key: part for key, part in one["groups"].items() if key not in gone}
    return dict(results)


def text_of(svg: str) -> str:
    """The visible text, with a blank between pieces."""
    return " ".join(unescape(piece) for piece in re.findall(r">([^<>]+)</t(?:ext|span)>", svg))


@pytest.mark.parametrize("make", [sample, ablation, long_names, without_an_arm])
def test_pictures_of_an_experiment_have_whole_texts_and_the_arms_that_are_drawn(make: Any, tmp_path: Path) -> None:
    results = ExperimentResults.from_dict(make())
    view = report._view(results)
    titles = [title for _, title, _ in report._pictures(view)]
    assert any(check_legends(document) for _, _, document in report._pictures(view))
    report.write(results, tmp_path)
    files = sorted((tmp_path / "charts").glob("*.svg"))
    assert len(files) == len(titles)
    for file, title in zip(files, titles, strict=True):
        text = text_of(file.read_text(encoding="utf-8"))
        assert " ".join(title.split()) in text
        assert "…" not in text.replace(title, ""), f"{file.name} cuts a text"


def test_an_arm_of_another_task_is_not_in_the_legend_and_colours_stay(tmp_path: Path) -> None:
    view = report._view(ExperimentResults.from_dict(without_an_arm()))
    legends = {}
    for _, title, document in report._pictures(view):
        for part in parts(document):
            encoding = part.get("encoding", {}).get("color", {})
            if isinstance(encoding, dict) and encoding.get("legend"):
                legends[title] = encoding["legend"]["values"]
                assert "vs-multi" in encoding["scale"]["domain"]
    assert "vs-multi" in legends["jokes · openai/gpt-4.1"]
    assert "vs-multi" not in legends["states · openai/gpt-4.1"]


@pytest.mark.parametrize("make", DOCUMENTS.values(), ids=DOCUMENTS)
def test_charts_of_the_theory(make: Any, tmp_path: Path) -> None:
    figures = theory_charts.figures(printable(make()))
    drawn = [(figure.name, figure.title, spec(figure.chart, 560)) for figure in figures]
    for _, _, document in drawn:
        check_legends(document)
    write_pictures(drawn, tmp_path)
    for file, (_, title, _) in zip(sorted(tmp_path.glob("*.svg")), drawn, strict=True):
        assert " ".join(title.split()) in text_of(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("dark", [False, True])
def test_the_theme_cuts_no_label_of_a_legend(dark: bool) -> None:
    legend = theme(dark)["legend"]
    assert isinstance(legend, dict)
    assert legend["labelLimit"] == 0


def test_long_names_stand_below_each_other() -> None:
    def columns(*names: str) -> int:
        colour = alt.Color("arm:N", scale=alt.Scale(domain=[*names, "elsewhere"]))
        chart = chart_of([{"x": at, "arm": name} for at, name in enumerate(names)])
        document: Any = spec(chart.mark_point().encode(x="x:Q", color=colour), 560)
        legend = document["encoding"]["color"]["legend"]
        assert legend["values"] == list(names)
        return int(legend["columns"])

    assert columns("direct", "vs-cot") == 4
    assert columns("direct", LONG_ARM) == 1


def test_charts_of_a_page_and_without_a_legend() -> None:
    specs: dict[str, Any] = {}
    colour = alt.Color("arm:N", scale=alt.Scale(domain=["a", "b"]), legend=None)
    add_chart(specs, chart_of([{"x": 1, "arm": "a"}]).mark_point().encode(x="x:Q", color=colour))
    assert specs["chart-0"]["encoding"]["color"]["legend"] is None


def test_titles_are_broken_between_words() -> None:
    lines = title_lines(LONG_PROMPT)
    assert len(lines) > 1
    assert max(map(len, lines)) <= 80
    assert " ".join(lines) == LONG_PROMPT
    assert title_lines("") == [""]
    assert "".join(title_lines("x" * 100, 30)) == "x" * 100


def test_names_of_files_end_with_a_word(tmp_path: Path) -> None:
    chart = spec(chart_of([{"x": 1}]).mark_point().encode(x="x:Q"), 100)
    write_pictures([("answers", LONG_PROMPT, chart)], tmp_path)
    (file,) = tmp_path.glob("*.svg")
    name = file.stem.removeprefix("01-answers-").split("-")
    assert name == re.findall(r"\w+", LONG_PROMPT)[: len(name)]
