"""A run in which all happens that is measured: turns, tools, an error that passes, re-asks, a compaction, a wait."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from activities import Agent, prompt, task, tool
from testing.loopback import ToolCall
from tests.provider import CONTEXT_LENGTH, Fault, Reply, Text, Tools
from workflows import choreography, phase


class Finding(BaseModel):
    title: str


class Scholar(Agent):
    """You study."""

    parameters = {"input_cost_per_token": 0.001, "output_cost_per_token": 0.002}  # noqa: RUF012

    @tool
    def fetch(self, page: int) -> str:
        """Fetch a page."""
        return "fact " * 400

    @prompt
    async def study(self, topic: str) -> Finding:
        """Study {topic}."""

    @task
    async def file(self, folder: str) -> str:
        """Fail once, then do it."""
        mark = Path(folder) / "failed-once"
        if not mark.exists():
            mark.touch()
            raise ValueError("the drawer is stuck")
        return "filed"


@choreography
async def study_and_file(topic: str, folder: str, scholar: Scholar) -> str:
    """Study, then file."""
    with phase("study"):
        found = await scholar.study(topic)
    await scholar.file(folder)
    return found.title


REPLIES: list[Reply] = [
    Fault(429, retry_after=1),
    *(Tools((ToolCall("fetch", {"page": page}),)) for page in range(5)),
    CONTEXT_LENGTH,
    Text("The pages hold facts."),
    Text("not JSON"),
    Text('{"title": "Facts"}'),
]
