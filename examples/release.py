"""Release: a person reads what an agent wrote, and approves what its tool does to the world.

Serve it on a dev server, with a scripted model:

    MODEL=scripted/examples/release.toml python worker.py dev --module examples/release.py

and in another terminal, start it; the worker's log then shows each question with the command that answers it:

    temporal workflow start --type release --task-queue choreography --workflow-id release \
        --input '"2.0"' --input '["scatter takes a key", "pause and resume"]'
"""

from typing import Literal

from activities import Agent, Person, prompt, tool
from workflows import choreography, phase


class Publisher(Agent):
    """You write release notes that say what a reader can do now, and publish them."""

    @prompt
    async def write_notes(self, version: str, changes: list[str], wish: str | None = None) -> str:
        """Write the notes of release {version}, which has these changes: {changes}

        What the editor wishes for, if anything: {wish}
        """

    @tool(approve=True)
    def publish(self, version: str, notes: str) -> str:
        """Publish the notes of a release; everybody reads them at once.

        Args:
            version: The release, such as 2.0.
            notes: Its notes.
        """
        return self.workspace.write(f"published/{version}.md", notes)

    @prompt
    async def announce(self, version: str, notes: str) -> str:
        """Publish release {version} with these notes, and tell in one line what became of it: {notes}"""


class Editor(Person):
    """Who answers for what is published."""

    @prompt(remind=24 * 3600, deadline=7 * 24 * 3600, default="good")
    async def read(self, notes: str) -> Literal["good", "shorter", "friendlier"]:
        """Are these notes good? {notes}"""


@choreography
async def release(version: str, changes: list[str], publisher: Publisher, editor: Editor) -> str:
    """Write notes until the editor likes them, and publish them as soon as somebody approves."""
    with phase("notes"):
        notes = await publisher.write_notes(version, changes)
        while (wish := await editor.read(notes)) != "good":
            notes = await publisher.write_notes(version, changes, wish)
    with phase("publish"):
        return await publisher.announce(version, notes)
