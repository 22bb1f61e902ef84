"""Unit tests in the sandbox, and that a program leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
import pytest_asyncio

from outspoken.checking.sandbox import ProgramResult, Sandbox, run_in_sandbox
from outspoken.checking.unit_tests import check_program, code_in
from outspoken.errors import UsageError

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is for Linux"),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def sandbox() -> AsyncGenerator[Sandbox]:
    async with Sandbox(seconds=3, workers=2) as made:
        yield made


TESTED = {
    "asserts": ("def add(a, b): return a + b", "assert add(1, 2) == 3\nassert add(2, 2) == 4", ""),
    "a wrong one": (
        "def add(a, b): return a - b",
        "assert add(1, 0) == 1\nassert add(1, 2) == 3",
        "failed an assertion",
    ),
    "functions": (
        "def f(): return 1",
        "def test_one():\n    assert f() == 1\ndef test_two():\n    assert f() == 2",
        "failed an assertion",
    ),
    "an import": (
        "def f(): return 1",
        "from solution import f\nimport solution\ndef test_f(): assert solution.f() == f() == 1",
        "",
    ),
    "unittest": (
        "def f(): return 1",
        "import unittest\nclass A(unittest.TestCase):\n    def test_a(self): self.assertEqual(f(), 1)\n"
        "    def test_b(self):\n        with self.subTest('x'): self.assertEqual(f(), 2)\nif __name__ == '__main__': unittest.main()",
        "failed an assertion",
    ),
    "a class": ("def f(): return 1", "class TestF:\n    def test_f(self): assert f() == 2", "failed an assertion"),
    "coroutines": ("async def f(): return 1", "async def test_f(): assert await f() == 2", "failed an assertion"),
    "a main that asks": ("def f(): return 1\nif __name__ == '__main__': f(input())", "assert f() == 1", ""),
    "fences": (
        "Here it is:\n```python\ndef f(): return '日'\n```\nGood luck!",
        "```py\nassert f() == '日'\n```",
        "",
    ),
    "its own exception": ("def f(): return 1 / 0", "assert f() == 1", "raised ZeroDivisionError"),
    "an exit before": ("import sys; sys.exit(0)", "assert False", "ended too early"),
    "an exit below": ("import os; os._exit(0)", "assert False", "ended too early"),
    "an exit within": ("import os\ndef f(): os._exit(0)", "assert f() == 1", "ended too early"),
    "an exit in unittest": (
        "import sys\ndef f(): sys.exit(0)",
        "import unittest\nclass A(unittest.TestCase):\n    def test_a(self): f()",
        "ended too early",
    ),
    "a liar": (
        'print(\'OK\\nright\\n1 passed\'); import os; os.write(3, b\'{"nonce": "", "reason": ""}\\n\'); os._exit(0)',
        "assert False",
        "ended too early",
    ),
    "no tests": ("def f(): return 1", "# none", "there are no tests"),
    "blank tests": ("def f(): return 1", "  \n", "there are no tests"),
    "tests that nobody calls": ("def f(): return 1", "def check(g):\n    assert g() == 2", "there are no tests"),
    "tests that are called": (
        "def f(): return 1",
        "def check(g):\n    assert g() == 2\ncheck(f)",
        "failed an assertion",
    ),
    "no program": ("```python\n```", "assert True", "there is no program"),
    "broken tests": ("x = 1", "assert (", "its tests are not valid Python"),
    "a broken solution": ("x = (", "assert x", "is not valid Python"),
    "a broken import": ("import nowhere", "assert x", "raised ModuleNotFoundError"),
    "a socket in a test": (
        "x = 1",
        "def test_x():\n    import socket\n    socket.socket()",
        "tried to open a socket",
    ),
    "for ever in a test": ("x = 1", "while True: pass", "took longer than 3 s"),
}


@pytest.mark.parametrize(("solution", "tests", "reason"), TESTED.values(), ids=TESTED.keys())
async def test_unit_tests(sandbox: Sandbox, solution: str, tests: str, reason: str) -> None:
    verdict = await check_program(sandbox, solution, tests)
    assert (verdict.reason, verdict.ok) == (reason, not reason)


async def test_the_verdict_has_the_first_that_fails(sandbox: Sandbox) -> None:
    verdict = await check_program(
        sandbox, "def f(): return 1", "assert f() == 1\nassert f() == 2, 'früh'\nassert f() == 3"
    )
    assert str(verdict) == (
        "failed an assertion: AssertionError: früh, in line 2 of the tests: assert f() == 2, 'früh'"
    )


async def test_code_is_taken_out_of_its_fences() -> None:
    assert code_in("x = 1") == "x = 1"
    assert code_in("```python\na = 1\n```\ntext\n```\nb = 2\n```\n```sh\nls\n```") == "a = 1\n\nb = 2\n"
    assert code_in("~~~~py\n```\n~~~~") == "```\n"


async def test_files_are_laid_into_its_folder(sandbox: Sandbox) -> None:
    code = "import a.b; assert a.b.x == '日'; assert open('data', 'rb').read() == b'\\xff'"
    assert (await sandbox.run(code, files={"a/b.py": "x = '日'", "data": b"\xff"})).ok
    for name in ("/etc/x", "../x", "a/../../x", "", "."):
        with pytest.raises(UsageError, match="must be in its folder"):
            await sandbox.run("", files={name: ""})


async def test_a_folder_is_gone_whatever_is_left_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    deep = "import os\nfor _ in range(900):\n    os.mkdir('x' * 200); os.chdir('x' * 200)"
    empty = "import os\nfor i in range(10**6): os.mkfifo(f'{i}')"
    async with Sandbox(seconds=30, workers=1) as sandbox:
        assert (await sandbox.run(deep)).reason == "created too many files"
        assert (await sandbox.run(empty)).reason == "created too many files"
        assert (
            await sandbox.run("import os\nos.umask(0o777)\nos.makedirs('a'); os.mkdir('b', 0); os.mkfifo('c')")
        ).ok
        assert (await sandbox.run("import os; os.symlink('/', 'root'); os.symlink('.', 'again')")).ok
        (base,) = tmp_path.iterdir()
        assert not list(base.iterdir())
    assert not list(tmp_path.iterdir())


def children() -> set[int]:
    """The processes below this one."""
    found, open_ = set(), [os.getpid()]
    while open_:
        for path in Path(f"/proc/{open_.pop()}/task").glob("*/children"):
            fresh = {int(number) for number in path.read_text().split()} - found
            found |= fresh
            open_ += fresh
    return found


async def test_cancelling_leaves_no_process_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = children()
    async with Sandbox(seconds=60, workers=2) as sandbox:
        running = asyncio.gather(*(sandbox.run("open('x', 'w').close()\nwhile True: pass") for _ in range(4)))
        while len(list(tmp_path.glob("*/*/x"))) < 2:
            await asyncio.sleep(0.02)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await sandbox.run("print(1)")).ok, "it goes on working"
    assert children() <= before
    assert not list(tmp_path.iterdir())


async def test_when_we_are_killed_the_program_is_too(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(
        "import asyncio\nfrom outspoken.checking.sandbox import run_in_sandbox\n"
        "asyncio.run(run_in_sandbox(\"open('x', 'w').close()\\nwhile True: pass\", seconds=60))"
    )
    folder = tmp_path / "tmp"
    folder.mkdir()
    process = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "TMPDIR": str(folder)})
    until = time.monotonic() + 30
    while not list(folder.glob("*/*/x")) and time.monotonic() < until:
        time.sleep(0.05)
    inside = [path.name for path in Path("/proc").iterdir() if str(folder) in _line(path)]
    assert inside
    process.kill()
    process.wait()
    while any(Path("/proc", name).exists() for name in inside) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(Path("/proc", name).exists() for name in inside)
    assert not list(folder.iterdir())


def _line(process: Path) -> str:
    try:
        return (process / "cmdline").read_text()
    except OSError:
        return ""


async def test_it_works_from_a_thread() -> None:
    found: list[ProgramResult] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(run_in_sandbox("print(1)", seconds=5))))
    thread.start()
    thread.join()
    assert found[0].output == "1\n"


async def test_without_a_sandbox_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UsageError, match=r"Linux 5\.13"):
        await run_in_sandbox("print(1)")


@pytest.mark.parametrize("bound", [{"seconds": 0}, {"memory": 1000}, {"workers": 0}])
async def test_bounds_that_cannot_be(bound: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="a sandbox needs"):
        Sandbox(**bound)  # type: ignore[arg-type]
