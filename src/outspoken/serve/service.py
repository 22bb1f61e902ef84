"""What the answers of one server are made of."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from outspoken.serve.backend import Backend
from outspoken.serve.limits import ServerLimits
from outspoken.serve.metrics import Metrics
from outspoken.serve.openai.chat_request import ChatCall, read_chat
from outspoken.serve.pool.pools import PoolKey, PoolRequest, Pools, pool_key
from outspoken.serve.pool.refill import PoolFiller
from outspoken.serve.pool.store import PoolStore
from outspoken.settings import Settings

__all__ = ["ReceivedChat", "Service"]

_MOST_KEPT = 1024
_LARGEST_KEPT = 16_384  # bytes
_logger = logging.getLogger("outspoken.serve")


class ReceivedChat(NamedTuple):
    """A call, the key of the pool that it draws from, and what fills that pool."""

    call: ChatCall
    key: PoolKey
    want: PoolRequest


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one server, which belong to one event loop. `places` is how many calls of the model may still
    begin; `log_prompts` says that what is asked may stand in the log."""

    backend: Backend
    bounds: ServerLimits
    defaults: Settings
    metrics: Metrics
    places: asyncio.Semaphore
    pools: Pools
    log_prompts: bool = False
    _recent: OrderedDict[bytes, ReceivedChat] = field(default_factory=OrderedDict)

    @classmethod
    def made(
        cls,
        backend: Backend,
        *,
        bounds: ServerLimits,
        defaults: Settings,
        store: PoolStore | None = None,
        log_prompts: bool = False,
    ) -> Service:
        """With pools that are restored from `store`, where there is one."""
        metrics, places = Metrics(), asyncio.Semaphore(bounds.max_calls)
        pools = Pools(
            PoolFiller(backend.model, metrics, places),
            most_pools=bounds.max_pools,
            most_candidates=bounds.max_texts,
            most_bytes=int(bounds.max_pool_mb * 1_000_000),
            idle_seconds=3600 * bounds.pool_hours,
            fill_seconds=bounds.timeout,
            store=store,
        )
        metrics.pools = lambda: (len(pools), pools.known)
        return cls(backend, bounds, defaults, metrics, places, pools, log_prompts)

    def read(self, body: bytes | Mapping[str, Any], *, always: bool = False) -> ChatCall:
        """What a body asks, as bytes or decoded; `always` as for `read_chat`. Raises `RequestError`."""
        bounds = self.bounds
        call = read_chat(body, defaults=self.defaults, most_k=bounds.max_k, most_n=bounds.max_n, always=always)
        self.heard(call)
        return call

    async def pool_of(self, call: ChatCall) -> ReceivedChat:
        """The pool that a call draws from. Raises `RequestError` for a model that is not there."""
        model = self.backend.model(call.model)
        key = pool_key(await model.identity(), call.messages, call.settings, call.structured)
        return ReceivedChat(call, key, PoolRequest(call.messages, call.settings, call.model, call.structured))

    def known(self, body: bytes) -> ReceivedChat | None:
        """What `keep` kept: who asks the same a thousand times is read once."""
        asked = self._recent.get(body)
        if asked is not None:
            self._recent.move_to_end(body)
            self.heard(asked.call)
        return asked

    def keep(self, body: bytes, asked: ReceivedChat) -> None:
        """Remember what a body asks, among the latest."""
        if len(body) <= _LARGEST_KEPT:
            self._recent[body] = asked
            if len(self._recent) > _MOST_KEPT:
                self._recent.popitem(last=False)

    def heard(self, call: ChatCall) -> None:
        """Put a prompt into the log, where that is wanted."""
        if self.log_prompts:
            _logger.info("%s: %s", call.asked, [message.to_dict() for message in call.messages])

    async def aclose(self) -> None:
        """Save the pools, and let go of connections and memory."""
        await self.pools.close()
        await self.backend.aclose()
