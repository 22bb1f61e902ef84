"""The table of the server's addresses.

Routing, the rules of `Middleware`, the labels of metrics, the OpenAPI document and the list in docs/serve.md
derive from it. To add an address: write its handler here or in a module of this package, and a row here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, TypedDict

from starlette.requests import Request
from starlette.responses import Response

from outspoken._version import __version__
from outspoken.methods.table import METHODS
from outspoken.serve.backend import ModelEntry, ModelList
from outspoken.serve.http.responses import json_response, read_body
from outspoken.serve.metrics import CONTENT_TYPE
from outspoken.serve.openai.chat_request import SETTINGS
from outspoken.serve.openai.chat_response import Completion
from outspoken.serve.openai.errors import RequestError
from outspoken.serve.openai.fields import read_json
from outspoken.serve.routes import chat
from outspoken.serve.routes.address import Address, AddressTable, Handler, Schema, chat_schema, document
from outspoken.serve.service import Service, TextMeasures
from outspoken.serve.site import Site

__all__ = ["ADDRESSES"]

_MAX_TEXTS = 200
_LONGEST_TEXT = 20_000


class _Health(TypedDict):
    status: Literal["ok"]
    version: str


async def _list_models(service: Service, _: Request) -> Response:
    return json_response(await service.backend.model_list())


async def _one_model(service: Service, request: Request) -> Response:
    name: str = request.path_params["name"]
    for entry in (await service.backend.model_list())["data"]:
        if entry["id"] == name:
            return json_response(entry)
    raise RequestError(f"there is no model {name[:80]!r} here", status=404, code="model_not_found")


async def _measure(service: Service, request: Request) -> Response:
    texts = read_json(await read_body(request, service.limits)).get("texts")
    if (
        not isinstance(texts, list)
        or not 1 <= len(texts) <= _MAX_TEXTS
        or not all(isinstance(text, str) and len(text) <= _LONGEST_TEXT for text in texts)
    ):
        raise RequestError(
            f"texts must be a list of 1 to {_MAX_TEXTS} texts of at most {_LONGEST_TEXT:,} characters",
            param="texts",
        )
    return json_response(await service.measurer.measure(request, texts))


def _texts_schema() -> Schema:
    text = {"type": "string", "maxLength": _LONGEST_TEXT}
    texts = {"type": "array", "items": text, "minItems": 1, "maxItems": _MAX_TEXTS}
    return {"type": "object", "required": ["texts"], "properties": {"texts": texts}}


async def _forward(service: Service, request: Request) -> Response:
    return service.forward(request, await read_body(request, service.limits))


async def _health(service: Service, _: Request) -> Response:
    return json_response(_Health(status="ok", version=__version__))


async def _metrics(service: Service, _: Request) -> Response:
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


async def _about(service: Service, _: Request) -> Response:
    """The values that the page needs before its first request."""
    content = {
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
        "reports": service.site.reports is not None,
    }
    return json_response(content, headers={"cache-control": "no-cache"})


async def _describe(service: Service, _: Request) -> Response:
    return json_response(document(ADDRESSES.addresses))


def _page(answer: Callable[[Site, Request], Awaitable[Response]]) -> Handler:
    async def handle(service: Service, request: Request) -> Response:
        return await answer(service.site, request)

    return handle


ADDRESSES = AddressTable(
    Address(
        "/v1/chat/completions",
        chat.chat_completion,
        "A draw if the model's name has a suffix or the request a field `outspoken`.",
        details="Otherwise a plain reply of the model, or the upstream's response.",
        methods=("POST",),
        request=chat_schema,
        response=Completion,
        events=True,
    ),
    Address(
        "/v1/distributions",
        chat.distribution,
        "The whole distribution that a completion for the same request is drawn from.",
        details=(
            'With `"stream": true` each candidate is an event `candidate` as soon as it is written (`text`, '
            "`stated`, and the `weights` of all so far), followed by an event `distribution`. If the pool has the "
            "distribution already, only that event is sent."
        ),
        methods=("POST",),
        request=chat_schema,
        response=chat.DistributionDocument,
        events=True,
    ),
    Address(
        "/v1/distributions/{name}",
        chat.known_distribution,
        "The distribution that a choice came from, by the id in the choice.",
        details="It is available as long as its pool keeps it.",
        response=chat.DistributionDocument,
    ),
    Address("/v1/models", _list_models, "The models, with and without suffixes.", response=ModelList),
    Address("/v1/models/{name:path}", _one_model, "One model.", response=ModelEntry),
    Address(
        "/v1/measures",
        _measure,
        "The number of different texts, and their semantic diversity from 0 to 1.",
        details=(
            'The body is `{"texts": [...]}`. The diversity needs the extra `measure` and '
            "`outspoken models get minilm`."
        ),
        methods=("POST",),
        request=_texts_schema,
        response=TextMeasures,
    ),
    Address(
        "/v1/{rest:path}",
        _forward,
        "With `--upstream`: forwarded to the upstream, byte for byte.",
        methods=("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"),
        needs_upstream=True,
    ),
    Address("/healthz", _health, "Whether the server runs.", open=True, response=_Health),
    Address("/metrics", _metrics, "Counters for Prometheus.", response=str),
    Address("/openapi.json", _describe, "This list in OpenAPI's form.", open=True),
    Address("/about.json", _about, "Version, methods and defaults, for the page.", open=True, listed=False),
    Address("/", _page(Site.index), "The page.", open=True),
    Address("/site/{name}", _page(Site.file), "The files of the page.", open=True, listed=False),
    Address(
        "/reports", _page(Site.list_reports), "The reports in the folder of `--reports`, which the page lists."
    ),
    Address("/reports/{name}", _page(Site.report), "One report, as a page."),
    Address("/reports-frame", _page(Site.frame), "The page's frame for a report.", open=True, listed=False),
)
"""All addresses. A path belongs to the first row that fits."""
