"""Finding the final answer in the text of a model or a data set."""

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
# In scripts without spaces a single letter is a word. "or" and "and" join answers; functions are not words.
_WORD = re.compile(
    r"(?<![^\W\d_])(?!(?:or|and|pi|sqrt|sin|cos|tan|log|ln|exp|inf|infinity)\b)[A-Za-zÀ-ɏ]{2,}"
    r"|[^\W\d_A-Za-zÀ-ɏα-ωΑ-Ω]+"
)


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """A final answer and how it was found: `boxed`, after `####`, `stated` ("the answer is 12"), as the `whole`
    text, or as the `last` number or expression in it."""

    text: str
    how: Literal["boxed", "####", "stated", "whole", "last"]


def final_answer(text: str) -> str | None:
    """The text of the final answer, None if there is none; see `find_final`."""
    final = find_final(text)
    return None if final is None else final.text


def find_final(text: str) -> FinalAnswer | None:
    r"""The final answer in a text, and how it was found.

    The first of these that the text has: the last `\boxed{...}`; the last line `#### 18` (as in GSM8K); a stated
    answer ("the answer is 12", also in other languages); the whole text if it is an answer and not a sentence; the
    last number or expression. Only the last 200,000 characters of a text are examined.
    """
    text = text[-_LONGEST:]
    if (boxed := _boxed(text)) is not None:
        return FinalAnswer(boxed, "boxed")
    if (marked := _after_hashes(text)) is not None:
        return FinalAnswer(marked, "####")
    if (stated := _stated(text)) is not None:
        return FinalAnswer(stated, "stated")
    whole = text.strip()
    one_line = "\n" not in whole and whole.count("{") == whole.count("}")
    if whole and one_line and len(whole) <= _WHOLE and not _is_sentence(whole):
        return FinalAnswer(whole, "whole")
    last = _last(text)
    return None if last is None else FinalAnswer(last, "last")


def _boxed(text: str) -> str | None:
    """The content of the last box that is closed and not empty."""
    for start in reversed([match.end() for match in _BOX.finditer(text)][-50:]):
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
    """The answer after ####, which is also a Markdown heading: it must be a number, or the last line."""
    for mark in reversed(list(_HASHES.finditer(text))):
        if read_number(tidy(mark[1])) is not None or not text[mark.end() :].strip():
            return mark[1]
    return None


def _stated(text: str) -> str | None:
    for match in reversed(list(_STATED.finditer(text))):
        if answer := _answer_in(match["rest"]):
            return answer
    return None


def _answer_in(rest: str) -> str | None:
    """The answer at the beginning of the text after "the answer is"."""
    rest = rest.strip().lstrip("*_ ")
    if match := _MATHEMATICS.match(rest):
        return _inside(match)
    sentence = _SENTENCE.split(rest, maxsplit=1)[0].strip(" *_,;:\"'")
    sentence = _IS.sub("", sentence)
    if "=" in sentence and not ("," in sentence and sentence.count("=") > 1):
        sentence = sentence.rpartition("=")[2].strip(" *_")
    if not _is_sentence(sentence):
        return sentence or None
    figure = _FIGURE.match(sentence) or _FIGURE.search(sentence)
    return figure[0].strip() if figure else sentence


def _last(text: str) -> str | None:
    spans = [(match.end(), _inside(match)) for match in _MATHEMATICS.finditer(text)]
    figures = [(match.end(), match[0].strip()) for match in _FIGURE.finditer(text)]
    # An expression in dollar signs ends after the last figure in it, so the whole expression is chosen.
    return max(spans[-1:] + figures[-1:], default=(0, None))[1]


def _inside(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None).strip()


def _is_sentence(text: str) -> bool:
    """Whether a text is more than an answer: it has several words, and is no number with a unit."""
    if read_number(tidy(text)) is not None:
        return False
    words = _WORD.findall(re.sub(r"\\[a-zA-Z]+", " ", text))
    figures = bool(_FIGURE.search(text))
    return len(words) > (0 if figures else 3)
