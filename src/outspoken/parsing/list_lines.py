"""The lines of running text, made ready: one entry a line, weights that stand apart and totals taken out."""

from __future__ import annotations

import re
from itertools import pairwise

from outspoken.parsing.candidates import CandidateList
from outspoken.parsing.entries import is_remark, is_total
from outspoken.parsing.field_names import WEIGHT_LABEL
from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.markers import FIELD, begins_entry, marker_of
from outspoken.parsing.numbers import number
from outspoken.parsing.weight_patterns import (
    DIGIT,
    WEIGHT_FIELD,
    LineWeight,
    weight_of,
)

__all__ = [
    "MOST_LINES",
    "limited",
    "parts",
    "texts_in_row",
    "weights_apart",
    "with_break",
    "with_known_labels",
    "without_placeholders",
    "without_totals",
]

MOST_LINES = 10_000


_SURE = r"(?:[01]?[.,٫]\d{1,30}|[01]|\d{1,3}(?:[.,]\d{1,20})?\s?[%٪％])"


# A weight in brackets in the middle of a line, and the beginning of the next candidate on that line.
_INLINE = re.compile(
    rf"[(\[（【](?![(\[（【])\s{{0,3}}(?:(?:{WEIGHT_LABEL}|p)[*_\"'`]{{0,3}}\s{{0,3}}[:：=≈~～]?\s{{0,3}})?{_SURE}\s{{0,3}}[)\]）】]"
    r"(?:\s{0,3}[,，;；、|·]\s{0,3}|\s{1,8}(?=[(（]?\d{1,4}[.)）]\s|[-*•]\s))",
    re.IGNORECASE,
)


def parts(line: str) -> list[str]:
    """The candidates of a line with several, each of which ends with its weight."""
    if ";" in line or ", " in line:
        for separator in ("; ", ", ") if len(line) < 300 and line[-1:] in "0123456789%." else ():
            pieces = line.strip(" .").split(separator)
            if len(pieces) > 1 and all(map(_ends_with_own, pieces)):
                return pieces
    if len(line) < 8 or ("(" not in line and "（" not in line and "[" not in line and "【" not in line):
        return [line]
    cuts = [0, *(match.end() for match in _INLINE.finditer(line)), len(line)]
    if len(cuts) == 2:
        return [line]
    return [part for start, end in pairwise(cuts) if (part := line[start:end].rstrip(" \t,，;；、|·"))]


def _ends_with_own(part: str) -> bool:
    """Whether a part of a line is a text and its weight, without brackets or a label: "Paris: 0.6"."""
    found = find_weight(part) if begins_entry(part) is None else None
    return found is not None and found.key is None and bool(found.head) and not (found.tail or found.bracketed)


_LABEL_LINE = re.compile(
    r"[\s\-*•_>]{0,8}(?P<label>[^\W\d][^\d:：=*_]{1,30}?)[*_\s]{0,4}[:：=][*_\s]{0,4}(?P<value>[^:：=]{1,24}?)[*_\s]{0,4}"
)


_GLUED = re.compile(r"[\d%](?=[^\W\d_]{3,20} \d{1,3}[:：]\s)")


def with_break(line: str) -> list[str]:
    """A line in two where the next entry begins behind a weight on it."""
    glued = _GLUED.search(line) if len(line) < 300 else None
    stated = find_weight(line[: glued.end()]) if glued is not None else None
    if glued is not None and stated is not None and stated.is_field:
        return [line[: glued.end()], line[glued.end() :]]
    weight = find_weight(line) if len(line) < 300 else None
    if weight is None or not weight.tail or weight.key is None or weight.head.strip() or weight.bracketed:
        return [line]
    marker = begins_entry(weight.tail)
    if (
        marker is None
        or marker.written == "0"
        or not line.endswith(weight.tail)
        or weight.tail[marker.end :][:1] in tuple(".,:0123456789")
    ):
        return [line]
    return [line[: -len(weight.tail)], weight.tail]


def with_known_labels(lines: list[str]) -> list[str]:
    """The lines, with an unknown label that stands before a weight on several of them replaced by a known one."""
    labels: dict[str, list[int]] = {}
    above = ""
    for at, line in enumerate(lines):
        match = _LABEL_LINE.fullmatch(line) if len(line) < 80 else None
        weight = find_weight(line) if match is not None else None
        if match is not None and weight is not None and weight.key is None and weight_of(match["value"]):
            label = match["label"].casefold()
            labels.setdefault(label, []).append(at if above not in ("", label) else -1)
            above = label
        elif line.strip():
            above = line
    repeated = [at for places in labels.values() if len(places) > 1 and min(places) >= 0 for at in places]
    if not repeated:
        return lines
    lines = list(lines)
    for at in repeated:
        match = _LABEL_LINE.fullmatch(lines[at])
        if match is not None:
            lines[at] = f"{lines[at][: match.start('label')]}probability{lines[at][match.end('label') :]}"
    return lines


