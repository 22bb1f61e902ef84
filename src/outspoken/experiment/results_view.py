"""Lookups in the results of an experiment: its arms, a figure as it is displayed, one arm against another."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from outspoken.errors import UsageError
from outspoken.experiment.results import ArmCalibration, ArmComparison, ArmResults, ExperimentResults
from outspoken.measure.estimates import Comparison, Estimate
from outspoken.measure.statistics import FEW, LEVEL
from outspoken.report import format as numbers

__all__ = ["LEVEL", "DisplayedDifference", "DisplayedFigure", "ResultsView", "displayed"]


@dataclass(frozen=True, slots=True)
class DisplayedFigure(Estimate):
    """A figure in the unit in which it is displayed (times its measure's scale), with its interval if any."""

    def interval(self, like: float | None = None) -> str:
        """The interval as text, with the decimals of the figure, or of the number `like`; "" without one."""
        return numbers.interval(self.low, self.high, like=self.value if like is None else like)


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayedDifference(Comparison):
    """The difference of two groups in the unit in which it is displayed, with its interval and its test.

    `size` is the larger of the two figures; the difference has as many decimals.
    """

    size: float
    unit: str

    @property
    def text(self) -> str:
        """The difference with its sign."""
        return numbers.signed(self.difference, like=self.size)

    @property
    def interval(self) -> str:
        """The interval as text, "" without one."""
        return numbers.interval(self.low, self.high, like=self.size)

    @property
    def sample(self) -> str:
        """The units behind the difference: `40 prompts`."""
        return f"{self.units:,} {self.unit}{'s' * (self.units != 1)}"

    @property
    def significant(self) -> bool:
        """Whether the difference is significant: there is no `doubt`."""
        return not self.doubt

    @property
    def doubt(self) -> str:
        """Why the difference does not count as significant; "" if it does."""
        if self.units < FEW:
            return f"{self.sample} cannot show a difference: at least {FEW} are needed"
        if self.low is None or self.high is None:
            return "there is no interval"
        if self.low <= 0 <= self.high:
            return "the interval includes 0"
        if self.p_holm is None and self.unit != "call":
            return "there is no test of it"
        if self.p_holm is not None and self.p_holm > LEVEL:
            return "after correction for the number of comparisons, chance is not ruled out"
        return ""


def displayed(estimate: Estimate | None, scale: float = 1) -> DisplayedFigure | None:
    """An estimate times its scale; None without one."""
    return None if estimate is None else DisplayedFigure(**asdict(estimate.scaled(scale)))


class ResultsView:
    """Lookups in `results`. Raises `UsageError` if they name a measure that they do not describe."""

    def __init__(self, results: ExperimentResults) -> None:
        self.results = results
        self.groups = results.groups
        self.by_id = {group.id: group for group in results.groups}
        self.measures = {measure.name: measure for measure in results.measures}
        self.primary = results.primary
        self.quality = results.quality
        self.baseline = results.baseline
        self.axis = results.axis
        if not any(self.axis_value(group) is not None for group in self.groups):
            self.axis = None
        if unknown := [name for name in (self.primary, self.quality) if name and name not in self.measures]:
            raise UsageError(f"the results do not describe the measure {unknown[0]}: run the experiment again")
        arms = dict.fromkeys(group.arm for group in self.groups)
        self.arms = sorted(arms, key=lambda arm: arm != self.baseline)
        self.panels = list(dict.fromkeys((group.task, self._model(group)) for group in self.groups))
        self._comparisons = {(entry.measure, entry.a, entry.b): entry for entry in results.comparisons}

    def _model(self, group: ArmResults) -> str:
        """The group's model; "" if every model has only one group, so that the models share a panel."""
        models = [other.model for other in self.groups if other.task == group.task]
        return "" if len(models) > 1 and len(set(models)) == len(models) else group.model

    def axis_panels(self) -> list[tuple[str, str]]:
        """The panels of charts over the axis: one for each task, if the axis varies between models only."""
        values: dict[str, set[object]] = {}
        for group in self.groups:
            values.setdefault(group.model, set()).add(self.axis_value(group))
        together = len(values) > 1 and all(len(own) == 1 for own in values.values())
        return list(dict.fromkeys((task, "" if together else model) for task, model in self.panels))

    def panel(self, task: str, model: str) -> list[ArmResults]:
        """The groups of one task and model ("": all models), those of the baseline first."""
        groups = [group for group in self.groups if group.task == task and model in ("", group.model)]
        return sorted(groups, key=lambda group: self.arms.index(group.arm))

    def label(self, group: ArmResults) -> str:
        """The arm, with its model and its value of the axis if these distinguish it."""
        model = "" if self._model(group) or group.model in ("", group.arm) else f" of {group.model}"
        value = self.axis_value(group)
        return f"{group.arm}{model}" + ("" if value is None else f" at {self.axis} = {value}")

    def axis_value(self, group: ArmResults) -> object:
        """The value of the setting that varies, None without one."""
        return group.settings.get(self.axis) if self.axis else None

    def figure(self, group: ArmResults, name: str | None) -> DisplayedFigure | None:
        """A group's figure by the name of the measure, None if it does not exist."""
        return displayed(group.measures.get(name), self.measures[name].scale) if name else None

    def calibrations(self) -> dict[tuple[str, str, object, str], list[ArmCalibration]]:
        """The calibrations by task, model, value of the axis and source; each list has an arm at most once."""
        calibrations: dict[tuple[str, str, object, str], list[ArmCalibration]] = {}
        for entry in self.results.calibration:
            group = self.by_id[entry.group]
            key = (group.task, group.model, self.axis_value(group), entry.against)
            calibrations.setdefault(key, []).append(entry)
        return calibrations

    def title(self, name: str) -> str:
        """The measure's title within a sentence."""
        title = self.measures[name].title
        return title[0].lower() + title[1:] if title[1:2].islower() else title

    def sign(self, name: str) -> int:
        """-1 if less of the measure is better, else 1."""
        return -1 if self.measures[name].better == "lower" else 1

    def baseline_of(self, group: ArmResults) -> ArmResults | None:
        """The group that this one is compared with; None for the groups that others are compared with.

        It is the baseline of the same task, if possible of the same model and value of the axis. If all groups are
        of the baseline arm, it is the first of them.
        """
        same_task = [other for other in self.groups if other.task == group.task]
        bases = [other for other in same_task if other.arm == self.baseline]
        if len(bases) == len(same_task):
            return None if group is same_task[0] else same_task[0]
        if group.arm == self.baseline or not bases:
            return None
        value = self.axis_value(group)
        return max(bases, key=lambda base: (base.model == group.model, self.axis_value(base) == value))

    def against(self, a: ArmResults | None, b: ArmResults | None, name: str | None) -> DisplayedDifference | None:
        """The comparison of a with b (a minus b), in whichever order it is recorded; None if there is none."""
        if a is None or b is None or name is None:
            return None
        if entry := self._comparisons.get((name, a.id, b.id)):
            return self.difference(entry)
        if entry := self._comparisons.get((name, b.id, a.id)):
            return self.difference(entry).swapped()
        return None

    def difference(self, entry: ArmComparison) -> DisplayedDifference:
        """A comparison in the unit in which it is displayed."""
        groups = self.by_id[entry.a], self.by_id[entry.b]
        figures = [figure for group in groups if (figure := self.figure(group, entry.measure))]
        estimate = groups[0].measures.get(entry.measure)
        scaled = entry.scaled(self.measures[entry.measure].scale)
        return DisplayedDifference(
            **{name: getattr(scaled, name) for name in Comparison.__dataclass_fields__},
            size=max((abs(figure.value) for figure in figures), default=0.0),
            unit=estimate.unit if estimate else "prompt",
        )
