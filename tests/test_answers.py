from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.answer_sets import Answers, load, published_key
from outspoken.same_text import text_key

DATA = Path(__file__).parents[2] / "shared/data"


def recorded(name: str) -> Path:
    if not (DATA / name).is_file():
        pytest.skip(f"the recorded answers of ../shared/data/{name} are absent")
    return DATA / name


def put(folder: Path, text: str | bytes) -> Path:
    path = folder / "answers.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_counts() -> None:
    answers = Answers.counts({"New York": 6, "Straße": {"count": 2, "percentage": 0.5}, "東京": 0})
    assert answers.known == ("New York", "Straße", "東京")
    assert answers.reference == {"New York": 0.75, "Straße": 0.25, "東京": 0}
    for text in ("new york", " New York.\n", '"NEW  YORK"', "**New York**"):
        assert answers.label(text) == "New York"
    assert answers.label("STRASSE!") == "Straße"
    assert answers.label("「東京」。") == "東京"
    assert answers.label("York, New") == "york, new"


def test_counts_of_one_answer_in_several_spellings_add_up() -> None:
    answers = Answers.counts({"Texas ": 1, "Ohio": 1, "texas.": 2})
    assert answers.known == ("Texas", "Ohio")
    assert answers.reference == {"Texas": 0.75, "Ohio": 0.25}


