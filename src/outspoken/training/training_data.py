"""Training data: rows of a file in one of several shapes, read, checked, counted and turned into tokens."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from outspoken.batch.source_formats import ColumnSource, Unreadable, listed, open_source
from outspoken.batch.source_text import CutOffError
from outspoken.errors import UsageError
from outspoken.io.text import plural
from outspoken.training.base_models import PromptText, PromptTokenizer
from outspoken.training.settings import Objective

__all__ = [
    "DataSummary",
    "Example",
    "SkippedRow",
    "TrainingData",
    "data_files",
    "digest",
    "read_examples",
    "read_rows",
]

_SHAPES = {
    "sft": '{"messages": [...]}, {"prompt", "completion"} or {"question", "answer"}',
    "dpo": '{"prompt", "chosen", "rejected"} or {"question", "chosen", "rejected"}',
}
_SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet")
_EXPORTED = {
    "sft": ("train.jsonl", "train.parquet", "data/train-*.parquet"),
    "dpo": ("preferences.jsonl", "preferences/train-*.parquet"),
}
_FIRST = 5

Example = dict[str, list[int]]
"""An example as tokens: `prompt_ids`, and `answer_ids` or `chosen_ids` and `rejected_ids`."""


@dataclass(frozen=True, slots=True)
class SkippedRow:
    """A row that cannot be used: where it is, and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class DataSummary:
    """The training data in the record of a training.

    `sha256` is that of the files' contents, `skipped` counts unusable rows by reason, `tokens_learned` is the
    number of tokens in the answers.
    """

    source: str
    sha256: str
    rows: int = 0
    examples: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    first_skipped: tuple[SkippedRow, ...] = ()
    tokens: int = 0
    tokens_learned: int = 0


@dataclass(slots=True)
class TrainingData:
    """The examples of some files. `rows` counts the rows read, `skipped` those that cannot be used, by reason."""

    examples: list[Example] = field(default_factory=list)
    rows: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    first_skipped: list[SkippedRow] = field(default_factory=list)

    def skip(self, row: SkippedRow, kind: str) -> None:
        """Count a row under this kind of reason."""
        self.skipped[kind] += 1
        if len(self.first_skipped) < _FIRST:
            self.first_skipped.append(row)

    def summary(self, source: str, sha256: str) -> DataSummary:
        """The counts of these data, which come from `source`."""
        lengths = Counter[str]()
        for example in self.examples:
            lengths.update({name: len(ids) for name, ids in example.items()})
        return DataSummary(
            source,
            sha256,
            rows=self.rows,
            examples=len(self.examples),
            skipped=dict(self.skipped),
            first_skipped=tuple(self.first_skipped),
            tokens=lengths.total(),
            tokens_learned=lengths.total() - lengths["prompt_ids"],
        )


class _UnfitError(Exception):
    """A row cannot be used. `kind` is the reason without details, for counting."""

    def __init__(self, kind: str, details: str = "") -> None:
        super().__init__(kind + details)
        self.kind = kind


def data_files(data: Path, objective: Objective) -> list[Path]:
    """The file, or the files of a folder: those that synth's export writes for this objective, else its only one.

    Raises `UsageError` if there is none, or if several files are possible.
    """
    if not data.is_dir():
        if not data.exists():
            raise UsageError(f"no such file or folder: {data}")
        return [data]
    for pattern in _EXPORTED[objective]:
        if exported := sorted(data.glob(pattern)):
            return exported
    files = sorted(path for path in data.iterdir() if path.suffix in _SUFFIXES)
    if not files:
        raise UsageError(f"{data} holds no data for {objective}: name a .jsonl or .parquet file")
    if len(files) > 1:
        raise UsageError(
            f"{data} holds {len(files)} possible files ({listed(path.name for path in files)}): name one"
        )
    return files


def digest(files: Iterable[Path]) -> str:
    """The sha256 of the files' digests, in this order."""
    total = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}; name another file") from error
    return total.hexdigest()


def read_rows(path: Path) -> Iterator[tuple[str, object]]:
    """The place of each row ("train.jsonl:3") and its value, an `Unreadable` with the reason if it cannot be read.

    Raises `UsageError` for a file that cannot be opened.
    """
    if not any(path.name.removesuffix(".gz").endswith(suffix) for suffix in _SUFFIXES):
        raise UsageError(f"{path} is not a data file: its name must end in {', '.join(_SUFFIXES)}")
    source = ColumnSource(path)
    with ExitStack() as stack:
        try:
            for position, value in open_source(path, source, stack):
                yield f"{path.name}{source.between}{position}", value
        except CutOffError as error:
            yield f"{path.name}, its end", Unreadable(f"cannot be read from here on: {error}")


