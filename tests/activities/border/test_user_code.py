"""Whatever a method raises ends its call, soon and readably, and nothing else."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities import Agent, prompt, task, tool
from activities.border.user_code import Escaped, in_thread, on_the_loop
from tests.conftest import Runs
from tests.provider import Provider, Text, ToolCall, Tools
from workflows import choreography


class Odd(BaseException):
    pass


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError


class Empty(Exception):
    def __str__(self) -> str:
        return None  # type: ignore[return-value]


def _stop_iteration() -> None:
    next(iter([]))


def _raise(error: BaseException) -> Callable[[], None]:
    def stumble() -> None:
        raise error

    return stumble


def _group() -> None:
    raise BaseExceptionGroup("a group", [ValueError("one"), KeyboardInterrupt("two")])


KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "StopIteration": (_stop_iteration, "StopIteration"),
    "StopIteration with a value": (_raise(StopIteration("a value")), "StopIteration: a value"),
    "StopAsyncIteration": (_raise(StopAsyncIteration()), "StopAsyncIteration"),
    "GeneratorExit": (_raise(GeneratorExit()), "GeneratorExit"),
    "KeyboardInterrupt": (_raise(KeyboardInterrupt()), "KeyboardInterrupt"),
    "SystemExit": (lambda: sys.exit("usage"), "SystemExit: usage"),
    "a BaseException": (_raise(Odd("odd")), "Odd: odd"),
    "a group with a KeyboardInterrupt": (_group, "BaseExceptionGroup: ValueError: one"),
    "a CancelledError": (_raise(asyncio.CancelledError("not me")), "CancelledError: not me"),
    "words that raise": (_raise(Mute()), "Mute: [no words: its __str__ raises ValueError]"),
    "words that are None": (_raise(Empty()), "Empty: [no words: its __str__ raises TypeError]"),
    "half a character": (_raise(ValueError("a\ud800b")), "ValueError: a�b"),
    "long words": (_raise(ValueError("x" * 5_000_000)), "ValueError: xxx"),
    "a wait that is no time": (
        _raise(ApplicationError("soon", next_retry_delay="soon")),  # type: ignore[arg-type]
        "ApplicationError: soon",
    ),
    "details that are no data": (_raise(ApplicationError("object", object())), "ApplicationError: object"),
}


class Stumbler(Agent):
    """You stumble."""

    @task(retries=1)
    def in_a_thread(self, kind: str) -> None:
        """Stumble in a thread."""
        KINDS[kind][0]()

    @task(retries=1)
    async def on_the_loop(self, kind: str) -> None:
        """Stumble on the loop."""
        KINDS[kind][0]()

    @task(retries=0)
    async def in_a_task(self, kind: str) -> None:
        """Stumble in a task of its own."""

        async def stumble() -> None:
            await asyncio.sleep(0.01)
            KINDS[kind][0]()

        await asyncio.gather(asyncio.sleep(0.05), stumble())

    @tool
    def tool_in_a_thread(self, kind: str) -> None:
        """Stumble in a thread."""
        KINDS[kind][0]()

    @tool
    async def tool_on_the_loop(self, kind: str) -> str:
        """Stumble on the loop."""
        KINDS[kind][0]()
        return ""

    @tool
    def look(self) -> str:
        """Return what is no text."""
        return "a\ud800b\0c"

    @prompt
    async def work(self) -> str:
        """Work."""


@choreography(stumbler=4)
async def stumble(kinds: list[str], stumbler: Stumbler) -> list[str]:
    async def one(call: Any) -> str:
        try:
            await call
        except Exception as error:
            return str(error)
        return "done"

    calls = [getattr(stumbler, how)(kind) for kind in kinds for how in ("in_a_thread", "on_the_loop")]
    return list(await asyncio.gather(*map(one, calls)))


@choreography
async def work(stumbler: Stumbler) -> str:
    return await stumbler.work()


async def test_whatever_a_task_raises_fails_its_call_soon_with_type_and_line(runs: Runs) -> None:
    began = time.monotonic()
    async with runs.serving(__name__):
        told = await runs.execute(stumble, list(KINDS))
    assert time.monotonic() - began < 30
    for number, (kind, (_, words)) in enumerate(KINDS.items()):
        for how, said in zip(("in_a_thread", "on_the_loop"), told[2 * number : 2 * number + 2], strict=True):
            assert f"Stumbler.{how} (stumbler-" in said
            assert f"failed: {words}" in said, (kind, said)
            if not kind.startswith(("a wait", "details")):  # the line is Temporal's business there
                assert "(test_user_code.py:" in said, (kind, said)


async def test_a_task_that_a_method_starts_ends_no_worker(runs: Runs) -> None:
    kinds = ["SystemExit", "KeyboardInterrupt", "a BaseException", "half a character"]
    async with runs.serving(__name__):
        told = await runs.execute(stumble_in_tasks, kinds)
        assert "ValueError" in (await runs.execute(stumble_in_tasks, ["half a character"]))[0]
    for kind, said in zip(kinds, told, strict=True):
        assert f"failed: {KINDS[kind][1]}" in said
        assert "(test_user_code.py:" in said


@choreography
async def stumble_in_tasks(kinds: list[str], stumbler: Stumbler) -> list[str]:
    told = []
    for kind in kinds:
        try:
            await stumbler.in_a_task(kind)
        except Exception as error:
            told.append(str(error))
    return told


@pytest.mark.parametrize("method", ["tool_in_a_thread", "tool_on_the_loop"])
async def test_whatever_a_tool_raises_is_told_to_the_model(provider: Provider, method: str) -> None:
    kinds = [kind for kind in KINDS if kind not in ("a wait that is no time", "details that are no data")]
    provider.enqueue(Tools(tuple(ToolCall(method, {"kind": kind}) for kind in kinds)), Text("done"))

    assert await Stumbler().work() == "done"

    results = [message["content"] for message in provider.requests[1].messages if message["role"] == "tool"]
    for kind, result in zip(kinds, results, strict=True):
        assert result.startswith(f"Error: {method} failed: {KINDS[kind][1]}"), kind


async def test_half_a_character_in_a_tools_result_is_replaced_and_nothing_else_happens(
    runs: Runs, provider: Provider
) -> None:
    provider.enqueue(Tools((ToolCall("look", {}),)), Text("a \ud800 done"))

    async with runs.serving(__name__):
        assert await runs.execute(work) == "a � done"

    assert len(provider.requests) == 2
    assert provider.requests[1].messages[-1]["content"] == "a�b�c"


async def test_what_is_no_ordinary_exception_is_carried_by_one() -> None:
    async def interrupt() -> None:
        raise KeyboardInterrupt

    async def stop() -> None:
        raise StopIteration

    for work in (in_thread(_stop_iteration), on_the_loop(stop()), on_the_loop(interrupt())):
        with pytest.raises(Escaped) as caught:
            await work
        assert isinstance(caught.value.raised, (StopIteration, KeyboardInterrupt))


async def test_a_coroutine_that_is_closed_is_closed() -> None:
    ended = []

    async def wait() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append(True)

    async def start() -> Any:
        coroutine = on_the_loop(wait())
        coroutine.send(None)
        return coroutine

    coroutine = await asyncio.create_task(start())
    coroutine.close()

    assert ended == [True]


async def test_a_run_is_told_of_a_failure_however_odd(runs: Runs) -> None:
    async with runs.serving(__name__):
        with pytest.raises(WorkflowFailureError) as caught:
            await runs.execute(fail_oddly)
    assert "Mute: [no words" in str(caught.value.cause)


@choreography
async def fail_oddly(stumbler: Stumbler) -> None:
    raise Mute
