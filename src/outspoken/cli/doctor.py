"""`outspoken doctor`: what is installed, which keys are seen, and whether the model answers."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from typing import Annotated, Any

import typer

from outspoken._version import __version__
from outspoken.cli.common import command, console, print_json
from outspoken.cli.options import Debug, Json, ModelName, Offline
from outspoken.errors import OutspokenError

__all__ = ["doctor"]

_PACKAGES = {
    "core": ("aiohttp", "jiter", "json-repair", "jsonschema", "platformdirs", "rich", "typer"),
    "local": ("xllamacpp",),
    "providers": ("any-llm-sdk",),
    "tables": ("polars",),
    "torch": ("torch", "transformers"),
}


@command
def doctor(
    model: ModelName = None,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="Ask the model one tiny question.")] = True,
    json: Json = False,
    offline: Offline = False,
    debug: Debug = False,
) -> None:
    """Tell what is installed, which keys are seen (never their values), and whether the model answers.

    Example: outspoken doctor --model http://localhost:8080/v1
    """
    from outspoken.models import default_name

    report: dict[str, Any] = {
        "outspoken": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {extra: {name: _installed(name) for name in names} for extra, names in _PACKAGES.items()},
        "keys": _keys(),
        "cache": _cache(),
        "model": _try(model or default_name(), named=model is not None) if ask else None,
    }
    if json:
        print_json(report)
    else:
        _show(report)
    if report["model"] is not None and report["model"]["answers"] is False:
        raise typer.Exit(1)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _keys() -> dict[str, bool]:
    from outspoken.models.providers import PROVIDERS, URL_KEY_VARIABLE

    variables = {variable for provider in PROVIDERS.values() for variable in provider.key_variables}
    return {name: bool(os.environ.get(name)) for name in sorted({*variables, URL_KEY_VARIABLE})}


def _cache() -> dict[str, Any]:
    from outspoken.models import weight_files

    return {
        "path": str(weight_files.folder()),
        "models": [row.name for row in weight_files.listing() if row.present],
    }


def _try(name: str, *, named: bool) -> dict[str, Any]:
    """One tiny question to the model. The embedded model is not fetched for it unless it was named."""
    from outspoken.chat import ChatRequest, Message, Sampling
    from outspoken.engine import run
    from outspoken.models import DEFAULT, get_model, weight_files

    result: dict[str, Any] = {"name": name, "answers": False}
    if name == DEFAULT and not named and not weight_files.TABLE["smollm2"].present:
        return {**result, "answers": None, "error": "not fetched yet: outspoken models get smollm2"}
    started = time.perf_counter()
    try:
        request = ChatRequest((Message("user", "Say hello."),), Sampling(max_tokens=16))
        reply = run(get_model(name).complete(request))
    except OutspokenError as error:
        return {**result, "error": " ".join(str(error).split())}
    return {**result, "answers": True, "text": reply.text, "seconds": round(time.perf_counter() - started, 3)}


def _show(report: dict[str, Any]) -> None:
    screen = console()
    screen.print(
        f"outspoken {report['outspoken']}, Python {report['python']}, {report['platform']}", soft_wrap=True
    )
    for extra, packages in report["packages"].items():
        listed = ", ".join(f"{name} {version or 'missing'}" for name, version in packages.items())
        remedy = "" if all(packages.values()) else f"   pip install 'outspoken[{extra}]'"
        screen.print(f"{extra:<10} {listed}{remedy}", soft_wrap=True)
    seen = [name for name, there in report["keys"].items() if there]
    screen.print(f"{'keys':<10} {', '.join(seen) or 'none seen'}", soft_wrap=True)
    cache = report["cache"]
    screen.print(f"{'cache':<10} {cache['path']}: {', '.join(cache['models']) or 'no model'}", soft_wrap=True)
    model = report["model"]
    if model is None:
        return
    if model["answers"]:
        answer = " ".join(model["text"].split())
        screen.print(
            f"{'model':<10} {model['name']} answers in {model['seconds']:.2f} s: {answer}", soft_wrap=True
        )
    else:
        screen.print(f"{'model':<10} {model['name']}: {model['error']}", soft_wrap=True)
