"""How a run goes on beyond what one history may hold: what it takes along, and `continue_with` for loops without end.

@choreography
async def watch_the_news(seen: list[str], reader: Reader) -> None:
    for _ in range(1000):
        seen = await reader.read(seen)
    return continue_with(seen)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from activities.contract.envelope import Position
from activities.contract.pages import PAGES_ENCODING, PagesKept
from workflows.errors import PagesUnreadable
from workflows.people.people import Asked
from workflows.shown.progress import Account
from workflows.steering.steering import Steering

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
    asked: Asked = Asked()
    """The questions to people, and the calls that wait for them."""
    steering: Steering = Steering()
    """What people decided about the run, and what is left of its budget."""
    pages: PagesKept
    """Where the older pages of the journal are."""
    forked: bool = False
    """Whether it was not this run, but another that this is forked from, to which all of that happened."""


def taken_along(payloads: Sequence[Any]) -> tuple[CarryOver | None, bytes, bytes, Sequence[Any]]:
    """Tell what a run was given by its earlier run from the inputs that it was started with.

    Returns:
        What it takes along; the older pages of the journal, which are kept elsewhere; the newer ones; the inputs.
    """
    match payloads:
        case [{"carried": carried}, bytes(older), bytes(newer), *inputs]:
            return CarryOver.model_validate(carried), older, newer, inputs
        case [{"carried": _}, RawValue(), bytes(), *_]:
            raise PagesUnreadable(
                "Pages of the run's journal are kept on its server; give the replayer a client to it."
            )
    return None, b"", b"", payloads


def to_take_along(carried: CarryOver, newer: bytes, inputs: Sequence[Any]) -> list[Any]:
    """Return the inputs with which a run continues as new."""
    kept = carried.pages
    reference = Payload(metadata={"encoding": PAGES_ENCODING}, data=kept.model_dump_json().encode())
    older = RawValue(reference) if kept.pages else b""
    return [{"carried": carried.model_dump(mode="json", exclude_defaults=True)}, older, newer, *inputs]
