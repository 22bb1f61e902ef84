"""What the head of a GGUF file says of the model in it."""

from __future__ import annotations

import mmap
from pathlib import Path

from outspoken.errors import UsageError

__all__ = ["check_file", "has_chat_template", "is_embedder", "trained_context"]

_VERSIONS = (2, 3)
_HEAD = 64 << 20
_UINT32 = (4).to_bytes(4, "little")
_POOLS_INTO_ONE_VECTOR = (1, 2, 3)  # by the mean, the first or the last token; 0 is none, 4 a reranker


def check_file(path: Path) -> None:
    """Raise `UsageError` for a file that is not there, cannot be read or is no GGUF file."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}: give the path of a GGUF file") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give the path of a GGUF file") from error
    if head[:4] != b"GGUF":
        raise UsageError(f"{path} is not a GGUF file: convert the model with llama.cpp, or name another")
    version = int.from_bytes(head[4:], "little")
    if version not in _VERSIONS:
        raise UsageError(
            f"{path} is a GGUF file of version {version}, which llama.cpp does not read: convert again"
        )


def has_chat_template(path: Path) -> bool:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(b"tokenizer.chat_template", 0, _HEAD) >= 0


def is_embedder(path: Path) -> bool:
    """Whether the file is of a model that was trained to give one vector for a text."""
    return _number(path, b".pooling_type") in _POOLS_INTO_ONE_VECTOR


def trained_context(path: Path) -> int | None:
    """How many tokens the model was made for, where the file says so."""
    return _number(path, b".context_length")


def _number(path: Path, key: bytes) -> int | None:
    """A whole number of the architecture's; converters write these before the tokenizer's long lists."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        end = content.find(b"tokenizer.ggml.", 0, _HEAD)
        at = content.find(key + _UINT32, 0, _HEAD if end < 0 else end)
        start = at + len(key) + len(_UINT32)
        return int.from_bytes(content[start : start + 4], "little") if at >= 0 else None
