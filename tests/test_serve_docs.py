"""The snippets of the README and docs/serve.md that need a running server, unchanged."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

for name in ("starlette", "uvicorn", "httptools", "prometheus_client", "openai", "xllamacpp"):
    pytest.importorskip(name)

from proofs import PROOFS  # noqa: E402
from serve_process import outspoken_serve, scripted  # noqa: E402

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- not run: needs the server -->\n```(?P<kind>\w+)\n(?P<body>.*?)^```$", re.M | re.S)
PLACE = "http://localhost:8000"


@pytest.mark.proof
def test_snippets_run_against_the_server() -> None:
    """By default against a scripted upstream, under `make proofs` against the embedded model."""
    pages = [ROOT / "README.md", ROOT / "docs" / "serve.md"]
    found = [match for page in pages for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]
    assert {match["kind"] for match in found} == {"python", "console"}
    with ExitStack() as stack:
        model = "local/smollm2" if PROOFS else f"{stack.enter_context(scripted()).origin}/v1#smollm2"
        server = stack.enter_context(outspoken_serve("--model", model))
        for match in found:
            body = match["body"].replace(PLACE, server.origin)
            assert PLACE in match["body"]
            lines = [line[2:] for line in body.splitlines() if line.startswith("$ ")]
            command = (
                [sys.executable, "-c", body]
                if match["kind"] == "python"
                else ["bash", "-eu", "-o", "pipefail", "-c", "\n".join(lines)]
            )
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip()
            assert '"error"' not in done.stdout
