"""Does the diversity of its training data move a student? An experiment for two cores.

The same teacher is asked in four ways; SmolLM2-135M learns from the same number of records of each, with the same
settings, several times over; and all students answer the same questions, which no teacher ever told.

    python experiments/student/run.py --out student        goes on where it stopped
    python experiments/student/run.py --out quick --quick  a smoke test; its figures mean nothing
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import results  # noqa: E402
import tasks  # noqa: E402

__all__ = ["ARMS", "EVALUATING", "TRAINING", "Arm", "main"]

MODEL = "local/smollm2"
TEMPLATE = "Q: {question}\nA:"
TRAINING: dict[str, Any] = {
    "lora": True, "lora_rank": 16, "learning_rate": 5e-4, "epochs": 4.0, "batch_size": 8, "max_length": 128,
    "threads": 1,
}  # fmt: skip
EVALUATING: dict[str, Any] = {
    "template": TEMPLATE, "stop": ("\n",), "max_tokens": 16, "batch_size": 64, "threads": 1,
}  # fmt: skip
UNTRAINED = "untrained"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to ask the teacher: the pipeline, and which teacher it asks."""

    name: str
    title: str
    spec: str
    way: str


ARMS = (
    Arm("collapsed", "direct, as it comes", "collapsed", "aligned"),
    Arm("distinct", "direct, until all differ", "distinct", "aligned"),
    Arm("strict", "verbalized, strict teacher", "spread", "strict"),
    Arm("spread", "verbalized", "spread", "aligned"),
)


@dataclass(frozen=True, slots=True)
class Size:
    """How much: records to learn from, questions of each kind, seeds, steps of a training (None: all), arms."""

    records: int = 256
    per_kind: int = 8
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    steps: int | None = None
    arms: tuple[Arm, ...] = ARMS


