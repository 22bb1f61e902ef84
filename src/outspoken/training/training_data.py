"""The data of training: rows of a file in one of several shapes, read, checked, counted and put into tokens."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outspoken.batch.source_formats import CutOffError, Unreadable, listed, open_source
from outspoken.batch.sources import SourceReader
from outspoken.errors import UsageError
from outspoken.training.prompt_tokens import PromptTokenizer, Said

__all__ = ["SHAPES", "SkippedRow", "TrainingData", "digest", "files_of", "read", "rows_of"]

SHAPES = {
    "sft": '{"messages": [...]}, {"prompt", "completion"} or {"question", "answer"}',
    "dpo": '{"prompt", "chosen", "rejected"} or {"question", "chosen", "rejected"}',
}
_KINDS = (".jsonl", ".ndjson", ".json", ".parquet")
_EXPORTED = {
    "sft": ("train.jsonl", "train.parquet", "data/train-*.parquet"),
    "dpo": ("preferences.jsonl", "preferences/train-*.parquet"),
}
_FIRST = 5


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that is not learned from: where it stands, and why."""

    where: str
    reason: str


@dataclass(slots=True)
class TrainingData:
    """What is learned from. `rows` are tokens: `prompt_ids`, and `answer_ids` or `chosen_ids` and
    `rejected_ids`."""

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    read: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    first_skipped: list[SkippedRow] = field(default_factory=list)

    def skip(self, where: str, reason: str, kind: str) -> None:
        self.skipped[kind] += 1
        if len(self.first_skipped) < _FIRST:
            self.first_skipped.append(SkippedRow(where, reason))

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": self.read,
            "examples": len(self.rows),
            "skipped": dict(self.skipped),
            "first_skipped": [{"where": each.where, "reason": each.reason} for each in self.first_skipped],
            "tokens": sum(len(ids) for row in self.rows for ids in row.values()),
            "tokens_learned": sum(
                len(ids) for row in self.rows for name, ids in row.items() if name != "prompt_ids"
            ),
        }


class _UnfitError(Exception):
    """Why a row cannot be learned from, and in a few words for counting."""

    def __init__(self, kind: str, more: str = "") -> None:
        super().__init__(kind + more)
        self.kind = kind


def files_of(data: Path, method: str) -> list[Path]:
    """The file, or of a folder the files that synth's export writes for this method, else the only one there is.

    Raises `UsageError` where there is nothing, or more than one file that could be meant.
    """
    if not data.is_dir():
        if not data.exists():
            raise UsageError(f"no such file or folder: {data}")
        return [data]
    for pattern in _EXPORTED[method]:
        if found := sorted(data.glob(pattern)):
            return found
    found = sorted(path for path in data.iterdir() if path.suffix in _KINDS)
    if len(found) == 1:
        return found
    if not found:
        raise UsageError(f"{data} holds no data for {method}: name a .jsonl or .parquet file")
    raise UsageError(
        f"{data} holds {len(found)} files that could be meant ({listed(path.name for path in found)}): name one"
    )


def digest(files: Iterable[Path]) -> str:
    """The sha256 of the contents, one after the other."""
    whole = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


