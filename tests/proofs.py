"""How long a test may take: `make proofs` sets `$OUTSPOKEN_PROOFS`, and tests marked `proof` then do all of it."""

from __future__ import annotations

import os

PROOFS = os.environ.get("OUTSPOKEN_PROOFS", "") not in ("", "0")


def repetitions(proof: int = 500, short: int = 100) -> int:
    """How often a simulation is repeated."""
    return proof if PROOFS else short


def within(share: float, low: float, high: float) -> bool:
    """Whether a share of the repetitions lies between bounds that are meant for 500 of them.

    A share of 0.95 of 500 has a standard error of 0.010, of 100 one of 0.022: with fewer, the bounds are wider.
    """
    slack = 0.0 if PROOFS else 0.04
    return low - slack <= share <= high + slack
