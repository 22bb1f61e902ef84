"""Refusals are told from answers that only sound like them; the texts were written before the recogniser."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from outspoken.measure.refusals import is_refusal

TEXTS = [
    json.loads(line)
    for line in (Path(__file__).parent / "data" / "refusals.jsonl").read_text("utf-8").splitlines()
]


def test_the_texts_are_many_and_half_of_them_are_answers():
    kinds = Counter(entry["refusal"] for entry in TEXTS)
    assert len(TEXTS) >= 300
    assert len({entry["text"] for entry in TEXTS}) == len(TEXTS)
    assert 0.9 < kinds[True] / kinds[False] < 1.1
    assert len({entry["language"] for entry in TEXTS}) >= 10


def test_precision_and_recall_are_at_least_95_percent():
    found = [(is_refusal(entry["text"]), entry) for entry in TEXTS]
    right = sum(said and entry["refusal"] for said, entry in found)
    wrong = [(entry["language"], entry["text"]) for said, entry in found if said != entry["refusal"]]
    assert right / sum(said for said, _ in found) >= 0.95, wrong
    assert right / sum(entry["refusal"] for entry in TEXTS) >= 0.95, wrong
