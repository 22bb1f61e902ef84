"""Time to the first candidate of a streamed reply, compared with the time to its end: the embedded model."""

from __future__ import annotations

import json
import platform
import statistics
import time
from importlib import metadata

import outspoken

ROUNDS = 5
PROMPT = "Name a US state."


def main() -> None:
    model = outspoken.get_model("local/smollm2")
    outspoken.verbalize(PROMPT, model=model, seed=0)
    first, ended = [], []
    for seed in range(1, ROUNDS + 1):
        started = time.perf_counter()
        running = outspoken.stream(PROMPT, model=model, k=5, top_up=0, seed=seed)
        next(running)
        first.append(time.perf_counter() - started)
        for _ in running:
            pass
        ended.append(time.perf_counter() - started)
    report = {
        "python": platform.python_version(),
        "xllamacpp": metadata.version("xllamacpp"),
        "settings": {"prompt": PROMPT, "k": 5, "method": "vs-standard", "seeds": f"1..{ROUNDS}"},
        "first candidate, s": round(statistics.median(first), 3),
        "whole reply, s": round(statistics.median(ended), 3),
        "ratio (first / whole)": round(statistics.median(a / b for a, b in zip(first, ended, strict=True)), 3),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
