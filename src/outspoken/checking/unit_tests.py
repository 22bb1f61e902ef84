"""Whether a program passes its tests, in the sandbox."""

from __future__ import annotations

import re

from outspoken.checking.sandbox import ProgramResult, Sandbox

__all__ = ["check_program", "code_in"]

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
_PYTHON = ("python", "py", "python3", "")


def code_in(text: str) -> str:
    """The program in what a model wrote: its fenced blocks of Python one after another, else the whole text."""
    blocks = [found[3] for found in _FENCE.finditer(text) if found[2].lower() in _PYTHON]
    return "\n".join(blocks) if blocks else text


async def check_program(sandbox: Sandbox, solution: str, tests: str) -> ProgramResult:
    """Run the tests of a solution in the sandbox; both may stand in fenced blocks.

    The solution is the module `solution` (so that what it does as `__main__` is not done), and the tests follow in
    it: asserts, functions `test_*`, classes of `unittest` or `Test*`. The verdict has the first that fails. Tests
    that assert and call nothing are no tests, and a solution that ends the program has not passed them.
    """
    program, questions = code_in(solution), code_in(tests)
    if not program.strip():
        return ProgramResult(False, "there is no program")
    if not questions.strip():
        return ProgramResult(False, "there are no tests")
    return await sandbox.run(program, questions)
