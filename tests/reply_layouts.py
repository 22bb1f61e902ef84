"""The layouts of generated replies: each writes known texts and numbers on a page that remembers where they stand."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from reply_texts import BODIES, FORM_OF, FORMS, NUMBERS, ODDS, TITLES, UNREADABLE, UNSIGNED, Form

# The role of a piece of a reply: structure, a candidate's text, a candidate's number, reasoning or a draft.
Piece = tuple[str, str, int]
STRUCTURE, TEXT, NUMBER, REASONING = "structure", "text", "number", "reasoning"


class Page:
    """A reply under construction: its pieces with their roles and candidates."""

    def __init__(self, generator: random.Random, texts: Sequence[str], numbers: Sequence[str | None]) -> None:
        self.pieces: list[Piece] = []
        self.generator = generator
        self.texts = list(texts)
        self.numbers = numbers
        self.choice = generator.choice

    def put(self, *strings: str) -> None:
        self.pieces.extend((string, STRUCTURE, -1) for string in strings if string)

    def text(self, at: int, written: str | None = None) -> None:
        self.pieces.append((self.texts[at] if written is None else written, TEXT, at))

    def number(self, at: int, written: str | None = None) -> None:
        self.pieces.append((written or self.numbers[at] or "", NUMBER, at))

    def __len__(self) -> int:
        return len(self.texts)


class Layout(NamedTuple):
    """`excluded` are the flags of texts it cannot carry, `header` whether what precedes the data gives it meaning."""

    name: str
    family: str
    write: Callable[[Page], None]
    excluded: str
    forms: Sequence[Form]
    header: bool = False
    missing: bool = False  # whether a candidate may have no number
    numbers: bool = True  # whether it has numbers at all


LAYOUTS: list[Layout] = []
WORDED = [form for form in FORMS if form.name not in ("padded", "exponent")]
BARE_PERCENT = (UNSIGNED,)
SIMPLE = [
    form
    for form in FORMS
    if form.name in ("decimal", "percent", "percent-space", "bare", "approx", "tilde", "about")
]
DECIMAL = [FORM_OF["decimal"]]
PERCENT = [FORM_OF["percent"]]
COMMA = [FORM_OF["comma"]]
Writer = Callable[[Page], None]


def layout(
    name: str,
    family: str,
    *,
    excluded: str = "",
    forms: Sequence[Form] = NUMBERS,
    header: bool = False,
    missing: bool = False,
    numbers: bool = True,
) -> Callable[[Writer], Writer]:
    def register(write: Writer) -> Writer:
        LAYOUTS.append(Layout(name, family, write, excluded, forms, header, missing, numbers))
        return write

    return register


def escaped(text: str, ascii_only: bool = False) -> str:
    return json.dumps(text, ensure_ascii=ascii_only)[1:-1]


# --- JSON -----------------------------------------------------------------------------------------------------------

ROOTS = (
    "responses",
    "responses",
    "candidates",
    "answers",
    "results",
    "options",
    "completions",
    "items",
    "outputs",
)
TEXT_KEYS = ("text", "text", "response", "answer", "content", "output", "completion", "candidate")
NUMBER_KEYS = ("probability", "probability", "prob", "p", "confidence", "likelihood")


def entry(page: Page, at: int, keys: tuple[str, str], space: str = " ", ascii_only: bool = False) -> None:
    page.put(f'{{"{keys[0]}":{space}"')
    page.text(at, escaped(page.texts[at], ascii_only))
    if page.numbers[at] is None:
        page.put(page.choice(('"}', f'",{space}"{keys[1]}":{space}null}}')))
        return
    page.put(f'",{space}"{keys[1]}":{space}')
    page.number(at)
    page.put("}")


def entries(page: Page, keys: tuple[str, str], between: str = ", ", space: str = " ") -> None:
    ascii_only = page.generator.random() < 0.2
    for at in range(len(page)):
        page.put(between if at else "")
        entry(page, at, keys, space, ascii_only)


def some_keys(page: Page) -> tuple[str, str]:
    return page.choice(TEXT_KEYS), page.choice(NUMBER_KEYS)


@layout("json/asked", "json", missing=True)
def _(page: Page) -> None:
    page.put('{"responses": [')
    entries(page, ("text", "probability"))
    page.put("]}")


@layout("json/other-keys", "json", missing=True)
def _(page: Page) -> None:
    page.put(f'{{"{page.choice(ROOTS)}": [')
    entries(page, some_keys(page))
    page.put("]}")


@layout("json/compact", "json")
def _(page: Page) -> None:
    page.put('{"responses":[')
    entries(page, ("text", "probability"), ",", "")
    page.put("]}")


@layout("json/indented", "json", missing=True)
def _(page: Page) -> None:
    text_key, number_key = some_keys(page)
    page.put('{\n  "responses": [')
    for at in range(len(page)):
        page.put(("," if at else "") + f'\n    {{\n      "{text_key}": "')
        page.text(at, escaped(page.texts[at]))
        if page.numbers[at] is None:
            page.put('"\n    }')
            continue
        page.put(f'",\n      "{number_key}": ')
        page.number(at)
        page.put("\n    }")
    page.put("\n  ]\n}")


@layout("json/bare-list", "json")
def _(page: Page) -> None:
    page.put("[")
    entries(page, some_keys(page), page.choice((", ", ",\n ")))
    page.put("]")


@layout("json/number-first", "json")
def _(page: Page) -> None:
    text_key, number_key = some_keys(page)
    page.put('{"responses": [')
    for at in range(len(page)):
        page.put((", " if at else "") + f'{{"{number_key}": ')
        page.number(at)
        page.put(f', "{text_key}": "')
        page.text(at, escaped(page.texts[at]))
        page.put('"}')
    page.put("]}")


@layout("json/more-fields", "json")
def _(page: Page) -> None:
    first = page.choice(("id", "index", "rank", "number"))
    page.put('{"reasoning": "Three moods were wanted.", "responses": [')
    for at in range(len(page)):
        page.put((", " if at else "") + f'{{"{first}": {at + 1}, "text": "')
        page.text(at, escaped(page.texts[at]))
        page.put('", "probability": ')
        page.number(at)
        page.put(', "style": "plain"}')
    page.put("]}")


@layout("json/nested", "json")
def _(page: Page) -> None:
    page.put(page.choice(('{"result": {"responses": [', '{"data": {"candidates": [', '{"output": {"answers": [')))
    entries(page, some_keys(page))
    page.put("]}}")


@layout("json/pairs", "json", excluded="d")
def _(page: Page) -> None:
    opening, closing = page.choice((("[", "]"), ('{"responses": [', "]}")))
    page.put(opening)
    for at in range(len(page)):
        page.put((", " if at else "") + '["')
        page.text(at, escaped(page.texts[at]))
        page.put('", ')
        page.number(at)
        page.put("]")
    page.put(closing)


@layout("json/mapping", "json", excluded="n")
def _(page: Page) -> None:
    nested = page.generator.random() < 0.3
    page.put('{"responses": {"' if nested else '{"')
    for at in range(len(page)):
        page.put(', "' if at else "")
        page.text(at, escaped(page.texts[at]))
        page.put('": ')
        page.number(at)
    page.put("}}" if nested else "}")


@layout("json/list-of-mappings", "json", excluded="n")
def _(page: Page) -> None:
    page.put("[")
    for at in range(len(page)):
        page.put(', {"' if at else '{"')
        page.text(at, escaped(page.texts[at]))
        page.put('": ')
        page.number(at)
        page.put("}")
    page.put("]")


@layout("json/columns", "json", header=True)
def _(page: Page) -> None:
    page.put(f'{{"{page.choice(("responses", "texts", "answers"))}": [')
    for at in range(len(page)):
        page.put(', "' if at else '"')
        page.text(at, escaped(page.texts[at]))
        page.put('"')
    page.put('], "probabilities": [')
    for at in range(len(page)):
        page.put(", " if at else "")
        page.number(at)
    page.put("]}")


@layout("json/numbered-keys", "json")
def _(page: Page) -> None:
    text_key, number_key = page.choice((("response", "probability"), ("answer", "confidence"), ("text", "prob")))
    join = page.choice(("_", "", " "))
    page.put("{")
    for at in range(len(page)):
        page.put((", " if at else "") + f'"{text_key}{join}{at + 1}": "')
        page.text(at, escaped(page.texts[at]))
        page.put(f'", "{number_key}{join}{at + 1}": ')
        page.number(at)
    page.put("}")


@layout("json/g1-p1", "json", excluded="n")
def _(page: Page) -> None:
    page.put("{")
    for at in range(len(page)):
        page.put((", " if at else "") + f'"G{at + 1}": "')
        page.text(at, escaped(page.texts[at]))
        page.put(f'", "P{at + 1}": ')
        page.number(at)
    page.put("}")


@layout("json/numbered-objects", "json")
def _(page: Page) -> None:
    name = page.choice(("response_{}", "{}", "candidate{}", "Answer {}"))
    page.put("{")
    for at in range(len(page)):
        page.put((", " if at else "") + f'"{name.format(at + 1)}": ')
        entry(page, at, ("text", "probability"))
    page.put("}")


@layout("json/lines", "jsonl", missing=True)
def _(page: Page) -> None:
    entries(page, some_keys(page), "\n")


@layout("json/row", "json")
def _(page: Page) -> None:
    entries(page, ("text", "probability"), ",\n")


@layout("json/five", "json", excluded="x/")
def _(page: Page) -> None:
    comment = page.choice((" // one entry", "", " /* most likely first */"))
    page.put("{responses: [" + comment)
    for at in range(len(page)):
        page.put("\n  {text: '")
        page.text(at, escaped(page.texts[at]).replace('\\"', '"').replace("'", "\\'"))
        page.put("', probability: ")
        page.number(at)
        page.put("},")
    page.put("\n]}")


@layout("json/trailing-commas", "json")
def _(page: Page) -> None:
    page.put('{"responses": [')
    entries(page, ("text", "probability"))
    page.put(",],}")


@layout("json/value-object", "json")
def _(page: Page) -> None:
    opening, closing = page.choice((('{"value": ', "}"), ("[", "]")))
    page.put('{"responses": [')
    for at in range(len(page)):
        page.put(', {"text": "' if at else '{"text": "')
        page.text(at, escaped(page.texts[at]))
        page.put('", "probability": ' + opening)
        page.number(at)
        page.put(closing + "}")
    page.put("]}")


@layout("json/number-as-text", "json", forms=WORDED)
def _(page: Page) -> None:
    page.put('{"responses": [')
    for at in range(len(page)):
        page.put(', {"text": "' if at else '{"text": "')
        page.text(at, escaped(page.texts[at]))
        page.put('", "probability": "')
        page.number(at)
        page.put('"}')
    page.put("]}")


@layout("json/no-number", "json", forms=UNREADABLE)
def _(page: Page) -> None:
    page.put('{"responses": [')
    for at in range(len(page)):
        page.put(', {"text": "' if at else '{"text": "')
        page.text(at, escaped(page.texts[at]))
        page.put('", "probability": "')
        page.number(at)
        page.put('"}')
    page.put("]}")


@layout("json/more-around", "json")
def _(page: Page) -> None:
    page.put(f'{{"count": {len(page)}, "responses": [')
    entries(page, ("text", "probability"))
    page.put(
        page.choice(('], "total_probability": 1.0}', '], "note": "sampled at random"}', '], "complete": true}'))
    )


@layout("json/smart-quotes", "json", excluded="q'")
def _(page: Page) -> None:
    page.put("{“responses”: [")
    for at in range(len(page)):
        page.put(", {“text”: “" if at else "{“text”: “")
        page.text(at, escaped(page.texts[at]))
        page.put("”, “probability”: ")
        page.number(at)
        page.put("}")
    page.put("]}")


@layout("json/wide-marks", "json", excluded="qn")
def _(page: Page) -> None:
    page.put("｛「responses」：［")
    for at in range(len(page)):
        page.put("，｛「text」：「" if at else "｛「text」：「")
        page.text(at)
        page.put("」，「probability」：")
        page.number(at)
        page.put("｝")
    page.put("］｝")


@layout("json/percent-key", "json", forms=BARE_PERCENT)
def _(page: Page) -> None:
    key = page.choice(("percent", "percentage", "probability_percent"))
    page.put('{"responses": [')
    entries(page, ("text", key))
    page.put("]}")


def plain_json(page: Page, spell: Callable[[str], str] = str) -> None:
    """JSON as it was asked for, each piece of it spelled in another way."""
    start = len(page.pieces)
    page.put('{"responses": [')
    entries(page, ("text", "probability"))
    page.put("]}")
    page.pieces[start:] = [(spell(string), role, at) for string, role, at in page.pieces[start:]]


@layout("json/escaped-whole", "json")
def _(page: Page) -> None:
    plain_json(page, escaped)


@layout("json/in-a-string", "json")
def _(page: Page) -> None:
    page.put('"')
    plain_json(page, escaped)
    page.put('"')


@layout("json/entities", "json", excluded="x/m")
def _(page: Page) -> None:
    plain_json(page, lambda string: string.replace('"', "&quot;"))


@layout("json/tool-arguments", "json")
def _(page: Page) -> None:
    page.put('{"name": "give_responses", "arguments": "')
    plain_json(page, escaped)
    page.put('"}')


@layout("json/tool-calls", "json")
def _(page: Page) -> None:
    page.put('[TOOL_CALLS][{"name": "give_responses", "arguments": ')
    plain_json(page)
    page.put("}]")


@layout("json/schema-first", "json")
def _(page: Page) -> None:
    page.put(
        '{"type": "object", "properties": {"responses": {"type": "array", "items": {"type": "object", '
        '"properties": {"text": {"type": "string"}, "probability": {"type": "number"}}}}}}\n\n'
    )
    plain_json(page)


@layout("json/strings", "json", excluded="0", numbers=False)
def _(page: Page) -> None:
    opening, closing = page.choice((("[", "]"), ('{"responses": [', "]}"), ('{"answers": [', "]}")))
    page.put(opening)
    for at in range(len(page)):
        page.put(', "' if at else '"')
        page.text(at, escaped(page.texts[at]))
        page.put('"')
    page.put(closing)


@layout("json/tool-call-tags", "json")
def _(page: Page) -> None:
    page.put('<tool_call>\n{"name": "give_responses", "arguments": ')
    plain_json(page)
    page.put("}\n</tool_call>")


# --- Python ---------------------------------------------------------------------------------------------------------


def literal(text: str) -> str:
    return repr(text)


@layout("python/dicts", "python")
def _(page: Page) -> None:
    opening, closing = page.choice((("[", "]"), ("responses = [", "]"), ("{'responses': [", "]}")))
    page.put(opening)
    for at in range(len(page)):
        quoted = literal(page.texts[at])
        page.put((", " if at else "") + "{'text': " + quoted[0])
        page.text(at, quoted[1:-1])
        page.put(quoted[0] + ", 'probability': ")
        page.number(at)
        page.put("}")
    page.put(closing)


@layout("python/tuples", "python", excluded="d")
def _(page: Page) -> None:
    page.put(page.choice(("[", "responses = [")))
    for at in range(len(page)):
        quoted = literal(page.texts[at])
        page.put((", (" if at else "(") + quoted[0])
        page.text(at, quoted[1:-1])
        page.put(quoted[0] + ", ")
        page.number(at)
        page.put(")")
    page.put("]")


@layout("python/constructors", "python")
def _(page: Page) -> None:
    name = page.choice(("Response", "Candidate", "Answer"))
    page.put("[")
    for at in range(len(page)):
        page.put((", " if at else "") + f'{name}(text="')
        page.text(at, escaped(page.texts[at]))
        page.put('", probability=')
        page.number(at)
        page.put(")")
    page.put("]")


@layout("python/call", "python")
def _(page: Page) -> None:
    page.put("give_responses(responses=[")
    for at in range(len(page)):
        page.put(', {"text": "' if at else '{"text": "')
        page.text(at, escaped(page.texts[at]))
        page.put('", "probability": ')
        page.number(at)
        page.put("}")
    page.put("])")


# --- XML ------------------------------------------------------------------------------------------------------------


def entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def elements(page: Page, outer: str, inner: str, number: str, between: str = "\n", indent: str = "") -> None:
    for at in range(len(page)):
        page.put((between if at else "") + f"<{outer}>{indent}<{inner}>")
        page.text(at, entities(page.texts[at]))
        if page.numbers[at] is None:
            page.put(f"</{inner}></{outer}>")
            continue
        page.put(f"</{inner}>{indent}<{number}>")
        page.number(at)
        page.put(f"</{number}>{indent and chr(10)}</{outer}>")


@layout("xml/asked", "xml", missing=True, forms=SIMPLE)
def _(page: Page) -> None:
    elements(page, "response", "text", "probability")


@layout("xml/indented", "xml", missing=True, forms=SIMPLE)
def _(page: Page) -> None:
    elements(page, "response", "text", "probability", "\n\n", "\n  ")


@layout("xml/rooted", "xml", forms=SIMPLE)
def _(page: Page) -> None:
    page.put("<responses>\n")
    elements(page, "response", "text", "probability")
    page.put("\n</responses>")


@layout("xml/other-names", "xml", forms=SIMPLE)
def _(page: Page) -> None:
    outer, inner, number = page.choice(
        (("candidate", "content", "p"), ("answer", "text", "confidence"), ("item", "response", "probability"))
    )
    elements(page, outer, inner, number)


@layout("xml/attributes", "xml", forms=DECIMAL + PERCENT)
def _(page: Page) -> None:
    name = page.choice(("response", "candidate", "answer"))
    for at in range(len(page)):
        page.put(("\n" if at else "") + f'<{name} probability="')
        page.number(at)
        page.put('">')
        page.text(at, entities(page.texts[at]))
        page.put(f"</{name}>")


@layout("xml/numbered-attribute", "xml", forms=SIMPLE)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n" if at else "") + f'<response id="{at + 1}"><text>')
        page.text(at, entities(page.texts[at]))
        page.put("</text><probability>")
        page.number(at)
        page.put("</probability></response>")


@layout("xml/cdata", "xml")
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n" if at else "") + "<response><text><![CDATA[")
        page.text(at)
        page.put("]]></text><probability>")
        page.number(at)
        page.put("</probability></response>")


@layout("xml/raw", "xml", excluded="x")
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n" if at else "") + "<response>\n<text>\n")
        page.text(at)
        page.put("\n</text>\n<probability>")
        page.number(at)
        page.put("</probability>\n</response>")


@layout("xml/no-number", "xml", forms=UNREADABLE)
def _(page: Page) -> None:
    elements(page, "response", "text", "probability")


@layout("xml/wide", "xml", excluded="x")
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n" if at else "") + "＜response＞＜text＞")
        page.text(at)
        page.put("＜/text＞＜probability＞")
        page.number(at)
        page.put("＜/probability＞＜/response＞")


@layout("html/list", "xml", excluded="nx0", forms=SIMPLE)
def _(page: Page) -> None:
    page.put("<ol>\n")
    for at in range(len(page)):
        page.put("<li>")
        page.text(at)
        page.put(" (")
        page.number(at)
        page.put(")</li>\n")
    page.put("</ol>")


# --- lists ----------------------------------------------------------------------------------------------------------

HAN = "一二三四五六七八九十"
CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"
ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")
MARKERS: dict[str, Callable[[int], str]] = {
    "dot": lambda at: f"{at + 1}. ",
    "bracket": lambda at: f"{at + 1}) ",
    "brackets": lambda at: f"({at + 1}) ",
    "square": lambda at: f"[{at + 1}] ",
    "hash": lambda at: f"#{at + 1}: ",
    "hyphen": lambda at: "- ",
    "star": lambda at: "* ",
    "bullet": lambda at: "• ",
    "en-dash": lambda at: "– ",
    "small-square": lambda at: "▪ ",
    "middle-dot": lambda at: "· ",
    "letter": lambda at: f"{'ABCDEFGHIJ'[at]}. ",
    "small-letter": lambda at: f"{'abcdefghij'[at]}) ",
    "roman": lambda at: f"{ROMAN[at]}. ",
    "han": lambda at: f"{HAN[at]}、",
    "ideographic": lambda at: f"{at + 1}、",
    "circled": lambda at: f"{CIRCLED[at]} ",
    "keycap": lambda at: f"{at + 1}\ufe0f\u20e3 ",
    "lenticular": lambda at: f"【回答{at + 1}】",
    "ordinal-zh": lambda at: f"第{at + 1}个回答：",
    "answer-zh": lambda at: f"回答{at + 1}：",
    "answer-ja": lambda at: f"案{at + 1}：",
    "answer-ko": lambda at: f"응답 {at + 1}: ",
    "response": lambda at: f"Response {at + 1}: ",
    "option": lambda at: f"Option {'ABCDEFGHIJ'[at]}: ",
    "answer-de": lambda at: f"Antwort {at + 1}: ",
    "answer-fr": lambda at: f"Réponse {at + 1} : ",
    "answer-es": lambda at: f"Respuesta {at + 1}: ",
    "answer-ru": lambda at: f"Ответ {at + 1}: ",
    "bold-number": lambda at: f"**{at + 1}.** ",
    "bold-response": lambda at: f"**Response {at + 1}:** ",
    "bold-outside": lambda at: f"**Option {'ABCDEFGHIJ'[at]}**: ",
    "bold-zh": lambda at: f"**回答{at + 1}：**",
    "bullet-response": lambda at: f"- **Response {at + 1}:** ",
    "quoted-dot": lambda at: f"> {at + 1}. ",
}
AFTER: dict[str, tuple[str, str, Sequence[Form]]] = {
    "brackets": (" (", ")", SIMPLE),
    "square": (" [", "]", SIMPLE),
    "p": (" (p=", ")", SIMPLE[:5]),
    "p-spaced": (" (p = ", ")", DECIMAL),
    "probability": (" (probability: ", ")", WORDED),
    "Probability": (" (Probability: ", ")", WORDED),
    "Probability-bare": (" (Probability ", ")", SIMPLE),
    "confidence": (" (confidence: ", ")", SIMPLE),
    "german": (" (Wahrscheinlichkeit: ", ")", [*COMMA, FORM_OF["etwa"], FORM_OF["percent-space"]]),
    "french": (" (probabilité : ", ")", [*COMMA, FORM_OF["environ"], FORM_OF["percent-space"]]),
    "spanish": (" (probabilidad: ", ")", SIMPLE),
    "russian": (" (вероятность: ", ")", [*COMMA, *DECIMAL, FORM_OF["around-ru"]]),
    "chinese": ("（概率：", "）", [*DECIMAL, *PERCENT, FORM_OF["around-zh"], FORM_OF["wide"]]),
    "japanese": ("（確率：", "）", [*DECIMAL, *PERCENT, FORM_OF["wide-percent"]]),
    "korean": (" (확률: ", ")", DECIMAL + PERCENT),
    "arabic": (" (الاحتمال: ", ")", [*DECIMAL, FORM_OF["arabic"]]),
    "odds": (" (odds: ", ")", [ODDS]),
    "dash": (" — ", "", DECIMAL + PERCENT),
    "hyphen": (" - ", "", PERCENT),
    "dash-p": (" — p = ", "", DECIMAL),
    "arrow": (" → ", "", DECIMAL + PERCENT),
    "bold": (" **", "**", DECIMAL + PERCENT),
    "bold-brackets": (" **(", ")**", DECIMAL + PERCENT),
    "italic-probability": (" *(probability: ", ")*", DECIMAL + PERCENT),
    "dollars": (" ($p=", "$)", DECIMAL),
    "prose": (", with a probability of ", "", DECIMAL + PERCENT),
    "next-line": ("\n   Probability: ", "", WORDED),
    "next-line-bullet": ("\n   - Probability: ", "", SIMPLE),
    "next-line-bold": ("\n   **Probability:** ", "", SIMPLE),
    "next-line-italic": ("\n   *Probability: ", "*", SIMPLE),
    "next-line-zh": ("\n   概率：", "", DECIMAL + PERCENT),
    "next-line-p": ("\n   p = ", "", DECIMAL),
    "next-line-brackets": ("\n   (Probability: ", ")", SIMPLE),
}
BEFORE: dict[str, tuple[str, str, Sequence[Form]]] = {
    "brackets": ("(", ") ", SIMPLE),
    "square": ("[", "] ", DECIMAL + PERCENT),
    "dash": ("", " - ", PERCENT),
    "bold": ("**", "** ", DECIMAL + PERCENT),
    "bold-colon": ("**", ":** ", DECIMAL + PERCENT),
    "p": ("(p=", ") ", DECIMAL + PERCENT),
    "probability": ("(probability: ", ") ", SIMPLE),
}
LABELS: dict[str, tuple[Callable[[int], str], str, Sequence[Form]]] = {
    "response": (lambda at: f"Response {at + 1} (", "): ", SIMPLE),
    "bold-response": (lambda at: f"**Response {at + 1}** (p=", "): ", DECIMAL + PERCENT),
    "bold-whole": (lambda at: f"**Response {at + 1} (", "):** ", SIMPLE),
    "japanese": (lambda at: f"案{at + 1}（確率", "）：", DECIMAL + PERCENT),
    "chinese": (lambda at: f"回答{at + 1}（概率：", "）：", DECIMAL + PERCENT),
    "option-square": (lambda at: f"Option {'ABCDEFGHIJ'[at]} [", "]: ", DECIMAL + PERCENT),
}
# Texts of one line; a heading's marks, a fence or a table's bars begin other blocks there.
LINE = "np0"


def register_after(marker: str, value: str) -> None:
    opening, closing, forms = AFTER[value]
    mark = MARKERS[marker]
    # Without brackets round the number, a text may not hold dashes or commas of its own kind.
    excluded = LINE + ("-" if "dash" in value or value == "hyphen" else "")
    excluded += "d%" if marker in ("hyphen", "star", "bullet") and not closing else ""
    excluded += "m" if "bold" in value or "italic" in value or marker == "star" else ""
    excluded += "c." if value == "prose" else ""
    excluded += "k" if value == "dollars" else ""

    @layout(f"list/{marker}/{value}", "list", excluded=excluded, forms=forms)
    def _(page: Page) -> None:
        between = page.choice(("\n", "\n", "\n\n"))
        for at in range(len(page)):
            page.put((between if at else "") + mark(at))
            page.text(at)
            page.put(opening)
            page.number(at)
            page.put(closing)


def register_before(marker: str, value: str) -> None:
    opening, closing, forms = BEFORE[value]
    mark = MARKERS[marker]

    @layout(f"before/{marker}/{value}", "list", excluded=LINE + "d%" + "m" * ("bold" in value), forms=forms)
    def _(page: Page) -> None:
        between = page.choice(("\n", "\n", "\n\n"))
        for at in range(len(page)):
            page.put((between if at else "") + mark(at) + opening)
            page.number(at)
            page.put(closing)
            page.text(at)


def register_label(value: str) -> None:
    label, closing, forms = LABELS[value]

    @layout(f"label/{value}", "list", excluded=LINE, forms=forms)
    def _(page: Page) -> None:
        between = page.choice(("\n", "\n\n"))
        for at in range(len(page)):
            page.put((between if at else "") + label(at))
            page.number(at)
            page.put(closing)
            page.text(at)


for _marker in MARKERS:
    for _value in ("brackets", "probability", "dash", "next-line"):
        if (_marker, _value) not in (("quoted-dot", "next-line"), ("en-dash", "dash")):
            register_after(_marker, _value)
for _value in AFTER:
    for _marker in ("dot", "hyphen", "response"):
        if f"list/{_marker}/{_value}" not in {each.name for each in LAYOUTS}:
            register_after(_marker, _value)
for _value in BEFORE:
    for _marker in ("dot", "hyphen"):
        register_before(_marker, _value)
for _value in LABELS:
    register_label(_value)


def fields(
    page: Page, label: Callable[[int], str], field: Callable[[int], str], between: str, end: str = ""
) -> None:
    for at in range(len(page)):
        page.put((between if at else "") + label(at))
        page.text(at)
        page.put(field(at))
        page.number(at)
        page.put(end)


@layout("fields/indexed", "list", excluded=LINE, forms=SIMPLE)
def _(page: Page) -> None:
    fields(
        page,
        lambda at: f"Response {at + 1}: ",
        lambda at: f"\nProbability {at + 1}: ",
        page.choice(("\n", "\n\n")),
    )


@layout("fields/top-k", "list", excluded=LINE, forms=DECIMAL + PERCENT)
def _(page: Page) -> None:
    fields(page, lambda at: f"G{at + 1}: ", lambda at: f"\nP{at + 1}: ", page.choice(("\n", "\n\n")))


@layout("fields/top-k-grouped", "list", excluded=LINE, forms=DECIMAL + PERCENT)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n" if at else "") + f"G{at + 1}: ")
        page.text(at)
    for at in range(len(page)):
        page.put(f"\nP{at + 1}: ")
        page.number(at)


@layout("fields/guess", "list", excluded=LINE, forms=SIMPLE)
def _(page: Page) -> None:
    name = page.choice(("Confidence", "Probability"))
    fields(page, lambda at: f"Guess {at + 1}: ", lambda at: f"\n{name} {at + 1}: ", page.choice(("\n", "\n\n")))


@layout("fields/text", "list", excluded=LINE, forms=SIMPLE)
def _(page: Page) -> None:
    name = page.choice(("Text", "Response", "Answer"))
    fields(page, lambda at: f"{name}: ", lambda at: "\nProbability: ", page.choice(("\n", "\n\n")))


@layout("fields/bold", "list", excluded=LINE, forms=SIMPLE)
def _(page: Page) -> None:
    name = page.choice(("Response {}", "Answer {}", "Option {}"))
    fields(page, lambda at: f"**{name.format(at + 1)}:** ", lambda at: "\n**Probability:** ", "\n\n")


@layout("fields/numbered-text", "list", excluded=LINE, forms=SIMPLE)
def _(page: Page) -> None:
    name = page.choice(("Text", "Response", "Answer"))
    fields(page, lambda at: f"{at + 1}. {name}: ", lambda at: "\n   Probability: ", page.choice(("\n", "\n\n")))


@layout("fields/with-reasoning", "list", excluded=LINE, forms=SIMPLE)
def _(page: Page) -> None:
    name = page.choice(("Text", "Response", "Answer"))
    why = page.choice(("Reasoning: It is short.", "Rationale: It surprises.", "Explanation: Many would say so."))
    fields(page, lambda at: f"{name}: ", lambda at: f"\n{why}\nProbability: ", "\n\n")


@layout("fields/unsigned-percents", "list", excluded=LINE + "d", forms=BARE_PERCENT)
def _(page: Page) -> None:
    fields(page, lambda at: f"Response {at + 1}: ", lambda at: "\nProbability: ", page.choice(("\n", "\n\n")))


@layout("fields/chosen", "list", excluded=LINE, forms=DECIMAL + PERCENT)
def _(page: Page) -> None:
    chosen = page.generator.randrange(len(page))
    for at in range(len(page)):
        page.put(("\n" if at else "") + f"{at + 1}. ")
        page.text(at)
        page.put(" (Probability: ")
        page.number(at)
        page.put(", **chosen**)" if at == chosen else ")")


@layout("fields/bold-rule", "section", excluded="ph0", forms=SIMPLE)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n\n---\n\n" if at else "") + f"**Response {at + 1}** (")
        page.number(at)
        page.put(")\n\n")
        page.text(at)


@layout("fields/numbers-last", "list", excluded=LINE, forms=DECIMAL + PERCENT, header=True)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n" if at else "") + f"{at + 1}. ")
        page.text(at)
    page.put("\n\nProbabilities: ")
    for at in range(len(page)):
        page.put(", " if at else "")
        page.number(at)


# --- headings -------------------------------------------------------------------------------------------------------


def titled(page: Page, at: int, title: str, opening: str, closing: str, body: Sequence[str], indent: str) -> None:
    """A title, its number and its body; all of it is the candidate's text."""
    if at == len(page) - 1:
        # A last paragraph of the reply might be a remark about all of it.
        body = [line for line in body if line]
    page.texts[at] = "\n".join((title, *(line.strip() for line in body)))
    page.text(at, title)
    page.put(opening)
    page.number(at)
    page.put(closing)
    for line in body:
        page.put("\n" + (indent if line else ""))
        if line:
            page.text(at, line)


