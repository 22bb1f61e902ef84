"""The model that is trained or asked: where its weights are, its tokenizer, and what it is computed in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from outspoken._extras import need
from outspoken.errors import UnknownNameError, UsageError
from outspoken.models import weight_files

__all__ = [
    "MODEL",
    "TRAINING",
    "BaseWeights",
    "computed_in",
    "device",
    "find",
    "hub",
    "load_model",
    "load_tokenizer",
    "need_torch",
    "threads",
    "versions",
]

MODEL, TRAINING = "model", "training.json"
"""In a folder of training: the folder of the finished model, and the file that tells of it."""

_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16", "sve_bf16")
_WAITING = "OMP_WAIT_POLICY"
_LIBRARIES = ("torch", "transformers", "trl", "peft", "datasets")


@dataclass(frozen=True, slots=True)
class BaseWeights:
    """A causal language model: the `name` it was asked for by, what `transformers` loads (a folder, or a `local`
    False name of the hub), and the `fingerprint` that tells its weights from others."""

    name: str
    folder: str
    fingerprint: str
    local: bool


def find(name: str | os.PathLike[str], *, offline: bool = False) -> BaseWeights:
    """The model of this name: `local/smollm2`, a GGUF file, a folder that transformers reads or that `train`
    wrote, or a name of the hub. What is not unpacked or fetched yet is, once.

    Raises `UsageError` for what is no language model, `ProviderError` where fetching fails.
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
            raise UsageError(f"{source} was not trained to its end: run its `outspoken train` again, then this")
        source = str(folder / MODEL)
    elif folder.is_dir():
        source = str(folder)
        if not (folder / "config.json").is_file():
            raise UsageError(f"{folder} holds no model (no config.json): give a folder that transformers reads")
    found = _causal_lm.folder_of(source, "bfloat16", offline=offline)
    return BaseWeights(name, found, _causal_lm.fingerprint(source, offline=offline), Path(found).is_dir())


def load_tokenizer(base: BaseWeights, chat_template: str | None = None) -> Any:
    """Its tokenizer, with a token for padding and, where one is given, with another chat template."""
    tokenizer = _loaded(base, "AutoTokenizer")
    if tokenizer.eos_token is None:
        raise UsageError(f"the tokenizer of {base.name} has no token that ends a text: take another model")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    return tokenizer


def load_model(base: BaseWeights, dtype: str) -> Any:
    """Its weights in this dtype, on the device where it is fastest."""
    torch = need_torch()
    return _loaded(base, "AutoModelForCausalLM", dtype=getattr(torch, dtype)).to(device())


def need_torch() -> Any:
    """torch, whose threads give way while they wait: else they take the processor from each other and from
    whatever else runs, and a step takes ten times as long beside other work. This is read when torch is loaded
    first."""
    before = os.environ.get(_WAITING)
    os.environ.setdefault(_WAITING, "passive")
    try:
        return need("torch", "training and evaluating", "train")
    finally:
        if before is None:
            del os.environ[_WAITING]


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """So many threads of the processor, None as many as torch takes."""
    torch = need_torch()
    from outspoken.models import _causal_lm

    before = torch.get_num_threads()
    if count is not None:
        torch.set_num_threads(count)
    _causal_lm.sound_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device() -> str:
    torch = need_torch()
    return "cuda" if torch.cuda.is_available() else "cpu"


def computed_in(dtype: str) -> str:
    """`bfloat16` or `float32`: what "auto" is here. A processor without instructions of its own for bfloat16 is
    slower with it."""
    if dtype != "auto":
        return dtype
    torch = need_torch()
    if device() == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    able: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if any(able.get(name) for name in _FAST_BFLOAT16) else "float32"


def versions() -> dict[str, str | None]:
    """Those of Python and of the libraries that training depends on; None where one is absent."""
    import platform

    found: dict[str, str | None] = {"python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            found[library] = None
    return found


def _loaded(base: BaseWeights, kind: str, **options: Any) -> Any:
    from outspoken.models import _causal_lm

    hf = need("transformers", "training and evaluating", "train")
    try:
        with _causal_lm.quiet(), hub(base):
            return getattr(hf, kind).from_pretrained(base.folder, local_files_only=base.local, **options)
    except (OSError, ValueError, KeyError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UsageError(
            f"{base.name} cannot be loaded as a language model ({first}): give a folder that transformers reads, "
            "a name of the hub or a GGUF file"
        ) from error


@contextmanager
def hub(base: BaseWeights) -> Iterator[None]:
    """The hub's library tells nobody what is done here, and asks nobody where the model is local."""
    constants = need("huggingface_hub.constants", "training and evaluating", "train")
    wanted = {"HF_HUB_DISABLE_TELEMETRY": True, **({"HF_HUB_OFFLINE": True} if base.local else {})}
    before = {name: getattr(constants, name) for name in wanted}
    for name, value in wanted.items():
        setattr(constants, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)
