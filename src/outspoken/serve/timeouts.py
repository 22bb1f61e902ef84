"""How long a model may take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from outspoken.errors import ProviderError

__all__ = ["in_time"]

T = TypeVar("T")


async def in_time(awaited: Awaitable[T], seconds: float, less: str) -> T:
    """What a model was asked for. Raises `ProviderError` after `seconds`; `less` names what may come sooner."""
    try:
        async with asyncio.timeout(seconds):
            return await awaited
    except TimeoutError as error:
        raise ProviderError(
            f"the model did not answer within {seconds:g} s: ask again, or for {less}",
            retryable=True,
            original=error,
        ) from error
