from __future__ import annotations

from pathlib import Path

import pytest

from outspoken import UsageError
from outspoken.methods.table import METHODS
from outspoken.templates import load, names, source

pytestmark = pytest.mark.core


VS_STANDARD = """\
Generate 5 responses to the input prompt: "Tell me a joke"
Return the responses in JSON format with the key: "responses" (a list of dictionaries). Each dictionary must include:
1. "text": the response string itself.
2. "probability": the estimated probability of this response (from 0.0 to 1.0) given the input prompt, relative to \
the full distribution of possible responses.
Input Prompt:
Tell me a joke"""

VS_COT = """\
Generate 5 responses to the input prompt using chain-of-thought reasoning.
Step 1: Provide a "reasoning" field. Analyze the request and think about different angles, styles, or perspectives \
to ensure diversity in the responses.
Step 2: Generate the responses in JSON format with the key "responses". Each item must include:
- "text": the response string.
- "probability": the estimated probability relative to the full distribution.
Input Prompt:
Tell me a joke"""

VS_MULTI_MORE = """\
Generate 5 MORE alternative responses to the original input prompt. These should be distinct from the previous ones.
Return the responses in JSON format with the key: "responses", including "text" and "probability" (relative to the \
full distribution)."""


def test_the_standard_wording_is_word_for_word() -> None:
    standard = load("standard")
    values = {"k": 5, "input_prompt": "Tell me a joke"}
    assert standard.fill(standard.wordings["vs-standard"].user, values) == VS_STANDARD
    assert standard.fill(standard.wordings["vs-multi"].user, values) == VS_STANDARD
    assert standard.fill(standard.wordings["vs-cot"].user, values) == VS_COT
    assert standard.fill(standard.wordings["vs-multi"].more, values) == VS_MULTI_MORE
    assert standard.wordings["vs-standard"].system == "You are a helpful assistant."
    assert standard.fill(standard.wordings["direct"].user, values) == "Tell me a joke"


def test_the_paper_wording_samples_the_full_distribution_or_its_tail() -> None:
    paper = load("paper")
    wording = paper.wordings["vs-standard"]
    full = paper.fill(wording.system, {"k": 5, "weight_key": wording.weight_key, "definition": wording.definition})
    assert "Randomly sample the responses from the full distribution." in full
    assert "words" not in full
    tail = paper.fill(wording.system, {"k": 5, "tau": "0.1", "words": 200, "weight_key": "p", "definition": "d"})
    assert "with the probability of each response must be below 0.1." in tail
    assert "Each response should be approximately 200 words." in tail
    assert paper.wordings["vs-multi"].weight_key == "confidence"


@pytest.mark.parametrize("name", names())
def test_every_shipped_template_words_every_method(name: str) -> None:
    template = load(name)
    assert template.about
    for method in METHODS:
        wording = template.wordings[method]
        values = {
            "k": 5,
            "total": 10,
            "tau": "0.1",
            "words": 20,
            "schema": "{}",
            "text_key": "text",
            "weight_key": wording.weight_key,
            "definition": wording.definition,
            "input_prompt": "PROMPT",
        }
        whole = "\n".join(template.fill(part, values) for part in (wording.system, wording.user, wording.more))
        assert "{k}" not in whole
        assert "_clause" not in whole
        assert "PROMPT" in whole
        assert not [left for left in ("{length", "{value", "{sampling", "{words", "{tau") if left in whole]
        assert "20 words" in whole
        if method.startswith("vs-"):
            assert "0.1" in whole


def test_the_weights_of_the_shipped_templates() -> None:
    scales = {name: load(name).wordings["vs-standard"].scale for name in names()}
    assert scales["percent"] == "percent"
    assert scales["nll"] == "nll"
    assert scales["perplexity"] == "perplexity"
    assert load("nll").wordings["vs-multi"].weight_key == "nll"
    assert load("xml").wordings["vs-multi"].reply == "xml"


def test_braces_in_a_prompt_stay() -> None:
    template = load("standard")
    prompt = "What does {k} mean in {input_prompt}? {tau} {sampling} \\1"
    assert template.fill("{input_prompt} {k}", {"k": 3, "input_prompt": prompt}) == prompt + " 3"


def test_newlines_in_a_prompt_stay() -> None:
    template = load("standard")
    wording = template.wordings["direct"]
    assert template.fill(wording.user, {"k": 1, "input_prompt": "\n\na\n\nb\n\n"}) == "\n\na\n\nb\n\n"


def write(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_users_template_changes_what_it_names_and_keeps_the_rest(tmp_path: Path) -> None:
    mine = load(write(tmp_path, 'base = "standard"\n[vs-standard]\nuser = "請給 {k} 個回答：{input_prompt}"\n'))
    assert mine.fill(mine.wordings["vs-standard"].user, {"k": 3, "input_prompt": "咖啡"}) == "請給 3 個回答：咖啡"
    assert mine.wordings["vs-standard"].reply == "candidates"
    assert mine.wordings["vs-multi"].user == mine.wordings["vs-standard"].user
    assert mine.wordings["direct"] == load("standard").wordings["direct"]
    assert mine.hash != load("standard").hash


def test_a_printed_template_can_be_used_as_it_is(tmp_path: Path) -> None:
    for name in names():
        assert load(write(tmp_path, source(name))).wordings == load(name).wordings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[vs-standard", "not TOML"),
        ('base = "standard"\n[vs-standad]\nuser = "x"', "did you mean 'vs-standard'"),
        ('base = "standard"\n[vs-standard]\nusr = "x"', "did you mean 'user'"),
        ('base = "standard"\n[vs-standard]\nuser = "no prompt"', "must name {input_prompt}"),
        ('base = "standard"\n[vs-standard]\nuser = 3', "must be a str"),
        ('base = "standard"\n[vs-standard]\nreply = "jason"', "reply"),
        ('base = "standerd"', "did you mean 'standard'"),
        ('base = "standard"\n[weight]\nkey = "p"\nscale = "logit"', "scale"),
        ('about = "empty"', 'base = "standard"'),
    ],
)
def test_a_broken_template_is_refused_with_the_remedy(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(write(tmp_path, text))
    assert message in str(caught.value)


def test_a_template_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        load(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match="did you mean 'paper'"):
        load("papper")
    own = write(tmp_path, "")
    Path(own).write_text(f'base = "{own}"', encoding="utf-8")
    with pytest.raises(UsageError, match="its own base"):
        load(own)
