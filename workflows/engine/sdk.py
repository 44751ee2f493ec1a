"""What runs rely on that Temporal's SDK does not promise: each such thing stands here, once.

`tests/workflows/engine/test_sdk.py` has a test for each, which fails where another version of the SDK does otherwise.
What workers rely on is in `serving/sdk.py`; the words of a run that can't be replayed are read in `shown/changed.py`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from temporalio import workflow

STOPPED = (Exception, asyncio.CancelledError)
"""What stops a piece of work of a run that has something to put right then.

`GeneratorExit` is left out: by it the garbage collector closes the runs that a worker holds when it ends. Such a run
can neither wait nor send anything any more, as its loop is gone, and it may be closed in somebody else's context.
"""

StartTimer = Callable[[float, Callable[[], object]], asyncio.TimerHandle]
"""Has the server keep a timer of so many seconds, with its name in the Web UI, and calls back then."""

TakeTimer = Callable[[float, Callable[[], object], StartTimer], asyncio.Handle | None]
"""Gets the seconds of a timer, what is to happen then, and what would start it. Returns its handle, or None."""


def take_timers(take: TakeTimer) -> None:
    """Have a function decide on every timer of the run that is executing, asyncio's as well as the SDK's.

    Relies on all of them being set by the loop's `_timer_impl`, and on nothing being done with the handle that it
    returns but to cancel it.

    Args:
        take: Decides; where it returns None, the SDK sets the timer as it would have.
    """
    loop: Any = asyncio.get_running_loop()
    set_timer = loop._timer_impl

    def timer(delay: float, options: Any, callback: Callable[..., Any], *args: Any, context: Any = None) -> Any:
        context = context or contextvars.copy_context()
        ring = functools.partial(loop.call_soon, callback, *args, context=context)
        taken = take(delay, ring, lambda seconds, then: set_timer(seconds, options, then))
        return set_timer(delay, options, callback, *args, context=context) if taken is None else taken

    loop._timer_impl = timer


def watch_tasks(begins: Callable[[Any], None]) -> None:
    """Tell a function of every coroutine that becomes a task of the run that is executing, before it does.

    Relies on asyncio, and all that is built on it, making tasks by the `create_task` of the loop.

    Args:
        begins: Gets the coroutine.
    """
    loop: Any = asyncio.get_running_loop()
    create_task = loop.create_task

    def create(work: Any, *args: Any, **kwargs: Any) -> Any:
        begins(work)
        return create_task(work, *args, **kwargs)

    loop.create_task = create


def raise_if_evicted() -> None:
    """Raise, if the worker lets go of the run: then all tasks are cancelled, and none may wait any longer.

    Else it looks like a cancellation of the run. Relies on the SDK refusing to give a random number then.
    """
    workflow.random()


def may_tell(run_id: str) -> bool:
    """Whether what a run does now is new, and is done by it.

    Relies on the SDK taking it for a replay when a worker lets go of a run, and on code of a run that the garbage
    collector closes being in no run, or in another.

    Args:
        run_id: The run's.
    """
    return workflow.in_workflow() and workflow.info().run_id == run_id and not workflow.unsafe.is_replaying()


async def until_all_wait(condition: Callable[[], bool]) -> None:
    """Wait for the first moment at which a condition holds and no task of the run can go on.

    Relies on the SDK looking at conditions only when nothing is ready to run, also in the middle of a workflow task.
    """
    await workflow.wait_condition(condition)


def workflow_task() -> int:
    """Return a number that is another one in each workflow task of a run.

    Relies on the length of the history, as the run is told it, growing with every workflow task and not within one.
    """
    return workflow.info().get_current_history_length()


class DeclaredHandler(NamedTuple):
    """What the SDK knows of a method that takes a signal, a query or an update.

    Attributes:
        decorate: Declares another function to be the same.
        validator: Of an update, if it has one.
    """

    decorate: Callable[[Callable[..., Any]], Any]
    validator: Callable[..., None] | None


def declared_handler(function: Callable[..., Any]) -> DeclaredHandler | None:
    """Return what a method was declared to take; None if it was not.

    Relies on the attributes of a function in which the SDK's decorators note that.
    """
    for attribute, decorator in _NOTED_IN.items():
        if (noted := getattr(function, attribute, None)) is not None:
            decorate = decorator(name=noted.name, description=noted.description)
            return DeclaredHandler(decorate, getattr(noted, "validator", None))
    return None


def signals_of(kind: type) -> list[str]:
    """Return the names of the signals that a workflow class takes, by the same attributes."""
    noted = [getattr(getattr(kind, name, None), _SIGNAL, None) for name in dir(kind)]
    return [one.name for one in noted if one is not None and one.name]


_SIGNAL = "__temporal_signal_definition"

_NOTED_IN: Mapping[str, Any] = {
    _SIGNAL: workflow.signal,
    "__temporal_query_definition": workflow.query,
    "_defn": workflow.update,
}
