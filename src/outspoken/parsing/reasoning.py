"""The reasoning before an answer, in the markup of the models that write it, and the special tokens around both.

Known are `<think>` and its kin, `[THINK]`, `◁think▷`, `<|START_THINKING|>`, `<details type="reasoning">`, the
channels of gpt-oss (Harmony), also where a server has dropped their special tokens, and an end without a
beginning, where the chat template wrote the beginning into the prompt.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from outspoken.parsing.json_text import balanced
from outspoken.parsing.lenient_json import relax

__all__ = [
    "REASONING_END",
    "REASONING_STARTS",
    "Split",
    "split_reasoning",
    "unwrapped",
    "without_draft",
    "without_end_tokens",
]

_WORDS = (
    r"(?:seed:|ant)?(?:thinking|think|thoughts?|reasoning|reflection|scratchpad|analysis|cot|inner_monologue"
    r"|reasoning_content)"
)
_START = re.compile(
    rf"<(?:\|)?{_WORDS}(?:\|)?(?:\s[^<>]{{0,60}})?>|\[THINK\]|◁think▷|<\|START_THINKING\|>"
    rf"|<\|begin_of_thought\|>|<\|channel>\s?(?:thought|analysis)"
    r"|<details\s[^<>]{0,120}?(?:type|class)=[\"']?(?:reasoning|thinking)[^<>]{0,120}>",
    re.IGNORECASE,
)
REASONING_END = re.compile(
    rf"</(?:\|)?{_WORDS}(?:\|)?>|<\|/think(?:ing)?\|>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>"
    rf"|<\|end_of_thought\|>|<channel\|>|</think(?=\s*[\n{{\[<])",
    re.IGNORECASE,
)
"""The end of a block of reasoning in any markup except `<details>`."""

REASONING_STARTS = (
    "<think>", "<thinking>", "<thought>", "<reasoning>", "<reflection>", "<scratchpad>", "<analysis>",
    "<seed:think>", "<seed:thinking>", "<antthinking>", "<|thinking|>", "[think]", "◁think▷", "<|start_thinking|>",
    "<|begin_of_thought|>", "<|channel>", "<|channel|>", "<details", "<|start|>", "<|think|>",
)  # fmt: skip
"""What a stream may begin with before its reasoning, in lower case."""

_DETAILS_END = re.compile(r"</details>", re.IGNORECASE)
_CANDIDATES_START = re.compile(
    r"[{\[(]\s*+[\"'“{\[]|<(?:responses?|candidates?|text|answer)\b|^\s{0,8}(?:\d{1,3}[.):]|[-*•])\s", re.M | re.I
)
_CHANNEL = re.compile(
    r"<\|channel\|>\s*(?P<name>\w{1,20})(?P<to>[^<]{0,80}?)(?:<\|constrain\|>\s*\w{0,20})?\s*<\|message\|>"
)
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start)\|>")
_STRIPPED = re.compile(r"\s*(?:assistant)?\s?analysis(?=[^\s\w]|[A-Z\n]|[^\x00-\x7f])|\s*analysis\n")
_FINAL = re.compile(r"assistant\s?final(?!ly\b|ize|ise|ist)|\nfinal\n")
_TOKENS = (
    r"<\|(?:eot_id|im_end|end|return|endoftext|eom_id|end_of_text|endofprompt|end_of_turn|EOT|END_RESPONSE"
    r"|END_OF_TURN_TOKEN|end_of_solution|assistant|user|eos|EOS|END)\|>"
    r"|<(?:end_of_turn|eos|EOT|end_of_utterance|pad|unk|turn\||\|end_of_sentence\|)>|</s>|<s>|\[/INST\]"
    r"|\[/?ASSISTANT\]|<｜end▁of▁sentence｜>|<｜[^｜<>]{1,40}｜>|<\|endofanswer\|>|\[EOS\]|<bos>|\[gMASK\]|<sop>"
    r"|<turn\|>"
)
_END_TOKENS = re.compile(rf"(?:\s*(?:{_TOKENS}))+\s*(?=\n```\s*\Z|\Z)")
_START_TOKENS = re.compile(
    r"\A\s*(?:(?:<\|(?:START_RESPONSE|begin_of_solution|im_start|start|start_header_id|begin_of_text"
    r"|START_OF_TURN_TOKEN|CHATBOT_TOKEN)\|>(?:assistant)?(?:<\|end_header_id\|>)?|<start_of_turn>(?:model)?"
    r"|<s>|<bos>|<\|assistant\|>)\s*)+"
)
_ANSWER_TAG = re.compile(
    r"\A\s*<(?:final_answer|final|output)>\s*(.*?)\s*(?:</(?:final_answer|final|output)>\s*)?\Z",
    re.DOTALL | re.IGNORECASE,
)


_ESCAPED_START = re.compile(r"(?:[\[{(]\s*+)++\\")
_QUOTE = re.compile(r"(?<!\\)\"")


class Split(NamedTuple):
    """The reasoning of a reply, the rest of it, and the repairs."""

    reasoning: str
    body: str
    repairs: tuple[str, ...]


def without_end_tokens(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without the special tokens at its ends, and the repair."""
    if "<" not in text and "[" not in text:
        return text, ()
    cut = _START_TOKENS.sub("", text, count=1)
    at = max(cut.rfind(">"), cut.rfind("]"))
    if at >= 0 and len(cut) - at < 40:
        start = max(0, at - 400)
        match = _END_TOKENS.search(cut, start)
        if match is not None:
            cut = cut[: match.start()] + cut[match.end() :]
    return (cut, ("end-token",)) if cut != text else (text, ())


