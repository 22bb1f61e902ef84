"""The execution of a pipeline: its steps one after the other in a folder, continued where it stopped."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

from outspoken._version import __version__
from outspoken.batch.ray.cluster import connected
from outspoken.engine import run as run_sync
from outspoken.engine.concurrency import in_thread
from outspoken.errors import NothingLeftError, UsageError
from outspoken.io.atomic import check_room, write_bytes
from outspoken.io.lock import FolderLock
from outspoken.io.text import json_bytes
from outspoken.models import default_name, get_model
from outspoken.synth.manifest import StepManifest
from outspoken.synth.records import count, import_records
from outspoken.synth.spec import STEPS, PipelineSpec, PlannedStep, digest, load, step_key
from outspoken.synth.steps import custom_step
from outspoken.synth.steps.base import ExecutionEngine, Step, StepFiles, StepProgress

__all__ = ["Pipeline", "PipelineSummary", "synthesize"]

_MARK = "synth.json"
# A new pipeline accepts a folder with these files: those of a failed start, and a ledger to use again.
_ALLOWED = (".lock", "ledger.sqlite", "ledger.sqlite-shm", "ledger.sqlite-wal")
_INPUT = "00-input.parquet"
_ROOM = 64 * 2**20

OnStep = Callable[[StepManifest, bool], None]
"""Called for each step with its manifest, and whether it was done now and not earlier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineSummary:
    """The result of an execution: the number of `records` that the last step kept, in the file `out`.

    `steps` are the manifests of the steps that were done, now or earlier. `stopped` says why it was stopped early,
    `partly` lists unfinished steps with the reason. `report` is the path of the page, None if it was stopped.
    """

    name: str
    folder: str
    records: int
    steps: tuple[StepManifest, ...]
    stopped: str
    seconds: float
    out: str
    report: str | None

    @property
    def partly(self) -> tuple[str, ...]:
        return tuple(f"{done.step}: {done.partly}" for done in self.steps if done.partly)

    @property
    def warnings(self) -> tuple[str, ...]:
        return tuple(f"{done.step}: {warning}" for done in self.steps for warning in done.warnings)

    def to_dict(self) -> dict[str, object]:
        """The JSON document that `outspoken synth --json` prints."""
        names = ("step", "records", "kept", "removed", "seconds", "figures", "partly")
        steps = [{name: getattr(done, name) for name in names} for done in self.steps]
        own = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {**own, "steps": steps, "partly": list(self.partly), "warnings": list(self.warnings)}


