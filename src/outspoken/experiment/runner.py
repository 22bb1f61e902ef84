"""Running a grid: one cell after the other, into one folder with one ledger."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from outspoken.batch.estimate import estimate
from outspoken.batch.file import BatchJob, FileRun, FileRunSummary
from outspoken.engine import RunMetrics
from outspoken.errors import LedgerError, OutputError, OutspokenError
from outspoken.experiment.cells import CellResult, limit_tokens, read_cell
from outspoken.experiment.folder import LEDGER, ExperimentFolder, FolderHolder
from outspoken.experiment.grid import Grid, GridCell
from outspoken.io.atomic import write_bytes
from outspoken.io.text import json_bytes, plural
from outspoken.ledger import Ledger
from outspoken.tasks import Task

__all__ = ["GridEstimate", "GridRun", "estimate_grid"]

# The most rounds of asking until an arm has used the tokens of another, and the factor by which each exceeds the
# estimate.
_ROUNDS, _MARGIN = 4, 1.15


class GridRun(FolderHolder):
    """The run of a grid in a folder, which it locks until `close`.

    `finished` is the number of finished cells, `finished_before` that of an earlier run of the same grid (None in
    a new folder). `cell` is the current one, and `metrics` are those of its run. `requests` were sent, and replies
    `from_ledger` were reused. `problems` are sentences about failures. `stop` ends the run in good order; a new
    run of the grid in the same folder continues, because every reply is in the ledger.

    Raises `UsageError` for a folder that holds something else or another experiment (unless `overwrite` is set),
    and if another process is writing it.
    """

    def __init__(self, grid: Grid, folder: Path, *, overwrite: bool = False) -> None:
        self.grid = grid
        self.cell: GridCell | None = None
        self._running: FileRun | None = None
        self.finished = 0
        self.requests = self.from_ledger = 0
        self.problems: list[str] = []
        self._stopped = ""
        # The number of responses that a cell with matched tokens was asked for in the last round.
        self._wanted: dict[str, int] = {}
        self._responding: set[str] = set()
        self._unresponsive: dict[str, OutspokenError] = {}
        self.folder = ExperimentFolder(folder, grid.content(), overwrite=overwrite)
        self.finished_before = (
            sum(self.folder.is_finished(cell.id) for cell in grid.cells) if self.folder.continues else None
        )
        try:
            for task in grid.tasks:
                write_bytes(self.folder.prompts(task.name), _prompt_lines(task), private=True)
        except BaseException:
            self.close()
            raise

    @property
    def metrics(self) -> RunMetrics | None:
        """The figures of the current cell's run."""
        return None if self._running is None else self._running.metrics

    def stop(self, reason: str) -> bool:
        """Send nothing more. Returns whether there are requests to wait for."""
        self._stopped = reason
        if self._running is not None:
            self._running.stop(reason)
        return self.cell is not None

    async def run(self, progress: Callable[[str, int, int], None] | None = None) -> tuple[CellResult, ...]:
        """Ask all cells; returns their results in order, () if the run was stopped.

        A failing cell does not end the run; it is described in `problems`. Raises `UsageError` if a model refuses
        a setting, and the first failure if no cell has a response.
        """
        await self.grid.probe()
        for cell in sorted(self.grid.cells, key=lambda cell: bool(cell.arm.token_match)):
            if self._stopped:
                return ()
            self.cell = cell
            if cell.arm.token_match:
                await self._match_tokens(cell)
            else:
                await self._ask(cell)
            self.finished += not self._stopped
        self.cell = None
        if self._stopped:
            return ()
        results = []
        for done, cell in enumerate(self.grid.cells, 1):
            results.append(await self._result(cell))
            if progress:
                progress("reading", done, len(self.grid.cells))
        if not any(prompt.responses for result in results for prompt in result.prompts):
            first = f"; the first problem: {self.problems[0]}" if self.problems else ""
            raise next(iter(self._unresponsive.values()), OutspokenError(f"no cell has any response{first}"))
        return tuple(results)

    async def _ask(self, cell: GridCell, wanted: int | None = None) -> None:
        model = cell.model.name
        if model in self._unresponsive:
            return
        source, out = self.folder.prompts(cell.task.name), self.folder.responses(cell.id)
        out.parent.mkdir(0o700, exist_ok=True)
        job = BatchJob(source, out, cell.plan(wanted), self.folder.ledger, overwrite="changed")
        running = self._running = FileRun(job)
        try:
            self._note_failures(cell, await running.run())
        except (LedgerError, OutputError):
            raise
        except OutspokenError as error:
            if model not in self._responding:
                self._unresponsive[model] = error
            self.problems.append(f"{cell.name}: {error}")
        finally:
            self._running = None
            running.close()
        self.requests += running.metrics.requests
        self.from_ledger += running.metrics.from_ledger
        if running.metrics.responses:
            self._responding.add(model)

    def _note_failures(self, cell: GridCell, summary: FileRunSummary) -> None:
        if summary.failures:
            first = f"; the first: {summary.first_failures[0].message}" if summary.first_failures else ""
            counts = f"{summary.failures:,} of {plural(summary.prompts, 'prompt')} failed"
            self.problems.append(f"{cell.name}: {counts}{first}")
        elif summary.stopped and not self._stopped:
            self.problems.append(f"{cell.name}: stopped, {summary.stopped}")

    async def _match_tokens(self, cell: GridCell) -> None:
        """Ask until every prompt has used as many tokens as the matched arm used for it."""
        budget = await self._token_budget(cell)
        wanted = cell.wanted
        for _ in range(_ROUNDS):
            await self._ask(cell, wanted)
            if self._stopped or cell.model.name in self._unresponsive:
                return
            self._wanted[cell.id] = wanted
            result = await self._read(cell, wanted)
            used = {prompt: result.completion_tokens(prompt) for prompt in budget}
            ratio = max((budget[prompt] / max(1, used[prompt]) for prompt in budget), default=0.0)
            if ratio <= 1:
                return
            wanted = math.ceil(wanted * ratio * _MARGIN)
        self.problems.append(f"{cell.name}: ended before it had used the tokens of {cell.arm.token_match}")

    async def _token_budget(self, cell: GridCell) -> Mapping[str, int]:
        result = await self._read(self.grid.matched(cell))
        return {prompt.prompt_id: result.completion_tokens(prompt.prompt_id) for prompt in result.prompts}

    async def _result(self, cell: GridCell) -> CellResult:
        result = await self._read(cell, self._wanted.get(cell.id))
        return limit_tokens(result, await self._token_budget(cell)) if cell.arm.token_match else result

    async def _read(self, cell: GridCell, wanted: int | None = None) -> CellResult:
        with Ledger(self.folder.ledger) as ledger:
            return await read_cell(cell, self.folder.prompts(cell.task.name), ledger, wanted)


