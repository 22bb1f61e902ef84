"""Running the unit tests of a program in the sandbox."""

from __future__ import annotations

import re

from outspoken.checking.sandbox import ProgramResult, Sandbox

__all__ = ["check_program", "code_in"]

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*\1[ \t]*$", re.MULTILINE | re.DOTALL)
_PYTHON = ("python", "py", "python3", "")


def code_in(text: str) -> str:
    """The program in a model's text: its fenced blocks of Python, joined, or else the whole text."""
    blocks = [match[3] for match in _FENCE.finditer(text) if match[2].lower() in _PYTHON]
    return "\n".join(blocks) if blocks else text


async def check_program(sandbox: Sandbox, solution: str, tests: str) -> ProgramResult:
    """Run the tests of a solution in the sandbox; both may be in fenced blocks.

    The solution is the module `solution` (so its `__main__` part does not run), and the tests follow in the same
    module: asserts, functions `test_*`, classes of `unittest` or `Test*`. The result describes the first test that
    fails. Tests that neither assert nor call anything do not count, and a solution that ends the program fails.
    """
    program, test_code = code_in(solution), code_in(tests)
    if not program.strip():
        return ProgramResult(False, "there is no program")
    if not test_code.strip():
        return ProgramResult(False, "there are no tests")
    return await sandbox.run(program, test_code)
