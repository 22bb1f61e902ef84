"""A process that compares mathematics with math-verify for `Checker`, and that can be killed.

It reads lines of JSON, [expected, given], and answers each with true or false. A first true says that it is ready.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from functools import lru_cache
from typing import Any

_MEMORY = 2**31
_PI = re.compile(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])|π")


def main() -> None:
    # Output of libraries must not get among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.disable()
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    import math_verify

    @lru_cache(maxsize=256)
    def parsed(text: str) -> Any:
        return math_verify.parse("$" + _PI.sub(r" \\pi ", text) + "$", parsing_timeout=None)

    print("true", file=answers, flush=True)
    for line in sys.stdin:
        try:
            equal = bool(math_verify.verify(*map(parsed, json.loads(line)), timeout_seconds=None))
        except Exception:
            equal = False
        print(json.dumps(equal), file=answers, flush=True)


if __name__ == "__main__":
    main()
