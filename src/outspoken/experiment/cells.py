"""The responses and the cost of a cell, read from the ledger by running its method on the stored replies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from outspoken.batch.sources import PromptRow, read
from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply, Usage
from outspoken.engine import Call, ModelCaller, PromptRunner, RateLimiter, RunMetrics
from outspoken.errors import StoppedError
from outspoken.experiment.grid import GridCell
from outspoken.ledger import Draw, Ledger, LedgerEntry, reply_of
from outspoken.measure.api import responses_of
from outspoken.measure.cost import Cost, busy_seconds
from outspoken.measure.values import Group, PromptGroup

__all__ = ["CellCost", "CellResult", "limit_tokens", "read_cell"]


@dataclass(frozen=True, slots=True)
class CellCost:
    """The cost of some requests; `spans` are the times from the start to the end of each."""

    requests: int = 0
    usage: Usage = Usage()
    spans: tuple[tuple[float, float], ...] = ()

    def __add__(self, other: CellCost) -> CellCost:
        return CellCost(self.requests + other.requests, self.usage + other.usage, self.spans + other.spans)


@dataclass(frozen=True, slots=True)
class CellResult:
    """A cell, its prompts with their responses, and the cost of each call by the id of the prompt."""

    cell: GridCell
    prompts: tuple[PromptGroup, ...]
    calls: Mapping[str, tuple[CellCost, ...]]

    def completion_tokens(self, prompt_id: str) -> int:
        """The completion tokens of all calls for a prompt."""
        return sum(call.usage.completion_tokens for call in self.calls[prompt_id])

    def group(self, axis: str) -> Group:
        """The responses as a group, named by the arm and its value of the axis: arms may share a method."""
        value = "" if self.cell.value is None else f" at {axis} {self.cell.value}"
        settings = self.cell.settings(axis)
        return Group(self.cell.arm.name + value, self.cell.model.name, self.prompts, settings)

    def cost(self) -> Cost:
        """The cost of all calls."""
        calls = [call for calls in self.calls.values() for call in calls]
        spans = tuple(span for call in calls for span in call.spans)
        usage = sum((call.usage for call in calls), Usage())
        total = CellCost(sum(call.requests for call in calls), usage, spans)
        price = self.cell.plan().price
        usd = None if price is None else price.cost(total.usage)
        seconds = sum(end - start for start, end in total.spans)
        return Cost(total.requests, total.usage.total_tokens, seconds, usd, busy_seconds(total.spans))


class _LedgerCaller(ModelCaller):
    def __init__(self, cell: GridCell, ledger: Ledger) -> None:
        super().__init__(cell.model, RateLimiter(1), RunMetrics(), ledger=ledger)
        self._replies = ledger
        self._calls: dict[Draw, Call] = {}

    def call(self, draw: Draw) -> Call:
        self._calls[draw] = super().call(draw)
        return self._calls[draw]

    async def answer(self, request: ChatRequest, entry: LedgerEntry | None) -> ChatReply:
        if entry is None or (reply := self._replies.get(entry.key)) is None:
            raise StoppedError("the ledger has no reply to this request")
        return reply

    def costs(self, occurrence: int) -> tuple[CellCost, ...]:
        """The cost of each call for a prompt, in their order."""
        calls = sorted((draw, call) for draw, call in self._calls.items() if draw[0] == occurrence)
        return tuple(
            sum((self._cost(call.key(number)) for number in range(call.requests)), CellCost()) for _, call in calls
        )

    def _cost(self, key: str) -> CellCost:
        for row in self._replies.rows("SELECT reply, seconds, created FROM reply WHERE key = ?", key):
            span = row["created"] - row["seconds"], row["created"]
            return CellCost(1, reply_of(row["reply"]).usage, (span,))
        return CellCost()


async def read_cell(cell: GridCell, source: Path, ledger: Ledger, wanted: int | None = None) -> CellResult:
    """The responses to the prompts in `source`, as a run of the cell's plan writes them, and their cost.

    The file of responses does not contain replies without responses, but the ledger does. Nothing is sent.
    """
    plan = cell.plan(wanted)
    prompts, calls = [], {}
    for row in read(source):
        if not isinstance(row, PromptRow):
            continue
        caller = _LedgerCaller(cell, ledger)
        caller.identity = await cell.model.identity()
        runner = PromptRunner(caller, plan.settings, plan.template, plan.run.goal)
        responses = responses_of(await runner.answer(row), plan)
        if cell.arm.weights == "uniform":
            responses = tuple(replace(response, probability=None, stated=None) for response in responses)
        calls[row.id] = caller.costs(row.occurrence)
        missing = max(0, (wanted or cell.wanted) - len(responses))
        prompts.append(PromptGroup(row.id, row.messages[0].content, responses, failures=missing))
    return CellResult(cell, tuple(prompts), calls)


def limit_tokens(result: CellResult, tokens: Mapping[str, int]) -> CellResult:
    """The result without responses that exceed the completion `tokens` of their prompt, in the order of calls.

    The responses of a call share its tokens equally. A call of which only some responses remain is paid in full.
    """
    prompts, calls = [], {}
    for prompt in result.prompts:
        budget, used, started = tokens[prompt.prompt_id], 0.0, 0
        kept = []
        for number, call in enumerate(result.calls[prompt.prompt_id]):
            if used >= budget:
                break
            started += 1
            responses = [response for response in prompt.responses if response.call == number]
            share = call.usage.completion_tokens / max(1, len(responses))
            kept += responses[: int((budget - used) / share)] if share else responses
            used += call.usage.completion_tokens
        prompts.append(replace(prompt, responses=tuple(kept), failures=0))
        calls[prompt.prompt_id] = result.calls[prompt.prompt_id][:started]
    return replace(result, prompts=tuple(prompts), calls=calls)
