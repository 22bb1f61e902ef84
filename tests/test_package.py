"""What importing the package costs and offers."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import outspoken
from outspoken import errors

pytestmark = pytest.mark.core


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_is_light() -> None:
    loaded = set(python("import sys, outspoken; print(*sys.modules)").split())
    assert not loaded & {"numpy", "aiohttp", "pydantic", "asyncio", "jiter", "typer", "rich"}


def test_the_command_line_starts_without_models() -> None:
    loaded = set(python("import sys, outspoken.cli; print(*sys.modules)").split())
    assert not loaded & {"numpy", "aiohttp", "jiter", "jsonschema", "asyncio", "outspoken.api"}


def test_every_public_name_is_there_and_nothing_else() -> None:
    for name in outspoken.__all__:
        assert getattr(outspoken, name) is not None
    assert sorted(outspoken.__all__) == outspoken.__all__ == dir(outspoken)
    with pytest.raises(AttributeError):
        _ = outspoken.nothing  # type: ignore[attr-defined]


def test_the_stubs_name_what_the_packages_import_on_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "tools"))
    stubs = dict(importlib.import_module("stubs").stubs(Path(outspoken.__file__).parents[1]))
    assert {file.parent.name for file in stubs} >= {"outspoken", "measure", "theory", "serve", "synth", "training"}
    for file, text in stubs.items():
        assert file.read_text(encoding="utf-8") == text, f"{file} is not current: run `make generated`"
    package = stubs[Path(outspoken.__file__).with_suffix(".pyi")]
    typed = {line.rpartition(" ")[2] for line in package.splitlines() if line.startswith("from outspoken.")}
    assert typed == set(outspoken.__all__)


def test_every_error_is_in_the_tree_and_has_an_exit_code() -> None:
    for name in [name for name in outspoken.__all__ if name.endswith("Error")]:
        kind = getattr(outspoken, name)
        assert issubclass(kind, errors.OutspokenError)
        assert kind.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)


def test_a_missing_extra_is_named() -> None:
    from outspoken._imports import need
    from outspoken._install import install_command

    with pytest.raises(errors.MissingExtraError, match=re.escape(install_command("local"))):
        need("no_such_module_anywhere", "local models", "local")


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_the_tests_of_a_group_share_a_process(request: pytest.FixtureRequest) -> None:
    assert request.node.nodeid.endswith("@test_package")
