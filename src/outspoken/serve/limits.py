"""The limits of a server: sizes, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass, fields

from outspoken.errors import UsageError
from outspoken.settings import MAX_K, option

__all__ = ["ServerLimits"]


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """The limits of one server. Raises `UsageError` for one that is not above 0."""

    max_k: int = option(100, "Most candidates of one distribution.")
    max_n: int = option(128, "Most choices of one request.")
    max_body_mb: float = option(10.0, "Largest body of a request, in MB.")
    max_requests: int = option(1000, "Most requests that are answered at once.")
    max_calls: int = option(256, "Most calls of the model at once.")
    timeout: float = option(600.0, "Seconds the model may take for a distribution, or send nothing.")
    client_timeout: float = option(60.0, "Seconds a client may take to send its request, or read nothing.")
    max_pools: int = option(10_000, "Most pools that are kept.")
    max_texts: int = option(200_000, "Most texts in all pools together.")
    max_pool_mb: float = option(500.0, "About how much memory all pools may use, in MB.")
    pool_hours: float = option(24.0, "Hours after which a pool without draws is dropped.")

    def __post_init__(self) -> None:
        for entry in fields(self):
            if not 0 < getattr(self, entry.name) < float("inf"):
                raise UsageError(f"{entry.name} must be above 0, not {getattr(self, entry.name)!r}")
        if self.max_k > MAX_K:
            raise UsageError(f"max_k may be at most {MAX_K:,}, not {self.max_k:,}")

    @property
    def max_body(self) -> int:
        """Bytes of a request's body."""
        return int(self.max_body_mb * 1_000_000)
