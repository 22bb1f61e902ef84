"""Clients of the OpenAI protocol as they are, against `outspoken serve` with the embedded model and before a real
llama.cpp server: only the base URL and the model's name are theirs to change."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from serve_process import Process, llama_cpp, outspoken_serve, scripted

from outspoken.models.local import Local
from outspoken.serve.keys import hash_key, new_key

for package in ("xllamacpp", "starlette", "uvicorn", "httptools", "prometheus_client"):
    pytest.importorskip(package)
openai = pytest.importorskip("openai")

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"  # a name with a slash, as llama.cpp serves it
# At temperature 0 the tiny model names five. Each test uses another limit of tokens, and so a pool of its own.
DRAWS = [{"role": "user", "content": "Name a country. 国 🌍"}]
SETTINGS = ("-k", "5", "--temperature", "0")
PLAIN = [{"role": "user", "content": "Say hello."}]
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@dataclass(frozen=True)
class Served:
    """`outspoken serve`, its model's name, and the upstream's base URL if it has one."""

    base_url: str
    model: str
    upstream: str | None

    @property
    def vs(self) -> str:
        return f"{self.model}:vs"

    def asking(self, tokens: int, **fields: Any) -> dict[str, Any]:
        """A request for a draw from the pool of this many tokens."""
        return {"model": self.vs, "messages": DRAWS, "max_tokens": tokens, **fields}


@pytest.fixture(scope="module", autouse=True)
def _no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        yield


@pytest.fixture(scope="module")
def weights(smollm2: Local) -> Path:
    """The embedded model's file, downloaded if needed."""
    asyncio.run(smollm2.digest())
    return smollm2._file()


@pytest.fixture(scope="module")
def llama(weights: Path) -> Iterator[Process]:
    with llama_cpp(weights, NAME) as process:
        yield process


@pytest.fixture(scope="module")
def embedded(weights: Path) -> Iterator[Served]:
    with outspoken_serve("--model", "local/smollm2", *SETTINGS) as process:
        yield Served(process.base_url, "smollm2", None)


@pytest.fixture(scope="module")
def before_llama(llama: Process) -> Iterator[Served]:
    with outspoken_serve("--upstream", llama.base_url, *SETTINGS) as process:
        yield Served(process.base_url, NAME, llama.base_url)


@pytest.fixture(params=["embedded", "before_llama"])
def served(request: pytest.FixtureRequest) -> Served:
    found: Served = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def client(served: Served) -> Iterator[Any]:
    with openai.OpenAI(base_url=served.base_url, api_key="unused", max_retries=0) as made:
        yield made


def are_draws(choices: list[tuple[str, dict[str, Any]]]) -> None:
    """Texts and extra fields of draws of one pool, all of them new."""
    assert len({text for text, _ in choices}) == len(choices) > 1
    assert all(text.strip() for text, _ in choices)
    for _, about in choices:
        assert set(about) == {"probability", "distribution", "draw"}
        assert 0 < about["probability"] <= 1
        assert about["distribution"].startswith("dist-")
    assert len({about["draw"] for _, about in choices}) == len(choices)


# openai for Python


def test_openai_draws(served: Served, client: Any) -> None:
    create = client.chat.completions.create
    completions = [create(**served.asking(20)), create(**served.asking(20, n=2, user="someone"))]
    choices = [choice for completion in completions for choice in completion.choices]
    are_draws([(choice.message.content, choice.model_extra["outspoken"]) for choice in choices])
    assert [choice.index for choice in completions[1].choices] == [0, 1]
    assert {completion.model for completion in completions} == {served.vs}
    assert completions[0].usage.completion_tokens > 0 == completions[1].usage.completion_tokens


def test_openai_streams_draws(served: Served, client: Any) -> None:
    texts, about = {0: "", 1: ""}, {}
    asked = served.asking(21, n=2, stream=True, stream_options={"include_usage": True})
    for chunk in client.chat.completions.create(**asked):
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            if extra := choice.model_extra.get("outspoken"):
                about[choice.index] = extra
        last = chunk
    are_draws([(texts[index], about[index]) for index in (0, 1)])
    assert last.choices == []
    assert last.usage.completion_tokens > 0


