"""What a user of the library writes. mypy --strict and pyright check it against the installed wheel; it is not run.

Each line that ignores an error is a mistake of the user: both report it if the line has no such error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import outspoken
import outspoken.serve
import outspoken.synth
from outspoken import (
    Candidate,
    Distribution,
    Message,
    OutspokenError,
    ReplyError,
)


def names(prompt: str, count: int) -> list[str]:
    distribution = outspoken.verbalize(prompt, k=count, tau=0.1, seed=1, temperature=0.7, method="vs-standard")
    first: Candidate = distribution[0]
    drawn: Candidate = distribution.draw(seed=7)
    share: float = first.probability + drawn.probability
    stated: float | None = first.stated
    size: float = distribution.effective_size()
    document: str = distribution.to_json()
    again: Distribution = Distribution.from_json(document)
    print(share, stated, size, again.mass, distribution.provenance.requests)
    return [candidate.text for candidate in distribution]


def live(chat: Sequence[Message]) -> None:
    for candidate in outspoken.stream(chat, k=3, seed=1):
        print(candidate.text, candidate.probability)


async def asynchronous(prompt: str) -> Distribution:
    async for candidate in outspoken.astream(prompt, k=3):
        print(candidate.text)
    return await outspoken.averbalize(prompt, k=3, model="http://localhost:8000/v1#m")


def many(prompts: list[str], ledger: Path) -> int:
    running = outspoken.run(prompts, n=3, k=3, ledger=ledger, model="openai/gpt-4.1")
    found: list[Distribution] = list(running)
    return len(found) + len(running.failures)


def careful(prompt: str) -> Distribution | None:
    try:
        return outspoken.verbalize(prompt)
    except ReplyError as error:
        print(error.text)
    except OutspokenError as error:
        print(error)
    return None


def read(text: str) -> list[str]:
    return [candidate.text for candidate in outspoken.parse(text).candidates]


def misspelt() -> None:
    from outspoken import (  # type: ignore[attr-defined]
        Distributon,  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType]
    )

    print(Distributon)
    print(outspoken.verbalise("x"))  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(outspoken.measure.self_blue)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(outspoken.theory.sharpn)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(outspoken.synth.synthesise)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(outspoken.serve.make_app)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(outspoken.verbalize("x", temprature=1.0))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(outspoken.verbalize("x", method="vs-standart"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(outspoken.verbalize("x").canditates)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(outspoken.run(["x"], max_call=3))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(outspoken.run(["x"], n="3"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    print(outspoken.run(["x"]).sumary)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    print(outspoken.measure.compare(["x"], embeder=None))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(outspoken.measure.compare(["x"], method="direct"))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(outspoken.measure.measure("x.jsonl", resample=99))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(outspoken.experiment.run("dice", concurency=3))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    print(outspoken.experiment.run("dice").group)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
