"""Damaged replies in running text: what is read of them is right, and what is not read is named."""

from __future__ import annotations

import pytest

from outspoken.errors import ReplyError
from outspoken.parsing import ParsedReply, parse


def pairs(reading: ParsedReply) -> list[tuple[str, float | None]]:
    """Texts with their white space collapsed, and probabilities."""
    return [
        (" ".join(entry.text.split()), entry.stated and round(entry.stated, 6)) for entry in reading.candidates
    ]


NUMBERS = [
    "0.1/401",
    "0.00/89",
    "0.3:4",
    "0.52:67",
    "1: 0.9",
    "0.1/5",
    "0,:53",
    "0,é01",
    "1 o",
    "1.\t9 x 10^-1",
    "1 out) of 20",
    "0,”15",
    "22:8é",
    "0,)53",
    "0;28",
    "٠;٫٢٨",
    "2:33 %",
]


@pytest.mark.parametrize("written", NUMBERS)
def test_a_number_that_a_sign_got_into_is_not_read(written: str) -> None:
    reading = parse(f"1. Rome (probability: 0.3)\n2. Paris (probability: {written})\n3. Oslo (probability: 0.2)")
    assert [entry.stated for entry in reading.candidates] == [0.3, None, 0.2]
    assert "unreadable-probability" in reading.candidates[1].repairs


@pytest.mark.parametrize(
    ("written", "stated"),
    [
        ("8.5/10", 0.85),
        ("0.8 / 1.0", 0.8),
        ("3:1", 0.75),
        ("1.5:1", 0.6),
        ("1/14", 0.071429),
        ("0.5 in 20", 0.025),
    ],
)
def test_fractions_and_odds_that_people_write(written: str, stated: float) -> None:
    reading = parse(f"1. Rome (probability: 0.3)\n2. Paris (probability: {written})")
    assert pairs(reading)[1] == ("Paris", stated)


