"""Models that run inside this process: GGUF files through llama.cpp (`xllamacpp`).

A request's schema becomes an llguidance grammar, so that the decoder itself keeps to it: numbers stay within
their bounds and lists have exactly the wanted length. Several requests are decoded together, one slot each.
"""

from __future__ import annotations

import asyncio
import atexit
import hashlib
import os
import secrets
import tempfile
import threading
import weakref
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.chat import ChatRequest, Message
from outspoken.chat_reply import ChatReply, Usage
from outspoken.errors import PromptTooLongError, ProviderError, UnknownNameError, UsageError
from outspoken.models import weight_files
from outspoken.models._gguf_header import check_file, has_chat_template, is_embedder, trained_context
from outspoken.models._grammar import Grammars, check_build
from outspoken.models._llama_embeddings import embedded
from outspoken.models._threads import ModelThreads
from outspoken.models.base import Capabilities, Embeddings, Model, Score, check_texts
from outspoken.models.transformers import Transformers

__all__ = ["DEFAULT_MAX_TOKENS", "Local", "local"]

DEFAULT_MAX_TOKENS = 1024

# Few: a call that runs cannot be cancelled, and those of several workers are computed together.
_TEXTS_A_CALL = 4
_EMBEDDING_STEP = 2048
_SOCKET_PATH_LIMIT = 100
_EXTRA = frozenset(
    {
        "adaptive_decay", "adaptive_target", "chat_template_kwargs", "dry_allowed_length", "dry_base",
        "dry_multiplier", "dry_penalty_last_n", "dry_sequence_breakers", "dynatemp_exponent", "dynatemp_range",
        "frequency_penalty", "ignore_eos", "logit_bias", "min_keep", "min_p", "mirostat", "mirostat_eta",
        "mirostat_tau", "presence_penalty", "repeat_last_n", "repeat_penalty", "samplers", "top_k",
        "top_n_sigma", "typical_p", "xtc_probability", "xtc_threshold",
    }
)  # fmt: skip
# For base models, which have no chat template: the prompt as it stands, to be continued.
_PLAIN_TEMPLATE = "{{ messages | map(attribute='content') | join('\n\n') }}"


