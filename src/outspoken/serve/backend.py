"""What stands behind the server: one model that is asked here, or an upstream and all its models."""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from typing import Any

from outspoken.errors import UnknownNameError, UsageError
from outspoken.models import Model, at_url, openai_compatible
from outspoken.models.openai_compatible import OpenAICompatible
from outspoken.models.providers import PROVIDERS, URL_KEY_VARIABLE
from outspoken.serve.http.proxy import Proxy
from outspoken.serve.openai.chat_request import SUFFIXES
from outspoken.serve.openai.fields import RequestError

__all__ = ["Backend", "OneModel", "Upstream"]

_STARTED = int(time.time())


class Backend(ABC):
    """The models that can be asked by name. `way` forwards what is not verbalized, where there is an upstream."""

    way: Proxy | None = None
    about: str
    """What is served, for a person."""
    example: str
    """A model's name that a client may write."""

    async def prepare(self) -> None:  # noqa: B027  (a server elsewhere needs nothing)
        """Load what the first request would wait for otherwise. Raises what keeps the backend from working."""

    @abstractmethod
    def model(self, name: str) -> Model:
        """The model of this name. Raises `RequestError` (404) where there is none."""

    @abstractmethod
    def told(self, name: str) -> str:
        """What clients are told that a model of ours is called."""

    @abstractmethod
    async def names(self) -> list[str]:
        """The models that are there."""

    @abstractmethod
    async def aclose(self) -> None:
        """Let go of connections and memory."""

    async def listing(self) -> dict[str, Any]:
        """The models in OpenAI's form, each followed by the names under which it is verbalized."""
        entry = {"object": "model", "created": _STARTED, "owned_by": "outspoken"}
        every = [name + suffix for name in await self.names() for suffix in ("", *SUFFIXES)]
        return {"object": "list", "data": [{"id": name, **entry} for name in every]}


class OneModel(Backend):
    """A model that this process asks itself, under its short name, `smollm2`, and its whole, `local/smollm2`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        # What stands before may be a path or an address, which are not for clients to know.
        self._short = _short(model.name)
        self.about, self.example = model.name, self._short

    async def prepare(self) -> None:
        # A server that was given without a model is asked which one it has.
        self.example = self._short = _short(await self._model.identity())
        load = getattr(self._model, "load", None)
        if load is not None:
            await load()

    def model(self, name: str) -> Model:
        if name not in (self._short, self._model.name):
            raise _unknown(name, self._short)
        return self._model

    def told(self, name: str) -> str:
        return self._short

    async def names(self) -> list[str]:
        return [self._short]

    async def aclose(self) -> None:
        await self._model.aclose()


class Upstream(Backend):
    """A server that speaks OpenAI's protocol: all its models can be verbalized, and all else passes through."""

    def __init__(self, model: OpenAICompatible, way: Proxy) -> None:
        """`model` is any of the upstream's: the others are reached through the same connections."""
        self._model = model
        self.way: Proxy = way
        self.about, self.example = model.url, "MODEL"

    @classmethod
    def at(cls, place: str, *, idle_seconds: float) -> Upstream:
        """The upstream at a base URL, or the one of a provider's name. Raises `UsageError`, `UnknownNameError` for
        a provider that does not speak OpenAI's protocol, `MissingKeyError`."""
        if place.startswith(("http://", "https://")):
            if "#" in place:
                raise UsageError("an upstream is a base URL without a model: its clients name the models")
            return cls(at_url(place), Proxy(place, os.environ.get(URL_KEY_VARIABLE), idle_seconds=idle_seconds))
        spoken = [name for name, row in PROVIDERS.items() if row.any_llm is None]
        if place not in spoken:
            raise UnknownNameError("upstream", place, spoken, see="or the base URL of a server")
        row = PROVIDERS[place]
        way = Proxy(
            os.environ.get(row.base_url_variable) or row.base_url,
            row.key(),
            key_variable=row.key_variable or URL_KEY_VARIABLE,
            idle_seconds=idle_seconds,
        )
        return cls(openai_compatible(row, ""), way)

    def model(self, name: str) -> Model:
        if not name:
            raise RequestError("say which model to ask: /v1/models lists them", status=404, param="model")
        return self._model.sibling(name)

    def told(self, name: str) -> str:
        return name.removeprefix(f"{self._model.url}#")

    async def names(self) -> list[str]:
        return await self._model.models()

    async def aclose(self) -> None:
        await self.way.aclose()
        await self._model.aclose()


def _short(name: str) -> str:
    return name.rpartition("#")[2].rpartition("/")[2].removesuffix(".gguf") or "model"


def _unknown(name: str, known: str) -> RequestError:
    return RequestError(
        f"there is no model {name[:80]!r} here: ask {known}, or {known}:vs to have its answers verbalized",
        status=404,
        code="model_not_found",
        param="model",
    )