def titles(page: Page) -> list[tuple[str, tuple[str, ...]]]:
    return list(
        zip(
            page.generator.sample(TITLES, len(page)),
            page.generator.sample(BODIES, len(page)),
            strict=True,
        )
    )


@layout("headings/titled", "section", forms=DECIMAL + PERCENT)
def _(page: Page) -> None:
    hashes = page.choice(("##", "###"))
    name = page.choice(("Response", "Approach", "Option"))
    rule = page.choice(("\n\n", "\n\n---\n\n"))
    for at, (title, body) in enumerate(titles(page)):
        page.put((rule if at else "") + f"{hashes} {name} {at + 1}: ")
        titled(page, at, title, " (Probability: ", ")\n", body, "")


@layout("headings/numbered-bold", "section", forms=DECIMAL + PERCENT)
def _(page: Page) -> None:
    for at, (title, body) in enumerate(titles(page)):
        page.put(("\n" if at else "") + f"{at + 1}. **")
        titled(page, at, title, "** (Probability: ", ")", [line for line in body if line], "   ")


@layout("headings/label-only", "section", excluded="pmh0", forms=SIMPLE)
def _(page: Page) -> None:
    name = page.choice(("### Response {}", "## Option {}", "## 回答{}"))
    where = page.choice((" (Probability: ", " (", " — "))
    for at in range(len(page)):
        page.put(("\n\n" if at else "") + name.format(at + 1) + where)
        page.number(at)
        page.put(("" if where == " — " else ")") + "\n\n")
        page.text(at)


