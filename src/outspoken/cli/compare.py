"""`outspoken compare`: one's own prompts, asked in several ways, side by side in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken.cli.common import command, console, note_default, print_json, with_settings
from outspoken.cli.options import Debug, Json, ModelName, Offline
from outspoken.errors import UsageError
from outspoken.io.text import shorten
from outspoken.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from outspoken.measure.analysis import Analysis
    from outspoken.measure.values import Group

__all__ = ["compare"]

_PARTLY = 3
_ANSWERS_SHOWN, _BAR_WIDTH, _TEXT_WIDTH = 8, 12, 48


@command
@with_settings(Settings)
def compare(
    options: dict[str, Any],
    prompts: Annotated[
        list[str], typer.Argument(help="What you want responses to; several are compared together.")
    ],
    methods: Annotated[str, typer.Option(help="The methods, with commas between them.")] = "direct,vs-standard",
    n: Annotated[int, typer.Option("--n", "-n", help="Responses per prompt and method.")] = 10,
    model: ModelName = None,
    ledger: Annotated[
        Path | None, typer.Option(help="Keep every reply here, and ask nothing that is in it.")
    ] = None,
    embedder: Annotated[str, typer.Option(help="What embeds the texts, as for `measure`; or none.")] = "minilm",
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Ask the same in several ways, and see which gives more different answers, and at what price.

    Example: outspoken compare "Name a US state." --methods direct,vs-standard -n 20
    """
    if "method" in options:
        raise UsageError("--method is for one method: name them all in --methods direct,vs-standard")
    from outspoken.cli.measure_tables import show, working
    from outspoken.measure import compare as compared

    if model is None:
        note_default()
    with working() as progress:
        groups, analysis = compared(
            prompts,
            [method.strip() for method in methods.split(",") if method.strip()],
            model=model,
            n=n,
            ledger=ledger,
            embedder=None if embedder == "none" else embedder,
            progress=progress,
            **options,
        )
    if json:
        print_json({"prompts": prompts, **analysis.to_dict(), "responses": _texts(groups)})
    else:
        for prompt in range(len(prompts)):
            _answers(console(), groups, prompt)
        show(analysis)
        _verdict(analysis)
    if any(asked.failures for group in groups for asked in group.prompts):
        raise typer.Exit(_PARTLY)


def _texts(groups: list[Group]) -> list[dict[str, Any]]:
    return [
        {
            "method": group.method,
            "prompt": asked.prompt,
            "responses": [
                {"text": response.text, "probability": response.probability} for response in asked.responses
            ],
        }
        for group in groups
        for asked in group.prompts
    ]


def _answers(screen: Console, groups: list[Group], at: int) -> None:
    """The most frequent answers of each method to one prompt, as bars."""
    from rich.table import Table

    from outspoken.measure.sets import answer_weights
    from outspoken.same_text import text_key

    screen.print(groups[0].prompts[at].prompt, style="bold", soft_wrap=True)
    for group in groups:
        responses = group.prompts[at].responses
        if not responses:
            screen.print(f"  {group.method}: no response", style="dim")
            continue
        first = {text_key(response.text): " ".join(response.text.split()) for response in reversed(responses)}
        weights = sorted(answer_weights(responses, text_key).items(), key=lambda item: -item[1])
        table = Table(group.method, "", "", box=None, header_style="dim", padding=(0, 1, 0, 2))
        for key, weight in weights[:_ANSWERS_SHOWN]:
            table.add_row(shorten(first[key], _TEXT_WIDTH), f"{weight:.0%}", "█" * max(1, round(weight * _BAR_WIDTH)), style=None)
        if len(weights) > _ANSWERS_SHOWN:
            rest = sum(weight for _, weight in weights[_ANSWERS_SHOWN:])
            table.add_row(f"{len(weights) - _ANSWERS_SHOWN:,} more", f"{rest:.0%}", style="dim")
        screen.print(table)
    screen.print()


def _verdict(analysis: Analysis) -> None:
    """In words: more different answers than the first method's, how many times as many, and at what price."""
    first, *others = analysis.groups
    base = first.figures.get("effective_size")
    for other in others:
        found = other.figures.get("effective_size")
        if base is None or found is None:
            continue
        ratio = found.value / base.value
        price = ""
        costs = [measured.to_dict()["cost"] for measured in (first, other)]
        if all(costs) and all(cost["per_distinct"]["tokens"] for cost in costs):
            tokens = [cost["per_distinct"]["tokens"] for cost in costs]
            price = f", at {tokens[1]:,.0f} tokens for each different answer against {tokens[0]:,.0f}"
        console().print(
            f"{other.group.method} is as diverse as {found.value:.1f} equally likely answers, "
            f"{first.group.method} as {base.value:.1f} ({ratio:.1f} times){price}.",
            soft_wrap=True,
        )
