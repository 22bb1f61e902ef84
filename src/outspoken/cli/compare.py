"""`outspoken compare`: your own prompts, asked with several methods, side by side in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outspoken._options import CallOptions
from outspoken.cli.common import PARTLY, command, console, note_default, print_json, typed
from outspoken.cli.interrupts import run_or_exit
from outspoken.cli.options import Embedder, Format, Json, LedgerFile, Methods, ModelName, Responses, Same, several
from outspoken.settings import Settings
from outspoken.terminal import ShareBar, TextTable

if TYPE_CHECKING:
    from outspoken.cli.screen import Screen
    from outspoken.measure.values import Group

__all__ = ["compare"]

_DEFAULT_METHODS, _DEFAULT_RESPONSES = ("direct", "vs-standard"), 10
_MAX_ANSWERS, _BAR_WIDTH, _TEXT_WIDTH = 8, 12, 48


@command(Settings, without=("method",), quiet=True, offline=True)
def compare(
    options: CallOptions,
    prompts: Annotated[list[str], typer.Argument(help="Prompts; the methods are compared over all of them.")],
    methods: Methods = None,
    n: Responses = None,
    model: ModelName = None,
    ledger: LedgerFile = None,
    embedder: Embedder = "minilm",
    same: Same = "exact",
    form: Format = None,
    json: Json = False,
) -> None:
    """Ask the same prompts with several methods, and compare the diversity and the price of the responses.

    By default direct and vs-standard, with 10 responses per prompt and method. All methods ask for the responses
    alone: without --template, the direct ones do in the published wording (`outspoken templates paper`).

    Example: outspoken compare "Name a US state." --methods direct,vs-standard -n 20
    """
    from outspoken.cli.measure_tables import check_format, show
    from outspoken.cli.progress import step_progress
    from outspoken.measure.api import acompare

    check_format(form, json=json)
    prompts = list(map(typed, prompts))
    if model is None:
        note_default()
    with step_progress() as progress:
        groups, analysis = run_or_exit(
            lambda: acompare(
                prompts,
                several(methods, "--methods") or _DEFAULT_METHODS,
                model=model,
                n=n or _DEFAULT_RESPONSES,
                ledger=ledger,
                embedder=None if embedder == "none" else embedder,
                same=same,
                progress=progress,
                **options,
            )
        )
    if json:
        print_json({"prompts": prompts, **analysis.to_dict(), "responses": _texts(groups)})
    else:
        for index in range(len(prompts) if form is None else 0):
            _show_answers(console(), groups, index)
        show(analysis, form=form)
    if any(prompt.failures for group in groups for prompt in group.prompts):
        raise typer.Exit(PARTLY)


def _texts(groups: list[Group]) -> list[dict[str, object]]:
    return [
        {
            "method": group.method,
            "prompt": prompt.prompt,
            "responses": [
                {"text": response.text, "probability": response.probability} for response in prompt.responses
            ],
        }
        for group in groups
        for prompt in group.prompts
    ]


def _show_answers(screen: Screen, groups: list[Group], index: int) -> None:
    from outspoken.io.text import one_line
    from outspoken.measure.sets import answer_weights
    from outspoken.report.format import share
    from outspoken.same_text import text_key

    screen.print(groups[0].prompts[index].prompt, style="bold", soft_wrap=True)
    for group in groups:
        responses = group.prompts[index].responses
        if not responses:
            screen.print(f"  {group.method}: no response", style="dim")
            continue
        first = {text_key(response.text): response.text for response in reversed(responses)}
        weights = sorted(answer_weights(responses, text_key).items(), key=lambda item: -item[1])
        table = TextTable(group.method, "", "", style="dim")
        for key, weight in weights[:_MAX_ANSWERS]:
            bar = ShareBar(weight, "", _BAR_WIDTH)
            table.add_row(one_line(first[key], _TEXT_WIDTH), share(weight, 1), bar)
        if len(weights) > _MAX_ANSWERS:
            rest = sum(weight for _, weight in weights[_MAX_ANSWERS:])
            table.add_row(f"{len(weights) - _MAX_ANSWERS:,} more", share(rest, 1), style="dim")
        screen.print(table)
    screen.print()
