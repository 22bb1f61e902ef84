"""The sandbox: what programs may do, their limits, and what is hidden from them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator

import pytest
import pytest_asyncio
from sandboxes import older_sandbox, ran, sandbox_of_a_user

from outspoken.checking.sandbox import Sandbox

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


async def test_a_program_that_ends_is_right(sandbox: Sandbox) -> None:
    verdict = await ran(sandbox, "print('你好, мир, مرحبا 🎉', '\\udc80')")
    assert verdict.ok
    assert verdict.reason == ""
    assert str(verdict) == "right"
    assert verdict.output == "你好, мир, مرحبا 🎉 \\udc80\n"
    assert 0 < verdict.seconds < 3


FINE = {
    "files": "open('ü.txt', 'w').write('日本'); assert open('ü.txt').read() == '日本'",
    "folders": "import os, shutil; os.makedirs('a/b'); os.rename('a/b', 'c'); shutil.rmtree('a'); assert os.listdir() == ['c']",
    "copies": "import shutil; open('a', 'w').write('x'); shutil.copy('a', 'b'); assert open('b').read() == 'x'",
    "temporary files": "import tempfile\nwith tempfile.TemporaryDirectory() as d, open(d + '/x', 'w') as f: f.write('x')",
    "asyncio": "import asyncio\nasync def f(): return 5\nassert asyncio.run(f()) == 5",
    "threads": "import threading\nt = [threading.Thread(target=print, args=(i,)) for i in range(8)]\n[x.start() for x in t]",
    "pools of threads": "from concurrent.futures import ThreadPoolExecutor as P\nassert list(P(4).map(abs, [-1])) == [1]",
    "sqlite": "import sqlite3; sqlite3.connect('x.db').execute('create table t (a)'); sqlite3.connect(':memory:')",
    "time zones": "import zoneinfo, datetime; datetime.datetime.now(zoneinfo.ZoneInfo('UTC'))",
    "the standard library": "import ctypes, decimal, hashlib, http.client, json, mimetypes, platform, ssl, uuid, xml.dom.minidom\n"
    "mimetypes.init(); uuid.uuid4(); hashlib.sha256(b'x'); import random; random.SystemRandom().random()",
    "a file that is nowhere": "try: open('/nowhere/at/all')\nexcept FileNotFoundError: pass\nelse: assert False",
    "no folder to write to": "try: open('/nowhere/at/all', 'w')\nexcept FileNotFoundError: pass\nelse: assert False",
    "nothing to remove": "import os\ntry: os.remove('/nowhere')\nexcept FileNotFoundError: pass\nelse: assert False",
    "the null device": "open('/dev/null', 'w').write('x'); assert open('/dev/null').read() == ''",
    "mocks": "import os\nfrom unittest import mock\nwith mock.patch('os.path.exists', return_value=True), mock.patch('os.lstat'):\n"
    "    open('y', 'w').close()",
    "a signal to itself": "import os, signal\nsignal.signal(signal.SIGUSR1, lambda *_: None); os.kill(os.getpid(), signal.SIGUSR1)",
    "standard input": "try: input()\nexcept EOFError: pass\nelse: assert False",
    "its own limit": "import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1)); resource.getrlimit(resource.RLIMIT_AS)",
    "dataclasses and pickle": "import dataclasses, pickle\n@dataclasses.dataclass\nclass A:\n    b: int\nassert pickle.loads(pickle.dumps(A(1))) == A(1)",
}


@pytest.mark.parametrize("code", FINE.values(), ids=FINE.keys())
async def test_what_programs_do_is_allowed(sandbox: Sandbox, code: str) -> None:
    assert str(await ran(sandbox, code)) == "right"


BOUNDED = {
    "an infinite loop": ("while True: pass", "took longer than 3 s"),
    "asleep": ("import time; time.sleep(60)", "took longer than 3 s"),
    "stopped by itself": ("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)", "took longer than 3 s"),
    "deaf to signals": (
        "import signal\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass",
        "took longer than 3 s",
    ),
    "a gigabyte": ("x = bytearray(2**30)", "used more memory than 256 MiB"),
    "a growing list": ("x = []\nwhile True: x.append('x' * 10**6)", "used more memory than 256 MiB"),
    "a huge number of threads": (
        "import threading, time\nfor _ in range(100000): threading.Thread(target=time.sleep, args=(9,)).start()",
        "started too many threads",
    ),
    "small threads": (
        "import threading, time\nthreading.stack_size(32768)\n"
        "for _ in range(100000): threading.Thread(target=time.sleep, args=(9,)).start()",
        "started too many threads",
    ),
    "printing for ever": ("while True: print('x' * 1000)", "wrote more than 1 MiB of output"),
    "printing below Python": (
        "import os\nwhile True: os.write(2, b'x' * 4096)",
        "wrote more than 1 MiB of output",
    ),
    "a huge file": (
        "f = open('x', 'wb')\nwhile True: f.write(bytes(10**6))",
        "wrote more than 8 MiB into its folder",
    ),
    "many files": (
        "for i in range(10**6):\n    with open(f'{i}', 'wb') as f: f.write(bytes(10**5))",
        "wrote more than 8 MiB into its folder",
    ),
    "a deep recursion": ("def f(): return f()\nf()", "raised RecursionError"),
    "a stack that runs over": (
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr([self])\nrepr(A())",
        "crashed" if sys.version_info < (3, 12) else "raised RecursionError",
    ),
    "a null pointer": ("import ctypes; ctypes.string_at(0)", "crashed"),
    "exit 0": ("import sys; sys.exit(0)", "ended too early"),
    "exit": ("exit()", "ended too early"),
    "exit below Python": ("import os; os._exit(0)", "ended too early"),
    "deaf and mute": (
        "import os, time; os.close(3); os.close(1); os.close(2); time.sleep(60)",
        "took longer than 3 s",
    ),
    "its way closed": ("import os; os.close(3)", "ended too early"),
    "nonsense reported": ("import os\nfor _ in range(999): os.write(3, b'{[\\n' * 999)", "ended too early"),
    "killed by itself": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "crashed"),
    "no Python": ("def f(:", "is not valid Python"),
    "an exception": ("int('x')", "raised ValueError"),
    "an exception of its own": ("class A(KeyError): pass\nraise A('x')", "raised KeyError"),
    "an assertion": ("assert 1 + 1 == 3, 'sums'", "failed an assertion"),
    "a zero byte": ("x = 1\0", "is not valid Python"),
    "half a character": ("x = '\ud800'", "is not valid Python"),
}


@pytest.mark.parametrize(("code", "reason"), BOUNDED.values(), ids=BOUNDED.keys())
async def test_what_is_too_much_or_wrong_ends(sandbox: Sandbox, code: str, reason: str) -> None:
    verdict = await ran(sandbox, code)
    assert verdict.reason == reason
    assert not verdict.ok
    assert len(verdict.output) <= 16 * 1024
    assert verdict.seconds < 6
    assert (await ran(sandbox, "print(1)")).ok, "the next program is not disturbed"


async def test_no_secret_of_the_user_is_there(sandbox: Sandbox) -> None:
    assert os.environ["OPENAI_API_KEY"]
    verdict = await ran(
        sandbox,
        """
        import ctypes, gc, os
        print(dict(os.environ), os.getcwd(), os.listdir('.'), os.listdir(os.environ['HOME']))
        environ = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), 'environ')
        print([environ[at] for at in range(5)], [str(each)[:2000] for each in gc.get_objects()])
        for fd in range(3, 64):
            try: os.fstat(fd)
            except OSError: continue
            print("open", fd)
        """,
    )
    assert verdict.ok
    assert "secret" not in verdict.output
    opened = [line for line in verdict.output.splitlines() if line.startswith("open ")]
    assert opened in ([], ["open 3"]), "nothing but the way on which it tells how it ended"


async def test_two_programs_know_nothing_of_each_other(sandbox: Sandbox) -> None:
    one = (
        "import builtins, os, time; builtins.x = 1; os.environ['x'] = '1'; open('x', 'w').close(); time.sleep(.3)"
    )
    two = "import builtins, os, time; time.sleep(.15); assert not hasattr(builtins, 'x') and 'x' not in os.environ; assert not os.listdir()"
    verdicts = await asyncio.gather(*(ran(sandbox, code) for code in (one, two, one, two)))
    assert [str(verdict) for verdict in verdicts] == ["right"] * 4


@pytest.mark.parametrize("code", FINE.values(), ids=FINE.keys())
async def test_what_programs_do_is_allowed_on_an_older_linux(older: Sandbox, code: str) -> None:
    assert str(await ran(older, code)) == "right"