@layout("headings/number-below", "section", excluded="pmh0", forms=SIMPLE)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n\n" if at else "") + f"### Response {at + 1}\n\n")
        page.text(at)
        page.put("\n\n" + "**Probability:** ")
        page.number(at)


@layout("headings/bullet-fields", "section", excluded=LINE, forms=SIMPLE)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n\n" if at else "") + f"## Response {at + 1}\n- **Text:** ")
        page.text(at)
        page.put("\n- **Probability:** ")
        page.number(at)


@layout("headings/bullet-rationale", "section", excluded=LINE, forms=SIMPLE)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n\n" if at else "") + f"### Response {at + 1}\n- **Response:** ")
        page.text(at)
        page.put("\n- **Rationale:** a plain mood\n- **Probability:** ")
        page.number(at)


@layout("quoted/lines", "section", excluded=LINE, forms=SIMPLE)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n\n" if at else "") + f"**Response {at + 1}**\n> ")
        page.text(at)
        page.put("\n\nProbability: ")
        page.number(at)


# --- tables ---------------------------------------------------------------------------------------------------------


def table(page: Page, columns: Sequence[str], total: bool, outer: bool = True, rule: str = "---") -> None:
    """A Markdown table; the columns are "#", a name for the text, a name for the number."""
    left, right = ("| ", " |") if outer else ("", "")
    page.put(left + " | ".join(columns) + right + "\n" + left + " | ".join(rule for _ in columns) + right)
    for at in range(len(page)):
        page.put("\n" + left + (f"{at + 1} | " if columns[0] == "#" else ""))
        page.text(at)
        page.put(" | ")
        page.number(at)
        page.put(right)
    if total:
        page.put("\n" + left + ("| " if columns[0] == "#" else "") + "Total | 1.0" + right)


