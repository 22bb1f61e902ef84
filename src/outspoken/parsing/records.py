"""Candidates as records of fields: YAML and TOML, also with small mistakes."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from difflib import get_close_matches

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.entries import is_total
from outspoken.parsing.field_names import LISTS, REASONING, TEXTS, USUAL_TEXTS, WEIGHTS, plain
from outspoken.parsing.json_escapes import unescape
from outspoken.parsing.json_values import candidate_of
from outspoken.parsing.line_weights import find_weight
from outspoken.parsing.markers import begins_entry
from outspoken.parsing.numbers import comment_of

__all__ = ["read_records"]

_KEY = re.compile(
    r"(?P<indent>[ \t]*)(?P<dash>-[ \t]+)?(?P<quote>[\"']?)(?P<key>[^\W\d_][\w .-]{0,40}?)(?P=quote)"
    r"[ \t]*(?:(?P<sign>[:=：])(?:[ \t]+|$|(?=[\"'|>{\[]))|(?<=[ \t])(?=[|>][-+]?[ \t]*$))(?P<value>.*)"
)
_HEADER = re.compile(r"\s*\[\[?\s*[\w. \"'-]{1,60}\s*\]\]?\s*(?:#.*)?")
_BLOCK = re.compile(r"(?P<style>[|>])[-+\d]{0,2}\s*(?:#.*)?")
_COMMENT = re.compile(r"(?:^|\s)#(?:\s.*|$)|\s//\s.*$")


_DAMAGED_KEY = re.compile(
    r"(?P<indent>[ \t]*+)(?P<dash>-{0,3}+)(?P<blanks>[ \t]*+)[;:.,]?"
    r"(?P<key>\w{1,30}[^\w\n:=：-]?\w{0,30})[ \t]*[:=：](?=[ \t]|$)(?P<rest>.*)"
)
_STRAY_BEFORE = re.compile(r"(?P<stray>[ \t]*[^\s\"'#-]{1,2}[ \t]*)(?P<rest>-[ \t]+\w{1,30}[ \t]*[:=：].*)")
_LONGEST_NOISE = 60
_SIMILAR = 0.75
_TWO = re.compile(r"(?<=[\d%\"'])[ \t]*(?=-[ \t]+\w{1,20}[^\w\s]?:[ \t])|(?<=\]\])[ \t]*+(?=[a-z]{1,20}[ \t]*=)")
_DAMAGED_HEADER = re.compile(
    r"\s*\[\[?[\w. \"'-]{1,60}\]\]?[^\w\s]{1,2}\s*|\s*\[\[[^\[\]]{1,60}\]{0,2}[^\w\s]{0,2}\s*|\w{1,20}\]\]\s*"
)
_NO_SIGN = re.compile(r"(?P<key>[ \t]*[a-z]{1,20})[ \t]+(?P<value>[\d.]+%?)\s*")


@dataclass(slots=True)
class _Record:
    fields: dict[str, str] = field(default_factory=dict)
    name: str = ""
    misspelt: bool = False


def read_records(lines: list[str], into: CandidateList) -> bool:
    """Add the candidates of a list of records. False if the lines are no such list as a whole.

    Prose may stand before the first record and after a blank line behind the last one.
    """
    reader = _RecordReader([_mended(part) for line in lines for part in _fields_of(line)])
    start = reader.first()
    if start is None or any(find_weight(line) or begins_entry(line) for line in reader.lines[:start]):
        return False
    if not reader.run(start):
        return False
    lines = reader.lines
    records = [record for record in reader.records if record.fields]
    _rename(records)
    keyed = [record for record in records if _key_of(record, TEXTS)]
    if not keyed or not any(_key_of(record, WEIGHTS) for record in keyed):
        return False
    for record in records:
        _add(record, into)
    before = "\n".join(line for line in lines[:start] if not line.lstrip().startswith(("#", "---"))).strip()
    if before and not re.fullmatch(r"[\w ]{1,40}:", before):
        into.repairs.append("prefixed")
        into.reasoning.append(before)
    into.repairs += [*["skipped"] * reader.skipped, *["comment"] * reader.comments]
    rest = lines[reader.at :]
    if any(line.strip() for line in rest):
        into.repairs.append("unread" if any(map(_KEY.match, rest)) else "suffixed")
    into.repairs.append("as-records")
    return True


def _fields_of(line: str) -> list[str]:
    """The fields on one line: two where the line break between them is missing."""
    return [line] if _STRAY_BEFORE.fullmatch(line) else _TWO.split(line)


def _is_known_field(line: str) -> bool:
    match = _KEY.match(line)
    return match is not None and (plain(match["key"]) in TEXTS or plain(match["key"]) in WEIGHTS)


def _mended(line: str) -> str:
    """A line whose known key has a stray sign in it, or before it too many dashes, without those."""
    stray = _STRAY_BEFORE.match(line)
    if stray is not None and _is_known_field(stray["rest"]):
        return " " * len(stray["stray"]) + stray["rest"]
    if _DAMAGED_HEADER.fullmatch(line) is not None:
        return "[[responses]]"
    if (weight := _NO_SIGN.fullmatch(line)) is not None and plain(weight["key"]) in WEIGHTS:
        return f"{weight['key']}: {weight['value']}"
    match = _DAMAGED_KEY.match(line)
    if match is None:
        return line
    if (found := _KEY.match(line)) is not None:
        return _with_usual_key(line, found)
    name = re.sub(r"\W", "", match["key"])
    if plain(name) not in TEXTS and plain(name) not in WEIGHTS:
        return line
    return f"{match['indent']}{match['dash'][:1]}{match['blanks']}{name}:{match['rest']}"


def _with_usual_key(line: str, field: re.Match[str]) -> str:
    """A line that begins a record with a block under a misspelt key, with the key that was meant."""
    key = field["key"]
    if not field["dash"] or _BLOCK.fullmatch(field["value"]) is None or plain(key) in TEXTS:
        return line
    similar = get_close_matches(key, USUAL_TEXTS, 1, 0.8)
    return line.replace(key, similar[0], 1) if similar else line


def _rename(records: list[_Record]) -> None:
    """Give the fields of records without a text, or without a weight, the names that those of others have."""
    usual = {key for record in records for key in record.fields if plain(key) in TEXTS or plain(key) in WEIGHTS}
    for record in records:
        missing = [key for key in usual if _key_of(record, TEXTS if plain(key) in TEXTS else WEIGHTS) is None]
        for key in [key for key in record.fields if missing and key not in usual]:
            if similar := get_close_matches(key, missing, 1, _SIMILAR):
                record.fields[similar[0]] = record.fields.pop(key)
                record.misspelt = True


def _key_of(record: _Record, names: dict[str, int] | dict[str, str]) -> str | None:
    return next((key for key in record.fields if plain(key) in names), None)


def _add(record: _Record, into: CandidateList) -> None:
    weight = _key_of(record, WEIGHTS)
    others = [key for key in record.fields if key != weight and plain(key) not in REASONING]
    named = [key for key in others if plain(key) in TEXTS]
    if not named and (weight is None or len(others) != 1):
        into.repairs += ["unread"] * (weight is not None)
        return
    ranked = sorted(named, key=lambda key: TEXTS[plain(key)]) or others
    text = record.fields[ranked[0]].strip()
    if is_total(text):
        into.repairs.append("total")
        return
    item: RawCandidate = candidate_of(text, into.shape)
    item.repairs += ["wrong-key"] * (not named or record.misspelt)
    if weight is not None:
        written = record.fields[weight]
        item.state(written, weight)
        if ":" in comment_of(written):
            into.repairs.append("unread")
    for key, value in record.fields.items():
        if key in (ranked[0], weight):
            continue
        if plain(key) in REASONING:
            into.reasoning.append(value)
        else:
            item.meta[key] = value
    into.add(item)


class _RecordReader:
    """One pass over the lines: `at` is the next one, `records` what was read."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.at = 0
        self.records: list[_Record] = []
        self.skipped = self.comments = False
        self.depths: dict[str, int] = {}

    def first(self) -> int | None:
        """The line at which records begin: a field in lower case, or the list item or header above it."""
        for at, line in enumerate(self.lines):
            if len(line) > 2_000:
                continue
            match = _KEY.match(line)
            if self._is_field(match):
                named = at and (
                    _HEADER.fullmatch(self.lines[at - 1]) or re.fullmatch(r"\s*-\s*", self.lines[at - 1])
                )
                return at - 1 if named else at
        return None

    @staticmethod
    def _is_field(match: re.Match[str] | None) -> bool:
        if match is None:
            return False
        name = plain(match["key"])
        return (name in TEXTS or name in WEIGHTS) and match["key"] == match["key"].lower()

    def run(self, start: int) -> bool:
        self.at = start
        self.records = [_Record()]
        depth: int | None = None
        blank = False
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if not line.strip() or line.lstrip().startswith("#") or line.strip() in ("---", "..."):
                blank = blank or not line.strip()
                self.at += 1
                continue
            if _HEADER.fullmatch(line) or re.fullmatch(r"\s*-\s*", line):
                self.records.append(_Record())
                self.at += 1
                continue
            match = _KEY.match(line)
            if match is None and not blank and self.is_noise():
                self.skipped = True
                self.at += 1
                continue
            if match is None:
                return blank and len(self.records) > 0 and bool(self.records[-1].fields)
            if (
                blank
                and match["key"] != match["key"].lower()
                and not match["dash"]
                and plain(match["key"]) not in {*TEXTS, *WEIGHTS}
            ):
                return bool(self.records[-1].fields)
            depth = self.read_field(match, depth)
            blank = False
        return True

    def is_noise(self) -> bool:
        """Whether the current line is a short one at the margin among records that are indented."""
        line = self.lines[self.at]
        later = self.lines[self.at + 1 : self.at + 3]
        return (
            not self.skipped
            and len(line) < _LONGEST_NOISE
            and not line[0].isspace()
            and any(record.fields for record in self.records)
            and bool(later)
            and all(each[:1].isspace() for each in later)
        )

    def read_field(self, match: re.Match[str], depth: int | None) -> int | None:
        """Read the field on the current line and those that its value goes on to; returns the depth of its key."""
        key, value = match["key"].strip(), match["value"].strip()
        indent = len(match["indent"]) + len(match["dash"] or "")
        record = self.records[-1]
        self.at += 1
        if not value and not self.continues(indent):
            self.records.append(_Record(name=key))
            return indent
        if not value and (plain(key) in LISTS or plain(key) not in TEXTS) and self.next_is_key():
            if record.fields:
                self.records.append(_Record(name=key))
            return indent
        if record.fields and (match["dash"] or key in record.fields):
            record = _Record()
            self.records.append(record)
        self.depths.setdefault(key, indent)
        record.fields[key] = self.value(value, indent)
        return indent

    def next_line(self) -> str:
        return next((line for at in range(self.at, len(self.lines)) if (line := self.lines[at]).strip()), "")

    def next_is_key(self) -> bool:
        line = self.next_line()
        return _KEY.match(line) is not None or _HEADER.fullmatch(line) is not None

    def continues(self, indent: int) -> bool:
        line = self.next_line()
        return len(line) - len(line.lstrip()) > indent

    def value(self, first: str, indent: int) -> str:
        """A value: a block, a string in quotes, or words up to a comment, with the deeper lines after them."""
        block = _BLOCK.fullmatch(first)
        if block is not None:
            self.comments |= "#" in first
            return self.block(block["style"], indent)
        for quote in ('"""', "'''", '"', "'"):
            if first.startswith(quote):
                return self.quoted(first, quote)
        value = _COMMENT.sub("", first).strip().rstrip(",").strip()
        words = [value] if value else []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if not line.strip() or len(line) - len(line.lstrip()) <= indent or self._is_field(_KEY.match(line)):
                break
            words.append(line.strip())
            self.at += 1
        return "\n".join(words)

    def block(self, style: str, indent: int) -> str:
        body: list[str] = []
        deep = None
        while self.at < len(self.lines):
            line = self.lines[self.at]
            depth = len(line) - len(line.lstrip())
            if line.strip():
                deep = depth if deep is None else min(deep, depth)
                match = _KEY.match(line)
                if (
                    depth < indent
                    or (depth <= indent and match is not None)
                    or (match is not None and self.depths.get(match["key"]) == match.start("key"))
                ):
                    break
            body.append(line)
            self.at += 1
        deep = min((len(line) - len(line.lstrip()) for line in body if line.strip()), default=0)
        text = "\n".join(line[deep:].rstrip() for line in body).strip("\n")
        return re.sub(r"(?<!\n)\n(?!\n)", " ", text) if style == ">" else text

    def quoted(self, first: str, quote: str) -> str:
        """A string up to its closing quote, which may stand some lines below."""
        body = first[len(quote) :]
        end = self.closing(body, quote)
        count = 0
        while end < 0 and self.at < len(self.lines) and count < 200:
            line = self.lines[self.at]
            if len(quote) == 1 and self._is_field(_KEY.match(line)):
                break
            body += "\n" + (line if len(quote) == 3 else line.strip())
            self.at += 1
            count += 1
            end = self.closing(body, quote)
        if end < 0 and len(quote) == 1 and count == 0:
            return _COMMENT.sub("", first).strip()
        text = body[:end] if end >= 0 else body
        if quote[0] == "'":
            return text.replace("''", "'") if len(quote) == 1 else text
        return unescape(text, [])

    @staticmethod
    def closing(body: str, quote: str) -> int:
        """The position of the quote that ends a string: the last one on its line before a comment."""
        if len(quote) == 3:
            return body.find(quote)
        line_start = body.rfind("\n") + 1
        match = re.compile(rf"(?<!\\){quote}\s*,?\s*(?:#.*|//.*)?\Z").search(body, line_start)
        if match is None:
            return -1
        inner = re.search(rf"(?<!\\){quote}\s*,?\s*#", body[line_start:])
        return line_start + inner.start() if inner is not None else match.start()
