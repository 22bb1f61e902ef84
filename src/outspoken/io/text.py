"""Texts cut to a length, counts with a noun, texts and JSON in files of users, errors as a line, JSON as bytes."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError

__all__ = [
    "decoded",
    "encoding_of",
    "first_line",
    "json_bytes",
    "one_line",
    "parse_json",
    "plural",
    "read_bytes",
    "read_json",
    "read_text",
    "shorten",
]

_MOST, _PIECE = 2**26, 2**20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def shorten(text: str, most: int) -> str:
    """The text, cut to `most` characters; an ellipsis, which counts as one of them, marks the cut."""
    return text if len(text) <= most else text[: most - 1] + "…"


def one_line(text: str, most: int = 120) -> str:
    """The text on one line, with single spaces, cut to `most` characters."""
    return shorten(" ".join(text.split()), most)


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun, or with noun and verb: `1 reply`, `2,000 replies`, `0 prompts have`.

    `many` is the form for all counts but 1; by default the plural of the noun `one`.
    """
    if count == 1:
        return f"1 {one}"
    if one.endswith("y") and one[-2:-1] not in "aeiou":
        regular = f"{one[:-1]}ies"
    else:
        regular = f"{one}es" if one.endswith(("s", "x", "ch", "sh")) else f"{one}s"
    return f"{count:,} {many or regular}"


def first_line(error: BaseException) -> str:
    """The first line of the message of an error, or its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def json_bytes(value: object, **options: Any) -> bytes:
    """`json.dumps(value, **options)` in UTF-8, without escaping Unicode.

    Half of a surrogate pair has no UTF-8 form: JSON's escape is written instead.
    """
    return json.dumps(value, ensure_ascii=False, **options).encode("utf-8", "backslashreplace")


def encoding_of(content: bytes) -> str:
    """The encoding that the byte-order mark at the beginning of a file names, UTF-8 without one."""
    return next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")


def decoded(content: bytes, what: str, *, errors: str = "strict") -> str:
    """The text in the bytes of a user's file, which errors call `what`: "the prices p.toml".

    It is UTF-8, or UTF-16 or UTF-32 that begins with its mark. Raises `UsageError` for anything else.
    """
    try:
        text = content.decode(encoding_of(content), errors)
        if errors != "strict" or "\0" not in text:
            return text
    except UnicodeDecodeError as error:
        if b"\0" not in content:
            raise UsageError(f"cannot read {what}: it is not UTF-8; save it as UTF-8") from error
    raise UsageError(
        f"cannot read {what}: it is binary, or UTF-16 without its mark; name another file, or save it as UTF-8"
    )


def read_text(file: Path, what: str, *, most: int = _MOST) -> str:
    """The text of a file of at most `most` bytes, with line feeds as its line ends; errors call it `what`.

    Raises `UsageError` as `read_bytes` does, and for what is no text (see `decoded`).
    """
    text = decoded(read_bytes(file, what, most=most), f"the {what} {file}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_bytes(file: Path, what: str, *, most: int = _MOST) -> bytes:
    """The content of a file of at most `most` bytes, which errors call `what`.

    Raises `UsageError` if it does not exist, cannot be read or is too large.
    """
    try:
        with file.open("rb") as opened:
            # In pieces: one large `read` would reserve the memory for all of it.
            pieces = [opened.read(_PIECE)]
            while pieces[-1] and len(pieces) <= most // _PIECE + 1:
                pieces.append(opened.read(_PIECE))
            content = b"".join(pieces)
    except FileNotFoundError as error:
        raise UsageError(f"cannot read the {what} {file}: there is no such file; correct its name") from error
    except IsADirectoryError as error:
        raise UsageError(f"cannot read the {what} {file}: it is a folder; name a file") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        remedy = "change its permissions" if isinstance(error, PermissionError) else "name another file"
        raise UsageError(f"cannot read the {what} {file}: {reason}; {remedy}") from error
    if len(content) > most:
        raise UsageError(
            f"cannot read the {what} {file}: it has more than {most // 2**20} MiB; name the right file"
        )
    return content


def read_json(file: Path, what: str, **options: Any) -> Any:
    """The JSON in a file, which errors call `what` ("schema"); `options` are those of `json.loads`.

    Raises `UsageError` as `read_text` does, and for what is not JSON.
    """
    return parse_json(read_text(file, what), f"the {what} {file}", **options)


def parse_json(text: str, what: str, **options: Any) -> Any:
    """The JSON in a text, which errors call `what`. Raises `UsageError`."""
    if not text.strip():
        raise UsageError(f"{what} is empty: it must hold JSON")
    try:
        return json.loads(text, **options)
    except UsageError as error:  # of a hook in `options`
        raise UsageError(f"{what}: {error}") from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{what} is not JSON: {reason}") from error
