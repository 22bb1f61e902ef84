"""Tags in a reply: XML elements with candidates."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from itertools import islice

from outspoken.parsing.candidates import CandidateList, RawCandidate
from outspoken.parsing.field_names import LISTS, REASONING, TEXTS, WEIGHTS, plain
from outspoken.parsing.json_values import content_of, decode, read_value

__all__ = ["first_tag", "plain_tags", "read_xml"]

_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>[^\W\d][\w-]{0,40}+)(?P<attributes>(?:\s[^<>]{0,400}+)?)"
    r"(?:>|(?=<!\[CDATA\[))|<!\[CDATA\["
)
_ATTRIBUTE = re.compile(r"([^\W\d][\w-]{0,40}+)\s{0,9}=\s{0,9}(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'>]++))")
_ENTITY = re.compile(r"&(lt|gt|amp|quot|apos|nbsp|#\d{1,7}|#x[\da-fA-F]{1,6});")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'", "nbsp": "\xa0"}
_ITEM_NAMES = (
    "response candidate answer item option result completion output reply choice entry "
    "回答 回應 回应 答案 応答 候補 응답 답변 respuesta réponse antwort risposta resposta ответ вариант إجابة "
    "رد תשובה "
    "odpowiedź cevap yanıt antwoord opción"
)
_ITEMS = frozenset(_ITEM_NAMES.split())


_WIDE_TAG = re.compile(r"[＜〈《‹«⟨❬⟪﹤](/?[^\W\d][^＜＞〈〉《》‹›«»⟨⟩❬❭⟪⟫﹤﹥<>\n]{0,80}/?)[＞〉》›»⟩❭⟫﹥]")
_HALF_WIDE_TAG = re.compile(r"＜/{0,2}\w|\w＞")
_SQUARE_TAG = re.compile(r"\[(/?[^\W\d][\w-]{0,40})\]")
_ESCAPED_TAG = re.compile(r"&lt;/?([^\W\d][\w-]{0,40})&gt;")
_LISTS = re.compile(
    r"</?(?:ol|ul|dl|p|br|div|span|em|i|u|small|mark|code)\b[^<>]{0,100}>|</(?:li|dt|dd)>", re.IGNORECASE
)
_FOLDED = re.compile(r"<details\b[^<>]{0,60}>\s{0,9}<summary>(?P<title>[^\n]{1,200}?)</summary>", re.IGNORECASE)
_FOLDED_END = re.compile(r"</details>", re.IGNORECASE)
_DEFINITION = re.compile(r"<dt>([^\n<>]{1,400})</dt>\s{0,9}<dd>([^\n<>]{1,400})</dd>", re.IGNORECASE)
_LATEX_LIST = re.compile(
    r"^[ \t]{0,12}\\(?:begin|end)\{(?:itemize|enumerate|description)\*?\}(?:\[[^\[\]\n]{0,60}\])?[ \t]*$",
    re.MULTILINE,
)
_LATEX_ITEM = re.compile(r"^[ \t]{0,12}\\item(?![a-z])(?:\[[^\[\]\n]{0,60}\])?[ \t]*", re.MULTILINE)
_BOLD = re.compile(r"</?(?:b|strong)>", re.IGNORECASE)


def plain_tags(text: str) -> tuple[str, tuple[str, ...]]:
    """The text with tags of a known name in ASCII, and a list of HTML or LaTeX as bullets; and the repairs.

    Tags are otherwise written with full-width marks, typographic marks, or as entities.
    """
    if _known(_WIDE_TAG, text) and first_tag(text) < 0:
        plain = _WIDE_TAG.sub(lambda tag: f"<{tag[1]}>", text)
        return plain, ("odd-tags", "unread") if _HALF_WIDE_TAG.search(plain) else ("odd-tags",)
    if _known(_ESCAPED_TAG, text) and first_tag(text) < 0:
        return _unescape(text), ("odd-tags",)
    if "[/" in text and (square := _SQUARE_TAG.search(text)) is not None and _role(square[1].strip("/")):
        return _SQUARE_TAG.sub(lambda tag: f"<{tag[1]}>" if _role(tag[1].strip("/")) else tag[0], text), (
            "odd-tags",
        )
    if re.search(r"<li\b", text, re.IGNORECASE) and first_tag(text) < 0:
        text = re.sub(r"</(?:ol|ul)>", "\n\n---\n", text, flags=re.IGNORECASE)
        listed = _BOLD.sub(
            "**", _LISTS.sub("", re.sub(r"\s*<li\b[^<>]{0,100}>\s*", "\n- ", text, flags=re.IGNORECASE))
        )
        return _unescape(listed), ()
    if "<summary>" in text and first_tag(text) < 0:
        text = _FOLDED_END.sub("\n\n", _FOLDED.sub(r"\n## \g<title>\n", text))
    if "<dt>" in text and first_tag(text) < 0:
        text = _LISTS.sub("", _DEFINITION.sub(r"\n- \1: \2\n", text))
    if "\\item" in text and _LATEX_LIST.search(text) is not None:
        return _LATEX_ITEM.sub("- ", _LATEX_LIST.sub("", text)), ()
    return text, ()


def _known(pattern: re.Pattern[str], text: str) -> bool:
    """Whether the first tags of this form have a known name."""
    return any(_role(tag[1].strip("/ ").split()[0]) for tag in islice(pattern.finditer(text), 4))


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


_WHOLE_ELEMENT = re.compile(r"<(?P<name>[a-z][\w-]{1,40})>(?P<text>[^<>]*)</(?P=name)>")
_OF_HTML = frozenset(("em", "strong", "code", "pre", "sub", "sup", "mark", "span", "small", "del", "ins", "kbd"))


def _inside(text: str) -> str:
    """The content of the only element in a text, if its name is not one of HTML for a part of a text."""
    element = _WHOLE_ELEMENT.fullmatch(text)
    return text if element is None or element["name"] in _OF_HTML else element["text"].strip()


_ALIKE = 0.7
_STRAY_ELEMENT = re.compile(r"<[^<>]{1,200}>[^<>]*\w|[^\s<>]\s*+</\w")
_CUT_NUMBER = re.compile(r"\W*\d{1,3}\W*|[^<>\n]{0,40}\d\s?[-–—/:*^×]\s*")
_END_OF_CDATA = re.compile(r"\]{0,2}>?(?P<tag></(?P<name>[^\W\d][\w-]{0,40}+)>)")


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
        self.outside: list[str] = []
        self.cdata_end = 0

    def run(self) -> None:
        position = 0
        while (tag := _TAG.search(self.text, position)) is not None:
            if tag["name"] is None:
                self.add_text(self.text[position : tag.start()])
                position = self.read_cdata(tag.end())
                continue
            if self.is_structure(tag):
                self.add_text(self.text[position : tag.start()])
                self.read_tag(tag)
            else:
                self.add_text(self.text[position : tag.end()])
            position = tag.end()
        cut = self.role in ("text", "item") if self.field is not None else self.item is not None
        is_open = self.field is not None or self.item is not None
        rest = self.text[position:]
        if self.role == "weight" and (
            _CUT_NUMBER.fullmatch(rest) or ("</" in self.text and rest.rstrip()[-1:].isdigit())
        ):
            self.candidate.repairs.append("unclosed")
            rest = "…"
        self.add_text(rest)
        self.end_candidate(len(self.text) if is_open else self.span[1] if self.span else 0, cut=cut)
        if self.into.items and _STRAY_ELEMENT.search("".join(self.outside)):
            self.into.repairs.append("unread")

    def read_cdata(self, start: int) -> int:
        """Read a part without tags up to its end, or to an end tag before the next; the position after it."""
        text = self.text
        if start > self.cdata_end >= 0:
            self.cdata_end = text.find("]]>", start)
        end = self.cdata_end
        after = end + 3
        if end < 0 or text.find("<![CDATA[", start, end) >= 0:
            tags = _END_OF_CDATA.finditer(text, start, end if end >= 0 else len(text))
            found = next((tag for tag in tags if _role(tag["name"])), None)
            end, after = (found.start(), found.start("tag")) if found is not None else (len(text), len(text))
            self.candidate.repairs.append("missing-brace")
        self.open_text().append(text[start:end])
        return after

    def open_text(self) -> list[str]:
        return self.field_text if self.field is not None else self.loose_text

    def add_text(self, raw: str) -> None:
        if raw and (self.field is not None or self.item is not None):
            self.open_text().append(_unescape(raw))
        elif raw and self.span is not None:
            self.outside.append(raw)

    def is_structure(self, tag: re.Match[str]) -> bool:
        """Whether a tag is structure at this point, and not part of a text."""
        name, role = plain(tag["name"]), _role(tag["name"])
        if tag["end"]:
            known = name in (self.field, self.item) or (role == "list" and self.role not in ("text", "item"))
            return known or self.is_misspelt(name)
        if self.field is None or self.role == "weight":
            return bool(role)
        return role == "weight" or name == self.field or (role == "item" and name == self.item)

    def is_misspelt(self, name: str) -> bool:
        """Whether an end tag is meant for the open field or element, though spelt otherwise."""
        for open_name in (self.field, self.item):
            if open_name is None or not -3 < len(open_name) - len(name) < 3 or name[:1] != open_name[:1]:
                continue
            if SequenceMatcher(None, name, open_name).ratio() > _ALIKE and f"<{name}" not in "".join(
                self.open_text()
            ):
                return True
        return False

    def read_tag(self, tag: re.Match[str]) -> None:
        name, role = plain(tag["name"]), _role(tag["name"])
        closes_field = self.field is not None
        swapped = tag["end"] and self.role == "text" and name == self.item and self.field != name
        self.end_field()
        if swapped and not self.candidate.stated:
            self.candidate.repairs.append("missing-brace")
        elif tag["end"]:
            if name == self.item or role == "list" or (role == "" and not closes_field):
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
        stray = _ATTRIBUTE.sub("", raw).strip(" \t\r\n/") if raw else ""
        for match in _ATTRIBUTE.finditer(raw):
            name, value = match[1], match[2] or match[3] or match[4] or ""
            if _role(name) == "weight":
                self.candidate.state(raw.strip() if stray else value, name)
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
        text = candidate.text if had_text else _inside(loose_text)
        value = decode(text) if text[:1] in ("{", "[") and not candidate.stated else None
        if isinstance(value, (dict, list)) and read_value(value, self.into):
            return
        if any(tag["name"] and _role(tag["name"]) in ("item", "weight") for tag in _TAG.finditer(text)):
            candidate.repairs.append("missing-brace")
        candidate.text, candidate.value = content_of(text, self.into.shape)
        if cut:
            candidate.repairs.append("truncated")
            self.into.repairs.append("truncated")
        self.into.add(candidate)
