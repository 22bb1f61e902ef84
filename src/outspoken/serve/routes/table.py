"""The table of the server's addresses, from which everything else about addresses derives.

Routing, the rules of `Middleware`, the labels of metrics, the OpenAPI document and the list in docs/serve.md come
from these rows. To add an address: write its handler beside the others of this package, and a row here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

from starlette.requests import Request
from starlette.responses import Response

from outspoken.serve.backend import ModelEntry, ModelList
from outspoken.serve.http.responses import json_response
from outspoken.serve.openai.chat_response import Completion
from outspoken.serve.routes import distributions, handlers
from outspoken.serve.routes.address import Address, AddressTable, Handler, Schema
from outspoken.serve.routes.chat import chat_completion
from outspoken.serve.routes.openapi import chat_schema, document
from outspoken.serve.service import Service
from outspoken.serve.site.pages import Site
from outspoken.serve.text_measures import TextMeasures

__all__ = ["ADDRESSES"]


async def _describe(service: Service, _: Request) -> Response:
    return json_response(_document())


@cache
def _document() -> Schema:
    return document(ADDRESSES.addresses)


def _page(answer: Callable[[Site, Request], Awaitable[Response]]) -> Handler:
    """A handler that asks the page alone."""

    async def handle(service: Service, request: Request) -> Response:
        return await answer(service.site, request)

    return handle


_ANY = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")

ADDRESSES = AddressTable(
    Address(
        "/v1/chat/completions",
        chat_completion,
        "A draw if the model's name has a suffix or the request a field `outspoken`.",
        details="Otherwise a plain reply of the model, or the upstream's response.",
        methods=("POST",),
        request=chat_schema,
        response=Completion,
        events=True,
    ),
    Address(
        "/v1/distributions",
        distributions.distribution,
        "The whole distribution that a completion for the same request is drawn from.",
        details=(
            'With `"stream": true` each candidate is an event `candidate` as soon as it is written (`text`, '
            "`stated`, and the `weights` of all so far), followed by an event `distribution`. If the pool has the "
            "distribution already, only that event is sent."
        ),
        methods=("POST",),
        request=chat_schema,
        response=distributions.DistributionDocument,
        events=True,
    ),
    Address(
        "/v1/distributions/{name}",
        distributions.known_distribution,
        "The distribution that a choice came from, by the id in the choice.",
        details="It is available as long as its pool keeps it.",
        response=distributions.DistributionDocument,
    ),
    Address("/v1/models", handlers.list_models, "The models, with and without suffixes.", response=ModelList),
    Address("/v1/models/{name:path}", handlers.one_model, "One model.", response=ModelEntry),
    Address(
        "/v1/measures",
        handlers.measure,
        "The number of different texts, and their semantic diversity from 0 to 1.",
        details=(
            'The body is `{"texts": [...]}`. The diversity needs the extra `measure` and '
            "`outspoken models get minilm`."
        ),
        methods=("POST",),
        request=handlers.texts_schema,
        response=TextMeasures,
    ),
    Address(
        "/v1/{rest:path}",
        handlers.forward,
        "With `--upstream`: forwarded to the upstream, byte for byte.",
        methods=_ANY,
        needs_upstream=True,
    ),
    Address("/healthz", handlers.health, "Whether the server runs.", open=True, response=handlers.Health),
    Address("/metrics", handlers.metrics, "Counters for Prometheus.", response=str),
    Address("/openapi.json", _describe, "This list in OpenAPI's form.", open=True),
    Address(
        "/about.json", handlers.about, "Version, methods and defaults, for the page.", open=True, listed=False
    ),
    Address("/", _page(Site.index), "The page.", open=True),
    Address("/site/{name}", _page(Site.file), "The files of the page.", open=True, listed=False),
    Address(
        "/reports", _page(Site.list_reports), "The reports in the folder of `--reports`, which the page lists."
    ),
    Address("/reports/{name}", _page(Site.report), "One report, as a page."),
    Address("/reports-frame", _page(Site.frame), "The page's frame for a report.", open=True, listed=False),
)
"""All addresses. A path belongs to the first row that fits."""
