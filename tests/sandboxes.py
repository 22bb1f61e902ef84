"""Sandboxes for tests: that of this Linux, and that of an older one."""

from __future__ import annotations

import textwrap
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from outspoken.checking import sandbox
from outspoken.checking.sandbox import MIB, ProgramResult, Sandbox

# The differences of an older Linux: its Landlock does not guard against truncating files, and its filter of system
# calls cannot notify the parent, so that a forbidden call kills.
OLDER = "from _sandboxed import walls; walls.landlock_version = lambda: 2; walls._NEW_LISTENER = 1 << 30; main()"


@asynccontextmanager
async def sandbox_of_a_user() -> AsyncGenerator[Sandbox]:
    """Low limits, and a user whose environment contains a secret."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "sk-secret-of-the-user")
        async with Sandbox(seconds=3, memory=256 * MIB, disk=8 * MIB, workers=2) as made:
            yield made


@asynccontextmanager
async def older_sandbox() -> AsyncGenerator[Sandbox]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "_SERVER", sandbox._SERVER.replace("main()", OLDER))
        async with Sandbox(seconds=3, memory=256 * MIB, workers=1) as made:
            yield made


async def ran(sandbox: Sandbox, code: str, **names: object) -> ProgramResult:
    for name, value in names.items():
        code = code.replace(f"[{name}]", str(value))
    return await sandbox.run(textwrap.dedent(code))
