"""The pages of the theory's documents: their words, charts, tables and files."""

from __future__ import annotations

import copy
import json
import math
import re
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from theory_sample import BASE, BASES, DOCUMENTS, EVIL, counts, logprobs, preferences, sharpen, three

from outspoken.errors import OutputError, UsageError
from outspoken.theory import charts, report, report_text

pytest.importorskip("altair", reason="altair is not installed")
pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")

Make = Callable[[], dict[str, Any]]
every_kind = pytest.mark.parametrize("make", [*DOCUMENTS.values(), logprobs], ids=[*DOCUMENTS, "logprobs"])


def rows_of(chart: Any, layer: int) -> list[dict[str, Any]]:
    spec = chart.to_dict()
    return list(spec["datasets"][spec["layer"][layer]["data"]["name"]])


def main_part(html: str) -> str:
    return html.split("<main>")[1].split('<script type="application/json"')[0]


@every_kind
def test_what_the_data_say_is_text_and_nothing_else(make: Make) -> None:
    html = report.render(make())
    assert EVIL not in html
    assert "<b>135M</b>" not in html
    assert "&lt;script&gt;window.pwned" in main_part(html)
    assert html.count("</script>") == 3
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", html)
    assert "{{" not in main_part(html).replace("{{ 7 * 7 }}", "")


@every_kind
def test_the_answer_leads_and_each_term_is_explained(make: Make) -> None:
    document = make()
    html = main_part(report.render(document))
    ids = re.findall(r'<section id="(\w+)"', html)
    assert ids[0] == "answer"
    assert ids[-1] == "again"
    assert ids.index("charts") < ids.index("reading") < ids.index("figures")
    answer = html.split("</section>")[0]
    lead = document["verdict"]["lead"] if document["kind"] == "typicality" else document["sentences"][0]
    assert lead[:40].split("'")[0] in answer
    for term in ("alpha", "beta", "gamma", "log-likelihood", "odds ratio"):
        assert re.search(rf"<dt>{term}\b", html), term
    assert document["command"] in html
    assert "&lt;/script&gt;" in html.split('id="again"')[1]


def test_warnings_stand_in_the_answer() -> None:
    document = {**sharpen(), "warnings": ["Only <two> answers."]}
    assert "Only &lt;two&gt; answers." in main_part(report.render(document)).split("</section>")[0]
    assert 'id="warnings"' not in report.render({**document, "warnings": []})


def test_a_document_needs_nothing_of_the_command_line() -> None:
    for make in DOCUMENTS.values():
        document = make()
        for name in ("version", "created", "command", "settings"):
            del document[name]
        assert "To repeat it" in report.render(document)


@pytest.mark.parametrize("document", [{}, {"kind": "gammas"}, {"kind": None}])
def test_what_is_no_document_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="typicality, sharpen, gamma, levels"):
        report.render(document)


@every_kind
def test_every_chart_is_valid_vega_lite(make: Make) -> None:
    made = charts.figures(make())
    assert made
    for figure in made:
        json.dumps(figure.chart.to_dict(validate=True), allow_nan=False)


# Typicality.


def test_the_forest_has_every_estimate_on_one_scale() -> None:
    document = preferences()
    forest, *curves = charts.figures(document)
    assert [figure.title for figure in curves] == list(BASES)
    assert [row["x"] for row in rows_of(forest.chart, 3)] == [
        fields["odds_ratio"]["value"] for fields in (document, *document["others"])
    ]
    controls = [
        fields["controls"][name]
        for fields in (document, *document["others"])
        for name in ("length", "summed", "randomised_order")
    ]
    assert [row["x"] for row in rows_of(forest.chart, 4)] == [entry["odds_ratio"]["value"] for entry in controls]
    null = document["controls"]["permutation_null"]
    chance = rows_of(forest.chart, 1)[0]
    assert (chance["x_low"], chance["x_high"]) == tuple(
        math.exp(null[end] * document["sd"]) for end in ("low", "high")
    )
    assert chance["x_low"] < 1 < chance["x_high"]
    order = forest.chart.to_dict()["layer"][1]["encoding"]["y"]["scale"]["domain"]
    assert [key[4:].split("\n")[0] for key in order[:3]] == [
        BASES[0],
        "Main estimate",
        document["controls"]["length"]["title"],
    ]
    assert len(order) == 2 * (1 + 1 + len(document["controls"]))


def test_a_conclusion_and_its_limits_for_each_base_model() -> None:
    document = preferences()
    html = main_part(report.render(document))
    for fields in (document, *document["others"]):
        for point in (*fields["verdict"]["may"], *fields["verdict"]["may_not"]):
            assert re.sub(r"<b>.*", "", point)[:50] in html
    assert html.count("It may not be concluded") == 2


