"""Facts about a model from the header of its GGUF file."""

from __future__ import annotations

import mmap
from pathlib import Path

from outspoken.errors import UsageError

__all__ = ["check_file", "has_chat_template", "is_embedder", "trained_context"]

_VERSIONS = (2, 3)
_HEADER_BYTES = 64 << 20
_UINT32 = (4).to_bytes(4, "little")
_POOLS_INTO_ONE_VECTOR = (1, 2, 3)  # mean, first token, last token; 0 is none, 4 a reranker


def check_file(path: Path) -> None:
    """Raise `UsageError` for a file that does not exist, cannot be read or is not GGUF."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        raise UsageError(f"the file {path} does not exist: give the path of a GGUF file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give the path of a GGUF file") from error
    if head[:4] != b"GGUF":
        raise UsageError(f"{path} is not a GGUF file: convert the model with llama.cpp, or name another")
    version = int.from_bytes(head[4:], "little")
    if version not in _VERSIONS:
        raise UsageError(
            f"{path} is a GGUF file of version {version}, which llama.cpp does not read: convert the model again"
        )


def has_chat_template(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"tokenizer.chat_template", 0, _HEADER_BYTES) >= 0


def is_embedder(path: Path) -> bool:
    """Whether the model was trained to give one vector for a text."""
    return _number(path, b".pooling_type") in _POOLS_INTO_ONE_VECTOR


def trained_context(path: Path) -> int | None:
    """The model's own context in tokens, or None if the file does not state it."""
    return _number(path, b".context_length")


def _number(path: Path, key: bytes) -> int | None:
    """An unsigned 32-bit value of the architecture; converters write these before the tokenizer's long lists."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(b"tokenizer.ggml.", 0, _HEADER_BYTES)
        position = content.find(key + _UINT32, 0, _HEADER_BYTES if end < 0 else end)
        start = position + len(key) + len(_UINT32)
        return int.from_bytes(content[start : start + 4], "little") if position >= 0 else None
