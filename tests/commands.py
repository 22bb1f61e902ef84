"""Commands in processes of their own, started quickly: a process that has imported the command line forks for each.

`Commands` starts that process; run as a program, this file is it. Each child gets real files as its standard streams.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 120


@dataclass(frozen=True)
class Done:
    """How a command ended: its exit code and what it wrote. On a terminal, standard error is part of `out`."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()


class Commands:
    """Runs commands one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONWARNINGS": "ignore::DeprecationWarning"},
        )

    def __call__(
        self,
        *words: object,
        stdin: bytes = b"",
        columns: int = 80,
        encoding: str = "utf-8",
        stdout: str = "",
        stderr: str = "",
        terminal: bool = False,
        env: dict[str, str] | None = None,
    ) -> Done:
        """Run `outspoken WORDS`. `stdout` and `stderr` are the name of a device, "closed", or "gone" (a pipe that
        nobody reads)."""
        job = {
            "words": list(map(str, words)),
            "encoding": encoding,
            "streams": ["", stdout, stderr],
            "terminal": terminal,
            "env": {"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "xterm", **(env or {})},
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "0").write_bytes(stdin)
            self._process.stdin.write(json.dumps(job | {"folder": folder}).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            assert answer, "the process that starts the commands has ended"
            out, err = (Path(folder, name) for name in ("1", "2"))
            return Done(
                json.loads(answer),
                out.read_bytes() if out.exists() else b"",
                err.read_bytes().decode(encoding) if err.exists() else "",
            )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.communicate(timeout=SECONDS)


# What most commands import; each child finds it imported.
_IMPORTED = (
    "aiohttp",
    "jsonschema",
    "outspoken.api",
    "outspoken.cli.app",
    "outspoken.cli.measure_tables",
    "outspoken.cli.progress",
    "outspoken.cli.screen",
    "outspoken.ledger.checks",
    "outspoken.measure.api",
    "outspoken.models.replay",
    "outspoken.parsing",
    "outspoken.theory.gamma_sources",
    "outspoken.theory.level_simulation",
    "outspoken.theory.report",
    "outspoken.theory.sharpening_exponent",
    "rich.live",
    "rich.progress",
    "rich.spinner",
    "scipy.stats",
    "typer.rich_utils",
)


def _serve() -> None:
    import pty
    import select
    import signal
    import time

    for name in _IMPORTED:
        with contextlib.suppress(ImportError):  # of an extra that is not installed
            importlib.import_module(name)
    jobs, answers = os.dup(0), os.dup(1)
    for line in os.fdopen(jobs, "rb"):
        job = json.loads(line)
        reader = None
        if job["terminal"]:
            child, reader = pty.fork()
        else:
            child = os.fork()
        if not child:
            os.close(answers)
            _become(job)
        ends, output = time.monotonic() + SECONDS, b""
        while True:
            if reader is not None and select.select([reader], [], [], 0.01)[0]:
                try:
                    output += os.read(reader, 65536)
                    continue
                except OSError:  # Linux reports the end of a terminal so
                    pass
            if time.monotonic() > ends:
                os.kill(child, signal.SIGKILL)
            ended, status = os.waitpid(child, os.WNOHANG if reader is not None else 0)
            if ended:
                break
        if reader is not None:
            os.close(reader)
            Path(job["folder"], "1").write_bytes(output)
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))


def _become(job: dict[str, Any]) -> None:
    """Turn this child into the command."""
    import io

    from outspoken.cli import main

    os.environ.update(job["env"])
    if not job["terminal"]:
        for number, fate in enumerate(job["streams"]):
            if fate == "closed":
                os.close(number)
                continue
            if fate == "gone":
                reading, writing = os.pipe()
                os.close(reading)
            else:
                flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT
                writing = os.open(fate or os.path.join(job["folder"], str(number)), flags, 0o600)
            os.dup2(writing, number)
            os.close(writing)
    # As the interpreter does it when it starts.
    streams: list[Any] = []
    for number, errors in enumerate(("strict", "strict", "backslashreplace")):
        try:
            raw = os.fdopen(number, "rb" if number == 0 else "wb", closefd=False)
        except OSError:
            streams.append(None)
            continue
        streams.append(
            io.TextIOWrapper(raw, job["encoding"], errors, line_buffering=number == 2 or job["terminal"])
        )
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.argv = ["outspoken", *job["words"]]
    code: object = 70
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    except BaseException:
        import traceback

        traceback.print_exc()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        code = 120  # as the interpreter ends if it cannot flush
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    _serve()
