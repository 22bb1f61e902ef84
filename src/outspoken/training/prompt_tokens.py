"""Prompts and answers as tokens: a question in its chat template or as plain text, and the answer after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outspoken.errors import UsageError

__all__ = ["Chat", "PromptText", "PromptTokenizer", "as_chat"]

Chat = Sequence[Mapping[str, str]]
PromptText = str | Chat
"""Plain text, or messages that the chat template turns into text."""


class PromptTokenizer:
    """Turns prompts and answers into tokens with a model's tokenizer. `name` is the model's, for errors.

    Prompt and answer are tokenised separately, so that a student is trained on exactly the tokens that it gets in
    an evaluation.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name

    @property
    def has_template(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self._tokenizer.chat_template)

    def prompt(self, text: PromptText) -> list[int]:
        """The tokens before the answer. Raises `UsageError` for a chat if the model has no template."""
        if isinstance(text, str):
            return self._ids(text, begin=True)
        return self._ids(self._apply_template(text, answering=True), begin=False)

    def example(self, prompt: PromptText, answer: PromptText) -> tuple[list[int], list[int]]:
        """The tokens of a prompt and of its answer, with the token that ends the answer."""
        if isinstance(prompt, str) and isinstance(answer, str):
            return self.prompt(prompt), [*self._ids(answer, begin=False), self._tokenizer.eos_token_id]
        before = as_chat(prompt, "user")
        start = self._apply_template(before, answering=True)
        full = self._apply_template([*before, *as_chat(answer, "assistant")], answering=False)
        if not full.startswith(start):  # this template writes a turn differently if another one follows
            start = start[: next(at for at, (a, b) in enumerate(zip(start, full + "\0", strict=False)) if a != b)]
        return self._ids(start, begin=False), self._ids(full[len(start) :].rstrip(), begin=False)

    def _apply_template(self, chat: Chat, *, answering: bool) -> str:
        if not self.has_template:
            raise UsageError(
                f"{self._name} has no chat template, which messages and questions need: give one with "
                '--chat-template FILE, or plain text ({"prompt": …, "completion": …}; evaluate --plain)'
            )
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [dict(message) for message in chat], tokenize=False, add_generation_prompt=answering
                )
            )
        except Exception as error:  # a template is a program and may raise anything
            raise UsageError(f"the chat template of {self._name} refuses this chat: {error}") from error

    def _ids(self, text: str, *, begin: bool) -> list[int]:
        """`begin` adds the token that begins a text; templates write it themselves."""
        return list(self._tokenizer(text, add_special_tokens=begin)["input_ids"])


def as_chat(text: PromptText, role: str) -> Chat:
    """Plain text as a message of this role; messages unchanged."""
    return [{"role": role, "content": text}] if isinstance(text, str) else text
