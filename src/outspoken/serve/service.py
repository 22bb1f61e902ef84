"""What the answers of one server are made of."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from outspoken.serve.backend import Backend
from outspoken.serve.bounds import Bounds
from outspoken.serve.filling import Filling
from outspoken.serve.metrics import Metrics
from outspoken.serve.openai import ChatCall
from outspoken.serve.pool import Pools, Want, pool_key
from outspoken.serve.pool_store import PoolStore
from outspoken.settings import Settings

__all__ = ["Service"]

_logger = logging.getLogger("outspoken.serve")


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one server, which belong to one event loop. `places` is how many calls of the model may still
    begin; `log_prompts` says that what is asked may stand in the log."""

    backend: Backend
    bounds: Bounds
    defaults: Settings
    metrics: Metrics
    places: asyncio.Semaphore
    pools: Pools
    log_prompts: bool = False

    @classmethod
    def made(
        cls,
        backend: Backend,
        *,
        bounds: Bounds,
        defaults: Settings,
        store: PoolStore | None = None,
        log_prompts: bool = False,
    ) -> Service:
        """With pools that are restored from `store`, where there is one."""
        metrics, places = Metrics(), asyncio.Semaphore(bounds.max_calls)
        pools = Pools(
            Filling(backend.model, metrics, places),
            most_pools=bounds.max_pools,
            most_candidates=bounds.max_texts,
            idle_seconds=3600 * bounds.pool_hours,
            fill_seconds=bounds.timeout,
            store=store,
        )
        metrics.pools = lambda: (len(pools), pools.known)
        return cls(backend, bounds, defaults, metrics, places, pools, log_prompts)

    async def pool_of(self, call: ChatCall) -> tuple[str, Want]:
        """The key of the pool that a call draws from, and what fills it. Raises `RequestError` for a model that is
        not there."""
        model = self.backend.model(call.model)
        key = pool_key(await model.identity(), call.messages, call.settings, call.structured)
        return key, Want(call.messages, call.settings, call.model, call.structured)

    def heard(self, call: ChatCall) -> None:
        """Put a prompt into the log, where that is wanted."""
        if self.log_prompts:
            _logger.info("%s: %s", call.asked, [message.to_dict() for message in call.messages])

    async def aclose(self) -> None:
        """Save the pools, and let go of connections and memory."""
        await self.pools.close()
        await self.backend.aclose()
