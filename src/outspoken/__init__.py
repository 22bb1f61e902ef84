"""Give language models their range back.

    import outspoken

    distribution = outspoken.verbalize("Tell me a joke about coffee.")
    print(distribution.draw())

Each public name is imported on first use. To add one, name it below and run `make generated`.
"""

from __future__ import annotations

from outspoken._imports import attach

_HOMES = {
    "_version": ("__version__",),
    "api": ("AsyncStream", "Stream", "astream", "averbalize", "stream", "verbalize"),
    "batch.memory": ("AsyncRun", "PromptFailure", "Run", "arun", "run"),
    "batch.settings": ("RunOptions", "RunSettings"),
    "candidate": ("Candidate",),
    "chat": ("ChatRequest", "Message", "Sampling"),
    "chat_reply": ("ChatReply", "Usage"),
    "distribution": ("Distribution",),
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
        "StoppedError",
        "TailError",
        "UndefinedError",
        "UnknownNameError",
        "UsageError",
    ),
    "ledger": ("Ledger",),
    "methods.shortage": ("ShortReplyError",),
    "models": ("Capabilities", "Model", "Score", "get_model"),
    "parsing": ("ParsedReply", "ReplyParser", "parse"),
    "provenance": ("Provenance",),
    "settings": ("Options", "Settings"),
}
_MODULES = ("experiment", "measure", "parsing", "tasks", "theory")

__getattr__, __dir__, __all__ = attach(__name__, _HOMES, _MODULES)
