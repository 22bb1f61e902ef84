"""The run of a grid: one cell after the other into one folder with one ledger, so that it can go on for free."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from outspoken.batch.estimate import estimate
from outspoken.batch.file import BatchJob, FileRun
from outspoken.errors import LedgerError, OutputError, OutspokenError, UsageError
from outspoken.experiment.cells import CellResult, limit_tokens, read_cell
from outspoken.experiment.grid import Grid, GridCell
from outspoken.io.atomic import write_file as write_whole
from outspoken.ledger import Ledger

__all__ = ["GridRun", "claim_folder", "estimate_grid"]

LEDGER = "ledger.sqlite"
_SPEC = "spec.json"
# Rounds in which an arm is brought to another's tokens, and how far beyond the guess each goes.
_ROUNDS, _MARGIN = 4, 1.15


class GridRun:
    """The execution of a grid in a folder.

    Raises `UsageError` where the folder holds something else: a run that asked otherwise is replaced with
    `overwrite` alone. `cell` is the one at work and `running` its run, `finished` how many are done. `stop` ends
    it in good order; what came back is in the ledger, and the same grid in the same folder goes on from there.
    """

    def __init__(self, grid: Grid, folder: Path, *, overwrite: bool = False) -> None:
        self.grid = grid
        self.folder = folder
        self.ledger_path = folder / LEDGER
        self.cell: GridCell | None = None
        self.running: FileRun | None = None
        self.finished = 0
        self.stopped = ""
        self.requests = self.from_ledger = 0
        self.problems: list[str] = []
        # How many responses a cell with matched tokens was asked for, in the end.
        self._wanted: dict[str, int] = {}
        self._heard: set[str] = set()
        self._silent: dict[str, OutspokenError] = {}
        claim_folder(folder, grid.asked(), overwrite=overwrite)
        for name, text in _prompt_files(grid).items():
            (folder / "prompts").mkdir(exist_ok=True)
            _write(folder / "prompts" / name, text)
        (folder / "responses").mkdir(exist_ok=True)

    def stop(self, reason: str) -> None:
        """Ask nothing more; what is under way is waited for and kept."""
        self.stopped = reason
        if self.running is not None:
            self.running.stop(reason)

    async def run(self, progress: Callable[[str, int, int], None] | None = None) -> tuple[CellResult, ...]:
        """Ask all cells and say what came of each, in their order; () where it was stopped before the end.

        A cell that fails does not end the run: it stands in `problems`. Raises the first failure where no cell
        gave anything, and `UsageError` before the grid is asked where a model refuses a setting.
        """
        await self.grid.probe()
        for cell in sorted(self.grid.cells, key=lambda cell: bool(cell.arm.token_match)):
            if self.stopped:
                return ()
            self.cell = cell
            if cell.arm.token_match:
                await self._matched(cell)
            else:
                await self._ask(cell)
            self.finished += not self.stopped
        self.cell = None
        if self.stopped:
            return ()
        came = []
        for done, cell in enumerate(self.grid.cells, 1):
            came.append(await self._came(cell))
            if progress:
                progress("reading", done, len(self.grid.cells))
        if not any(asked.responses for one in came for asked in one.prompts):
            first = f"; the first of what went wrong: {self.problems[0]}" if self.problems else ""
            raise next(iter(self._silent.values()), OutspokenError(f"no cell gave any response{first}"))
        return tuple(came)

    async def _ask(self, cell: GridCell, wanted: int | None = None) -> None:
        model = cell.model.name
        if model in self._silent:
            return
        out = self.folder / "responses" / f"{cell.id}.parquet"
        job = BatchJob(self._source(cell), out, cell.plan(wanted), self.ledger_path, resume=True)
        running = self.running = FileRun(job)
        try:
            self._note(cell, await running.run())
        except (LedgerError, OutputError):
            raise
        except OutspokenError as error:
            if model not in self._heard:
                self._silent[model] = error
            self.problems.append(f"{_named(cell)}: {error}")
        finally:
            self.running = None
            running.close()
        self.requests += running.meter.requests
        self.from_ledger += running.meter.from_ledger
        if running.meter.responses:
            self._heard.add(model)

    def _note(self, cell: GridCell, summary: Mapping[str, Any]) -> None:
        """Keep what went wrong in a cell."""
        if summary["failures"]:
            share = f"{summary['failures']:,} of {summary['prompts']:,} prompts failed"
            first = summary["first_failures"][0]["message"] if summary["first_failures"] else ""
            self.problems.append(f"{_named(cell)}: {share}; the first: {first}")
        elif summary["stopped"] and not self.stopped:
            self.problems.append(f"{_named(cell)}: stopped, {summary['stopped']}")

    async def _matched(self, cell: GridCell) -> None:
        """Ask on until every prompt has used as many tokens as the matched arm did for it."""
        budget = await self._budget(cell)
        wanted = cell.wanted
        for _ in range(_ROUNDS):
            await self._ask(cell, wanted)
            if self.stopped or cell.model.name in self._silent:
                return
            self._wanted[cell.id] = wanted
            with Ledger(self.ledger_path) as ledger:
                came = await read_cell(cell, self._source(cell), ledger, wanted)
            used = {prompt: came.completion_tokens(prompt) for prompt in budget}
            short = max((budget[prompt] / max(1, used[prompt]) for prompt in budget), default=0.0)
            if short <= 1:
                return
            wanted = math.ceil(wanted * short * _MARGIN)
        self.problems.append(f"{_named(cell)}: it stopped before it had used the tokens of {cell.arm.token_match}")

    async def _budget(self, cell: GridCell) -> Mapping[str, int]:
        matched = self.grid.matched(cell)
        with Ledger(self.ledger_path) as ledger:
            came = await read_cell(matched, self._source(matched), ledger)
        return {asked.prompt_id: came.completion_tokens(asked.prompt_id) for asked in came.prompts}

    async def _came(self, cell: GridCell) -> CellResult:
        with Ledger(self.ledger_path) as ledger:
            came = await read_cell(cell, self._source(cell), ledger, self._wanted.get(cell.id))
        return limit_tokens(came, await self._budget(cell)) if cell.arm.token_match else came

    def _source(self, cell: GridCell) -> Path:
        return self.folder / "prompts" / _file_of(cell)


def claim_folder(folder: Path, asked: Mapping[str, Any], *, overwrite: bool) -> None:
    """Make `folder` the place of the experiment that `asked` describes, or see that it is.

    Raises `UsageError` where it holds something else.
    """
    record = folder / _SPEC
    if record.is_file():
        try:
            earlier = json.loads(record.read_bytes())["asked"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{record} cannot be read: name another folder with --out") from error
        if differing := [name for name in {**earlier, **asked} if earlier.get(name) != asked.get(name)]:
            if not overwrite:
                raise UsageError(
                    f"{folder} holds an experiment with other {' and '.join(differing)} "
                    f"({_difference(earlier, asked, differing[0])}): name another folder with --out, or replace "
                    "it with --overwrite (what its ledger holds is not asked again)"
                )
            shutil.rmtree(folder / "responses", ignore_errors=True)
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} holds something else: name another folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made: {error.strerror}") from error
    _write(record, json.dumps({"format": 1, "asked": asked}, ensure_ascii=False, indent=2) + "\n")


def estimate_grid(grid: Grid, folder: Path) -> dict[str, Any]:
    """Requests, tokens and cost of the whole grid, as `outspoken.batch.estimate` guesses them; nothing is sent."""
    totals: dict[str, Any] = {"cells": len(grid.cells), "requests": 0, "from_ledger": 0, "tokens": 0, "usd": 0.0}
    assumptions: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, text in _prompt_files(grid).items():
            Path(temporary, name).write_text(text, encoding="utf-8")
        for cell in grid.cells:
            out = Path(temporary, f"{cell.id}.parquet")
            found = estimate(BatchJob(Path(temporary, _file_of(cell)), out, cell.plan(), folder / LEDGER))
            for name in ("requests", "from_ledger", "tokens"):
                totals[name] += found[name]
            known = totals["usd"] is not None and found["usd"] is not None
            totals["usd"] = totals["usd"] + found["usd"] if known else None
            assumptions |= dict.fromkeys(found["assumptions"])
            if cell.arm.token_match:
                assumptions[f"{cell.arm.name} asks on until it has used the tokens of {cell.arm.token_match}"] = (
                    None
                )
    spec = grid.spec
    judged = sum(cell.wanted * len(cell.task.prompts) for cell in grid.cells if spec.rubric or cell.task.rubric)
    if spec.judge and judged:
        said = f"{spec.judge} judges about {judged:,} responses, a request each at most: these are not counted"
        assumptions[said] = None
    return totals | {"assumptions": list(assumptions)}


def _prompt_files(grid: Grid) -> dict[str, str]:
    """The lines of the prompts of each task, by the name of their file."""
    files = {}
    for cell in grid.cells:
        lines = [{"id": prompt.id, "prompt": prompt.prompt} for prompt in cell.task.prompts]
        files[_file_of(cell)] = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return files


def _write(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def _file_of(cell: GridCell) -> str:
    return f"{cell.task.name}.jsonl"


def _named(cell: GridCell) -> str:
    return ", ".join([cell.task.name, cell.arm.name, cell.model.name])


def _difference(earlier: Mapping[str, Any], asked: Mapping[str, Any], name: str) -> str:
    there, here = (json.dumps(each.get(name), ensure_ascii=False) for each in (earlier, asked))
    return f"{name} {_short(there)} there, {_short(here)} here"


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:119] + "…"
