"""`outspoken serve`: an OpenAI-compatible server whose responses are drawn; `outspoken client-key`: its keys."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outspoken import templates
from outspoken.cli.common import command, note, print_text
from outspoken.cli.interrupts import signals
from outspoken.cli.options import DEBUG, ModelName, several
from outspoken.errors import UsageError
from outspoken.serve.limits import ServerLimits
from outspoken.settings import Settings

if TYPE_CHECKING:
    from outspoken.serve.backend import Backend
    from outspoken.serve.keys import Keys
    from outspoken.serve.pool.store import PoolStore

__all__ = ["client_key", "serve"]

KEYS_VARIABLE = "OUTSPOKEN_CLIENT_KEYS"
_STOPPING = "stopping: running requests finish first; Ctrl-C again stops at once"


@command(Settings, ServerLimits, without=("seed", "on_short"), offline=True)
def serve(
    options: dict[str, Any],
    model: ModelName = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="Serve all models of this server, and forward requests that are not verbalized: the base URL of "
            "an OpenAI-compatible server (its key in $OUTSPOKEN_API_KEY), or a provider such as openai."
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; client keys are needed if other machines can reach it.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 selects a free one.", min=0, max=65535)] = 8000,
    pool: Annotated[Path | None, typer.Option(help="Keep the pools in this SQLite file across restarts.")] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            help=f"A file of client keys, from `outspoken client-key` (or its lines in ${KEYS_VARIABLE})."
        ),
    ] = None,
    per_minute: Annotated[float, typer.Option(help="Most requests per minute for one client key.")] = 600.0,
    together: Annotated[int, typer.Option(help="Most requests at once for one client key.")] = 64,
    reports: Annotated[Path | None, typer.Option(help="A folder of reports, which the page lists.")] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Let pages of this origin (https://example.com) call the server; repeat the option or use commas."
        ),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log a line for each request.")] = False,
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Log the prompts.")] = False,
) -> None:
    """Serve a model whose responses are drawn from the distributions that it verbalizes.

    OpenAI clients change their base URL and add :vs to the model's name. The server has a page at /.

    Example: outspoken serve --model local/smollm2
    """
    import asyncio

    from outspoken.serve.app import create_app
    from outspoken.serve.http.middleware import is_loopback
    from outspoken.serve.http.server import Server, listen
    from outspoken.serve.keys import ClientLimits, Keys

    names = ServerLimits.__dataclass_fields__
    limits = ServerLimits(**{name: options.pop(name) for name in names if name in options})
    defaults = Settings.read(options)
    templates.load(defaults.template)
    if defaults.k > limits.max_k:
        raise UsageError(f"-k {defaults.k} is above --max-k {limits.max_k}")
    client_limits, listed = ClientLimits.of(per_minute, together), os.environ.get(KEYS_VARIABLE)
    clients = Keys.load(keys, client_limits) if keys else Keys.read(listed, client_limits) if listed else None
    if clients is None and not is_loopback(host):
        remedy = "create one with `outspoken client-key NAME --file keys.txt` and serve with --keys keys.txt"
        raise UsageError(f"other machines can reach {host}, and there are no client keys: {remedy}")
    if reports is not None and not reports.is_dir():
        raise UsageError(f"the folder {reports} for reports does not exist")
    origins = [_origin(text) for text in several(allow_origin, "--allow-origin")]
    backend = _backend(model, upstream, limits)
    listening = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{listening.getsockname()[1]}"

    _log(verbose=verbose or log_prompts)

    async def run() -> None:
        """Load the model, then serve until a signal arrives."""
        await backend.prepare()
        app = create_app(
            backend,
            defaults=defaults,
            limits=limits,
            keys=clients,
            store=None if pool is None else _store(pool),
            reports=reports,
            origins=origins,
            log_prompts=log_prompts,
        )
        server = Server(app, limits, ready=lambda: _welcome(address, backend, clients))
        gc.collect()
        gc.freeze()  # the loaded objects stay, and scanning them at each collection would delay all clients

        def stop() -> None:
            note("stopping now" if server.should_exit else _STOPPING)
            server.stop()

        with signals(stop):
            await server.serve([listening])

    with listening:
        asyncio.run(run())


def _store(path: Path) -> PoolStore:
    from outspoken.serve.pool.store import PoolStore

    store = PoolStore(path)
    if store.aside is not None:
        outcome = f"the file was renamed to {store.aside.name}, and the pools start empty"
        note(f"the pools in {path} were damaged: {outcome}", style="red")
    return store


def _welcome(address: str, backend: Backend, clients: Keys | None) -> None:
    from outspoken.models import DEFAULT

    note(f"serving {backend.about} at {address}/v1, the page at {address}/")
    if backend.about == DEFAULT:
        note("this is a tiny model; name a better one with --model, or a server with --upstream", "dim")
    key = ", api_key = a client key" if clients else ""
    note(f"in a client: base_url = {address}/v1, model = {backend.example}:vs{key}")
    note("Ctrl-C stops it", "dim")


def _backend(model: str | None, upstream: str | None, limits: ServerLimits) -> Backend:
    from outspoken.models import default_name, get_model
    from outspoken.serve.backend import OneModel, Upstream

    if upstream is None:
        return OneModel(get_model(model or default_name()))
    if model is not None:
        raise UsageError("--model and --upstream exclude each other: clients name the models of an upstream")
    return Upstream.at(upstream, idle_seconds=limits.timeout)


def _origin(text: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/") or parts.query:
        raise UsageError(f"--allow-origin must be an origin such as https://example.com, not {text}")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _log(*, verbose: bool) -> None:
    import logging

    if os.environ.get(DEBUG):
        return  # everything is shown
    from outspoken.serve.http.middleware import OneLineFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("outspoken")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # our own server logs its faults


@command()
def client_key(
    name: Annotated[str, typer.Argument(help="Name of the client, shown in the log.")],
    file: Annotated[Path | None, typer.Option(help="Add the key's hash to this file, for `serve --keys`.")] = None,
) -> None:
    """Create a key for a client of the server. The key is shown once; only its hash is stored.

    Example: outspoken client-key alice --file keys.txt
    """
    from outspoken.serve.keys import Keys, check_name, hash_key, new_key

    check_name(name)
    key = new_key()
    if file is None:
        note(f"line for the file of --keys: {name}:{hash_key(key)}")
    else:
        Keys.add(file, name, hash_key(key))
        note(f"its hash was added to {file}; send the key to {name}: it is not shown again")
    print_text(key)
