"""What a client of OpenAI's chat completions asks, read into a `ChatCall`. No HTTP here.

A verbalized model's settings say what one distribution is made of, so `n`, `seed`, `stop` and who asks are not
among them: clients that differ in these alone draw from the same pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jiter

from outspoken import templates
from outspoken.chat import Message
from outspoken.errors import UsageError
from outspoken.serve.openai.fields import NO_TOOLS, RequestError, flag, messages_of, number, shown, text, whole
from outspoken.settings import MAX_K, Settings
from outspoken.templates import METHODS

__all__ = ["SUFFIXES", "ChatCall", "may_verbalize", "read_chat", "read_json", "verbalizes"]

SUFFIXES: Mapping[str, str] = {":vs": "vs-standard", ":vs-cot": "vs-cot", ":vs-multi": "vs-multi"}

MAX_N = 128
_MAX_STOPS = 16
_LONGEST_STOP = 1000

_OWN = ("method", "k", "tau", "template", "turns", "words", "fresh", "structured", "recycle")
_SAMPLING = {"temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed"}
_HANDLED = frozenset({"model", "messages", "n", "stream", "stream_options", "outspoken", *_SAMPLING})
# Who asks, and what the provider's console shows of it: a draw may come from another client's call.
_OF_THE_CALLER = frozenset(
    {"user", "safety_identifier", "metadata", "store", "prompt_cache_key", "prompt_cache_retention"}
)
_MEANS_NOTHING: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "tools": ([],),
    "functions": ([],),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
}
_REFUSED: Mapping[str, str] = {
    "logprobs": "a draw has no log-probabilities of its tokens, its own probability is in choices[].outspoken",
    "top_logprobs": "a draw has no log-probabilities of its tokens",
    "tools": NO_TOOLS,
    "tool_choice": NO_TOOLS,
    "functions": NO_TOOLS,
    "function_call": NO_TOOLS,
    "response_format": "its answers are plain text",
    "modalities": "its answers are plain text",
    "audio": "its answers are plain text",
    "prediction": "its answers are drawn, not predicted",
    "web_search_options": "it does not search",
}
_SEVERAL_IN_A_REPLY = frozenset({"sequence", "vs-standard", "vs-cot", "vs-multi"})
_TOKENS_AROUND_A_CANDIDATE = 48
_TOKENS_OF_THOUGHT = 1024
_LONGEST_REPLY = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """One call of a client.

    `asked` is the model's name as the client wrote it and `model` the same without the suffix. `verbalized` says
    that the name has a suffix, or the request a field `outspoken`. `settings` say how a distribution is made;
    where the call is not verbalized their method is `direct` with k = 1, and they hold its `seed` and `stop`,
    too. `n` choices are wanted, each cut at the first of `stop`. `seed` has been brought into the range 0 to
    2^32 - 1. `fresh` asks for a distribution of its own; `structured` whether the decoder enforces the shape of a
    reply (None: where it can); without `recycle` a draw fails where everything was handed out.
    """

    asked: str
    model: str
    messages: tuple[Message, ...]
    settings: Settings
    verbalized: bool = False
    n: int = 1
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stream: bool = False
    include_usage: bool = False
    fresh: bool = False
    structured: bool | None = None
    recycle: bool = True


def read_json(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body. Raises `RequestError` where it is something else."""
    try:
        payload = jiter.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}", code="invalid_json") from None
    if not isinstance(payload, dict):
        raise RequestError("the body must be a JSON object")
    return payload


def may_verbalize(body: bytes) -> bool:
    """Whether a body holds what `verbalizes` looks for, whatever else it is: no other need be read."""
    return b":vs" in body or b"outspoken" in body or b"\\u" in body


def verbalizes(payload: Mapping[str, Any]) -> bool:
    """Whether a request asks for a draw: its model's name has a suffix, or it has the field `outspoken`."""
    model = payload.get("model")
    return payload.get("outspoken") is not None or (isinstance(model, str) and model.endswith(tuple(SUFFIXES)))


