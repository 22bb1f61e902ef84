"""`train`: fit a student to data, or continue a training that was stopped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

from outspoken._options import TrainOptions
from outspoken._version import __version__
from outspoken.errors import StoppedError, UsageError
from outspoken.io import atomic
from outspoken.io.lock import FolderLock
from outspoken.io.signals import stop_on_interrupt
from outspoken.models import DEFAULT
from outspoken.settings import read_options
from outspoken.training import base_models, training_data
from outspoken.training.base_models import PromptTokenizer, silence_libraries, translate_errors
from outspoken.training.record import LOCK, BaseEntry, Progress, TrainingFolder, TrainingRecord, check_room
from outspoken.training.settings import TrainSettings

__all__ = ["TrainedStudent", "train"]


@dataclass(frozen=True, slots=True)
class TrainedStudent:
    """A student: the folder of its `model`, and the `record` of its training, as in `training.json`.

    `trained_before` is True if the training had already finished and nothing was done.
    """

    model: Path
    record: TrainingRecord
    trained_before: bool = False

    @property
    def losses(self) -> list[float]:
        """The loss of each step."""
        return [step.loss for step in self.record.losses]

    def to_dict(self) -> dict[str, object]:
        """The record as a JSON-ready dictionary, with `before` for `trained_before`."""
        return {**self.record.to_dict(), "before": self.trained_before}


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
    **options: Unpack[TrainOptions],
) -> TrainedStudent:
    """Fine-tune a causal language model on the examples of a file.

    `data` is a file of JSON lines or Parquet, or a folder that synth exported. Each row has the shape
    {"messages"}, {"prompt", "completion"} or {"question", "answer"}; for dpo {"prompt", "chosen", "rejected"}.
    `model` is `local/smollm2`, a GGUF file, a folder that transformers reads or that `train` wrote, or a name of
    the hub. `chat_template` is the text of a template, for a model without one. `offline` forbids downloads.

    The folder `out` gets `model/` (weights and tokenizer; adapters are merged, and kept in `adapter/`),
    `training.json`, `loss.html` and `loss.png`. The same call continues from the last checkpoint in `out`, and
    does not repeat a finished training; `overwrite` starts over. If `stopped` returns True after a step, or on
    Ctrl-C, a checkpoint is written and `StoppedError` is raised.

    Raises `UsageError` for data or a model that cannot be used, for settings that differ from those of an
    unfinished training in `out`, and for a folder with other files; `OutputError` if the disk is too small.

    Options:
        objective: sft: learn the answers; dpo: learn which of two answers is preferred. Default: 'sft'.
        lora: Train low-rank adapters instead of all weights. Default: False.
        epochs: Number of passes over the data. Default: 3.0.
        max_steps: Stop after this number of steps, regardless of --epochs. Default: None.
        learning_rate: Highest learning rate. Default: 2e-5, with --lora 2e-4; for dpo 1e-6, with --lora 1e-5.
        batch_size: Examples computed together. Default: 8.
        gradient_accumulation: Batches per step. Default: 1.
        max_length: Longest example in tokens; longer ones are left out and counted. Default: 1024.
        warmup: Share of the steps in which the learning rate rises. Default: 0.03.
        schedule: How the learning rate falls afterwards: linear, cosine, or constant (not at all). Default:
            'linear'.
        weight_decay: Weight decay of AdamW. Default: 0.0.
        seed: Seed of the order of the data and of the adapters. Default: 0.
        dtype: Precision of the computation: bfloat16, float32, or auto, the faster one on this machine. Trained
            weights are kept in float32 in any case. Default: 'auto'.
        lora_rank: Rank of the adapters. Default: 16.
        lora_alpha: Scale of the adapters: they are multiplied by alpha / rank. Default: 32.0.
        lora_dropout: Share of the adapters' inputs that is dropped during training. Default: 0.0.
        beta: How closely dpo keeps the model to the one it started from. Default: 0.1.
        save_every: Steps between checkpoints. Default: one every 10 minutes.
        threads: CPU threads. Default: one per core. Two students at once, with one thread each, are fastest.
        packing: Put several short examples into one row (GPUs with FlashAttention). Default: False.
        recompute: Compute activations twice, to need less memory. Default: False.
    """
    settings = read_options(TrainSettings, options)
    folder = TrainingFolder(Path(out))
    with FolderLock(folder.path, name=LOCK):
        earlier = folder.read()
        training = _Training(folder, settings, Path(data), model, chat_template, offline)
        training.starts_over = overwrite and earlier is not None
        if earlier is not None and not overwrite:
            if changes := earlier.changes(training.record):
                raise UsageError(
                    f"{folder.path} holds a training with other settings ({'; '.join(changes[:3])}): name another "
                    "folder with --out, or start over with --overwrite"
                )
            if earlier.finished and folder.model.is_dir():
                return TrainedStudent(folder.model, earlier, trained_before=True)
        return training.run(progress or (lambda *_: None), stopped)


class _Training:
    """One training: its inputs, and its `record`, which is updated as it proceeds."""

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
        self.files = training_data.data_files(data, settings.objective)
        self.base = base_models.find_weights(model, offline=offline)
        self.dtype = base_models.compute_dtype(settings.dtype)
        self.record = TrainingRecord(
            version=__version__,
            created=_now(),
            settings={**settings.to_dict(), "dtype": self.dtype, "chat_template": chat_template},
            base=BaseEntry(self.base.name, self.base.fingerprint),
            data=training_data.DataSummary(str(data), training_data.digest(self.files)),
            device=base_models.device(),
            versions=base_models.versions(),
        )

    def run(self, progress: Progress, stopped: Callable[[], bool] | None) -> TrainedStudent:
        from outspoken.training.trainers import build_trainer, step_losses

        folder, settings = self.folder, self.settings
        tokenizer = base_models.load_tokenizer(self.base, self.chat_template)
        data = training_data.read_examples(
            self.files, PromptTokenizer(tokenizer, self.base.name), settings.objective, settings.max_length
        )
        self.record = replace(self.record, data=data.summary(self.record.data.source, self.record.data.sha256))
        # Trained weights stay in float32: a step is often smaller than the precision of bfloat16.
        weights = base_models.load_model(self.base, self.dtype if settings.lora else "float32")
        check_room(folder.path, weights, settings.lora_rank if settings.lora else None)
        if self.starts_over:
            folder.clear()
        folder.write(self.record)
        with (
            silence_libraries(self.base),
            base_models.limit_threads(settings.threads),
            stop_on_interrupt(stopped) as should_stop,
        ):
            trainer = build_trainer(
                settings,
                weights,
                tokenizer,
                data,
                checkpoints=folder.checkpoints,
                dtype=self.dtype,
                report=progress,
                stopped=should_stop,
            )
            last = folder.last_checkpoint()
            with translate_errors(folder.checkpoints):
                trainer.train(resume_from_checkpoint=None if last is None else str(last))
            step, steps, losses = trainer.state.global_step, trainer.state.max_steps, step_losses(trainer)
            self.record = replace(
                self.record,
                steps=step,
                losses=losses,
                seconds=sum(each.seconds for each in losses),
                tokens=sum(each.tokens for each in losses),
            )
            if step < steps:
                folder.write(self.record)
                raise StoppedError(
                    f"stopped at step {step:,} of {steps:,}; {folder.checkpoints} holds the progress, and the "
                    "same command continues from there"
                )
            self._save_model(trainer.model, tokenizer)
        return self._finish()

    def _save_model(self, model: Any, tokenizer: Any) -> None:
        """Write the finished model, completely or not at all, in the precision of the computation."""
        import torch

        part = self.folder.path / f".{self.folder.model.name}.part"
        shutil.rmtree(part, ignore_errors=True)
        if self.settings.lora:
            model.save_pretrained(self.folder.adapter)
            model = model.float().merge_and_unload()
        with atomic.output_errors(self.folder.model):
            model.to(getattr(torch, self.dtype)).save_pretrained(part)
            tokenizer.save_pretrained(part)
            shutil.rmtree(self.folder.model, ignore_errors=True)
            os.replace(part, self.folder.model)

    def _finish(self) -> TrainedStudent:
        from outspoken.training import loss_page

        loss_page.write(self.record, self.folder.path)
        self.record = replace(self.record, finished=_now())
        self.folder.write(self.record)
        shutil.rmtree(self.folder.checkpoints, ignore_errors=True)
        return TrainedStudent(self.folder.model, self.record)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
