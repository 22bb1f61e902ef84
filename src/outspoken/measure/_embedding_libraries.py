"""Embedding models in Python libraries, each run in one thread."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.errors import UsageError
from outspoken.models.base import Embeddings

__all__ = ["Library", "sentence_transformers", "wordllama"]

Embed = Callable[[list[str]], Embeddings]


class Library:
    """The model of a library. `load`, called once, returns its embedding function and the identity of its
    weights."""

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
