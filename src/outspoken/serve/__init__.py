"""Serve: every client that speaks OpenAI's protocol draws from the verbalized distribution."""

from __future__ import annotations

from typing import TYPE_CHECKING

from outspoken._lazy import attach

if TYPE_CHECKING:
    from outspoken.serve.app import create_app
    from outspoken.serve.backend import Backend, OneModel, Upstream
    from outspoken.serve.keys import Keys, Limits
    from outspoken.serve.limits import ServerLimits
    from outspoken.serve.pool.pools import Pools
    from outspoken.serve.pool.store import PoolStore

_HOMES = {
    "app": ("create_app",),
    "backend": ("Backend", "OneModel", "Upstream"),
    "limits": ("ServerLimits",),
    "keys": ("Keys", "Limits"),
    "pool.pools": ("Pools",),
    "pool.store": ("PoolStore",),
}

__all__ = ["Backend", "Keys", "Limits", "OneModel", "PoolStore", "Pools", "ServerLimits", "Upstream", "create_app"]

__getattr__, __dir__ = attach(__name__, _HOMES)
