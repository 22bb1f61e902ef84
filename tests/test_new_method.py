"""A method added from outside is used like any other: from Python, in a run, on the command line, on the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest
from serve_app import reply, scripted
from servers import answering, serving
from typer.testing import CliRunner

import outspoken
from outspoken.cli.app import app
from outspoken.errors import UnknownNameError, UsageError
from outspoken.methods import table
from outspoken.methods.steps import MethodRun
from outspoken.methods.table import METHODS, Method, Wording, register

TEXTS = ("bright", "light")
WRITTEN = json.dumps({"responses": [{"text": text, "probability": 0.4} for text in TEXTS]})


@pytest.fixture
def rhyming() -> Iterator[Method]:
    def generator(call, history=()):  # type: ignore[no-untyped-def]
        run, k = MethodRun(call), call.settings.k
        reply = yield run.request(run.opening(k), k)
        run.read(reply, k)
        return run.distribution(missing=k - run.distinct)

    yield register(
        Method(
            "rhyming",
            "k rhymes",
            states_probabilities=True,
            generator=generator,
            wording=Wording("candidates", "Generate {k} rhymes as JSON, with probabilities: {input_prompt}"),
        )
    )
    table._methods.pop("rhyming", None)


async def test_from_python_and_in_a_run(rhyming: Method) -> None:
    async with serving(answering(reply(WRITTEN))) as upstream:
        model = f"{upstream.base_url}#m"
        found = await outspoken.averbalize("night", model=model, method=rhyming, k=2)
        several = [
            each async for each in outspoken.arun(["night", "fight"], model=model, method=rhyming, k=2, n=2)
        ]
    assert sorted(candidate.text for candidate in found) == sorted(TEXTS)
    assert found.provenance.method == "rhyming"
    assert [len(each) for each in several] == [2, 2]
    assert upstream.bodies[0]["messages"][-1]["content"] == "Generate 2 rhymes as JSON, with probabilities: night"


async def test_on_the_command_line(rhyming: Method) -> None:
    async with serving(answering(reply(WRITTEN))) as upstream:
        command = ["ask", "night", "--method", "rhyming", "-k", "2", "--tau", "0.5", "--json"]
        result = await asyncio.to_thread(CliRunner().invoke, app, [*command, "--model", f"{upstream.base_url}#m"])
        listed = await asyncio.to_thread(CliRunner().invoke, app, ["methods"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["method"] == "rhyming"
    assert "rhyming      k rhymes" in listed.stdout


async def test_on_the_server(rhyming: Method) -> None:
    pytest.importorskip("starlette")
    async with scripted() as (running, upstream, _):
        texts = await running.texts(model="m", n=2, outspoken={"method": "rhyming", "k": 2})
        status, document = await running.get("/openapi.json")
    assert len(set(texts)) == 2
    assert upstream.bodies[-1]["messages"][-1]["content"].startswith("Generate 2 rhymes")
    assert status == 200
    assert "rhyming" in json.dumps(document)


def test_an_installed_package_brings_a_method(rhyming: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    del table._methods["rhyming"]
    with pytest.raises(UnknownNameError, match="rhyming"):
        table.find("rhyming")
    monkeypatch.setattr(EntryPoint, "load", lambda self: rhyming)
    monkeypatch.setattr(table, "entry_points", lambda group: [EntryPoint("rhyming", "mine:METHOD", group)])
    assert outspoken.Settings(method="rhyming").method == "rhyming"


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (Method("vs-standard", "taken", wording=Wording("text", "{input_prompt}")), "already"),
        (Method("No Name", "malformed", wording=Wording("text", "{input_prompt}")), "lower-case"),
        (Method("unworded", "no wording"), "has no wording"),
        (Method("deaf", "no prompt", wording=Wording("text", "Say something.")), "{input_prompt}"),
    ],
)
def test_invalid_methods_are_refused(method: Method, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        register(method)
    assert METHODS.get(method.name) is not method


def test_a_method_that_was_not_registered_is_refused() -> None:
    method = Method("unregistered", "nowhere", wording=Wording("text", "{input_prompt}"))
    with pytest.raises(UnknownNameError, match="unregistered"):
        outspoken.Settings(method=method)  # type: ignore[arg-type]