def test_what_was_left_out_is_listed_with_its_reason() -> None:
    table = report.skipped(preferences())
    counts_of = {(row.cells[0].text, row.cells[1].text): row.cells[2].text for row in table.rows}
    assert counts_of["the two texts are equal", "the file"] == "4"
    assert counts_of["the prompt is longer than the context", BASES[0]] == "3"
    empty = preferences("one")
    empty["data"]["skipped"] = empty["skipped"] = {}
    assert "Nothing was left out." in report.render(empty)


def test_the_table_has_the_figures_of_the_document() -> None:
    document = preferences("one")
    (table,) = report.tables(document)
    main, length, *_ = table.rows
    assert [cell.sort for cell in main.cells[1:]] == [
        document["alpha"]["value"], document["alpha"]["se"], document["alpha"]["p"], document["alpha"]["p_holm"],
        document["odds_ratio"]["value"], document["change"]["value"], document["rate"]["value"],
    ]  # fmt: skip
    assert length.cells[1].sort == document["controls"]["length"]["value"]
    assert main.cells[7].text.endswith(" %")


def test_estimates_without_intervals_are_points() -> None:
    document = preferences("one")
    for entry in (
        document["alpha"],
        document["odds_ratio"],
        document["change"],
        document["rate"],
        *document["controls"].values(),
    ):
        entry.update(low=None, high=None)
        if entry.get("odds_ratio"):
            entry["odds_ratio"].update(low=None, high=None)
    document["alpha"].update(se=None, p=None, p_holm=None)
    forest, _ = charts.figures(document)
    assert [layer["mark"]["type"] for layer in forest.chart.to_dict()["layer"]] == ["rule", "point", "point"]
    assert "(no p)" in report.render(document)


# Sharpening.


def test_the_sliders_start_where_the_document_stands() -> None:
    def params(document: dict[str, Any]) -> dict[str, Any]:
        return {entry["name"]: entry for entry in charts.figures(document)[0].chart.to_dict()["params"]}

    made = params(sharpen())
    assert (made["alpha"]["value"], made["beta"]["value"], made["gamma"]["expr"]) == (
        0.57,
        0.2,
        "1 + alpha / beta",
    )
    assert made["beta"]["bind"]["min"] > 0
    far = params(sharpen(alpha=9.0, beta=0.001))
    assert far["alpha"]["bind"]["max"] >= 9
    assert far["beta"]["bind"]["min"] <= 0.001
    for gamma in (0.5, 4.0):
        alone = params(sharpen(gamma=gamma))
        assert 1 + alone["alpha"]["value"] / alone["beta"]["value"] == pytest.approx(gamma)
        assert alone["alpha"]["bind"]["min"] <= alone["alpha"]["value"] <= alone["alpha"]["bind"]["max"]


def test_the_picture_of_the_sliders_shows_the_shares_and_sums_of_the_document(tmp_path: Path) -> None:
    """Vega computed them; they are the ones that numpy did."""
    document = sharpen()
    report.write(document, tmp_path)
    (picture,) = tmp_path.glob("charts/01-*.svg")
    texts = re.findall(r"<(?:text|tspan)[^>]*>([^<]+)<", picture.read_text(encoding="utf-8"))
    after, before = document["after"], document["before"]
    for wanted in (
        f"{document['gamma']:.2f}", f"{before['entropy']:.2f}", f"{after['entropy']:.2f}",
        f"{before['effective_size']:.1f}", f"{after['effective_size']:.1f}", f"{after['distinct_100']:.1f}",
        f"{document['answers'][0]['after']:.1%}",
    ):  # fmt: skip
        assert wanted in texts, wanted
    assert f"{len(BASE) - 20} others" in texts


def test_a_gamma_that_leaves_one_answer_still_draws(tmp_path: Path) -> None:
    document = sharpen(alpha=50.0, beta=0.01)
    names = [figure.name for figure in charts.figures(document)]
    assert names[0] == "sharpened"
    report.write(document, tmp_path)
    (picture,) = tmp_path.glob("charts/01-*.svg")
    assert "100.0%" in picture.read_text(encoding="utf-8")
    document["curve"] = [{**row, "draws_to_new": None} for row in document["curve"]]
    assert "draws_to_new" not in [figure.name for figure in charts.figures(document)]


# Gamma.


