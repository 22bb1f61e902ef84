"""Write the type stubs of the packages that import their public names on first use (`outspoken._imports.attach`).

    python tools/stubs.py

A package's `__init__.py` declares in `_HOMES` which module defines each public name, and in `_MODULES` which of
its modules are public. Its `__init__.pyi` says the same to type checkers, with ordinary imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent.parent / "src"
HEADER = "# Written by tools/stubs.py from __init__.py: change the names there and run `make generated`.\n"


def main() -> None:
    for file, text in stubs(SOURCES):
        file.write_text(text, encoding="utf-8")


def stubs(sources: Path) -> Iterator[tuple[Path, str]]:
    """The stub files below a folder of sources, and the text that each should have."""
    for file in sorted(sources.rglob("__init__.py")):
        declared = declarations(file.read_text(encoding="utf-8"))
        if "_HOMES" in declared:
            package = ".".join(file.parent.relative_to(sources).parts)
            yield file.with_suffix(".pyi"), stub(package, declared["_HOMES"], declared.get("_MODULES", ()))


def declarations(source: str) -> dict[str, Any]:
    """The values assigned to `_HOMES` and `_MODULES`."""
    return {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign)
        and isinstance(statement.targets[0], ast.Name)
        and statement.targets[0].id in ("_HOMES", "_MODULES")
    }


def stub(package: str, homes: Mapping[str, Sequence[str]], modules: Sequence[str]) -> str:
    """The text of a stub: one import for each name, in the order that ruff keeps."""
    imports = [f"from {package} import {name} as {name}\n" for name in sorted(modules)]
    for home in sorted(homes):
        names = sorted(homes[home], key=lambda name: (not name.isupper(), name.islower(), name))
        imports += [f"from {package}.{home} import {name} as {name}\n" for name in names]
    return HEADER + "".join(imports)


if __name__ == "__main__":
    main()