HEADS = (("#", "Response", "Probability"), ("Response", "Probability"), ("#", "Text", "p"), ("回答", "概率"))


@layout("table/markdown", "table", excluded=LINE, forms=SIMPLE, header=True)
def _(page: Page) -> None:
    table(page, page.choice(HEADS), False, True, page.choice(("---", ":---", "-----:")))


@layout("table/no-outer-bars", "table", excluded=LINE, forms=SIMPLE, header=True)
def _(page: Page) -> None:
    table(page, page.choice(HEADS), False, False)


@layout("table/total", "table", excluded=LINE, forms=DECIMAL, header=True)
def _(page: Page) -> None:
    table(page, page.choice(HEADS[:3]), True)


def separated(page: Page, separator: str, quote: bool, header: str) -> None:
    page.put(header)
    for at in range(len(page)):
        page.put("\n")
        text = page.texts[at]
        if quote or separator in text or '"' in text:
            page.put('"')
            page.text(at, text.replace('"', '""'))
            page.put('"' + separator)
        else:
            page.text(at)
            page.put(separator)
        page.number(at)


@layout("csv/comma", "csv", excluded="n0", forms=DECIMAL + PERCENT, header=True)
def _(page: Page) -> None:
    separated(page, ",", page.generator.random() < 0.5, page.choice(("text,probability", "response,probability")))


