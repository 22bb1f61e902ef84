"""One row of the table of addresses, and the lookup of a path in the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from outspoken.serve.service import Service

__all__ = ["Address", "AddressTable", "Handler", "Schema"]

Handler = Callable[[Service, Request], Awaitable[Response]]
Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address of the server.

    `path` is in starlette's form: `{name}` stands for a segment, `{name:path}` for the rest. `open`: anyone may
    call it; otherwise a client key is needed if the server has keys. `counted`: calls count against the limits of
    their key. `needs_upstream`: it exists only with an upstream.

    `summary` and `details` are its documentation. `listed`: it is in the list of docs/serve.md. `response`, and
    `request` for a body, are its types in the OpenAPI document, which contains only addresses with a `response`;
    `events`: the response can also be a stream of events.
    """

    path: str
    handler: Handler
    methods: tuple[str, ...] = ("GET",)
    open: bool = False
    counted: bool = True
    needs_upstream: bool = False
    summary: str
    details: str = ""
    listed: bool = True
    request: Callable[[], Schema] | None = None
    response: Any = None
    events: bool = False
    label: str = field(init=False)
    """The path without its variable part, for metrics."""

    def __post_init__(self) -> None:
        fixed, brace, _ = self.path.partition("{")
        object.__setattr__(self, "label", fixed + ("…" if brace else ""))


class AddressTable:
    """The addresses, and the one of a path. `paths` are those of the API that have no variable part."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self.addresses = tuple(addresses)
        self.paths = [a.path for a in addresses if a.listed and "{" not in a.path and a.path.startswith("/v1/")]
        self._exact = {address.path: address for address in addresses if "{" not in address.path}
        self._below = [(a.path.partition("{")[0], a) for a in addresses if "{" in a.path]

    def find(self, path: str) -> Address | None:
        """The address that a path belongs to, whether or not starlette finds a route for it."""
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        return next((address for prefix, address in self._below if path.startswith(prefix)), None)