def read_chat(
    body: bytes | Mapping[str, Any],
    *,
    defaults: Settings = Settings(),
    most_k: int = MAX_K,
    most_n: int = MAX_N,
    always: bool = False,
) -> ChatCall:
    """Read the body of a chat completion, as bytes or decoded.

    `defaults` hold what the request does not say. `most_k` bounds the candidates of a distribution and `most_n`
    the choices of a call. With `always` the call is verbalized whatever the model's name. Fields that we do not
    know are passed on to the model (`settings.extra`). Raises `RequestError`, and nothing else, for a request
    that cannot be answered.
    """
    payload = read_json(body) if isinstance(body, bytes) else body
    given = {name: value for name, value in payload.items() if value is not None}
    _refuse(given)
    asked = text(given, "model")
    if not asked:
        raise RequestError("say which model to ask: the field model is missing", param="model")
    own = _own(given)
    model, method = _split(asked, own)
    verbalized = always or verbalizes(given)
    stream = flag(given, "stream") or False
    seed = whole(given, "seed", -(2**63), 2**64 - 1)
    seed = None if seed is None else seed % 2**32
    stop = _stops(given)
    try:
        return ChatCall(
            asked=asked,
            model=model,
            messages=messages_of(given),
            settings=_settings(given, own, defaults, method, most_k)
            if verbalized
            else _direct(given, defaults, seed, stop),
            verbalized=verbalized,
            n=whole(given, "n", 1, most_n, "make several calls") or 1,
            seed=seed,
            stop=stop,
            stream=stream,
            include_usage=_include_usage(given, stream),
            fresh=flag(own, "fresh", "outspoken.fresh") or False,
            structured=flag(own, "structured", "outspoken.structured"),
            recycle=flag(own, "recycle", "outspoken.recycle") is not False,
        )
    except RequestError:
        raise
    except UsageError as error:
        raise RequestError(str(error), param=_at_fault(str(error), given, own)) from error


def _at_fault(message: str, given: Mapping[str, Any], own: Mapping[str, Any]) -> str | None:
    """The field that a message of our settings is about: it begins with its name."""
    name = message.partition(" ")[0]
    return name if name in given else f"outspoken.{name}" if name in own else None


def _refuse(given: Mapping[str, Any]) -> None:
    for name, why in _REFUSED.items():
        if name in given and given[name] not in _MEANS_NOTHING.get(name, ()):
            raise RequestError(
                f"{name} cannot be had here: {why}; leave it out, or ask a model that is passed through",
                code="unsupported_parameter",
                param=name,
            )


def _own(given: Mapping[str, Any]) -> dict[str, Any]:
    own = given.get("outspoken", {})
    if not isinstance(own, Mapping):
        raise RequestError(f"outspoken must be an object with any of: {', '.join(_OWN)}", param="outspoken")
    for name in own:
        if name not in _OWN:
            raise RequestError(
                f"outspoken has no field {shown(name)}; known: {', '.join(_OWN)}", param="outspoken"
            )
    return {name: value for name, value in own.items() if value is not None}


def _split(asked: str, own: Mapping[str, Any]) -> tuple[str, str | None]:
    """The model's name without its suffix, and the method that the suffix or the field asks for."""
    said = text(own, "method", "outspoken.method") or None
    if said is not None and said not in METHODS:
        known = ", ".join(METHODS)
        raise RequestError(f"unknown method {shown(said)}; known: {known}", param="outspoken.method")
    for suffix, method in SUFFIXES.items():
        if asked.endswith(suffix):
            if said not in (None, method):
                raise RequestError(
                    f"the model's name asks for {method} and outspoken.method for {shown(said)}: leave one out",
                    param="outspoken.method",
                )
            return asked.removesuffix(suffix), method
    return asked, said


