"""Panel: three experts answer the same question side by side, and a chair makes one answer of theirs.

Serve it on a dev server, with a scripted model:

    MODEL=scripted/examples/panel.toml python worker.py dev --module examples/panel.py

and in another terminal, run it:

    temporal workflow execute --type panel --task-queue choreography --workflow-id panel \
        --input '"Shall we rewrite the billing in another language?"' --input '["security", "money", "people"]'
"""

from typing import Literal

from pydantic import BaseModel

from activities import Agent, prompt
from workflows import choreography, scatter


class Opinion(BaseModel):
    """What one expert says."""

    view: str
    vote: Literal["yes", "no"]
    reason: str


class Advice(BaseModel):
    """What the panel says."""

    vote: Literal["yes", "no"]
    summary: str


class Expert(Agent):
    """You are an expert who judges from one point of view only, and says which facts would change your mind."""

    @prompt(memory=False)
    async def judge(self, question: str, view: str) -> Opinion:
        """Judge this from the point of view of {view}: {question}"""


class Chair(Agent):
    """You lead a panel. You weigh arguments, not votes."""

    @prompt
    async def conclude(self, question: str, opinions: list[Opinion]) -> Advice:
        """Give the panel's advice on this question: {question}

        These are its opinions: {opinions}
        """


@choreography(expert=3)
async def panel(question: str, views: list[str], expert: Expert, chair: Chair) -> Advice:
    """Ask for an opinion from each point of view, three at a time, and conclude."""
    opinions = await scatter(views, expert, lambda e, view: e.judge(question, view))
    return await chair.conclude(question, opinions)
