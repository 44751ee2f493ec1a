"""What a prompt costs a worker's processor, beside a task, and beside a task that asks the same model by HTTP alone.

Processor's time of the worker process, not time: other work on the machine changes it less. One round of each in turn.
"""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable

from bench.figures import Figure
from bench.model_server import WORDS
from bench.site import Ran, Site, right, site
from bench.team import fetch_at_once, take_at_once, talk_at_once, think_at_once

CALLS = 2_000
LONG_CALLS = 200
INSTANCES = 100
ROUNDS = 3

Side = Callable[[Site, int], Awaitable[Ran]]


async def measure(scale: float) -> list[Figure]:
    """Measure each side in one worker process."""
    calls = {side: max(INSTANCES, round(count * scale)) for side, count in COUNTS.items()}
    async with site(tuned=True) as here:
        await _serve(here)
        for work in SIDES.values():
            await work(here, INSTANCES)
        cpu: dict[str, list[float]] = {side: [] for side in SIDES}
        for number in range(max(1, round(ROUNDS * scale))):
            for side in list(SIDES) if number % 2 == 0 else reversed(SIDES):
                before = here.cpu_of_workers()
                await SIDES[side](here, calls[side])
                cpu[side].append(1_000 * (here.cpu_of_workers() - before) / calls[side])
    return [
        *(Figure(f"processor's time of {side}", statistics.median(each), "ms") for side, each in cpu.items()),
        _more_than("a prompt - a task", cpu[PROMPT], cpu[TASK]),
        _more_than("a prompt - a task over HTTP", cpu[PROMPT], cpu[FETCH]),
        _more_than(f"a prompt answered in {WORDS} pieces - in few", cpu[LONG], cpu[PROMPT]),
    ]


def _more_than(name: str, upper: list[float], lower: list[float]) -> Figure:
    between = [one - other for one, other in zip(upper, lower, strict=True)]
    return Figure(name, statistics.median(between), "ms")


async def _serve(here: Site) -> None:
    await here.worker(
        *(f"--serve={name}" for name in ("choreography", "Hand.take", "Hand.fetch", "Thinker.think", "Talker.think")),
        f"--concurrency={INSTANCES}",
        LOOPBACK=await here.model(0.1),
        OPENAI_API_KEY="any",
    )


async def _take(here: Site, count: int) -> Ran:
    return right(await here.run(take_at_once, count, 0.1, instances={"hand": INSTANCES}), list(range(count)))


async def _fetch(here: Site, count: int) -> Ran:
    return right(await here.run(fetch_at_once, count, instances={"hand": INSTANCES}), ["Done."] * count)


async def _think(here: Site, count: int) -> Ran:
    return right(await here.run(think_at_once, count, instances={"thinker": INSTANCES}), ["Done."] * count)


async def _talk(here: Site, count: int) -> Ran:
    return right(await here.run(talk_at_once, count, instances={"talker": INSTANCES}), [SPEECH] * count)


SPEECH = "".join(f"word {number}, " for number in range(WORDS)) + "Done."

TASK, FETCH, PROMPT, LONG = "a task", "a task over HTTP", "a prompt", f"a prompt answered in {WORDS} pieces"
SIDES: dict[str, Side] = {TASK: _take, FETCH: _fetch, PROMPT: _think, LONG: _talk}
COUNTS = {TASK: CALLS, FETCH: CALLS, PROMPT: CALLS, LONG: LONG_CALLS}
