"""`outspoken ledger`: what a ledger holds, whether it is sound, how to get replies out or rid of them."""

from __future__ import annotations

import json as jsons
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console, note, print_json
from outspoken.cli.options import Debug, Json
from outspoken.errors import UsageError

if TYPE_CHECKING:
    from outspoken.ledger.checks import LedgerRecord
    from outspoken.ledger.reader import LedgerReader

__all__ = ["ledger"]

_FAILED, _PARTLY = 1, 3
_LARGE = 8 * 2**20

ledger = typer.Typer(
    help="Look into a ledger, check it, export its replies, delete old ones.", no_args_is_help=True
)

File = Annotated[Path, typer.Argument(help="The ledger: what --ledger named, or OUT.ledger.sqlite beside OUT.")]
AskedModel = Annotated[
    str | None, typer.Option("--model", help="Only replies asked of this model, as `ledger show` names it.")
]


@ledger.command("show")
@command
def show(
    file: File,
    key: Annotated[
        str | None, typer.Argument(help="A key, or the beginning of one: show this request and its reply.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Tell what a ledger holds, or show one request with its reply.

    Example: outspoken ledger show responses.parquet.ledger.sqlite
    """
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader

    with LedgerReader(file) as reader:
        if key is None:
            (print_json if json else _show_overview)(checks.overview(reader))
            return
        record, schema = checks.find(reader, key)
    if json:
        print_json(checks.as_dict(record, schema))
    else:
        _show_record(record, schema)


@ledger.command("verify")
@command
def verify(file: File, json: Json = False, debug: Debug = False) -> None:
    """Check the file, and derive every key and every schema's hash again. Ends with 1 where something is wrong.

    Example: outspoken ledger verify responses.parquet.ledger.sqlite
    """
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader

    with LedgerReader(file) as reader, _bar(reader) as progress:
        sound, problems = checks.verify(reader, progress)
    if json:
        found = [{"where": problem.where, "reason": problem.reason} for problem in problems]
        print_json({"file": str(file), "sound": sound, "ok": not problems, "problems": found})
    else:
        screen = console()
        for problem in problems:
            screen.print(_visible(f"{problem.where}: {problem.reason}"), soft_wrap=True)
        state = f"{len(problems):,} problems" if problems else "all is as it was written"
        screen.print(f"{sound:,} replies are sound; {state}", soft_wrap=True)
    if problems:
        note("`outspoken ledger export` gets out what can be read")
        raise typer.Exit(_FAILED)


@ledger.command("export")
@command
def export(
    file: File,
    out: Annotated[Path | None, typer.Option(help="Where the lines go. Default: standard output.")] = None,
    model: AskedModel = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that --out names.")] = False,
    debug: Debug = False,
) -> None:
    """Write the replies as JSON lines, which --model replay/FILE answers with. Ends with 3 where some are damaged.

    Example: outspoken ledger export run.sqlite --out replies.jsonl
    """
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader, Problem

    problems: list[Problem] = []
    with LedgerReader(file) as reader:
        lines = checks.export(reader, problems, model)
        if out is None:
            for line in lines:
                sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
        else:
            count = checks.save(lines, out, file, overwrite=overwrite)
            note(f"{count:,} replies in {out}")
    for problem in problems:
        note(_visible(f"damaged: {problem.where}: {problem.reason}"))
    if problems:
        raise typer.Exit(_PARTLY)


@ledger.command("prune")
@command
def prune(
    file: File,
    older_than: Annotated[float | None, typer.Option(metavar="DAYS", help="Replies older than this.")] = None,
    model: AskedModel = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    debug: Debug = False,
) -> None:
    """Delete replies, and give their room back. They were paid for, and will be asked again where they are needed.

    Example: outspoken ledger prune run.sqlite --older-than 90 --dry-run
    """
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader

    with LedgerReader(file) as reader:
        chosen = checks.cut(reader, older_than=older_than, model=model)
        before, total = reader.size, reader.count()
    paid = f"{chosen.replies:,} of {total:,} replies, paid for with {chosen.tokens:,} tokens"
    if dry_run or not chosen.replies:
        typer.echo(f"{paid}, would be deleted")
        return
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"{paid}, would be deleted: confirm with --yes")
        if not typer.confirm(f"Delete {paid}?", err=True):
            note("nothing was deleted")
            raise typer.Exit(_FAILED)
    gone = checks.prune(file, chosen)
    with LedgerReader(file) as reader:
        typer.echo(f"{gone:,} replies deleted; {_bytes(before)} before, {_bytes(reader.size)} now")


@contextmanager
def _bar(reader: LedgerReader) -> Iterator[Callable[[int, int], object]]:
    """A bar on a terminal, for what takes a while."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    screen = console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    quiet = not screen.is_terminal or reader.size < _LARGE
    with Progress(*columns, TimeRemainingColumn(), console=screen, transient=True, disable=quiet) as view:
        task = view.add_task("the file's structure", total=None)

        def tell(done: int, total: int) -> None:
            view.update(task, description="replies", completed=done, total=total)

        yield tell


def _show_overview(found: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console()
    figures = [f"{found['replies']:,} replies", _bytes(found["size"]), f"{found['runs']:,} runs"]
    figures += [f"{found['schemas']:,} schemas", f"format {found['format']}"]
    screen.print(_visible(f"{found['file']}: " + " · ".join(figures)), soft_wrap=True)
    if found["models"]:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("model", overflow="fold")
        for name in ("replies", "prompt tokens", "completion tokens"):
            table.add_column(name, justify="right")
        table.add_column("last", no_wrap=True)
        for row in found["models"]:
            counts = (row["replies"], row["prompt_tokens"], row["completion_tokens"])
            model = Text(_visible(str(row["model"] or "(unreadable)")))
            table.add_row(model, *(f"{count:,}" for count in counts), _time(row["last"]))
        screen.print(table)
    for row in found["outputs"]:
        line = f"output {row['output']}: {row['parts']:,} parts recorded, {row['complete']:,} complete"
        screen.print(_visible(line), soft_wrap=True)


def _show_record(record: LedgerRecord, schema: dict[str, Any] | None) -> None:
    screen = console()
    request, reply = record.request, record.reply
    usage = f"{reply.usage.prompt_tokens:,} + {reply.usage.completion_tokens:,} tokens"
    sampling = jsons.dumps(request["sampling"], ensure_ascii=False)

    def write(text: str, style: str | None = None) -> None:
        screen.print(_visible(text), style=style, soft_wrap=True)

    for name, value in (
        ("key", record.key),
        ("model", request["model"]),
        ("asked", f"{_time(record.created)}, answered in {record.seconds:.1f} s"),
        ("sampling", sampling if request["sampling"] else "the model's own"),
        ("draw", ", ".join(map(str, request["draw"]))),
    ):
        write(f"{name:<9} {value}")
    for role, content in request["messages"]:
        write(f"\n── {role}", "bold")
        write(content)
    if request["schema"] is not None:
        write("\n── schema", "bold")
        write("(damaged or lost)" if schema is None else jsons.dumps(schema, ensure_ascii=False, indent=2))
    for name in ("reasoning", "refusal"):
        if text := getattr(reply, name):
            write(f"\n── {name}", "bold")
            write(text)
    by = f" · {reply.model}" if reply.model else ""
    write(f"\n── reply ({reply.finish} · {usage}{by}{' · schema enforced' if reply.structured else ''})", "bold")
    write(reply.text)


def _visible(text: str) -> str:
    """Nothing in a reply may steer the terminal, and half of a surrogate pair cannot be printed at all."""
    if text.isprintable():
        return text
    return "".join(_escaped(sign) if _steers(sign) else sign for sign in text)


def _steers(sign: str) -> bool:
    number = ord(sign)
    return (number < 0x20 and sign not in "\n\t") or 0x7F <= number < 0xA0 or 0xD800 <= number < 0xE000


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


def _time(seconds: Any) -> str:
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (TypeError, ValueError, OverflowError, OSError):
        return f"{seconds!r}?"


def _bytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
