"""The trainers of TRL: their configuration, their input, and the progress they report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.errors import UsageError
from outspoken.training.base_models import device
from outspoken.training.record import Progress, StepLoss
from outspoken.training.settings import TrainSettings
from outspoken.training.training_data import TrainingData

torch = need("torch", "training", "train")
hf = need("transformers", "training", "train")
trl = need("trl", "training", "train")
peft = need("peft", "training", "train")
datasets = need("datasets", "training", "train")

__all__ = ["build_trainer", "step_losses"]

_SAVE_SECONDS = 600.0
_IGNORED = -100


class _Watcher(hf.TrainerCallback):  # type: ignore[misc, name-defined]
    """Reports progress after each step, saves from time to time, and stops when `stopped` returns True."""

    def __init__(self, report: Progress, stopped: Callable[[], bool], every: int | None) -> None:
        self._report, self._stopped, self._every = report, stopped, every
        self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved = time.monotonic()
        self._report(state.global_step, state.max_steps, None)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        stopped = self._stopped()
        if stopped:
            control.should_training_stop = True
        if self._every is None:
            due = time.monotonic() - self._saved > _SAVE_SECONDS
        else:
            due = state.global_step % self._every == 0
        if state.global_step < state.max_steps and (due or stopped):
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "loss" in logs:
            loss = float(logs["loss"])
            if not math.isfinite(loss):
                raise UsageError(
                    f"the loss is not a number at step {state.global_step}: start over with a lower "
                    "--learning-rate (--overwrite)"
                )
            self._report(state.global_step, state.max_steps, loss)


class _Counting:
    """Counts the seconds and tokens of each step; checkpoints keep them with the step's loss."""

    _since = 0.0
    _tokens = 0

    def train(self, *args: Any, **more: Any) -> Any:
        self._since = time.monotonic()
        return super().train(*args, **more)  # type: ignore[misc]

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **more: Any) -> Any:
        mask = inputs.get("attention_mask")
        self._tokens += inputs["input_ids"].numel() if mask is None else int(mask.sum())
        return super().training_step(model, inputs, *args, **more)  # type: ignore[misc]

    def log(self, logs: dict[str, float], *args: Any, **more: Any) -> None:
        now = time.monotonic()
        logs |= {"seconds": now - self._since, "tokens": self._tokens}
        self._since, self._tokens = now, 0
        super().log(logs, *args, **more)  # type: ignore[misc]


class _Sft(_Counting, trl.SFTTrainer):  # type: ignore[misc, name-defined]
    """On a CPU, compute logits only for the answers' tokens, which saves four fifths of a small model's work.

    TRL's own loss computes all positions, in several passes.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if device() != "cpu":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][:, 1:]
        learned = labels != _IGNORED
        places = learned.any(dim=0).nonzero().squeeze(1)
        others = {name: value for name, value in inputs.items() if name != "labels"}
        logits = model(**others, use_cache=False, logits_to_keep=places).logits[learned[:, places]]
        total = torch.nn.functional.cross_entropy(logits.float(), labels[learned], reduction="sum")
        count = learned.sum() if num_items_in_batch is None else num_items_in_batch
        return total / torch.as_tensor(count).clamp(min=1)


class _Dpo(_Counting, trl.DPOTrainer):  # type: ignore[misc, name-defined]
    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """The rows are tokens already, produced by `PromptTokenizer` as in an evaluation."""
        return dataset


def build_trainer(
    settings: TrainSettings,
    model: Any,
    tokenizer: Any,
    data: TrainingData,
    *,
    checkpoints: Path,
    dtype: str,
    report: Progress,
    stopped: Callable[[], bool],
) -> Any:
    """The trainer for these settings, which writes its checkpoints into the folder `checkpoints`."""
    config: dict[str, object] = {
        "output_dir": str(checkpoints),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "learning_rate": settings.rate,
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "max_length": None,
        "warmup_steps": settings.warmup,
        "lr_scheduler_type": settings.schedule,
        "weight_decay": settings.weight_decay,
        "seed": settings.seed,
        "bf16": dtype == "bfloat16",
        "use_cpu": device() == "cpu",
        "gradient_checkpointing": settings.recompute,
        "dataloader_pin_memory": device() != "cpu",
        "save_strategy": "no",
        "save_total_limit": 1,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": [],
    }
    common = {
        "model": model,
        "processing_class": tokenizer,
        "peft_config": _adapters(settings) if settings.lora else None,
    }
    if settings.objective == "dpo":
        args = trl.DPOConfig(**config, beta=settings.beta)
        trainer = _Dpo(args=args, train_dataset=_preference_dataset(data), **common)
    else:
        args = trl.SFTConfig(**config)
        if settings.packing:
            args.packing, args.max_length = True, settings.max_length
        trainer = _Sft(args=args, train_dataset=_answer_dataset(data), **common)
    trainer.remove_callback(hf.PrinterCallback)
    trainer.add_callback(_Watcher(report, stopped, settings.save_every))
    return trainer


def step_losses(trainer: Any) -> tuple[StepLoss, ...]:
    """The steps that the trainer has done."""
    others = {"preferred": "rewards/accuracies", "margin": "rewards/margins"}
    names = {entry.name: others.get(entry.name, entry.name) for entry in fields(StepLoss)}
    return tuple(
        StepLoss(**{ours: row[theirs] for ours, theirs in names.items() if theirs in row})
        for row in trainer.state.log_history
        if "loss" in row
    )


def _adapters(settings: TrainSettings) -> Any:
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
    )


def _answer_dataset(data: TrainingData) -> Any:
    rows = data.examples
    return datasets.Dataset.from_dict(
        {
            "input_ids": [row["prompt_ids"] + row["answer_ids"] for row in rows],
            "labels": [[_IGNORED] * len(row["prompt_ids"]) + row["answer_ids"] for row in rows],
        }
    )


def _preference_dataset(data: TrainingData) -> Any:
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return datasets.Dataset.from_dict({name: [row[name] for row in data.examples] for name in names})
