"""Connects to a Ray cluster, or starts one on this machine; the messages between the driver and its workers."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from outspoken._imports import need
from outspoken.batch.ray.shares import ShareRequest
from outspoken.engine import Budget, RunMetrics
from outspoken.errors import OutspokenError, ProviderError, UsageError
from outspoken.io.text import first_line
from outspoken.ledger import PartRecord

__all__ = [
    "MessageBoard",
    "Orders",
    "ShardResult",
    "WorkerReport",
    "call_board",
    "connected",
    "start_board",
]

_logger = logging.getLogger(__name__)

_SECONDS_TO_CONNECT = 20.0
_SECONDS_TO_ANSWER = 20.0
# Ray reads these when it is imported; values that the user has set stay. The expression matches every line of
# Ray's messages and keeps them off standard output, which may be JSON.
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address`, at $RAY_ADDRESS, or to one started on this machine.

    If Ray runs in this process already, it is used and left running. Raises `UsageError` and `ProviderError`.
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


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """The state of an attempt at a shard. With a `request` it waits for a share of the budget."""

    shard: int
    metrics: RunMetrics
    under_way: int
    request: ShareRequest | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Orders:
    """The answer to a report: why to stop ("": continue), whether to stop `at_once`, and the share of the budget.

    The share is None until the driver has determined it, and a reason to stop if too little is left.
    """

    stopped: str = ""
    at_once: bool = False
    share: Budget | str | None = None


class MessageBoard:
    """The actor through which workers report, and receive their shares and the order to stop.

    It may be restarted: the driver repeats its orders with each `poll`, and a worker its report.
    """

    def __init__(self) -> None:
        self._orders = Orders()
        self._reports: dict[str, WorkerReport] = {}
        self._shares: dict[str, Budget | str] = {}

    def poll(self, orders: Orders, shares: Mapping[str, Budget | str]) -> dict[str, WorkerReport]:
        """From the driver: orders for all workers, and shares by attempt. Returns the new reports by attempt."""
        self._orders = orders
        self._shares.update(shares)
        reports, self._reports = self._reports, {}
        return reports

    def report(self, attempt: str, report: WorkerReport) -> Orders:
        """From a worker: the state of its attempt."""
        self._reports[attempt] = report
        share = None if report.request is None else self._shares.pop(attempt, None)
        return replace(self._orders, share=share)


@dataclass(slots=True)
class ShardResult:
    """The outcome of an attempt at a shard.

    `written` are the parts on disk; `complete`: all of them are. `stopped` is why the attempt ended early ("" if
    it did not); `used_up`: only because its share of the budget was used up. `failure` is an error of the worker;
    `broken`: it is the error that made every prompt fail.
    """

    shard: int
    attempt: str
    metrics: RunMetrics
    written: Mapping[int, PartRecord] = field(default_factory=dict)
    complete: bool = False
    stopped: str = ""
    used_up: bool = False
    failure: OutspokenError | None = None
    broken: bool = False


def start_board(ray: Any) -> Any:
    """Start the actor on the machine of the driver, because it has to live as long as the driver."""
    node = ray.get_runtime_context().get_node_id()
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=True)
    return ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(MessageBoard).remote()


async def call_board(method: Any, *arguments: Any) -> Any:
    """The result of a method of the actor; None if it does not answer in time, or is lost."""
    ray = need("ray", "running over Ray", "ray")
    try:
        return await asyncio.wait_for(asyncio.wrap_future(method.remote(*arguments).future()), _SECONDS_TO_ANSWER)
    except (TimeoutError, ray.exceptions.RayError) as error:
        _logger.debug("the message board does not answer: %r", error)
        return None