@pytest.mark.parametrize(
    ("counts", "says"),
    [
        ({"Texas": -1}, "the count of 'Texas' must be a finite number of at least 0, not -1"),
        ({"Texas": float("nan")}, "not nan"),
        ({"Texas": True}, "not True"),
        ({"Texas": "3"}, "not '3'"),
        ({"Texas": {"percentage": 1}}, "not None"),
        ({"Texas": [1]}, r"not \[1\]"),
        ({"Texas": 0, "Ohio": 0}, "no answer has a count above 0"),
        ({}, "no answer has a count above 0"),
        ({" ": 1}, "must be text that is not blank"),
    ],
)
def test_invalid_counts(counts: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Answers.counts(counts)


def test_listed_answers_and_their_aliases() -> None:
    answers = Answers.listed([["UK", "Britain", "英国"], "Peru", ["Côte d'Ivoire", "Ivory Coast"]])
    assert answers.known == ("UK", "Peru", "Côte d'Ivoire")
    assert answers.reference is None
    assert [answers.label(text) for text in ("britain.", "英国", "PERU", "ivory coast", "France")] == [
        "UK",
        "UK",
        "Peru",
        "Côte d'Ivoire",
        "france",
    ]


def test_entries_that_share_a_spelling_are_one_answer() -> None:
    repeated = Answers.listed([["China", "PRC"], ["Chad"], ["china ", "People's Republic of China"]])
    assert repeated.known == ("China", "Chad")
    assert repeated.label("people's republic of china") == "China"
    america = Answers.listed([["America", "United States", "USA"], ["Mali"], ["United States"]])
    assert america.known == ("America", "Mali")
    assert america.label("United States") == "America"
    bridged = Answers.listed([["b"], ["x"], ["a"], ["a", "b", "c"]])
    assert bridged.known == ("b", "x")
    assert {bridged.label(text) for text in "abc"} == {"b"}


@given(st.lists(st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=3), min_size=1, max_size=9))
def test_listed_answers_are_the_connected_groups(entries: list[list[str]]) -> None:
    groups: list[set[str]] = []
    for entry in entries:
        touching = [group for group in groups if group & set(entry)]
        groups = [group for group in groups if group not in touching] + [set(entry).union(*touching)]
    answers = Answers.listed(entries)
    labels = {spelling: answers.label(spelling) for entry in entries for spelling in entry}
    assert {frozenset(s for s in labels if labels[s] == name) for name in labels.values()} == set(
        map(frozenset, groups)
    )
    assert set(answers.known or ()) == set(labels.values())
    assert all(name in [entry[0] for entry in entries] for name in answers.known or ())


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([], "the list of answers is empty"),
        ([["UK"], []], "answer 2 has no spelling"),
        ([["UK", ""]], "'answer 1' must be text that is not blank"),
        ([["UK", None]], "not None"),
        ([None], "answer 1 must be a list of spellings, not None"),
        ([float("nan")], "'answer 1' must be text that is not blank, not nan"),
        ([True], "not True"),
        ([{"UK": 1}], "answer 1 must be a list of spellings"),
    ],
)
def test_invalid_lists_of_answers(entries: list[Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Answers.listed(entries)


def test_nothing_is_known() -> None:
    answers = Answers.free()
    assert answers.known is None
    assert answers.reference is None
    assert answers.label(" A  Joke!") == "a joke"
    assert answers.label("สวัสดี 🦙") == "สวัสดี 🦙"


@given(st.text())
def test_a_label_is_a_known_answer_or_the_key_of_the_text(text: str) -> None:
    answers = Answers.counts({"Texas": 1, "東京": 1, "…": 1})
    label = answers.label(text)
    assert label == (
        next((known for known in answers.known or () if text_key(known) == text_key(text)), text_key(text))
    )


def test_a_task_brings_its_own_rule() -> None:
    def first_line(text: str) -> str:
        return text_key(text.strip().splitlines()[0])

    for answers in (
        Answers.counts({"Texas": 1}, normalise=first_line),
        Answers.listed(["Texas"], normalise=first_line),
    ):
        assert answers.label("Texas\nbecause it is large") == "Texas"
    assert Answers.free(normalise=first_line).label("Ohio\n\nsure") == "ohio"


def test_the_published_matching() -> None:
    assert published_key("The UK. \n") == "the uk"
    assert published_key(" UK...") == " uk"
    assert published_key("UK. .") == "uk. "
    answers = Answers.listed([["UK"]], normalise=published_key)
    assert answers.label("uk. ") == "UK"
    assert answers.label("“UK”") == "“uk”"


def test_the_reference_counts_of_the_states() -> None:
    path = recorded("states/reference_redpajama_counts.json")
    answers = load(path)
    assert isinstance(answers, Answers)
    assert answers.known == tuple(json.loads(path.read_text()))
    assert sum((answers.reference or {}).values()) == pytest.approx(1)
    for name, entry in json.loads(path.read_text()).items():
        assert (answers.reference or {})[name] == pytest.approx(entry["percentage"], rel=1e-9)
    assert pickle.loads(pickle.dumps(answers)) == answers


def test_the_questions_of_coverage_qa() -> None:
    path = recorded("coverage_qa/questions.json")
    questions = load(path)
    assert isinstance(questions, dict)
    assert list(questions) == list(json.loads(path.read_text()))
    unitary = questions[next(name for name in questions if "unitary state" in name)]
    assert len(unitary.known or ()) == 114
    assert (unitary.known or ()).count("China") == 1
    assert unitary.label("people's republic of china.") == "China"
    for name, entry in json.loads(path.read_text()).items():
        for spellings in entry["answers"]:
            assert questions[name].label(spellings[0]) in (questions[name].known or ())
            assert len({questions[name].label(spelling) for spelling in spellings}) == 1


def test_files_in_both_forms(tmp_path: Path) -> None:
    counted = load(put(tmp_path, b"\xef\xbb\xbf" + '{"東京": 3, "Ohio": {"count": 1}}'.encode()))
    assert isinstance(counted, Answers)
    assert counted.reference == {"東京": 0.75, "Ohio": 0.25}
    prompt = load(put(tmp_path, '{"Name one.": {"answers": [["UK", "Britain"]]}}'), normalise=published_key)
    assert isinstance(prompt, dict)
    assert prompt["Name one."] == Answers.listed([["UK", "Britain"]], normalise=published_key)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (b"\xff", "it is not UTF-8"),
        ("{}", "holds no answers: it must be an object of answers and counts"),
        ('[{"Texas": 3}]', "holds no answers"),
        ("3", "holds no answers"),
        ('{"Texas": -3}', "the count of 'Texas' must be"),
        ('{"Texas": NaN}', "the count of 'Texas' must be .* not nan"),
        ('{"Texas": 1e999}', "not inf"),
        ('{"Texas": 0}', "no answer has a count above 0"),
        ('{"Texas": 1, "Ohio": 2, "Texas": 2}', "'Texas' appears twice"),
        ('{"Name one.": {"answers": []}}', "'Name one.': the list of answers is empty"),
        ('{"Name one.": {"answers": [["UK"], [" "]]}}', "'Name one.': 'answer 2' must be text"),
        ('{"Name one.": {"answers": "UK"}}', "'Name one.': answers must be a list"),
        ('{"Name one.": {"answers": ["UK"]}, "Texas": 3}', "'Texas' must hold answers"),
    ],
)
def test_files_without_valid_answers(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = put(tmp_path, content)
    with pytest.raises(UsageError, match=says) as error:
        load(path)
    assert str(path) in str(error.value)
    assert not isinstance(error.value, UndefinedError)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"cannot read the file of answers .*missing\.json: there is no such file"
    ):
        load(tmp_path / "missing.json")
    with pytest.raises(UsageError, match="it is a folder"):
        load(tmp_path)


