"""Looking up in a ledger what has been answered, without asking."""

from __future__ import annotations

from collections.abc import Iterator

from outspoken.batch.sources import PromptRow
from outspoken.chat import ChatRequest
from outspoken.engine import PromptRunner
from outspoken.ledger import Ledger, entry_of
from outspoken.methods.steps import start

__all__ = ["first_requests"]


def first_requests(
    row: PromptRow, runner: PromptRunner, ledger: Ledger | None, identity: str
) -> Iterator[tuple[ChatRequest, bool]]:
    """The first request of each call that a prompt needs, and whether the ledger has its reply.

    `identity` is the name of the model in the ledger, see `Model.identity`.
    """
    for number in range(runner.calls):
        request = next(start(runner.method_call(row, number)))
        key = entry_of(identity, request, (row.occurrence, number, 0)).key
        yield request, ledger is not None and ledger.get(key) is not None
