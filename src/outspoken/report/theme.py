"""The look of the charts: a colour and a shape for each arm, in a light and a dark version."""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "SHAPES", "theme"]

# The colours of Okabe & Ito, which colour-blind readers can distinguish, each adjusted to a contrast of at least
# 3 to 1 with its background. The first, grey, is for the baseline.
LIGHT = ("#6b7078", "#0072b2", "#d55e00", "#00875f", "#b85c93", "#a97400", "#2b8cc4", "#7a4fa3")
DARK = ("#a3a9b3", "#4aa3df", "#f0803c", "#2fc096", "#e39bc6", "#e6b040", "#8fd0f5", "#b693dc")
SHAPES = (
    "circle",
    "square",
    "triangle-up",
    "diamond",
    "cross",
    "triangle-down",
    "triangle-right",
    "triangle-left",
)


def theme(dark: bool = False, *, legend: bool = True) -> dict[str, object]:
    """A Vega configuration with a colour and a shape for each arm, in the order of the arms, baseline first.

    With a `legend`, for pictures on white; without one, for a page that has its own.
    """
    colours = DARK if dark else LIGHT
    ink, soft, line = ("#e8e6e1", "#a9adb5", "#2b2f36") if dark else ("#22252a", "#5c626b", "#dfe1e4")
    text = {
        "labelColor": soft,
        "titleColor": ink,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": 500,
    }
    return {
        "background": "#ffffff" if legend else None,
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "axis": {**text, "gridColor": line, "domainColor": soft, "tickColor": soft, "labelLimit": 150},
        "legend": {
            **text,
            "disable": not legend,
            "orient": "bottom",
            "columns": 4,
            "title": None,
            "symbolOpacity": 1,
            "symbolSize": 90,
        },
        "title": {"color": ink, "fontSize": 14, "fontWeight": 600, "anchor": "start", "offset": 12},
        "range": {"category": list(colours), "symbol": list(SHAPES)},
        "text": {"color": ink, "fontSize": 12},
        "style": {
            "quiet": {"stroke": soft, "color": soft},
            "reference": {"color": "#4c535d" if dark else "#d3d6da"},
            "accent": {"color": colours[1]},
            "ink": {"color": ink},
            "soft": {"color": soft},
        },
    }
