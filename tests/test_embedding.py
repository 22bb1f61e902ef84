"""Embedders by name, their cache, and failures of models and of the cache."""

from __future__ import annotations

import asyncio
import importlib.util
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")

from aiohttp import web  # noqa: E402
from servers import Handler, serving  # noqa: E402

from outspoken.errors import ProviderError, ReplyError, UnknownNameError, UsageError  # noqa: E402
from outspoken.measure.embedding import Embedder, embedder  # noqa: E402
from outspoken.measure.embedding_cache import EmbeddingCache, Vector, default_path  # noqa: E402
from outspoken.models.base import Embeddings  # noqa: E402
from outspoken.models.local import Local  # noqa: E402
from outspoken.settings import RequestLimits  # noqa: E402

TEXTS = ["tea", "茶", "ชา", "شاي", "☕", "thé"]


def vector_of(text: str) -> list[float]:
    return [float(len(text)), float(sum(text.encode())), 1.0]


class Counting:
    """A source that records the texts it embeds; a text is cut after 100 characters."""

    name, batch = "counting", 4

    def __init__(self, *, parallel: int = 3, identity: str = "counting 1") -> None:
        self.parallel = parallel
        self.texts: list[str] = []
        self.running = self.most = 0
        self._identity = identity

    async def identity(self) -> str:
        return self._identity

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        self.texts += texts
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.01 if texts[0] == "tea" else 0)  # the first batch comes last
        self.running -= 1
        cut = tuple(index for index, text in enumerate(texts) if len(text) > 100)
        return Embeddings([vector_of(text) for text in texts], cut)

    async def aclose(self) -> None:
        pass


async def test_equal_texts_once_in_their_order() -> None:
    source = Counting()
    texts = [*TEXTS, *(f"text {number % 30}" for number in range(90)), *reversed(TEXTS)]
    seen: list[tuple[int, int]] = []
    vectors = await Embedder(source).embed(texts, lambda done, total: seen.append((done, total)))
    assert vectors.dtype == np.float32
    assert vectors.tolist() == [vector_of(text) for text in texts]
    assert sorted(source.texts) == sorted({*texts})
    assert source.most == 3
    assert (seen[0], seen[-1]) == ((0, 36), (36, 36))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


async def test_no_texts_and_empty_texts() -> None:
    source = Counting()
    assert (await Embedder(source).embed([])).shape == (0, 0)
    for bad in ("", " \n", "\ud83d"):
        with pytest.raises(UsageError, match="text 1 "):
            await Embedder(source).embed(["a", bad])
    assert source.texts == []


async def test_embeddings_are_cached(tmp_path: Path) -> None:
    path = tmp_path / "new" / "kept.sqlite"
    first, second, other = Counting(), Counting(), Counting(identity="counting 2")
    long = "long " * 50
    for source, texts in ((first, TEXTS), (second, [*TEXTS, long]), (second, [long, "tea"]), (other, TEXTS)):
        vectors = Embedder(source, cache=EmbeddingCache(path))
        assert (await vectors.embed(texts)).tolist() == [vector_of(text) for text in texts]
        assert vectors.truncated == (long in texts)
        assert vectors.warnings == (
            ("1 text is longer than counting accepts: only the beginning was embedded",) if long in texts else ()
        )
    assert first.texts == other.texts == TEXTS
    assert second.texts == [long]
    files = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert "茶".encode() not in files
    assert b"long long" not in files


def test_the_users_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OUTSPOKEN_CACHE", str(tmp_path))
    assert EmbeddingCache().path == default_path() == tmp_path / "embeddings.sqlite"


