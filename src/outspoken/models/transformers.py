"""Models of `transformers` in this process, for what llama.cpp does not tell: how likely a given text is.

Reads folders of safetensors, names of the Hugging Face hub, and GGUF files: those are unpacked once and the result
is kept in the cache, for that takes up to a minute.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import UsageError
from outspoken.models._threads import ModelThreads
from outspoken.models.base import Capabilities, Model, Score

if TYPE_CHECKING:
    from outspoken.models._causal_lm import CausalLM

__all__ = ["DTYPES", "Transformers"]

T = TypeVar("T")

DTYPES = ("bfloat16", "float32")


class Transformers(Model):
    """A causal language model of `transformers`, loaded on first use, that scores given texts and answers nothing.

    `source` is a folder, a name of the hub, a GGUF file or one of the names in `weights.TABLE`. `dtype` is what it
    computes in: on a processor bfloat16 is three times as fast as float32 and moves a token's log-probability by
    0.03 on average, the mean over a text by 0.003. `context` is the longest text in tokens (None: what the model
    was made for).

    Prompt and continuation are tokenised as one text, with the beginning-of-text token where the model's tokenizer
    puts one and the text has none. Raises `UsageError` for what cannot be loaded and `MissingExtraError` without
    the extra `torch`, on first use.
    """

    capabilities = Capabilities(score=True, parallel=1)

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        name: str | None = None,
        dtype: str = "bfloat16",
        context: int | None = None,
        offline: bool = False,
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError(f"dtype must be {' or '.join(DTYPES)}, not {dtype!r}")
        if context is not None and context < 2:
            raise UsageError("the context must hold at least 2 tokens")
        self._source, self._dtype, self._context = os.fspath(source), dtype, context
        self._offline = offline or os.environ.get("OUTSPOKEN_OFFLINE", "0") not in ("", "0")
        self.name = name or f"transformers/{self._source}" + ("" if dtype == DTYPES[0] else f"?dtype={dtype}")
        self._workers = ModelThreads(1)
        self._closed = threading.Event()
        self._loaded: CausalLM | None = None
        _living.add(self)

    async def complete(self, request: ChatRequest) -> ChatReply:
        raise UsageError(f"{self.name} scores texts and answers nothing: to ask it, take local/FILE or a server")

    async def scores(self, asked: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        return await self._in_worker(lambda: self._scores(asked))

    async def chat_text(self, prompt: str) -> str:
        return await self._in_worker(lambda: self._model().chat_text(prompt, self.name))

    async def identity(self) -> str:
        """What tells these weights from others of the same name, and what is computed in."""

        def told() -> str:
            from outspoken.models._causal_lm import fingerprint

            return fingerprint(self._source, offline=self._offline)

        return f"transformers@{await self._in_worker(told)}?dtype={self._dtype}"

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """`aclose` for synchronous code: what is computed ends at its next step."""
        self._closed.set()
        self._workers.join()
        self._loaded = None

    def _scores(self, asked: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        model = self._model()
        read = [model.read(prompt, continuation, self._context) for prompt, continuation in asked]
        pieces = [each.piece for each in read if not isinstance(each, UsageError)]
        found = iter(model.passes.logprobs(pieces, self._closed.is_set))
        return [
            each if isinstance(each, UsageError) else Score(next(found), each.tokens, each.joined) for each in read
        ]

    def _model(self) -> CausalLM:
        """Runs in the one worker, as all that touches the model does."""
        if self._loaded is None:
            from outspoken.models._causal_lm import load

            self._loaded = load(self._source, self._dtype, offline=self._offline)
        return self._loaded

    async def _in_worker(self, call: Callable[[], T]) -> T:
        if self._closed.is_set():
            raise UsageError(f"{self.name} is closed: make a new model")
        return await asyncio.wrap_future(self._workers.submit(call))


_living: weakref.WeakSet[Transformers] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End what still computes while the interpreter is whole: a thread killed inside torch aborts the process."""
    for model in list(_living):
        model.close()
