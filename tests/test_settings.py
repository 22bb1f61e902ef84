from __future__ import annotations

import math
import typing
from dataclasses import fields
from typing import Any

import pytest

from outspoken import RunOptions, RunSettings, Settings, UsageError
from outspoken._options import MethodName
from outspoken.methods.table import METHODS, Method
from outspoken.serve.limits import ServerLimits
from outspoken.settings import Options, RequestLimits, read_call

pytestmark = pytest.mark.core

# A method may be given as an object too.
ACCEPTED = {**typing.get_type_hints(Settings), "method": MethodName | Method}


def test_options_and_settings_name_the_same_things() -> None:
    declared = [entry.name for kind in (Settings, RequestLimits) for entry in fields(kind)]
    assert sorted(Options.__annotations__) == sorted(declared)
    assert typing.get_type_hints(Options) == {**ACCEPTED, **typing.get_type_hints(RequestLimits)}


def test_equal_options_are_read_once_and_others_are_not_mixed_up() -> None:
    for _ in range(2):
        assert read_call({"k": 1, "attempts": 2}) == (Settings(k=1), RequestLimits(attempts=2))
        assert read_call({"extra": {"min_p": 0.1}, "stop": ["x"]})[0].sampling.stop == ("x",)
        for invalid in ({"k": True}, {"attempts": True}, {"temperature": True}, {"atempts": 3}):
            with pytest.raises(UsageError):
                read_call(invalid)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must be a whole number from 1 to 1,000, not 0"),
        ({"k": 10_000}, "not 10000"),
        ({"k": True}, "not True"),
        ({"k": 2.5}, "not 2.5"),
        ({"tau": 0.0}, "tau must be a number above 0 and below 1"),
        ({"tau": 1.0}, "tau must be a number above 0 and below 1"),
        ({"tau": float("nan")}, "tau must be a number above 0 and below 1"),
        ({"tau": 0.1, "method": "sequence"}, "sequence asks for none"),
        ({"method": "vs-standrad"}, "did you mean 'vs-standard'"),
        ({"on_short": "rise"}, "did you mean 'raise'"),
        ({"turns": 0}, "turns"),
        ({"top_up": -1}, "top_up"),
        ({"words": 0}, "words"),
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"seed": -1}, "seed"),
        ({"kk": 3}, "did you mean 'k'"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Settings.read(options)
    assert message in str(caught.value)


def test_the_options_of_a_run_are_those_of_a_call_and_its_own() -> None:
    own = [entry.name for entry in fields(RunSettings) if entry.name not in RequestLimits.__annotations__]
    assert list(RunOptions.__annotations__) == [*Options.__annotations__, *own]
    assert typing.get_type_hints(RunOptions) == {
        **ACCEPTED,
        **typing.get_type_hints(RunSettings),
    }


def test_equal_settings_are_equal_however_they_are_written() -> None:
    assert Settings(temperature=1, top_p=1).sampling.to_dict() == {"temperature": 1.0, "top_p": 1.0}
    assert repr(Settings(temperature=1).sampling) == repr(Settings(temperature=1.0).sampling)


def test_the_names_of_methods_are_those_of_the_table() -> None:
    assert typing.get_args(MethodName) == tuple(METHODS)


def test_no_limit_may_be_stated_as_infinity_but_not_to_a_server() -> None:
    assert RunSettings(timeout=math.inf, max_seconds=math.inf).max_seconds == math.inf
    for invalid in (math.nan, 0, -1, True, "1"):
        with pytest.raises(UsageError, match="timeout must be a number above 0, not"):
            RunSettings(timeout=invalid)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="timeout must be a number above 0 and below inf, not inf"):
        ServerLimits(timeout=math.inf)