def test_openai_seeds_and_stops(served: Served, client: Any) -> None:
    """The same seed gives the same draw, streamed or not, cut at a stop or not."""
    asked = served.asking(20, seed=7)
    whole, again = (client.chat.completions.create(**asked).choices[0] for _ in range(2))
    assert whole.message.content == again.message.content
    assert whole.model_extra["outspoken"] == again.model_extra["outspoken"]
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion().choices[0]
    assert (streamed.message.content, streamed.finish_reason) == (whole.message.content, "stop")
    assert streamed.model_extra["outspoken"] == whole.model_extra["outspoken"]
    stop = whole.message.content[2]
    cut = client.chat.completions.create(**asked, stop=[stop, "never there"]).choices[0]
    assert cut.message.content == whole.message.content[: whole.message.content.index(stop)]
    assert cut.finish_reason == "stop"


async def test_async_openai(served: Served) -> None:
    """Simultaneous requests draw from one distribution, for which the model is asked once."""
    async with openai.AsyncOpenAI(base_url=served.base_url, api_key="unused", max_retries=0) as client:
        create = client.chat.completions.create
        completions = await asyncio.gather(*(create(**served.asking(22)) for _ in range(3)))
        choices = [completion.choices[0] for completion in completions]
        are_draws([(choice.message.content, choice.model_extra["outspoken"]) for choice in choices])
        assert len({choice.model_extra["outspoken"]["distribution"] for choice in choices}) == 1
        text = ""
        async for chunk in await create(model=served.model, messages=PLAIN, stream=True, max_tokens=8):
            text += chunk.choices[0].delta.content or "" if chunk.choices else ""
        assert text


