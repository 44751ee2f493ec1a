"""Handbook: a team writes linked pages into a workspace, with tools of its own, until every link leads somewhere.

Serve it on a dev server, with a scripted model:

    MODEL=scripted/examples/handbook.toml python worker.py dev --module examples/handbook.py

and in another terminal, run it; at a limit of its budget it waits, for days if need be, until somebody raises it:

    temporal workflow execute --type handbook --task-queue choreography --workflow-id handbook \
        --input '"How we look after the office plants"' \
        --input '{"instances": {"writer": 3}, "budget": {"usd": 20, "hours": 48}}'
"""

import posixpath
import re

from pydantic import BaseModel, Field

from activities import Agent, prompt, task, tool
from workflows import choreography, phase, scatter

LINK = re.compile(r"\]\(([\w./-]+\.md)\)")


class Page(BaseModel):
    """A page of the handbook, as it is planned."""

    path: str = Field(description="Where it is in the workspace, such as plants/cactus.md")
    about: str
    links: list[str] = Field(description="The paths of the pages that it should link to")


class Broken(BaseModel):
    """A link that leads nowhere."""

    path: str
    link: str


class TeamMember(Agent):
    """You work on a handbook: a folder of Markdown pages, which link to each other by relative paths."""

    @tool
    def list_pages(self) -> list[str]:
        """List the pages that there are."""
        return [path for path in self.workspace.list_files() if path.endswith(".md")]

    @tool
    def read_page(self, path: str) -> str:
        """Read a page.

        Args:
            path: Where it is, such as plants/cactus.md.
        """
        return self.workspace.read(path)


class Editor(TeamMember):
    """You plan a handbook, so that each page can be written by somebody who sees only its own part of the plan."""

    @prompt
    async def plan(self, topic: str) -> list[Page]:
        """Plan the pages of a handbook: {topic}"""


class Writer(TeamMember):
    """You write clear, short pages, and link only to what there will be."""

    @tool
    def write_page(self, path: str, text: str) -> str:
        """Write a page, replacing it if it is there.

        Args:
            path: Where it is, such as plants/cactus.md.
            text: All of it, in Markdown.
        """
        return self.workspace.write(path, text)

    @prompt(require=("write_page",))
    async def write(self, page: Page, broken: list[str] | None = None) -> str:
        """Write this page and say in a line what you did: {page}

        Links on it that lead nowhere, if any: {broken}
        """


class Librarian(TeamMember):
    """You know where everything is."""

    @task
    def check_links(self, paths: list[str]) -> list[Broken]:
        """Return the links of these pages that lead nowhere."""
        there = set(self.workspace.list_files())
        links = [(path, link) for path in paths for link in LINK.findall(self.workspace.read(path))]
        return [Broken(path=path, link=link) for path, link in links if _target(path, link) not in there]


def _target(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


@choreography(writer=2)
async def handbook(topic: str, editor: Editor, writer: Writer, librarian: Librarian) -> list[str]:
    """Plan, write the pages in parallel, and have each author mend what leads nowhere, until nothing does."""
    with phase("plan"):
        pages = await editor.plan(topic)
    with phase("write"):
        await scatter(pages, writer, lambda w, page: w.write(page), key=lambda page: page.path)
    paths = [page.path for page in pages]
    while found := await librarian.check_links(paths):
        fixes = [(page, links) for page in pages if (links := [b.link for b in found if b.path == page.path])]
        with phase("mend"):
            await scatter(fixes, writer, lambda w, fix: w.write(fix[0], fix[1]), key=lambda fix: fix[0].path)
    return paths
