"""Does the diversity of its training data change a student? An experiment for two cores.

The same teacher is asked in four ways; SmolLM2-135M learns from the same number of records of each, with the same
settings and several seeds; and all students answer the same questions, which no teacher ever gave.

    python experiments/student/run.py --out student        the same command continues where it stopped
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
QUESTION_FORMAT = "Q: {question}\nA:"
TRAINING: dict[str, Any] = {
    "lora": True, "lora_rank": 16, "learning_rate": 5e-4, "epochs": 4.0, "batch_size": 8, "max_length": 128,
    "threads": 1,
}  # fmt: skip
EVALUATING: dict[str, Any] = {
    "question_format": QUESTION_FORMAT, "stop": ("\n",), "max_tokens": 16, "batch_size": 64, "threads": 1,
}  # fmt: skip
UNTRAINED = "untrained"


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to ask the teacher: the pipeline, and the teacher's behaviour (see `teacher.py`)."""

    name: str
    title: str
    spec: str
    behaviour: str


ARMS = (
    Arm("collapsed", "direct, as it comes", "collapsed", "aligned"),
    Arm("distinct", "direct, until all differ", "distinct", "aligned"),
    Arm("strict", "verbalized, strict teacher", "spread", "strict"),
    Arm("spread", "verbalized", "spread", "aligned"),
)


@dataclass(frozen=True, slots=True)
class Size:
    """The size of the experiment: training records, questions of each kind, seeds, steps of a training (None:
    all), arms."""

    records: int = 256
    per_kind: int = 8
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    steps: int | None = None
    arms: tuple[Arm, ...] = ARMS


