"""What a model is shown: a question by its chat template or as plain text, and an answer behind it, as tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from outspoken.errors import UsageError

__all__ = ["Chat", "PromptTokenizer", "Said"]

Chat = Sequence[Mapping[str, str]]
Said = str | Chat
"""Plain text, or messages that the chat template puts into words."""


class PromptTokenizer:
    """Turns what is said into tokens with a model's tokenizer. `name` is the model's, for errors.

    Prompt and answer are tokenised apart, so that a student is trained on exactly the tokens that it is asked
    with.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        self._tokenizer = tokenizer
        self._name = name

    @property
    def chats(self) -> bool:
        """Whether the model has a chat template."""
        return bool(self._tokenizer.chat_template)

    def prompt(self, said: Said) -> list[int]:
        """The tokens up to where the answer begins. Raises `UsageError` for a chat without a template."""
        if isinstance(said, str):
            return self._ids(said, begin=True)
        return self._ids(self._written(said, answering=True), begin=False)

    def example(self, prompt: Said, answer: Said) -> tuple[list[int], list[int]]:
        """The tokens of a prompt and those of its answer, with the token that ends it."""
        if isinstance(prompt, str) and isinstance(answer, str):
            return self.prompt(prompt), [*self._ids(answer, begin=False), self._tokenizer.eos_token_id]
        before = _chat(prompt, "user")
        begun = self._written(before, answering=True)
        whole = self._written([*before, *_chat(answer, "assistant")], answering=False)
        if not whole.startswith(begun):  # this template writes a turn in another way once it is followed
            begun = begun[: next(at for at, (a, b) in enumerate(zip(begun, whole + "\0", strict=False)) if a != b)]
        return self._ids(begun, begin=False), self._ids(whole[len(begun) :].rstrip(), begin=False)

    def _written(self, chat: Chat, *, answering: bool) -> str:
        if not self.chats:
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
        except Exception as error:  # a template is a program, and may raise whatever it likes
            raise UsageError(f"the chat template of {self._name} refuses this chat: {error}") from error

    def _ids(self, text: str, *, begin: bool) -> list[int]:
        """Templates write the token that begins a text themselves."""
        return list(self._tokenizer(text, add_special_tokens=begin)["input_ids"])


def _chat(said: Said, role: str) -> Chat:
    return [{"role": role, "content": said}] if isinstance(said, str) else said
