"""Loading causal language models with `transformers`, and reading texts as their tokens."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.errors import PromptTooLongError, ProviderError, UsageError
from outspoken.models import weight_files
from outspoken.models._batched_scoring import BatchedScorer, TokenSpan
from outspoken.models._gguf_header import check_file

torch = need("torch", "scoring a text in this process", "torch")
hf = need("transformers", "scoring a text in this process", "torch")

__all__ = ["CausalLM", "TokenLogprobs", "fingerprint", "folder_of", "load", "quiet", "sound_threads"]

_CONVERTED = "converted"


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """A prompt and its continuation as one text of tokens: those of the continuation, and how they were told."""

    piece: TokenSpan
    tokens: tuple[str, ...]
    joined: bool


class CausalLM:
    """A model, its tokenizer and the length of its context."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._limit: int | None = getattr(model.config, "max_position_embeddings", None)
        self.passes = BatchedScorer(model, lambda: hf.DynamicCache(config=model.config))

    def read(self, prompt: str, continuation: str, context: int | None) -> TokenLogprobs | UsageError:
        """Both as one text, tokenised together; every token that holds a character of the continuation is its."""
        if not continuation:
            return UsageError("the continuation is empty: there is nothing to score")
        text = prompt + continuation
        try:
            text.encode()
        except UnicodeEncodeError:
            return UsageError("the text holds half of a surrogate pair: repair how it was read")
        begun = self._tokenizer.bos_token and text.startswith(self._tokenizer.bos_token)
        coded = self._tokenizer(text, return_offsets_mapping=True, add_special_tokens=not begun)
        ids, spans = coded["input_ids"], coded["offset_mapping"]
        start = next((at for at, (_, end) in enumerate(spans) if end > len(prompt)), len(ids))
        end = next((at for at in range(len(ids), start, -1) if spans[at - 1][1] > spans[at - 1][0]), start)
        limit = min(filter(None, (context, self._limit)), default=None)
        if limit is not None and end > limit:
            return PromptTooLongError(
                f"prompt and continuation have {end} tokens and the model's context holds {limit}: shorten them, "
                "or take a model with a longer context"
            )
        if start == 0:
            return UsageError("the first token of all has no probability: give a prompt before the continuation")
        if start >= end:
            return UsageError("the continuation has no token of its own: the model's tokenizer leaves it out")
        tokens = tuple(text[slice(*span)] for span in spans[start:end])
        return TokenLogprobs(TokenSpan(tuple(ids[:end]), start), tokens, spans[start][0] < len(prompt))

    def chat_text(self, prompt: str, name: str) -> str:
        """The prompt as the model's chat template puts it, up to where the answer begins."""
        if not self._tokenizer.chat_template:
            raise UsageError(
                f"{name} has no chat template: take the prompt as it stands (score without --chat, gamma --plain)"
            )
        messages = [{"role": "user", "content": prompt}]
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def load(source: str, dtype: str, *, offline: bool) -> CausalLM:
    """Raises `UsageError` for what is no causal language model, and `ProviderError` where the hub fails."""
    folder = folder_of(source, dtype, offline=offline)
    try:
        with quiet():
            options = {"local_files_only": offline or _is_gguf(source) or Path(source).is_dir()}
            tokenizer = hf.AutoTokenizer.from_pretrained(folder, **options)
            model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **options)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{source} cannot be loaded as a language model ({_first_line(error)}): give a folder that "
            "transformers reads, a name of the hub or a GGUF file"
        ) from error
    if not tokenizer.is_fast:
        raise UsageError(
            f"the tokenizer of {source} cannot tell which characters a token holds: take another model"
        )
    sound_threads()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return CausalLM(model.to(device).eval(), tokenizer)


def folder_of(source: str, dtype: str, *, offline: bool) -> str:
    """What `transformers` loads for a source: the folder, the name of the hub, or where a GGUF file is unpacked.

    Raises `UsageError` for a path where nothing is, and what unpacking raises.
    """
    if source.startswith(("/", ".", "~")) and not Path(source).expanduser().exists():
        raise UsageError(f"there is no {source}: give a folder, a GGUF file or a name of the hub")
    return str(_unpacked(_file(source, offline=offline), dtype)) if _is_gguf(source) else source


def sound_threads() -> None:
    """Where OpenMP grants fewer threads than torch counts on, products in bfloat16 are wrong without a word."""
    if (granted := os.environ.get("OMP_THREAD_LIMIT", "")).isdecimal():
        torch.set_num_threads(max(1, min(torch.get_num_threads(), int(granted))))


def fingerprint(source: str, *, offline: bool) -> str:
    """What tells these weights from others of the same name: a GGUF file's sha256, a folder's names, sizes and
    times, or the name of the hub."""
    if _is_gguf(source):
        return _digest(_file(source, offline=offline))
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return source
    files = sorted(path for path in folder.iterdir() if path.is_file())
    told = "\n".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
    return hashlib.sha256(told.encode()).hexdigest()


def _is_gguf(source: str) -> bool:
    return source in weight_files.TABLE or source.endswith(".gguf") or Path(source).expanduser().is_file()


def _file(source: str, *, offline: bool) -> Path:
    if source in weight_files.TABLE:
        if weight_files.TABLE[source].embeds:
            raise UsageError(f"{source} embeds texts and has no log-probabilities: take a language model")
        with weight_files.shown(source) as progress:
            return weight_files.get(source, offline=offline, progress=progress)
    path = Path(source).expanduser().resolve()
    check_file(path)
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpacked(file: Path, dtype: str) -> Path:
    """The folder in the cache with the GGUF file's weights and tokenizer in the form that loads at once."""
    folder = weight_files.folder() / _CONVERTED / f"{_digest(file)[:32]}-{dtype}"
    if folder.is_dir():
        return folder
    sys.stderr.write(f"unpacking {file.name}: up to a minute, once\n")
    need("gguf", "reading a GGUF file", "torch")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    except OSError as error:
        raise UsageError(f"cannot write into {folder.parent} ({error.strerror}): set OUTSPOKEN_CACHE") from error
    try:
        _convert(file, made, dtype)
        if not folder.is_dir():  # another process may have been faster
            os.replace(made, folder)
    except OSError as error:
        raise ProviderError(
            f"{file.name} could not be unpacked ({error}): free some space, or set OUTSPOKEN_CACHE", original=error
        ) from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _convert(file: Path, target: Path, dtype: str) -> None:
    try:
        with quiet():
            named = {"gguf_file": file.name, "local_files_only": True}
            hf.AutoTokenizer.from_pretrained(file.parent, **named).save_pretrained(target)
            hf.AutoModelForCausalLM.from_pretrained(
                file.parent,
                **named,
                dtype=getattr(torch, dtype),
                quantization_config=hf.GgufConfig(dequantize=True),
            ).save_pretrained(target)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UsageError(
            f"{file.name} cannot be unpacked ({_first_line(error)}): transformers does not read this kind of it; "
            "give its folder of safetensors"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the advice of `transformers`, and where nobody looks on without its bars."""
    logging = hf.utils.logging
    unpacking: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    bar = getattr(unpacking, "tqdm", None)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if bar is not None:  # this one does not ask the switch above
        unpacking.tqdm = partial(bar, disable=not sys.stderr.isatty(), leave=False)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        if bar is not None:
            unpacking.tqdm = bar


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
