"""The model that is trained or evaluated: its weights, its tokenizer, and the precision of the computation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.errors import UnknownNameError, UsageError
from outspoken.models import weight_files

__all__ = [
    "MODEL",
    "TRAINING",
    "BaseWeights",
    "compute_dtype",
    "device",
    "find_weights",
    "hub_access",
    "limit_threads",
    "load_model",
    "load_tokenizer",
    "need_torch",
    "versions",
]

MODEL, TRAINING = "model", "training.json"
"""In the folder of a training: the folder of the finished model, and the record of the training."""

_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16", "sve_bf16")
_WAITING = "OMP_WAIT_POLICY"
_LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets")


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """A causal language model: its `name` as the user gave it, the `folder` that `transformers` loads (a name of
    the hub if not `local`), and the `fingerprint` that identifies its weights."""

    name: str
    folder: str
    fingerprint: str
    local: bool


def find_weights(name: str | os.PathLike[str], *, offline: bool = False) -> BaseWeights:
    """The model of this name: `local/smollm2`, a GGUF file, a folder that transformers reads or that `train`
    wrote, or a name of the hub. It is fetched and unpacked if necessary.

    Raises `UsageError` if it is not a language model, `ProviderError` if fetching fails.
    """
    need_torch()
    from outspoken.models import _causal_lm

    name = os.fspath(name)
    offline = offline or os.environ.get("OUTSPOKEN_OFFLINE", "0") not in ("", "0")
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
            raise UsageError(
                f"the training in {source} has not finished: give its `outspoken train` again, then this"
            )
        source = str(folder / MODEL)
    elif folder.is_dir():
        source = str(folder)
        if not (folder / "config.json").is_file():
            raise UsageError(f"{folder} holds no model (no config.json): give a folder that transformers reads")
    loaded = _causal_lm.loadable_source(source, "bfloat16", offline=offline)
    return BaseWeights(name, loaded, _causal_lm.fingerprint(source, offline=offline), Path(loaded).is_dir())


def load_tokenizer(base: BaseWeights, chat_template: str | None = None) -> Any:
    """Its tokenizer, with a padding token and, if given, another chat template."""
    tokenizer = _loaded(base, "AutoTokenizer")
    if tokenizer.eos_token is None:
        raise UsageError(f"the tokenizer of {base.name} has no token that ends a text: choose another model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def load_model(base: BaseWeights, dtype: str) -> Any:
    """Its weights in this dtype, on the fastest device."""
    torch = need_torch()
    return _loaded(base, "AutoModelForCausalLM", dtype=getattr(torch, dtype)).to(device())


def need_torch() -> Any:
    """torch, imported so that its threads sleep while they wait.

    Otherwise waiting threads occupy the processor, and a step takes ten times as long beside other work. torch
    reads the variable when it is first imported.
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
    """Use this number of CPU threads; None: as many as torch chooses."""
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

    installed: dict[str, str | None] = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            installed[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            installed[library] = None
    return installed


def _loaded(base: BaseWeights, kind: str, **options: Any) -> Any:
    from outspoken.models import _causal_lm

    hf = need("transformers", "training and evaluating", "train")
    try:
        with _causal_lm.without_library_output(), hub_access(base):
            return getattr(hf, kind).from_pretrained(base.folder, local_files_only=base.local, **options)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(
            f"{base.name} cannot be loaded as a language model ({first}): give a folder that transformers reads, "
            "a name of the hub or a GGUF file"
        ) from error


@contextmanager
def hub_access(base: BaseWeights) -> Iterator[None]:
    """Switch the hub library's telemetry off, and its network access too if the model is local."""
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
