"""The last resort for broken JSON: a library that guesses, in rationed amounts."""

from __future__ import annotations

import json
from typing import Any

from outspoken.parsing.json_candidates import decode

__all__ = ["Ration"]

_WHOLE = 1_000_000
_PIECE = 200_000


class Ration:
    """How much work guessing may still cost in this reply.

    `json_repair` takes quadratic time on nested openings, so its cost is estimated as the length times the number
    of brackets, and bounded for one piece and for all of them.
    """

    def __init__(self) -> None:
        self.left = _WHOLE

    def guess(self, piece: str) -> Any:
        """The value that was probably meant, or None."""
        cost = len(piece) * (1 + sum(map(piece.count, "{[(")))
        if cost > min(_PIECE, self.left):
            return None
        self.left -= cost
        import json_repair

        try:
            guessed = json.dumps(json_repair.loads(piece, skip_json_loads=True), ensure_ascii=False)
        except Exception:  # whatever a broken reply does to the library, it is not our caller's error
            return None
        return decode(guessed.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
