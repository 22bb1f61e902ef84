"""The methods driven by hand: no model, no loop, only requests and replies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from outspoken import (
    ChatReply,
    ChatRequest,
    Distribution,
    OutspokenError,
    ProviderError,
    ReplyError,
    Settings,
    ShortReplyError,
    Usage,
    UsageError,
)
from outspoken.chat import Message, as_messages
from outspoken.methods.call import MethodCall
from outspoken.methods.steps import start
from outspoken.methods.table import METHODS
from outspoken.templates import load

pytestmark = pytest.mark.core


def vs(*pairs: tuple[str, Any], **more: Any) -> str:
    return json.dumps({**more, "responses": [{"text": t, "probability": p} for t, p in pairs]}, ensure_ascii=False)


def walk(
    replies: Sequence[str | ChatReply | OutspokenError], prompt: Any = "Name a fruit", **options: Any
) -> tuple[Distribution, list[ChatRequest]]:
    """Answer a method's requests with the replies, in order."""
    extra = {name: options.pop(name) for name in ("schema", "validate", "enforce") if name in options}
    settings = Settings.read(options)
    ask = MethodCall(as_messages(prompt), settings, load(settings.template), "test/model", **extra)
    running = start(ask)
    requests: list[ChatRequest] = []
    left = [ChatReply(reply, usage=Usage(10, 5)) if isinstance(reply, str) else reply for reply in replies]
    try:
        asked = next(running)
        while True:
            if isinstance(asked, tuple):
                requests += asked
                asked = running.send([left.pop(0) for _ in asked])
            else:
                requests.append(asked)
                reply = left.pop(0)
                asked = running.throw(reply) if isinstance(reply, Exception) else running.send(reply)
    except StopIteration as stop:
        assert not left, "the method asked for fewer replies than there were"
        return stop.value, requests


def test_vs_standard_asks_once_and_normalises() -> None:
    distribution, requests = walk([vs(("apple", 0.4), ("pear", 0.2), ("fig", 0.2))], k=3, seed=5, temperature=0.7)
    assert distribution.texts == ("apple", "pear", "fig")
    assert distribution.probabilities == pytest.approx((0.5, 0.25, 0.25))
    assert distribution.mass == pytest.approx(0.8)
    (request,) = requests
    assert request.messages[0] == Message("system", "You are a helpful assistant.")
    assert request.messages[1].content.startswith('Generate 3 responses to the input prompt: "Name a fruit"')
    assert request.sampling.seed == 5
    made = distribution.provenance
    assert (made.method, made.template, made.k, made.requests) == ("vs-standard", "standard", 3, 1)
    assert made.usage == Usage(10, 5)
    assert made.seed == 5


def test_a_schema_is_sent_where_the_decoder_takes_one() -> None:
    _, (plain,) = walk([vs(("a", 0.1), ("b", 0.1))], k=2)
    assert plain.schema is None
    _, (enforced,) = walk([vs(("a", 0.1), ("b", 0.1))], k=2, enforce=True, tau=0.2)
    assert enforced.schema is not None
    items = enforced.schema["properties"]["responses"]
    assert (items["minItems"], items["maxItems"]) == (2, 2)
    assert items["items"]["properties"]["probability"] == {"type": "number", "minimum": 0, "exclusiveMaximum": 0.2}


def test_a_short_reply_is_topped_up_with_what_is_missing() -> None:
    distribution, requests = walk([vs(("apple", 0.4), ("Apple.", 0.1)), vs(("pear", 0.1), ("fig", 0.1))], k=3)
    assert distribution.texts == ("apple", "pear", "fig")
    assert distribution.missing == 0
    assert [m.role for m in requests[1].messages] == ["system", "user", "assistant", "user"]
    assert requests[1].messages[-1].content.startswith("Generate 2 MORE alternative responses")
    assert distribution.provenance.requests == 2
    assert distribution.provenance.usage == Usage(20, 10)


def test_what_does_not_come_is_counted_or_raised() -> None:
    replies = [vs(("apple", 0.5)), vs(("apple", 0.5))]
    distribution, _ = walk(replies, k=3, top_up=1)
    assert (distribution.texts, distribution.missing) == (("apple",), 2)
    with pytest.raises(ShortReplyError, match="2 of 3") as caught:
        walk(replies, k=3, top_up=1, on_short="raise")
    assert caught.value.distribution.texts == ("apple",)


