"""How likely a given text is, from a server that repeats a prompt with its log-probabilities.

The dialect is that of OpenAI's first completions: `echo` and `logprobs` on `/completions`, as vLLM and SGLang
have. Where each token lies is told by spelling the text with the tokens: some servers send no offsets, others
count in them a mark of the beginning that the text does not hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from outspoken.errors import UsageError
from outspoken.models.base import Score

__all__ = ["echo_body", "read_echo"]

_BROKEN = "\N{REPLACEMENT CHARACTER}"
_SPACES = str.maketrans({"\N{LOWER ONE EIGHTH BLOCK}": " ", "\N{LATIN CAPITAL LETTER G WITH DOT ABOVE}": " "})
_AHEAD = 4

Span = tuple[int, int]


def echo_body(text: str, model: str) -> dict[str, Any]:
    """One token is generated, for some servers refuse to generate none; nothing of it is read."""
    return {"model": model, "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 1, "temperature": 0}


def read_echo(payload: Any, prompt: str, continuation: str, server: str) -> Score:
    """The score of `continuation` in what the server answered for `prompt + continuation`.

    Raises `UsageError` where it did not repeat the text with its log-probabilities.
    """
    text = prompt + continuation
    tokens, values = _listed(payload)
    spans = _spans(tokens, text)
    if spans is None or len(values) < len(spans):
        raise UsageError(
            f"{server} does not tell how likely a given text is: it takes /completions with echo and logprobs, as "
            "vLLM and SGLang have them (llama.cpp's server has not: take local/FILE.gguf)"
        )
    inside = [at for at, (_, end) in enumerate(spans) if end > len(prompt)]
    found = [values[at] for at in inside]
    if not found or not all(isinstance(value, int | float) for value in found):
        raise UsageError("the first token of all has no probability: give a prompt before the continuation")
    places = [spans[at] for at in inside]
    told = tuple(text[slice(*place)] for place in places)
    return Score(tuple(min(0.0, float(value)) for value in found), told, places[0][0] < len(prompt))


def _listed(payload: Any) -> tuple[list[str], list[Any]]:
    """The tokens and their log-probabilities; nothing where the answer has another shape."""
    try:
        told = payload["choices"][0]["logprobs"]
        tokens, values = told["tokens"], told["token_logprobs"]
    except (KeyError, IndexError, TypeError):
        return [], []
    sound = isinstance(tokens, list) and isinstance(values, list) and all(isinstance(t, str) for t in tokens)
    return (tokens, values) if sound else ([], [])


def _spans(tokens: Sequence[str], text: str) -> list[Span] | None:
    """Where the tokens lie that spell `text`, up to its end; None where they do not spell it.

    The tokens of a character that is split all get the span of the whole.
    """
    spans: list[Span] = []
    at = 0
    while len(spans) < len(tokens) and at < len(text):
        place = len(spans)
        last = next((n for n in range(place, len(tokens)) if not _is_part(tokens[n])), len(tokens))
        size = _size(tokens[last], text, at) if last < len(tokens) else None
        if size is not None and not any(tokens[place:last]):
            end, run = at + size, last - place + 1  # empty pieces, and the one that ends the character
        elif last > place:
            resumed = _resumed(tokens[last : last + _AHEAD], text, at, last - place)
            if resumed is None:
                return None
            end, run = resumed, last - place
        elif at == 0 and place == 0:
            end, run = 0, 1  # a mark of the beginning, which the text does not hold
        else:
            return None
        spans += [(at, end)] * run
        at = end
    return spans if at == len(text) and text else None


def _size(token: str, text: str, at: int) -> int | None:
    """How many characters of `text` from `at` the token spells."""
    for spelled in (token, token.translate(_SPACES)):
        if spelled and text.startswith(spelled, at):
            return len(spelled)
    return None


def _is_part(token: str) -> bool:
    """Whether the token holds a part of a character: vLLM writes nothing or U+FFFD, others the bytes."""
    return not token or _BROKEN in token or token.startswith(("<0x", "bytes:"))


def _resumed(ahead: Sequence[str], text: str, at: int, most: int) -> int | None:
    """Where the text goes on with the tokens `ahead`, behind at most so many characters and a space each."""
    for end in range(at + 1, min(len(text), at + 2 * most) + 1):
        here = end
        for token in ahead:
            if here >= len(text) or _is_part(token):
                return end
            size = _size(token, text, here)
            if size is None:
                break
            here += size
        else:
            if ahead or end == len(text):
                return end
    return None
