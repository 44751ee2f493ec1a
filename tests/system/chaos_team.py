"""The team of `build_project`, which builds again and again, tells which tools ran, and can be struck at a moment.

Whoever wants something killed at the very moment of a commit, or of a run's continuing as new, puts an order into the
folder CHAOS; the worker that comes to that moment first carries it out.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from temporalio.bridge.worker import Worker

from activities import build_team
from activities.build_team import Architect, Coder, Review, Reviewer
from activities.declarations.agent import Agent, tools_of
from activities.memory.durable import Durable
from activities.merger import Merger
from workflows import choreography, continue_with
from workflows.build_project import build_project

FOLDER = Path(os.environ.get("CHAOS", "."))


@choreography(coder=2, reviewer=2)
async def build_in_rounds(
    project_spec: str, rounds: int, architect: Architect, coder: Coder, reviewer: Reviewer, merger: Merger
) -> list[Review]:
    """Build the project, and afresh in each further round."""
    reviews = await build_project(project_spec, architect, coder, reviewer, merger)
    return reviews if rounds == 1 else continue_with(project_spec, rounds - 1)


def come_to(moment: str) -> None:
    """Carry out the order for a moment, if there is one."""
    mine = FOLDER / f"{moment}-struck-by-{os.getpid()}"
    with suppress(FileNotFoundError):
        (FOLDER / moment).rename(mine)  # of several that come at the same time one gets it
        order = json.loads(mine.read_text())
        threading.Timer(order["after"], os.kill, (order["pid"] or os.getpid(), signal.SIGKILL)).start()
        time.sleep(order["before"])


def _come_to_commits() -> None:
    commit = Durable.commit

    async def watched(self: Durable, *args: Any, **kwargs: Any) -> None:
        come_to("commit")
        await commit(self, *args, **kwargs)

    setattr(Durable, "commit", watched)  # noqa: B010  # a method is no variable to mypy


def _come_to_continuing() -> None:
    complete = Worker.complete_workflow_activation

    async def watched(self: Worker, comp: Any) -> None:
        if any(command.HasField("continue_as_new_workflow_execution") for command in comp.successful.commands):
            come_to("continue-as-new")
        await complete(self, comp)

    setattr(Worker, "complete_workflow_activation", watched)  # noqa: B010


def _watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def note(agent: Agent) -> None:
        call = agent.call
        assert call is not None
        line = json.dumps({"key": f"{call.idempotency_key}/{name}", "pid": os.getpid(), "at": time.time()})
        with (FOLDER / "tools.jsonl").open("a") as file:
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


def _once(edit: Callable[..., str]) -> Callable[..., str]:
    """Make an edit that is made again after a kill say what it said before: it was in flight, so it may have run."""

    @functools.wraps(edit)
    def edit_file(agent: Agent, path: str, old: str, new: str) -> str:
        call = agent.call
        assert call is not None
        said = FOLDER / "edits" / call.idempotency_key.replace("/", "_")
        text = agent.workspace.read(path)
        if said.exists() and new in text:
            return said.read_text()
        said.parent.mkdir(exist_ok=True)
        said.write_text(f"edited {path} (now {len(text.replace(old, new).splitlines())} lines)")
        return edit(agent, path, old, new)

    return edit_file


def _watch_and_strike() -> None:
    _come_to_commits()
    _come_to_continuing()
    for agent in (build_team.Author, build_team.TeamMember):
        for name, tool in tools_of(agent).items():
            if not hasattr(tool.function, "__wrapped__"):
                made = _once(tool.function) if name == "edit_file" else tool.function
                tool.function = _watched(name, made)


if "CHAOS" in os.environ:  # and not where this is only imported, as by who collects tests
    _watch_and_strike()
