"""One instance, followed: its turns, tools and words, each once, to the end of its run."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable

import pytest
from rich.console import Console

from activities import Agent, prompt, tool
from console.dev_server import DevServer
from console.follow import _Page
from console.said import Said
from console.watch import following
from tests.conftest import Runs
from tests.provider import Provider, Slow, Streamed, Text, ToolCall, Tools
from tests.system.processes import eventually
from workflows import choreography, continue_with


class Poet(Agent):
    """You write."""

    @tool
    def rhyme(self, word: str) -> str:
        """Find a rhyme."""
        return f"what rhymes with {word}"

    @prompt
    async def write(self, about: str) -> str:
        """Write about {about}."""


@choreography
async def write_in_rounds(rounds: int, poet: Poet) -> str:
    written = await poet.write(f"thing {rounds}")
    return written if rounds == 1 else continue_with(rounds - 1)


@choreography
async def write_the_same(rounds: int, poet: Poet) -> str:
    written = await poet.write("it")
    return written if rounds == 1 else continue_with(rounds - 1)


@pytest.fixture(autouse=True)
def address(server: DevServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the follower is told by the environment."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)


class Following:
    """Somebody who follows an instance."""

    def __init__(self, run: str, instance: str) -> None:
        self._said = io.StringIO()
        self.task = asyncio.create_task(following(run, instance, every=0.1, console=Console(file=self._said)))

    @property
    def said(self) -> str:
        return self._said.getvalue()

    async def says(self, text: str) -> None:
        await eventually(lambda: text in self.said, lambda: f"{text!r} in {self.said}", seconds=60)


async def test_turns_tools_and_words_are_shown_once_over_runs_that_continue_as_new(
    runs: Runs, provider: Provider
) -> None:
    provider.enqueue(
        Text("Of thing 3."),
        Tools((ToolCall("rhyme", {"word": "rain"}),), content="I look for a rhyme."),
        Streamed(Text("It rained all day, and nobody went out."), seconds=0.05),
        Slow(1, Text("Of thing 1.")),
    )
    async with runs.serving(__name__):
        run = await runs.start(write_in_rounds, 3)
        early = Following(run.id, "poet-1")
        await early.says("It rained")
        late, nobody = Following(run.id, "poet-1"), Following(run.id, "author-1")
        async with asyncio.timeout(60):
            codes = [await one.task for one in (early, late, nobody)]
    assert codes == [0, 0, 0]
    for one in (early, late):
        told = [line for line in one.said.splitlines() if not line.startswith("▸ ")]
        assert told[:-1] == [
            "» Write about thing 3.",
            "Of thing 3.",
            "» Write about thing 2.",
            "I look for a rhyme.",
            '⚙ rhyme {"word": "rain"}',
            "  = what rhymes with rain",
            "It rained all day, and nobody went out.",
            "» Write about thing 1.",
            "Of thing 1.",
        ]
        assert told[-1].startswith(f"{run.id}: done")
    assert nobody.said.splitlines()[0].startswith(f"{run.id}: done")


async def test_each_round_is_shown_of_a_loop_that_says_the_same_again(runs: Runs, provider: Provider) -> None:
    provider.enqueue(Slow(1, Text("Of it.")), *[Text("Of it.")] * 4)
    async with runs.serving(__name__):
        run = await runs.start(write_the_same, 5)
        following = Following(run.id, "poet-1")
        assert await following.task == 0
    told = [line for line in following.said.splitlines() if not line.startswith("▸ ")]
    assert told[:-1] == ["» Write about it.", "Of it."] * 5


async def test_who_follows_nobody_is_told_who_there_is(
    runs: Runs, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    provider.enqueue(Slow(60, Text("never")))
    async with runs.serving(__name__):
        run = await runs.start(write_in_rounds, 1)
        wrong = Following(run.id, "poet-7")
        told: list[str] = []

        def is_told() -> bool:
            told.append(capsys.readouterr().err)
            return "it has no poet-7: of poet there are 1" in "".join(told)

        await eventually(is_told)
        await run.terminate()
        assert await wrong.task == 1


def written(act: Callable[[_Page], object]) -> str:
    told: list[str] = []
    page = _Page(told.append)
    act(page)
    return "".join(told)


def test_what_another_attempt_says_again_is_written_once() -> None:
    def tried_again(*words: str, whole: str) -> Callable[[_Page], None]:
        def act(page: _Page) -> None:
            page.words("It rained ")
            page.words("all ")
            page.begin_again()
            for word in words:
                page.words(word)
            page.said(Said(who="assistant", text=whole))

        return act

    sentence = "It rained all day."
    assert written(tried_again("It ", "rained all d", "ay.", whole=sentence)) == f"{sentence}\n"
    assert written(tried_again("It ", whole=sentence)) == f"{sentence}\n"
    assert written(tried_again(whole=sentence)) == f"{sentence}\n"
    otherwise = "\n↻ said otherwise, as the call is tried again:\nIt snowed.\n"
    assert written(tried_again("It sn", "owed.", whole="It snowed.")) == f"It rained all \n{otherwise}"
