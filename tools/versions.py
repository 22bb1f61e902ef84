"""The versions that make installs: choose them again, the lowest ones, and what has come out since.

    python tools/versions.py lock           write constraints.txt
    python tools/versions.py lowest FILE    the lowest versions that pyproject.toml allows for the core
    python tools/versions.py newer          how this environment differs from constraints.txt

`lock` and `lowest` need uv in this environment; it asks the index that $UV_INDEX_URL names, or its default.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "constraints.txt"
PROJECT = ROOT / "pyproject.toml"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lock")
    commands.add_parser("lowest").add_argument("file", type=Path)
    commands.add_parser("newer")
    arguments = parser.parse_args()
    if arguments.command == "newer":
        return newer()
    return lock() if arguments.command == "lock" else lowest(arguments.file)


def lock() -> int:
    """One resolution for every supported Python and system, with names and versions alone."""
    before = _pinned()
    groups = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["dependency-groups"]
    wanted = ["--all-extras", *(word for group in sorted(groups) for word in ("--group", group))]
    failed = _compile(LOCK, ["--universal", "--python-version", "3.11", "--upgrade", *wanted], "make lock")
    if not failed:
        after = _pinned()
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                print(f"{name} {_shown(before.get(name))} -> {_shown(after.get(name))}")
        print(f"{LOCK.name}: {len(after)} packages")
    return failed


def lowest(file: Path) -> int:
    groups = ["--group", "core", "--group", "setup"]
    return _compile(file, ["--resolution", "lowest-direct", *groups], "make lowest")


def newer() -> int:
    """Print each installed package whose version is not one that constraints.txt names."""
    pinned = _pinned()
    changed = 0
    for found in sorted(importlib.metadata.distributions(), key=lambda each: each.name.lower()):
        wanted = pinned.get(_normal(found.name))
        if wanted is not None and found.version.split("+")[0] not in wanted:
            changed += 1
            print(f"{found.name} {_shown(wanted)} -> {found.version}")
    print(f"{changed} of {len(pinned)} locked packages differ here")
    return 0


def _compile(target: Path, words: list[str], called: str) -> int:
    uv = Path(sys.executable).with_name("uv")
    command = [str(uv), "pip", "compile", PROJECT.name, "--no-annotate", "--quiet", "--output-file", str(target)]
    return subprocess.run([*command, "--custom-compile-command", called, *words], cwd=ROOT).returncode


def _pinned() -> dict[str, set[str]]:
    """Each package of constraints.txt with its versions: there may be several, for several Pythons."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", LOCK.read_text(encoding="utf-8"), re.M):
        found.setdefault(_normal(name), set()).add(version)
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _shown(versions: set[str] | None) -> str:
    return ", ".join(sorted(versions)) if versions else "(none)"


if __name__ == "__main__":
    sys.exit(main())
