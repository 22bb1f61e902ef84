"""Requests for chat completions, read into a `ChatCall`. No HTTP here.

The settings of a verbalized call describe one distribution. Calls that differ only in `n`, `seed`, `stop` or the
identity of the caller draw from the same pool.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from outspoken import templates
from outspoken.chat import Message
from outspoken.errors import UsageError
from outspoken.methods.table import METHODS, Method
from outspoken.serve.openai.errors import RequestError
from outspoken.serve.openai.fields import (
    Fields,
    declared_fields,
    quoted,
    read_flag,
    read_json,
    read_messages,
    read_text,
)
from outspoken.settings import MAX_K, Settings, option

__all__ = [
    "BODY_FIELDS",
    "LONGEST_STOP",
    "MAX_STOPS",
    "OWN_FIELDS",
    "SETTINGS",
    "ChatCall",
    "may_verbalize",
    "read_chat",
    "verbalizes",
]

MAX_N = 128
MAX_STOPS = 16
LONGEST_STOP = 1000
_NO_TOOLS = "it responds with text and calls no tools"
_PLAIN = "its responses are plain text"
# Further fields that are not passed to the model: those that this server reads, and those about the caller or the
# display of the call at the provider, because another client may get the response.
_HANDLED = frozenset(
    {
        *("model", "messages", "stop", "stream_options", "outspoken", "max_completion_tokens"),
        *("user", "safety_identifier", "metadata", "store", "prompt_cache_key", "prompt_cache_retention"),
    }
)
# Why a draw does not support a field (None: it is passed to the model), and the values that change nothing.
_LIMITED: Mapping[str, tuple[str | None, tuple[object, ...]]] = {
    "logprobs": (
        "a draw has no log-probabilities of its tokens, its own probability is in choices[].outspoken",
        (False,),
    ),
    "top_logprobs": ("a draw has no log-probabilities of its tokens", (0,)),
    "tools": (_NO_TOOLS, ([],)),
    "tool_choice": (_NO_TOOLS, ("none", "auto")),
    "functions": (_NO_TOOLS, ([],)),
    "function_call": (_NO_TOOLS, ("none", "auto")),
    "response_format": (_PLAIN, ({"type": "text"},)),
    "modalities": (_PLAIN, (["text"],)),
    "audio": (_PLAIN, ()),
    "prediction": ("its responses are drawn, not predicted", ()),
    "web_search_options": ("it does not search", ()),
    "frequency_penalty": (None, (0,)),
    "presence_penalty": (None, (0,)),
    "logit_bias": (None, ({},)),
    "parallel_tool_calls": (None, (True, False)),
}
_TOKENS_AROUND_A_CANDIDATE = 48
_TOKENS_OF_REASONING = 1024
_LONGEST_REPLY = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatCall:
    """One call of a client.

    `requested_model` is the model's name as the client wrote it, `model` the name without a suffix. `verbalized`:
    the name has a suffix, or the request a field `outspoken`. `settings` describe the distribution; those of a
    call that is not verbalized have the method `direct`, k = 1, and its `seed` and `stop`. Each of the `n` choices
    is cut at the first of `stop`. `seed` is between 0 and 2^32 - 1.
    """

    requested_model: str
    model: str
    messages: tuple[Message, ...]
    settings: Settings
    verbalized: bool = False
    n: int = option(1, "Number of choices.", low=1, request="body")
    seed: int | None = option(None, "Seed of the draw.", low=-(2**63), high=2**64 - 1, request="body")
    stop: tuple[str, ...] = ()
    stream: bool = option(False, "Whether the response is a stream of events.", request="body")
    include_usage: bool = False
    fresh: bool = option(False, "Ask the model for this call alone, and pool nothing.", request="outspoken")
    structured: bool | None = option(
        None, "Whether the decoder enforces the shape of the reply; by default if it can.", request="outspoken"
    )
    recycle: bool = option(
        True,
        "Draw again what was drawn before, once the model has nothing new; otherwise fail with status 422.",
        request="outspoken",
    )


_OWN_SETTINGS = declared_fields(Settings, "outspoken", {"method": lambda: METHODS, "template": templates.names})
_SAMPLING = declared_fields(Settings, "body")
SETTINGS = {**_OWN_SETTINGS, **_SAMPLING}
"""The settings that a request can contain, as `Settings` declares them."""
_FLAGS = declared_fields(ChatCall, "outspoken")
OWN_FIELDS = {**_OWN_SETTINGS, **_FLAGS}
"""The fields of the object `outspoken` in a request."""
_OWN_NAMES = ", ".join(OWN_FIELDS)
_OF_CALL = declared_fields(ChatCall, "body")
BODY_FIELDS = {**_OF_CALL, **_SAMPLING}
"""The declared fields beside the object `outspoken`."""


def may_verbalize(body: bytes) -> bool:
    """Whether `verbalizes` may be true of a body. If not, the body need not be parsed."""
    suffixes = (method.server_suffix.encode() for method in METHODS.values() if method.server_suffix)
    return b"outspoken" in body or b"\\u" in body or any(suffix in body for suffix in suffixes)


def verbalizes(fields: Fields) -> bool:
    """Whether a request asks for a draw: its model's name has a suffix, or it has the field `outspoken`."""
    model = fields.get("model")
    return fields.get("outspoken") is not None or (isinstance(model, str) and _suffixed(model) is not None)


