"""A task: its TOML file, its prompts, and its expected answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from outspoken.batch.sources import PromptRow, read
from outspoken.errors import UnknownNameError, UsageError, errors_at
from outspoken.io.toml_library import TomlFile, TomlLibrary, check_table
from outspoken.measure.answer_sets import Answers
from outspoken.measure.answer_sets import load as read_answers
from outspoken.measure.measures import MEASURES
from outspoken.same_text import text_key

if TYPE_CHECKING:
    from outspoken.measure.values import PromptGroup

__all__ = ["Normalise", "Task", "TaskPrompt", "load", "names"]


@dataclass(frozen=True, slots=True)
class Normalise:
    """Turns the text of a response into its answer.

    With `first_line` only the first line that is not blank is used. `pattern` is a regular expression with one
    group: the group of its first match is the answer. The characters in `strip` are removed from both ends. A text
    without a match stays as it is.
    """

    first_line: bool = False
    pattern: str = ""
    strip: str = ""

    @classmethod
    def read(cls, where: str, table: Mapping[str, object]) -> Normalise:
        """Raises `UsageError` for an unknown key, a value of the wrong type, and a pattern without one group."""
        check_table(table, {"first_line": bool, "pattern": str, "strip": str}, f"[normalise] of {where}")
        normalise = cls(**table)  # type: ignore[arg-type]  # the values are checked above
        if normalise.pattern:
            try:
                groups = re.compile(normalise.pattern).groups
            except re.error as error:
                raise UsageError(f"{where}: the pattern is not a regular expression: {error}") from error
            if groups != 1:
                raise UsageError(f"{where}: the pattern in [normalise] needs exactly one group, and has {groups}")
        return normalise

    def key(self, text: str) -> str:
        """The key of the answer in a response; responses with equal keys are the same answer."""
        return text_key(self(text))

    def __call__(self, text: str) -> str:
        """The answer in a response."""
        if self.first_line:
            text = next((line for line in text.splitlines() if line.strip()), "")
        if self.pattern and (match := re.search(self.pattern, text)) and match[1] is not None:
            text = match[1]
        return text.strip(self.strip + " \t\n\r") if self.strip else text.strip()


_LIBRARY = TomlLibrary("task", __package__)

_KINDS: Mapping[str, type] = {
    **dict.fromkeys(("name", "title", "about", "prompts_file", "answers", "primary", "rubric"), str),
    **dict.fromkeys(("prompts", "known"), list),
    **dict.fromkeys(("normalise", "reference"), dict),
    **dict.fromkeys(("words", "k", "n"), int),
}
_PROMPT_KEYS = dict.fromkeys(("prompt", "id", "answers"))

Key = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class TaskPrompt:
    """A prompt of a task, and its own right answers (None: those of the task)."""

    id: str
    prompt: str
    expected: Answers | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """Prompts, and how their answers are compared.

    `answers` is "listed" if the right answers can be listed, else "free"; `expected` are these answers, with their
    expected frequencies if counts are given. `words` is the target length of a response. `primary` is the most
    important measure, `rubric` the judge's rubric ("": none). `n` responses per prompt and `k` candidates per call
    are the defaults of an experiment.
    """

    name: str
    title: str
    about: str = ""
    prompts: tuple[TaskPrompt, ...] = ()
    words: int | None = None
    answers: str = "free"
    expected: Answers | None = None
    normalise: Normalise = field(default_factory=Normalise)
    primary: str = "semantic_diversity"
    rubric: str = ""
    k: int = 5
    n: int = 10

    def __post_init__(self) -> None:
        first: dict[str, Answers | None] = {}
        for each in self.prompts:
            if first.setdefault(each.prompt, each.expected) != each.expected:
                raise UsageError(f"{each.prompt!r} is given twice, with different answers: keep one of them")

    @property
    def warning(self) -> str:
        """A warning about the reference, "" if there is none."""
        if self.expected is not None and self.expected.known and self.expected.reference is None:
            return (
                f"{self.name}: there are no reference counts, so its {len(self.expected.known)} known answers "
                "count as equally likely; give counts with --reference FILE ({answer: count} in JSON)"
            )
        return ""

    def with_prompts(self, file: str | Path) -> Task:
        """This task with the prompts of a file; see `load`."""
        prompts = tuple(_prompts_in(Path(file), self.normalise.key))
        with errors_at(str(file)):
            return replace(self, prompts=prompts)

    def with_reference(self, file: str | Path) -> Task:
        """This task with the counts of a file as its expected answers; see `outspoken.measure.answer_sets`."""
        if self.answers != "listed":
            raise UsageError(f"the answers of {self.name} cannot be listed, so it takes no reference")
        return replace(self, expected=_counts_in(Path(file), self.normalise.key))

    def answers_for(self, group: PromptGroup) -> Answers:
        """The answers that are known for this prompt, and how responses are compared with them."""
        own = next((each.expected for each in self.prompts if each.expected and each.prompt == group.prompt), None)
        return own or self.expected or Answers.free(normalise=self.normalise.key)


def names() -> tuple[str, ...]:
    """The names of the tasks that ship with the package."""
    return _LIBRARY.names()


def load(name: str | Path) -> Task:
    """Load a shipped task by its name, or your own by its path, which ends in .toml.

    The prompts are in the file, or in `prompts_file` (relative to it): any file that `outspoken run` reads, with
    an optional column `answers` for each prompt's right answers; or JSON of the form `{question: {"answers":
    [[answer, alias, ...], ...]}}`. A task with neither takes its prompts from `--data`.

    Raises `UsageError` if a file does not exist or has an invalid key or value.
    """
    return _read(_LIBRARY.find(name))


def _read(file: TomlFile) -> Task:
    where, folder, table = file.where, file.folder, file.table()
    _check(where, table)
    normalise = Normalise.read(where, table.pop("normalise", {}))
    with errors_at(where):
        prompts = tuple(_listed(table.pop("prompts", []), normalise.key))
        known = table.pop("known", None)
        expected = None if known is None else Answers.listed(known, normalise=normalise.key)
    if prompts_file := table.pop("prompts_file", ""):
        prompts = tuple(_prompts_in(folder / prompts_file, normalise.key))
    if "reference" in table:
        expected = _reference(where, table.pop("reference"), folder, normalise.key)
    listed = expected is not None or any(prompt.expected for prompt in prompts)
    if listed and table.get("answers") == "free":
        raise UsageError(f'{where} lists answers: write answers = "listed"')
    if table.get("rubric", "").endswith(".toml"):
        table["rubric"] = str(folder / table["rubric"])
    name = table.pop("name", file.stem)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise UsageError(
            f"{where}: the name {name!r} is used for files: use letters and digits, and dots and hyphens after "
            "them"
        )
    values = {"title": name, "answers": "listed" if listed else "free", **table}
    with errors_at(where):
        return Task(name=name, prompts=prompts, expected=expected, normalise=normalise, **values)


def _check(where: str, table: Mapping[str, Any]) -> None:
    check_table(table, _KINDS, where)
    for key in ("words", "k", "n"):
        if table.get(key, 1) < 1:
            raise UsageError(f"{where}: {key} must be at least 1, not {table[key]}")
    for key, known in (("answers", ("free", "listed")), ("primary", MEASURES)):
        if key in table and table[key] not in known:
            raise UnknownNameError(f"{key} in {where}:", table[key], known)
    if "prompts" in table and "prompts_file" in table:
        raise UsageError(f"{where} has both prompts and prompts_file: keep one of them")


def _listed(entries: list[object], key: Key) -> Iterator[TaskPrompt]:
    seen: set[str] = set()
    for number, entry in enumerate(entries, 1):
        table = {"prompt": entry} if isinstance(entry, str) else entry
        if not isinstance(table, dict) or not isinstance(table.get("prompt"), str) or not table["prompt"].strip():
            raise UsageError(f"prompt {number} must be text, or a table with prompt and optionally id and answers")
        check_table(table, _PROMPT_KEYS, f"prompt {number}")
        identifier = str(table.get("id", number))
        if identifier in seen:
            raise UsageError(f"two prompts have the id {identifier!r}")
        seen.add(identifier)
        with errors_at(f"prompt {number}"):
            own = _own_answers(table.get("answers"), key)
        yield TaskPrompt(identifier, table["prompt"], own)


def _own_answers(answers: object, key: Key) -> Answers | None:
    if not answers:
        return None
    if not isinstance(answers, list):
        raise UsageError(f"answers must be a list, of texts or of lists of spellings, not {answers!r}")
    return Answers.listed(answers, normalise=key)


def _reference(where: str, table: Mapping[str, object], folder: Path, key: Key) -> Answers:
    check_table(table, {"counts": dict, "file": str}, f"[reference] of {where}")
    if not table:
        raise UsageError(f"{where}: [reference] is empty: write counts or file, or leave it out")
    if len(table) > 1:
        raise UsageError(f"{where}: [reference] has both counts and file: keep one of them")
    if "file" in table:
        return _counts_in(folder / str(table["file"]), key)
    with errors_at(where):
        return Answers.counts(cast(Mapping[str, object], table["counts"]), normalise=key)


def _counts_in(file: Path, key: Key) -> Answers:
    answers = read_answers(file, normalise=key)
    if not isinstance(answers, Answers):
        raise UsageError(f"{file} holds questions and no counts: give it with --data")
    return answers


def _prompts_in(file: Path, key: Key) -> Iterator[TaskPrompt]:
    if file.suffix == ".json" and not _is_list(file):
        questions = read_answers(file, normalise=key)
        if isinstance(questions, Answers):
            raise UsageError(f"{file} holds counts and no questions: give it with --reference")
        for number, (question, expected) in enumerate(questions.items(), 1):
            yield TaskPrompt(str(number), question, expected)
        return
    for row in read(file):
        if not isinstance(row, PromptRow):
            raise UsageError(f"{row.where} cannot be asked: {row.reason}")
        if len(row.messages) != 1:
            raise UsageError(f"{row.where}: a task's prompt must be one text, not a conversation")
        with errors_at(row.where):
            yield TaskPrompt(row.id, row.messages[0].content, _own_answers(row.columns.get("answers"), key))


def _is_list(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from error
