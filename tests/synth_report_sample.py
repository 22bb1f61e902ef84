"""The folder of an invented pipeline: word problems in several scripts, removed records with their reasons."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from outspoken.synth.records import RecordWriter, pa, table_of

EVIL = '<script>window.pwned = true;</script><img src=x onerror="window.pwned = true"> & </textarea> {{ 7 * 7 }}'
ARABIC = "اشترت ليلى ثلاثة أرباع كيلو من التمر وأعطت أخاها ثلثها، فكم بقي معها؟"
CHINESE = ("小明有三分之二个西瓜，他吃了四分之一，还剩多少？", "一条绳子长五分之四米，剪去一半后还剩多少米？")
STRANGE = (
    EVIL,
    ARABIC,
    *CHINESE,
    "👩🏽‍🍳 bakes 12 🥧 and gives 1/3 to 👨‍👩‍👧‍👦. How many are left?",
    "!!!",
    "A" * 400 + " is how many thirds of a word without any blank?",
    "Once there was a very long story. " * 60,
)
SETTINGS = {"instruction": "Write a word problem about {topic}.", "topics": [], "count": 600, "personas": []}
TOPICS = {
    "cooking": ("cup of flour", "spoon of sugar", "litre of milk", "pound of butter", "recipe for pancakes"),
    "travel": ("tank of petrol", "mile of the road", "ticket to the coast", "suitcase", "train across the hills"),
    "gardens": ("row of tomatoes", "bag of seeds", "bed of roses", "bucket of rain", "basket of plums"),
    "music": ("beat of a bar", "song", "page of notes", "concert", "choir of singers"),
    "money": ("pound coin", "wage", "bill for the lights", "savings book", "price of a coat"),
    "a topic that nobody asked about": (),
}
PERSONAS = ("a baker", "a teacher of eight-year-olds", "ein Schäfer", "a pilot")
NAMES = ("Ada", "Bo", "Chidi", "Dara", "Emre", "Fatima", "Goran", "Hana", "Íñigo", "Jun")
DEEDS = ("uses", "gives away", "keeps", "loses", "shares with a friend", "sells at the market", "paints over")
ENDS = (
    "How much is left?",
    "What part remains?",
    "Is that more than a half?",
    "How much would three of them have?",
    "Write the answer as a decimal.",
)

Rows = list[dict[str, Any]]
Taken = Callable[[dict[str, Any]], Mapping[str, Any] | None]


def question(rng: random.Random, topic: str) -> str:
    thing = rng.choice(TOPICS[topic])
    part = f"{rng.randint(1, 6)}/{rng.randint(7, 12)}"
    return f"{rng.choice(NAMES)} {rng.choice(DEEDS)} {part} of a {thing}. {rng.choice(ENDS)}"


def generated(count: int, seed: int = 1) -> Rows:
    """Records as `generate` writes them, a fifth of them near-copies of earlier ones."""
    rng = random.Random(seed)
    topics = [topic for topic, things in TOPICS.items() if things]
    rows: Rows = []
    for at in range(count):
        topic = rng.choices(topics, (9, 5, 3, 2, 1))[0]
        text = STRANGE[at // 7] if at % 7 == 3 and at // 7 < len(STRANGE) else question(rng, topic)
        if rows and rng.random() < 0.2:
            copied = rng.choice(rows)
            text, topic = copied["text"].replace("How much", "How much then"), copied["topic"]
        rows.append(
            {
                "id": str(at + 1),
                "text": text,
                "value": json.dumps({"question": text}, ensure_ascii=False),
                "topic": topic,
                "persona": rng.choice(PERSONAS),
                "probability": round(rng.random(), 3),
            }
        )
    return rows


def kept_and_removed(rows: Rows, taken: Taken) -> tuple[Rows, Rows]:
    """`taken` returns the columns of a record that is removed, None for one that is kept."""
    kept: Rows = []
    removed: Rows = []
    for row in rows:
        columns = taken(row)
        (kept if columns is None else removed).append(row if columns is None else {**row, **columns})
    return kept, removed


def step(
    folder: Path,
    name: str,
    rows: Rows,
    removed: Sequence[Mapping[str, Any]] = (),
    *,
    before: int | None = None,
    **manifest: Any,
) -> None:
    """Write the files and the manifest of a step; `before` is the number of records that it read."""
    schema = _schema(rows or removed)
    with RecordWriter(folder / f"{name}.parquet", schema) as writer:
        writer.write(table_of(rows, schema))
    if removed:
        wider = _schema(removed)
        with RecordWriter(folder / f"{name}.removed.parquet", wider) as writer:
            writer.write(table_of(removed, wider))
    defaults = {
        "step": name,
        "do": name.partition("-")[2],
        "settings": {},
        "seed": 1,
        "model": "openai/gpt-4.1",
        "source": None if before is None else "earlier.parquet",
        "key": "9f2c",
        "records": before or 0,
        "kept": len(rows),
        "removed": dict(Counter(row["reason"] for row in removed)),
        "figures": {},
        "warnings": [],
        "partly": "",
        "seconds": 12.5,
        "begun": "2026-11-23T10:00:00+00:00",
        "finished": "2026-11-23T10:02:00+00:00",
        "version": "0.1.0",
        "files": {f"{name}.parquet": 4096},
    }
    (folder / f"{name}.json").write_text(
        json.dumps({**defaults, **manifest}, ensure_ascii=False), encoding="utf-8"
    )


def pipeline(folder: Path, count: int = 600, seed: int = 1, **last: Any) -> Path:
    """A pipeline of seven steps in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    rows = generated(count, seed)
    settings = {**SETTINGS, "topics": list(TOPICS), "count": count}
    asked = {"from_ledger": 0, "failures": 2}
    step(folder, "01-generate", rows, settings=settings, seconds=61.2,
         figures={"requests": count // 4, "tokens": 61 * count, "usd": 0.00031 * count, **asked})  # fmt: skip

    firsts: dict[str, str] = {}

    def copied(row: dict[str, Any]) -> Mapping[str, Any] | None:
        plain = row["text"].replace(" then", "")
        first = firsts.setdefault(plain, row["id"])
        if first == row["id"]:
            return None
        same = row["text"] == plain
        return {
            "reason": "the same text" if same else "nearly the same text",
            "because_of": first,
            "similarity": 1.0 if same else 0.93,
        }

    def by_chance(share: float, reason: str, **more: Any) -> Taken:
        return lambda row: {"reason": reason, **more} if rng.random() < share else None

    def answered(row: dict[str, Any]) -> Mapping[str, Any] | None:
        final = f"{rng.randint(1, 9)}/{rng.randint(2, 12)}"
        row |= {
            "final": final,
            "answer": f"First take the part away.\nSo what is left is {final}.",
            "agreement": 0.8,
        }
        return {"reason": "the answers disagree"} if rng.random() < 0.12 else None

    plan: list[tuple[str, Taken, dict[str, Any]]] = [
        ("deduplicate", copied, {"settings": {"threshold": 0.9}, "seconds": 0.8}),
        ("decontaminate", by_chance(0.02, "shares 13 words with a question", because_of="gsm8k.jsonl:17", similarity=0.61), {}),
        ("answer", answered, {"seconds": 610.0, "model": "openai/gpt-4.1-mini",
                              "figures": {"requests": 4 * count, "tokens": 900 * count, "usd": 0.0011 * count, **asked}}),
        ("verify", by_chance(0.2, "the answer is wrong"), {"warnings": ["2 answers took longer than 5 s: <b>ended</b>"]}),
        ("balance", lambda row: {"reason": "its cluster is full"} if row["topic"] == "cooking" and rng.random() < 0.5 else None, {}),
        ("export", lambda row: None, {"settings": {"format": ["jsonl", "parquet"], "licence": "</script>"}}),
    ]  # fmt: skip
    for number, (name, taken, more) in enumerate(plan, 2):
        before = len(rows)
        rows, removed = kept_and_removed(rows, taken)
        step(
            folder,
            f"{number:02}-{name}",
            rows,
            removed,
            before=before,
            **{**more, **(last if number == 7 else {})},
        )
    return folder


def _schema(rows: Sequence[Mapping[str, Any]]) -> Any:
    kinds = {float: pa.float64(), bool: pa.bool_(), int: pa.int64()}
    named: dict[str, Any] = {"id": pa.string(), "text": pa.string()}
    for row in rows:
        for name, value in row.items():
            named.setdefault(name, kinds.get(type(value), pa.string()))
    return pa.schema(list(named.items()))
