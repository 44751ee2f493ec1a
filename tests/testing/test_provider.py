"""A team of a user's, tested with a scripted model over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest
from pydantic import BaseModel

from activities import Agent, prompt, tool
from activities.errors import AgentError, ModelRefused, ModelUnavailable, SettingInvalid
from activities.models import model
from testing import PromptCache, ScriptedProvider
from testing.loopback import Fault, Reply, Request
from tests.conftest import Runs
from workflows import choreography, scatter


class Summary(BaseModel):
    title: str
    points: list[str]


class Reader(Agent):
    """You read reports."""

    @tool
    def count(self, text: str) -> int:
        """Count the words.

        Args:
            text: Of this.
        """
        return len(text.split())

    @prompt
    async def summarise(self, report: str) -> Summary:
        """Summarise this report: {report}"""

    @prompt
    async def judge(self, report: str) -> Literal["long", "short"]:
        """Judge this report: {report}"""

    @prompt
    async def say(self, word: str) -> str:
        """Say {word}."""


@choreography(reader=3)
async def judge_all(reports: list[str], reader: Reader) -> list[str]:
    """Judge reports, several at a time."""
    return [str(verdict) for verdict in await scatter(reports, reader, lambda r, report: r.judge(report))]


SUMMARY = Summary(title="Rain", points=["It rained."])
COUNTS = {"call": [{"tool": "count", "arguments": {"text": "a b c"}}]}
SCRIPT: list[dict[str, Any]] = [
    {"when": "Summarise", "turns": [COUNTS, {"answer": SUMMARY}]},
    {
        "when": "Judge",
        "unless": "nothing",
        "turns": [COUNTS, {"choose": [{"if": "3", "answer": {"answer": "short"}}, {"answer": {"answer": "long"}}]}],
    },
    {"when": "Say", "turns": [{"answer": "good day"}]},
]


@pytest.fixture(autouse=True)
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait neither for litellm nor for what failed in another test."""
    model.load()
    monkeypatch.setattr("activities.models.gates._gates", {})


@contextmanager
def scripted(monkeypatch: pytest.MonkeyPatch, script: Any) -> Iterator[ScriptedProvider]:
    with ScriptedProvider(script) as provider:
        for name, value in provider.environment.items():
            monkeypatch.setenv(name, value)
        yield provider


async def test_an_answer_of_a_model_class_comes_back_as_such_after_its_tools(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(monkeypatch, SCRIPT) as provider:
        assert await Reader().summarise("…") == SUMMARY
    first, second = provider.requests
    assert first.last_user.startswith("Summarise this report: …")
    assert "count" in first.tools
    assert second.messages[-1]["role"] == "tool"
    assert second.messages[-1]["content"] == "3"


async def test_a_script_answers_in_anthropics_protocol_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(monkeypatch, SCRIPT) as provider:
        reader = Reader(model="anthropic/claude-sonnet-4-5")
        assert await reader.summarise("…") == SUMMARY
        assert await reader.say("hello") == "good day"
    first, second, _ = provider.requests
    assert first.sent is not None
    assert first.last_user.startswith("Summarise this report: …")
    assert "count" in first.tools
    assert (second.messages[-1]["role"], second.messages[-1]["content"]) == ("tool", "3")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, ModelRefused),
        (400, ModelRefused),
        (429, ModelUnavailable),
        (500, ModelUnavailable),
        (529, ModelUnavailable),
    ],
)
async def test_a_fault_is_told_in_the_protocol_in_which_was_asked(
    monkeypatch: pytest.MonkeyPatch, status: int, expected: type[AgentError]
) -> None:
    class Faulty(ScriptedProvider):
        def reply(self, request: Request) -> Reply:
            return Fault(status, "Not today.", retry_after=3)

    with Faulty(SCRIPT) as provider:
        for name, value in provider.environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(expected, match=r"Not today\.?") as told:
            await Reader(model="anthropic/claude-sonnet-4-5").say("hello")
    assert getattr(told.value, "retry_after", 3) == 3


