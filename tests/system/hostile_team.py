"""Those who deal with a hostile provider, and a canary beside them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, field_validator

from activities import Agent, prompt, task, tool
from workflows import choreography, scatter
from workflows.errors import ItemFailed


class Verdict(BaseModel):
    verdict: Literal["PASS", "BREAK", "STOP", "EXIT"]
    why: str = ""

    @field_validator("verdict")
    @classmethod
    def _breaks(cls, verdict: str) -> str:
        if verdict == "BREAK":
            raise RuntimeError("broken")
        if verdict == "STOP":
            raise StopIteration
        if verdict == "EXIT":
            sys.exit("gone")
        return verdict


class Judge(Agent):
    """You judge."""

    model = "openai/any"
    api_base = os.environ.get("HOSTILE_URL")
    request_timeout = 8

    @tool
    def look(self, what: str = "") -> str:
        """Look at something."""
        return f"{what}\udc00 seen"

    @prompt(memory=False)
    async def judge(self, scene: str) -> Verdict:
        """Judge this scene: {scene}"""


class Canary(Agent):
    """You sing."""

    model = "openai/canary"
    api_base = os.environ.get("CANARY_URL")

    @task
    async def breathe(self, until: str) -> tuple[float, bool]:
        """Tell the time, and whether to go on."""
        return time.time(), not Path(until).exists()

    @prompt(memory=False)
    async def sing(self) -> str:
        """Sing."""


class FarCanary(Canary):
    """You sing far away."""


@choreography(judge=6)
async def judge_all(scenes: list[str], judge: Judge) -> list[str]:
    """Have all scenes judged."""
    results = await scatter(scenes, judge, lambda j, scene: j.judge(scene), on_error="collect")
    return [
        str(result.error).partition(" failed: ")[2] if isinstance(result, ItemFailed) else result.verdict
        for result in results
    ]


@choreography
async def sing_on(until: str, canary: Canary) -> list[float]:
    """Sing and breathe in turn; return how long each turn took."""
    return await _sing_on(until, canary)


@choreography
async def sing_far_away(until: str, canary: FarCanary) -> list[float]:
    """Do the same."""
    return await _sing_on(until, canary)


async def _sing_on(until: str, canary: Canary) -> list[float]:
    turns: list[float] = []
    last, goes_on = await canary.breathe(until)
    while goes_on:
        await canary.sing()
        at, goes_on = await canary.breathe(until)
        turns.append(round(at - last, 2))
        last = at
    return turns
