"""One row of the table of addresses, and the lookup of a path in the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outspoken.serve.service import Service

__all__ = ["Address", "AddressTable", "Handler", "Schema"]

Handler = Callable[[Service, Request], Awaitable[Response]]
Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the server.

    `path` is in starlette's form: `{name}` stands for a segment, `{name:path}` for the rest. `open`: anyone may
    call it; otherwise a client key is needed if the server has keys. `counted`: a call with a key counts against
    the limits of the key. `needs_upstream`: it exists only with an upstream.

    `summary` and `details` document it. `listed`: it is in the list of docs/serve.md. `response`, and `request`
    for a body, are its types in the OpenAPI document, which contains only addresses with a `response`; `events`:
    the response can also be a stream of events.
    """

    path: str
    handler: Handler
    summary: str
    _: KW_ONLY
    details: str = ""
    methods: tuple[str, ...] = ("GET",)
    open: bool = False
    counted: bool = True
    needs_upstream: bool = False
    listed: bool = True
    request: Callable[[], Schema] | None = None
    response: Any = None
    events: bool = False
    prefix: str = field(init=False)
    label: str = field(init=False)
    """The path without its variable part, as metrics name it."""

    def __post_init__(self) -> None:
        prefix, brace, _ = self.path.partition("{")
        object.__setattr__(self, "prefix", prefix)
        object.__setattr__(self, "label", f"{prefix}…" if brace else prefix)


class AddressTable:
    """The addresses, and the one of a path. `paths` are those of the API that have no variable part."""

    def __init__(self, *addresses: Address) -> None:
        self.addresses = addresses
        fixed = [address for address in addresses if address.prefix == address.path]
        self.paths = [address.path for address in fixed if address.listed and address.path.startswith("/v1/")]
        self._fixed = {address.path: address for address in fixed}
        self._variable = [address for address in addresses if address.prefix != address.path]

    def find(self, path: str) -> Address | None:
        """The address that a path belongs to, whether or not starlette finds a route for it."""
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed
        return next((address for address in self._variable if path.startswith(address.prefix)), None)
