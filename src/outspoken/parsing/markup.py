"""Candidates in XML: elements in any order, attributes, missing end tags, entities, CDATA."""

from __future__ import annotations

import re

from outspoken.parsing.field_names import LISTS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.json_candidates import FoundCandidates, decode, interpret, payload
from outspoken.parsing.probabilities import RawCandidate, figure
from outspoken.reply_shape import ReplyShape

__all__ = ["first_tag", "read_xml"]

_TAG = re.compile(r"<(?P<end>/?)(?P<name>[^\W\d][\w-]{0,40}+)(?P<attributes>(?:\s[^<>]{0,400}+)?)>|<!\[CDATA\[")
_ATTRIBUTE = re.compile(r"([^\W\d][\w-]{0,40}+)\s{0,9}=\s{0,9}(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++))")
_ENTITY = re.compile(r"&(lt|gt|amp|quot|apos|nbsp|#\d{1,7}|#x[\da-fA-F]{1,6});")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'", "nbsp": "\xa0"}
_ITEMS = frozenset(
    (
        "response",
        "candidate",
        "answer",
        "item",
        "option",
        "result",
        "completion",
        "output",
        "reply",
        "choice",
        "entry",
        "回答",
    )
)


def first_tag(text: str) -> int:
    """Where an element of ours begins, or -1."""
    return next((m.start() for m in _TAG.finditer(text) if m["name"] and not m["end"] and _role(m["name"])), -1)


def read_xml(text: str, shape: ReplyShape | None, found: FoundCandidates) -> tuple[int, int] | None:
    """Add the candidates of every element in `text`; the span that they cover, or None where there are none."""
    reader = _Elements(text, shape, found)
    reader.run()
    return reader.span


def _role(name: str) -> str:
    known = plain(name)
    if known in WEIGHTS:
        return "weight"
    if known in _ITEMS:
        return "item"
    if known in TEXTS:
        return "text"
    if known in REASONING:
        return "reasoning"
    return "list" if known in LISTS else ""


def _unescape(text: str) -> str:
    """Decode the entities of XML and nothing else: a text may hold HTML."""

    def one(found: re.Match[str]) -> str:
        code = found[1]
        if code in _NAMED:
            return _NAMED[code]
        point = int(code[2:], 16) if code[1] == "x" else int(code[1:])
        return chr(point) if 0 < point < 0xD800 or 0xDFFF < point < 0x110000 else "\ufffd"

    return _ENTITY.sub(one, text)


class _Elements:
    """One pass over the tags that are ours; everything else, other tags too, is text."""

    def __init__(self, text: str, shape: ReplyShape | None, found: FoundCandidates) -> None:
        self.text, self.shape, self.found = text, shape, found
        self.span: tuple[int, int] | None = None
        self.item: str | None = None
        self.field: str | None = None
        self.role = ""
        self.chunks: list[str] = []
        self.loose: list[str] = []
        self.draft = RawCandidate("")
        self.has_text = False

    def run(self) -> None:
        at = 0
        while (tag := _TAG.search(self.text, at)) is not None:
            if tag["name"] is None:
                self.take(self.text[at : tag.start()])
                end = self.text.find("]]>", tag.end())
                end = len(self.text) if end < 0 else end
                self.sink().append(self.text[tag.end() : end])
                at = end + 3
                continue
            if self.known(tag):
                self.take(self.text[at : tag.start()])
                self.turn(tag)
            else:
                self.take(self.text[at : tag.end()])
            at = tag.end()
        open_text = self.role in ("text", "item") if self.field is not None else self.item is not None
        self.take(self.text[at:])
        self.flush(len(self.text), cut=open_text)

    def sink(self) -> list[str]:
        return self.chunks if self.field is not None else self.loose

    def take(self, raw: str) -> None:
        if raw and (self.field is not None or self.item is not None):
            self.sink().append(_unescape(raw))

    def known(self, tag: re.Match[str]) -> bool:
        """Whether a tag is structure here, and not part of a text."""
        name, role = plain(tag["name"]), _role(tag["name"])
        if tag["end"]:
            return name in (self.field, self.item) or (role == "list" and self.role not in ("text", "item"))
        if self.field is None or self.role == "weight":
            return bool(role)
        return role == "weight" or name == self.field or (role == "item" and name == self.item)

    def turn(self, tag: re.Match[str]) -> None:
        name, role = plain(tag["name"]), _role(tag["name"])
        self.end_field()
        if tag["end"]:
            if name == self.item or role == "list":
                self.flush(tag.end())
        elif role == "list":
            self.flush(tag.start())
            self.span = (self.span[0] if self.span else tag.start(), tag.end())
        elif role == "item" and (self.item is None or name == self.item):
            self.flush(tag.start())
            self.begin(tag.start(), name)
            self.attributes(tag["attributes"])
        elif not tag["attributes"].endswith("/"):
            if role in ("text", "item") and self.has_text:
                self.flush(tag.start())
                self.begin(tag.start(), None)
            elif role == "weight" and self.item is None and self.has_text and self.draft.stated:
                self.flush(tag.start())
            if self.span is None and role != "reasoning":
                self.begin(tag.start(), None)
            self.field, self.role, self.chunks = name, role, []
            if role in ("text", "item"):
                self.attributes(tag["attributes"])
        else:
            self.attributes(tag["attributes"])

    def begin(self, at: int, name: str | None) -> None:
        self.span = (at, at) if self.span is None else self.span
        self.item, self.draft, self.loose, self.has_text = name, RawCandidate(""), [], False

    def attributes(self, raw: str) -> None:
        for found in _ATTRIBUTE.finditer(raw):
            name, value = found[1], found[2] or found[3] or found[4] or ""
            if _role(name) == "weight":
                self.weight(name, value)
            elif _role(name) == "text" and not self.has_text:
                self.draft.text, self.has_text = _unescape(value).strip(), True

    def weight(self, name: str, value: str) -> None:
        self.draft.weight, self.draft.key, self.draft.stated = figure(value), name, True

    def end_field(self) -> None:
        if self.field is None:
            return
        content = "".join(self.chunks).strip()
        if self.role == "weight":
            if content:
                self.weight(self.field, content)
        elif self.role == "reasoning":
            self.found.reasoning.append(content)
        else:
            self.draft.text, self.has_text = content, True
        self.field, self.role = None, ""

    def flush(self, at: int, *, cut: bool = False) -> None:
        """Keep the candidate that ends here."""
        self.end_field()
        draft, loose = self.draft, "".join(self.loose).strip()
        inside = self.item is not None
        self.item, self.draft, self.loose, self.has_text, had = None, RawCandidate(""), [], False, self.has_text
        if self.span is not None:
            self.span = (self.span[0], at)
        if not inside and not had and not draft.stated:
            return
        draft.text = draft.text if had else loose
        value = decode(draft.text) if draft.text[:1] in ("{", "[") and not draft.stated else None
        if isinstance(value, (dict, list)) and interpret(value, self.shape, self.found):
            return
        draft.text, draft.value = payload(draft.text, self.shape)
        if cut:
            draft.repairs.append("truncated")
            self.found.repairs.append("truncated")
        self.found.add(draft)
