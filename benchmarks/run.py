"""`outspoken run` with its ledger and Parquet on, against bare aiohttp and against other tools that ask in bulk.

    python benchmarks/run.py [--prompts 20000] [--rounds 3] [--peers FOLDER] [--large 200000] [--json]

Every arm is a process of its own and asks a server in another one, which sends one fixed reply with five
candidates: at once, and after 200 ms. The rounds of the arms are interleaved and their medians compared. `--peers`
names the folder of the peers' environments (peers/README.md); `--large` adds a run of that many prompts, for its
peak of memory against that of the smaller one, and for running it again when it is finished.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp

HERE = Path(__file__).parent / "peers"
sys.path.insert(0, str(HERE))
import contest  # noqa: E402

PEERS = {"bespokelabs-curator": "curator", "data-designer": "data_designer_peer", "distilabel": "distilabel_peer"}
SLOW = 0.2


# The arms: what a process of its own does.


async def bare(base_url: str, prompts: int, in_flight: int) -> None:
    """As many workers as may be in flight, each posting one body after the other and decoding the reply."""
    from outspoken.models.openai_wire import chat_body, optional_fields

    requests = iter(_requests(prompts))
    url = f"{base_url}/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def work() -> None:
            for request in requests:
                body = chat_body(request, contest.MODEL) | optional_fields(request)
                headers = {"Authorization": f"Bearer {contest.KEY}"}
                async with session.post(url, json=body, headers=headers) as response:
                    await response.json()

        await asyncio.gather(*(work() for _ in range(in_flight)))


def _requests(prompts: int) -> Iterator[Any]:
    from outspoken.chat import ChatRequest, Message
    from outspoken.reply_shape import ReplyShape

    shape = ReplyShape("candidates", 5)
    schema = shape.json_schema()
    for text in contest.prompts(prompts):
        messages = (Message("system", contest.SYSTEM), Message("user", text))
        yield ChatRequest(messages, schema=schema, shape=shape)


def ours(base_url: str, folder: Path, prompts: int, in_flight: int) -> dict[str, Any]:
    from outspoken.batch.file import BatchJob, FileRun
    from outspoken.batch.plan import RunPlan

    source = folder / f"prompts-{prompts}.jsonl"
    if not source.exists():
        with source.open("w", encoding="utf-8") as file:
            for n in range(prompts):
                file.write(json.dumps({"id": f"p{n}", "prompt": f"Tell me joke number {n} about coffee."}) + "\n")
    begun = time.perf_counter()
    plan = RunPlan.make(f"{base_url}#{contest.MODEL}", None, {"concurrency": in_flight})
    running = FileRun(BatchJob(source, folder / f"out-{prompts}.parquet", plan))
    summary = asyncio.run(running.run())
    running.close()
    return {
        "seconds": time.perf_counter() - begun,
        "requests": summary.requests,
        "responses": summary.responses,
    }


def arm(options: argparse.Namespace) -> None:
    begun = time.perf_counter()
    if options.arm == "bare":
        asyncio.run(bare(options.base_url, options.prompts, options.in_flight))
        line: dict[str, Any] = {"seconds": time.perf_counter() - begun}
    else:
        folder = Path(options.folder)
        line = ours(options.base_url, folder, options.prompts, options.in_flight)
    line["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(line))


# The contest.


@contextmanager
def server(delay: float) -> Iterator[str]:
    command = [sys.executable, str(HERE / "server.py"), "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        finally:
            process.terminate()


def count(base_url: str) -> int:
    with urllib.request.urlopen(f"{base_url.removesuffix('/v1')}/count?reset") as response:
        return int(response.read())


def ask(name: str, base_url: str, options: argparse.Namespace, prompts: int, folder: str) -> dict[str, Any]:
    """One arm, in a process of its own."""
    shared = ["--base-url", base_url, "--prompts", str(prompts), "--in-flight", str(options.in_flight)]
    if name in PEERS:
        script = PEERS[name]
        interpreter = Path(options.peers) / script / "bin" / "python"
        command = [str(interpreter), str(HERE / f"{script}.py"), *shared]
    else:
        command = [sys.executable, __file__, *shared, "--arm", name, "--folder", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    line: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    line["asked"] = count(base_url)
    return line


def rates(names: list[str], delay: float, options: argparse.Namespace) -> dict[str, float]:
    """Requests a second, the median of the rounds."""
    found: dict[str, list[float]] = {name: [] for name in names}
    with server(delay) as base_url:
        for number in range(options.rounds):
            for name in names:
                if name in PEERS and number:
                    continue  # minutes each
                with tempfile.TemporaryDirectory() as folder:
                    line = ask(name, base_url, options, options.prompts, folder)
                assert line["asked"] >= options.prompts, (name, line)
                found[name].append(options.prompts / line["seconds"])
                print(f"  {delay:g} s  {name}: {found[name][-1]:,.0f}/s", file=sys.stderr)
    return {name: statistics.median(values) for name, values in found.items()}


def growth(options: argparse.Namespace) -> dict[str, Any]:
    """Peaks of memory of the smaller and the larger run, and the time of running the larger one again."""
    with server(0.0) as base_url, tempfile.TemporaryDirectory() as folder:
        small = ask("ours", base_url, options, options.prompts, folder)
        large = ask("ours", base_url, options, options.large, folder)
        again = ask("ours", base_url, options, options.large, folder)
    return {
        "peak_mib": {str(options.prompts): round(small["peak_mib"]), str(options.large): round(large["peak_mib"])},
        "peak_ratio": round(large["peak_mib"] / small["peak_mib"], 2),
        "seconds": {"run": round(large["seconds"], 1), "resume": round(again["seconds"], 1)},
        "resume_over_run": round(again["seconds"] / large["seconds"], 3),
        "requests_of_resume": again["asked"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", help="the folder of the peers' environments")
    parser.add_argument("--large", type=int, default=0, help="also run this many prompts, 200000 say")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--arm", choices=("bare", "ours"), help="be one arm (used by the benchmark itself)")
    parser.add_argument("--base-url")
    parser.add_argument("--folder")
    options = parser.parse_args()
    if options.arm:
        arm(options)
        return
    quick = rates(["bare", "ours", *(PEERS if options.peers else ())], 0.0, options)
    slow = rates(["bare", "ours"], SLOW, options)
    report: dict[str, Any] = {
        "prompts": options.prompts,
        "in_flight": options.in_flight,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("aiohttp", "pyarrow", "jiter")},
        "requests_per_second": {name: round(value) for name, value in quick.items()},
        "over_bare_aiohttp": round(quick["ours"] / quick["bare"], 2),
        **{f"over_{name}": round(quick["ours"] / quick[name], 1) for name in PEERS if name in quick},
        "requests_per_second_at_200_ms": {name: round(value) for name, value in slow.items()},
        "over_bare_aiohttp_at_200_ms": round(slow["ours"] / slow["bare"], 2),
        "limit_at_200_ms": round(options.in_flight / SLOW),
    }
    if options.large:
        report |= growth(options)
    if options.json:
        print(json.dumps(report))
        return
    for name, value in report.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
