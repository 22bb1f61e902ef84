"""Python runs this when it starts, where `tests/recorded` is on its path: models in process then give recorded replies.

`$OUTSPOKEN_RECORDED` names the recording, JSON lines. Each holds the key of a request (model, messages, sampling,
schema) and a reply of the real model; several replies to one request are given in turn, from the first in each process.
With `$OUTSPOKEN_RECORD=1` the real model answers what the recording lacks, and that is added to it: a later process asks
on after the same replies as when they are given.
"""

from __future__ import annotations

import hashlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

_TARGET = "outspoken.models.local"
_PIECE = 16


class _Finder(importlib.abc.MetaPathFinder):
    """Changes one module as it is loaded, whenever that is."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != _TARGET:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        load = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            _change(module.Local, Path(os.environ["OUTSPOKEN_RECORDED"]))

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _change(local: Any, file: Path) -> None:
    from outspoken.chat import ChatRequest
    from outspoken.chat_reply import ChatReply, Usage

    complete, stream = local.complete, local.stream
    recording = bool(os.environ.get("OUTSPOKEN_RECORD"))
    given: Counter[str] = Counter()
    replies: dict[str, list[dict[str, Any]]] = {}
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            replies.setdefault(entry["key"], []).append(entry["reply"])

    def key(model: Any, request: ChatRequest) -> str:
        messages = [message.to_dict() for message in request.messages]
        parts = [model.name, messages, request.sampling.to_dict(), request.schema]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]

    def take(model: Any, request: ChatRequest) -> ChatReply | None:
        """The next reply to a request; None if it is to be recorded."""
        at = key(model, request)
        known, number = replies.get(at, []), given[at]
        given[at] += 1
        if recording and number >= len(known):
            return None
        if not known:
            raise RuntimeError(f"{file.name} holds no reply to {request.messages[-1].content[:60]!r}: record it")
        found = known[number % len(known)]
        return ChatReply(**{**found, "usage": Usage(**found["usage"])})

    def keep(model: Any, request: ChatRequest, reply: ChatReply) -> None:
        line = json.dumps({"key": key(model, request), "reply": asdict(reply)}, ensure_ascii=False) + "\n"
        with file.open("ab") as target:
            target.write(line.encode())

    async def recorded(self: Any, request: ChatRequest) -> ChatReply:
        if (known := take(self, request)) is not None:
            return known
        reply: ChatReply = await complete(self, request)
        keep(self, request, reply)
        return reply

    async def streamed(self: Any, request: ChatRequest) -> AsyncGenerator[str | ChatReply, None]:
        if (known := take(self, request)) is None:
            async for item in stream(self, request):
                if isinstance(item, ChatReply):
                    keep(self, request, item)
                yield item
            return
        for start in range(0, len(known.text), _PIECE):
            yield known.text[start : start + _PIECE]
        yield known

    local.complete, local.stream = recorded, streamed


if "OUTSPOKEN_RECORDED" in os.environ:
    sys.meta_path.insert(0, _Finder())
