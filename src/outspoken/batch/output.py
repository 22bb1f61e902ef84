"""Writing responses: whole parts while the run goes on, one file or one folder of them in the end.

A part is there completely or not at all: it is written under another name, flushed to the disk and then renamed. A
killed run leaves nothing that could be taken for a result, and what it had finished is read where it stands.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from outspoken._imports import need
from outspoken.batch.output_formats import COLUMNS, unify_schemas, join_lines, json_lines, merge_parquet, rename_carried, write_parquet
from outspoken.errors import OutputError, UsageError
from outspoken.io.atomic import put_in_place, write_file, temporary_name, reason_of, output_errors

__all__ = ["FailureFile", "Output"]

_FORMATS: dict[str, Literal["parquet", "jsonl"]] = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_PART = re.compile(r"part-\d{6,}")


class Output:
    """Responses on disk, written in parts.

    A `path` ending in .parquet, .jsonl or .ndjson is one file in the end; until then its parts stand in
    `<path>.parts/`. A folder (it exists, it has no suffix, or "/" ends it) holds its Parquet parts itself, for
    good. `claim` it, `write` parts in any order and from any thread, `assemble` them, `release` it.
    """

    def __init__(self, path: str | Path) -> None:
        named = os.fspath(path)
        if not named:
            raise UsageError("the output has no name: give a file (.parquet, .jsonl) or a folder")
        self.path = Path(named)
        suffix = self.path.suffix.lower()
        self._is_folder = named.endswith(("/", os.sep)) or not suffix or os.path.isdir(self.path)
        if not self._is_folder and suffix not in _FORMATS:
            raise UsageError(
                f"the output {named} must end in {', '.join(_FORMATS)}, or in / for a folder of Parquet parts"
            )
        self.format: Literal["parquet", "jsonl"] = "parquet" if self._is_folder else _FORMATS[suffix]
        self.parts = self.path if self._is_folder else self.path.with_name(self.path.name + ".parts")
        self._lock_file = self.parts / (".lock" if self._is_folder else "lock")
        self._lock: sqlite3.Connection | None = None
        self._made_folder = False

    def claim(self, *, resume: bool, overwrite: bool) -> None:
        """Make sure that the output can be written, and keep other processes from it until `release`.

        With `resume` the parts that stand there stay, with `overwrite` they and the old output are removed. Raises
        `UsageError` where there is something already and neither was asked for, where another process writes,
        where files stand that are not ours, and where nothing can be written.
        """
        if resume and overwrite:
            raise UsageError("choose one of resume (continue what is there) and overwrite (start over)")
        if self.format == "parquet":
            need("pyarrow.parquet", "writing Parquet", "tables")
        self._try_to_write()
        self._take_lock()
        try:
            self._clear(resume=resume, overwrite=overwrite)
        except OSError as error:
            self.release()
            raise UsageError(f"the old output {self.path} cannot be removed: {reason_of(error)}") from error
        except BaseException:
            self.release()
            raise

    def write(self, number: int, columns: Mapping[str, list[Any]], carried: Mapping[str, list[Any]]) -> int:
        """Write a part, or put another in its place, and return its size in bytes.

        `columns` holds the columns named in `COLUMNS`, `carried` those of the caller's input, all of one length. A
        carried name that is one of ours gets the prefix `input_`. What Parquet has no single type for (a column of
        numbers and text) becomes JSON text. Raises `OutputError`; no half part stays behind.
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
        """The part's size in bytes, None where there is none."""
        try:
            return self._part(number).stat().st_size
        except FileNotFoundError:
            return None

    def assemble(self, numbers: Iterable[int], *, finished: bool) -> None:
        """Make one file of these parts, in this order; of a folder's parts, make the schemas agree.

        In one column whole numbers and others become floats, what is missing becomes null, and what has no common
        type becomes JSON text. The file is put in its place in one step. With `finished` the parts are removed,
        and the output is released; in a folder, only those parts go that are none of `numbers`.
        """
        numbers = list(numbers)
        paths = [self._part(number) for number in numbers]
        for path in paths:
            if not path.is_file():
                raise OutputError(f"the part {path} is not there: run again with --resume to write it anew")
        if self._is_folder:
            unify_schemas(paths)
        elif self.format == "jsonl":
            write_file(self.path, lambda file: join_lines(paths, file))
        else:
            write_file(self.path, lambda file: merge_parquet(paths, file))
        if finished:
            self._remove_parts(but=set(paths) if self._is_folder else set())
            if not self._is_folder:
                self.release()

    def release(self) -> None:
        """Let other processes have the output; an empty folder of parts goes. Harmless when done twice."""
        if self._lock is None:
            return
        # Removed while it is held: who opens the file afterwards makes a new one, see _take_lock.
        with contextlib.suppress(OSError):
            self._lock_file.unlink()
        self._lock.close()
        self._lock = None
        if self._made_folder or not self._is_folder:
            with contextlib.suppress(OSError):
                self.parts.rmdir()

    def _part(self, number: int) -> Path:
        return self.parts / f"part-{number:06d}.{self.format}"

    def _is_part(self, path: Path) -> bool:
        return path.suffix == f".{self.format}" and _PART.fullmatch(path.stem) is not None

    def _is_ours(self, path: Path) -> bool:
        unfinished = path.suffix == ".tmp" and self._is_part(path.with_name(path.stem.removeprefix(".")))
        return unfinished or self._is_part(path) or path == self._lock_file

    def _remove_parts(self, *, but: set[Path]) -> None:
        try:
            for path in self.parts.iterdir():
                if self._is_part(path) and path not in but:
                    path.unlink()
        except OSError as error:
            raise OutputError(
                f"{self.path} is complete, but its parts in {self.parts} cannot be removed: {reason_of(error)}"
            ) from error

    def _try_to_write(self) -> None:
        above = self.path.absolute().parent
        if not os.path.isdir(above):
            raise UsageError(f"the folder {above} does not exist: make it first, or write elsewhere")
        try:
            if not self._is_folder:
                with tempfile.TemporaryFile(dir=above):
                    pass
            self._made_folder = not os.path.isdir(self.parts)
            self.parts.mkdir(exist_ok=True)
            with tempfile.TemporaryFile(dir=self.parts):
                pass
        except FileExistsError as error:
            raise UsageError(f"{self.parts} is a file, and the parts need a folder of that name") from error
        except OSError as error:
            raise UsageError(f"nothing can be written to {self.path}: {reason_of(error)}") from error

    def _take_lock(self) -> None:
        """An exclusive transaction on an empty database: the system ends it when the process ends, however."""
        reason = "other processes keep coming and going"
        for _ in range(10):
            try:
                self.parts.mkdir(exist_ok=True)
                self._lock_file.touch()
                before = self._lock_file.stat()
                lock = sqlite3.connect(self._lock_file, timeout=0, isolation_level=None, check_same_thread=False)
            except FileNotFoundError:
                continue
            except (OSError, sqlite3.Error) as error:
                raise UsageError(f"{self._lock_file} cannot be locked: {reason_of(error)}") from error
            with contextlib.ExitStack() as undo:
                undo.callback(lock.close)
                try:
                    lock.execute("PRAGMA journal_mode = MEMORY")
                    lock.execute("BEGIN EXCLUSIVE")
                    # Who held it before may have removed the file between our opening and our locking it.
                    if os.path.samestat(before, self._lock_file.stat()):
                        self._lock = lock
                        undo.pop_all()
                        return
                except FileNotFoundError:
                    continue
                except sqlite3.Error as error:
                    reason, code = str(error), error.sqlite_errorcode & 0xFF
                    if code == sqlite3.SQLITE_BUSY:
                        raise UsageError(
                            f"another process is writing {self.path}: wait for it, or name another output"
                        ) from error
                    # Its folder may go, too, before SQLite opens the file.
                    if code != sqlite3.SQLITE_CANTOPEN:
                        break
        raise UsageError(f"{self._lock_file} cannot be locked: {reason}")

    def _clear(self, *, resume: bool, overwrite: bool) -> None:
        """Remove what killed runs left unfinished, and with `overwrite` what they finished; refuse all else."""
        present = list(self.parts.iterdir())
        # Readers of a folder of Parquet pass over names that begin so.
        foreign = [path.name for path in present if not self._is_ours(path) and path.name[0] not in "._"]
        if foreign:
            names = ", ".join(sorted(foreign)[:3])
            raise UsageError(f"{self.parts} holds files that are not ours ({names}): name another output")
        whole = not self._is_folder and os.path.lexists(self.path)
        parts = [path for path in present if self._is_part(path)]
        if (whole or parts) and not (resume or overwrite):
            raise UsageError(
                f"{self.path} exists{'' if whole else ' in parts'}: "
                "continue it with --resume, or start over with --overwrite"
            )
        for path in present:
            if path != self._lock_file and self._is_ours(path) and (overwrite or path not in parts):
                path.unlink()
        if not self._is_folder:
            temporary_name(self.path).unlink(missing_ok=True)
            if overwrite:
                self.path.unlink(missing_ok=True)