_SUM = re.compile(
    rf"\b(?:{WEIGHT_LABEL})\b.{{0,20}}\b(?:sums?|adds?|total|ergeben|summieren|somme|suman|sommano|somam|total\w*|sumuj\w*)\b"
    rf"|(?:{WEIGHT_LABEL}).{{0,12}}(?:总和|總和|合計|合计|합계|합은|المجموع|в сумме)",
    re.IGNORECASE,
)


def without_totals(lines: list[str], repairs: list[str]) -> list[str]:
    """The lines without those that state the total of the probabilities."""
    kept = []
    for line in lines:
        weight = find_weight(line) if 4 < len(line) < 100 else None
        name = line.partition(":")[0].partition("：")[0].partition("=")[0] if weight is not None else ""
        if len(line) < 100 and DIGIT.search(line) and _SUM.search(line) and begins_entry(line) is None:
            repairs.append("total")
            continue
        if name and len(name) < len(line) and is_total(name.strip(" \t-•#>(（|")) and "|" not in line:
            repairs.append("total")
        else:
            kept.append(line)
    return kept


def limited(text: str, into: CandidateList) -> str:
    """The text with LF as line end, at most two blank lines in a row, and at most `MOST_LINES` lines."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\n\n\n\n" not in text and text.count("\n") < MOST_LINES:
        return text
    lines: list[str] = []
    blanks = 0
    for line in text.split("\n"):
        blanks = 0 if line.strip() else blanks + 1
        if blanks <= 2:
            lines.append(line)
    if len(lines) > MOST_LINES:
        del lines[MOST_LINES:]
        into.repairs.append("too-long")
    return "\n".join(lines)


_PLACEHOLDER = re.compile(r".{0,60}[:：=]\s*[*_]{0,2}(?:<[^<>]*\s[^<>]*>|\[[a-z ]{6,80}\]|\.\.\.|…)[*_]{0,2}\s*")


def without_placeholders(lines: list[str], repairs: list[str]) -> list[str]:
    """The lines without those of a template that only say what belongs there, if others follow."""
    kept = [line for line in lines if len(line) > 200 or _PLACEHOLDER.fullmatch(line) is None]
    if len(kept) == len(lines) or not any(map(find_weight, kept)):
        return lines
    repairs.append("placeholder")
    return kept


def texts_in_row(lines: list[str], count: int) -> list[str]:
    """The texts of a line such as "Guesses: Rome; Paris" that has this many."""
    for line in lines:
        rest = re.split(r"[:：]\s", line, maxsplit=1)[-1].strip() if len(line) < 2_000 else ""
        for separator in (r"\s*;\s*", r"\s*[|｜]\s*", r"\s*[、，]\s*", r",\s+"):
            texts = [text for text in re.split(separator, rest) if text]
            if len(texts) == count:
                return texts
    return []


def weights_apart(
    lines: list[str], repairs: list[str]
) -> tuple[list[str], dict[str, LineWeight], tuple[str | None, list[str]] | None]:
    """Take out the lines that state the weights of other lines, by an index ("P2: 0.3") or all in a row."""
    kept: list[str] = []
    by_index: dict[str, LineWeight] = {}
    row = None
    ends: list[int] = []
    letters = _letters(lines)
    for line in lines:
        lettered = _LETTERED.fullmatch(line) if letters and len(line) < 80 else None
        if lettered is not None:
            by_index[lettered["letter"]] = LineWeight(lettered["value"], lettered["key"], index=lettered["letter"])
            ends.append(len(kept))
            continue
        if len(line) < 400 and (in_row := weights_in_row(line)) is not None:
            row = in_row
            ends.append(len(kept))
            continue
        weight = find_weight(line) if len(line) < 120 and re.search(r"\d\D+\d", line) else None
        if weight is not None and weight.index and weight.alone:
            by_index[weight.index] = weight
            ends.append(len(kept))
            continue
        kept.append(line)
    if by_index and len(by_index) <= sum(map(_is_field, kept)):
        return lines, {}, row  # These are no indices: a digit got into a label.
    kept = _without_strays(kept, ends, repairs)
    return (_without_hidden(kept, by_index) if by_index else kept), by_index, row


_LETTERED = re.compile(
    rf"[\s*_•>-]{{0,8}}(?P<key>(?i:{WEIGHT_LABEL}|pr?))\s?\(?(?P<letter>[A-Za-z])\)?[*_]{{0,3}}\s?[:：=≈]\s{{0,3}}[*_]{{0,3}}"
    r"(?P<value>[^*_]{1,20})[*_]{0,3}\s*"
)


def _letters(lines: list[str]) -> set[str]:
    """The letters by which several lines state the weights of others ("P(B): 0.3"), if these begin with them."""
    found = [match for line in lines if len(line) < 80 and (match := _LETTERED.fullmatch(line)) is not None]
    letters = {match["letter"] for match in found if number(match["value"])[0] is not None}
    if len(letters) < 2 or len(letters) < len(found):
        return set()
    markers = [marker_of(kind, line) for line in lines if line for kind in ("letter", "label")]
    begun = {marker.written.split()[-1] for marker in markers if marker is not None and marker.written}
    return letters if letters <= begun else set()


def _without_hidden(lines: list[str], by_index: dict[str, LineWeight]) -> list[str]:
    """Take out the weights by index whose label was lost ("1: 0.3") or joined to the text above it."""
    key = next(iter(by_index.values())).key or ""
    unnumbered = re.compile(rf"\s*{re.escape(key)}\s?[:：=]\s?(?P<value>.{{1,20}})")
    lost = [line for line in lines if len(line) < 80 and unnumbered.fullmatch(line)]
    hidden = re.compile(
        rf"(?:(?P<text>.*\S)\s?{re.escape(key)}\s?|\s*)(?P<index>\d{{1,3}})\s?[:：=]\s?(?P<value>.{{1,20}})"
    )
    torn = re.compile(
        rf"\s*{re.escape(key)}[^\W\d]?(?P<index>\d{{1,3}})[^\W\d]?\s?[:：=]\s?(?P<value>.{{1,20}})(?P<text>)"
    )
    kept = []
    for line in lines:
        match = hidden.fullmatch(line) if len(line) < 2_000 and (line[-1:].isalnum() or line[-1:] == "%") else None
        match = match or (torn.fullmatch(line) if len(line) < 60 else None)
        if lost == [line]:
            index = next(str(place) for place in range(1, len(by_index) + 2) if str(place) not in by_index)
            by_index[index] = LineWeight(line.rpartition(key)[2].strip(" :：="), key, index=index)
            continue
        if match is None or match["index"] in by_index or not weight_of(match["value"]):
            kept.append(line)
            continue
        by_index[match["index"]] = LineWeight(match["value"], key, index=match["index"])
        if match["text"] and len(match["text"].strip()) > 2:
            kept.append(match["text"])
    return kept


def _without_strays(lines: list[str], ends: list[int], repairs: list[str]) -> list[str]:
    """The lines without those between a weight that stood after its text, at one of `ends`, and the next entry.

    Where such lines follow most of the weights, they belong to the texts.
    """
    strays: list[range] = []
    last = len(ends) - 1
    bodies = 0
    for at, (start, end) in enumerate(pairwise([*ends, len(lines)])):
        above = lines[ends[at - 1] if at else 0 : start]
        below = lines[start:end]
        in_group = at > 0 and not any(map(str.strip, above))
        if not in_group and not any(map(begins_entry, above)):
            continue
        count = next((count for count, line in enumerate(below) if _goes_on(line)), len(below))
        if any(map(str.strip, below[:count])):
            strays.append(range(start, start + count))
            bodies += at < last and count < len(below)
    if not strays or not last or bodies * 2 > last:
        return lines
    repairs += dict.fromkeys("suffixed" if stray.start == ends[-1] else "skipped" for stray in strays)
    left_out = {at for stray in strays for at in stray}
    return [line for at, line in enumerate(lines) if at not in left_out]


def _is_field(line: str) -> bool:
    """Whether a line is a label without an index and a weight."""
    found = find_weight(line) if len(line) < 120 else None
    return found is not None and found.is_field and bool(found.written)


def _goes_on(line: str) -> bool:
    """Whether a line below a weight belongs to an entry: it begins one, or is a field of one."""
    return begins_entry(line) is not None or FIELD.match(line) is not None or is_remark(line)


_PLURAL = re.compile(
    r"probabilities|probs|confidences|likelihoods|chances|wahrscheinlichkeiten|probabilidades|probabilités",
    re.IGNORECASE,
)
_DAMAGED = re.compile(r"\d[^\w\s]{1,3}\s?\d{1,9}%?|[^\w\s]{1,3}\d{1,9}%?")


def weights_in_row(line: str) -> tuple[str | None, list[str]] | None:
    """The label and the weights of a line such as "Probabilities: 0.5, 0.3, 0.2"; None for another line."""
    match = WEIGHT_FIELD.match(line)
    if match is None:
        return None
    rest = line[match.end() :].strip(" \t*_[](){}`.")
    parts = (
        re.split(r"\s*[;；|、]\s*|\s*,\s+|\s{2,}|，", rest)
        if not re.search(r"\d,\d{1,3}(?=\s*[;,])", rest)
        else re.split(r"\s*;\s*|,\s+", rest)
    )
    written = []
    for part in parts:
        part = re.sub(
            r"^(?:\(?[1-9]\d{0,2}[.):]\s+|[^\W\d][\w ]{0,40}[:=：]\s?|\(?\d{1,3}\)?\s?[:=→：]\s?)",
            "",
            part.strip(),
        )
        if number(part)[0] is None and not _DAMAGED.fullmatch(part):
            return None
        written.append(part)
    read = sum(1 for part in written if number(part)[0] is not None)
    enough = read > 1 or (read == 1 and _PLURAL.fullmatch(match["key"]))
    return (match["key"], written) if enough and read * 2 > len(written) else None
