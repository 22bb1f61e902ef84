"""Lexical measures against plain references written from their definitions, and against nltk and rouge-score."""

from __future__ import annotations

import gzip
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken.errors import UndefinedError, UsageError
from outspoken.measure.lexical import compression_ratio, distinct_n, rouge_l, rouge_l_pairs, self_bleu
from outspoken.measure.tokenization import blanks, words

SIGNS = [
    "咖",
    "啡",
    "コー",
    "ヒー",
    "สวัส",
    "น้ำ",
    "مَرْحَبًا",
    "كيف",
    "👩‍👩‍👧",
    "👍🏽",
    "🇫🇷",
    "हिन्दी",
    "the",
    "The",
    "a",
    "\ud800",
]
vocabulary = st.sampled_from(SIGNS)
few_words = st.sampled_from(["a", "b", "c", "咖"])
texts_of_signs = st.lists(
    st.lists(vocabulary, min_size=1, max_size=25).map(" ".join)
    | st.lists(few_words, min_size=1, max_size=9).map("".join),
    min_size=2,
    max_size=6,
)
repetitive = st.lists(st.lists(few_words, min_size=1, max_size=12).map(" ".join), min_size=2, max_size=7)


def lcs(a: Sequence[str], b: Sequence[str]) -> int:
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, j in itertools.product(range(len(a)), range(len(b))):
        table[i + 1][j + 1] = table[i][j] + 1 if a[i] == b[j] else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


def plain_rouge_l(a: Sequence[str], b: Sequence[str]) -> float:
    common = lcs(a, b)
    precision, recall = common / len(a), common / len(b)
    return 2 * precision * recall / (precision + recall) if common else 0.0


def plain_bleu(references: list[list[str]], text: list[str], max_n: int = 4) -> float:
    logs = []
    for n in range(1, max_n + 1):

        def grams(of: list[str], n: int = n) -> Counter[tuple[str, ...]]:
            return Counter(tuple(of[at : at + n]) for at in range(len(of) - n + 1))

        there = [grams(reference) for reference in references]
        matches = sum(min(count, max(r[gram] for r in there)) for gram, count in grams(text).items())
        if n == 1 and not matches:
            return 0.0
        logs.append(math.log((matches or 0.1) / max(1, len(text) - n + 1)))
    closest = min((abs(len(r) - len(text)), len(r)) for r in references)[1]
    penalty = 1.0 if len(text) > closest else math.exp(1 - closest / len(text))
    return penalty * math.exp(math.fsum(logs) / max_n)


def plain_self_bleu(texts: list[str], bleu: Callable[[list[list[str]], list[str]], float] = plain_bleu) -> float:
    split = [words(text) for text in texts]
    return math.fsum(bleu(split[:at] + split[at + 1 :], text) for at, text in enumerate(split)) / len(split)


@given(texts_of_signs, st.sampled_from([blanks, list]))
def test_rouge_l_is_that_of_dynamic_programming(texts: list[str], split: Callable[[str], list[str]]) -> None:
    pairs = rouge_l_pairs(texts, split)
    rows, columns = np.triu_indices(len(texts), 1)
    expected = [plain_rouge_l(split(texts[i]), split(texts[j])) for i, j in zip(rows, columns, strict=True)]
    np.testing.assert_allclose(pairs, expected, rtol=0, atol=1e-12)
    assert rouge_l(texts, split) == pytest.approx(math.fsum(expected) / len(expected), abs=1e-12)


