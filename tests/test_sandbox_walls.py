"""The walls of the sandbox, tested with programs that try to break out."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import pytest_asyncio
from sandboxes import older_sandbox, ran, sandbox_of_a_user

from outspoken.checking.sandbox import Sandbox

SOCKET = "tried to open a socket"
PROCESS = "tried to start a process"
WRITE = "tried to write outside its folder"
READ = "tried to read outside its folder"
OTHERS = "tried to reach another process"
CALL = "made a system call that is forbidden"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is for Linux"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox() -> AsyncGenerator[Sandbox]:
    async with sandbox_of_a_user() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def older() -> AsyncGenerator[Sandbox]:
    async with older_sandbox() as made:
        yield made


@pytest.fixture
def listener() -> Generator[socket.socket]:
    """A port of this machine that no program may reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


TRIES = {
    "fork": ("import os\nwhile True: os.fork()", PROCESS),
    "a caught fork": ("import os\ntry: os.fork()\nexcept OSError: pass", PROCESS),
    "subprocess": ("import subprocess; subprocess.run(['true'])", PROCESS),
    "a shell": ("import os; os.system('true')", PROCESS),
    "posix_spawn": ("import os; os.posix_spawn('/bin/true', ['true'], {})", PROCESS),
    "exec": ("import os; os.execv('/bin/true', ['true'])", PROCESS),
    "multiprocessing": ("import multiprocessing as m\nm.Process(target=print).start()", PROCESS),
    "spawned": ("import multiprocessing as m\nm.get_context('spawn').Process(target=print).start()", PROCESS),
    "a pool": ("import multiprocessing as m\nm.Pool(2)", PROCESS),
    "vfork by number": ("import ctypes; ctypes.CDLL(None).syscall(58)", PROCESS),
    "fork of C": ("import ctypes; ctypes.CDLL(None).fork()", PROCESS),
    "TCP": ("import socket; socket.create_connection(('127.0.0.1', [port]), 1)", SOCKET),
    "caught TCP": (
        "import socket\ntry: socket.create_connection(('127.0.0.1', [port]), 1)\nexcept OSError: pass",
        SOCKET,
    ),
    "TCP of C": ("import ctypes; ctypes.CDLL(None).socket(2, 1, 0)", SOCKET),
    "TCP in a thread": (
        "import threading, socket\nt = threading.Thread(target=lambda: socket.create_connection(('127.0.0.1', [port])))\n"
        "t.start(); t.join()",
        SOCKET,
    ),
    "UDP": (
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', [port]))",
        SOCKET,
    ),
    "IPv6": ("import socket; socket.socket(socket.AF_INET6)", SOCKET),
    "a name": ("import socket; socket.getaddrinfo('example.org', 80)", SOCKET),
    "a page": ("import urllib.request; urllib.request.urlopen('http://127.0.0.1:[port]/')", SOCKET),
    "netlink": ("import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)", SOCKET),
    "a pair for messages": ("import socket; socket.socketpair(type=socket.SOCK_DGRAM)", SOCKET),
    "a server": ("import socket; a, b = socket.socketpair(); a.bind('x')", SOCKET),
    "a signal": ("import os; os.kill(os.getppid(), 9)", OTHERS),
    "a signal to all": ("import os; os.kill(-1, 9)", OTHERS),
    "a signal to us": ("import os; os.kill([us], 9)", OTHERS),
    "a signal of C": ("import ctypes; ctypes.CDLL(None).kill([us], 9)", OTHERS),
    "a signal by a pipe": ("import fcntl, os; r, w = os.pipe(); fcntl.fcntl(r, fcntl.F_SETOWN, [us])", OTHERS),
    "a signal by a terminal": ("import fcntl, os; r, w = os.pipe(); fcntl.ioctl(r, 0x8901, b'1234')", OTHERS),
    "ptrace": ("import ctypes; ctypes.CDLL(None).ptrace(16, [us], 0, 0)", OTHERS),
    "our memory": ("import ctypes; ctypes.CDLL(None).process_vm_readv([us], 0, 0, 0, 0, 0)", OTHERS),
    "mount": ("import ctypes; ctypes.CDLL(None).mount(b'none', b'.', b'tmpfs', 0, 0)", CALL),
    "a namespace": ("import ctypes; ctypes.CDLL(None).unshare(0x10000000)", CALL),
    "shared memory": ("import ctypes; ctypes.CDLL(None).shmget(1, 4096, 0o1600)", CALL),
}


