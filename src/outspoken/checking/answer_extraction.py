"""The final answer in what a model or a data set wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from outspoken.checking.numbers import read_number, tidy

__all__ = ["FinalAnswer", "final_answer", "find_final"]

_LONGEST = 200_000
_WHOLE = 80
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_HASHES = re.compile(r"^[ \t]*####[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_STATED = re.compile(
    r"""(?:\banswer\b[^.\n:：=?]{0,40}?(?:\bis\b|\bequals\b|[:：=])
      | 答案[^。\n:：]{0,10}?(?:是|为|為|[:：]) | 答[:：] | 答え(?:は|[:：])
      | (?:정답|답)(?:은|는|[:：])
      | \b(?:respuesta|resposta)(?:\ final)?\s*(?:\bes\b|\bé\b|[:：])
      | \bréponse(?:\ finale)?\s*(?:\best\b|[:：])
      | \b(?:Antwort|Lösung)\s*(?:\bist\b|\blautet\b|[:：])
      | \bОтвет\s*[:：—-]
      | (?:الجواب|الإجابة|الاجابة)(?:\ النهائي|\ النهائية)?\s*(?:هو|هي|[:：])
    )[\s*_:：]*(?=(?P<rest>[^\n]{1,2000}))""",
    re.VERBOSE | re.IGNORECASE,
)
_MATHEMATICS = re.compile(
    r"(?<!\\)\$\$(.+?)(?<!\\)\$\$|(?<!\\)\$([^$\n]+?)(?<!\\)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.S
)
_FIGURE = re.compile(
    r"(?<![\dA-Za-z.])[-−]?[$€£¥₹]?(?:\d+[ ](?=\d+/\d))?\d(?:[\d,٬]*\d)?(?:[.٫]\d+)?"
    r"(?:\s*/\s*\d+(?:\.\d+)?)?(?:\s?\\?[%٪])?"
)
_IS = re.compile(r"\s*(?:です|である|だ|입니다|이다|है)$")
_SENTENCE = re.compile(r"[.!?](?=[\s*]|$)|[。！？]")
# Of scripts without blanks one letter is a word. "or" and "and" join answers; functions are no words.
_WORD = re.compile(
    r"(?<![^\W\d_])(?!(?:or|and|pi|sqrt|sin|cos|tan|log|ln|exp|inf|infinity)\b)[A-Za-zÀ-ɏ]{2,}"
    r"|[^\W\d_A-Za-zÀ-ɏα-ωΑ-Ω]+"
)


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """A final answer and how it was found: `boxed`, after `####`, `stated` ("the answer is 12"), because it is the
    `whole` text, or as the `last` number or expression in it."""

    text: str
    how: Literal["boxed", "####", "stated", "whole", "last"]


def final_answer(text: str) -> str | None:
    """The final answer in a text, None where there is none; see `find_final`."""
    found = find_final(text)
    return None if found is None else found.text


def find_final(text: str) -> FinalAnswer | None:
    r"""The final answer in a text, and how it was found, the surest way first.

    The last `\boxed{...}`; the last line `#### 18` (as in GSM8K); what the text says the answer is, in any of
    several languages; the text itself where it is an answer and no sentence; the last number or expression. Of
    texts longer than 200,000 characters only the end is looked at.
    """
    text = text[-_LONGEST:]
    if (boxed := _boxed(text)) is not None:
        return FinalAnswer(boxed, "boxed")
    if (marked := _after_hashes(text)) is not None:
        return FinalAnswer(marked, "####")
    if (stated := _stated(text)) is not None:
        return FinalAnswer(stated, "stated")
    whole = text.strip()
    one = "\n" not in whole and whole.count("{") == whole.count("}")
    if whole and one and len(whole) <= _WHOLE and not _is_sentence(whole):
        return FinalAnswer(whole, "whole")
    last = _last(text)
    return None if last is None else FinalAnswer(last, "last")


def _boxed(text: str) -> str | None:
    """What stands in the last box that is closed and not empty."""
    for start in reversed([found.end() for found in _BOX.finditer(text)][-50:]):
        depth = 1
        for at in range(start, min(len(text), start + 5000)):
            if text[at] in "{}" and text[at - 1] != "\\":
                depth += 1 if text[at] == "{" else -1
                if depth == 0:
                    if inside := text[start:at].strip():
                        return inside
                    break
    return None


def _after_hashes(text: str) -> str | None:
    """#### is also a heading in Markdown: there it has to be a number, or the last line."""
    found = list(_HASHES.finditer(text))
    for mark in reversed(found):
        if read_number(tidy(mark[1])) is not None or not text[mark.end() :].strip():
            return mark[1]
    return None


def _stated(text: str) -> str | None:
    for found in reversed(list(_STATED.finditer(text))):
        if piece := _answer_in(found["rest"]):
            return piece
    return None


def _answer_in(rest: str) -> str | None:
    """The answer at the beginning of what follows "the answer is"."""
    rest = rest.strip().lstrip("*_ ")
    if found := _MATHEMATICS.match(rest):
        return _inside(found)
    sentence = _SENTENCE.split(rest, maxsplit=1)[0].strip(" *_,;:\"'")
    sentence = _IS.sub("", sentence)
    if "=" in sentence and not ("," in sentence and sentence.count("=") > 1):
        sentence = sentence.rpartition("=")[2].strip(" *_")
    if not _is_sentence(sentence):
        return sentence or None
    figure = _FIGURE.match(sentence) or _FIGURE.search(sentence)
    return figure[0].strip() if figure else sentence


def _last(text: str) -> str | None:
    spans = [(found.end(), _inside(found)) for found in _MATHEMATICS.finditer(text)]
    figures = [(found.end(), found[0].strip()) for found in _FIGURE.finditer(text)]
    # Dollars around mathematics end after the last figure in them: the whole expression wins.
    return max(spans[-1:] + figures[-1:], default=(0, None))[1]


def _inside(found: re.Match[str]) -> str:
    return next(group for group in found.groups() if group is not None).strip()


def _is_sentence(text: str) -> bool:
    """Whether a text says more than an answer: it has several words, and no number with its unit to itself."""
    if read_number(tidy(text)) is not None:
        return False
    words = _WORD.findall(re.sub(r"\\[a-zA-Z]+", " ", text))
    figures = bool(_FIGURE.search(text))
    return len(words) > (0 if figures else 3)
