"""The prices of tokens: the user's own first, then those of `genai-prices` if it is installed."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from outspoken._imports import need
from outspoken.chat_reply import Usage
from outspoken.errors import MissingExtraError, UsageError
from outspoken.io.text import read_text
from outspoken.io.toml_library import parse

__all__ = ["Price", "price_of"]

_NEEDED = ("input", "output")
_KNOWN = (*_NEEDED, "cached")
_FREE = ("local/", "replay/")


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens.

    `cached` is the price of prompt tokens from the provider's cache; None: the same as of the others. `source`
    says where the price comes from.
    """

    input: float
    output: float
    cached: float | None = None
    source: str = ""

    def cost(self, usage: Usage) -> float:
        """US dollars for this usage, whose cached tokens are part of its prompt tokens."""
        cached = min(usage.cached_tokens, usage.prompt_tokens)
        per_cached = self.input if self.cached is None else self.cached
        prompt = (usage.prompt_tokens - cached) * self.input + cached * per_cached
        dollars = prompt + usage.completion_tokens * self.output
        return dollars / 1_000_000


def price_of(model: str, file: str | Path | None = None) -> Price | None:
    """The price of `model` (`provider/name`, or a URL), None if it is unknown.

    `file` is TOML with a table for each model, `["openai/gpt-4.1"]`, with `input`, `output` and optionally
    `cached`, in dollars per million tokens. The name may be a shell pattern (`"openai/*"`); a name without
    wildcards takes precedence over a pattern, and a pattern with more letters over one with fewer. Without an
    entry, local and replayed models cost nothing, a URL has no price, and all others are looked up in
    `genai-prices`. If a price rises with the length of the prompt, the result is the price of short prompts.

    Raises `UsageError` for a file that cannot be read, or an entry (of any model) that is not a price.
    """
    if file is not None and (price := _matching(model, _prices_in(Path(file)))) is not None:
        return price
    if model.startswith(_FREE):
        return Price(0.0, 0.0, source="runs on this machine")
    if model.startswith(("http://", "https://")):
        return None
    provider, _, name = model.partition("/")
    return _published(provider, name) if provider and name else None


def _matching(model: str, prices: Mapping[str, Price]) -> Price | None:
    if model in prices:
        return prices[model]
    matches = [pattern for pattern in prices if fnmatchcase(model, pattern)]
    return prices[max(matches, key=lambda pattern: len(re.sub(r"[*?]", "", pattern)))] if matches else None


def _prices_in(file: Path) -> dict[str, Price]:
    entries = parse(read_text(file, "file of prices"), f"the file of prices {file}")
    return {name: _price(name, entry, file) for name, entry in entries.items()}


def _price(name: str, entry: Any, file: Path) -> Price:
    where = f'{file}, ["{name}"]'
    if not isinstance(entry, dict):
        raise UsageError(f"{where} must be a table with input and output, not {entry!r}")
    if any(isinstance(value, dict) for value in entry.values()):
        raise UsageError(f"{where} contains a table: put the whole name of a model in one pair of quotes")
    if unknown := [key for key in entry if key not in _KNOWN]:
        raise UsageError(f"{where} has {', '.join(unknown)}; known: {', '.join(_KNOWN)}")
    if missing := [key for key in _NEEDED if key not in entry]:
        raise UsageError(f"{where} lacks {' and '.join(missing)}, in dollars per million tokens")
    for key, value in entry.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or value < 0:
            raise UsageError(f"{where}: {key} must be a number of dollars from 0 up, not {value!r}")
    cached = entry.get("cached")
    return Price(
        float(entry["input"]), float(entry["output"]), None if cached is None else float(cached), str(file)
    )


def _published(provider: str, name: str) -> Price | None:
    try:
        library = need("genai_prices", "looking up prices", "prices")
        snapshot = need("genai_prices.data_snapshot", "looking up prices", "prices").get_snapshot()
    except MissingExtraError:
        return None
    try:
        _, entry = snapshot.find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    prices = entry.get_prices(datetime.now(UTC))
    prompt, completion = _dollars(prices.input_mtok), _dollars(prices.output_mtok)
    if prompt is None or completion is None:
        return None
    source = f"genai-prices {library.__version__}, {entry.id}"
    return Price(prompt, completion, _dollars(prices.cache_read_mtok), source)


def _dollars(price: Any) -> float | None:
    """A plain price, or the first of several prices for different lengths of the prompt."""
    return None if price is None else float(getattr(price, "base", price))
