"""Tags in a reply: XML elements with candidates, and the block of reasoning before an answer."""

from __future__ import annotations

import re

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.field_names import LISTS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.json_text import balanced
from outspoken.parsing.json_values import content_of, decode, read_value
from outspoken.parsing.lenient_json import relax

__all__ = ["first_tag", "read_xml", "split_reasoning"]

_TAG = re.compile(r"<(?P<end>/?)(?P<name>[^\W\d][\w-]{0,40}+)(?P<attributes>(?:\s[^<>]{0,400}+)?)>|<!\[CDATA\[")
_ATTRIBUTE = re.compile(r"([^\W\d][\w-]{0,40}+)\s{0,9}=\s{0,9}(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++))")
_ENTITY = re.compile(r"&(lt|gt|amp|quot|apos|nbsp|#\d{1,7}|#x[\da-fA-F]{1,6});")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'", "nbsp": "\xa0"}
_ITEM_NAMES = "response candidate answer item option result completion output reply choice entry 回答"
_ITEMS = frozenset(_ITEM_NAMES.split())


def first_tag(text: str) -> int:
    """The position at which an element with a known name begins, or -1."""
    return next((m.start() for m in _TAG.finditer(text) if m["name"] and not m["end"] and _role(m["name"])), -1)


def read_xml(text: str, into: CandidateList) -> tuple[int, int] | None:
    """Add the candidates of every element in `text`; returns their span, or None if there are none.

    Elements may come in any order, with attributes, entities, CDATA or missing end tags.
    """
    reader = _ElementReader(text, into)
    reader.run()
    return reader.span


def _role(name: str) -> str:
    """The role of an element with this name: "weight", "item", "text", "reasoning", "list", or "" if unknown."""
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
    """Decode the entities of XML alone: a text may contain HTML."""

    def decoded(match: re.Match[str]) -> str:
        code = match[1]
        if code in _NAMED:
            return _NAMED[code]
        point = int(code[2:], 16) if code[1] == "x" else int(code[1:])
        return chr(point) if 0 < point < 0xD800 or 0xDFFF < point < 0x110000 else "\ufffd"

    return _ENTITY.sub(decoded, text)


class _ElementReader:
    """One pass over the tags with known names; everything else, including other tags, is text.

    `item` is the name of the open element of a candidate, `field` that of the open field and `role` its role.
    """

    def __init__(self, text: str, into: CandidateList) -> None:
        self.text, self.into = text, into
        self.span: tuple[int, int] | None = None
        self.item: str | None = None
        self.field: str | None = None
        self.role = ""
        self.field_text: list[str] = []
        self.loose_text: list[str] = []
        self.candidate = RawCandidate("")
        self.has_text = False

    def run(self) -> None:
        position = 0
        while (tag := _TAG.search(self.text, position)) is not None:
            if tag["name"] is None:
                self.add_text(self.text[position : tag.start()])
                end = self.text.find("]]>", tag.end())
                end = len(self.text) if end < 0 else end
                self.open_text().append(self.text[tag.end() : end])
                position = end + 3
                continue
            if self.is_structure(tag):
                self.add_text(self.text[position : tag.start()])
                self.read_tag(tag)
            else:
                self.add_text(self.text[position : tag.end()])
            position = tag.end()
        cut = self.role in ("text", "item") if self.field is not None else self.item is not None
        self.add_text(self.text[position:])
        self.end_candidate(len(self.text), cut=cut)

    def open_text(self) -> list[str]:
        return self.field_text if self.field is not None else self.loose_text

    def add_text(self, raw: str) -> None:
        if raw and (self.field is not None or self.item is not None):
            self.open_text().append(_unescape(raw))

    def is_structure(self, tag: re.Match[str]) -> bool:
        """Whether a tag is structure at this point, and not part of a text."""
        name, role = plain(tag["name"]), _role(tag["name"])
        if tag["end"]:
            return name in (self.field, self.item) or (role == "list" and self.role not in ("text", "item"))
        if self.field is None or self.role == "weight":
            return bool(role)
        return role == "weight" or name == self.field or (role == "item" and name == self.item)

    def read_tag(self, tag: re.Match[str]) -> None:
        name, role = plain(tag["name"]), _role(tag["name"])
        self.end_field()
        if tag["end"]:
            if name == self.item or role == "list":
                self.end_candidate(tag.end())
        elif role == "list":
            self.end_candidate(tag.start())
            self.span = (self.span[0] if self.span else tag.start(), tag.end())
        elif role == "item" and (self.item is None or name == self.item):
            self.end_candidate(tag.start())
            self.begin_candidate(tag.start(), name)
            self.read_attributes(tag["attributes"])
        elif not tag["attributes"].endswith("/"):
            if role in ("text", "item") and self.has_text:
                self.end_candidate(tag.start())
                self.begin_candidate(tag.start(), None)
            elif role == "weight" and self.item is None and self.has_text and self.candidate.stated:
                self.end_candidate(tag.start())
            if self.span is None and role != "reasoning":
                self.begin_candidate(tag.start(), None)
            self.field, self.role, self.field_text = name, role, []
            if role in ("text", "item"):
                self.read_attributes(tag["attributes"])
        else:
            self.read_attributes(tag["attributes"])

    def begin_candidate(self, start: int, name: str | None) -> None:
        self.span = (start, start) if self.span is None else self.span
        self.item, self.candidate, self.loose_text, self.has_text = name, RawCandidate(""), [], False

    def read_attributes(self, raw: str) -> None:
        for match in _ATTRIBUTE.finditer(raw):
            name, value = match[1], match[2] or match[3] or match[4] or ""
            if _role(name) == "weight":
                self.candidate.state(value, name)
            elif _role(name) == "text" and not self.has_text:
                self.candidate.text, self.has_text = _unescape(value).strip(), True

    def end_field(self) -> None:
        if self.field is None:
            return
        content = "".join(self.field_text).strip()
        if self.role == "weight":
            content = content.partition("</")[0].strip()
            if content:
                self.candidate.state(content, self.field)
        elif self.role == "reasoning":
            self.into.reasoning.append(content)
        else:
            self.candidate.text, self.has_text = content, True
        self.field, self.role = None, ""

    def end_candidate(self, end: int, *, cut: bool = False) -> None:
        """Add the candidate that ends here, if there is one."""
        self.end_field()
        candidate, loose_text = self.candidate, "".join(self.loose_text).strip()
        inside, had_text = self.item is not None, self.has_text
        self.item, self.candidate, self.loose_text, self.has_text = None, RawCandidate(""), [], False
        if self.span is not None:
            self.span = (self.span[0], end)
        if not inside and not had_text and not candidate.stated:
            return
        text = candidate.text if had_text else loose_text
        value = decode(text) if text[:1] in ("{", "[") and not candidate.stated else None
        if isinstance(value, (dict, list)) and read_value(value, self.into):
            return
        candidate.text, candidate.value = content_of(text, self.into.shape)
        if cut:
            candidate.repairs.append("truncated")
            self.into.repairs.append("truncated")
        self.into.add(candidate)


