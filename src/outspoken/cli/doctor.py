"""`outspoken doctor`: the installed packages, the API keys in the environment, and a test of the model."""

from __future__ import annotations

import os
import platform
import time
from typing import Annotated, Any

import typer

from outspoken._imports import installed_version
from outspoken._install import install_command
from outspoken._version import __version__
from outspoken.cli.common import command, console, print_json
from outspoken.cli.options import Json, ModelName
from outspoken.errors import OutspokenError
from outspoken.io.text import one_line

__all__ = ["doctor"]

_PACKAGES = {
    "core": ("aiohttp", "jiter", "jsonschema", "platformdirs", "rich", "typer"),
    "local": ("xllamacpp",),
    "providers": ("any-llm-sdk",),
    "tables": ("polars",),
    "torch": ("torch", "transformers"),
}


@command(quiet=True, offline=True)
def doctor(
    model: ModelName = None,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="Send the model one small request.")] = True,
    json: Json = False,
) -> None:
    """Check the installation: packages, API keys (never their values), and whether the model answers.

    Example: outspoken doctor --model http://localhost:8080/v1
    """
    from outspoken.models import default_name, weight_files
    from outspoken.models.providers import PROVIDERS, URL_KEY_VARIABLE

    variables = {variable for provider in PROVIDERS.values() for variable in provider.key_variables}
    present = [row.name for row in weight_files.listing() if row.present]
    report: dict[str, Any] = {
        "outspoken": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {
            extra: {name: installed_version(name) for name in names} for extra, names in _PACKAGES.items()
        },
        "keys": {name: bool(os.environ.get(name)) for name in sorted({*variables, URL_KEY_VARIABLE})},
        "cache": {"path": str(weight_files.folder()), "models": present},
        "model": _test_model(model or default_name(), named=model is not None) if ask else None,
    }
    if json:
        print_json(report)
    else:
        _show(report)
    if report["model"] is not None and report["model"]["answers"] is False:
        raise typer.Exit(1)


def _test_model(name: str, *, named: bool) -> dict[str, object]:
    """Send one small request. The embedded model is fetched for this only if the user `named` it."""
    from outspoken.chat import ChatRequest, Message, Sampling
    from outspoken.engine import SingleCall, run
    from outspoken.models import DEFAULT, get_model, weight_files
    from outspoken.settings import RequestLimits

    if name == DEFAULT and not named and not weight_files.TABLE["smollm2"].present:
        return {"name": name, "answers": None, "error": "not fetched yet: outspoken models get smollm2"}
    started = time.perf_counter()
    try:
        request = ChatRequest((Message("user", "Say hello."),), Sampling(max_tokens=16))
        reply = run(SingleCall(get_model(name), RequestLimits(attempts=1)).complete(request))
    except OutspokenError as error:
        return {"name": name, "answers": False, "error": one_line(str(error), 1000)}
    seconds = round(time.perf_counter() - started, 3)
    return {"name": name, "answers": True, "text": reply.text, "seconds": seconds}


def _show(report: dict[str, Any]) -> None:
    from outspoken.report.format import duration

    screen = console()

    def row(label: str, text: str) -> None:
        screen.print(f"{label:<10} {text}", soft_wrap=True)

    screen.print("outspoken {outspoken}, Python {python}, {platform}".format(**report), soft_wrap=True)
    for extra, packages in report["packages"].items():
        versions = ", ".join(f"{name} {version or 'missing'}" for name, version in packages.items())
        row(extra, versions + ("" if all(packages.values()) else f"   {install_command(extra)}"))
    row("keys", ", ".join(name for name, is_set in report["keys"].items() if is_set) or "none set")
    row("cache", f"{report['cache']['path']}: {', '.join(report['cache']['models']) or 'no model'}")
    if test := report["model"]:
        answers = f" answers in {duration(test['seconds'])}: " if test["answers"] else ": "
        outcome = test["text"] if test["answers"] else test["error"]
        row("model", test["name"] + answers + one_line(outcome, 1000))
