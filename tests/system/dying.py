"""A crew whose worker dies at one exact point of a call, named by DIE_AT; what a second worker serves lives on."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

from activities.answering.answer import TurnLoop
from activities.memory.durable import Durable
from tests.workflows.minds import think_twice

__all__ = ["think_twice"]

FLUSHED_S = 0.3
"""Heartbeat details are on the server by then."""


async def _die() -> None:
    await asyncio.sleep(FLUSHED_S)
    os.kill(os.getpid(), signal.SIGKILL)


def _after(owner: type, name: str) -> None:
    work: Callable[..., Any] = getattr(owner, name)

    async def work_and_die(*args: Any, **kwargs: Any) -> None:
        await work(*args, **kwargs)
        await _die()

    setattr(owner, name, work_and_die)


def _before(owner: type, name: str) -> None:
    async def die_instead(*args: Any, **kwargs: Any) -> None:
        await _die()

    setattr(owner, name, die_instead)


match os.environ.get("DIE_AT"):
    case "answer received":
        _after(TurnLoop, "_ask")
    case "tool result recorded":
        _after(TurnLoop, "_use_tool")
    case "answer recorded":
        _before(Durable, "commit")
    case "call committed":
        _after(Durable, "commit")
