"""A team that builds a package in a repository, without models: a module is its author's, one file is everybody's."""

from __future__ import annotations

import asyncio
import os
import random

from pydantic import BaseModel

from activities import Agent, task
from activities.merger import Merger
from activities.workspace.repository import Repository
from workflows import choreography, scatter

INDEX = "kit/__init__.py"


class Builder(Agent):
    """You write a module, its test, and its line in the package."""

    workspace = Repository()

    @task
    async def build(self, name: str, told: str = "") -> None:
        """Build a module, slowly enough to be struck at any point of it."""
        self.workspace.write(f"kit/{name}.py", f"def {name}() -> str:\n    return {name!r}\n")
        await _while_anything_may_happen()
        test = f"import kit\n\n\ndef test_{name}() -> None:\n    assert kit.{name}() == {name!r}\n"
        self.workspace.write(f"tests/test_{name}.py", test)
        await _while_anything_may_happen()
        known = self.workspace.read(INDEX).splitlines() if INDEX in self.workspace.list_files() else []
        lines = [line for line in known if line.startswith("from kit.")]
        self.workspace.write(INDEX, "".join(f"{line}\n" for line in dict.fromkeys([*lines, _import(name)])))
        await _while_anything_may_happen()


class Inspected(BaseModel):
    """What is in the package, and what its tests say."""

    files: list[str]
    passed: bool


class Inspector(Agent):
    """You look at what was merged."""

    workspace = Repository()

    @task
    async def inspect(self, rounds: int) -> Inspected:
        """Run all tests."""
        return Inspected(files=self.workspace.list_files(), passed=(await self.workspace.run_tests()).passed)


@choreography(builder=2)
async def build_together(
    names: list[str], rounds: int, builder: Builder, merger: Merger, inspector: Inspector
) -> Inspected:
    """Have modules built side by side, each merged when its tests pass with the others'."""

    async def deliver(b: Builder, name: str) -> None:
        await b.build(name)
        while told := (await merger.merge(b.name, tests=True)).open:
            await b.build(name, told)

    await scatter(names, builder, deliver)
    return await inspector.inspect(rounds)


def _import(name: str) -> str:
    return f"from kit.{name} import {name}"


async def _while_anything_may_happen() -> None:
    await asyncio.sleep(random.random() * float(os.environ.get("PACE", "0.2")))