class _Source(SourceReader):
    """Tells the formats what a file is called; which columns it has matters row by row."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), None, None)

    def settle(self, names: Iterable[str], *, open_ended: bool) -> None:
        pass


def rows_of(path: Path) -> Iterator[tuple[str, Any]]:
    """Where each row stands ("train.jsonl:3"), and its value: a dict, or an `Unreadable` that says why there is
    none.

    Raises `UsageError` for a file that cannot be opened.
    """
    if not any(path.name.removesuffix(".gz").endswith(suffix) for suffix in _KINDS):
        raise UsageError(f"{path} is no file of data: its name must end in {', '.join(_KINDS)}")
    source = _Source(path)
    with ExitStack() as stack:
        try:
            for position, value in open_source(path, source, stack):
                yield f"{path.name}{source.between}{position}", value
        except CutOffError as error:
            yield f"{path.name}, its end", Unreadable(f"cannot be read from here on: {error}")


def read(files: Iterable[Path], wording: PromptTokenizer, method: str, max_length: int) -> TrainingData:
    """All examples as tokens. Rows that cannot be used are counted, the first of them named.

    The loss is on `answer_ids` alone (`chosen_ids`, `rejected_ids`): in a chat what the assistant says last, else
    the completion or the answer, each with the token that ends it. Raises `UsageError` where no row can be used,
    or where messages or questions meet a model without a chat template.
    """
    found = TrainingData()
    shaped: Callable[[Any], Mapping[str, Said]] = _pair if method == "dpo" else _lesson
    for path in files:
        for where, value in rows_of(path):
            found.read += 1
            try:
                said = shaped(value)
                found.rows.append(_tokens(said, wording, max_length))
            except _UnfitError as error:
                found.skip(where, str(error), error.kind)
    if not found.rows:
        raise UsageError(_why_none(found, method))
    return found


def _tokens(said: Mapping[str, Said], wording: PromptTokenizer, max_length: int) -> dict[str, list[int]]:
    row: dict[str, list[int]] = {}
    for name in said:
        if name != "prompt":
            row["prompt_ids"], row[f"{name}_ids"] = wording.example(said["prompt"], said[name])
            length = len(row["prompt_ids"]) + len(row[f"{name}_ids"])
            if length > max_length:
                raise _UnfitError("longer than --max-length", f": {length:,} tokens, {max_length:,} are allowed")
            if not row["prompt_ids"]:
                raise _UnfitError("empty prompt")
    return row


def _lesson(value: Any) -> dict[str, Said]:
    value = _columns(value)
    if value.get("messages") is not None:
        chat = _messages(value["messages"], "messages")
        begin = len(chat)
        while begin and chat[begin - 1]["role"] == "assistant":
            begin -= 1
        if begin == len(chat):
            raise _UnfitError("the last message is not the assistant's", ": there is nothing to learn")
        if begin == 0:
            raise _UnfitError("the messages begin with the assistant's", ": there is no prompt")
        return {"prompt": chat[:begin], "answer": chat[begin:]}
    if "completion" in value:
        return _said(value, "prompt", answer="completion")
    if "question" in value:
        return _said(value, "question", answer="answer")
    raise _UnfitError("has none of the shapes", f": its columns are {listed(value)}")


def _pair(value: Any) -> dict[str, Said]:
    value = _columns(value)
    if "chosen" not in value or "rejected" not in value:
        raise _UnfitError("has none of the shapes", f": its columns are {listed(value)}")
    asked = "prompt" if "prompt" in value else "question"
    pair = _said(value, asked, chosen="chosen", rejected="rejected")
    if pair["chosen"] == pair["rejected"]:
        raise _UnfitError("chosen and rejected are the same")
    return pair


def _said(value: Mapping[str, Any], asked: str, **answers: str) -> dict[str, Said]:
    """A `question` goes through the chat template; a `prompt` is plain text, unless it is a list of messages."""
    said = {"prompt": _text(value, asked), **{name: _text(value, column) for name, column in answers.items()}}
    if asked == "question" and isinstance(said["prompt"], str):
        said["prompt"] = [{"role": "user", "content": said["prompt"]}]
    return said


def _text(value: Mapping[str, Any], column: str) -> Said:
    text = value.get(column)
    if isinstance(text, str):
        if text.strip():
            return text
        raise _UnfitError(f"empty {column}")
    if text is None:
        raise _UnfitError(f"no {column}", f": its columns are {listed(value)}")
    return _messages(text, column)


def _messages(value: Any, column: str) -> list[dict[str, str]]:
    fits = isinstance(value, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in value
    )
    if not fits:
        raise _UnfitError(f"{column} is no text and no list of messages", " with role and content")
    if not value:
        raise _UnfitError(f"empty {column}")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _columns(value: Any) -> dict[str, Any]:
    if isinstance(value, Unreadable):
        raise _UnfitError("cannot be read", f": {value}")
    if not isinstance(value, dict):
        raise _UnfitError("is no JSON object")
    return value


def _why_none(found: TrainingData, method: str) -> str:
    if not found.read:
        return "the data hold no rows: give at least one example"
    first = found.first_skipped[0]
    why = f"none of the {found.read:,} rows can be learned from; the first, {first.where}: {first.reason}"
    remedy = "raise --max-length" if "--max-length" in first.reason else f"write each row as {SHAPES[method]}"
    return f"{why}: {remedy}"
