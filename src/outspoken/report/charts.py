"""Charts: how they are put together, how a page shows them, and pictures of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from outspoken._extras import need
from outspoken.report.files import put
from outspoken.report.format import number
from outspoken.report.theme import theme

__all__ = ["Figure", "altair", "layered", "library", "over", "pictures", "placed", "span", "spec"]

_WHAT = "drawing charts"


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart, what it shows in a line, and what must be known to read it."""

    name: str
    title: str
    caption: str
    chart: Any


def altair() -> Any:
    """The library that charts are written with. Raises `MissingExtraError` where it is absent."""
    return need("altair", _WHAT, "measure")


def over(rows: list[dict[str, Any]]) -> Any:
    """A chart of these rows, still without a mark."""
    alt = altair()
    return alt.Chart(alt.InlineData(values=rows))


def span(
    axis: str, value: float, low: float | None, high: float | None, *, write: Callable[[float], str] = number
) -> dict[str, Any]:
    """A figure and its interval as a chart's row has them; for the axis "x": `x`, `x_low`, `x_high`, `x_text`."""
    within = "" if low is None or high is None else f" ({write(low)} to {write(high)})"
    return {axis: value, f"{axis}_low": low, f"{axis}_high": high, f"{axis}_text": write(value) + within}


def layered(layers: Iterable[Any], description: str, height: int) -> Any:
    """One chart of the layers that have something to show."""
    shown = [layer for layer in layers if layer.data["values"]]
    return altair().layer(*shown).properties(description=description, height=height)


def spec(chart: Any, width: int | str, height: int | None = None) -> dict[str, Any]:
    """Vega-Lite as JSON. Its `config` is left to the theme. It was made by us, so it is not validated again."""
    made: dict[str, Any] = chart.to_dict(validate=False)
    made.pop("config", None)
    return {**made, "width": width, **({"height": height} if height else {})}


def placed(specs: dict[str, Any], chart: Any, square: int | None = None) -> str:
    """Put the chart among those that the page draws, as wide as its place or a square; the name of its place."""
    name = f"chart-{len(specs)}"
    specs[name] = spec(chart, square or "container", square)
    return name


def pictures(drawn: Iterable[tuple[str, str, Mapping[str, Any]]], folder: Path) -> None:
    """Write each chart (its name, its title and `spec`) as SVG and as PNG, numbered in this order."""
    convert = need("vl_convert", _WHAT, "measure")
    for at, (name, title, made) in enumerate(drawn, start=1):
        words = re.findall(r"[\w.]+", f"{name} {title}")
        stem = f"{at:02d}-{'-'.join(words)}"[:60].rstrip("-.")
        svg = convert.vegalite_to_svg({**made, "title": title}, vl_version=_vega_lite(), config=theme())
        put(folder / f"{stem}.svg", svg.encode())
        put(folder / f"{stem}.png", convert.svg_to_png(svg, scale=2))


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that nothing in it can end."""
    convert = need("vl_convert", _WHAT, "measure")
    bundle: str = convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=_vega_lite())
    return re.sub(r"</(?=script)", r"<\\/", bundle, flags=re.IGNORECASE)


def _vega_lite() -> str:
    """The version that the charts are written in, as `vl_convert` names it: `6.4`."""
    version: str = altair().SCHEMA_VERSION
    return ".".join(version.removeprefix("v").split(".")[:2])
