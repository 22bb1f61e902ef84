"""Runs the application: the socket, uvicorn, and a stop that lets running requests finish."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outspoken.errors import UsageError
from outspoken.serve.http.responses import raw_error
from outspoken.serve.limits import ServerLimits

__all__ = ["Server", "listen", "protocol"]

_SECONDS_TO_STOP = 30
_BACKLOG = 2048
_LARGEST_HEAD = 65_536
_UPGRADE = re.compile(rb"\r\nupgrade:[^\r\n]*", re.IGNORECASE)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises `UsageError` if that fails."""
    listening = None
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # asyncio disables Nagle's algorithm only on a socket whose protocol is stated as TCP.
        listening = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        if listening is not None:
            listening.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot listen at {host}, port {port} ({reason}): name another port with --port"
        ) from error
    return listening


class Server(uvicorn.Server):
    """One application. `stop` lets running requests finish; a second call does not wait for them."""

    def __init__(self, app: ASGIApp, limits: ServerLimits, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol(limits.client_timeout),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_SECONDS_TO_STOP,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def stop(self) -> None:
        """Accept no further requests."""
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the command, which calls `stop`."""
        yield


def protocol(seconds: float) -> type[asyncio.Protocol]:
    """The HTTP protocol for uvicorn; a client may take `seconds` to send a request, or to read from a response."""
    return type("Protocol", (TimedProtocol,), {"seconds": seconds})


class TimedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits for which uvicorn has no settings.

    A client that takes longer than `seconds` to send a request, or that reads nothing for this time, is cut off.
    Heads that are too large are rejected, input that is not HTTP gets an error in JSON, upgrades are ignored.
    """

    seconds: float
    _timer: asyncio.TimerHandle
    _receiving_since: float | None  # None between requests
    _stalled: tuple[float, int] | None = None  # since when nothing was read, and the size of the backlog then
    _head_size: int | None = 0  # bytes of an incomplete head; None while a body is received

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._receiving_since = self.loop.time()
        self._timer = self.loop.call_later(self.seconds / 4, self._check)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_size = 0
        self._receiving_since = self._receiving_since or self.loop.time()

    def on_headers_complete(self) -> None:
        self._head_size = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._receiving_since, self._head_size = None, 0
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if self._head_size is not None and _UPGRADE.search(data):
            # httptools would stop at the head of a request that offers to upgrade, and lose its body.
            head, end, rest = data.partition(b"\r\n\r\n")
            data = _UPGRADE.sub(b"", head) + end + rest
        super().data_received(data)
        if self._receiving_since is None:
            self._head_size = 0
        elif self._head_size is not None:
            self._head_size += len(data)
            if self._head_size > _LARGEST_HEAD and not self.transport.is_closing():
                self._reject(431, "the head of the request is too large: send shorter headers")

    def send_400_response(self, msg: str) -> None:
        self._reject(400, "this is not a valid HTTP/1.1 request")

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.time(), self.transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._stalled = None
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _reject(self, status: int, message: str) -> None:
        """Send an error outside of any request, and close."""
        self.transport.write(raw_error(status, message))
        self.transport.close()

    def _check(self) -> None:
        """Cut off a client that is too slow. One repeated check costs less than a timer for each request."""
        now = self.loop.time()
        if self._stalled is not None:
            since, backlog = self._stalled
            if (remaining := self.transport.get_write_buffer_size()) < backlog:
                self._stalled = now, remaining
            elif now - since >= self.seconds:
                self.transport.abort()  # closing would wait until the client has read everything
                return
        if self._receiving_since is not None and now - self._receiving_since >= self.seconds:
            if self._head_size is None:
                self._reject(408, f"the body did not arrive within {self.seconds:g} s: send it faster")
            else:
                self.transport.abort()
            return
        self._timer = self.loop.call_later(self.seconds / 4, self._check)
