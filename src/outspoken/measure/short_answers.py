"""The answer in a short reply, without the opening that some replies put before it."""

from __future__ import annotations

import re

__all__ = ["answer_of"]

_LONGEST_REPLY, _LONGEST_ANSWER = 160, 60
_OPENINGS = re.compile(
    r"""^\W*(?:
    (?:sure|certainly|of\ course|absolutely|okay|ok|great|yes)[!,.]?\s+
        (?:here\ (?:is|are)|here's|how\ about|i'd\ say|i\ would\ say)[^:]{0,40}:\s+
    |(?:here\ (?:is|are)|here's)\ (?:one|an?|the|my)\b[^:]{0,40}:\s+
    |(?:(?:the|my|a|one|a\ possible|your)\ )?(?:final\ |short\ |possible\ )?
        (?:answer|response|reply|choice|pick|suggestion)(?:\ (?:is|would\ be|could\ be))?\s*:\**\s+
    |(?:the|my)\ (?:final\ )?(?:answer|choice|pick)\ (?:is|would\ be)\ (?=\S+(?:\s\S+)?\s*[.!]?$)(?!blowing)
    |(?:die|meine)?\ ?(?:antwort|wahl)(?:\ (?:ist|lautet))?\s*:\s+
    |(?:la|ma)?\ ?(?:réponse)(?:\ est)?\s*:\s+
    |(?:la|mi)?\ ?(?:respuesta)(?:\ es)?\s*:\s+
    |(?:a|minha)?\ ?(?:resposta)(?:\ é)?\s*:\s+
    |(?:la|mia)?\ ?(?:risposta)(?:\ è)?\s*:\s+
    |(?:мой\ )?ответ\s*:\s+
    |(?:我的)?(?:答案|回答)(?:是|为)?\s*[:：]\s*
    |(?:答え|回答)(?:は)?\s*[:：]\s*
    |(?:정답|답|대답)(?:은)?\s*[:：]\s*
    |(?:الجواب|الإجابة)(?:\ هي|\ هو)?\s*[:：]\s+
    )""",
    re.IGNORECASE | re.VERBOSE,
)


def answer_of(text: str) -> str:
    """A short reply without an opening such as "The answer is: ", "Sure! Here is one: " or "答案：".

    Only replies of at most 160 characters are looked at, and only where at most 60 remain, on one line; others are
    returned as they are. English, German, French, Spanish, Portuguese, Italian, Russian, Chinese, Japanese, Korean
    and Arabic.
    """
    if len(text) > _LONGEST_REPLY:
        return text
    match = _OPENINGS.match(text)
    if match is None:
        return text
    rest = text[match.end() :].strip()
    return rest if 0 < len(rest) <= _LONGEST_ANSWER and "\n" not in rest else text
