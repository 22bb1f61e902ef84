"""Asks one prompt of a run, with as many calls of the method as the goal needs."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from outspoken.chat import Message
from outspoken.distribution import Distribution
from outspoken.engine.method_driver import drive
from outspoken.engine.retry import Call, ModelCaller
from outspoken.errors import OutspokenError, ReplyError, StoppedError
from outspoken.methods.call import MethodCall
from outspoken.methods.steps import start
from outspoken.methods.table import METHODS
from outspoken.same_text import text_key
from outspoken.settings import Settings
from outspoken.templates import Template

__all__ = ["CallResult", "PromptResult", "PromptRunner", "PromptTask", "ResponseGoal"]


@dataclass(frozen=True, slots=True)
class ResponseGoal:
    """The responses that a prompt needs: `n` in all, or `until_distinct` different ones, or those of one call.

    `max_calls` limits the calls for one prompt.
    """

    n: int | None = None
    until_distinct: int | None = None
    max_calls: int | None = None


class PromptTask(Protocol):
    """One prompt of a run. `occurrence` counts the earlier prompts of the run with the same messages."""

    @property
    def id(self) -> str: ...
    @property
    def messages(self) -> tuple[Message, ...]: ...
    @property
    def occurrence(self) -> int: ...


P = TypeVar("P", bound=PromptTask)


@dataclass(frozen=True, slots=True)
class CallResult:
    """The distribution that a call gave. `number` counts the calls of the prompt from 0."""

    number: int
    distribution: Distribution
    call: Call

    def key_of(self, at: int) -> str:
        """The ledger's key of the request that gave the candidate at this position."""
        number = self.distribution[at].meta.get("request", 0)
        return self.call.key(number if isinstance(number, int) else 0)


@dataclass(frozen=True, slots=True)
class PromptResult(Generic[P]):
    """The outcome for one prompt: the `calls` that gave candidates, and the `error` that kept it from its goal.

    `short`: there are fewer responses than wanted. `requests` is the number of requests that were made.
    `untouched`: the run was stopped before the first reply.
    """

    prompt: P
    calls: tuple[CallResult, ...]
    error: OutspokenError | None = None
    short: bool = False
    requests: int = 0
    untouched: bool = False


class PromptRunner:
    """Asks one prompt until its goal is reached.

    Without repetitions this takes `calls` calls of `requests_per_call` requests for `candidates_per_request`
    candidates each.
    """

    def __init__(
        self,
        caller: ModelCaller,
        settings: Settings,
        template: Template,
        goal: ResponseGoal = ResponseGoal(),
        *,
        schema: Mapping[str, Any] | None = None,
        validate: Callable[[Any], Any] | None = None,
    ) -> None:
        self.caller = caller
        self._wanted = wanted = goal.until_distinct if goal.n is None else goal.n
        method = METHODS[settings.method]
        one_per_request = method.candidates_per_request == "one"
        if goal.n is not None and one_per_request and not method.conversation:
            # Each independent answer is a separate call: equal candidates of one call would become one.
            settings = replace(settings, k=1)
        elif wanted is not None and wanted < settings.k and one_per_request:
            settings = replace(settings, k=wanted)
        self._settings = settings
        self._template = template
        self._goal = goal
        self._schema = schema
        self._validate = validate
        self._per_call = method.candidates(settings.k, settings.turns)
        self.calls = 1 if wanted is None else -(-wanted // self._per_call)
        self.requests_per_call = method.requests(settings.k, settings.turns)
        self.candidates_per_request = self._per_call // self.requests_per_call
        self._max_calls = goal.max_calls or (10 * self.calls if goal.until_distinct else 2 * self.calls + 1)

    async def answer(self, prompt: P) -> PromptResult[P]:
        """Ask a prompt. Failures are returned in the result, not raised."""
        results: list[CallResult] = []
        unreadable: ReplyError | None = None
        final: OutspokenError | None = None
        started = requests = 0
        missing = self._missing(results)
        while final is None and (calls := min(-(-missing // self._per_call), self._max_calls - started)):
            for result, count in await self._wave(prompt, range(started, started + calls)):
                requests += count
                if isinstance(result, ReplyError):
                    unreadable = result
                elif isinstance(result, OutspokenError):
                    final = result
                else:
                    results.append(result)
                    if result.distribution.stopped:
                        final = self.caller.as_error(result.distribution.stopped)
            started += calls
            missing = self._missing(results)
        error = final or (None if results else unreadable)
        if error is not None or self.caller.unreadable:
            self.caller.prompt_ended(error)
        short, untouched = bool(results) and missing > 0, not results and isinstance(error, StoppedError)
        return PromptResult(prompt, tuple(results), error, short, requests, untouched)

    def _missing(self, results: list[CallResult]) -> int:
        """The number of responses that are still missing, as far as it is known."""
        if self._wanted is None:
            return 0 if results else self._per_call
        if self._goal.until_distinct is None:
            return max(0, self._wanted - sum(len(result.distribution) for result in results))
        keys = {text_key(candidate.text) for result in results for candidate in result.distribution}
        return max(0, self._wanted - len(keys))

    async def _wave(self, prompt: P, numbers: range) -> list[tuple[CallResult | OutspokenError, int]]:
        if len(numbers) == 1:
            return [await self._call(prompt, numbers[0])]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._call(prompt, number)) for number in numbers]
        return [task.result() for task in tasks]

    async def _call(self, prompt: P, number: int) -> tuple[CallResult | OutspokenError, int]:
        """The result of one call, and the number of its requests."""
        method_call = self.method_call(prompt, number)
        call = self.caller.call((prompt.occurrence, number))
        try:
            distribution = await drive(start(method_call), call)
        except OutspokenError as error:
            return error, call.requests
        return CallResult(number, distribution, call), call.requests

    def method_call(self, prompt: P, number: int = 0) -> MethodCall:
        """The input of the method for the call with this number."""
        settings, model = self._settings, self.caller.model
        if settings.seed is not None and (prompt.occurrence or number):
            # Each call needs another seed; the first has the user's.
            text = f"{settings.seed}/{prompt.occurrence}/{number}"
            settings = replace(settings, seed=int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]))
        return MethodCall(
            prompt.messages,
            settings,
            self._template,
            model.name,
            model.capabilities.schema,
            self._schema,
            self._validate,
            prompt.id,
        )
