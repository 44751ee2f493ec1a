"""The call that is being answered: who knows of it, and what names its pieces of work."""

import asyncio
from pathlib import Path

import pytest

from activities.border.context import CallContext, answering, calling_tool, current_call, workspaces_folder

CALL = CallContext("textkit", "run", "coder-2", "Coder.write", "7")


def test_a_call_is_current_for_as_long_as_it_is_answered() -> None:
    with answering(CALL):
        assert current_call() == CALL

    assert current_call() is None


async def test_calls_that_are_answered_at_the_same_time_do_not_mix() -> None:
    async def answer(instance: str) -> str:
        with answering(CallContext("textkit", "run", instance, "Coder.write", "7")):
            await asyncio.sleep(0)
            call = current_call()
            assert call is not None
            return call.instance

    names = await asyncio.gather(*(answer(name) for name in ("coder-1", "coder-2")))

    assert names == ["coder-1", "coder-2"]


async def test_a_call_is_current_in_the_threads_of_its_sync_tools() -> None:
    with answering(CALL):
        assert await asyncio.to_thread(current_call) == CALL


def test_a_repeated_piece_of_work_has_the_same_key_and_another_piece_another_one() -> None:
    def key(turn: int, tool_call: int) -> str:
        with answering(CALL), calling_tool(turn, tool_call):
            call = current_call()
            assert call is not None
            return call.idempotency_key

    keys = [key(turn, tool_call) for turn in (1, 2) for tool_call in (0, 1)]

    assert len(set(keys)) == 4
    assert key(1, 0) == keys[0]


def test_a_tool_outside_a_run_has_no_call() -> None:
    with calling_tool(1, 0):
        assert current_call() is None


def test_workspaces_are_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WORKSPACES", str(tmp_path))
    assert workspaces_folder() == tmp_path

    monkeypatch.setenv("WORKSPACES", "")
    monkeypatch.chdir(tmp_path)
    assert workspaces_folder() == tmp_path / "workspaces"
