"""The JSON documents of theory, one type per kind.

They are what `to_dict` of a result returns, what `results.json` holds, and what a page is drawn from.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

__all__ = [
    "BinEntry",
    "ControlEntry",
    "CurveEntry",
    "EffectEntry",
    "EstimateEntry",
    "GammaDocument",
    "IntervalEntry",
    "LevelAnswerEntry",
    "LevelsDocument",
    "ModelBiasEntry",
    "PointEntry",
    "SharpenDocument",
    "TheoryDocument",
    "TypicalityDocument",
    "VarietyEntry",
    "VerdictEntry",
    "ends",
]


class IntervalEntry(TypedDict):
    """A figure with its 95 % interval."""

    value: float | None
    low: float | None
    high: float | None


def ends(figure: IntervalEntry) -> tuple[float | None, float | None, float | None]:
    """The figure and the ends of its interval."""
    return figure["value"], figure["low"], figure["high"]


class EffectEntry(IntervalEntry):
    se: float | None
    p: float | None


class AlphaEntry(EffectEntry):
    p_holm: float | None


class ControlEntry(EffectEntry):
    title: str
    about: str
    odds_ratio: IntervalEntry | None


class EstimateEntry(IntervalEntry):
    units: int
    unit: str


class BinEntry(TypedDict):
    x: float
    value: float
    low: float
    high: float
    pairs: int


class LinePoint(TypedDict):
    x: float
    y: float


class CurveEntry(TypedDict):
    bins: list[BinEntry]
    line: list[LinePoint]


class VerdictEntry(TypedDict):
    lead: str
    may: list[str]
    may_not: list[str]


class ModelBiasEntry(TypedDict):
    """The typicality bias under one base model."""

    base: str
    pairs: int
    prompts: int
    scored: int
    skipped: dict[str, int]
    alpha: AlphaEntry
    sd: float
    odds_ratio: IntervalEntry
    change: IntervalEntry
    rate: IntervalEntry
    controls: dict[str, ControlEntry]
    curve: CurveEntry
    verdict: VerdictEntry


class PreferencesEntry(TypedDict):
    file: str
    layout: str
    rows: int
    found: int
    pairs: int
    prompts: int
    skipped: dict[str, int]
    examples: list[str]
    ties: int
    correctness: bool
    text: str


class _Common(TypedDict):
    """The optional keys are added by the command line."""

    warnings: list[str]
    version: NotRequired[str]
    command: NotRequired[str]
    created: NotRequired[str]
    settings: NotRequired[dict[str, object]]


class TypicalityDocument(ModelBiasEntry, _Common):
    """The entries of the first base model stand at the top level, those of the other ones in `others`."""

    kind: Literal["typicality"]
    identities: dict[str, str]
    data: PreferencesEntry
    others: list[ModelBiasEntry]


class VarietyEntry(TypedDict):
    """None stands for an infinite figure."""

    entropy: float | None
    effective_size: float | None
    draws_to_new: float | None
    distinct_10: float | None
    distinct_100: float | None


class VarietyPoint(VarietyEntry):
    gamma: float


class SharpenedAnswerEntry(TypedDict):
    text: str
    before: float
    after: float


class SharpenDocument(_Common):
    kind: Literal["sharpen"]
    alpha: float | None
    beta: float | None
    gamma: float
    before: VarietyEntry
    after: VarietyEntry
    distribution: dict[str, object]
    answers: list[SharpenedAnswerEntry]
    curve: list[VarietyPoint]
    sentences: list[str]


class PointEntry(TypedDict):
    """Shares where `how` is "counts", else natural log-probabilities."""

    prompt: str
    answer: str
    base: float
    aligned: float
    fitted: float


class GammaDocument(_Common):
    kind: Literal["gamma"]
    how: Literal["counts", "logprobs"]
    gamma: EffectEntry
    answers: int
    prompts: int
    unit: str
    units: int
    fit: dict[str, float]
    about: dict[str, str]
    points: list[PointEntry]
    sentences: list[str]


class LevelArmEntry(TypedDict):
    level: Literal["instance", "list", "distribution"]
    tv: EstimateEntry
    kl: EstimateEntry
    distinct: EstimateEntry


class LevelAnswerEntry(TypedDict):
    text: str
    base: float
    instance: float
    list: float
    distribution: float


class LevelsDocument(_Common):
    kind: Literal["levels"]
    gamma: float
    k: int
    replies: int
    draws: int
    error: float
    floor: float
    arms: list[LevelArmEntry]
    answers: list[LevelAnswerEntry]
    sentences: list[str]


TheoryDocument = TypicalityDocument | SharpenDocument | GammaDocument | LevelsDocument
"""Any of them, distinguished by `kind`."""
