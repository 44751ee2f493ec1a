"""Tools that need a person's yes: in a paused call that goes on, and in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from activities import Agent, prompt, task, tool
from activities.answering.answer import TurnLoop
from activities.answering.approval import CallPaused, OnTheRun
from activities.answering.checkpoint import Checkpoint
from activities.border.context import CallContext, answering
from activities.contract.envelope import Approval, PausedCall
from activities.errors import AnswerInvalid, NobodyToAsk
from activities.memory.port import Nothing
from tests.provider import Provider, Text, ToolCall, Tools

CALL = CallContext("build-7", "run", "press-1", "Press.produce", "3")


class Press(Agent):
    """You print."""

    ran: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.ran = []

    @tool
    def look_up(self, title: str) -> str:
        """Look a title up."""
        self.ran.append(f"looked up {title}")
        return "found"

    @tool(approve=True)
    def print_out(self, title: str, copies: int = 1) -> str:
        """Print a title."""
        self.ran.append(f"printed {title}")
        if self.call:
            self.ran.append(self.call.idempotency_key)
        return "printed"

    @tool
    def print_twice(self, title: str) -> str:
        """Print a title twice."""
        return f"{self.print_out.__wrapped__(self, title)} twice"  # type: ignore[attr-defined]

    @prompt
    async def produce(self, title: str) -> str:
        """Produce {title}."""

    @prompt(require=("print_out",))
    async def publish(self, title: str) -> str:
        """Publish {title}."""

    @task
    async def produce_for(self, title: str) -> str:
        """Have it produced."""
        return await self.produce(title)


def printing(*titles: str) -> Tools:
    return Tools(tuple(ToolCall("print_out", {"title": title}, f"c-{title}") for title in titles))


async def paused(press: Press, checkpoint: Checkpoint) -> CallPaused:
    """Answer until the call has to wait for people."""
    with pytest.raises(CallPaused) as caught:
        await loop(press, checkpoint).run()
    return caught.value


def loop(press: Press, checkpoint: Checkpoint, approvals: dict[str, Approval] | None = None) -> TurnLoop:
    paused = None if approvals is None else PausedCall(decided=approvals)
    arguments = {"title": "Roses"}
    return TurnLoop(press, Press.produce, arguments, checkpoint, Nothing(), approvals=OnTheRun(paused))


YES = Approval(approve=True)


async def test_a_call_is_put_aside_before_any_tool_of_the_turn_runs(provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("look_up", {"title": "x"}, "c-0"), *printing("Roses", "Lilies").calls)))
    press = Press()
    wants = (await paused(press, Checkpoint())).wants
    assert [(one.tool_call, one.tool, one.arguments) for one in wants] == [
        ("c-Roses", "print_out", {"title": "Roses"}),
        ("c-Lilies", "print_out", {"title": "Lilies"}),
    ]
    assert press.ran == []


async def test_it_goes_on_elsewhere_without_asking_the_model_again(provider: Provider) -> None:
    provider.enqueue(printing("Roses"), Text("done"))
    checkpoint = Checkpoint()
    await paused(Press(), checkpoint)
    press = Press()
    again = Checkpoint.read(checkpoint.record())
    with answering(CALL):
        assert await loop(press, again, {"c-Roses": YES}).run() == "done"
    assert press.ran == ["printed Roses", "run/3/1/0"]
    assert list(provider.counts.values()) == [1, 1]


async def test_it_is_made_with_what_a_person_has_changed_whatever_attempt_makes_it(provider: Provider) -> None:
    provider.enqueue(printing("Roses"), Text("done"), Text("done"))
    checkpoint = Checkpoint()
    await paused(Press(), checkpoint)
    recorded = checkpoint.record()
    for _ in range(2):
        press, again = Press(), Checkpoint.read(recorded)
        await loop(press, again, {"c-Roses": Approval(approve=True, arguments={"title": "Lilies"})}).run()
        assert press.ran == ["printed Lilies"]
        told = 'A person has changed this call before it was made, to {"title": "Lilies"}.\n\nprinted'
        assert [entry["content"] for entry in again.entries if entry["role"] == "tool"] == [told]


async def test_an_attempt_that_dies_after_a_tool_ran_does_not_run_it_again(provider: Provider) -> None:
    provider.enqueue(printing("Roses", "Lilies"), Text("done"))
    checkpoint, recorded = Checkpoint(), []
    await paused(Press(), checkpoint)
    decided = {"c-Roses": YES, "c-Lilies": YES}
    first = loop(Press(), checkpoint, decided)
    first.record = lambda: recorded.append(checkpoint.record())
    await first.run()

    provider.enqueue(Text("done"))
    press = Press()
    await loop(press, Checkpoint.read(recorded[0]), decided).run()

    assert press.ran == ["printed Lilies"]


async def test_a_call_that_can_not_be_made_is_not_asked_for(provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("print_out", {"titel": "Roses"}),)), Text("done"))
    assert await loop(Press(), Checkpoint()).run() == "done"


async def test_a_refused_tool_counts_as_not_called(provider: Provider) -> None:
    provider.enqueue(printing("Roses"), *[Text("done")] * 4)
    checkpoint = Checkpoint()
    await paused(Press(), checkpoint)
    refusal = OnTheRun(PausedCall(decided={"c-Roses": Approval(approve=False)}))
    publishing = TurnLoop(Press(), Press.publish, {"title": "Roses"}, checkpoint, Nothing(), approvals=refusal)
    with pytest.raises(AnswerInvalid, match="Before you answer you must call: print_out"):
        await publishing.run()
    said = [entry["content"] for entry in checkpoint.entries if entry["role"] == "tool"]
    assert said == ["A person has refused this call: no reason was given"]


async def test_long_arguments_are_shown_in_short_and_told_apart_all_the_same(provider: Provider) -> None:
    long = "x" * 100_000
    provider.enqueue(printing(f"{long}1{long}", f"{long}2{long}"))
    first, second = (await paused(Press(), Checkpoint())).wants
    assert first.arguments == second.arguments
    assert len(first.arguments["title"]) < 3_000
    assert first.digest != second.digest


@pytest.mark.parametrize("given", [True, False])
def test_a_bare_word_is_a_decision(given: bool) -> None:
    assert TypeAdapter(Approval).validate_python(given) == Approval(approve=given)


@pytest.mark.parametrize("given", ["true", 1, None, {}, {"approve": 1}, {"approve": True, "because": "x"}], ids=str)
def test_nothing_else_is_taken_for_a_yes(given: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Approval).validate_python(given)


# In this process


@pytest.mark.parametrize(("typed", "ran"), [("true", ["printed Roses"]), ('{"approve": false, "reason": "no"}', [])])
async def test_in_this_process_the_terminal_decides(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, typed: str, ran: Sequence[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda _: typed)
    provider.enqueue(printing("Roses"), Text("done"))
    press = Press()
    assert await press.produce("Roses") == "done"
    assert press.ran == ran


async def test_without_a_terminal_the_tool_does_not_run(provider: Provider) -> None:
    provider.enqueue(printing("Roses"))
    press = Press()
    with pytest.raises(
        NobodyToAsk, match=r"^There is no terminal .* May print_out be called with \{\"title\": \"Roses"
    ):
        await press.produce("Roses")
    assert press.ran == []


async def test_a_prompt_that_a_task_asks_can_not_wait_for_approval(provider: Provider) -> None:
    provider.enqueue(printing("Roses"))
    press = Press()
    with answering(CALL), pytest.raises(NobodyToAsk, match=r"^Press\.produce \(press-1\): print_out needs a person's"):
        await press.produce_for("Roses")
    assert press.ran == []


async def test_what_other_code_calls_needs_no_approval(provider: Provider) -> None:
    provider.enqueue(Tools((ToolCall("print_twice", {"title": "Roses"}),)), Text("done"))
    press = Press()
    await press.produce("Roses")
    assert press.ran == ["printed Roses"]
