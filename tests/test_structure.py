"""What holds for the package as a whole: names, rooms, and what is generated from the declarations."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import outspoken
from outspoken.batch.settings import RunSettings

pytestmark = pytest.mark.core

PACKAGE = Path(outspoken.__file__).parent
PACKAGES = [
    "outspoken",
    *(
        f"outspoken.{each}"
        for each in (
            ".".join(path.parent.relative_to(PACKAGE).parts) for path in sorted(PACKAGE.rglob("*/__init__.py"))
        )
    ),
]
ROOT = Path(__file__).parent.parent


def exported(package: str) -> set[str]:
    """The public names of a package, read without importing it: some packages need an extra."""
    file = PACKAGE.joinpath(*package.split(".")[1:], "__init__.py")
    names: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if not isinstance(target, ast.Name) or target.id not in ("__all__", "_HOMES"):
            continue
        value = ast.literal_eval(node.value) if isinstance(node, ast.Assign) else ()
        names |= {name for home in value.values() for name in home} if isinstance(value, dict) else set(value)
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_no_module_bears_the_name_of_something_its_package_exports(package: str) -> None:
    folder = PACKAGE.joinpath(*package.split(".")[1:])
    modules = {module.name for module in pkgutil.iter_modules([str(folder)])}
    assert not exported(package) & modules


@pytest.mark.parametrize("package", PACKAGES[1:])
def test_every_room_says_what_lives_in_it(package: str) -> None:
    file = PACKAGE.joinpath(*package.split(".")[1:], "__init__.py")
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert text
    assert len(text) > 60, f"{package}: what lives here, what it may import, where a new thing of its kind goes"


def test_class_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path.relative_to(PACKAGE)))
    assert not {name: files for name, files in places.items() if len(files) > 1}


def test_what_is_generated_is_current() -> None:
    if not (ROOT / "tools/options.py").is_file() or not (ROOT / "src").is_dir():
        pytest.skip("needs the source tree")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/options.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["verbalize", "averbalize", "stream", "astream", "run", "arun"])
def test_help_names_every_option_with_its_default(name: str) -> None:
    text = inspect.getdoc(getattr(outspoken, name)) or ""
    settings: list[Any] = [outspoken.Settings, *([RunSettings] if name.endswith("run") else [])]
    for entry in (entry for each in settings for entry in fields(each)):
        line = next((line for line in text.splitlines() if line.strip().startswith(f"{entry.name}: ")), None)
        assert line is not None, f"{name} does not describe {entry.name}"
    assert text.count("Default") >= sum(len(fields(each)) for each in settings)


def defined(module: str) -> set[str]:
    """The names at the top level of a module and its submodules, read without importing it."""
    place = PACKAGE.parent.joinpath(*module.split("."))
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    names = {path.stem for path in place.glob("*")} if place.is_dir() else set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names | exported(module) if place.is_dir() else names


@pytest.mark.parametrize("folder", ["benchmarks", "experiments", "tools"])
def test_programs_beside_the_package_import_what_exists(folder: str) -> None:
    missing = [
        f"{file.relative_to(ROOT)}: {node.module}.{alias.name}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "outspoken"
        for alias in node.names
        if alias.name not in defined(node.module)
    ]
    assert not missing
