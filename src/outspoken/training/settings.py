"""The settings of training and of evaluating: the one place from which arguments and options come."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from outspoken.errors import UnknownNameError, UsageError
from outspoken.settings import option

__all__ = ["DTYPES", "METHODS", "EvalSettings", "TrainSettings", "read"]

METHODS = ("sft", "dpo")
SCHEDULES = ("linear", "cosine", "constant")
DTYPES = ("auto", "bfloat16", "float32")
_RATES = {("sft", False): 2e-5, ("sft", True): 2e-4, ("dpo", False): 1e-6, ("dpo", True): 1e-5}
_MAY_LACK = ("max_steps", "save_every", "threads", "limit", "learning_rate")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How a student is trained. Raises `UsageError` for what cannot be."""

    method: str = option("sft", "sft: learn the answers; dpo: learn which of two is preferred.", cli=False)
    lora: bool = option(False, "Train low-rank adapters and not all weights.", cli=False)
    epochs: float = option(3.0, "Times that the data are gone through.")
    max_steps: int | None = option(None, "Stop after this many steps, whatever --epochs says.")
    learning_rate: float | None = option(
        None, "Highest learning rate. Default: 2e-5, with --lora 2e-4; for dpo 1e-6, with --lora 1e-5."
    )
    batch_size: int = option(8, "Examples that are computed together.")
    gradient_accumulation: int = option(1, "Batches that make one step.")
    max_length: int = option(1024, "Longest example in tokens; longer ones are left out and counted.")
    warmup: float = option(0.03, "Share of the steps in which the learning rate rises.")
    schedule: str = option("linear", "How the learning rate falls then: linear, cosine, or constant (not at all).")
    weight_decay: float = option(0.0, "Weight decay of AdamW.")
    seed: int = option(0, "Seed of the order of the data and of the adapters.")
    dtype: str = option(
        "auto",
        "What is computed in: bfloat16, float32, or auto, the faster one on this machine. What learns is kept in "
        "float32 either way.",
    )
    lora_rank: int = option(16, "Rank of the adapters.")
    lora_alpha: float = option(32.0, "Scale of the adapters: they count alpha / rank.")
    lora_dropout: float = option(0.0, "Share of the adapters' inputs that is dropped while training.")
    beta: float = option(0.1, "How closely dpo keeps to the model it started from.")
    save_every: int | None = option(None, "Steps between checkpoints. Default: one every 10 minutes.")
    threads: int | None = option(
        None, "Threads of the processor. Default: one a core. Two students at once with one each go fastest."
    )
    packing: bool = option(False, "Put several short examples into one row.", cli=False)
    recompute: bool = option(False, "Compute activations twice, to need less memory.", cli=False)

    def __post_init__(self) -> None:
        _one_of("method", self.method, METHODS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("dtype", self.dtype, DTYPES)
        for name in ("batch_size", "gradient_accumulation", "max_steps", "save_every", "lora_rank", "threads"):
            _whole(name, getattr(self, name), 1)
        _whole("max_length", self.max_length, 2)
        _whole("seed", self.seed, 0)
        _number("epochs", self.epochs, 0, above=True)
        _number("learning_rate", self.learning_rate, 0, above=True)
        _number("weight_decay", self.weight_decay, 0)
        _number("lora_alpha", self.lora_alpha, 0, above=True)
        _number("beta", self.beta, 0, above=True)
        _number("warmup", self.warmup, 0, below=1)
        _number("lora_dropout", self.lora_dropout, 0, below=1)
        if self.packing and self.method == "dpo":
            raise UsageError("packing is for sft: leave it out")

    @property
    def rate(self) -> float:
        """The learning rate that is used."""
        return self.learning_rate or _RATES[self.method, self.lora]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "learning_rate": self.rate}


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """How students are asked. Raises `UsageError` for what cannot be."""

    limit: int | None = option(None, "Ask so many questions of each file: the first, or with --draw random ones.")
    draw: bool = option(False, "With --limit, draw the questions at random by --seed.", cli=False)
    samples: int = option(0, "Sampled answers to each question, beside the greedy one.")
    temperature: float = option(1.0, "Temperature of the sampled answers.")
    top_p: float = option(1.0, "Nucleus of the sampled answers.")
    max_tokens: int = option(512, "Most tokens of an answer; what is longer is cut off there.")
    batch_size: int = option(32, "Answers that are computed together.")
    plain: bool = option(False, "Ask the bare question, without the chat template.", cli=False)
    template: str | None = option(
        None, 'Ask this text with {question} in it, without the chat template: "Q: {question}\\nA:".'
    )
    instruction: str | None = option(None, "Say this after each question, such as how to end the answer.")
    stop: tuple[str, ...] = option((), "Texts at which an answer ends.", cli=False)
    seed: int = option(0, "Seed of the sampled answers and of --draw.")
    dtype: str = option("auto", "What is computed in: bfloat16, float32, or auto, the faster one on this machine.")
    threads: int | None = option(None, "Threads of the processor. Default: one a core.")

    def __post_init__(self) -> None:
        _one_of("dtype", self.dtype, DTYPES)
        for name in ("limit", "max_tokens", "batch_size", "threads"):
            _whole(name, getattr(self, name), 1)
        _whole("samples", self.samples, 0)
        _whole("seed", self.seed, 0)
        _number("temperature", self.temperature, 0, above=True)
        _number("top_p", self.top_p, 0, above=True)
        if self.top_p > 1:
            raise UsageError(f"top_p must be at most 1, not {self.top_p:g}")
        if self.plain and self.template is not None:
            raise UsageError("choose one of plain and template: a template is without the chat template already")
        if self.template is not None and "{question}" not in self.template:
            raise UsageError('the template has no {question} in it: write "Q: {question}\\nA:"')
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise UsageError(f"stop must be a list of texts, not {self.stop!r}")

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "stop": list(self.stop)}


def read(kind: type[T], options: dict[str, Any]) -> T:
    """Settings from keyword arguments; a name that is none of them is a `UsageError`."""
    known = kind.__dataclass_fields__  # type: ignore[attr-defined]
    for name in options:
        if name not in known:
            raise UnknownNameError("option", name, known)
    return kind(**options)


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UnknownNameError(name, str(value), known)


def _whole(name: str, value: Any, low: int) -> None:
    if value is None and name in _MAY_LACK:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise UsageError(f"{name} must be a whole number from {low} on, not {value!r}")


def _number(name: str, value: Any, low: float, *, above: bool = False, below: float | None = None) -> None:
    if value is None and name in _MAY_LACK:
        return
    fits = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    if not fits or value < low or (above and value == low) or (below is not None and value >= below):
        span = f"{'above' if above else 'at least'} {low:g}" + ("" if below is None else f" and below {below:g}")
        raise UsageError(f"{name} must be a number {span}, not {value!r}")
