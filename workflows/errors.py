"""The errors of the workflows wing: one root, a few leaves, each with what to do next in its message."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path

from temporalio.worker.workflow_sandbox import RestrictedWorkflowAccessError

from activities.border.washing import in_a_list, name_of, words_of
from activities.contract.text import clip
from activities.errors import AgentError, place_of

_HERE = str(Path(__file__).parent)


class ChoreographyError(Exception):
    """Root of everything that the workflows wing raises on purpose."""


class ChoreographyInvalid(ChoreographyError, TypeError):
    """A choreography is declared wrongly; raised when its module is imported."""


class InputInvalid(ChoreographyError):
    """An input or option of a run does not fit; names the parameter."""


class UnknownMethod(ChoreographyError, AttributeError):
    """A role was asked for something that its agents do not do."""


class UnknownInstance(ChoreographyError):
    """An instance was named that the role's pool does not have."""


class ClaimCycle(ChoreographyError):
    """A claim would wait for something that waits for the claimer; names the cycle."""


class ClaimEnded(ChoreographyError):
    """An instance was used after the body that had claimed it ended."""


class TooLarge(ChoreographyError):
    """Arguments or a result are more than the server takes."""


class SettingsInvalid(ChoreographyError):
    """A worker was started with settings that can't be used; says which and what to do."""


class ForkRefused(ChoreographyError):
    """A run can't be forked so; says why."""


class NotAwaited(ChoreographyError):
    """A program came to its end and never awaited something that it began; names it and its line."""


class ItemsRefused(ChoreographyError, ValueError):
    """A scatter can't be made of these items; says why, and what to give instead."""


class BodyInvalid(ChoreographyError, TypeError):
    """The body of a scatter returned nothing that could be awaited; names its line."""


class ProgramChanged(ChoreographyError):
    """A run can't go on with the program as it is now; the run waits for the one that it was started with."""


class JournalFull(ChoreographyError):
    """A run would have to remember more than it may in order to continue as new."""


class PagesUnreadable(ChoreographyError):
    """A history is replayed without access to the server that keeps the pages of its run's journal."""


class NoSuchPart(ChoreographyError):
    """Something was sent for a part of a run that is not at work."""


class AnswerRefused(ChoreographyError):
    """An answer to a question of a run is none; says why, and what is open.

    Attributes:
        places: What is wrong with which part of it, by the parts' places in it; empty if it is not about parts.
    """

    def __init__(self, message: str, places: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.places = dict(places or {})


class BudgetExceeded(ChoreographyError):
    """A run was to fail at the limit of its budget, and has reached it; says what was spent and done."""


class CallFailed(ChoreographyError):
    """A call failed for good.

    Attributes:
        method: `Coder.implement_module`.
        instance: `coder-2`.
        step: The call's place in the program.
        kind: Name of the error class on the worker, such as `AnswerInvalid`.
    """

    def __init__(self, message: str, *, method: str, instance: str, step: str, kind: str) -> None:
        super().__init__(message)
        self.method = method
        self.instance = instance
        self.step = step
        self.kind = kind


class ItemFailed(ChoreographyError):
    """The body of a scatter failed on an item.

    Attributes:
        index: The item's place, from 0.
        item: The item in short.
        instance: Who worked on it.
        error: What the body raised; also the cause.
    """

    def __init__(self, index: int, item: str, instance: str, error: BaseException) -> None:
        super().__init__(f"item {index} ({item}) on {instance}: {tell(error)}")
        self.index = index
        self.item = item
        self.instance = instance
        self.error = error


def tell(error: BaseException) -> str:
    """Say what happened: the project's own errors in their words, any other with its class and its place."""
    if isinstance(error, (ChoreographyError, AgentError)):
        return words_of(error)
    if isinstance(error, BaseExceptionGroup):
        return clip(in_a_list(error, tell))
    if isinstance(error, RestrictedWorkflowAccessError):
        said = words_of(error).partition(" If this is code")[0]  # there follows what the harness does by itself
        return (
            f"{clip(said, 300)} (at {_place_of(error)}) A choreography has no clock, no chance, no files and "
            "no network, as it is replayed: put that into a @task of an agent."
        )
    if isinstance(error, NotImplementedError) and (asked := _asked_of_the_loop(error)):
        return (
            f"{asked} (at {_place_of(error)}): a choreography has no threads, processes and sockets, as it is "
            "replayed: put that into a @task of an agent."
        )
    return f"{name_of(error)}: {words_of(error)} (at {_place_of(error)})"


def _asked_of_the_loop(error: NotImplementedError) -> str:
    """Return what a program wanted of asyncio's loop that the engine's has not; empty if it is something else."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"asyncio's {frame.name}" if Path(frame.filename).parts[-2:] == ("asyncio", "events.py") else ""


def _place_of(error: BaseException) -> str:
    return place_of(error, outside=_HERE)
