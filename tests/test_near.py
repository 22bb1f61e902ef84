"""Near-duplicates: compared with an exhaustive search and the theory of MinHash, and their cost."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

np = pytest.importorskip("numpy", reason="extra `synth` is not installed")
pytest.importorskip("scipy", reason="extra `synth` is not installed")

from outspoken.errors import UsageError  # noqa: E402
from outspoken.same_text import text_key  # noqa: E402
from outspoken.synth.dedup import greedy  # noqa: E402
from outspoken.synth.dedup.greedy import MAX_COMPARED, decide  # noqa: E402
from outspoken.synth.dedup.minhash import (  # noqa: E402  # noqa: E402
    band_keys_of,
    bands_for,
    digests_of,
    jaccards,
    map_in_threads,
    signatures,
)
from outspoken.synth.dedup.search import (  # noqa: E402
    connected_pieces,
    first_equal,
    near_duplicates,
    neighbours,
)

LATIN, CHINESE, KANA = (
    "abcdefghijklmnopqrstuvwxyz    ",
    "今天天气很好我们一起去公园散步然后回家做晚饭",
    "あいうえおかきくけこさしすせそ",
)
ARABIC, EMOJI = "ابتثجحخدذرزسشصضطظعغفقكلمنهوي  ", "😀🎉🚀👩🏽‍🚀☕🍎"
SCRIPTS = (LATIN, LATIN, CHINESE, KANA, ARABIC, EMOJI + LATIN)


def shingles(key: str) -> set[str]:
    return {key[at : at + 3] for at in range(len(key) - 2)} or {key}


@cache
def of_text(text: str) -> set[str]:
    return shingles(text_key(text))


def similarity(one: str, other: str) -> float:
    a, b = of_text(one), of_text(other)
    return len(a & b) / len(a | b)


def written(generator: random.Random, length: int) -> str:
    return "".join(generator.choices(generator.choice(SCRIPTS), k=length))


def changed(text: str, generator: random.Random, times: int) -> str:
    signs = list(text)
    for _ in range(times):
        at = generator.randrange(len(signs))
        if generator.random() < 0.5:
            signs[at] = generator.choice("xyz#七")
        else:
            signs.insert(at, generator.choice("xyz#七"))
    return "".join(signs)


def mixture(count: int, seed: int) -> list[str]:
    """Texts of many scripts, every third a changed copy of an earlier one."""
    generator = random.Random(seed)
    texts: list[str] = []
    for number in range(count):
        if number % 3 == 2:
            texts.append(changed(generator.choice(texts), generator, generator.randint(0, 4)))
        else:
            texts.append(written(generator, generator.randint(8, 150)))
    return texts


def exhaustive(texts: list[str], threshold: float) -> list[int]:
    """The text that stands for each text, by comparing it with every kept one."""
    kept: list[int] = []
    found = []
    for at, text in enumerate(texts):
        found.append(next((other for other in kept if similarity(text, texts[other]) >= threshold), at))
        if found[-1] == at:
            kept.append(at)
    return found


# The whole


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9, 0.95, 1.0])
def test_the_result_is_that_of_an_exhaustive_comparison(threshold: float):
    texts = mixture(700, 5)
    found, wanted = near_duplicates(texts, threshold).tolist(), exhaustive(texts, threshold)
    removed = {at for at, other in enumerate(wanted) if other != at}
    assert len(removed) > 40
    missed = sum(found[at] == at for at in removed)
    assert missed <= 0.01 * len(removed)
    if not missed:
        assert found == wanted


@given(
    st.lists(st.text("ab一é 😀ـ.", max_size=12) | st.text(max_size=6), max_size=30),
    st.sampled_from([0.5, 0.7, 0.9, 1.0]),
)
def test_each_removed_text_is_similar_to_an_earlier_kept_one(texts: list[str], threshold: float):
    found = near_duplicates(texts, threshold).tolist()
    assert len(found) == len(texts)
    for at, other in enumerate(found):
        assert found[other] == other <= at
        assert at == other or similarity(texts[at], texts[other]) >= threshold
    for at, text in enumerate(texts):
        assert any(text_key(text) == text_key(texts[other]) for other in range(at)) <= (found[at] != at)


def test_in_a_chain_texts_are_compared_only_with_kept_ones():
    first = "The quick brown fox jumps over the lazy dog while seven wizards bake blue bread at noon"
    second = first.replace("quick", "quack").replace("lazy", "hazy")
    third = second.replace("noon", "moon").replace("bake", "cake")
    assert similarity(first, second) > 0.8 < similarity(second, third)
    assert similarity(first, third) < 0.8
    assert near_duplicates([first, second, third], 0.8).tolist() == [0, 0, 2]
    assert near_duplicates([second, first, third], 0.8).tolist() == [0, 0, 0]


def test_empty_and_very_short_texts():
    texts = ["", "a", "A.", "ab", "abc", "今", "今天", "今天 ", "😀", "", "。", "\ud800"]
    assert near_duplicates(texts).tolist() == [0, 1, 1, 3, 4, 5, 6, 6, 8, 0, 10, 11]
    assert near_duplicates([]).tolist() == []
    assert near_duplicates(["今天"]).tolist() == [0]


def test_long_and_short_texts_together():
    generator = random.Random(1)
    book = written(generator, 300_000)
    texts = ["short", book, changed(book, generator, 500), "Short!"]
    assert near_duplicates(texts).tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("threshold", [0.0, 0.49, 1.01, float("nan")])
def test_invalid_similarities(threshold: float):
    with pytest.raises(UsageError, match=r"from 0\.5 to 1"):
        near_duplicates(["a"], threshold)


# Where thousands are alike


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs each call has compared."""
    counts: list[int] = []

    def counted(ones: list[str], others: list[str]) -> Any:
        counts.append(len(ones))
        return jaccards(ones, others)

    monkeypatch.setattr(greedy, "jaccards", counted)
    return counts