def split_reasoning(text: str, *, anchored: bool = True) -> Split:
    """Divide a reply into its reasoning and the rest.

    With `anchored` a block counts only before the candidates, because a text may also contain the tags. An end tag
    without a start tag also ends the reasoning, because some chat templates open the block in the prompt. A block
    that never ends may contain the whole answer: it stays in the rest, without its tag.
    """
    channels = _channels(text)
    if channels is not None:
        return channels
    blocks: list[str] = []
    outside: list[str] = []
    position = 0
    while (start := _START.search(text, position)) is not None:
        before = text[position : start.start()]
        if _CANDIDATES_START.search(before) if anchored else before.strip():
            break
        outside.append(before)
        closing = _DETAILS_END if start[0][:8].lower() == "<details" else REASONING_END
        end = closing.search(text, start.end())
        if end is None:
            if not anchored:
                return Split(text[start.end() :].strip(), "", ("unclosed-think",))
            outside.append(text[start.end() :])
            return Split("\n\n".join(blocks), "".join(outside), ("unclosed-think",))
        blocks.append(text[start.end() : end.start()].strip())
        position = end.end()
    if position == 0 and start is None:
        ends = REASONING_END.finditer(text)
        end = next(ends, None)
        if end is not None and not (anchored and _is_in_candidate(text, end.start())):
            blocks.append(text[: end.start()].strip())
            position = end.end()
    return Split("\n\n".join(blocks), "".join(outside) + text[position:], ("think-block",) if blocks else ())


_DRAFT = re.compile(r"\s*<(draft|first_draft|brainstorm|scratch|notes)>(.*?)</\1>", re.IGNORECASE | re.DOTALL)


def without_draft(text: str) -> tuple[str, tuple[str, ...]]:
    """The text without a draft in tags at its beginning, and the repair."""
    match = _DRAFT.match(text)
    return (text[match.end() :], ("draft",)) if match is not None and text[match.end() :].strip() else (text, ())


def _channels(text: str) -> Split | None:
    """The channels of a reply in Harmony: the final one is the answer. None for a reply without channels."""
    if "<|channel|>" in text or "<|message|>" in text:
        return _marked_channels(text)
    if _STRIPPED.match(text):
        finals = list(_FINAL.finditer(text))
        if finals:
            start = _STRIPPED.match(text)
            reasoning = text[start.end() if start else 0 : finals[-1].start()].strip()
            return Split(reasoning, text[finals[-1].end() :], ("think-block",))
    return None


def _marked_channels(text: str) -> Split | None:
    parts = list(_CHANNEL.finditer(text))
    if not parts:
        head, found, rest = text.partition("<|message|>")
        if found and len(head) < 80 and head.startswith("<|"):
            return Split("", _CHANNEL_END.split(rest, maxsplit=1)[0], ("end-token",))
        return None
    if _CANDIDATES_START.search(text, 0, parts[0].start()):
        return None
    reasoning: list[str] = []
    final: str | None = None
    called: str | None = None
    last = ""
    for part in parts:
        end = _CHANNEL_END.search(text, part.end())
        content = text[part.end() : end.start() if end is not None else None].strip()
        last = part["name"]
        if part["name"] == "final":
            final = content
        elif part["name"] == "commentary" and "to=" in part["to"]:
            called = content
        else:
            reasoning.append(content)
    body = final if final is not None else called
    if body is None:
        return Split("\n\n".join(reasoning), "", ("unclosed-think",)) if last else None
    return Split(
        "\n\n".join(part for part in reasoning if part), body, ("think-block",) if reasoning else ("end-token",)
    )


def unwrapped(text: str) -> str:
    """An answer without the tag that surrounds all of it."""
    match = _ANSWER_TAG.match(text)
    return match[1] if match is not None else text


def _is_in_candidate(text: str, position: int) -> bool:
    """Whether a position is inside a candidate: the last opening before it closes after it."""
    start = max((match.start() for match in _CANDIDATES_START.finditer(text, 0, position)), default=-1)
    if start < 0 or text[start] not in "{[":
        return False
    if _ESCAPED_START.match(text, start) and _QUOTE.search(text, start, position):
        # The string that holds this JSON ends before.
        return False
    end = balanced(text, start)
    relaxed = relax(text, start) if end is None else None
    return (relaxed.end if relaxed is not None else end or 0) > position
