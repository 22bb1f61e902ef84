"""Replies built from known candidates in a random layout with random damage.

`case(seed, index)` is the same reply each time. It knows where every text and number of a candidate stood before the
damage and what is left of it, so that `reply_oracle` can tell what a reader may rightly make of it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from reply_layouts import LAYOUTS, NUMBER, REASONING, STRUCTURE, TEXT, Layout, Page, Piece, escaped, plain_json
from reply_texts import (
    CHOICES,
    DRAFTS,
    HEADINGS,
    INTROS,
    OUTROS,
    REFUSALS,
    STARTS,
    TEXTS,
    THOUGHTS,
    TOTALS,
    UNREADABLE,
    UNSIGNED,
    units,
)

from outspoken.reply_shape import ReplyShape


class Known(NamedTuple):
    """A candidate that the reply was built from."""

    text: str
    stated: float | None


class Edit(NamedTuple):
    """What the damage put in place of the characters from `start` to `end` of the sound reply."""

    start: int
    end: int
    new: str


@dataclass(slots=True)
class Case:
    """A generated reply.

    `pieces` are its pieces after the damage, `touched` the candidates that the damage may have changed: those whose
    text or number it met, or stood between. `exact` says that a person reads the damaged reply as the sound one.
    `touched_labels` are those beside whose text or number a piece of structure was met, `sound_pieces` the pieces before
    the damage. `mended` are a candidate's texts with the damage in them, where the damage is only to the letters of the text.
    """

    name: str
    layout: str
    damage: str
    shape: ReplyShape | None
    known: list[Known]
    sound: str
    reply: str
    pieces: list[Piece]
    touched: set[int] = field(default_factory=set)
    touched_numbers: set[int] = field(default_factory=set)
    touched_labels: set[int] = field(default_factory=set)
    touched_texts: set[int] = field(default_factory=set)
    header_touched: bool = False
    reasoning_touched: bool = False
    exact: bool = False
    withdrawn: bool = False  # cut off after a draft: whether the draft counts is a matter of taste
    sound_pieces: list[Piece] = field(default_factory=list)
    mended: dict[int, str] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    drafts: tuple[str, ...] = ()
    refusal: bool = False


def flagged() -> list[tuple[frozenset[str], str]]:
    return [(frozenset(flags + ("." if text[-1] in ".?!。" else "")), text) for flags, text in TEXTS]


FLAGGED = flagged()
_suitable: dict[str, list[str]] = {}


def suitable(excluded: str) -> list[str]:
    if excluded not in _suitable:
        _suitable[excluded] = [text for flags, text in FLAGGED if not flags & frozenset(excluded)]
    return _suitable[excluded]


# --- the whole reply ------------------------------------------------------------------------------------------------

REASONING_MARKS = (
    ("<think>\n", "\n</think>\n\n"),
    ("<think>", "</think>"),
    ("", "\n</think>\n\n"),
    ("<thinking>\n", "\n</thinking>\n"),
    ("<reasoning>\n", "\n</reasoning>\n"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysis", "assistantfinal"),
    ('<details type="reasoning" done="true">\n<summary>Thought for 4 seconds</summary>\n', "\n</details>\n"),
)
END_TOKENS = ("<|eot_id|>", "<|im_end|>", "</s>", "<|return|>", "<|end_of_text|>", "<end_of_turn>")
FENCES = {
    "json": ("```json\n", "```\n", "```JSON\n", "~~~json\n", "```\n"),
    "jsonl": ("```jsonl\n", "```\n"),
    "python": ("```python\n", "```\n"),
    "xml": ("```xml\n", "```\n"),
    "csv": ("```csv\n", "```\n"),
    "yaml": ("```yaml\n", "```\n"),
    "list": ("```\n",),
}
FENCE_PROBABILITY = {"json": 0.3, "jsonl": 0.3, "python": 0.5, "xml": 0.2, "csv": 0.5, "yaml": 0.6, "list": 0.03}
REPEATED = (
    "**Revised version:**",
    "Corrected version:",
    "Wait, let me correct that. Final version:",
    "Final answer:",
)


def body(page: Page, layout: Layout) -> None:
    """The data, in a fence now and then, with a sentence before and after where a person could not mistake it."""
    generator = page.generator
    fenced = generator.random() < FENCE_PROBABILITY.get(layout.family, 0)
    if any("```" in text for text in page.texts) and layout.family not in ("json", "jsonl"):
        fenced = False
    bare = layout.family in ("csv", "yaml") and not fenced
    if not bare and generator.random() < 0.4:
        headed = layout.family in ("section", "list", "table") and generator.random() < 0.3
        page.put(generator.choice(HEADINGS if headed else INTROS).format(k=len(page)) + "\n\n")
    start = len(page.pieces)
    layout.write(page)
    data = page.pieces[start:]
    if fenced:
        fence = generator.choice(FENCES[layout.family])
        page.pieces[start:] = [(fence, STRUCTURE, -1), *data, ("\n" + fence[:3], STRUCTURE, -1)]
    if not bare and generator.random() < 0.25:
        endings: Sequence[str] = OUTROS
        if layout.family in ("section", "list"):
            # After a body of several lines a remark would be the body's last line.
            endings = CHOICES if layout.family == "section" else OUTROS + CHOICES + TOTALS
        page.put("\n\n" + generator.choice(endings))


def as_reasoning(pieces: Sequence[Piece]) -> list[Piece]:
    return [(string, REASONING, -1) for string, _, _ in pieces]


def draft(page: Page, layout: Layout) -> tuple[list[Piece], tuple[str, ...]]:
    """The same layout with other texts, as reasoning."""
    texts = page.generator.sample(DRAFTS, len(page) if layout.family == "section" else min(len(page), 3))
    form = page.generator.choice(layout.forms)
    numbers, of = units(page.generator, len(texts), form.units[0])
    other = Page(page.generator, texts, [form.write(n, of) for n in numbers])
    layout.write(other)
    return as_reasoning(other.pieces), tuple(texts)


def reason(page: Page, layout: Layout) -> tuple[str, ...]:
    """Put a block of reasoning with a draft before the reply; the texts of the draft."""
    generator = page.generator
    opening, closing = generator.choice(REASONING_MARKS)
    texts: tuple[str, ...] = ()
    inside: list[Piece] = [(generator.choice(THOUGHTS), REASONING, -1)]
    if generator.random() < 0.7 and not layout.name.startswith("headings/"):
        pieces, texts = draft(page, layout)
        inside += [("\n", REASONING, -1), *pieces, ("\nNo, that is dull.", REASONING, -1)]
    page.pieces[:0] = [(opening, REASONING, -1), *inside, (closing, REASONING, -1)]
    return texts


def correct(page: Page, layout: Layout) -> tuple[str, ...]:
    """Put a draft and the announcement of a corrected version before the reply."""
    pieces, texts = draft(page, layout)
    fence = "```json\n" if layout.family == "json" else ""
    opening = [("Draft:\n" + fence, REASONING, -1)]
    closing = [("\n```" * bool(fence) + f"\n\n{page.choice(REPEATED)}\n" + fence, REASONING, -1)]
    page.pieces[:0] = [*opening, *pieces, *closing]
    if fence:
        page.put("\n```")
    return texts


def some_texts(generator: random.Random, pool: Sequence[str], k: int) -> list[str]:
    """`k` texts of which none is part of another, now and then several in a row as one."""
    texts = generator.sample(pool, k)
    if generator.random() < 0.3:
        more = [text for text in generator.sample(pool, min(len(pool), k + 12)) if text not in texts]
        at = generator.randrange(k)
        parts = [texts[at], *more[: generator.choice((1, 1, 2, 10))]]
        if not any("\n" in part for part in parts):
            texts[at] = " ".join(parts)
    return texts


def sound(generator: random.Random, layout: Layout) -> tuple[Page, list[Known], str, tuple[str, ...]]:
    """A reply in one layout: its page, its candidates, the name of what is around it, its drafts' texts."""
    low = 1 if layout.family in ("json", "jsonl", "xml", "python") else 2
    k = generator.choice((low, 2, 2, 3, 3, 4, 5, 6))
    texts = some_texts(generator, suitable(layout.excluded), k)
    form = generator.choice(layout.forms)
    numbers, of = units(generator, k, generator.choice(form.units), full=form is UNSIGNED)
    written: list[str | None] = [form.write(n, of) for n in numbers]
    stated: list[float | None] = [None if form in UNREADABLE else n / of for n in numbers]
    if layout.missing and generator.random() < 0.1:
        at = generator.randrange(k)
        written[at] = stated[at] = None
    if not layout.numbers:
        written, stated = [None] * k, [None] * k
    page = Page(generator, texts, written)
    around = ""
    drafts: tuple[str, ...] = ()
    roll = generator.random()
    if roll < 0.04 and layout.family in ("json", "list") and layout.name not in WITHOUT_DRAFT:
        layout.write(page)
        around, drafts = "+draft", correct(page, layout)
    else:
        body(page, layout)
        if roll < 0.2 and layout.family not in ("csv", "yaml"):
            around, drafts = "+reasoning", reason(page, layout)
    if generator.random() < 0.05:
        page.put(generator.choice(END_TOKENS))
        around += "+end"
    roll = generator.random()
    if roll < 0.03:
        page.pieces = [(string.replace("\n", "\r\n"), role, at) for string, role, at in page.pieces]
        around += "+crlf"
    elif roll < 0.06 and "+reasoning" not in around:
        page.pieces.insert(0, (generator.choice(STARTS), REASONING, -1))
        around += "+start"
    known = [Known(" ".join(text.split()), number) for text, number in zip(page.texts, stated, strict=True)]
    return page, known, around, drafts


