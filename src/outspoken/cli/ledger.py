"""`outspoken ledger`: show, verify, export and delete the replies in a ledger."""

from __future__ import annotations

import json as jsons
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outspoken.cli.common import command, console, note, print_json
from outspoken.cli.options import Debug, Json, Overwrite, Quiet
from outspoken.errors import UsageError
from outspoken.report.format import NONE, count, file_size

if TYPE_CHECKING:
    from outspoken.ledger.checks import JsonObject, LedgerOverview, LedgerRecord
    from outspoken.ledger.reader import LedgerReader

__all__ = ["ledger"]

_FAILED, _PARTLY = 1, 3
_LARGE = 8 * 2**20
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

ledger = typer.Typer(help="Show a ledger, verify it, export its replies, delete old ones.", no_args_is_help=True)

File = Annotated[Path, typer.Argument(help="The ledger: what --ledger named, or OUT.ledger.sqlite beside OUT.")]
AskedModel = Annotated[
    str | None, typer.Option("--model", help="Only replies of this model, as `ledger show` names it.")
]


@ledger.command("show")
@command
def show(
    file: File,
    key: Annotated[
        str | None, typer.Argument(help="A key, or the beginning of one: show this request with its reply.")
    ] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Show the contents of a ledger, or one request with its reply.

    Example: outspoken ledger show responses.parquet.ledger.sqlite
    """
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader

    with LedgerReader(file) as reader:
        if key is None:
            overview = checks.overview(reader)
            if json:
                print_json(overview.to_dict())
            else:
                _show_overview(overview)
            return
        record, schema = checks.find(reader, key)
    if json:
        print_json(record.to_dict(schema))
    else:
        _show_record(record, schema)


@ledger.command("verify")
@command
def verify(file: File, json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Check the file, every key and every hash of a schema. The exit code is 1 if something is damaged.

    Example: outspoken ledger verify responses.parquet.ledger.sqlite
    """
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader

    with LedgerReader(file) as reader, _bar(reader, quiet=quiet) as progress:
        intact, problems = checks.verify(reader, progress)
    if json:
        print_json(
            {"file": str(file), "sound": intact, "ok": not problems, "problems": list(map(asdict, problems))}
        )
    else:
        screen = console()
        for problem in problems:
            screen.print(_visible(f"{problem.where}: {problem.reason}"), soft_wrap=True)
        state = f"{len(problems):,} problems" if problems else "no problems"
        screen.print(f"{intact:,} replies are intact; {state}", soft_wrap=True)
    if problems:
        note("`outspoken ledger export` saves what can be read")
        raise typer.Exit(_FAILED)


@ledger.command("export")
@command
def export(
    file: File,
    out: Annotated[Path | None, typer.Option(help="The file to write. Default: standard output.")] = None,
    model: AskedModel = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write the replies as JSON lines for --model replay/FILE. The exit code is 3 if some are damaged.

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
            note(f"{checks.save(lines, out, file, overwrite=overwrite):,} replies in {out}")
    for problem in problems:
        note(_visible(f"damaged: {problem.where}: {problem.reason}"), error=True)
    if problems:
        raise typer.Exit(_PARTLY)


@ledger.command("prune")
@command
def prune(
    file: File,
    older_than: Annotated[float | None, typer.Option(metavar="DAYS", help="Replies older than this.")] = None,
    model: AskedModel = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted; delete nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Delete replies and free their room on the disk. They will be asked, and paid for, again when needed.

    Example: outspoken ledger prune run.sqlite --older-than 90 --dry-run
    """
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader

    with LedgerReader(file) as reader:
        selection = checks.select_for_pruning(reader, older_than=older_than, model=model)
        before, total = reader.size, reader.count()
    paid = f"{selection.replies:,} of {total:,} replies, paid for with {selection.tokens:,} tokens"
    if dry_run or not selection.replies:
        typer.echo(f"{paid}, would be deleted")
        return
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"{paid}, would be deleted: confirm with --yes")
        if not typer.confirm(f"Delete {paid}?", err=True):
            note("nothing was deleted")
            raise typer.Exit(_FAILED)
    deleted = checks.prune(file, selection)
    with LedgerReader(file) as reader:
        typer.echo(f"{deleted:,} replies deleted; {file_size(before)} before, {file_size(reader.size)} now")


@contextmanager
def _bar(reader: LedgerReader, *, quiet: bool) -> Iterator[Callable[[int, int], object]]:
    """A progress bar for large ledgers, in a terminal."""
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn

    screen = console(stderr=True)
    columns = (SpinnerColumn(), *Progress.get_default_columns(), MofNCompleteColumn())
    hidden = quiet or not screen.is_terminal or reader.size < _LARGE
    with Progress(*columns, console=screen, transient=True, disable=hidden) as view:
        task = view.add_task("structure of the file", total=None)
        yield lambda done, total: view.update(task, description="replies", completed=done, total=total)


def _show_overview(overview: LedgerOverview) -> None:
    from rich.table import Table
    from rich.text import Text

    screen = console()
    figures = [f"{overview.replies:,} replies", file_size(overview.size), f"{overview.runs:,} runs"]
    figures += [f"{overview.schemas:,} schemas", f"format {overview.format}"]
    screen.print(_visible(f"{overview.file}: " + " · ".join(figures)), soft_wrap=True)
    if overview.models:
        table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
        table.add_column("model", overflow="fold")
        for name in ("replies", "prompt tokens", "completion tokens"):
            table.add_column(name, justify="right")
        table.add_column("last", no_wrap=True)
        for row in overview.models:
            counts = (row.replies, row.prompt_tokens, row.completion_tokens)
            table.add_row(Text(_visible(row.model or "(unreadable)")), *map(count, counts), _time(row.last))
        screen.print(table)
    for output in overview.outputs:
        line = f"output {output.output}: {output.parts:,} parts recorded, {output.complete:,} complete"
        screen.print(_visible(line), soft_wrap=True)


def _show_record(record: LedgerRecord, schema: JsonObject | None) -> None:
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
        ("sampling", sampling if request["sampling"] else "the model's defaults"),
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
    model = f" · {reply.model}" if reply.model else ""
    write(
        f"\n── reply ({reply.finish} · {usage}{model}{' · schema enforced' if reply.structured else ''})", "bold"
    )
    write(reply.text)


def _visible(text: str) -> str:
    """The text with control characters, which could change the terminal, and lone surrogates escaped."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def _time(seconds: object) -> str:
    """A Unix time, or what a damaged ledger has in its place."""
    if not isinstance(seconds, int | float):
        return NONE if seconds is None else f"{seconds!r}?"
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return f"{seconds!r}?"
