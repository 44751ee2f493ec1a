"""A crew that remembers: what the tests of memory run."""

from __future__ import annotations

from pydantic import BaseModel

from activities import Agent, prompt, task, tool
from workflows import choreography, instance, scatter


class Notes(BaseModel):
    """What a thinker keeps between its calls."""

    seen: list[str] = []


class Thinker(Agent):
    """You think."""

    state: Notes = Notes()

    @tool
    def note(self, word: str) -> int:
        """Keep a word."""
        self.state.seen.append(word)
        return len(self.state.seen)

    @task
    def recite(self) -> list[str]:
        """Return what was kept."""
        return self.state.seen

    @prompt
    async def think(self, about: str) -> str:
        """Think about {about}."""

    @prompt(memory=False)
    async def glance(self, at: str) -> str:
        """Glance at {at}."""


class Small(Agent):
    """You have a small mind."""

    context_window = 1_000
    compaction_model = "openai/summariser"

    @tool
    def fetch(self, what: str) -> str:
        """Fetch something long."""
        return f"{what} " * 150

    @prompt
    async def learn(self, what: str) -> str:
        """Learn {what}."""


@choreography
async def think_twice(first: str, second: str, thinker: Thinker) -> list[str]:
    """Think about one thing, then about another."""
    return [await thinker.think(first), await thinker.think(second)]


@choreography
async def think_of_all(things: list[str], thinker: Thinker) -> list[str]:
    """Think about one thing after the other."""
    return [await thinker.think(about) for about in things]


@choreography
async def glance_once(at: str, thinker: Thinker) -> str:
    """Glance, and forget."""
    return await thinker.glance(at)


@choreography(thinker=["alice", "bob"])
async def ask_alice(about: str, thinker: Thinker) -> str:
    """Have alice think, who remembers other runs."""
    return await instance(thinker, "alice").think(about)


@choreography
async def keep_words(words: list[str], thinker: Thinker) -> list[str]:
    """Keep a word in each of several calls, then recite them."""
    for word in words:
        await thinker.note(word)
    return await thinker.recite()


@choreography(thinker=3)
async def back_to_the_author(things: list[str], thinker: Thinker) -> list[tuple[str, str]]:
    """Return who worked on each thing in two rounds, the second in another order."""

    async def name_of(t: Thinker, thing: str) -> tuple[str, str]:
        await t.recite()
        return thing, t.name

    first = await scatter(things, thinker, name_of, key=lambda thing: thing)
    second = await scatter(reversed(things), thinker, name_of, key=lambda thing: thing)
    return [*first, *second]


@choreography
async def learn_all(things: list[str], small: Small) -> list[str]:
    """Learn things one after the other."""
    return [await small.learn(thing) for thing in things]
