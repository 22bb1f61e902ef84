"""The README's Python, in a real Jupyter kernel, whose event loop is already running."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
pytest.importorskip("ipykernel", reason="ipykernel is not installed")

README = Path(__file__).parent.parent / "README.md"


def test_the_readme_runs_in_a_notebook_and_shows_a_table(tmp_path: Path) -> None:
    snippets = re.findall(r"(?<!-->\n)^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
    cells = [nbformat.v4.new_code_cell(snippet) for snippet in snippets]
    cells.append(nbformat.v4.new_code_cell("distribution"))
    cells.append(
        nbformat.v4.new_code_cell("(await outspoken.averbalize('Name a fruit.', k=2, seed=1)).draw().text")
    )
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    (shown,) = [out for out in notebook.cells[-2].outputs if out.output_type == "execute_result"]
    assert '<table class="outspoken">' in shown.data["text/html"]
