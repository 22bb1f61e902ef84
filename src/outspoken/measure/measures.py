"""The measures of one prompt's responses: the name of each, its formula, and which direction is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError
from outspoken.measure import divergence, lexical, sets
from outspoken.measure.answer_sets import Answers
from outspoken.measure.tokenization import words
from outspoken.measure.values import Response

__all__ = ["MEASURES", "MeasureDefinition", "MeasureInput", "NotGivenError", "SumAndWeight", "compute"]

Floats = NDArray[np.floating]
T = TypeVar("T")

SumAndWeight = tuple[float, float]
"""The figure of one prompt. Over several prompts the sums and the weights are added up."""


class NotGivenError(UndefinedError):
    """An input of the measure, beside the responses, was not given."""


class MeasureInput:
    """The responses to one prompt, with the intermediate values that several measures share."""

    def __init__(
        self,
        responses: tuple[Response, ...],
        answers: Answers,
        embeddings: Floats | None = None,
        quality: tuple[float, ...] = (),
    ) -> None:
        self.responses = responses
        self.answers = answers
        self._embeddings = embeddings
        self._quality = quality

    @cached_property
    def texts(self) -> list[str]:
        return [response.text for response in self.responses]

    @cached_property
    def weights(self) -> Mapping[str, float]:
        """The weight of each answer in the distribution that a user draws from."""
        return sets.answer_weights(self.responses, self.answers.label)

    @cached_property
    def counts(self) -> Mapping[str, float]:
        """How often each answer appeared, whatever its probability."""
        counts: dict[str, float] = {}
        for text in self.texts:
            label = self.answers.label(text)
            counts[label] = counts.get(label, 0) + 1
        return counts

    @property
    def reference(self) -> Mapping[str, float]:
        """The shares that the answers ought to have: those given, or else equal shares of all known answers."""
        if self.answers.reference is not None:
            return self.answers.reference
        return dict.fromkeys(self.known, 1 / len(self.known))

    @property
    def known(self) -> tuple[str, ...]:
        if not self.answers.known:
            raise NotGivenError("there is no reference: name one with --reference")
        return tuple(self.answers.known)

    @property
    def known_weights(self) -> dict[str, float]:
        """The weights of the answers that are known."""
        known = set(self.known)
        weights = {answer: weight for answer, weight in self.weights.items() if answer in known}
        if not weights:
            raise UndefinedError("none of the responses is a known answer")
        return weights

    @property
    def partition(self) -> tuple[int, ...]:
        classes = [response.partition for response in self.responses]
        return _complete(classes, "the responses come without a partition into classes")

    @property
    def scores(self) -> tuple[float, ...]:
        return _complete([response.score for response in self.responses], "the responses come without scores")

    @property
    def embeddings(self) -> Floats:
        if self._embeddings is None:
            raise NotGivenError("there are no embeddings")
        return self._embeddings

    @property
    def quality(self) -> tuple[float, ...]:
        if not self._quality:
            raise NotGivenError("no judge scored these responses")
        return self._quality


def _complete(values: list[T | None], problem: str) -> tuple[T, ...]:
    present = tuple(value for value in values if value is not None)
    if len(present) < len(values):
        raise NotGivenError(problem)
    return present


Formula = Callable[[MeasureInput], float | Sequence[float] | Floats]


@dataclass(frozen=True, slots=True)
class MeasureDefinition:
    """A measure by name.

    `formula` returns one number for a prompt, or one for each response or pair of responses; the figure of several
    prompts is the mean of all these numbers. `about` explains it and names its source. `better` is "higher",
    "lower" or "" (neither), `scale` the factor by which tables multiply the figure. `kind` is "headline" for
    measures that tables show first, and "published" for formulas of the literature that are only meant for
    comparison with it. `needs_reference` marks measures from 0 to `maximum` that compare answers with known ones.
    """

    name: str
    title: str
    about: str
    formula: Formula
    better: str = "higher"
    scale: int = 1
    kind: str = ""
    needs_reference: bool = False
    maximum: float = math.inf


def _of_several(formula: Formula) -> Formula:
    """A formula that is undefined for a single response."""

    def checked(inputs: MeasureInput) -> float | Sequence[float] | Floats:
        if len(inputs.responses) < 2:
            raise UndefinedError("one response has no diversity: at least two are needed")
        return formula(inputs)

    return checked


_ROWS = (
    MeasureDefinition(
        "semantic_diversity",
        "Semantic diversity",
        "Mean of 1 - clip(cosine, 0, 1) over all pairs of responses to the same prompt, pooled over the prompts "
        "(arXiv 2510.01171, section 5). It depends on the embedder.",
        _of_several(lambda inputs: sets.semantic_pairs(inputs.embeddings)),
        scale=100,
        kind="headline",
    ),
    MeasureDefinition(
        "quality",
        "Quality",
        "Mean score of the responses by the judge's rubric, from 0 to 100.",
        lambda inputs: inputs.quality,
        kind="headline",
    ),
    MeasureDefinition(
        "distinct_answers",
        "Distinct answers",
        "Distinct responses per prompt: two are equal if their texts are after NFKC, case folding and trimming of "
        "punctuation, or if they are the same answer. Grows with the number of responses.",
        lambda inputs: len(inputs.weights),
        kind="headline",
    ),
    MeasureDefinition(
        "effective_size",
        "Effective size",
        "exp of the entropy of the answers' weights (Hill number of order 1): the number of equally likely "
        "answers with the same entropy.",
        lambda inputs: sets.effective_size(inputs.weights.values()),
        kind="headline",
    ),
    MeasureDefinition(
        "entropy",
        "Entropy",
        "Entropy of the answers' weights in nats. The weights of a call are its normalised stated probabilities, "
        "or equal.",
        lambda inputs: sets.entropy(inputs.weights.values()),
    ),
    MeasureDefinition(
        "vendi",
        "Vendi score",
        "exp of the von Neumann entropy of the cosine kernel over n (Friedman and Dieng 2023).",
        _of_several(lambda inputs: sets.vendi(inputs.embeddings)),
        kind="headline",
    ),
    MeasureDefinition(
        "distinct_k",
        "distinct_k",
        "Classes of the partition that comes with the responses (NoveltyBench, arXiv 2504.05228).",
        lambda inputs: sets.distinct_k(inputs.partition),
        kind="headline",
    ),
    MeasureDefinition(
        "utility_k",
        "utility_k",
        "(1-p)/(1-p^k) * sum of p^i times the score of response i, 0 if its class appeared before, p = 0.8 "
        "(NoveltyBench, arXiv 2504.05228).",
        lambda inputs: sets.utility_k(sets.first_of_class(inputs.partition, inputs.scores)),
        kind="headline",
    ),
    MeasureDefinition(
        "rouge_l",
        "ROUGE-L",
        "F1 of the longest common subsequence of words (split at white space, case-sensitive), mean over all "
        "pairs of responses to the same prompt (Lin 2004; as in arXiv 2510.01171).",
        _of_several(lambda inputs: lexical.rouge_l_pairs(inputs.texts)),
        scale=100,
        better="lower",
    ),
    MeasureDefinition(
        "rouge_l_unicode",
        "ROUGE-L, Unicode",
        "ROUGE-L over the words of Unicode, case folded; in scripts without spaces each character is a word.",
        _of_several(lambda inputs: lexical.rouge_l_pairs(inputs.texts, words)),
        scale=100,
        better="lower",
    ),
    *(
        MeasureDefinition(
            f"distinct_{n}",
            f"distinct-{n}",
            f"Distinct {n}-grams over all {n}-grams of the set of responses to a prompt (Li et al. 2016).",
            _of_several(lambda inputs, n=n: lexical.distinct_n(inputs.texts, n)),  # type: ignore[misc]
        )
        for n in (1, 2, 3)
    ),
    MeasureDefinition(
        "self_bleu",
        "self-BLEU",
        "Mean BLEU-4 of each response against the others to the same prompt (Zhu et al. 2018), smoothed by "
        "method 1.",
        _of_several(lambda inputs: lexical.self_bleu(inputs.texts)),
        better="lower",
    ),
    MeasureDefinition(
        "compression_ratio",
        "Compression ratio",
        "Bytes of the responses to a prompt over their bytes after gzip (arXiv 2403.00553).",
        _of_several(lambda inputs: lexical.compression_ratio(inputs.texts)),
        better="lower",
    ),
)

_REFERENCE_ROWS = (
    MeasureDefinition(
        "coverage",
        "Coverage-N",
        "Share of the known answers that appeared.",
        lambda inputs: divergence.coverage(inputs.counts, inputs.known),
        kind="headline",
        maximum=1,
    ),
    MeasureDefinition(
        "precision",
        "Precision",
        "Share of the responses that are a known answer.",
        lambda inputs: divergence.precision(inputs.counts, inputs.known),
        kind="headline",
        maximum=1,
    ),
    MeasureDefinition(
        "tv",
        "Total variation",
        "Half of the sum of |reference - model| over all answers. Contains no constant.",
        lambda inputs: divergence.tv(inputs.reference, inputs.weights),
        kind="headline",
        maximum=1,
        better="lower",
    ),
    MeasureDefinition(
        "js",
        "Jensen-Shannon",
        "Jensen-Shannon divergence from the reference in nats, 0 to ln 2. Contains no constant.",
        lambda inputs: divergence.js(inputs.reference, inputs.weights),
        kind="headline",
        maximum=math.log(2),
        better="lower",
    ),
    MeasureDefinition(
        "ks",
        "Kolmogorov-Smirnov",
        "Greatest distance of the cumulative distributions, if the answers are numbers: "
        "max |P(X <= x) - Q(X <= x)| of the reference and of the model's known answers.",
        lambda inputs: divergence.ks_distance(inputs.reference, inputs.known_weights),
        maximum=1,
        better="lower",
    ),
    MeasureDefinition(
        "kl_reference_shared",
        "KL, shared support",
        "KL(reference || model) over the answers that both have, renormalised. Contains no constant, and ignores "
        "missing answers, so read it beside the coverage.",
        lambda inputs: divergence.kl_shared(inputs.reference, inputs.weights),
        better="lower",
    ),
    MeasureDefinition(
        "kl_uniform",
        "KL from uniform",
        "KL(model || uniform over the known answers), of the model's known answers.",
        lambda inputs: divergence.kl_uniform(inputs.known_weights, len(inputs.known)),
        better="lower",
    ),
    MeasureDefinition(
        "kl_reference",
        "KL, smoothed by 1e-10",
        "KL(reference || model) with 1e-10 added on the union of the answers, as published (arXiv 2510.01171). If "
        "answers are missing, nearly all of it is due to the constant.",
        lambda inputs: divergence.kl_smoothed(inputs.reference, inputs.weights),
        kind="published",
        better="lower",
    ),
    MeasureDefinition(
        "kl_model",
        "KL from the model, smoothed",
        "KL(model || reference), the other direction, with 1e-10 added on the union of the answers.",
        lambda inputs: divergence.kl_smoothed(inputs.weights, inputs.reference),
        kind="published",
        better="lower",
    ),
    MeasureDefinition(
        "kl_uniform_published",
        "KL from uniform, as published",
        "KL(model || uniform over the answers that appeared): a model with one answer scores a perfect 0.",
        lambda inputs: divergence.kl_uniform_published(inputs.known_weights),
        kind="published",
        better="lower",
    ),
)
MEASURES: dict[str, MeasureDefinition] = {
    row.name: row for row in (*_ROWS, *(replace(row, needs_reference=True) for row in _REFERENCE_ROWS))
}


def compute(measure: MeasureDefinition, inputs: MeasureInput) -> SumAndWeight:
    """A measure's sum and weight for one prompt. Raises `UndefinedError` if it does not exist for it."""
    if not inputs.responses:
        raise UndefinedError("there is no response")
    values = measure.formula(inputs)
    if isinstance(values, (int, float)):
        return float(values), 1.0
    return float(np.sum(values)), float(len(values))