@layout("csv/headless", "csv", excluded="n0", forms=DECIMAL + PERCENT)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n" if at else "") + '"')
        page.text(at, page.texts[at].replace('"', '""'))
        page.put('",')
        page.number(at)


@layout("csv/semicolon", "csv", excluded="n0", forms=COMMA + DECIMAL, header=True)
def _(page: Page) -> None:
    separated(
        page, ";", page.generator.random() < 0.5, page.choice(("text;probability", "Antwort;Wahrscheinlichkeit"))
    )


@layout("csv/tab", "csv", excluded="n0", forms=DECIMAL + PERCENT, header=True)
def _(page: Page) -> None:
    separated(page, "\t", False, "text\tprobability")


# --- YAML, TOML -----------------------------------------------------------------------------------------------------


@layout("yaml/plain", "yaml", excluded="nqboxk~'mf%-0", forms=DECIMAL)
def _(page: Page) -> None:
    root, indent = page.choice((("", ""), ("responses:\n", "  ")))
    page.put(root)
    for at in range(len(page)):
        page.put(("\n" if at else "") + f"{indent}- text: ")
        page.text(at)
        page.put(f"\n{indent}  probability: ")
        page.number(at)


@layout("yaml/quoted", "yaml", forms=DECIMAL)
def _(page: Page) -> None:
    root, indent = page.choice((("", ""), ("responses:\n", "  ")))
    page.put(root)
    for at in range(len(page)):
        page.put(("\n" if at else "") + f'{indent}- text: "')
        page.text(at, escaped(page.texts[at]))
        page.put(f'"\n{indent}  probability: ')
        page.number(at)


