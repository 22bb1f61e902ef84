"""Texts cut to a length, counts with a noun, a user's text file, the first line of an error, JSON as bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from outspoken.errors import UsageError

__all__ = ["first_line", "json_bytes", "one_line", "plural", "read_text", "shorten"]


def shorten(text: str, most: int) -> str:
    """The text, cut to `most` characters; an ellipsis, which counts as one of them, marks the cut."""
    return text if len(text) <= most else text[: most - 1] + "…"


def one_line(text: str, most: int = 120) -> str:
    """The text on one line, with single spaces, cut to `most` characters."""
    return shorten(" ".join(text.split()), most)


def plural(count: int, noun: str) -> str:
    """A count with its noun in the right number: `1 reply`, `2,000 replies`, `0 searches`."""
    if count == 1:
        return f"1 {noun}"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{count:,} {noun[:-1]}ies"
    return f"{count:,} {noun}{'es' if noun.endswith(('s', 'x', 'ch', 'sh')) else 's'}"


def first_line(error: BaseException) -> str:
    """The first line of the message of an error, or its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def json_bytes(value: object, **options: Any) -> bytes:
    """`json.dumps(value, **options)` in UTF-8, without escaping Unicode.

    Half of a surrogate pair has no UTF-8 form: JSON's escape is written instead.
    """
    return json.dumps(value, ensure_ascii=False, **options).encode("utf-8", "backslashreplace")


def read_text(file: Path, what: str) -> str:
    """The text of a file, which errors call a file of `what` ("prices").

    Raises `UsageError` if it does not exist, cannot be read or is not UTF-8.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise UsageError(f"no such file of {what}: {file}") from error
    except OSError as error:
        raise UsageError(f"the {what} in {file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the {what} in {file} are not UTF-8: convert the file") from error
