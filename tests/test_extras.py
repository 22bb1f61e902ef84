"""What a command says where the extra that it needs is missing, and that its help needs none."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from outspoken import _install
from outspoken._imports import missing_extra
from outspoken._install import install_command
from outspoken.cli.app import app
from outspoken.errors import MissingExtraError

pytestmark = pytest.mark.core


def commands(command: Any, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [words]
    for name, each in getattr(command, "commands", {}).items():
        found += commands(each, (*words, name))
    return found


@pytest.mark.parametrize("words", commands(typer.main.get_command(app)), ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [*words, "--help"], env={"TERM": "dumb"})
    assert done.exit_code == 0
    assert "Usage: " in done.stdout
    assert "Example: " in done.stdout or words in [("models",), ("ledger",)]


# A module that only this extra brings, and a command that needs the extra.
NEEDING = [
    ("xllamacpp", "local", ["ask", "x"]),
    ("xllamacpp", "local", ["run", "prompts.txt", "--out", "out.jsonl"]),
    ("polars", "tables", ["run", "prompts.txt", "--out", "out.parquet"]),
    ("any_llm", "providers", ["ask", "x", "--model", "anthropic/claude"]),
    (
        "ray",
        "ray",
        ["run", "prompts.txt", "--out", "o.jsonl", "--engine", "ray", "--model", "http://127.0.0.1:9/v1#m"],
    ),
    ("scipy", "measure", ["measure", "responses.jsonl"]),
    ("scipy", "measure", ["compare", "x", "--model", "http://127.0.0.1:9/v1#m"]),
    ("scipy", "measure", ["experiment", "dice", "--out", "dice"]),
    ("scipy", "measure", ["sharpen", "counts.json", "--alpha", "1", "--beta", "1"]),
    ("scipy", "measure", ["levels", "counts.json", "--gamma", "2"]),
    ("scipy", "measure", ["typicality", "responses.jsonl", "--base", "local/smollm2"]),
    ("scipy", "measure", ["score", "a", "b", "--model", "local/smollm2"]),
    ("starlette", "serve", ["serve", "--model", "http://127.0.0.1:9/v1#m"]),
    ("rensa", "synth", ["synth", "questions", "--out", "questions", "--model", "http://127.0.0.1:9/v1#m"]),
    ("trl", "train", ["train", "responses.jsonl", "--out", "student"]),
    ("trl", "train", ["evaluate", "responses.jsonl", "--student", "base=local/smollm2", "--out", "results"]),
]


@pytest.mark.parametrize(
    ("module", "extra", "words"), NEEDING, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_command_says_which_extra_it_needs(module: str, extra: str, words: list[str], tmp_path: Path) -> None:
    if find_spec(module) is not None:
        pytest.skip(f"the extra {extra!r} is installed")
    (tmp_path / "prompts.txt").write_text("Name a fruit.\n")
    (tmp_path / "responses.jsonl").write_text('{"prompt": "a", "text": "b"}\n')
    (tmp_path / "counts.json").write_text('{"a": 3, "b": 1}')
    done = subprocess.run(
        [sys.executable, "-m", "outspoken", *words],
        cwd=tmp_path,
        env={**os.environ, "NO_COLOR": "1", "OUTSPOKEN_OFFLINE": "1", "ANTHROPIC_API_KEY": "none"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    # rich before 14.3 adds a blank line.
    (error,) = [line for line in done.stderr.splitlines() if line and "using local/smollm2" not in line]
    assert done.returncode == 2
    assert error.startswith("error: ")
    # `synth` and `score` need what `measure` brings before anything of their own.
    assert install_command(extra) in error or install_command("measure") in error


@pytest.mark.parametrize(
    ("origin", "wanted"),
    [
        (None, "'outspoken[serve]'"),
        ({"url": "file:///tmp/o.whl", "archive_info": {}}, "'outspoken[serve] @ file:///tmp/o.whl'"),
        ({"url": "file:///src/o", "dir_info": {}}, "'outspoken[serve] @ file:///src/o'"),
        (
            {"url": "https://host/o.git", "vcs_info": {"vcs": "git", "commit_id": "4d22cf9"}},
            "'outspoken[serve] @ git+https://host/o.git@4d22cf9'",
        ),
    ],
)
def test_an_installed_package_is_installed_again_from_where_it_came(
    origin: dict[str, Any] | None, wanted: str, tmp_path: Path
) -> None:
    (tmp_path / "outspoken").mkdir()
    (tmp_path / "outspoken/__init__.py").touch()
    shutil.copy(_install.__file__, tmp_path / "outspoken/_install.py")
    (tmp_path / "outspoken-0.1.0.dist-info").mkdir()
    (tmp_path / "outspoken-0.1.0.dist-info/METADATA").write_text("Name: outspoken\nVersion: 0.1.0\n")
    if origin is not None:
        (tmp_path / "outspoken-0.1.0.dist-info/direct_url.json").write_text(json.dumps(origin))
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import outspoken._install as i; print(i.install_command('serve'))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    # Without site-packages there is no pip.
    assert done.stdout == f"uv pip install {wanted}\n"


def test_a_checkout_is_installed_from_its_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = Path(_install.__file__).parents[2]
    if not (root / "pyproject.toml").exists():
        pytest.skip("the package is installed")
    monkeypatch.chdir(root)
    assert install_command("serve").endswith("pip install -e '.[serve]'")
    monkeypatch.chdir(tmp_path)
    assert install_command("serve").endswith(f"pip install -e '{root}[serve]'")


def test_an_import_that_fails_names_the_extra_of_its_package() -> None:
    def lacking(package: str, module: str) -> MissingExtraError | None:
        try:
            exec(f"import {module}", {"__name__": f"outspoken.{package}"})
        except ModuleNotFoundError as error:
            return missing_extra(error)
        raise AssertionError(f"{module} is there")

    found = lacking("serve.app", "no_such_module_anywhere")
    assert found is not None
    assert (found.extra, str(found)) == ("serve", f"outspoken.serve needs an extra: {install_command('serve')}")
    assert lacking("parsing.lists", "no_such_module_anywhere") is None  # the core has no extra
    assert lacking("serve.app", "outspoken.no_such_module") is None  # our own fault
