"""The call that is being answered: who, in which run, at which step. Held in a context variable."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from activities.border.secrets import secret


@dataclass(frozen=True)
class CallContext:
    """What code inside a call may know of it."""

    workflow_id: str
    run_id: str
    instance: str
    method: str
    step: str
    turn: int = 0
    tool_call: int = 0
    inside: str = ""
    """Which prompt this is, of those that are asked inside the call; empty for the call itself."""
    budget_left: Mapping[str, float] | None = None
    """What was left of the budget when the call began, for it and all later ones: by `usd`, `tokens`, `calls`, `hours`,
    those that are limited; None where nothing is."""

    @property
    def idempotency_key(self) -> str:
        """The same for every repetition of this piece of work, and for no other: `<run>/<step>/<turn>/<tool call>`.

        In a prompt that a tool asks, that tool call is followed by the prompt, and by turn and tool call in that one.
        """
        return f"{self.run_id}/{self.step}/{self.inside}{self.turn}/{self.tool_call}"

    def secret(self, name: str) -> str:
        """Return a secret of this worker by its name, such as `STRIPE_KEY`; it is replaced in all that leaves it.

        Raises:
            SettingInvalid: The worker has none of that name; says how to give it.
        """
        return secret(name)


_current: ContextVar[CallContext | None] = ContextVar("call", default=None)


def current_call() -> CallContext | None:
    """Return the call of a choreography that is being answered here, or None."""
    return _current.get()


@contextmanager
def answering(call: CallContext) -> Iterator[None]:
    """Make a call the current one."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def calling_tool(turn: int, tool_call: int) -> Iterator[None]:
    """Make a model's tool call part of the current call's idempotency key."""
    call = _current.get()
    if call is None:
        yield
        return
    with answering(replace(call, turn=turn, tool_call=tool_call)):
        yield


@contextmanager
def asking_inside(prompt: str) -> Iterator[None]:
    """Make a prompt that is asked inside part of the current call's idempotency key."""
    call = _current.get()
    if call is None:
        yield
        return
    place = f"{call.inside}{call.turn}/{call.tool_call}/{prompt}/"
    with answering(replace(call, inside=place, turn=0, tool_call=0)):
        yield


def workspaces_folder() -> Path:
    """Return the folder that holds a folder per run: the environment's WORKSPACES, or `workspaces` here."""
    return Path(os.environ.get("WORKSPACES") or "workspaces").absolute()
