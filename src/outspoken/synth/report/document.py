"""The report of a pipeline as data: the content of report.json, which the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from outspoken.errors import UsageError
from outspoken.io.dataclass_json import from_json, to_json
from outspoken.synth.manifest import StepManifest
from outspoken.synth.steps.base import StepCost

__all__ = [
    "CoverageMap",
    "CoveredField",
    "CoveredValue",
    "DiversityRow",
    "DiversityTable",
    "MapPoint",
    "MeasureInfo",
    "MeasureSpread",
    "PipelineCost",
    "PipelineReport",
    "RecordCluster",
    "RecordExample",
    "RemovedExample",
    "RemovedGroup",
    "ReportExamples",
    "StepEntry",
]

_KIND, _FORMAT = "synth", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEntry(StepManifest):
    """A step: its manifest, a short `label`, its `cost` (None if it asked no model), and the shares of its input
    (`kept_share`) and of the first step's input (`cumulative`) that it kept."""

    label: str
    kept_share: float | None = field(metadata={"key": "yield"})
    cumulative: float | None
    cost: StepCost | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineCost(StepCost):
    """The cost of all steps. `asked` is whether any step asked a model.

    `per_record` has the `requests`, `tokens`, `seconds` and `usd` divided by the records of the last step; None if
    there are none or the cost is unknown.
    """

    seconds: float
    asked: bool
    per_record: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class MeasureInfo:
    """A measure of diversity: `better` is "higher" or "lower", and the page shows values times `scale`."""

    name: str
    title: str
    better: str
    about: str
    scale: int = 1


@dataclass(frozen=True, slots=True)
class MeasureSpread:
    """The mean of a measure over random choices of records, and its range if there were several."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiversityRow:
    """The diversity of the `kept` records of a step, or of the pipeline's input (`step` is "").

    Each measure is the mean over `choices` random choices of `n` of `of` sampled records; `undefined` has the
    reasons for missing measures. `n` is None if there were too few records.
    """

    step: str
    label: str
    kept: int
    n: int | None = None
    of: int
    choices: int = 0
    measures: Mapping[str, MeasureSpread] = field(default_factory=dict)
    undefined: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DiversityTable:
    """The diversity of all steps. `no_embeddings` is the reason if measures of meaning are missing."""

    n: int
    sample: int
    choices: int
    measures: tuple[MeasureInfo, ...]
    steps: tuple[DiversityRow, ...]
    no_embeddings: str = ""


@dataclass(frozen=True, slots=True)
class MapPoint:
    """A record on the map. `fate` is "kept" or the label of the step that removed it; clusters count from 1."""

    x: float
    y: float
    text: str
    fate: str
    cluster: int


@dataclass(frozen=True, slots=True)
class CoverageMap:
    """The first step's records by their embeddings; `explained` is the share of the variance along each axis."""

    points: tuple[MapPoint, ...]
    fates: tuple[str, ...]
    explained: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class RecordCluster:
    """A cluster on the map: its records, position, distinctive words and typical texts."""

    number: int
    generated: int
    kept: int
    x: float
    y: float
    words: tuple[str, ...]
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CoveredValue:
    """A topic or persona, and the numbers of its records."""

    value: str
    generated: int
    kept: int


@dataclass(frozen=True, slots=True)
class CoveredField:
    """The most frequent values of a field; `kept` of all `of` values have a record that was kept."""

    values: tuple[CoveredValue, ...]
    of: int
    kept: int


@dataclass(frozen=True, slots=True)
class RecordExample:
    """A record for readers, with some further fields."""

    id: str
    text: str
    also: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemovedExample(RecordExample):
    """A removed record, and the record or benchmark question because of which it was removed."""

    because_of: str | None = None
    because_text: str | None = None
    similarity: float | None = None


@dataclass(frozen=True, slots=True)
class RemovedGroup:
    """Examples of the `count` records that a step removed for one reason (None: unknown)."""

    step: str
    label: str
    reason: str
    count: int | None
    records: tuple[RemovedExample, ...]


@dataclass(frozen=True, slots=True)
class ReportExamples:
    kept: tuple[RecordExample, ...]
    removed: tuple[RemovedGroup, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineReport:
    """The report. `missing` names the steps that were not done; `unfinished` describes them and partial ones."""

    kind: str = _KIND
    format: int = _FORMAT
    name: str
    key: str
    version: str
    created: str
    generated: int
    kept: int
    unfinished: tuple[str, ...]
    missing: tuple[str, ...]
    steps: tuple[StepEntry, ...]
    cost: PipelineCost
    diversity: DiversityTable
    map: CoverageMap | None
    clusters: tuple[RecordCluster, ...]
    covered: Mapping[str, CoveredField]
    examples: ReportExamples
    warnings: tuple[str, ...]
    settings: Mapping[str, object]

    def to_dict(self) -> dict[str, object]:
        """The content of report.json."""
        return dict(to_json(self))

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> PipelineReport:
        """What `to_dict` returned. Raises `UsageError` for anything else, and for another version's report."""
        problem = "not of this version"
        try:
            if (document.get("kind"), document.get("format")) == (_KIND, _FORMAT):
                return from_json(cls, document)
        except ValueError as error:
            problem = str(error)
        raise UsageError(f"this is no report of a pipeline ({problem}): run `outspoken synth` again to write one")
