"""Causal language models of `transformers`: loading them, and tokenising the texts to score."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.errors import PromptTooLongError, ProviderError, UsageError
from outspoken.io.text import first_line
from outspoken.models import weight_files
from outspoken.models._batched_scoring import BatchedScorer, TokenSequence
from outspoken.models._llama_formats import check_file

torch = need("torch", "scoring a text in this process", "torch")
hf = need("transformers", "scoring a text in this process", "torch")


class CausalLM:
    """A model with its tokenizer."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._limit: int | None = getattr(model.config, "max_position_embeddings", None)
        self.scorer = BatchedScorer(model, lambda: hf.DynamicCache(config=model.config))

    def tokenize(
        self, prompt: str, continuation: str, context: int | None
    ) -> tuple[TokenSequence, tuple[str, ...], bool] | UsageError:
        """Both as one text, the texts of the continuation's tokens (all with any character of it), and whether the
        first also contains characters of the prompt. Returns an error if the pair cannot be scored."""
        if not continuation:
            return UsageError("the continuation is empty: there is nothing to score")
        text = prompt + continuation
        try:
            text.encode()
        except UnicodeEncodeError:
            return UsageError("the text holds half of a surrogate pair: repair how it was read")
        has_bos = self._tokenizer.bos_token and text.startswith(self._tokenizer.bos_token)
        encoded = self._tokenizer(text, return_offsets_mapping=True, add_special_tokens=not has_bos)
        ids, spans = encoded["input_ids"], encoded["offset_mapping"]
        start = next((index for index, (_, end) in enumerate(spans) if end > len(prompt)), len(ids))
        # Special tokens at the end have empty spans.
        end = len(ids)
        while end > start and spans[end - 1][0] == spans[end - 1][1]:
            end -= 1
        limit = min(filter(None, (context, self._limit)), default=None)
        if limit is not None and end > limit:
            return PromptTooLongError(
                f"prompt and continuation have {end} tokens and the model's context holds {limit}: shorten them, "
                "or take a model with a longer context"
            )
        if start == 0:
            return UsageError("the first token of a text has no probability: put a prompt before the continuation")
        if start >= end:
            return UsageError(
                "the model's tokenizer ignores the continuation, so it has no probability: change the continuation"
            )
        tokens = tuple(text[slice(*span)] for span in spans[start:end])
        return TokenSequence(tuple(ids[:end]), start), tokens, spans[start][0] < len(prompt)

    def chat_text(self, prompt: str, name: str) -> str:
        """The prompt in the model's chat template, up to where the answer begins."""
        if not self._tokenizer.chat_template:
            raise UsageError(
                f"{name} has no chat template: use the prompt as it is (score without --chat, gamma with --plain)"
            )
        messages = [{"role": "user", "content": prompt}]
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))


def load(source: str, dtype: str, *, offline: bool) -> CausalLM:
    """Load a model for scoring, on the GPU if there is one.

    Raises `UsageError` for a source that is not a causal language model, and `ProviderError` if the hub fails.
    """
    folder = loadable_source(source, dtype, offline=offline)
    try:
        with without_library_output():
            options = {"local_files_only": offline or Path(folder).is_dir()}
            tokenizer = hf.AutoTokenizer.from_pretrained(folder, **options)
            model = hf.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype), **options)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(
            f"{source} cannot be loaded as a language model ({first_line(error)[:200]}): give a folder that "
            "transformers reads, a name on the hub or a GGUF file"
        ) from error
    if not tokenizer.is_fast:
        raise UsageError(
            f"the tokenizer of {source} does not report which characters a token covers: take another model"
        )
    respect_thread_limit()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return CausalLM(model.to(device).eval(), tokenizer)


def loadable_source(source: str, dtype: str, *, offline: bool) -> str:
    """A source that `transformers` loads: a folder (into which a GGUF file is unpacked) or a name on the hub.

    Raises `UsageError` for a path that does not exist, and the errors of unpacking.
    """
    path = Path(source).expanduser()
    if source.startswith(("/", ".", "~")) and not path.exists():
        raise UsageError(f"{source} does not exist: give a folder, a GGUF file or a name on the hub")
    if _is_gguf(source):
        path = _unpacked(_file(source, offline=offline), dtype)
    return str(path) if path.is_dir() else source


def respect_thread_limit() -> None:
    """Limit torch to the threads that OpenMP allows: with more, products in bfloat16 are silently wrong."""
    if (allowed := os.environ.get("OMP_THREAD_LIMIT", "")).isdecimal():
        torch.set_num_threads(max(1, min(torch.get_num_threads(), int(allowed))))


def fingerprint(source: str, *, offline: bool) -> str:
    """An identifier of the weights: the sha256 of a GGUF file, a hash of the names, sizes and times of a folder's
    files, or the name on the hub."""
    if _is_gguf(source):
        return weight_files.sha256_of(_file(source, offline=offline))
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return source
    files = sorted(path for path in folder.iterdir() if path.is_file())
    listing = "\n".join(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def _is_gguf(source: str) -> bool:
    return source in weight_files.TABLE or source.endswith(".gguf") or Path(source).expanduser().is_file()


def _file(source: str, *, offline: bool) -> Path:
    if source in weight_files.TABLE:
        if weight_files.TABLE[source].embeds:
            raise UsageError(f"{source} embeds texts and has no log-probabilities: take a language model")
        with weight_files.progress_on_stderr(source) as progress:
            return weight_files.get(source, offline=offline, progress=progress)
    path = Path(os.path.realpath(Path(source).expanduser()))
    check_file(path)
    return path


def _unpacked(file: Path, dtype: str) -> Path:
    """The cached folder with the weights and the tokenizer of a GGUF file, in a format that loads quickly."""
    folder = weight_files.folder() / "converted" / f"{weight_files.sha256_of(file)[:32]}-{dtype}"
    if folder.is_dir():
        return folder
    if not weight_files.is_quiet():
        sys.stderr.write(f"unpacking {file.name}: up to a minute, once\n")
    need("gguf", "reading a GGUF file", "torch")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    except OSError as error:
        raise weight_files.unwritable(folder.parent, error) from error
    try:
        _convert(file, temporary, dtype)
        if not folder.is_dir():  # another process may have been faster
            os.replace(temporary, folder)
    except OSError as error:
        raise ProviderError(
            f"{file.name} could not be unpacked ({error}): free some space, or set OUTSPOKEN_CACHE", original=error
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _convert(file: Path, target: Path, dtype: str) -> None:
    try:
        with without_library_output():
            options = {"gguf_file": file.name, "local_files_only": True}
            hf.AutoTokenizer.from_pretrained(file.parent, **options).save_pretrained(target)
            hf.AutoModelForCausalLM.from_pretrained(
                file.parent,
                **options,
                dtype=getattr(torch, dtype),
                quantization_config=hf.GgufConfig(dequantize=True),
            ).save_pretrained(target)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UsageError(
            f"{file.name} cannot be unpacked ({first_line(error)[:200]}): transformers does not read this kind of "
            "GGUF file; give the model's folder of safetensors"
        ) from error


@contextmanager
def without_library_output() -> Iterator[None]:
    """Silence the advice of `transformers` and its progress bars, except that of unpacking in a terminal."""
    logging = hf.utils.logging
    unpacking: Any = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    bar = getattr(unpacking, "tqdm", None)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if bar is not None:  # this module ignores disable_progress_bar
        unpacking.tqdm = partial(bar, disable=not sys.stderr.isatty(), leave=False)
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
        if bar is not None:
            unpacking.tqdm = bar
