from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from outspoken.errors import UndefinedError, UsageError
from outspoken.theory.preference_formats import LAYOUTS
from outspoken.theory.preferences import PUBLISHED, PreferencePair, Preferences, read_preferences

HH = Path(__file__).parents[2] / "shared/data/prefs/hh_rlhf_helpful_base_test.jsonl"


def written(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


@pytest.fixture
def preferences_of(tmp_path: Path):
    """Rows of JSON, written and read."""

    def reading(rows: list[Any], **settings: Any) -> Preferences:
        return read_preferences(written(tmp_path / "prefs.jsonl", rows), **settings)

    return reading


def turns(*said: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]


@pytest.mark.parametrize("column", ["prompt", "question", "instruction"])
def test_pairs(preferences_of, column: str) -> None:
    found = preferences_of([{column: "¿Qué? 你好", "chosen": "好 🦙", "rejected": "مرحبا"}])
    assert found.pairs == (PreferencePair("¿Qué? 你好", "好 🦙", "مرحبا", True, None, 1),)
    assert (found.layout, found.ordered, found.rows, found.available, found.ties) == ("pairs", False, 1, 1, 0)
    assert (found.prompts, found.correctness, found.skipped, found.examples) == (1, False, {}, ())
    assert found.text_of("你好") == "你好\n\n    Response: "


def test_chats_of_ultrafeedback_binarized(preferences_of) -> None:
    row = {"prompt": "Sag ja", "prompt_id": "x", "messages": turns("Sag ja", "Ja!"), "score_chosen": 8.0}
    row |= {"chosen": turns("Sag ja", "Ja!"), "rejected": turns("Sag ja", "Nö 🙃")}
    longer = {"chosen": turns("A?", "B.", "C?", "D."), "rejected": turns("A?", "B.", "C?", "E.")}
    found = preferences_of([row, longer])
    assert found.layout == "chats"
    assert not found.ordered
    assert found.pairs[0] == PreferencePair("Sag ja", "Ja!", "Nö 🙃", True, None, 1)
    assert found.pairs[1].prompt == "User: A?\n\nAssistant: B.\n\nUser: C?"
    assert (found.pairs[1].first, found.pairs[1].second) == ("D.", "E.")


def test_chats_whose_prompt_stands_apart(preferences_of) -> None:
    answers = {
        "chosen": [{"role": "assistant", "content": "ja"}],
        "rejected": [{"role": "assistant", "content": "no"}],
    }
    found = preferences_of([{"prompt": turns("问?"), **answers}, {"prompt": "Q?", **answers}])
    assert [pair.prompt for pair in found.pairs] == ["问?", "Q?"]


def test_chats_that_are_none(preferences_of) -> None:
    good = {"chosen": turns("a", "b"), "rejected": turns("a", "c")}
    found = preferences_of(
        [
            good,
            {**good, "rejected": turns("other", "c")},
            {**good, "rejected": turns("a", "c", "d")},
            {**good, "rejected": turns("a", " ")},
            {**good, "rejected": "c"},
            {**good, "rejected": [{"role": "assistant", "content": None}]},
            {"chosen": turns("a", "b")[1:], "rejected": turns("a", "c")[1:]},
        ]
    )
    assert len(found.pairs) == 1
    assert found.skipped == {
        "no shared prompt": 1,
        "chat without an answer": 1,
        "empty response": 1,
        "responses that are not a list": 1,
        "message that is not text": 1,
        "no prompt": 1,
    }


def test_dialogues_of_hh_rlhf(preferences_of) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: 茶?\n\nAssistant:"
    found = preferences_of(
        [
            {"chosen": start + " I like tea", "rejected": start + " I like coffee"},
            {"chosen": start + " x", "rejected": start + " y\n\nHuman: more"},
            {"chosen": "\n\nHuman: a\n\nAssistant: x", "rejected": "\n\nHuman: b\n\nAssistant: x"},
            {"chosen": start + " same", "rejected": start + " same"},
            {"chosen": start + " x", "rejected": start},
        ]
    )
    assert found.layout == "hh-rlhf"
    assert found.pairs == (PreferencePair(start, " I like tea", " I like coffee", True, None, 1),)
    assert found.skipped == {"no shared prompt": 2, "equal texts": 1, "empty response": 1}
    assert found.prompt_format == "{prompt}"
    assert found.text_of(start) == start


def steer(prompt: Any, response: Any, helpfulness: Any, correctness: Any = 3) -> dict[str, Any]:
    return {
        "prompt": prompt,
        "response": response,
        "helpfulness": helpfulness,
        "correctness": correctness,
        "verbosity": 1,
    }


def test_ratings_of_helpsteer_make_every_pair_of_a_prompt(preferences_of) -> None:
    found = preferences_of(
        [
            steer("p", "a", 3, 4),
            steer("q", "x", 1),
            steer("p", "b", 4, 4),
            steer("p", "c", 3, 1),
            steer("q", "y", 0),
        ]
    )
    assert found.pairs == (
        PreferencePair("p", "a", "b", False, 0.0, 1),
        PreferencePair("p", "b", "c", True, 3.0, 3),
        PreferencePair("q", "x", "y", True, 0.0, 2),
    )
    assert (found.layout, found.ordered, found.ties, found.correctness, found.rows) == (
        "helpsteer",
        True,
        1,
        True,
        5,
    )


def test_ratings_that_are_none(preferences_of) -> None:
    rows = [
        steer("p", "a", "4"),
        steer("p", "b", 1),
        steer("p", "c", "gut"),
        steer("p", "d", None),
        steer("p", "e", True),
    ]
    rows += [
        steer("p", "f", 0, "?"),
        steer("", "g", 1),
        steer(None, "h", 1),
        steer("p", " \n", 2),
        steer("p", 5, 2),
        steer("p", "b ", 0),
    ]
    found = preferences_of(rows)
    assert [(pair.first, pair.second) for pair in found.pairs] == [("a", "b"), ("a", "b ")]
    assert found.skipped == {
        "rating that is not a number": 4,
        "no prompt": 2,
        "empty response": 1,
        "response that is not text": 1,
        "equal texts": 1,
    }
    assert any("prefs.jsonl:3: rating that is not a number ('gut')" in example for example in found.examples)


def test_helpsteer_without_correctness_and_as_csv(tmp_path: Path) -> None:
    path = tmp_path / "steer.csv"
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerows([["prompt", "response", "helpfulness"], ["问", "line\nbreak", "4"], ["问", "b", "2.5"]])
    assert read_preferences(path).pairs == (PreferencePair("问", "line\nbreak", "b", True, None, 2),)


def test_responses(preferences_of) -> None:
    entries = [
        {"text": "a", "rating": 1},
        {"response": "b", "score": 2.5, "correctness": 1},
        {"content": "c", "helpfulness": 0, "correctness": 0},
        "d",
    ]
    found = preferences_of([{"prompt": "p", "responses": entries}, {"prompt": "p", "responses": None}])
    assert [(pair.first, pair.second, pair.preferred, pair.gap) for pair in found.pairs] == [
        ("a", "b", False, None),
        ("a", "c", True, None),
        ("b", "c", True, 1.0),
    ]
    assert found.skipped == {"response that is not text": 1, "responses that are not a list": 1}
    assert found.ordered


def test_completions_of_ultrafeedback(tmp_path: Path) -> None:
    def completion(text: str, overall: float, fine: float | None, truth: str) -> dict[str, Any]:
        notes = {"helpfulness": {"Rating": "4"}, "truthfulness": {"Rating": truth}}
        return {"response": text, "overall_score": overall, "fine-grained_score": fine, "annotations": notes}

    rows = [
        {
            "instruction": "说",
            "completions": [
                completion("a", 10, 2.0, "5"),
                completion("b", 7, 4.0, "5"),
                completion("c", 1, None, "N/A"),
            ],
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "uf.parquet")
    found = read_preferences(tmp_path / "uf.parquet")
    assert found.layout == "ultrafeedback"
    assert [(pair.first, pair.second, pair.preferred, pair.gap) for pair in found.pairs] == [
        ("a", "b", False, 0.0),
        ("a", "c", True, None),
        ("b", "c", True, None),
    ]


def test_summaries_of_tldr(preferences_of) -> None:
    info = {"id": "t3", "post": "Long post…", "title": "Ein Titel", "subreddit": "tifu", "article": None}
    row = {
        "info": info,
        "summaries": [{"text": " short", "policy": "x"}, {"text": " kurz 🦙"}],
        "choice": 1,
        "worker": "w",
    }
    bad = [{**row, "choice": choice} for choice in (2, None, True, -1)]
    found = preferences_of(
        [row, *bad, {**row, "info": {}}, {**row, "summaries": row["summaries"][:1]}, {**row, "choice": 0}]
    )
    prompt = "SUBREDDIT: r/tifu\n\nTITLE: Ein Titel\n\nPOST: Long post…\n\nTL;DR:"
    assert found.pairs == (
        PreferencePair(prompt, " short", " kurz 🦙", False, None, 1),
        PreferencePair(prompt, " short", " kurz 🦙", True, None, 8),
    )
    assert found.skipped == {"choice out of range": 4, "no prompt": 1, "not two summaries": 1}
    assert (found.layout, found.ordered, found.text_of(prompt)) == ("tldr", True, prompt)


def test_a_file_of_no_layout_names_the_layouts(preferences_of) -> None:
    with pytest.raises(UsageError, match="columns are text, rating") as caught:
        preferences_of([{"text": "a", "rating": 1}])
    assert all(layout.columns in str(caught.value) for layout in LAYOUTS)


def test_rows_that_cannot_be_read(tmp_path: Path) -> None:
    good = json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"})
    path = tmp_path / "broken.jsonl"
    path.write_bytes(
        b"[1]\n{oops\n" + good.encode() + b'\n{"prompt": "\xff"}\n{"prompt": "\\ud800", "chosen": "a"}\n'
    )
    found = read_preferences(path)
    assert len(found.pairs) == 1
    assert (found.rows, found.skipped) == (5, {"row that cannot be read": 4})
    assert found.pairs[0].row == 3
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress((good + "\n").encode() * 5000)[:-20])
    assert read_preferences(path).skipped["row that cannot be read"] == 1


@pytest.mark.parametrize("content", ["", "\n", "[1]\nnull\n"])
def test_files_without_rows(tmp_path: Path, content: str) -> None:
    (tmp_path / "none.jsonl").write_text(content)
    with pytest.raises(UsageError, match=r"none\.jsonl holds no preference"):
        read_preferences(tmp_path / "none.jsonl")
    with pytest.raises(UsageError, match="no such file"):
        read_preferences(tmp_path / "absent.jsonl")


def test_no_pair_is_left(preferences_of) -> None:
    with pytest.raises(
        UndefinedError, match=r"no pair that can be used in 2 rows \(equal texts: 1; empty response: 1; ties: 0\)"
    ):
        preferences_of(
            [{"prompt": "p", "chosen": "a", "rejected": "a\n"}, {"prompt": "p", "chosen": "", "rejected": "a"}]
        )
    with pytest.raises(UndefinedError, match="ties: 1"):
        preferences_of([steer("p", "a", 3), steer("p", "b", 3)])


def test_a_sample_of_the_pairs(preferences_of) -> None:
    rows = [{"prompt": f"p{at}", "chosen": "a", "rejected": "b"} for at in range(50)]
    sample = preferences_of(rows, limit=10, seed=3)
    assert (len(sample.pairs), sample.available, sample.prompts) == (10, 50, 10)
    places = [pair.row for pair in sample.pairs]
    assert places == sorted(places)
    assert preferences_of(rows, limit=10, seed=3) == sample
    assert preferences_of(rows, limit=10, seed=4).pairs != sample.pairs
    assert len(preferences_of(rows, limit=60).pairs) == 50
    for wrong in ({"limit": 0}, {"seed": -1}):
        with pytest.raises(UsageError, match="must be at least"):
            preferences_of(rows, **wrong)


def test_the_text_before_a_response(preferences_of) -> None:
    rows = [
        {"prompt": "Q {x}", "chosen": "a", "rejected": "b"},
        {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": "a", "rejected": "b"},
    ]
    mixed = preferences_of(rows)
    assert mixed.prompt_format == PUBLISHED
    assert [mixed.text_of(pair.prompt) for pair in mixed.pairs] == ["Q {x}\n\n    Response: ", rows[1]["prompt"]]
    own = preferences_of(rows, prompt_format="<{prompt}>\nA:")
    assert own.text_of(rows[1]["prompt"]) == "<\n\nHuman: Q\n\nAssistant:>\nA:"
    for wrong in ("Response:", "{prompt} {prompt}"):
        with pytest.raises(UsageError, match=r"must contain \{prompt\} exactly once"):
            preferences_of(rows, prompt_format=wrong)


def test_the_real_file() -> None:
    if not HH.is_file():
        pytest.skip("the preferences of ../shared/data/prefs are absent")
    found = read_preferences(HH)
    assert (found.rows, found.layout, found.prompts) == (2345, "pairs", 2339)
    assert len(found.pairs) + sum(found.skipped.values()) == 2345
    assert found.skipped == {"empty response": 4, "equal texts": 2}
    assert all(found.text_of(pair.prompt) == pair.prompt and pair.first[0] == " " for pair in found.pairs)