class Pipeline:
    """The execution of a spec in a folder, which it locks until `close`.

    A step that was finished with the same settings and input is not done again. A step whose settings changed is
    done again, with all later ones, and asks for no reply that is in the ledger. `continued` is True if the folder
    was this pipeline's already. Raises `UsageError` if it contains something else or a pipeline of another name,
    or is in use by another process.
    """

    def __init__(self, spec: PipelineSpec, folder: Path, *, engine: ExecutionEngine | None = None) -> None:
        self.spec = spec
        self.folder = folder
        self.progress = StepProgress()
        self.current: PlannedStep | None = None
        self._engine = engine or ExecutionEngine()
        self.continued = _is_own(spec, folder)
        self._lock = FolderLock(folder)
        try:
            mark = {"format": 1, "name": spec.name, "version": __version__, "spec": spec.source}
            write_bytes(folder / _MARK, json_bytes(mark, indent=2) + b"\n")
        except BaseException:
            self._lock.release()
            raise

    def close(self) -> None:
        """Release the folder."""
        self._lock.release()

    def stop(self, reason: str) -> bool:
        """Send no more requests. Returns whether some are under way: then `run` ends after their replies."""
        return self.progress.stop(reason)

    def finished_steps(self) -> int:
        """The number of leading steps that `run` will not do again."""
        before: StepManifest | None = None
        for number, planned in enumerate(self.spec.steps):
            key = step_key(planned, self.spec, before)
            before = StepManifest.load(StepFiles(planned.name, self.folder))
            if before is None or not before.is_current(key, self.folder):
                return number
        return len(self.spec.steps)

    async def run(
        self, *, first: str | None = None, only: str | None = None, on_step: OnStep = lambda manifest, now: None
    ) -> PipelineSummary:
        """Do the steps that are not finished, and write the report.

        With `first` that step and all later ones are done again, with `only` that step alone, on the records of
        the step before it. Raises `NothingLeftError` after a step that keeps no records, and the errors of steps.
        """
        with connected(self._engine.address) if self._engine.kind == "ray" else contextlib.nullcontext():
            return await self._run(first, only, on_step)

    async def _run(self, first: str | None, only: str | None, on_step: OnStep) -> PipelineSummary:
        started = time.monotonic()
        redo_from = None if first is None else self.spec.step(first).number
        alone = None if only is None else self.spec.step(only)
        self._check()
        self._forget_other_steps()
        done: list[StepManifest] = []
        worked = False
        for planned in self.spec.steps:
            self.current = planned
            before = done[-1] if done else None
            step = self._step(planned, before)
            key = step_key(planned, self.spec, before)
            manifest = StepManifest.load(step)
            forced = planned == alone or (alone is None and redo_from is not None and planned.number >= redo_from)
            if alone is not None and planned != alone:
                if manifest is None:
                    if planned.number < alone.number:
                        raise UsageError(f"{planned.name} has not been done yet: do it before {alone.name}")
                    break
            elif manifest is None or forced or not manifest.is_current(key, self.folder):
                for later in self.spec.steps[planned.number :]:  # their manifests describe other records
                    StepFiles(later.name, self.folder).manifest.unlink(missing_ok=True)
                if forced:
                    # The files of responses may be damaged: they are written again from the ledger.
                    for path in (self.folder / step.name).glob("*.parquet"):
                        path.unlink()
                manifest, worked = await self._do(planned, step, key), True
                on_step(manifest, True)
            else:
                on_step(manifest, False)
            done.append(manifest)
            if self.progress.stopped:
                break
            if not manifest.kept:
                await self._report(done, worked)
                raise NothingLeftError(_nothing_left(done))
        self.current = None
        return PipelineSummary(
            name=self.spec.name,
            folder=str(self.folder),
            records=done[-1].kept,
            steps=tuple(done),
            stopped=self.progress.stopped,
            report=None if self.progress.stopped else await self._report(done, worked),
            out=str(StepFiles(done[-1].step, self.folder).out),
            seconds=round(time.monotonic() - started, 3),
        )

    def _step(self, planned: PlannedStep, before: StepManifest | None) -> Step:
        source = None if before is None else StepFiles(before.step, self.folder).out
        if before is None and self.spec.input is not None and planned.do != "generate":
            source = self.folder / _INPUT
        # The query of a model's URL may contain a key: only steps that ask the model get it.
        asks = planned.options is not None and planned.options.model_name(self.spec.model) is not None
        model = self.spec.model if asks else _public(self.spec.model)
        return Step(planned.name, self.folder, source, self.spec.seed, model, self._engine, self.progress)

    async def _do(self, planned: PlannedStep, step: Step, key: str) -> StepManifest:
        begun, started = _now(), time.monotonic()
        problems: tuple[str, ...] = ()
        if step.source is not None and step.source.name == _INPUT:
            assert self.spec.input is not None
            self.progress.update("reading the input", 0)
            work = partial(import_records, self.spec.input, self.spec.text, step.source)
            problems = await in_thread(work)
        size = step.source.stat().st_size if step.source is not None and step.source.is_file() else 0
        check_room(self.folder, 2 * size + _ROOM)
        records = 0 if step.source is None else count(step.source)
        for path in (step.out, step.removed, step.manifest):
            path.unlink(missing_ok=True)
        model = None
        if planned.options is None:
            outcome = await custom_step.run(planned.do, step)
        else:
            outcome = await STEPS[planned.do].run(planned.options, step)
            model = planned.options.model_name(self.spec.model)
        settings = planned.settings()
        if "model" in settings:
            settings["model"] = _public(str(settings["model"]))
        responses = outcome.figures.get("responses")
        manifest = StepManifest(
            step=step.name,
            do=planned.do,
            settings=settings,
            seed=self.spec.seed,
            model=_public(model),
            source=None if step.source is None else step.source.name,
            key=key,
            records=records or (responses if isinstance(responses, int) else outcome.kept),
            **asdict(outcome) | {"warnings": (*problems, *outcome.warnings)},
            begun=begun,
            finished=_now(),
            seconds=round(time.monotonic() - started, 3),
            version=__version__,
            files=_sizes(step, outcome.figures.get("folder")),
        )
        return manifest.save(step)

    def _check(self) -> None:
        """Raise `UsageError` for problems of any step, before an earlier one costs anything."""
        known: set[str] | None = None
        for planned in self.spec.steps:
            try:
                if planned.options is None:
                    custom_step.load_function(planned.do)
                    known = None
                else:
                    planned.options.check(self.spec.model)
                    known = planned.options.fields_after(known)
            except UsageError as error:
                raise UsageError(f"step {planned.number} ({planned.do}): {error}") from error

    def _forget_other_steps(self) -> None:
        """Remove the manifests of steps that are no longer in the spec; their records stay."""
        planned_names = {planned.name for planned in self.spec.steps}
        for path in self.folder.glob("[0-9][0-9]-*.json"):
            if path.stem not in planned_names and StepManifest.load(StepFiles(path.stem, self.folder)):
                path.unlink()

    async def _report(self, done: list[StepManifest], worked: bool) -> str:
        """Write the report unless it is current; returns the path of its page."""
        from outspoken.synth.report import builder, html_page

        options = self.spec.report
        key = digest([[manifest.key for manifest in done], str(options)])
        page, document = self.folder / "report.html", self.folder / "report.json"
        if not worked and page.is_file() and document.is_file():
            with contextlib.suppress(ValueError, AttributeError):
                if json.loads(document.read_bytes()).get("key") == key:
                    return str(page)
        self.progress.update("measuring for the report", 0)
        report = await builder.build_report(
            self.folder,
            **asdict(options),
            seed=self.spec.seed,
            progress=self.progress,
            name=self.spec.name,
            planned=[planned.name for planned in self.spec.steps],
            key=key,
        )
        return str(html_page.write_page(report, self.folder))