def test_an_unreadable_reply_is_asked_for_again_with_the_reason() -> None:
    distribution, requests = walk(["What a nice question!", vs(("apple", 0.5), ("fig", 0.5))], k=2)
    assert distribution.texts == ("apple", "fig")
    assert requests[1].messages[-2] == Message("assistant", "What a nice question!")
    assert "could not be read" in requests[1].messages[-1].content


def test_an_empty_reply_is_asked_for_again_without_an_empty_turn() -> None:
    _, requests = walk(["", vs(("apple", 0.5), ("fig", 0.5))], k=2, seed=3)
    assert requests[1].messages == requests[0].messages
    assert (requests[0].sampling.seed, requests[1].sampling.seed) == (3, 4)


def test_prose_is_an_error_that_carries_the_reply() -> None:
    refusal = "I'm sorry, but I can't help with that request."
    with pytest.raises(ReplyError) as caught:
        walk([refusal] * 3, k=5)
    assert caught.value.text == refusal
    assert caught.value.reply is not None


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (ChatReply("", refusal="I can't."), "refused"),
        (ChatReply('{"resp', finish="length", usage=Usage(9, 20_000)), "raise max_tokens"),
        (ChatReply("", finish="content_filter"), "content filter"),
    ],
)
def test_what_cannot_get_better_is_not_asked_for_again(reply: ChatReply, message: str) -> None:
    with pytest.raises(ReplyError, match=message):
        walk([reply], k=5)


def cut(text: str, tokens: int = 0) -> ChatReply:
    return ChatReply(text, finish="length", usage=Usage(10, tokens))


def test_a_candidate_that_was_cut_off_is_set_aside_and_asked_for_again() -> None:
    distribution, requests = walk([cut(vs(("apple", 0.5), ("pe", 0.5))[:-24]), vs(("pear", 0.5))], k=2)
    assert distribution.texts == ("apple", "pear")
    assert [c.text for c in distribution.set_aside] == ["pe"]
    assert (distribution.cut_off, distribution.missing) == (1, 0)
    assert [request.sampling.max_tokens for request in requests] == [None, 2048]
    assert len(requests[1].messages) == len(requests[0].messages) + 2


@pytest.mark.parametrize("method", ["vs-standard", "vs-multi", "sequence", "direct-cot"])
def test_a_reply_that_was_cut_off_before_its_first_candidate_is_asked_for_again_with_more_room(
    method: str,
) -> None:
    whole = {"direct-cot": '{"reasoning": "x", "response": "fig"}'}.get(method, vs(("fig", 0.5)))
    short = '{"resp' if method != "direct-cot" else '{"reasoning": "well, '
    distribution, requests = walk([cut(short), cut(short, 2048), whole], method=method, k=1, turns=1)
    assert (distribution.texts, distribution.cut_off, distribution.missing) == (("fig",), 2, 0)
    assert [request.sampling.max_tokens for request in requests] == [None, 2048, 4096]
    assert len({request.messages for request in requests}) == 1
    with pytest.raises(ReplyError, match="cut off at the token limit"):
        walk([cut(short)] * 3, method=method, k=1, turns=1)


def test_there_is_a_limit_to_the_room() -> None:
    whole = vs(("fig", 0.5))
    _, requests = walk([cut("{", 5000), cut("{", 10_000), cut("{", 16_000), whole], k=1, top_up=9)
    assert [request.sampling.max_tokens for request in requests] == [None, 10_000, 16_384, 16_384]
    with pytest.raises(ReplyError, match="raise max_tokens"):
        walk([cut("{", 16_384)], k=1, top_up=9)


def test_a_limit_of_the_users_is_kept() -> None:
    with pytest.raises(ReplyError, match="raise max_tokens"):
        walk([cut('{"resp')], k=1, max_tokens=50)
    replies = [cut(vs(("apple", 0.5), ("pe", 0.5))[:-24]), vs(("pear", 0.5))]
    distribution, requests = walk(replies, k=2, max_tokens=50)
    assert (distribution.texts, distribution.cut_off) == (("apple", "pear"), 1)
    assert [request.sampling.max_tokens for request in requests] == [50, 50]