def read_examples(
    files: Iterable[Path], tokenizer: PromptTokenizer, objective: Objective, max_length: int
) -> TrainingData:
    """All examples as tokens. Unusable rows are counted, and the first ones are kept with their reasons.

    The loss is on `answer_ids` (or `chosen_ids`, `rejected_ids`) only: in a chat the assistant's last messages,
    otherwise the completion or the answer, each with the token that ends it. Raises `UsageError` if no row can be
    used, or if messages or questions need a chat template that the model does not have.
    """
    data = TrainingData()
    read_row: Callable[[object], Mapping[str, PromptText]] = _pair if objective == "dpo" else _answered_prompt
    for path in files:
        for where, value in read_rows(path):
            data.rows += 1
            try:
                data.examples.append(_tokens(read_row(value), tokenizer, max_length))
            except _UnfitError as error:
                data.skip(SkippedRow(where, str(error)), error.kind)
    if not data.examples:
        raise UsageError(_no_examples(data, objective))
    return data


def _tokens(texts: Mapping[str, PromptText], tokenizer: PromptTokenizer, max_length: int) -> Example:
    example: Example = {}
    for name in texts:
        if name != "prompt":
            prompt_ids, answer_ids = tokenizer.example(texts["prompt"], texts[name])
            example["prompt_ids"], example[f"{name}_ids"] = prompt_ids, answer_ids
            length = len(prompt_ids) + len(answer_ids)
            if length > max_length:
                raise _UnfitError("longer than --max-length", f": {length:,} tokens, {max_length:,} are allowed")
            if not prompt_ids:
                raise _UnfitError("empty prompt")
    return example


def _answered_prompt(value: object) -> dict[str, PromptText]:
    row = _columns(value)
    if row.get("messages") is not None:
        chat = _messages(row["messages"], "messages")
        start = len(chat)
        while start and chat[start - 1]["role"] == "assistant":
            start -= 1
        if start == len(chat):
            raise _UnfitError("the last message is not the assistant's", ": there is no answer to learn")
        if start == 0:
            raise _UnfitError("the messages begin with the assistant's", ": there is no prompt")
        return {"prompt": chat[:start], "answer": chat[start:]}
    if "completion" in row:
        return _texts(row, "prompt", answer="completion")
    if "question" in row:
        return _texts(row, "question", answer="answer")
    raise _UnfitError("has none of the shapes", f": its columns are {listed(row)}")


def _pair(value: object) -> dict[str, PromptText]:
    row = _columns(value)
    if "chosen" not in row or "rejected" not in row:
        raise _UnfitError("has none of the shapes", f": its columns are {listed(row)}")
    column = "prompt" if "prompt" in row else "question"
    pair = _texts(row, column, chosen="chosen", rejected="rejected")
    if pair["chosen"] == pair["rejected"]:
        raise _UnfitError("chosen and rejected are the same")
    return pair


def _texts(row: Mapping[str, object], prompt: str, **answers: str) -> dict[str, PromptText]:
    """The texts in the columns `prompt` and `answers`.

    A `question` goes through the chat template; a `prompt` is plain text, unless it is a list of messages.
    """
    texts = {"prompt": _text(row, prompt), **{name: _text(row, column) for name, column in answers.items()}}
    if prompt == "question" and isinstance(texts["prompt"], str):
        texts["prompt"] = [{"role": "user", "content": texts["prompt"]}]
    return texts


def _text(row: Mapping[str, object], column: str) -> PromptText:
    text = row.get(column)
    if isinstance(text, str):
        if text.strip():
            return text
        raise _UnfitError(f"empty {column}")
    if text is None:
        raise _UnfitError(f"no {column}", f": its columns are {listed(row)}")
    return _messages(text, column)


def _messages(value: object, column: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in value
    ):
        raise _UnfitError(f"{column} is neither text nor a list of messages", " with role and content")
    if not value:
        raise _UnfitError(f"empty {column}")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _columns(value: object) -> dict[str, object]:
    if isinstance(value, Unreadable):
        raise _UnfitError("cannot be read", f": {value}")
    if not isinstance(value, dict):
        raise _UnfitError("is not a JSON object")
    return value


def _no_examples(data: TrainingData, objective: Objective) -> str:
    if not data.rows:
        return "the data hold no rows: give at least one example"
    first = data.first_skipped[0]
    why = f"none of the {plural(data.rows, 'row')} can be used; the first, {first.where}: {first.reason}"
    remedy = "raise --max-length" if "--max-length" in first.reason else f"write each row as {_SHAPES[objective]}"
    return f"{why}: {remedy}"
