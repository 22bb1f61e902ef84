"""The Ray cluster that a run or a step works on: the user's, or one on this machine for as long as it takes."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from outspoken._imports import need
from outspoken.errors import ProviderError, UsageError

__all__ = ["connected", "first_line"]

_SECONDS_TO_KNOCK = 20.0
# Read when ray is imported, and left alone where the user has set them. The expression that suppresses every line
# keeps Ray's messages off standard output, where a summary in JSON may stand.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address`, at $RAY_ADDRESS, or to one started on this machine.

    Where Ray runs in this process already, that is used and left as it is. Raises `UsageError`, `ProviderError`.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    ray = need("ray", "running over Ray", "ray")
    need("ray.data", "running over Ray", "ray")
    if ray.is_initialized():
        yield ray
        return
    address = address or os.environ.get("RAY_ADDRESS", "")
    if address.startswith("ray://"):
        raise UsageError("ray:// runs nothing here: start on a machine of the cluster, with --address auto")
    _start(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, address: str) -> None:
    """Join the cluster there, or start one ("") on this machine. Raises `ProviderError` where that fails."""
    options = {"address": address} if address else {"include_dashboard": False}
    try:
        _knock(address)
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address} cannot be reached" if address else "no Ray cluster could be started"
        raise ProviderError(
            f"{where} ({first_line(error)}): check `ray status --address ADDRESS`, and that Ray's and Python's "
            "versions are the same on all machines",
            original=error,
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _knock(address: str) -> None:
    """Raise `OSError` where nobody listens at HOST:PORT: Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_KNOCK).close()


def first_line(error: BaseException) -> str:
    """Of what an error says, for a message of ours."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
