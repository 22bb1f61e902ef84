"""Models that are trained or evaluated: weights, tokenizer, prompts as tokens, precision, and the libraries."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken._imports import installed_version, need
from outspoken.errors import OutputError, OutspokenError, UnknownNameError, UsageError
from outspoken.io.text import first_line
from outspoken.models import weight_files

__all__ = [
    "MODEL",
    "TRAINING",
    "BaseWeights",
    "Chat",
    "PromptText",
    "PromptTokenizer",
    "as_chat",
    "compute_dtype",
    "device",
    "find_weights",
    "hub_access",
    "limit_threads",
    "load_model",
    "load_tokenizer",
    "need_torch",
    "silence_libraries",
    "translate_errors",
    "versions",
]

MODEL, TRAINING = "model", "training.json"
"""In the folder of a training: the folder of the finished model, and the record of the training."""

_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16", "sve_bf16")
_WAITING = "OMP_WAIT_POLICY"
_LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets")


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """A causal language model: its `name` as the user gave it, and the `fingerprint` that identifies its weights.

    `folder` is what `transformers` loads: a folder if `local`, else a name of the hub.
    """

    name: str
    folder: str
    fingerprint: str
    local: bool


def find_weights(name: str | os.PathLike[str], *, offline: bool = False) -> BaseWeights:
    """The model of this name, which is downloaded and unpacked if necessary.

    It is `local/smollm2`, a GGUF file, a folder that transformers reads or that `train` wrote, or a name of the
    hub. Raises `UsageError` if it is not a language model, `ProviderError` if fetching fails.
    """
    need_torch()
    from outspoken.models import _causal_lm

    name = os.fspath(name)
    offline = offline or weight_files.is_offline()
    source = name.removeprefix("transformers/")
    if name.startswith("local/"):
        source = name.removeprefix("local/")
        if source not in weight_files.TABLE and not Path(source).expanduser().is_file():
            raise UnknownNameError(
                "local model", source, weight_files.TABLE, see="or give the path of a GGUF file"
            )
    folder = Path(source).expanduser()
    if (folder / TRAINING).is_file():
        if not (folder / MODEL).is_dir():
            raise UsageError(f"the training in {source} has not finished: finish it with `outspoken train` first")
        source = str(folder / MODEL)
    elif folder.is_dir():
        source = str(folder)
        if not (folder / "config.json").is_file():
            raise UsageError(f"{folder} holds no model (no config.json): give a folder that transformers reads")
    loaded = _causal_lm.loadable_source(source, "bfloat16", offline=offline)
    return BaseWeights(name, loaded, _causal_lm.fingerprint(source, offline=offline), Path(loaded).is_dir())


def load_tokenizer(base: BaseWeights, chat_template: str | None = None) -> Any:
    """The tokenizer of a model, with a padding token and, if given, another chat template."""
    tokenizer = _loaded(base, "AutoTokenizer")
    if tokenizer.eos_token is None:
        raise UsageError(f"the tokenizer of {base.name} has no token that ends a text: choose another model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def load_model(base: BaseWeights, dtype: str) -> Any:
    """The weights of a model in this dtype, on the fastest device."""
    torch = need_torch()
    return _loaded(base, "AutoModelForCausalLM", dtype=getattr(torch, dtype)).to(device())


def need_torch() -> Any:
    """Import torch so that its threads sleep while they wait; it reads the variable at its first import.

    Otherwise waiting threads occupy the processor, and a step takes ten times as long beside other work.
    """
    before = os.environ.get(_WAITING)
    os.environ.setdefault(_WAITING, "passive")
    try:
        return need("torch", "training and evaluating", "train")
    finally:
        if before is None:
            del os.environ[_WAITING]


@contextmanager
def limit_threads(count: int | None) -> Iterator[None]:
    """Use this number of CPU threads in the block; None: as many as torch chooses."""
    torch = need_torch()
    from outspoken.models import _causal_lm

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    _causal_lm.respect_thread_limit()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device() -> str:
    """`cuda` if there is a GPU, else `cpu`."""
    torch = need_torch()
    return "cuda" if torch.cuda.is_available() else "cpu"


def compute_dtype(dtype: str) -> str:
    """The precision of the computation: for "auto" bfloat16 if it is fast on this machine, else float32.

    A processor without instructions for bfloat16 is slower with it.
    """
    if dtype != "auto":
        return dtype
    torch = need_torch()
    if device() == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if any(capabilities.get(name) for name in _FAST_BFLOAT16) else "float32"


def versions() -> dict[str, str | None]:
    """The versions of Python and of the libraries that training uses; None for a library that is not installed."""
    import platform

    return {"python": platform.python_version(), **{name: installed_version(name) for name in _LIBRARIES}}


def _loaded(base: BaseWeights, kind: str, **options: Any) -> Any:
    from outspoken.models import _causal_lm

    hf = need("transformers", "training and evaluating", "train")
    try:
        with _causal_lm.without_library_output(), hub_access(base):
            return getattr(hf, kind).from_pretrained(base.folder, local_files_only=base.local, **options)
    except (OSError, ValueError, KeyError) as error:
        first = first_line(error)[:200]
        raise UsageError(
            f"{base.name} cannot be loaded as a language model ({first}): give a folder that transformers reads, "
            "a name of the hub or a GGUF file"
        ) from error


@contextmanager
def hub_access(base: BaseWeights) -> Iterator[None]:
    """Switch off the hub library's telemetry, and its network access too if the model is local."""
    constants = need("huggingface_hub.constants", "training and evaluating", "train")
    settings = {"HF_HUB_DISABLE_TELEMETRY": True, **({"HF_HUB_OFFLINE": True} if base.local else {})}
    before = {name: getattr(constants, name) for name in settings}
    for name, value in settings.items():
        setattr(constants, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)