_SHOWN = 5


class FailureFile:
    """`<output>.failures.jsonl`, put in its place by `finish`; where nothing has failed there is none.

    `first` are the first few, for people; `passing` counts those that may go well another time.
    """

    def __init__(self, output: Path) -> None:
        self.path = output.with_name(output.name + ".failures.jsonl")
        self.first: list[dict[str, Any]] = []
        self.passing = 0
        self._temporary = temporary_name(self.path)
        self._file: IO[str] | None = None

    def add(self, id: str, where: str, cause: str, message: str, passing: bool = False) -> None:  # noqa: A002
        """`passing` says that the provider failed, and the same request may go well another time.

        Raises `OutputError` where it cannot be written.
        """
        line = {"id": id, "where": where, "cause": cause, "message": message, "passing": passing}
        self.passing += passing
        if len(self.first) < _SHOWN:
            self.first.append(line)
        with output_errors(self.path):
            if self._file is None:
                self._file = self._temporary.open("w", encoding="utf-8", errors="backslashreplace")
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")

    def finish(self) -> None:
        """Put the file of this run in the place of an earlier one's. Raises `OutputError`."""
        if self._file is None:
            self.path.unlink(missing_ok=True)
            return
        with output_errors(self.path):
            put_in_place(self._file, self.path)
        self._file = None

    def told(self) -> dict[str, Any]:
        """For a summary: where the file is (None: nowhere), and the first few failures."""
        return {
            "failures_file": str(self.path) if self.path.is_file() else None,
            "first_failures": self.first,
            "passing_failures": self.passing,
        }

    def __enter__(self) -> FailureFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            with contextlib.suppress(OSError):
                self._temporary.unlink()
