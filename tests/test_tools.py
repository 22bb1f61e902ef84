"""What make calls: what goes wrong is one line with its remedy, and nothing half made is in the way of a second try."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ROOT / "tools"


class Empty(BaseHTTPRequestHandler):
    """A package index without a package."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://me:hushhush@127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def environment(*words: Any, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return subprocess.run(
        [sys.executable, TOOLS / "environment.py", *map(str, words)],
        env={**kept, "PIP_CONFIG_FILE": os.devnull, "NO_PROXY": "127.0.0.1", **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("environment")


def test_an_index_without_a_pinned_version(index: str, tmp_path: Path) -> None:
    for _ in range(2):  # the second try finds what the first one left
        done = environment("demo", "--venv", tmp_path / "venv", PIP_INDEX_URL=index, PIP_RETRIES="0")
        assert done.returncode == 1
        about, error = done.stderr.splitlines()
        assert about.startswith("setting up ")
        assert error.startswith("error: your package index has no ")
        assert "make lock" in error
        assert "hushhush" not in done.stderr


def test_a_folder_that_cannot_be_written() -> None:
    done = environment("demo", "--venv", "/proc/nobody/venv")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 2)
    assert "make VENV=" in done.stderr


def test_an_environment_that_is_as_wanted_is_left_alone(tmp_path: Path, module: Any) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(sys.executable)
    stamp = venv / ".outspoken-demo"
    arguments = type("Arguments", (), {"part": "demo", "latest": False, "constraints": module.LOCK})
    stamp.write_text(module._digest(arguments))
    assert environment("demo", "--venv", venv).stderr == ""
    arguments.part = "check"
    assert module._digest(arguments) != stamp.read_text()


def test_other_versions_of_python_are_refused(
    tmp_path: Path, module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "NEWEST", (3, 5))
    with pytest.raises(module.SetupError, match=r"Python 3\.11 to 3\.5 is supported, this is"):
        module._check_version()
    (tmp_path / "pyvenv.cfg").write_text("version = 3.2.1\n")
    with pytest.raises(module.SetupError, match=r"is of Python 3.2, .* `make clean` first"):
        module.make(tmp_path)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "ERROR: No matching distribution found for ray==2.60.0\n",
            "your package index has no ray==2.60.0 for Python",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
            "no room left",
        ),
        ("ERROR: Could not install: [Errno 30] Read-only file system: '/home/x/y'\n", "cannot write /home/x/y"),
        ("ERROR: [Errno 13] Permission denied: '/home/x'\n", "cannot write /home/x"),
        ("ERROR: 403 for url: https://me:hushhush@host/simple/x\n", "pip failed: 403 for url: (the index)"),
        ("", "pip failed: it gave no reason"),
    ],
)
def test_what_pip_says_becomes_one_line(said: str, line: str, module: Any) -> None:
    found = module._reason(f"Collecting x\n{said}" if said else "", Path("/v"))
    assert line in found
    assert "hushhush" not in found
    assert "\n" not in found


def test_without_python_make_says_what_to_do(tmp_path: Path) -> None:
    make, shell = shutil.which("make"), shutil.which("sh")
    if make is None or shell is None:
        pytest.skip("make is absent")
    for program in ("sh", "test", "expr", "getconf"):
        if (found := shutil.which(program)) is not None:
            (tmp_path / program).symlink_to(found)
    done = subprocess.run([make, "demo"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no Python 3.11 to 3.14 is on the PATH: make demo PYTHON=")


def test_the_lock_is_of_names_and_versions_alone(module: Any) -> None:
    lines = [line for line in module.LOCK.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert len(lines) > 100
    assert all("==" in line and "://" not in line and "--" not in line for line in lines)


def test_notes_of_a_release_need_its_version() -> None:
    done = subprocess.run(
        [sys.executable, TOOLS / "release_notes.py", "v9.9.9"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "the tag is v9.9.9" in done.stderr