def _suffixed(model: str) -> Method | None:
    methods = METHODS.values()
    return next((each for each in methods if each.server_suffix and model.endswith(each.server_suffix)), None)


def read_chat(
    body: bytes | Fields,
    *,
    defaults: Settings = Settings(),
    max_k: int = MAX_K,
    max_n: int = MAX_N,
    always: bool = False,
) -> ChatCall:
    """Read the body of a chat completion, as bytes or decoded.

    `defaults` apply to omitted fields. `max_k` limits the candidates of a distribution, `max_n` the choices of a
    call. With `always` the call is verbalized whatever the model's name. Unknown fields are passed to the model
    (`settings.extra`). Raises `RequestError`, and nothing else, for a request that cannot be answered.
    """
    payload = read_json(body) if isinstance(body, bytes) else body
    fields = {name: value for name, value in payload.items() if value is not None}
    for name, (reason, harmless) in _LIMITED.items():
        if reason is not None and name in fields and fields[name] not in harmless:
            message = f"{name} is not supported: {reason}; leave it out, or name a model that is passed through"
            raise RequestError(message, code="unsupported_parameter", param=name)
    requested = read_text(fields, "model")
    if not requested:
        raise RequestError("the field model is missing: name the model", param="model")
    values = _own_values(fields, max_k)
    model, method = _split(requested, values["method"])
    verbalized = always or verbalizes(fields)
    n = _OF_CALL["n"].read(fields, high=max_n, hint="make several calls") or 1
    stream, seed = (_OF_CALL[name].read(fields) for name in ("stream", "seed"))
    seed = None if seed is None else seed % 2**32
    stop = _stops(fields)
    try:
        messages = read_messages(fields)
        if verbalized:
            settings = _settings(fields, values, defaults, method, max_k)
        else:
            sampling = _sampling(fields, defaults, _max_tokens(fields))
            settings = replace(defaults, method="direct", k=1, tau=None, seed=seed, stop=stop, **sampling)
        return ChatCall(
            requested_model=requested,
            model=model,
            messages=messages,
            settings=settings,
            verbalized=verbalized,
            n=n,
            seed=seed,
            stop=stop,
            stream=stream or False,
            include_usage=_include_usage(fields, stream),
            **{name: flag.default if values[name] is None else values[name] for name, flag in _FLAGS.items()},
        )
    except RequestError:
        raise
    except UsageError as error:
        # An error of `Settings` begins with the name of the field at fault.
        name = str(error).partition(" ")[0]
        param = name if name in fields else f"outspoken.{name}" if values.get(name) is not None else None
        raise RequestError(str(error), param=param) from error


def _own_values(fields: Fields, max_k: int) -> dict[str, Any]:
    """The values in the object `outspoken`, None for omitted ones."""
    own = fields.get("outspoken", {})
    if not isinstance(own, Mapping):
        raise RequestError(f"outspoken must be an object with any of: {_OWN_NAMES}", param="outspoken")
    for name in own:
        if name not in OWN_FIELDS:
            raise RequestError(f"outspoken has no field {quoted(name)}; known: {_OWN_NAMES}", param="outspoken")
    bounds, hints = {"k": max_k, "turns": max_k}, {"k": "for more draws make more calls"}
    return {
        name: field.read(own, high=bounds.get(name), hint=hints.get(name, ""))
        for name, field in OWN_FIELDS.items()
    }