@pytest.mark.parametrize("damage", [b"no database at all " * 99, None])
async def test_a_damaged_file_is_set_aside(tmp_path: Path, damage: bytes | None) -> None:
    path = tmp_path / "kept.sqlite"
    many = [f"text {number}" for number in range(2000)]
    await Embedder(Counting(), cache=EmbeddingCache(path)).embed(many)
    if damage is None:  # the header is intact, the pages behind it are not
        complete = path.read_bytes()
        damage = complete[:4096] + b"\xa5" * (len(complete) - 4096)
    path.write_bytes(damage)
    for cache, problems in ((EmbeddingCache(path), 1), (EmbeddingCache(path), 0)):
        source = Counting()
        first = Embedder(source, cache=cache)
        assert (await first.embed(TEXTS)).tolist() == [vector_of(text) for text in TEXTS]
        assert len(first.warnings) == problems
        assert bool(source.texts) == bool(problems)
    (aside,) = tmp_path.glob("kept.sqlite.damaged-*")
    assert aside.read_bytes() == damage


def test_a_garbled_vector_is_computed_again(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "kept.sqlite")
    cache.put("m", {"a": Vector(np.float32([1, 2])), "b": Vector(np.float32([np.nan, 2]))})
    result = cache.get("m", ["a", "b", "c"])
    assert {text: vector.values.tolist() for text, vector in result.items()} == {"a": [1, 2]}


async def test_an_unusable_file_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    first = Embedder(Counting(), cache=EmbeddingCache(tmp_path / "file" / "kept.sqlite"))
    assert (await first.embed(TEXTS)).shape == (6, 3)
    (message,) = first.warnings
    assert "not cached" in message
    with pytest.raises(UsageError, match="is a folder"):
        EmbeddingCache(tmp_path)


