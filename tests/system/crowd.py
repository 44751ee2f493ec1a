"""A choreography without models whose work is written down: who did which item."""

from __future__ import annotations

import asyncio
import os
import random
import time
from contextlib import suppress
from pathlib import Path

from temporalio import workflow

from activities import Agent, prompt, task, tool
from workflows import choreography, scatter


class Hand(Agent):
    """Works at the pace of its worker, and keeps a ledger."""

    @task
    async def square(self, number: int, ledger: str) -> int:
        """Square a number; takes as many seconds as the worker's PACE says, or a random time."""
        worker = os.environ.get("WORKER", "a worker")
        write_down(ledger, f"began {number} {worker}")
        pace = os.environ.get("PACE", "0")
        await asyncio.sleep(random.random() / 50 if pace == "random" else float(pace))
        write_down(ledger, f"did {number} {worker}")
        return number * number

    @task
    def block(self, number: int, ledger: str) -> int:
        """Square a number, without letting others work in the same thread meanwhile."""
        worker = os.environ.get("WORKER", "a worker")
        write_down(ledger, f"began {number} {worker}")
        time.sleep(float(os.environ.get("PACE", "0")))
        return number * number

    @task
    async def hold_on(self, ledger: str) -> None:
        """Go on for ever, whoever cancels it."""
        write_down(ledger, "holds on")
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3600)

    @task(retries=0)
    def wait_for_others(self, number: int, ledger: str) -> int:
        """Wait until twelve of these are made at the same time."""
        write_down(ledger, f"came {number}")
        deadline = time.monotonic() + 10
        while Path(ledger).read_text().count("came") < 12:
            assert time.monotonic() < deadline, "the others did not come"
            time.sleep(0.02)
        return number


def write_down(ledger: str, line: str) -> None:
    """Append a line, whole whoever else does the same."""
    with Path(ledger).open("a") as file:
        file.write(f"{line}\n")


@choreography(hand=4)
async def squares(numbers: list[int], ledger: str, hand: Hand) -> list[int]:
    """Square every number."""
    workflow.logger.info("squares are wanted")
    return await scatter(numbers, hand, lambda h, number: h.square(number, ledger))


@choreography
async def block_once(number: int, ledger: str, hand: Hand) -> int:
    """Have one synchronous call made."""
    return await hand.block(number, ledger)


@choreography
async def hold_once(ledger: str, hand: Hand) -> None:
    """Have one call made that does not end."""
    await hand.hold_on(ledger)


@choreography(hand=12)
async def meet(ledger: str, hand: Hand) -> list[int]:
    """Have twelve synchronous calls wait for each other."""
    return await scatter(range(12), hand, lambda h, number: h.wait_for_others(number, ledger))


class Teller(Agent):
    """You tell what you know, and note it down first."""

    @tool
    def note(self, what: str, ledger: str) -> str:
        """Note something down.

        Args:
            what: What to note.
            ledger: The file to note it in.
        """
        write_down(ledger, f"noted {what}")
        return f"noted {what}"

    @prompt
    async def tell(self, topic: str) -> str:
        """Tell of {topic}."""


@choreography
async def ask(topic: str, teller: Teller) -> str:
    """Ask one agent."""
    return await teller.tell(topic)
