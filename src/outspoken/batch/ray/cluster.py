"""Connecting to a Ray cluster: the user's, or one that is started on this machine."""

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

_SECONDS_TO_CONNECT = 20.0
# Ray reads these when it is imported; what the user has set stays. The expression matches every line of Ray's
# messages and keeps them off standard output, which may be JSON.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address`, at $RAY_ADDRESS, or to one started on this machine.

    If Ray runs in this process already, that is used and not ended. Raises `UsageError` and `ProviderError`.
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
        raise UsageError("ray:// is not supported: start on a machine of the cluster, with --address auto")
    _start(ray, address)
    try:
        yield ray
    finally:
        ray.shutdown()


def _start(ray: Any, address: str) -> None:
    """Join the cluster at an address, or start one ("") on this machine. Raises `ProviderError`."""
    options = {"address": address} if address else {"include_dashboard": False}
    try:
        _check_listening(address)
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except (OSError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address} cannot be reached" if address else "no Ray cluster could be started"
        raise ProviderError(
            f"{where} ({first_line(error)}): check `ray status --address ADDRESS`, and that Ray's and Python's "
            "versions are the same on all machines",
            original=error,
        ) from error
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def _check_listening(address: str) -> None:
    """Raise `OSError` if nothing listens at HOST:PORT: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_CONNECT).close()


def first_line(error: BaseException) -> str:
    """The first line of the message of an error, or its class."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
