"""Every snippet of the README and of docs/ is run as it stands there.

Blocks of Python in one file share one namespace, in order. In a console block the lines that start with `$ ` are
run by bash in one folder a file. A block after `<!-- not run: reason -->` is left alone.

The embedded model's replies are recorded ones (`tests/recorded`), and where it is trained or scores texts a random
model of two layers has its place. `make proofs` runs the snippets with the real model. Where a snippet has changed,
`OUTSPOKEN_RECORD=1 pytest tests/test_docs.py` records its replies again.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from proofs import PROOFS

from outspoken.models import weight_files

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?P<skip><!-- not run: .+? -->\n)?^```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.M | re.S)
RECORDED = Path(__file__).parent / "recorded"
RECORD = os.environ.get("OUTSPOKEN_RECORD", "") not in ("", "0")


def blocks(page: Path) -> list[tuple[str, str]]:
    return [
        (found["kind"], found["body"])
        for found in BLOCK.finditer(page.read_text(encoding="utf-8"))
        if not found["skip"]
    ]


@pytest.fixture(scope="session")
def cache(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the models of the user's, but that the tiny one has the place of the unpacked embedded one."""
    made = tmp_path_factory.mktemp("cache")
    (made / "models" / "converted").mkdir(parents=True)
    for name in ("smollm2", "minilm"):
        path = weight_files.get(name)
        for file in path.parent.glob(f"{path.name}*"):
            (made / "models" / file.name).symlink_to(file)
    with weight_files.TABLE["smollm2"].path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    for dtype in ("bfloat16", "float32"):
        (made / "models" / "converted" / f"{digest}-{dtype}").symlink_to(tiny)
    return made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_snippets_of_a_page_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("OUTSPOKEN_MODEL", None)
    recording = RECORDED / f"{page.stem}.jsonl"
    if not PROOFS:
        if RECORD:
            recording.unlink(missing_ok=True)
        environment["OUTSPOKEN_CACHE"] = str(request.getfixturevalue("cache"))
        environment["OUTSPOKEN_RECORDED"] = str(recording)
        environment["PYTHONPATH"] = str(RECORDED)
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
