"""Texts as vectors, from a model in this process, a server or a library; what was embedded once is kept."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outspoken.engine.retry import RetryPolicy
from outspoken.errors import ProviderError, ReplyError, UnknownNameError, UsageError
from outspoken.measure import _embedding_libraries as libraries
from outspoken.measure.embedding_cache import EmbeddingCache, Vector
from outspoken.models import get_model, weight_files
from outspoken.models.base import Embeddings, Model, check_texts
from outspoken.models.local import Local
from outspoken.models.openai_compatible import OpenAICompatible

__all__ = ["DEFAULT", "Embedder", "embedder"]

DEFAULT = "minilm"

_PATIENCE = RetryPolicy()
_FIRST_WAIT = 0.5
_LONGEST_WAIT = 60.0
_EXCERPT = 40
_LIBRARIES = {
    "wordllama": libraries.wordllama,
    "sentence-transformers": libraries.sentence_transformers,
}


class EmbeddingSource(Protocol):
    """What embeds: in one go at most `batch` texts, and at most `parallel` goes at once."""

    name: str
    batch: int
    parallel: int

    async def identity(self) -> str: ...

    async def embed(self, texts: Sequence[str]) -> Embeddings: ...

    async def aclose(self) -> None: ...


def embedder(
    name: str | None = None, *, cache: EmbeddingCache | bool | None = True, patience: RetryPolicy = _PATIENCE
) -> Embedder:
    """What embeds texts, by its name. Nothing is loaded, fetched or sent yet.

    `minilm` (the default: all-MiniLM-L6-v2 in this process), `wordllama` (a hundred times as fast, and coarser),
    `sentence-transformers/NAME`, `local//path/to/file.gguf`, `openai/text-embedding-3-small` or another
    provider's, `http://host:port/v1#model`. `cache` is where vectors are kept: True for the user's file, False or
    None for nowhere. `patience` holds for a server's failures: how often, and for how long, each batch is tried.

    Raises `UsageError` for a name that means nothing or a model that cannot embed, `MissingKeyError` and
    `MissingExtraError` as they apply.
    """
    name = name or DEFAULT
    kept = EmbeddingCache() if cache is True else cache or None
    kind, _, rest = name.partition("/")
    if kind in _LIBRARIES:
        return Embedder(_LIBRARIES[kind](rest), cache=kept, patience=patience)
    if not rest:
        known = [row.name for row in weight_files.listing() if row.embeds]
        if name.partition("?")[0] not in known:
            raise UnknownNameError("embedder", name, [*known, *_LIBRARIES], see="or provider/model, or a URL")
        name = f"local/{name}"
    return Embedder(_OfModel(get_model(name)), cache=kept, patience=patience)


class Embedder:
    """Embeds texts: equal ones once, those of an earlier time not at all, and what fails for a while again.

    `warnings` says, a sentence each, what the reader of a result should know: texts of which only the beginning
    was embedded, a cache that could not be used.
    """

    def __init__(
        self, source: EmbeddingSource, *, cache: EmbeddingCache | None = None, patience: RetryPolicy = _PATIENCE
    ) -> None:
        self.name = source.name
        self._source = source
        self._cache = cache
        self._patience = patience
        self._jitter = random.Random()
        self._cut: set[str] = set()

    @property
    def truncated(self) -> int:
        """Of how many different texts only the beginning was embedded, because the model takes no more."""
        return len(self._cut)

    @property
    def warnings(self) -> tuple[str, ...]:
        problems = tuple(self._cache.problems) if self._cache else ()
        if not self._cut:
            return problems
        what = "1 text is" if self.truncated == 1 else f"{self.truncated:,} texts are"
        return (f"{what} longer than {self.name} takes: only the beginning was embedded", *problems)

    async def identity(self) -> str:
        """What vectors are kept under: it changes with the weights, the server, or whatever else changes them."""
        return await self._source.identity()

    async def embed(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """The vectors of `texts`, float32 of shape (texts, dimensions), as the model gives them.

        Those of `minilm` and other GGUF models have length 1, other models' may have any. `progress` is called
        with the different texts that are done and all of them. Batches that were done are kept even where a later
        one fails.

        Raises `UsageError` for an empty text, `ProviderError` where the server fails for good, and `ReplyError`
        for a vector that holds NaN or infinity or has another length than the others.
        """
        check_texts(texts)
        different = list(dict.fromkeys(texts))
        known = await self._known(different)
        missing = [text for text in different if text not in known]
        report = progress or (lambda done, total: None)
        report(len(known), len(different))
        size = self._source.batch
        batches = iter([missing[start : start + size] for start in range(0, len(missing), size)])

        async def work() -> None:
            for batch in batches:
                known.update(await self._embedded(batch))
                report(len(known), len(different))

        workers = [asyncio.create_task(work()) for _ in range(min(self._source.parallel, len(missing)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        return self._stacked(texts, known)

    async def aclose(self) -> None:
        """Let go of what nobody else in this process can be using."""
        await self._source.aclose()

    async def _known(self, texts: list[str]) -> dict[str, Vector]:
        if self._cache is None or not texts:
            return {}
        return await asyncio.to_thread(self._cache.get, await self.identity(), texts)

    async def _embedded(self, batch: list[str]) -> dict[str, Vector]:
        embeddings = await self._asked(batch)
        cut = set(embeddings.cut)
        made = {}
        for index, (text, values) in enumerate(zip(batch, embeddings.vectors, strict=True)):
            vector = np.asarray(values, dtype=np.float32)
            if not np.isfinite(vector).all():
                raise ReplyError(
                    f"{self.name} gave NaN or infinity for the text {text[:_EXCERPT]!r}: "
                    "leave it out, or take another embedder"
                )
            made[text] = Vector(vector, index in cut)
        if self._cache is not None:
            await asyncio.to_thread(self._cache.put, await self.identity(), made)
        return made

    async def _asked(self, batch: list[str]) -> Embeddings:
        """What the source gives, asked again after failures that may pass."""
        until, failed = time.monotonic() + self._patience.total, 0
        while True:
            try:
                return await self._source.embed(batch)
            except ProviderError as error:
                failed += 1
                longest = min(_LONGEST_WAIT, _FIRST_WAIT * 2**failed)
                wait = max(error.retry_after or 0.0, self._jitter.uniform(0, longest))
                late = time.monotonic() + wait > until
                if late or not error.retryable or failed >= self._patience.attempts:
                    raise
            await asyncio.sleep(wait)

    def _stacked(self, texts: Sequence[str], known: dict[str, Vector]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        lengths = {len(vector.values) for vector in known.values()}
        if len(lengths) > 1:
            raise ReplyError(
                f"{self.name} gave vectors of {len(lengths)} different lengths: is it one model that answers?"
            )
        self._cut.update(text for text, vector in known.items() if vector.cut)
        return np.stack([known[text].values for text in texts])


class _OfModel:
    """A model of ours as a source."""

    def __init__(self, model: Model) -> None:
        if not model.capabilities.embed:
            raise UsageError(f"{model.name} is no embedding model: take one, such as {DEFAULT}")
        self.name = model.name
        self._model = model
        remote = isinstance(model, OpenAICompatible)
        self.batch, self.parallel = (128, 8) if remote else (64, 2)
        self._identity = ""
        self.embed = model.embed

    async def aclose(self) -> None:
        """Nothing: whoever names the model next, in this process, gets the same one."""

    async def identity(self) -> str:
        if not self._identity:
            self._identity = await self._asked()
        return self._identity

    async def _asked(self) -> str:
        model = self._model
        said = await model.identity()
        if isinstance(model, Local):
            return f"{said} {await model.digest()} context={model.context}"
        return f"{said} {model.url}" if isinstance(model, OpenAICompatible) else said