def test_a_server_that_has_no_more_room_leaves_what_was_whole() -> None:
    refused = ProviderError("max_tokens is too large", status=400)
    distribution, _ = walk([cut(vs(("apple", 0.5), ("pe", 0.5))[:-24]), refused], k=2)
    assert (distribution.texts, distribution.missing) == (("apple",), 1)
    assert distribution.stopped == "max_tokens is too large"
    with pytest.raises(ReplyError, match="raise max_tokens") as caught:
        walk([cut("{"), refused], k=2)
    assert caught.value.__cause__ is refused
    lost = ProviderError("lost", retryable=True)
    with pytest.raises(ProviderError, match="lost"):
        walk([cut("{"), lost], k=2)


@pytest.mark.parametrize("finish", ["length", "content_filter", "pause_turn"])
def test_a_direct_answer_that_was_cut_off_is_kept_and_marked(finish: str) -> None:
    distribution, _ = walk([ChatReply("Once upon a", finish=finish)], method="direct", k=1)
    assert distribution[0].repairs == ("truncated",)
    assert (distribution.cut_off, distribution.refused, distribution.missing) == (1, 0, 0)


REFUSED = ChatReply("", refusal="I can't.")


@pytest.mark.parametrize("method", ["direct", "direct-cot"])
@pytest.mark.parametrize("refusal", [REFUSED, ChatReply("", finish="content_filter")])
def test_a_refusal_ends_no_other_answer(method: str, refusal: ChatReply) -> None:
    answer = "fig" if method == "direct" else '{"reasoning": "x", "response": "fig"}'
    distribution, requests = walk([answer, refusal, answer, refusal, answer], method=method, k=5, seed=7)
    assert (len(requests), distribution.provenance.requests) == (5, 5)
    assert (distribution.refused, distribution.missing, distribution.stopped) == (2, 2, "")
    assert [candidate.meta.get("request", 0) for candidate in distribution] == [0]
    assert [request.sampling.seed for request in requests] == [7, 8, 9, 10, 11]
    with pytest.raises(ShortReplyError, match="2 of 5"):
        walk([answer, refusal, answer, refusal, answer], method=method, k=5, on_short="raise")


def test_refusals_alone_are_an_error() -> None:
    with pytest.raises(ReplyError, match="refused"):
        walk([REFUSED] * 3, method="direct", k=3)


def test_several_answers_are_asked_for_again_together_and_keep_their_numbers() -> None:
    distribution, requests = walk(["a", "", "b", "", "", "c", ""], method="direct", k=4, seed=0, top_up=2)
    assert [request.sampling.seed for request in requests] == [0, 1, 2, 3, 4, 5, 6]
    numbers = {candidate.text: candidate.meta.get("request", 0) for candidate in distribution}
    assert numbers == {"a": 0, "b": 2, "c": 5}
    assert (distribution.missing, distribution.provenance.requests) == (1, 7)


def test_a_failure_of_one_of_several_answers_keeps_the_others() -> None:
    lost = ProviderError("lost", retryable=True)
    distribution, _ = walk(["a", lost, "b"], method="direct", k=3)
    assert {c.text: c.meta.get("request", 0) for c in distribution} == {"a": 0, "b": 2}
    assert (distribution.missing, distribution.stopped) == (1, "lost")
    with pytest.raises(ProviderError, match="lost"):
        walk([lost] * 2, method="direct", k=2)
    with pytest.raises(UsageError, match="no seed"):
        walk([UsageError("takes no seed")], method="direct", k=1)


@pytest.mark.parametrize("finish", ["length", "content_filter", "pause_turn"])
def test_the_last_line_of_a_list_that_was_cut_off_is_set_aside(finish: str) -> None:
    lines = "1. apple\n2. pear\n3. fi"
    distribution, _ = walk([ChatReply(lines, finish=finish)], k=3, top_up=0)
    assert (distribution.texts, [c.text for c in distribution.set_aside]) == (("apple", "pear"), ["fi"])
    distribution, _ = walk([ChatReply(lines)], k=3)
    assert distribution.texts == ("apple", "pear", "fi")


