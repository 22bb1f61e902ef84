"""Many prompts at once: as many calls for each as it takes, in the order in which they came, in bounded memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from outspoken.chat import Message
from outspoken.distribution import Distribution
from outspoken.engine.method_driver import drive
from outspoken.engine.retry import ModelCaller
from outspoken.errors import OutspokenError, ReplyError, UsageError
from outspoken.methods.steps import Ask, steps
from outspoken.same_text import text_key
from outspoken.settings import Settings
from outspoken.templates import Template

__all__ = ["CallResult", "PromptResult", "PromptRunner", "PromptTask", "ResponseGoal", "ordered"]

_INDEPENDENT = ("direct", "direct-cot")
_ONE_A_REQUEST = (*_INDEPENDENT, "multi-turn")

T = TypeVar("T")
R = TypeVar("R")


class PromptTask(Protocol):
    """One prompt of a run. `occurrence` counts the earlier prompts of the run that say the same."""

    @property
    def id(self) -> str: ...
    @property
    def messages(self) -> tuple[Message, ...]: ...
    @property
    def occurrence(self) -> int: ...


P = TypeVar("P", bound=PromptTask)


@dataclass(frozen=True, slots=True)
class ResponseGoal:
    """How many responses a prompt is to have: `n` in all, or `until_distinct` different ones; what one call gives,
    where neither is said. `max_calls` bounds the calls for one prompt."""

    n: int | None = None
    until_distinct: int | None = None
    max_calls: int | None = None

    def __post_init__(self) -> None:
        if self.n is not None and self.until_distinct is not None:
            raise UsageError("n and until_distinct exclude each other: say one of them")
        for name in ("n", "until_distinct", "max_calls"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"{name} must be a whole number from 1, not {value!r}")

    @property
    def wanted(self) -> int | None:
        return self.until_distinct if self.n is None else self.n


@dataclass(frozen=True, slots=True)
class CallResult:
    """What one call gave, and the ledger's keys of its requests."""

    number: int
    distribution: Distribution
    keys: tuple[str, ...]

    def key_of(self, at: int) -> str:
        """The key of the request that gave the candidate at this place."""
        request: int = self.distribution[at].meta.get("request", 0)
        return self.keys[request]


@dataclass(frozen=True, slots=True)
class PromptResult(Generic[P]):
    """What came of one prompt: the `calls` that gave something, and the `error` that kept it from its goal.

    `short` says that there are fewer responses than wanted, `requests` how many it took.
    """

    prompt: P
    calls: tuple[CallResult, ...]
    error: OutspokenError | None = None
    short: bool = False
    requests: int = 0


