"""Print the notes of a release: `python tools/release_notes.py v0.2.0`.

They are the section of CHANGELOG.md that bears the version. Fails where the tag, the package's version and the
changelog do not agree, or where the changelog calls the version unreleased.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    if len(sys.argv) != 2:
        print("usage: python tools/release_notes.py vVERSION", file=sys.stderr)
        return 2
    tag = sys.argv[1]
    source = (ROOT / "src/outspoken/_version.py").read_text(encoding="utf-8")
    version = re.search(r'__version__ = "(.+?)"', source)
    if version is None or tag != f"v{version[1]}":
        print(f"error: the tag is {tag} and the package's version {version and version[1]}", file=sys.stderr)
        return 1
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    section = re.search(
        rf"^## {re.escape(version[1])}(?P<rest>[^\n]*)\n(?P<notes>.*?)(?=^## |\Z)", changelog, re.M | re.S
    )
    if section is None or "unreleased" in section["rest"]:
        print(f"error: CHANGELOG.md has no section for a released {version[1]}", file=sys.stderr)
        return 1
    print(section["notes"].strip())
    return 0


if __name__ == "__main__":
    sys.exit(main())
