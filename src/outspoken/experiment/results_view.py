"""A results document, looked at: which arms there are, a figure as it is shown, one arm against another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from outspoken.errors import UsageError
from outspoken.measure.statistics import FEW

__all__ = ["LEVEL", "DisplayedDifference", "DisplayedFigure", "ResultsView", "displayed"]

LEVEL = 0.05

_FORMAT = 1
_NEEDED = ("name", "title", "primary", "baseline", "measures", "groups")


@dataclass(frozen=True, slots=True)
class DisplayedFigure:
    """A figure in the unit it is shown in (times its measure's scale), with its interval where it has one."""

    value: float
    low: float | None
    high: float | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class DisplayedDifference:
    """What one group's figure is above another's, in the unit it is shown in, and how sure that is.

    `size` is the larger of the two figures: a difference is written with as many decimals as they are.
    """

    difference: float
    low: float | None
    high: float | None
    p: float | None
    p_holm: float | None
    effect: float | None
    units: int
    needed: int | None
    note: str
    size: float
    unit: str

    @property
    def behind(self) -> str:
        """What stands behind it: `40 prompts`."""
        return f"{self.units:,} {self.unit}{'s' * (self.units != 1)}"

    @property
    def shown(self) -> bool:
        """Whether the data show a difference: nothing in `doubt`."""
        return not self.doubt

    @property
    def doubt(self) -> str:
        """Why a difference counts as not shown; empty where it is shown."""
        if self.units < FEW:
            return f"{self.behind} cannot show a difference, it takes {FEW}"
        if self.low is None or self.high is None:
            return "there is no interval"
        if self.low <= 0 <= self.high:
            return "the interval includes 0"
        if self.p_holm is None and self.unit != "call":
            return "there is no test of it"
        if self.p_holm is not None and self.p_holm > LEVEL:
            return "after correcting for the number of comparisons chance is not ruled out"
        return ""


def displayed(estimate: Mapping[str, Any] | None, scale: float = 1) -> DisplayedFigure | None:
    """An estimate of the results times its scale, None where it has no value."""
    if not estimate or estimate.get("value") is None:
        return None
    low, high = estimate.get("low"), estimate.get("high")
    return DisplayedFigure(
        estimate["value"] * scale,
        None if low is None else low * scale,
        None if high is None else high * scale,
        estimate.get("note") or "",
    )


class ResultsView:
    """Lookups in a results document. Raises `UsageError` where it is something else."""

    def __init__(self, results: Mapping[str, Any]) -> None:
        if results.get("format") != _FORMAT:
            raise UsageError(
                f"this is not a results document of format {_FORMAT}: run the experiment again with this version"
            )
        if missing := [key for key in _NEEDED if key not in results]:
            raise UsageError(f"the results lack {', '.join(missing)}: run the experiment again")
        self.results = results
        self.groups: list[Mapping[str, Any]] = list(results["groups"])
        self.by_id = {group["id"]: group for group in self.groups}
        self.measures = {measure["name"]: measure for measure in results["measures"]}
        self.primary: str = results["primary"]
        self.quality: str | None = results.get("quality")
        self.baseline: str = results["baseline"]
        self.axis: str | None = results.get("axis")
        if not any(self.at(group) is not None for group in self.groups):
            self.axis = None
        if unknown := [name for name in (self.primary, self.quality) if name and name not in self.measures]:
            raise UsageError(f"the results do not describe the measure {unknown[0]}: run the experiment again")
        arms = dict.fromkeys(group["arm"] for group in self.groups)
        self.arms = sorted(arms, key=lambda arm: arm != self.baseline)
        self.panels = list(dict.fromkeys((group["task"], self._model(group)) for group in self.groups))
        self._comparisons = {
            (entry["measure"], entry["a"], entry["b"]): entry
            for entry in results.get("comparisons", ())
            if entry["difference"] is not None
        }

    def _model(self, group: Mapping[str, Any]) -> str:
        """The group's model; empty where every model has but one group, so that they are to be seen together."""
        models = [other["model"] for other in self.groups if other["task"] == group["task"]]
        return "" if len(models) > 1 and len(set(models)) == len(models) else group["model"]

    def panels_along(self) -> list[tuple[str, str]]:
        """Those of charts over the axis: a whole task, where it is the model that the setting varies with."""
        values: dict[str, set[Any]] = {}
        for group in self.groups:
            values.setdefault(group["model"], set()).add(self.at(group))
        together = len(values) > 1 and all(len(own) == 1 for own in values.values())
        return list(dict.fromkeys((task, "" if together else model) for task, model in self.panels))

    def panel(self, task: str, model: str) -> list[Mapping[str, Any]]:
        """The groups of one task and model (of all models, where it is empty), the baseline's first."""
        groups = [group for group in self.groups if group["task"] == task and model in ("", group["model"])]
        return sorted(groups, key=lambda group: self.arms.index(group["arm"]))

    def label(self, group: Mapping[str, Any]) -> str:
        """The arm, with its model and its place on the axis where it takes them to tell it apart."""
        of = "" if self._model(group) or group["model"] in ("", group["arm"]) else f" of {group['model']}"
        at = self.at(group)
        return f"{group['arm']}{of}" + ("" if at is None else f" at {self.axis} = {at}")

    def at(self, group: Mapping[str, Any]) -> Any:
        """The value of the setting that varies, None where nothing does or the group does not have it."""
        return group["settings"].get(self.axis) if self.axis else None

    def figure(self, group: Mapping[str, Any], name: str | None) -> DisplayedFigure | None:
        """None where the figure does not exist for this group."""
        return displayed(group["measures"].get(name), self.measures[name]["scale"]) if name else None

    def calibrations(self) -> dict[tuple[str, str, Any, str], list[Mapping[str, Any]]]:
        """How stated probabilities compare, by task, model, place on the axis and what they are held against.

        Empty where none were stated. What stands under one key has an arm at most once.
        """
        found: dict[tuple[str, str, Any, str], list[Mapping[str, Any]]] = {}
        for entry in self.results.get("calibration") or ():
            group = self.by_id[entry["group"]]
            found.setdefault((group["task"], group["model"], self.at(group), entry["against"]), []).append(entry)
        return found

    def title(self, name: str) -> str:
        """The measure's title as it stands within a sentence."""
        title: str = self.measures[name]["title"]
        return title[0].lower() + title[1:] if title[1:2].islower() else title

    def sign(self, name: str) -> int:
        """1 where more of the measure is better (or neither is), -1 where less is."""
        return -1 if self.measures[name]["better"] == "lower" else 1

    def baseline_of(self, group: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """What the group is compared with, None where it is itself what others are compared with.

        The baseline of the same task, of the same model and at the same place of the axis as far as there is one;
        where all groups are of that one arm, the first of them.
        """
        here = [other for other in self.groups if other["task"] == group["task"]]
        bases = [other for other in here if other["arm"] == self.baseline]
        if len(bases) == len(here):
            return None if group is here[0] else here[0]
        if group["arm"] == self.baseline or not bases:
            return None
        return max(bases, key=lambda base: (base["model"] == group["model"], self.at(base) == self.at(group)))

    def against(
        self, a: Mapping[str, Any] | None, b: Mapping[str, Any] | None, name: str | None
    ) -> DisplayedDifference | None:
        """The comparison of a with b (a minus b), in whichever order it was recorded; None where it was not."""
        if a is None or b is None or name is None:
            return None
        if entry := self._comparisons.get((name, a["id"], b["id"])):
            return self.read(entry)
        if entry := self._comparisons.get((name, b["id"], a["id"])):
            turned = self.read(entry)
            return replace(
                turned,
                difference=-turned.difference,
                low=None if turned.high is None else -turned.high,
                high=None if turned.low is None else -turned.low,
                effect=None if turned.effect is None else -turned.effect,
            )
        return None

    def read(self, entry: Mapping[str, Any]) -> DisplayedDifference:
        scale = self.measures[entry["measure"]]["scale"]
        low, high = entry["low"], entry["high"]
        figures = [self.figure(self.by_id[entry[side]], entry["measure"]) for side in ("a", "b")]
        return DisplayedDifference(
            entry["difference"] * scale,
            None if low is None else low * scale,
            None if high is None else high * scale,
            entry["p"],
            entry["p_holm"],
            entry["effect"],
            entry["units"],
            entry["needed"],
            entry.get("note") or "",
            max((abs(figure.value) for figure in figures if figure), default=0.0),
            (self.by_id[entry["a"]]["measures"].get(entry["measure"]) or {}).get("unit", "prompt"),
        )