def synthesize(
    spec: str | PipelineSpec,
    *,
    out: str | os.PathLike[str] | None = None,
    model: str | None = None,
    count: int | None = None,
    seed: int | None = None,
) -> PipelineSummary:
    """Execute a spec: a shipped one by its name, your own by its path, or a `PipelineSpec`.

    `out` is the folder (default: ./NAME-synth); `model`, `count` and `seed` replace those of the spec. The same
    call continues where an earlier one stopped. Raises the errors of `Pipeline` and its `run`.
    """
    changed = (load(spec) if isinstance(spec, str) else spec).changed(model=model, count=count, seed=seed)
    changed = changed.changed(model=changed.model or default_name())
    pipeline = Pipeline(changed, Path(f"{changed.name}-synth" if out is None else out))
    try:
        return run_sync(pipeline.run())
    finally:
        pipeline.close()


def _is_own(spec: PipelineSpec, folder: Path) -> bool:
    """Whether the folder is this pipeline's already. Raises `UsageError` if it contains something else."""
    mark = folder / _MARK
    if mark.is_file():
        try:
            name = json.loads(mark.read_bytes())["name"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{mark} cannot be read: name another folder with --out") from error
        if name != spec.name:
            raise UsageError(f"{folder} holds the pipeline {name}: name another folder with --out")
        return True
    if folder.exists() and (not folder.is_dir() or any(path.name not in _ALLOWED for path in folder.iterdir())):
        raise UsageError(f"{folder} holds something else: name another folder with --out")
    return False


def _public(model: str | None) -> str | None:
    """A model's name without the query of its URL, which may contain a key."""
    return get_model(model).name if model and "://" in model else model


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _sizes(step: Step, folder: object) -> dict[str, int]:
    """The sizes of the files that a step wrote, by name: its records, and the files in its own `folder`."""
    own = sorted((step.folder / folder).rglob("*")) if isinstance(folder, str) else []
    paths = [path for path in (step.out, step.removed, *own) if path.is_file()]
    return {path.relative_to(step.folder).as_posix(): path.stat().st_size for path in paths}


def _nothing_left(done: list[StepManifest]) -> str:
    parts = []
    for manifest in done:
        reasons = [*(f"{number:,} {reason}" for reason, number in manifest.removed.items()), manifest.partly]
        why = f" ({'; '.join(filter(None, reasons))})" if any(reasons) else ""
        parts.append(f"{manifest.step} kept {manifest.kept:,} of {manifest.records:,}{why}")
    last = done[-1].step
    return f"no record is left after {last}: {', '.join(parts)}; change that step, the earlier ones stay done"