_LOUD = ("trl", "accelerate", "peft", "datasets")


@contextmanager
def silence_libraries(base: BaseWeights) -> Iterator[None]:
    """Suppress the libraries' own warnings and progress bars."""
    from outspoken.models import _causal_lm

    datasets = need("datasets", "training", "train")
    with ExitStack() as stack:
        stack.enter_context(_causal_lm.without_library_output())
        stack.enter_context(hub_access(base))
        stack.enter_context(warnings.catch_warnings())
        for kind in (FutureWarning, DeprecationWarning, UserWarning):
            warnings.filterwarnings(
                "ignore", category=kind, module=r"(transformers|trl|peft|torch|accelerate|datasets)\b"
            )
        for name in _LOUD:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        if datasets.is_progress_bar_enabled():
            datasets.disable_progress_bars()
            stack.callback(datasets.enable_progress_bars)
        yield


@contextmanager
def translate_errors(output: Path | None = None) -> Iterator[None]:
    """Raise `UsageError` if memory runs out, and `OutputError` if the disk of `output` is full."""
    try:
        yield
    except OutspokenError:
        raise
    except Exception as error:
        first = first_line(error)[:200]
        # torch has no error types for these: only the message tells them apart.
        if isinstance(error, MemoryError) or "out of memory" in first or "allocate memory" in first:
            raise UsageError(
                f"the memory is too small ({first}): lower --batch-size (for training, raise "
                "--gradient-accumulation instead, or use --recompute or --lora)"
            ) from error
        disk = (
            isinstance(error, OSError) or "PytorchStreamWriter" in str(error) or "SafetensorError" in repr(error)
        )
        if output is not None and disk:
            raise OutputError(
                f"{output} cannot be written ({first}): make room, then the same command continues from the last "
                "checkpoint"
            ) from error
        raise


Chat = Sequence[Mapping[str, str]]
PromptText = str | Chat
"""Plain text, or messages that the chat template turns into text."""


@dataclass(frozen=True, slots=True)
class PromptTokenizer:
    """Turns prompts and answers into tokens; `name` is the model's, for errors.

    Prompt and answer are tokenised separately, so a student is trained on exactly the tokens that it gets in an
    evaluation.
    """

    tokenizer: Any
    name: str

    def prompt(self, text: PromptText) -> list[int]:
        """The tokens before the answer. Raises `UsageError` for a chat if the model has no template."""
        if isinstance(text, str):
            return self._ids(text, begin=True)
        return self._ids(self._apply_template(text, answering=True), begin=False)

    def example(self, prompt: PromptText, answer: PromptText) -> tuple[list[int], list[int]]:
        """The tokens of a prompt and of its answer, with the token that ends the answer."""
        if isinstance(prompt, str) and isinstance(answer, str):
            return self.prompt(prompt), [*self._ids(answer, begin=False), self.tokenizer.eos_token_id]
        before = as_chat(prompt, "user")
        start = self._apply_template(before, answering=True)
        full = self._apply_template([*before, *as_chat(answer, "assistant")], answering=False)
        if not full.startswith(start):  # this template writes a turn differently before another turn
            start = start[: next(at for at, (a, b) in enumerate(zip(start, full + "\0", strict=False)) if a != b)]
        return self._ids(start, begin=False), self._ids(full[len(start) :].rstrip(), begin=False)

    def _apply_template(self, chat: Chat, *, answering: bool) -> str:
        if not self.tokenizer.chat_template:
            raise UsageError(
                f"{self.name} has no chat template, which messages and questions need: give one with "
                '--chat-template FILE, or use plain text ({"prompt": …, "completion": …}; evaluate --plain)'
            )
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    [dict(message) for message in chat], tokenize=False, add_generation_prompt=answering
                )
            )
        except Exception as error:  # a template is a program and may raise anything
            raise UsageError(f"the chat template of {self.name} refuses this chat: {error}") from error

    def _ids(self, text: str, *, begin: bool) -> list[int]:
        """The tokens of a text; `begin` adds the token that begins a text, which templates write themselves."""
        return list(self.tokenizer(text, add_special_tokens=begin)["input_ids"])


def as_chat(text: PromptText, role: str) -> Chat:
    """Plain text as a message of this role; messages unchanged."""
    return [{"role": role, "content": text}] if isinstance(text, str) else text
