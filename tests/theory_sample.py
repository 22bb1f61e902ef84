"""The four documents of the theory, made by its own code from planted numbers, with names that no page expects."""

from __future__ import annotations

import math
import random
from typing import Any

from outspoken.theory import level_simulation, sharpening_exponent
from outspoken.theory.preferences import Preferences
from outspoken.theory.sharpening import Sharpened
from outspoken.theory.typicality import estimate_typicality, simulate_preferences

EVIL = '<script>window.pwned = true;</script><img src=x onerror="window.pwned = true"> & </textarea> {{ 7 * 7 }}'
STRANGE = (
    "新墨西哥",
    "كاليفورنيا",
    "👩🏽‍🚀 Florida 🏖️",
    EVIL,
    "Utah\x00\ud83d",
    "Massachusetts and its very long other name, in full",
)
STATES = ("New York", "California", "Washington", "Texas", "Virginia", "Georgia", "Michigan", "Ohio", "Illinois", "Oregon",
          "Montana", "Maine", "Iowa", "Idaho", "Kansas", "Vermont", "Alaska", "Nevada", "Colorado", "Wyoming")  # fmt: skip
NAMES = (*STATES[:4], *STRANGE, *STATES[4:])
BASE = {name: 1 / (at + 1.5) / 2.5 for at, name in enumerate(NAMES)}
BASES = ("gemma-3-270m", "local/смоль-2 <b>135M</b>")


def _said(document: dict[str, Any], command: str) -> dict[str, Any]:
    """With what the command line adds to a document."""
    made = {
        "version": "0.4.0",
        "created": "2026-11-22T14:30:00+00:00",
        "settings": {"seed": 1, "note": "</script>"},
    }
    return {**document, **made, "command": command}


def preferences(*bases: str) -> dict[str, Any]:
    names = bases or BASES
    scored = {
        base: simulate_preferences(0.6 - 0.5 * at, prompts=200, pairs_per_prompt=3, length=0.01, seed=at)
        for at, base in enumerate(names)
    }
    data = Preferences(
        tuple(item.pair for item in scored[names[0]]), "pairs", False, 615, 606, {"the two texts are equal": 4, f"empty: {EVIL}": 2}, 12,
        ("row 7",), "{prompt}\n\nAssistant: ", "prefs <i>helpful</i>.jsonl",
    )  # fmt: skip
    lost = {names[0]: {"the prompt is longer than the context": 3}}
    return _said(
        estimate_typicality(data, scored, skipped=lost).to_dict(),
        "outspoken typicality prefs.jsonl --base gemma-3-270m --out made",
    )


def sharpen(**how: float) -> dict[str, Any]:
    made = Sharpened.of(BASE, **(how or {"alpha": 0.57, "beta": 0.2}))
    return _said(made.to_dict(), "outspoken sharpen --alpha 0.57 --beta 0.2")


def counts(gamma: float = 2.2) -> dict[str, Any]:
    noise = random.Random(5)
    weights = {name: share**gamma * noise.uniform(0.3, 1.9) for name, share in BASE.items()}
    trials = []
    for _ in range(10):
        drawn = noise.choices(list(weights), list(weights.values()), k=50)
        trials.append({name: drawn.count(name) for name in set(drawn)})
    made = sharpening_exponent.gamma_from_counts(trials, BASE, resamples=99)
    return _said(made.to_dict(), "outspoken gamma --base reference.json --aligned direct.json")


def logprobs(prompts: int = 3) -> dict[str, Any]:
    noise = random.Random(6)
    points = [
        sharpening_exponent.Point(
            f"prompt {prompt} {EVIL}",
            name,
            math.log(share) - prompt,
            1.8 * math.log(share) + noise.gauss(0, 0.5) - 2,
        )
        for prompt in range(prompts)
        for name, share in BASE.items()
    ]
    return _said(sharpening_exponent.gamma_from_logprobs(points).to_dict(), "outspoken gamma --base a --aligned b")


def three() -> dict[str, Any]:
    return _said(
        level_simulation.simulate_levels(BASE, gamma=3.85, k=8, replies=200).to_dict(),
        "outspoken levels --gamma 3.85",
    )


DOCUMENTS = {"typicality": preferences, "sharpen": sharpen, "gamma": counts, "levels": three}
