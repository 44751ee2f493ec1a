"""How a run goes on beyond what one history may hold: what it takes along, and `continue_with` for loops without end.

@choreography
async def watch_the_news(seen: list[str], reader: Reader) -> None:
    for _ in range(1000):
        seen = await reader.read(seen)
    return continue_with(seen)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

from pydantic import BaseModel
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue, RetryPolicy

from activities.contract.conversations import Owner
from activities.contract.envelope import Position
from activities.contract.names import KEEP_PAGE_ACTIVITY
from activities.contract.pages import PAGES_ENCODING, PagesKept
from workflows.engine.traces import TraceBegun
from workflows.errors import InputInvalid, JournalFull, PagesUnreadable
from workflows.people.people import PeopleState
from workflows.shown.progress import Account
from workflows.steering.admission import SteeringState

ID_BYTES = 800
"""Bytes of a run's workflow id. The server takes 1,000, and those of conversations and shards begin with the run's."""

INPUT_BYTES = 1_000_000
"""Bytes of inputs and journal that a run carries in its history when it continues as new; the server takes 2 MB.
Beyond, the journal's pages are kept outside of it."""

PAGE_BYTES = 1_500_000
"""Bytes of one page that is kept so."""

JOURNAL_BYTES = 40_000_000
"""Bytes of all pages, compressed; a server ends the workflow that keeps them at 50 MB."""

R = TypeVar("R")


@dataclass(frozen=True)
class Continuation:
    """What a program returns to be run afresh. In a unit test it can be compared."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def continue_with(*args: Any, **kwargs: Any) -> R:  # type: ignore[type-var]  # whatever the choreography returns
    """Return this from a choreography to have it run afresh, with other inputs.

    The run goes on under its workflow id, with its options, its conversations and its workspace, and forgets what its
    program did so far. So a loop without end needs no room.

    Args:
        *args: The inputs of the choreography, without its roles.
        **kwargs: The same, by name.

    Returns:
        What the choreography must return.
    """
    return cast("R", Continuation(args, kwargs))


class CarryOver(BaseModel):
    """What a run takes along when it continues as new, beside its journal."""

    program: int = 1
    """How often the program began afresh, counted from 1."""
    began: float
    """When it did, as seconds since 1970."""
    positions: dict[str, Position] = {}
    """Where its instances stand, by their conversations."""
    stood: dict[str, Position] = {}
    """Where they stood when the program began."""
    accounts: dict[str, Account] = {}
    """What the calls of each role came to so far."""
    people: PeopleState = PeopleState()
    """The questions to people, and the calls that wait for them."""
    steering: SteeringState = SteeringState()
    """What people decided about the run, and what is left of its budget."""
    trace: TraceBegun | None = None
    """Where in which trace it is."""
    pages: PagesKept
    """Where the older pages of the journal are."""
    forked: bool = False
    """Whether it was not this run, but another that this is forked from, to which all of that happened."""


@dataclass(frozen=True)
class Resumed:
    """What a run begins with.

    Attributes:
        carried: What an earlier run of its chain has left; None if there was none.
        older: The pages of the journal that are kept elsewhere.
        newer: Those that came along.
        inputs: What the program was given, as it came.
    """

    carried: CarryOver | None
    older: bytes
    newer: bytes
    inputs: Sequence[Any]

    @classmethod
    def from_inputs(cls, payloads: Sequence[Any]) -> Resumed:
        """Tell what a run was given by its earlier run from the inputs that it was started with.

        Raises:
            InputInvalid: The run's workflow id is longer than it may be.
            PagesUnreadable: It is replayed without a client.
        """
        _check_id(workflow.info().workflow_id)
        match payloads:
            case [{"carried": carried}, bytes(older), bytes(newer), *inputs]:
                return cls(CarryOver.model_validate(carried), older, newer, inputs)
            case [{"carried": _}, RawValue(), bytes(), *_]:
                raise PagesUnreadable(
                    "Pages of the run's journal are kept on its server; give the replayer a client to it."
                )
        return cls(None, b"", b"", payloads)


def _check_id(id: str) -> None:
    if len(id.encode()) > ID_BYTES:
        raise InputInvalid(
            f"the workflow id has {len(id.encode()):,} bytes; {ID_BYTES} is the most, as those of its conversations "
            "and shards are made from it. Start the run under a shorter one."
        )


def inputs_to_resume(carried: CarryOver, newer: bytes, inputs: Sequence[Any]) -> list[Any]:
    """Return the inputs with which a run continues as new."""
    kept = carried.pages
    reference = Payload(metadata={"encoding": PAGES_ENCODING}, data=kept.model_dump_json().encode())
    older = RawValue(reference) if kept.pages else b""
    return [{"carried": carried.model_dump(mode="json", exclude_defaults=True)}, older, newer, *inputs]


async def with_room(kept: PagesKept, newer: bytes, inputs: Sequence[Any]) -> tuple[PagesKept, bytes]:
    """Have pages of a journal kept outside of the history, if they are too many to be taken along.

    Args:
        kept: Those that are kept already.
        newer: Those that are not.
        inputs: Of the program, which are taken along beside.

    Returns:
        The same anew.

    Raises:
        JournalFull: They are more than can be kept.
    """
    if kept.size + len(newer) > JOURNAL_BYTES:
        raise JournalFull(
            f"the run has to continue as new, and would have to remember {kept.size + len(newer):,} bytes of "
            f"results (compressed); {JOURNAL_BYTES:,} is the most. Return continue_with(…) now and then, which "
            "begins afresh, or have results written into the workspace and return their paths."
        )
    if len(newer) + len(json.dumps(inputs, default=repr)) <= INPUT_BYTES:
        return kept, newer
    for start in range(0, len(newer), PAGE_BYTES):
        kept = await _keep_page(kept, newer[start : start + PAGE_BYTES])
    return kept, b""


async def _keep_page(kept: PagesKept, page: bytes) -> PagesKept:
    info = workflow.info()
    name: str = await workflow.execute_local_activity(
        KEEP_PAGE_ACTIVITY,
        args=[kept, page, Owner(workflow_id=info.workflow_id, run_id=info.first_execution_run_id)],
        result_type=str,
        start_to_close_timeout=timedelta(seconds=60),
        retry_policy=RetryPolicy(maximum_interval=timedelta(seconds=10)),
    )
    return kept.model_copy(update={"pages": [*kept.pages, name], "size": kept.size + len(page)})
