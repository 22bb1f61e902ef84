"""Vendi score against bare numpy: through the dimensions (d x d) for many responses, else n x n.

`python benchmarks/vendi.py [--json]`. Bare numpy is the Gram matrix and its eigenvalues, in the same precision,
of rows of unit length. Ratios are of medians over interleaved repeats in one run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from outspoken.measure.sets import vendi

Rows = NDArray[np.float64]


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def unit(generator: np.random.Generator, count: int, width: int) -> Rows:
    rows = generator.standard_normal((count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def dual(rows: Rows) -> Rows:
    return np.linalg.eigvalsh(rows.T @ rows)


def primal(rows: Rows) -> Rows:
    return np.linalg.eigvalsh(rows @ rows.T)


def compared(rows: Rows, bare: Callable[[Rows], Rows], repeats: int) -> dict[str, object]:
    pairs = [(seconds(lambda: vendi(rows)), seconds(lambda: bare(rows))) for _ in range(repeats)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    return {
        "shape": "{} x {}".format(*rows.shape),
        "vendi_ms": round(ours * 1e3, 1),
        "numpy_ms": round(theirs * 1e3, 1),
        "ratio": round(ours / theirs, 2),
    }


def measure() -> dict[str, dict[str, object]]:
    generator = np.random.default_rng(0)
    many, few = unit(generator, 10_000, 384), unit(generator, 3_000, 384)
    return {
        "dual": compared(many, dual, 11),
        "dual_against_n_x_n": compared(few, primal, 1),
        "n_x_n": compared(unit(generator, 1_000, 1_536), primal, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = measure()
    if options.json:
        print(json.dumps(results, indent=2))
        return
    for name, figures in results.items():
        print(name, *(f"  {key}: {value}" for key, value in figures.items()), sep="\n")


if __name__ == "__main__":
    main()
