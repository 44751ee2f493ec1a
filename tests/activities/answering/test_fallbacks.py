"""Other models that stand in for one that is not to be had, over real HTTP and in runs."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import Any

import pytest
from pydantic import BaseModel

from activities import Agent, prompt, tool
from activities.answering import fallbacks
from activities.answering.answer import TurnLoop
from activities.answering.checkpoint import Checkpoint
from activities.errors import AgentError, ModelRefused, ModelUnavailable
from activities.memory.port import InThisProcess, Nothing
from activities.memory.transcript import Transcript
from activities.models import gates, patience
from activities.values.schema import ANSWER_TOOL
from tests.conftest import Runs
from tests.provider import (
    CONTENT_POLICY,
    CONTEXT_LENGTH,
    INVALID_KEY,
    NO_QUOTA,
    UNKNOWN_MODEL,
    Fault,
    Garbage,
    HangUp,
    Provider,
    Reply,
    Request,
    Slow,
    Text,
    ToolCall,
    Tools,
)
from workflows import choreography, scatter

FIRST, SECOND, CLAUDE = "openai/first", "openai/second", "anthropic/claude-sonnet-4-5"


class Verdict(BaseModel):
    verdict: str


class Asker(Agent):
    """You ask."""

    model = FIRST
    fallbacks = (SECOND, CLAUDE)
    request_timeout = 15

    @tool
    def look(self) -> str:
        """Look."""
        return "seen"

    @prompt
    async def tell(self, what: str) -> str:
        """Tell of {what}."""

    @prompt
    async def rate(self, what: str) -> Verdict:
        """Rate {what}."""


class Plain(Agent):
    """You ask."""

    @prompt
    async def tell(self, what: str) -> str:
        """Tell of {what}."""


class Models:
    """What each model replies, by its name without its provider's; those that nothing is said of answer."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.turns: list[Reply] = []
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request)
        if self.turns and request.model not in self.replies:
            return self.turns.pop(0)
        return self.replies.get(request.model, Text(f"{request.model} answers"))

    @property
    def names(self) -> list[str]:
        return [request.model for request in self.asked]


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch, provider: Provider) -> Models:
    made = Models()
    monkeypatch.setattr(provider, "_responder", made)
    monkeypatch.setattr(fallbacks, "_told", set())
    return made


async def ask(agent: Agent, method: Any = Asker.tell, **arguments: Any) -> tuple[Any, Checkpoint]:
    checkpoint = Checkpoint()
    loop = TurnLoop(agent, method, arguments or {"what": "ducks"}, checkpoint, Nothing())
    return await loop.run(), checkpoint


@pytest.mark.parametrize(
    "reply",
    [Fault(429), Fault(500), Fault(503), Fault(529), HangUp(), HangUp(rudely=True), Slow(9, Text("late"))],
    ids=["429", "500", "503", "529", "hangs up", "resets", "too slow"],
)
async def test_in_an_outage_or_at_a_limit_the_next_model_is_asked(models: Models, reply: Reply) -> None:
    models.replies["first"] = reply
    asker = Asker()
    asker.request_timeout = 2 if isinstance(reply, Slow) else 15

    told, checkpoint = await ask(asker)

    assert told == "second answers"
    assert models.names == ["first", "second"]
    assert checkpoint.usage.models == [SECOND]
    [note] = [entry for entry in checkpoint.entries if "note" in entry]
    assert (note["note"], note["model"]) == ("fallback", FIRST)
    assert note["text"].startswith(f"{FIRST} ")


@pytest.mark.parametrize(
    "reply",
    [Fault(400), INVALID_KEY, Fault(402), Fault(403), UNKNOWN_MODEL, Fault(422), NO_QUOTA, CONTENT_POLICY],
    ids=lambda reply: f"{reply.status} {reply.code}",
)
async def test_never_for_what_is_wrong_with_a_request_a_key_or_a_setting(models: Models, reply: Reply) -> None:
    models.replies["first"] = reply

    with pytest.raises(ModelRefused, match=f"^{FIRST}"):
        await ask(Asker())

    assert models.names == ["first"]


async def test_nor_for_an_answer_that_can_not_be_read(models: Models) -> None:
    models.replies["first"] = Garbage("{not json")

    with pytest.raises(ModelUnavailable, match="can be read"):
        await ask(Asker())

    assert models.names == ["first"]


async def test_they_are_asked_in_their_order(models: Models) -> None:
    models.replies |= {"first": Fault(503), "second": Fault(429)}

    told, checkpoint = await ask(Asker())

    assert told == "claude-sonnet-4-5 answers"
    assert models.names == ["first", "second", "claude-sonnet-4-5"]
    assert [note["model"] for note in checkpoint.entries if "note" in note] == [FIRST, SECOND]


@pytest.mark.parametrize("reply", [INVALID_KEY, UNKNOWN_MODEL, CONTEXT_LENGTH, Fault(400)], ids=lambda r: str(r.code))
async def test_one_that_refuses_is_passed_over_and_named(
    models: Models, caplog: pytest.LogCaptureFixture, reply: Reply
) -> None:
    caplog.set_level(logging.WARNING)
    models.replies |= {"first": Fault(503), "second": reply}

    assert (await ask(Asker()))[0] == "claude-sonnet-4-5 answers"

    assert f"{SECOND} can't stand in for {FIRST}: {SECOND}" in caplog.text