def _split(requested: str, method: str | None) -> tuple[str, str | None]:
    """The model's name without its suffix, and the method that the suffix or the field names."""
    suffixed = _suffixed(requested)
    if suffixed is None:
        return requested, method
    if method not in (None, suffixed.name):
        asked = f"the model's name asks for {suffixed.name} and outspoken.method for {quoted(method)}"
        raise RequestError(f"{asked}: leave one out", param="outspoken.method")
    return requested.removesuffix(suffixed.server_suffix), suffixed.name


def _settings(
    fields: Fields, values: Mapping[str, Any], defaults: Settings, method_name: str | None, max_k: int
) -> Settings:
    """The settings of a distribution. A client limits the tokens of one choice; a reply contains k candidates."""
    method = METHODS[method_name or defaults.method]
    stated = {name: values[name] for name in _OWN_SETTINGS if values[name] is not None}
    k, turns = stated.get("k", min(defaults.k, max_k)), stated.get("turns", defaults.turns)
    if method.candidates(k, turns) > max_k:
        if "turns" in stated:
            raise RequestError(f"k times turns may not exceed {max_k:,}", param="outspoken.turns")
        turns = max_k // k
    if "tau" not in stated and not method.states_probabilities:
        stated["tau"] = None
    stated |= {"method": method.name, "k": k, "turns": turns, "seed": None, "stop": ()}
    if max_tokens := _max_tokens(fields):
        wording = templates.load(stated.get("template", defaults.template)).wording(method.name)
        max_tokens = _reply_tokens(max_tokens, method, k, wording)
    return replace(defaults, **stated, **_sampling(fields, defaults, max_tokens))


def _sampling(fields: Fields, defaults: Settings, max_tokens: int | None) -> dict[str, Any]:
    """The settings of the model's sampling, as far as the request has them."""
    stated = {name: field.read(fields) for name, field in _SAMPLING.items()} | {"max_tokens": max_tokens}
    extra = {name: value for name, value in fields.items() if _is_extra(name, value)}
    stated = {name: value for name, value in stated.items() if value is not None}
    return {**stated, "extra": {**defaults.extra, **extra}}


def _is_extra(name: str, value: object) -> bool:
    """Whether a field is passed to the model."""
    reason, harmless = _LIMITED.get(name, (None, ()))
    return reason is None and not (name in _HANDLED or name in BODY_FIELDS or value in harmless)


def _max_tokens(fields: Fields) -> int | None:
    """The limit of tokens, under its present name or its former one."""
    former, name = _SAMPLING["max_tokens"], "max_completion_tokens"
    stated = {replace(former, name=name, param=name).read(fields), former.read(fields)} - {None}
    if len(stated) > 1:
        raise RequestError(f"max_tokens and {name} differ: leave one out", param=name)
    return stated.pop() if stated else None


def _reply_tokens(max_tokens: int, method: Method, k: int, wording: templates.Wording) -> int:
    """The limit of tokens for a reply with its reasoning and candidates of at most `max_tokens` each."""
    several = method.candidates_per_request == "k"
    reasoning = wording.reasoning or wording.reply == "answer"
    if not several and not reasoning:
        return max_tokens
    candidates = (k if several else 1) * (max_tokens + _TOKENS_AROUND_A_CANDIDATE)
    return min(candidates + _TOKENS_OF_REASONING * reasoning, max(max_tokens, _LONGEST_REPLY))


def _stops(fields: Fields) -> tuple[str, ...]:
    stop = fields.get("stop", [])
    stops = [stop] if isinstance(stop, str) else stop
    if (
        not isinstance(stops, list)
        or len(stops) > MAX_STOPS
        or not all(isinstance(text, str) and 0 < len(text) <= LONGEST_STOP for text in stops)
    ):
        raise RequestError(f"stop must be a text, or at most {MAX_STOPS} texts that are not empty", param="stop")
    return tuple(stops)


def _include_usage(fields: Fields, stream: bool | None) -> bool:
    options = fields.get("stream_options", {})
    if not isinstance(options, Mapping):
        raise RequestError("stream_options must be an object", param="stream_options")
    if "stream_options" in fields and not stream:
        raise RequestError("stream_options need stream = true", param="stream_options")
    return read_flag(options, "include_usage", "stream_options.include_usage") or False
