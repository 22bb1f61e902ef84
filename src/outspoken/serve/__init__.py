"""The server of `outspoken serve`: clients of OpenAI's protocol draw from verbalized distributions.

`http` has sockets and bytes, `openai` the protocol without HTTP, `pool` the distributions that are drawn from,
`routes` the addresses, `site` serves the page in `static`. It may import the engine and everything below it, but
no measures or experiments at import. A new address is a handler in `routes` and a row in `routes.table`; a new
field of requests is declared with `option` in `outspoken.settings` or `openai.chat_request`.
"""

from __future__ import annotations

from outspoken._imports import attach

_HOMES = {
    "app": ("create_app",),
    "backend": ("Backend", "OneModel", "Upstream"),
    "limits": ("ServerLimits",),
    "keys": ("ClientLimits", "Keys"),
    "pool.pools": ("Pools",),
    "pool.store": ("PoolStore",),
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