async def test_when_none_is_to_be_had_the_error_is_that_of_the_first(models: Models) -> None:
    models.replies |= {name: Fault(503) for name in ("first", "second", "claude-sonnet-4-5")}

    with pytest.raises(ModelUnavailable, match=f"^{FIRST} could not answer"):
        await ask(Asker())


async def test_a_typed_answer_is_asked_of_each_in_its_own_way(models: Models) -> None:
    models.replies |= {"first": Fault(503), "second": Fault(503)}
    models.replies["claude-sonnet-4-5"] = Tools((ToolCall(ANSWER_TOOL, {"verdict": "PASS"}),))

    told, _ = await ask(Asker(), Asker.rate, what="ducks")

    assert told == Verdict(verdict="PASS")
    first, _, last = models.asked
    assert (first.response_format["type"], first.tools) == ("json_schema", ["look"])
    assert (last.response_format, last.tools) == ({}, ["look", ANSWER_TOOL])


async def test_what_is_meant_for_the_first_alone_is_not_sent_to_others(models: Models, provider: Provider) -> None:
    thought = {"role": "assistant", "content": "Hm.", "thinking_blocks": [{"thinking": "x"}], "reasoning_content": "x"}
    remembered = Transcript()
    remembered.add([{"role": "user", "content": "hello"}, thought])
    models.replies["first"] = Fault(503)
    asker = Asker()
    asker.api_base, asker.parameters = f"{provider.url}/", {"api_key": "of the first", "seed": 3}

    await TurnLoop(asker, Asker.tell, {"what": "ducks"}, Checkpoint(), InThisProcess(remembered)).run()

    first, second = models.asked
    assert first.headers["authorization"] == "Bearer of the first"
    assert second.headers["authorization"] == "Bearer any"
    assert first.body["seed"] == second.body["seed"] == 3
    assert not {"thinking_blocks", "reasoning_content"} & {key for message in second.messages for key in message}


async def test_in_a_loop_of_turns_an_attempt_in_vain_is_noted_once(models: Models) -> None:
    models.replies["first"] = Fault(503)
    models.turns = [*[Tools((ToolCall("look", {}),))] * 4, Text("done")]

    told, checkpoint = await ask(Asker())

    assert told == "done"
    assert sum("note" in entry for entry in checkpoint.entries) == 1


@pytest.mark.parametrize(
    ("agent", "asked"),
    [(Plain(), ["any", "third"]), (Plain(model=SECOND), ["second"]), (Asker(), ["first", "second"])],
    ids=["the environment's", "one of its own", "one with its own fallbacks"],
)
async def test_the_environments_fallbacks_are_for_its_model(
    models: Models, monkeypatch: pytest.MonkeyPatch, agent: Any, asked: list[str]
) -> None:
    monkeypatch.setenv("MODEL_FALLBACKS", " openai/third ,,")
    models.replies |= {asked[0]: Fault(503)}
    try:
        await ask(agent, type(agent).tell)
    except AgentError:
        assert len(asked) == 1

    assert models.names == asked


# In runs


@choreography(asker=10)
async def tell_all_of(number: int, asker: Asker) -> list[str]:
    return await scatter(range(number), asker, lambda a, n: a.tell(f"number {n}."))


@choreography
async def tell_twice(asker: Asker) -> list[str]:
    return [await asker.tell("ducks"), await asker.tell("geese")]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "FIRST_DELAY_S", 0.2)
    monkeypatch.setattr(gates, "LONGEST_DELAY_S", 0.5)
    monkeypatch.setattr(patience, "_LOOK_S", (0.05, 0.2))


@pytest.mark.usefixtures("quick")
async def test_while_the_first_is_away_calls_do_not_wait_and_one_at_a_time_looks(runs: Runs, models: Models) -> None:
    models.replies["first"] = Fault(503)
    async with runs.serving(__name__):
        began = time.monotonic()
        told = await runs.execute(tell_all_of, 60)
        took = time.monotonic() - began

    assert Counter(told) == {"second answers": 60}
    # Those that were under way when the first failed, and then one at a time, ever less often.
    assert models.names.count("first") <= 10 + 2 + took / 0.1


@pytest.mark.usefixtures("quick")
async def test_the_first_is_asked_again_when_it_is_there_again(runs: Runs, models: Models) -> None:
    models.replies["first"] = Fault(503)
    async with runs.serving(__name__):
        assert await runs.execute(tell_twice) == ["second answers"] * 2
        del models.replies["first"]
        await asyncio.sleep(0.6)
        assert await runs.execute(tell_twice) == ["first answers"] * 2


@pytest.mark.usefixtures("quick")
async def test_when_all_are_away_the_first_that_is_back_answers(runs: Runs, models: Models) -> None:
    models.replies |= {name: Fault(503) for name in ("first", "second", "claude-sonnet-4-5")}
    async with runs.serving(__name__):
        run = await runs.start(tell_twice)
        async with asyncio.timeout(20):
            while len(models.asked) < 6:
                await asyncio.sleep(0.05)
        del models.replies["second"]
        assert await run.result() == ["second answers"] * 2
        said = str(await runs.client.get_workflow_handle(f"{run.id}/asker-1").query("transcript"))

    assert "'note': 'fallback'" in said
    assert FIRST in said
