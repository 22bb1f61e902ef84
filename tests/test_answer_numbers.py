from __future__ import annotations

import pytest

from outspoken.measure.answer_numbers import as_number

NUMBERS = {
    "1.0": 1, "$1": 1, "1,000": 1000, "４": 4, "-5": -5, "−5": -5, "3/4": 0.75, "50%": 0.5, "1e3": 1000, "four": 4,
    "The answer is 4.": 4, "**7**": 7, "٣": 3, " 7 ": 7, "Twenty-one": 21, "one hundred and five": 105,
    "two thousand twenty": 2020, "三": 3, "drei": 3, "I rolled a 4!": 4, "4 (four)": 4, "It's 4, yes 4": 4, "$12.50": 12.5, ".5": 0.5, "minus five": -5, "two hundred": 200,
    "nineteen": 19, "ninety-nine": 99, "It is .25": 0.25,
}  # fmt: skip
NONE = (
    "red",
    "",
    "3 or 4",
    "12:30",
    "between 1 and 6",
    "one or two",
    "and",
    "Paris",
    "x" * 200,
    "hundred",
    "1.2.3",
)


@pytest.mark.parametrize(("text", "value"), NUMBERS.items())
def test_a_number_is_read_as_a_person_reads_it(text, value):
    assert as_number(text) == value


@pytest.mark.parametrize("text", NONE)
def test_other_answers_are_none(text):
    assert as_number(text) is None