ENTRIES = [
    # A bracket or a blank beside the label or the number was lost.
    (
        "- (probability: 0.66) Rome\n- (probability: 0.29 The tuple [x, y] is enough\n- (probability: 0.05) Oslo",
        [("Rome", 0.66), ("The tuple [x, y] is enough", 0.29), ("Oslo", 0.05)],
    ),
    (
        "1. (p=0.119 He came; he saw; he left\n2. (p=0.147) Oslo",
        [("He came; he saw; he left", 0.119), ("Oslo", 0.147)],
    ),
    (
        "**Response 1** (30 %)\n\nRome\n\n---\n\n**Response 2** (12 %)\n\nP5aris",
        [("Rome", 0.3), ("P5aris", 0.12)],
    ),
    (
        "Response 1: Rome\nProbability 1: 67 %\n\nResponse 2: Oslo\nProbability 2:33 %",
        [("Rome", 0.67), ("Oslo", 0.33)],
    ),
    ("- [[90%] Rome\n- [10%] Oslo", [("Rome", 0.9), ("Oslo", 0.1)]),
    # The label of a weight by index was lost, or joined to the text above it.
    ("G1: Rome\n1: 0.343\n\nG2: Oslo\nP2: 0.230", [("Rome", 0.343), ("Oslo", 0.23)]),
    ("G1: Rome\nG2: OsloP1: 0.3270\nP2: 0.4958", [("Rome", 0.327), ("Oslo", 0.4958)]),
    # One of the probabilities in a row cannot be read.
    (
        "1. Rome\n2. Paris\n3. Oslo\n\nProbabilities: 0.66, 0..04, 0.24",
        [("Rome", 0.66), ("Paris", None), ("Oslo", 0.24)],
    ),
    ("G1: Rome\nG2: Paris\nP: 0.3948\nP2: 0.3362", [("Rome", 0.3948), ("Paris", 0.3362)]),
    ("G1: Rome\nG2: Paris\nPP1: 0.3948\nP2: 0.3362", [("Rome", 0.3948), ("Paris", 0.3362)]),
    # The first label is joined to the words before it.
    (
        "Some words### Response 1\n\nRome\n\n**Probability:** .210\n\n### Response 2\n\nOslo\n\n**Probability:** .112",
        [("Rome", 0.21), ("Oslo", 0.112)],
    ),
    ("Some wordsOption A [19%]: Rome\nOption B [14%]: Oslo", [("Rome", 0.19), ("Oslo", 0.14)]),
    (
        "案1（確率0.6）：Rome\n案2（確率.1）：Paris\n案3（確率0.3）：Oslo",
        [("Rome", 0.6), ("Paris", 0.1), ("Oslo", 0.3)],
    ),
    (
        "Guess 1: Rome\nProbability 1: 7%Guess 2: Oslo\nProbability 2: 15%",
        [("Rome", 0.07), ("Oslo", 0.15)],
    ),
    # A sign got into a label, or an index is wrong.
    (
        "## Response 1\n- **Text:** Rome\n- **Probability:** 0.6\n\n## Response :2\n- **Text:** Oslo\n- **Probability:** 0.3",
        [("Rome", 0.6), ("Oslo", 0.3)],
    ),
    ("11. **0.1** Rome\n2. **0.2** Paris\n3. **0.3** Oslo", [("Rome", 0.1), ("Paris", 0.2), ("Oslo", 0.3)]),
    ("Answer 1: Rome — 0.5\nAnswer 2: Reply :with — 0.2", [("Rome", 0.5), ("Reply :with", 0.2)]),
    # A label lost its index.
    (
        "Option A: Rome (0.5)\nOption : Paris (0.3)\nOption C: Oslo (0.2)",
        [("Rome", 0.5), ("Paris", 0.3), ("Oslo", 0.2)],
    ),
    ("G: Rome\nG2: Paris\nP1: 0.6\nP2: 0.4", [("Rome", 0.6), ("Paris", 0.4)]),
    # Numbers that are no weights: a marker in bold, one before two blanks, one inside brackets.
    ("**1.** Rome — 84%\n\n**,2.** Oslo — 16%", [("**1.** Rome", 0.84), ("**,2.** Oslo", 0.16)]),
    ("1.  Rome, no more\n2. Oslo\n\nProbabilities: 0.1, 0.3", [("Rome, no more", 0.1), ("Oslo", 0.3)]),
    ("Response 1 (0.15\t56): Rome\nResponse 2 (0.0457): Oslo", [("(0.15 56): Rome", None), ("Oslo", 0.0457)]),
    ("案1（確率0.75）：Rome\n案2（確率0.06）：Half (0.5)", [("Rome", 0.75), ("Half (0.5)", 0.06)]),
    ("## 回答1 (0.29)\n\nRome\n\n## 回答2 (00.05)\n\nOslo", [("Rome", 0.29), ("Oslo", 0.05)]),
    ("1. 0.8% - Rome\n2. 3\n% - She said, twice\n3. 7.2%- Oslo, yes", None),
    # Lines of signs are no text.
    (
        "### Response 1 (0.31)\n...\n\nNote: bring a torch\n\n### Response 2 (0.48)\n\nOslo",
        [("... Note: bring a torch", 0.31), ("Oslo", 0.48)],
    ),
    ("· Rome (0.6)\n· Oslo (0.1)\n· ", [("Rome", 0.6), ("Oslo", 0.1)]),
    ("- Rome, with a probability of 6%\n- Oslo, with a probability of %", [("Rome", 0.06), ("Oslo", None)]),
    # A fence whose beginning was damaged, and one whose end is joined to the text after it.
    (
        "**Response 1** (0.3)\n\nUse:\n``x`\nrm $f\n```\n\n---\n\n**Response 2** (0.2)\n\nOslo",
        [("Use: ``x` rm $f ```", 0.3), ("Oslo", 0.2)],
    ),
    (
        "## Option 1 — 69%\n\nUse:\n```python\nd = {}\n``9`\nDone.\n\n## Option 2 — 17%\n\nOslo",
        [("Use: ```python d = {} ``9` Done.", 0.69), ("Oslo", 0.17)],
    ),
    (
        "### Response 1 (0.3)\n\nUse:\n```python\nd = {}\n```Done.\n\n### Response 2 (0.2)\n\nOslo",
        [("Use: ```python d = {} ```Done.", 0.3), ("Oslo", 0.2)],
    ),
]


@pytest.mark.parametrize(("text", "expected"), ENTRIES)
def test_entries(text: str, expected: list[tuple[str, float | None]] | None) -> None:
    reading = parse(text)
    if expected is None:
        assert len(reading.candidates) > 1
    else:
        assert pairs(reading) == expected


