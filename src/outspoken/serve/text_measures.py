"""How different some texts are: the number of different ones, and their semantic diversity."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, TypedDict

from starlette.requests import Request

from outspoken._imports import need
from outspoken.errors import OutspokenError
from outspoken.same_text import text_key
from outspoken.serve.http.responses import while_connected

if TYPE_CHECKING:
    from outspoken.models.local import Local

__all__ = ["LONGEST_TEXT", "MAX_TEXTS", "TextMeasurer", "TextMeasures"]

MAX_TEXTS = 200
LONGEST_TEXT = 20_000
_EMBEDDED_CHARACTERS = 2_500  # the embedding model reads 512 tokens


class TextMeasures(TypedDict):
    """Measures of some texts; `note` says why there is no semantic diversity."""

    texts: int
    distinct: int
    semantic_diversity: Annotated[float | None, {"minimum": 0, "maximum": 1}]
    note: str | None


class TextMeasurer:
    """Measures texts, and embeds them if an embedding model is installed; nothing is downloaded for that."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._embedder: Local | None = None
        self._lock = asyncio.Lock()

    async def measure(self, request: Request, texts: list[str]) -> TextMeasures:
        """The measures of some texts, computed for as long as the client waits."""
        diversity: float | None = None
        try:
            embedded = [text[:_EMBEDDED_CHARACTERS] for text in texts if text.strip()]
            async with self._lock, asyncio.timeout(self._timeout):
                diversity, note = await while_connected(request, self._diversity(embedded))
        except TimeoutError:
            note = "semantic diversity is not measured: it took too long"
        except OutspokenError as error:
            note = f"semantic diversity is not measured: {error}"
        distinct = len({text_key(text) for text in texts})
        return {"texts": len(texts), "distinct": distinct, "semantic_diversity": diversity, "note": note}

    async def _diversity(self, texts: list[str]) -> tuple[float | None, str | None]:
        if len(texts) < 2:
            return None, "semantic diversity needs two texts that are not empty"
        need("numpy", "semantic diversity", "measure")
        from outspoken.measure.sets import semantic_diversity
        from outspoken.models.local import Local

        if self._embedder is None:
            self._embedder = Local("minilm", offline=True)
        return semantic_diversity((await self._embedder.embed(texts)).vectors), None

    async def aclose(self) -> None:
        if self._embedder is not None:
            await self._embedder.aclose()