# --- damage ---------------------------------------------------------------------------------------------------------

NOISE = ("(continued)", "...", "---", "[output truncated]", "Sure!", "​", "<br>", "***")
JUNK = (
    "}}",
    "]",
    "```",
    '"',
    "\n\n\n",
    "\n\nHope that helps!",
    "\n<|im_end|>\n<|im_start|>",
    " }]}",
    "\n\x00",
    ",",
)
CHARACTERS = "abcx 059.,:;\"'`{}[]()<>\\/|*#-\n\t%“”é中"
Damage = Callable[[random.Random, str, list[Piece]], "list[Edit] | None"]


def cut(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    at = generator.randint(1, len(text) - 1)
    return [Edit(at, len(text), "")]


def drop(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    at = generator.randrange(len(text))
    return [Edit(at, at + 1, "")]


def double(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    at = generator.randrange(len(text))
    return [Edit(at, at, text[at])]


def insert(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    at = generator.randrange(len(text))
    return [Edit(at, at, generator.choice(CHARACTERS))]


def swap_quote(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    places = [found.start() for found in re.finditer("[\"'“”]", text)]
    if not places:
        return None
    at = generator.choice(places)
    return [Edit(at, at + 1, generator.choice("\"'“”`"))]


def drop_sign(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    places = [found.start() for found in re.finditer(r"[\"'“”,:{}\[\]()<>|*\n]", text)]
    if not places:
        return None
    at = generator.choice(places)
    return [Edit(at, at + 1, "")]


def all_of(text: str, pieces: list[Piece], old: str, new: str) -> list[Edit] | None:
    """Replace `old` in one candidate's text."""
    edits, at = [], 0
    for string, role, _ in pieces:
        if role == TEXT and old in string:
            edits += [
                Edit(at + found.start(), at + found.end(), new) for found in re.finditer(re.escape(old), string)
            ]
        at += len(string)
    return edits or None


def unescape_quotes(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    return all_of(text, pieces, '\\"', '"')


def raw_newlines(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    # A backslash before the "n" would be an escaped backslash.
    if any("\\\\n" in string for string, role, _ in pieces if role == TEXT):
        return None
    return all_of(text, pieces, "\\n", "\n")


def single_backslashes(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    edits = all_of(text, pieces, "\\\\", "\\")
    # Where an escape is invalid all single backslashes are meant, so no other text may hold a true escape.
    if edits and any(re.search(r"(?<!\\)\\[ntu]", string) for string, role, _ in pieces if role == TEXT):
        return None
    if any("C:" in string for string, role, _ in pieces if role == TEXT):
        return None
    return edits


def unclose(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    """Leave out some of the closing brackets at the end."""
    found = re.search(r"[\]}\s,]+$", text)
    if not found or len(found[0].strip()) < 2:
        return None
    return [Edit(len(text) - generator.randint(1, len(found[0].strip()) - 1), len(text), "")]


def missing_commas(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    edits, at = [], 0
    for string, role, _ in pieces:
        if role == STRUCTURE and generator.random() < 0.5:
            edits += [
                Edit(at + found.start(), at + found.start() + 1, "")
                for found in re.finditer(r',(?=\s*\{")', string)
            ]
        at += len(string)
    return edits or None


def trailing_commas(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    edits, at = [], 0
    for string, role, _ in pieces:
        if role == STRUCTURE:
            edits += [Edit(at + found.start(), at + found.start(), ",") for found in re.finditer(r"[}\]]", string)]
        at += len(string)
    return [generator.choice(edits)] if edits else None


def noise(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    places = [found.end() for found in re.finditer("\n", text)]
    if not places:
        return None
    at = generator.choice(places)
    return [Edit(at, at, generator.choice(NOISE) + "\n")]


def junk(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    return [Edit(len(text), len(text), generator.choice(JUNK))]


def several(generator: random.Random, text: str, pieces: list[Piece]) -> list[Edit] | None:
    edits: list[Edit] = []
    for _ in range(generator.randint(2, 4)):
        new = generator.choice((drop, double, insert))(generator, text, pieces) or []
        edits += [edit for edit in new if all(edit.start != other.start for other in edits)]
    return sorted(edits)


ANY: dict[str, Damage] = {
    "cut": cut,
    "drop": drop,
    "double": double,
    "insert": insert,
    "swap-quote": swap_quote,
    "drop-sign": drop_sign,
    "noise": noise,
    "junk": junk,
    "several": several,
}
# Damage after which a person reads the same as before, in replies whose texts are JSON strings.
MENDABLE: dict[str, Damage] = {
    "unescaped-quotes": unescape_quotes,
    "raw-newlines": raw_newlines,
    "single-backslashes": single_backslashes,
    "unclosed": unclose,
    "missing-commas": missing_commas,
    "trailing-comma": trailing_commas,
}
WRAPPED = ("json/escaped-whole", "json/in-a-string", "json/entities", "json/tool-arguments")
# Layouts that nobody writes a draft in.
WITHOUT_DRAFT = (*WRAPPED, "json/tool-calls", "json/tool-call-tags", "json/schema-first")
NOT_MENDABLE = (*WRAPPED, "json/columns")


def apply(case: Case, edits: Sequence[Edit]) -> None:
    """Damage the reply, and note which candidates the damage may have changed."""
    pieces = case.pieces
    starts, at = [], 0
    for string, _, _ in pieces:
        starts.append(at)
        at += len(string)
    changed: list[list[Edit]] = [[] for _ in pieces]
    for edit in edits:
        _touch(case, edit, starts)
        _share(edit, pieces, starts, changed)
    result = []
    for number, (string, role, at) in enumerate(pieces):
        if changed[number]:
            parts, last = [], 0
            for edit in sorted(changed[number]):
                parts += [string[last : edit.start], edit.new]
                last = edit.end
            string = "".join((*parts, string[last:]))
        result.append((string, role, at))
    case.pieces = result
    case.reply = "".join(string for string, _, _ in result)
    case.edits = tuple(edits)


def _touch(case: Case, edit: Edit, starts: Sequence[int]) -> None:
    pieces = case.pieces
    met = [
        number
        for number, (string, _, _) in enumerate(pieces)
        if _meets(edit, starts[number], starts[number] + len(string))
    ]
    contents = [number for number in met if pieces[number][1] in (TEXT, NUMBER)]
    for number in contents:
        case.touched.add(pieces[number][2])
        (case.touched_numbers if pieces[number][1] == NUMBER else case.touched_texts).add(pieces[number][2])
    for number in met:
        if pieces[number][1] == STRUCTURE:
            before = next((p for p in reversed(pieces[:number]) if p[1] in (TEXT, NUMBER)), None)
            after = next((p for p in pieces[number + 1 :] if p[1] in (TEXT, NUMBER)), None)
            case.touched.update(p[2] for p in (before, after) if p)
            case.touched_labels.update(p[2] for p in (before, after) if p)
            case.touched_numbers.update(p[2] for p in (before, after) if p and p[1] == NUMBER)
            case.header_touched |= before is None or (
                after is not None and before[1] == TEXT and after[1] == NUMBER and before[2] != after[2]
            )
        elif pieces[number][1] == REASONING:
            case.reasoning_touched = True


def _meets(edit: Edit, start: int, end: int) -> bool:
    """Whether an edit changes a piece; what is inserted between two pieces meets both."""
    return start <= edit.start <= end if edit.start == edit.end else start < edit.end and edit.start < end


def _share(edit: Edit, pieces: Sequence[Piece], starts: Sequence[int], changed: list[list[Edit]]) -> None:
    """Give the edit to the pieces it changes; what it inserts between two pieces goes to the text or number."""
    owners = []
    for number, (string, _, _) in enumerate(pieces):
        start, end = starts[number], starts[number] + len(string)
        if edit.start == edit.end and start <= edit.start <= end:
            owners.append(number)
        elif edit.start < end and start < edit.end:
            inside = Edit(max(edit.start, start) - start, min(edit.end, end) - start, "")
            owners.append(number)
            changed[number].append(inside)
    if not edit.new and edit.start < edit.end:
        return
    owner = min(owners, key=lambda number: (pieces[number][1] in (STRUCTURE, REASONING), number))
    if edit.start == edit.end:
        offset = edit.start - starts[owner]
        changed[owner].append(Edit(offset, offset, edit.new))
    else:
        changed[owner][-1] = changed[owner][-1]._replace(new=edit.new)


def _mend(case: Case) -> None:
    """Where letters of a text changed and nothing else, what is left is its text."""
    whole: dict[int, list[str]] = {}
    plain = True
    for (old, role, at), (new, _, _) in zip(case.sound_pieces, case.pieces, strict=True):
        if old != new and role != TEXT:
            plain = False
        if role == TEXT:
            whole.setdefault(at, []).append(new)
            if old != new and not (_letters(old) and _letters(new)):
                plain = False
    if plain:
        case.mended = {at: " ".join(" ".join(parts).split()) for at, parts in whole.items() if at in case.touched}


def _letters(text: str) -> bool:
    return all(character.isalpha() or character == " " for character in text)


# --- cases ----------------------------------------------------------------------------------------------------------

WEIGHTED = [each for each in LAYOUTS for _ in range(1 if each.name.startswith(("list/", "before/")) else 6)]
SHAPES = (ReplyShape("candidates", k=3), ReplyShape("xml", k=3))


def case(seed: int, index: int, *, damaged: bool = True) -> Case:
    """Reply number `index` of a seed."""
    generator = random.Random(f"{seed}:{index}")
    name = f"{seed}:{index}"
    if generator.random() < 0.01:
        return refusal(generator, name)
    layout = generator.choice(WEIGHTED)
    page, known, around, drafts = sound(generator, layout)
    reply = "".join(string for string, _, _ in page.pieces)
    roll = generator.random()
    shape = None
    if roll < 0.25:
        shape = ReplyShape("candidates", k=len(known))
    elif roll < 0.35 or (roll < 0.6 and layout.family == "xml"):
        shape = ReplyShape("xml", k=len(known))
    made = Case(name, layout.name + around, "none", shape, known, reply, reply, page.pieces, drafts=drafts)
    if not damaged or generator.random() < 0.35:
        return made
    mendable = layout.family == "json" and layout.name not in NOT_MENDABLE and "draft" not in around
    kind = generator.choice((*ANY, *MENDABLE) if mendable else tuple(ANY))
    edits = (ANY.get(kind) or MENDABLE[kind])(generator, reply, page.pieces)
    if edits:
        made.damage = kind
        made.sound_pieces = made.pieces
        apply(made, edits)
        made.exact = kind in MENDABLE
        made.withdrawn = kind == "cut" and "+draft" in around
        if layout.header and made.header_touched:
            made.touched.update(range(len(known)))
            made.touched_numbers.update(range(len(known)))
        if kind in ("drop", "double", "insert", "several"):
            _mend(made)
    return made


def refusal(generator: random.Random, name: str) -> Case:
    text = generator.choice(REFUSALS)
    pieces: list[Piece] = [(text, STRUCTURE, -1)]
    return Case(name, "refusal", "none", None, [], text, text, pieces, refusal=True)


__all__ = ["LAYOUTS", "REASONING", "Case", "Edit", "Known", "case", "escaped", "plain_json"]