def test_openai_plain(served: Served, client: Any) -> None:
    """A name without a suffix is the model itself."""
    asked = {"model": served.model, "messages": PLAIN, "max_tokens": 8, "temperature": 0, "seed": 1}
    completion = client.chat.completions.create(**asked, n=1 if served.upstream else 2)
    assert all("outspoken" not in choice.model_extra for choice in completion.choices)
    assert {choice.finish_reason for choice in completion.choices} <= {"length", "stop"}
    assert 0 < completion.usage.completion_tokens <= 8 * len(completion.choices)
    chunks = list(client.chat.completions.create(**asked, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed == completion.choices[0].message.content


def test_openai_models(served: Served, client: Any) -> None:
    names = [model.id for model in client.models.list()]
    assert names == [served.model + suffix for suffix in ("", ":vs", ":vs-cot", ":vs-multi")]
    assert [client.models.retrieve(name).id for name in names] == names
    with pytest.raises(openai.NotFoundError, match="there is no model 'nothing'"):
        client.models.retrieve("nothing")


def test_openai_raw_responses(served: Served, client: Any) -> None:
    """The field `outspoken` does what the suffix does."""
    own = {"outspoken": {"method": "vs-standard", "k": 5, "tau": None}}
    asked = served.asking(20, model=served.model, seed=3, extra_body=own)
    raw = client.chat.completions.with_raw_response.create(**asked)
    assert (raw.status_code, raw.headers["content-type"]) == (200, "application/json")
    sent = json.loads(raw.content)["choices"][0]
    assert raw.parse().choices[0].model_extra["outspoken"] == sent["outspoken"]
    assert client.chat.completions.create(**served.asking(20, seed=3)).choices[0].model_extra == {
        "outspoken": sent["outspoken"]
    }


def test_openai_errors(served: Served, client: Any) -> None:
    create = client.chat.completions.create
    for fields, param in (
        ({"extra_body": {"outspoken": {"k": 0}}}, "outspoken.k"),
        ({"extra_body": {"outspoken": {"k": 10_000}}}, "outspoken.k"),
        ({"logprobs": True}, "logprobs"),
        ({"tools": TOOLS}, "tools"),
        ({"n": 100_000}, "n"),
        ({"n": 0, "stream": True}, "n"),
        ({"messages": []}, "messages"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            create(**served.asking(20, **fields))
        assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    with pytest.raises(openai.APIStatusError) as caught:
        create(**served.asking(20, messages=[{"role": "user", "content": "a" * 20_000_000}]))
    assert (caught.value.status_code, caught.value.code) == (413, "body_too_large")
    if served.upstream is None:
        with pytest.raises(openai.NotFoundError, match="there is no model 'nothing'"):
            create(model="nothing:vs", messages=DRAWS)


def test_openai_keys_and_limits(tmp_path: Path) -> None:
    key = new_key()
    (tmp_path / "keys.txt").write_text(f"alice:{hash_key(key)}\n")
    options = ("--keys", str(tmp_path / "keys.txt"), "--per-minute", "12")
    with (
        scripted() as upstream,
        outspoken_serve("--model", f"{upstream.base_url}#m", *options) as process,
        openai.OpenAI(base_url=process.base_url, api_key=key, max_retries=0) as client,
    ):
        with pytest.raises(openai.AuthenticationError) as refused:
            client.with_options(api_key="sk-wrong").models.list()
        assert refused.value.code == "invalid_api_key"
        assert client.models.list().data
        assert client.chat.completions.create(model="m:vs", messages=DRAWS).choices
        with pytest.raises(openai.RateLimitError) as limited:
            client.models.list()
        assert 0 < int(limited.value.response.headers["retry-after"]) <= 60
        assert key not in str(limited.value)


# Requests that are forwarded


def test_llama_cpp_is_forwarded_to(before_llama: Served) -> None:
    """Responses have all fields of llama.cpp, its own ones too: timings, probabilities of tokens, tools."""
    for fields in ({}, {"logprobs": True, "top_logprobs": 2}, {"tools": TOOLS}, {"grammar": 'root ::= "yes"'}):
        body = {"model": NAME, "messages": PLAIN, "max_tokens": 6, "temperature": 0, "seed": 1, **fields}
        replies = [
            _post(f"{base}/chat/completions", body) for base in (before_llama.upstream, before_llama.base_url)
        ]
        assert "predicted_per_second" in replies[1]["timings"]
        assert [shape(each) for each in replies] == [shape(replies[0])] * 2
        assert replies[1]["choices"] == replies[0]["choices"]
    for path in ("embeddings", "completions"):
        body = {"model": NAME, "input": "a", "prompt": "The sea", "max_tokens": 3, "temperature": 0}
        replies = [_post(f"{base}/{path}", body) for base in (before_llama.upstream, before_llama.base_url)]
        assert shape(replies[0]) == shape(replies[1])
        assert ("error" in replies[0]) == (path == "embeddings")  # it embeds nothing, and reports that itself


def shape(value: Any) -> Any:
    """The names in a JSON value, in their order."""
    if isinstance(value, dict):
        return [(name, shape(part)) for name, part in value.items()]
    return [shape(part) for part in value] if isinstance(value, list) else type(value)


def _post(url: str | None, body: Any) -> Any:
    asked = urllib.request.Request(str(url), json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return json.load(error)


# curl


def test_curl(served: Served, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is absent")

    def curl(body: str, *options: str) -> tuple[str, str]:
        """The status and the body."""
        command = ["curl", "-sS", "-w", "\n%{http_code}", "-H", "Content-Type: application/json", *options]
        ran = subprocess.run(
            [*command, f"{served.base_url}/chat/completions", "-d", body],
            capture_output=True,
            text=True,
            check=True,
        )
        response, _, status = ran.stdout.rpartition("\n")
        return status, response

    asked = served.asking(20, seed=5)
    status, response = curl(json.dumps(asked))
    choice = json.loads(response)["choices"][0]
    assert (status, choice["outspoken"]["probability"] > 0) == ("200", True)
    status, response = curl(json.dumps({**asked, "stream": True}), "-N")
    *chunks, done = [line.removeprefix("data: ") for line in response.splitlines() if line]
    assert (status, done) == ("200", "[DONE]")
    deltas = [json.loads(chunk)["choices"][0]["delta"] for chunk in chunks]
    assert "".join(delta.get("content", "") for delta in deltas) == choice["message"]["content"]
    status, response = curl('{"model": "' + served.vs + '", ')
    assert (status, json.loads(response)["error"]["code"]) == ("400", "invalid_json")
    (tmp_path / "large.json").write_text(json.dumps({**asked, "unknown": "a" * 20_000_000}))
    status, response = curl(f"@{tmp_path / 'large.json'}")
    assert (status, json.loads(response)["error"]["code"]) == ("413", "body_too_large")


# openai for JavaScript

SCRIPT = """
import OpenAI from "openai";
const [baseURL, model, messages] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "unused", maxRetries: 0 });
const asked = { model: model + ":vs", messages: JSON.parse(messages), max_tokens: 23 };
const report = { names: [], draws: [], streamed: "", errors: [] };
for await (const each of client.models.list()) report.names.push(each.id);
report.names.push((await client.models.retrieve(model + ":vs")).id);
for (let i = 0; i < 2; i++) {
  const { choices } = await client.chat.completions.create(asked);
  report.draws.push([choices[0].message.content, choices[0].outspoken]);
}
const seeded = { ...asked, max_tokens: 20, seed: 13, n: 1 };
report.seeded = (await client.chat.completions.create(seeded)).choices[0].message.content;
for await (const chunk of await client.chat.completions.create({ ...seeded, stream: true }))
  report.streamed += chunk.choices[0]?.delta?.content ?? "";
const gathered = await client.chat.completions.stream(seeded).finalChatCompletion();
report.gathered = gathered.choices[0].message.content;
const plain = { ...asked, model, max_tokens: 5 };
report.plain = (await client.chat.completions.create(plain)).choices[0].message.content;
for (const wrong of [{ n: 0 }, { logprobs: true }, { outspoken: { k: 0 } }, { messages: [] }]) {
  try { await client.chat.completions.create({ ...asked, ...wrong }); report.errors.push(null); }
  catch (error) { report.errors.push([error instanceof OpenAI.BadRequestError, error.status, error.param]); }
}
try { await client.models.retrieve("nothing"); }
catch (error) { report.errors.push([error instanceof OpenAI.NotFoundError, error.status, error.code]); }
console.log(JSON.stringify(report));
"""


def test_openai_for_javascript(served: Served, node_modules: Path, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(node_modules)
    (tmp_path / "client.mjs").write_text(SCRIPT, "utf-8")
    ran = subprocess.run(
        ["node", "client.mjs", served.base_url, served.model, json.dumps(DRAWS)],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    assert report["names"] == [served.model + end for end in ("", ":vs", ":vs-cot", ":vs-multi", ":vs")]
    are_draws([(text, about) for text, about in report["draws"]])
    assert report["streamed"] == report["gathered"] == report["seeded"] != ""
    assert report["plain"]
    assert report["errors"] == [
        *([True, 400, param] for param in ("n", "logprobs", "outspoken.k", "messages")),
        [True, 404, "model_not_found"],
    ]


# langchain-openai


def test_langchain(served: Served) -> None:
    langchain = pytest.importorskip("langchain_openai")
    with openai.DefaultHttpxClient() as http:  # it would not close a client of its own
        chat = langchain.ChatOpenAI(
            model=served.vs,
            base_url=served.base_url,
            api_key="unused",
            max_retries=0,
            max_tokens=24,
            http_client=http,
        )
        prompt = DRAWS[0]["content"]
        texts = [answer.content for answer in chat.batch([prompt, [("human", prompt)]])]
        assert len(set(texts)) == 2
        seeded = chat.bind(seed=17)
        answer = seeded.invoke(prompt)
        assert "".join(chunk.content for chunk in seeded.stream(prompt)) == answer.content
        assert (
            seeded.invoke(prompt, stop=[answer.content[-1]]).content == answer.content.split(answer.content[-1])[0]
        )
        assert (answer.response_metadata["model_name"], answer.response_metadata["finish_reason"]) == (
            served.vs,
            "stop",
        )
        with pytest.raises(openai.BadRequestError, match="calls no tools"):
            chat.bind_tools(TOOLS).invoke(prompt)
