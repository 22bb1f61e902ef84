"""Build what is shipped, and try it as a user gets it.

    python tools/package.py             build wheel and sdist into dist/, and test the wheel without extras
    python tools/package.py --extras    the wheel of dist/ with each extra alone

It runs in the environment `package`; the wheel is installed into empty ones under build/.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

from environment import LOCK, PARTS, ROOT, Part, SetupError, install, make, python_of, requirements

DIST = ROOT / "dist"
BUILD = ROOT / "build"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What the sdist has to hold so that its tests can be run from it.
IN_SDIST = ("tests/test_package.py", "tests/data", "docs/methods.md", "constraints.txt", "Makefile", "LICENSE")

# Every module imports, or says that it needs an extra which is not among the installed ones.
IMPORTS = """
import importlib, sys
from pathlib import Path
import outspoken
from outspoken._imports import missing_extra
from outspoken.errors import MissingExtraError
installed, wrong, needing = set(sys.argv[1:]), [], {}
root = Path(outspoken.__file__).parent
for file in sorted(root.rglob("*.py")):
    parts = file.relative_to(root.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    if parts[-1] == "__main__":
        continue
    try:
        importlib.import_module(name)
    except Exception as error:
        missing = (missing_extra(error) if isinstance(error, ModuleNotFoundError) else None) or error
        if isinstance(missing, MissingExtraError):
            needing.setdefault(missing.extra, []).append(name)
        else:
            wrong.append(f"{name}: {type(error).__name__}: {error}")
wrong += [f"{name} needs {extra}, which is installed" for extra in installed for name in needing.get(extra, ())]
names = ", ".join(sorted(needing)) or "nothing"
print("\\n".join(wrong) or f"every module imports, or names what it needs: {names}")
sys.exit(bool(wrong))
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", action="store_true")
    try:
        if parser.parse_args().extras:
            try_extras(next(DIST.glob("*.whl")))
        else:
            wheel, sdist = build()
            try_without_extras(wheel, sdist)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(
            f"error: {' '.join(map(str, error.cmd)).splitlines()[0]} failed ({error.returncode})", file=sys.stderr
        )
        return 1
    return 0


def build() -> tuple[Path, Path]:
    shutil.rmtree(DIST, ignore_errors=True)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST, ROOT], quiet=True)
    run([sys.executable, "-m", "twine", "check", "--strict", *DIST.iterdir()])
    (wheel,), (sdist,) = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    top = sdist.name.removesuffix(".tar.gz")
    if lacking := [name for name in IN_SDIST if not any(each.startswith(f"{top}/{name}") for each in names)]:
        raise SetupError(f"{sdist.name} lacks {', '.join(lacking)}: see [tool.hatch.build.targets.sdist]")
    return wheel, sdist


def try_without_extras(wheel: Path, sdist: Path) -> None:
    """The tests of the core, from the sdist, and a user's types, against the installed wheel."""
    python = environment("bare", PARTS["core"], wheel)
    run([python, "-I", "-c", IMPORTS])
    unpacked = BUILD / "sdist"
    shutil.rmtree(unpacked, ignore_errors=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(unpacked, filter="data")
    (folder,) = unpacked.iterdir()
    shutil.rmtree(folder / "src")  # the tests are to find the wheel
    run([python, "-m", "pytest", "-m", "core", "-n", "auto", "-p", "no:cacheprovider"], folder)
    user = folder / "tests/data/downstream.py"
    run([sys.executable, "-m", "mypy", "--strict", "--python-executable", python, user], folder)
    run([sys.executable, "-m", "basedpyright", "--level", "error", "--pythonpath", python, user], folder)


def try_extras(wheel: Path) -> None:
    for extra in PROJECT["optional-dependencies"]:
        started = time.monotonic()
        torch = any(each.startswith("torch") for each in requirements(PROJECT, [extra])) or extra.startswith(
            "sentence"
        )
        python = environment(f"extra-{extra}", Part((extra,), ("core",), torch), wheel)
        print(f"{extra}: ", end="", flush=True)
        run([python, "-I", "-c", IMPORTS, *closure(extra)])
        run([python, "-I", "-m", "pip", "check"], quiet=True)
        run([python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_licences.py"], quiet=True)
        print(f"{extra}: {time.monotonic() - started:.0f} s")
        shutil.rmtree(BUILD / f"extra-{extra}")


def closure(extra: str) -> set[str]:
    """The extras that come with an extra."""
    found = {extra}
    for each in PROJECT["optional-dependencies"][extra]:
        if each.startswith("outspoken["):
            for named in each.removeprefix("outspoken[").removesuffix("]").split(","):
                found |= closure(named)
    return found


def environment(name: str, part: Part, wheel: Path) -> Path:
    """The Python of a new environment with the wheel in it."""
    venv = BUILD / name
    shutil.rmtree(venv, ignore_errors=True)
    venv.parent.mkdir(exist_ok=True)
    make(venv)
    install(venv, part, LOCK, wheel)
    return python_of(venv)


def run(command: Sequence[str | Path], folder: Path = ROOT, *, quiet: bool = False) -> None:
    """Raises `CalledProcessError`; what a quiet command said is shown where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=quiet, text=True, errors="replace")
    if done.returncode:
        if quiet:
            print(done.stdout + done.stderr, file=sys.stderr)
        raise subprocess.CalledProcessError(done.returncode, command)


if __name__ == "__main__":
    sys.exit(main())
