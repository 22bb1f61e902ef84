"""What a server counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from outspoken.chat import Usage
from outspoken.errors import OutspokenError
from outspoken.serve.pool.values import Draw

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SOURCES = ("pool", "waited", "again", "fresh", "seeded")
_SECONDS = (0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300)


class Metrics:
    """The counters of one server; nothing of a prompt, an answer or a key is in them.

    `running` tells how many requests are being answered, `pools` how many pools there are and how many texts they
    know.
    """

    def __init__(self) -> None:
        self.running: Callable[[], int] = lambda: 0
        self.pools: Callable[[], tuple[int, int]] = lambda: (0, 0)
        registry = self._registry = CollectorRegistry()
        self._answered: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._requests = Counter(
            "outspoken_requests", "Requests that were answered.", ["route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "outspoken_request_seconds",
            "From a request's head to its answer's end.",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        Gauge("outspoken_requests_running", "Requests being answered.", registry=registry).set_function(
            lambda: self.running()
        )
        draws = Counter("outspoken_draws", "Draws, by what they took.", ["source"], registry=registry)
        self._drawn = {source: draws.labels(source) for source in _SOURCES}
        self._calls = Counter(
            "outspoken_upstream_calls", "Calls of the model.", ["kind", "outcome"], registry=registry
        )
        self._tokens = Counter(
            "outspoken_upstream_tokens", "Tokens of these calls.", ["direction"], registry=registry
        )
        Gauge("outspoken_pools", "Pools that are held.", registry=registry).set_function(lambda: self.pools()[0])
        Gauge("outspoken_pool_texts", "Texts that they know, drawn or not.", registry=registry).set_function(
            lambda: self.pools()[1]
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count a request; one whose client left before it was answered has status 499."""
        counters = self._answered.get((route, status))
        if counters is None:
            counters = (self._requests.labels(route, status), self._seconds.labels(route))
            self._answered[route, status] = counters
        counters[0].inc()
        counters[1].observe(seconds)

    @contextmanager
    def upstream(self, kind: str) -> Iterator[Callable[[Usage], None]]:
        """Count a call of the model; call what this gives with its usage, once it has answered."""
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

    def passed(self) -> None:
        """Count a call that is handed on to the upstream."""
        self._calls.labels("pass-through", "sent").inc()

    def drawn(self, draws: Sequence[Draw], *, own: str = "") -> None:
        """Count draws: from the pool, after waiting for the model, again, or in a manner of their `own`."""
        for draw in draws:
            source = own or ("again" if draw.again else "waited" if draw.upstream else "pool")
            self._drawn[source].inc()

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry)
