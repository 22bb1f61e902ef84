"""The seven methods, as generators without I/O.

A method yields each `ChatRequest`, is sent its `ChatReply`, and returns a `Distribution`. It knows nothing of
threads, sockets or time; `outspoken.engine` drives it, and throws the model's error in where a request failed: a
method that has candidates by then keeps them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from outspoken._version import __version__
from outspoken.chat import ChatReply, ChatRequest, Message, Usage
from outspoken.distribution import Distribution, Verbalized
from outspoken.errors import (
    PromptTooLongError,
    ProviderError,
    ReplyError,
    ShortReplyError,
    StoppedError,
    TailError,
)
from outspoken.parsing import parse
from outspoken.provenance import Provenance
from outspoken.reply_shape import ReplyShape
from outspoken.same_text import text_key
from outspoken.settings import Settings
from outspoken.templates import Template, Wording

__all__ = ["ABOUT", "Ask", "Steps", "steps"]

Steps = Generator[ChatRequest, ChatReply, Distribution]

_OUTSIDE = "outside the tail"
_FAILURES = (ProviderError, PromptTooLongError, StoppedError)

ABOUT: Mapping[str, str] = {
    "direct": "the prompt itself; k calls of one candidate each",
    "direct-cot": "think first, then one answer; k calls of one candidate each",
    "sequence": "k answers in one call, no probabilities",
    "multi-turn": "one answer a turn in one conversation, k turns",
    "vs-standard": "k answers and their probabilities in one call",
    "vs-cot": "think first, then k answers and their probabilities",
    "vs-multi": "vs-standard, then k more a turn in the same conversation",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """Everything a method needs: the chat, the settings, and what is known of the model.

    `enforce` says that the model's decoder takes a JSON schema. `schema` is the caller's JSON schema for
    structured candidates and `validate` turns a JSON value into the candidate's value or raises `ValueError`.
    `prompt_id` is the caller's name for the prompt, of which the distribution tells.
    """

    messages: tuple[Message, ...]
    settings: Settings
    template: Template
    model: str = ""
    enforce: bool = False
    schema: Mapping[str, Any] | None = None
    validate: Callable[[Any], Any] | None = None
    prompt_id: str = ""


def steps(ask: Ask, history: tuple[Message, ...] = ()) -> Steps:
    """The generator of the method that `ask.settings` names.

    With `history`, an earlier conversation of the same `ask` that ends with the model's reply, it goes on there
    and asks for more; direct and direct-cot have no conversation and begin anew.
    """
    settings = ask.settings
    if settings.method in ("direct", "direct-cot"):
        return _sample(ask, ())
    if settings.method == "multi-turn":
        return _sample(ask, history)
    turns = settings.turns if settings.method == "vs-multi" else 1
    return _converse(ask, history, batch=settings.k, goal=settings.k * turns)


def _sample(ask: Ask, history: tuple[Message, ...]) -> Steps:
    """k replies of one candidate each; in one conversation for multi-turn, else each on its own.

    Equal answers are frequency, which is what one came to see, so nothing is asked anew for them.
    """
    run = _Run(ask)
    messages = run.going_on(history, 1) if history else run.opening(1)
    retries = ask.settings.retries
    while (wanted := ask.settings.k - len(run.inside)) > 0:
        try:
            reply = yield run.request(messages, 1)
        except _FAILURES as error:
            run.stopped = error
            break
        readable = run.take(reply, 1)
        if ask.settings.k - len(run.inside) == wanted:
            if retries == 0 or run.hopeless:
                break
            retries -= 1
        if ask.settings.method == "multi-turn":
            messages = run.follow_up(messages, reply, 1, readable=readable)
    return run.finish(missing=wanted)


def _converse(ask: Ask, history: tuple[Message, ...], batch: int, goal: int) -> Steps:
    """Calls in one conversation, `batch` candidates each, until there are `goal` different ones.

    What a reply lacks (too few, unreadable, repeated or outside the tail) is asked for again in the
    conversation, at most `retries` times in all. An answer that comes again in a later reply adds nothing to
    what was said of it before and is set aside.
    """
    run = _Run(ask, unique=True)
    messages = run.going_on(history, batch) if history else run.opening(batch)
    retries, target, wanted = ask.settings.retries, batch, batch
    while True:
        try:
            reply = yield run.request(messages, wanted)
        except _FAILURES as error:
            run.stopped = error
            break
        readable = run.take(reply, wanted)
        if run.hopeless:
            break
        if run.distinct < target and retries:
            retries -= 1
        elif target < goal:
            target = min(target + batch, goal)
        else:
            break
        wanted = min(target - run.distinct, batch)
        messages = run.follow_up(messages, reply, wanted, readable=readable)
    return run.finish(missing=goal - run.distinct)


@dataclass(slots=True)
class _Run:
    """What has been asked and read so far in one execution of a method."""

    ask: Ask
    unique: bool = False
    inside: list[Verbalized] = field(default_factory=list)
    aside: list[Verbalized] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    reasoning: list[str] = field(default_factory=list)
    usage: Usage = Usage()
    requests: int = 0
    structured: bool = True
    error: ReplyError | None = None
    hopeless: bool = False
    stopped: ProviderError | PromptTooLongError | StoppedError | None = None

    @property
    def distinct(self) -> int:
        return len(self.keys)

    @property
    def wording(self) -> Wording:
        return self.ask.template.wordings[self.ask.settings.method]

    # Asking.

    def shape(self, k: int) -> ReplyShape:
        wording = self.wording
        return ReplyShape(
            kind=wording.reply,
            k=k,
            weight=wording.weight_key,
            scale=wording.scale,
            reasoning=wording.reasoning,
            tau=self.ask.settings.tau,
            value_schema=self.ask.schema,
        )

    def request(self, messages: tuple[Message, ...], k: int) -> ChatRequest:
        sampling = self.ask.settings.sampling
        if sampling.seed is not None:
            # Another draw needs another seed: the same one would only repeat the same reply.
            sampling = replace(sampling, seed=(sampling.seed + self.requests) % 2**32)
        shape = self.shape(k)
        schema = shape.json_schema() if self.ask.enforce else None
        return ChatRequest(messages, sampling, schema, shape)

    def opening(self, k: int) -> tuple[Message, ...]:
        """The caller's chat, its last turn worded by the template, instructions joined to its system prompt."""
        wording = self.wording
        *history, last = self.ask.messages
        system = self._fill(wording.system, k)
        if history and history[0].role in ("system", "developer"):
            own = history.pop(0)
            # A system prompt that names a value is an instruction; any other is a stand-in for the caller's own.
            joined = f"{own.content}\n\n{system}" if "{" in wording.system else own.content
            history.insert(0, Message(own.role, joined))
        elif system:
            history.insert(0, Message("system", system))
        return (*history, Message("user", self._fill(wording.user, k, last.content)))

    def follow_up(
        self, messages: tuple[Message, ...], reply: ChatReply, k: int, *, readable: bool
    ) -> tuple[Message, ...]:
        """The conversation with the reply in it and a turn that asks for `k` more, or for a readable answer."""
        if not reply.text.strip():
            return messages
        said = (*messages, Message("assistant", reply.text))
        if readable:
            return self.going_on(said, k)
        return (*said, Message("user", self._fill(self.ask.template.clauses["unreadable"], k)))

    def going_on(self, said: tuple[Message, ...], k: int) -> tuple[Message, ...]:
        """A conversation that ends with the model's reply, and a turn that asks for `k` more."""
        return (*said, Message("user", self._fill(self.wording.more, k)))

    def _fill(self, text: str, k: int, prompt: str = "") -> str:
        settings, schema = self.ask.settings, self.ask.schema
        wording = self.wording
        values: dict[str, object] = {
            "k": k,
            "total": settings.k * settings.turns,
            "weight_key": wording.weight_key,
            "definition": wording.definition,
            "text_key": {"answer": "response", "candidates": "text"}.get(wording.reply, "response"),
            "input_prompt": prompt,
        }
        if settings.words is not None:
            values["words"] = settings.words
        if settings.tau is not None:
            values["tau"] = f"{settings.tau:g}"
        if schema is not None:
            values["schema"] = json.dumps(schema, ensure_ascii=False)
        return self.ask.template.fill(text, values)

    # Reading.

    def take(self, reply: ChatReply, wanted: int) -> bool:
        """Read a reply into candidates; returns whether it could be read."""
        self.requests += 1
        self.usage += reply.usage
        self.structured = self.structured and reply.structured
        had, readable = len(self.inside), True
        try:
            if reply.refusal:
                raise ReplyError(f"the model refused: {_short(reply.refusal)}", text=reply.refusal)
            self._read(reply, self.shape(wanted))
        except ReplyError as error:
            error.reply = reply
            self.error = error
            readable = False
            # Asking again would be refused or filtered again.
            self.hopeless = bool(reply.refusal) or reply.finish == "content_filter"
        if len(self.inside) == had and reply.finish == "length":
            why = "the reply was cut off at the token limit before its first candidate ended: raise max_tokens"
            self.error = ReplyError(why, reply=reply)
            self.hopeless = True
        return readable

    def _read(self, reply: ChatReply, shape: ReplyShape) -> None:
        reading = parse(reply.text, shape)
        reasoning = reading.reasoning or reply.reasoning
        if reasoning and shape.kind != "answer":
            self.reasoning.append(reasoning)
        room = self.distinct + shape.k
        earlier = frozenset(self.keys) if self.unique else frozenset()
        meta: dict[str, Any] = {"request": self.requests - 1} if self.requests > 1 else {}
        if shape.kind == "answer" and reasoning:
            meta["reasoning"] = reasoning
        for entry in reading.candidates:
            if meta:
                entry = entry._replace(meta={**entry.meta, **meta})
            if shape.kind == "text" and reply.finish == "length":
                entry = entry._replace(repairs=(*entry.repairs, "truncated"))
            elif "truncated" in entry.repairs:
                self._set_aside(entry, "cut off: the reply ended inside this candidate")
                continue
            if shape.kind not in ("candidates", "xml"):
                entry = entry._replace(stated=None, log_stated=None)
            self._place(entry, room, earlier)

    def _place(self, entry: Verbalized, room: int, earlier: frozenset[str]) -> None:
        """Put a candidate into the distribution, or aside with the reason."""
        if self.ask.validate is not None:
            try:
                value = self.ask.validate(entry.text if entry.value is None else entry.value)
                entry = entry._replace(value=value)
            except ValueError as error:
                self._set_aside(entry, f"invalid: {_short(str(error))}")
                return
        tau, key = self.ask.settings.tau, text_key(entry.text)
        if tau is not None and entry.stated is not None and entry.stated >= tau:
            self._set_aside(entry, f"{_OUTSIDE}: stated at {entry.stated:g}, tau is {tau:g}")
        elif key in earlier:
            self._set_aside(entry, "repeated: an earlier reply said it")
        elif key not in self.keys and self.distinct >= room:
            self._set_aside(entry, "surplus: more than were asked for")
        else:
            self.keys.add(key)
            self.inside.append(entry)

    def _set_aside(self, entry: Verbalized, why: str) -> None:
        self.aside.append(entry._replace(repairs=(*entry.repairs, why)))

    def finish(self, missing: int) -> Distribution:
        """The distribution of all that was read.

        Raises `ReplyError`, or the error that stopped it, where that is nothing, and `ShortReplyError` where
        some is missing and the caller wants to know.
        """
        settings = self.ask.settings
        if not self.inside:
            if self.stopped is not None:
                raise self.stopped
            if self.aside and not self.hopeless:
                outside = all(entry.repairs[-1].startswith(_OUTSIDE) for entry in self.aside)
                raise (TailError if outside else ReplyError)(
                    f"none of the {len(self.aside)} candidates can be used; the first is "
                    f"{self.aside[0].repairs[-1]}" + (": raise tau, or leave it out" if outside else ""),
                    text="\n".join(entry.text for entry in self.aside),
                    reply=self.error.reply if self.error else None,
                )
            raise self.error or ReplyError("the model gave no candidate")
        messages = self.ask.messages
        alone = len(messages) == 1
        distribution = Distribution.from_verbalized(
            self.inside,
            missing=missing,
            set_aside=self.aside,
            reasoning=self.reasoning,
            stopped="" if self.stopped is None else str(self.stopped),
            provenance=Provenance(
                prompt=messages[0].content if alone else tuple(m.to_dict() for m in messages),
                prompt_id=self.ask.prompt_id,
                model=self.ask.model,
                method=settings.method,
                template=self.ask.template.name,
                template_hash=self.ask.template.hash,
                k=settings.k,
                turns=settings.turns if settings.method == "vs-multi" else 1,
                tau=settings.tau,
                words=settings.words,
                sampling=settings.sampling.to_dict(),
                structured=self.structured,
                usage=self.usage,
                requests=self.requests,
                version=__version__,
            ),
        )
        if missing and settings.on_short == "raise":
            raise ShortReplyError(
                f"{missing} of {missing + len(self.keys)} candidates are missing after {self.requests} requests: "
                "raise retries, lower k, or take what came",
                distribution=distribution,
                reply=self.error.reply if self.error else None,
            ) from self.stopped
        return distribution


def _short(text: str, most: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
