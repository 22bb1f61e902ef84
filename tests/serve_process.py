"""Servers as processes of their own: `outspoken serve`, the scripted server of `faults.py`, and llama.cpp's own:

    python tests/serve_process.py MODEL.gguf NAME

serves the file under this name until its standard input ends; the first line of its standard output is its address.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Process", "llama_cpp", "outspoken_serve", "scripted"]

_SECONDS_TO_START = 60
_SECONDS_TO_STOP = 40
_KEPT = ("OUTSPOKEN_CACHE", "OUTSPOKEN_OFFLINE")  # where the embedded model is; other variables may be the user's
_SAID = re.compile(r"^serving .* at (http://\S+)/v1, the page at ", re.MULTILINE)


@dataclass
class Process:
    """A running server: its address, and what it has written to standard error so far."""

    origin: str
    pid: int
    _said: list[str] = field(default_factory=list)

    @property
    def base_url(self) -> str:
        return f"{self.origin}/v1"

    @property
    def stderr(self) -> str:
        return "".join(self._said)


@contextmanager
def outspoken_serve(*options: str, env: Mapping[str, str] | None = None) -> Iterator[Process]:
    """`outspoken serve` with these options at a free port, once it listens. Stopped as a person does it, by
    Ctrl-C, it must end with exit code 0."""
    command = [sys.executable, "-m", "outspoken", "serve", "--port", "0", *options]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OUTSPOKEN_")}
    clean |= {name: os.environ[name] for name in _KEPT if name in os.environ}
    said: list[str] = []
    ready = threading.Event()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**clean, "NO_PROXY": "127.0.0.1", "COLUMNS": "200", "NO_COLOR": "1", **(env or {})},
    ) as process:

        def read() -> None:
            assert process.stderr is not None
            for line in process.stderr:
                said.append(line)
                if _SAID.match(line):
                    ready.set()
            ready.set()

        reading = threading.Thread(target=read)
        reading.start()
        try:
            ready.wait(_SECONDS_TO_START)
            found = _SAID.search("".join(said))
            assert found, f"outspoken serve does not say that it serves: {''.join(said)}"
            yield Process(found[1], process.pid, said)
            process.send_signal(signal.SIGINT)
            assert process.wait(_SECONDS_TO_STOP) == 0, "".join(said)
        finally:
            process.kill()
            reading.join()
    assert "Traceback" not in "".join(said), "".join(said)


@contextmanager
def llama_cpp(model: Path, name: str) -> Iterator[Process]:
    """llama.cpp's own OpenAI-compatible server for a GGUF file, which it calls `name`."""
    with _reporting(__file__, str(model), name) as (process, line):
        assert line.startswith("http://127.0.0.1:"), f"llama.cpp does not start: {line!r}"
        yield Process(line, process.pid)


@contextmanager
def scripted() -> Iterator[Process]:
    """The server of `faults.py`, with valid and immediate replies; no two texts are the same."""
    faults = str(Path(__file__).with_name("faults.py"))
    with _reporting(faults, "--seed", "1", "--share", "0", "--log", os.devnull) as (process, line):
        yield Process(f"http://127.0.0.1:{int(line)}", process.pid)


@contextmanager
def _reporting(*command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A Python program, and the first line of its output."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, *command], stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def _main(model: str, name: str) -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.verbosity, params.fit_params = model, -1, False
    params.hostnames, params.port, params.model_alias = ["127.0.0.1"], 0, {name}
    params.n_parallel, params.n_ctx = 4, 4 * 4096
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _main(*sys.argv[1:])
