"""Writing responses: in parts while the run is in progress, finally as one file or a folder of parts.

A part exists completely or not at all. A killed run leaves nothing that looks like a result, and the next run
continues with its finished parts.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from outspoken._imports import need
from outspoken.batch.output_formats import (
    COLUMNS,
    Columns,
    join_lines,
    join_table,
    json_lines,
    merge_parquet,
    rename_carried,
    unify_schemas,
    write_parquet,
)
from outspoken.errors import OutputError, UsageError
from outspoken.io.atomic import reason_of, temporary_name, write_file
from outspoken.io.lock import FolderLock

__all__ = ["Output", "Overwrite"]

_FORMATS: dict[str, Literal["parquet", "jsonl"]] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "jsonl",
    ".tsv": "jsonl",
}
"""The formats of the parts, by the suffix of the output."""
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_PART = re.compile(r"part-\d{6,}")


Overwrite = bool | Literal["changed"]
"""Whether an earlier output is replaced; "changed": only if it belongs to another command or to other settings."""


class Output:
    """Responses on disk, written in parts.

    A `path` ending in .parquet, .jsonl, .ndjson, .csv or .tsv becomes one file in the end; until then its parts
    are in `<path>.parts/`. A folder (it exists, it has no suffix, or "/" ends it) keeps its Parquet parts. `claim`
    it, `write` parts in any order and from any thread, `assemble` them, `release` it.
    """

    def __init__(self, path: str | Path) -> None:
        given = os.fspath(path)
        if not given:
            raise UsageError("the output has no name: give a file (.parquet, .jsonl, .csv) or a folder")
        self.path = Path(given)
        suffix = self.path.suffix.lower()
        self._is_folder = given.endswith(("/", os.sep)) or not suffix or os.path.isdir(self.path)
        if not self._is_folder and suffix not in _FORMATS:
            raise UsageError(
                f"the output {given} must end in {', '.join(_FORMATS)}, or in / for a folder of Parquet parts"
            )
        self._separator = None if self._is_folder else _SEPARATORS.get(suffix)
        self.format: Literal["parquet", "jsonl"] = "parquet" if self._is_folder else _FORMATS[suffix]
        self.parts = self.path if self._is_folder else self.path.with_name(self.path.name + ".parts")
        self._lock: FolderLock | None = None
        self._lock_name = ".lock" if self._is_folder else "lock"

    def claim(
        self, *, overwrite: Overwrite = False, conflict: Callable[[], str] = lambda: "is not known here"
    ) -> bool:
        """Make sure that the output can be written, and keep other processes out until `release`.

        With `overwrite` an earlier output is removed. Otherwise `conflict`, called while the output is locked,
        returns why an earlier output does not belong to this command ("was ..."), or "" if it does: then its parts
        stay. Returns whether an earlier output, if any, was removed. Raises `UsageError`, and changes nothing, if
        the output belongs to another command, another process writes it, the folder has other files, or nothing
        can be written.
        """
        if self.format == "parquet":
            need("pyarrow.parquet", "writing Parquet", "tables")
        self._check_folder()
        self._lock = FolderLock(self.parts, name=self._lock_name, what=self.path)
        try:
            existing = self._existing()
            reason = "" if overwrite is True else conflict()
            everything = overwrite is True or (overwrite == "changed" and reason != "")
            if existing and reason and not everything:
                raise UsageError(
                    f"{self.path} {existing}, and {reason}: replace it with --overwrite (what the ledger holds "
                    "is not asked again), or choose another --out"
                )
            self._clear(everything=everything)
            return everything
        except BaseException:
            self.release()
            raise

    def write(self, number: int, columns: Columns, carried: Columns) -> int:
        """Write or replace a part; returns its size in bytes.

        `columns` are those of `COLUMNS`, `carried` those of the input, all of the same length. A carried column
        whose name is in `COLUMNS` gets the prefix `input_`. Values without a common Parquet type (such as numbers
        and text) become JSON text. Raises `OutputError`, and then leaves no incomplete part.
        """
        if columns.keys() != COLUMNS.keys():
            raise ValueError(f"a part has the columns {', '.join(COLUMNS)}, not {', '.join(columns)}")
        every = {**{name: columns[name] for name in COLUMNS}, **rename_carried(carried)}
        lengths = {len(values) for values in every.values()}
        if len(lengths) > 1:
            raise ValueError(f"the columns of a part must be of one length, not of {sorted(lengths)}")
        target = self._part(number)
        if self.format == "jsonl":
            return write_file(target, lambda file: file.writelines(json_lines(every)))
        return write_file(target, lambda file: write_parquet(every, file))

    def size(self, number: int) -> int | None:
        """The size of a part in bytes, None if it does not exist."""
        try:
            return self._part(number).stat().st_size
        except FileNotFoundError:
            return None

    def assemble(self, numbers: Iterable[int], *, finished: bool) -> None:
        """Write one file from these parts, in this order; in a folder, give the parts the same schema.

        Integers and other numbers in one column become floats, missing values become null, and values without a
        common type become JSON text. With `finished` the parts are removed and the output is released; a folder
        keeps the parts of `numbers`.
        """
        numbers = list(numbers)
        paths = [self._part(number) for number in numbers]
        for path in paths:
            if not path.is_file():
                raise OutputError(f"the part {path} is missing: give the same command again to write it")
        if self._is_folder:
            unify_schemas(paths)
        elif (separator := self._separator) is not None:
            write_file(self.path, lambda file: join_table(paths, file, separator=separator))
        elif self.format == "jsonl":
            write_file(self.path, lambda file: join_lines(paths, file))
        else:
            write_file(self.path, lambda file: merge_parquet(paths, file))
        if finished:
            self._remove_parts(except_for=set(paths) if self._is_folder else set())
            if not self._is_folder:
                self.release()

    def release(self) -> None:
        """Let other processes write the output, and remove an empty folder of parts. May be called twice."""
        if self._lock is None:
            return
        self._lock.release()
        self._lock = None
        if not self._is_folder:
            with contextlib.suppress(OSError):
                self.parts.rmdir()

    def _part(self, number: int) -> Path:
        return self.parts / f"part-{number:06d}.{self.format}"

    def _is_part(self, path: Path) -> bool:
        return path.suffix == f".{self.format}" and _PART.fullmatch(path.stem) is not None

    def _is_unfinished(self, path: Path) -> bool:
        return path.suffix == ".tmp" and self._is_part(path.with_name(path.stem.removeprefix(".")))

    def _remove_parts(self, *, except_for: set[Path]) -> None:
        try:
            for path in self.parts.iterdir():
                if self._is_part(path) and path not in except_for:
                    path.unlink()
        except OSError as error:
            raise OutputError(
                f"{self.path} is complete, but its parts in {self.parts} cannot be removed: {reason_of(error)}"
            ) from error

    def _check_folder(self) -> None:
        """Raise `UsageError` if the folder above the output is missing or cannot be written."""
        above = self.path.absolute().parent
        if not os.path.isdir(above):
            raise UsageError(f"the folder {above} does not exist: create it, or choose another output")
        if self._is_folder:
            return
        try:
            with tempfile.TemporaryFile(dir=above):
                pass
        except OSError as error:
            raise UsageError(f"nothing can be written to {self.path}: {reason_of(error)}") from error

    def _existing(self) -> str:
        """The form of an earlier output ("exists ..."), "" if there is none. Raises `UsageError` for other files.

        Names that begin with a dot or an underscore may exist: readers of a folder of Parquet ignore them.
        """
        present = [path for path in self.parts.iterdir() if path.name != self._lock_name]
        foreign = [path.name for path in present if not self._is_part(path) and path.name[0] not in "._"]
        if foreign:
            names = ", ".join(sorted(foreign)[:3])
            raise UsageError(f"{self.parts} holds files of others ({names}): choose another output")
        if not self._is_folder and os.path.lexists(self.path):
            return "exists"
        return "exists in parts" if any(map(self._is_part, present)) else ""

    def _clear(self, *, everything: bool) -> None:
        """Remove the unfinished files of killed runs, or `everything` of an earlier output."""
        try:
            for path in self.parts.iterdir():
                if self._is_unfinished(path) or (everything and self._is_part(path)):
                    path.unlink()
            if not self._is_folder:
                temporary_name(self.path).unlink(missing_ok=True)
                if everything:
                    self.path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"the old output {self.path} cannot be removed: {reason_of(error)}") from error
