"""Splitting texts into words, for the measures that count words."""

from __future__ import annotations

import re
import unicodedata

import regex  # type: ignore[import-untyped]

__all__ = ["blanks", "words"]


def blanks(text: str) -> list[str]:
    """The text split at white space, `text.split()`, as in the paper and most published figures.

    Case and punctuation count, and a text in Chinese, Japanese or Thai is one word, or a few.
    """
    return text.split()


def words(text: str) -> list[str]:
    """The words of a text in any script, case folded and in Unicode's compatibility form (NFKC).

    - Words are those of UAX 29 (Unicode text segmentation): letters with their marks, digits, and the characters
      that connect them inside a word ("don't", "3.14", "snake_case", Hebrew's quotation mark of abbreviations).
      Korean is written with spaces and splits there. There are two exceptions: a colon separates words, as in
      CLDR, and underscores only count between letters or digits.
    - In scripts written without spaces between words (Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar and
      similar ones) and in Tibetan, whose dots separate syllables, each grapheme cluster is one word, as ROUGE is
      computed for Chinese; this needs no dictionary, but finds no words. Digits of these scripts form numbers.
    - A pictograph is one word, however many code points it consists of (families, skin tones, flags).
    - Punctuation, white space and other signs are no words.

    Curly apostrophes count as straight ones; soft hyphens, marks of direction and variation selectors are removed,
    so words that look the same are the same.
    """
    folded = text.lower() if text.isascii() else _folded(text)
    if _PLAIN_TEXT.fullmatch(folded):
        return _PLAIN.findall(folded)
    result: list[str] = _UNICODE.findall(folded)
    return result


def _folded(text: str) -> str:
    normal = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    folded: str = _INVISIBLE.sub("", normal)
    for sequence, character in _REPLACED:
        folded = folded.replace(sequence, character)
    return folded


def _grammar(letter: str, mark: str, digit: str, link: str, in_letters: str, in_digits: str) -> str:
    """The pattern of one word, built from the patterns of its parts; it never backtracks.

    Letters and digits may follow each other (UAX 29, WB5 to WB10). `in_letters` matches between two letters (WB6,
    WB7), `in_digits` between two digits (WB11, WB12), and `link` (the underscore) between any (WB13a, WB13b).
    """
    letters = f"{letter}{mark}(?:(?:{in_letters}{mark})?{letter}{mark})*"
    digits = f"{digit}{mark}(?:(?:{in_digits}{mark})?{digit}{mark})*"
    run = f"(?:{letters}|{digits})+"
    return f"{run}(?:(?:{link}{mark})+{run})*"


# For plain Latin, Greek and Cyrillic; the pattern at the end covers all scripts and is five times slower.
_PLAIN_LETTERS = "a-zß-öø-ɏά-ώа-ѿ"
_PLAIN_TEXT = re.compile(rf"[\x00-\x7f¡-¶¸-¿×÷–—“”„•{_PLAIN_LETTERS}]*")
_PLAIN = re.compile(_grammar(f"[{_PLAIN_LETTERS}]", "", "[0-9]", "_", "['.]", "['.,;]"))

# Joiners shape letters and pictographs, tags spell flags, and the zero-width space separates words: these stay.
_INVISIBLE = regex.compile(r"(?V1)[[\p{Cf}\p{Variation_Selector}]--[\u200b-\u200d\U000E0020-\U000E007F]]")

# NFKC splits the Thai and Lao vowel "am", which would turn one cluster into two.
_REPLACED = (("\u0e4d\u0e32", "\u0e33"), ("\u0ecd\u0eb2", "\u0eb3"), ("‘", "'"), ("’", "'"))

# UAX 29 excludes letters of most scripts without spaces from ALetter, but includes these.
_SYLLABIC = r"\p{Tibetan}\p{Yi}\p{Balinese}\p{Javanese}"
_LETTER = rf"[[\p{{WB=ALetter}}\p{{WB=Hebrew_Letter}}]--[{_SYLLABIC}]]"
_MARK = r"[\p{WB=Extend}\p{WB=Format}\p{WB=ZWJ}]*"
_HEBREW_QUOTE = rf"(?<=\p{{WB=Hebrew_Letter}}{_MARK})\"(?=\p{{WB=Hebrew_Letter}})"
_WORD = _grammar(
    _LETTER,
    _MARK,
    r"\p{WB=Numeric}",
    r"\p{WB=ExtendNumLet}",
    rf"(?:[[\p{{WB=MidLetter}}\p{{WB=MidNumLet}}']--[:]]|{_HEBREW_QUOTE})",
    r"[\p{WB=MidNum}\p{WB=MidNumLet}']",
)
# A Burmese vowel sign can be a separate cluster, hence Line_Break=SA beside the letters.
_CLUSTER = r"(?=[\p{L}\p{Nl}\p{LB=SA}\p{Regional_Indicator}[\p{Extended_Pictographic}--[©®]]])\X"
_UNICODE = regex.compile(rf"(?V1){_WORD}|{_CLUSTER}")
