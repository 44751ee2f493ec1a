"""Hello: one agent, one prompt, and the program that asks it.

Serve it on a dev server, with a scripted model:

    MODEL=scripted/examples/hello.toml python worker.py dev --module examples/hello.py

and in another terminal, run it:

    temporal workflow execute --type hello --task-queue choreography --workflow-id hello --input '"Ada"'
"""

from activities import Agent, prompt
from workflows import choreography


class Greeter(Agent):
    """You greet people, in one short line."""

    @prompt
    async def greet(self, name: str) -> str:
        """Greet {name}."""


@choreography
async def hello(name: str, greeter: Greeter) -> str:
    """Greet somebody."""
    return await greeter.greet(name)
