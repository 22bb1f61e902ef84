"""Models in this process: GGUF files run by llama.cpp (`xllamacpp`).

The schema of a request becomes an llguidance grammar, which the decoder enforces: numbers stay within their bounds
and lists have the exact length. Several requests are decoded together, one in each slot.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import UnknownNameError, UsageError
from outspoken.models import _llama_formats as formats
from outspoken.models import weight_files
from outspoken.models._llama_formats import DEFAULT_MAX_TOKENS, ServerAnswer
from outspoken.models._threads import InProcessModel
from outspoken.models.base import Capabilities, Embeddings, Score, check_texts
from outspoken.models.transformers import Transformers

__all__ = ["DEFAULT_MAX_TOKENS", "Local", "LocalSettings", "local"]

# Few: a running call cannot be cancelled, and the calls of several workers are computed together anyway.
_TEXTS_PER_CALL = 4
_EMBEDDING_STEP = 2048
_MAX_SOCKET_PATH = 100
_EXTRA_SETTINGS = frozenset(
    {
        "adaptive_decay", "adaptive_target", "chat_template_kwargs", "dry_allowed_length", "dry_base",
        "dry_multiplier", "dry_penalty_last_n", "dry_sequence_breakers", "dynatemp_exponent", "dynatemp_range",
        "frequency_penalty", "ignore_eos", "logit_bias", "min_keep", "min_p", "mirostat", "mirostat_eta",
        "mirostat_tau", "presence_penalty", "repeat_last_n", "repeat_penalty", "samplers", "top_k",
        "top_n_sigma", "typical_p", "xtc_probability", "xtc_threshold",
    }
)  # fmt: skip
# For base models, which have no chat template: the model continues the prompt as it is.
_PLAIN_TEMPLATE = "{{ messages | map(attribute='content') | join('\n\n') }}"


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """How a model runs in this process; in a name they follow a question mark: `local/smollm2?slots=2&threads=4`.

    `slots` requests are decoded at once, each within `context` tokens; further requests wait. `threads` is the
    number of processor threads (None: llama.cpp's default, one per core; for embeddings, one per two cores). Fewer
    threads are much faster if other work keeps the cores busy. Raises `UsageError` for a number below 1.
    """

    slots: int = 8
    context: int = 4096
    threads: int | None = None

    def __post_init__(self) -> None:
        if min(self.slots, self.context, 1 if self.threads is None else self.threads) < 1:
            raise UsageError("slots, context and threads must be at least 1")


class Local(InProcessModel):
    """A GGUF model in this process, loaded on first use and freed by `aclose`.

    `source` is the path of a GGUF file, or a name in `weight_files.TABLE` whose file is fetched on first use
    unless `offline`.

    A reply ends after `DEFAULT_MAX_TOKENS` tokens if the request sets no `max_tokens`, and when the context is
    full. A request with a seed has the same reply every time if it is the only one in progress; numbers are
    rounded differently when requests are decoded together, which occasionally changes the text. Models without a
    chat template (base models) continue the prompt.

    An embedding model (`capabilities.embed`) embeds texts and does not answer. Its vectors have length 1; a text
    longer than the model's context is cut at its end. Texts that are embedded together are rounded differently,
    too: the cosine of a text with itself, embedded among other texts, is 0.9997.

    Raises `UsageError` for a missing file or one that is not GGUF, and `MissingExtraError`, on first use, without
    xllamacpp.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        settings: LocalSettings | None = None,
        *,
        name: str | None = None,
        offline: bool = False,
    ) -> None:
        self._source = _identify(source)
        if isinstance(self._source, Path):
            formats.check_file(self._source)
            self._embeds = formats.is_embedder(self._source)
        else:
            self._embeds = weight_files.TABLE[self._source].embeds
        self._settings = settings or LocalSettings()
        super().__init__(name or f"local/{self._source}", self._settings.slots)
        chat = dict.fromkeys(("schema", "seed", "extra", "stream", "score"), not self._embeds)
        self.capabilities = Capabilities(**chat, embed=self._embeds, parallel=self._settings.slots)
        # llama.cpp gives no log-probabilities of a given text, so transformers reads the same file for them.
        self._scorer = Transformers(self._source, name=self.name, offline=offline)
        self._usable_context = self._settings.context
        self._offline = offline
        self._load_lock = threading.Lock()
        self._server: Any = None
        self._grammars = formats.Grammars(self._ask)

    @property
    def context(self) -> int:
        """The configured number of tokens for each request."""
        return self._settings.context

    async def load(self) -> None:
        """Load the model now; otherwise the first request does."""
        await self._in_worker(self._load)

    async def complete(self, request: ChatRequest) -> ChatReply:
        stop = threading.Event()
        try:
            return await asyncio.wrap_future(self._submit(request, stop))
        finally:
            stop.set()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[str | ChatReply, None]:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[str | None] = asyncio.Queue()

        def emit(piece: str) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        stop = threading.Event()
        reply = asyncio.wrap_future(self._submit(request, stop, emit))
        reply.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await reply
        finally:
            stop.set()
            reply.cancel()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        if not self._embeds:
            raise UsageError(f"{self.name} is not an embedding model: take one, such as local/minilm")
        check_texts(texts)
        self._check_open()
        calls = [
            asyncio.wrap_future(self._workers.submit(partial(self._embed, at, texts[at : at + _TEXTS_PER_CALL])))
            for at in range(0, len(texts), _TEXTS_PER_CALL)
        ]
        try:
            results = await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
        return Embeddings(
            [vector for result in results for vector in result.vectors],
            tuple(index for result in results for index in result.cut),
        )

    async def scores(self, pairs: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        self._check_open()
        return await self._scorer.scores(pairs)

    async def score_identity(self) -> str:
        return await self._scorer.identity()

    async def chat_text(self, prompt: str) -> str:
        self._check_open()
        return await self._scorer.chat_text(prompt)

    async def digest(self) -> str:
        """The sha256 of the file, which is fetched first if it is missing."""
        return await asyncio.wrap_future(self._workers.submit(lambda: weight_files.sha256_of(self._file())))

    def _free(self) -> None:
        self._server = None
        self._scorer.close()

    def _submit(
        self, request: ChatRequest, stop: threading.Event, emit: Callable[[str], None] | None = None
    ) -> Future[ChatReply]:
        if self._embeds:
            raise UsageError(
                f"{self.name} embeds texts and does not answer: take a chat model, such as local/smollm2"
            )
        self.check(request)
        for name in request.sampling.extra:
            if name not in _EXTRA_SETTINGS:
                raise UnknownNameError("setting of a local model", name, _EXTRA_SETTINGS)
        self._check_open()
        return self._workers.submit(lambda: self._complete(request, stop, emit))

    def _complete(
        self, request: ChatRequest, stop: threading.Event, emit: Callable[[str], None] | None
    ) -> ChatReply:
        """Runs in a worker thread."""
        self._load()
        body = formats.chat_body(request)
        if request.schema is not None:
            body["grammar"] = self._grammars.of(request.schema)
        reader = formats.ChunkReader(self.name, lambda: stop.is_set() or self.closed, emit)
        self._ask(body, reader)
        self._check_open()
        return reader.reply(structured=request.schema is not None)

    def _embed(self, start: int, texts: Sequence[str]) -> Embeddings:
        """Runs in a worker thread. `start` is the index of the first text."""
        self._load()
        self._check_open()
        part = formats.embed_texts(texts, self._ask_for_vectors, context=self._usable_context)
        return Embeddings(part.vectors, tuple(start + index for index in part.cut))

    def _ask_for_vectors(self, texts: list[str]) -> ServerAnswer:
        answer: ServerAnswer = self._server.handle_embeddings({"input": texts})
        return answer

    def _ask(self, *arguments: object) -> ServerAnswer:
        # No other frame refers to the server: an error's traceback would keep it alive after `aclose`.
        answer: ServerAnswer = self._server.handle_chat_completions(*arguments)
        return answer

    def _load(self) -> None:
        with self._load_lock:
            self._check_open()
            if self._server is None:
                llama = need("xllamacpp", "a local model", "local")
                formats.check_build(llama)
                self._server = self._start_server(llama, self._file())

    def _file(self) -> Path:
        if isinstance(self._source, Path):
            return self._source
        with weight_files.progress_on_stderr(self._source) as show:

            def progress(done: int, total: int) -> None:
                self._check_open()
                show(done, total)

            return weight_files.get(self._source, offline=self._offline, progress=progress)

    def _start_server(self, llama: Any, file: Path) -> Any:
        params = llama.CommonParams()
        params.model.path = str(file)
        params.verbosity = -1
        if self._embeds:
            self._usable_context = min(self.context, formats.trained_context(file) or self.context)
            params.embedding = True
            # A text is embedded in one step. With room for twice as many tokens, llama.cpp reports its length.
            params.n_ubatch = max(self._usable_context, min(2 * self._usable_context, _EMBEDDING_STEP))
        params.n_parallel = self._settings.slots
        params.n_ctx = self._settings.slots * self._usable_context
        # A long prompt is read in steps of this many tokens; between steps it can be cancelled and others proceed.
        params.n_batch = params.n_ubatch
        params.cache_ram_mib = 0
        params.fit_params = False
        threads = self._settings.threads
        if threads is None and self._embeds:
            # On two busy cores, two threads take four times as long as one: they wait for each other.
            threads = max(1, (os.cpu_count() or 1) // 2)
        if threads is not None:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        if not formats.has_chat_template(file):
            params.chat_template = _PLAIN_TEMPLATE
        with _private_address(params):
            try:
                return llama.Server(params)
            except RuntimeError as error:
                raise UsageError(
                    f"{file} cannot be loaded: the file is damaged, there is too little memory, or "
                    f"xllamacpp {llama.__version__} is too old for this kind of model"
                ) from error


def _identify(source: str | os.PathLike[str]) -> str | Path:
    """The name of known weights, otherwise the absolute path of a file."""
    if source in weight_files.TABLE:
        return str(source)
    path = Path(source).expanduser()
    if isinstance(source, str) and path.name == source and path.suffix != ".gguf" and not path.exists():
        raise UnknownNameError("local model", source, weight_files.TABLE, see="or give the path of a GGUF file")
    return Path(os.path.realpath(path))


@contextmanager
def _private_address(params: Any) -> Iterator[None]:
    """llama.cpp always listens: on a Unix socket whose file is deleted as soon as the model is loaded.

    Without Unix sockets it listens on a port of the loopback interface and requires a random key.
    """
    params.ui = params.endpoint_slots = False
    params.api_keys = [secrets.token_hex(32)]
    params.n_threads_http = 1
    with tempfile.TemporaryDirectory(prefix="outspoken-") as folder:
        socket = os.path.join(folder, "llama.sock")
        if os.name == "posix" and len(os.fsencode(socket)) < _MAX_SOCKET_PATH:
            params.hostnames = [socket]
        yield


_shared: dict[tuple[str | Path, LocalSettings, bool], Local] = {}
_shared_lock = threading.Lock()


def local(
    source: str | os.PathLike[str], settings: LocalSettings | None = None, *, offline: bool = False
) -> Local:
    """The `Local` with these settings that the whole process shares until it is closed."""
    key = (_identify(source), settings or LocalSettings(), offline)
    with _shared_lock:
        model = _shared.get(key)
        if model is None or model.closed:
            model = _shared[key] = Local(source, settings, offline=offline)
        return model
