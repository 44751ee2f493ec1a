"""A choreography that is steered from outside: writers whose answers cost, and testers whose tests never end."""

from __future__ import annotations

from activities import Agent, prompt, task, tool
from workflows import choreography, scatter


class Writer(Agent):
    """You write."""

    @prompt(memory=False)
    async def write(self, about: str) -> str:
        """Write about {about}."""


class Tester(Agent):
    """You test what others wrote."""

    @task
    def put(self, path: str, content: str) -> str:
        """Write a file into the run's workspace."""
        return self.workspace.write(path, content)

    @tool
    async def run_tests(self, paths: list[str]) -> str:
        """Run tests.

        Args:
            paths: The files to test.
        """
        return str(await self.workspace.run_tests(*paths))

    @prompt
    async def look_at(self, path: str) -> str:
        """Look at {path}."""


@choreography(writer=100)
async def write_all(count: int, writer: Writer) -> int:
    """Write about many things."""
    return len(await scatter(range(count), writer, lambda w, number: w.write(f"thing {number}")))


@choreography
async def look_twice(content: str, tester: Tester) -> list[str]:
    """Write a test, and have it looked at twice."""
    await tester.put("test_it.py", content)
    return [await tester.look_at("test_it.py"), await tester.look_at("test_it.py again")]
