from __future__ import annotations

import pytest

from activities import Agent, prompt, tool
from tests.conftest import Runs
from tests.provider import Fault, Provider, Slow, Text, ToolCall, Tools
from workflows import choreography

# What the HTTP client has to say of a request of more than a megabyte.
pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")


class Talker(Agent):
    """You talk much."""

    @tool
    def listen(self) -> None:
        """Listen."""

    @prompt
    async def talk(self) -> str:
        """Talk, and come to an end."""


@choreography
async def converse(talker: Talker) -> str:
    """Have a long conversation."""
    return await talker.talk()


MUCH = Tools((ToolCall("listen", {}),), content="x" * 1_000_000)


async def test_a_conversation_that_is_too_large_to_be_recorded_goes_on(runs: Runs, provider: Provider) -> None:
    provider.enqueue(MUCH, MUCH, MUCH, Slow(1.5, Text("done")))
    async with runs.serving(__name__):
        assert await runs.execute(converse) == "done"
    assert len(provider.requests) == 4


async def test_after_an_error_a_long_conversation_goes_on_from_its_last_turn(runs: Runs, provider: Provider) -> None:
    provider.enqueue(MUCH, MUCH, MUCH, Slow(1.5, Fault(503, retry_after=0)), Text("done"))
    async with runs.serving(__name__):
        assert await runs.execute(converse) == "done"
    assert len(provider.requests[-1].messages) == len(provider.requests[-2].messages)