def test_many_nearly_equal_texts_are_compared_a_few_times_each(compared: list[int]):
    generator = random.Random(2)
    text = "".join(generator.choices(LATIN, k=120))
    copies = [text, *(text[:at] + f"{number}" + text[at:] for number in range(4000) for at in (9, 99))]
    found = decide(copies, 0.9, lambda done: None)
    assert set(found.stands_for.tolist()) == {0}
    assert sum(compared) <= 2 * len(copies)


def test_texts_from_a_template_are_not_all_compared_and_their_twins_are_found(
    compared: list[int],
):
    generator = random.Random(3)
    template = "".join(generator.choices(LATIN, k=100))
    texts = [template + "".join(generator.choices(LATIN, k=20)) for _ in range(4000)]
    twins = [changed(text, generator, 1) for text in texts[:200]]
    assert 0.6 < similarity(texts[0], texts[1]) < 0.85
    began = time.process_time()
    found = decide(texts + twins, 0.9, lambda done: None)
    assert time.process_time() - began < 30
    assert found.crowded > 1000
    assert max(compared) <= 4096
    assert sum(compared) <= (MAX_COMPARED + 1) * len(texts + twins)
    planted = [similarity(text, twin) >= 0.9 for text, twin in zip(texts, twins, strict=False)]
    removed = found.stands_for[4000:] < 4000
    assert removed[planted].mean() > 0.95


# Its parts


# A key of one or two characters is filled up with NUL.
keys = st.text(st.characters(exclude_characters="\0"), max_size=9) | st.text("ab", max_size=30)


@given(st.lists(st.tuples(keys, keys), max_size=20))
def test_the_similarity_of_pairs(pairs: list[tuple[str, str]]):
    found = jaccards([one for one, _ in pairs], [other for _, other in pairs])
    both = [(shingles(one), shingles(other)) for one, other in pairs]
    assert found.tolist() == [len(one & other) / len(one | other) for one, other in both]


def test_a_signature_does_not_depend_on_other_texts():
    texts = [text_key(text) for text in mixture(1500, 9)]
    together = signatures(texts, 64)
    assert together.shape == (64, 1500)
    for at in (0, 511, 512, 1499):
        assert (signatures([texts[at]], 64)[:, 0] == together[:, at]).all()


