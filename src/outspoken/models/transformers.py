"""Models of `transformers` in this process: log-probabilities of given texts, which llama.cpp does not compute.

They are loaded from folders of safetensors, the Hugging Face hub, and GGUF files. Unpacking a GGUF file takes up
to a minute, so the result is kept in the cache.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import UsageError
from outspoken.models._threads import InProcessModel
from outspoken.models.base import Capabilities, Score
from outspoken.models.weight_files import is_offline

if TYPE_CHECKING:
    from outspoken.models._causal_lm import CausalLM

__all__ = ["DTYPES", "Transformers", "TransformersSettings"]

DTYPES = ("bfloat16", "float32")


@dataclass(frozen=True, slots=True)
class TransformersSettings:
    """How a model is computed; in a name they follow a question mark: `transformers/NAME?dtype=float32`.

    `dtype` is one of `DTYPES`: on a processor bfloat16 is three times as fast as float32, and moves the
    log-probability of a token by 0.03 on average and the mean over a text by 0.003. `context` is the longest text
    in tokens (None: the model's own context). Raises `UsageError` for other values.
    """

    dtype: str = DTYPES[0]
    context: int | None = None

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype must be {' or '.join(DTYPES)}, not {self.dtype!r}")
        if self.context is not None and self.context < 2:
            raise UsageError("the context must hold at least 2 tokens")


class Transformers(InProcessModel):
    """A causal language model of `transformers`, loaded on first use, that scores texts and does not answer.

    `source` is a folder, a name on the hub, a GGUF file or one of the names in `weight_files.TABLE`.

    Prompt and continuation are tokenised as one text, with a beginning-of-text token if the model's tokenizer adds
    one and the text has none. The first use raises `UsageError` for a source that cannot be loaded, and
    `MissingExtraError` without the extra `torch`.
    """

    capabilities = Capabilities(score=True, parallel=1)

    def __init__(
        self,
        source: str | os.PathLike[str],
        settings: TransformersSettings | None = None,
        *,
        name: str | None = None,
        offline: bool = False,
    ) -> None:
        self._settings = settings or TransformersSettings()
        self._source = os.fspath(source)
        self._offline = offline or is_offline()
        self._loaded: CausalLM | None = None
        dtype = self._settings.dtype
        default_name = f"transformers/{self._source}" + ("" if dtype == DTYPES[0] else f"?dtype={dtype}")
        super().__init__(name or default_name, threads=1)

    async def complete(self, request: ChatRequest) -> ChatReply:
        raise UsageError(f"{self.name} scores texts and does not answer: to ask it, take local/FILE or a server")

    async def scores(self, pairs: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        return await self._in_worker(lambda: self._scores(pairs))

    async def chat_text(self, prompt: str) -> str:
        return await self._in_worker(lambda: self._model().chat_text(prompt, self.name))

    async def identity(self) -> str:
        """The fingerprint of the weights and the dtype."""

        def fingerprint() -> str:
            from outspoken.models import _causal_lm

            return _causal_lm.fingerprint(self._source, offline=self._offline)

        return f"transformers@{await self._in_worker(fingerprint)}?dtype={self._settings.dtype}"

    def _free(self) -> None:
        self._loaded = None

    def _scores(self, pairs: Sequence[tuple[str, str]]) -> list[Score | UsageError]:
        model = self._model()
        tokenized = [model.tokenize(*pair, self._settings.context) for pair in pairs]
        sequences = [each[0] for each in tokenized if not isinstance(each, UsageError)]
        logprobs = iter(model.scorer.logprobs(sequences, self._closed.is_set))
        return [
            each if isinstance(each, UsageError) else Score(next(logprobs), each[1], each[2]) for each in tokenized
        ]

    def _model(self) -> CausalLM:
        """Runs in the only worker, like all code that uses the model."""
        if self._loaded is None:
            from outspoken.models._causal_lm import load

            self._loaded = load(self._source, self._settings.dtype, offline=self._offline)
        return self._loaded