@pytest.mark.parametrize("noise", ["Sure!", "(continued)", "[output truncated]"])
def test_words_between_weights_belong_to_no_text(noise: str) -> None:
    reading = parse(f"G1: Rome\nG2: Paris\nG3: Oslo\nP1: 70%\nP2: 8%\n{noise}\nP3: 10%")
    assert pairs(reading) == [("Rome", 0.7), ("Paris", 0.08), ("Oslo", 0.1)]
    assert "skipped" in reading.repairs


@pytest.mark.parametrize(
    "text",
    [
        "G1: Rome\nP1: 16%\n\n(continued)\nG2: Paris\nP2: 3%\n\nG3: Oslo\nP3: 11%\n\nSo much for the moods.",
        "1. Rome\n***\n   (Probability: 16%)\n2. Paris\n   (Probability: 3%)\n3. Oslo\n   (Probability: 11%)\n\nSo much.",
        "1. Rome (16%)\n\n<br>\n\n2. Paris (3%)\n\n...\n3. Oslo (11%)\n\nSo much for the moods.",
        "▪ Rome (16%)\n\n,▪ Paris (3%)\n\n▪ Oslo (11%)\n\nSo much for the moods.",
    ],
)
def test_a_closing_remark_below_the_last_weight_belongs_to_no_text(text: str) -> None:
    reading = parse(text)
    assert pairs(reading)[2] == ("Oslo", 0.11)
    assert {"suffixed", "skipped"} & set(reading.repairs)


def test_lines_below_most_weights_are_texts() -> None:
    reading = parse(
        "Title 1: A\nProbability 1: 0.3\nOne calm page.\n\nTitle 2: B\nProbability 2: 0.2\nOne loud page."
    )
    assert pairs(reading) == [("A One calm page.", 0.3), ("B One loud page.", 0.2)]


MISSPELT = [
    "**Response 1:** Rome\n**Probability:** 0.3\n\n**Respose 2:** Oslo\n**Probabilit:** 0.2",
    "**Answer 1:** Rome\n,**Prrobability:** 0.3\n\n**Annswer 2:** Oslo\n**Probabilityy:** 0.2",
    "Response: Rome\nProbability: 0.3\n\nRaesponse: Oslo\nProbabiliy: 0.2",
    "Response 1: Rome\nProbability: 0.3\n\nR'esponse 2: Oslo\nProbab”ility: 0.2",
    "**Respnse 1** (p=0.3): Rome\n\n**Response 2** (p=0.2): Oslo",
    "**Response 1 (.3):** Rome\n**Reesponse 2 (.2):** Oslo",
    "text,pobability\nRome,0.3\nOslo,0.2",
]


@pytest.mark.parametrize("text", MISSPELT)
def test_labels_with_a_wrong_letter(text: str) -> None:
    assert pairs(parse(text)) == [("Rome", 0.3), ("Oslo", 0.2)]


TABLES = [
    (
        "| Text | p |\n| -----: |/ -----: |\n| Rome | 0.7 |\n| A long \nname | 0.3 |",
        [("Rome", 0.7), ("A long name", 0.3)],
    ),
    ("| Text | p |\n| --- | --- |\n| Rome |\n 0.7 |\n| Oslo | 0.3 |", [("Rome", 0.7), ("Oslo", 0.3)]),
    ("| Text | p |\n| --- | --- |\n| Rome\n | 0.7 |\n| Oslo | 0.3 |", [("Rome", 0.7), ("Oslo", 0.3)]),
    ("| Text | p |\n| --- | --\\- |\n| Rome | 0.7 |\n| Oslo | 0.3 |", [("Rome", 0.7), ("Oslo", 0.3)]),
    (
        '"Rome",10%\n"Oslo",15%\n"She said ""no"", twice",',
        [("Rome", 0.1), ("Oslo", 0.15), ('She said "no", twice', None)],
    ),
]


@pytest.mark.parametrize(("text", "expected"), TABLES)
def test_tables(text: str, expected: list[tuple[str, float | None]]) -> None:
    assert pairs(parse(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Response | Probability\n--- | ---\nRome | 14%\nOslo  3%\n\nLet me know.",
        "1. Rome\n2. Oslo\n\nProbabilities: 0.681, ",
        "text;probability\nRome;0,67\nOslo0,33\n\nSag Bescheid.",
    ],
)
def test_what_was_not_read_is_named(text: str) -> None:
    assert "unread" in parse(text).repairs


