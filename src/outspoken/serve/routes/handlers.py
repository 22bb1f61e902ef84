"""Handlers of a few lines: models, measures, the state of the server, and requests for the upstream."""

from __future__ import annotations

from typing import Literal, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from outspoken._version import __version__
from outspoken.methods.table import METHODS
from outspoken.serve.http.responses import json_response, read_body
from outspoken.serve.metrics import CONTENT_TYPE
from outspoken.serve.openai.chat_request import SETTINGS
from outspoken.serve.openai.errors import RequestError
from outspoken.serve.openai.fields import read_json
from outspoken.serve.routes.address import Schema
from outspoken.serve.service import Service
from outspoken.serve.text_measures import LONGEST_TEXT, MAX_TEXTS

__all__ = [
    "Health",
    "about",
    "forward",
    "health",
    "list_models",
    "measure",
    "metrics",
    "one_model",
    "texts_schema",
]


class Health(TypedDict):
    """The answer of a running server."""

    status: Literal["ok"]
    version: str


async def list_models(service: Service, _: Request) -> Response:
    return json_response(await service.backend.model_list())


async def one_model(service: Service, request: Request) -> Response:
    name: str = request.path_params["name"]
    for entry in (await service.backend.model_list())["data"]:
        if entry["id"] == name:
            return json_response(entry)
    raise RequestError(f"there is no model {name[:80]!r} here", status=404, code="model_not_found")


async def measure(service: Service, request: Request) -> Response:
    texts = read_json(await read_body(request, service.limits)).get("texts")
    if (
        not isinstance(texts, list)
        or not 1 <= len(texts) <= MAX_TEXTS
        or not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in texts)
    ):
        raise RequestError(
            f"texts must be a list of 1 to {MAX_TEXTS} texts of at most {LONGEST_TEXT:,} characters", param="texts"
        )
    return json_response(await service.measurer.measure(request, texts))


def texts_schema() -> Schema:
    """The body of `measure`."""
    text = {"type": "string", "maxLength": LONGEST_TEXT}
    texts = {"type": "array", "items": text, "minItems": 1, "maxItems": MAX_TEXTS}
    return {"type": "object", "required": ["texts"], "properties": {"texts": texts}}


async def health(service: Service, _: Request) -> Response:
    return json_response(Health(status="ok", version=__version__))


async def metrics(service: Service, _: Request) -> Response:
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


async def about(service: Service, _: Request) -> Response:
    """What the page needs to know before the first request."""
    document = {
        "version": __version__,
        "key_needed": service.key_needed,
        "methods": [
            {
                "name": method.name,
                "about": method.about,
                "suffix": method.server_suffix,
                "states_probabilities": method.states_probabilities,
            }
            for method in METHODS.values()
        ],
        "defaults": {name: getattr(service.defaults, name) for name in SETTINGS},
        "most_k": service.limits.max_k,
        "reports": service.site.has_reports,
    }
    return json_response(document, headers={"cache-control": "no-cache"})


async def forward(service: Service, request: Request) -> Response:
    """Forward a request to the upstream, unchanged."""
    return service.forward(request, await read_body(request, service.limits))
