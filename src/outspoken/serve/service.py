"""The parts that answer the requests of one server."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from outspoken.serve.backend import Backend
from outspoken.serve.limits import ServerLimits
from outspoken.serve.metrics import Metrics
from outspoken.serve.openai.chat_request import ChatCall, read_chat
from outspoken.serve.openai.fields import Fields
from outspoken.serve.pool.pools import Pools
from outspoken.serve.pool.refill import PoolFiller
from outspoken.serve.pool.store import PoolStore
from outspoken.serve.pool.values import PoolKey, PoolRequest, pool_key
from outspoken.serve.site.pages import Site
from outspoken.serve.text_measures import TextMeasurer
from outspoken.settings import Settings

__all__ = ["ReceivedChat", "Service"]

_MOST_REMEMBERED = 1024
_LARGEST_REMEMBERED = 16_384  # bytes
_logger = logging.getLogger("outspoken.serve")


class ReceivedChat(NamedTuple):
    """A call, the key of the pool that it draws from, and the request that fills the pool."""

    call: ChatCall
    key: PoolKey
    pool_request: PoolRequest


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of one server, which belong to one event loop.

    `slots` limits the calls of the model that run at once. `key_needed`: clients need a key. `log_prompts`:
    prompts may be logged.
    """

    backend: Backend
    limits: ServerLimits
    defaults: Settings
    metrics: Metrics
    slots: asyncio.Semaphore
    pools: Pools
    site: Site
    measurer: TextMeasurer
    key_needed: bool
    log_prompts: bool
    _recent: OrderedDict[bytes, ReceivedChat] = field(default_factory=OrderedDict)

    @classmethod
    def create(
        cls,
        backend: Backend,
        *,
        limits: ServerLimits,
        defaults: Settings,
        store: PoolStore | None,
        site: Site,
        key_needed: bool,
        log_prompts: bool,
    ) -> Service:
        """A service whose pools are restored from `store`, if there is one."""
        metrics, slots = Metrics(), asyncio.Semaphore(limits.max_calls)
        pools = Pools(
            PoolFiller(backend.model, metrics, slots),
            max_pools=limits.max_pools,
            max_candidates=limits.max_texts,
            max_bytes=int(limits.max_pool_mb * 1_000_000),
            idle_seconds=3600 * limits.pool_hours,
            fill_seconds=limits.timeout,
            store=store,
        )
        metrics.pools = lambda: (len(pools), pools.texts)
        measurer = TextMeasurer(limits.timeout)
        return cls(backend, limits, defaults, metrics, slots, pools, site, measurer, key_needed, log_prompts)

    def read(self, body: bytes | Fields, *, always: bool = False) -> ChatCall:
        """The call in a body, as bytes or decoded; `always` as for `read_chat`. Raises `RequestError`."""
        limits = self.limits
        call = read_chat(body, defaults=self.defaults, max_k=limits.max_k, max_n=limits.max_n, always=always)
        self._log_prompt(call)
        return call

    async def receive(self, call: ChatCall) -> ReceivedChat:
        """The call with its pool. Raises `RequestError` if its model does not exist."""
        model = self.backend.model(call.model)
        key = pool_key(await model.identity(), call.messages, call.settings, call.structured)
        return ReceivedChat(call, key, PoolRequest(call.messages, call.settings, call.model, call.structured))

    def recall(self, body: bytes) -> ReceivedChat | None:
        """What `remember` stored for this body: equal bodies are read only once."""
        received = self._recent.get(body)
        if received is not None:
            self._recent.move_to_end(body)
            self._log_prompt(received.call)
        return received

    def remember(self, body: bytes, received: ReceivedChat) -> None:
        """Store how a body was read, among the latest."""
        if len(body) <= _LARGEST_REMEMBERED:
            self._recent[body] = received
            if len(self._recent) > _MOST_REMEMBERED:
                self._recent.popitem(last=False)

    def forward(self, request: Request, body: bytes) -> Response:
        """The response that forwards a request to the upstream; only for a backend with one."""
        proxy = self.backend.proxy
        assert proxy is not None
        self.metrics.count_forwarded()
        return proxy.response(request, body)

    def _log_prompt(self, call: ChatCall) -> None:
        if self.log_prompts:
            _logger.info("%s: %s", call.requested_model, [message.to_dict() for message in call.messages])

    async def aclose(self) -> None:
        """Save the pools, close connections and free memory."""
        await self.measurer.aclose()
        await self.pools.close()
        await self.backend.aclose()