def test_a_number_in_brackets_that_the_end_leaves_open_is_named() -> None:
    reading = parse("1. Rome\n   (Probability: 0.29)\n2. Oslo\n   (Probability: 0.09")
    assert pairs(reading) == [("Rome", 0.29), ("Oslo", 0.09)]
    assert "unclosed" in reading.candidates[1].repairs


@pytest.mark.parametrize("end", ["*Probability: 0.1", "**Probability: 0.1", "(Probability: 0.1"])
def test_a_weight_whose_marks_do_not_end_is_named(end: str) -> None:
    reading = parse(f"- Rome\n  *Probability: 0.14*\n- Oslo\n  {end}")
    assert "unclosed" in reading.candidates[1].repairs


def test_a_label_without_a_value_states_nothing() -> None:
    assert pairs(parse("Response 1: Rome\nProbability 1: ")) == [("Rome", None)]


def test_lines_beside_a_field_of_the_text_are_kept_as_a_note() -> None:
    reading = parse("Option A: Rome (0.3)\n\nOption B: Oslo (0.>313)\n\nOption : Bern (0.2)")
    assert "Oslo" in str([(entry.text, entry.meta) for entry in reading.candidates])


def test_an_empty_table_is_no_error_of_the_reader() -> None:
    with pytest.raises(ReplyError):
        parse("| # | Text | p |\n| --- | --- | --- |\n|")


def test_a_choice_below_numbered_answers_is_no_answer() -> None:
    reading = parse("Answer 1: Rome (0.6)\nAnswer 2: Oslo (0.4)\n\nAnswer: 2")
    assert [entry.stated for entry in reading.candidates] == [0.6, 0.4]


def test_the_label_of_a_response_is_no_note() -> None:
    reading = parse(
        "## Response 1\n- Text: Rome\n- Probability: 0.6\n\n## Response 2\n- Text: Oslo\n- Probability: 0.3"
    )
    assert [dict(entry.meta) for entry in reading.candidates] == [{}, {}]


def test_a_label_that_stays_in_a_text_is_as_the_reply_has_it() -> None:
    reply = "**回答[1：**Rome here (0.05)\n**回b答2：**Paris here (0.09)\n**回答3：**Oslo here (0.2)\n**回答：**Bern here (0.1)"
    assert all(entry.text in reply for entry in parse(reply).candidates)


BOTH = [("Paris", 0.6), ("Rome", 0.4)]
PLACES = {
    "below a label": "Response 1: Paris\nProbability:\n0.6\nResponse 2: Rome\nProbability:\n0.4",
    "below a label with an index": "Response 1:\nParis\nProbability 1:\n0.6\n\nResponse 2:\nRome\nProbability 2:\n0.4",
    "below a bold label": "1. Paris\n**Probability:**\n\n60%\n2. Rome\n**Probability:**\n\n40%",
    "below, before the text": "Probability 1:\n0.6\nResponse 1: Paris\nProbability 2:\n0.4\nResponse 2: Rome",
    "by letter": "A: Paris\nB: Rome\nP(A): 0.6\nP(B): 0.4",
    "by letter in brackets": "A) Paris\nB) Rome\n\nP(A) = 0.6\nP(B) = 0.4",
    "by small letter": "a. Paris\nb. Rome\n\nProbability a: 0.6\nProbability b: 0.4",
    "by letter of an option": "Option A: Paris\nOption B: Rome\n- Probability A: 0.6\n- Probability B: 0.4",
    "in one line": "Paris: 0.6; Rome: 0.4",
    "in one line with commas": "Paris = 60%, Rome = 40%",
    "in a list of LaTeX": "\\begin{itemize}\n  \\item Paris (0.6)\n  \\item Rome (0.4)\n\\end{itemize}",
    "in a numbered list of LaTeX": "Here:\n\\begin{enumerate}[a]\n\\item Paris ($p=0.6$)\n\\item[b] Rome ($p=0.4$)\n\\end{enumerate}",
    "in a row with labels": "G1: Paris P1: 0.6 G2: Rome P2: 0.4",
    "in a row with semicolons": "G1: Paris; P1: 0.6; G2: Rome; P2: 0.4",
    "behind labels in brackets": "[G1] Paris [P1] 0.6\n[G2] Rome [P2] 0.4",
    "below a heading": "## Response 1\n### Text\nParis\n### Probability\n0.6\n\n"
    "## Response 2\n### Text\nRome\n### Probability\n0.4",
    "below a title of AsciiDoc": "== Response 1\nParis\nProbability: 0.6\n\n== Response 2\nRome\nProbability: 0.4",
    "in the titles of what is folded": "<details><summary>Response 1 (0.6)</summary>\nParis\n</details>\n"
    "<details><summary>Response 2 (0.4)</summary>\nRome\n</details>",
    "behind a number without a dot": "#1 Paris — 60%\n#2 Rome — 40%",
    "behind a box of LaTeX": "1. \\boxed{Paris} (0.6)\n2. $\\boxed{Rome}$ (0.4)",
    "in thousandths": "1. Paris (600‰)\n2. Rome (400 ‰)",
    "as a share of 1.0": "1. Paris (0.6/1.0)\n2. Rome (0.4 / 1.0)",
    "behind an introduction": "Sure! Here are two: 1. Paris (0.6) 2. Rome (0.4)",
    "behind thoughts": "**Thinking:** London (0.9) is grey.\n\n**Answer:**\n1. Paris (0.6)\n2. Rome (0.4)",
    "behind invisible marks": "\u200f1. \u200bParis\u200b (0.6)\n\u200f2. Rome (0.4)",
    "in a list of definitions": "<dl><dt>Paris</dt><dd>0.6</dd>\n<dt>Rome</dt><dd>0.4</dd></dl>",
    "beside elements of other names": "<list><item><city>Paris</city><prob>0.6</prob></item>"
    "<item><city>Rome</city><prob>0.4</prob></item></list>",
    "behind a damaged index": "G1: Paris\nG2: Rome\nP1: 0.6\nPb2: 0.4",
    "in a table with a stray sign": "%| # | Response | p |\n|---|---|---|\n| 1 | Paris | 0.6 |\n| 2 | Rome | 0.4 |",
    "below a label with a digit too many": "**Response 1:** Paris\n**Probability:** 60%\n\n"
    "**Response 2:** Rome\n**Probability0:** 40%",
    "other letters beside the texts": "1. Paris\nP(x): 0.6\n2. Rome\nP(y): 0.4",
}


