"""The measures by name: what each says, its formula, and which direction is better."""

from __future__ import annotations

import math
from typing import Any

from outspoken.measure import answer_table, divergence, lexical, sets
from outspoken.measure.answer_table import RowFormula
from outspoken.measure.measure_definition import MeasureDefinition, of_answers, of_several
from outspoken.measure.measure_input import Basis
from outspoken.measure.tokenization import words

__all__ = ["MEASURES"]

_ROWS = (
    MeasureDefinition(
        "semantic_diversity",
        "Semantic diversity",
        "Mean of 1 - clip(cosine, 0, 1) over all pairs of responses to the same prompt, pooled over the prompts "
        "(arXiv 2510.01171, section 5). It depends on the embedder.",
        of_several(lambda inputs: sets.semantic_pairs(inputs.embeddings)),
        scale=100,
        kind="headline",
        bounds=(0, 1),
    ),
    MeasureDefinition(
        "quality",
        "Quality",
        "Mean score of the responses by the judge's rubric, from 0 to 100.",
        lambda inputs: inputs.quality,
        kind="headline",
        per_response=True,
    ),
    of_answers(
        "distinct_meanings",
        "Different answers, by meaning",
        "Different responses per prompt that are no refusals, where responses of the same meaning are one (see "
        "`outspoken.measure.same_meaning`, which is approximate). Grows with the number of responses.",
        answer_table.distinct,
        basis="meanings",
        kind="headline",
        step=1,
        bounds=(0, math.inf),
    ),
    of_answers(
        "distinct_answers",
        "Different answers",
        "Different responses per prompt that are no refusals: two are equal if their texts are after NFKC, case "
        "folding and trimming of punctuation, or if they are the same answer. Grows with the number of responses.",
        answer_table.distinct,
        kind="headline",
        step=1,
        bounds=(0, math.inf),
    ),
    of_answers(
        "effective_size",
        "Effective size",
        "exp of the entropy of the responses (Hill number of order 1): the number of equally likely answers with "
        "the same entropy. Each response counts once, and all refusals are one answer.",
        answer_table.effective_size,
        kind="headline",
        bounds=(1, math.inf),
    ),
    of_answers(
        "effective_size_shares",
        "Effective size of shares",
        "The effective size of the distribution that a user draws from: the weights of a call are its normalised "
        "stated probabilities, or equal, and calls are averaged.",
        answer_table.effective_size,
        basis="shares",
        bounds=(1, math.inf),
    ),
    of_answers(
        "entropy",
        "Entropy",
        "Entropy of the responses' answers in nats; each response counts once.",
        answer_table.entropy,
        bounds=(0, math.inf),
    ),
    of_answers(
        "entropy_shares",
        "Entropy of shares",
        "Entropy in nats of the distribution that a user draws from, as for the effective size of the shares.",
        answer_table.entropy,
        basis="shares",
        bounds=(0, math.inf),
    ),
    MeasureDefinition(
        "chao1",
        "Answers in the model, Chao1",
        "A lower bound of the number of answers that the model has, from those that came once and twice (Chao "
        "1984).",
        lambda inputs: inputs.richness.estimate,
        grows=True,
        bounds=(0, math.inf),
    ),
    MeasureDefinition(
        "sample_coverage",
        "Sample coverage",
        "Share of further responses that would be an answer already seen (Good-Turing; Chao and Jost 2012). High "
        "coverage of few answers is a collapsed model; low coverage means that more responses show more answers.",
        lambda inputs: inputs.richness.coverage,
        better="",
        grows=True,
        bounds=(0, 1),
    ),
    MeasureDefinition(
        "refusals",
        "Refusals",
        "Share of the responses that decline to answer, recognised by their opening in ten languages (see "
        "`outspoken.measure.refusals`).",
        lambda inputs: [float(refused) for refused in inputs.refused],
        better="lower",
        kind="headline",
        per_response=True,
        bounds=(0, 1),
        step=1,
    ),
    MeasureDefinition(
        "empty",
        "Empty responses",
        "Share of the responses without text; they are in no other figure.",
        lambda inputs: [1.0] * inputs.empty + [0.0] * len(inputs.responses),
        better="lower",
        per_response=True,
        bounds=(0, 1),
        step=1,
    ),
    MeasureDefinition(
        "vendi",
        "Vendi score",
        "exp of the von Neumann entropy of the cosine kernel over n (Friedman and Dieng 2023).",
        of_several(lambda inputs: sets.vendi(inputs.embeddings)),
        kind="headline",
        grows=True,
        bounds=(1, math.inf),
    ),
    MeasureDefinition(
        "distinct_k",
        "distinct_k",
        "Classes of the partition that comes with the responses (NoveltyBench, arXiv 2504.05228).",
        lambda inputs: sets.distinct_k(inputs.partition),
        kind="headline",
        grows=True,
        bounds=(0, math.inf),
    ),
    MeasureDefinition(
        "utility_k",
        "utility_k",
        "(1-p)/(1-p^k) * sum of p^i times the score of response i, 0 if its class appeared before, p = 0.8 "
        "(NoveltyBench, arXiv 2504.05228).",
        lambda inputs: sets.utility_k(sets.first_of_class(inputs.partition, inputs.scores)),
        kind="headline",
        grows=True,
    ),
    MeasureDefinition(
        "rouge_l",
        "ROUGE-L",
        "F1 of the longest common subsequence of words (split at white space, case-sensitive), mean over all "
        "pairs of responses to the same prompt (Lin 2004; as in arXiv 2510.01171).",
        of_several(lambda inputs: lexical.rouge_l_pairs(inputs.texts)),
        scale=100,
        better="lower",
        bounds=(0, 1),
    ),
    MeasureDefinition(
        "rouge_l_unicode",
        "ROUGE-L, Unicode",
        "ROUGE-L over the words of Unicode, case folded; in scripts without spaces each character is a word.",
        of_several(lambda inputs: lexical.rouge_l_pairs(inputs.texts, words)),
        scale=100,
        better="lower",
        bounds=(0, 1),
    ),
    *(
        MeasureDefinition(
            f"distinct_{n}",
            f"distinct-{n}",
            f"Distinct {n}-grams over all {n}-grams of the set of responses to a prompt (Li et al. 2016).",
            of_several(lambda inputs, n=n: lexical.distinct_n(inputs.texts, n)),  # type: ignore[misc]
            grows=True,
            bounds=(0, 1),
        )
        for n in (1, 2, 3)
    ),
    MeasureDefinition(
        "self_bleu",
        "self-BLEU",
        "Mean BLEU-4 of each response against the others to the same prompt (Zhu et al. 2018), smoothed by "
        "method 1.",
        of_several(lambda inputs: lexical.self_bleu(inputs.texts)),
        better="lower",
        grows=True,
        bounds=(0, 1),
    ),
    MeasureDefinition(
        "compression_ratio",
        "Compression ratio",
        "Bytes of the responses to a prompt over their bytes after gzip (arXiv 2403.00553).",
        of_several(lambda inputs: lexical.compression_ratio(inputs.texts)),
        better="lower",
        grows=True,
        bounds=(0, math.inf),
    ),
)

