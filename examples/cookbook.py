"""Cookbook: authors who write at the same time, each on a branch; what they write is merged, conflicts by themselves.

Serve it on a dev server, with a scripted model:

    MODEL=scripted/examples/cookbook.toml python worker.py dev --module examples/cookbook.py

and in another terminal, start it:

    temporal workflow execute --type cookbook --task-queue choreography --workflow-id cookbook \
        --input '["soup", "bread"]'
"""

from activities import Agent, prompt, tool
from activities.merger import Merger
from activities.workspace.repository import Repository
from workflows import choreography, scatter


class Author(Agent):
    """You write recipes, and list each in the contents."""

    workspace = Repository()

    @tool
    def write_file(self, path: str, text: str) -> str:
        """Write a file.

        Args:
            path: Such as soup.md.
            text: All of it.
        """
        return self.workspace.write(path, text)

    @prompt
    async def write(self, dish: str, told: str = "") -> str:
        """Write {dish}.md, and list it in contents.md. What has to be resolved first: {told}"""


@choreography(author=2)
async def cookbook(dishes: list[str], author: Author, merger: Merger) -> list[str]:
    """Have recipes written side by side, each merged as soon as it is there; return the commits of the book."""

    async def contribute(a: Author, dish: str) -> str:
        await a.write(dish)
        while told := (merge := await merger.merge(a.name)).open:
            await a.write(dish, told)
        return merge.commit

    return await scatter(dishes, author, contribute)
