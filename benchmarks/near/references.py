"""The same task with datasketch, and by comparing all pairs."""

from __future__ import annotations

import time
from typing import Any

from datasketch import MinHash, MinHashLSH

from outspoken.same_text import text_key
from outspoken.synth.dedup.minhash import bands_for
from outspoken.synth.dedup.search import near_duplicates


def datasketch_rate(texts: list[str], threshold: float, *, batch: bool) -> float:
    """Texts a second: each is signed, searched for among the earlier ones, and added if it is new."""
    bands = bands_for(threshold)
    empty = MinHash(num_perm=bands.permutations, seed=1)
    started = time.perf_counter()
    index = MinHashLSH(num_perm=bands.permutations, params=(bands.count, bands.rows))
    for number, text in enumerate(texts):
        signature = empty.copy()
        shingles = {text[at : at + 3].encode() for at in range(len(text) - 2)}
        if batch:
            signature.update_batch(shingles)
        else:
            for shingle in shingles:
                signature.update(shingle)
        if not index.query(signature):
            index.insert(number, signature)
    return len(texts) / (time.perf_counter() - started)


def exhaustive(texts: list[str], threshold: float) -> dict[str, Any]:
    """Recall and precision of `near_duplicates`, from comparing all pairs.

    Recall: the share of removed records among those that are at least as similar as `threshold` to an earlier kept
    one. Precision: the share of removed records that are that similar to the record that stands for them.
    """
    shingles = [_shingles(text_key(text)) for text in texts]
    by_shingle: dict[str, list[int]] = {}
    partners: dict[int, list[int]] = {}
    for at, own in enumerate(shingles):
        shared: dict[int, int] = {}
        for shingle in own:
            for other in by_shingle.setdefault(shingle, []):
                shared[other] = shared.get(other, 0) + 1
            by_shingle[shingle].append(at)
        for other, count in shared.items():
            if count / (len(own) + len(shingles[other]) - count) >= threshold:
                partners.setdefault(at, []).append(other)
    stands_for = near_duplicates(texts, threshold).tolist()
    removed = [at for at, other in enumerate(stands_for) if at != other]
    # A record is rightly kept if all records similar to it were removed.
    wanted = [at for at, others in partners.items() if any(stands_for[other] == other for other in others)]
    right = [at for at in removed if stands_for[at] in partners.get(at, [])]
    caught = sum(stands_for[at] != at for at in wanted)
    return {
        "records": len(texts),
        "pairs_at_threshold": sum(map(len, partners.values())),
        "recall": round(caught / len(wanted), 4),
        "precision": round(len(right) / len(removed), 4),
        "theory_at_threshold": round(bands_for(threshold).recall(threshold), 4),
        "wanted": "0.98 of both",
    }


def _shingles(key: str) -> set[str]:
    return {key[at : at + 3] for at in range(len(key) - 2)} or {key}