@layout("yaml/block", "yaml", forms=DECIMAL)
def _(page: Page) -> None:
    page.put("responses:\n")
    for at in range(len(page)):
        page.put(("\n" if at else "") + "  - text: |\n      ")
        page.text(at, page.texts[at].replace("\n", "\n      "))
        page.put("\n    probability: ")
        page.number(at)


@layout("yaml/single-quotes", "yaml", excluded="n", forms=DECIMAL)
def _(page: Page) -> None:
    root, indent = page.choice((("", ""), ("responses:\n", "  ")))
    page.put(root)
    for at in range(len(page)):
        page.put(("\n" if at else "") + f"{indent}- text: '")
        page.text(at, page.texts[at].replace("'", "''"))
        page.put(f"'\n{indent}  probability: ")
        page.number(at)


@layout("yaml/folded", "yaml", excluded="n0", forms=DECIMAL)
def _(page: Page) -> None:
    page.put("responses:\n")
    for at in range(len(page)):
        page.put(("\n" if at else "") + "  - text: >-\n      ")
        page.text(at)
        page.put("\n    probability: ")
        page.number(at)


@layout("toml/tables", "yaml", forms=DECIMAL)
def _(page: Page) -> None:
    for at in range(len(page)):
        page.put(("\n\n" if at else "") + '[[responses]]\ntext = "')
        page.text(at, escaped(page.texts[at]))
        page.put('"\nprobability = ')
        page.number(at)