QUICK = Size(records=16, per_kind=1, seeds=(1,), steps=2, arms=(ARMS[0], ARMS[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("student-experiment"), help="The folder of it all.")
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="Seeds; each has other common questions. Default: 1 to 5."
    )
    parser.add_argument("--workers", type=int, default=2, help="Trainings at a time, each on one core.")
    parser.add_argument("--port", type=int, default=18765, help="Where the teacher listens, on the loopback.")
    parser.add_argument("--quick", action="store_true", help="Tiny, to see that it works.")
    asked = parser.parse_args()
    size = QUICK if asked.quick else Size(seeds=tuple(asked.seeds or Size().seeds))
    out: Path = asked.out
    out.mkdir(parents=True, exist_ok=True)
    spent = results.Spent(out / "seconds.json")
    with spent.on("generating"):
        data = generate(out, size, asked.port)
    with spent.on("training and evaluating"):
        learn(out, size, asked.workers)
    with spent.on("analysing"):
        found = results.analyse(out, size, data, settings())
    found["seconds"] = spent.seconds
    results.write(found, out)


def settings() -> dict[str, Any]:
    from outspoken.training.settings import TrainSettings

    return {
        "model": MODEL,
        "training": TrainSettings(**TRAINING).to_dict(),
        "evaluating": EVALUATING,
        "teacher": {"gamma": teacher_gamma(), "kinds": len(tasks.KINDS), "kind_exponent": tasks.KIND_EXPONENT,
                    "record_exponent": tasks.RECORD_EXPONENT},
    }  # fmt: skip


def teacher_gamma() -> float:
    import teacher

    return teacher.GAMMA


def generate(out: Path, size: Size, port: int) -> dict[str, Any]:
    """The records of each arm and seed, through the pipeline; what each set is like and what it took."""
    data = out / "data"
    data.mkdir(exist_ok=True)
    write_lines(
        data / "test.jsonl",
        ({"question": r.question, "answer": r.answer, "kind": r.kind} for r in tasks.test_records(size.per_kind)),
    )
    for spec in {arm.spec for arm in size.arms}:
        shutil.copy(HERE / f"{spec}.toml", data)
    told: dict[str, Any] = {}
    todo = [(arm, seed) for seed in size.seeds for arm in size.arms]
    with serving(port) as url:
        for number, (arm, seed) in enumerate(todo, 1):
            told[f"{arm.name}-{seed}"] = made = make(data, arm, seed, size.records, url)
            what = f"{made['distinct']} different records of {made['kinds']} kinds"
            say(f"data {number}/{len(todo)} {arm.name}-{seed}: {made['requests']:,} requests, {what}")
    return told


def make(data: Path, arm: Arm, seed: int, records: int, url: str) -> dict[str, Any]:
    """One set of records. A few more are asked for than are used, for those that a step may remove."""
    from outspoken.synth import synthesize

    folder = data / f"{arm.name}-{seed}"
    summary = synthesize(
        str(data / f"{arm.spec}.toml"),
        out=folder,
        model=f"{url}#{arm.way}-{seed}",
        count=records + max(2, records // 32),
    )
    chats = [json.loads(line)["messages"] for line in (folder / "export" / "train.jsonl").read_text().splitlines()]
    if len(chats) < records:
        raise SystemExit(f"{folder} holds {len(chats)} records and {records} are wanted: look at its report.html")
    rows = [
        {"prompt": TEMPLATE.format(question=asked["content"]), "completion": f" {answer['content']}"}
        for asked, answer in chats[:records]
    ]
    write_lines(folder / "records.jsonl", rows)
    kind_of = {TEMPLATE.format(question=r.question): r.kind for r in tasks.world(seed).records}
    tested = {TEMPLATE.format(question=r.question) for r in tasks.test_records(tasks.HELD_OUT)}
    if any(row["prompt"] in tested for row in rows):
        raise SystemExit(f"{folder} holds questions of the test: the experiment is void")
    asked_for = summary["steps"][0]["figures"]
    kinds = Counter(kind_of[row["prompt"]] for row in rows)
    return {
        "requests": asked_for["requests"],
        "tokens": asked_for["tokens"],
        "responses": asked_for["responses"],
        "seconds": sum(step["seconds"] for step in summary["steps"]),
        "contaminated": sum(
            sum(step["removed"].values()) for step in summary["steps"] if "decontaminate" in step["step"]
        ),
        "records": len(rows),
        "distinct": len({row["prompt"] for row in rows}),
        "kinds": len(kinds),
        "told": dict(kinds),
    }


@contextmanager
def serving(port: int) -> Iterator[str]:
    """The teacher in a process of its own; gives its address."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "teacher.py"), "--port", str(port)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise SystemExit(f"the teacher does not start on port {port}: name another with --port")
            yield url
        finally:
            process.terminate()


def learn(out: Path, size: Size, workers: int) -> None:
    """Train and evaluate whatever is not finished."""
    todo = [(arm.name, seed) for seed in size.seeds for arm in size.arms]
    jobs = [(UNTRAINED, 0), *todo]
    missing = [job for job in jobs if not (results.folder(out, *job) / "right.json").is_file()]
    begun, done = time.monotonic(), len(jobs) - len(missing)
    # Threads of one training wait for each other at every step; two trainings of one thread each do not.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(student, out, *job, size.steps): job for job in missing}
        for ended in as_completed(waiting):
            arm, seed = waiting[ended]
            right = ended.result()
            done += 1
            say(f"student {done}/{len(jobs)} {arm}-{seed}: {right:.1%} right ({time.monotonic() - begun:.0f} s)")


def student(out: Path, arm: str, seed: int, steps: int | None) -> float:
    """One training and its evaluation; the share of right answers. right.json, written last, says which."""
    from outspoken.training import evaluate, train

    folder, begun = results.folder(out, arm, seed), time.monotonic()
    source, told = MODEL, None
    if arm != UNTRAINED:
        made = train(
            out / "data" / f"{arm}-{seed}" / "records.jsonl",
            out=folder / "training",
            model=MODEL,
            seed=seed,
            max_steps=steps,
            **TRAINING,
        )
        source, told = str(folder / "training"), made.losses
    trained = time.monotonic()
    evaluate(
        out / "data" / "test.jsonl",
        students={"student": source},
        out=folder / "evaluation",
        **EVALUATING,
    )
    right = results.marked(out / "data" / "test.jsonl", folder / "evaluation")
    seconds = {"train": round(trained - begun, 1), "evaluate": round(time.monotonic() - trained, 1)}
    # Twenty students take more than five gigabytes, and are made again from their seeds.
    shutil.rmtree(folder / "training" / "model", ignore_errors=True)
    (folder / "right.json").write_text(json.dumps({"right": right, "seconds": seconds, "losses": told}))
    return sum(right) / len(right)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Leave alone what says the same, so that steps which read it are not done again."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