class Local(Model):
    """A GGUF model in this process, loaded on first use and freed by `aclose`.

    `source` is the path of a GGUF file or one of the names in `weights.TABLE`, whose file is fetched on first
    use unless `offline`. `slots` requests are decoded at once, each within `context` tokens; further ones wait.
    `threads` is how many compute (None: one a core, for embeddings one for two); where other work keeps the cores
    busy, fewer are much faster.

    A reply ends after `DEFAULT_MAX_TOKENS` tokens where the request sets no `max_tokens`, and where the context
    is full in any case. A request with a seed repeats exactly while it is the only one in flight; decoded
    together with others its numbers are rounded differently, and now and then it gives another text. Models
    without a chat template (base models) continue the prompt.

    A file of an embedding model (`capabilities.embed`) embeds texts and completes nothing. Its vectors have
    length 1; of a text that is longer than the model's context the beginning is embedded. Texts embedded
    together are rounded differently too: the cosine of a text with itself, embedded in other company, is 0.9997.

    Raises `UsageError` for a file that is not there or is no GGUF file, and `MissingExtraError`, on first use,
    without xllamacpp.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        name: str | None = None,
        slots: int = 8,
        context: int = 4096,
        threads: int | None = None,
        offline: bool = False,
    ) -> None:
        if slots < 1 or context < 1 or (threads is not None and threads < 1):
            raise UsageError("slots, context and threads must be at least 1")
        self._source = _identify(source)
        if isinstance(self._source, Path):
            check_file(self._source)
            self._embeds = is_embedder(self._source)
        else:
            self._embeds = weight_files.TABLE[self._source].embeds
        self.name = name or f"local/{self._source}"
        chat = not self._embeds
        self.capabilities = Capabilities(
            schema=chat, seed=chat, extra=chat, stream=chat, score=chat, embed=self._embeds, parallel=slots
        )
        # llama.cpp tells no log-probabilities of a given text: transformers reads the same file for that.
        self._scorer = Transformers(self._source, name=self.name, offline=offline)
        self.context = context
        self._slots, self._longest, self._threads, self._offline = slots, context, threads, offline
        self._workers = ModelThreads(slots)
        self._closed = threading.Event()
        self._process = os.getpid()
        self._load_lock = threading.Lock()
        self._server: Any = None
        self._grammars = Grammars(self._ask)
        _living.add(self)

    @property
    def closed(self) -> bool:
        """Whether it may not be used any more: closed, or made before this process was forked off."""
        return self._closed.is_set() or self._process != os.getpid()

    async def load(self) -> None:
        """Load now what the first request would load otherwise."""
        await asyncio.wrap_future(self._workers.submit(self._load))

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
        answer = asyncio.wrap_future(self._submit(request, stop, emit))
        answer.add_done_callback(lambda _: pieces.put_nowait(None))
        try:
            while (piece := await pieces.get()) is not None:
                yield piece
            yield await answer
        finally:
            stop.set()
            answer.cancel()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        if not self._embeds:
            raise UsageError(f"{self.name} is not an embedding model: take one, such as local/minilm")
        check_texts(texts)
        self._check_open()
        calls = [
            asyncio.wrap_future(
                self._workers.submit(partial(self._embed, texts[start : start + _TEXTS_A_CALL], start))
            )
            for start in range(0, len(texts), _TEXTS_A_CALL)
        ]
        try:
            parts = await asyncio.gather(*calls)
        finally:
            for call in calls:
                call.cancel()
        return Embeddings(
            [vector for part in parts for vector in part.vectors],
            tuple(index for part in parts for index in part.cut),
        )

    async def scores(self, asked: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        self._check_open()
        return await self._scorer.scores(asked)

    async def score_identity(self) -> str:
        return await self._scorer.identity()

    async def chat_text(self, prompt: str) -> str:
        self._check_open()
        return await self._scorer.chat_text(prompt)

    async def digest(self) -> str:
        """The sha256 of the file, which is fetched first where it is not here."""

        def digest() -> str:
            with self._file().open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()

        return await asyncio.wrap_future(self._workers.submit(digest))

    async def aclose(self) -> None:
        await asyncio.to_thread(self._close)
        await self._scorer.aclose()

    def _close(self) -> None:
        if self._process != os.getpid():
            return  # the threads to wait for are not in this process
        self._closed.set()
        self._workers.join()
        self._server = None

    def _submit(
        self, request: ChatRequest, stop: threading.Event, emit: Callable[[str], None] | None = None
    ) -> Future[ChatReply]:
        if self._embeds:
            raise UsageError(
                f"{self.name} embeds texts and answers nothing: take a chat model, such as local/smollm2"
            )
        self.check(request)
        for name in request.sampling.extra:
            if name not in _EXTRA:
                raise UnknownNameError("setting of a local model", name, _EXTRA)
        self._check_open()
        return self._workers.submit(lambda: self._answer(request, stop, emit))

    def _check_open(self) -> None:
        if self.closed:
            raise UsageError(f"{self.name} is closed or came through a fork: make a new model")

    def _answer(
        self, request: ChatRequest, stop: threading.Event, emit: Callable[[str], None] | None
    ) -> ChatReply:
        """Runs in a worker thread."""
        self._load()
        body = _body(request)
        if request.schema is not None:
            body["grammar"] = self._grammars.of(request.schema)
        reader = _Reader(lambda: stop.is_set() or self.closed, emit)
        self._ask(body, reader)
        self._check_open()
        return reader.reply(self.name, structured=request.schema is not None)

    def _embed(self, texts: Sequence[str], start: int) -> Embeddings:
        """Runs in a worker thread. `start` is the index of the first text."""
        self._load()
        self._check_open()
        found = embedded(texts, self._ask_for_vectors, context=self._longest)
        return Embeddings(found.vectors, tuple(start + index for index in found.cut))

    def _ask_for_vectors(self, texts: list[str]) -> Any:
        return self._server.handle_embeddings({"input": texts})

    def _ask(self, *arguments: Any) -> Any:
        # No frame but this one holds the server: an error's traceback would keep it alive after `aclose`.
        return self._server.handle_chat_completions(*arguments)

    def _load(self) -> None:
        with self._load_lock:
            self._check_open()
            if self._server is None:
                llama = need("xllamacpp", "a local model", "local")
                check_build(llama)
                self._server = self._open(llama, self._file())

    def _file(self) -> Path:
        if isinstance(self._source, Path):
            return self._source
        with weight_files.shown(self._source) as show:

            def progress(done: int, total: int) -> None:
                self._check_open()
                show(done, total)

            return weight_files.get(self._source, offline=self._offline, progress=progress)

    def _open(self, llama: Any, file: Path) -> Any:
        params = llama.CommonParams()
        params.model.path = str(file)
        params.verbosity = -1
        if self._embeds:
            self._longest = min(self._longest, trained_context(file) or self._longest)
            params.embedding = True
            # A text is embedded in one step; with room for twice as many tokens llama.cpp tells how many it has.
            params.n_ubatch = max(self._longest, min(2 * self._longest, _EMBEDDING_STEP))
        params.n_parallel = self._slots
        params.n_ctx = self._slots * self._longest
        # A long prompt is read in steps of this many tokens; between them it can be cancelled and others go on.
        params.n_batch = params.n_ubatch
        params.cache_ram_mib = 0
        params.fit_params = False
        threads = self._threads
        if threads is None and self._embeds:
            # On two busy cores, two threads embedded a quarter of what one did: they wait for each other.
            threads = max(1, (os.cpu_count() or 1) // 2)
        if threads is not None:
            params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        if not has_chat_template(file):
            params.chat_template = _PLAIN_TEMPLATE
        with _unreachable(params):
            try:
                return llama.Server(params)
            except RuntimeError as error:
                raise UsageError(
                    f"{file} cannot be loaded: the file is damaged, there is too little memory, or "
                    f"xllamacpp {llama.__version__} is too old for this kind of model"
                ) from error


class _Reader:
    """Takes the chunks of one answer; returning True ends the generation."""

    def __init__(self, stopped: Callable[[], bool], emit: Callable[[str], None] | None) -> None:
        self._stopped, self._emit = stopped, emit
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._finish = ""
        self._usage: dict[str, Any] = {}
        self._error: dict[str, Any] | None = None

    def __call__(self, chunk: dict[str, Any]) -> bool:
        self._error = chunk.get("error")
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self._finish = choice.get("finish_reason") or self._finish
            if reasoning := delta.get("reasoning_content"):
                self._reasoning.append(reasoning)
            if text := delta.get("content"):
                self._text.append(text)
                if self._emit is not None:
                    self._emit(text)
        return self._error is not None or self._stopped()

    def reply(self, model: str, *, structured: bool) -> ChatReply:
        if self._error is not None:
            raise _as_error(self._error)
        if not self._finish:
            raise ProviderError(f"{model} stopped in the middle of its reply", retryable=True)
        details = self._usage.get("prompt_tokens_details") or {}
        return ChatReply(
            text="".join(self._text),
            finish=self._finish,
            usage=Usage(
                self._usage.get("prompt_tokens", 0),
                self._usage.get("completion_tokens", 0),
                details.get("cached_tokens", 0),
            ),
            model=model,
            reasoning="".join(self._reasoning),
            structured=structured,
        )


def _as_error(error: Mapping[str, Any]) -> UsageError | ProviderError:
    message, code = error.get("message", "no reason given"), error.get("code")
    if error.get("type") == "exceed_context_size_error":
        return PromptTooLongError(
            f"the prompt has {error.get('n_prompt_tokens')} tokens and the model's context holds "
            f"{error.get('n_ctx')}: shorten the prompt, or load the model with a larger context"
        )
    if code == 400:
        return UsageError(f"the local model refuses the request: {message}")
    return ProviderError(f"the local model failed: {message}", status=code)


def _body(request: ChatRequest) -> dict[str, Any]:
    sampling = request.sampling
    body: dict[str, Any] = {
        **sampling.extra,
        "messages": [_wire_message(message) for message in request.messages],
        "max_tokens": sampling.max_tokens or DEFAULT_MAX_TOKENS,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_progress": True,
        # A prompt read from the cache gives slightly other numbers than one computed afresh.
        "cache_prompt": sampling.seed is None,
    }
    settings = {"temperature": sampling.temperature, "top_p": sampling.top_p, "seed": sampling.seed}
    body |= {name: value for name, value in settings.items() if value is not None}
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    return body


def _wire_message(message: Message) -> dict[str, str]:
    role = "system" if message.role == "developer" else message.role
    return {"role": role, "content": message.content}


def _identify(source: str | os.PathLike[str]) -> str | Path:
    """The name of known weights, or the whole path of a file."""
    if source in weight_files.TABLE:
        return str(source)
    path = Path(source).expanduser()
    if isinstance(source, str) and path.name == source and path.suffix != ".gguf" and not path.exists():
        raise UnknownNameError("local model", source, weight_files.TABLE, see="or give the path of a GGUF file")
    return path.resolve()


@contextmanager
def _unreachable(params: Any) -> Iterator[None]:
    """llama.cpp always listens somewhere. Make that a Unix socket whose file is gone once the model is loaded.

    Where there are no such sockets, it is a port of the loopback interface that asks for a random key.
    """
    params.ui = params.endpoint_slots = False
    params.api_keys = [secrets.token_hex(32)]
    params.n_threads_http = 1
    with tempfile.TemporaryDirectory(prefix="outspoken-") as folder:
        socket = os.path.join(folder, "door.sock")
        if os.name == "posix" and len(os.fsencode(socket)) < _SOCKET_PATH_LIMIT:
            params.hostnames = [socket]
        yield


_living: weakref.WeakSet[Local] = weakref.WeakSet()
_shared: dict[tuple[Any, ...], Local] = {}
_shared_lock = threading.Lock()


def local(
    source: str | os.PathLike[str],
    *,
    slots: int = 8,
    context: int = 4096,
    threads: int | None = None,
    offline: bool = False,
) -> Local:
    """The `Local` of these settings that the whole process shares, until it is closed."""
    key = (_identify(source), slots, context, threads, offline)
    with _shared_lock:
        model = _shared.get(key)
        if model is None or model.closed:
            model = Local(source, slots=slots, context=context, threads=threads, offline=offline)
            _shared[key] = model
        return model


@atexit.register
def _close_all() -> None:
    """Stop what still runs while the interpreter is whole: llama.cpp's threads call into it."""
    for model in list(_living):
        model._close()
