"""A results document with plausible figures: seven methods, two tasks, two models, and dangerous texts."""

from __future__ import annotations

import math
import random
from typing import Any

METHODS = {  # diversity, quality, tokens for each distinct response
    "direct": (0.11, 0.58, 410.0),
    "direct-cot": (0.13, 0.60, 530.0),
    "sequence": (0.21, 0.56, 190.0),
    "multi-turn": (0.19, 0.57, 260.0),
    "vs-standard": (0.27, 0.575, 120.0),
    "vs-cot": (0.29, 0.59, 175.0),
    "vs-multi": (0.30, 0.565, 210.0),
}
MODELS = ("openai/gpt-4.1", "local/smollm2")
TASKS = ("jokes", "states")
EVIL = '<script>window.pwned = true;</script><img src=x onerror="window.pwned = true"> & </textarea> {{ 7 * 7 }}'
PROMPTS = {
    "jokes": [
        "Tell me a joke about coffee.",
        "讲一个关于咖啡的笑话。",
        "احكِ لي نكتة عن القهوة.",
        "A joke about 🐈‍⬛ & <b>cats</b> </script>",
    ],
    "states": ["Name a state of the United States.", "说出美国的一个州。"],
}
TEXTS = (
    "Why did the coffee file a police report? It got mugged.",
    "为什么咖啡去报警?因为它被“抢”了一口。这个笑话没有空格,所以很长很长很长很长很长很长很长很长很长。",
    "لماذا ذهبت القهوة إلى الشرطة؟ لأن أحدهم سرق حبوبها!",
    EVIL,
    "☕️🐈‍⬛👩🏽‍🚀 A cat, a coffee and an astronaut walk into a bar.\n\nThe bar was set too low. \x00\x0b\ud83d",
)
MEASURES = [
    {"name": "semantic_diversity", "title": "Semantic diversity", "better": "higher", "scale": 100, "kind": "headline",
     "about": "Mean over all pairs of responses to one prompt of 1 minus their cosine, clipped to 0 and 1."},
    {"name": "quality", "title": "Quality", "better": "higher", "scale": 100, "kind": "headline",
     "about": "Mean of a judge's criteria, each scaled to 0 to 1."},
    {"name": "rouge_l", "title": "ROUGE-L", "better": "lower", "scale": 100, "kind": "headline",
     "about": "Mean F1 of the longest common subsequence of words over pairs."},
    {"name": "vendi", "title": "Vendi score", "better": "higher", "scale": 1, "kind": "",
     "about": "exp of the entropy of the eigenvalues of K / n (Friedman & Dieng 2023)."},
    {"name": "kl_reference_shared", "title": "KL, shared support", "better": "lower", "scale": 1, "kind": "headline",
     "about": "KL of reference and answers on the answers that both give, in nats."},
    {"name": "kl_reference", "title": "KL, smoothed", "better": "lower", "scale": 1, "kind": "published",
     "about": "As published: 1e-10 added on the union. The figure is almost all smoothing: it depends on that constant."},
]  # fmt: skip
STATES = ("California", "Texas", "New York", "Florida", "Ohio", "Alaska", "Wyoming", "Maine", "Utah\x00\ud83d", "新墨西哥",
          "Nevada", "Iowa", "Idaho", "Kansas", "Vermont")  # fmt: skip


def _estimate(value: float, half: float, note: str = "") -> dict[str, Any]:
    result = {"value": value, "low": value - half, "high": value + half, "units": 40, "unit": "prompt"}
    return {**result, "note": note} if note else result


def _measures(task: str, method: str, gain: float, noise: random.Random) -> dict[str, Any]:
    diversity, quality, _ = METHODS[method]
    diversity = 0.11 + (diversity - 0.11) * gain + noise.uniform(-0.004, 0.004)
    joking = task == "jokes"
    return {
        "semantic_diversity": _estimate(diversity, 0.012),
        "quality": _estimate(quality + noise.uniform(-0.01, 0.01), 0.02) if joking else None,
        "rouge_l": _estimate(0.6 - diversity, 0.03),
        "vendi": _estimate(1 + diversity * 12, 0.4, "" if joking else "from 2 prompts"),
        "kl_reference_shared": None if joking else _estimate(0.9 - 2 * diversity, 0.05),
        "kl_reference": None if joking else _estimate(15 - 40 * diversity, 0.9),
    }


def _comparison(a: dict[str, Any], b: dict[str, Any], name: str, joint: int) -> dict[str, Any] | None:
    first, second = a["measures"][name], b["measures"][name]
    if not first or not second:
        return None
    difference = first["value"] - second["value"]
    half = math.hypot(first["high"] - first["value"], second["high"] - second["value"])
    z = abs(difference) / (half / 1.96)
    p = max(1e-4, math.erfc(z / math.sqrt(2)))
    effect = z / math.sqrt(40)
    needed = math.ceil((2.8 / max(effect, 0.01)) ** 2)
    return {"task": a["task"], "model": a["model"], "measure": name, "a": a["id"], "b": b["id"],
            "difference": difference, "low": difference - half, "high": difference + half, "p": p,
            "p_holm": min(1.0, p * joint), "effect": math.copysign(effect, difference), "units": 40,
            "needed": needed, "note": ""}  # fmt: skip


