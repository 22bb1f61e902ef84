"""Give language models their range back.

    import outspoken

    distribution = outspoken.verbalize("Tell me a joke about coffee.")
    print(distribution.draw())

Everything below is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from outspoken._lazy import attach
from outspoken._version import __version__

if TYPE_CHECKING:
    from outspoken.api import AsyncStream, Stream, astream, averbalize, stream, verbalize
    from outspoken.batch.memory import AsyncRun, PromptFailure, Run, arun, run
    from outspoken.batch.settings import RunOptions, RunSettings
    from outspoken.chat import ChatReply, ChatRequest, Message, Sampling, Usage
    from outspoken.distribution import Candidate, Distribution
    from outspoken.errors import (
        LedgerError,
        MissingExtraError,
        MissingKeyError,
        NothingLeftError,
        OutputError,
        OutspokenError,
        PromptTooLongError,
        ProviderError,
        ReplyError,
        ShortReplyError,
        StoppedError,
        TailError,
        UndefinedError,
        UnknownNameError,
        UsageError,
    )
    from outspoken.ledger import Ledger
    from outspoken.models import Capabilities, Model, Score, get_model
    from outspoken.parsing import ParsedReply, ReplyParser, parse
    from outspoken.provenance import Provenance
    from outspoken.settings import Options, Settings

_HOMES = {
    "api": ("AsyncStream", "Stream", "astream", "averbalize", "stream", "verbalize"),
    "chat": ("ChatReply", "ChatRequest", "Message", "Sampling", "Usage"),
    "distribution": ("Candidate", "Distribution"),
    "errors": (
        "LedgerError",
        "MissingExtraError",
        "MissingKeyError",
        "NothingLeftError",
        "OutputError",
        "OutspokenError",
        "PromptTooLongError",
        "ProviderError",
        "ReplyError",
        "ShortReplyError",
        "StoppedError",
        "TailError",
        "UndefinedError",
        "UnknownNameError",
        "UsageError",
    ),
    "batch.settings": ("RunOptions", "RunSettings"),
    "batch.memory": ("AsyncRun", "PromptFailure", "Run", "arun", "run"),
    "ledger": ("Ledger",),
    "models": ("Capabilities", "Model", "Score", "get_model"),
    "parsing": ("ReplyParser", "ParsedReply", "parse"),
    "provenance": ("Provenance",),
    "settings": ("Options", "Settings"),
}

__all__ = [
    "AsyncRun",
    "AsyncStream",
    "Candidate",
    "Capabilities",
    "ChatReply",
    "ChatRequest",
    "Distribution",
    "Ledger",
    "LedgerError",
    "Message",
    "MissingExtraError",
    "MissingKeyError",
    "Model",
    "NothingLeftError",
    "Options",
    "OutputError",
    "OutspokenError",
    "ParsedReply",
    "PromptFailure",
    "PromptTooLongError",
    "Provenance",
    "ProviderError",
    "ReplyError",
    "ReplyParser",
    "Run",
    "RunOptions",
    "RunSettings",
    "Sampling",
    "Score",
    "Settings",
    "ShortReplyError",
    "StoppedError",
    "Stream",
    "TailError",
    "UndefinedError",
    "UnknownNameError",
    "Usage",
    "UsageError",
    "__version__",
    "arun",
    "astream",
    "averbalize",
    "get_model",
    "parse",
    "run",
    "stream",
    "verbalize",
]

__getattr__, __dir__ = attach(__name__, _HOMES, modules=("experiment", "measure", "tasks", "theory"))