class PromptRunner:
    """Asks one prompt until it has what it should have.

    Where all goes well that takes `calls`, each of `requests_a_call` with `candidates_a_request`.
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
        wanted = goal.wanted
        if goal.n is not None and settings.method in _INDEPENDENT:
            # Answers that know nothing of each other are calls of their own: a repeated one is a response again,
            # and none is lost where equal candidates of one call become one.
            settings = replace(settings, k=1)
        elif wanted is not None and wanted < settings.k and settings.method in _ONE_A_REQUEST:
            settings = replace(settings, k=wanted)
        self._settings = settings
        self._template = template
        self._goal = goal
        self._schema = schema
        self._validate = validate
        turns = settings.turns if settings.method == "vs-multi" else 1
        self._a_call = settings.k * turns
        self.calls = 1 if wanted is None else -(-wanted // self._a_call)
        self.requests_a_call = settings.k if settings.method in _ONE_A_REQUEST else turns
        self.candidates_a_request = self._a_call // self.requests_a_call
        self._max_calls = goal.max_calls or (10 * self.calls if goal.until_distinct else 2 * self.calls + 1)

    async def answer(self, prompt: P) -> PromptResult[P]:
        """Never raises one of our errors: what befalls one prompt is in its answer."""
        made: list[CallResult] = []
        unread: ReplyError | None = None
        final: OutspokenError | None = None
        asked = requests = 0
        while final is None and (calls := self._calls(made, asked)):
            for result, keys in await self._wave(prompt, range(asked, asked + calls)):
                requests += keys
                if isinstance(result, ReplyError):
                    unread = result
                elif isinstance(result, OutspokenError):
                    final = result
                else:
                    made.append(result)
                    if result.distribution.stopped:
                        final = self.caller.as_error(result.distribution.stopped)
            asked += calls
        error = final or (None if made else unread)
        self.caller.ended(error)
        return PromptResult(prompt, tuple(made), error, self._short(made), requests)

    def _calls(self, made: list[CallResult], asked: int) -> int:
        """How many more calls it takes, as far as one can tell; 0 where there is enough, or nothing helps."""
        missing = self._missing(made)
        return min(-(-missing // self._a_call), self._max_calls - asked)

    def _missing(self, made: list[CallResult]) -> int:
        if self._goal.wanted is None:
            return 0 if made else self._a_call
        if self._goal.until_distinct is None:
            return max(0, self._goal.wanted - sum(len(call.distribution) for call in made))
        keys = {text_key(candidate.text) for call in made for candidate in call.distribution}
        return max(0, self._goal.wanted - len(keys))

    def _short(self, made: list[CallResult]) -> bool:
        return bool(made) and self._missing(made) > 0

    async def _wave(self, prompt: P, numbers: range) -> list[tuple[CallResult | OutspokenError, int]]:
        if len(numbers) == 1:
            return [await self._call(prompt, numbers[0])]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._call(prompt, number)) for number in numbers]
        return [task.result() for task in tasks]

    async def _call(self, prompt: P, number: int) -> tuple[CallResult | OutspokenError, int]:
        """What one call gave, and how many requests it made."""
        call = self.caller.call((prompt.occurrence, number))
        try:
            distribution = await drive(steps(self.ask(prompt, number)), call)
        except OutspokenError as error:
            return error, len(call.keys)
        return CallResult(number, distribution, tuple(call.keys)), len(call.keys)

    def ask(self, prompt: P, number: int = 0) -> Ask:
        """What the method is asked in one call."""
        settings, model = self._settings, self.caller.model
        if settings.seed is not None and (prompt.occurrence or number):
            # Another answer needs another seed; the first call has the user's own.
            text = f"{settings.seed}/{prompt.occurrence}/{number}"
            settings = replace(settings, seed=int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]))
        return Ask(
            prompt.messages,
            settings,
            self._template,
            model.name,
            model.capabilities.schema,
            self._schema,
            self._validate,
            prompt.id,
        )


async def ordered(
    items: AsyncIterator[T], work: Callable[[T], Awaitable[R]], *, tasks: int, window: int
) -> AsyncGenerator[R]:
    """`work` on each item, at most `tasks` at a time; the results in the order of the items.

    At most `window` items are taken ahead of the result that is waited for. An error of `items` is raised after
    the results of those that came before it.
    """
    begun: deque[asyncio.Future[R]] = deque()
    running = 0
    changed, room = asyncio.Event(), asyncio.Event()

    def ended(_: object) -> None:
        nonlocal running
        running -= 1
        changed.set()
        room.set()

    async def feed() -> None:
        nonlocal running
        async for item in items:
            task = asyncio.ensure_future(work(item))
            task.add_done_callback(ended)
            begun.append(task)
            running += 1
            while running >= tasks or len(begun) >= window:
                room.clear()
                await room.wait()

    feeding = asyncio.create_task(feed())
    feeding.add_done_callback(lambda _: changed.set())
    try:
        while True:
            changed.clear()
            while begun and begun[0].done():
                yield begun.popleft().result()
                room.set()
            if not begun and feeding.done():
                break
            if not (begun and begun[0].done()):
                await changed.wait()
        feeding.result()
    finally:
        left: list[asyncio.Future[Any]] = [feeding, *begun]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
