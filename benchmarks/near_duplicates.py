"""Near-duplicates: a million records in bounded memory, against datasketch, and against exhaustive comparison.

    python benchmarks/near_duplicates.py [--records 1000000] [--sample 20000] [--threshold 0.9] [--ray] [--json]

(group `bench`). The records are generated from a seed: sentences in several scripts, 60 to 150 characters each.
Every tenth is a copy of an earlier one with one to six characters changed, and every hundredth an equal one.

1. The step `deduplicate` on a Parquet file of them, in its own process: seconds and peak memory, including reading
   and writing. With `--ray` the same on a Ray cluster of this machine, and whether the result is the same.
2. `near_duplicates` and datasketch (MinHash with as many permutations, MinHashLSH with the same bands) on the same
   texts in memory; datasketch gets a sample. It gets its shingles one by one with `update`, as its documentation
   shows, and all at once with `update_batch`, its fastest function. It stops at candidates; our function also
   normalises the texts and compares the candidates.
3. Recall and precision against comparing all pairs of 5,000 records. Half of them are planted copies, whose
   similarity to another record is at most 0.07 above or below the threshold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "near"))
import records
import references


def arm(options: argparse.Namespace) -> None:
    """The step on a file, in its own process."""
    from outspoken.synth.steps.base import ExecutionEngine, Step
    from outspoken.synth.steps.deduplicate import DeduplicateOptions, run

    folder = Path(options.folder)
    step = Step(f"02-{options.arm}", folder, folder / "records.parquet", engine=ExecutionEngine(options.arm))
    started = time.perf_counter()
    outcome = asyncio.run(run(DeduplicateOptions(near=options.threshold), step))
    line = {
        "seconds": round(time.perf_counter() - started, 2),
        "kept": outcome.kept,
        "removed": dict(outcome.removed),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(line))


def in_a_file(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.parquet"
        characters = records.write(path, options.records)
        results: dict[str, Any] = {
            "records": options.records,
            "mean_characters": round(characters / options.records),
            "input_mib": round(path.stat().st_size / 2**20),
            "wanted_peak_mib": 4096,
        }
        for kind in ("local", "ray") if options.ray else ("local",):
            command = [sys.executable, __file__, "--arm", kind, "--folder", folder]
            command += ["--threshold", str(options.threshold)]
            process = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            line = json.loads(process.stdout)
            line["records_per_second"] = round(options.records / line["seconds"])
            results[kind] = line
        if options.ray:
            files = [
                [(Path(folder) / f"02-{kind}{end}").read_bytes() for end in (".parquet", ".removed.parquet")]
                for kind in ("local", "ray")
            ]
            results["ray"]["same_result"] = files[0] == files[1]
    return results


def against_datasketch(options: argparse.Namespace) -> dict[str, Any]:
    from outspoken.synth.dedup.search import near_duplicates

    texts = records.texts(min(options.records, 200_000))
    sample = texts[: options.sample]
    near_duplicates(texts[:1000], options.threshold)
    rates: dict[str, list[float]] = {"ours": [], "update": [], "update_batch": []}
    # Interleaved, so that other load on the machine affects all of them alike; the best of each counts.
    for _ in range(options.rounds):
        started = time.perf_counter()
        near_duplicates(texts, options.threshold)
        rates["ours"].append(len(texts) / (time.perf_counter() - started))
        for name in ("update", "update_batch"):
            rates[name].append(references.datasketch_rate(sample, options.threshold, batch=name == "update_batch"))
    best = {name: round(max(some)) for name, some in rates.items()}
    return {
        "ours_on": len(texts),
        "datasketch_on": f"{len(sample):,} of them",
        "records_per_second": best,
        "ratio_to_update": round(best["ours"] / best["update"], 1),
        "ratio_to_update_batch": round(best["ours"] / best["update_batch"], 1),
        "wanted": 20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--sample", type=int, default=20_000, help="texts that datasketch gets")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--ray", action="store_true", help="also on a Ray cluster of this machine")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--arm", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.arm:
        arm(options)
        return
    results = {
        "machine": {"processors": os.cpu_count(), "load": round(os.getloadavg()[0], 1)},
        "a file of records": in_a_file(options),
        "against datasketch": against_datasketch(options),
        "against exhaustive comparison": references.exhaustive(
            records.around(5_000, options.threshold, random.Random(7)), options.threshold
        ),
    }
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, entry in results.items():
        print(name, *(f"  {key}: {value}" for key, value in entry.items()), sep="\n")


if __name__ == "__main__":
    main()
