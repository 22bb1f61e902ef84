"""The models behind the server: one model that is asked here, or an upstream and all its models."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from typing import Literal, TypedDict

from outspoken.errors import UnknownNameError, UsageError
from outspoken.methods.table import METHODS
from outspoken.models import Model, model_at_url, openai_model
from outspoken.models.openai_compatible import OpenAICompatible
from outspoken.models.providers import PROVIDERS, URL_KEY_VARIABLE
from outspoken.serve.http.proxy import Proxy
from outspoken.serve.openai.errors import RequestError

__all__ = ["Backend", "ModelEntry", "ModelList", "OneModel", "Upstream"]

_STARTED = int(time.time())


class ModelEntry(TypedDict):
    """A model in OpenAI's form."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[ModelEntry]


class Backend(ABC):
    """The models that clients can name.

    `proxy` forwards requests that are not verbalized, if there is an upstream. `about` describes the models,
    `example` is the name of one.
    """

    proxy: Proxy | None = None
    about: str
    example: str

    async def prepare(self) -> None:  # noqa: B027  (a server elsewhere needs no preparation)
        """Load the model before the first request. Raises the error that prevents the service."""

    @abstractmethod
    def model(self, name: str) -> Model:
        """The model of this name. Raises `RequestError` (404) if there is none."""

    @abstractmethod
    def public_name(self, name: str) -> str:
        """The name that clients see for a model's own name."""

    @abstractmethod
    async def names(self) -> list[str]:
        """The names of all models."""

    @abstractmethod
    async def aclose(self) -> None:
        """Close connections and free memory."""

    async def model_list(self) -> ModelList:
        """The models, each followed by its names with a suffix."""
        suffixes = [method.server_suffix for method in METHODS.values() if method.server_suffix]
        names = [name + suffix for name in await self.names() for suffix in ("", *suffixes)]
        common = ModelEntry(id="", object="model", created=_STARTED, owned_by="outspoken")
        return {"object": "list", "data": [{**common, "id": name} for name in names]}


class OneModel(Backend):
    """A model that this process asks itself, under its short name `smollm2` or its full name `local/smollm2`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        # The part before the short name may be a path or an address, which clients must not see.
        self._short = _short(model.name)
        self.about, self.example = model.name, self._short

    async def prepare(self) -> None:
        # If only the URL of a server was given, ask it for the name of its model.
        self.example = self._short = _short(await self._model.identity())
        load = getattr(self._model, "load", None)
        if load is not None:
            await load()

    def model(self, name: str) -> Model:
        if name not in (self._short, self._model.name):
            message = f"there is no model {name[:80]!r} here: ask {self._short}, or {self._short}:vs for a draw"
            raise RequestError(message, status=404, code="model_not_found", param="model")
        return self._model

    def public_name(self, name: str) -> str:
        return self._short

    async def names(self) -> list[str]:
        return [self._short]

    async def aclose(self) -> None:
        await self._model.aclose()


class Upstream(Backend):
    """A server that speaks OpenAI's protocol: its models can be verbalized, other requests are forwarded."""

    def __init__(self, model: OpenAICompatible, proxy: Proxy) -> None:
        """`model` is any model of the upstream; the others are reached through the same connections."""
        self._model = model
        self.proxy: Proxy = proxy
        self.about, self.example = model.url, "MODEL"

    @classmethod
    def at(cls, place: str, *, idle_seconds: float) -> Upstream:
        """The upstream at a base URL, or a provider by its name.

        Raises `UsageError`, `MissingKeyError`, and `UnknownNameError` for a provider with another protocol.
        """
        if place.startswith(("http://", "https://")):
            if "#" in place:
                raise UsageError("an upstream is a base URL without a model: its clients name the models")
            url, key, key_variable, model = place, os.environ.get(URL_KEY_VARIABLE), "", model_at_url(place)
        else:
            known = [name for name, row in PROVIDERS.items() if row.any_llm is None]
            if place not in known:
                raise UnknownNameError("upstream", place, known, see="or the base URL of a server")
            row = PROVIDERS[place]
            url, key = os.environ.get(row.base_url_variable) or row.base_url, row.key()
            key_variable, model = row.key_variable, openai_model(row, "")
        proxy = Proxy(url, key, key_variable=key_variable or URL_KEY_VARIABLE, idle_seconds=idle_seconds)
        return cls(model, proxy)

    def model(self, name: str) -> Model:
        if not name:
            raise RequestError("name the model to ask: /v1/models lists them", status=404, param="model")
        return self._model.sibling(name)

    def public_name(self, name: str) -> str:
        return name.removeprefix(f"{self._model.url}#")

    async def names(self) -> list[str]:
        return await self._model.models()

    async def aclose(self) -> None:
        await self.proxy.aclose()
        await self._model.aclose()


def _short(name: str) -> str:
    return name.rpartition("#")[2].rpartition("/")[2].removesuffix(".gguf") or "model"
