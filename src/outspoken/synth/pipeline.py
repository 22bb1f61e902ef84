"""A pipeline at work: its steps one after the other into one folder, going on where it stopped."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from outspoken._version import __version__
from outspoken.batch.ray.cluster import connected
from outspoken.engine import run as wait
from outspoken.errors import NothingLeftError, OutputError, UnknownNameError, UsageError
from outspoken.io.atomic import write_file, reason_of
from outspoken.models import default_name, get_model
from outspoken.synth import manifest
from outspoken.synth.input_records import bring
from outspoken.synth.records import check_room, count, names_in
from outspoken.synth.spec import PipelineSpec, PlannedStep, load
from outspoken.synth.steps import custom_step
from outspoken.synth.steps.base import ExecutionEngine, Step, StepOutcome, StepProgress

__all__ = ["Pipeline", "synthesize"]

_MARK, _LOCK = "synth.json", ".lock"
# What may stand in a folder that is to be a pipeline's: a lock that was left, and a ledger that is used again.
_OURS = (_LOCK, "ledger.sqlite", "ledger.sqlite-shm", "ledger.sqlite-wal")
_ROOM = 64 * 2**20
_ADDS = {
    "answer": ("answer", "final", "agreement", "samples"),
    "verify": ("verified", "verdict"),
    "balance": ("cluster",),
}
"""The columns that steps add to the records."""


class Pipeline:
    """The execution of a spec in a folder, which nobody else may use meanwhile; `close` it in the end.

    Raises `UsageError` where the folder holds something else, or a pipeline of another name. A step that was
    finished with the same settings, on the same records, is not done again; one whose settings changed is, with
    all that follow it, and asks nothing that stands in the ledger.
    """

    def __init__(
        self,
        spec: PipelineSpec,
        folder: Path,
        *,
        engine: ExecutionEngine | None = None,
        watch: StepProgress | None = None,
    ) -> None:
        self.spec = spec
        self.folder = folder
        self.watch = watch or StepProgress()
        self.at: PlannedStep | None = None
        self._engine = engine or ExecutionEngine()
        self._lock = _claimed(spec, folder)

    def close(self) -> None:
        """Let go of the folder."""
        self._lock.close()

    def stop(self, reason: str) -> None:
        """End in good order after what is under way; what came back is kept."""
        self.watch.stop(reason)

    async def run(
        self,
        *,
        first: str | None = None,
        only: str | None = None,
        told: Callable[[Mapping[str, Any], bool], None] | None = None,
    ) -> dict[str, Any]:
        """Do what is to be done, and draw the report; returns the summary.

        With `first` that step and those after it are done anew, with `only` that one alone (on what the one before
        it left). `told` is called with each step's manifest, and whether it was done just now. Raises
        `NothingLeftError` after a step that leaves nothing, and what a step raises.
        """
        with connected(self._engine.address) if self._engine.kind == "ray" else contextlib.nullcontext():
            return await self._run(first, only, told)

    async def _run(
        self, first: str | None, only: str | None, told: Callable[[Mapping[str, Any], bool], None] | None
    ) -> dict[str, Any]:
        begun = time.monotonic()
        anew = None if first is None else self.spec.step(first).number
        alone = None if only is None else self.spec.step(only)
        self._check()
        self._forget_others()
        manifests: list[dict[str, Any]] = []
        before: dict[str, Any] | None = None
        worked = False
        for planned in self.spec.steps:
            self.at = planned
            step = self._step(planned, before)
            key = manifest.key_of(planned, self.spec, before)
            done = manifest.finished(step, key)
            forced = planned == alone or (alone is None and anew is not None and planned.number >= anew)
            if alone is not None and planned != alone:
                done = done or manifest.read(step)
                if done is None and planned.number < alone.number:
                    raise UsageError(f"{planned.name} has not been done yet: do it before {alone.name}")
                if done is None:
                    break
            elif done is None or forced:
                self._forget_after(planned)
                if forced:
                    # What a step put together from the ledger may be damaged: it is put together anew.
                    for path in (self.folder / step.name).glob("*.parquet"):
                        path.unlink()
                done, worked = await self._do(planned, step, key), True
                if told:
                    told(done, True)
            elif told:
                told(done, False)
            manifests.append(done)
            before = done
            if self.watch.stopped:
                break
            if not done["kept"]:
                await self._report(manifests, worked)
                raise NothingLeftError(_nothing(manifests))
        self.at = None
        write = None if self.watch.stopped else await self._report(manifests, worked)
        return {
            "name": self.spec.name,
            "folder": str(self.folder),
            "records": manifests[-1]["kept"],
            "steps": [
                {
                    name: done[name]
                    for name in ("step", "records", "kept", "removed", "seconds", "figures", "partly")
                }
                for done in manifests
            ],
            "stopped": self.watch.stopped,
            "partly": [f"{done['step']}: {done['partly']}" for done in manifests if done["partly"]],
            "warnings": [f"{done['step']}: {line}" for done in manifests for line in done["warnings"]],
            "seconds": round(time.monotonic() - begun, 3),
            "out": str(self.folder / f"{manifests[-1]['step']}.parquet"),
            "report": write,
        }

    def _step(self, planned: PlannedStep, before: Mapping[str, Any] | None) -> Step:
        source = None if before is None else self.folder / f"{before['step']}.parquet"
        if before is None and self.spec.input is not None and planned.do != "generate":
            source = self.folder / "00-input.parquet"
        # Only who asks it needs the whole of a model's name.
        model = self.spec.model if hasattr(planned.options, "model") else _public(self.spec.model)
        return Step(planned.name, self.folder, source, self.spec.seed, model, self._engine, self.watch)

    async def _do(self, planned: PlannedStep, step: Step, key: str) -> dict[str, Any]:
        begun, clock = datetime.datetime.now(datetime.UTC), time.monotonic()
        problems: tuple[str, ...] = ()
        if step.source is not None and step.source.name.startswith("00-"):
            assert self.spec.input is not None
            self.watch.tell("reading the input", 0)
            problems = await bring(self.spec.input, self.spec.text, step.source)
        size = step.source.stat().st_size if step.source is not None and step.source.is_file() else 0
        check_room(self.folder, 2 * size + _ROOM)
        records = 0 if step.source is None else count(step.source)
        for path in (step.out, step.removed, self.folder / f"{step.name}.json"):
            path.unlink(missing_ok=True)
        if planned.is_own:
            outcome: StepOutcome = await custom_step.run(planned.do, step)
        else:
            outcome = await import_module(f"{__package__}.steps.{planned.do}").run(planned.options, step)
        done = {
            "step": step.name,
            "do": planned.do,
            "settings": {
                name: _public(value) if name == "model" else value for name, value in planned.settings().items()
            },
            "seed": self.spec.seed,
            "model": self._asked_of(planned.options),
            "source": None if step.source is None else step.source.name,
            "key": key,
            "records": records or outcome.figures.get("responses", outcome.kept),
            "kept": outcome.kept,
            "removed": dict(outcome.removed),
            "figures": dict(outcome.figures),
            "warnings": [*problems, *outcome.warnings],
            "partly": outcome.partly,
            "begun": begun.isoformat(timespec="seconds"),
            "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - clock, 3),
            "version": __version__,
            "files": manifest.files_of(step, outcome.figures.get("folder")),
        }
        manifest.write(step, done)
        # As it is read again.
        return dict(json.loads(json.dumps(done, ensure_ascii=False, default=str)))

    def _check(self) -> None:
        """Raise `UsageError` for what a later step would stumble over, before an earlier one costs anything."""
        known: set[str] | None = None
        for planned in self.spec.steps:
            try:
                known = self._checked(planned, known)
            except UsageError as error:
                raise UsageError(f"step {planned.number} ({planned.do}): {error}") from error

    def _checked(self, planned: PlannedStep, known: set[str] | None) -> set[str] | None:
        """The names of the fields that records have after the step, None where nobody can know."""
        if planned.is_own:
            custom_step.function_of(planned.do)
            return None
        module, options = import_module(f"{__package__}.steps.{planned.do}"), planned.options
        if hasattr(module, "check"):
            module.check(options)
        if hasattr(options, "plan"):
            options.plan(self.spec.model)
        if planned.do == "generate":
            return {*options.made}
        adds = _ADDS.get(planned.do, ()) + (("negatives",) if getattr(options, "negatives", 0) else ())
        if known is None:
            return None
        for name, template in options.templates().items() if hasattr(options, "templates") else ():
            for missing in names_in(template) - known - {*adds}:
                raise UnknownNameError(
                    f"field in {name}:", missing, known, see=f"write {{{{{missing}}}}} for braces"
                )
        if "negatives" not in known and "preferences" in getattr(options, "formats", ()):
            raise UsageError("preferences need wrong answers: let a step answer make them with negatives = 3")
        return {*known, *adds}

    def _asked_of(self, options: Any) -> str | None:
        """The model that a step asks, None where it asks none."""
        asks = hasattr(options, "model") and getattr(options, "by", "judge") == "judge"
        return _public(options.model or self.spec.model) if asks else None

    def _forget_others(self) -> None:
        """Steps that the spec had once leave their records and no manifest: they are no part of the report."""
        custom_step = {planned.name for planned in self.spec.steps}
        for name in {done["step"] for done in manifest.in_folder(self.folder)} - custom_step:
            (self.folder / f"{name}.json").unlink()

    def _forget_after(self, planned: PlannedStep) -> None:
        """A step done anew leaves no manifest behind it that speaks of other records."""
        for later in self.spec.steps:
            if later.number > planned.number:
                (self.folder / f"{later.name}.json").unlink(missing_ok=True)

    async def _report(self, manifests: list[dict[str, Any]], worked: bool) -> str:
        from outspoken.synth.report import document as report_document

        path, options = self.folder / "report.html", self.spec.report
        told = json.dumps([[done["key"] for done in manifests], str(options)])
        key = hashlib.sha256(told.encode()).hexdigest()[:32]
        document = self.folder / "report.json"
        if not worked and path.is_file() and document.is_file():
            with contextlib.suppress(ValueError):
                if json.loads(document.read_bytes()).get("key") == key:
                    return str(path)
        self.watch.tell("measuring for the report", 0)
        made = await report_document.measure(
            self.folder,
            embedder=options.embedder,
            sample=options.sample,
            seed=self.spec.seed,
            watch=self.watch,
            name=self.spec.name,
            planned=[planned.name for planned in self.spec.steps],
            key=key,
        )
        report_document.write(made, self.folder)
        return str(path)


def synthesize(
    spec: str | PipelineSpec,
    *,
    out: str | os.PathLike[str] | None = None,
    model: str | None = None,
    count: int | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """Do what a spec says: a shipped one by its name, one's own by its path, or a `PipelineSpec`; returns the
    summary.

    `out` is the folder (default: ./NAME-synth); `model`, `count` and `seed` stand in the place of the spec's. The
    same call goes on where an earlier one stopped. Raises what `Pipeline` and its `run` raise.
    """
    made = (load(spec) if isinstance(spec, str) else spec).changed(model=model, count=count, seed=seed)
    made = made.changed(model=made.model or default_name())
    running = Pipeline(made, Path(f"{made.name}-synth" if out is None else out))
    try:
        return wait(running.run())
    finally:
        running.close()


def _public(model: str | None) -> str | None:
    """A model's name as it may be told: without the query of its URL, where some write a key."""
    return get_model(model).name if model and "://" in model else model


