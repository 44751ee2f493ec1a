"""How large what a run sends may be, the same whenever it is replayed, and wherever."""

from __future__ import annotations

from temporalio import workflow

from activities.contract.limits import Room
from activities.housekeeping.attributes import stored_by


def room() -> Room:
    """Return how large a payload may be that the executing run sends.

    That depends on the worker: one with a store takes more. The server keeps with each workflow task which worker did
    it, and a replay is told so: it refuses what was refused, and nothing else. Outside of a run nothing is stored.
    """
    if not workflow.in_workflow():
        return Room(stores=False)
    return Room(stores=stored_by(workflow.info().get_current_build_id()))
