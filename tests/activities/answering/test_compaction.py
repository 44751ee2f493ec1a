from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities import Agent, prompt, tool
from activities.answering.compaction import HARD, SOFT, Window, compact
from activities.errors import ContextTooLong
from activities.memory.transcript import Entry, Transcript
from tests.provider import CONTEXT_LENGTH, Provider, Text, ToolCall, Tools


class Reader(Agent):
    """You read."""

    compaction_model = "openai/summariser"

    @tool
    def fetch(self) -> str:
        """Fetch something long."""
        return "fact " * 400

    @prompt
    async def read(self, what: str) -> str:
        """Read {what}."""


def talk(*results: str) -> Transcript:
    """Return a call with a tool result in each of its turns."""
    made = Transcript()
    made.add([{"role": "user", "content": "go"}])
    for number, result in enumerate(results):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        made.add([{"role": "assistant", "content": "hm " * 30, "tool_calls": [call]}])
        made.add([{"role": "tool", "tool_call_id": f"c{number}", "content": result}])
    return made


def window(tokens: int) -> Window:
    return Window("openai/any", tokens, "openai/summariser", {})


def notes_of(entries: list[Entry]) -> list[str]:
    return [entry["note"] for entry in entries]


async def test_a_conversation_within_the_soft_limit_stays_as_it_is(provider: Provider) -> None:
    notes, usage = await compact(talk("short", "short"), 0, [], [], window(5_000))
    assert (notes, usage.model_calls, provider.requests) == ([], 0, [])


async def test_past_the_soft_limit_old_tool_results_are_shown_in_short(provider: Provider) -> None:
    long = talk(*["fact " * 300] * 6)
    notes, _ = await compact(long, 0, [], [], window(int(1_900 / SOFT)))
    assert notes_of(notes) == ["shortened"]
    lengths = [len(message["content"]) for message in long.plus(notes).messages() if message["role"] == "tool"]
    assert all(length < 500 for length in lengths[:3])
    assert lengths[3:] == [1_500] * 3
    assert provider.requests == []


async def test_past_the_hard_limit_the_middle_is_summarised_by_a_model_of_its_own(provider: Provider) -> None:
    provider.enqueue(Text("I learned facts."))
    long = talk(*["fact " * 300] * 8)
    notes, usage = await compact(long, 0, [], [], window(int(1_500 / HARD)))
    assert notes_of(notes)[:2] == ["shortened", "summary"]
    assert usage.model_calls == 1
    [request] = provider.requests
    assert request.model == "summariser"
    assert "Next steps" in request.messages[0]["content"]
    shown = long.plus(notes).messages()
    assert shown[0] == {"role": "user", "content": "go"}
    assert "I learned facts." in shown[1]["content"]
    assert [message["role"] for message in shown[2:]] == ["assistant", "tool"] * 3


@given(sizes=st.lists(st.integers(1, 900), min_size=1, max_size=12), tokens=st.integers(300, 4_000))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_compacted_pairs_stay_whole_and_nothing_stored_changes(
    provider: Provider, sizes: list[int], tokens: int
) -> None:
    provider.enqueue(Text("summary"))
    long = talk(*("fact " * size for size in sizes))
    before = list(long.numbered)
    notes, _ = await compact(long, 0, [], [], window(tokens))
    assert long.numbered == before
    open_calls: list[str] = []
    for message in long.plus(notes).messages():
        open_calls += [call["id"] for call in message.get("tool_calls") or ()]
        if message["role"] == "tool":
            open_calls.remove(message["tool_call_id"])
    assert open_calls == []


async def test_a_context_window_error_compacts_and_asks_once_more(provider: Provider) -> None:
    calls = Tools((ToolCall("fetch", {}),))
    provider.enqueue(calls, calls, calls, calls, CONTEXT_LENGTH, Text("Facts were fetched."), Text("read"))
    assert await Reader().read("it") == "read"
    assert provider.requests[-2].model == "summariser"
    assert "Facts were fetched." in str(provider.requests[-1].messages)


async def test_a_second_context_window_error_fails_and_says_what_to_do(provider: Provider) -> None:
    calls = Tools((ToolCall("fetch", {}),))
    provider.enqueue(calls, calls, calls, calls, CONTEXT_LENGTH, Text("Facts were fetched."), CONTEXT_LENGTH)
    with pytest.raises(ContextTooLong, match=r"Reader\.read .*still too long.*larger window"):
        await Reader().read("it")
    assert len(provider.requests) == 7
