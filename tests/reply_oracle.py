"""Whether what was read from a generated reply is right, or what is wrong with it is named by a repair."""

from __future__ import annotations

import html
import json
import random
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

from reply_generator import END_TOKENS, Case
from reply_layouts import NUMBER, TEXT

from outspoken.candidate import Verbalized
from outspoken.errors import ReplyError
from outspoken.parsing import ParsedReply, ReplyParser, parse
from outspoken.reply_shape import ReplyShape

# Repairs that say how the candidates were written. They name no loss: what is missing beside them is lost in silence.
HARMLESS = frozenset(
    {
        "as-list",
        "as-mapping",
        "as-pairs",
        "as-columns",
        "as-records",
        "as-table",
        "as-xml",
        "bad-escape",
        "decoded",
        "draft",
        "end-token",
        "fenced",
        "in-reasoning",
        "in-tool-call",
        "inner-quotes",
        "missing-comma",
        "numbered-keys",
        "odd-tags",
        "percent",
        "placeholder",
        "prefixed",
        "python-literal",
        "raw-newline",
        "section",
        "several",
        "smart-quotes",
        "suffixed",
        "text-probability",
        "think-block",
        "total",
        "trailing-comma",
        "unquoted",
        "weights",
        "wrong-key",
    }
)
# Repairs that say what is uncertain about the candidates that were read, and nothing of others.
ELSEWHERE = frozenset(
    {"missing-brace", "missing-quote", "odd-marker", "surrogate", "unmarked", "unreadable-probability"}
)
# Layouts in which the backslashes and quotes of JSON are escaped once more.
ENCODED_TWICE = ("json/escaped-whole", "json/in-a-string", "json/tool-arguments")
Read = Callable[[str, ReplyShape | None], ParsedReply]


class Violation(NamedTuple):
    """What is wrong with a reading."""

    kind: str
    detail: str


def key(text: str) -> str:
    """Letters and digits only."""
    return re.sub(r"[\W_]+", "", text)


def collapsed(text: str) -> str:
    return " ".join(text.split())


def close(a: float | None, b: float | None) -> bool:
    return a is b or (a is not None and b is not None and abs(a - b) <= 1e-6)


def readings(case: Case, read: Read = parse) -> tuple[ParsedReply | None, list[Violation]]:
    """Read the whole reply; None where there is no candidate."""
    try:
        return read(case.reply, case.shape), []
    except ReplyError:
        return None, []
    except Exception as error:  # what must not happen
        return None, [Violation("error", f"{type(error).__name__}: {error}"[:200])]


def judge(case: Case, reading: ParsedReply | None) -> list[Violation]:
    """What is wrong with a reading of a reply; an empty list if nothing is."""
    if reading is None:
        sound = case.damage == "none" and not case.refusal
        return [Violation("refused", "no candidate was read")] if sound else []
    if case.refusal:
        return [Violation("refusal", f"{len(reading.candidates)} candidates in a refusal")]
    found = list(_forms(reading.candidates))
    if case.damage == "none":
        found += _same(case, reading)
    elif not case.exact or _same(case, reading):
        found += Damaged(case, reading).judge()
    return found


def _forms(candidates: Sequence[Verbalized]) -> Iterator[Violation]:
    for entry in candidates:
        if not entry.text or entry.text != entry.text.strip():
            yield Violation("form", f"text {entry.text!r}")
        if entry.stated is not None and not 0 <= entry.stated <= 1:
            yield Violation("form", f"stated {entry.stated}")


