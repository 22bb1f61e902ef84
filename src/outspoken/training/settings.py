"""The settings of training and of evaluation: the one place where each is declared.

Python's arguments (`outspoken._options`, written by `make generated`) and the options of the command line come
from these fields.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

from outspoken.errors import UsageError
from outspoken.settings import check_values, option

__all__ = ["EvalSettings", "Objective", "TrainSettings"]

Objective = Literal["sft", "dpo"]

_RATES = {("sft", False): 2e-5, ("sft", True): 2e-4, ("dpo", False): 1e-6, ("dpo", True): 1e-5}
_DTYPES = ("auto", "bfloat16", "float32")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a student is trained. Raises `UsageError` for invalid values."""

    objective: Literal["sft", "dpo"] = option(
        "sft", "sft: learn the answers; dpo: learn which of two answers is preferred.", choices=("sft", "dpo")
    )
    lora: bool = option(False, "Train low-rank adapters instead of all weights.")
    epochs: float = option(3.0, "Number of passes over the data.", above=0)
    max_steps: int | None = option(None, "Stop after this number of steps, regardless of --epochs.", low=1)
    learning_rate: float | None = option(
        None, "Highest learning rate. Default: 2e-5, with --lora 2e-4; for dpo 1e-6, with --lora 1e-5.", above=0
    )
    batch_size: int = option(8, "Examples computed together.", low=1)
    gradient_accumulation: int = option(1, "Batches per step.", low=1)
    max_length: int = option(1024, "Longest example in tokens; longer ones are left out and counted.", low=2)
    warmup: float = option(0.03, "Share of the steps in which the learning rate rises.", low=0, below=1)
    schedule: Literal["linear", "cosine", "constant"] = option(
        "linear",
        "How the learning rate falls afterwards: linear, cosine, or constant (not at all).",
        choices=("linear", "cosine", "constant"),
    )
    weight_decay: float = option(0.0, "Weight decay of AdamW.", low=0)
    seed: int = option(0, "Seed of the order of the data and of the adapters.", low=0)
    dtype: Literal["auto", "bfloat16", "float32"] = option(
        "auto",
        "Precision of the computation: bfloat16, float32, or auto, the faster one on this machine. Trained "
        "weights are kept in float32 in any case.",
        choices=_DTYPES,
    )
    lora_rank: int = option(16, "Rank of the adapters.", low=1)
    lora_alpha: float = option(32.0, "Scale of the adapters: they are multiplied by alpha / rank.", above=0)
    lora_dropout: float = option(
        0.0, "Share of the adapters' inputs that is dropped during training.", low=0, below=1
    )
    beta: float = option(0.1, "How closely dpo keeps the model to the one it started from.", above=0)
    save_every: int | None = option(None, "Steps between checkpoints. Default: one every 10 minutes.", low=1)
    threads: int | None = option(
        None,
        "CPU threads. Default: one per core. Two students at once, with one thread each, are fastest.",
        low=1,
    )
    packing: bool = option(False, "Put several short examples into one row (GPUs with FlashAttention).")
    recompute: bool = option(False, "Compute activations twice, to need less memory.")

    def __post_init__(self) -> None:
        check_values(self)
        if self.packing and self.objective == "dpo":
            raise UsageError("packing is for sft: leave it out")

    @property
    def rate(self) -> float:
        """The learning rate that is used."""
        return self.learning_rate or _RATES[self.objective, self.lora]

    def to_dict(self) -> dict[str, object]:
        """All settings, with the learning rate that is used."""
        return {**asdict(self), "learning_rate": self.rate}


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How students are evaluated. Raises `UsageError` for invalid values."""

    limit: int | None = option(
        None, "Number of questions from each file: the first ones, or with --random random ones.", low=1
    )
    random: bool = option(False, "With --limit, choose the questions at random, by --seed.")
    samples: int = option(0, "Sampled answers to each question, in addition to the greedy one.", low=0)
    temperature: float = option(1.0, "Temperature of the sampled answers.", above=0)
    top_p: float = option(1.0, "Nucleus of the sampled answers.", above=0, high=1)
    max_tokens: int = option(512, "Most tokens of an answer; longer ones are cut off.", low=1)
    batch_size: int = option(32, "Answers computed together.", low=1)
    plain: bool = option(False, "Ask the plain question, without the chat template.")
    question_format: str | None = option(
        None, 'Ask this text, with {question} in it, without the chat template: "Q: {question}\\nA:".'
    )
    instruction: str | None = option(None, "Text after each question, such as how to end the answer.")
    stop: tuple[str, ...] = option((), "Texts at which an answer ends.", cli=False)
    seed: int = option(0, "Seed of the sampled answers and of --random.", low=0)
    dtype: Literal["auto", "bfloat16", "float32"] = option(
        "auto",
        "Precision of the computation: bfloat16, float32, or auto, the faster one on this machine.",
        choices=_DTYPES,
    )
    threads: int | None = option(None, "CPU threads. Default: one per core.", low=1)

    def __post_init__(self) -> None:
        check_values(self)
        if self.plain and self.question_format is not None:
            raise UsageError(
                "choose one of plain and question_format: both leave the chat template out, and a format says more"
            )
        if self.question_format is not None and "{question}" not in self.question_format:
            raise UsageError('question_format has no {question} in it: write "Q: {question}\\nA:"')
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise UsageError(f"stop must be a list of texts, not {self.stop!r}")

    def to_dict(self) -> dict[str, object]:
        """All settings, JSON-ready."""
        return {**asdict(self), "stop": list(self.stop)}
