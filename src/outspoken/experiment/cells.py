"""What came of a cell, and what it cost: read from the ledger by letting its method walk through it once more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from outspoken.batch.sources import PromptRow, read
from outspoken.chat import ChatReply, ChatRequest, Usage
from outspoken.engine import Call, ModelCaller, PromptRunner, RateLimiter, RunMetrics
from outspoken.errors import StoppedError
from outspoken.experiment.grid import GridCell
from outspoken.ledger import Draw, Ledger, LedgerEntry, reply_of
from outspoken.measure.comparing import responses_of
from outspoken.measure.cost import Cost
from outspoken.measure.values import Group, PromptGroup

__all__ = ["CellCost", "CellResult", "limit_tokens", "read_cell"]


@dataclass(frozen=True, slots=True)
class CellCost:
    """What some requests took together; `seconds` is the sum of how long each was waited for."""

    requests: int = 0
    usage: Usage = Usage()
    seconds: float = 0.0

    def __add__(self, other: CellCost) -> CellCost:
        return CellCost(self.requests + other.requests, self.usage + other.usage, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class CellResult:
    """What came of a cell: its prompts with their responses, and by a prompt's id what each call for it took."""

    cell: GridCell
    prompts: tuple[PromptGroup, ...]
    calls: Mapping[str, tuple[CellCost, ...]]

    def completion_tokens(self, prompt_id: str) -> int:
        return sum(spent.usage.completion_tokens for spent in self.calls[prompt_id])

    def group(self, axis: str) -> Group:
        """For measuring: called by its arm, and by its place on the axis, as methods may be the same."""
        at = "" if self.cell.value is None else f" at {axis} {self.cell.value}"
        settings = self.cell.settings(axis)
        return Group(self.cell.arm.name + at, self.cell.model.name, self.prompts, settings)

    def cost(self) -> Cost:
        """With the price of the model, where it is known."""
        total = sum((spent for calls in self.calls.values() for spent in calls), CellCost())
        price = self.cell.plan().price
        usd = None if price is None else price.cost(total.usage)
        return Cost(total.requests, total.usage.total_tokens, total.seconds, usd)


class _Walker(ModelCaller):
    """A caller that only looks into the ledger, and remembers the requests of each call."""

    def __init__(self, cell: GridCell, ledger: Ledger) -> None:
        super().__init__(cell.model, RateLimiter(1), RunMetrics())
        self.found = ledger
        self.calls: dict[Draw, Call] = {}

    def call(self, draw: Draw) -> Call:
        self.calls[draw] = super().call(draw)
        return self.calls[draw]

    async def answer(self, request: ChatRequest, entry: LedgerEntry) -> ChatReply:
        if (reply := self.found.get(entry.key)) is None:
            raise StoppedError("the ledger has no reply to this request")
        return reply

    def spent(self, occurrence: int) -> tuple[CellCost, ...]:
        """What each call for a prompt took, in their order."""
        made = sorted((draw, call) for draw, call in self.calls.items() if draw[0] == occurrence)
        return tuple(sum((self._one(key) for key in call.keys), CellCost()) for _, call in made)

    def _one(self, key: str) -> CellCost:
        for row in self.found.rows("SELECT reply, seconds FROM reply WHERE key = ?", key):
            return CellCost(1, reply_of(row["reply"]).usage, row["seconds"])
        return CellCost()


async def read_cell(cell: GridCell, source: Path, ledger: Ledger, wanted: int | None = None) -> CellResult:
    """The responses to the prompts in `source`, as a run of the cell's plan writes them, with what they took.

    A run's file of responses does not tell of replies that gave none; the ledger does. Nothing is asked.
    """
    plan = cell.plan(wanted)
    prompts, calls = [], {}
    for row in read(source):
        if not isinstance(row, PromptRow):
            continue
        caller = _Walker(cell, ledger)
        caller.identity = await cell.model.identity()
        asker = PromptRunner(caller, plan.settings, plan.template, plan.run.goal)
        answer = await asker.answer(row)
        responses = responses_of(answer, plan)
        if cell.arm.weights == "uniform":
            responses = tuple(replace(response, probability=None, stated=None) for response in responses)
        calls[row.id] = caller.spent(row.occurrence)
        missing = max(0, (wanted or cell.wanted) - len(responses))
        prompts.append(PromptGroup(row.id, row.messages[0].content, responses, failures=missing))
    return CellResult(cell, tuple(prompts), calls)


def limit_tokens(came: CellResult, tokens: Mapping[str, int]) -> CellResult:
    """Only what fits the completion tokens that each prompt may use: its responses in the order of their calls.

    The tokens of a call are shared alike among its responses; a call that is begun is paid for.
    """
    prompts, calls = [], {}
    for asked in came.prompts:
        used, kept, begun = 0.0, [], 0
        for number, spent in enumerate(came.calls[asked.prompt_id]):
            if used >= tokens[asked.prompt_id]:
                break
            begun += 1
            of_call = [response for response in asked.responses if response.call == number]
            share = spent.usage.completion_tokens / max(1, len(of_call))
            room = int((tokens[asked.prompt_id] - used) / share) if share else len(of_call)
            kept += of_call[:room]
            used += spent.usage.completion_tokens
        prompts.append(replace(asked, responses=tuple(kept), failures=0))
        calls[asked.prompt_id] = came.calls[asked.prompt_id][:begun]
    return replace(came, prompts=tuple(prompts), calls=calls)
