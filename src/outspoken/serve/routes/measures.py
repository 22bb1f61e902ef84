"""`POST /v1/measures`: how different some texts are."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from outspoken._imports import need
from outspoken.errors import OutspokenError
from outspoken.same_text import text_key
from outspoken.serve.http.responses import body_of, json_answer, while_there
from outspoken.serve.limits import ServerLimits
from outspoken.serve.openai.chat_request import read_json
from outspoken.serve.openai.fields import RequestError

if TYPE_CHECKING:
    from outspoken.models.local import Local

__all__ = ["MeasureRequests"]

_MOST_TEXTS = 200
_LONGEST_TEXT = 20_000
_AS_MUCH_AS_IS_READ = 2_500  # characters: the embedder reads 512 tokens


class MeasureRequests:
    """Counts different texts, and embeds them where an embedder is here; nothing is fetched for that."""

    def __init__(self) -> None:
        self._embedder: Local | None = None
        self._one = asyncio.Lock()

    async def answer(self, request: Request, bounds: ServerLimits) -> Response:
        """Raises `RequestError` for a body that holds no texts."""
        texts = read_json(await body_of(request, bounds)).get("texts")
        if (
            not isinstance(texts, list)
            or not 1 <= len(texts) <= _MOST_TEXTS
            or not all(isinstance(text, str) and len(text) <= _LONGEST_TEXT for text in texts)
        ):
            raise RequestError(
                f"texts must be 1 to {_MOST_TEXTS} texts of at most {_LONGEST_TEXT:,} characters", param="texts"
            )
        told: dict[str, Any] = {"texts": len(texts), "distinct": len({text_key(text) for text in texts})}
        try:
            some = [text[:_AS_MUCH_AS_IS_READ] for text in texts if text.strip()]
            async with self._one, asyncio.timeout(bounds.timeout):
                diversity, note = await while_there(request, self._diversity(some))
        except TimeoutError:
            diversity, note = None, "semantic diversity is not measured: it took too long"
        except OutspokenError as error:
            diversity, note = None, f"semantic diversity is not measured: {error}"
        return json_answer({**told, "semantic_diversity": diversity, "note": note})

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
