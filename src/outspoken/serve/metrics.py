"""The counters of a server, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from outspoken.chat_reply import Usage
from outspoken.errors import OutspokenError
from outspoken.serve.pool.values import Draw

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SOURCES = ("pool", "waited", "again", "fresh", "seeded")
_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300)


class Metrics:
    """The counters of one server, which contain no prompt, response or key.

    `running` returns the number of requests being answered, `pools` the numbers of pools and of their texts.
    """

    def __init__(self) -> None:
        self.running: Callable[[], int] = lambda: 0
        self.pools: Callable[[], tuple[int, int]] = lambda: (0, 0)
        registry = self._registry = CollectorRegistry()
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        self._labelled: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._requests = counter("outspoken_requests", "Requests that were answered.", ["route", "status"])
        about = "From the head of a request to the end of its response."
        self._seconds = Histogram(
            "outspoken_request_seconds", about, ["route"], buckets=_SECONDS, registry=registry
        )
        gauge("outspoken_requests_running", "Requests being answered.").set_function(lambda: self.running())
        draws = counter("outspoken_draws", "Draws, by their source.", ["source"])
        self._draws = {source: draws.labels(source) for source in _SOURCES}
        self._calls = counter("outspoken_upstream_calls", "Calls of the model.", ["kind", "outcome"])
        self._tokens = counter("outspoken_upstream_tokens", "Tokens of these calls.", ["direction"])
        gauge("outspoken_pools", "Pools that are kept.").set_function(lambda: self.pools()[0])
        gauge("outspoken_pool_texts", "Texts in pools, drawn or not.").set_function(lambda: self.pools()[1])

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request; the status is 499 if its client left before it was answered."""
        if (counters := self._labelled.get((route, status))) is None:
            counters = self._requests.labels(route, status), self._seconds.labels(route)
            self._labelled[route, status] = counters
        counters[0].inc()
        counters[1].observe(seconds)

    @contextmanager
    def count_call(self, kind: str) -> Iterator[Callable[[Usage], None]]:
        """Count a call of the model. The function it yields is to be called with the usage of the reply."""
        outcome = "cancelled"

        def done(usage: Usage) -> None:
            nonlocal outcome
            outcome = "answered"
            self._tokens.labels("prompt").inc(usage.prompt_tokens)
            self._tokens.labels("completion").inc(usage.completion_tokens)

        try:
            yield done
        except OutspokenError:
            outcome = "failed"
            raise
        finally:
            self._calls.labels(kind, outcome).inc()

    def count_forwarded(self) -> None:
        """Count a call that is forwarded to the upstream."""
        self._calls.labels("pass-through", "sent").inc()

    def count_draws(self, draws: Sequence[Draw], *, source: str = "") -> None:
        """Count draws by `source`; by default: from the pool, after waiting for the model, or drawn again."""
        for draw in draws:
            name = source or ("again" if draw.again else "waited" if draw.upstream else "pool")
            self._draws[name].inc()

    def text(self) -> bytes:
        """All counters in Prometheus' text format."""
        return generate_latest(self._registry)
