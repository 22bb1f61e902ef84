"""The figures of one prompt's responses: what each is called, how it is made, and which direction is better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from outspoken.errors import UndefinedError
from outspoken.measure import divergence, lexical, sets
from outspoken.measure.answer_sets import Answers
from outspoken.measure.tokenization import words
from outspoken.measure.values import Response

__all__ = ["MEASURES", "MeasureDefinition", "MeasureInput", "NotGivenError", "compute"]

Floats = NDArray[np.floating]


class NotGivenError(UndefinedError):
    """What a measure needs beside the responses was not given."""


class MeasureInput:
    """The responses to one prompt, and what several figures need of them, made once."""

    def __init__(
        self,
        responses: tuple[Response, ...],
        answers: Answers,
        embeddings: Floats | None = None,
        quality: tuple[float, ...] = (),
    ) -> None:
        self.responses = responses
        self.answers = answers
        self.embeddings = embeddings
        self.quality = quality

    @cached_property
    def texts(self) -> list[str]:
        return [response.text for response in self.responses]

    @cached_property
    def found(self) -> Mapping[str, float]:
        """The weight of each answer in the distribution that one draws from."""
        return sets.answer_weights(self.responses, self.answers.label)

    @cached_property
    def counts(self) -> dict[str, float]:
        """How often each answer came, whatever its probability."""
        counts: dict[str, float] = {}
        for text in self.texts:
            label = self.answers.label(text)
            counts[label] = counts.get(label, 0) + 1
        return counts

    @property
    def reference(self) -> Mapping[str, float]:
        """The shares that the answers ought to have: counted ones, or else all known ones alike."""
        if self.answers.reference is not None:
            return self.answers.reference
        return dict.fromkeys(self.known, 1 / len(self.known))

    @property
    def known(self) -> tuple[str, ...]:
        if not self.answers.known:
            raise NotGivenError("there is no reference: name one with --reference")
        return tuple(self.answers.known)

    @property
    def partition(self) -> tuple[int, ...]:
        given = tuple(response.partition for response in self.responses if response.partition is not None)
        if len(given) < len(self.responses):
            raise NotGivenError("the responses came without a partition into classes")
        return given

    @property
    def scores(self) -> tuple[float, ...]:
        given = tuple(response.score for response in self.responses if response.score is not None)
        if len(given) < len(self.responses):
            raise NotGivenError("the responses came without scores")
        return given

    @property
    def vectors(self) -> Floats:
        if self.embeddings is None:
            raise NotGivenError("no embeddings were made")
        return self.embeddings

    def several(self) -> None:
        """Raise where one response is all there is."""
        if len(self.responses) < 2:
            raise UndefinedError("one response has no diversity: two are the least")


# A figure of one prompt is a sum and its weight; over prompts the sums and the weights are added up.
_Made = tuple[float, float]


@dataclass(frozen=True, slots=True)
class MeasureDefinition:
    """A measure by name. `better` is "higher", "lower" or "" (neither), `scale` what tables multiply it by,
    `about` its formula and source; `kind` "headline" for what tables show first, "published" for a figure that is
    there to compare with publications and should not be read alone. `of_answers`: it needs a reference, and lies
    from 0 to `most`."""

    name: str
    title: str
    better: str
    about: str
    make: Callable[[MeasureInput], _Made]
    scale: int = 1
    kind: str = ""
    of_answers: bool = False
    most: float = math.inf


def _pairs(values: Floats) -> _Made:
    return float(values.sum()), float(len(values))


def _of_set(compute: Callable[[MeasureInput], float]) -> Callable[[MeasureInput], _Made]:
    """A figure of a whole set of responses: over prompts its mean is taken, each prompt counting once."""

    def make(material: MeasureInput) -> _Made:
        material.several()
        return float(compute(material)), 1.0

    return make


def _of_answers(compute: Callable[[MeasureInput], float]) -> Callable[[MeasureInput], _Made]:
    def make(material: MeasureInput) -> _Made:
        return float(compute(material)), 1.0

    return make


def _semantic(material: MeasureInput) -> _Made:
    material.several()
    return _pairs(sets.semantic_pairs(material.vectors))


def _rouge(material: MeasureInput) -> _Made:
    material.several()
    return _pairs(lexical.rouge_l_pairs(material.texts))


def _rouge_unicode(material: MeasureInput) -> _Made:
    material.several()
    return _pairs(lexical.rouge_l_pairs(material.texts, words))


def _quality(material: MeasureInput) -> _Made:
    if not material.quality:
        raise NotGivenError("nobody judged these responses")
    return float(sum(material.quality)), float(len(material.quality))


def _known_only(material: MeasureInput) -> dict[str, float]:
    """The weights of the answers that are known."""
    known = set(material.known)
    found = {answer: weight for answer, weight in material.found.items() if answer in known}
    if not found:
        raise UndefinedError("none of the responses is a known answer")
    return found


_ROWS = (
    MeasureDefinition(
        "semantic_diversity",
        "Semantic diversity",
        "higher",
        "Mean of 1 - clip(cosine, 0, 1) over all pairs of responses to the same prompt, pooled over the prompts "
        "(arXiv 2510.01171, section 5). It hangs on the embedder.",
        _semantic,
        scale=100,
        kind="headline",
    ),
    MeasureDefinition(
        "quality",
        "Quality",
        "higher",
        "Mean score of the responses by the judge's rubric, from 0 to 100.",
        _quality,
        kind="headline",
    ),
    MeasureDefinition(
        "distinct_answers",
        "Distinct answers",
        "higher",
        "Different responses per prompt: equal ones share their text after NFKC, case folding and trimming "
        "of punctuation, or are the same answer. Grows with the number of responses.",
        _of_answers(lambda material: len(material.found)),
        kind="headline",
    ),
    MeasureDefinition(
        "effective_size",
        "Effective number",
        "higher",
        "exp of the entropy of the answers' weights (Hill number of order 1): how many equally likely answers "
        "would be as diverse.",
        _of_answers(lambda material: sets.effective_size(material.found.values())),
        kind="headline",
    ),
    MeasureDefinition(
        "entropy",
        "Entropy",
        "higher",
        "Entropy of the answers' weights in nats; a call's weights are the normalised stated probabilities, or "
        "equal.",
        _of_answers(lambda material: sets.entropy(material.found.values())),
    ),
    MeasureDefinition(
        "vendi",
        "Vendi score",
        "higher",
        "exp of the von Neumann entropy of the cosine kernel over n (Friedman and Dieng 2023).",
        _of_set(lambda material: sets.vendi(material.vectors)),
        kind="headline",
    ),
    MeasureDefinition(
        "distinct_k",
        "distinct_k",
        "higher",
        "Classes of the partition that came with the responses (NoveltyBench, arXiv 2504.05228).",
        _of_answers(lambda material: sets.distinct_k(material.partition)),
        kind="headline",
    ),
    MeasureDefinition(
        "utility_k",
        "utility_k",
        "higher",
        "(1-p)/(1-p^k) * sum of p^i times the score of response i, 0 where its class was seen before, p = 0.8 "
        "(NoveltyBench, arXiv 2504.05228).",
        _of_answers(lambda material: sets.utility_k(sets.first_of_class(material.partition, material.scores))),
        kind="headline",
    ),
    MeasureDefinition(
        "rouge_l",
        "ROUGE-L",
        "lower",
        "F1 of the longest common subsequence of words (split at blanks, case-sensitive), mean over all pairs of "
        "responses to the same prompt (Lin 2004; as in arXiv 2510.01171).",
        _rouge,
        scale=100,
    ),
    MeasureDefinition(
        "rouge_l_unicode",
        "ROUGE-L, Unicode",
        "lower",
        "ROUGE-L over words as Unicode has them, case folded; a character each where a script has no blanks.",
        _rouge_unicode,
        scale=100,
    ),
    *(
        MeasureDefinition(
            f"distinct_{n}",
            f"distinct-{n}",
            "higher",
            f"Different {n}-grams over all {n}-grams of the whole set of responses to a prompt (Li et al. 2016).",
            _of_set(lambda material, n=n: lexical.distinct_n(material.texts, n)),  # type: ignore[misc]
        )
        for n in (1, 2, 3)
    ),
    MeasureDefinition(
        "self_bleu",
        "self-BLEU",
        "lower",
        "Mean BLEU-4 of each response against the others to the same prompt (Zhu et al. 2018), smoothed by "
        "method 1.",
        _of_set(lambda material: lexical.self_bleu(material.texts)),
    ),
    MeasureDefinition(
        "compression_ratio",
        "Compression ratio",
        "lower",
        "Bytes of the responses to a prompt over their bytes after gzip (arXiv 2403.00553).",
        _of_set(lambda material: lexical.compression_ratio(material.texts)),
    ),
    MeasureDefinition(
        "coverage",
        "Coverage-N",
        "higher",
        "Share of the known answers that were found.",
        _of_answers(lambda material: divergence.coverage(material.counts, material.known)),
        kind="headline",
        of_answers=True,
        most=1,
    ),
    MeasureDefinition(
        "precision",
        "Precision",
        "higher",
        "Share of the responses that are a known answer.",
        _of_answers(lambda material: divergence.precision(material.counts, material.known)),
        kind="headline",
        of_answers=True,
        most=1,
    ),
    MeasureDefinition(
        "tv",
        "Total variation",
        "lower",
        "Half of the sum of |reference - model| over all answers: no constant in it.",
        _of_answers(lambda material: divergence.tv(material.reference, material.found)),
        kind="headline",
        of_answers=True,
        most=1,
    ),
    MeasureDefinition(
        "js",
        "Jensen-Shannon",
        "lower",
        "Jensen-Shannon divergence from the reference in nats, 0 to ln 2: no constant in it.",
        _of_answers(lambda material: divergence.js(material.reference, material.found)),
        kind="headline",
        of_answers=True,
        most=math.log(2),
    ),
    MeasureDefinition(
        "ks",
        "Kolmogorov-Smirnov",
        "lower",
        "Greatest distance of the cumulative distributions, where the answers are numbers: "
        "max |P(X <= x) - Q(X <= x)| of the reference and of the model's known answers.",
        _of_answers(lambda material: divergence.ks_distance(material.reference, _known_only(material))),
        of_answers=True,
        most=1,
    ),
    MeasureDefinition(
        "kl_reference_shared",
        "KL, shared support",
        "lower",
        "KL(reference || model) over the answers that both have, renormalised: no constant in it, and blind to "
        "what is missing, so read it beside the coverage.",
        _of_answers(lambda material: divergence.kl_shared(material.reference, material.found)),
        of_answers=True,
    ),
    MeasureDefinition(
        "kl_uniform",
        "KL from uniform",
        "lower",
        "KL(model || uniform over the known answers), of the model's known answers.",
        _of_answers(lambda material: divergence.kl_uniform(_known_only(material), len(material.known))),
        of_answers=True,
    ),
    MeasureDefinition(
        "kl_reference",
        "KL, smoothed by 1e-10",
        "lower",
        "KL(reference || model) with 1e-10 added on the union of the answers, as published (arXiv 2510.01171): "
        "where answers are missing, the constant makes nearly all of it.",
        _of_answers(lambda material: divergence.kl_smoothed(material.reference, material.found)),
        kind="published",
        of_answers=True,
    ),
    MeasureDefinition(
        "kl_model",
        "KL from the model, smoothed",
        "lower",
        "KL(model || reference), the other direction, with 1e-10 added on the union of the answers.",
        _of_answers(lambda material: divergence.kl_smoothed(material.found, material.reference)),
        kind="published",
        of_answers=True,
    ),
    MeasureDefinition(
        "kl_uniform_published",
        "KL from uniform, as published",
        "lower",
        "KL(model || uniform over the answers that appeared): a model with one answer scores a perfect 0.",
        _of_answers(lambda material: divergence.kl_uniform_published(_known_only(material))),
        kind="published",
        of_answers=True,
    ),
)
MEASURES: dict[str, MeasureDefinition] = {row.name: row for row in _ROWS}


def compute(measure: MeasureDefinition, material: MeasureInput) -> _Made:
    """The sum and the weight of a measure for one prompt. Raises `UndefinedError` where it has none."""
    if not material.responses:
        raise UndefinedError("no response came")
    return measure.make(material)
