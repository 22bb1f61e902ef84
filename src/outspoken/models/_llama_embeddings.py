"""Asking llama.cpp for vectors, whatever the texts' lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from outspoken.errors import ProviderError
from outspoken.models.base import Embeddings

__all__ = ["embedded"]

Ask = Callable[[list[str]], Mapping[str, Any]]


def embedded(texts: Sequence[str], ask: Ask, *, context: int) -> Embeddings:
    """The vectors that `ask` gives for `texts`, those cut that are longer than `context` tokens.

    `ask` returns llama.cpp's answer: one to a list with a text too long is an error for all of them.
    """
    answer = ask(list(texts))
    if "error" not in answer:
        return Embeddings(_vectors(answer))
    vectors, cut = [], []
    for index, text in enumerate(texts):
        fitting = text
        while "error" in (answer := ask([fitting])):
            fitting = _shortened(fitting, answer["error"], context)
        vectors += _vectors(answer)
        if fitting != text:
            cut.append(index)
    return Embeddings(vectors, tuple(cut))


def _shortened(text: str, error: Mapping[str, Any], context: int) -> str:
    """The beginning of a text that did not fit. Raises `ProviderError` where its length is not to blame."""
    if error.get("type") == "exceed_context_size_error":
        share = error["n_ctx"] / error["n_prompt_tokens"]
    elif len(text.encode()) >= context // 2:
        # Far too long: llama.cpp then only says that it failed. A token has at least a byte.
        share = 0.5
    else:
        raise ProviderError(f"the local model failed: {error.get('message')}", status=error.get("code"))
    return text[: int(0.98 * share * len(text))]


def _vectors(answer: Mapping[str, Any]) -> list[list[float]]:
    return [entry["embedding"] for entry in sorted(answer["data"], key=lambda entry: entry["index"])]
