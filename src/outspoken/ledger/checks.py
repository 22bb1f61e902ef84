"""The contents of a ledger: overview, verification, export and deletion of replies."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from outspoken.chat_reply import ChatReply
from outspoken.errors import LedgerError, UnknownNameError, UsageError
from outspoken.io.atomic import replacing
from outspoken.io.text import json_bytes, plural
from outspoken.ledger.keys import KEY_VERSION, StoredRequest, check_digest, digest_of, reply_of, request_of
from outspoken.ledger.reader import LedgerReader, Problem, log_of
from outspoken.ledger.store import Ledger, StoredReply

__all__ = [
    "LedgerOverview",
    "LedgerRecord",
    "ModelFigures",
    "OutputFigures",
    "PruneSelection",
    "export",
    "find",
    "overview",
    "prune",
    "read",
    "save",
    "select_for_pruning",
    "verify",
]

Progress = Callable[[int, int], object]
"""Called with the number of replies that are done, and of all replies."""

JsonObject = Mapping[str, object]
"""An object in JSON, such as a JSON schema."""

_ROWS_PER_UPDATE = 500
_MODEL = "CASE WHEN json_valid(request) THEN json_extract(request, '$.model') END"
_PROMPT_TOKENS, _COMPLETION_TOKENS = (
    f"coalesce(sum(CASE WHEN json_valid(reply) THEN json_extract(reply, '$.usage[{at}]') END), 0)" for at in (0, 1)
)


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """A stored reply with its request, verified. `created` is Unix time."""

    key: str
    request: StoredRequest
    reply: ChatReply
    seconds: float
    created: float

    def to_dict(self, schema: JsonObject | None) -> dict[str, object]:
        """The reply, the request and the `schema` of the request, in the form that `Replay` reads."""
        request = self.request
        return {
            "key": self.key,
            **asdict(self.reply),
            "messages": [{"role": role, "content": content} for role, content in request["messages"]],
            "asked_model": request["model"],
            "sampling": request["sampling"],
            "schema": schema,
            "draw": request["draw"],
            "created": self.created,
            "seconds": self.seconds,
        }


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """The replies of one model (None: the requests are unreadable); `first` and `last` are Unix times."""

    model: str | None
    replies: int
    prompt_tokens: int
    completion_tokens: int
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class OutputFigures:
    """The numbers of recorded and of `complete` parts of an output."""

    output: str
    parts: int
    complete: int


@dataclass(frozen=True, slots=True)
class LedgerOverview:
    """The contents of a ledger in figures; `models` are sorted by their replies, most first."""

    file: str
    format: int
    size: int
    replies: int
    models: tuple[ModelFigures, ...]
    schemas: int
    runs: int
    outputs: tuple[OutputFigures, ...]

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def read(stored: StoredReply) -> LedgerRecord:
    """Read and verify a row. Raises `LedgerError`, with the reason, if it is damaged."""
    if not (isinstance(stored.request, str) and isinstance(stored.reply, str)):
        raise LedgerError("the request or the reply is not text")
    request, reply = request_of(stored.request), reply_of(stored.reply)
    if digest_of(stored.request) != stored.key:
        raise LedgerError("the key is not that of the stored request")
    try:
        version, draw, valid = request["v"], request["draw"], _is_request(request)
    except KeyError as error:
        raise LedgerError(f"the stored request has no {error}") from error
    if version != KEY_VERSION:
        raise LedgerError(f"the key has version {version}; this program knows {KEY_VERSION}")
    if not (valid and isinstance(draw, list)):
        raise LedgerError("the stored request has the wrong form")
    texts = (reply.text, reply.finish, reply.model, reply.reasoning, reply.refusal, reply.found_in)
    if {*map(type, texts)} != {str} or {*map(type, astuple(reply.usage))} != {int}:
        raise LedgerError("the stored reply has the wrong form")
    if not (isinstance(stored.seconds, float) and isinstance(stored.created, float)):
        raise LedgerError("the stored times are not numbers")
    check_digest(stored.key, stored.reply, stored.seconds, stored.created, stored.digest)
    return LedgerRecord(stored.key, request, reply, stored.seconds, stored.created)


def _is_request(request: StoredRequest) -> bool:
    messages = request["messages"]
    return (
        isinstance(request["model"], str)
        and isinstance(request["sampling"], dict)
        and isinstance(request["schema"], str | None)
        and isinstance(messages, list)
        and all(isinstance(each, list) and list(map(type, each)) == [str, str] for each in messages)
    )


def overview(reader: LedgerReader) -> LedgerOverview:
    """The contents of a ledger in figures."""
    columns = f"{_MODEL}, count(*), {_PROMPT_TOKENS}, {_COMPLETION_TOKENS}, min(created), max(created)"
    rows = reader.rows(f"SELECT {columns} FROM reply GROUP BY 1 ORDER BY 2 DESC, 1")
    models = tuple(ModelFigures(*row) for row in rows)
    # A number below 0 records a finished output.
    parts = "SELECT output, count(*), sum(complete) FROM part WHERE number >= 0 GROUP BY 1"
    return LedgerOverview(
        file=str(reader.path),
        format=next(reader.rows("PRAGMA user_version"))[0],
        size=reader.size,
        replies=sum(model.replies for model in models),
        models=models,
        schemas=next(reader.rows("SELECT count(*) FROM schema"))[0],
        runs=next(reader.rows("SELECT count(*) FROM run"))[0],
        outputs=tuple(OutputFigures(*row) for row in reader.rows(parts)),
    )


def find(reader: LedgerReader, beginning: str) -> tuple[LedgerRecord, JsonObject | None]:
    """The reply whose key starts with `beginning`, and the schema of its request.

    Raises `UsageError` if no key or several keys do, and `LedgerError` if the reply is damaged.
    """
    start = beginning.strip().lower()
    if not start or set(start) - set("0123456789abcdef"):
        raise UsageError(f"{beginning!r} is not a key: keys are hexadecimal, as in the column request_key")
    rows = list(reader.rows("SELECT * FROM reply WHERE key >= ? AND key < ? || 'g' LIMIT 6", start, start))
    if not rows:
        raise UsageError(f"no key in {reader.path} begins with {start}: see `outspoken ledger export`")
    if len(rows) > 1:
        keys = ", ".join(row["key"] for row in rows[:5]) + (", …" if len(rows) > 5 else "")
        raise UsageError(f"several keys begin with {start} ({keys}): give more of the key")
    try:
        record = read(StoredReply(*rows[0]))
    except LedgerError as error:
        raise LedgerError(
            f"the reply {rows[0]['key']} is damaged: {error}; see `outspoken ledger verify`"
        ) from error
    hashed = record.request["schema"]
    return record, None if hashed is None else _parsed(reader.schemas()[0].get(hashed))


def verify(reader: LedgerReader, progress: Progress = lambda done, total: None) -> tuple[int, list[Problem]]:
    """Check the structure of the file, and every key, schema, reply and part.

    Returns the number of intact replies, and the problems.
    """
    problems: list[Problem] = []
    total = reader.count()
    try:
        lines = [str(line) for (line,) in reader.rows("PRAGMA integrity_check")]
        problems += [Problem("file", line) for line in lines if line != "ok"]
    except LedgerError as error:
        problems.append(Problem("file", str(error)))
    used, done = Counter[str | None](), 0
    for done, record in enumerate(_records(reader, problems), 1):
        if record is not None:
            used[record.request["schema"]] += 1
        if done % _ROWS_PER_UPDATE == 0:
            progress(done, max(done, total))
    progress(done, done)
    # After the replies: a run in progress stores a schema together with its first reply.
    schemas, damaged = reader.schemas()
    problems += damaged
    problems += [
        Problem(f"schema {hashed}", f"is missing, and {plural(count, 'reply refers', 'replies refer')} to it")
        for hashed, count in used.items()
        if hashed is not None and hashed not in schemas
    ]
    problems += _bad_parts(reader)
    return used.total(), problems


def _records(reader: LedgerReader, problems: list[Problem]) -> Iterator[LedgerRecord | None]:
    """Each reply, None for a damaged one, whose problem is added to `problems`."""
    for item in reader.stored():
        record = None
        if isinstance(item, Problem):
            problems.append(item)
        else:
            try:
                record = read(item)
            except LedgerError as error:
                problems.append(Problem(str(item.key), str(error)))
        yield record


def _bad_parts(reader: LedgerReader) -> Iterator[Problem]:
    try:
        for output, number, counts in reader.rows("SELECT output, number, counts FROM part"):
            if _parsed(counts) is None:
                yield Problem(f"part {number} of {output}", "its counts cannot be read")
    except LedgerError as error:
        yield Problem("parts", str(error))


def _parsed(text: Any) -> JsonObject | None:
    """The object in a JSON text, None if it is not one."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def export(reader: LedgerReader, problems: list[Problem], model: str | None = None) -> Iterator[bytes]:
    """JSON lines that `Replay` reads, one per reply, in stored order; with a `model`, only its replies.

    Damaged replies are left out and added to `problems`. Missing schemas are added, too, and their replies are
    exported without them. Raises `UnknownNameError` for a model that was never asked.
    """
    schemas, damaged = reader.schemas()
    parsed = {hashed: json.loads(text) for hashed, text in schemas.items()}
    problems += damaged
    others: set[str] = set()
    written = 0
    for record in _records(reader, problems):
        if record is None:
            continue
        if model is not None and record.request["model"] != model:
            others.add(record.request["model"])
            continue
        hashed = record.request["schema"]
        if hashed is not None and hashed not in parsed:
            problems.append(Problem(record.key, f"its schema {hashed} is missing; it is exported without"))
        written += 1
        yield json_bytes(record.to_dict(None if hashed is None else parsed.get(hashed))) + b"\n"
    if model is not None and others and not written:
        raise UnknownNameError("model", model, others, see=f"outspoken ledger show {reader.path}")


