"""Almost-JSON: literals of Python, JavaScript and other languages, calls, odd quotes, missing and surplus signs.

One pass from the opening bracket to the end of the value. Nothing is rejected for a single mistake: what cannot be
read is left out and named by a repair. `string_ends` decides where strings end, `calls` what a call stands for.
"""

from __future__ import annotations

import re
from typing import Any

from outspoken.parsing.calls import Fields, called
from outspoken.parsing.json_escapes import unescape
from outspoken.parsing.json_signs import CLOSERS, CLOSING_QUOTES, COMMAS, OPENERS, is_known, key_at
from outspoken.parsing.lenient_scalars import BARE, NOTHING, LenientValue, ScalarReader
from outspoken.parsing.string_context import Place
from outspoken.parsing.string_ends import StringEnds

__all__ = ["LenientValue", "relax"]

_MAX_DEPTH = 64

_STRAY_BEFORE_COLON = re.compile(r"[^\s\"'{}\[\],:：]{1,2}[:：]")
_HALF_KEY = re.compile(r"([^\"'“”{}\[\]\n:：]{1,400}+)[\"”]\s{0,9}[:：]")


class _RejectedError(Exception):
    """The text is not almost-JSON."""


def relax(text: str, start: int = 0, *, cut: bool = False, ends: StringEnds | None = None) -> LenientValue | None:
    """Read the object, list, tuple or call that opens at `start`; None if it is not almost-JSON.

    An object may lack its opening bracket.

    With `cut` the text may end before the value does. Values of one text may share the `ends` of its strings,
    whose work is bounded. Linear in the length of the text.
    """
    reader = _Reader(text, start, ends or StringEnds(text))
    try:
        if text[start] in CLOSING_QUOTES and reader.begins_object():
            reader.note("missing-brace")
            value = reader.fields()
        else:
            value = reader.value("item")
        if reader.again:
            value = [value, *reader.repeated()]
    except _RejectedError:
        return None
    finally:
        reader.ends.reached = reader.at
        reader.ends.too_deep = len(reader.closers) >= _MAX_DEPTH
    result = reader.result
    if value is NOTHING or (result.cut and not cut):
        return None
    result.value, result.end = value, reader.at
    result.repairs = list(dict.fromkeys(result.repairs))
    return result


