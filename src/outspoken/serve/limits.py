"""The limits of a server: sizes, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from outspoken.settings import MAX_K, RequestLimits, check_values, option

__all__ = ["LONGEST_WAIT", "ServerLimits"]

LONGEST_WAIT = 5.0
"""Seconds between two attempts. If a model asks for more, the client is told: it knows when to give up."""


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """The limits of one server. Raises `UsageError` for invalid values."""

    max_k: int = option(100, "Most candidates of one distribution.", low=1, high=MAX_K)
    max_n: int = option(128, "Most choices of one request.", low=1)
    max_body_mb: float = option(10.0, "Largest body of a request, in MB.", above=0, below=inf)
    max_requests: int = option(1000, "Most requests that are answered at once.", low=1)
    max_calls: int = option(256, "Most calls of the model at once.", low=1)
    timeout: float = option(
        600.0, "Seconds the model may take for a distribution, or send nothing.", above=0, below=inf
    )
    attempts: int = option(3, "Most attempts at one request to a model.", low=1, high=100)
    client_timeout: float = option(
        60.0, "Seconds a client may take to send its request, or read nothing.", above=0, below=inf
    )
    max_pools: int = option(10_000, "Most pools that are kept.", low=1)
    max_texts: int = option(200_000, "Most texts in all pools together.", low=1)
    max_pool_mb: float = option(500.0, "About how much memory all pools may use, in MB.", above=0, below=inf)
    pool_hours: float = option(24.0, "Hours after which a pool without draws is dropped.", above=0, below=inf)

    def __post_init__(self) -> None:
        check_values(self)

    @property
    def of_request(self) -> RequestLimits:
        """The limits of a request to a model."""
        return RequestLimits(timeout=self.timeout, total_timeout=self.timeout, attempts=self.attempts)

    @property
    def max_body(self) -> int:
        """Bytes of a request's body."""
        return int(self.max_body_mb * 1_000_000)
