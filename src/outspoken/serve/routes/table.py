"""The table of the server's addresses, from which everything else about addresses derives.

Routing, the rules of `Middleware`, the labels of metrics, the OpenAPI document and the list in docs/serve.md come
from these rows. To add an address: write its handler beside the others of this package, and a row here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from outspoken.serve.backend import ModelEntry, ModelList
from outspoken.serve.http.responses import json_response
from outspoken.serve.openai.chat_response import Completion
from outspoken.serve.routes import distributions, handlers
from outspoken.serve.routes.address import Address, AddressTable, Handler
from outspoken.serve.routes.chat import chat_completion
from outspoken.serve.routes.openapi import chat_schema, document
from outspoken.serve.service import Service
from outspoken.serve.site.pages import Site
from outspoken.serve.text_measures import TextMeasures

__all__ = ["ADDRESSES"]


async def _describe(service: Service, _: Request) -> Response:
    return json_response(document(ADDRESSES.addresses))


def _page(answer: Callable[[Site, Request], Awaitable[Response]]) -> Handler:
    """A handler that asks the page alone."""

    async def handle(service: Service, request: Request) -> Response:
        return await answer(service.site, request)

    return handle


ADDRESSES = AddressTable(
    (
        Address(
            path="/v1/chat/completions",
            methods=("POST",),
            handler=chat_completion,
            summary="A draw if the model's name has a suffix or the request a field `outspoken`.",
            details="Otherwise a plain reply of the model, or the upstream's response.",
            request=chat_schema,
            response=Completion,
            events=True,
        ),
        Address(
            path="/v1/distributions",
            methods=("POST",),
            handler=distributions.distribution,
            summary="The whole distribution that a completion for the same request is drawn from.",
            details=(
                'With `"stream": true` each candidate is an event `candidate` as soon as it is written (`text`, '
                "`stated`, and the `weights` of all so far), followed by an event `distribution`. If the pool has "
                "the distribution already, only that event is sent."
            ),
            request=chat_schema,
            response=distributions.DistributionDocument,
            events=True,
        ),
        Address(
            path="/v1/distributions/{name}",
            handler=distributions.known_distribution,
            summary="The distribution that a choice came from, by the id in the choice.",
            details="It is available as long as its pool keeps it.",
            response=distributions.DistributionDocument,
        ),
        Address(
            path="/v1/models",
            handler=handlers.list_models,
            summary="The models, with and without suffixes.",
            response=ModelList,
        ),
        Address(
            path="/v1/models/{name:path}",
            handler=handlers.one_model,
            summary="One model.",
            response=ModelEntry,
        ),
        Address(
            path="/v1/measures",
            methods=("POST",),
            handler=handlers.measure,
            summary="The number of different texts, and their semantic diversity from 0 to 1.",
            details=(
                'The body is `{"texts": [...]}`. The diversity needs the extra `measure` and `outspoken models get '
                "minilm`."
            ),
            request=handlers.texts_schema,
            response=TextMeasures,
        ),
        Address(
            path="/v1/{rest:path}",
            methods=("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"),
            handler=handlers.forward,
            needs_upstream=True,
            summary="With `--upstream`: forwarded to the upstream, byte for byte.",
        ),
        Address(
            path="/healthz",
            handler=handlers.health,
            open=True,
            counted=False,
            summary="Whether the server runs.",
            response=handlers.Health,
        ),
        Address(
            path="/metrics",
            handler=handlers.metrics,
            summary="Counters for Prometheus.",
            response=str,
        ),
        Address(
            path="/openapi.json",
            handler=_describe,
            open=True,
            counted=False,
            summary="This list in OpenAPI's form.",
        ),
        Address(
            path="/about.json",
            handler=handlers.about,
            open=True,
            counted=False,
            summary="Version, methods and defaults, for the page.",
            listed=False,
        ),
        Address(
            path="/",
            handler=_page(Site.index),
            open=True,
            counted=False,
            summary="The page.",
        ),
        Address(
            path="/site/{name}",
            handler=_page(Site.file),
            open=True,
            counted=False,
            summary="The files of the page.",
            listed=False,
        ),
        Address(
            path="/reports",
            handler=_page(Site.list_reports),
            summary="The reports in the folder of `--reports`, which the page lists.",
        ),
        Address(
            path="/reports/{name}",
            handler=_page(Site.report),
            summary="One report, as a page.",
        ),
        Address(
            path="/reports-frame",
            handler=_page(Site.frame),
            open=True,
            counted=False,
            summary="The frame in which the page shows a report.",
            listed=False,
        ),
    )
)
"""All addresses; the first one that fits a path is its address."""
