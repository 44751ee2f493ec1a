"""Typists, who are not to type too fast."""

from __future__ import annotations

import time

from activities import Agent, task
from workflows import choreography, scatter


class Typist(Agent):
    """You type."""

    @task(per_minute=240)
    async def type(self, letter: int) -> float:
        """Type a letter; return when."""
        return time.monotonic()


@choreography(typist=12)
async def type_letters(count: int, typist: Typist) -> list[float]:
    """Have letters typed, all at once."""
    return await scatter(range(count), typist, lambda t, letter: t.type(letter))
