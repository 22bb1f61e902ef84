from __future__ import annotations

import pytest

from outspoken.io.text import plural

pytestmark = pytest.mark.core


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, "row"), "0 rows"),
        ((1, "row"), "1 row"),
        ((12_000, "reply"), "12,000 replies"),
        ((2, "day"), "2 days"),
        ((2, "search"), "2 searches"),
        ((1, "prompt has", "prompts have"), "1 prompt has"),
        ((2, "prompt has", "prompts have"), "2 prompts have"),
    ],
)
def test_a_count_agrees_with_its_noun(arguments: tuple[int, str], text: str) -> None:
    assert plural(*arguments) == text