def save(lines: Iterable[bytes], out: Path, ledger: Path, *, overwrite: bool = False) -> int:
    """Write the lines to a file, completely or not at all; returns their number.

    Raises `UsageError` if the file exists (unless `overwrite`), is no regular file or is the ledger itself, and
    `OutputError` if it cannot be written.
    """
    if out.exists():
        if not out.is_file():
            raise UsageError(f"{out} is not a file: name another for --out")
        if any(path.exists() and out.samefile(path) for path in (ledger, log_of(ledger))):
            raise UsageError(f"{out} is the ledger itself: name another file for --out")
        if not overwrite:
            raise UsageError(f"{out} exists: name another file, or replace it with --overwrite")
    count = 0
    with replacing(out) as file:
        for line in lines:
            count += 1
            file.write(line)
        if not overwrite and out.exists():
            raise UsageError(f"{out} was created meanwhile: name another file, or replace it with --overwrite")
    return count


@dataclass(frozen=True, slots=True)
class PruneSelection:
    """Replies to delete: an SQL condition with its values, the number of replies, and the tokens they cost."""

    where: str
    values: tuple[Any, ...]
    replies: int
    tokens: int


def select_for_pruning(
    reader: LedgerReader, *, older_than: float | None = None, model: str | None = None, damaged: bool = False
) -> PruneSelection:
    """Select the replies that are older than a number of days, of one model, `damaged`, or all of this.

    Replies that are stored later stay. Raises `UsageError` without a condition, for days below 0, and for a model
    that was never asked.
    """
    if older_than is None and model is None and not damaged:
        raise UsageError("say which replies: --older-than DAYS, --model M, --damaged, or several of these")
    if older_than is not None and not 0 <= older_than < float("inf"):
        raise UsageError(f"--older-than takes days from 0, not {older_than:g}")
    where, values = "TRUE", ()  # type: str, tuple[Any, ...]
    if damaged:
        problems: list[Problem] = []
        for _ in _records(reader, problems):
            pass
        where = "key IN (SELECT value FROM json_each(?))"
        values = (json.dumps([problem.where for problem in problems]),)
    if older_than is not None or not damaged:  # the times of damaged replies may be damaged
        where, values = f"{where} AND created <= ?", (*values, time.time() - 86_400 * (older_than or 0.0))
    if model is not None:
        known = {row[0] for row in reader.rows(f"SELECT DISTINCT {_MODEL} FROM reply") if isinstance(row[0], str)}
        if known and model not in known:
            raise UnknownNameError("model", model, known, see=f"outspoken ledger show {reader.path}")
        where, values = f"{where} AND {_MODEL} = ?", (*values, model)
    tokens = f"{_PROMPT_TOKENS} + {_COMPLETION_TOKENS}"
    replies, spent = next(reader.rows(f"SELECT count(*), {tokens} FROM reply WHERE {where}", *values))
    return PruneSelection(where, values, replies, int(spent))


def prune(path: Path, selection: PruneSelection) -> int:
    """Delete these replies and free their disk space; returns their number. Raises `LedgerError`."""
    with Ledger(path) as ledger:
        return ledger.delete(selection.where, *selection.values)
