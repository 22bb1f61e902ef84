"""What the server's own OpenAPI document says of each address."""

from __future__ import annotations

from typing import Any

from outspoken._version import __version__
from outspoken.templates import METHODS

__all__ = ["document"]

_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}
_OWN = {
    "type": ["object", "null"],
    "description": "How the answers are verbalized; the server's own defaults hold for what is left out.",
    "properties": {
        "method": {"type": "string", "enum": list(METHODS)},
        "k": {"type": "integer", "minimum": 1, "description": "Candidates of one call of the model."},
        "tau": {"type": ["number", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "template": {"type": "string"},
        "turns": {"type": "integer", "minimum": 1},
        "words": {"type": ["integer", "null"], "minimum": 1},
        "fresh": {"type": "boolean", "description": "Ask for this call alone, and pool nothing."},
        "structured": {"type": ["boolean", "null"], "description": "Whether the decoder enforces the shape."},
        "recycle": {
            "type": "boolean",
            "default": True,
            "description": "Draw again what was handed out, once the model has nothing new; else status 422.",
        },
    },
    "additionalProperties": False,
}
_REQUEST = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": {"type": "string", "examples": ["smollm2:vs"]},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["role", "content"],
                "properties": {
                    "role": {"type": "string", "enum": ["system", "developer", "user", "assistant"]},
                    "content": {"type": ["string", "array"]},
                },
            },
            "examples": [[{"role": "user", "content": "Name a US state."}]],
        },
        "n": {"type": ["integer", "null"], "minimum": 1},
        "seed": {"type": ["integer", "null"]},
        "temperature": {"type": ["number", "null"], "minimum": 0},
        "top_p": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1},
        "max_tokens": {"type": ["integer", "null"], "minimum": 1},
        "max_completion_tokens": {"type": ["integer", "null"], "minimum": 1},
        "stop": {
            "anyOf": [
                {"type": "string", "minLength": 1, "maxLength": 1000},
                {"type": "array", "maxItems": 16, "items": {"type": "string", "minLength": 1, "maxLength": 1000}},
                {"type": "null"},
            ]
        },
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {"type": ["object", "null"]},
        "outspoken": _OWN,
    },
}
_CANDIDATE = {
    "type": "object",
    "required": ["text", "probability"],
    "properties": {
        "text": {"type": "string"},
        "probability": _PROBABILITY,
        "stated": {"type": ["number", "null"]},
        "repairs": {"type": "array", "items": {"type": "string"}},
    },
}
_DISTRIBUTION = {
    "type": "object",
    "required": ["id", "object", "model", "candidates", "entropy", "effective_size"],
    "properties": {
        "id": {"type": "string"},
        "object": {"const": "distribution"},
        "model": {"type": "string"},
        "candidates": {"type": "array", "items": _CANDIDATE},
        "entropy": {"type": "number", "description": "In nats."},
        "effective_size": {"type": "number"},
        "mass": {"type": ["number", "null"]},
    },
}
_COMPLETION = {
    "type": "object",
    "required": ["id", "object", "created", "model", "choices"],
    "properties": {
        "choices": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "outspoken": {
                        "type": "object",
                        "properties": {
                            "probability": _PROBABILITY,
                            "distribution": {"type": "string"},
                            "draw": {"type": "integer"},
                            "again": {"type": "boolean"},
                            "verbalized": {"type": "boolean"},
                        },
                    }
                },
            },
        }
    },
}
_MODEL = {
    "type": "object",
    "required": ["id", "object", "created", "owned_by"],
    "properties": {"id": {"type": "string"}, "object": {"const": "model"}},
}


_MODELS = {
    "type": "object",
    "required": ["object", "data"],
    "properties": {"object": {"const": "list"}, "data": {"type": "array", "items": _MODEL}},
}
_MEASURED = {
    "type": "object",
    "required": ["texts", "distinct", "semantic_diversity", "note"],
    "properties": {
        "texts": {"type": "integer"},
        "distinct": {"type": "integer"},
        "semantic_diversity": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "note": {"type": ["string", "null"]},
    },
}
_TEXTS = {
    "type": "object",
    "required": ["texts"],
    "properties": {
        "texts": {
            "type": "array",
            "items": {"type": "string", "maxLength": 20_000},
            "minItems": 1,
            "maxItems": 200,
        },
    },
}


def _json(schema: dict[str, Any], about: str = "Done.") -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schema}}}


def _with_events(schema: dict[str, Any]) -> dict[str, Any]:
    told = _json(schema)
    told["content"]["text/event-stream"] = {}
    return told


def _address(about: str, answer: dict[str, Any], body: dict[str, Any] | None = None) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": about,
        "responses": {
            "200": answer,
            "4XX": _json(_ERROR, "What the caller can mend."),
            "5XX": _json(_ERROR, "What the server or the model's server could not do."),
        },
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation


def _named(operation: dict[str, Any]) -> dict[str, Any]:
    parameter = {"name": "name", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    return {**operation, "parameters": [parameter]}


def document() -> dict[str, Any]:
    """The whole document."""
    text = {"description": "Prometheus' text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    health = {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}}
    paths = {
        "/v1/chat/completions": {
            "post": _address(
                "A chat completion: a draw where the model's name ends in :vs, :vs-cot or :vs-multi.",
                _with_events(_COMPLETION),
                _REQUEST,
            )
        },
        "/v1/distributions": {
            "post": _address(
                "The whole distribution that a completion is drawn from; streamed, each candidate as it comes.",
                _with_events(_DISTRIBUTION),
                _REQUEST,
            )
        },
        "/v1/distributions/{name}": {
            "get": _named(_address("The distribution of an id that a choice carried.", _json(_DISTRIBUTION)))
        },
        "/v1/models": {
            "get": _address("The models, and the names under which they are verbalized.", _json(_MODELS))
        },
        "/v1/models/{name}": {"get": _named(_address("One model.", _json(_MODEL)))},
        "/v1/measures": {
            "post": _address("How different some texts are.", _json(_MEASURED), _TEXTS),
        },
        "/healthz": {"get": _address("Whether the server runs.", _json(health))},
        "/metrics": {"get": _address("What has been counted.", text)},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Outspoken",
            "version": __version__,
            "summary": "OpenAI-compatible: answers are drawn from the distribution that a model verbalizes.",
        },
        "paths": paths,
        "components": {"securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
        "security": [{}, {"key": []}],
    }
