"""Words in each script, and the agreement of the fast pattern with the complete one."""

from __future__ import annotations

import importlib
import time
import unicodedata

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from outspoken.measure.tokenization import blanks, words

# The module itself, whatever name the package may export.
module = importlib.import_module("outspoken.measure.tokenization")


PLAIN = "aZßéÑœαΣώбЯё019_'’‘.,;:!?-—“”¿ \n\t\"«·×÷€/"
ANY = (
    PLAIN
    + "咖啡々〇。コーヒｶﾞっสวัดีน้ำ๒ລາວខ្មែរမြန်မာབོད་한국हिंदीمَرح،שלוםצ\u200c\u200d\u200f\u00ad\u0301\ufe0f👩👍🏽🇫🇷❤→½㍿ﬁ\ud800"
)

SCRIPTS = {
    "case": ("Hello HELLO straße STRASSE ΣΊΣΥΦΟΣ σίσυφος", "hello hello strasse strasse σίσυφοσ σίσυφοσ"),
    "punctuation": ("¡Wait! -- (really?) … «yes» *no*, _em_ __init__", "wait really yes no em init"),
    "inside words": (
        "don't e.g. rock'n'roll example.com a__b",
        "don't e.g rock'n'roll example.com a__b",
    ),
    "quotes": ("'tis the dogs' 'quoted' “so”", "tis the dogs quoted so"),
    "curly": ("Don’t l’été o‘clock ‘quoted’", "don't l'été o'clock quoted"),
    "numbers": ("3.14 1,000 $5 50% 2nd x2 1-2 7:30", "3.14 1,000 5 50 2nd x2 1 2 7 30"),
    "hyphen and colon": ("well-known title:subtitle", "well known title subtitle"),
    "compatibility": ("ﬁn Ｈｅｌｌｏ cafe\u0301 x²", "fin hello café x2"),
    "unseen": ("co\u00adoperate \ufeffa\ufeff super\u200bfine", "cooperate a super fine"),
    "Cyrillic": ("Привет, мир! п’ять", "привет мир п'ять"),
    "Chinese": ("今天天气很好，三〇年。", "今 天 天 气 很 好 三 〇 年"),
    "mixed": ("我的iPhone手机v2.0", "我 的 iphone 手 机 v2.0"),
    "Japanese": ("コーヒーは「苦い」・々", "コ ー ヒ ー は 苦 い 々"),
    "half width": ("ｶﾞｷﾞ", "ガ ギ"),
    "Thai": ("สวัสดี น้ำ ๒๕๖๗", "ส วั ส ดี น้ำ ๒๕๖๗"),
    "Lao": ("ນ້ຳດີ", "ນ້ຳ ດີ"),
    "Khmer": ("ភាសា។", "ភា សា"),
    "Burmese": ("စကား။", "စ က ာ း"),
    "Tibetan": ("བོད་ཡིག།", "བོ ད ཡི ག"),
    "Korean": ("한국어는 띄어쓰기를 한다.", "한국어는 띄어쓰기를 한다"),
    "Hindi": ("हिन्दी में लिखी कविता।", "हिन्दी में लिखी कविता"),
    "Tamil": ("வணக்கம், தமிழ்!", "வணக்கம் தமிழ்"),
    "Arabic": ("مَرْحَبًا بالعالم، كيف حالك؟", "مَرْحَبًا بالعالم كيف حالك"),
    "Persian": ("می\u200cخواهم", "می\u200cخواهم"),
    "Hebrew": ('\u200fשָׁלוֹם\u200f, צה"ל ג\'ירפה "עולם"', "שָׁלוֹם צה\"ל ג'ירפה עולם"),
    "families": ("👨‍👩‍👧👍🏽👍", "👨‍👩‍👧 👍🏽 👍"),
    "flags": ("🇫🇷🇩🇪🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🇫🇷 🇩🇪 🏴󠁧󠁢󠁥󠁮󠁧󠁿"),
    "pictographs": ("❤️❤ so ☕", "❤ ❤ so ☕"),
    "signs": ("→ + = © ° € … ?!", ""),
    "half a pair": ("a\ud800b", "a b"),
    "nothing": ("", ""),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_of_a_script(script: str) -> None:
    text, expected = SCRIPTS[script]
    # NFKC splits these two vowels; words keep them together.
    wanted = (
        unicodedata.normalize("NFKC", expected).replace("\u0e4d\u0e32", "\u0e33").replace("\u0ecd\u0eb2", "\u0eb3")
    )
    assert words(text) == wanted.split()


def test_the_separate_burmese_vowel_is_counted() -> None:
    assert words("မာ") == ["မ", "ာ"]


def test_blanks_split_as_python_does() -> None:
    assert blanks(" It's\tIT, \u3000今天 天气。\n") == ["It's", "IT,", "今天", "天气。"]
    assert blanks(" \n") == []


@given(st.text(st.sampled_from(PLAIN), max_size=60))
def test_the_quick_pattern_agrees_with_the_pattern_of_all_scripts(text: str) -> None:
    folded = module._folded(text)
    if module._PLAIN_TEXT.fullmatch(folded):
        assert module._PLAIN.findall(folded) == module._UNICODE.findall(folded)
    assert words(text) == module._UNICODE.findall(folded)


def test_every_plain_sign_means_the_same_to_both_patterns() -> None:
    plain = [sign for sign in map(chr, range(0x2100)) if module._PLAIN_TEXT.fullmatch(module._folded(sign))]
    assert len(plain) > 800
    for sign in map(module._folded, plain):
        for text in (sign, f"a{sign}b", f"1{sign}2", f"_{sign}_", f"a{sign}1"):
            assert module._PLAIN.findall(text) == module._UNICODE.findall(text), ascii(text)


BARE = st.lists(st.sampled_from([*"aBéß12 .,;—!?бר한"]), max_size=40)
MARKED = st.lists(
    st.sampled_from(["a", "é", "1", " ", "—", "!?", "हिं", "दी", "مَ", "ر", "שָׁ", "ל", "한"]), max_size=40
)


@given(st.one_of(BARE, MARKED).map("".join))
def test_words_are_those_of_the_library_where_it_follows_the_standard(text: str) -> None:
    # The library splits at an apostrophe before a vowel and at a full stop after a mark, and not at a colon.
    segments = regex.findall(r"(?sw)\b.+?\b", module._folded(text))
    assert words(text) == [segment for segment in segments if regex.search(r"[\p{L}\p{N}]", segment)]


@given(st.text(st.one_of(st.sampled_from(ANY), st.characters()), max_size=40))
def test_words_lose_nothing_that_is_a_letter_or_a_digit(text: str) -> None:
    result = words(text)
    folded = module._folded(text)
    letters = regex.findall(r"[\p{L}\p{Nd}]", folded)
    assert regex.findall(r"[\p{L}\p{Nd}]", "".join(result)) == letters
    assert all(word and not word.isspace() for word in result)


@given(st.text(st.sampled_from("a1_.'\u0301,é한"), max_size=12))
def test_words_of_words_are_themselves(text: str) -> None:
    for word in words(text):
        assert words(word) == [word]


@pytest.mark.parametrize("unit", ["a'", "a.", "1,", "_", "a\u0301", "한'", 'א"', "👩\u200d", "é1_"])
def test_time_grows_with_the_length_alone(unit: str) -> None:
    start = time.perf_counter()
    words(unit * 100_000)
    assert time.perf_counter() - start < 5
