"""Set up one of make's virtual environments, in exact versions, and say in one line what went wrong.

    python tools/environment.py PART --venv FOLDER     PART: demo, test, core, check, bench, package, lock
    python tools/environment.py PART --venv FOLDER --latest      the newest versions, upper bounds left out
    python tools/environment.py PART --venv FOLDER --constraints FILE

An environment that is already as the files ask is left alone: nothing is fetched, which takes a tenth of a second.
Standard library only: it runs before anything is installed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "constraints.txt"
OLDEST, NEWEST = (3, 11), (3, 14)
# Installed first, at the versions of the lock: what installs, and what builds the package.
SETUP = ("pip", "hatchling", "editables")
# Packages that publish no wheel; they are pure Python, so no compiler is needed for any part.
SOURCE_ONLY = ("rouge-score",)


@dataclass(frozen=True, slots=True)
class Part:
    """What one environment holds: extras of the package, groups of pyproject.toml, and whether torch."""

    extras: tuple[str, ...]
    groups: tuple[str, ...]
    torch: bool = False


PARTS = {
    "demo": Part(("local",), ()),
    "core": Part((), ("core",)),
    "test": Part(("all", "train"), ("core", "test"), torch=True),
    "check": Part(("serve", "synth"), ("core", "check")),
    "bench": Part(("local", "ray", "serve", "synth"), ("bench",)),
    "package": Part((), ("package",)),
    "lock": Part((), ("lock",)),
}


class SetupError(Exception):
    """One line for the user: what is wrong and what to do."""


def main() -> int:
    arguments = _arguments()
    part, venv = PARTS[arguments.part], arguments.venv.absolute()
    stamp = venv / f".outspoken-{arguments.part}"
    wanted = _digest(arguments)
    if stamp.is_file() and stamp.read_text(encoding="ascii") == wanted and python_of(venv).exists():
        return 0
    started = time.monotonic()
    try:
        _check_version()
        _say(f"setting up {arguments.venv} for {arguments.part} with Python {_version(sys.version_info)}")
        make(venv)
        stamp.unlink(missing_ok=True)
        if arguments.latest:
            _install_latest(venv, part)
        else:
            install(venv, part, arguments.constraints)
        stamp.write_text(wanted, encoding="ascii")
    except SetupError as error:
        _say(f"error: {error}")
        return 1
    except OSError as error:
        _say(f"error: cannot write {error.filename or venv} ({error.strerror}): make VENV=/a/folder/of/yours")
        return 1
    except KeyboardInterrupt:
        _say("interrupted: the same command goes on")
        return 130
    _say(f"set up in {time.monotonic() - started:.0f} s")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--venv", type=Path, default=Path(".venv"))
    parser.add_argument("--constraints", type=Path, default=LOCK)
    parser.add_argument("--latest", action="store_true")
    return parser.parse_args()


def _check_version() -> None:
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise SetupError(
            f"Python {_version(OLDEST)} to {_version(NEWEST)} is supported, this is {_version(sys.version_info)}: "
            f"make PYTHON=/path/to/python{_version(NEWEST)}"
        )


def _digest(arguments: argparse.Namespace) -> str:
    """Of all that the environment depends on: another file or another Python sets it up again."""
    digest = hashlib.sha256(repr((arguments.part, arguments.latest, PARTS[arguments.part])).encode())
    for file in (ROOT / "pyproject.toml", arguments.constraints, Path(__file__)):
        digest.update(file.read_bytes() if file.is_file() else b"")
    return f"{_version(sys.version_info)} {digest.hexdigest()}\n"


def make(venv: Path) -> None:
    """Create the environment, or check the one that is there; a half-made one is repaired."""
    config = venv / "pyvenv.cfg"
    known = (
        re.search(r"^version(?:_info)? *= *(\d+\.\d+)", config.read_text("utf-8"), re.M)
        if config.is_file()
        else None
    )
    if known and known[1] != _version(sys.version_info):
        raise SetupError(
            f"{venv} is of Python {known[1]}, this is {_version(sys.version_info)}: `make clean` first"
        )
    if not known or not _works(venv):
        existed = venv.exists()
        done = subprocess.run([sys.executable, "-m", "venv", str(venv)], capture_output=True, text=True)
        if done.returncode:
            if not existed:
                shutil.rmtree(venv, ignore_errors=True)
            said = done.stdout + done.stderr
            if "ensurepip" in said:
                raise SetupError("this Python cannot make environments: install its venv module (python3-venv)")
            raise SetupError(_reason(said, venv))


def _works(venv: Path) -> bool:
    return (
        python_of(venv).exists()
        and not subprocess.run([python_of(venv), "-m", "pip", "--version"], capture_output=True).returncode
    )


def install(venv: Path, part: Part, constraints: Path = LOCK, wheel: Path | None = None) -> None:
    """Install a part at fixed versions: the package of this checkout, or a wheel of it."""
    if not constraints.is_file():
        raise SetupError(f"there is no {constraints}: `make lock` makes it")
    fixed = ["--constraint", str(constraints)]
    _pip(venv, [*SETUP, *fixed])
    if part.torch:
        # By itself, so that a CPU build that pip is set up to find is taken, and kept by what follows.
        _pip(venv, ["torch", *fixed])
    extras = f"[{','.join(part.extras)}]" if part.extras else ""
    own = ["--editable", f"{ROOT}{extras}", "--no-build-isolation"] if wheel is None else [f"{wheel}{extras}"]
    sources = [f"--no-binary={','.join(SOURCE_ONLY)}"]
    _pip(venv, ["--only-binary=:all:", *sources, *own, *_groups(part), *fixed])


def _install_latest(venv: Path, part: Part) -> None:
    """The newest of everything: upper bounds in pyproject.toml are for users, and this looks beyond them."""
    newest = ["--upgrade", "--upgrade-strategy", "eager"]
    _pip(venv, [*newest, *SETUP])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = sorted({re.sub(r",?<[^,;]+", "", each) for each in requirements(project, part.extras)})
    _pip(venv, [*newest, *wanted, *_groups(part)])
    _pip(venv, ["--no-deps", "--no-build-isolation", "--editable", str(ROOT)])


def requirements(project: dict[str, Any], extras: Sequence[str]) -> Iterator[str]:
    """The requirements of the package with these extras, those of extras named by extras included."""
    yield from project["dependencies"]
    waiting, seen = deque(extras), set()
    while waiting:
        extra = waiting.popleft()
        if extra in seen:
            continue
        seen.add(extra)
        for each in project["optional-dependencies"][extra]:
            if named := re.fullmatch(r"outspoken\[(.+)\]", each):
                waiting.extend(named[1].split(","))
            else:
                yield each


def _groups(part: Part) -> list[str]:
    return [word for group in part.groups for word in ("--group", f"{ROOT / 'pyproject.toml'}:{group}")]


def _pip(venv: Path, words: Sequence[str]) -> None:
    """`pip install`, silent but for a live line in a terminal. Compiling to bytecode is left to the first import:
    most of what is installed is never imported."""
    command = [
        str(python_of(venv)),
        "-I",
        "-m",
        "pip",
        "install",
        "--no-compile",
        "--no-input",
        "--progress-bar=off",
    ]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONUNBUFFERED": "1"}
    said: deque[str] = deque(maxlen=400)
    with subprocess.Popen(
        [*command, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        cwd=ROOT,
        env=environment,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            said.append(line)
            _live(line)
    _live("")
    if child.returncode:
        raise SetupError(_reason("".join(said), venv))


def _reason(said: str, venv: Path) -> str:
    """What went wrong, as one line with its remedy. Addresses are left out: they may hold a password."""
    said = re.sub(r"\w+://[^\s'\",)]+", "(the index)", said)
    python = f"Python {_version(sys.version_info)} on {sys.platform}"
    lacking = re.search(r"No matching distribution found for (\S+)", said)
    if lacking is None and "ResolutionImpossible" in said:
        # pip itself is installed already, and the index has no other version of it.
        lacking = re.search(r"The user requested \(constraint\) (\S+)", said)
    if lacking:
        return (
            f"your package index has no {lacking[1]} for {python}: point pip at an index that has it, or "
            "`make lock` chooses versions that yours has"
        )
    if "No space left on device" in said:
        return f"no room left for {venv}: free 4 GB (or TMPDIR), then the same command goes on"
    if denied := re.search(
        r"(?:Permission denied|Read-only file system|No such file or directory): '([^']+)'", said
    ):
        return f"cannot write {denied[1]}: make VENV=/a/folder/of/yours"
    if "Read-only file system" in said or "Permission denied" in said:
        return f"cannot write {venv}: make VENV=/a/folder/of/yours"
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    lines = errors or said.strip().splitlines() or ["it gave no reason"]
    return f"pip failed: {lines[-1]}"


def python_of(venv: Path) -> Path:
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _version(version: Sequence[int]) -> str:
    return ".".join(map(str, version[:2]))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _live(line: str) -> None:
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\033[2K{' '.join(line.split())[:width]}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
