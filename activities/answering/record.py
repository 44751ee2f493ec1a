"""Writing down what an attempt does, at a call and at the prompts that are asked inside it.

Code of a task or a tool runs again from its beginning when a call is tried again. The prompts that it asks are found by
what they ask, and where: those that were answered are not asked again, and the others go on after their last turn.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

from activities.answering.checkpoint import Checkpoint, InnerCheckpoint
from activities.border.context import asking_inside
from activities.border.user_code import raised_by
from activities.border.washing import name_of, washed, words_of
from activities.contract.text import digest_of
from activities.contract.usage import Usage
from activities.declarations.agent import Agent
from activities.declarations.state import restore_state, saved_state
from activities.errors import AgentError, was_cancelled

SETTLE_S = 30.0
"""Seconds in which prompts may end their turn that are still being asked when the code that asked them has ended."""

_STATE_NUMBER = "_state_number"
"""Where an agent has the number of the state that it was given, or that was written down of it, last."""


class Record:
    """What an attempt writes down while it works at a call, or at a prompt inside one.

    Attributes:
        checkpoint: What is written down.
        write: To be called whenever there is something in the checkpoint that must not be lost.
        loop: Where the work goes on.
    """

    def __init__(self, checkpoint: Checkpoint, write: Callable[[], None], outer: Record | None) -> None:
        """Begin to work at something.

        Args:
            checkpoint: What earlier attempts have left of it.
            write: What sees to it that the checkpoint is not lost.
            outer: Inside what this is; None for the call itself.
        """
        self.checkpoint = checkpoint
        self.write = write
        self._outer = outer
        self._call: Record = outer._call if outer else self
        self._seen: Counter[str] = Counter()
        self._asking: dict[asyncio.Future[None], asyncio.Task[Any]] = {}
        self._ended = False
        self.loop = asyncio.get_running_loop()

    @property
    def is_of_the_call(self) -> bool:
        """Whether this is inside of nothing else."""
        return self._outer is None

    def use(self, usage: Usage) -> None:
        """Count what was used, here and in all that this is inside of."""
        self.checkpoint.usage += usage
        if self._outer is not None:
            self._outer.use(usage)

    def may_ask(self) -> None:
        """Check that somebody waits for another turn.

        Raises:
            CancelledError: The code that asked has ended.
        """
        if self._call._ended:
            raise asyncio.CancelledError

    @contextmanager
    def inside(self, method: str, asked: str, whom: str) -> Iterator[InnerCheckpoint]:
        """Work at a prompt that is asked inside this.

        It is known by the tool call in which it is asked, by what it asks, and by how often the same was asked there
        before in this attempt. So it is found again by the next attempt, in whatever order that comes to it.

        Args:
            method: Its name.
            asked: The user prompt.
            whom: What sets the agent that is asked apart from others of its class.

        Raises:
            AgentError: The code that asks has ended.
        """
        if self._call._ended:
            raise AgentError(
                f"{method} was asked when the call had ended that it belongs to. Await it inside the call."
            )
        asked, tool_call = washed(asked), _tool_call.get()
        same = f"{method}.{digest_of(washed(f'{whom} {asked}'))}"
        where = f"{tool_call}/{same}" if tool_call else same
        name = f"{where}.{self._seen[where]}"
        number, self._seen[where] = self._seen[where], self._seen[where] + 1
        known = self.checkpoint.inner.get(name) or InnerCheckpoint(method=method, tool_call=tool_call, asked=asked)
        self.checkpoint.inner[name] = known
        known.error = ""
        with self._call._asks(), asking_inside(f"{same}.{number}"):
            try:
                yield known
            except Exception as error:
                known.error = f"{name_of(raised_by(error))}: {words_of(raised_by(error))}"
                raise
        known.done = True

    def keep_state(self, agent: Agent) -> None:
        """Write down the state that an agent has after a tool."""
        self.checkpoint.state = saved_state(agent)
        if self._outer is not None and self.checkpoint.state is not None:
            self._call.checkpoint.state_number += 1
            self.checkpoint.state_number = vars(agent)[_STATE_NUMBER] = self._call.checkpoint.state_number

    def take_up_state(self, agent: Agent, remembered: Any) -> None:
        """Give an agent the state that an earlier attempt has written down here, or else what is remembered.

        Prompts that are asked at once share the state of the agent that asks them: an older one never replaces a newer.
        """
        if self.checkpoint.state is None:
            restore_state(agent, remembered)
        elif self.checkpoint.state_number >= vars(agent).get(_STATE_NUMBER, 0) or self._outer is None:
            restore_state(agent, self.checkpoint.state)
            if self._outer is not None:
                vars(agent)[_STATE_NUMBER] = self.checkpoint.state_number

    async def settle(self) -> None:
        """Let prompts end their turn that are still being asked though nobody waits for them: it is paid for.

        Such are the others in an `asyncio.gather` of which one has failed.
        """
        self._ended = True
        try:
            if self._asking and not was_cancelled():
                await asyncio.wait(list(self._asking), timeout=SETTLE_S)
        finally:
            for task in self._asking.values():
                task.cancel()

    @contextmanager
    def _asks(self) -> Iterator[None]:
        task, asking = asyncio.current_task(), self.loop.create_future()
        assert task is not None
        self._asking[asking] = task
        try:
            yield
        finally:
            del self._asking[asking]
            asking.set_result(None)


_current: ContextVar[Record | None] = ContextVar("record", default=None)
_tool_call: ContextVar[str] = ContextVar("tool_call", default="")


def current_record() -> Record | None:
    """Return the record of the call, or of the prompt inside it, inside which the code runs; None outside of any."""
    return _current.get()


def current_checkpoint() -> Checkpoint | None:
    """Return the checkpoint of the call inside which the code runs; None outside of any."""
    record = _current.get()
    return record.checkpoint if record else None


@contextmanager
def accounting_to(checkpoint: Checkpoint, write: Callable[[], None] = lambda: None) -> Iterator[Record]:
    """Let prompts that are asked inside, by a task or by a tool, be part of this checkpoint.

    Args:
        checkpoint: What earlier attempts have left.
        write: Called whenever there is something in the checkpoint that must not be lost.
    """
    record = Record(checkpoint, write, _current.get())
    tokens = _current.set(record), _tool_call.set("")
    try:
        yield record
    finally:
        _current.reset(tokens[0])
        _tool_call.reset(tokens[1])


@asynccontextmanager
async def working(checkpoint: Checkpoint, write: Callable[[], None]) -> AsyncIterator[Record]:
    """Work at a call, or at a prompt inside one; what is asked inside has ended afterwards.

    Args:
        checkpoint: What earlier attempts have left.
        write: Called whenever there is something in the checkpoint that must not be lost.
    """
    with accounting_to(checkpoint, write) as record:
        try:
            yield record
        finally:
            if record.is_of_the_call:
                await record.settle()


@contextmanager
def inside_tool(tool_call: str) -> Iterator[None]:
    """Let what is asked inside be known by the tool call that asks it."""
    token = _tool_call.set(tool_call)
    try:
        yield
    finally:
        _tool_call.reset(token)