_REASONING_START = re.compile(r"<(think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_REASONING_END = re.compile(r"</(think|thinking|thought|reasoning|reflection)>", re.IGNORECASE)
_CANDIDATES_START = re.compile(
    r"[{\[(]\s*+[\"'“{\[]|<(?:responses?|candidates?|text|answer)\b|^\s{0,8}(?:\d{1,3}[.):]|[-*•])\s", re.M | re.I
)


def split_reasoning(text: str, *, anchored: bool = True) -> tuple[str, str, tuple[str, ...]]:
    """The reasoning, the rest of the reply, and the repairs.

    With `anchored` a block counts only before the candidates, because a text may also contain the tags. An end tag
    without a start tag also ends the reasoning, because some chat templates open the block in the prompt. A block
    that never ends may contain the whole answer: it stays in the rest, without its tag.
    """
    blocks: list[str] = []
    outside: list[str] = []
    position = 0
    while (start := _REASONING_START.search(text, position)) is not None:
        before = text[position : start.start()]
        if _CANDIDATES_START.search(before) if anchored else before.strip():
            break
        outside.append(before)
        end = _REASONING_END.search(text, start.end())
        if end is None:
            if not anchored:
                return text[start.end() :].strip(), "", ("unclosed-think",)
            outside.append(text[start.end() :])
            return "\n\n".join(blocks), "".join(outside), ("unclosed-think",)
        blocks.append(text[start.end() : end.start()].strip())
        position = end.end()
    if position == 0 and start is None:
        end = _REASONING_END.search(text)
        if end is not None and not (anchored and _is_in_candidate(text, end.start())):
            blocks.append(text[: end.start()].strip())
            position = end.end()
    return "\n\n".join(blocks), "".join(outside) + text[position:], ("think-block",) if blocks else ()


def _is_in_candidate(text: str, position: int) -> bool:
    """Whether a position is inside a candidate: the last opening before it closes after it."""
    start = max((match.start() for match in _CANDIDATES_START.finditer(text, 0, position)), default=-1)
    if start < 0 or text[start] not in "{[":
        return False
    end = balanced(text, start)
    relaxed = relax(text, start) if end is None else None
    return (relaxed.end if relaxed is not None else end or 0) > position
