"""A bare Python that runs programs for `Sandbox`, one at a time, each in a child that is closed off first.

It reads a line of JSON for each program and answers with a line. When its input ends it kills the child that runs,
removes its folder, and ends. Nothing of ours is in its memory or its environment.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import json
import math
import os
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from fcntl import ioctl
from typing import Any

from . import program, walls
from .child import become_program

__all__ = ["main"]

_TICK = 0.05
_MOMENT = 0.001
_THREADS = 64
_FILES = 1000
_MANY = "made too many files"
_KEPT = 16 * 1024
_LONGEST = 64 * 1024
_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV: id, pid, flags, then number, architecture, place, six arguments
_NOTICE = struct.Struct("=QIIiIQ6Q")


class _CancelledError(Exception):
    """Nobody waits for the answer any more."""


def main() -> None:
    base = sys.argv[1]
    # So few that closing all of them takes no time.
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    requests = os.dup(0)
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.set_inheritable(0, True)

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    try:
        version = walls.landlock_version()
    except walls.UnsupportedError as error:
        answer(unsupported=str(error))
        return
    answer(ready=True)
    gc.freeze()
    with contextlib.suppress(_CancelledError, BrokenPipeError), os.fdopen(requests, "rb", buffering=0) as lines:
        waiting = b""
        while True:
            while b"\n" not in waiting:
                if not (more := lines.read(2**20)):
                    raise _CancelledError
                waiting += more
            line, _, waiting = waiting.partition(b"\n")
            try:
                found = _one(json.loads(line), base, version, requests)
            except OSError as error:
                found = {"broken": str(error)}
            answer(**found)
    # Whoever started this process may be gone, and with it the last of its fellows.
    with contextlib.suppress(OSError):
        os.rmdir(base)


def _one(request: dict[str, Any], base: str, version: int, requests: int) -> dict[str, Any]:
    """Run one program in a folder of its own, which is gone afterwards."""
    folder = tempfile.mkdtemp(dir=base)
    try:
        for name, content in request["files"].items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(base64.b64decode(content))
        return _watched(request, folder, version, requests)
    finally:
        _remove(folder)


def _watched(request: dict[str, Any], folder: str, version: int, requests: int) -> dict[str, Any]:
    reader, writer = os.pipe()
    told, tells = socket.socketpair()
    nonce = os.urandom(16).hex()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        become_program(request, folder, version, nonce, writer, tells)
    os.close(writer)
    tells.close()
    watched = _Watched(request, folder, pid, reader, told)
    try:
        if broken := watched.begin():
            return {"unsupported": broken}
        watched.follow(requests, began)
    finally:
        if watched.status is None:
            os.kill(pid, signal.SIGKILL)
            watched.status = os.waitpid(pid, 0)[1]
        seconds = time.monotonic() - began
        watched.drain()
        for handle in (reader, *watched.listener):
            os.close(handle)
        told.close()
    reason, details = watched.verdict(nonce)
    output = watched.output.decode("utf-8", "replace")
    return {"reason": reason, "details": details, "output": output, "seconds": seconds}


class _Watched:
    """A program that runs: what it says on its two ways, and why it was ended ("" where it was not)."""

    def __init__(self, request: dict[str, Any], folder: str, pid: int, reader: int, told: socket.socket) -> None:
        self.request, self.folder, self.pid, self.reader, self.told = request, folder, pid, reader, told
        self.status: int | None = None
        self.listener: list[int] = []
        self.output, self.written = b"", 0
        self.messages = b""
        self.reason = ""

    def begin(self) -> str:
        """Wait until it is closed off; why it cannot be, "" where it is."""
        self.told.settimeout(30)
        sign, handles, _, _ = socket.recv_fds(self.told, 1, 1)
        self.listener = handles
        self.told.settimeout(None)
        if sign in (b".", b"-"):
            return ""
        return self.told.recv(4096).decode("utf-8", "replace") or "a process cannot be closed off here"

    def follow(self, requests: int, began: float) -> None:
        """Look on until it ends or there is a reason to end it. Raises `_CancelledError`."""
        deadline = began + self.request["seconds"]
        look, longest = began + _TICK, _TICK
        poll = select.poll()
        for source in (requests, self.reader, self.told.fileno(), *self.listener):
            poll.register(source, select.POLLIN)
        while not self.reason:
            wait = max(0.0, min(look, deadline) - time.monotonic())
            ready = dict(poll.poll(math.ceil(1000 * min(wait, longest))))
            if requests in ready:
                raise _CancelledError
            if self.reader in ready and not self._read():
                poll.unregister(self.reader)
            if self.told.fileno() in ready and not self._listen():
                # Its end closes that way a moment before it can be waited for.
                poll.unregister(self.told)
                longest = _MOMENT
            if any(ready.get(each, 0) & select.POLLIN for each in self.listener):
                self._notice()
            elif longest == _MOMENT and self._ended():
                return
            now = time.monotonic()
            if now >= deadline:
                self.reason = self.reason or self.request["limits"]["seconds"]
            elif now >= look:
                self._look()
                look = time.monotonic() + _TICK

    def _ended(self) -> bool:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        self.status = status if pid else None
        return pid != 0

    def drain(self) -> None:
        """What is still on the way from a program that has ended."""
        while select.select([self.reader], (), (), 0)[0] and self._read():
            pass
        while select.select([self.told], (), (), 0)[0] and self._listen():
            pass

    def verdict(self, nonce: str) -> tuple[str, str]:
        """Why it is not right, and the details."""
        if not self.reason:
            self._look()
        if self.reason:
            return self.reason, ""
        assert self.status is not None
        ended = os.waitstatus_to_exitcode(self.status)
        if ended < 0:
            reasons = {
                signal.SIGSYS: walls.FORBIDDEN,
                signal.SIGXCPU: self.request["limits"]["seconds"],
                signal.SIGXFSZ: self.request["limits"]["disk"],
            }
            return reasons.get(signal.Signals(-ended), "crashed"), signal.Signals(-ended).name
        for message in self._read_messages():
            if message.get("nonce") == nonce:
                return str(message["reason"]), str(message["details"])
        return program.EARLY, f"exit status {ended}"

    def _read(self) -> bool:
        data = os.read(self.reader, 65536)
        self.written += len(data)
        self.output += data[: max(0, _KEPT - len(self.output))]
        if self.written > self.request["output"]:
            self.reason = self.reason or self.request["limits"]["output"]
            return False
        return bool(data)

    def _listen(self) -> bool:
        data = self.told.recv(65536)
        self.messages += data
        for message in self._read_messages():
            if (attempt := message.get("attempt")) is not None:
                known = attempt in (program.WRITING, program.READING)
                self.reason = self.reason or (attempt if known else walls.FORBIDDEN)
        if len(self.messages) > _LONGEST:
            self.reason = self.reason or program.EARLY
        return bool(data) and not self.reason

    def _read_messages(self) -> list[dict[str, Any]]:
        found = []
        for line in self.messages.split(b"\n")[:-1]:
            with contextlib.suppress(ValueError, RecursionError):
                if isinstance(message := json.loads(line), dict):
                    found.append(message)
        return found

    def _notice(self) -> None:
        """A forbidden system call waits for an answer, and never gets one."""
        notice = bytearray(_NOTICE.size)
        with contextlib.suppress(OSError):
            ioctl(self.listener[0], _RECEIVE, notice)
            self.reason = self.reason or walls.reason_of(_NOTICE.unpack(notice)[3])

    def _look(self) -> None:
        """Limits that the system does not keep: threads, and all files together."""
        with contextlib.suppress(OSError):
            if len(os.listdir(f"/proc/{self.pid}/task")) > _THREADS:
                self.reason = self.reason or program.THREADS
        files, size, folders = 0, 0, [self.folder]
        while folders and not self.reason:
            try:
                with os.scandir(folders.pop()) as entries:
                    for entry in entries:
                        files += 1
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        if files > _FILES:
                            break
            except OSError as error:
                # It may be gone by now, or not be ours to read. Nobody follows folders without end.
                files += _FILES + 1 if error.errno == errno.ENAMETOOLONG else 0
            if size > self.request["disk"]:
                self.reason = self.request["limits"]["disk"]
            elif files > _FILES:
                self.reason = _MANY


def _remove(folder: str) -> None:
    """Also folders within folders, deeper than Python follows them."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        subprocess.run(["rm", "-rf", "--", folder], stdin=subprocess.DEVNULL, capture_output=True)
