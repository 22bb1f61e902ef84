"""Responses of one meaning are one class; how good that is, is measured on published classes."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from outspoken.errors import UsageError
from outspoken.measure.embedding import embedder
from outspoken.measure.same_meaning import ACCURACY, same_meaning

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data" / "novelty_bench"
SENTENCES = [
    "A hobby is an activity done regularly in one's leisure time for pleasure.",
    "A hobby is an activity that someone does regularly for pleasure in their leisure time.",
    "A hobby is a regular activity done for enjoyment, typically during one's leisure time.",
    "A hobby is an activity that a person enjoys doing in their leisure time.",
    "A hobby is an activity that is done for pleasure in one's free time.",
    "A hobby is something that people do regularly in their leisure time for pleasure.",
    "A hobby is an activity that one does for enjoyment during one's spare time.",
    "Hobbies are activities done regularly for pleasure in one's leisure time.",
]
HOBBIES = ["Reading", "Photography", "Travelling", "Hiking", "Cooking", "Writing", "Coding"]


def embedded(texts):
    async def embed():
        minilm = embedder("minilm")
        try:
            return await minilm.embed(texts)
        finally:
            await minilm.aclose()

    return asyncio.run(embed())


def test_wordings_of_one_answer_are_one_and_hobbies_are_several():
    texts = [*SENTENCES, *HOBBIES, "reading.", "The answer is: Hiking"]
    classes = same_meaning(texts, embedded(texts))
    assert len(set(classes[: len(SENTENCES)])) <= 3  # a person would say 1: the classes are approximate
    hobbies = classes[len(SENTENCES) : len(SENTENCES) + len(HOBBIES)]
    assert len(set(hobbies)) == len(HOBBIES)
    assert classes[-2] == hobbies[HOBBIES.index("Reading")]
    assert classes[-1] == hobbies[HOBBIES.index("Hiking")]


def test_scripts_without_spaces_and_right_to_left():
    texts = ["龙井茶", "龙井茶。", "乌龙茶", "شاي أخضر", "شاي أخضر."]
    classes = same_meaning(texts, embedded(texts))
    assert classes[0] == classes[1]
    assert classes[3] == classes[4]
    assert classes[0] != classes[3]


def test_few_equal_and_many_responses():
    random = np.random.default_rng(0)
    assert same_meaning([], np.empty((0, 4))) == ()
    assert same_meaning(["a"], np.ones((1, 4))) == (0,)
    assert same_meaning(["same"] * 5, np.ones((5, 4))) == (0,) * 5
    assert same_meaning(["", "!!!", "", "!!!"], random.normal(size=(4, 4))) == (0, 1, 0, 1)
    texts = [f"word{number} other{number}" for number in range(3_000)]
    classes = same_meaning(texts, random.normal(size=(3_000, 64)))
    assert classes[:3] == (0, 1, 2)
    with pytest.raises(UsageError, match="2 texts and 3 embeddings"):
        same_meaning(["a", "b"], np.ones((3, 4)))
    with pytest.raises(UsageError, match="is zero"):
        same_meaning(["a", "b"], np.zeros((2, 4)))


def test_figures_on_the_prompts_that_were_not_fitted():
    """People's answers: better than the bare threshold. gpt-4o's: a better Rand index, and the same F1."""
    if not DATA.exists():
        pytest.skip("the shared data is absent: novelty_bench")
    sys.path.insert(0, str(ROOT / "tools"))
    import fit_same_meaning as fit

    from outspoken.measure.sets import partition_by_similarity

    annotated = asyncio.run(fit.load(DATA))
    expected = {"gpt-4o": (0.799, 0.462, 1.36, 0.372), "people": (0.678, 0.671, 0.66, 0.481)}
    added = {"gpt-4o": (-0.01, 0.08), "people": (0.1, 0.1)}
    for source, figures in expected.items():
        held_out = [one for one in annotated[source] if one.number % 2]
        found = fit.figures(held_out, lambda one: same_meaning(one.texts, one.rows))
        bare = fit.figures(held_out, lambda one: partition_by_similarity(one.rows, 0.73))
        assert found == pytest.approx(figures, abs=0.02)
        assert found[0] - bare[0] > added[source][0]
        assert found[1] - bare[1] > added[source][1]
        assert f"{figures[0]:.2f}" in ACCURACY
        assert f"{figures[1]:.2f}" in ACCURACY
