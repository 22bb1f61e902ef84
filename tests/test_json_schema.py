"""Schemas that may be somebody else's: nothing is fetched, and none keeps the validation busy without end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

import outspoken
from outspoken.cli.app import app
from outspoken.errors import UsageError
from outspoken.json_schema import validator


@contextmanager
def _schemas() -> Iterator[tuple[str, list[str]]]:
    """A server whose every address is the schema of a text, and the paths that were asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            body = b'{"type": "string"}'
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", paths
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _referring(reference: str) -> list[dict[str, Any]]:
    """Schemas with this reference in every kind of place."""
    at = {"$ref": reference}
    return [
        at,
        {"properties": {"name": at}},
        {"$defs": {"name": at}, "properties": {"a": {"$ref": "#/$defs/name"}}},
        {"definitions": {"name": at}, "items": {"$ref": "#/definitions/name"}},
        {"anyOf": [{"type": "null"}, {"not": at}]},
        {"items": {"$dynamicRef": reference}},
        {"$id": "http://127.0.0.1:1/own", "items": at},
        {"$defs": {"old": {"$schema": "http://json-schema.org/draft-07/schema#", **at}}, "$ref": "#/$defs/old"},
        {"x-anything": {"here": at}, "$ref": "#/x-anything/here"},
    ]


def test_no_way_to_a_model_fetches_what_a_schema_refers_to(tmp_path: Path) -> None:
    with _schemas() as (address, paths):
        model = f"{address}/v1#x"
        inside = tmp_path / "inside.json"
        inside.write_text('{"type": "string"}')
        file, prompts = tmp_path / "schema.json", tmp_path / "prompts.txt"
        prompts.write_text("Name a tree.\n")
        for reference in (f"{address}/name.json", inside.as_uri(), "name.json", str(inside)):
            for schema in _referring(reference):
                with pytest.raises(UsageError, match="are not fetched: copy"):
                    outspoken.verbalize("x", model=model, schema=schema)
                with pytest.raises(UsageError, match="are not fetched: copy"):
                    outspoken.run(["x"], model=model, schema=schema)
            file.write_text(json.dumps({"type": "object", "properties": {"name": {"$ref": reference}}}))
            spec = tmp_path / "pipeline.toml"
            spec.write_text('[[step]]\ndo = "generate"\ninstruction = "Ask."\nschema = "schema.json"\n')
            for words in (
                ["ask", "x", "--model", model, "--schema", str(file)],
                [
                    "run",
                    str(prompts),
                    "--out",
                    str(tmp_path / "out.jsonl"),
                    "--model",
                    model,
                    "--schema",
                    str(file),
                ],
                ["synth", str(spec), "--out", str(tmp_path / "synth"), "--model", model],
            ):
                done = CliRunner().invoke(app, words)
                assert done.exit_code == 2, done.output
                assert "are not fetched: copy" in done.stderr
                assert done.stderr.count("\n") == 1
        assert not paths


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"$ref": "#"}, "leads back to itself"),
        ({"properties": {"a": {"$ref": "#/properties/a"}}}, "leads back to itself"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"not": {"$ref": "#"}}]}}}, "leads back to itself"),
        ({"$ref": "#/$defs/a"}, "'#/\\$defs/a', which is not in it"),
        ({"$ref": "#name"}, "'#name', which is not in it"),
        (
            {
                "$defs": {f"a{at}": {"allOf": [{"$ref": f"#/$defs/a{at + 1}"}] * 2} for at in range(40)}
                | {"a40": {"type": "string"}},
                "$ref": "#/$defs/a0",
            },
            "to one value: refer to each part once",
        ),
        (
            {"properties": {f"a{at}": {"type": "string"} for at in range(20_000)}},
            "characters of JSON: at most 200,000",
        ),
        ({"pattern": "("}, "not a 'regex'"),
        ({"const": {1, 2}}, "is not JSON"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused_at_once(schema: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        validator(schema)


def test_a_schema_nested_deeper_than_the_stack_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(5000):
        schema = {"items": schema}
    with pytest.raises(UsageError, match="nested too deeply"):
        validator(schema)


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        r"^(\w+\s?)*$",
        "(a*)*",
        "(a*b*)*",
        "(x|b+)*y",
        "(a{2,})+",
        "((a+))+",
        "(?=(a+)+)",
        "^(?:(?:ab)+)*$",
    ],
)
def test_a_pattern_that_repeats_a_repetition_is_refused(pattern: str) -> None:
    for schema in ({"pattern": pattern}, {"patternProperties": {pattern: True}}, {"items": {"pattern": pattern}}):
        with pytest.raises(UsageError, match="repeats a repetition"):
            validator(schema)


@pytest.mark.parametrize(
    "pattern", ["^[a-z]+(-[a-z]+)*$", "([0-9]{3})*", "(?:a+b)*", "(a|b)*", r"^\d{4}-\d\d$", ".+"]
)
def test_ordinary_patterns_are_accepted(pattern: str) -> None:
    assert validator({"pattern": pattern})[1] is not None


def test_references_within_a_schema_work() -> None:
    tree = {
        "$id": "https://example.com/tree",
        "type": "object",
        "properties": {"name": {"$ref": "#/$defs/name"}, "children": {"items": {"$ref": "#"}}},
        "required": ["name"],
        "$defs": {"name": {"$anchor": "n", "type": "string"}, "other": {"$ref": "#n"}},
    }
    _, check = validator(tree)
    assert check is not None
    value = {"name": "a", "children": [{"name": "b", "children": []}]}
    assert check(value) == value
    with pytest.raises(ValueError, match="'name' is a required property"):
        check({"name": "a", "children": [{}]})
    deep: dict[str, Any] = {"name": "a"}
    for _ in range(3000):
        deep = {"name": "a", "children": [deep]}
    with pytest.raises(ValueError, match="nested too deeply"):
        check(deep)


def test_a_schema_of_ordinary_size_is_checked_quickly() -> None:
    schema = {"properties": {f"a{at}": {"type": "string", "pattern": "^[a-z]+$"} for at in range(200)}}
    validator(schema)
    started = time.process_time()
    validator(schema)
    assert time.process_time() - started < 1
