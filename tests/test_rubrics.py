"""Rubrics in TOML, the judge's instructions, and reading its replies."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from outspoken.chat_reply import ChatReply
from outspoken.errors import ReplyError, UnknownNameError, UsageError
from outspoken.measure.judge_replies import read_choice, read_scores
from outspoken.measure.rubrics import (
    Criterion,
    Rubric,
    judge_instructions,
    load,
    name_key,
    names,
    orders,
    scores_schema,
)

JOKE = load("joke")
HALF = Rubric(
    "mixed", "", "You judge.", (Criterion("原创性", "新意", 1, 7), Criterion("Tone / Voice", "one tone", -1, 1))
)
GOOD = {"Relevance": 4.0, "Comedic Device": 3.0, "Humor Quality": 2.5}


def scores(text: str, rubric: Rubric = JOKE, **reply: str) -> dict[str, float]:
    return read_scores(ChatReply(text, **reply), rubric)


def test_the_shipped_rubrics_are_the_published_ones() -> None:
    assert names() == ("creative", "joke")
    creative = load("creative")
    assert [criterion.name for criterion in creative.criteria] == [
        "Surprising and Creative",
        "Imagery and Descriptive Quality",
        "Nuanced Characters",
        "Emotionally Complex",
        "Elegant Prose",
        "Well-earned Lightness or Darkness",
        "Emotionally Engaging",
        "Consistent Voice/Tone of Writing",
        "Sentences Flow Naturally",
        "Overall Reader Engagement",
    ]
    assert {(criterion.low, criterion.high) for criterion in creative.criteria} == {(0, 20)}
    assert [criterion.name for criterion in JOKE.criteria] == list(GOOD)
    assert {(criterion.low, criterion.high) for criterion in JOKE.criteria} == {(0, 5)}
    assert all(criterion.about for rubric in (creative, JOKE) for criterion in rubric.criteria)


def test_the_value_is_the_mean_share_of_each_range() -> None:
    assert JOKE.value(GOOD) == pytest.approx((4 / 5 + 3 / 5 + 2.5 / 5) / 3 * 100)
    assert HALF.value({"原创性": 4, "Tone / Voice": 1}) == pytest.approx((0.5 + 1) / 2 * 100)
    assert HALF.value({"原创性": 1, "Tone / Voice": -1}) == 0


def test_your_own_rubric(tmp_path: Path) -> None:
    file = tmp_path / "slogans.toml"
    file.write_text(
        '\ufeffprompt = "你是评审。"\n[[criteria]]\nname = "顺口"\nabout = "念起来 👍"\nlow = 1\nhigh = 7\n',
        encoding="utf-8",
    )
    rubric = load(str(file))
    assert rubric == Rubric("slogans", "", "你是评审。", (Criterion("顺口", "念起来 👍", 1.0, 7.0),))
    assert "- 顺口 (1 to 7): 念起来 👍" in judge_instructions(rubric, rubric.criteria)
    file.write_text(file.read_text(encoding="utf-8-sig").replace("high = 7", "high = 8"), encoding="utf-8")
    assert load(str(file)).hash != rubric.hash
    assert Rubric("other name", "other words", rubric.prompt, rubric.criteria).hash == rubric.hash


CRITERION = '[[criteria]]\nname = "A"\nabout = ""\nlow = 0\nhigh = 5\n'


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("prompt = ", "is not TOML"),
        ('prompt = "x"', r"bad\.toml lacks criteria"),
        (CRITERION, r"bad\.toml lacks prompt"),
        ('prompt = "x"\ncriteria = []', "has no criteria"),
        ('prompt = " "\n' + CRITERION, "empty prompt"),
        ('prompt = "x"\ncriteria = [1]', "criterion 1 of .* must be a table"),
        ('prompt = "x"\ncriteria = "A"', "criteria must be a list"),
        ('promt = "x"\n' + CRITERION, "'promt': did you mean 'prompt'"),
        ('prompt = "x"\n' + CRITERION + "max = 5", "key in criterion 1 .* 'max'"),
        (
            'prompt = "x"\n' + CRITERION.replace("5", '"5"'),
            "low must be a finite number below high, not 0 and '5'",
        ),
        (
            'prompt = "x"\n' + CRITERION.replace("5", "true"),
            "low must be a finite number below high, not 0 and True",
        ),
        ('prompt = "x"\n' + CRITERION.replace("5", "0"), "low must be a finite number below high"),
        ('prompt = "x"\n' + CRITERION.replace("5", "inf"), "low must be a finite number below high"),
        ('prompt = "x"\n' + CRITERION.replace('"A"', '"?!"'), "one line with letters"),
        ('prompt = "x"\n' + CRITERION + CRITERION.replace('"A"', '"*a*"'), "'A' and '\\*a\\*'"),
        ('prompt = "x"\n' + CRITERION * 2, "'A' and 'A'"),
        ('prompt = "x"\n[[criteria]]\nname = "A"\n', "lacks about and low and high"),
    ],
)
def test_a_bad_rubric_is_named(tmp_path: Path, toml: str, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(toml)
    with pytest.raises(UsageError, match=message):
        load(str(file))


def test_a_missing_rubric(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'joke'"):
        load("jokes")
    with pytest.raises(UsageError, match="cannot read the rubric"):
        load(str(tmp_path / "none.toml"))


def test_every_criterion_is_shown_in_every_position_equally_often() -> None:
    for rubric in (JOKE, load("creative")):
        ways = orders(rubric)
        assert len(ways) == 2 * len(rubric.criteria) == len(set(ways))
        places = Counter((at, entry.name) for way in ways for at, entry in enumerate(way))
        assert set(places.values()) == {2}
        assert len(places) == len(rubric.criteria) ** 2
        assert all(list(scores_schema(way)["properties"]) == [entry.name for entry in way] for way in ways)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        "Here you are:\n```json\n" + json.dumps(GOOD, indent=2) + "\n```\nI hope that helps [1].",
        '{"relevance": 4, "comedic_device": "3/5", "HUMOR QUALITY": "2.5 out of 5"}',
        "{'Relevance': 4, 'Comedic Device': 3, 'Humor Quality': 2.5,}",
        '{"scores": {"Relevance": {"score": 4, "reason": "5 of 5 words fit"}, "Comedic Device": {"score": 3}, "Humor Quality": {"score": 2.5}}}',
        '[{"criterion": "Relevance", "score": 4}, {"criterion": "Comedic Device", "score": 3}, {"criterion": "Humor Quality", "score": 2.5}]',
        json.dumps(
            [{"name": key, "score": value, "grade": "B", "dimension": "a joke"} for key, value in GOOD.items()]
        ),
        '{"Relevance": 4, "Comedic Device": 3, "Humor Quality": 2.5\n',
        '{"Relevance": <0 to 5>, "Comedic Device": <0 to 5>}\n' + json.dumps(GOOD),
        f"<think>Relevance: 1? {json.dumps(GOOD | {'Relevance': 1.0})}</think>{json.dumps(GOOD)}",
        json.dumps(GOOD) + "\nAgain: " + json.dumps(GOOD),
        "Relevance: 4/5\nComedic Device: 3/5\nHumor Quality: 2.5/5",
        "1. **Relevance:** 4\n2. **Comedic Device:** 3 - a pun on 2 words\n3. **Humor Quality** (0-5): 2.5.",
        "- Relevance (0 to 5): **4**\n- Comedic Device = 3\n- Humor Quality — 2,5",
        "| Criterion | Score |\n|---|---|\n| **Relevance** | 4 / 5 |\n| Comedic Device | 3 |\n| Humor-Quality | 2.5 |",
        "Relevance: 4, Comedic Device: 3, Humor Quality: 2.5",
        "RELEVANCE：４／５\nCOMEDIC DEVICE： ３\nHUMOR QUALITY： 2.5",
        "> ### Relevance: [4]\n> ### comedic device is 3\n> ### Humor Quality: ٢٫٥",
    ],
)
def test_scores_are_read_however_they_are_written(text: str) -> None:
    assert scores(text) == GOOD
    assert list(scores(text)) == list(GOOD)


def test_names_in_other_scripts() -> None:
    assert scores('{"原创性": 6, "tone/voice": -0.5}', HALF) == {"原创性": 6, "Tone / Voice": -0.5}
    assert scores("原创性：6分\n**Tone/Voice**: -0.5", HALF) == {"原创性": 6, "Tone / Voice": -0.5}
    thai = Rubric("t", "", "x", (Criterion("ความคิดสร้างสรรค์", "", 0, 10), Criterion("الأصالة", "", 0, 10)))
    assert scores("ความคิดสร้างสรรค์: 7\nالأصالة: ٨", thai) == {"ความคิดสร้างสรรค์": 7, "الأصالة": 8}
    assert name_key("Ｔｏｎｅ — VOICE!") == name_key("tone voice")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "the reply is empty"),
        ("<think>Relevance: 4", "the reply is empty"),
        ("What a lovely joke! 5 stars.", "the reply holds no scores"),
        ("[]", "the reply holds no scores"),
        ("Relevance and Comedic Device are 4 and 3.", "the reply holds no scores"),
        ('{"Relevance": 4, "Comedic Device": 3}', "criteria are missing"),
        ('{"Relevance": 4, "Comedic Device": 3, "Humor Quality": 2', "criteria are missing"),
        (json.dumps(GOOD | {"Humor Quality": 5.1}), "a score is out of range"),
        (json.dumps(GOOD | {"Humor Quality": -1}), "a score is out of range"),
        (json.dumps(GOOD | {"Humor Quality": True}), "a score is not a number"),
        (json.dumps(GOOD | {"Humor Quality": None}), "a score is not a number"),
        (json.dumps(GOOD | {"Humor Quality": "great"}), "a score is not a number"),
        (json.dumps(GOOD | {"Humor Quality": "2/10"}), "a score is not a number"),
        (json.dumps(GOOD | {"Humor Quality": "2-3"}), "a score is not a number"),
        (json.dumps(GOOD | {"Humor Quality": "2½"}, ensure_ascii=False), "a score is not a number"),
        (json.dumps(GOOD | {"Humor Quality": "4%"}), "a score is not a number"),
        (json.dumps(GOOD | {"Humor Quality": math.nan}), "a score is not a number"),
        (
            '{"Relevance": 4, "Comedic Device": 3, "Humor Quality": 1, "humor quality": 5}',
            "a criterion has two scores",
        ),
        (json.dumps(GOOD) + json.dumps(GOOD | {"Relevance": 5.0}), "a criterion has two scores"),
        (json.dumps(GOOD | {"Relevance": {"score": 4, "rating": 5}}), "a criterion has two scores"),
        (
            json.dumps([{"name": name, "value": 1, "points": 2} for name in GOOD]),
            "a criterion has two scores",
        ),
        (
            "| Relevance | 5 | 4 |\n| Comedic Device | 5 | 3 |\n| Humor Quality | 5 | 2 |",
            "a score is not a number",
        ),
        ("Relevance: 0 to 5\nComedic Device: 0 to 5\nHumor Quality: 0 to 5", "a score is not a number"),
        ("Relevance: 4 or 5\nComedic Device: 3\nHumor Quality: 1", "a score is not a number"),
    ],
)
def test_ambiguous_scores_are_unreadable(text: str, cause: str) -> None:
    with pytest.raises(ReplyError) as raised:
        scores(text)
    assert str(raised.value).startswith(cause)


def test_a_cut_reply_and_a_refusal_say_so() -> None:
    with pytest.raises(ReplyError, match=r"the reply was cut off: .*max_tokens"):
        scores('{"Relevance": 4, "Come', finish="length")
    with pytest.raises(ReplyError, match="the reply was cut off: criteria are missing, Humor Quality"):
        scores("Relevance: 4\nComedic Device: 3\nHumor Quality: 2", finish="length")
    assert scores(json.dumps(GOOD), finish="length") == GOOD
    with pytest.raises(ReplyError, match="the judge refused"):
        scores("", refusal="抱歉")


@given(
    st.text()
    | st.lists(st.sampled_from([*'{}[]":,|\n*-/', "Relevance", "Humor Quality", "4", "5.5", " "])).map("".join)
)
@example('{"Relevance": ' * 300)
@example("Relevance" + "*" * 5000)
@example("- " * 5000 + "Relevance")
def test_nothing_but_a_reply_error_escapes(text: str) -> None:
    try:
        result = scores(text)
    except ReplyError:
        return
    assert all(0 <= score <= 5 for score in result.values())
    assert list(result) == list(GOOD)


@given(st.tuples(*[st.floats(0, 5)] * 3), st.permutations(list(GOOD)), st.integers(0, 4))
def test_written_scores_are_read_again(numbers: tuple[float, ...], order: list[str], style: int) -> None:
    meant = {name: round(number, 3) for name, number in zip(GOOD, numbers, strict=True)}
    shown = {name: meant[name] for name in order}
    text = [
        json.dumps(shown),
        "\n".join(f"{name}: {number:.3f}/5" for name, number in shown.items()),
        "\n".join(f"| **{name.upper()}** | {number:.3f} |" for name, number in shown.items()),
        json.dumps({"scores": [{"name": name, "score": number} for name, number in shown.items()]}),
        repr(shown),
    ][style]
    assert scores(text) == meant


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ('{"better": "first"}', "first"),
        ('The reasons: ...\n```json\n{"Winner": "Response 2"}\n```', "second"),
        ("{'better': 'The second response is better.'}", "second"),
        ('{"better": 1}', "first"),
        ('{"verdict": {"better": "TIE"}}', "tie"),
        ("**Winner:** Response 2", "second"),
        ("Both are fine.\nBetter: first", "first"),
        ("tie", "tie"),
        ("The first response is better.", "first"),
    ],
)
def test_choices_are_read(text: str, choice: str) -> None:
    assert read_choice(ChatReply(text)) == choice


@pytest.mark.parametrize(
    "text",
    ['{"better": "a"}', "First of all, both are bad.", '{"better": "first"} {"better": "second"}', "{}", "谁知道"],
)
def test_ambiguous_choices_are_unreadable(text: str) -> None:
    with pytest.raises(ReplyError, match="the reply makes no clear choice"):
        read_choice(ChatReply(text))
