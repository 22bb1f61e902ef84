"""The lines of a file of records: its encoding, its line ends, and what it is instead if it is not text."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from outspoken.errors import UsageError
from outspoken.io.atomic import reason_of
from outspoken.io.text import encoding_of

__all__ = [
    "NUL",
    "BinaryFile",
    "CutOffError",
    "Lines",
    "check_text",
    "cut_off_at",
    "lines_of",
    "not_utf8",
    "undecodable",
]

BinaryFile = io.BufferedReader | gzip.GzipFile
Lines = Iterator[tuple[int, str]]
"""Lines with their numbers from 1 and their ends. A byte that is not UTF-8 is a character of U+DC80 to U+DCFF."""

NUL = "NUL characters, as in a file that is not text"
_NOT_TEXT = (
    (b"PK\x03\x04", "is a workbook of a spreadsheet, or another archive: save the sheet as CSV (UTF-8)"),
    (b"\xd0\xcf\x11\xe0", "is an old workbook of a spreadsheet: save the sheet as CSV (UTF-8)"),
    (b"\x1f\x8b", "is packed with gzip: its name must end in .gz"),
    (b"PAR1", "is Parquet: its name must end in .parquet"),
    (b"SQLite format 3\0", "is an SQLite database: export its rows as JSON lines or CSV"),
)
_PEEKED = 16


class CutOffError(Exception):
    """Nothing can be read from here on; the message says why."""


@contextmanager
def cut_off_at(*errors: type[Exception]) -> Iterator[None]:
    """Turn these errors in the block into a `CutOffError`."""
    try:
        yield
    except errors as error:
        raise CutOffError(reason_of(error)) from error


def lines_of(file: BinaryFile, name: str) -> Lines:
    """The lines of a text file in UTF-8, UTF-16 or UTF-32, without a byte-order mark; CR, LF and CR LF end a line.

    Raises `UsageError`, which calls the file `name`, if it is not text, and `CutOffError`.
    """
    with cut_off_at(OSError, EOFError, zlib.error, UnicodeDecodeError):
        head = file.peek(_PEEKED)[:_PEEKED]
        check_text(head, name)
        encoding = encoding_of(head)
        errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
        text = io.TextIOWrapper(file, encoding, errors=errors, newline="")
        try:
            for number, line in enumerate(text, 1):
                if number == 1 and "\0" in line:
                    raise UsageError(f"{name} contains NUL bytes and is not UTF-8 text: convert it to UTF-8")
                yield number, line
        finally:
            if not file.closed:
                text.detach()  # otherwise it closes the file


def check_text(head: bytes, name: str) -> None:
    """Raise `UsageError` for a file that begins as one of another kind, which is not text."""
    for beginning, what in _NOT_TEXT:
        if head.startswith(beginning):
            raise UsageError(f"{name} {what}")


def undecodable(line: str) -> bool:
    """Whether a line has bytes that are not UTF-8."""
    if line.isascii():
        return False
    try:
        line.encode()
    except UnicodeEncodeError:
        return True
    return False


def not_utf8(line: str) -> str:
    """Why an undecodable line cannot be read, with the remedy if it may be from a spreadsheet on Windows."""
    try:
        line.encode("utf-8", "surrogateescape").decode("cp1252")
    except UnicodeDecodeError:
        return "not UTF-8"
    return "not UTF-8: save it in a spreadsheet as CSV UTF-8, or convert it (iconv -f WINDOWS-1252 -t UTF-8 FILE)"
