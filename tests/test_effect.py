"""The verdict: what is counted as diversity, and what is said with few prompts."""

from __future__ import annotations

import numpy as np
import pytest

from outspoken.measure import Answers, Cost, Group, PromptGroup, Response, analyse

REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "As an AI language model, I don't have hobbies.",
    "I cannot fulfill this request.",
    "I am an AI and do not have a favourite hobby.",
]
HOBBIES = ["Reading", "Photography", "Hiking", "Cooking", "Chess", "Painting", "Running", "Writing"]


def group(method, texts, prompts=1, **options):
    """A group with the texts in turn for each of the prompts."""
    entries = tuple(
        PromptGroup(
            f"p{at}",
            f"Name a hobby, number {at}.",
            tuple(Response(text, call=n) for n, text in enumerate(texts(at))),
        )
        for at in range(prompts)
    )
    return Group(method, "m", entries, options)


async def verdict(a, b, **options):
    analysis = await analyse([b, a], resamples=500, **options)
    (effect,) = analysis.effects
    return effect


async def test_refusals_are_no_diversity():
    refusing = group("direct", lambda at: [REFUSALS[n % 4] + " " * n for n in range(8)], 8)
    collapsed = group("vs-standard", lambda at: ["Reading", "Hiking"] * 4, 8)
    effect = await verdict(collapsed, refusing)
    assert (effect.outcome, effect.measure) == ("helps", "distinct_answers")
    assert "2.00 against 0.00 for direct" in effect.sentence
    assert "Refusals 0 % against 100 %" in effect.sentence
    (refusals,) = (one for one in effect.beside if one.measure == "refusals")
    assert (refusals.a, refusals.b, refusals.significant) == (0, 1, True)


async def test_few_prompts_are_judged_as_they_are_and_say_so():
    direct = group("direct", lambda at: ["Reading"] * 9 + ["Hiking"], 2)
    verbalized = group("vs-standard", lambda at: [*HOBBIES, "Reading", "Hiking"], 2)
    effect = await verdict(verbalized, direct)
    assert effect.outcome == "helps"
    assert effect.these_prompts
    assert "holds for these 2 prompts alone" in effect.sentence
    assert "at least 6" in effect.sentence
    same = await verdict(group("vs-standard", lambda at: ["Reading"] * 8 + ["Hiking"] * 2, 2), direct)
    assert same.outcome == "no evidence"
    assert same.sentence.startswith("No evidence that vs-standard helps or hurts")


async def test_fewer_different_answers_hurt():
    wide = group("direct", lambda at: HOBBIES, 10)
    narrow = group("vs-standard", lambda at: ["Reading"] * (7 - at % 2) + ["Hiking"] * (1 + at % 2), 10)
    effect = await verdict(narrow, wide)
    assert (effect.outcome, effect.these_prompts, effect.needed) == ("hurts", False, None)


async def test_no_evidence_says_how_many_prompts_it_takes():
    random = np.random.default_rng(0)

    def some(extra):
        return lambda at: list(random.choice(HOBBIES[: 4 + extra * (at % 3 == 0)], 6))

    effect = await verdict(group("vs-standard", some(1), 12), group("direct", some(0), 12))
    assert effect.outcome == "no evidence"
    assert effect.needed is not None
    assert effect.needed > 12
    assert f"needs about {effect.needed:,} prompts; there were 12" in effect.sentence


async def test_with_counts_the_nearer_group_helps_and_cost_stands_beside():
    answers = Answers.counts(dict.fromkeys(HOBBIES, 1))
    near = group("vs-standard", lambda at: [*HOBBIES, *HOBBIES], 8)
    far = group("direct", lambda at: ["Reading"] * 16, 8)
    analysis = await analyse(
        [far, near],
        answers=lambda prompt: answers,
        costs=[Cost(128, 800, 1.0, 0.08), Cost(16, 1600, 2.0, 0.16)],
        resamples=500,
    )
    (effect,) = analysis.effects
    assert (effect.outcome, effect.measure) == ("helps", "tv")
    assert "25 against 100 tokens for each different answer" in effect.sentence
    floor = analysis.groups[1].floors["tv"]
    assert floor.low > analysis.groups[1].figures["tv"].value == 0
    assert floor.low < floor.value < floor.high < analysis.groups[0].figures["tv"].value


async def test_a_single_group_and_groups_without_common_prompts_have_no_verdict():
    one = group("direct", lambda at: HOBBIES, 2)
    assert (await analyse([one], resamples=100)).effects == ()
    other = Group("vs-standard", "m", (PromptGroup("q", "?", (Response("a"), Response("b"))),))
    assert (await analyse([one, other], resamples=100)).effects == ()


@pytest.mark.parametrize("texts", [["same"] * 4, ["a", "b"], ["only"]])
async def test_equal_few_and_single_responses(texts):
    effect = await verdict(group("vs-standard", lambda at: texts), group("direct", lambda at: texts))
    assert effect.outcome == "no evidence"