def test_two_processes_with_one_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    path.write_bytes(b"damaged " * 1000)
    script = """
        import sys, numpy as np
        from outspoken.measure.embedding_cache import EmbeddingCache, Vector
        cache = EmbeddingCache(sys.argv[1])
        for number in range(150):
            text = f"{sys.argv[2]} {number}"
            cache.put("m", {text: Vector(np.full(8, number, np.float32))})
            assert text in cache.get("m", [text]), cache.problems
        print(len(cache.problems))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(path)]
    running = [
        subprocess.Popen([*command, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for name in ("one", "two", "three")
    ]
    message = [process.communicate(timeout=120) for process in running]
    assert [error for _, error in message] == [""] * 3
    assert sum(int(messages) for messages, _ in message) == 1  # one of them set it aside
    assert len(list(tmp_path.glob("kept.sqlite.damaged-*"))) == 1
    texts = [f"{name} {number}" for name in ("one", "two", "three") for number in range(150)]
    result = EmbeddingCache(path).get("m", texts)
    assert len(result) == 450
    assert result["two 7"].values.tolist() == [7.0] * 8


def test_a_locked_file_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    cache = EmbeddingCache(path)
    cache.put("m", {"a": Vector(np.float32([1]))})
    holder = sqlite3.connect(path)
    holder.execute("BEGIN IMMEDIATE")
    assert cache.get("m", ["a"])  # readers do not wait for a writer
    holder.close()
    assert cache.problems == []


# Servers


def embeddings_server(*, failing: int = 0, status: int = 503, replace: dict[str, Any] | None = None) -> Handler:
    """Fails `failing` times, then embeds; a text in `replace` gets that vector."""
    left = failing

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal left
        if left:
            left -= 1
            return web.json_response({"error": {"message": "busy"}}, status=status, headers={"Retry-After": "0"})
        texts = (await request.json())["input"]
        data = [
            {"index": index, "embedding": (replace or {}).get(text, vector_of(text))}
            for index, text in enumerate(texts)
        ]
        return web.json_response({"data": data[::-1]})

    return handle


async def test_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    texts = [f"text {number}" for number in range(300)]
    async with serving(embeddings_server(failing=2)) as served:
        first = embedder(f"{served.base_url}#emb", cache=None)
        assert (await first.embed(texts)).tolist() == [vector_of(text) for text in texts]
        assert await first.identity() == f"{served.base_url}#emb {served.base_url}"
        await first.aclose()
    assert len(served.bodies) == 5
    assert {request.path for request in served.requests} == {"/v1/embeddings"}


@pytest.mark.parametrize(("status", "requests"), [(401, 1), (503, 3)])
async def test_a_server_that_fails_for_good(monkeypatch: pytest.MonkeyPatch, status: int, requests: int) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with serving(embeddings_server(failing=99, status=status)) as served:
        first = embedder(f"{served.base_url}#emb", cache=None, limits=RequestLimits(attempts=3))
        with pytest.raises(ProviderError, match="busy"):
            await first.embed(["a"])
    assert len(served.bodies) == requests


@pytest.mark.parametrize(
    ("vector", "message"), [([1.0, float("nan"), 1.0], "NaN.*'bad 茶'"), ([1.0, 2.0], "2 different lengths")]
)
async def test_invalid_vectors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, vector: list[float], message: str
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    texts = [*(f"text {number}" for number in range(128)), "bad 茶"]
    async with serving(embeddings_server(replace={"bad 茶": vector})) as served:
        first = embedder(f"{served.base_url}#emb", cache=EmbeddingCache(tmp_path / "kept.sqlite"))
        with pytest.raises(ReplyError, match=message):
            await first.embed(texts)


# Names


@pytest.mark.parametrize("cache", [True, False])
async def test_the_default(minilm: Local, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: bool) -> None:
    await minilm.load()
    (tmp_path / "models").symlink_to(minilm._file().parent)
    monkeypatch.setenv("OUTSPOKEN_CACHE", str(tmp_path))
    monkeypatch.setenv("OUTSPOKEN_OFFLINE", "1")
    pairs = [
        ("A man is playing a guitar.", "Someone plays the guitar."),
        ("How do I reset my password?", "I forgot my password, what now?"),
        ("The stock market fell sharply today.", "茶在杯子里慢慢变凉。"),
        ("A cat sleeps on the mat.", "Inflation rose to four per cent."),
    ]
    first = embedder(cache=cache)
    assert first.name == "local/minilm"
    vectors = await first.embed([text for pair in pairs for text in pair])
    assert vectors.shape == (8, 384)
    cosines = (vectors[::2] * vectors[1::2]).sum(1)
    assert (cosines[:2] > 0.6).all()
    assert (cosines[2:] < 0.3).all()
    assert await first.identity() == f"local/minilm {await minilm.digest()} context=4096"
    assert (tmp_path / "embeddings.sqlite").exists() == cache


async def test_a_server_of_llama_cpp(minilm: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file behind llama.cpp's own HTTP server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    llama = pytest.importorskip("xllamacpp")
    await minilm.load()
    params = llama.CommonParams()
    params.model.path, params.verbosity, params.embedding = str(minilm._file()), -1, True
    params.hostnames, params.port = ["127.0.0.1"], 0
    server = llama.Server(params)
    first = embedder(f"{server.listening_address}/v1#minilm", cache=None)
    vectors = await first.embed(TEXTS)
    assert np.abs(vectors - np.array((await minilm.embed(TEXTS)).vectors)).max() < 1e-3
    with pytest.raises(ProviderError, match=r"too large|larger than"):
        await embedder(
            f"{server.listening_address}/v1#minilm", cache=None, limits=RequestLimits(attempts=1)
        ).embed(["word " * 3000])
    del server


@pytest.mark.parametrize("name", ["wordllama", "sentence-transformers/nowhere/none"])
def test_libraries_that_are_not_installed(name: str) -> None:
    library = name.partition("/")[0]
    if importlib.util.find_spec(library.replace("-", "_")):
        pytest.skip(f"{library} is installed")
    with pytest.raises(UsageError, match=rf"install .*\[{library}\]"):
        embedder(name)


async def test_wordllama() -> None:
    pytest.importorskip("wordllama")
    first = embedder("wordllama", cache=None)
    vectors = await first.embed(["A man is playing a guitar.", "Someone plays the guitar.", "Shares fell."])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.6 > 0.3 > unit[0] @ unit[2]
    assert (await first.identity()).startswith("wordllama 0.")


def test_invalid_names_of_embedders() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'minilm'"):
        embedder("minlm")
    with pytest.raises(UnknownNameError, match="did you mean 'wordllama'"):
        embedder("wordlama")
    with pytest.raises(UsageError, match="local/smollm2 is not an embedding model"):
        embedder("local/smollm2")
    with pytest.raises(UsageError, match="name the model too"):
        embedder("sentence-transformers")