def test_references_of_questions_have_counts(tmp_path: Path) -> None:
    file = tmp_path / "r.json"
    questions = {
        "Q": {"answers": [["red", "crimson"], "blue"], "counts": {"crimson": 3, "Blue": 1}},
        "R": {"red": 70, "blue": 30},
        "S": {"answers": ["red", "blue"]},
        "T": {"counts": {"1": 2, "2": 2}},
        "U": {"answers": [[1, "one"], 2.0], "counts": {"1": 1, "2": 3}},
    }
    file.write_text(json.dumps(questions))
    loaded = load(file)
    assert isinstance(loaded, dict)
    assert loaded["Q"].reference == {"red": 0.75, "blue": 0.25}
    assert loaded["Q"].label("Crimson.") == "red"
    assert loaded["R"].reference == {"red": 0.7, "blue": 0.3}
    assert (loaded["S"].known, loaded["S"].reference) == (("red", "blue"), None)
    assert loaded["T"].reference == {"1": 0.5, "2": 0.5}
    assert loaded["U"].reference == {"1": 0.25, "2": 0.75}
    assert loaded["U"].label("One") == "1"


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({"answers": ["red"], "count": {"red": 1}}, "'Q': unknown key 'count': did you mean 'counts'"),
        ({"answers": ["red"], "source": "census"}, "unknown key 'source': known: answers, counts"),
        ({"answer": ["red"]}, "unknown key 'answer': did you mean 'answers'"),
        ({"answers": {"red": 3}}, "counts belong to 'counts'"),
        ({"count": 3}, "'Q' is an answer with its count, other entries are not"),
        ({"answers": ["red"], "counts": {"red": float("nan")}}, "not nan"),
        ({"answers": ["red"], "counts": {"red": "three"}}, "not 'three'"),
        ({"answers": ["red"], "counts": {"green": 1}}, "not among the answers"),
        ({"answers": ["red"], "counts": {"red": 0}}, "no answer has a count above 0"),
        ({"answers": ["red"], "counts": [1]}, "counts must be an object"),
        ({"answers": "red"}, "answers must be a list"),
        ({"red": -1, "blue": {"count": 2}}, "finite number of at least 0"),
        ({}, "must hold answers"),
    ],
)
def test_references_that_say_too_much_or_too_little_are_refused(tmp_path: Path, question, message) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps({"Q": question, "R": {"answers": ["x"]}}))
    with pytest.raises(UsageError, match=message):
        load(file)
