"""Log-probabilities of a given text, from a server that repeats a prompt with them.

The protocol is OpenAI's original one: `echo` and `logprobs` on `/completions`, as in vLLM and SGLang. The position
of each token is found by spelling the text with the tokens: some servers send no offsets, others count a
beginning-of-text mark that the text does not contain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outspoken.errors import UsageError
from outspoken.models.base import Score

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_SPACES = str.maketrans({"\N{LOWER ONE EIGHTH BLOCK}": " ", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}": " "})
_TOKENS_AHEAD = 4


def echo_body(text: str, model: str) -> dict[str, object]:
    """The body of the request. It generates one token, which is ignored: some servers reject zero."""
    return {"model": model, "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}


def read_echo(payload: Any, prompt: str, continuation: str, server: str) -> Score:
    """The score of `continuation` in the server's answer to `prompt + continuation`.

    Raises `UsageError` if the answer does not repeat the text with its log-probabilities.
    """
    text, spans = prompt + continuation, None
    try:
        entry = payload["choices"][0]["logprobs"]
        tokens, logprobs = entry["tokens"], entry["token_logprobs"]
        if isinstance(logprobs, list) and isinstance(tokens, list) and all(isinstance(t, str) for t in tokens):
            spans = _spans(tokens, text)
    except (KeyError, IndexError, TypeError):
        pass
    if spans is None or len(logprobs) < len(spans):
        raise UsageError(
            f"{server} does not give the log-probabilities of a text: take a server whose /completions has echo "
            "and logprobs, such as vLLM or SGLang (instead of llama.cpp's server, take local/FILE.gguf)"
        )
    indices = [index for index, (_, end) in enumerate(spans) if end > len(prompt)]
    values = [logprobs[index] for index in indices]
    if not values or not all(isinstance(value, int | float) for value in values):
        raise UsageError("the first token of a text has no probability: put a prompt before the continuation")
    scored = [spans[index] for index in indices]
    texts = tuple(text[slice(*span)] for span in scored)
    return Score(tuple(min(0.0, float(value)) for value in values), texts, scored[0][0] < len(prompt))


def _spans(tokens: Sequence[str], text: str) -> list[tuple[int, int]] | None:
    """The spans of the tokens that spell `text`, up to its end; None if they do not spell it. Several tokens that
    are parts of one character each get its span."""
    spans: list[tuple[int, int]] = []
    position = 0
    while len(spans) < len(tokens) and position < len(text):
        first = len(spans)
        complete = next((n for n in range(first, len(tokens)) if not _is_part(tokens[n])), len(tokens))
        size = _spelled(tokens[complete], text, position) if complete < len(tokens) else None
        if size is not None and not any(tokens[first:complete]):
            end, count = position + size, complete - first + 1  # empty tokens, and the one that ends the character
        elif complete > first:
            following = tokens[complete : complete + _TOKENS_AHEAD]
            resumed = _resumes_at(following, text, position, complete - first)
            if resumed is None:
                return None
            end, count = resumed, complete - first
        elif position == 0 and first == 0:
            end, count = 0, 1  # a beginning-of-text mark that the text does not contain
        else:
            return None
        spans += [(position, end)] * count
        position = end
    return spans if position == len(text) and text else None


def _spelled(token: str, text: str, position: int) -> int | None:
    """The number of characters of `text` from `position` that the token spells."""
    for spelling in (token, token.translate(_SPACES)):
        if spelling and text.startswith(spelling, position):
            return len(spelling)
    return None


def _is_part(token: str) -> bool:
    """Whether the token is part of a character: vLLM writes nothing or U+FFFD for it, others write the bytes."""
    return not token or _BROKEN in token or token.startswith(("<0x", "bytes:"))


def _resumes_at(following: Sequence[str], text: str, position: int, parts: int) -> int | None:
    """The position at which the text continues with the tokens `following`, at most `parts` characters after
    `position`, each perhaps with a space."""
    for end in range(position + 1, min(len(text), position + 2 * parts) + 1):
        current = end
        for token in following:
            if current >= len(text) or _is_part(token):
                return end
            size = _spelled(token, text, current)
            if size is None:
                break
            current += size
        else:
            if following or end == len(text):
                return end
    return None
