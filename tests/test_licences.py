"""Everything that an installation of the package brings may be used in a package under the MIT licence."""

from __future__ import annotations

import re
from importlib import metadata

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.core


# Names that stand for a licence, in expressions, fields and classifiers, and which may be used.
PERMISSIVE = (
    r"0BSD",
    r"Apache(?: |-|$)|Apache Software",
    r"Boost|BSL-1\.0",
    r"BSD",
    r"CC0",
    r"CNRI",
    r"HPND|Historical Permission",
    r"ISC",
    r"MIT|Expat",
    r"PSF|Python Software Foundation|Python-2\.0",
    r"Unlicense",
    r"Zlib|zlib",
)
# Copyleft for the library's own files: it may be used where it is used unmodified.
UNMODIFIED = (r"MPL-2\.0|MPL 2\.0|Mozilla Public License 2\.0",)
FORBIDDEN = r"\b[AL]?GPL|GNU|Affero"
# torch's own packages for CUDA, which NVIDIA licenses for use with its hardware. A CPU build has none of them.
CUDA = re.compile(r"nvidia-[a-z0-9-]+|cuda-(?:bindings|pathfinder|toolkit)")
# Where a package tells nothing in its metadata: what its licence file says, looked at for this version and above.
READ_BY_HAND: dict[str, str] = {}


def distributions() -> dict[str, metadata.Distribution]:
    """What outspoken with all its extras brings here, itself left out."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [("outspoken", extra) for extra in metadata.metadata("outspoken").get_all("Provides-Extra")]
    seen = set(waiting)
    while waiting:
        name, extra = waiting.pop()
        try:
            each = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that is not installed here, or a package for another system
        found[normal(name)] = each
        for line in each.requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                for more in ("", *wanted.extras):
                    if (key := (normal(wanted.name), more)) not in seen:
                        seen.add(key)
                        waiting.append(key)
    del found["outspoken"]
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(distribution: metadata.Distribution) -> str:
    """The expression, else the classifiers, else the first line of the field."""
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [each.split(" :: ")[-1] for each in about.get_all("Classifier") or () if "License ::" in each]
    classifiers = [each for each in classifiers if each != "OSI Approved"]
    if classifiers:
        return " AND ".join(classifiers)
    return next(iter((about.get("License") or "").strip().splitlines()), "")


def allowed(name: str, text: str) -> bool:
    """Whether each part of a licence is known and may be used; of alternatives (OR) one is enough."""
    if CUDA.fullmatch(name):
        return True

    def known(part: str) -> bool:
        return not re.search(FORBIDDEN, part) and any(re.search(each, part) for each in PERMISSIVE + UNMODIFIED)

    def every(part: str) -> bool:
        return all(known(each) for each in re.split(r" AND ", part) if each.strip("() "))

    return bool(text.strip()) and any(every(part.strip("() ")) for part in re.split(r" OR ", text))


def test_every_dependency_may_be_used() -> None:
    found = {name: READ_BY_HAND.get(name) or licence(each) for name, each in sorted(distributions().items())}
    assert len(found) > 10
    wrong = {name: text or "(unknown)" for name, text in found.items() if not allowed(name, text)}
    assert not wrong, "\n".join(f"{name}: {text}" for name, text in wrong.items())


@pytest.mark.parametrize(
    ("name", "text", "may"),
    [
        ("a", "MIT", True),
        ("a", "MPL-2.0", True),
        ("a", "MPL-2.0 AND MIT", True),
        ("a", "Apache-2.0 OR GPL-3.0-or-later", True),
        ("a", "GPL-3.0-or-later", False),
        ("a", "LGPL-2.1", False),
        ("a", "AGPL-3.0-only", False),
        ("a", "MIT AND GPL-2.0", False),
        ("a", "GNU General Public License v3 (GPLv3)", False),
        ("a", "", False),
        ("a", "see LICENSE", False),
        ("nvidia-cublas", "", True),
        ("nvidia", "", False),
    ],
)
def test_what_may_be_used(name: str, text: str, may: bool) -> None:
    assert allowed(name, text) == may
