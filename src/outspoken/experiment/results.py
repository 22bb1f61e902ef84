"""The results of an experiment: the types behind `results.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outspoken.errors import UsageError
from outspoken.io.atomic import write_bytes
from outspoken.io.dataclass_json import from_json, to_json
from outspoken.io.text import json_bytes
from outspoken.measure.calibration import Bin
from outspoken.measure.cost import CostSummary
from outspoken.measure.divergence import Significance
from outspoken.measure.effect import Beside
from outspoken.measure.equal_size import NoiseFloor
from outspoken.measure.estimates import Comparison, Estimate
from outspoken.measure.richness import MeanRichness

__all__ = [
    "ArmCalibration",
    "ArmComparison",
    "ArmEffect",
    "ArmResults",
    "ArmRichness",
    "DisplayedMeasure",
    "ExperimentResults",
    "PromptExamples",
    "TaskDistribution",
]

_FORMAT = 1
FILE = "results.json"


@dataclass(frozen=True, slots=True)
class DisplayedMeasure:
    """How a measure is displayed; see `outspoken.measure.measures.MeasureDefinition`."""

    name: str
    title: str
    better: str
    scale: int
    about: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmResults:
    """The figures of one arm: for one task and model, and for one value of the axis.

    `measures` holds the estimate of each measure, and `undefined` the reason why one has none. `failures` are
    missing responses and `empty` those without text; neither is among `responses`. `states_shares` says whether
    responses carry stated probabilities, and `floors` holds the noise floors of the figures that have one.
    """

    id: str
    task: str
    arm: str
    method: str
    model: str
    settings: Mapping[str, object]
    prompts: int
    responses: int
    failures: int
    empty: int
    measures: Mapping[str, Estimate | None]
    undefined: Mapping[str, str] = field(default_factory=dict)
    floors: Mapping[str, NoiseFloor] = field(default_factory=dict)
    states_shares: bool = False
    cost: CostSummary | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmComparison(Comparison):
    """The comparison of two arms by one measure: the arm with the id `a` minus the arm with the id `b`."""

    task: str
    model: str
    measure: str
    a: str
    b: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmEffect:
    """The verdict on the arm with the id `a` beside that with the id `b`; see `measure.effect.MethodEffect`."""

    task: str
    model: str
    a: str
    b: str
    outcome: str
    measure: str
    these_prompts: bool
    needed: int | None
    beside: tuple[Beside, ...]
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRichness(MeanRichness):
    """How many answers the model has, by the arm with the id `group`."""

    task: str
    group: str


@dataclass(frozen=True, slots=True)
class TaskDistribution:
    """The share of each answer to one prompt, in the `reference` and in the responses of each arm, by its id.

    `chi_square` tests the responses of an arm against the reference, if they are independent.
    """

    task: str
    prompt: str
    reference: Mapping[str, float] | None
    groups: Mapping[str, Mapping[str, float]]
    prompt_id: str = ""
    chi_square: Mapping[str, Significance] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ArmCalibration:
    """The calibration of an arm, whose id is `group`, `against` "direct" answers or the "reference"."""

    task: str
    group: str
    against: str
    total_variation: Estimate | None
    brier: Estimate | None
    rank_correlation: Estimate | None
    bins: tuple[Bin, ...]
    undefined: int = 0


@dataclass(frozen=True, slots=True)
class PromptExamples:
    """The first responses of each arm to one prompt, by the id of the arm."""

    task: str
    prompt_id: str
    prompt: str
    groups: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentResults:
    """All figures of an experiment, and everything else that its report shows.

    `primary` names the measure of interest, `quality` the measure of quality if a judge was asked, `baseline` the
    arm that the others are compared with, and `axis` the setting that varies, if any. `settings` is the spec of
    the experiment, `versions` are those of the software, `command` repeats the experiment.
    """

    name: str
    title: str
    about: str
    created: str
    version: str
    primary: str
    quality: str | None = None
    baseline: str
    axis: str | None = None
    measures: tuple[DisplayedMeasure, ...]
    groups: tuple[ArmResults, ...]
    comparisons: tuple[ArmComparison, ...] = ()
    effects: tuple[ArmEffect, ...] = ()
    richness: tuple[ArmRichness, ...] = ()
    distributions: tuple[TaskDistribution, ...] = ()
    calibration: tuple[ArmCalibration, ...] = ()
    examples: tuple[PromptExamples, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    def to_dict(self) -> dict[str, object]:
        """The document in `results.json`."""
        return {"format": _FORMAT, **to_json(self, methods=True)}

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> ExperimentResults:
        """The inverse of `to_dict`. Raises `UsageError` for another document."""
        if document.get("format") != _FORMAT:
            raise UsageError(
                f"this is not a results document of format {_FORMAT}: run the experiment again with this version"
            )
        try:
            return from_json(cls, document)
        except ValueError as error:
            raise UsageError(f"the results cannot be read: {error}; run the experiment again") from error

    @classmethod
    def read(cls, folder: Path) -> ExperimentResults:
        """The results in the folder of an experiment. Raises `UsageError` if there are none."""
        try:
            document = json.loads((folder / FILE).read_bytes())
        except (OSError, ValueError) as error:
            raise UsageError(f"the results in {folder} cannot be read: {error}") from error
        return cls.from_dict(document if isinstance(document, dict) else {})

    def write(self, folder: Path) -> None:
        """Write `results.json` into the folder, completely or not at all. Raises `OutputError`."""
        write_bytes(folder / FILE, json_bytes(self.to_dict(), indent=1, allow_nan=False) + b"\n")
