"""The trainers of TRL: their configuration, what they are given, and how they tell how it goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken._extras import need
from outspoken.errors import UsageError
from outspoken.training.base_models import device
from outspoken.training.settings import TrainSettings
from outspoken.training.training_data import TrainingData

torch = need("torch", "training", "train")
hf = need("transformers", "training", "train")
trl = need("trl", "training", "train")
peft = need("peft", "training", "train")
datasets = need("datasets", "training", "train")

__all__ = ["TrainingProgress", "losses", "make"]

_SAVE_SECONDS = 600.0
_IGNORED = -100


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """How training goes: `step` of `steps` are done; `loss` is that of the last one, None before the first."""

    step: int
    steps: int
    loss: float | None


class _Watcher(hf.TrainerCallback):  # type: ignore[misc, name-defined]
    """Tells after each step how it goes, saves from time to time, and ends it in good order when told to."""

    def __init__(
        self, tell: Callable[[TrainingProgress], None], stopped: Callable[[], bool], every: int | None
    ) -> None:
        self._tell, self._stopped, self._every = tell, stopped, every
        self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved = time.monotonic()
        self._tell(TrainingProgress(state.global_step, state.max_steps, None))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        last = state.global_step >= state.max_steps
        if self._stopped():
            control.should_training_stop = True
        due = time.monotonic() - self._saved > _SAVE_SECONDS if self._every is None else False
        if self._every is not None and state.global_step % self._every == 0:
            due = True
        if not last and (due or self._stopped()):
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            loss = float(logs["loss"])
            if not math.isfinite(loss):
                raise UsageError(
                    f"the loss is no number any more at step {state.global_step}: start over with a lower "
                    "--learning-rate (--overwrite)"
                )
            self._tell(TrainingProgress(state.global_step, state.max_steps, loss))


class _Counting:
    """Counts seconds and tokens of each step; they stand in the checkpoints with its loss."""

    _since = 0.0
    _tokens = 0

    def train(self, *args: Any, **more: Any) -> Any:
        self._since = time.monotonic()
        return super().train(*args, **more)  # type: ignore[misc]

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **more: Any) -> Any:
        seen = inputs.get("attention_mask")
        self._tokens += inputs["input_ids"].numel() if seen is None else int(seen.sum())
        return super().training_step(model, inputs, *args, **more)  # type: ignore[misc]

    def log(self, logs: dict[str, Any], *args: Any, **more: Any) -> None:
        now = time.monotonic()
        logs |= {"seconds": now - self._since, "tokens": self._tokens}
        self._since, self._tokens = now, 0
        super().log(logs, *args, **more)  # type: ignore[misc]


class _Sft(_Counting, trl.SFTTrainer):  # type: ignore[misc, name-defined]
    """On a processor, the logits are computed only where something is learned: a fifth of the work of a small
    model.

    There, TRL's own loss goes over every position, and over each in several passes.
    """

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if device() != "cpu":
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][:, 1:]
        learned = labels != _IGNORED
        places = learned.any(dim=0).nonzero().squeeze(1)
        given = {name: value for name, value in inputs.items() if name != "labels"}
        logits = model(**given, use_cache=False, logits_to_keep=places).logits[learned[:, places]]
        total = torch.nn.functional.cross_entropy(logits.float(), labels[learned], reduction="sum")
        count = learned.sum() if num_items_in_batch is None else num_items_in_batch
        return total / torch.as_tensor(count).clamp(min=1)


class _Dpo(_Counting, trl.DPOTrainer):  # type: ignore[misc, name-defined]
    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
        """The rows are tokens already, by our own reading, so that they are what the student is asked with."""
        return dataset


def make(
    settings: TrainSettings,
    model: Any,
    tokenizer: Any,
    examples: TrainingData,
    *,
    folder: Path,
    dtype: str,
    tell: Callable[[TrainingProgress], None],
    stopped: Callable[[], bool],
) -> Any:
    """The trainer of these settings, whose checkpoints go into `folder`."""
    is_dpo = settings.method == "dpo"
    common = {
        "output_dir": str(folder),
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
    given = {
        "model": model,
        "processing_class": tokenizer,
        "peft_config": _adapters(settings) if settings.lora else None,
    }
    if is_dpo:
        trainer = _Dpo(args=trl.DPOConfig(**common, beta=settings.beta), train_dataset=_pairs(examples), **given)
    else:
        args = trl.SFTConfig(**common)
        if settings.packing:
            args.packing, args.max_length = True, settings.max_length
        trainer = _Sft(args=args, train_dataset=_lessons(examples), **given)
    trainer.remove_callback(hf.PrinterCallback)
    trainer.add_callback(_Watcher(tell, stopped, settings.save_every))
    return trainer


def losses(trainer: Any) -> list[dict[str, Any]]:
    """A row for each step: its loss, learning rate, seconds and tokens; for dpo how often and by how much the
    chosen answer is preferred."""
    names = {
        "step": "step",
        "epoch": "epoch",
        "loss": "loss",
        "learning_rate": "learning_rate",
        "grad_norm": "grad_norm",
        "rewards/accuracies": "preferred",
        "rewards/margins": "margin",
        "seconds": "seconds",
        "tokens": "tokens",
    }
    return [
        {ours: row[theirs] for theirs, ours in names.items() if theirs in row}
        for row in trainer.state.log_history
        if "loss" in row
    ]


def _adapters(settings: TrainSettings) -> Any:
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules="all-linear",
    )


def _lessons(examples: TrainingData) -> Any:
    rows = examples.rows
    return datasets.Dataset.from_dict(
        {
            "input_ids": [row["prompt_ids"] + row["answer_ids"] for row in rows],
            "labels": [[_IGNORED] * len(row["prompt_ids"]) + row["answer_ids"] for row in rows],
        }
    )


def _pairs(examples: TrainingData) -> Any:
    names = ("prompt_ids", "chosen_ids", "rejected_ids")
    return datasets.Dataset.from_dict({name: [row[name] for row in examples.rows] for name in names})
