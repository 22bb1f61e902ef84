"""`train`: a student is fitted to data, goes on where it was stopped, and tells how it went."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outspoken._version import __version__
from outspoken.errors import StoppedError, UsageError
from outspoken.io import atomic
from outspoken.models import DEFAULT
from outspoken.training import base_models, training_data
from outspoken.training.folder import KIND, TrainingFolder, check_room, claimed, differing
from outspoken.training.library_noise import explained, hushed, interrupts
from outspoken.training.prompt_tokens import PromptTokenizer
from outspoken.training.settings import TrainSettings, read

__all__ = ["Progress", "TrainedStudent", "train"]

Progress = Callable[[int, int, float | None], None]
"""Called with the step, how many there are, and the loss of the last one."""


@dataclass(frozen=True, slots=True)
class TrainedStudent:
    """A student: the folder of its `model`, and the `document` that stands in `training.json`. `before` says that
    it had been trained earlier, and nothing was done now."""

    model: Path
    document: Mapping[str, Any]
    before: bool = False

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [entry["loss"] for entry in self.document["losses"]]

    def to_dict(self) -> dict[str, Any]:
        return {**self.document, "before": self.before}


def train(
    data: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    model: str | os.PathLike[str] = DEFAULT,
    chat_template: str | None = None,
    overwrite: bool = False,
    offline: bool = False,
    progress: Progress | None = None,
    stopped: Callable[[], bool] | None = None,
    **options: Any,
) -> TrainedStudent:
    """Fine-tune a causal language model on the examples of a file; `options` are those of `TrainSettings`.

    `data` is a file of JSON lines or Parquet, or a folder that synth exported; each row has the shape
    {"messages"}, {"prompt", "completion"} or {"question", "answer"}, for dpo {"prompt", "chosen", "rejected"}.
    `model` is `local/smollm2`, a GGUF file, a folder that transformers reads or that `train` wrote, or a name of
    the hub. `chat_template` is the text of a template, for a model without one.

    Into `out` go `model/` (weights and tokenizer; adapters are merged, and kept in `adapter/`), `training.json`,
    `loss.html` and `loss.png`. The same call goes on from the last checkpoint in `out`; a finished training is not
    done again. Where `stopped` returns True after a step, or on an interrupt, a checkpoint is written and
    `StoppedError` is raised.

    Raises `UsageError` for data or a model that cannot be used, for settings that are not those of what was begun
    in `out` (without `overwrite`), and `OutputError` where the disk is too small.
    """
    settings = read(TrainSettings, options)
    folder = TrainingFolder(Path(out))
    with claimed(folder.path, "training"):
        earlier = folder.earlier()
        work = _Work(folder, settings, Path(data), model, chat_template, offline)
        work.starts_over = overwrite and earlier is not None
        if earlier is not None and not overwrite:
            if changed := differing(earlier, work.document):
                raise UsageError(
                    f"{folder.path} was begun otherwise ({'; '.join(changed[:3])}): name another folder with "
                    "--out, or start over with --overwrite"
                )
            if earlier["finished"] and folder.model.is_dir():
                return TrainedStudent(folder.model, earlier, before=True)
        return work.run(progress or (lambda *_: None), stopped)


class _Work:
    """One training: what it starts from, and `document`, what is told of it."""

    def __init__(
        self,
        folder: TrainingFolder,
        settings: TrainSettings,
        data: Path,
        model: str | os.PathLike[str],
        chat_template: str | None,
        offline: bool,
    ) -> None:
        self.folder, self.settings, self.chat_template = folder, settings, chat_template
        self.starts_over = False
        self.files = training_data.files_of(data, settings.method)
        self.base = base_models.find(model, offline=offline)
        self.dtype = base_models.computed_in(settings.dtype)
        self.document: dict[str, Any] = {
            "kind": KIND,
            "version": __version__,
            "created": _now(),
            "finished": None,
            "settings": {**settings.to_dict(), "dtype": self.dtype, "chat_template": chat_template},
            "base": {"name": self.base.name, "fingerprint": self.base.fingerprint},
            "data": {"source": str(data), "sha256": training_data.digest(self.files)},
            "device": base_models.device(),
            "versions": base_models.versions(),
        }

    def run(self, progress: Progress, stopped: Callable[[], bool] | None) -> TrainedStudent:
        from outspoken.training.trainers import losses, make

        document, folder, settings = self.document, self.folder, self.settings
        tokenizer = base_models.load_tokenizer(self.base, self.chat_template)
        wording = PromptTokenizer(tokenizer, self.base.name)
        found = training_data.read(self.files, wording, settings.method, settings.max_length)
        document["data"] |= found.to_dict()
        # Weights that learn stay in float32: a step is often smaller than what bfloat16 can tell apart.
        weights = base_models.load_model(self.base, self.dtype if settings.lora else "float32")
        check_room(folder.path, weights, settings.lora_rank if settings.lora else None)
        if self.starts_over:
            folder.clear()
        folder.write(document)
        with hushed(self.base), base_models.threads(settings.threads), interrupts(stopped) as asked:
            trainer = make(
                settings,
                weights,
                tokenizer,
                found,
                folder=folder.checkpoints,
                dtype=self.dtype,
                tell=lambda moment: progress(moment.step, moment.steps, moment.loss),
                stopped=asked,
            )
            last = folder.checkpoint()
            with explained(folder.checkpoints):
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
            step, steps = trainer.state.global_step, trainer.state.max_steps
            document["steps"] = step
            document["losses"] = losses(trainer)
            document["seconds"] = sum(entry["seconds"] for entry in document["losses"])
            document["tokens"] = sum(entry["tokens"] for entry in document["losses"])
            if step < steps:
                folder.write(document)
                raise StoppedError(
                    f"stopped at step {step:,} of {steps:,}; {folder.checkpoints} holds what was learned, and the "
                    "same command goes on from there"
                )
            self._keep(trainer.model, tokenizer)
        return self._finish()

    def _keep(self, model: Any, tokenizer: Any) -> None:
        """Write the finished model, in what it was computed in; it stands in its place whole or not at all."""
        import torch

        made = self.folder.path / f".{self.folder.model.name}.part"
        shutil.rmtree(made, ignore_errors=True)
        if self.settings.lora:
            model.save_pretrained(self.folder.adapter)
            model = model.float().merge_and_unload()
        with atomic.writing(self.folder.model):
            model.to(getattr(torch, self.dtype)).save_pretrained(made)
            tokenizer.save_pretrained(made)
            shutil.rmtree(self.folder.model, ignore_errors=True)
            os.replace(made, self.folder.model)

    def _finish(self) -> TrainedStudent:
        from outspoken.training import curve

        curve.write(self.document, self.folder.path)
        self.document["finished"] = _now()
        self.folder.write(self.document)
        self.folder.drop_checkpoints()
        return TrainedStudent(self.folder.model, self.document)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
