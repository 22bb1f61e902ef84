"""The logger `outspoken`: at level DEBUG, what is sent to models and what comes back. A request holds no key."""

from __future__ import annotations

import json
import logging

from outspoken.chat import ChatRequest
from outspoken.chat_reply import ChatReply
from outspoken.errors import OutspokenError

__all__ = ["log_error", "log_reply", "log_request", "logger"]

logger = logging.getLogger("outspoken")
logger.addHandler(logging.NullHandler())


def log_request(model: str, request: ChatRequest) -> None:
    sent = {
        "messages": [message.to_dict() for message in request.messages],
        "sampling": request.sampling.to_dict(),
        "schema": request.schema,
    }
    logger.debug("%s is sent %s", model, _json(sent))


def log_reply(model: str, reply: ChatReply, seconds: float) -> None:
    received = {
        "finish": reply.finish,
        "text": reply.text,
        "reasoning": reply.reasoning,
        "refusal": reply.refusal,
        "usage": reply.usage.to_dict(),
    }
    logger.debug("%s answered after %.3f s: %s", model, seconds, _json(received))


def log_error(model: str, error: OutspokenError, seconds: float) -> None:
    status = getattr(error, "status", None)
    logger.debug("%s failed after %.3f s (status %s): %s", model, seconds, status, error)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