def _same(case: Case, reading: ParsedReply) -> list[Violation]:
    """An undamaged reply is read as it was built."""
    texts = [collapsed(entry.text) for entry in reading.candidates]
    wanted = [known.text for known in case.known]
    found = []
    if any(draft in text for draft in case.drafts for text in texts):
        found.append(Violation("draft", "a draft is a candidate"))
    elif len(texts) != len(wanted):
        found.append(Violation("count", f"{len(texts)} candidates for {len(wanted)}"))
    elif texts != wanted:
        first = next(at for at, text in enumerate(texts) if text != wanted[at])
        found.append(Violation("text", f"{texts[first]!r} for {wanted[first]!r}"))
    elif any(
        not close(entry.stated, known.stated) for entry, known in zip(reading.candidates, case.known, strict=True)
    ):
        found.append(Violation("stated", str([entry.stated for entry in reading.candidates])))
    elif "+reasoning" in case.layout and not reading.reasoning:
        found.append(Violation("reasoning", "the reasoning is nowhere"))
    elif {"truncated", "unclosed", "guessed"} & names(reading):
        found.append(Violation("repair", f"a sound reply was repaired: {sorted(names(reading))}"))
    return found


def names(reading: ParsedReply) -> set[str]:
    return set(reading.repairs).union(*(entry.repairs for entry in reading.candidates))


_NUMBER = re.compile(r"[-+]?(\d+(?:[.,]\d+)?|[.,]\d+)(?:[eE]([-+]?\d{1,3}))?\s*(%|percent)?")
_FRACTION = re.compile(r"(\d+)\s*(?:/|in|out of)\s*(\d+)")
_ODDS = re.compile(r"(\d+)\s*:\s*(\d+(?:\.\d+)?)")
_SHARE = re.compile(r"(\d*\.\d+)\s*/\s*(10{0,3})")  # 0.7/1, 8.5/10: nobody can tell that a sign was put in.
_POWER = re.compile(r"([\d.,]+)\s*[x×]\s*10\s*\^?\s*(-?\d+)")
_ABOUT = re.compile(r"(?:~|≈|about|approximately|etwa|environ|circa|aproximadamente|およそ|约|약|около)\s*")
_SMALL = str.maketrans("٫٪％．，⁻⁰¹²³⁴⁵⁶⁷⁸⁹", ".%%.,-0123456789")


def value_of(written: str) -> float | None:
    """The number that a whole field is, or None if it is no plain number."""
    plain = "".join(
        str(unicodedata.digit(sign)) if sign.isdecimal() else sign for sign in written.translate(_SMALL)
    ).strip()
    plain = _ABOUT.sub("", plain, count=1)
    fraction = _FRACTION.fullmatch(plain)
    if fraction and int(fraction[2]):
        return int(fraction[1]) / int(fraction[2])
    if plain.endswith("/1"):
        return value_of(plain[:-2])
    odds = _ODDS.fullmatch(plain)
    if odds and int(odds[1]) + float(odds[2]):
        return int(odds[1]) / (int(odds[1]) + float(odds[2]))
    share = _SHARE.fullmatch(plain)
    if share:
        return float(share[1]) / int(share[2])
    power = _POWER.fullmatch(plain)
    if power:
        return value_of(f"{power[1]}e{power[2]}")
    found = _NUMBER.fullmatch(plain)
    if not found:
        return None
    number = float(found[1].replace(",", ".")) * 10.0 ** int(found[2] or 0)
    return number / 100 if found[3] else number


def values_of(written: str) -> set[float]:
    """What a number that was damaged may rightly be read as: the whole of it, or the part before a line break."""
    found = set()
    # A quote or a bracket beside a number changes nothing in it: nobody can tell that a digit is missing, too.
    first = written.split("\n")[0]
    for part in (
        written,
        first,
        *(_ABOUT.sub("", part).strip(" \"'“”`()[]{}<>$*|\\;").rstrip(".,-") for part in (written, first)),
    ):
        value = value_of(part)
        if value is not None:
            found |= {value, value / 100}
    return found