@pytest.mark.parametrize(("code", "reason"), TRIES.values(), ids=TRIES.keys())
async def test_what_reaches_out_is_stopped_and_named(
    sandbox: Sandbox, listener: socket.socket, code: str, reason: str
) -> None:
    verdict = await ran(sandbox, code, port=listener.getsockname()[1], us=os.getpid())
    assert (verdict.reason, verdict.ok) == (reason, False)
    assert verdict.seconds < 3


OUTSIDE = {
    "a file of the user": ("open('[home]/notes', 'a').write('x')", WRITE),
    "a new file": ("open('[home]/new', 'w')", WRITE),
    "a new file, caught": ("try: open('[home]/new', 'w')\nexcept OSError: pass", WRITE),
    "a new file in /tmp": ("open('[tmp]/outspoken-was-here', 'w')", WRITE),
    "by os.open": ("import os; os.open('[home]/new', os.O_WRONLY | os.O_CREAT)", WRITE),
    "by pathlib": ("import pathlib; pathlib.Path('[home]', 'new').write_text('x')", WRITE),
    "upwards": ("open('../../../../../../..[home]/new', 'w')", WRITE),
    "as bytes": ("open(b'[home]/new', 'w')", WRITE),
    "from another folder": ("import os; os.chdir('[home]'); open('new', 'w')", WRITE),
    "remove": ("import os; os.remove('[home]/notes')", WRITE),
    "rename": ("import os; os.rename('[home]/notes', 'mine')", WRITE),
    "over it": ("import os; open('x', 'w').close(); os.replace('x', '[home]/notes')", WRITE),
    "a folder": ("import os; os.mkdir('[home]/new')", WRITE),
    "no folder": ("import shutil; shutil.rmtree('[home]/folder')", WRITE),
    "cut off": ("import os; os.truncate('[home]/notes', 0)", WRITE),
    "rights": ("import os; os.chmod('[home]/notes', 0)", WRITE),
    "times": ("import os; os.utime('[home]/notes', (1, 1))", WRITE),
    "a link to it": ("import os; os.symlink('[home]/notes', 'x'); open('x', 'w')", WRITE),
    "a link to nothing yet": ("import os; os.symlink('[home]/new', 'x'); open('x', 'w')", WRITE),
    "a link to its folder": ("import os; os.symlink('[home]', 'x'); open('x/new', 'w')", WRITE),
    "a hard link": ("import os; os.link('[home]/notes', 'x'); open('x', 'w')", WRITE),
    "a database": ("import sqlite3; sqlite3.connect('[home]/new.db').execute('create table t (a)')", WRITE),
    "reading": ("print(open('[home]/notes').read())", READ),
    "reading through a link": ("import os; os.symlink('[home]/notes', 'x'); print(open('x').read())", READ),
    "a folder of keys": ("import os; print(os.listdir('[home]'))", READ),
    "passwords": ("print(open('/etc/passwd').read())", READ),
    "our environment": ("print(open('/proc/[us]/environ').read())", READ),
    "our server's environment": ("import os; print(open(f'/proc/{os.getppid()}/environ').read())", READ),
    "our memory": ("open('/proc/[us]/mem', 'rb')", READ),
    "the machine's processes": ("import os; os.listdir('/proc')", READ),
    "our files": ("import os; open(f'/proc/{os.getppid()}/root' + '/etc/passwd')", READ),
    "the device of memory": ("open('/dev/shm/x', 'w')", WRITE),
}
# The same through the C library, which no audit hook sees: the call fails, and the program continues.
BELOW = {
    "a file of the user": "assert libc.open(b'[home]/notes', 1) == -1",
    "a new file": "assert libc.open(b'[home]/new', 0o101, 0o600) == -1",
    "emptied": "assert libc.open(b'[home]/notes', 0o1000) == -1",
    "reading": "assert libc.open(b'[home]/notes', 0) == -1",
    "remove": "assert libc.unlink(b'[home]/notes') == -1",
    "rename": "assert libc.rename(b'[home]/notes', b'x') == -1",
    "a hard link": "assert libc.link(b'[home]/notes', b'x') == -1",
    "cut off": "assert libc.truncate(b'[home]/notes', 0) == -1",
    "rights": "libc.chmod(b'[home]/notes', 0)",
    "an owner": "libc.chown(b'[home]/notes', 1, 1)",
    "times": "libc.utimes(b'[home]/notes', None)",
    "our environment": "assert libc.open(b'/proc/[us]/environ', 0) == -1",
    "our server's environment": "import os; assert libc.open(f'/proc/{os.getppid()}/environ'.encode(), 0) == -1",
    "our files": "import os; assert libc.open(f'/proc/{os.getppid()}/fd/0'.encode(), 0) == -1",
    "a local socket": "assert libc.socket(1, 1, 0) == -1",
    "our limits": "assert libc.prlimit([us], 7, (ctypes.c_long * 2)(3, 3), None) == -1",
    "our priority": "assert libc.setpriority(0, [us], 19) == -1",
    "io_uring": "assert libc.syscall(425, 8, 0) == -1",
    "a call of tomorrow": "assert libc.syscall(999, 0) == -1",
}