class _Reader(ScalarReader):
    """The containers. `again` is set by an object that ended because its first key came again."""

    again = False

    def value(self, role: str, key: str = "") -> Any:
        """The value at the position, or `NOTHING`."""
        sign = self.text[self.at : self.at + 1]
        if sign in OPENERS:
            return self.container(sign)
        if sign in CLOSING_QUOTES:
            return self.string(role, key)
        match = BARE.match(self.text, self.at)
        if match is None:
            return self.words(role, key)
        return self.call(match[0]) if match["call"] else self.bare(match, role, key)

    def container(self, sign: str) -> Any:
        closer = OPENERS[sign]
        self.at += 1
        if sign not in "{[":
            self.note("python-literal" if sign == "(" else "smart-quotes")
        if closer == "}":
            return self.fields()
        items = self.items(closer)
        if closer == ")" and isinstance(items, list) and len(items) == 1 and isinstance(items[0], (str, Fields)):
            return items[0]
        return items

    def enter(self, closer: str) -> None:
        if len(self.closers) >= _MAX_DEPTH:
            raise _RejectedError
        self.closers.append(closer)
        self.again = False
        # An object may be a candidate, which is read again.
        self.ends.work -= 40 if closer == "}" else 15

    def next_entry(self, closer: str, separated: bool, *, filled: bool) -> tuple[str, bool]:
        """Pass over commas; returns the sign of the next entry, "" at the end, and whether a comma was there."""
        surplus = False
        while True:
            sign = self.skip()
            if not sign:
                self.cut("object" if closer == "}" and self.inner else "list")
                return "", separated
            if sign in CLOSERS:
                if surplus and closer != ")":
                    self.note("trailing-comma")
                if self.ends_here(sign):
                    return "", separated
            elif sign in COMMAS:
                if separated and filled:
                    self.note("trailing-comma")
                separated = surplus = True
                self.at += 1
            else:
                return sign, separated

    def fields(self) -> Any:
        """The fields of an object up to its end. A set has values without keys, and is a list."""
        self.enter("}")
        fields = Fields()
        self.inner.append(fields)
        separated = True
        while True:
            sign, separated = self.next_entry("}", separated, filled=bool(fields))
            if not sign:
                break
            if not separated:
                self.note("missing-comma")
            key = self.key(fields)
            if key is None:
                if self.result.cut:
                    break
                if sign in "{｛" and fields and self.is_sibling():
                    self.note("missing-brace")
                    break
                if not fields and (sign in OPENERS or sign in CLOSING_QUOTES):
                    return self.as_set()
                self.junk()
                continue
            if key in fields and key == next(iter(fields)):
                self.again = True
                self.note("missing-brace")
                break
            separated = False
            self.field(fields, key)
        self.closers.pop()
        self.inner.pop()
        return fields

    def as_set(self) -> Any:
        self.closers.pop()
        self.inner.pop()
        self.note("python-literal")
        return self.items("}")

    def repeated(self) -> list[Any]:
        """The objects after one that ended because its first key came again."""
        rows = []
        while self.again:
            rows.append(self.fields())
        return rows

    def is_sibling(self) -> bool:
        """Whether the next candidate begins here although the end of this one is missing."""
        found = key_at(self.text, self.after_blanks(self.at + 1))
        return found is not None and (found.name in self.inner[-1] or is_known(found.name))

    def key(self, fields: Fields) -> str | None:
        """The key at the position, which is then after its colon; the position of a repeated first key stays."""
        found = key_at(self.text, self.at)
        if found is None:
            return self.long_key(fields)
        if found.name not in fields or found.name != next(iter(fields)):
            self.at = found.end
            self.ends.bare_keys |= found.bare
            if found.repair:
                self.note(found.repair)
            if (
                found.repair == "missing-comma"
                and (stray := _STRAY_BEFORE_COLON.match(self.text, self.at)) is not None
            ):
                self.note("skipped")
                self.at = stray.end()
        return found.name

    def long_key(self, fields: Fields) -> str | None:
        """A key that is a text: with escapes, quotes or many words."""
        sign = self.text[self.at]
        if sign not in CLOSING_QUOTES:
            half = None if fields else _HALF_KEY.match(self.text, self.at)
            if half is None:
                return None
            self.note("missing-quote")
            self.at = half.end()
            return half[1]
        place = Place("key", self.closers)
        start = self.at + 1
        end = self.ends.find(start, CLOSING_QUOTES[sign], place)
        if end.repair == "truncated":
            self.at = end.after
            self.cut("object")
            return None
        if not self.ends.follows(end.after, place):
            return None
        if end.repair:
            self.note(end.repair)
        self.at = end.after
        name = unescape(self.text[start : end.end], self.repairs)
        if name in fields and name == next(iter(fields)):
            self.at = start - 1
            return name
        sign = self.skip()
        if sign.isdigit():
            self.note("missing-comma")
            return name
        self.at += 2 if self.text[self.at : self.at + 2] in ("=>", "->", ":=") else 1
        return name

    def field(self, fields: Fields, key: str) -> None:
        sign = self.skip()
        while sign in tuple(":：=") or (sign in CLOSERS and CLOSERS[sign] not in self.closers):
            if sign in CLOSERS:
                self.note("missing-brace")
            self.at += 1
            sign = self.skip()
        if sign and sign in COMMAS:
            # A comma before the value, and not in its place.
            after = self.after_blanks(self.at + 1)
            if self.text[after : after + 1] in CLOSING_QUOTES and key_at(self.text, after) is None:
                self.note("skipped")
                self.at, sign = after, self.text[after]
        if sign in COMMAS or sign in CLOSERS or not sign:
            if sign:
                fields[key] = None
            return
        value = self.value("value", key)
        if self.again:
            value = [value, *self.repeated()]
        if value is not NOTHING:
            fields[key] = value

    def ends_here(self, sign: str) -> bool:
        """Whether a closing bracket ends the container; a bracket that fits nothing is passed over."""
        kind = CLOSERS[sign]
        if kind == self.closers[-1]:
            self.at += 1
            return True
        self.note("missing-brace")
        if kind not in self.closers or self.is_surplus():
            self.at += 1
            return False
        return True

    def is_surplus(self) -> bool:
        """Whether more values follow after the bracket at the position, so that it ends nothing."""
        if self.closers[-1] == "}":
            return False
        after = self.after_blanks(self.at + 1)
        sign = self.text[after : after + 1]
        if sign in CLOSERS:
            return CLOSERS[sign] == self.closers[-1]
        after = self.after_blanks(after + 1)
        return sign in tuple(COMMAS) and self.text[after : after + 1] in tuple("{[(")

    def items(self, closer: str) -> Any:
        """The entries of a list up to its end. One that begins with a key is an object."""
        self.enter(closer)
        items: list[Any] = []
        words: list[int] = []
        keyed = has_objects = False
        separated = True
        while True:
            sign, separated = self.next_entry(closer, separated, filled=True)
            if not sign:
                break
            start = self.at
            if self.begins_object():
                keyed |= not items
                if items:
                    self.note("missing-brace")
                    if closer == "}":
                        self.result.repairs.append("guessed")
                value = self.fields()
            elif has_objects and self.is_remark(sign):
                value = NOTHING
            else:
                value = self.value("argument" if closer == ")" else "item")
            if value is NOTHING:
                self.junk()
                continue
            if not separated:
                self.note("missing-comma")
                if closer == "}":
                    self.note("guessed")
            if isinstance(value, (list, Fields)) and words:
                # Words between the entries.
                self.note("skipped")
                first, dropped = words[0], set(words)
                items[first:] = [item for at, item in enumerate(items[first:], first) if at not in dropped]
                words = []
            if has_objects and not separated and isinstance(value, (int, float)):
                self.note("skipped")
            separated = False
            has_objects |= isinstance(value, Fields)
            if isinstance(value, str) and sign not in CLOSING_QUOTES and not BARE.match(self.text, start):
                words.append(len(items))
            items.append(value)
            items += self.repeated()
        self.closers.pop()
        return items[0] if keyed and len(items) == 1 else items

    def is_remark(self, sign: str) -> bool:
        """Whether words stand between the objects of a list."""
        return sign not in OPENERS and sign not in CLOSING_QUOTES and not BARE.match(self.text, self.at)

    def begins_object(self) -> bool:
        """Whether an object without its opening bracket begins here."""
        found = key_at(self.text, self.at)
        if found is None or found.repair == "missing-comma":
            return False
        return not found.bare or is_known(found.name) or found.repair == "python-literal" or found.name.isdigit()

    def call(self, token: str) -> Any:
        """A call or a constructor: its arguments are the fields of an object."""
        self.at += len(token)
        self.enter(")")
        fields = Fields()
        self.ends.bare_keys = True
        fields.repairs.append("python-literal")
        self.inner.append(fields)
        positional: list[Any] = []
        while True:
            sign, _ = self.next_entry(")", separated=False, filled=False)
            if not sign:
                break
            key = key_at(self.text, self.at)
            if key is not None and key.repair in ("", "python-literal", "unquoted"):
                self.at = key.end
                self.field(fields, key.name)
                continue
            value = self.value("argument")
            if value is NOTHING:
                self.junk()
                continue
            if isinstance(value, str) and sign not in CLOSING_QUOTES and not value[:1].isdigit():
                self.note("guessed")
            positional.append(value)
        self.closers.pop()
        self.inner.pop()
        return called(token.rstrip("( ").rpartition(" ")[2], positional, fields)
