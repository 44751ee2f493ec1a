"""The errors of the activities wing: one root, a few leaves, each with what to do next in its message."""

from __future__ import annotations

import asyncio
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType


class AgentError(Exception):
    """Root of everything that the activities wing raises on purpose."""


class DeclarationError(AgentError, TypeError):
    """An agent class is declared wrongly; raised when the class is defined, naming class, method and mend."""


class NoRole(AgentError):
    """An agent was called in a choreography on the engine that is no role of it; names the line."""


class AnswerInvalid(AgentError):
    """The model answered again and again with something that is not the declared type."""


class TurnLimit(AgentError):
    """The model used up its turns without giving an answer."""


class ArgumentInvalid(AgentError):
    """An argument of a call does not fit the method's parameter."""


class OutsideWorkspace(AgentError):
    """A path would leave the workspace."""


class ScriptExhausted(AgentError):
    """The scripted model has no answer (left) for a request."""


class SettingInvalid(AgentError):
    """A setting of this process (environment, option) is missing or can't be used."""


class KeyMissing(AgentError):
    """Something is encrypted with a key that this process does not have; names the key."""


class StoreMissing(AgentError):
    """Something is kept in a store that this process does not have, or does not reach; says which."""


class PayloadTooLarge(AgentError):
    """Something is more than even the store takes."""


class PayloadLost(AgentError):
    """What was kept in the store is not there any more, or is not what it was; names the file."""


WAITS_TO_BE_MENDED = (KeyMissing, StoreMissing, PayloadLost)
"""What a call is tried again for, and what is no failure of its own."""


class ResultInvalid(AgentError):
    """A method returned something that is not of its declared type, or that is too large to be sent."""


class MemoryLost(AgentError):
    """What an instance remembered is not to be had any more."""


class NobodyToAsk(AgentError):
    """A person's answer is needed where nobody can give one."""


class ModelUnavailable(AgentError):
    """The model could not answer now; the same request may succeed later.

    Attributes:
        retry_after: Seconds that the provider asks to wait, where it says so.
        outage: Whether nobody would be answered now, so that all who want to ask it have to wait.
        limited: Whether that is since too much was asked of it.
        stalled: Whether it had begun to answer, so that others may be answered all the same.
        told: What the provider's headers tell of its limits.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        outage: bool = False,
        limited: bool = False,
        stalled: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.outage = outage
        self.limited = limited
        self.stalled = stalled
        self.told: Mapping[str, str] = {}


class TurnNotCome(ModelUnavailable):
    """A model is asked as much as its limits allow, and the turn of a request that was not to wait has not come."""

    def __init__(self, message: str) -> None:
        super().__init__(message, outage=True, limited=True)


class PatienceExhausted(AgentError):
    """A model was not to be had for as long as a call was to wait for it."""


class ModelRefused(AgentError):
    """The model will not answer this request, however often it is asked.

    Attributes:
        shape_refused: Whether the provider called the request malformed, so that another way of asking may do.
    """

    def __init__(self, message: str, *, shape_refused: bool = False) -> None:
        super().__init__(message)
        self.shape_refused = shape_refused


class ContextTooLong(ModelRefused):
    """The conversation is longer than the model's context window."""


class AttemptTimedOut(AgentError):
    """An attempt took longer than its method allows; it is tried again like one that failed."""


def says_stop(error: BaseException) -> bool:
    """Whether an error says that the running task was cancelled, rather than something that it waited for."""
    return isinstance(error, asyncio.CancelledError) and was_cancelled()


def was_cancelled() -> bool:
    """Whether the running task was told to stop."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def place_of(error: BaseException, *, outside: str = "<frozen") -> str:
    """Name the innermost line of the user's program that an error came through: `my_team.py:34 in publish`.

    Args:
        error: What was raised.
        outside: Beginning of the paths that are not the program, beside Python's own and installed packages.
    """
    not_the_program = ("<frozen", outside, _AROUND_TASKS, *_INSTALLED)
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "no line"
    frame = ([f for f in frames if not f.filename.startswith(not_the_program)] or frames)[-1]
    inside = "" if frame.name == "<module>" else f" in {frame.name}"
    return f"{Path(frame.filename).name}:{frame.lineno}{inside}"


def place_in(frame: FrameType) -> str:
    """Name the innermost line of the user's program in what a thread is executing, as `place_of` does."""
    frames = list(_outwards(frame))
    inner = next((f for f in frames if not f.f_code.co_filename.startswith(("<frozen", *_INSTALLED))), frames[0])
    return f"{Path(inner.f_code.co_filename).name}:{inner.f_lineno} in {inner.f_code.co_name}"


def _outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def is_installed(file: str) -> bool:
    """Whether a file is Python's own or an installed package's."""
    return file.startswith(("<frozen", *_INSTALLED))


_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))

_AROUND_TASKS = str(Path(__file__).parent / "border" / "user_code.py")
"""What stands around each task that a program starts."""
