"""Inside the sandbox: running a program and its tests, and the reason of a failure."""

from __future__ import annotations

import ast
import builtins
import ctypes
import errno
import inspect
import linecache
import os
import posix
import sys
import threading
import types
import unittest
from collections.abc import Callable, Iterator
from typing import Any

from .walls import PROCESS, READABLE

__all__ = ["EARLY", "READING", "THREADS", "WRITING", "run", "watch"]

WRITING = "tried to write outside its folder"
READING = "tried to read outside its folder"
THREADS = "started too many threads"
EARLY = "ended too early"
_PROGRAM, _TESTS = "<program>", "<tests>"
_LONGEST = 300
_STACK = 2**21

_WRITE = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# Audit events, with the indices of their arguments that are changed, created or read paths.
_CHANGED = {
    **dict.fromkeys(("os.remove", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.utime", "os.link"), (0,)),
    **dict.fromkeys(("os.setxattr", "os.removexattr", "os.rename", "shutil.rmtree"), (0,)),
}
_CREATED = {"os.mkdir": (0,), "os.symlink": (1,), "os.link": (1,), "os.rename": (1,), "sqlite3.connect": (0,)}
_READ = {"os.listdir": (0,), "os.scandir": (0,)}
_FREE = ("/dev/null", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/fd/", ":memory:")


def watch(folder: str, attempted: Callable[[str], None]) -> None:
    """Call `attempted` when Python is about to read or write outside the allowed paths.

    This only provides the reason: Landlock prevents the access, even if a program bypasses Python.
    """
    real, stat, fspath = _real_path(), posix.stat, os.fspath
    own = (real(folder),)
    readable = (*own, *(real(path) for path in READABLE))
    rules = ((_CHANGED, own, False, WRITING), (_CREATED, own, True, WRITING), (_READ, readable, False, READING))
    known = {"open", *_CHANGED, *_CREATED, *_READ}

    def exists(path: str) -> bool:
        try:
            stat(path)
        except PermissionError:
            return True
        except OSError:
            return False
        return True

    def outside(path: Any, inside: tuple[str, ...], *, created: bool = False) -> bool:
        """Whether a path lies outside and exists or, if it is to be `created`, its folder exists."""
        try:
            path = fspath(path)
        except TypeError:
            return False
        text = path.decode("utf-8", "surrogateescape") if isinstance(path, bytes) else path
        if not text or "\0" in text or text.startswith(_FREE):
            return False
        target = real(text)
        if not target or any(target == each or target.startswith(each + "/") for each in inside):
            return False
        return exists((target.rpartition("/")[0] or "/") if created else target)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in known:
            return
        if event == "open":
            path, _, flags = arguments
            if flags & _WRITE:
                if outside(path, own, created=True):
                    attempted(WRITING)
            elif outside(path, readable):
                attempted(READING)
        for paths, inside, created, reason in rules:
            if any(outside(arguments[at], inside, created=created) for at in paths.get(event, ())):
                attempted(reason)

    sys.addaudithook(hook)


def run(code: str, tests: str | None, folder: str, limits: dict[str, str]) -> tuple[str, str]:
    """Run a program, then its `tests`: asserts, functions test_*, classes of tests.

    `limits` has the reasons for a program that used too much memory ("memory") or wrote too large a file ("disk").
    Returns the reason of a failure, a short text that is the same for each cause ("" for success), and details.
    """
    name = "__main__" if tests is None else "solution"
    module = types.ModuleType(name)
    module.__file__ = os.path.join(folder, "program.py")
    sys.modules[name] = module
    sys.argv = [module.__file__]
    sys.path.insert(0, folder)
    threading.stack_size(_STACK)
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]
    texts = {_PROGRAM: code, _TESTS: tests or ""}
    for file, text in texts.items():
        linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    stage = _PROGRAM
    try:
        exec(compile(code, _PROGRAM, "exec"), vars(module))
        if tests is None:
            _wait_for_threads()
            return "", ""
        before = dict(vars(module))
        stage = _TESTS
        exec(compile(tests, _TESTS, "exec"), vars(module))
        calls = 0
        for call in _tests_in(module, before):
            call()
            calls += 1
        return ("", "") if calls or _checks(ast.parse(tests)) else ("there are no tests", "")
    except BaseException as error:
        return _explain(error, stage, texts, limits)


def _tests_in(module: types.ModuleType, before: dict[str, Any]) -> Iterator[Callable[[], Any]]:
    """The tests that are defined and not called by the module itself."""
    for name, value in list(vars(module).items()):
        if before.get(name) is value:
            continue
        if isinstance(value, types.FunctionType) and name.startswith("test"):
            yield _synchronous(value)
        elif isinstance(value, type) and issubclass(value, unittest.TestCase):
            for case in unittest.defaultTestLoader.loadTestsFromTestCase(value):
                yield lambda case=case: case.run(_Raising())  # type: ignore[misc]
        elif isinstance(value, type) and name.startswith("Test"):
            for each in [each for each in dir(value) if each.startswith("test")]:
                yield lambda value=value, each=each: _synchronous(getattr(value(), each))()  # type: ignore[misc]


def _synchronous(function: Callable[[], Any]) -> Callable[[], Any]:
    if not inspect.iscoroutinefunction(function):
        return function
    import asyncio

    return lambda: asyncio.run(function())


class _Raising(unittest.TestResult):
    """Raises the exception of the first failure."""

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        raise err[1]

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        raise err[1]

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        if err is not None:
            raise err[1]

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        raise AssertionError("expected to fail, and did not")


def _checks(tree: ast.AST) -> bool:
    """Whether anything is asserted or called outside functions: a function that is never called tests nothing."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Assert | ast.Raise | ast.Call):
            return True
        inner = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda)
        if not inner and _checks(node):
            return True
    return False


def _wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _explain(error: BaseException, stage: str, texts: dict[str, str], limits: dict[str, str]) -> tuple[str, str]:
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((trace.tb_frame.f_code.co_filename, trace.tb_lineno))
        trace = trace.tb_next
    # The frames may occupy the memory that is needed now.
    error.__traceback__ = None
    kind = type(error)
    known = next(each.__name__ for each in kind.__mro__ if getattr(builtins, each.__name__, None) is each)
    reason = f"raised {known}"
    if isinstance(error, MemoryError):
        reason = limits["memory"]
    elif isinstance(error, OSError) and error.errno == errno.EFBIG:
        reason = limits["disk"]
    elif isinstance(error, SystemExit):
        reason = EARLY
    elif isinstance(error, AssertionError):
        reason = "failed an assertion"
    elif isinstance(error, SyntaxError | ValueError) and not any(file in texts for file, _ in frames):
        # No line of it has run: it cannot be compiled.
        reason = "is not valid Python" if stage == _PROGRAM else "its tests are not valid Python"
    elif isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        reason = THREADS
    elif isinstance(error, PermissionError) and any("/multiprocessing/" in file for file, _ in frames):
        # multiprocessing first creates semaphores, which are outside the folder.
        reason = PROCESS
    try:
        details = f"{kind.__name__}: {error}".removesuffix(": ")[:_LONGEST]
    except Exception:
        details = kind.__name__
    where = next(((file, line) for file, line in reversed(frames) if file in texts), None)
    if where is not None:
        lines = texts[where[0]].splitlines()
        line = lines[where[1] - 1].strip() if where[1] <= len(lines) else ""
        details += f", in line {where[1]} of the {where[0].strip('<>')}: {line[:_LONGEST]}"
    return reason, details


def _real_path() -> Callable[[str], str]:
    """The C library's realpath: programs that replace functions of os do not change it.

    For a path that does not exist it returns the place at which it would be created, also through dangling links.
    """
    resolve = ctypes.CDLL(None).realpath
    resolve.restype = ctypes.c_void_p
    resolve.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
    buffer, readlink = ctypes.c_char * 4097, posix.readlink

    def real(path: str) -> str:
        raw = path.encode("utf-8", "surrogateescape")
        resolved = buffer()
        for _ in range(10):
            if resolve(raw, resolved):
                return resolved.value.decode("utf-8", "surrogateescape")
            folder, _, name = raw.rstrip(b"/").rpartition(b"/")
            folder = folder or (b"/" if raw.startswith(b"/") else b".")
            try:
                target = readlink(raw)
            except OSError:
                exists = resolve(folder, resolved)
                if not exists and not folder.startswith(b"/"):
                    return ""  # too deep to resolve
                return ((resolved.value if exists else folder) + b"/" + name).decode("utf-8", "surrogateescape")
            raw = target if target.startswith(b"/") else folder + b"/" + target
        return path

    return real