def test_answers_that_never_came_stand_at_the_edge() -> None:
    document = counts()
    (figure,) = charts.figures(document)
    never = {row["answer"] for row in rows_of(figure.chart, 2)}
    assert never == {point["answer"] for point in document["points"] if point["aligned"] == 0}
    assert never
    lowest = min(point["aligned"] for point in document["points"] if point["aligned"] > 0)
    assert all(row["y"] < lowest for row in rows_of(figure.chart, 2))
    assert "never came" in figure.caption
    start, *_, end = rows_of(figure.chart, 1)
    slope = math.log(end["y"] / start["y"]) / math.log(end["x"] / start["x"])
    assert slope == pytest.approx(document["gamma"]["value"])


def test_a_thousand_answers_draw_at_once() -> None:
    document = counts()
    point = document["points"][0]
    document["points"] += [{**point, "answer": f"answer {at}", "base": 0.001 + at / 1e6} for at in range(1000)]
    began = time.perf_counter()
    charts.figures(document)
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("prompts", [1, 3])
def test_log_probabilities_lie_about_a_line_of_slope_gamma(prompts: int) -> None:
    document = logprobs(prompts)
    (figure,) = charts.figures(document)
    for layer, slope in ((0, 1.0), (1, document["gamma"]["value"])):
        start, end = rows_of(figure.chart, layer)
        assert (end["y"] - start["y"]) / (end["x"] - start["x"]) == pytest.approx(slope)
    columns = [column.title for column in report.tables(document)[1].columns]
    assert ("prompt" in columns) == (prompts > 1)


# Levels.


def test_each_level_has_its_bars_on_the_base() -> None:
    document = three()
    distance, *bars = charts.figures(document)
    assert [figure.title for figure in bars] == [
        "Asked for one answer",
        "Asked for a list",
        "Asked for a distribution",
    ]
    assert [row["x"] for row in rows_of(distance.chart, 2)] == [arm["tv"]["value"] for arm in document["arms"]]
    for figure, level in zip(bars, ("instance", "list", "distribution"), strict=True):
        behind, rows = (rows_of(figure.chart, layer) for layer in (0, 1))
        assert rows[0]["share"] == next(e[level] for e in document["answers"] if e["text"] == rows[0]["answer"])
        assert sum(row["share"] for row in rows) == pytest.approx(1)
        assert sum(row["share"] for row in behind) == pytest.approx(1)


def test_figures_that_are_not_there_are_dashes() -> None:
    document = copy.deepcopy(three())
    document["arms"][1]["kl"] = None
    document["arms"][1]["tv"].update(low=None, high=None)
    table = report.tables(document)[0]
    assert table.rows[1].cells[2].text == "–"
    assert report_text.tiles(document)[1].within == ""


@pytest.mark.parametrize(
    ("figure", "wanted"),
    [
        ((0.645, 0.312, 0.979), ("0.645", "0.312 to 0.979")),
        ((-0.00412, -0.0083, 0.00041), ("−0.0041", "−0.0083 to 0.0004")),
        ((0.00077, -0.31, 0.32), ("0.001", "−0.310 to 0.320")),
        ((-0.00001, -0.002, 0.002), ("0.0000", "−0.0020 to 0.0020")),
        ((0.0, 0.0, 0.0), ("0.000", "0.000 to 0.000")),
        ((4.7e18, 1e-5, 1.2e40), ("4.7e+18", "1e−05 to 1.2e+40")),
        ((12.3, None, None), ("12.3", "")),
        ((None, None, None), ("–", "")),
    ],
)
def test_a_figure_and_its_interval_have_the_same_decimals(
    figure: tuple[float, ...], wanted: tuple[str, str]
) -> None:
    assert report_text.interval_text(dict(zip(("value", "low", "high"), figure, strict=True))) == wanted


# Files.


@every_kind
def test_pictures_of_every_chart(make: Make, tmp_path: Path) -> None:
    path = report.write(make(), tmp_path / "new" / "folder")
    assert path == tmp_path / "new" / "folder" / "report.html"
    made = sorted(path.parent.glob("charts/*"))
    assert len(made) == 2 * len(charts.figures(make()))
    for file in made:
        content = file.read_bytes()
        if file.suffix == ".png":
            width, height = struct.unpack(">II", content[16:24])
            assert width > 900
            assert height > 250
        else:
            assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", content.decode())
    assert not list(tmp_path.rglob(".*"))


def test_a_long_list_of_answers_is_cut_and_said_so() -> None:
    document = sharpen()
    first = document["answers"][0]
    document["answers"] = [{**first, "text": f"answer {at}"} for at in range(report.MOST + 1)]
    table = report.tables(document)[0]
    assert len(table.rows) == report.MOST
    assert table.caption.endswith("the first 200 of 201")


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        report.write(sharpen(), tmp_path / "file", pictures=False)
