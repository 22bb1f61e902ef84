"""Serve: every client that speaks OpenAI's protocol draws from the verbalized distribution."""

from __future__ import annotations

from outspoken._imports import attach

_HOMES = {
    "app": ("create_app",),
    "backend": ("Backend", "OneModel", "Upstream"),
    "limits": ("ServerLimits",),
    "keys": ("Keys", "Limits"),
    "pool.pools": ("Pools",),
    "pool.store": ("PoolStore",),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
