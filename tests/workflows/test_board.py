from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from activities.contract import Usage
from workflows.board import SCATTERS_LISTED, WORKING_LISTED, Board, Work
from workflows.progress import Account, Progress

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def read(board: Board, **instances: int) -> Progress:
    return board.progress("build", board.status([]), [], instances or {"coder": 2})


def call(board: Board, step: str, method: str = "Coder.write", *, role: str = "coder") -> int:
    return board.call_begins(Work(step, role, "coder-1", method, "a.py"), NOW)


def test_a_call_is_shown_while_it_runs_and_counted_when_it_has_ended() -> None:
    board = Board()
    number = call(board, "1")
    [working] = read(board).working
    assert (working.instance, working.method, working.item, working.since) == ("coder-1", "Coder.write", "a.py", NOW)
    board.call_ends(number, "done")
    board.call_ends(call(board, "2"), "failed")
    board.call_ends(call(board, "3"), "cancelled")
    told = read(board)
    assert (told.calls_done, told.calls_failed, told.calls_running, told.working) == (1, 1, 0, [])


def test_what_calls_use_is_counted_by_role_and_in_all() -> None:
    board = Board()
    board.used("coder", Usage(model_calls=2, prompt_tokens=10, completion_tokens=5, cost_usd=0.5))
    board.used("coder", Usage(model_calls=1, prompt_tokens=1, cost_usd=0.25))
    board.used("reviewer", Usage(model_calls=1, prompt_tokens=1, cost_usd=0.25))
    told = read(board, coder=2, reviewer=1)
    assert [(role.role, role.usage.model_calls, role.usage.cost_usd) for role in told.roles] == [
        ("coder", 3, 0.75),
        ("reviewer", 1, 0.25),
    ]
    assert told.usage.model_calls == 4
    assert "4 model calls, 17 tokens, 1.00 USD" in told.calls_in_words()


def test_a_run_that_goes_on_elsewhere_carries_its_accounts() -> None:
    first = Board()
    first.call_ends(call(first, "1"), "done")
    first.used("coder", Usage(model_calls=3, cost_usd=1.5))
    carried = {role: Account.model_validate_json(a.model_dump_json()) for role, a in first.accounts.items()}
    second = Board(carried)
    second.call_ends(call(second, "2"), "done")
    assert (read(second).calls_done, read(second).usage.model_calls) == (2, 3)


# Scatters


async def test_the_items_of_a_scatter_are_counted_where_they_are() -> None:
    board = Board()
    scatter = board.scatter("1", "", "coder", 5)
    with scatter:
        with scatter.item(0, "a.py"):
            pass
        with pytest.raises(ValueError, match="ink"), scatter.item(1, "b.py"):
            raise ValueError("no ink")
        with scatter.item(2, "c.py"):
            [told] = read(board).scatters
    assert told.in_words() == "1 of 5 done, 1 running, 2 waiting, 1 failed"
    assert read(board).failed_items == 1
    assert read(board).last_failures[0].startswith("b.py: ValueError: no ink")


async def test_an_item_that_is_cancelled_waits_again_and_has_not_failed() -> None:
    scatter = Board().scatter("1", "", "coder", 1)

    async def body() -> None:
        with scatter.item(0, "a.py"):
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert scatter.progress().in_words() == "0 of 1 done, 1 waiting"


def test_a_scatter_is_named_for_its_first_call_and_its_round() -> None:
    board = Board()
    for step in ("1", "2", "3"):
        with board.scatter(step, "", "coder", 1):
            assert read(board).phase == "coder"
            call(board, f"{step}.1.1", "Coder.test" if step == "2" else "Coder.write")
    assert [scatter.title for scatter in read(board).scatters] == ["Coder.write", "Coder.test", "Coder.write, round 2"]


def test_scatters_that_have_ended_are_listed_before_those_that_run() -> None:
    board = Board()
    for step in ("1", "2"):
        with board.scatter(step, "", "coder", 1):
            pass
    with board.scatter("3", "", "coder", 1):
        told = read(board)
    assert [(s.step, s.ended) for s in told.scatters] == [("1", True), ("2", True), ("3", False)]
    assert told.scatters_left_out == 0


