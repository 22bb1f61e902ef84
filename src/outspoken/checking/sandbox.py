"""Running untrusted programs, limited in time and memory and isolated from everything else.

The restrictions are Linux's: Landlock for files, a seccomp filter for system calls, limits for memory.
`docs/sandbox.md` describes what they stop and what they do not.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from outspoken.errors import OutspokenError, UsageError

__all__ = ["MIB", "ProgramResult", "Sandbox", "require_sandbox", "run_in_sandbox"]

MIB = 2**20
# This folder comes last on the path: a module in it may have the name of a standard module.
_SERVER = "import sys; sys.path.append(sys.argv[2]); from _sandboxed.server import main; del sys.path[-1]; main()"
_START_SECONDS = 60.0
_SPARE_SECONDS = 30.0
_END_SECONDS = 10.0
_MAX_LINE_BYTES = 2**26
_NO_SANDBOX = (
    "programs cannot be run in a sandbox here: {why}. Verify on Linux 5.13 or later with Landlock and seccomp "
    "(x86_64 or aarch64), for example in a virtual machine, or choose another way to verify"
)


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """How a program ended. It is `ok` if the program and all its tests ran to their end.

    Otherwise `reason` is a short text, the same for each cause: "failed an assertion", "raised ValueError", "took
    longer than 10 s", "tried to open a socket". `details` are about this program: the assertion, or the exception
    and its line. `output` is the beginning of its printed output, `seconds` its duration.
    """

    ok: bool
    reason: str = ""
    details: str = ""
    output: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return "right" if self.ok else f"{self.reason}: {self.details}" if self.details else self.reason


class Sandbox:
    """Runs programs, at most `workers` at once (default: the machine's cores), each in a separate process.

    A program may take `seconds` of wall-clock time and `memory` bytes, print `output` bytes and keep `disk` bytes
    of files in its folder. Use it in an `async with` block, which raises `UsageError` if this system has no
    sandbox: programs never run without one. Leaving the block, or cancelling it, ends all programs and removes
    their folders.
    """

    def __init__(
        self,
        *,
        seconds: float = 10.0,
        memory: int = 512 * MIB,
        output: int = MIB,
        disk: int = 64 * MIB,
        workers: int | None = None,
    ) -> None:
        if seconds <= 0 or memory < 16 * MIB or output < 0 or disk < 0 or (workers is not None and workers < 1):
            raise UsageError(
                "a sandbox needs seconds above 0, memory of at least 16 MiB, output and disk of at least 0 bytes, "
                "and at least 1 worker"
            )
        self._bounds = {"seconds": seconds, "memory": memory, "output": output, "disk": disk}
        self._limits = {
            "seconds": f"took longer than {seconds:g} s",
            "memory": f"used more memory than {memory / MIB:g} MiB",
            "output": f"wrote more than {output / MIB:g} MiB of output",
            "disk": f"wrote more than {disk / MIB:g} MiB into its folder",
        }
        self._slots = asyncio.Semaphore(workers or len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1)
        self._idle: list[_Server] = []

    async def run(
        self, code: str, tests: str | None = None, *, files: Mapping[str, str | bytes] | None = None
    ) -> ProgramResult:
        """Run a program, with `tests` after it in the same module; see `unit_tests.check_program`.

        `files` are written into the folder in which it starts. Raises `UsageError` for a path outside this folder.
        """
        encoded = {}
        for name, content in (files or {}).items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
                raise UsageError(f"a file of a program must be in its folder, and {name!r} is not")
            data = content.encode() if isinstance(content, str) else content
            encoded[name] = base64.b64encode(data).decode()
        request = {"code": code, "tests": tests, "files": encoded, "limits": self._limits, **self._bounds}
        async with self._slots:
            answer = await self._ask(json.dumps(request).encode() + b"\n")
        return ProgramResult(not answer["reason"], **answer)

    async def close(self) -> None:
        """End the processes, and remove their folders."""
        while self._idle:
            await self._idle.pop().end()

    async def __aenter__(self) -> Sandbox:
        self._idle.append(await _start())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _ask(self, request: bytes) -> dict[str, Any]:
        server = self._idle.pop() if self._idle else await _start()
        try:
            answer = await asyncio.wait_for(server.ask(request), self._bounds["seconds"] + _SPARE_SECONDS)
        except TimeoutError as error:
            await server.end()
            raise OutspokenError("the sandbox does not answer: is this machine overloaded?") from error
        except BaseException:
            await server.end()
            raise
        self._idle.append(server)
        return answer


def require_sandbox() -> None:
    """Raise `UsageError` if this system has no sandbox."""
    if sys.platform != "linux":
        raise UsageError(_NO_SANDBOX.format(why="the sandbox exists for Linux only"))
    from outspoken.checking._sandboxed import walls

    try:
        walls.landlock_version()
    except walls.UnsupportedError as error:
        raise UsageError(_NO_SANDBOX.format(why=error)) from error


async def run_in_sandbox(
    code: str,
    *,
    seconds: float = 10.0,
    memory: int = 512 * MIB,
    files: Mapping[str, str | bytes] | None = None,
) -> ProgramResult:
    """Run one program in a new sandbox; raises the errors of `Sandbox`, which is ten times as fast for many."""
    async with Sandbox(seconds=seconds, memory=memory, workers=1) as sandbox:
        return await sandbox.run(code, files=files)


@dataclass(frozen=True, slots=True)
class _Server:
    """A process that runs one program at a time, each in its own folder inside `folder`."""

    process: Process
    folder: str

    async def ask(self, request: bytes = b"") -> dict[str, Any]:
        """The answer to a request; without one, wait until the process is ready. Raises reported errors."""
        writer, reader = self.process.stdin, self.process.stdout
        assert writer is not None
        assert reader is not None
        if request:
            with suppress(ConnectionError):
                writer.write(request)
                await writer.drain()
        line = await reader.readline()
        if not line:
            raise OutspokenError("the process that runs programs has ended: is there memory and disk space left?")
        answer: dict[str, Any] = json.loads(line)
        if why := answer.get("unsupported"):
            raise UsageError(_NO_SANDBOX.format(why=why))
        if why := answer.get("broken"):
            raise OutspokenError(f"a program cannot be run in the sandbox: {why}")
        return answer

    async def end(self) -> None:
        """Close its input: then it kills its program, removes its folder and exits. Otherwise it is killed."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), _END_SECONDS)
        finally:
            if self.process.returncode is None:
                self.process.kill()
                await self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)


async def _start() -> _Server:
    require_sandbox()
    # The user's variables may contain keys: none is passed on. The hash seed makes the order of sets reproducible.
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONUTF8": "1", "PYTHONHASHSEED": "0"}
    # One heap for all threads: each further heap reserves 64 MiB, which count against the limit.
    environment |= {"USER": "nobody", "LOGNAME": "nobody", "TZ": "UTC", "MALLOC_ARENA_MAX": "1"}
    if (libraries := os.environ.get("LD_LIBRARY_PATH")) is not None:
        environment["LD_LIBRARY_PATH"] = libraries
    folder = tempfile.mkdtemp(prefix="outspoken-sandbox-")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-s", "-S", "-P", "-B", "-c", _SERVER, folder, str(Path(__file__).parent)),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        env=environment,
        cwd="/",
        start_new_session=True,
        limit=_MAX_LINE_BYTES,
    )
    server = _Server(process, folder)
    try:
        await asyncio.wait_for(server.ask(), _START_SECONDS)
    except BaseException:
        await server.end()
        raise
    return server