def _nothing(manifests: list[dict[str, Any]]) -> str:
    """Which step removed what."""
    parts = []
    for done in manifests:
        reason_of = [f"{count:,} {reason}" for reason, count in done["removed"].items()]
        reason_of += [done["partly"]] if done["partly"] else []
        told = f" ({'; '.join(reason_of)})" if reason_of else ""
        parts.append(f"{done['step']} kept {done['kept']:,} of {done['records']:,}{told}")
    last = manifests[-1]["step"]
    return f"no record is left after {last}: {', '.join(parts)}; change that step, those before it stay done"


def _claimed(spec: PipelineSpec, folder: Path) -> sqlite3.Connection:
    """Make `folder` the place of this pipeline, or see that it is, and keep other processes from it."""
    mark = folder / _MARK
    if mark.is_file():
        try:
            earlier = json.loads(mark.read_bytes())["name"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{mark} cannot be read: name another folder with --out") from error
        if earlier != spec.name:
            raise UsageError(f"{folder} holds the pipeline {earlier}: name another folder with --out")
    elif folder.exists() and (not folder.is_dir() or any(path.name not in _OURS for path in folder.iterdir())):
        raise UsageError(f"{folder} holds something else: name another folder with --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = sqlite3.connect(folder / _LOCK, timeout=0, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise OutputError(f"{folder} cannot be made or written: {reason_of(error)}") from error
    try:
        # The system ends the transaction when the process ends, however it does.
        lock.execute("PRAGMA journal_mode = MEMORY")
        lock.execute("BEGIN EXCLUSIVE")
        written = {"format": 1, "name": spec.name, "version": __version__, "spec": spec.source}
        text = json.dumps(written, ensure_ascii=False, indent=2) + "\n"
        write_file(mark, lambda file: file.write(text.encode()))
    except sqlite3.Error as error:
        lock.close()
        raise UsageError(f"another process works in {folder}: wait for it, or name another with --out") from error
    except BaseException:
        lock.close()
        raise
    return lock
