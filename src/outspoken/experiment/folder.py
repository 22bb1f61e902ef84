"""The folder of an experiment: its files, its lock, and whether an experiment can continue in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from outspoken.errors import UsageError
from outspoken.io.atomic import remove, write_bytes
from outspoken.io.lock import FolderLock
from outspoken.io.text import json_bytes, shorten

__all__ = ["LEDGER", "ExperimentFolder", "FolderHolder"]

LEDGER = "ledger.sqlite"
_SPEC = "spec.json"
_OUTPUT = ("responses", "charts", "results.json", "report.html")


class ExperimentFolder:
    """The folder at `path`, locked against other processes until `release`.

    `content` is everything on which the responses depend, in JSON values. `continues` says whether the folder
    holds an experiment with the same content. With `overwrite` all output is removed, but not the ledger.

    Raises `UsageError`, and changes nothing, for a folder with other files, for one with an experiment of other
    content unless `overwrite` is set, and if another process is writing the folder.
    """

    def __init__(self, path: Path, content: Mapping[str, object], *, overwrite: bool = False) -> None:
        self.path = path
        self.ledger = path / LEDGER
        self._check(content, overwrite)
        self._lock = FolderLock(path)
        try:
            # Another process may have written the folder before it was locked.
            self.continues = self._check(content, overwrite) and not overwrite
            if overwrite:
                remove(path, _OUTPUT)
            document = {"format": 1, "asked": content}
            write_bytes(path / _SPEC, json_bytes(document, indent=2) + b"\n")
        except BaseException:
            self._lock.release()
            raise

    def prompts(self, task: str) -> Path:
        """The file of the prompts of a task."""
        return self.path / "prompts" / f"{task}.jsonl"

    def responses(self, cell: str) -> Path:
        """The file of the responses of a cell, by its id."""
        return self.path / "responses" / f"{cell}.parquet"

    def is_finished(self, cell: str) -> bool:
        """Whether all responses of a cell were written."""
        file = self.responses(cell)
        return file.is_file() and not file.with_name(f"{file.name}.parts").exists()

    def release(self) -> None:
        """Let other processes write the folder. Calling it twice is harmless."""
        self._lock.release()

    def _check(self, content: Mapping[str, object], overwrite: bool) -> bool:
        """Whether the folder holds an experiment with this content. Raises `UsageError` for another folder."""
        record = self.path / _SPEC
        if not record.is_file():
            if self.path.exists() and not (self.path.is_dir() and self._is_empty()):
                raise UsageError(f"{self.path} holds something else: name another folder with --out")
            return False
        try:
            earlier = json.loads(record.read_bytes())["asked"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{record} cannot be read: name another folder with --out") from error
        different = [name for name in {**earlier, **content} if earlier.get(name) != content.get(name)]
        if different and not overwrite:
            raise UsageError(
                f"{self.path} holds an experiment with other {' and '.join(different)} "
                f"({_difference(earlier, content, different[0])}): name another folder with --out, or replace it "
                "with --overwrite (what its ledger holds is not asked again)"
            )
        return not different

    def _is_empty(self) -> bool:
        return all(entry.name.startswith(".lock") for entry in self.path.iterdir())


class FolderHolder:
    """The owner of an experiment's `folder`, which is locked until `close`."""

    folder: ExperimentFolder

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes write the folder. Calling it twice is harmless."""
        self.folder.release()


def _difference(earlier: Mapping[str, object], content: Mapping[str, object], name: str) -> str:
    there, here = (json.dumps(each.get(name), ensure_ascii=False) for each in (earlier, content))
    return f"{name} {shorten(there, 120)} there, {shorten(here, 120)} here"
