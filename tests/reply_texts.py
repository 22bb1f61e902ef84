"""What generated replies are made of: texts in many scripts, numbers in many forms, drafts, remarks and refusals.

Nothing here comes from the package: the generator must not share a table with the reader it tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

# What a text holds that not every layout can carry without being ambiguous to a person.
# n line break, q double quotes, b braces or square brackets, x angle marks or ampersands, p pipe, s semicolon,
# h heading, 0 nothing but a number, . full stop or its kin at the end, c comma, d digits, o colon, k backslash, f code fence, m Markdown emphasis, r round brackets, - dash, ~ tildes, / address, ' single quote
TEXTS: tuple[tuple[str, str], ...] = (
    ("", "Paris"),
    ("", "Canberra"),
    ("", "Reykjavík"),
    ("", "Zürich"),
    ("", "Łódź"),
    ("", "München"),
    ("", "Красноярск"),
    ("", "Θεσσαλονίκη"),
    ("", "القاهرة"),
    ("", "ירושלים"),
    ("", "दिल्ली"),
    ("", "กรุงเทพมหานคร"),
    ("", "東京"),
    ("", "上海"),
    ("", "부산"),
    ("", "Đà Nẵng"),
    ("", "İstanbul"),
    ("", "தமிழ்நாடு"),
    ("", "თბილისი"),
    ("", "A quiet walk along the river at dawn"),
    ("", "The lighthouse keeper counted ships that never came."),
    ("", "Why did nobody answer the telephone?"),
    ("c", "Salt, rust and a lamp that hums"),
    ("c", "On the last evening of winter, the sea gave back the bell."),
    ("c'", "It's the keeper's daughter, not the keeper, who lights the lamp."),
    ("'", "Don't wake the whale"),
    ("q", 'The old man said "wait" and shut the gate'),
    ("qc", 'She whispered "not yet", then turned around'),
    ("qc", '"Nobody lives here," the girl replied'),
    ("q", 'Call it "Halcyon"'),
    ("'", "They called him 'the heron' behind his back"),
    ("", "Er sagte „morgen“ und ging"),
    ("", "Elle répondit « jamais » sans lever les yeux"),
    ("", "彼は「また明日」と言った"),
    ("", "老人说“海不会忘记”然后走了"),
    ("o", "Note: bring a torch"),
    ("oc", "Title: The Grey Harbour, a novel"),
    ("-", "Fire – then silence"),
    ("-", "A well-worn path through half-lit woods"),
    ("r", "Espresso (short and bitter)"),
    ("r", "The orchard (in bloom) smelled of rain"),
    ("d", "In 1969 everyone looked up"),
    ("d", "Route 66 never sleeps"),
    ("dc", "Between 3 and 5 people, no more"),
    ("d", "Version 2.5 of the plan"),
    ("d%", "Sold at 20% off on Monday"),
    ("s", "He came; he saw; he left"),
    ("p", "cat notes | sort"),
    ("x", "Salt & vinegar"),
    ("x", "if a < b then swap"),
    ("x", "Use <b>bold</b> sparingly"),
    ("b", "Fill in {name} and {place}"),
    ("bc", "The tuple [x, y] is enough"),
    ("bqo", 'Send {"ok": true} back'),
    ("bqoc", 'Reply with {"status": "done", "code": null} only'),
    ("kb", r"The gradient \(\nabla f\) vanishes"),
    ("kbd", r"Area $\frac{1}{2}bh$ of a triangle"),
    ("kb", r"Choose $\beta \neq \theta$ first"),
    ("kbd", r"Euler found $e^{i\pi}+1=0$ charming"),
    ("k", r"Open C:\temp\new files"),
    ("m", "A *very* slow train"),
    ("m", "Use **bold** letters for the heading"),
    ("m", "Run `make clean` twice"),
    ("mx", "Compare `x <= y` with care"),
    ("x/o", "See https://example.org/guide?a=b&c=e for more"),
    ("~", "太好了~~~耶我們走吧"),
    ("~", "それは~~~面白い"),
    ("f", "Run ```ls``` once"),
    ("", "Ein Hund schläft unter dem Küchentisch"),
    ("c", "Der Nebel kam, und mit ihm die Schiffe"),
    ("c", "La marée monte, le gardien descend"),
    ("", "El faro parpadeaba como un ojo cansado"),
    ("", "O vento levou o chapéu do carteiro"),
    ("", "La nonna cucina mentre piove"),
    ("", "Старый маяк молчал всю ночь"),
    ("c", "Снег падал, и город становился тише"),
    ("", "Ο φάρος έσβησε πριν από το ξημέρωμα"),
    ("", "انطفأ المصباح قبل الفجر بقليل"),
    ("", "كان البحر هادئا كمرآة قديمة"),
    ("", "המגדלור כבה לפני עלות השחר"),
    ("", "समुद्र उस रात बिल्कुल शांत था"),
    ("", "ประภาคารดับลงก่อนรุ่งสาง"),
    ("", "灯台の光が霧の中で揺れていた。"),
    ("", "潮が引くと古い船が現れた"),
    ("", "守塔人每晚点亮同一盏灯。"),
    ("", "海风吹过空荡荡的码头，没有人说话。"),
    ("", "등대지기는 매일 같은 시간에 불을 켰다"),
    ("", "Ngọn hải đăng tắt trước bình minh"),
    ("", "Deniz feneri gece boyunca sustu"),
    ("", "Latarnia morska zgasła przed świtem"),
    ("", "Majakka sammui ennen aamunkoittoa"),
    ("", "🌊 Waves everywhere"),
    ("", "Party 🎉 tonight 👨‍👩‍👧 bring cake"),
    ("c", "Wait, what"),
    ("dr", "Half (0.5) of them left"),
    ("d", "7 swans on a frozen lake"),
    ("d", "Apollo 11"),
    ("d0", "4217"),
    ("d0", "-38.5"),
    ("d0%", "61%"),
    ("", "yes"),
    ("", "kw"),
    ("c", "blue, green and a little grey"),
    ("n", "First the rain.\nThen the long silence."),
    ("n", "Roses grow by the wall\nViolets near the door\n\nNobody waters them"),
    ("n-", "Pack these things:\n- rope\n- candles\n- bread"),
    ("nd", "Three steps follow\n1. open the hatch\n2. climb down\n3. close it"),
    ("nq", 'He read the sign:\n"No entry"\nand entered'),
    ("nfbqo", 'Use this:\n```python\nd = {"alpha": None}\nprint(d)\n```\nDone.'),
    ("nfb", "Script below\n```\nfor f in *.log; do rm $f; done\n```"),
    ("nmoh", "# Heading of a poem\n\nIts *only* verse"),
    ("nb", "def area(w, h):\n    return [w * h]"),
    ("np", "| left | right |\n|---|---|\n| cat | dog |"),
    (
        "c",
        "The town had one street, one inn and one rumour, and the rumour was the oldest of the three; nobody "
        "remembered who had brought it up the hill".replace(";", ","),
    ),
    (
        "cs'",
        "When the fog lifted, the harbour was empty; the boats hadn't sunk, they'd simply left, one after another, "
        "without a light or a sound, and the keeper wrote nothing in the log that night",
    ),
    (
        "",
        "许多年以后，面对空无一人的港口，老守塔人还会想起父亲带他去看海的那个遥远的下午，那时村子里只有二十户人家，河水清澈见底。",
    ),
)
DRAFTS = (
    "Texas draft nobody wants",
    "Grey placeholder sentence",
    "Half-baked opening number nine",
    "rejected idea about llamas",
    "dull stub for now",
    "第一稿不要用",
    "черновик про верблюда",
)
TITLES = ("Quiet", "墨韻 (Ink)", "Neon Nights", "Le Phare", "Тишина", "Classic Serif", "Bold & Bright", "霓虹")
BODIES = (
    ("A quiet page with wide margins.",),
    ("High contrast at night.", "- red", "- big type"),
    ("簡約與留白。",),
    ("**Movement:** calm", "- few colours", "- soft light"),
    ("Un jardin sous la pluie.", "", "Rien d'autre."),
    ("Warm browns and a serif face.",),
    ("- one column", "- no images"),
)
REFUSALS = (
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.\n\nInstead, I could:\n- explain the safety rules\n- suggest a museum visit",
    "Sorry, I can't write that. Here are some things I can do instead:\n\n1. Summarise the article\n"
    "2. Recommend a book\n3. Write a poem about spring",
    "Es tut mir leid, dabei kann ich nicht helfen.",
    "Désolé, je ne peux pas répondre à cette demande.",
    "抱歉，我无法满足这个请求。",
    "申し訳ありませんが、そのご要望にはお応えできません。",
    "Извините, я не могу с этим помочь.",
    "The sea is large and has many moods. Ships cross it by day and by night.",
    "As an AI, I don't have personal opinions about that topic.",
    "[]",
    '{"responses": []}',
    "```json\n[]\n```",
)
INTROS = (
    "Here are the responses:",
    "Sure! Here are {k} responses sampled from the full distribution:",
    "Hier sind {k} Antworten:",
    "Voici {k} réponses :",
    "以下是{k}个回答：",
    "以下は回答です：",
    "Вот ответы:",
    "Certainly. Below you find my suggestions.",
    "Aquí tienes:",
    "**Responses**",
    "Below are {k} answers, each with a probability below 1.0:",
    "I am about 90% sure that one of these {k} is right:",
)
STARTS = ("<|im_start|>assistant\n", "<|assistant|>\n", "<s>", "\ufeff", "\n\n")
HEADINGS = ("# Ideas", "## Choices", "## 三種構想", "# Antworten")
CHOICES = ("## Selected: Response 1\n\nIt fits best.", "**Chosen:** Response 2", "---\n\nSelected: Response 1")
TOTALS = ("Total: 1.0", "Total probability: 1.00", "**Total: 100%**", "Sum: 1.0")
OUTROS = (
    "Let me know if you would like more!",
    "I hope this helps.",
    "Wenn du mehr brauchst, sag Bescheid.",
    "希望对你有帮助！",
    "These cover a range of moods.",
    "The probabilities sum to 1.00.",
    "Note: the probabilities are rough estimates (5% off at most).",
)
THOUGHTS = (
    "They want several answers. A first attempt:",
    "Okay, let me think about this. Maybe",
    "我先打个草稿：",
    "Let me draft something.",
)


class Form(NamedTuple):
    """A way to write a probability: `write` gets a whole number of units and how many units make one."""

    name: str
    write: Callable[[int, int], str]
    units: tuple[int, ...] = (100,)


def _fixed(n: int, of: int) -> str:
    return f"{n / of:.{len(str(of)) - 1}f}"


def _percent(n: int, of: int) -> str:
    return f"{n * 100 / of:g}"


def _superscript(n: int, of: int) -> str:
    mantissa, exponent = f"{n / of:e}".split("e")
    power = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{float(mantissa):g} × 10{power}"


def _caret(n: int, of: int) -> str:
    mantissa, exponent = f"{n / of:e}".split("e")
    return f"{float(mantissa):g} x 10^{int(exponent)}"


_WIDE = str.maketrans("0123456789.%", "０１２３４５６７８９．％")
_ARABIC = str.maketrans("0123456789.%", "٠١٢٣٤٥٦٧٨٩٫٪")
_DECIMAL = (10, 100, 100, 1000, 10_000)
NUMBERS = (
    Form("decimal", _fixed, _DECIMAL),
    Form("decimal", _fixed, _DECIMAL),
    Form("padded", lambda n, of: _fixed(n, of) + "0", (10, 100)),
    Form("exponent", lambda n, of: f"{n / of:e}", (100, 10_000)),
)
FORMS = (
    *NUMBERS,
    Form("bare", lambda n, of: _fixed(n, of).lstrip("0"), (100, 1000)),
    Form("percent", lambda n, of: _percent(n, of) + "%", (100, 100, 1000)),
    Form("percent", lambda n, of: _percent(n, of) + "%", (100, 100, 1000)),
    Form("percent-space", lambda n, of: _percent(n, of) + " %", (100,)),
    Form("percent-word", lambda n, of: _percent(n, of) + " percent", (100,)),
    Form("tilde", lambda n, of: f"~{_percent(n, of)}%", (100,)),
    Form("approx", lambda n, of: f"≈ {_fixed(n, of)}", (100,)),
    Form("about", lambda n, of: f"about {_percent(n, of)}%", (100,)),
    Form("approximately", lambda n, of: f"approximately {_fixed(n, of)}", (100,)),
    Form("etwa", lambda n, of: f"etwa {_percent(n, of)} %", (100,)),
    Form("environ", lambda n, of: f"environ {_percent(n, of)} %", (100,)),
    Form("around-zh", lambda n, of: f"约{_percent(n, of)}%", (100,)),
    Form("around-ru", lambda n, of: f"около {_percent(n, of)}%", (100,)),
    Form("circa", lambda n, of: f"circa {_percent(n, of)}%", (100,)),
    Form("aproximadamente", lambda n, of: f"aproximadamente {_percent(n, of)}%", (100,)),
    Form("around-ja", lambda n, of: f"およそ{_percent(n, of)}%", (100,)),
    Form("around-ko", lambda n, of: f"약 {_percent(n, of)}%", (100,)),
    Form("comma", lambda n, of: _fixed(n, of).replace(".", ","), (100, 1000)),
    Form("wide", lambda n, of: _fixed(n, of).translate(_WIDE), (100,)),
    Form("wide-percent", lambda n, of: (_percent(n, of) + "%").translate(_WIDE), (100,)),
    Form("arabic", lambda n, of: _fixed(n, of).translate(_ARABIC), (100,)),
    Form("fraction", lambda n, of: f"{n}/{of}", (10, 20, 100)),
    Form("in", lambda n, of: f"{n} in {of}", (20, 50)),
    Form("out-of", lambda n, of: f"{n} out of {of}", (20, 100)),
    Form("superscript", _superscript, (100, 1000)),
    Form("caret", _caret, (100, 1000)),
)
# What is no number: the candidate is kept without one.
UNREADABLE = (
    Form("range", lambda n, of: f"{_fixed(n, of)}-{_fixed(n + 1, of)}", (100,)),
    Form("range-percent", lambda n, of: f"{_percent(n, of)}–{_percent(n + 1, of)}%", (100,)),
    Form("product", lambda n, of: f"{_fixed(n, of)}*2", (100,)),
    Form("word", lambda n, of: ("high", "low", "medium", "very likely")[n % 4], (100,)),
    Form("unknown", lambda n, of: ("N/A", "?", "-", "unknown")[n % 4], (100,)),
)
ODDS = Form("odds", lambda n, of: f"{n}:{of - n}", (10, 20))
UNSIGNED = Form("unsigned", lambda n, of: f"{n * 100 / of:g}", (100,))
FORM_OF = {form.name: form for form in FORMS}


def units(generator: random.Random, k: int, of: int, full: bool = False) -> tuple[list[int], int]:
    """`k` different whole numbers from 1 whose sum is at most `of`, half the time exactly; `of` grows if it must."""
    while of // k < k:
        of *= 10
    numbers = generator.sample(range(1, of // k + 1), k)
    rest = of - sum(numbers[1:])
    if generator.random() < 0.5 and rest not in numbers and rest < of:
        numbers[0] = rest
    if full and sum(numbers) != of:
        return units(generator, k, of, full)
    return numbers, of
