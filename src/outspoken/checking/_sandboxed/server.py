"""A bare Python that runs programs for `Sandbox`, one at a time, each in a child that is closed off first.

It reads a line of JSON for each program and answers with a line. When its input ends, it kills the running child,
removes its folder, and exits. Its memory and its environment contain no data of the user.
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
from typing import Any, NoReturn

from . import program, walls

__all__ = ["main"]

_TICK = 0.05
_MOMENT = 0.001
_THREADS = 64
_FILES = 1000
_TOO_MANY_FILES = "created too many files"
_KEPT = 16 * 1024
_LONGEST = 64 * 1024
_RECEIVE = 0xC0502100  # SECCOMP_IOCTL_NOTIF_RECV: id, pid, flags, then number, architecture, place, six arguments
_NOTICE = struct.Struct("=QIIiIQ6Q")


class _CancelledError(Exception):
    """The caller no longer waits for the answer."""


def main() -> None:
    base = sys.argv[1]
    # A low limit, so that the child closes all of them quickly.
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
                result = _run_program(json.loads(line), base, version, requests)
            except OSError as error:
                result = {"broken": str(error)}
            answer(**result)
    # The process that started this one may have ended without removing the folder.
    with contextlib.suppress(OSError):
        os.rmdir(base)


def _run_program(request: dict[str, Any], base: str, version: int, requests: int) -> dict[str, Any]:
    """Run one program in its own folder, which is removed afterwards."""
    folder = tempfile.mkdtemp(dir=base)
    try:
        for name, content in request["files"].items():
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(base64.b64decode(content))
        return _run_child(request, folder, version, requests)
    finally:
        _remove(folder)


def _run_child(request: dict[str, Any], folder: str, version: int, requests: int) -> dict[str, Any]:
    reader, writer = os.pipe()
    parent_end, child_end = socket.socketpair()
    nonce = os.urandom(16).hex()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        _become_program(request, folder, version, nonce, writer, child_end)
    os.close(writer)
    child_end.close()
    child = _Child(request, folder, pid, reader, parent_end)
    try:
        if broken := child.begin():
            return {"unsupported": broken}
        child.watch(requests, began)
    finally:
        if child.status is None:
            os.kill(pid, signal.SIGKILL)
            child.status = os.waitpid(pid, 0)[1]
        seconds = time.monotonic() - began
        child.drain()
        for handle in (reader, *child.listener):
            os.close(handle)
        parent_end.close()
    reason, details = child.verdict(nonce)
    output = child.output.decode("utf-8", "replace")
    return {"reason": reason, "details": details, "output": output, "seconds": seconds}


def _become_program(
    request: dict[str, Any], folder: str, version: int, nonce: str, output: int, channel: socket.socket
) -> NoReturn:
    """In the forked child: close it off, run the program, and report its end on `channel`, with the `nonce`."""
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


class _Child:
    """A running program: its output, its messages on `channel`, and the `reason` for ending it ("" if there is
    none)."""

    def __init__(
        self, request: dict[str, Any], folder: str, pid: int, reader: int, channel: socket.socket
    ) -> None:
        self.request, self.folder, self.pid, self.reader, self.channel = request, folder, pid, reader, channel
        self.status: int | None = None
        self.listener: list[int] = []
        self.output, self.written = b"", 0
        self.messages = b""
        self.reason = ""

    def begin(self) -> str:
        """Wait until it is closed off; returns the reason if that is impossible, otherwise ""."""
        self.channel.settimeout(30)
        sign, handles, _, _ = socket.recv_fds(self.channel, 1, 1)
        self.listener = handles
        self.channel.settimeout(None)
        if sign in (b".", b"-"):
            return ""
        return self.channel.recv(4096).decode("utf-8", "replace") or "a process cannot be closed off here"

    def watch(self, requests: int, began: float) -> None:
        """Wait until it ends or has to be ended. Raises `_CancelledError`."""
        deadline = began + self.request["seconds"]
        next_check, longest = began + _TICK, _TICK
        poll = select.poll()
        for source in (requests, self.reader, self.channel.fileno(), *self.listener):
            poll.register(source, select.POLLIN)
        while not self.reason:
            wait = max(0.0, min(next_check, deadline) - time.monotonic())
            ready = dict(poll.poll(math.ceil(1000 * min(wait, longest))))
            if requests in ready:
                raise _CancelledError
            if self.reader in ready and not self._read():
                poll.unregister(self.reader)
            if self.channel.fileno() in ready and not self._listen():
                # The channel closes a moment before the process ends.
                poll.unregister(self.channel)
                longest = _MOMENT
            if any(ready.get(each, 0) & select.POLLIN for each in self.listener):
                self._notice()
            elif longest == _MOMENT and self._ended():
                return
            now = time.monotonic()
            if now >= deadline:
                self.reason = self.reason or self.request["limits"]["seconds"]
            elif now >= next_check:
                self._check_limits()
                next_check = time.monotonic() + _TICK

    def _ended(self) -> bool:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        self.status = status if pid else None
        return pid != 0

    def drain(self) -> None:
        """Read what a program that has ended left in its pipes."""
        while select.select([self.reader], (), (), 0)[0] and self._read():
            pass
        while select.select([self.channel], (), (), 0)[0] and self._listen():
            pass

    def verdict(self, nonce: str) -> tuple[str, str]:
        """The reason of a failure ("" for success), and details."""
        if not self.reason:
            self._check_limits()
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
        data = self.channel.recv(65536)
        self.messages += data
        for message in self._read_messages():
            if (attempt := message.get("attempt")) is not None:
                known = attempt in (program.WRITING, program.READING)
                self.reason = self.reason or (attempt if known else walls.FORBIDDEN)
        if len(self.messages) > _LONGEST:
            self.reason = self.reason or program.EARLY
        return bool(data) and not self.reason

    def _read_messages(self) -> list[dict[str, Any]]:
        messages = []
        for line in self.messages.split(b"\n")[:-1]:
            with contextlib.suppress(ValueError, RecursionError):
                if isinstance(message := json.loads(line), dict):
                    messages.append(message)
        return messages

    def _notice(self) -> None:
        """Read which system call was forbidden; the call itself is never answered."""
        notice = bytearray(_NOTICE.size)
        with contextlib.suppress(OSError):
            ioctl(self.listener[0], _RECEIVE, notice)
            self.reason = self.reason or walls.reason_of(_NOTICE.unpack(notice)[3])

    def _check_limits(self) -> None:
        """Check the limits that the system does not enforce: the number of threads, and all files together."""
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
                # It may be gone or unreadable. A path that is too long counts as too many files.
                files += _FILES + 1 if error.errno == errno.ENAMETOOLONG else 0
            if size > self.request["disk"]:
                self.reason = self.request["limits"]["disk"]
            elif files > _FILES:
                self.reason = _TOO_MANY_FILES


def _remove(folder: str) -> None:
    """Remove a folder, also with nested folders deeper than Python can follow."""
    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        subprocess.run(["rm", "-rf", "--", folder], stdin=subprocess.DEVNULL, capture_output=True)
