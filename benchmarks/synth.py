"""The rate at which `outspoken synth` generates, against `outspoken run` on as many prompts.

    python benchmarks/synth.py [--prompts 5000] [--rounds 3] [--json]

Both ask a server in another process, which immediately sends a fixed reply with five candidates, and use the same
engine with a ledger and Parquet. The step generate also writes its prompts, counts new records, and writes the
records with their ids. Rounds are interleaved, and medians compared.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from run import contest, server

from outspoken.batch.file import BatchJob, FileRun
from outspoken.batch.plan import RunPlan
from outspoken.synth.steps.base import Step
from outspoken.synth.steps.generate import GenerateOptions
from outspoken.synth.steps.generate import run as generate

CANDIDATES = 5
IN_FLIGHT = 256


def by_run(model: str, folder: Path, prompts: int) -> float:
    source = folder / "prompts.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for n in range(prompts):
            file.write(json.dumps({"id": f"p{n}", "prompt": f"Tell me joke number {n} about coffee."}) + "\n")
    started = time.perf_counter()
    running = FileRun(
        BatchJob(source, folder / "out.parquet", RunPlan.make(model, None, {"concurrency": IN_FLIGHT}))
    )
    summary = asyncio.run(running.run())
    running.close()
    assert summary.responses == CANDIDATES * prompts
    return time.perf_counter() - started


def by_generate(model: str, folder: Path, prompts: int) -> float:
    topics = tuple(str(n) for n in range(prompts))
    options = GenerateOptions(
        instruction="Tell me joke number {topic} about coffee.",
        topics=topics,
        count=CANDIDATES * prompts,
        distinct=False,
        asking={"concurrency": IN_FLIGHT},
    )
    started = time.perf_counter()
    outcome = asyncio.run(generate(options, Step("01-generate", folder, model=model)))
    assert outcome.kept == CANDIDATES * prompts
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"run": [], "generate": []}
    with server(0.0) as base_url:
        model = f"{base_url}#{contest.MODEL}"
        for number in range(options.rounds):
            arms = [("run", by_run), ("generate", by_generate)]
            for name, arm in arms if number % 2 == 0 else reversed(arms):
                with tempfile.TemporaryDirectory() as folder:
                    seconds[name].append(arm(model, Path(folder), options.prompts))
    rates = {name: options.prompts / statistics.median(each) for name, each in seconds.items()}
    document: dict[str, Any] = {
        "prompts": options.prompts,
        "requests_a_second": rates,
        "ratio": rates["generate"] / rates["run"],
    }
    if options.json:
        print(json.dumps(document))
        return
    for name, rate in rates.items():
        print(f"{name:9} {rate:8,.0f} requests/s")
    print(f"generate / run: {document['ratio']:.2f}")


if __name__ == "__main__":
    main()
