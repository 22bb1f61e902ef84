"""What is in a ledger, whether it is sound, and how to get replies out of it, or rid of them."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import LedgerError, OutputError, UnknownNameError, UsageError
from outspoken.ledger.keys import KEY_VERSION, key_of, reply_of, request_of
from outspoken.ledger.reader import LedgerReader, Problem, log_of
from outspoken.ledger.store import Ledger, StoredReply

__all__ = [
    "LedgerReader",
    "LedgerRecord",
    "Problem",
    "PruneSelection",
    "as_dict",
    "cut",
    "export",
    "find",
    "overview",
    "prune",
    "read",
    "save",
    "verify",
]

Progress = Callable[[int, int], object]
"""Is told how many replies are done, and of how many."""

_ROWS_A_TELLING = 500
_MODEL = "CASE WHEN json_valid(request) THEN json_extract(request, '$.model') END"
_PROMPT_TOKENS, _COMPLETION_TOKENS = (
    f"coalesce(sum(CASE WHEN json_valid(reply) THEN json_extract(reply, '$.usage[{at}]') END), 0)" for at in (0, 1)
)


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """A stored reply with its request, read and found sound. `created` is Unix time."""

    key: str
    request: dict[str, Any]
    reply: ChatReply
    seconds: float
    created: float


def read(stored: StoredReply) -> LedgerRecord:
    """Read a row. Raises `LedgerError`, saying why, where it is not as it was written."""
    if not (isinstance(stored.request, str) and isinstance(stored.reply, str)):
        raise LedgerError("the request or the reply is no text")
    request, reply = request_of(stored.request), reply_of(stored.reply)
    if key_of(stored.request) != stored.key:
        raise LedgerError("the key is not that of the stored request")
    try:
        version, draw, sound = request["v"], request["draw"], _is_request(request)
    except KeyError as error:
        raise LedgerError(f"the stored request has no {error}") from error
    if version != KEY_VERSION:
        raise LedgerError(f"the key is of version {version}, known here {KEY_VERSION}")
    if not (sound and isinstance(draw, list)):
        raise LedgerError("the stored request has another form")
    texts = (reply.text, reply.finish, reply.model, reply.reasoning, reply.refusal)
    usage: Usage = reply.usage
    counts = (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
    if not all(isinstance(text, str) for text in texts) or not all(type(count) is int for count in counts):
        raise LedgerError("the stored reply has another form")
    if not (isinstance(stored.seconds, float) and isinstance(stored.created, float)):
        raise LedgerError("the stored times are no numbers")
    return LedgerRecord(stored.key, request, reply, stored.seconds, stored.created)


def _is_request(request: dict[str, Any]) -> bool:
    messages = request["messages"]
    return (
        isinstance(request["model"], str)
        and isinstance(request["sampling"], dict)
        and isinstance(request["schema"], str | None)
        and isinstance(messages, list)
        and all(isinstance(each, list) and len(each) == 2 and all(map(_is_text, each)) for each in messages)
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def overview(reader: LedgerReader) -> dict[str, Any]:
    """What a ledger holds: figures of all and of each model asked, the largest first; times are Unix times."""
    columns = (
        f"{_MODEL} AS model, count(*) AS replies, {_PROMPT_TOKENS} AS prompt_tokens, "
        f"{_COMPLETION_TOKENS} AS completion_tokens, min(created) AS first, max(created) AS last"
    )
    models = [dict(row) for row in reader.rows(f"SELECT {columns} FROM reply GROUP BY 1 ORDER BY 2 DESC, 1")]
    # Whole outputs are recorded beside their parts, under a number below 0.
    parts = "SELECT output, count(*) AS parts, sum(complete) AS complete FROM part WHERE number >= 0 GROUP BY 1"
    return {
        "file": str(reader.path),
        "format": next(reader.rows("PRAGMA user_version"))[0],
        "size": reader.size,
        "replies": sum(row["replies"] for row in models),
        "models": models,
        "schemas": next(reader.rows("SELECT count(*) FROM schema"))[0],
        "runs": next(reader.rows("SELECT count(*) FROM run"))[0],
        "outputs": [dict(row) for row in reader.rows(parts)],
    }


def find(reader: LedgerReader, beginning: str) -> tuple[LedgerRecord, dict[str, Any] | None]:
    """The reply whose key begins so, and the schema that was asked for.

    Raises `UsageError` where no key begins so, or several, and `LedgerError` where the reply is damaged.
    """
    start = beginning.strip().lower()
    if not start or set(start) - set("0123456789abcdef"):
        raise UsageError(f"{beginning!r} is no key: keys are hexadecimal, as in the column request_key")
    found = list(reader.rows("SELECT * FROM reply WHERE key >= ? AND key < ? || 'g' LIMIT 6", start, start))
    if not found:
        raise UsageError(f"no key in {reader.path} begins with {start}: see `outspoken ledger export`")
    if len(found) > 1:
        keys = ", ".join(row["key"] for row in found[:5]) + (", …" if len(found) > 5 else "")
        raise UsageError(f"several keys begin with {start}: {keys}: give more of it")
    try:
        record = read(StoredReply(*found[0]))
    except LedgerError as error:
        raise LedgerError(
            f"the reply {found[0]['key']} is damaged: {error}; see `outspoken ledger verify`"
        ) from error
    hashed = record.request["schema"]
    return record, None if hashed is None else _parsed(reader.schemas()[0].get(hashed))


def verify(reader: LedgerReader, progress: Progress = lambda done, total: None) -> tuple[int, list[Problem]]:
    """Look at everything: the file's structure, every key, schema, reply and part; how many replies are sound, and
    what is wrong."""
    problems: list[Problem] = []
    total = reader.count()
    try:
        found = [str(line) for (line,) in reader.rows("PRAGMA integrity_check")]
        problems += [Problem("file", line) for line in found if line != "ok"]
    except LedgerError as error:
        problems.append(Problem("file", str(error)))
    sound, missing, done = 0, dict[str, int](), 0
    for done, item in enumerate(reader.stored(), 1):
        record = _sound(item, problems)
        if record is not None:
            sound += 1
            if (hashed := record.request["schema"]) is not None:
                missing[hashed] = missing.get(hashed, 0) + 1
        if done % _ROWS_A_TELLING == 0:
            progress(done, max(done, total))
    progress(done, done)
    # After the replies: a run that goes on meanwhile stores a schema no later than the first reply to it.
    schemas, damaged = reader.schemas()
    problems += damaged
    problems += [
        Problem(f"schema {hashed}", f"is not there, and {count} replies were asked with it")
        for hashed, count in missing.items()
        if hashed not in schemas
    ]
    problems += _bad_parts(reader)
    return sound, problems


def _sound(item: StoredReply | Problem, problems: list[Problem]) -> LedgerRecord | None:
    if isinstance(item, Problem):
        problems.append(item)
        return None
    try:
        return read(item)
    except LedgerError as error:
        problems.append(Problem(str(item.key), str(error)))
        return None


def _bad_parts(reader: LedgerReader) -> Iterator[Problem]:
    try:
        for output, number, counts in reader.rows("SELECT output, number, counts FROM part"):
            if _parsed(counts) is None:
                yield Problem(f"part {number} of {output}", "its counts cannot be read")
    except LedgerError as error:
        yield Problem("parts", str(error))


def _parsed(text: Any) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def export(reader: LedgerReader, problems: list[Problem], model: str | None = None) -> Iterator[bytes]:
    """JSON lines that `Replay` reads, one a reply, in the order of storing; with a `model`, only its own.

    What is damaged is left out and added to `problems`; so is a schema that is not there, and its replies come
    without it. Raises `UnknownNameError` for a model that was never asked.
    """
    schemas, damaged = reader.schemas()
    parsed = {hashed: json.loads(text) for hashed, text in schemas.items()}
    problems += damaged
    others: set[str] = set()
    written = 0
    for item in reader.stored():
        record = _sound(item, problems)
        if record is None:
            continue
        if model is not None and record.request["model"] != model:
            others.add(record.request["model"])
            continue
        hashed = record.request["schema"]
        if hashed is not None and hashed not in parsed:
            problems.append(Problem(record.key, f"its schema {hashed} is not there; it is exported without"))
        written += 1
        line = json.dumps(as_dict(record, parsed.get(hashed)), ensure_ascii=False)
        # Half of a surrogate pair has no UTF-8, and what "backslashreplace" writes is JSON's escape for it.
        yield line.encode("utf-8", "backslashreplace") + b"\n"
    if model is not None and others and not written:
        raise UnknownNameError("model", model, others, see=f"outspoken ledger show {reader.path}")


def as_dict(record: LedgerRecord, schema: dict[str, Any] | None) -> dict[str, Any]:
    """A reply with its request, in the form that `Replay` reads."""
    request, reply = record.request, record.reply
    return {
        "key": record.key,
        "text": reply.text,
        "messages": [{"role": role, "content": content} for role, content in request["messages"]],
        "finish": reply.finish,
        "usage": reply.usage.to_dict(),
        "model": reply.model,
        "reasoning": reply.reasoning,
        "refusal": reply.refusal,
        "structured": reply.structured,
        "asked_model": request["model"],
        "sampling": request["sampling"],
        "schema": schema,
        "draw": request["draw"],
        "created": record.created,
        "seconds": record.seconds,
    }


def save(lines: Iterable[bytes], out: Path, ledger: Path, *, overwrite: bool = False) -> int:
    """Write the lines to a file, whole or not at all, and return how many they are.

    Raises `UsageError` for a file that is there already (unless `overwrite`), for what is no file and for the
    ledger itself, `OutputError` where it cannot be written.
    """
    if out.exists():
        if not out.is_file():
            raise UsageError(f"{out} is not a file: name another for --out")
        if any(path.exists() and out.samefile(path) for path in (ledger, log_of(ledger))):
            raise UsageError(f"{out} is the ledger itself: name another file for --out")
        if not overwrite:
            raise UsageError(f"{out} exists: name another file, or replace it with --overwrite")
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    count = 0
    try:
        with contextlib.ExitStack() as undo:
            file = undo.enter_context(temporary.open("xb"))
            undo.callback(temporary.unlink, missing_ok=True)
            for line in lines:
                count += 1
                file.write(line)
            file.flush()
            os.fsync(file.fileno())
            file.close()
            if not overwrite and out.exists():
                raise UsageError(f"{out} was made meanwhile: name another file, or replace it with --overwrite")
            os.replace(temporary, out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    return count


@dataclass(frozen=True, slots=True)
class PruneSelection:
    """Replies to be deleted: an SQL condition with its values, how many it holds for, and the tokens they cost."""

    where: str
    values: tuple[Any, ...]
    replies: int
    tokens: int


def cut(reader: LedgerReader, *, older_than: float | None = None, model: str | None = None) -> PruneSelection:
    """The replies older than so many days and, or, of a model; none that comes later is among them.

    Raises `UsageError` without a condition, for days below 0 and for a model that was never asked.
    """
    if older_than is None and model is None:
        raise UsageError("say which replies: --older-than DAYS, --model M, or both")
    if older_than is not None and not 0 <= older_than < float("inf"):
        raise UsageError(f"--older-than takes days from 0, not {older_than:g}")
    where = "created <= ?"
    values: tuple[Any, ...] = (time.time() - 86_400 * (older_than or 0.0),)
    if model is not None:
        known = {row[0] for row in reader.rows(f"SELECT DISTINCT {_MODEL} FROM reply") if isinstance(row[0], str)}
        if known and model not in known:
            raise UnknownNameError("model", model, known, see=f"outspoken ledger show {reader.path}")
        where, values = f"{where} AND {_MODEL} = ?", (*values, model)
    tokens = f"{_PROMPT_TOKENS} + {_COMPLETION_TOKENS}"
    replies, spent = next(reader.rows(f"SELECT count(*), {tokens} FROM reply WHERE {where}", *values))
    return PruneSelection(where, values, replies, int(spent))


def prune(path: Path, of: PruneSelection) -> int:
    """Delete these replies and give their room back; returns how many. Raises `LedgerError`."""
    with Ledger(path) as ledger:
        return ledger.delete(of.where, *of.values)