@pytest.fixture
def home(tmp_path: Path) -> Generator[Path]:
    """A user's folder, which must be unchanged at the end."""
    (tmp_path / "folder").mkdir()
    notes = tmp_path / "notes"
    notes.write_text("a secret")
    before = notes.stat()
    yield tmp_path
    after = notes.stat()
    assert notes.read_text() == "a secret"
    for name in ("st_mode", "st_uid", "st_mtime", "st_nlink"):
        assert getattr(after, name) == getattr(before, name)
    assert sorted(os.listdir(tmp_path)) == ["folder", "notes"]
    assert not Path(tempfile.gettempdir(), "outspoken-was-here").exists()


@pytest.mark.parametrize(("code", "reason"), OUTSIDE.values(), ids=OUTSIDE.keys())
async def test_what_lies_outside_its_folder_stays_as_it_is(
    sandbox: Sandbox, home: Path, code: str, reason: str
) -> None:
    verdict = await ran(sandbox, code, home=home, us=os.getpid(), tmp=tempfile.gettempdir())
    assert (verdict.reason, verdict.output) == (reason, "")


@pytest.mark.parametrize("code", BELOW.values(), ids=BELOW.keys())
async def test_nothing_gets_out_below_python(sandbox: Sandbox, home: Path, code: str) -> None:
    verdict = await ran(sandbox, f"import ctypes\nlibc = ctypes.CDLL(None)\n{code}", home=home, us=os.getpid())
    assert str(verdict) == "right"


@pytest.mark.parametrize("code", BELOW.values(), ids=BELOW.keys())
async def test_nothing_gets_out_on_an_older_linux(older: Sandbox, home: Path, code: str) -> None:
    await test_nothing_gets_out_below_python(older, home, code)


@pytest.mark.parametrize(("code", "reason"), TRIES.values(), ids=TRIES.keys())
async def test_what_reaches_out_is_killed_on_an_older_linux(
    older: Sandbox, listener: socket.socket, code: str, reason: str
) -> None:
    verdict = await ran(older, code, port=listener.getsockname()[1], us=os.getpid())
    assert verdict.reason in (CALL, reason)
    assert not verdict.ok
