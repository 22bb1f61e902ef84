"""The forked child: it closes itself off, runs the program, and reports how it ended."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import tempfile
from typing import Any, NoReturn

from . import program, walls

__all__ = ["become_program"]


def become_program(
    request: dict[str, Any], folder: str, version: int, nonce: str, output: int, channel: socket.socket
) -> NoReturn:
    """Close this process off, run the program, and report how it ended on `channel`, with the `nonce`."""
    leave, write = os._exit, os.write
    closed = False

    def report(**fields: str) -> None:
        write(3, json.dumps(fields).encode() + b"\n")

    def attempted(reason: str) -> None:
        report(attempt=reason)
        leave(1)

    try:
        os.setsid()
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.dup2(channel.detach(), 3)
        os.closerange(4, os.sysconf("SC_OPEN_MAX"))
        os.chdir(folder)
        os.environ |= {"HOME": folder, "TMPDIR": folder, "PWD": folder}
        tempfile.tempdir = None
        sys.stdin, sys.stdout, sys.stderr = _stream(0, "r"), _stream(1, "w"), _stream(2, "w")
        sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc]
        socket_3 = socket.socket(fileno=3)
        listener = walls.enclose(
            folder, version, memory=request["memory"], seconds=request["seconds"], largest=request["disk"]
        )
        if listener is None:
            socket_3.send(b"-")
        else:
            socket.send_fds(socket_3, [b"."], [listener])
            os.close(listener)
        socket_3.detach()
        closed = True
        program.watch(folder, attempted)
        reason, details = program.run(request["code"], request["tests"], folder, request["limits"])
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        report(nonce=nonce, reason=reason, details=details)
    except BaseException as error:
        if not closed:
            write(3, b"!" + str(error).encode("utf-8", "replace"))
    finally:
        leave(0)


def _stream(handle: int, mode: str) -> Any:
    return open(handle, mode, 1, "utf-8", "backslashreplace", closefd=False)
