"""Embeddings of texts, from a model in this process, a server or a library, with a cache."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from outspoken._imports import need
from outspoken.engine import FailedAttempts, ordered
from outspoken.errors import ProviderError, ReplyError, UnknownNameError, UsageError
from outspoken.measure.embedding_cache import EmbeddingCache, Vector
from outspoken.models import get_model, weight_files
from outspoken.models.base import Embeddings, Model, check_texts
from outspoken.models.local import Local
from outspoken.models.openai_compatible import OpenAICompatible
from outspoken.settings import RequestLimits

__all__ = ["DEFAULT", "Embedder", "Library", "embedder", "sentence_transformers", "wordllama"]

Embed = Callable[[list[str]], Embeddings]


class Library:
    """A model of an optional library. `load` is called once; it returns the embedding function and the identity of
    the weights.
    """

    batch = 256
    parallel = 1

    def __init__(self, name: str, load: Callable[[], tuple[Embed, str]]) -> None:
        self.name = name
        self._load = load
        self._loaded: tuple[Embed, str] | None = None
        self._lock = threading.Lock()

    async def identity(self) -> str:
        return f"{self.name} {(await asyncio.to_thread(self._load_once))[1]}"

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        return await asyncio.to_thread(lambda: self._load_once()[0](list(texts)))

    async def aclose(self) -> None:
        self._loaded = None

    def _load_once(self) -> tuple[Embed, str]:
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded


def wordllama(name: str = "") -> Library:
    """The model in the package `wordllama`: the mean of word vectors, for texts of any length."""
    if name:
        raise UsageError(f"wordllama has one model: name it `wordllama`, without {name!r}")
    package = need("wordllama", "wordllama", "wordllama")

    def load() -> tuple[Embed, str]:
        # The weights are in the folder of the package; elsewhere it would download them.
        model = package.WordLlama.load(cache_dir=Path(package.__file__).parent, disable_download=True)
        return lambda texts: Embeddings(model.embed(texts).tolist()), version("wordllama")

    return Library("wordllama", load)


def sentence_transformers(name: str) -> Library:
    """A model of sentence-transformers: a name on its hub, or the path of a folder."""
    if not name:
        raise UsageError("name the model too, as in sentence-transformers/all-MiniLM-L6-v2")
    package = need("sentence_transformers", "an embedder of sentence-transformers", "sentence-transformers")

    def load() -> tuple[Embed, str]:
        try:
            model = package.SentenceTransformer(name)
        except (OSError, ValueError) as error:
            raise UsageError(f"sentence-transformers cannot load {name}: {str(error).splitlines()[0]}") from error
        return lambda texts: _encode(model, texts), _weights_digest(model)

    return Library(f"sentence-transformers/{name}", load)


def _encode(model: Any, texts: list[str]) -> Embeddings:
    limit = model.max_seq_length
    tokens = model.tokenizer(texts, truncation=False, verbose=False)["input_ids"]
    cut = tuple(index for index, ids in enumerate(tokens) if limit and len(ids) > limit)
    return Embeddings(model.encode(texts, show_progress_bar=False).tolist(), cut)


def _weights_digest(model: Any) -> str:
    """A sha256 of the loaded weights, because the weights behind a name may change."""
    digest = hashlib.sha256(str(model.max_seq_length).encode())
    for name, values in model.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


DEFAULT = "minilm"

_LIMITS = RequestLimits()
_EXCERPT = 40
_LIBRARIES = {"wordllama": wordllama, "sentence-transformers": sentence_transformers}


class EmbeddingSource(Protocol):
    """A source of embeddings, for at most `batch` texts in one call and `parallel` calls at once."""

    name: str
    batch: int
    parallel: int

    async def identity(self) -> str: ...

    async def embed(self, texts: Sequence[str]) -> Embeddings: ...

    async def aclose(self) -> None: ...


def embedder(
    name: str | None = None,
    *,
    cache: EmbeddingCache | bool | None = True,
    limits: RequestLimits = _LIMITS,
) -> Embedder:
    """The embedder with this name. Nothing is loaded, downloaded or sent yet.

    Names are `minilm` (the default: all-MiniLM-L6-v2 in this process), `wordllama` (a hundred times faster and
    less accurate), `sentence-transformers/NAME`, `local//path/to/file.gguf`, `openai/text-embedding-3-small` or a
    model of another provider, and `http://host:port/v1#model`. `cache` stores the vectors: True for the user's
    file, False or None for no cache. `limits` bounds the attempts at each batch if a server fails.

    Raises `UsageError` for an unknown name or a model that cannot embed, `MissingKeyError` without the provider's
    key, and `MissingExtraError` without the library.
    """
    name = name or DEFAULT
    store = EmbeddingCache() if cache is True else cache or None
    kind, _, rest = name.partition("/")
    if kind in _LIBRARIES:
        return Embedder(_LIBRARIES[kind](rest), cache=store, limits=limits)
    if not rest:
        known = [row.name for row in weight_files.listing() if row.embeds]
        if name.partition("?")[0] not in known:
            raise UnknownNameError("embedder", name, [*known, *_LIBRARIES], see="or provider/model, or a URL")
        name = f"local/{name}"
    return Embedder(_ModelSource(get_model(name)), cache=store, limits=limits)


class Embedder:
    """Embeds each distinct text once, unless it is in the cache, and repeats requests after transient errors."""

    def __init__(
        self,
        source: EmbeddingSource,
        *,
        cache: EmbeddingCache | None = None,
        limits: RequestLimits = _LIMITS,
    ) -> None:
        self.name = source.name
        self._source = source
        self._cache = cache
        self._limits = limits
        self._cut: set[str] = set()

    @property
    def truncated(self) -> int:
        """The number of distinct texts that were longer than the model accepts: only their beginning counts."""
        return len(self._cut)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about texts of which only the beginning was embedded, and about problems of the cache."""
        problems = tuple(self._cache.problems) if self._cache else ()
        if not self._cut:
            return problems
        texts = "1 text is" if self.truncated == 1 else f"{self.truncated:,} texts are"
        return (f"{texts} longer than {self.name} accepts: only the beginning was embedded", *problems)

    async def identity(self) -> str:
        """The identity of the vectors in the cache; it changes with everything that changes the vectors."""
        return await self._source.identity()

    async def embed(
        self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """The vectors of `texts`, float32 of shape (texts, dimensions), as the model returns them.

        Vectors of `minilm` and other GGUF models have length 1, those of other models any length. `progress` is
        called with the number of distinct texts that are done and the number of all. Finished batches stay in the
        cache if a later one fails.

        Raises `UsageError` for an empty text, `ProviderError` if the server keeps failing, and `ReplyError` for a
        vector that holds NaN or infinity or has another length than the others.
        """
        check_texts(texts)
        distinct = list(dict.fromkeys(texts))
        known = await self._cached(distinct)
        missing = [text for text in distinct if text not in known]
        report = progress or (lambda done, total: None)
        report(len(known), len(distinct))
        size = self._source.batch
        batches = (missing[start : start + size] for start in range(0, len(missing), size))
        results = ordered(batches, self._embed_batch, tasks=self._source.parallel, window=len(missing) + 1)
        async with aclosing(results):
            async for vectors in results:
                known.update(vectors)
                report(len(known), len(distinct))
        return self._stack(texts, known)

    async def aclose(self) -> None:
        """Release the model, unless others in this process may be using it."""
        await self._source.aclose()

    async def _cached(self, texts: list[str]) -> dict[str, Vector]:
        if self._cache is None or not texts:
            return {}
        return await asyncio.to_thread(self._cache.get, await self.identity(), texts)

    async def _embed_batch(self, batch: list[str]) -> dict[str, Vector]:
        embeddings = await self._request(batch)
        cut = set(embeddings.cut)
        by_text = {}
        for index, (text, values) in enumerate(zip(batch, embeddings.vectors, strict=True)):
            vector = np.asarray(values, dtype=np.float32)
            if not np.isfinite(vector).all():
                raise ReplyError(
                    f"{self.name} gave NaN or infinity for the text {text[:_EXCERPT]!r}: "
                    "leave it out, or use another embedder"
                )
            by_text[text] = Vector(vector, index in cut)
        if self._cache is not None:
            await asyncio.to_thread(self._cache.put, await self.identity(), by_text)
        return by_text

    async def _request(self, batch: list[str]) -> Embeddings:
        failed = FailedAttempts(self._limits, time.monotonic())
        while True:
            try:
                return await self._source.embed(batch)
            except ProviderError as error:
                wait = failed.wait_after(error)
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    def _stack(self, texts: Sequence[str], known: dict[str, Vector]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, 0), dtype=np.float32)
        lengths = {len(vector.values) for vector in known.values()}
        if len(lengths) > 1:
            problem = f"{self.name} gave vectors of {len(lengths)} different lengths"
            raise ReplyError(f"{problem}: check that the server runs one model")
        self._cut.update(text for text, vector in known.items() if vector.cut)
        return np.stack([known[text].values for text in texts])


class _ModelSource:
    def __init__(self, model: Model) -> None:
        if not model.capabilities.embed:
            raise UsageError(f"{model.name} is not an embedding model: use one, such as {DEFAULT}")
        self.name = model.name
        self._model = model
        remote = isinstance(model, OpenAICompatible)
        self.batch, self.parallel = (128, 8) if remote else (64, 2)
        self._identity = ""
        self.embed = model.embed

    async def aclose(self) -> None:
        """Do nothing: other users in this process share the model."""

    async def identity(self) -> str:
        if not self._identity:
            model, identity = self._model, await self._model.identity()
            if isinstance(model, Local):
                identity += f" {await model.digest()} context={model.context}"
            elif isinstance(model, OpenAICompatible):
                identity += f" {model.url}"
            self._identity = identity
        return self._identity