def _settings(
    given: Mapping[str, Any], own: Mapping[str, Any], defaults: Settings, method: str | None, most_k: int
) -> Settings:
    """The settings of a distribution. A client's limit of tokens is one choice's, a reply holds k candidates."""
    method = method or defaults.method
    k = whole(own, "k", 1, most_k, "for more draws make more calls", "outspoken.k") or min(defaults.k, most_k)
    turns = whole(own, "turns", 1, most_k, param="outspoken.turns") or defaults.turns
    if method == "vs-multi" and k * turns > most_k:
        if "turns" in own:
            raise RequestError(f"k times turns may not exceed {most_k:,}", param="outspoken.turns")
        turns = most_k // k
    tau = number(own, "tau", "outspoken.tau")
    asked_for = _most_tokens(given)
    return replace(
        defaults,
        method=method,
        k=k,
        turns=turns,
        tau=tau if tau is not None or not method.startswith("vs-") else defaults.tau,
        template=_template(own) or defaults.template,
        words=whole(own, "words", 1, 100_000, param="outspoken.words") or defaults.words,
        max_tokens=defaults.max_tokens if asked_for is None else _room(asked_for, method, k),
        seed=None,
        stop=(),
        **_sampling(given, defaults),
    )


def _direct(given: Mapping[str, Any], defaults: Settings, seed: int | None, stop: tuple[str, ...]) -> Settings:
    return replace(
        defaults,
        method="direct",
        k=1,
        tau=None,
        max_tokens=_most_tokens(given) or defaults.max_tokens,
        seed=seed,
        stop=stop,
        **_sampling(given, defaults),
    )


def _sampling(given: Mapping[str, Any], defaults: Settings) -> dict[str, Any]:
    rest = {
        name: value
        for name, value in given.items()
        if not (
            name in _HANDLED or name in _OF_THE_CALLER or name in _REFUSED or value in _MEANS_NOTHING.get(name, ())
        )
    }
    temperature, top_p = number(given, "temperature"), number(given, "top_p")
    return {
        "temperature": defaults.temperature if temperature is None else temperature,
        "top_p": defaults.top_p if top_p is None else top_p,
        "extra": {**defaults.extra, **rest},
    }


def _most_tokens(given: Mapping[str, Any]) -> int | None:
    names = ("max_completion_tokens", "max_tokens")
    said = {value for name in names if (value := whole(given, name, 1, 2**31)) is not None}
    if len(said) > 1:
        raise RequestError("max_tokens and max_completion_tokens differ: give one", param="max_completion_tokens")
    return said.pop() if said else None


def _room(most: int, method: str, k: int) -> int:
    """Tokens of a reply that holds as many candidates as the method asks for, each of at most `most` tokens."""
    if method not in _SEVERAL_IN_A_REPLY and method != "direct-cot":
        return most
    several = k if method in _SEVERAL_IN_A_REPLY else 1
    thought = _TOKENS_OF_THOUGHT if method.endswith("cot") else 0
    return min(several * (most + _TOKENS_AROUND_A_CANDIDATE) + thought, max(most, _LONGEST_REPLY))


def _template(own: Mapping[str, Any]) -> str:
    # A path is for the command line: a client may not read the server's files.
    name = text(own, "template", "outspoken.template")
    if name and name not in templates.names():
        known = ", ".join(templates.names())
        raise RequestError(f"unknown template {shown(name)}; known: {known}", param="outspoken.template")
    return name


def _stops(given: Mapping[str, Any]) -> tuple[str, ...]:
    stop = given.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    if (
        not isinstance(stops, list)
        or len(stops) > _MAX_STOPS
        or not all(isinstance(text, str) and 0 < len(text) <= _LONGEST_STOP for text in stops)
    ):
        raise RequestError(f"stop must be a text, or at most {_MAX_STOPS} texts that are not empty", param="stop")
    return tuple(stops)


def _include_usage(given: Mapping[str, Any], stream: bool) -> bool:
    options = given.get("stream_options", {})
    if not isinstance(options, Mapping):
        raise RequestError("stream_options must be an object", param="stream_options")
    if "stream_options" in given and not stream:
        raise RequestError("stream_options need stream = true", param="stream_options")
    return flag(options, "include_usage", "stream_options.include_usage") or False
