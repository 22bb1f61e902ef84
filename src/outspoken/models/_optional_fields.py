"""Asking with fields that not every server takes, and remembering who refused which."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

from outspoken.errors import ProviderError

__all__ = ["offering"]

T = TypeVar("T")

_REFUSALS = frozenset({400, 422, 501})
# (server, model, field), for the life of the process.
_refused: set[tuple[str, str, str]] = set()


async def offering(
    server: str, model: str, fields: Mapping[str, Any], send: Callable[[Mapping[str, Any]], Awaitable[T]]
) -> tuple[T, Mapping[str, Any]]:
    """Call `send` with `fields`, and after a refusal with fewer of them.

    Returns what it gave and the fields that it gave it for. The fields left out of a success that followed a
    refusal are left out from then on; where nothing succeeds, the last error is raised and nothing is remembered.
    """
    offered = {name: value for name, value in fields.items() if (server, model, name) not in _refused}
    for sent in _fewer_and_fewer(offered):
        try:
            answer = await send(sent)
        except ProviderError as error:
            if not sent or error.status not in _REFUSALS:
                raise
        else:
            break
    _refused.update((server, model, name) for name in offered.keys() - sent.keys())
    return answer, sent


def _fewer_and_fewer(fields: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for size in range(len(fields), -1, -1):
        for names in itertools.combinations(fields, size):
            yield {name: fields[name] for name in names}
