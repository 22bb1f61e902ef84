"""The server against its own OpenAPI document (schemathesis), and against bad input by hand, over real HTTP.

For any input the status is right, the error has OpenAI's form and says what to do, and nothing leaks.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from proofs import PROOFS, repetitions
from serve_process import Process, outspoken_serve, scripted

from outspoken.serve.keys import hash_key, new_key
from outspoken.serve.openai.chat_request import may_verbalize

for package in ("starlette", "uvicorn", "httptools", "prometheus_client"):
    pytest.importorskip(package)

SECRET = "sk-upstream-4711-never-sent"
MESSAGES = [{"role": "user", "content": "Name a colour. 颜色 🎨"}]
CHAT = "/v1/chat/completions"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Process]:
    with scripted() as process:
        yield process


@pytest.fixture(scope="module", params=["--model", "--upstream"])
def served(request: pytest.FixtureRequest, upstream: Process) -> Iterator[Process]:
    """The server with its one model named faulty, or with an upstream that has it."""
    named = f"{upstream.base_url}#faulty" if request.param == "--model" else upstream.base_url
    limits = ("--client-timeout", "1", "--timeout", "20", "-k", "5")
    with outspoken_serve(request.param, named, *limits, env={"OUTSPOKEN_API_KEY": SECRET}) as process:
        yield process
    assert "a fault in the server itself" not in process.stderr, process.stderr
    assert SECRET not in process.stderr
    assert "colour" not in process.stderr  # prompts are not logged


@pytest.fixture
def passes_on(request: pytest.FixtureRequest) -> bool:
    """Whether `served` has an upstream."""
    return bool(request.node.callspec.params["served"] == "--upstream")


@pytest.fixture(scope="module")
def one_model(upstream: Process) -> Iterator[Process]:
    with outspoken_serve("--model", f"{upstream.base_url}#smollm2", "--client-timeout", "5") as process:
        yield process
    assert "a fault in the server itself" not in process.stderr, process.stderr


@pytest.fixture(scope="module")
def before_upstream(upstream: Process) -> Iterator[Process]:
    with outspoken_serve("--upstream", upstream.base_url, "--client-timeout", "5") as process:
        yield process
    assert "a fault in the server itself" not in process.stderr, process.stderr


# The server's own document


def schemathesis(served: Process, folder: Path, checks: str, **options: str) -> int:
    """The number of requests, sent to every address of the document, without a failure."""
    pytest.importorskip("schemathesis")
    options = {"seed": "1", "checks": checks, "request-timeout": "10", "warnings": "off", **options}
    ran = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "schemathesis.cli", "run", f"{served.origin}/openapi.json"),
            *(word for name, value in options.items() for word in (f"--{name}", value)),
            *("--continue-on-failure", "--no-color"),
        ],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    selected = re.search(r"Operations: +(\d+) selected / (\d+) total", ran.stdout)
    assert selected is not None, ran.stdout
    assert selected[1] == selected[2] != "0"
    cases = re.search(r"(\d+) generated, (\d+) passed", ran.stdout)
    assert cases is not None, ran.stdout
    return int(cases[1])


_ALWAYS = "not_a_server_error,status_code_conformance,content_type_conformance"
_OF_OUR_OWN = (
    "response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance,"
    "missing_required_header,ensure_resource_availability"
)


@pytest.mark.proof
def test_schemathesis_with_one_model(one_model: Process, tmp_path: Path) -> None:
    checks = f"{_ALWAYS},{_OF_OUR_OWN}"
    examples = str(repetitions(15, 6))
    made = schemathesis(one_model, tmp_path, checks, phases="coverage,fuzzing", **{"max-examples": examples})
    assert made > (300 if PROOFS else 200)


def test_schemathesis_with_an_upstream(before_upstream: Process, tmp_path: Path) -> None:
    """The upstream decides on requests for models without a suffix, so fewer checks apply."""
    assert schemathesis(before_upstream, tmp_path, _ALWAYS, phases="examples,coverage,stateful") > 300


# By hand


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def error(self) -> dict[str, Any]:
        """The error in OpenAI's form, which leaks nothing."""
        assert self.headers["content-type"] == "application/json", self
        body = json.loads(self.body)
        assert set(body) == {"error"}
        error: dict[str, Any] = body["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["type"], str)
        assert all(error[name] is None or isinstance(error[name], str) for name in ("param", "code"))
        message = error["message"]
        assert 10 < len(message) < 600
        for leak in (
            SECRET,
            "Traceback",
            "site-packages",
            "outspoken/",
            str(Path.home()),
            str(Path.cwd()),
            "127.0.0.1:",
        ):
            assert leak not in message
        return error


def request(
    path: str = CHAT,
    body: Any = b"",
    *headers: str,
    method: str = "POST",
    host: str = "127.0.0.1",
    length: int | None = None,
) -> bytes:
    """The bytes of a request; a body of another type is written as JSON."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close", *headers]
    if body or length is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def ask(served: Process, *pieces: bytes, seconds: float = 20) -> Answer:
    """The response to raw bytes."""
    host, port = served.origin.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=seconds) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
        except ConnectionError:
            pass  # the server responded and closed the connection before everything was sent
        response = http.client.HTTPResponse(connection, method=pieces[0].split(b" ")[0].decode("latin-1"))
        response.begin()
        return Answer(response.status, response.headers, response.read())


def draw(**fields: Any) -> dict[str, Any]:
    return {"model": "faulty:vs", "messages": MESSAGES, **fields}


def said(*contents: Any, role: str = "user") -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for content in contents]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
BAD: dict[str, list[Any]] = {
    "messages": [
        *(None, 1, "text", {}, [], [1], [None], [[]], [{}], [{"role": "user"}], [{"role": 1, "content": "a"}]),
        *(said(content) for content in (1, None, "", " \n", [], [1], [IMAGE], {"text": "a"})),
        *(said("a", role=role) for role in ("tool", "function", "assistant", "system", "nobody")),
    ],
    "n": [0, -1, 1.5, "1", True, [], {}, 129, 100_000, 10**30],
    "seed": [1.5, "1", True, [], 10**30],
    "temperature": ["1", [], True, -1, 1e9],
    "top_p": [0, 2, -1, "a", []],
    "max_tokens": [0, -1, 1.5, "a", True, 10**12],
    "stop": [[""], [1], 1, {}, ["a"] * 17, "x" * 2000],
    "stream": [1, "true", [], {}],
    "stream_options": [1, [], "a", {"include_usage": 1}, {"include_usage": True}],
    "logprobs": [True, 1, "a"],
    "top_logprobs": [3],
    "tools": [1, {}, [{"type": "function", "function": {"name": "f"}}]],
    "tool_choice": ["required", 1],
    "response_format": [1, {"type": "json_object"}],
    "modalities": [["audio"], 1],
    "outspoken": [
        *(1, [], "a", {"k": 0}, {"k": 10_000}, {"k": -1}, {"k": 1.5}, {"k": "5"}, {"k": True}, {"k": []}),
        *({"tau": tau} for tau in (0, 1, 2, -1, "a", [])),
        *({"method": method} for method in ("nothing", 1, "direct", [])),
        *({"template": template} for template in ("/etc/passwd", "../standard", "nothing", 1, "standard\0")),
        *({"turns": 0}, {"turns": 10**9}, {"words": -1}, {"words": 10**9}, {"fresh": 1}, {"structured": "a"}),
        *({"recycle": 0}, {"unknown": 1}, {"": 1}, {"\0": 1}),
    ],
}


@pytest.mark.parametrize("field", BAD)
def test_fields_of_wrong_types_and_values(served: Process, field: str) -> None:
    for value in BAD[field]:
        for path in (CHAT, "/v1/distributions"):
            answer = ask(served, request(path, draw(**{field: value})))
            assert answer.status == 400, (value, answer)
            assert str(answer.error()["param"]).startswith(field), (value, answer)


def test_models_that_do_not_exist(served: Process) -> None:
    for model in ("", None, 1, [], {}, "x" * 600):
        answer = ask(served, request("/v1/distributions", draw(model=model)))
        assert (answer.status, answer.error()["param"]) == (400, "model")
    for path in ("/v1/models/nothing", "/v1/models/..", "/v1/models/%2e%2e/x", "/v1/models/", "/v1/models/%ff%00"):
        answer = ask(served, request(path, method="GET"))
        assert (answer.status, answer.error()["code"]) == (404, "model_not_found"), path


@pytest.mark.parametrize(
    "body",
    [
        *(b'{"model": "faulty:vs", ', b"{", b"\xff\xfe{}", b'{"a": NaN}', b"[" * 10_000, b"{'a': 1}", b"\0"),
        *(b"null", b"[]", b"1", b'"text"', b"true", b"[" * 10_000 + b"]" * 10_000),
        b'{"model":"faulty:vs","messages":' + b'[{"role":' * 10_000 + b"1" + b"}]" * 10_000 + b"}",
        b'{"model":"faulty:vs","n":' + b"9" * 5000 + b"}",
        json.dumps(draw(messages=said("half a pair \ud83d"))).encode(),
        json.dumps({**draw(), "\udc00": 1}).encode(),
    ],
)
def test_broken_json(served: Process, passes_on: bool, body: bytes) -> None:
    for path in (CHAT, "/v1/distributions", "/v1/measures"):
        if path == CHAT and passes_on and not may_verbalize(body):
            continue  # decided by the upstream
        answer = ask(served, request(path, body))
        assert (answer.status, "JSON" in answer.error()["message"]) == (400, True)


def test_unusual_requests_that_are_valid(served: Process) -> None:
    """Unknown fields, NUL in texts, ends of ranges, a body in chunks."""
    odd: list[dict[str, Any]] = [
        {"unknown": {"a": [1]}, "user": "me", "logit_bias": {"1": 1}},
        {"messages": said("NUL \0 and 🏳️‍🌈 \u202e right to left")},
        {"n": 128},
        {"seed": -(2**63), "temperature": 0, "top_p": 1, "max_tokens": 1, "stop": []},
        {
            "outspoken": {"k": 100, "tau": 1e-9},
            "logprobs": False,
            "tools": [],
            "response_format": {"type": "text"},
        },
        {"messages": said("a " * 200_000)},
    ]
    for fields in odd:
        answer = ask(served, request(CHAT, draw(**fields)))
        assert answer.status == 200, (list(fields), answer.body[:500])
        choices = json.loads(answer.body)["choices"]
        assert len(choices) == fields.get("n", 1)
        assert all(0 < choice["outspoken"]["probability"] <= 1 for choice in choices)
    whole = json.dumps(draw()).encode()
    parts = [b"%x\r\n%s\r\n" % (len(part), part) for part in (whole[:7], whole[7:])]
    assert ask(served, request(CHAT, b"", "Transfer-Encoding: chunked"), *parts, b"0\r\n\r\n").status == 200
    waiting = request(CHAT, b"", "Expect: 100-continue", length=len(whole))
    assert ask(served, waiting, whole).status == 200


def test_bodies_that_are_too_large(served: Process) -> None:
    large = json.dumps(draw(messages=said("a" * 20_000_000))).encode()
    chunks = [b"f4240\r\n" + b"a" * 1_000_000 + b"\r\n"] * 20
    for pieces in (
        [request(CHAT, large)],
        [request(CHAT, b"{", length=len(large))],
        [request(CHAT, b"", "Expect: 100-continue", length=len(large))],
        [request(CHAT, b"", "Transfer-Encoding: chunked"), *chunks, b"0\r\n\r\n"],
    ):
        answer = ask(served, *pieces)
        assert (answer.status, answer.error()["code"]) == (413, "body_too_large")
        assert "10 MB" in answer.error()["message"]


def test_clients_that_stall(served: Process) -> None:
    for pieces in (
        [request(CHAT, b"", "Transfer-Encoding: chunked"), b'5\r\n{"mod\r\n'],
        [request(CHAT, b'{"model"', length=500)],
    ):
        began = time.monotonic()
        answer = ask(served, *pieces)
        assert (answer.status, "1 s" in answer.error()["message"]) == (408, True)
        assert time.monotonic() - began < 5
    with pytest.raises(ConnectionError):  # there is no response to an incomplete head
        ask(served, b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127")


def test_clients_that_leave(served: Process) -> None:
    host, port = served.origin.removeprefix("http://").split(":")
    for number in range(40):
        fields = {"stream": number % 2 == 0, "unknown": number, "outspoken": {"fresh": number % 3 == 0}}
        whole = request(CHAT if number % 4 else "/v1/distributions", draw(**fields))
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(whole if number % 5 else whole[:-9])
    deadline = time.monotonic() + 10
    running = b"outspoken_requests_running 1.0\n"  # this request itself
    while running not in ask(served, request("/metrics", method="GET")).body:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ask(served, request(CHAT, draw())).status == 200


FOREIGN = "https://evil.example"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (request(CHAT, draw(), host="evil.example"), "forbidden_host"),
        (request(CHAT, draw(), host="localhost.evil.example:8000"), "forbidden_host"),
        (request(CHAT, draw(), host=""), "forbidden_host"),
        (request(CHAT, draw(), host="evil.example@127.0.0.1"), "forbidden_host"),
        (request("/", method="GET", host="evil.example"), "forbidden_host"),
        (b"GET /v1/models HTTP/1.0\r\n\r\n", "forbidden_host"),
        (request(CHAT, draw(), f"Origin: {FOREIGN}"), "forbidden_origin"),
        (request(CHAT, draw(), "Origin: null"), "forbidden_origin"),
        (request(CHAT, draw(), "Origin: http://127.0.0.1:1"), "forbidden_origin"),
        (
            request(CHAT, b"", f"Origin: {FOREIGN}", "Access-Control-Request-Method: POST", method="OPTIONS"),
            "forbidden_origin",
        ),
    ],
)
def test_pages_of_other_origins_are_rejected(served: Process, asked: bytes, code: str) -> None:
    answer = ask(served, asked)
    assert (answer.status, answer.error()["code"]) == (403, code)
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_a_repeated_host_is_rejected(served: Process) -> None:
    answer = ask(served, request(CHAT, draw(), "Host: 127.0.0.1", host="evil.example"))
    assert (answer.status, "twice" in answer.error()["message"]) == (400, True)


def test_wrong_methods_and_addresses(served: Process) -> None:
    for path in ("/", "/healthz", "/metrics", "/openapi.json"):
        answer = ask(served, request(path, method="DELETE"))
        assert (answer.status, path in answer.error()["message"]) == (405, True)
        assert ask(served, request(path, method="HEAD")).body == b""
    for path in (
        *(
            "/nothing",
            "/docs",
            "/v1",
            "//v1/models",
            "/site/../../etc/passwd",
            "/site/%2e%2e/%2e%2e/keys.py",
            "/%",
        ),
        *("/site/..%2f..%2fkeys.py", "/reports/..%2fx", "/v1/../metrics", "/v1/%2e%2e/metrics"),
        *("/v1/%2e%2e%2fmetrics", "/v1/distributions/%00", "/v1/distributions/" + "a" * 5000),
        *("/v1/distributions/..%2f..", "/" + "a/" * 5000),
    ):
        answer = ask(served, request(path, method="GET"))
        assert (answer.status, bool(answer.error())) == (404, True), path


def test_wrong_methods_of_our_own_addresses(one_model: Process) -> None:
    for path, method, takes in (
        (CHAT, "GET", "POST"),
        (CHAT, "HEAD", "POST"),
        ("/v1/measures", "PUT", "POST"),
        ("/v1/models", "DELETE", "GET"),
        ("/v1/models/smollm2", "PATCH", "GET"),
    ):
        answer = ask(one_model, request(path, method=method))
        assert answer.status == 405, (path, method)
        assert set(answer.headers["allow"].split(", ")) - {"HEAD"} == {takes}
        assert method == "HEAD" or path in answer.error()["message"]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"],
        [b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nno header\r\n\r\n"],
        [request("/v1/models", method="NONSENSE")],
        [request(CHAT, b"", "Content-Length: -5")],
        [request(CHAT, b"{}", "Content-Length: 5", length=6)],
        [request(CHAT, b"", "Transfer-Encoding: chunked"), b"zz\r\nabc\r\n"],
        [request("/" + "a" * 70_000, method="GET")],
    ],
)
def test_input_that_is_not_http(served: Process, pieces: list[bytes]) -> None:
    answer = ask(served, *pieces)
    assert answer.status in (400, 414)
    assert "HTTP" in answer.error()["message"]


def test_heads_without_end(served: Process) -> None:
    """The size of a head is limited like that of a body."""
    assert ask(served, request("/v1/models", b"", "X-A: " + "a" * 8_000, method="GET")).status == 200
    for headers in (["X-A: " + "a" * 3_000_000], [f"X-{number}: 1" for number in range(100_000)]):
        answer = ask(served, request("/v1/models", b"", *headers, method="GET"))
        assert (answer.status, bool(answer.error())) == (431, True)


def test_a_connection_stays_usable_after_errors(served: Process) -> None:
    """A body that was not read is not mistaken for the next request."""
    connection = http.client.HTTPConnection(served.origin.removeprefix("http://"), timeout=20)
    with contextlib.closing(connection):
        for path, body, headers, status in (
            (CHAT, draw(messages=said("GET / HTTP/1.1\r\n\r\n" * 20_000)), {"Origin": FOREIGN}, 403),
            (CHAT, draw(n=0), {}, 400),
            ("/nothing", draw(messages=said("a" * 300_000)), {}, 404),
            (CHAT, draw(), {}, 200),
        ):
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            received = json.loads(response.read())
            assert (response.status, "error" in received) == (status, status != 200)
            if status == 403:
                first = connection.sock
        assert connection.sock is first


def test_texts_to_measure(served: Process) -> None:
    bad: list[Any] = [None, 1, "a", {}, [], ["a"] * 201, [1], [None], [["a"]], ["a" * 20_001]]
    for texts in bad:
        answer = ask(served, request("/v1/measures", {"texts": texts}))
        assert (answer.status, answer.error()["param"]) == (400, "texts")
    answer = ask(served, request("/v1/measures", {"texts": ["", " ", "\0"]}))
    assert (answer.status, json.loads(answer.body)["texts"]) == (200, 3)


# Keys


def test_keys(upstream: Process, tmp_path: Path) -> None:
    key, gone = new_key(), new_key()
    (tmp_path / "keys.txt").write_text(f"alice:{hash_key(key)}\n# bob:{hash_key(gone)}\n")
    options = ("--keys", str(tmp_path / "keys.txt"), "--verbose", "--allow-origin", "https://app.example")
    secret = {"OUTSPOKEN_API_KEY": SECRET}
    with outspoken_serve("--upstream", upstream.base_url, *options, env=secret) as served:
        refused = ["", "Bearer", "Bearer ", f"Bearer {gone}", f"Basic {key}", f"Bearer {key}x", f"Bearer {SECRET}"]
        refused += ["Bearer " + "k" * 10_000, "Bearer kéy", f"Bearer {hash_key(key)}", f"bearer\t{key[:-1]}"]
        for path in (CHAT, "/v1/distributions", "/v1/models", "/v1/embeddings", "/metrics", "/reports"):
            for authorization in refused:
                answer = ask(served, request(path, draw(), f"Authorization: {authorization}"))
                assert (answer.status, answer.error()["code"]) == (401, "invalid_api_key"), (path, authorization)
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "Authorization: Bearer" in answer.error()["message"]
        for path in ("/", "/healthz", "/about.json"):
            assert ask(served, request(path, method="GET")).status == 200
        own = f"Authorization: Bearer {key}"
        assert ask(served, request("/v1/models", b"", own, method="GET")).status == 200
        assert ask(served, request(CHAT, draw(), own, host="named.example:8000")).status == 200
        answer = ask(served, request(CHAT, draw(), own, f"Origin: {FOREIGN}"))
        assert (answer.status, answer.error()["code"]) == (403, "forbidden_origin")
        theirs = "Origin: https://app.example"
        asks = ("Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization")
        allowed = ask(served, request(CHAT, b"", theirs, *asks, method="OPTIONS"))
        assert (allowed.status, allowed.headers["access-control-allow-headers"]) == (200, "authorization")
        for extra, status in (([own], 200), ([], 401)):  # a page can read the errors too
            answer = ask(served, request(CHAT, draw(), theirs, *extra))
            assert answer.status == status
            assert answer.headers["access-control-allow-origin"] == "https://app.example"
    for leak in (key, gone, SECRET, "colour"):
        assert leak not in served.stderr
    assert "alice" in served.stderr