@pytest.mark.parametrize("length", [12, 30, 60, 150, 600])
def test_signatures_and_bands_agree_with_theory(length: int):
    generator = random.Random(length)
    ones = ["".join(generator.choices(LATIN + CHINESE, k=length)) for _ in range(1500)]
    others = [changed(one, generator, max(1, length // 50)) for one in ones]
    true = np.array(
        [
            len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))
            for a, b in zip(ones, others, strict=True)
        ]
    )
    a, b = signatures(ones, 64), signatures(others, 64)
    errors = (a == b).mean(axis=0) - true
    assert abs(errors.mean()) < 4 * errors.std() / len(errors) ** 0.5 + 1e-9
    assert errors.std() < 1.3 * np.sqrt(true * (1 - true) / 64).mean()
    bands = bands_for(0.9)
    hit = (band_keys_of(a, bands) == band_keys_of(b, bands)).any(axis=0)
    expected = float(np.mean([bands.recall(each) for each in true]))
    assert hit.mean() > expected - 4 * (expected * (1 - expected) / len(hit)) ** 0.5 - 0.01


@pytest.mark.parametrize("threshold", [0.5, 0.55, 0.7, 0.8, 0.89, 0.9, 0.95, 0.99, 1.0])
def test_bands_are_as_wide_as_the_wanted_recall_allows(threshold: float):
    bands = bands_for(threshold)
    assert bands.recall(threshold) >= 0.995
    assert bands.count * bands.rows <= bands.permutations <= 128
    wider = bands.rows + 1
    assert wider > bands.permutations or 1 - (1 - threshold**wider) ** (bands.permutations // wider) < 0.995


@given(st.lists(st.text("ab", max_size=3)))
def test_the_first_record_of_each_text(keys: list[str]):
    assert first_equal(digests_of(keys)).tolist() == [keys.index(key) for key in keys]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=40), st.integers(1, 200))
def test_connected_records_stay_in_one_piece(rows: list[tuple[int, int]], most: int):
    bands = np.array(rows, dtype=np.uint32).T
    alive = np.arange(len(rows))
    lengths = np.full(len(rows), 10, dtype=np.int32)
    found = [
        piece.tolist()
        for piece in connected_pieces([neighbours(band, candidates=alive) for band in bands], lengths, most)
    ]
    group = {at: {at} for at in range(len(rows))}
    for at, one in enumerate(rows):
        for other in range(at):
            if one[0] == rows[other][0] or one[1] == rows[other][1]:
                joined = group[at] | group[other]
                group.update(dict.fromkeys(joined, joined))
    joined = {at for piece in found for at in piece}
    assert joined == {at for at in group if len(group[at]) > 1}
    assert sum(map(len, found)) == len(joined)
    for piece in found:
        assert piece == sorted(piece)
        assert set(piece) == set().union(*(group[at] for at in piece))
        largest = max(len(group[at]) for at in piece)
        assert len(piece) * 10 <= most + largest * 10


def test_work_in_threads_keeps_the_order_and_few_items():
    drawn: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    def slow(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number

    results = map_in_threads(slow, numbers())
    assert next(results) == 0
    assert len(drawn) < 10
    assert list(results) == list(range(1, 100))


def test_an_error_in_a_thread_ends_the_work():
    def fail(number: int) -> int:
        if number == 3:
            raise KeyError(number)
        return number

    before = threading.active_count()
    with pytest.raises(KeyError):
        list(map_in_threads(fail, range(1000)))
    assert threading.active_count() == before


def test_the_progress_callback_can_end_the_work():
    class Enough(Exception):  # noqa: N818
        pass

    def stop_at(limit: int) -> Callable[[int], None]:
        def progress(done: int) -> None:
            if done >= limit:
                raise Enough

        return progress

    texts = [f"{text} {number}" for number, text in enumerate(mixture(600, 4))]
    with pytest.raises(Enough):
        decide(texts, 0.9, stop_at(256))