async def test_usage_may_be_that_of_a_provider_that_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedProvider(SCRIPT, cache=PromptCache(least=1)) as provider:
        for name, value in provider.environment.items():
            monkeypatch.setenv(name, value)
        await Reader(model="anthropic/claude-sonnet-4-5").summarise("…")
    assert provider.cache is not None
    first, second = provider.cache.uses
    assert (first.read, second.read) == (0, first.written)


def test_what_is_older_than_a_cache_keeps_it_is_gone() -> None:
    cache = PromptCache(seconds=0.0, least=1)
    body = {"system": [{"type": "text", "text": "You are.", "cache_control": {"type": "ephemeral"}}], "messages": []}
    assert [cache.by_marks(body).read for _ in range(2)] == [0, 0]


def test_what_ends_more_than_twenty_blocks_before_a_mark_is_not_found() -> None:
    cache = PromptCache(least=1)

    def asked(blocks: int) -> dict[str, Any]:
        content: list[dict[str, Any]] = [{"type": "text", "text": f"{number}"} for number in range(blocks)]
        content[-1]["cache_control"] = {"type": "ephemeral"}
        return {"messages": [{"role": "user", "content": content}]}

    assert cache.by_marks(asked(5)).read == 0
    assert cache.by_marks(asked(25)).read == 0
    assert cache.by_marks(asked(44)).read > 0


def test_more_marks_than_four_are_refused() -> None:
    block = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    with pytest.raises(ValueError, match="maximum of 4 blocks"):
        PromptCache().by_marks({"messages": [{"role": "user", "content": [block] * 5}]})


async def test_tool_results_choose_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(monkeypatch, SCRIPT):
        assert await Reader().judge("it rained") == "short"


async def test_words_are_answered_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(monkeypatch, SCRIPT):
        assert await Reader().say("hello") == "good day"


async def test_a_script_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "script.toml"
    file.write_text('[[entry]]\nwhen = "Say"\n[[entry.turns]]\nanswer = "good evening"\ndelay = 0.01\n')
    for path in (file, str(file)):
        with scripted(monkeypatch, path):
            assert await Reader().say("hello") == "good evening"


async def test_what_is_not_written_is_refused_with_what_to_add(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(monkeypatch, SCRIPT), pytest.raises(AgentError, match=r"no entry fits\. Add an \[\[entry\]\]"):
        await Reader().judge("nothing")


async def test_a_request_after_the_last_turn_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        scripted(monkeypatch, [{"when": "Summarise", "turns": [{"answer": "no summary"}]}]),
        pytest.raises(AgentError, match="ends after 1 turns"),
    ):
        await Reader().summarise("…")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([{"when": "Say", "turns": []}], "Script given in code can't be used: entry 1, turns"),
        ([{"if": "Say", "turns": [{"answer": 1}]}], "unknown key if; known here are when, unless, turns"),
        ([], "Script given in code can't be used: entry"),
        ("nowhere.toml", "Script nowhere.toml can't be read"),
    ],
)
def test_a_script_that_can_not_be_used_says_where_and_why(script: Any, said: str) -> None:
    with pytest.raises(SettingInvalid) as error:
        ScriptedProvider(script)
    assert said in str(error.value)


async def test_a_run_asks_it_from_many_calls_at_a_time(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(monkeypatch, SCRIPT) as provider:
        async with runs.serving(__name__):
            assert await runs.execute(judge_all, [f"report {n}" for n in range(6)]) == ["short"] * 6
    assert len(provider.requests) == 12


async def test_what_it_used_is_told_as_a_provider_does(monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(monkeypatch, SCRIPT) as provider:
        assert (await _asked(provider, "Say hello."))["usage"] == {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
        }


async def _asked(provider: ScriptedProvider, text: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        body = {"model": "any", "messages": [{"role": "user", "content": text}]}
        told: dict[str, Any] = (await client.post(f"{provider.url}/chat/completions", json=body)).json()
        return told