def _group(at: int, task: str, model: str, method: str, noise: random.Random) -> dict[str, Any]:
    gain = 1.0 if model == MODELS[0] else 0.05 if task == "jokes" else 0.4
    tokens = METHODS[method][2]
    usd = tokens * 8e-6 if model == MODELS[0] else None
    share = {"tokens": tokens, "usd": usd}
    measures = _measures(task, method, gain, noise)
    why = {"quality": "there is no rubric for states"} if measures["quality"] is None else {}
    return {"id": f"g{at}", "task": task, "model": model, "arm": method, "method": method, "settings": {"k": 5},
            "prompts": 40, "responses": 1200, "failures": at % 3, "empty": 0, "measures": measures,
            "undefined": why,
            "cost": {"requests": 240, "tokens": int(tokens * 600), "usd": usd and usd * 600, "model_seconds": 900.0, "wall_seconds": 60.0,
                     "per_response": {key: value and value / 2 for key, value in share.items()},
                     "per_distinct": share}}  # fmt: skip


def _distribution(prompt: str, groups: list[dict[str, Any]], noise: random.Random) -> dict[str, Any]:
    reference = {state: 1 / (at + 1.5) for at, state in enumerate(STATES)}
    total = sum(reference.values())
    shares = {}
    for group in groups:
        flat = METHODS[group["method"]][0] * 3
        weights = {state: (p / total) ** (1.6 - flat) * noise.uniform(0.6, 1.4) for state, p in reference.items()}
        complete = sum(weights.values()) * 1.04
        shares[group["id"]] = {
            **{state: weight / complete for state, weight in weights.items()},
            "<i>Puerto Rico</i>": 0.04,
        }
    return {"task": "states", "prompt": prompt, "reference": {s: p / total for s, p in reference.items()},
            "groups": shares}  # fmt: skip


def _calibration(group: dict[str, Any], against: str, noise: random.Random) -> dict[str, Any]:
    """Stated too high where it is high, as models do; ten bins, of which the first holds answers that were never stated."""
    bins = []
    for at in range(10):
        stated = 0.3 * (at / 9) ** 3
        observed = min(1.0, 0.01 + stated * noise.uniform(0.4, 0.9))
        bins.append({"low": stated * 0.9, "high": stated * 1.1, "stated": stated, "observed": observed,
                     "count": 60 if not at else 12})  # fmt: skip
    return {"task": group["task"], "group": group["id"], "against": against,
            "total_variation": _estimate(noise.uniform(0.3, 0.5), 0.06), "brier": _estimate(noise.uniform(0.02, 0.04), 0.01),
            "rank_correlation": _estimate(noise.uniform(0.2, 0.6), 0.1, "from 2 prompts"), "bins": bins,
            "undefined": 0}  # fmt: skip


def sample() -> dict[str, Any]:
    noise = random.Random(4)
    groups = [
        _group(at, task, model, method, noise)
        for at, (task, model, method) in enumerate(
            ((task, model, method) for task in TASKS for model in MODELS for method in METHODS), start=1
        )
    ]
    comparisons = []
    for task in TASKS:
        for model in MODELS:
            here = [group for group in groups if (group["task"], group["model"]) == (task, model)]
            pairs = [(b, a) for at, a in enumerate(here) for b in here[at + 1 :]]
            comparisons += [_comparison(a, b, measure["name"], 21) for measure in MEASURES for a, b in pairs]
    states = [group for group in groups if group["task"] == "states"]
    return {
        "format": 1, "name": "creative", "title": "Is it more diverse, and as good? 创意写作",
        "about": "Seven methods on jokes and on US states, with two models.", "created": "2026-11-22T14:30:00+00:00",
        "version": "0.3.0", "primary": "semantic_diversity", "quality": "quality", "baseline": "direct", "axis": None,
        "measures": MEASURES, "groups": groups, "comparisons": [entry for entry in comparisons if entry],
        "distributions": [_distribution(prompt, states, noise) for prompt in PROMPTS["states"]],
        "calibration": [_calibration(group, against, random.Random(f"{group['id']} {against}"))
                        for group in states if group["method"].startswith("vs-") for against in ("direct", "reference")],
        "examples": [
            {"task": task, "prompt_id": f"{task}-{at}", "prompt": prompt,
             "groups": {g["id"]: [TEXTS[(at + i + n) % len(TEXTS)] for i in range(4)] for n, g in enumerate(groups) if g["task"] == task}}
            for task in TASKS for at, prompt in enumerate(PROMPTS[task])
        ],
        "warnings": ["3 responses of <direct-cot> were empty and are not counted.", "The judge could not be read 2 times of 480."],
        "settings": {"task": list(TASKS), "n": 30, "k": 5, "model": list(MODELS), "note": "</script>"},
        "versions": {"outspoken": "0.3.0", "python": "3.11.9", "numpy": "2.1.0"},
        "command": "outspoken experiment creative --model openai/gpt-4.1 --out creative",
    }  # fmt: skip


def ablation(axis: str = "k", values: tuple[Any, ...] = (1, 3, 5, 10, 20)) -> dict[str, Any]:
    """One task and model, two arms over an axis and a baseline that does not have it; nothing was judged."""
    results = sample()
    groups = []
    for at, value in enumerate([None, *values]):
        for arm in ("direct",) if value is None else ("vs-standard", "vs-cot"):
            source = next(group for group in results["groups"] if group["arm"] == arm)
            measures = {
                **source["measures"],
                "semantic_diversity": _estimate(0.11 + 0.03 * at + 0.01 * (arm == "vs-cot"), 0.02),
            }
            settings = {} if value is None else {axis: value}
            groups.append({**source, "id": f"{arm}-{at}", "settings": settings, "measures": measures})
    pairs = [(group, groups[0]) for group in groups[1:]]
    comparisons = [_comparison(a, b, "semantic_diversity", len(pairs)) for a, b in pairs]
    return {**results, "name": axis, "title": f"Ablation of {axis}", "axis": axis, "quality": None, "groups": groups,
            "comparisons": comparisons, "distributions": [], "calibration": [], "examples": [], "warnings": []}  # fmt: skip
