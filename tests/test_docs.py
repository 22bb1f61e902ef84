"""Every snippet of the README and of docs/ is run as it stands there, against real models.

Blocks of Python in one file share one namespace, in order. In a console block the lines that start with `$ ` are
run by bash in one folder a file. A block after `<!-- not run: reason -->` is left alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<skip><!-- not run: .+? -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str]]:
    return [
        (found["kind"], found["body"])
        for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if not found["skip"]
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path) -> None:
    folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("OUTSPOKEN_MODEL", None)
    python = "".join(body for kind, body in blocks(page) if kind == "python")
    commands = "".join(body for kind, body in blocks(page) if kind == "console")
    # `make` is what runs these tests.
    lines = [line[2:] for line in commands.splitlines() if line.startswith("$ ") and line != "$ make demo"]
    script = "\n".join(lines)
    if script:
        run(["bash", "-eu", "-o", "pipefail", "-c", script], tmp_path, environment)
    if python:
        run([sys.executable, "-c", python], tmp_path, environment)


def run(command: list[str], folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