def test_rounds_are_counted_anew_in_each_item() -> None:
    board = Board()
    outer = board.scatter("1", "", "coder", 2)
    with outer:
        for index in range(2):
            with outer.item(index, f"{index}.py"), board.scatter(f"1.{index + 1}.1", f"{index}.py", "reviewer", 1):
                call(board, f"1.{index + 1}.1.1.1", "Reviewer.read")
    assert [s.title for s in read(board).scatters] == ["0.py: Reviewer.read", "1.py: Reviewer.read", "coder"]


def test_what_a_part_of_a_scatter_reports_takes_the_place_of_what_it_reported_before() -> None:
    part = Board()
    inner = part.scatter("1", "", "coder", 3)
    board = Board()
    with board.scatter("1", "", "coder", 6), inner:
        for index in range(2):
            with inner.item(index, "a.py"):
                part.used("coder", Usage(model_calls=1, cost_usd=0.5))
                part.call_ends(call(part, f"1.{index + 1}.1"), "done")
            board.hears("1", "build/1", part.report([]))
        call(part, "1.3.1")
        board.hears("1", "build/1", part.report([]))
        told = read(board)
    assert told.scatters[0].done == 2
    assert (told.calls_done, told.calls_running, told.usage.cost_usd) == (2, 1, 1.0)
    assert told.roles[0].calls_running == 1
    assert (told.working, told.working_left_out) == ([], 1)


def test_a_report_that_was_overtaken_by_a_later_one_counts_no_more() -> None:
    part, board = Board(), Board()
    with board.scatter("1", "", "coder", 2):
        first = part.report([])
        part.call_ends(call(part, "1.1.1"), "done")
        board.hears("1", "build/1", part.report([]))
        board.hears("1", "build/1", first)
        board.part_ends("1", "build/1")
    assert read(board).calls_done == 1


# The phase


def test_without_named_phases_the_phase_is_what_runs() -> None:
    board = Board()
    assert read(board).phase == ""
    call(board, "1", "Architect.plan")
    assert read(board).phase == "Architect.plan"
    with board.scatter("2", "", "coder", 1):
        call(board, "2.1.1", "Coder.write")
        assert read(board).phase == "Coder.write"


def test_the_phase_is_the_innermost_and_tells_how_many_are_in_it() -> None:
    board = Board()
    board.phase_begins(("build",))
    for _ in range(3):
        board.phase_begins(("build", "write"))
    board.phase_begins(("build", "review"))
    assert read(board).phase == "build / write (3), build / review"
    for _ in range(3):
        board.phase_ends(("build", "write"))
    board.phase_ends(("build", "review"))
    assert read(board).phase == "build"


# The status


def test_a_run_says_in_a_few_words_how_it_is() -> None:
    board = Board()
    wait = "an answer from owner. Give it by an update."
    assert board.status([]) == "running"
    assert board.status([wait]) == "running"
    assert board.status([wait], stuck=True) == "waits: an answer from owner"
    assert board.status([], paused="") == "paused"
    assert (
        board.status([wait], paused="1.00 USD are spent. Raise the budget.", stuck=True) == "paused: 1.00 USD are spent"
    )
    board.outcome = "done"
    assert board.status([wait], paused="") == "done"


# Its size


def test_the_answer_stays_small_however_large_the_run() -> None:
    board = Board()
    for step in range(1, 501):
        with board.scatter(str(step), "", "coder", 1):
            board.call_ends(call(board, f"{step}.1.1", "Coder." + "m" * 50), "done")
    for step in range(501, 1501):
        call(board, str(step), "Coder." + "m" * 50)
    told = read(board, coder=1000)
    assert (len(told.working), told.working_left_out) == (WORKING_LISTED, 1000 - WORKING_LISTED)
    assert (len(told.scatters), told.scatters_left_out) == (SCATTERS_LISTED, 500 - SCATTERS_LISTED)
    assert len(told.model_dump_json()) < 60_000
