"""How to install an extra of this package where it runs: from an index, from a checkout, or from where it came."""

from __future__ import annotations

from pathlib import Path

__all__ = ["install_command"]

_ROOT = Path(__file__).parents[2]


def install_command(extra: str) -> str:
    """The command that installs `extra`: `pip install -e '.[serve]'` in a checkout.

    `uv pip` takes the place of `pip` in an environment without pip.
    """
    import shlex
    from importlib.util import find_spec

    command = "uv pip install" if find_spec("pip") is None else "pip install"
    if (_ROOT / "pyproject.toml").is_file() and (_ROOT / "src" / "outspoken").is_dir():
        folder = "." if Path.cwd() == _ROOT else str(_ROOT)
        return f"{command} -e {shlex.quote(f'{folder}[{extra}]')}"
    return f"{command} {shlex.quote(f'outspoken[{extra}]{_origin()}')}"


def _origin() -> str:
    """Where the installed package came from, as in a requirement (` @ URL`); "" for an index."""
    import json
    from importlib import metadata

    try:
        recorded = metadata.distribution("outspoken").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return ""
    if recorded is None:
        return ""
    origin = json.loads(recorded)
    version = origin.get("vcs_info")
    return f" @ {version['vcs']}+{origin['url']}@{version['commit_id']}" if version else f" @ {origin['url']}"
