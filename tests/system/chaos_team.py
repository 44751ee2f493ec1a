"""The team of `build_project`, whose tools write down when each of their runs ended, in which process."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from activities import build_team
from activities.agent import Agent, tools_of
from workflows.build_project import build_project

__all__ = ["build_project"]


def _watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def note(agent: Agent) -> None:
        call = agent.call
        assert call is not None
        line = json.dumps({"key": f"{call.idempotency_key}/{name}", "pid": os.getpid(), "at": time.time()})
        with Path(os.environ["CHAOS_TOOLS"]).open("a") as file:
            file.write(f"{line}\n")

    @functools.wraps(function)
    async def asynchronous(agent: Agent, *args: Any, **kwargs: Any) -> Any:
        try:
            return await function(agent, *args, **kwargs)
        finally:
            note(agent)

    @functools.wraps(function)
    def synchronous(agent: Agent, *args: Any, **kwargs: Any) -> Any:
        try:
            return function(agent, *args, **kwargs)
        finally:
            note(agent)

    return asynchronous if name == "run_tests" else synchronous


for _agent in (build_team.Author, build_team.TeamMember):
    for _name, _tool in tools_of(_agent).items():
        if not hasattr(_tool.function, "__wrapped__"):
            _tool.function = _watched(_name, _tool.function)
