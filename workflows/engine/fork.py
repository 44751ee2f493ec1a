"""Forks: a new run that takes over all that had happened to another one before a step, and goes on differently.

It is told what happened to the other one, as a run that continues as new is, and its instances remember what they
remembered there. Whoever begins it, `python -m console fork`, asks the other run for a `ForkPoint`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from activities.contract.branches import branch_key
from activities.contract.envelope import Position
from activities.contract.names import POSITIONS
from activities.contract.pages import PagesKept
from workflows.engine.continuation import CarryOver, inputs_to_resume
from workflows.engine.happenings import Happening, write_page
from workflows.errors import ForkRefused
from workflows.steering.admission import SteeringState

MOST_BYTES = 1_400_000
"""Bytes of what had happened, compressed: a fork gets it with its inputs, of which a server takes 2 MB."""


class ForkPoint(BaseModel):
    """A run as it was before a step.

    Attributes:
        program: How often its program had begun afresh.
        began: When it did so last, as seconds since 1970.
        happened: What it was told since, packed and in base 64.
        calls: How many outcomes that is.
        positions: Where its instances stood, by their conversations.
        inputs: What its program was started with, and last the run's options.
    """

    program: int
    began: float
    happened: str
    calls: int
    positions: dict[str, Position]
    inputs: list[Any]

    @classmethod
    def of(cls, carried: CarryOver, inputs: Sequence[Any], happened: Sequence[Happening]) -> ForkPoint:
        """Describe a run.

        Args:
            carried: What it has taken along since its program began.
            inputs: What its program was started with, and last the run's options.
            happened: What its program had been told.

        Raises:
            ForkRefused: It is more than another run can be given.
        """
        page = write_page(happened)
        if len(page) > MOST_BYTES:
            raise ForkRefused(
                f"What had happened before that step is {len(page):,} bytes, compressed; {MOST_BYTES:,} is the most "
                "that a fork can begin with. Fork at an earlier step."
            )
        return cls(
            program=carried.program,
            began=carried.began,
            happened=base64.b64encode(page).decode(),
            calls=len(happened),
            positions=_positions(carried.stood, happened),
            inputs=list(inputs),
        )

    def inputs_of_fork(self, workflow_id: str, forked: str, inputs: Sequence[Any], paused_at: datetime) -> list[Any]:
        """Return what to start the fork with. It begins paused, so that its files can be put into their place first.

        Args:
            workflow_id: The fork's.
            forked: The run's that is forked.
            inputs: As for a run of its own.
            paused_at: The time.
        """
        own = f"{forked}/"
        positions = {
            f"{workflow_id}/{name.removeprefix(own)}" if name.startswith(own) else name: position
            for name, position in self.positions.items()
        }
        carried = CarryOver(
            program=self.program,
            began=self.began,
            positions=positions,
            stood=positions,
            steering=SteeringState(paused_at=paused_at),
            pages=PagesKept(workflow_id=f"{workflow_id}/journal"),
            forked=True,
        )
        return inputs_to_resume(carried, base64.b64decode(self.happened), inputs)


def _positions(stood: dict[str, Position], happened: Iterable[Happening]) -> dict[str, Position]:
    """Return where instances stood after some happenings; each reply says so of the one that gave it."""
    positions = dict(stood)
    for happening in happened:
        positions |= _reached(happening.outcome.data)
    return positions


def _reached(data: str | None) -> dict[str, Position]:
    if not data:
        return {}
    if data.startswith("["):  # of a shard, whose last line tells it of all its instances
        number, positions = json.loads(data.rstrip().rpartition("\n")[2])
        return {name: Position.model_validate(one) for name, one in positions.items()} if number == POSITIONS else {}
    reply = json.loads(data)
    if not isinstance(reply, dict):
        return {}
    branches = {branch_key(name): Position(commit=commit) for name, commit in reply.get("branches", {}).items()}
    found = reply.get("position")
    return branches | ({found["conversation"]: Position.model_validate(found)} if found else {})