_BASES: tuple[tuple[str, str, Basis, str], ...] = (
    ("", "", "draws", "Each response counts once."),
    ("_shares", " of shares", "shares", "Of the distribution that a user draws from."),
)


def _of_known(name: str, title: str, about: str, rows: RowFormula, **options: Any) -> MeasureDefinition:
    """A measure that compares the answers with known ones."""
    return of_answers(name, title, about, rows, needs_reference=True, **options)


_NO_KNOWN = "none of the responses is a known answer"

_REFERENCE_ROWS = (
    _of_known(
        "coverage",
        "Coverage-N",
        "Share of the known answers that appeared. Grows with the number of responses.",
        answer_table.coverage,
        kind="headline",
        bounds=(0, 1),
    ),
    _of_known(
        "precision",
        "Precision",
        "Share of the responses that are a known answer.",
        answer_table.precision,
        kind="headline",
        bounds=(0, 1),
        step=1,
        grows=False,
    ),
    *(
        _of_known(
            f"{name}{ending}",
            f"{title}{of}",
            f"{about} {counted} Contains no constant.",
            rows,
            basis=basis,
            kind="headline",
            bounds=(0, most),
            better="lower",
        )
        for ending, of, basis, counted in _BASES
        for name, title, about, rows, most in (
            (
                "tv",
                "Total variation",
                "Half of the sum of |reference - answers| over all answers.",
                answer_table.tv,
                1,
            ),
            (
                "js",
                "Jensen-Shannon",
                "Jensen-Shannon divergence from the reference in nats, 0 to ln 2.",
                answer_table.js,
                math.log(2),
            ),
        )
    ),
    *(
        _of_known(
            f"ks{ending}",
            f"Kolmogorov-Smirnov{of}",
            "Greatest distance of the cumulative distributions, if the answers are numbers: max |P(X <= x) - "
            f"Q(X <= x)| of the reference and of the answers that are numbers. {counted}",
            answer_table.ks,
            basis=basis,
            bounds=(0, 1),
            better="lower",
            undefined="KS needs answers that are numbers",
        )
        for ending, of, basis, counted in _BASES
    ),
    _of_known(
        "kl_reference_shared",
        "KL, shared support",
        "KL(reference || shares) over the answers that both have, renormalised. Contains no constant, and ignores "
        "missing answers, so read it beside the coverage.",
        answer_table.kl_shared,
        basis="shares",
        better="lower",
        undefined=_NO_KNOWN,
        bounds=(0, math.inf),
    ),
    _of_known(
        "kl_uniform",
        "KL from uniform",
        "KL(shares || uniform over the known answers), of the known answers that were given.",
        answer_table.kl_uniform,
        basis="shares",
        better="lower",
        undefined=_NO_KNOWN,
        bounds=(0, math.inf),
    ),
    _of_known(
        "kl_reference",
        "KL, smoothed by 1e-10",
        "KL(reference || shares) with 1e-10 added on the union of the answers, as published (arXiv 2510.01171). "
        "If answers are missing, nearly all of it is due to the constant.",
        answer_table.kl_smoothed,
        basis="shares",
        kind="published",
        better="lower",
        bounds=(0, math.inf),
    ),
    MeasureDefinition(
        "kl_reference_published_average",
        "KL, smoothed, published average",
        "The same with the published average over calls, which divides the shares of an answer by the calls that "
        "contain it; the mixture that one draws from divides by all calls (arXiv 2510.01171, Table 32).",
        lambda inputs: divergence.kl_smoothed(inputs.reference, inputs.published_shares),
        basis="shares",
        bounds=(0, math.inf),
        kind="published",
        better="lower",
        needs_reference=True,
    ),
    _of_known(
        "kl_model",
        "KL from the model, smoothed",
        "KL(shares || reference), the other direction, with 1e-10 added on the union of the answers.",
        answer_table.kl_model,
        basis="shares",
        kind="published",
        better="lower",
        bounds=(0, math.inf),
    ),
    _of_known(
        "kl_uniform_published",
        "KL from uniform, as published",
        "KL(shares || uniform over the answers that appeared): a model with one answer scores a perfect 0.",
        answer_table.kl_uniform_published,
        basis="shares",
        kind="published",
        better="lower",
        undefined=_NO_KNOWN,
        bounds=(0, math.inf),
    ),
)
MEASURES: dict[str, MeasureDefinition] = {row.name: row for row in (*_ROWS, *_REFERENCE_ROWS)}
