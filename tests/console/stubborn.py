"""Agents whose calls do not succeed at once: the team of `tests/console/test_trouble.py`."""

from __future__ import annotations

from activities import Agent, task
from workflows import choreography, scatter


class Stubborn(Agent):
    """Does not succeed."""

    @task(retries=9)
    async def fail(self, why: str) -> None:
        """Fail."""
        raise OSError(why)

    @task(retries=9)
    async def fail_first(self, number: int) -> int:
        """Fail where it is the first of many."""
        if number == 0:
            raise OSError("the first one")
        return number


@choreography
async def fail_again(why: str, stubborn: Stubborn) -> None:
    """Fail and try again."""
    await stubborn.fail(why)


@choreography(stubborn=8)
async def fail_eight_times(stubborn: Stubborn) -> None:
    """Fail and try again, in eight calls."""
    await scatter(range(8), stubborn, lambda s, n: s.fail(f"no {n}"))


@choreography(stubborn=50)
async def fail_in_a_shard(stubborn: Stubborn) -> int:
    """Fail in a shard."""
    return len(await scatter(range(60), stubborn, lambda s, n: s.fail_first(n)))
