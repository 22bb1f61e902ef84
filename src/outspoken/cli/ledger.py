"""`outspoken ledger`: show, verify, export and delete the replies in a ledger."""

from __future__ import annotations

import json as jsons
import sys
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outspoken.cli.common import PARTLY, command, console, note, print_json, print_text, write_json
from outspoken.cli.help import HelpCommand, HelpGroup
from outspoken.cli.options import Json, Overwrite
from outspoken.errors import UsageError
from outspoken.io.text import plural
from outspoken.report.format import NONE, count, file_size
from outspoken.terminal import TextTable

if TYPE_CHECKING:
    from outspoken.ledger.checks import JsonObject, LedgerOverview, LedgerRecord

__all__ = ["ledger"]

_FAILED = 1

ledger = typer.Typer(
    cls=HelpGroup, help="Show a ledger, verify it, export its replies, delete old ones.", no_args_is_help=True
)

File = Annotated[
    Path, typer.Argument(help="The ledger: the file given with --ledger, or OUT.ledger.sqlite beside OUT.")
]
AskedModel = Annotated[
    str | None, typer.Option("--model", help="Only replies of this model, as `ledger show` names it.")
]


@ledger.command("show", cls=HelpCommand)
@command()
def show(
    file: File,
    key: Annotated[
        str | None, typer.Argument(help="A key or its beginning: show this request and its reply.")
    ] = None,
    json: Json = False,
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


@ledger.command("verify", cls=HelpCommand)
@command(quiet=True)
def verify(file: File, json: Json = False) -> None:
    """Check the file, and every key, reply and schema by its digest. The exit code is 1 if something is damaged.

    Example: outspoken ledger verify responses.parquet.ledger.sqlite
    """
    from outspoken.cli.progress import step_progress
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader

    with LedgerReader(file) as reader, step_progress() as progress:
        progress("structure of the file", 0, 0)
        intact, problems = checks.verify(reader, lambda done, total: progress("replies", done, total))
    if json:
        print_json(
            {"file": str(file), "sound": intact, "ok": not problems, "problems": list(map(asdict, problems))}
        )
    else:
        screen = console()
        for problem in problems:
            screen.print(f"{problem.where}: {problem.reason}", soft_wrap=True)
        state = plural(len(problems), "problem") if problems else "no problems"
        screen.print(f"{plural(intact, 'reply is', 'replies are')} intact; {state}", soft_wrap=True)
    if problems:
        note(
            "`outspoken ledger export` saves what can be read; `outspoken ledger prune --damaged` deletes the rest"
        )
        raise typer.Exit(_FAILED)


@ledger.command("export", cls=HelpCommand)
@command(quiet=True)
def export(
    file: File,
    out: Annotated[Path | None, typer.Option(help="The file to write. Default: standard output.")] = None,
    model: AskedModel = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the replies as JSON lines, for --model replay/FILE. The exit code is 3 if some are damaged.

    Example: outspoken ledger export run.sqlite --out replies.jsonl
    """
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader, Problem

    problems: list[Problem] = []
    with LedgerReader(file) as reader:
        lines = checks.export(reader, problems, model)
        if out is None:
            for line in lines:
                write_json(line.rstrip(b"\n"))
        else:
            note(f"{checks.save(lines, out, file, overwrite=overwrite):,} replies in {out}")
    for problem in problems:
        note(f"damaged: {problem.where}: {problem.reason}", error=True)
    if problems:
        raise typer.Exit(PARTLY)


@ledger.command("prune", cls=HelpCommand)
@command(quiet=True)
def prune(
    file: File,
    older_than: Annotated[float | None, typer.Option(metavar="DAYS", help="Only replies older than this.")] = None,
    model: AskedModel = None,
    damaged: Annotated[
        bool, typer.Option("--damaged", help="Only replies that `ledger verify` finds damaged.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be deleted; delete nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
) -> None:
    """Delete replies and free their room on the disk. When they are needed again, they are paid for again.

    Example: outspoken ledger prune run.sqlite --older-than 90 --dry-run
    """
    from outspoken.ledger import checks
    from outspoken.ledger.reader import LedgerReader

    with LedgerReader(file) as reader:
        selection = checks.select_for_pruning(reader, older_than=older_than, model=model, damaged=damaged)
        before, total = reader.size, reader.count()
    paid = f"{selection.replies:,} of {plural(total, 'reply')}, paid for with {plural(selection.tokens, 'token')}"
    if dry_run or not selection.replies:
        print_text(f"{paid}, would be deleted")
        return
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"{paid}, would be deleted: confirm with --yes")
        if not typer.confirm(f"Delete {paid}?", err=True):
            note("nothing was deleted")
            raise typer.Exit(_FAILED)
    deleted = checks.prune(file, selection)
    with LedgerReader(file) as reader:
        print_text(f"{plural(deleted, 'reply')} deleted; {file_size(before)} before, {file_size(reader.size)} now")


def _show_overview(overview: LedgerOverview) -> None:
    screen = console()
    figures = [plural(overview.replies, "reply"), file_size(overview.size), plural(overview.runs, "run")]
    figures += [plural(overview.schemas, "schema"), f"format {overview.format}"]
    screen.print(f"{overview.file}: " + " · ".join(figures), soft_wrap=True)
    if overview.models:
        table = TextTable("model", "replies", "prompt tokens", "completion tokens", right=True)
        table.add_column("last")
        for row in overview.models:
            counts = (row.replies, row.prompt_tokens, row.completion_tokens)
            table.add_row(row.model or "(unreadable)", *map(count, counts), _time(row.last))
        screen.print(table)
    for output in overview.outputs:
        line = f"output {output.output}: {plural(output.parts, 'part')} recorded, {output.complete:,} complete"
        screen.print(line, soft_wrap=True)


def _show_record(record: LedgerRecord, schema: JsonObject | None) -> None:
    screen = console()
    request, reply = record.request, record.reply
    usage = f"{reply.usage.prompt_tokens:,} + {plural(reply.usage.completion_tokens, 'token')}"
    sampling = jsons.dumps(request["sampling"], ensure_ascii=False)

    def write(text: str, style: str | None = None) -> None:
        screen.print(text, style=style, soft_wrap=True)

    for name, value in {
        "key": record.key,
        "model": request["model"],
        "asked": f"{_time(record.created)}, answered in {record.seconds:.1f} s",
        "sampling": sampling if request["sampling"] else "the model's defaults",
        "draw": ", ".join(map(str, request["draw"])),
    }.items():
        write(f"{name:<9} {value}")
    sections = list(request["messages"])
    if request["schema"] is not None:
        text = "(damaged or lost)" if schema is None else jsons.dumps(schema, ensure_ascii=False, indent=2)
        sections.append(["schema", text])
    sections += [[name, text] for name in ("reasoning", "refusal") if (text := getattr(reply, name))]
    about = [reply.finish, usage, *([reply.model] if reply.model else [])]
    about += ["schema enforced"] if reply.structured else []
    for title, text in (*sections, (f"reply ({' · '.join(about)})", reply.text)):
        write(f"\n── {title}", "bold")
        write(text)


def _time(seconds: object) -> str:
    """A Unix time as text; a damaged ledger may hold any value instead."""
    if not isinstance(seconds, int | float):
        return NONE if seconds is None else f"{seconds!r}?"
    try:
        return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        return f"{seconds!r}?"
