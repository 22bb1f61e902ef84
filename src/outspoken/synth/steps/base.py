"""What steps share: their input and outcome, their options, and the loop of those that remove records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from outspoken.engine.concurrency import in_thread
from outspoken.errors import UnknownNameError, UsageError
from outspoken.synth.records import RecordWriter, batches, count, names_in, pa, with_columns

if TYPE_CHECKING:
    from outspoken.batch.file import FileRun
    from outspoken.batch.ray.driver import RayRun

__all__ = [
    "BatchDecision",
    "ExecutionEngine",
    "Step",
    "StepCost",
    "StepFiles",
    "StepOptions",
    "StepOutcome",
    "StepProgress",
    "filter_records",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ExecutionEngine:
    """Where the work of a step runs: on this machine, or on a Ray cluster."""

    kind: Literal["local", "ray"] = "local"
    address: str | None = None
    workers: int | None = None


class StepProgress:
    """The progress of a step, and the way to stop it.

    `done` of `total` records (None: unknown) have passed the `stage`, such as "embedding". A step that asks a
    model sets `running` to its batch run, which `stop` ends without losing a reply. Other steps are cancelled.
    """

    def __init__(self) -> None:
        self.stage = ""
        self.done = 0
        self.total: int | None = None
        self.running: FileRun | RayRun | None = None
        self.stopped = ""

    def update(self, stage: str, done: int, total: int | None = None) -> None:
        self.stage, self.done, self.total = stage, done, total

    def stop(self, reason: str) -> bool:
        """Send no more requests. Returns whether a batch run is under way, which then ends by itself."""
        self.stopped = reason
        if self.running is None:
            return False
        self.running.stop(reason)
        return True


@dataclass(frozen=True, slots=True)
class StepFiles:
    """The files of the step `name`, such as "02-deduplicate", in the pipeline's `folder`."""

    name: str
    folder: Path

    @property
    def out(self) -> Path:
        """The kept records."""
        return self.folder / f"{self.name}.parquet"

    @property
    def removed(self) -> Path:
        """The removed records, with `reason` and perhaps `because_of` and `similarity`."""
        return self.folder / f"{self.name}.removed.parquet"

    @property
    def manifest(self) -> Path:
        return self.folder / f"{self.name}.json"


@dataclass(frozen=True, slots=True)
class Step(StepFiles):
    """One execution of a step: its files, its input, and the settings of the pipeline.

    `source` is the Parquet file that the previous step wrote, None for a step without input.
    """

    source: Path | None = None
    seed: int = 0
    model: str | None = None
    engine: ExecutionEngine = ExecutionEngine()
    progress: StepProgress = field(default_factory=StepProgress)

    @property
    def ledger(self) -> Path:
        """The ledger with the replies of all steps."""
        return self.folder / "ledger.sqlite"

    def needed_source(self) -> Path:
        """The source. Raises `UsageError` if there is none."""
        if self.source is None:
            raise UsageError(
                f"the step {self.name} needs records, and none came before it: put a step generate before it, or "
                'name a file of records with input = "FILE"'
            )
        return self.source


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Base class of a step's options: a frozen dataclass with a field for each key of its table in the spec.

    `ASKING` names the settings of a batch run that the step accepts too; its field `asking` holds them.
    """

    ASKING: ClassVar[tuple[str, ...]] = ()

    def check(self, model: str | None = None) -> None:
        """Raise `UsageError` for problems that would end the step later, such as a missing file."""

    def model_name(self, default: str | None) -> str | None:
        """The model that the step asks, None if it asks none; `default` is the pipeline's."""
        return None

    def templates(self) -> dict[str, str]:
        """The templates by the names of their options; their fields must exist in the records."""
        return {}

    def added_fields(self) -> tuple[str, ...]:
        """The fields that the step adds to each record."""
        return ()

    def fields_after(self, before: Collection[str] | None) -> set[str] | None:
        """The fields of the records after the step; `before` are those of its input. None: unknown.

        Raises `UsageError` for a template with a field that no record has.
        """
        if before is None:
            return None
        known = {*before, *self.added_fields()}
        for option, template in self.templates().items():
            for name in names_in(template) - known:
                raise UnknownNameError(f"field in {option}:", name, before, see=f"write {{{{{name}}}}} for braces")
        return known


@dataclass(frozen=True, slots=True)
class StepCost:
    """The cost of all replies of a step, also of those from earlier executions.

    `from_ledger` of the `requests` were in the ledger already. `usd` is None if the price is unknown.
    """

    requests: int = 0
    from_ledger: int = 0
    tokens: int = 0
    usd: float | None = 0.0
    failures: int = 0

    def __add__(self, other: StepCost) -> StepCost:
        pairs = [(getattr(self, entry.name), getattr(other, entry.name)) for entry in fields(StepCost)]
        sums: list[Any] = [None if None in pair else sum(pair) for pair in pairs]
        return StepCost(*sums)


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """The result of a step: the numbers of records it `kept` and, by reason, `removed`.

    `figures` are further results, as JSON values; `warnings` are for the user. `partly` says why the step is not
    finished ("" if it is): the next run does it again.
    """

    kept: int
    removed: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, object] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    partly: str = ""


@dataclass(frozen=True, slots=True)
class BatchDecision:
    """Which records of a batch are removed.

    `table` is the batch, perhaps with further columns. `reasons` says for each record why it is removed, None if
    it is kept. `details` are further columns (Arrow arrays) of the removed records.
    """

    table: Any
    reasons: Sequence[str | None]
    details: Mapping[str, Any] = field(default_factory=dict)


async def filter_records(
    step: Step,
    stage: str,
    decide: Callable[[Any, int], Awaitable[BatchDecision]],
    *,
    rows: int = 8192,
    tables: Iterable[Any] | None = None,
    total: int | None = None,
    out: Path | None = None,
    schema: Any = None,
) -> StepOutcome:
    """Write the records that `decide` keeps to `out` (default: `step.out`), and the others to `step.removed`.

    `decide` gets the records in batches of at most `rows`, each with the position of its first record. They come
    from `tables` with `total` records (default: the source of the step). `schema` is needed if there may be no
    batch at all. The outcome has the numbers alone, the most frequent reason first. Files appear only after all
    records were processed: cancelling leaves nothing behind.
    """
    if tables is None:
        source = step.needed_source()
        tables, total = batches(source, rows=rows), count(source)
    remaining = iter(tables)
    removed, done = Counter[str](), 0
    step.removed.unlink(missing_ok=True)
    with RecordWriter(out or step.out, schema) as kept_file, RecordWriter(step.removed) as removed_file:
        while (table := await in_thread(lambda _: next(remaining, None))) is not None:
            step.progress.update(stage, done, total)
            decision = await decide(table, done)
            await in_thread(partial(_write, decision, kept_file, removed_file))
            removed.update(reason for reason in decision.reasons if reason is not None)
            done += table.num_rows
    return StepOutcome(kept_file.rows, dict(removed.most_common()))


def _write(decision: BatchDecision, kept_file: RecordWriter, removed_file: RecordWriter, _: object) -> None:
    keep = pa.array([reason is None for reason in decision.reasons], pa.bool_())
    kept_file.write(decision.table.filter(keep))
    reasons = [reason for reason in decision.reasons if reason is not None]
    if reasons:
        table = decision.table.filter(pa.compute.invert(keep))
        removed_file.write(with_columns(table, {"reason": pa.array(reasons, pa.string()), **decision.details}))
