"""What the harness costs beside the bare SDK: the same work on the same server, one round of each in turn."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from bench import bare
from bench.figures import Figure, ratio
from bench.site import Ran, Site, right, site
from bench.team import nothing_at_once, nothing_in_turn, say_at_once, say_in_turn
from workflows.engine.calls import CALLS_IN_FLIGHT
from workflows.program.choreography import Choreography

MOST = 1.15
ROUNDS = 9
AT_ONCE = 450
"""Calls of a run with a window: as many as the harness makes in one workflow."""

IN_TURN = 200


@dataclass(frozen=True)
class Comparison:
    """One kind of work, in a choreography and in the bare SDK.

    Attributes:
        name: What it is called in the table.
        ours: The choreography.
        theirs: The workflow of the bare SDK.
        activity: Its activity, in a queue of its own.
        count: Calls in a run.
        unit: What the sides are told in.
        eager: The activity in the workflow's own queue, to tell what that would bring.
    """

    name: str
    ours: Choreography[..., Any]
    theirs: str
    activity: str
    count: int
    unit: Literal["calls/s", "ms/call"]
    eager: str | None = None


WINDOW, SEQUENCE = f"{CALLS_IN_FLIGHT} in flight", "one after the other"
COMPARISONS = (
    Comparison(
        f"@task, {WINDOW}", nothing_at_once, "bare_at_once", "nothing", AT_ONCE, "calls/s", eager="nothing_eagerly"
    ),
    Comparison(
        f"@task, {SEQUENCE}", nothing_in_turn, "bare_in_turn", "nothing", IN_TURN, "ms/call", eager="nothing_eagerly"
    ),
    Comparison(f"@prompt(memory=False), {WINDOW}", say_at_once, "bare_at_once", "say", AT_ONCE, "calls/s"),
    Comparison(f"@prompt(memory=False), {SEQUENCE}", say_in_turn, "bare_in_turn", "say", IN_TURN, "ms/call"),
)

Side = Callable[[int], Awaitable[Ran]]
HARNESS, BARE, EAGER = "harness", "bare SDK", "bare SDK, eager, in the workflow's own queue"


async def measure(scale: float) -> list[Figure]:
    """Make every comparison."""
    async with site(tuned=True) as here:
        await here.worker(*(f"--serve={name}" for name in ("choreography", "Hand.nothing", "Hand.say")))
        await here.program("-m", "bench.bare")
        return [figure for one in COMPARISONS for figure in await _compare(here, one, scale)]


async def _compare(here: Site, comparison: Comparison, scale: float) -> list[Figure]:
    count = max(10, round(comparison.count * scale))
    seconds = await _in_turn(_sides(here, comparison), count, max(1, round(ROUNDS * scale)))
    figures = []
    for side, times in seconds.items():
        each = statistics.median(times) / count
        value = 1 / each if comparison.unit == "calls/s" else each * 1000
        figures.append(Figure(f"{comparison.name}: {side}", value, comparison.unit))
    name = f"{comparison.name}: time of the harness / of the bare SDK"
    return [*figures, ratio(name, seconds[HARNESS], seconds[BARE], at_most=MOST)]


def _sides(here: Site, comparison: Comparison) -> dict[str, Side]:
    def theirs(activity: str) -> Side:
        return lambda count: here.run_workflow(comparison.theirs, activity, count, CALLS_IN_FLIGHT, queue=bare.QUEUE)

    sides: dict[str, Side] = {
        HARNESS: lambda count: here.run(comparison.ours, count, instances={"hand": CALLS_IN_FLIGHT}),
        BARE: theirs(comparison.activity),
    }
    if comparison.eager is not None:
        sides[EAGER] = theirs(comparison.eager)
    return sides


async def _in_turn(sides: dict[str, Side], count: int, rounds: int) -> dict[str, list[float]]:
    """Run every side once a round, and every other round backwards; the first runs warm up."""
    for run in sides.values():
        await run(CALLS_IN_FLIGHT)
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds):
        expected = None
        for side in list(sides) if number % 2 == 0 else reversed(sides):
            ran = await sides[side](count)
            expected = expected or ran.result
            seconds[side].append(right(ran, expected).seconds)
    return seconds
