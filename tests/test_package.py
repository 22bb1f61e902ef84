"""What importing the package costs and offers."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import outspoken
from outspoken import errors

pytestmark = pytest.mark.core


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_importing_is_light() -> None:
    loaded = set(python("import sys, outspoken; print(*sys.modules)").split())
    assert not loaded & {"numpy", "aiohttp", "pydantic", "asyncio", "jiter", "json_repair", "typer", "rich"}


def test_the_command_line_starts_without_models() -> None:
    loaded = set(python("import sys, outspoken.cli; print(*sys.modules)").split())
    assert not loaded & {"numpy", "aiohttp", "jiter", "json_repair", "jsonschema", "asyncio", "outspoken.api"}


def test_every_public_name_is_there_and_nothing_else() -> None:
    for name in outspoken.__all__:
        assert getattr(outspoken, name) is not None
    assert sorted(outspoken.__all__) == outspoken.__all__ == dir(outspoken)
    with pytest.raises(AttributeError):
        _ = outspoken.nothing  # type: ignore[attr-defined]


def test_the_lazy_names_are_the_typed_ones() -> None:
    code = """
import ast, inspect, outspoken
tree = ast.parse(inspect.getsource(outspoken))
typed = {a.name for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for a in n.names} - {"annotations"}
public = set(outspoken.__all__)
assert public <= typed, public - typed
assert typed - public <= {"TYPE_CHECKING", "attach"}, typed - public
"""
    python(code)


def test_every_error_is_in_the_tree_and_says_whose_fault_it_is() -> None:
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, errors.OutspokenError)
        assert kind.exit_code == (2 if issubclass(kind, errors.UsageError) else 1)


def test_a_missing_extra_is_named() -> None:
    from outspoken._extras import need

    with pytest.raises(errors.MissingExtraError, match=r"pip install 'outspoken\[local\]'"):
        need("no_such_module_anywhere", "local models", "local")


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_the_tests_of_a_group_share_a_process(request: pytest.FixtureRequest) -> None:
    assert request.node.nodeid.endswith("@test_package")
