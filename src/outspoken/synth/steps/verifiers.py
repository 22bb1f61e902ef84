"""The ways to verify a record: mathematics, unit tests, a judge, the user's own function."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from outspoken import models
from outspoken.checking.final_answer import find_final
from outspoken.checking.maths import Checker
from outspoken.checking.sandbox import MIB, Sandbox
from outspoken.checking.unit_tests import check
from outspoken.ledger import Ledger
from outspoken.measure.judge import Item, Judge, Verdict
from outspoken.synth.records import fill, names_in
from outspoken.synth.steps.base import Step, Watch
from outspoken.synth.steps.custom_step import function_of

if TYPE_CHECKING:
    from outspoken.synth.steps.verify import Verify

__all__ = ["LACKS", "WAYS", "Found", "Way", "rubric_of"]

_SHORT = 100
_ONE_LINE = 200
LACKS = "has no "

Found = tuple[str, str]
"""Why a record is wrong, in words that are the same for the same cause ("" where it is right), and the verdict."""

_RIGHT: Found = ("", "right")


@dataclass
class Way:
    """A way to verify, at work: `check` says what it finds of each of several records, `figures` and `warnings`
    what is to be told of it in the end."""

    check: Callable[[Sequence[Mapping[str, Any]]], Awaitable[list[Found]]]
    figures: Callable[[], dict[str, Any]] = dict
    warnings: Callable[[], tuple[str, ...]] = tuple


@asynccontextmanager
async def _maths(options: Verify, step: Step) -> AsyncIterator[Way]:
    async with Checker(seconds=options.seconds) as checker:

        async def one(fields: Mapping[str, Any]) -> Found:
            given, expected = (_answer_in(text) for text in _filled(fields, options.given, options.expected))
            if not given:
                return "no answer was given", "no answer was given"
            if not expected:
                return "no right answer is known", "no right answer is known"
            same = await checker.same(expected, given)
            if same is None:
                late = f"the comparison took longer than {options.seconds:g} s"
                return late, f"{late}: {_short(given)} with {_short(expected)}"
            return _RIGHT if same else ("the answer is wrong", f"{_short(given)} is not {_short(expected)}")

        def figures() -> dict[str, Any]:
            return {"comparisons that took too long": checker.timeouts} if checker.timeouts else {}

        yield Way(_each(one, step.watch), figures)


@asynccontextmanager
async def _tests(options: Verify, step: Step) -> AsyncIterator[Way]:
    async with Sandbox(seconds=options.seconds, memory=options.memory * MIB) as sandbox:

        async def one(fields: Mapping[str, Any]) -> Found:
            verdict = await check(sandbox, *_filled(fields, options.solution, options.tests))
            return verdict.reason, str(verdict)

        yield Way(_each(one, step.watch))


@asynccontextmanager
async def _judge(options: Verify, step: Step) -> AsyncIterator[Way]:
    with Ledger(step.ledger) as ledger:
        judge = Judge(
            options.model or step.model or models.default_name(), rubric_of(options), ledger=ledger, seed=step.seed
        )
        failed: list[Verdict] = []

        async def check_all(rows: Sequence[Mapping[str, Any]]) -> list[Found]:
            found: dict[int, Found] = {}
            items = []
            for at, fields in enumerate(rows):
                try:
                    prompt, text = _filled(fields, options.question, options.response)
                    items.append(Item(prompt, text, str(at)))
                except _LacksError as lack:
                    found[at] = (str(lack), str(lack))
            before = step.watch.done

            def progress(done: int, _total: int) -> None:
                step.watch.done = before + done

            for verdict in await judge.score(items, progress):
                if verdict.value is None:
                    failed.append(verdict)
                    reason = "the judge cannot be read" if verdict.unreadable else f"no verdict: {verdict.cause}"
                    found[int(verdict.id)] = (reason, verdict.error)
                else:
                    enough = verdict.value >= options.at_least
                    reason = "" if enough else f"the judge gave less than {options.at_least:g}"
                    found[int(verdict.id)] = (reason, f"{verdict.value:.1f} of 100")
            return [found[at] for at in range(len(rows))]

        def figures() -> dict[str, Any]:
            told = judge.summary(failed).to_dict()
            spent = {name: told[name] for name in ("requests", "from_ledger", "tokens", "usd")}
            return {**spent, "failures": len(failed)}

        yield Way(check_all, figures)


@asynccontextmanager
async def _function(options: Verify, step: Step) -> AsyncIterator[Way]:
    function = function_of(options.function)
    raised: list[str] = []
    calls = 0

    def found_by(fields: Mapping[str, Any]) -> Found:
        try:
            said = function(dict(fields))
        except Exception as error:
            raised.append(f"{type(error).__name__}: {error}")
            return f"the function raised {type(error).__name__}", _short(raised[-1])
        if isinstance(said, str) and said.strip():
            return _short(said.strip()), said.strip()
        if said is True or said is False or type(said).__name__ == "bool_":
            return _RIGHT if said else ("the function says no", "the function says no")
        return "the function gave no answer", f"it gave {said!r:.100} and not True, False or why not"

    async def one_after_another(rows: Sequence[Mapping[str, Any]]) -> list[Found]:
        nonlocal calls
        calls += len(rows)
        found = []
        for fields in rows:
            found.append(await asyncio.to_thread(found_by, fields))
            step.watch.done += 1
        return found

    def warnings() -> tuple[str, ...]:
        every = raised and len(raised) == calls
        return (f"{options.function} raised on every record: {_short(raised[0])}",) if every else ()

    yield Way(one_after_another, warnings=warnings)


WAYS: Mapping[str, Callable[[Verify, Step], AbstractAsyncContextManager[Way]]] = {
    "maths": _maths,
    "tests": _tests,
    "judge": _judge,
    "function": _function,
}


class _LacksError(Exception):
    """A record has nothing in a field that is asked for."""


def rubric_of(options: Verify) -> str:
    """A path as it is; of a shipped name, to which the folder of the spec was added as to any file, the name."""
    return options.rubric if options.rubric.endswith(".toml") else Path(options.rubric).name


def _filled(fields: Mapping[str, Any], *templates: str) -> list[str]:
    for template in templates:
        for name in sorted(names_in(template)):
            if fields.get(name) is None:
                raise _LacksError(LACKS + name)
    return [fill(template, fields) for template in templates]


def _each(
    one: Callable[[Mapping[str, Any]], Awaitable[Found]], watch: Watch
) -> Callable[[Sequence[Mapping[str, Any]]], Awaitable[list[Found]]]:
    async def safe(fields: Mapping[str, Any]) -> Found:
        try:
            found = await one(fields)
        except _LacksError as lack:
            found = (str(lack), str(lack))
        watch.done += 1
        return found

    async def check_all(rows: Sequence[Mapping[str, Any]]) -> list[Found]:
        tasks = [asyncio.create_task(safe(fields)) for fields in rows]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return check_all


def _answer_in(text: str) -> str:
    """The answer in a text that may be one, or a whole solution."""
    found = find_final(text)
    if found is None or (found.how == "last" and "\n" not in text.strip() and len(text) <= _ONE_LINE):
        return text.strip() if len(text) <= _ONE_LINE else ""
    return found.text


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHORT else text[: _SHORT - 1] + "…"