class Damaged:
    """The judgement of a damaged reply."""

    def __init__(self, case: Case, reading: ParsedReply) -> None:
        self.case = case
        self.reading = reading
        self.named = bool(set(reading.repairs) - HARMLESS)
        self.lost = case.withdrawn or bool(names(reading) - HARMLESS)
        # Where the mark that ends a draft is damaged, the draft may be the answer.
        unsure = case.withdrawn or (case.reasoning_touched and bool(case.drafts))
        self.lost_texts = unsure or bool(names(reading) - HARMLESS - {"unreadable-probability", "surrogate"})
        self.rescaled = {"weights", "percent"} & names(reading)
        self.found: list[Violation] = []
        self.covered: set[int] = set()  # candidates of which a text that was read, and named, holds something
        self.matched: dict[int, Verbalized] = {}
        self.contents: dict[int, str] = {}
        self.written: dict[int, str] = {}
        for string, role, at in case.pieces:
            if role == TEXT:
                self.contents[at] = self.contents.get(at, "") + " " + _once_encoded(string, case.layout)
            elif role == NUMBER:
                self.written[at] = self.written.get(at, "") + string
        self.by_text = {known.text: at for at, known in enumerate(case.known)}
        self.by_text |= {text: at for at, text in case.mended.items()}

    def add(self, kind: str, detail: str) -> None:
        self.found.append(Violation(kind, detail[:300]))

    def judge(self) -> list[Violation]:
        last = -1
        for entry in self.reading.candidates:
            text = collapsed(entry.text)
            at = self.by_text.get(text)
            if at is None:
                self.unknown(entry, text)
                continue
            if at in self.matched:
                self.add("twice", f"{text!r} twice")
                continue
            if at < last:
                self.add("order", f"{text!r} out of order")
            last = at
            self.matched[at] = entry
            self.weight(entry, {at})
        self.scale()
        for at in range(len(self.case.known)):
            if at not in self.matched:
                self.missing(at)
            elif (
                self.matched[at].stated is None
                and self.case.known[at].stated is not None
                and at not in self.case.touched
                and not self.lost
            ):
                self.add("weight-lost", f"{self.case.known[at].text!r} has no number")
        return self.found

    def allowed(self, at: int) -> set[float]:
        """The numbers that candidate `at` may have."""
        values = values_of(self.written.get(at, ""))
        own = self.case.known[at].stated
        terminated = at in self.case.touched_numbers and self.case.damage == "cut" and self.terminated(at)
        if terminated:
            values = set()
        if at in self.case.touched_texts:
            # A text with a number in it may end there now.
            for number in re.findall(r"[\d.,]*\d%?", self.contents.get(at, "")):
                values |= values_of(number)
        return values | ({own} if own is not None else set())

    def terminated(self, at: int) -> bool:
        """Whether the sound reply has a sign after the number, which says where it ends."""
        pieces = self.case.sound_pieces
        for number, (_, role, owner) in enumerate(pieces[:-1]):
            if role == NUMBER and owner == at:
                # A special token at the end is no sign of the answer: most replies come without it.
                following = pieces[number + 1][0]
                return not following[0].isspace() and following not in END_TOKENS
        return False

    def weight(self, entry: Verbalized, owners: set[int]) -> None:
        """A candidate's number is its own, or is named."""
        if entry.stated is None or self.named or set(entry.repairs) - HARMLESS:
            return
        values = set().union(*(self.allowed(at) for at in owners))
        if any(close(entry.stated, value) for value in values) or self.rescaled:
            return
        others = [known.text for known in self.case.known if close(known.stated, entry.stated)]
        whose = f", which is the number of {others[0]!r}" if others else ""
        self.add("weight", f"{entry.text[:60]!r} has {entry.stated}{whose}; own {sorted(values)}")

    def scale(self) -> None:
        """Where the reader took the numbers for weights, one factor must explain all of them."""
        if not self.rescaled or self.lost:
            return
        entries = [
            (entry.stated, self.case.known[at].stated)
            for at, entry in self.matched.items()
            if at not in self.case.touched
        ]
        factors = {round(read / own, 5) for read, own in entries if read and own}
        if len(factors - {1.0, 0.01}) > 1:
            self.add("scale", f"factors {sorted(factors)}")

    def unknown(self, entry: Verbalized, text: str) -> None:
        """A text that no candidate has: a damaged one, several run together, or something invented."""
        case = self.case
        cut_draft = case.damage == "cut" and collapsed(case.reply).endswith(text)
        if any(
            key(draft)[:8] in key(text)
            or (len(text) > 7 and text in draft)
            or (case.reasoning_touched and key(draft)[-(len(draft) + 1) // 4 :] in key(text))
            # A damaged draft below a damaged mark.
            or (case.reasoning_touched and (cut_draft and draft.startswith(text)))
            or (case.reasoning_touched and SequenceMatcher(None, draft, text).ratio() > 0.8)
            for draft in case.drafts
        ):
            if not case.reasoning_touched and not case.withdrawn and "unread" not in self.reading.repairs:
                self.add("draft", f"{text[:80]!r}")
            return
        named = self.named or bool(set(entry.repairs) - HARMLESS)
        owners = {at for at, written in self.contents.items() if _overlap(text, written, case.known[at].text)}
        if named:
            self.covered |= owners
        if not self.stands(text) and not (named and self.is_source(text)):
            self.add("invented", f"{text[:80]!r} stands nowhere in the reply")
        elif not owners:
            if not named and not self.left_over(entry, text):
                self.add("structure", f"{text[:80]!r} is no text of a candidate")
        elif len(owners) == 1 and self.labelled(text, min(owners)):
            self.matched[min(owners)] = entry
        elif (
            not owners & case.touched and not named and not (case.damage == "cut" and self.left_over(entry, text))
        ):
            self.add("altered", f"{text[:80]!r} for {case.known[min(owners)].text[:80]!r}, which was not damaged")
        if owners:
            self.weight(entry, owners)

    def labelled(self, text: str, at: int) -> bool:
        """Whether a text still has a label or a remark, where damage left no two labels to tell their kind by."""
        case = self.case
        whole = len(case.known) - len(case.touched_labels)
        return whole < 2 and at not in self.matched and case.known[at].text in text

    def left_over(self, entry: Verbalized, text: str) -> bool:
        """Whether a text is what the damage put in, a damaged remark at the end, or a label that was cut off."""
        contents = [number for number, piece in enumerate(self.case.pieces) if piece[1] in (TEXT, NUMBER)]
        end = "".join(piece[0] for piece in self.case.pieces[contents[-1] + 1 :]) if contents else ""
        sound = "".join(piece[0] for piece in self.case.sound_pieces[contents[-1] + 1 :]) if contents else ""
        if end != sound and key(text) in key(end):
            return True
        if self.case.damage == "cut" and entry.stated is None:
            return collapsed(self.case.reply).endswith(text)
        return any(key(text) in key(edit.new) for edit in self.case.edits)

    def stands(self, text: str) -> bool:
        """Whether all letters and digits of a text stand in the reply, as written or decoded."""
        once = _once_encoded(self.case.reply, self.case.layout)
        forms = [key(form) for form in (*_decoded(self.case.reply), *_decoded(once), once.replace("\\\n", ""))]
        forms.append(key(self.case.reply.replace("<![CDATA[", "").replace("]]>", "")))
        whole = key(text)
        if any(whole in form for form in forms):
            return True
        parts = re.findall(r"[a-zA-Z]+|\d+|[^\W\da-zA-Z_]+", text)
        return all(any(part in form for form in forms) for part in parts)

    def is_source(self, text: str) -> bool:
        """Whether a text is JSON of which all strings stand in the reply: its numbers may be written otherwise."""
        try:
            value = json.loads(text)
        except ValueError:
            return False
        return isinstance(value, (dict, list)) and all(map(self.stands, _strings(value)))

    def missing(self, at: int) -> None:
        """A candidate whose text was not read as it is."""
        case = self.case
        if self.lost_texts or not self.contents.get(at, "").strip():
            return
        if at not in case.touched:
            if at in self.covered:
                return
            self.add("lost", f"{case.known[at].text[:80]!r} was not read, and not damaged")
            return
        before = all(at < other for other in self.matched)
        after = all(at > other for other in self.matched)
        repairs = names(self.reading)
        if ("prefixed" in repairs and before) or ("suffixed" in repairs and after) or "section" in repairs:
            return
        out = " ".join(
            (
                *(entry.text for entry in self.reading.candidates),
                self.reading.reasoning,
                *(str(value) for entry in self.reading.candidates for value in entry.meta.values()),
            )
        )
        # A remark under an entry is kept without the name before it ("Note:").
        named = {"Note"} if any("note" in entry.meta for entry in self.reading.candidates) else set()
        missing = [word for word in _words(self.contents[at]) if word not in out and word not in named]
        if missing:
            self.add("silent", f"of {case.known[at].text[:80]!r} the words {missing[:4]} are nowhere")


def _once_encoded(written: str, layout: str) -> str:
    """What was written, without the encoding around the whole JSON, if the layout has one."""
    if layout.startswith("json/entities"):
        return html.unescape(written)
    return _ESCAPE.sub(_unescaped, written) if layout.startswith(ENCODED_TWICE) else written


_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([\"\\nrt]))")


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16)) if escape[1] else {"n": "\n", "r": "\r", "t": "\t"}.get(escape[2], escape[2])


def _strings(value: object) -> Iterator[str]:
    """The keys and strings of a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _strings(part)


def _words(written: str) -> list[str]:
    """Words of a text as it was written in the reply, without escapes and entities."""
    parts = re.split(r"\\u[0-9a-fA-F]{0,4}|\\.|&#?\w*;?", written, flags=re.DOTALL)
    return [word for part in parts for word in re.findall(r"[^\W_]{3,}", part)]


def _decoded(reply: str) -> Iterator[str]:
    yield reply
    once = re.sub(r"\\u([0-9a-fA-F]{4})", lambda found: chr(int(found[1], 16)), reply)
    once = once.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    once = once.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    yield re.sub(r"\\+[ntr]", " ", once)
    yield re.sub(r"\\+[ntrbf]", " ", once)


def _overlap(text: str, written: str, known: str) -> bool:
    """Whether a text that was read and what a candidate wrote have some of their letters in common."""
    a, b, c = key(text), key(written), key(known)
    if not a or not b:
        return False
    if key(_ESCAPE.sub(_unescaped, text)) == c:
        return True
    decoded = (*_decoded(written), _ESCAPE.sub(_unescaped, written)) if "\\" in written else ()
    forms = (b, c, *map(key, decoded))
    if any(a in form or form in a for form in forms if form):
        return True
    size = 4 if min(map(ord, b)) < 0x2E80 else 2
    return any(a[at : at + size] in form for form in forms for at in range(0, len(a) - size + 1, size))


def streamed(case: Case, whole: ParsedReply | None, generator: random.Random) -> list[Violation]:
    """Feed the reply in random pieces: what is handed out early is in the final reading, in order."""
    reply = case.reply
    cuts = sorted(generator.randrange(len(reply) + 1) for _ in range(generator.choice((1, 2, 5, 12))))
    reader = ReplyParser(case.shape)
    early: list[Verbalized] = []
    for start, end in zip([0, *cuts], [*cuts, len(reply)], strict=True):
        early += reader.feed(reply[start:end])
    try:
        closed: ParsedReply | None = reader.close()
    except ReplyError:
        closed = None
    found = []
    if closed != whole:
        found.append(Violation("stream-differs", f"fed in pieces: {closed}"[:300]))
    final = iter(closed.candidates if closed else ())
    for entry in early:
        if not any(entry.text == other.text and _agree(entry.stated, other.stated) for other in final):
            found.append(Violation("stream-early", f"{entry.text[:80]!r} {entry.stated} was handed out early"))
            break
    return found


def _agree(early: float | None, final: float | None) -> bool:
    return close(early, final) or (early is not None and early > 1)


def violations(case: Case, read: Read = parse, *, stream: bool = True) -> list[Violation]:
    """Read a reply whole and in pieces, and say what is wrong."""
    reading, found = readings(case, read)
    if found:
        return found
    found = judge(case, reading)
    if stream:
        found += streamed(case, reading, random.Random(case.name))
    return found
