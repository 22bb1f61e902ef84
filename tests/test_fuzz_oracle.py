"""The oracle of the fuzz target finds faults that are put into a reader, and none in a reader that is right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from reply_generator import LAYOUTS, REASONING, Case, case
from reply_oracle import Violation, violations

from outspoken.candidate import Verbalized
from outspoken.errors import ReplyError
from outspoken.parsing import ParsedReply, parse
from outspoken.reply_shape import ReplyShape

pytestmark = pytest.mark.core

COUNT = 2500
Fault = Callable[[str, ParsedReply], ParsedReply]


def right(made: Case) -> ParsedReply:
    """What the reply was built from."""
    if made.refusal:
        raise ReplyError("a refusal", text=made.reply)
    reasoning = "".join(string for string, role, _ in made.pieces if role == REASONING)
    return ParsedReply(tuple(Verbalized(known.text, known.stated) for known in made.known), reasoning)


def with_texts(reading: ParsedReply, change: Callable[[str], str | None]) -> ParsedReply:
    changed = [(entry, change(entry.text)) for entry in reading.candidates]
    return reading._replace(candidates=tuple(entry._replace(text=text) for entry, text in changed if text))


def index_as_number(reply: str, reading: ParsedReply) -> ParsedReply:
    """The index in "Probability 2: 0.3" is taken for the value."""
    found = re.findall(r"(?:Probability|Confidence|P|probability)[ _]?([1-9]\d*)\W", reply)
    if len(found) != len(reading.candidates):
        return reading
    numbers = [int(index) / sum(map(int, found)) for index in found]
    entries = zip(reading.candidates, numbers, strict=True)
    return reading._replace(
        candidates=tuple(entry._replace(stated=number, repairs=("weights",)) for entry, number in entries)
    )


def cut_at_quote(reply: str, reading: ParsedReply) -> ParsedReply:
    """A text ends at a quotation mark inside it that is not escaped."""

    def cut(text: str) -> str:
        return text if '"' not in text or text not in reply else text[: text.index('"')].strip() or text

    return with_texts(reading, cut)._replace(repairs=("inner-quotes",))


def fence_ends_list(reply: str, reading: ParsedReply) -> ParsedReply:
    """A fence in an entry of a list ends the reply."""
    if not re.search(r"^\W*\d+[.)] .*```", reply, re.MULTILINE):
        return reading
    ended = False

    def cut(text: str) -> str | None:
        nonlocal ended
        if ended:
            return None
        ended = "```" in text
        return text.split("```")[0].strip()

    return with_texts(reading, cut)._replace(repairs=("as-list", "fenced"))


def reader(made: Case, fault: Fault | None) -> Callable[[str, ReplyShape | None], ParsedReply]:
    def read(reply: str, shape: ReplyShape | None) -> ParsedReply:
        return fault(reply, right(made)) if fault else right(made)

    return read


def judged(fault: Fault | None = None) -> Iterator[tuple[Case, list[Violation]]]:
    """Replies that a person reads as they were built, read rightly but for a fault, and judged."""
    for index in range(COUNT):
        made = case(7, index)
        if made.damage == "none" or made.exact:
            yield made, violations(made, reader(made, fault), stream=False)


def test_a_right_reading_is_no_violation() -> None:
    assert [(made.name, wrong) for made, wrong in judged() if wrong] == []


@pytest.mark.parametrize("fault", [index_as_number, cut_at_quote, fence_ends_list])
def test_a_fault_is_found(fault: Fault) -> None:
    kinds = {each.kind for _, wrong in judged(fault) for each in wrong}
    assert kinds
    assert "error" not in kinds


@pytest.mark.parametrize("fault", [index_as_number, cut_at_quote, fence_ends_list])
def test_a_fault_put_into_the_reader_is_found(fault: Fault) -> None:
    def faulty(reply: str, shape: ReplyShape | None) -> ParsedReply:
        return fault(reply, parse(reply, shape))

    for made in (case(7, index) for index in range(COUNT)):
        meant = None if made.refusal or (made.damage != "none" and not made.exact) else right(made)
        meets = meant is not None and fault(made.reply, meant).candidates != meant.candidates
        if meets and not violations(made, stream=False) and violations(made, faulty, stream=False):
            return
    pytest.fail("no reply shows the fault")


def test_replies_are_the_same_each_time_and_of_all_layouts() -> None:
    made = [case(3, index) for index in range(COUNT)]
    assert made[::100] == [case(3, index) for index in range(0, COUNT, 100)]
    layouts = {each.layout.split("+")[0] for each in made} - {"refusal"}
    assert len(layouts) > 200
    assert layouts <= {layout.name for layout in LAYOUTS}
    assert len({each.damage for each in made}) > 12


def test_the_damage_is_what_differs() -> None:
    for index in range(COUNT):
        made = case(4, index)
        assert made.reply == "".join(string for string, _, _ in made.pieces)
        assert (made.reply == made.sound) <= (made.damage in ("none", "swap-quote"))
        if made.damage == "none":
            assert not made.touched


def test_nearly_all_generated_replies_are_read_right_or_named() -> None:
    """Damage of several kinds at once still defeats the reader now and then: at most 2 of 1,000 replies."""
    wrong = [case(0, index).name for index in range(2_000) if violations(case(0, index))]
    assert len(wrong) <= 4, wrong
