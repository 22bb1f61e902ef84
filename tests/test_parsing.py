"""Every way of writing candidates that the parser reads, one row each."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from outspoken.errors import ReplyError
from outspoken.parsing import REPAIRS, parse
from outspoken.reply_shape import ReplyShape

pytestmark = pytest.mark.core


VS = ReplyShape("candidates", k=2)

SOUND = '{"responses": [{"text": "Paris", "probability": 0.6}, {"text": "Lyon", "probability": 0.3}]}'
TWO = [("Paris", 0.6), ("Lyon", 0.3)]


def read(text: str, shape: ReplyShape | None = None) -> list[tuple[str, float | None]]:
    reading = parse(text, shape)
    repairs = {*reading.repairs, *(repair for entry in reading.candidates for repair in entry.repairs)}
    assert repairs <= REPAIRS.keys()
    for entry in reading.candidates:
        if entry.stated is None:
            assert entry.log_stated is None
        elif entry.stated > 0:
            assert math.isclose(entry.log_stated, math.log(entry.stated), abs_tol=1e-12)
    return [
        (entry.text, entry.stated if entry.stated is None else round(entry.stated, 9))
        for entry in reading.candidates
    ]


JSON = {
    "whole": SOUND,
    "pretty": json.dumps(json.loads(SOUND), indent=2),
    "fenced": f"```json\n{SOUND}\n```",
    "fenced-bare": f"```\n{SOUND}\n```\n",
    "fence-unclosed": f"```json\n{SOUND}",
    "prefixed": f"Sure! Here are two responses:\n\n{SOUND}",
    "suffixed": f"{SOUND}\n\nLet me know if you want more!",
    "brackets-around": f"[Note] I use {{braces}} and [brackets] (see [1]): {SOUND} That is {{all}} [really].",
    "open-bracket-before": f"A smiley :[ and a brace {{ first. {SOUND}",
    "open-list-before": f'In the form ["text: {SOUND}',
    "think": f"<think>Paris? Lyon?</think>\n{SOUND}",
    "think-draft": f'<think>Maybe {{"responses": [{{"text": "Nice", "probability": 0.9}}]}} no.</think>{SOUND}',
    "think-draft-unclosed": f'<think>Maybe {{"responses": [{{"text": "Nice", "probability": 0.9}}]}} no. So:\n{SOUND}',
    "think-end-only": f'Let me draft {{"responses": [{{"text": "Nice", "probability": 0.9}}]}}.\n</think>\n\n{SOUND}',
    "think-twice": f"<think>a</think>\n<think>b</think>{SOUND}",
    "reasoning-field": '{"reasoning": "I think.", ' + SOUND[1:],
    "trailing-commas": '{"responses": [{"text": "Paris", "probability": 0.6,}, {"text": "Lyon", "probability": 0.3},],}',
    "missing-commas": '{"responses": [{"text": "Paris" "probability": 0.6} {"text": "Lyon"\n"probability": 0.3}]}',
    "single-quotes": SOUND.replace('"', "'"),
    "smart-quotes": SOUND.replace('"', "“"),
    "smart-pairs": "{“responses”: [{“text”: “Paris”, “probability”: 0.6}, {“text”: “Lyon”, “probability”: 0.3}]}",
    "comments": '{"responses": [ // first\n{"text": "Paris", /* the capital */ "probability": 0.6}, # next\n{"text": "Lyon", "probability": 0.3}]}',
    "unquoted-keys": "{responses: [{text: 'Paris', probability: 0.6}, {text: 'Lyon', probability: 0.3}]}",
    "python": "{'responses': [{'text': 'Paris', 'probability': 0.6, 'ok': True}, {'text': 'Lyon', 'probability': 0.3, 'ok': None}]}",
    "python-assigned": "```python\nresponses = [{'text': 'Paris', 'probability': 0.6}, {'text': 'Lyon', 'probability': 0.3}]\n```",
    "python-tuples": "[('Paris', 0.6), ('Lyon', 0.3)]",
    "top-list": '[{"text": "Paris", "probability": 0.6}, {"text": "Lyon", "probability": 0.3}]',
    "ndjson": '{"text": "Paris", "probability": 0.6}\n{"text": "Lyon", "probability": 0.3}\n',
    "objects-with-commas": '{"text": "Paris", "probability": 0.6},\n{"text": "Lyon", "probability": 0.3}',
    "two-lists": '{"responses": [{"text": "Paris", "probability": 0.6}]}\n{"responses": [{"text": "Lyon", "probability": 0.3}]}',
    "numbered-json": '1. {"text": "Paris", "probability": 0.6}\n2. {"text": "Lyon", "probability": 0.3}',
    "nested": '{"result": {"responses": [{"text": "Paris", "probability": 0.6}, {"text": "Lyon", "probability": 0.3}]}}',
    "nested-items": '{"responses": [{"response": {"text": "Paris", "probability": 0.6}}, {"response": {"text": "Lyon", "probability": 0.3}}]}',
    "named-items": '{"response_1": {"text": "Paris", "probability": 0.6}, "response_2": {"text": "Lyon", "probability": 0.3}}',
    "mapping": '{"Paris": 0.6, "Lyon": "30%"}',
    "mapping-nested": '{"responses": {"Paris": 0.6, "Lyon": 0.3}}',
    "mapping-objects": '{"Paris": {"probability": 0.6}, "Lyon": {"probability": 0.3}}',
    "pairs": '[["Paris", 0.6], ["Lyon", 0.3]]',
    "pairs-turned": '{"responses": [[0.6, "Paris"], [0.3, "Lyon"]]}',
    "alternating": '["Paris", 0.6, "Lyon", 0.3]',
    "columns": '{"texts": ["Paris", "Lyon"], "probabilities": [0.6, 0.3]}',
    "columns-responses": '{"responses": ["Paris", "Lyon"], "probability": [0.6, 0.3]}',
    "json-in-string": json.dumps(SOUND),
    "json-in-field": json.dumps({"responses": json.dumps(json.loads(SOUND)["responses"])}),
    "json-in-items": json.dumps({"responses": [json.dumps(item) for item in json.loads(SOUND)["responses"]]}),
    "keys-first": '{"responses": [{"probability": 0.6, "text": "Paris"}, {"probability": 0.3, "text": "Lyon"}]}',
    "missing-braces": '{"responses": [{"text": "Paris", "probability": 0.6, "text": "Lyon", "probability": 0.3}]}',
    "missing-end": '{"responses": [{"text": "Paris", "probability": 0.6}, {"text": "Lyon", "probability": 0.3]}',
    "missing-open": '{"responses": [{"text": "Paris", "probability": 0.6}, "text": "Lyon", "probability": 0.3}]}',
    "chinese-keys": '{"回答": [{"文本": "Paris", "概率": 0.6}, {"文本": "Lyon", "機率": 0.3}]}',
    "surrounding-space": '{"responses": [{"text": "  Paris\\n", "probability": 0.6}, {"text": "Lyon", "probability": 0.3}]}',
    "bom": "\ufeff" + SOUND,
    "empty-dropped": SOUND.replace("[{", '[{"text": " ", "probability": 0.1}, {', 1),
    "paren-comma": '({"text": "Paris", "probability": 0.6}, {"text": "Lyon", "probability": 0.3})',
    "in-xml": f"<response>{SOUND}</response>",
}
for name in ("response", "answer", "content", "output", "completion", "reply"):
    JSON[f"key-{name}"] = SOUND.replace('"text"', f'"{name}"')
for name in (
    "confidence",
    "likelihood",
    "prob",
    "p",
    "weight",
    "score",
    "Probability",
    "機率",
    "확률",
    "Wahrscheinlichkeit",
):
    JSON[f"weight-{name}"] = SOUND.replace('"probability"', f'"{name}"')
for name in ("candidates", "answers", "items", "results", "completions", "outputs", "Responses"):
    JSON[f"list-{name}"] = SOUND.replace('"responses"', f'"{name}"')


@pytest.mark.parametrize("shape", [None, VS], ids=["detected", "asked"])
@pytest.mark.parametrize("text", JSON.values(), ids=JSON.keys())
def test_json(text: str, shape: ReplyShape | None) -> None:
    assert read(text, shape) == TWO


DAMAGED = {
    "inner-quotes": (
        '{"responses": [{"text": "He said "hi" to me", "probability": 0.6}, {"text": "b", "probability": 0.3}]}',
        [('He said "hi" to me', 0.6), ("b", 0.3)],
    ),
    "inner-quotes-commas": (
        '{"responses": [{"text": "say "yes", or "no", please", "probability": 0.6}]}',
        [('say "yes", or "no", please', 0.6)],
    ),
    "inner-quotes-at-ends": (
        '{"responses": [{"text": ""Stop!" she said. "Now!"", "probability": 0.6}, {"text": "b", "probability": 0.3}]}',
        [('"Stop!" she said. "Now!"', 0.6), ("b", 0.3)],
    ),
    "inner-quotes-odd": (
        '{"responses": [{"text": "a 5" disk", "probability": 0.6}, {"text": "b", "probability": 0.3}]}',
        [('a 5" disk', 0.6), ("b", 0.3)],
    ),
    "inner-quotes-last": (
        '{"responses": [{"probability": 0.6, "text": "a "b" c"}, {"probability": 0.3, "text": "d "e""}]}',
        [('a "b" c', 0.6), ('d "e"', 0.3)],
    ),
    "apostrophe": (
        "[{'text': 'it's me', 'probability': 0.6}, {'text': \"it's you\", 'probability': 0.3}]",
        [("it's me", 0.6), ("it's you", 0.3)],
    ),
    "raw-newlines": ('{"responses": [{"text": "a\nb\n\nc\td", "probability": 0.6}]}', [("a\nb\n\nc\td", 0.6)]),
    "bad-escape": (r'{"responses": [{"text": "C:\dir \(x\)", "probability": 0.6}]}', [(r"C:\dir \(x\)", 0.6)]),
    "triple": ('{"responses": [{"text": """a "b" c""", "probability": 0.6}]}', [('a "b" c', 0.6)]),
    "strings-inner-quotes": ('["say "hi" now", "b, c"]', [('say "hi" now', None), ("b, c", None)]),
    "cut-between": ('{"responses": [{"text": "a", "probability": 0.6}, ', [("a", 0.6)]),
    "cut-in-text": (
        '{"responses": [{"text": "a", "probability": 0.6}, {"text": "half a sen',
        [("a", 0.6), ("half a sen", None)],
    ),
    "cut-in-escape": (
        '{"responses": [{"text": "a", "probability": 0.6}, {"text": "half\\u00',
        [("a", 0.6), ("half", None)],
    ),
    "cut-after-text": (
        '{"responses": [{"text": "a", "probability": 0.6}, {"text": "b",',
        [("a", 0.6), ("b", None)],
    ),
    "cut-in-key": (
        '{"responses": [{"text": "a", "probability": 0.6}, {"text": "b", "prob',
        [("a", 0.6), ("b", None)],
    ),
    "cut-in-number": (
        '{"responses": [{"text": "a", "probability": 0.6}, {"text": "b", "probability": 0.',
        [("a", 0.6), ("b", None)],
    ),
    "cut-in-number-string": (
        '{"responses": [{"text": "a", "probability": "0.6"}, {"text": "b", "probability": "0.',
        [("a", 0.6), ("b", None)],
    ),
    "cut-after-number": (
        '{"responses": [{"text": "a", "probability": 0.6}, {"text": "b", "probability": 0.3}',
        [("a", 0.6), ("b", 0.3)],
    ),
    "cut-strings": ('["a", "b", "c c', [("a", None), ("b", None), ("c c", None)]),
    "cut-fenced": (
        '```json\n{"responses": [\n  {"text": "a", "probability": 0.6},\n  {"text": "b"\n',
        [("a", 0.6), ("b", None)],
    ),
    "cut-and-quotes": (
        '{"responses": [{"text": "a "q" z", "probability": 0.6}, {"text": "b "r" y',
        [('a "q" z', 0.6), ('b "r" y', None)],
    ),
    "cut-mapping": ('{"a": 0.6, "b": 0.3, "c": 0.', [("a", 0.6), ("b", 0.3)]),
    "one-broken-of-three": (
        '[{"text": "a", "probability": 0.5}, {"text": "b" oops, "probability": 0.3}, {"text": "c", "probability": 0.2}]',
        [("a", 0.5), ('b" oops', 0.3), ("c", 0.2)],
    ),
    "extra-fields-and-quotes": (
        '{"responses": [{"text": "a "b" c", "style": "dry", "probability": 0.6}]}',
        [('a "b" c', 0.6)],
    ),
    "words-with-parenthesis": (
        '{"responses": [{"text": "a", "probability": about 0.6 (high)}, {"text": "b", "probability": 0.3}]}',
        [("a", 0.6), ("b", 0.3)],
    ),
}


@pytest.mark.parametrize(("text", "expected"), DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("tail", ["", "\n```\nHope that helps!"], ids=["bare", "tail"])
def test_damaged(text: str, expected: list[tuple[str, float | None]], tail: str) -> None:
    if not tail or text.rstrip().endswith(("]", "]}")):
        assert read(text + tail) == expected


TRICKY = [
    'say {"text": "x", "probability": 0.5} to me',
    '{"responses": [{"text": "inner", "probability": 1.0}]}',
    "<think>this is quoted</think> and kept",
    "a </think> b",
    "```python\nprint('hi', {1: [2]})\n```",
    'the probability: 0.5 of "probability" is 50%',
    "1. first\n2. second",
    "<response><text>x</text></response>",
    "مرحبا بالعالم {ابتسامة}",
    "咖啡，“苦”的。",
    "emoji 😀 and \\ backslash \\n not a newline",
    'ends with a quote"',
    "- 0.3",
    "null",
    "42",
]


@pytest.mark.parametrize("shape", [None, VS], ids=["detected", "asked"])
@pytest.mark.parametrize("text", TRICKY)
@pytest.mark.parametrize("wrap", ["{}", "Sure:\n```json\n{}\n```", "<think>hm</think>{}", "Well, {} — done."])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_texts_are_unchanged(text: str, wrap: str, ascii_only: bool, shape: ReplyShape | None) -> None:
    reply = json.dumps(
        {"responses": [{"text": text, "probability": 0.5}, {"text": "b", "probability": 0.25}]},
        ensure_ascii=ascii_only,
    )
    assert read(wrap.replace("{}", reply), shape) == [(text, 0.5), ("b", 0.25)]
    assert read(wrap.replace("{}", repr(json.loads(reply))), shape) == [(text, 0.5), ("b", 0.25)]


LISTS = {
    "numbered-paren": "1. Paris (probability: 0.6)\n2. Lyon (probability: 0.3)",
    "numbered-dash": "1) Paris - probability: 0.6\n2) Lyon - probability: 0.3",
    "numbered-percent": "1. Paris (probability: 60%)\n2. Lyon (30 %)",
    "numbered-next-line": "1. Paris\n   Probability: 0.6\n2. Lyon\n   Probability: 0.3",
    "numbered-next-bullet": "1. Paris\n   - Probability: 0.6\n\n2. Lyon\n   - Probability: 0.3",
    "numbered-fields": "1. **Text:** Paris\n   **Probability:** 0.6\n2. **Text:** Lyon\n   **Probability:** 0.3",
    "numbered-bare": "1. Paris - 0.6\n2. Lyon - 0.3",
    "numbered-square": "1. Paris [0.6]\n2. Lyon [0.3]",
    "numbered-equals": "1. Paris, p = 0.6\n2. Lyon, p=0.3",
    "numbered-leading": "1. [0.6] Paris\n2. [0.3] Lyon",
    "numbered-leading-p": "1. (p=0.6) Paris\n2. (p=0.3) Lyon",
    "lettered": "a) Paris (0.6)\nb) Lyon (0.3)",
    "roman": "I. Paris (0.6)\nII. Lyon (0.3)",
    "circled": "① Paris (0.6)\n② Lyon (0.3)",
    "options": "Option A: Paris (60%)\nOption B: Lyon (30%)",
    "numbered-headings": "### 1. Paris\nProbability: 0.6\n### 2. Lyon\nProbability: 0.3",
    "bullets": "- Paris (probability: 0.6)\n- Lyon (probability: 0.3)",
    "bullets-star": "* Paris: 0.6\n* Lyon: 0.3",
    "yaml": "responses:\n- text: Paris\n  probability: 0.6\n- text: Lyon\n  probability: 0.3",
    "yaml-quoted": "responses:\n  - probability: 0.6\n    text: Paris\n  - probability: 0.3\n    text: Lyon",
    "headed": "**Response 1** (p=0.6): Paris\n\n**Response 2** (p=0.3): Lyon",
    "headed-lines": "### Response 1\nParis\nProbability: 0.6\n\n### Response 2\nLyon\nProbability: 0.3",
    "headed-colon": "Response 1: Paris\nProbability: 0.6\n\nResponse 2: Lyon\nProbability: 0.3",
    "fields": "Text: Paris\nProbability: 0.6\n\nText: Lyon\nProbability: 0.3",
    "lines": "Paris: 0.6\nLyon: 0.3",
    "lines-labelled": "Paris (probability: 0.6)\nLyon (probability: 0.3)",
    "prose-around": "Here you go:\n\n1. Paris (0.6)\n2. Lyon (0.3)\n\nHope this helps!",
    "fullwidth": "１．Paris（概率：０.６）\n２．Lyon（概率：３０％）",
    "arabic-digits": "1. Paris (احتمال: ٠٫٦)\n2. Lyon (احتمال: ٠٫٣)",
    "comma": "1. Paris (Wahrscheinlichkeit: 0,6)\n2. Lyon (Wahrscheinlichkeit: 0,3)",
    "table": "| # | Text | Probability |\n|---|---|---|\n| 1 | Paris | 0.6 |\n| 2 | Lyon | 0.3 |",
    "table-prose": "Here:\n\n| Response | Likelihood |\n| :-- | --: |\n| Paris | 60% |\n| Lyon | 30% |\n\nDone.",
    "one-line": "1. Paris (p = 0.6)  2. Lyon (p = 0.3)",
    "one-line-commas": "Paris (0.6), Lyon (30%)",
    "one-line-chinese": "Paris（概率：0.6）、Lyon（0.3）。",
    "fenced-list": "```\n1. Paris (0.6)\n2. Lyon (0.3)\n```",
    "think-list": "<think>1. Nice (0.9)</think>\n1. Paris (0.6)\n2. Lyon (0.3)",
}
for label in (
    "Probability:",
    "probability =",
    "概率：",
    "機率 ",
    "機率：",
    "確率：",
    "確率",
    "확률: ",
    "Wahrscheinlichkeit: ",
    "probabilité : ",
    "probabilidad: ",
    "Вероятность: ",
    "الاحتمال: ",
    "הסתברות: ",
    "Likelihood: ",
    "Confidence: ",
    "prob. ",
):
    LISTS[f"paren-{label}"] = f"1. Paris ({label}0.6)\n2. Lyon ({label}0.3)"
    LISTS[f"line-{label}"] = f"1. Paris\n{label}0.6\n2. Lyon\n{label}0.3"


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS.keys())
def test_lists(text: str) -> None:
    assert read(text) == TWO


OTHER_LISTS = {
    "no-probability": ("1. Paris\n2. Lyon\n3. Nice", [("Paris", None), ("Lyon", None), ("Nice", None)]),
    "strings": ('["Paris", "Lyon"]', [("Paris", None), ("Lyon", None)]),
    "strings-python": ("Here: ['Paris', \"L'yon\"]", [("Paris", None), ("L'yon", None)]),
    "strings-keyed": ('{"responses": ["Paris", "Lyon"]}', [("Paris", None), ("Lyon", None)]),
    "numbered-keys": ('{"1": "Paris", "2": "Lyon"}', [("Paris", None), ("Lyon", None)]),
    "bullets": ("- Paris\n- Lyon", [("Paris", None), ("Lyon", None)]),
    "poems": (
        "**Response 1** (p=0.3):\nRoses are red,\nviolets blue.\n\nSecond verse.\n\n**Response 2** (p=0.1):\nAsh.",
        [("Roses are red,\nviolets blue.\n\nSecond verse.", 0.3), ("Ash.", 0.1)],
    ),
    "jokes": (
        "1. Why? Because.\n   Ha!\n   (probability: 7%)\n2. Knock.\n   (probability: 0.07)",
        [("Why? Because.\n   Ha!", 0.07), ("Knock.", 0.07)],
    ),
    "chinese": (
        "1. 咖啡為什麼苦？因為它沒睡。概率：0.07\n2. 拿鐵很累。機率 0.05",
        [("咖啡為什麼苦？因為它沒睡。", 0.07), ("拿鐵很累。", 0.05)],
    ),
    "some-missing": ("1. Paris (0.6)\n2. Lyon", [("Paris", 0.6), ("Lyon", None)]),
    "decimals-in-text": (
        "1. Version 2.5 is 0.3 faster\n2. Pi is 3.14",
        [("Version 2.5 is 0.3 faster", None), ("Pi is 3.14", None)],
    ),
    "paragraphs": (
        "A first joke.\nIt has two lines. (probability: 0.3)\n\nA second. (probability: 0.2)",
        [("A first joke.\nIt has two lines.", 0.3), ("A second.", 0.2)],
    ),
    "trailing-note": (
        "1. Paris (p = 0.3)\n2. Rome (p = 0.2)\n\nNote: these are guesses.",
        [("Paris", 0.3), ("Rome", 0.2)],
    ),
}


def test_a_cut_list_of_texts_with_braces_keeps_the_texts() -> None:
    text = """{"responses": ["f({name: 'US'})", "f({name: 'Canada'})", "f({name: 'USA'})}  # and so on"""
    assert [candidate.text for candidate in parse(text).candidates][:2] == [
        "f({name: 'US'})",
        "f({name: 'Canada'})",
    ]


@pytest.mark.parametrize("text", ["We found (0.5) and (0.7) to differ.", "See (0.5), which is higher than (0.7)!"])
def test_figures_in_prose_are_no_candidates(text: str) -> None:
    with pytest.raises(ReplyError):
        parse(text)


@pytest.mark.parametrize(("text", "expected"), OTHER_LISTS.values(), ids=OTHER_LISTS.keys())
def test_other_lists(text: str, expected: list[tuple[str, float | None]]) -> None:
    assert read(text) == expected


XML = {
    "plain": "<response><text>Paris</text><probability>0.6</probability></response>\n<response><text>Lyon</text><probability>0.3</probability></response>",
    "turned": "<response><probability>0.6</probability><text>Paris</text></response><response><probability>0.3</probability><text>Lyon</text></response>",
    "wrapped": "Sure:\n```xml\n<responses>\n  <response>\n    <text>\n      Paris\n    </text>\n    <probability>0.6</probability>\n  </response>\n<response><text>Lyon</text><probability>0.3</probability></response></responses>\n```\nBye.",
    "attributes": "<response probability=\"0.6\">Paris</response><response probability='30%'><text>Lyon</text></response>",
    "attribute-text": '<response text="Paris" probability="0.6"/><response text="Lyon" probability="0.3"/>',
    "unclosed": "<response><text>Paris<probability>0.6<response><text>Lyon<probability>0.3",
    "unclosed-items": "<response><text>Paris</text><probability>0.6</probability>\n<response><text>Lyon</text><probability>0.3</probability>",
    "no-wrapper": "<text>Paris</text><probability>0.6</probability><text>Lyon</text><probability>0.3</probability>",
    "no-wrapper-turned": "<probability>0.6</probability><text>Paris</text><probability>0.3</probability><text>Lyon</text>",
    "loose-text": "<response>Paris<probability>0.6</probability></response><response><probability>0.3</probability>Lyon</response>",
    "candidates": "<candidate><answer>Paris</answer><confidence>0.6</confidence></candidate><candidate><answer>Lyon</answer><confidence>0.3</confidence></candidate>",
    "cdata": "<response><text><![CDATA[Paris]]></text><probability>0.6</probability></response><response><text>Lyon</text><probability>0.3</probability></response>",
    "json-inside": '<response>{"text": "Paris", "probability": 0.6}</response><response>{"text": "Lyon", "probability": 0.3}</response>',
    "cut-number": "<response><text>Paris</text><probability>0.6</probability></response><response><text>Lyon</text><probability>0.3</prob",
    "upper": "<Response><Text>Paris</Text><Probability>0.6</Probability></Response><Response><Text>Lyon</Text><Probability>0.3</Probability></Response>",
    "think": "<think><response><text>Nice</text><probability>0.9</probability></response></think><response><text>Paris</text><probability>0.6</probability></response><response><text>Lyon</text><probability>0.3</probability></response>",
}


@pytest.mark.parametrize("shape", [None, ReplyShape("xml", k=2)], ids=["detected", "asked"])
@pytest.mark.parametrize("text", XML.values(), ids=XML.keys())
def test_xml(text: str, shape: ReplyShape | None) -> None:
    assert read(text, shape) == TWO


def test_xml_texts_are_unchanged() -> None:
    reply = "<response><text>a &lt;b&gt; &amp; &copy; <b>bold</b> 1 < 2</text><probability>0.6</probability></response>"
    assert read(reply) == [("a <b> & &copy; <b>bold</b> 1 < 2", 0.6)]
    reply = "<response><text><![CDATA[<text>x</text> &amp;]]></text><probability>0.6</probability></response>"
    assert read(reply) == [("<text>x</text> &amp;", 0.6)]
    cut = parse("<response><text>Paris</text><probability>0.6</probability></response><response><text>Ly")
    assert [(e.text, e.stated, e.repairs) for e in cut.candidates] == [
        ("Paris", 0.6, ()),
        ("Ly", None, ("truncated",)),
    ]


NUMBERS = {
    "string": ('"0.12"', 0.12, "text-probability"),
    "percent": ('"12%"', 0.12, "percent"),
    "percent-space": ('"12 %"', 0.12, "percent"),
    "percent-wide": ('"１２％"', 0.12, "percent"),
    "percent-small": ('"0.5%"', 0.005, "percent"),
    "percent-word": ('"12 percent"', 0.12, "percent"),
    "point": ('".12"', 0.12, "text-probability"),
    "bare-point": (".12", 0.12, "unquoted"),
    "comma": ('"0,12"', 0.12, "text-probability"),
    "bare-comma": ("0,12", 0.12, "unquoted"),
    "tilde": ('"~0.1"', 0.1, "text-probability"),
    "fraction": ('"1/4"', 0.25, "text-probability"),
    "bare-fraction": ("1/4", 0.25, "unquoted"),
    "one-in": ('"1 in 4"', 0.25, "text-probability"),
    "about": ('"about 0.1"', 0.1, "text-probability"),
    "judged": ('"0.1 (low)"', 0.1, "text-probability"),
    "exponent": ('"1e-3"', 0.001, "text-probability"),
    "arabic": ('"٠٫١٢"', 0.12, "text-probability"),
    "bare-percent": ("12%", 0.12, "percent"),
    "one": ("1", 1.0, None),
    "zero": ("0", 0.0, None),
    "nan": ("NaN", None, "unreadable-probability"),
    "infinity": ("Infinity", None, "unreadable-probability"),
    "minus-infinity": ("-Infinity", None, "unreadable-probability"),
    "huge": ("1e999", None, "unreadable-probability"),
    "digits": ("9" * 400, None, "unreadable-probability"),
    "negative": ("-0.2", None, "unreadable-probability"),
    "negative-string": ('"-0.2"', None, "unreadable-probability"),
    "true": ("true", None, "unreadable-probability"),
    "null": ("null", None, "unreadable-probability"),
    "word": ('"high"', None, "unreadable-probability"),
    "list": ("[0.1]", 0.1, None),
    "object": ('{"value": 0.1}', 0.1, None),
    "range": ('"0.05-0.10"', None, "unreadable-probability"),
    "product": ('"0.1*2"', None, "unreadable-probability"),
    "above-100": ("250", None, "unreadable-probability"),
    "percent-among": ("12", 0.12, "percent"),
}


@pytest.mark.parametrize(("written", "stated", "repair"), NUMBERS.values(), ids=NUMBERS.keys())
@pytest.mark.parametrize("shape", [None, VS], ids=["detected", "asked"])
def test_one_probability_among_sound_ones(
    written: str, stated: float | None, repair: str | None, shape: ReplyShape | None
) -> None:
    reply = f'{{"responses": [{{"text": "a", "probability": 0.3}}, {{"text": "b", "probability": {written}}}]}}'
    reading = parse(reply, shape)
    first, second = reading.candidates
    assert (first.text, first.stated, second.text) == ("a", 0.3, "b")
    assert second.stated == (None if stated is None else pytest.approx(stated))
    assert repair is None or repair in (*second.repairs, *reading.repairs)
    assert repair is not None or not second.repairs


SETS = {
    "percents": ([70, 20, 10], [0.7, 0.2, 0.1]),
    "percents-part": ([12, 8, 5], [0.12, 0.08, 0.05]),
    "percents-with-one": ([70, 29, 1], [0.7, 0.29, 0.01]),
    "percents-fractions": ([69.5, 20.25, 10.25], [0.695, 0.2025, 0.1025]),
    "weights": ([5, 3, 2], [0.5, 0.3, 0.2]),
    "weights-with-one": ([2, 1, 1], [0.5, 0.25, 0.25]),
    "weights-large": ([500, 300, 200], [0.5, 0.3, 0.2]),
    "mixed": ([0.4, 0.3, 30], [0.4, 0.3, 0.3]),
    "mixed-large": ([0.4, 0.3, 3000], [0.4, 0.3, None]),
    "zeros": ([0, 0, 0], [0.0, 0.0, 0.0]),
    "zeros-and-percents": ([0, 60, 40], [0.0, 0.6, 0.4]),
    "ones": ([1, 1, 1], [1.0, 1.0, 1.0]),
    "alone": ([3.17], [0.0317]),
    "alone-large": ([3000], [None]),
}


@pytest.mark.parametrize(("written", "stated"), SETS.values(), ids=SETS.keys())
def test_a_set_of_numbers_has_one_meaning(written: list[float], stated: list[float | None]) -> None:
    reply = json.dumps([{"text": str(at), "probability": number} for at, number in enumerate(written)])
    assert [entry.stated for entry in parse(reply).candidates] == [
        s if s is None else pytest.approx(s) for s in stated
    ]


SCALES = {
    "nll-key": (None, "nll", 2.0, -2.0),
    "nll-asked": (ReplyShape("candidates", weight="probability", scale="nll"), "probability", 2.0, -2.0),
    "nll-long": (None, "nll", 5000.25, -5000.25),
    "nll-zero": (None, "nll", 0, 0.0),
    "nll-negative": (None, "nll", -1.0, None),
    "perplexity": (None, "perplexity", 8.0, -math.log(8)),
    "perplexity-below-one": (None, "perplexity", 0.5, None),
    "logprob": (None, "logprob", -3.5, -3.5),
    "logprob-positive": (None, "logprob", 0.5, None),
    "percent-key": (None, "percentage", 0.5, math.log(0.005)),
    "percent-asked": (
        ReplyShape("candidates", weight="probability", scale="percent"),
        "probability",
        0.5,
        math.log(0.005),
    ),
    "percent-above": (None, "percent", 120, None),
    "sign-wins": (ReplyShape("candidates", weight="nll", scale="nll"), "nll", "20%", math.log(0.2)),
    "key-wins": (ReplyShape("candidates", weight="probability", scale="percent"), "nll", 3.0, -3.0),
    "confidence-asked": (ReplyShape("candidates", weight="confidence"), "confidence", 0.25, math.log(0.25)),
    "zero": (None, "probability", 0, -math.inf),
}


@pytest.mark.parametrize(("shape", "key", "number", "expected"), SCALES.values(), ids=SCALES.keys())
def test_scales(shape: ReplyShape | None, key: str, number: float | str, expected: float | None) -> None:
    (entry,) = parse(json.dumps({"responses": [{"text": "a", key: number}]}), shape).candidates
    if expected is None:
        assert (entry.stated, entry.log_stated) == (None, None)
        assert "unreadable-probability" in entry.repairs
    else:
        assert entry.log_stated == pytest.approx(expected, rel=1e-15)
        assert entry.stated == pytest.approx(math.exp(expected))


REFUSED = {
    "empty": "",
    "blank": " \n\t",
    "empty-list": "[]",
    "empty-responses": '{"responses": []}',
    "empty-object": "{}",
    "only-empty-texts": '{"responses": [{"text": "", "probability": 1.0}]}',
    "refusal": "I'm sorry, but I can't help with that.",
    "refusal-brackets": "I'm sorry {really}, I can't say \"yes\" [at all]: it is 0.5 likely.",
    "refusal-chinese": "抱歉，我無法回答這個問題。",
    "error": '{"error": "overloaded"}',
    "numbers": "[1, 2, 3]",
    "cut-early": '{"responses": [',
    "cut-reasoning": '{"reasoning": "First I thi',
    "only-think": "<think>hm</think>",
    "open-think": "<think>hm, well",
    "fence-only": "```json\n```",
    "null": "null",
    "deep": "[" * 5000,
    "deep-objects": '{"a":' * 5000,
    "deep-closed": "[" * 5000 + "]" * 5000,
    "digits": "9" * 5000,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_no_candidates_is_an_error_that_carries_the_reply(text: str) -> None:
    for shape in (None, VS, ReplyShape("xml"), ReplyShape("list"), ReplyShape("answer")):
        if shape is not None and shape.kind == "list" and text == REFUSED["numbers"]:
            continue
        with pytest.raises(ReplyError) as caught:
            parse(text, shape)
        assert caught.value.text == text


def test_text_kind_takes_the_whole_reply() -> None:
    shape = ReplyShape("text")
    assert read("  Why? Because.\n", shape) == [("Why? Because.", None)]
    assert read('{"responses": []}', shape) == [('{"responses": []}', None)]
    assert read("<think>hm</think>\n\nBecause.", shape) == [("Because.", None)]
    assert read("hm\n</think>\n\nBecause.", shape) == [("Because.", None)]
    assert read("Tags like <think> are fun.", shape) == [("Tags like <think> are fun.", None)]
    assert parse("<think>hm</think>ok", shape).reasoning == "hm"
    for text in ("", " \n", "<think>hm</think>", "<think>hm"):
        with pytest.raises(ReplyError):
            parse(text, shape)


def test_answer_kind() -> None:
    reading = parse('{"reasoning": "Because.", "response": "Paris"}', ReplyShape("answer"))
    assert [(e.text, e.stated, e.repairs) for e in reading.candidates] == [("Paris", None, ())]
    assert reading.reasoning == "Because."
    assert read('{"reasoning": "So "far".", "response": "Par"is"}', ReplyShape("answer")) == [('Par"is', None)]


def test_strings_kinds() -> None:
    assert read('{"responses": ["a", "4"]}', ReplyShape("strings")) == [("a", None), ("4", None)]
    assert read("[4, 2]", ReplyShape("list")) == [("4", None), ("2", None)]


OBJECT = {"type": "object", "properties": {"question": {"type": "string"}, "answer": {"type": "string"}}}


def test_structured_candidates() -> None:
    value = {"question": "Wer?", "answer": "Ö"}
    shape = ReplyShape("candidates", value_schema=OBJECT)
    for reply in (
        {"responses": [{"text": value, "probability": 0.5}]},
        {"responses": [{"text": json.dumps(value), "probability": 0.5}]},
        {"responses": [{**value, "probability": 0.5}]},
    ):
        (entry,) = parse(json.dumps(reply), shape).candidates
        assert (entry.value, entry.text, entry.stated) == (
            value,
            '{"question": "Wer?", "answer": "Ö"}'
            if not isinstance(reply["responses"][0].get("text"), str)
            else json.dumps(value),
            0.5,
        )
    (entry,) = parse(json.dumps({"responses": [{**value, "probability": 0.5}]})).candidates
    assert entry.value == value
    (entry,) = parse('{"responses": [{"text": [1, 2], "probability": 0.5}]}').candidates
    assert (entry.value, entry.text) == ([1, 2], "[1, 2]")
    (entry,) = parse('{"responses": [{"text": "[1]", "probability": 0.5}]}').candidates
    assert (entry.value, entry.text) == (None, "[1]")
    texts = ReplyShape(
        "candidates", value_schema={"anyOf": [{"$ref": "#/$defs/s"}], "$defs": {"s": {"type": "string"}}}
    )
    (entry,) = parse('{"responses": [{"text": "[1]", "probability": 0.5}]}', texts).candidates
    assert entry.value == "[1]"
    broken = '{"responses": [{"text": {"question": "a", "answer": "b",}, "probability": 0.5}, {"text": {"question": "c" "answer": "d"}, "probability": 0.2'
    assert [(e.value, e.stated) for e in parse(broken, shape).candidates] == [
        ({"question": "a", "answer": "b"}, 0.5),
        ({"question": "c", "answer": "d"}, None),
    ]


def test_other_fields_are_kept() -> None:
    (entry,) = parse(
        '{"responses": [{"id": 1, "text": "a", "style": "dry", "probability": 0.5, "score": 3}]}'
    ).candidates
    assert entry.meta == {"id": 1, "style": "dry", "score": 3}
    (entry,) = parse('{"responses": [{"id": 1, "joke": "a", "probability": 0.5}]}').candidates
    assert (entry.text, entry.meta, entry.repairs) == ("a", {"id": 1}, ("wrong-key",))


def test_reasoning_is_kept() -> None:
    assert parse('{"reasoning": "Hm.", ' + SOUND[1:]).reasoning == "Hm."
    assert parse(f"<think>Hm.</think>{SOUND}").reasoning == "Hm."
    assert parse(f"I think.\n\n{SOUND}").reasoning == "I think."
    assert parse("I think:\n1. a\n2. b").reasoning == "I think:"


def test_surrogates() -> None:
    assert read('{"responses": [{"text": "\\ud83d\\ude00 \\ud83d", "probability": 0.5}]}') == [("😀 \ufffd", 0.5)]
    reading = parse('{"responses": [{"text": "\ud83d\ude00 \ud83d", "probability": 0.5}]}')
    assert (reading.candidates[0].text, reading.repairs) == ("😀 \ufffd", ("surrogate",))


def test_cut_candidates_are_marked() -> None:
    reading = parse(DAMAGED["cut-in-text"][0])
    assert [e.repairs for e in reading.candidates] == [(), ("truncated",)]
    assert "truncated" in reading.repairs
    assert parse(DAMAGED["cut-in-key"][0]).candidates[-1].repairs == ("unclosed",)
    assert parse(DAMAGED["cut-between"][0]).candidates[-1].repairs == ()


def test_a_sound_reply_needs_no_repair() -> None:
    for shape in (None, VS):
        reading = parse(SOUND, shape)
        assert reading.repairs == ()
        assert all(entry.repairs == () for entry in reading.candidates)


SAMPLES = Path(__file__).parent / "data" / "replies"
EXPECTED = json.loads((SAMPLES / "expected.json").read_text(encoding="utf-8"))


def test_every_sample_is_expected() -> None:
    assert {path.stem for path in SAMPLES.glob("*.txt")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_samples(name: str) -> None:
    text = (SAMPLES / f"{name}.txt").read_text(encoding="utf-8")
    expected = [tuple(entry) for entry in EXPECTED[name]]
    for shape in (None, ReplyShape("candidates", k=len(expected))):
        if expected:
            assert read(text, shape) == expected
        else:
            with pytest.raises(ReplyError):
                parse(text, shape)


def test_every_repair_of_the_samples_and_rows_is_explained() -> None:
    seen: set[str] = set()
    samples = [path.read_text(encoding="utf-8") for path in SAMPLES.glob("*.txt")]
    for text in (*JSON.values(), *LISTS.values(), *XML.values(), *(row[0] for row in DAMAGED.values()), *samples):
        try:
            reading = parse(text)
        except ReplyError:
            continue
        seen.update(reading.repairs, *(entry.repairs for entry in reading.candidates))
    assert seen <= REPAIRS.keys()
    assert len(seen) > 20


@pytest.mark.parametrize(
    ("said", "repairs"),
    [
        ('{"question": "水？"}', ()),
        ('```json\n{"question": "水？"}\n```', ("fenced",)),
        ('Here you go: {x}\n{"question": "水？"}\nHope it helps.', ("prefixed",)),
    ],
)
def test_one_record_in_a_reply(said: str, repairs: tuple[str, ...]) -> None:
    schema = {"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]}
    shape = ReplyShape("text", value_schema=schema)
    assert shape.json_schema() == schema
    (found,) = parse(said, shape).candidates
    assert (found.value, found.repairs) == ({"question": "水？"}, repairs)
    (found,) = parse("no JSON at all", shape).candidates
    assert found.value == "no JSON at all"