@pytest.mark.parametrize(("found_in", "repair"), [("reasoning", "in-reasoning"), ("tool_calls", "in-tool-call")])
def test_an_answer_that_stood_elsewhere_is_marked(found_in: str, repair: str) -> None:
    distribution, _ = walk([ChatReply(vs(("apple", 0.5)), found_in=found_in)], k=1)
    assert [(c.text, c.repairs) for c in distribution] == [("apple", (repair,))]


def test_a_call_of_a_tool_is_no_direct_answer() -> None:
    reply = ChatReply('{"query": "jokes"}', "tool_calls", found_in="tool_calls")
    with pytest.raises(ReplyError, match="called a tool") as caught:
        walk([reply], method="direct", k=1, top_up=0)
    assert caught.value.reply == reply


def test_the_tail_keeps_what_is_below_tau() -> None:
    first = vs(("apple", 0.5), ("pear", 0.1), ("durian", 0.05), ("salak", 0.02))
    distribution, requests = walk([first, vs(("quince", 0.01), ("sloe", 0.03))], k=4, tau=0.1, top_up=1)
    assert distribution.texts == ("durian", "sloe", "salak", "quince")
    assert [c.text for c in distribution.set_aside] == ["apple", "pear"]
    assert "outside the tail" in distribution.set_aside[0].repairs[-1]
    assert "less than 0.1" in requests[0].messages[-1].content
    assert "less than 0.1" in requests[1].messages[-1].content
    assert distribution.provenance.tau == 0.1


def test_nothing_in_the_tail_is_an_error_that_says_so() -> None:
    with pytest.raises(ReplyError, match="outside the tail"):
        walk([vs(("apple", 0.5), ("pear", 0.5))] * 3, k=2, tau=0.1)


def test_more_than_were_asked_for_are_set_aside() -> None:
    distribution, _ = walk([vs(*((f"t{at}", 0.1) for at in range(7)))], k=5)
    assert len(distribution) == 5
    assert len(distribution.set_aside) == 2
    assert "surplus" in distribution.set_aside[0].repairs[-1]


def test_direct_calls_k_times_and_counts() -> None:
    distribution, requests = walk(["Apple", "apple.", "Fig", "Apple!"], method="direct", k=4, seed=2**32 - 2)
    assert dict(zip(distribution.texts, distribution.probabilities, strict=True)) == {"Apple": 0.75, "Fig": 0.25}
    assert distribution.missing == 0
    assert distribution.mass is None
    assert [r.messages for r in requests] == [(Message("user", "Name a fruit"),)] * 4
    assert [r.sampling.seed for r in requests] == [2**32 - 2, 2**32 - 1, 0, 1]


def test_direct_cot_keeps_the_reasoning_apart() -> None:
    reply = json.dumps({"reasoning": "A rare one.", "response": "Salak"})
    distribution, _ = walk([reply], method="direct-cot", k=1)
    assert distribution.texts == ("Salak",)
    assert distribution[0].meta["reasoning"] == "A rare one."


@pytest.mark.parametrize("template", ["standard", "paper"])
def test_sequence_is_uniform_whatever_is_stated(template: str) -> None:
    reply = '["apple", "pear"]' if template == "paper" else vs(("apple", 0.9), ("pear", 0.1))
    distribution, _ = walk([reply], method="sequence", k=2, template=template)
    assert distribution.probabilities == (0.5, 0.5)
    assert distribution.mass is None


def test_multi_turn_keeps_all_turns_in_one_conversation_and_counts() -> None:
    distribution, requests = walk(["Apple", "Pear", "apple", "Fig"], method="multi-turn", k=4)
    assert dict(zip(distribution.texts, distribution.probabilities, strict=True)) == {
        "Apple": 0.5,
        "Pear": 0.25,
        "Fig": 0.25,
    }
    assert [len(r.messages) for r in requests] == [1, 3, 5, 7]
    assert [m.role for m in requests[-1].messages] == ["user", "assistant"] * 3 + ["user"]
    assert distribution.missing == 0


def test_an_answer_repeated_in_a_later_reply_is_set_aside() -> None:
    turns = [vs(("a", 0.2), ("A.", 0.1), ("b", 0.1)), vs(("a", 0.9), ("c", 0.1))]
    distribution, _ = walk(turns, k=3, top_up=1)
    assert [(c.text, c.stated) for c in distribution] == [("a", pytest.approx(0.3)), ("b", 0.1), ("c", 0.1)]
    assert [(c.text, c.repairs[-1]) for c in distribution.set_aside] == [
        ("a", "repeated: an earlier reply said it")
    ]


