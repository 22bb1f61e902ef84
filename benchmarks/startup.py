"""CPU seconds of whole processes that import the package or print the help.

Limits: `import outspoken` at most a fifth of `import openai`, without numpy, aiohttp or pydantic;
`outspoken --help` under a third of a second.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
from importlib import metadata

ROUNDS = 15
COMMANDS = {
    "python": ["-c", "pass"],
    "import outspoken": ["-c", "import outspoken"],
    "import openai": ["-c", "import openai"],
    "outspoken --help": ["-m", "outspoken", "--help"],
}


def cpu_seconds(arguments: list[str]) -> float:
    before = os.times()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


def main() -> None:
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, arguments in COMMANDS.items():
            times[name].append(cpu_seconds(arguments))
    median = {name: statistics.median(values) for name, values in times.items()}
    listing = "import sys, outspoken; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", listing], check=True, capture_output=True, text=True
    ).stdout.split()
    bare = median["python"]
    report = {
        "python": platform.python_version(),
        "openai": metadata.version("openai"),
        "rounds": ROUNDS,
        "cpu_seconds": {name: round(value, 4) for name, value in median.items()},
        "import ratio (outspoken / openai)": round(median["import outspoken"] / median["import openai"], 3),
        "import ratio, without the start of the interpreter": round(
            (median["import outspoken"] - bare) / (median["import openai"] - bare), 3
        ),
        "heavy modules loaded by import outspoken": sorted({"numpy", "aiohttp", "pydantic"} & set(loaded)),
        "help under 1/3 s": median["outspoken --help"] < 1 / 3,
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
