"""Running experiments: against a real server on loopback, the embedded model, and recorded files."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from aiohttp import web
from faults import Manner, Plan, faulty
from servers import serving

pytest.importorskip("numpy")
pytest.importorskip("polars")

from outspoken import OutspokenError, UsageError, tasks
from outspoken.cli import experiment as cli
from outspoken.experiment import analysis
from outspoken.experiment.api import ExperimentOptions, arun, run
from outspoken.experiment.cells import CellResult
from outspoken.experiment.grid import Grid
from outspoken.experiment.results import ExperimentResults
from outspoken.experiment.runner import GridRun, estimate_grid
from outspoken.experiment.spec import ExperimentSpec, load
from outspoken.ledger import Ledger
from outspoken.models.local import Local

SOUND = Plan(seed=1, share=0.0)
HERE = Path(__file__).parent
# The command alone, as a separate process.
COMMAND = "import typer; from outspoken.cli.experiment import experiment; typer.run(experiment)"


@pytest.fixture
def task(tmp_path: Path) -> str:
    path = tmp_path / "greetings.toml"
    prompts = ["用中文说你好 🎉", "قل مرحبا", "ทักทาย", 'Say "hi" {k} in braces']
    path.write_text(f"prompts = {json.dumps(prompts, ensure_ascii=False)}\nwords = 5\n", encoding="utf-8")
    return str(path)


def spec(task: str, model: str, *arms: str, **changes: Any) -> ExperimentSpec:
    arms = arms or ("direct", "sequence", "vs-standard")
    base = load("creative").changed(methods=arms, tasks=(task,), models=(model,), n=6, k=3)
    return base.changed(**changes)


def completion(text: str, tokens: int = 7) -> web.Response:
    usage = {"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return web.json_response({"model": "m", "choices": [choice], "usage": usage})


def answer_with(
    reply: Callable[[dict[str, Any]], web.Response],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        return reply(json.loads(await request.read()))

    return handle


def candidates(k: int, mark: str = "r") -> list[dict[str, Any]]:
    return [{"text": f"{mark} {at} 字", "probability": 0.5 / (at + 1)} for at in range(k)]


def by_arm(results: tuple[CellResult, ...]) -> dict[str, CellResult]:
    return {one.cell.arm.name: one for one in results}


async def test_every_cell_gets_its_responses_and_nothing_is_asked_again(tmp_path: Path, task: str) -> None:
    arms = ("direct", "direct-cot", "sequence", "multi-turn", "vs-standard", "vs-cot", "vs-multi")
    folder = tmp_path / "out"
    async with faulty(SOUND) as server:
        expanded = Grid.make(spec(task, f"{server.base_url}#m", *arms))
        with GridRun(expanded, folder) as running:
            assert running.finished_before is None
            results = await running.run()
        requests_sent = len(server.log)
        assert running.problems == []
        assert running.requests == requests_sent
        with GridRun(Grid.make(expanded.spec), folder) as again:
            assert again.finished_before == len(expanded.cells)
            repeated = await again.run()
        assert len(server.log) == requests_sent
    assert (again.requests, again.from_ledger) == (0, running.requests + running.from_ledger)
    assert [one.prompts for one in repeated] == [one.prompts for one in results]
    for one in results:
        assert [requests_sent.prompt for requests_sent in one.prompts] == [
            prompt.prompt for prompt in expanded.tasks[0].prompts
        ]
        assert {len(requests_sent.responses) for requests_sent in one.prompts} == {6}
        assert {requests_sent.failures for requests_sent in one.prompts} == {0}
    # Two arms with the same first request share its reply, and its cost counts for both.
    total = sum(one.cost().requests for one in results)
    assert total == running.requests + running.from_ledger
    costs = {name: one.cost().requests for name, one in by_arm(results).items()}
    assert costs == {
        "direct": 24,
        "direct-cot": 24,
        "sequence": 8,
        "multi-turn": 24,
        "vs-standard": 8,
        "vs-cot": 8,
        "vs-multi": 8,
    }
    with Ledger(folder / "ledger.sqlite") as ledger:
        assert sum(1 for _ in ledger.stored()) == requests_sent


async def test_it_stops_in_good_order_and_continues(tmp_path: Path, task: str) -> None:
    folder = tmp_path / "out"
    async with faulty(SOUND, Manner(delay=0.05)) as server:
        expanded = Grid.make(spec(task, f"{server.base_url}#m"), concurrency=2)
        with GridRun(expanded, folder) as running:
            work = asyncio.create_task(running.run())
            while len(server.log) < 5:
                await asyncio.sleep(0.01)
            assert running.stop("enough")
            assert await work == ()
        stopped = len(server.log)
        assert 5 <= stopped < 40
        with GridRun(Grid.make(expanded.spec, concurrency=2), folder) as again:
            assert again.finished_before == 0
            results = await again.run()
        assert again.requests == len(server.log) - stopped
        assert max(record.attempt for record in server.log if record.kind == "sound") <= 6
    assert {len(prompt.responses) for one in results for prompt in one.prompts} == {6}
    assert again.requests + stopped == 24 + 8 + 8


async def test_another_spec_is_refused_in_the_same_folder(tmp_path: Path, task: str) -> None:
    folder = tmp_path / "out"
    async with faulty(SOUND) as server:
        small = spec(task, f"{server.base_url}#m", "vs-standard")
        with GridRun(Grid.make(small), folder) as running:
            await running.run()
        larger = Grid.make(small.changed(n=9))
        with pytest.raises(UsageError, match="other n ") as caught:
            GridRun(larger, folder)
        assert "6 there, 9 here" in str(caught.value)
        assert "--overwrite" in str(caught.value)
        prompt = len(server.log)
        with GridRun(larger, folder, overwrite=True) as running:
            assert running.finished_before is None
            await running.run()
        # What the ledger holds is not asked again.
        assert (running.requests, running.from_ledger) == (4, 8)
        assert len(server.log) == prompt + 4
        Path(task).write_text('prompts = ["another"]', encoding="utf-8")
        with pytest.raises(UsageError, match="other tasks"):
            GridRun(Grid.make(larger.spec), folder)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, task: str) -> None:
    replies = tmp_path / "r.jsonl"
    replies.write_text('{"text": "x"}\n')
    expanded = Grid.make(spec(task, f"replay/{replies}", "direct"))
    with pytest.raises(UsageError, match="holds something else"):
        GridRun(expanded, tmp_path, overwrite=True)
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        GridRun(expanded, tmp_path)


async def test_a_server_that_refuses_min_p_is_asked_nothing_else(tmp_path: Path, task: str) -> None:
    def reply(body: dict[str, Any]) -> web.Response:
        if "min_p" in body:
            return web.json_response({"error": {"message": "unknown argument: min_p"}}, status=400)
        return completion("x")

    async with serving(answer_with(reply)) as server:
        base = load("min-p").changed(tasks=(task,), models=(f"{server.base_url}#m",))
        with (
            GridRun(Grid.make(base), tmp_path / "out") as running,
            pytest.raises(UsageError, match=r"refused the setting min_p .*min_p.*: leave it out"),
        ):
            await running.run()
        assert len(server.bodies) == 1


async def test_a_list_continues_until_it_has_used_the_tokens_of_the_other_arm(tmp_path: Path, task: str) -> None:
    seen = 0

    def reply(body: dict[str, Any]) -> web.Response:
        nonlocal seen
        seen += 1
        properties = body["response_format"]["json_schema"]["schema"]["properties"]["responses"]
        if "string" in str(properties["items"].get("type")):
            return completion(json.dumps({"responses": [f"{seen} {at} 表" for at in range(3)]}), 30)
        return completion(json.dumps({"responses": candidates(3, str(seen))}), 100)

    async with serving(answer_with(reply)) as server:
        base = load("placebo").changed(
            tasks=(task,), models=(f"{server.base_url}#m",), n=6, k=3, methods=("vs-standard", "sequence-tokens")
        )
        with GridRun(Grid.make(base), tmp_path / "out") as running:
            results = by_arm(await running.run())
    assert running.problems == []
    # 200 tokens for each prompt, at 10 for each item of a list.
    assert {len(prompt.responses) for prompt in results["vs-standard"].prompts} == {6}
    assert {len(prompt.responses) for prompt in results["sequence-tokens"].prompts} == {20}
    assert {
        results["vs-standard"].completion_tokens(prompt.prompt_id) for prompt in results["vs-standard"].prompts
    } == {200}
    assert {
        results["sequence-tokens"].completion_tokens(prompt.prompt_id)
        for prompt in results["sequence-tokens"].prompts
    } == {210}
    assert {prompt.failures for prompt in results["sequence-tokens"].prompts} == {0}


async def test_repeated_answers_count_as_often_as_they_appear(tmp_path: Path, task: str) -> None:
    def reply(body: dict[str, Any]) -> web.Response:
        turns = sum(message["role"] == "assistant" for message in body["messages"])
        return completion("同じ" if turns % 3 else "別の")

    async with serving(answer_with(reply)) as server:
        expanded = Grid.make(spec(task, f"{server.base_url}#m", "direct", "multi-turn"))
        with GridRun(expanded, tmp_path / "out") as running:
            results = by_arm(await running.run())
    for prompt in results["direct"].prompts:
        assert [response.text for response in prompt.responses] == ["別の"] * 6
        assert len({response.call for response in prompt.responses}) == 6
    for prompt in results["multi-turn"].prompts:
        assert sorted(response.text for response in prompt.responses) == ["別の"] * 2 + ["同じ"] * 4
    assert results["multi-turn"].cost().requests == 24


async def test_a_placebos_numbers_are_no_weights(tmp_path: Path, task: str) -> None:
    def reply(body: dict[str, Any]) -> web.Response:
        stderr = " ".join(message["content"] for message in body["messages"])
        entries = candidates(3)
        if '"number"' in stderr:
            entries = [{"text": entry["text"], "number": entry["probability"]} for entry in entries]
        return completion(json.dumps({"responses": entries}))

    async with serving(answer_with(reply)) as server:
        base = load("placebo").changed(
            tasks=(task,), models=(f"{server.base_url}#m",), n=3, k=3, methods=("vs-standard", "placebo")
        )
        with GridRun(Grid.make(base), tmp_path / "out") as running:
            results = by_arm(await running.run())
    stated = [response.stated for response in results["vs-standard"].prompts[0].responses]
    assert stated == [0.5, 0.25, pytest.approx(0.5 / 3)]
    for prompt in results["placebo"].prompts:
        assert [response.text for response in prompt.responses] == ["r 0 字", "r 1 字", "r 2 字"]
        assert [(response.stated, response.probability) for response in prompt.responses] == [(None, None)] * 3


async def test_the_cost_of_replies_without_a_candidate_is_counted(tmp_path: Path, task: str) -> None:
    def reply(body: dict[str, Any]) -> web.Response:
        turns = sum(message["role"] == "assistant" for message in body["messages"])
        return completion(json.dumps({"responses": candidates(3)}) if turns else "No, I would rather not.", 50)

    async with serving(answer_with(reply)) as server:
        expanded = Grid.make(spec(task, f"{server.base_url}#m", "vs-standard", n=3))
        with GridRun(expanded, tmp_path / "out") as running:
            (one,) = await running.run()
        assert one.cost().requests == len(server.bodies) == 8
    assert one.cost().tokens == 8 * 60
    assert one.cost().model_seconds > 0


async def test_a_failing_cell_is_kept_and_the_others_continue(tmp_path: Path, task: str) -> None:
    def reply(body: dict[str, Any]) -> web.Response:
        if "Generate" in body["messages"][-1]["content"]:
            return web.json_response({"error": {"message": "no lists today"}}, status=400)
        return completion("你好")

    async with serving(answer_with(reply)) as server:
        expanded = Grid.make(spec(task, f"{server.base_url}#m", "direct", "vs-standard"))
        with GridRun(expanded, tmp_path / "out") as running:
            results = by_arm(await running.run())
    assert [len(prompt.responses) for prompt in results["direct"].prompts] == [6] * 4
    assert [(len(prompt.responses), prompt.failures) for prompt in results["vs-standard"].prompts] == [(0, 6)] * 4
    (problem,) = running.problems
    assert problem.startswith("greetings, vs-standard, http://127.0.0.1")
    assert "no lists today" in problem


async def test_a_server_that_never_answers_ends_it_with_its_error(tmp_path: Path, task: str) -> None:
    async with serving(answer_with(lambda _: web.json_response({"error": "key"}, status=401))) as server:
        expanded = Grid.make(spec(task, f"{server.base_url}#m"))
        with GridRun(expanded, tmp_path / "out") as running, pytest.raises(Exception, match="401"):
            await running.run()
        # The other arms were not started.
        assert not any("Generate" in body["messages"][-1]["content"] for body in server.bodies)


async def test_if_every_cell_fails_the_error_says_why(tmp_path: Path, task: str) -> None:
    def reply(body: dict[str, Any]) -> web.Response:
        return completion("No, I would rather not.")

    async with serving(answer_with(reply)) as server:
        expanded = Grid.make(spec(task, f"{server.base_url}#m", "vs-standard"))
        message = r"no cell has any response; .*greetings, vs-standard"
        with GridRun(expanded, tmp_path / "out") as running, pytest.raises(OutspokenError, match=message):
            await running.run()


async def test_the_estimate_asks_and_writes_nothing(tmp_path: Path, task: str) -> None:
    async with faulty(SOUND) as server:
        expanded = Grid.make(spec(task, f"{server.base_url}#m"))
        printed = estimate_grid(expanded, tmp_path / "out")
        assert server.log == []
    assert (printed.cells, printed.requests) == (3, 24 + 8 + 8)
    assert printed.usd is None
    assert not (tmp_path / "out").exists()


def experiment(*arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    environment = {**os.environ, "NO_COLOR": "1", "NO_PROXY": "127.0.0.1", "OUTSPOKEN_API_KEY": "sk-unseen"}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=cwd, timeout=300)
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.proof(only=True)
def test_the_embedded_model_from_an_empty_folder(tmp_path: Path, smollm2: Local) -> None:
    arguments = ("dice", "-n", "4", "-k", "2", "--methods", "direct,vs-standard", "--json")
    done = experiment(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert [(group["arm"], group["prompts"]) for group in printed["groups"]] == [("direct", 1), ("vs-standard", 1)]
    assert all(group["cost"]["requests"] for group in printed["groups"])
    folder = tmp_path / "dice-experiment"
    document = json.loads((folder / "results.json").read_bytes())
    assert document["format"] == 1
    assert (document["baseline"], document["primary"], document["axis"]) == ("direct", "tv", None)
    assert document["groups"][0]["settings"]["temperature"] == 0.7
    assert set(document["distributions"][0]["reference"]) == set("123456")
    assert {compared["b"] for compared in document["comparisons"]} <= {"g1"}
    assert (folder / "report.html").stat().st_size > 10_000
    again = experiment(*arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["requests"] == 0
    assert json.loads(again.stdout)["groups"] == printed["groups"]
    other = experiment(*arguments, "--prompts", "1", "--n", "6", cwd=tmp_path)
    assert other.returncode == 2
    assert "other n" in other.stderr


def test_control_c_keeps_everything_and_the_same_command_continues(tmp_path: Path, task: str) -> None:
    log = tmp_path / "server.jsonl"
    serve = [
        sys.executable,
        str(HERE / "faults.py"),
        "--seed",
        "3",
        "--share",
        "0",
        "--port",
        "0",
        "--log",
        str(log),
    ]
    with subprocess.Popen([*serve, "--delay", "0.3"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{server.stdout.readline().strip()}/v1#m"
            arguments = (
                "creative",
                "--tasks",
                task,
                "--models",
                url,
                "--methods",
                "direct",
                "--methods",
                "sequence",
                "-n",
                "4",
            )
            arguments = (*arguments, "-k", "2", "--concurrency", "2", "--out", str(tmp_path / "out"), "--json")
            command = [sys.executable, "-c", COMMAND, *arguments]
            with subprocess.Popen(
                command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=tmp_path
            ) as process:
                until = time.monotonic() + 60
                while (not log.is_file() or log.read_bytes().count(b"\n") < 3) and time.monotonic() < until:
                    time.sleep(0.05)
                process.send_signal(signal.SIGINT)
                _, stderr = process.communicate(timeout=60)
            assert process.returncode == 130, stderr.decode()
            assert "the same command continues" in stderr.decode()
            prompt = log.read_bytes().count(b"\n")
            done = experiment(*arguments, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            assert re.search(r"continuing in \S*out: finished cells: [01] of 2", done.stderr)
            printed = json.loads(done.stdout)
            assert printed["requests"] == log.read_bytes().count(b"\n") - prompt
            assert printed["requests"] + prompt == 16 + 8
        finally:
            server.terminate()


async def test_quality_is_judged_and_a_failing_cell_is_reported(tmp_path: Path, task: str) -> None:
    def reply(body: dict[str, Any]) -> web.Response:
        if "Generate" in body["messages"][-1]["content"]:
            return web.json_response({"error": {"message": "no lists today"}}, status=400)
        return completion(f"你好 {len(body['messages'])}")

    arguments = ["creative", "--tasks", task, "--methods", "direct,vs-standard", "-n", "2", "--json"]
    text = Path(task).read_text(encoding="utf-8")
    Path(task).write_text(f'rubric = "joke"\n{text}', encoding="utf-8")
    async with serving(answer_with(reply)) as server, faulty(SOUND) as judge:
        arguments += ["--models", f"{server.base_url}#m", "--judge", f"{judge.base_url}#judge", "--out", "out"]
        done = await asyncio.to_thread(experiment, *arguments, cwd=tmp_path)
        # One verdict for each prompt: equal responses are judged once.
        assert len(judge.log) == 4
    assert done.returncode == 3, done.stderr
    printed = json.loads(done.stdout)
    direct, verbalized = printed["groups"]
    assert 0 <= direct["measures"]["quality"]["value"] <= 100
    assert printed["quality"] == "quality"
    assert (verbalized["responses"], verbalized["failures"], verbalized["method"]) == (0, 8, "vs-standard")
    assert any("no lists today" in line for line in printed["problems"])
    assert "sk-unseen" not in (tmp_path / "out" / "results.json").read_text(encoding="utf-8")


def test_recorded_responses_are_measured_and_nothing_is_asked(tmp_path: Path) -> None:
    rows = [
        {"prompt": "掷骰子", "text": str(face), "method": method, "model": "m"}
        for method, faces in (("direct", [4] * 12), ("vs-standard", [1, 2, 3, 4, 5, 6] * 2))
        for face in faces
    ]
    file = tmp_path / "responses.jsonl"
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    done = experiment("dice", "--recorded", file, "--out", "out", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    direct, verbalized = json.loads(done.stdout)["groups"]
    assert (direct["arm"], verbalized["arm"]) == ("direct", "vs-standard")
    assert verbalized["measures"]["tv"]["value"] == pytest.approx(0, abs=1e-12)
    assert direct["measures"]["tv"]["value"] == pytest.approx(5 / 6)
    assert direct["cost"] is None
    for more, message in (((), "--tasks"), (("--tasks", "jokes", "--dry-run"), "leave --dry-run out")):
        refused = experiment("creative", "--recorded", file, "--out", "other", *more, cwd=tmp_path)
        assert refused.returncode == 2
        assert message in refused.stderr


def test_recorded_prompts_that_the_task_does_not_know_are_reported(tmp_path: Path) -> None:
    questions = {f"質問 {at}": {"answers": [["赤"], ["青"]]} for at in range(7)}
    (tmp_path / "questions.json").write_text(json.dumps(questions), encoding="utf-8")
    # More prompts than the experiment asks: all recorded ones are measured.
    rows = [{"prompt": prompt, "text": text} for prompt in (*questions, "別の質問") for text in ("赤", "緑")]
    file = tmp_path / "responses.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ("coverage-qa", "--data", "questions.json", "--recorded", file, "--embedder", "none", "--out", "o")
    done = experiment(*arguments, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert any("1 of 8 recorded prompts" in line and "別の質問" in line for line in printed["warnings"])
    (group,) = printed["groups"]
    assert group["measures"]["coverage"]["value"] == pytest.approx(0.5)
    assert group["measures"]["coverage"]["units"] == 7
    assert not group["measures"].get("semantic_diversity")
    assert json.loads((tmp_path / "o" / "results.json").read_bytes())["settings"]["embedder"] == "none"


async def test_a_task_without_a_rubric_is_reported_if_others_are_judged(tmp_path: Path) -> None:
    file = tmp_path / "responses.jsonl"
    file.write_text('{"prompt": "州", "text": "Texas"}\n{"prompt": "州", "text": "Ohio"}\n', encoding="utf-8")
    subjects, _ = analysis.groups_of_recordings(tasks.load("us-states"), [file])
    judged = load("creative").changed(tasks=("jokes", "us-states"), judge=f"replay/{file}", embedder="none")
    document = await analysis.measure_groups(judged, subjects, tmp_path)
    assert any(line.startswith("us-states: there is no rubric") for line in document.warnings)
    assert document.quality is None


@pytest.mark.parametrize("recorded", [False, True], ids=["asked", "recorded"])
def test_a_second_process_is_refused_while_the_first_one_works(tmp_path: Path, recorded: bool) -> None:
    file = tmp_path / "responses.jsonl"
    file.write_text('{"prompt": "骰", "text": "4"}\n', encoding="utf-8")
    holding = (
        "from pathlib import Path\n"
        "from outspoken.experiment.api import Recordings\n"
        "from outspoken.experiment.grid import Grid\n"
        "from outspoken.experiment.runner import GridRun\n"
        "from outspoken.experiment.spec import load\n"
        f"spec, file, out = load('dice'), Path({str(file)!r}), Path({str(tmp_path / 'out')!r})\n"
        f"first = Recordings(spec, [file], out) if {recorded} else "
        "GridRun(Grid.make(spec.changed(models=(f'replay/{file}',))), out)\n"
        "print('ready', flush=True)\n"
        "input()\n"
        "first.close()\n"
    )
    arguments = ["dice", "--out", "out", "--embedder", "none", "--json"]
    arguments += ["--recorded", str(file)] if recorded else ["--models", f"replay/{file}"]
    with subprocess.Popen(
        [sys.executable, "-c", holding], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        refused = experiment(*arguments, cwd=tmp_path)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "another process is writing out" in refused.stderr
        assert "Traceback" not in refused.stderr
        first.communicate("go on\n", timeout=60)
    done = experiment(*arguments, cwd=tmp_path)
    assert "another process" not in done.stderr
    assert not list(tmp_path.glob("out/.lock*"))


def test_the_results_of_a_replaced_experiment_are_removed(tmp_path: Path) -> None:
    file = tmp_path / "responses.jsonl"
    file.write_text('{"prompt": "骰", "text": "4"}\n', encoding="utf-8")
    base = load("dice").changed(models=(f"replay/{file}",))
    with GridRun(Grid.make(base), tmp_path / "out") as running:
        for output in ("results.json", "report.html", "ledger.sqlite"):
            (running.folder.path / output).write_text("{}")
    with GridRun(Grid.make(base), tmp_path / "out", overwrite=True):
        assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == [
            ".lock",
            "ledger.sqlite",
            "prompts",
            "spec.json",
        ]


def test_the_options_of_an_experiment_have_one_list() -> None:
    options = inspect.signature(arun).parameters
    assert [name for name, option in options.items() if option.kind is option.KEYWORD_ONLY] == list(
        ExperimentOptions.__annotations__
    )
    for name in ExperimentOptions.__annotations__:
        assert f"        {name}: " in (run.__doc__ or "")


def test_an_experiment_in_python(tmp_path: Path) -> None:
    rows = [{"prompt": "掷骰子", "text": str(face), "method": "direct"} for face in (4, 4, 6)]
    file = tmp_path / "responses.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    steps = []
    spec = load("dice").changed(embedder="none")
    results = run(spec, tmp_path / "out", recorded=[file], progress=lambda step, *_: steps.append(step))
    assert results == ExperimentResults.read(tmp_path / "out")
    assert results.groups[0].measures["distinct_answers"].value == 2  # type: ignore[union-attr]
    assert steps[-1] == "drawing the report"
    assert (tmp_path / "out" / "report.html").is_file()
    with pytest.raises(UsageError, match="format 1"):
        ExperimentResults.from_dict({"format": 2})


def test_an_interrupted_measurement_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> tuple[None, bool]:
        return None, True

    file = tmp_path / "responses.jsonl"
    file.write_text('{"prompt": "骰", "text": "4"}\n', encoding="utf-8")
    monkeypatch.setattr("outspoken.cli.interrupts.run_interruptibly", interrupted)
    with pytest.raises(typer.Exit) as ended:
        cli.experiment("dice", recorded=[str(file)], out=tmp_path / "out")
    assert ended.value.exit_code == 130
    assert "interrupted" in capsys.readouterr().err
