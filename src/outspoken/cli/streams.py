"""The standard streams: any encoding, closed ones, and outputs that cannot be written."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any

from outspoken.errors import OutputError
from outspoken.io.atomic import reason_of
from outspoken.terminal import ENCODING_ERRORS

__all__ = ["ReaderGoneError", "prepare"]


class ReaderGoneError(Exception):
    """The process that reads standard output has ended (`| head`)."""


def prepare() -> None:
    """Make standard output and standard error fit for any text and any fate of theirs.

    Characters that the encoding lacks are written plainly or as escapes. A closed stream is opened to nowhere, so
    that no other file gets its number. Writing raises `ReaderGoneError` if the reader of standard output has gone,
    and `OutputError` if it cannot be written for another reason; what cannot be written to standard error is lost.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _stream(sys.stdout, _StandardOutput)
    sys.stderr = _stream(sys.stderr, _StandardError)


def _stream(stream: Any, kind: type[_Standard]) -> Any:
    if stream is None:
        return open(kind.NUMBER, "w", encoding="utf-8", closefd=False)
    if os.name != "posix":  # the console of Windows is no file
        stream.reconfigure(errors=ENCODING_ERRORS)
        return stream
    stream.flush()
    raw = kind(kind.NUMBER, "w", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=ENCODING_ERRORS,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


class _Standard(io.FileIO):
    NUMBER = 1

    def write(self, data: Any) -> int:
        while len(data):  # an empty write fails on some devices, and shows nothing
            try:
                written = super().write(data)
            except OSError as error:
                # What is still in a buffer goes nowhere: it would fail again when the interpreter ends.
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, self.NUMBER)
                os.close(nowhere)
                return self.failed(error, len(data))
            if written is not None:
                return written
            select.select([], [self.NUMBER], [])  # somebody made it non-blocking, and it is full
        return 0

    def failed(self, error: OSError, size: int) -> int:
        raise NotImplementedError


class _StandardOutput(_Standard):
    def failed(self, error: OSError, size: int) -> int:
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError from error
        raise OutputError(f"standard output cannot be written: {reason_of(error)}") from error


class _StandardError(_Standard):
    NUMBER = 2

    def failed(self, error: OSError, size: int) -> int:
        return size