@dataclass(frozen=True, slots=True)
class GridEstimate:
    """The expected size and price of a grid's run, and the `assumptions` behind it as sentences.

    `from_ledger` requests have been answered and are not among `requests`. `usd` is None if the price is unknown.
    """

    cells: int
    requests: int
    from_ledger: int
    tokens: int
    usd: float | None
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, object]:
        """A JSON-ready dictionary."""
        return asdict(self)


def estimate_grid(grid: Grid, folder: Path) -> GridEstimate:
    """Estimate the run of a grid in a folder, as `outspoken.batch.estimate` does for a run. Nothing is sent."""
    estimates = []
    assumptions: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for task in grid.tasks:
            Path(temporary, f"{task.name}.jsonl").write_bytes(_prompt_lines(task))
        for cell in grid.cells:
            source, out = Path(temporary, f"{cell.task.name}.jsonl"), Path(temporary, f"{cell.id}.parquet")
            estimates.append(estimate(BatchJob(source, out, cell.plan(), folder / LEDGER)))
            assumptions |= dict.fromkeys(estimates[-1].assumptions)
            if cell.arm.token_match:
                match = f"{cell.arm.name} continues until it has used the tokens of {cell.arm.token_match}"
                assumptions[match] = None
    spec = grid.spec
    judged = sum(cell.wanted * len(cell.task.prompts) for cell in grid.cells if spec.rubric or cell.task.rubric)
    if spec.judge and judged:
        responses = plural(judged, "response")
        assumptions[f"{spec.judge} judges about {responses}; these requests are not included"] = None
    prices = [one.usd for one in estimates if one.usd is not None]
    return GridEstimate(
        cells=len(estimates),
        requests=sum(one.requests for one in estimates),
        from_ledger=sum(one.from_ledger for one in estimates),
        tokens=sum(one.tokens for one in estimates),
        usd=sum(prices) if len(prices) == len(estimates) else None,
        assumptions=tuple(assumptions),
    )


def _prompt_lines(task: Task) -> bytes:
    lines = [{"id": prompt.id, "prompt": prompt.prompt} for prompt in task.prompts]
    return b"".join(json_bytes(line) + b"\n" for line in lines)
