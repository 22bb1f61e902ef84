"""How methods ask and read, as generators without I/O.

A method yields each `ChatRequest`, is sent its `ChatReply`, and returns a `Distribution`. It has no threads,
sockets or clocks; `outspoken.engine` drives it and raises the model's error inside it if a request fails. A method
that has candidates by then keeps them. For a tuple of requests, which are independent and sent at once, it is sent
the list of their replies, each of which may be an error.

`MethodRun` holds what all generators share: it writes the messages, reads the replies and builds the distribution.
A generator of your own can be as short as this::

    def generator(call, history=()):
        run, k = MethodRun(call), call.settings.k
        reply = yield run.request(run.opening(k), k)
        run.read(reply, k)
        return run.distribution(missing=k - run.distinct)
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from outspoken._version import __version__
from outspoken.candidate import Verbalized
from outspoken.chat import ChatRequest, Message
from outspoken.chat_reply import ChatReply, Usage
from outspoken.distribution import Distribution
from outspoken.errors import OutspokenError, PromptTooLongError, ProviderError, ReplyError, StoppedError
from outspoken.io.text import one_line
from outspoken.methods.call import MethodCall
from outspoken.methods.shortage import no_candidate, too_few
from outspoken.methods.table import METHODS, Wording
from outspoken.parsing import ParsedReply, parse
from outspoken.provenance import Provenance
from outspoken.reply_shape import ReplyShape
from outspoken.same_text import text_key

__all__ = ["MethodRun", "Steps", "start"]

Steps = Generator[ChatRequest | tuple[ChatRequest, ...], Any, Distribution]

_OUTSIDE = "outside the tail"
_FOUND_IN = {"reasoning": "in-reasoning", "tool_calls": "in-tool-call"}
_FAILURES = (ProviderError, PromptTooLongError, StoppedError)
_FIRST_ROOM, _MOST_ROOM = 1024, 16_384


def start(call: MethodCall, history: tuple[Message, ...] = ()) -> Steps:
    """The generator of the method that `call.settings` names.

    `history` is an earlier conversation of the same call that ends with the model's reply: the method continues it
    and asks for more. Methods without a conversation (direct, direct-cot) ignore it and start a new one.
    """
    k, turns = call.settings.k, call.settings.turns
    method = METHODS[call.settings.method]
    if method.generator is not None:
        return method.generator(call, history)
    if method.independent:
        return _independent(call)
    if method.candidates_per_request == "one":
        return _turn_by_turn(call, history)
    return _several_per_request(call, history, batch=k, goal=method.candidates(k, turns))


def _independent(call: MethodCall) -> Steps:
    """k replies of one candidate each, each in its own conversation.

    Repeated answers count, because sampling measures frequencies: they are not replaced by others. What cannot be
    read is asked for again at most `top_up` times; a refusal is an answer, and is not.
    """
    run = MethodRun(call)
    messages, wanted = run.opening(1), call.settings.k
    for _ in range(call.settings.top_up + 1):
        replies = yield tuple([run.request(messages, 1, ahead=at) for at in range(wanted)])
        wanted = sum([not run.read_one(reply) and not run.hopeless for reply in replies])
        if not wanted or run.stopped:
            break
    return run.distribution(missing=call.settings.k - len(run.inside))


def _turn_by_turn(call: MethodCall, history: tuple[Message, ...]) -> Steps:
    """k replies of one candidate each, in one conversation. Repeated answers count."""
    run = MethodRun(call)
    messages = run.ask_for_more(history, 1) if history else run.opening(1)
    top_up = call.settings.top_up
    while (wanted := call.settings.k - len(run.inside)) > 0:
        try:
            reply = yield run.request(messages, 1)
        except _FAILURES as error:
            run.stopped = error
            break
        readable = run.read(reply, 1)
        if call.settings.k - len(run.inside) == wanted:
            if top_up == 0 or run.hopeless:
                break
            top_up -= 1
        messages = run.follow_up(messages, reply, 1, readable=readable)
    return run.distribution(missing=wanted)


def _several_per_request(call: MethodCall, history: tuple[Message, ...], batch: int, goal: int) -> Steps:
    """Requests in one conversation for `batch` candidates each, until there are `goal` different ones.

    Candidates that are missing, unreadable, repeated or outside the tail are requested again in the conversation,
    at most `top_up` times in all. A text that an earlier reply already had is set aside.
    """
    run = MethodRun(call, unique=True)
    messages = run.ask_for_more(history, batch) if history else run.opening(batch)
    top_up, target, wanted = call.settings.top_up, batch, batch
    while True:
        try:
            reply = yield run.request(messages, wanted)
        except _FAILURES as error:
            run.stopped = error
            break
        readable = run.read(reply, wanted)
        if run.hopeless:
            break
        if run.distinct < target and top_up:
            top_up -= 1
        elif target < goal:
            target = min(target + batch, goal)
        else:
            break
        wanted = min(target - run.distinct, batch)
        messages = run.follow_up(messages, reply, wanted, readable=readable)
    return run.distribution(missing=goal - run.distinct)


class MethodRun:
    """One execution of a method: writes its messages, collects the candidates, builds the distribution.

    With `unique`, texts of earlier replies are set aside if they are repeated. `inside` are the candidates so far,
    `aside` those that were read and do not count, each with the reason; `distinct` is the number of different
    texts. `hopeless`: asking again after the last reply cannot help. `stopped` is the error that ended the
    requests. A reply at the limit of tokens doubles the room of further ones, unless `max_tokens` is set.
    """

    def __init__(self, call: MethodCall, *, unique: bool = False) -> None:
        self.call = call
        wordings = call.template.wordings
        method = call.settings.method
        self.wording: Wording = wordings[method] if method in wordings else call.template.wording(method)
        self.inside: list[Verbalized] = []
        self.aside: list[Verbalized] = []
        self.hopeless = self._cut_short = False
        self.stopped: ProviderError | PromptTooLongError | StoppedError | None = None
        self._unique = unique
        self._shape: ReplyShape | None = None
        self._keys: set[str] = set()
        self._reasoning: list[str] = []
        self._usage = Usage()
        self._requests = self._failed = 0
        self._refused = self._cut_off = 0
        self._room: int | None = None
        self._structured = True
        self._error: ReplyError | None = None

    @property
    def distinct(self) -> int:
        return len(self._keys)

    def shape(self, k: int) -> ReplyShape:
        """The form of a reply with `k` candidates."""
        if self._shape is None or self._shape.k != k:
            wording, tau, schema = self.wording, self.call.settings.tau, self.call.schema
            layout = (wording.reply, k, wording.weight_key, wording.scale, wording.reasoning)
            self._shape = ReplyShape(*layout, tau, schema)
        return self._shape

    def request(self, messages: tuple[Message, ...], k: int, *, ahead: int = 0) -> ChatRequest:
        """A request for `k` candidates, sent together with as many others before it as `ahead` says."""
        sampling = self.call.settings.sampling
        if sampling.seed is not None:
            # The same seed would only repeat the same reply.
            sampling = replace(sampling, seed=(sampling.seed + self._requests + ahead) % 2**32)
        if self._room is not None:
            sampling = replace(sampling, max_tokens=self._room)
        shape = self.shape(k)
        schema = shape.json_schema() if self.call.enforce else None
        return ChatRequest(messages, sampling, schema, shape)

    def opening(self, k: int) -> tuple[Message, ...]:
        """The caller's chat with its last turn worded by the template, and the template's system prompt."""
        wording = self.wording
        *earlier, last = self.call.messages
        system = self._fill(wording.system, k)
        if earlier and earlier[0].role in ("system", "developer"):
            first = earlier.pop(0)
            # A system prompt with a placeholder instructs; any other is only the default of the caller's.
            joined = f"{first.content}\n\n{system}" if "{" in wording.system else first.content
            earlier.insert(0, Message(first.role, joined))
        elif system:
            earlier.insert(0, Message("system", system))
        return (*earlier, Message("user", self._fill(wording.user, k, last.content)))

    def follow_up(
        self, messages: tuple[Message, ...], reply: ChatReply, k: int, *, readable: bool
    ) -> tuple[Message, ...]:
        """The conversation with the reply appended, and a turn that asks for `k` more or for a readable reply.

        A reply that was cut off before its first candidate ended, or that is empty, is left out.
        """
        if self._cut_short or not reply.text.strip():
            return messages
        conversation = (*messages, Message("assistant", reply.text))
        if readable:
            return self.ask_for_more(conversation, k)
        return (*conversation, Message("user", self._fill(self.call.template.clauses["unreadable"], k)))

    def ask_for_more(self, conversation: tuple[Message, ...], k: int) -> tuple[Message, ...]:
        """A conversation that ends with the model's reply, and a turn that asks for `k` more."""
        return (*conversation, Message("user", self._fill(self.wording.more, k)))

    def _fill(self, text: str, k: int, prompt: str = "") -> str:
        if "{" not in text:
            return text
        settings, schema, wording = self.call.settings, self.call.schema, self.wording
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
        return self.call.template.fill(text, values)

    def read_one(self, reply: ChatReply | OutspokenError) -> bool:
        """Collect the candidate of one of several replies; returns whether there is one.

        An error that a method can live with is the reason why it `stopped`; any other is raised.
        """
        if isinstance(reply, OutspokenError):
            if not isinstance(reply, _FAILURES):
                raise reply
            self.stopped = self.stopped or reply
            self._failed += 1
            return False
        before = len(self.inside)
        self.read(reply, 1)
        return len(self.inside) > before

    def read(self, reply: ChatReply, wanted: int) -> bool:
        """Collect the candidates of a reply to a request for `wanted`; returns whether it could be read."""
        self._usage = self._usage + reply.usage if self._requests else reply.usage
        self._requests += 1
        self._structured = self._structured and reply.structured
        before, readable, self.hopeless, self._cut_short = len(self.inside), True, False, False
        try:
            if reply.refusal:
                raise ReplyError(f"the model refused: {one_line(reply.refusal, 200)}", text=reply.refusal)
            shape = self.shape(wanted)
            if not reply.text.strip():
                raise ReplyError(reply.absence)
            if reply.found_in == "tool_calls" and shape.kind == "text" and shape.value_schema is None:
                raise ReplyError("the model called a tool instead of answering: reword the prompt")
            self._collect(reply, shape)
        except ReplyError as error:
            error.reply = reply
            self._error = error
            readable = False
            # The same request would be refused or filtered again.
            self.hopeless = bool(reply.refusal) or reply.finish == "content_filter"
        if self.hopeless:
            self._refused += 1
        elif reply.finish != "stop" and reply.cut_off:
            self._read_cut_off(reply, nothing=len(self.inside) == before)
        return readable

    def _read_cut_off(self, reply: ChatReply, *, nothing: bool) -> None:
        """Give the next request more room, as far as that is possible. `nothing`: no candidate was whole."""
        self._cut_off += 1
        if reply.finish == "length":
            used = reply.usage.completion_tokens or self._room or _FIRST_ROOM
            bounded = self.call.settings.max_tokens is not None or used >= _MOST_ROOM
            self._room = None if bounded else min(2 * used, _MOST_ROOM)
            self.hopeless = nothing and bounded
        if nothing:
            self._cut_short = True
            where = "at the token limit" if reply.finish == "length" else f"({reply.finish})"
            advice = "raise max_tokens" if reply.finish == "length" else "ask again"
            reason = f"the reply was cut off {where} before its first candidate ended: {advice}"
            self._error = ReplyError(reply.absence or reason, reply=reply)

    def _collect(self, reply: ChatReply, shape: ReplyShape) -> None:
        parsed = parse(reply.text, shape)
        reasoning = parsed.reasoning or reply.reasoning
        if reasoning and shape.kind != "answer":
            self._reasoning.append(reasoning)
        room = self.distinct + shape.k
        earlier = frozenset(self._keys) if self._unique else frozenset()
        number = self._requests + self._failed - 1
        meta: dict[str, object] = {"request": number} if number else {}
        if shape.kind == "answer" and reasoning:
            meta["reasoning"] = reasoning
        keys = [text_key(candidate.text) for candidate in parsed.candidates]
        found_in = _FOUND_IN.get(reply.found_in)
        cut_off = reply.finish != "stop" and reply.cut_off
        # A candidate that ends where the reply was cut off, without a mark of its end, may have gone on.
        unended = len(keys) - 1 if cut_off and _ends_with(reply, parsed) else len(keys)
        for place, (candidate, key) in enumerate(zip(parsed.candidates, keys, strict=True)):
            if meta:
                candidate = candidate._replace(meta={**candidate.meta, **meta})
            if found_in:
                candidate = candidate._replace(repairs=(*candidate.repairs, found_in))
            if shape.kind == "text" and cut_off:
                candidate = candidate._replace(repairs=(*candidate.repairs, "truncated"))
            elif place == unended or "truncated" in candidate.repairs:
                self._set_aside(candidate, "cut off: the reply ended inside this candidate")
                continue
            if shape.kind not in ("candidates", "xml"):
                candidate = candidate._replace(stated=None, log_stated=None)
            self._place(candidate, key, room, earlier)

    def _place(self, candidate: Verbalized, key: str, room: int, earlier: frozenset[str]) -> None:
        """Add a candidate to the distribution, or set it aside with the reason."""
        if self.call.validate is not None:
            try:
                value = self.call.validate(candidate.text if candidate.value is None else candidate.value)
                candidate = candidate._replace(value=value)
            except ValueError as error:
                self._set_aside(candidate, f"invalid: {one_line(str(error), 200)}")
                return
        tau = self.call.settings.tau
        if tau is not None and candidate.stated is not None and candidate.stated >= tau:
            self._set_aside(candidate, f"{_OUTSIDE}: stated at {candidate.stated:g}, tau is {tau:g}")
        elif key in earlier:
            self._set_aside(candidate, "repeated: an earlier reply said it")
        elif key not in self._keys and self.distinct >= room:
            self._set_aside(candidate, "surplus: more than were asked for")
        else:
            self._keys.add(key)
            self.inside.append(candidate)

    def _set_aside(self, candidate: Verbalized, reason: str) -> None:
        self.aside.append(candidate._replace(repairs=(*candidate.repairs, reason)))

    def distribution(self, missing: int) -> Distribution:
        """The distribution of the candidates inside, of which `missing` are lacking.

        Raises `ReplyError`, or the error that ended the requests, if there is no candidate, and `ShortReplyError`
        if some are missing and the setting `on_short` is "raise".
        """
        settings = self.call.settings
        if not self.inside:
            raise no_candidate(self.stopped, self._error, [] if self.hopeless else self.aside, tail=_OUTSIDE)
        messages = self.call.messages
        distribution = Distribution.from_verbalized(
            self.inside,
            missing=missing,
            set_aside=self.aside,
            reasoning=self._reasoning,
            stopped="" if self.stopped is None else str(self.stopped),
            refused=self._refused,
            cut_off=self._cut_off,
            provenance=Provenance(
                prompt=messages[0].content if len(messages) == 1 else tuple(m.to_dict() for m in messages),
                prompt_id=self.call.prompt_id,
                model=self.call.model,
                method=settings.method,
                template=self.call.template.name,
                template_hash=self.call.template.hash,
                k=settings.k,
                turns=settings.turns if METHODS[settings.method].turns else 1,
                tau=settings.tau,
                words=settings.words,
                sampling=settings.sampling.to_dict(),
                structured=self._structured,
                usage=self._usage,
                requests=self._requests,
                version=__version__,
            ),
        )
        if missing and settings.on_short == "raise":
            raise too_few(distribution, self._error) from self.stopped
        return distribution


def _ends_with(reply: ChatReply, parsed: ParsedReply) -> bool:
    """Whether a reply ends with the text of its last candidate."""
    return bool(parsed.candidates) and reply.text.rstrip().endswith(parsed.candidates[-1].text)
