"""The parts that answer the requests of one server."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from outspoken._imports import need
from outspoken.errors import OutspokenError
from outspoken.same_text import text_key
from outspoken.serve.backend import Backend
from outspoken.serve.http.responses import while_connected
from outspoken.serve.limits import ServerLimits
from outspoken.serve.metrics import Metrics
from outspoken.serve.openai.chat_request import ChatCall, read_chat
from outspoken.serve.openai.fields import Fields
from outspoken.serve.pool.pools import Pools
from outspoken.serve.pool.refill import PoolFiller
from outspoken.serve.pool.store import PoolStore
from outspoken.serve.pool.values import PoolKey, PoolRequest, pool_key
from outspoken.serve.site import Site
from outspoken.settings import Settings

if TYPE_CHECKING:
    from outspoken.models.local import Local

__all__ = ["ReceivedChat", "Service", "TextMeasures"]

_MOST_REMEMBERED = 1024
_LARGEST_REMEMBERED = 16_384  # bytes
_logger = logging.getLogger("outspoken.serve")


class ReceivedChat(NamedTuple):
    """A call, the key of the pool that it draws from, and the request that fills the pool."""

    call: ChatCall
    key: PoolKey
    pool_request: PoolRequest


@dataclass
class Service:
    """The parts of one server, which belong to one event loop.

    The pools are restored from `store`, if there is one. `slots` limits the calls of the model that run at once.
    `key_needed`: clients need a key. `log_prompts`: prompts are logged.
    """

    backend: Backend
    _: KW_ONLY
    limits: ServerLimits
    defaults: Settings
    store: InitVar[PoolStore | None]
    site: Site
    key_needed: bool
    log_prompts: bool

    def __post_init__(self, store: PoolStore | None) -> None:
        limits, metrics = self.limits, Metrics()
        self.metrics, self.slots = metrics, asyncio.Semaphore(limits.max_calls)
        self.pools = pools = Pools(
            PoolFiller(self.backend.model, metrics, self.slots, limits.of_request),
            max_pools=limits.max_pools,
            max_candidates=limits.max_texts,
            max_bytes=int(limits.max_pool_mb * 1_000_000),
            idle_seconds=3600 * limits.pool_hours,
            fill_seconds=limits.timeout,
            store=store,
        )
        metrics.pools = lambda: (len(pools), pools.texts)
        self.measurer = TextMeasurer(limits.timeout)
        self._recent: OrderedDict[bytes, ReceivedChat] = OrderedDict()

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
        """The call that `remember` stored for an equal body, so that it is read only once."""
        received = self._recent.get(body)
        if received is not None:
            self._recent.move_to_end(body)
            self._log_prompt(received.call)
        return received

    def remember(self, body: bytes, received: ReceivedChat) -> None:
        """Store the call that was read from a body, and drop the oldest one."""
        if len(body) <= _LARGEST_REMEMBERED:
            self._recent[body] = received
            if len(self._recent) > _MOST_REMEMBERED:
                self._recent.popitem(last=False)

    def forward(self, request: Request, body: bytes) -> Response:
        """A response that forwards the request to the upstream, which the backend must have."""
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


_EMBEDDED_CHARACTERS = 2_500  # the embedding model reads 512 tokens


class TextMeasures(TypedDict):
    """Measures of some texts; `note` says why there is no semantic diversity."""

    texts: int
    distinct: int
    semantic_diversity: Annotated[float | None, {"minimum": 0, "maximum": 1}]
    note: str | None


class TextMeasurer:
    """Measures texts, with embeddings if an embedding model is installed; downloads nothing."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._embedder: Local | None = None
        self._lock = asyncio.Lock()

    async def measure(self, request: Request, texts: list[str]) -> TextMeasures:
        """The measures of some texts, computed for as long as the client waits."""
        diversity: float | None = None
        try:
            embedded = [text[:_EMBEDDED_CHARACTERS] for text in texts if text.strip()]
            async with self._lock, asyncio.timeout(self._timeout):
                diversity, note = await while_connected(request, self._diversity(embedded))
        except TimeoutError:
            note = "semantic diversity is not measured: it took too long"
        except OutspokenError as error:
            note = f"semantic diversity is not measured: {error}"
        distinct = len({text_key(text) for text in texts})
        return {"texts": len(texts), "distinct": distinct, "semantic_diversity": diversity, "note": note}

    async def _diversity(self, texts: list[str]) -> tuple[float | None, str | None]:
        if len(texts) < 2:
            return None, "semantic diversity needs two texts that are not empty"
        need("numpy", "semantic diversity", "measure")
        from outspoken.measure.sets import semantic_diversity
        from outspoken.models.local import Local

        if self._embedder is None:
            self._embedder = Local("minilm", offline=True)
        return semantic_diversity((await self._embedder.embed(texts)).vectors), None

    async def aclose(self) -> None:
        if self._embedder is not None:
            await self._embedder.aclose()
