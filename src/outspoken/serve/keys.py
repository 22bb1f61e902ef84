"""The keys of the server's clients: the server knows only their hashes, and limits the requests of each."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from outspoken.errors import UsageError
from outspoken.io.atomic import owner_only, reason_of
from outspoken.io.text import read_text
from outspoken.serve.openai.errors import RequestError
from outspoken.settings import check_values, option

__all__ = ["Client", "ClientLimits", "Keys", "check_name", "hash_key", "new_key"]

PREFIX = "osk-"
MAX_KEYS = 1000
_LARGEST_FILE = 2**20
_LONGEST_HEADER = 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_SECONDS_TO_RETRY = 1.0

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """The limits of one client. Raises `UsageError` for invalid values."""

    per_minute: float = option(600.0, "Requests per minute, on average.", above=0, below=inf)
    burst: int = option(100, "The depth of the token bucket that `per_minute` refills.", low=1)
    together: int = option(64, "Requests that run at the same time.", low=1)

    def __post_init__(self) -> None:
        check_values(self)

    @classmethod
    def of(cls, per_minute: float, together: int) -> ClientLimits:
        """Limits with a burst of as many requests as ten seconds allow."""
        checked = cls(per_minute=per_minute, together=together)
        return replace(checked, burst=max(1, round(per_minute / 6)))


class Client:
    """The owner of a key, and how much of its limits is used. Belongs to one event loop."""

    def __init__(self, name: str, limits: ClientLimits, clock: Clock) -> None:
        self.name = name
        self._limits, self._clock = limits, clock
        self._tokens, self._filled = float(limits.burst), clock()
        self._running = 0

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Count one request while it is answered.

        Raises `RequestError` (429, with the seconds to wait) if the client exceeds its limits; rejected requests
        do not count.
        """
        limits, now = self._limits, self._clock()
        if self._running >= limits.together:
            message = f"{limits.together} requests of this key are running: wait for one to end"
            raise RequestError(message, status=429, code="too_many_at_once", retry_after=_SECONDS_TO_RETRY)
        per_second = limits.per_minute / 60
        self._tokens = min(limits.burst, self._tokens + max(now - self._filled, 0.0) * per_second)
        self._filled = now
        if self._tokens < 1:
            message = f"this key allows {limits.per_minute:g} requests a minute: wait before the next one"
            wait = (1 - self._tokens) / per_second
            raise RequestError(message, status=429, code="rate_limit_exceeded", retry_after=wait)
        self._tokens -= 1
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


class Keys:
    """All clients of a server, by the hash of their key."""

    def __init__(
        self,
        hashes: Iterable[tuple[str, str]],
        limits: ClientLimits = ClientLimits(),
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        """From pairs of a client's name and the hash of its key. Raises `UsageError` for invalid ones."""
        self._clients: list[tuple[bytes, Client]] = []
        names, seen = set(), set()
        for name, hashed in hashes:
            if not _NAME.fullmatch(name) or not _HASH.fullmatch(hashed):
                raise UsageError("a key must be listed as name:sha256, with 64 digits of 0-9 and a-f")
            if name in names or hashed in seen:
                raise UsageError(f"the client {name!r} or its key is listed twice: remove one")
            names.add(name)
            seen.add(hashed)
            self._clients.append((bytes.fromhex(hashed), Client(name, limits, clock)))
        if not self._clients:
            raise UsageError("there is no client key: create one, and list it as name:sha256")
        if len(self._clients) > MAX_KEYS:
            raise UsageError(f"{len(self._clients):,} client keys are too many: at most {MAX_KEYS:,}")

    @classmethod
    def load(cls, path: str | Path, limits: ClientLimits = ClientLimits()) -> Keys:
        """From a file of lines `name:sha256`. Raises `UsageError` if it cannot be read."""
        text = read_text(Path(path), "file of client keys", most=_LARGEST_FILE)
        return cls.read(text, limits, source=f"{path}: ")

    @classmethod
    def add(cls, path: str | Path, name: str, hashed: str) -> None:
        """Add a client to such a file, which is created if needed, readable by its owner alone.

        Raises `UsageError` if the client is already listed, or if the file cannot be read or written.
        """
        path, line = Path(path), f"{name}:{hashed}"
        try:
            earlier = path.read_text("utf-8-sig") if path.exists() else ""
            cls.read(f"{earlier}\n{line}", source=f"{path}: ")
            before = "" if not earlier or earlier.endswith("\n") else "\n"
            with open(path, "a", encoding="utf-8", opener=owner_only) as out:
                out.write(f"{before}{line}\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = f"{reason_of(error)}; name another file"
            raise UsageError(f"the key of {name} cannot be added to {path}: {reason}") from error

    @classmethod
    def read(cls, text: str, limits: ClientLimits = ClientLimits(), *, source: str = "") -> Keys:
        """From the text of such a file or an environment variable: entries separated by line breaks or commas.

        Empty lines and comments after `#` are ignored. Error messages begin with `source`, and repeat no entry,
        which may be a key.
        """
        pairs = []
        for number, line in enumerate(text.splitlines(), 1):
            for entry in line.partition("#")[0].split(","):
                if not entry.strip():
                    continue
                name, _, hashed = (part.strip() for part in entry.partition(":"))
                hashed = hashed.lower()
                if not (_NAME.fullmatch(name) and _HASH.fullmatch(hashed)):
                    remedy = "list the hash of the key, 64 digits of 0-9 and a-f, and never the key itself"
                    raise UsageError(f"{source}line {number} of the client keys is not name:sha256: {remedy}")
                pairs.append((name, hashed))
        try:
            return cls(pairs, limits)
        except UsageError as error:
            raise UsageError(f"{source}{error}") from None

    def __len__(self) -> int:
        return len(self._clients)

    def check(self, authorization: str | None) -> Client | None:
        """The client whose key an Authorization header contains, or None. Takes the same time for every key."""
        scheme, _, key = (authorization or "").strip().partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key or len(key) > _LONGEST_HEADER:
            return None
        hashed = bytes.fromhex(hash_key(key))
        owners = [client for known, client in self._clients if hmac.compare_digest(known, hashed)]
        return next(iter(owners), None)


def check_name(name: str) -> None:
    """Raise `UsageError` for an invalid name of a client."""
    if not _NAME.fullmatch(name):
        raise UsageError("a client's name has 1 to 64 letters a to z, digits, and . _ @ -")


def hash_key(key: str) -> str:
    """The sha256 of a key, in hexadecimal. A key has 256 random bits, so salt or a slow hash would add nothing."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def new_key() -> str:
    """A new key of 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)
