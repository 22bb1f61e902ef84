"""A group of responses with its figures, and the comparison of two groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from outspoken.io.dataclass_json import to_json
from outspoken.measure.cost import Cost, CostSummary
from outspoken.measure.equal_size import NoiseFloor
from outspoken.measure.estimates import Comparison, Estimate
from outspoken.measure.measure_definition import SumAndWeight
from outspoken.measure.values import Group

__all__ = ["GroupComparison", "MeasuredGroup"]


@dataclass(frozen=True, slots=True)
class MeasuredGroup:
    """A group of responses and its figures.

    `figures` holds the estimate of each measure by name. `undefined` says why a measure is undefined for the group
    or for some of its prompts; the measures whose input was not given (a reference, embeddings, a judge) are also
    in `not_given`. `sums` holds the sum and weight that each prompt adds to a figure, by measure and prompt id.
    `floors` holds the noise floors of the figures that compare draws with a reference, and `with_counts` is the
    number of prompts whose reference has counts. `states_shares` says whether responses carry stated
    probabilities: without them, figures of shares are those of draws.
    """

    group: Group
    figures: Mapping[str, Estimate]
    undefined: Mapping[str, str]
    sums: Mapping[str, Mapping[str, SumAndWeight]]
    cost: Cost | None = None
    not_given: frozenset[str] = frozenset()
    floors: Mapping[str, NoiseFloor] = field(default_factory=dict)
    with_counts: int = 0
    states_shares: bool = False

    @property
    def responses(self) -> int:
        """The number of responses."""
        return sum(len(prompt.responses) for prompt in self.group.prompts)

    @property
    def failures(self) -> int:
        """The number of responses that are missing."""
        return sum(prompt.failures for prompt in self.group.prompts)

    @property
    def empty(self) -> int:
        """The number of responses without text, which are not among `responses`."""
        return sum(prompt.empty for prompt in self.group.prompts)

    @property
    def has_counts(self) -> bool:
        """Whether the shares that the answers ought to have are known for a prompt."""
        return self.with_counts > 0

    @property
    def cost_summary(self) -> CostSummary | None:
        """The cost for each response and each distinct one, None if it is unknown."""
        distinct = sum(value for value, _ in self.sums.get("distinct_answers", {}).values())
        return None if self.cost is None else self.cost.summary(self.responses, round(distinct))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "method": self.group.method,
            "model": self.group.model,
            "settings": dict(self.group.settings),
            "prompts": len(self.group.prompts),
            "responses": self.responses,
            "failures": self.failures,
            "empty": self.empty,
            "states_shares": self.states_shares,
            "measures": to_json(self.figures, methods=True),
            "undefined": dict(self.undefined),
            "floors": to_json(self.floors, methods=True),
            "cost": to_json(self.cost_summary),
        }


@dataclass(frozen=True, slots=True)
class GroupComparison:
    """The `comparison` of group `a` minus group `b` by one measure; both are indices into `Analysis.groups`."""

    measure: str
    a: int
    b: int
    comparison: Comparison

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {"measure": self.measure, "a": self.a, "b": self.b, **self.comparison.to_dict()}