def test_vs_multi_asks_for_k_more_each_turn() -> None:
    turns = [vs(("a", 0.2), ("b", 0.1)), vs(("c", 0.1), ("d", 0.1)), vs(("e", 0.05), ("f", 0.05))]
    distribution, requests = walk(turns, method="vs-multi", k=2, turns=3)
    assert len(distribution) == 6
    assert [m.role for m in requests[2].messages[1:]] == ["user", "assistant", "user", "assistant", "user"]
    assert requests[2].messages[-1].content.startswith("Generate 2 MORE alternative responses")
    assert distribution.provenance.turns == 3


def test_vs_cot_keeps_the_reasoning() -> None:
    distribution, _ = walk([vs(("a", 0.2), ("b", 0.1), reasoning="First, angles.")], method="vs-cot", k=2)
    assert distribution.reasoning == ("First, angles.",)


@pytest.mark.parametrize("template", ["percent", "nll", "perplexity", "confidence", "xml"])
def test_other_wordings_have_their_own_conversion(template: str) -> None:
    key, values = {
        "percent": ("probability", ["60%", 20]),
        "nll": ("nll", [0.510826, 1.609438]),
        "perplexity": ("perplexity", [1 / 0.6, 5]),
        "confidence": ("confidence", [0.6, 0.2]),
        "xml": ("probability", [0.6, 0.2]),
    }[template]
    if template == "xml":
        reply = "".join(
            f"<response><text>{t}</text><probability>{p}</probability></response>"
            for t, p in zip("ab", values, strict=True)
        )
    else:
        reply = json.dumps({"responses": [{"text": t, key: p} for t, p in zip("ab", values, strict=True)]})
    distribution, _ = walk([reply], k=2, template=template)
    assert [c.stated for c in distribution] == pytest.approx([0.6, 0.2], rel=1e-5)
    assert distribution.probabilities == pytest.approx((0.75, 0.25), rel=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_chat_keeps_its_history_and_its_system_prompt(method: str) -> None:
    chat = [
        {"role": "system", "content": "You are a pirate."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Arr"},
        {"role": "user", "content": "Name a fruit"},
    ]
    reply = {"direct": "Fig", "multi-turn": "Fig", "direct-cot": '{"reasoning": "x", "response": "Fig"}'}
    distribution, (request,) = walk(
        [reply.get(method, vs(("Fig", 0.5)))], prompt=chat, method=method, k=1, turns=1, top_up=0
    )
    assert request.messages[0] == Message("system", "You are a pirate.")
    assert request.messages[1:3] == (Message("user", "Hi"), Message("assistant", "Arr"))
    assert "Name a fruit" in request.messages[-1].content
    assert distribution.provenance.prompt == tuple(chat)


def test_instructions_of_a_template_are_joined_to_the_callers_system_prompt() -> None:
    chat = [{"role": "system", "content": "You are a pirate."}, {"role": "user", "content": "Name a fruit"}]
    _, (request,) = walk([vs(("Fig", 0.5))], prompt=chat, k=1, template="paper")
    assert request.messages[0].content.startswith("You are a pirate.\n\nGenerate 1 responses")
    assert request.messages[1] == Message("user", "Name a fruit")


def structured(check: Callable[[Any], Any]) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    return {"schema": schema, "validate": check}


def test_structured_candidates_are_validated_and_invalid_ones_asked_for_again() -> None:
    def check(value: Any) -> Any:
        if "name" not in value:
            raise ValueError("'name' is a required property")
        return value

    first = vs(({"name": "fig"}, 0.5), ({"nom": "pear"}, 0.5))
    distribution, requests = walk([first, vs(({"name": "梨"}, 0.5))], k=2, **structured(check))
    assert [c.value for c in distribution] == [{"name": "fig"}, {"name": "梨"}]
    assert "invalid" in distribution.set_aside[0].repairs[-1]
    assert '"required": ["name"]' in requests[0].messages[-1].content
    assert "梨" in distribution[1].text


def test_every_method_is_described() -> None:
    assert all(method.name == name and method.about for name, method in METHODS.items())
