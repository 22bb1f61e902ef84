"""Runs the application: the socket, uvicorn, and a stop that lets what was begun come to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import Callable
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from outspoken.errors import UsageError
from outspoken.serve.http.responses import refusal
from outspoken.serve.limits import ServerLimits

__all__ = ["Server", "listen", "protocol"]

_SECONDS_TO_END = 30
_BACKLOG = 2048
_LARGEST_HEAD = 65_536
_UPGRADE = re.compile(rb"\r\n[Uu]pgrade:[^\r\n]*")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises `UsageError` where it cannot."""
    made = None
    try:
        (family, kind, _, _, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # asyncio sends small answers at once only on a socket that says it is TCP.
        made = socket.socket(family, kind, socket.IPPROTO_TCP)
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        if made is not None:
            made.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot listen at {host}, port {port} ({reason}): name another with --port") from error
    return made


class Server(uvicorn.Server):
    """One application on one socket. `stop` lets requests under way end; called again, it does not wait."""

    def __init__(self, app: ASGIApp, bounds: ServerLimits, ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol(bounds.client_timeout),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_SECONDS_TO_END,
            )
        )
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def stop(self) -> None:
        """Take no more requests."""
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Signals are the caller's: it calls `stop`."""
        yield


def protocol(seconds: float) -> type[asyncio.Protocol]:
    """HTTP as uvicorn speaks it, with a client that is given `seconds` to send a request, and to take some of what
    is written to it; its connection is cut off then."""

    class Protocol(HttpToolsProtocol):
        _clock: asyncio.TimerHandle
        _asking: float | None  # since when a request has been on its way
        _stuck: tuple[float, int] | None = None  # since when nothing was taken, and how much waits
        _head: int | None = 0  # bytes of a head that is not complete

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._asking = self.loop.time()
            self._clock = self.loop.call_later(seconds / 4, self._look)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._head = 0
            self._asking = self._asking or self.loop.time()

        def on_headers_complete(self) -> None:
            self._head = None
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._asking, self._head = None, 0
            super().on_message_complete()

        def data_received(self, data: bytes) -> None:
            if self._head is not None and b"pgrade" in data:
                # httptools would stop at the head of a request that offers to upgrade, and lose its body.
                head, end, rest = data.partition(b"\r\n\r\n")
                data = _UPGRADE.sub(b"", head) + end + rest
            super().data_received(data)
            if self._asking is None:
                self._head = 0
            elif self._head is not None:
                self._head += len(data)
                if self._head > _LARGEST_HEAD and not self.transport.is_closing():
                    self._refuse(431, "the head of the request is too large: send shorter headers")

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "this is not a request of HTTP/1.1 that can be read")

        def pause_writing(self) -> None:
            super().pause_writing()
            self._stuck = self.loop.time(), self.transport.get_write_buffer_size()

        def resume_writing(self) -> None:
            self._stuck = None
            super().resume_writing()

        def connection_lost(self, exc: Exception | None) -> None:
            self._clock.cancel()
            super().connection_lost(exc)

        def _refuse(self, status: int, why: str) -> None:
            """Answer what has not become a request, and close."""
            self.transport.write(refusal(status, why))
            self.transport.close()

        def _look(self) -> None:
            """Look now and then whether the client still does its part: a clock a request would cost more."""
            now = self.loop.time()
            if self._stuck is not None:
                since, waited = self._stuck
                waiting = self.transport.get_write_buffer_size()
                if waiting < waited:
                    self._stuck = now, waiting
                elif now - since >= seconds:
                    self.transport.abort()  # closing would wait for what the client does not take
                    return
            if self._asking is not None and now - self._asking >= seconds:
                if self._head is None:
                    self._refuse(408, f"the body did not come within {seconds:g} s: send it faster")
                else:
                    self.transport.abort()
                return
            self._clock = self.loop.call_later(seconds / 4, self._look)

    return Protocol
