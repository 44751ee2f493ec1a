"""A choreography that does what a program says, with all the words that there are, and those who work for it."""

from __future__ import annotations

import asyncio
from typing import Any

from pydantic import BaseModel

from activities import Agent, Person, prompt, task, tool
from tests.system.programs import Step, happens, program_at
from workflows import choreography, continue_with, fan_out, instance, phase, scatter
from workflows.errors import CallFailed


class Worker(Agent):
    """You work."""

    def _note(self, text: str) -> None:
        assert self.call is not None
        happens(self.call.workflow_id, text)

    @task
    async def do(self, text: str) -> str:
        """Do something."""
        self._note(f"do {text}")
        return f"did {text}"

    @tool
    def use(self, text: str) -> str:
        """Use something."""
        self._note(f"use {text}")
        return f"used {text}"

    @task(retries=0)
    def fail(self, text: str) -> None:
        """Fail."""
        self._note(f"fail {text}")
        raise RuntimeError(f"no {text}")


class Kept(BaseModel):
    """What a thinker keeps."""

    texts: list[str] = []


class Thinker(Agent):
    """You think."""

    state: Kept = Kept()

    @tool
    def note(self, text: str) -> str:
        """Note a text.

        Args:
            text: What to note.
        """
        assert self.call is not None
        happens(self.call.workflow_id, f"note {self.call.idempotency_key}")
        return f"noted {text}"

    @task
    def keep(self, text: str) -> str:
        """Keep a text."""
        assert self.call is not None
        happens(self.call.workflow_id, f"keep {text}")
        self.state.texts.append(text)
        return f"kept {text}"

    @task
    def recite(self) -> list[str]:
        """Return what was kept, in alphabetical order."""
        return sorted(self.state.texts)

    @prompt
    async def think(self, text: str) -> str:
        """Think about {text}"""

    @prompt(memory=False)
    async def glance(self, text: str) -> str:
        """Glance at {text}"""


class Boss(Person):
    """Who decides."""

    @prompt
    async def ask(self, text: str) -> str:
        """Decide about {text}"""


@choreography(worker=2)
async def play(path: str, part: int, before: list[Any], worker: Worker, thinker: Thinker, boss: Boss) -> list[Any]:
    """Do what a program says."""
    program = program_at(path)
    results = [*before, *await _in_turn(program.parts[part], worker, thinker, boss)]
    if part + 1 < len(program.parts):
        return continue_with(path, part + 1, results)
    return [*results, await thinker.recite()]


async def _in_turn(steps: list[Step], worker: Worker, thinker: Thinker, boss: Boss, item: str = "") -> list[Any]:
    return [await _perform(step, worker, thinker, boss, item) for step in steps]


async def _perform(step: Step, worker: Worker, thinker: Thinker, boss: Boss, item: str) -> Any:
    text = f"{item} {step.text}".strip()
    match step.kind:
        case "do":
            return await worker.do(text)
        case "use":
            return await worker.use(text)
        case "named":
            return await instance(worker, "worker-2").do(text)
        case "think":
            return await thinker.think(text)
        case "glance":
            return await thinker.glance(text)
        case "keep":
            return await thinker.keep(text)
        case "ask":
            return await boss.ask(text)
        case "sleep":
            return await asyncio.sleep(0.02)
        case "fail":
            return await _fail(worker, text)
        case "scatter":
            if not step.inner:
                return await scatter(step.items, worker, lambda w, item: w.do(item))
            return await scatter(step.items, worker, lambda w, item: _in_turn(step.inner, w, thinker, boss, item))
        case "fan_out":
            groups = [(inner.items, worker, lambda w, item: w.do(item)) for inner in step.inner]
            return await fan_out(groups)
        case "gather":
            return list(await asyncio.gather(*(_perform(one, worker, thinker, boss, item) for one in step.inner)))
        case "phase":
            with phase(step.text):
                return await _in_turn(step.inner, worker, thinker, boss, item)


async def _fail(worker: Worker, text: str) -> str:
    try:
        await worker.fail(text)
    except CallFailed as error:
        return error.kind
    return "did not fail"