def test_rouge_l_over_many_texts_and_more_words_than_a_machine_word_has_bits() -> None:
    generator = np.random.default_rng(0)
    texts = [" ".join(map(str, generator.zipf(1.3, size=generator.integers(1, 150)) % 5000)) for _ in range(80)]
    pairs = rouge_l_pairs(texts)
    assert pairs.shape == (80 * 79 // 2,)
    for at, (i, j) in enumerate(itertools.combinations(range(80), 2)):
        if at % 17 == 0:
            assert pairs[at] == pytest.approx(plain_rouge_l(texts[i].split(), texts[j].split()), abs=1e-12)


def test_rouge_l_by_hand() -> None:
    # LCS of the first two is "the cat the mat", 4 of 6 and 5 words.
    pairs = rouge_l_pairs(["the cat sat on the mat", "the cat by the mat", "nothing shared", "The Cat"])
    np.testing.assert_allclose(pairs, [8 / 11, 0, 0, 0, 0, 0])
    assert rouge_l(["The Cat!", "the cat"]) == 0.0
    assert rouge_l(["The Cat!", "the cat"], words) == 1.0
    # Blanks see one word in each of these, and no word in common.
    assert rouge_l(["我喜欢咖啡", "我不喜欢茶"]) == 0.0
    assert rouge_l(["我喜欢咖啡", "我不喜欢茶"], words) == pytest.approx(2 * 3 / 10)
    assert rouge_l(["コーヒーが好き", "コーヒーは嫌い"], words) == pytest.approx(2 * 4 / 14)


def test_rouge_l_is_that_of_the_rouge_score_package() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    generator = np.random.default_rng(1)
    texts = [" ".join(generator.choice(list("abcdefgh"), size=generator.integers(1, 40))) for _ in range(12)]
    expected = [scorer.score(a, b)["rougeL"].fmeasure for a, b in itertools.combinations(texts, 2)]
    np.testing.assert_allclose(rouge_l_pairs(texts), expected, rtol=0, atol=1e-12)


def test_rouge_l_of_too_little_is_undefined() -> None:
    assert rouge_l_pairs([]).shape == (0,)
    assert rouge_l_pairs(["one"]).shape == (0,)
    for texts in ([], ["one"]):
        with pytest.raises(UndefinedError, match="at least two"):
            rouge_l(texts)
    with pytest.raises(UndefinedError, match="text 2 of 3"):
        rouge_l_pairs(["one", " \n", "two"])
    with pytest.raises(UndefinedError, match="text 3 of 3"):
        rouge_l(["one", "two", "?!"], words)


@given(repetitive, st.integers(1, 5))
def test_self_bleu_is_that_of_the_definition(texts: list[str], max_n: int) -> None:
    expected = plain_self_bleu(texts, lambda references, text: plain_bleu(references, text, max_n))
    assert self_bleu(texts, max_n=max_n) == pytest.approx(expected, abs=1e-12)
    assert self_bleu(texts[::-1], max_n=max_n) == pytest.approx(expected, abs=1e-12)


@given(texts_of_signs.filter(lambda texts: all(map(words, texts))))
def test_self_bleu_in_other_scripts(texts: list[str]) -> None:
    assert self_bleu(texts) == pytest.approx(plain_self_bleu(texts), abs=1e-12)


def test_self_bleu_is_that_of_nltk() -> None:
    score = pytest.importorskip("nltk.translate.bleu_score")
    smooth = score.SmoothingFunction().method1
    generator = np.random.default_rng(2)

    def bleu(references: list[list[str]], text: list[str]) -> float:
        return float(score.sentence_bleu(references, text, smoothing_function=smooth))

    for size in (2, 3, 8) * 15:
        known = list("abcdefghijklmnop"[: generator.integers(1, 16)])
        texts = [" ".join(generator.choice(known, size=generator.integers(1, 30))) for _ in range(size)]
        texts += texts[:1] * int(generator.integers(0, 3))
        assert self_bleu(texts) == pytest.approx(plain_self_bleu(texts, bleu), abs=1e-12)


def test_self_bleu_by_hand() -> None:
    assert self_bleu(["one two three four five"] * 3) == pytest.approx(1.0, abs=1e-12)
    assert self_bleu(["one two", "three four"]) == 0.0
    # Two words: both match, so does the pair; of three and four words there are none, which counts 0.1 of one.
    assert self_bleu(["one two", "one two"]) == pytest.approx((1 * 1 * 0.1 * 0.1) ** 0.25, abs=1e-12)
    # The first has "a" three times, of which two match; the last is as long as half of its closest reference.
    assert self_bleu(["a a a", "a a", "a"], max_n=1) == pytest.approx((2 / 3 + 1 + math.exp(-1)) / 3, abs=1e-12)


def test_self_bleu_of_too_little_is_undefined() -> None:
    for texts in ([], ["one two three four"]):
        with pytest.raises(UndefinedError, match="at least two"):
            self_bleu(texts)
    with pytest.raises(UndefinedError, match="text 1 of 2"):
        self_bleu(["?!", "one"])
    with pytest.raises(UsageError, match="not of 0"):
        self_bleu(["one", "two"], max_n=0)


@given(repetitive, st.integers(1, 4))
def test_distinct_n_is_that_of_the_definition(texts: list[str], n: int) -> None:
    grams = [tuple(split[at : at + n]) for split in map(words, texts) for at in range(len(split) - n + 1)]
    if not grams:
        with pytest.raises(UndefinedError, match=f"distinct-{n}"):
            distinct_n(texts, n)
    else:
        assert distinct_n(texts, n) == len(set(grams)) / len(grams)


def test_distinct_n_sees_a_collapse_that_each_response_hides() -> None:
    one = "every word of this joke is different"
    assert distinct_n([one], 1) == 1.0
    assert distinct_n([one] * 10, 1) == distinct_n([one] * 10, 3) == 0.1
    assert distinct_n(["ab", "b a"], 2) == 1.0
    assert distinct_n(["我喜欢咖啡", "我喜欢茶"], 1) == 6 / 9
    with pytest.raises(UndefinedError, match="distinct-2"):
        distinct_n(["one", "two", ""], 2)
    with pytest.raises(UsageError, match="not of 0"):
        distinct_n(["one"], 0)


def test_compression_ratio() -> None:
    texts = ["咖啡為什麼苦", "because", "half \ud800 a pair"]
    raw = b"\n".join(text.encode("utf-8", "surrogatepass") for text in texts)
    assert compression_ratio(texts) == len(raw) / len(gzip.compress(raw, compresslevel=9))
    assert compression_ratio(["the same joke about coffee"] * 50) > 10 > compression_ratio(["abc def"])
    for nothing in ([], [""], ["", ""]):
        with pytest.raises(UndefinedError, match="not empty"):
            compression_ratio(nothing)
