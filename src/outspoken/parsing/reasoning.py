"""Taking off the block of thoughts that a reasoning model writes before its answer."""

from __future__ import annotations

import re

from outspoken.parsing.json_finder import balanced
from outspoken.parsing.lenient_json import relax

__all__ = ["take_thoughts"]

_OPEN = re.compile(r"<(think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_CLOSE = re.compile(r"</(think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_BEGUN = re.compile(
    r"[{\[(]\s*+[\"'“{\[]|<(?:responses?|candidates?|text|answer)\b|^\s{0,8}(?:\d{1,3}[.):]|[-*•])\s", re.M | re.I
)


def take_thoughts(text: str, *, anchored: bool = True) -> tuple[str, str, tuple[str, ...]]:
    """The thoughts, what is left of the reply, and what was taken off.

    A block counts only where it stands before the candidates (`anchored`): the tags may also be part of a text.
    An end without a beginning ends the thoughts too, because some chat templates open the block in the prompt.
    One that never ends may hold everything, so that it is left in, without its tag.
    """
    thoughts: list[str] = []
    heads: list[str] = []
    at = 0
    while (opened := _OPEN.search(text, at)) is not None:
        head = text[at : opened.start()]
        if _BEGUN.search(head) if anchored else head.strip():
            break
        heads.append(head)
        closed = _CLOSE.search(text, opened.end())
        if closed is None:
            if not anchored:
                return text[opened.end() :].strip(), "", ("unclosed-think",)
            heads.append(text[opened.end() :])
            return "\n\n".join(thoughts), "".join(heads), ("unclosed-think",)
        thoughts.append(text[opened.end() : closed.start()].strip())
        at = closed.end()
    if at == 0 and opened is None:
        closed = _CLOSE.search(text)
        if closed is not None and not (anchored and _inside(text, closed.start())):
            thoughts.append(text[: closed.start()].strip())
            at = closed.end()
    return "\n\n".join(thoughts), "".join(heads) + text[at:], ("think-block",) if thoughts else ()


def _inside(text: str, at: int) -> bool:
    """Whether a position lies in a candidate: the last opening before it closes behind it."""
    begun = max((match.start() for match in _BEGUN.finditer(text, 0, at)), default=-1)
    if begun < 0 or text[begun] not in "{[":
        return False
    end = balanced(text, begun)
    relaxed = relax(text, begun) if end is None else None
    return (relaxed.end if relaxed is not None else end or 0) > at
