"""What a step of a pipeline is given, and what it says of itself when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from outspoken.errors import UsageError

if TYPE_CHECKING:
    from outspoken.batch.file import FileRun
    from outspoken.batch.ray.driver import RayRun

__all__ = ["ExecutionEngine", "Step", "StepOutcome", "StepProgress"]


@dataclass(frozen=True, slots=True)
class ExecutionEngine:
    """Where a step's work is done: on this machine, or over a Ray cluster."""

    kind: Literal["local", "ray"] = "local"
    address: str | None = None
    workers: int | None = None


class StepProgress:
    """How a step is going, for whoever looks on, and the way to stop it.

    A step that asks a model puts its run into `running`: stopping ends that in good order, and nothing that came
    back is lost. Other steps are ended by cancelling them.
    """

    def __init__(self) -> None:
        self.what = ""
        self.done = 0
        self.total: int | None = None
        self.running: FileRun | RayRun | None = None
        self.stopped = ""

    def tell(self, what: str, done: int, total: int | None = None) -> None:
        """`done` of `total` (None: nobody knows) of `what` ("embedding") are finished."""
        self.what, self.done, self.total = what, done, total

    def stop(self, reason: str) -> None:
        self.stopped = reason
        if self.running is not None:
            self.running.stop(reason)


@dataclass(frozen=True, slots=True)
class Step:
    """One step at work: the records it gets, where its own go, and what the whole pipeline has in common.

    `source` is the Parquet file of the step before (None for a step that begins). `name` is its number and name,
    "02-deduplicate", and the beginning of the names of all its files in `folder`.
    """

    name: str
    folder: Path
    source: Path | None = None
    seed: int = 0
    model: str | None = None
    engine: ExecutionEngine = ExecutionEngine()
    watch: StepProgress = field(default_factory=StepProgress)

    @property
    def out(self) -> Path:
        """Where the records go that it keeps."""
        return self.folder / f"{self.name}.parquet"

    @property
    def removed(self) -> Path:
        """Where those go that it removes: with `reason`, and perhaps `because_of` and `similarity`."""
        return self.folder / f"{self.name}.removed.parquet"

    @property
    def ledger(self) -> Path:
        """The replies of all steps."""
        return self.folder / "ledger.sqlite"

    def needed(self) -> Path:
        """The source. Raises `UsageError` where there is none."""
        if self.source is None:
            raise UsageError(
                f"the step {self.name} works on records and none came before it: put a step generate before it, "
                'or name a file of records with input = "FILE"'
            )
        return self.source


@dataclass(frozen=True, slots=True)
class StepOutcome:
    """What came of a step: how many records it `kept` and, by reason, `removed`; `figures` of its own; `warnings`
    for the reader. `partly` says why it is not finished ("" where it is): its records stand, and it is run again.
    """

    kept: int
    removed: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    partly: str = ""
