"""Client keys: their hashes, how they are compared, and the limits of each client."""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outspoken.errors import OutspokenError, UsageError
from outspoken.serve.keys import MAX_KEYS, Client, ClientLimits, Keys, hash_key, new_key
from outspoken.serve.openai.errors import RequestError


class Clock:
    """A clock that stands still until its time is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def keys(
    *names: str, limits: ClientLimits | None = None, clock: Clock | None = None
) -> tuple[Keys, dict[str, str]]:
    made = {name: new_key() for name in names}
    return Keys(
        [(name, hash_key(key)) for name, key in made.items()], limits or ClientLimits(), clock=clock or Clock()
    ), made


def client(limits: ClientLimits, clock: Clock) -> Client:
    known, made = keys("ada", limits=limits, clock=clock)
    found = known.check(f"Bearer {made['ada']}")
    assert found is not None
    return found


def test_new_keys_differ_and_hold_256_bits() -> None:
    made = {new_key() for _ in range(200)}
    assert len(made) == 200
    assert all(key.startswith("osk-") and len(key) == 4 + math.ceil(256 / 6) for key in made)


def test_the_hash_is_what_sha256sum_prints() -> None:
    assert hash_key("osk-é") == hashlib.sha256("osk-é".encode()).hexdigest()


def test_a_key_finds_its_client_and_no_other() -> None:
    known, made = keys("ada", "bob", "carl")
    for name, key in made.items():
        for header in (f"Bearer {key}", f"bearer  {key} ", f"BEARER {key}"):
            found = known.check(header)
            assert found is not None
            assert found.name == name


def test_invalid_keys_find_no_client() -> None:
    known, made = keys("ada", "bob")
    key = made["ada"]
    wrong = (None, "", "Bearer", "Bearer ", key, f"Basic {key}", f"Bearer {key}x", f"Bearer {key[:-1]}")
    more = (f"Bearer {hash_key(key)}", f"Bearer {key} {key}", "Bearer " + key * 1000, "Bearer 鍵", "Bearer \udcff")
    assert [known.check(header) for header in wrong + more] == [None] * 13


@given(st.text())
def test_no_header_raises(header: str) -> None:
    known = Keys([("ada", hash_key("secret"))])
    assert known.check(header) is None
    assert known.check(f"Bearer {header}") is None


def test_every_hash_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    known, made = keys("ada", "bob", "carl", "dora")
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append(one)
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    for header in (f"Bearer {made['ada']}", f"Bearer {made['dora']}", "Bearer wrong"):
        compared.clear()
        known.check(header)
        assert [one.hex() for one in compared] == [hash_key(key) for key in made.values()]


def test_no_key_stays_in_memory() -> None:
    known, made = keys("ada")
    found = known.check(f"Bearer {made['ada']}")
    assert made["ada"] not in f"{vars(known)} {vars(found)}"


def test_a_file_of_keys(tmp_path: Path) -> None:
    key = new_key()
    path = tmp_path / "鍵.txt"
    path.write_text(
        f"\ufeff# our clients\n\n ada : {hash_key(key).upper()}  # the first\r\nbob:{hash_key('b')}\n",
        encoding="utf-8",
    )
    known = Keys.load(path)
    assert len(known) == 2
    found = known.check(f"Bearer {key}")
    assert found is not None
    assert found.name == "ada"


def test_keys_of_an_environment_variable() -> None:
    assert len(Keys.read(f"ada:{hash_key('a')},bob:{hash_key('b')}")) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no client key"),
        ("# nobody\n", "no client key"),
        ("\nada:osk-a-real-key-by-mistake", "line 2 .* never the key itself"),
        ("osk-a-real-key-by-mistake", "line 1"),
        (f"a b:{'0' * 64}", "line 1"),
        (f"ada:{'0' * 63}", "line 1"),
        (f"ada:{'0' * 64}:more", "line 1"),
        (f"ada:{'0' * 64}\nada:{'1' * 64}", "twice"),
        (f"ada:{'0' * 64}\nbob:{'0' * 64}", "twice"),
        ("\n".join(f"n{n}:{n:064x}" for n in range(MAX_KEYS + 1)), "too many"),
    ],
)
def test_keys_that_cannot_be_used(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Keys.read(text)
    assert "osk-a-real" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"ada:\xe9")
    (tmp_path / "large").write_bytes(b"#" * (2**20 + 1))
    says = {
        "absent": "there is no such file",
        ".": "it is a folder",
        "latin": "not UTF-8",
        "large": "more than 1 MiB",
    }
    for name, reason in says.items():
        with pytest.raises(UsageError, match=reason):
            Keys.load(tmp_path / name)


@given(st.text())
def test_only_our_error_escapes_from_any_text(text: str) -> None:
    with suppress(OutspokenError):
        Keys.read(text)


def test_a_client_may_use_its_whole_bucket() -> None:
    clock = Clock()
    ada = client(ClientLimits(per_minute=60, burst=3, together=9), clock)
    for _ in range(3):
        with ada.admitted():
            pass
    with pytest.raises(RequestError) as caught, ada.admitted():
        pytest.fail("there was nothing left in the bucket")
    assert (caught.value.status, caught.value.code) == (429, "rate_limit_exceeded")
    assert caught.value.retry_after == pytest.approx(1.0)

    clock.now += 0.75
    with pytest.raises(RequestError) as caught, ada.admitted():
        pytest.fail("a token takes a second")
    assert caught.value.retry_after == pytest.approx(0.25)

    clock.now += 0.25
    with ada.admitted():
        pass
    clock.now += 3600
    for _ in range(3):
        with ada.admitted():
            pass
    with pytest.raises(RequestError), ada.admitted():
        pytest.fail("a bucket holds no more than its depth")


def test_a_clock_that_goes_back_removes_no_tokens() -> None:
    clock = Clock()
    ada = client(ClientLimits(per_minute=60, burst=2, together=9), clock)
    with ada.admitted():
        clock.now -= 500
    with ada.admitted():
        pass


def test_requests_are_uncounted_whatever_happens() -> None:
    ada = client(ClientLimits(per_minute=6000, burst=100, together=2), Clock())
    with ExitStack() as running:
        running.enter_context(ada.admitted())
        running.enter_context(ada.admitted())
        with pytest.raises(RequestError, match="wait for one to end") as caught, ada.admitted():
            pytest.fail("both places are taken")
        assert (caught.value.status, caught.value.retry_after) == (429, 1.0)
    for _ in range(5):
        with pytest.raises(RuntimeError), ada.admitted():
            raise RuntimeError("the answer failed")
    with ada.admitted(), ada.admitted():
        pass


def test_each_client_has_its_own_limits() -> None:
    known, made = keys("ada", "bob", limits=ClientLimits(per_minute=1, burst=1, together=1))
    ada, bob = (known.check(f"Bearer {made[name]}") for name in ("ada", "bob"))
    assert ada is not None
    assert bob is not None
    with ada.admitted(), bob.admitted():
        pass
    assert known.check(f"Bearer {made['ada']}") is ada, "a new client would have a full bucket"


@given(st.lists(st.floats(0, 10), min_size=1, max_size=60), st.integers(1, 5))
def test_no_period_admits_more_than_rate_and_burst(waits: list[float], burst: int) -> None:
    clock = Clock()
    ada = client(ClientLimits(per_minute=30, burst=burst, together=1), clock)

    refusals: list[float | None] = []

    def admitted() -> Iterator[float]:
        for wait in waits:
            clock.now += wait
            try:
                with ada.admitted():
                    yield clock.now
            except RequestError as error:
                refusals.append(error.retry_after)

    times = list(admitted())
    assert all(wait is not None and 0 < wait <= 2.0001 for wait in refusals)
    for first in range(len(times)):
        for last in range(first, len(times)):
            assert last - first + 1 <= burst + (times[last] - times[first]) / 2 + 1e-6


@pytest.mark.parametrize("wrong", [{"per_minute": 0}, {"per_minute": math.nan}, {"burst": 0}, {"together": 0}])
def test_limits_that_admit_nobody(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(wrong))} must be"):
        ClientLimits(**wrong)  # type: ignore[arg-type]
