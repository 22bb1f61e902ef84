"""The questions of an evaluation: files in the shapes of GSM8K and MATH, and plain prompts with their answers."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken.batch.source_formats import Unreadable, listed
from outspoken.checking.final_answer import find_final
from outspoken.errors import UsageError
from outspoken.training.training_data import digest, rows_of

__all__ = ["EvalQuestion", "QuestionFile", "read"]

_ASKED = ("question", "problem", "prompt")


@dataclass(frozen=True, slots=True)
class EvalQuestion:
    """What is asked, and the right answer. `key` tells it from all others, wherever they stand."""

    key: str
    text: str
    answer: str
    where: str


@dataclass(frozen=True, slots=True)
class QuestionFile:
    """A file of questions. `name` is what it is called for short; `total` counts those that the file holds."""

    name: str
    path: Path
    sha256: str
    total: int
    questions: tuple[EvalQuestion, ...]

    def to_dict(self) -> dict[str, Any]:
        told = {"name": self.name, "source": str(self.path), "sha256": self.sha256}
        return {**told, "questions": len(self.questions), "of": self.total}


def read(paths: list[Path], *, limit: int | None = None, seed: int | None = None) -> list[QuestionFile]:
    """The questions of these files; with `limit` the first of each, with a `seed` as many at random, in their
    order.

    A row has a question ({"question"}, {"problem"} or {"prompt"}) and its "answer"; of one that works it out, as
    in GSM8K (`... #### 18`), the final answer counts. Raises `UsageError` for a file in another shape.
    """
    papers = []
    for path, name in zip(paths, _names(paths), strict=True):
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name a file of questions in it")
        questions = _questions(path)
        chosen = questions[:limit]
        if seed is not None and limit is not None and limit < len(questions):
            chosen = [questions[at] for at in sorted(random.Random(seed).sample(range(len(questions)), limit))]
        papers.append(QuestionFile(name, path, digest([path]), len(questions), tuple(chosen)))
    return papers


def _questions(path: Path) -> list[EvalQuestion]:
    seen: Counter[str] = Counter()
    found = []
    for where, value in rows_of(path):
        text, answer = _row(where, value)
        seen[text] += 1
        key = hashlib.sha256(f"{seen[text]}\n{text}".encode("utf-8", "surrogatepass")).hexdigest()[:24]
        found.append(EvalQuestion(key, text, answer, where))
    if not found:
        raise UsageError(f"{path} holds no questions: name the right file")
    return found


def _row(where: str, value: Any) -> tuple[str, str]:
    if isinstance(value, Unreadable) or not isinstance(value, dict):
        raise UsageError(f"{where}: {value if isinstance(value, Unreadable) else 'no JSON object'}; mend that row")
    asked = next((name for name in _ASKED if name in value), None)
    if asked is None or "answer" not in value:
        raise UsageError(
            f"{where} has the columns {listed(value)}: a question needs a column "
            f"{', '.join(map(repr, _ASKED[:-1]))} or {_ASKED[-1]!r}, and its right answer a column 'answer'; "
            "rename the columns of the file"
        )
    text, answer = value[asked], value["answer"]
    if isinstance(answer, (int, float)) and not isinstance(answer, bool):
        answer = f"{answer:.15g}"
    for name, content in ((asked, text), ("answer", answer)):
        if not isinstance(content, str) or not content.strip():
            raise UsageError(f"{where}: {name!r} holds no text; mend that row, or remove it")
    final = find_final(answer)
    worked = final is not None and final.how in ("####", "boxed")
    return text, final.text if worked and final is not None else answer.strip()


def _names(paths: list[Path]) -> list[str]:
    """The stem of each file, with its folder where two have the same."""
    stems = [path.name.split(".")[0] for path in paths]
    names = [
        stem if stems.count(stem) == 1 else f"{path.absolute().parent.name}-{stem}"
        for path, stem in zip(paths, stems, strict=True)
    ]
    if len(set(names)) < len(names):
        raise UsageError(f"the same questions are named twice ({', '.join(map(str, paths))}): name each file once")
    return names
