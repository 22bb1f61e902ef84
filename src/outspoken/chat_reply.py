"""The values of a reply: its text, why it ended, and the tokens used. Imports nothing from the package."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ChatReply", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or several requests; `cached_tokens` is the part of the prompt that came from a cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )

    def to_dict(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "total_tokens": self.total_tokens,
        }


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The reply to one request.

    `finish` is why the model stopped: "stop", "length" (cut off at the token limit or at the end of the context),
    "content_filter" (cut off by the provider), "tool_calls", or another reason in the provider's words.
    `reasoning` is text that the provider delivered separately from the answer; `refusal` is a refusal that the
    provider marked as one. `structured` is true if the decoder enforced the request's schema. `found_in` is
    "reasoning" or "tool_calls" if the provider delivered the answer there and not as the reply's content.
    """

    text: str
    finish: str = "stop"
    usage: Usage = Usage()
    model: str = ""
    reasoning: str = ""
    refusal: str = ""
    structured: bool = False
    found_in: str = ""

    @property
    def cut_off(self) -> bool:
        """Whether the text may end before the answer does: only the reasons "stop" and "tool_calls" exclude it."""
        return self.finish not in _WHOLE

    @property
    def absence(self) -> str:
        """Why there is no answer in the reply, and what to do; "" if it has a text that may be one."""
        if self.text.strip():
            return ""
        if self.finish == "content_filter":
            return "the provider's content filter stopped the answer: reword the prompt, or ask another model"
        if self.finish == "length":
            if self.reasoning:
                return "the reply was cut off inside its reasoning: raise max_tokens, or ask for less thinking"
            return "the reply was cut off at the token limit before its first word: raise max_tokens"
        if self.reasoning:
            return (
                "the server put the whole reply into its field for reasoning: start it without a reasoning "
                "parser, or turn the model's thinking off"
            )
        if self.finish == "tool_calls":
            return "the model called a tool and gave no answer: reword the prompt, or ask another model"
        ended = "" if self.finish == "stop" else f" (it ended with {self.finish!r})"
        return f"the reply is empty{ended}: ask again, or ask another model"


_WHOLE = frozenset({"stop", "tool_calls"})