@pytest.mark.parametrize("place", PLACES)
def test_weights_that_stand_apart(place: str) -> None:
    assert pairs(parse(PLACES[place])) == BOTH


@pytest.mark.parametrize(
    "text",
    [
        "Weight loss in 3 weeks",
        "The chances are 3/4 that it rains",
        "**Probability** is a concept",
        "Likelihood of success is low",
        "Score 5/5 on the test",
        "Odds ratios explained",
        "Chances of rain are 40%",
    ],
)
def test_a_text_that_begins_with_the_word_of_a_label(text: str) -> None:
    assert pairs(parse(f"1. {text} (0.6)\n2. Rome (0.4)")) == [(text, 0.6), ("Rome", 0.4)]
    assert pairs(parse(f"1. {text} [60%]\n2. Rome [40%]")) == [(text, 0.6), ("Rome", 0.4)]


@pytest.mark.parametrize("written", ["0.1|0", "0..1", ".5/|1", "1. x 10^-1", "1.}4 x 10^^-1", "1. × 10⁻¹"])
def test_the_end_of_a_torn_number_is_no_number(written: str) -> None:
    for between in (" — ", "\n   Probability: "):
        reading = parse(f"1. Rome{between}0.2\n2. Oslo{between}{written}\n3. Bern{between}0.3")
        assert [entry.stated for entry in reading.candidates] == [0.2, None, 0.3]


@pytest.mark.parametrize("end", ['"Salt, rust and a lamp"', '"Salt, rust and a lamp', "Salt"])
def test_the_last_row_of_a_reply_that_was_cut_off_is_kept(end: str) -> None:
    for fence in ("", "```csv\n"):
        reading = parse(f"{fence}text,probability\nParis,0.6\n{end}")
        assert pairs(reading) == [("Paris", 0.6), (end.strip('",'), None)]
        assert "truncated" in reading.repairs


def test_rows_that_lack_a_number_or_a_header_are_named() -> None:
    lacking = parse('"Paris",94%\n"Rome",%\n"Oslo, again",1%')
    assert pairs(lacking) == [("Paris", 0.94), ("Oslo, again", 0.01)]
    assert "unread" in lacking.repairs
    assert "unread" in parse('5response,probability\nParis,11.9%\n"Rome",0.8%\n"Oslo, again",2.6%').repairs