QUICK = Size(records=16, per_kind=1, seeds=(1,), steps=2, arms=(ARMS[0], ARMS[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("student-experiment"), help="The output folder.")
    parser.add_argument(
        "--seeds", type=int, nargs="+", help="Seeds; each has other common questions. Default: 1 to 5."
    )
    parser.add_argument("--workers", type=int, default=2, help="Trainings at a time, each on one core.")
    parser.add_argument("--port", type=int, default=18765, help="The teacher's port on the loopback address.")
    parser.add_argument("--quick", action="store_true", help="A tiny run, to check that it works.")
    options = parser.parse_args()
    size = QUICK if options.quick else Size(seeds=tuple(options.seeds or Size().seeds))
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    spent = results.TimeSpent(out / "seconds.json")
    with spent.on("generating"):
        data = generate(out, size, options.port)
    with spent.on("training and evaluating"):
        learn(out, size, options.workers)
    with spent.on("analysing"):
        analysis = results.analyse(out, size, data, settings())
    analysis["seconds"] = spent.seconds
    results.write(analysis, out)


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
    """Generate the records of each arm and seed; returns a summary of each set."""
    data = out / "data"
    data.mkdir(exist_ok=True)
    write_lines(
        data / "test.jsonl",
        ({"question": r.question, "answer": r.answer, "kind": r.kind} for r in tasks.test_records(size.per_kind)),
    )
    for spec in {arm.spec for arm in size.arms}:
        shutil.copy(HERE / f"{spec}.toml", data)
    summaries: dict[str, Any] = {}
    todo = [(arm, seed) for seed in size.seeds for arm in size.arms]
    with serving(port) as url:
        for number, (arm, seed) in enumerate(todo, 1):
            summaries[f"{arm.name}-{seed}"] = summary = make(data, arm, seed, size.records, url)
            what = f"{summary['distinct']} different records of {summary['kinds']} kinds"
            report(f"data {number}/{len(todo)} {arm.name}-{seed}: {summary['requests']:,} requests, {what}")
    return summaries


def make(data: Path, arm: Arm, seed: int, records: int, url: str) -> dict[str, Any]:
    """Generate one set of records: a few more than are used, as steps may remove some."""
    from outspoken.synth import synthesize

    folder = data / f"{arm.name}-{seed}"
    summary = synthesize(
        str(data / f"{arm.spec}.toml"),
        out=folder,
        model=f"{url}#{arm.behaviour}-{seed}",
        count=records + max(2, records // 32),
    )
    chats = [json.loads(line)["messages"] for line in (folder / "export" / "train.jsonl").read_text().splitlines()]
    if len(chats) < records:
        raise SystemExit(f"{folder} holds {len(chats)} records and {records} are needed: look at its report.html")
    rows = [
        {"prompt": QUESTION_FORMAT.format(question=question["content"]), "completion": f" {answer['content']}"}
        for question, answer in chats[:records]
    ]
    write_lines(folder / "records.jsonl", rows)
    kind_of = {QUESTION_FORMAT.format(question=r.question): r.kind for r in tasks.world(seed).records}
    tested = {QUESTION_FORMAT.format(question=r.question) for r in tasks.test_records(tasks.HELD_OUT)}
    if any(row["prompt"] in tested for row in rows):
        raise SystemExit(f"{folder} holds questions of the test: the experiment is void")
    generated = summary.steps[0].figures
    kinds = Counter(kind_of[row["prompt"]] for row in rows)
    return {
        "requests": generated["requests"],
        "tokens": generated["tokens"],
        "responses": generated["responses"],
        "seconds": sum(step.seconds for step in summary.steps),
        "contaminated": sum(sum(step.removed.values()) for step in summary.steps if step.do == "decontaminate"),
        "records": len(rows),
        "distinct": len({row["prompt"] for row in rows}),
        "kinds": len(kinds),
        "records_by_kind": dict(kinds),
    }


@contextmanager
def serving(port: int) -> Iterator[str]:
    """Run the teacher in its own process; yields its address."""
    with subprocess.Popen(
        [sys.executable, str(HERE / "teacher.py"), "--port", str(port)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise SystemExit(f"the teacher does not start on port {port}: choose another with --port")
            yield url
        finally:
            process.terminate()


def learn(out: Path, size: Size, workers: int) -> None:
    """Train and evaluate the students that are not finished."""
    todo = [(arm.name, seed) for seed in size.seeds for arm in size.arms]
    jobs = [(UNTRAINED, 0), *todo]
    missing = [job for job in jobs if not (results.folder(out, *job) / "right.json").is_file()]
    begun, done = time.monotonic(), len(jobs) - len(missing)
    # The threads of one training wait for each other at every step; two single-threaded trainings do not.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(student, out, *job, size.steps): job for job in missing}
        for ended in as_completed(waiting):
            arm, seed = waiting[ended]
            right = ended.result()
            done += 1
            report(
                f"student {done}/{len(jobs)} {arm}-{seed}: {right:.1%} right ({time.monotonic() - begun:.0f} s)"
            )


def student(out: Path, arm: str, seed: int, steps: int | None) -> float:
    """Train and evaluate one student; returns the share of right answers. right.json is written last."""
    from outspoken.training import evaluate, train

    folder, begun = results.folder(out, arm, seed), time.monotonic()
    source, losses = MODEL, None
    if arm != UNTRAINED:
        trained = train(
            out / "data" / f"{arm}-{seed}" / "records.jsonl",
            out=folder / "training",
            model=MODEL,
            seed=seed,
            max_steps=steps,
            **TRAINING,
        )
        source, losses = str(folder / "training"), trained.losses
    training_end = time.monotonic()
    evaluate(
        out / "data" / "test.jsonl",
        students={"student": source},
        out=folder / "evaluation",
        **EVALUATING,
    )
    right = results.graded(out / "data" / "test.jsonl", folder / "evaluation")
    seconds = {"train": round(training_end - begun, 1), "evaluate": round(time.monotonic() - training_end, 1)}
    # Twenty students take more than five gigabytes; they can be trained again from their seeds.
    shutil.rmtree(folder / "training" / "model", ignore_errors=True)
    (folder / "right.json").write_text(json.dumps({"right": right, "seconds": seconds, "losses": losses}))
    return sum(right) / len(right)


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write the file only if its content changes, so that steps which read it are not repeated."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def report(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
