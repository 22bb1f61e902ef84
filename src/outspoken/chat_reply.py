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

    `finish` is why the model stopped: "stop", "length" (cut off at the token limit), "content_filter" or another
    reason in the provider's words. `reasoning` is text that the provider delivered separately from the answer;
    `refusal` is a refusal that the provider marked as one. `structured` is true if the decoder enforced the
    request's schema.
    """

    text: str
    finish: str = "stop"
    usage: Usage = Usage()
    model: str = ""
    reasoning: str = ""
    refusal: str = ""
    structured: bool = False
