from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from activities.contract.usage import Usage
from workflows.shown.board import Board, Report
from workflows.shown.progress import Account, Items, Progress
from workflows.shown.reading import (
    SCATTERS_LISTED,
    WORKING_LISTED,
    calls_at_work,
    is_under_way,
    progress,
    status,
    what_goes_on,
)
from workflows.tree.scope import CallScope, PhaseScope, ScatterScope, Scope

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def call(parent: Scope, step: str = "1", method: str = "Coder.write", *, after: int | None = 0) -> CallScope:
    """Begin a call, sent so many seconds after noon, or not sent yet."""
    made = CallScope(step, "parser.py", parent, role="coder", method=method, instance="coder-1")
    made.begin()
    if after is not None:
        made.send(NOON + timedelta(seconds=after))
    return made


def scatter(parent: Scope, step: str, total: int = 4, method: str = "") -> ScatterScope:
    """Begin a scatter, of a method if it is known already."""
    made = ScatterScope(step, "coder", parent, total=total)
    made.begin()
    made.does(method)
    return made


def item(of: ScatterScope, number: int, *, at_work: bool = True) -> Scope:
    """Begin an item of a scatter."""
    made = of.child(f"{of.path}.{number}", f"item {number}")
    made.begin()
    made.since = NOON if at_work else None
    return made


def read(main: Scope, board: Board | None = None) -> Progress:
    return progress(
        main, board or Board(), choreography="build", status="running", waits_for=[], instances={"coder": 2}
    )


# Who works on what, since when


def test_a_call_is_at_work_from_when_it_was_sent_until_it_has_ended() -> None:
    main, board = Scope(), Board()
    waiting = call(main, "1", after=None)
    assert not is_under_way(main, "1")
    waiting.send(NOON)
    [working] = read(main, board).working
    assert (working.instance, working.method, working.item) == ("coder-1", "Coder.write", "parser.py")
    assert (working.step, working.since) == ("1", NOON)
    assert is_under_way(main, "1")
    board.call_ends("coder", "done", Usage())
    assert is_under_way(main, "1")  # until the program has been told
    waiting.end()
    assert read(main, board).working == []
    assert not is_under_way(main, "1")
    assert [read(main, board).calls_done, read(main, board).calls_running] == [1, 0]


def test_a_call_that_is_put_aside_is_at_work_again_when_it_is_sent_again() -> None:
    main = Scope()
    asks = call(main)
    asks.pause()
    assert [read(main).working, read(main).calls_running] == [[], 0]
    asks.send(NOON + timedelta(hours=1))
    assert [working.since.hour for working in read(main).working] == [13]
    asks.end()
    assert read(main).calls_running == 0


def test_calls_are_told_in_the_order_in_which_they_were_sent_wherever_they_are() -> None:
    main = Scope()
    one = item(scatter(main, "1"), 1)
    for step, after in (("1.1.1", 3), ("1.1.2", 1), ("1.1.3", 2)):
        call(one, step, after=after)
    call(main, "2", after=0)
    assert [found.path for found, _ in calls_at_work(main)] == ["2", "1.1.2", "1.1.3", "1.1.1"]


def test_of_many_calls_some_are_told_and_the_others_counted() -> None:
    main = Scope()
    for number in range(WORKING_LISTED + 7):
        call(main, str(number))
    told = read(main)
    assert [len(told.working), told.working_left_out, told.calls_running] == [WORKING_LISTED, 7, WORKING_LISTED + 7]


# What goes on


def phase(name: str, parent: Scope) -> PhaseScope:
    made = PhaseScope(title=name, parent=parent)
    made.begin()
    return made


def test_the_innermost_phases_go_on_each_with_how_often() -> None:
    main = Scope()
    review = phase("review", main)
    scattered = scatter(review, "1", method="Coder.write")
    for number, name in enumerate(["look", "look", "mend"]):
        call(phase(name, item(scattered, number)))
    assert what_goes_on(main) == "review / look (2), review / mend"


def test_where_no_phase_is_named_the_outermost_scatters_go_on() -> None:
    main = Scope()
    one = scatter(main, "1", method="Coder.write")
    scatter(item(one, 1), "1.1.1", method="Coder.look")
    scatter(main, "2", method="Tester.test")
    assert what_goes_on(main) == "Coder.write, Tester.test"


def test_where_there_is_no_scatter_the_calls_go_on() -> None:
    main = Scope()
    for number in range(5):
        call(main, str(number), f"Coder.m{number}", after=number)
        call(main, str(10 + number), f"Coder.m{number}", after=number)
    assert what_goes_on(main) == "Coder.m0, Coder.m1, Coder.m2, 2 more"


def test_nothing_goes_on_where_all_has_ended() -> None:
    main = Scope()
    for ended in (phase("plan", main), scatter(main, "1"), call(main, after=None)):
        ended.end()
    assert what_goes_on(main) == ""


# Scatters


def test_a_scatter_tells_where_its_items_are() -> None:
    main = Scope()
    scattered = scatter(main, "1", total=6, method="Coder.write")
    scattered.done += 1
    scattered.item_fails("b", "no luck")
    item(scattered, 3)
    item(scattered, 4, at_work=False)
    outlived = item(scattered, 5)
    call(outlived)
    outlived.end()
    [told] = read(main).scatters
    assert told.in_words() == "1 of 6 done, 1 running, 3 waiting, 1 failed"
    assert (told.step, told.title, told.ended) == ("1", "Coder.write", False)
    assert [read(main).failed_items, read(main).last_failures] == [1, ["b: no luck"]]


def test_scatters_that_have_ended_are_told_before_those_under_way_the_last_ones_and_the_others_counted() -> None:
    main = Scope()
    scatter(main, "0")
    for number in range(SCATTERS_LISTED + 5):
        scatter(main, str(number + 1)).end()
    scatter(main, "99")
    told = read(main)
    assert [s.step for s in told.scatters[-2:]] == ["0", "99"]
    assert [s.ended for s in told.scatters] == [True] * (SCATTERS_LISTED - 2) + [False] * 2
    assert told.scatters[0].step == "8"
    assert told.scatters_left_out == 7


def test_of_many_scatters_under_way_the_outer_ones_are_told() -> None:
    main = Scope()
    one = scatter(main, "1")
    for number in range(SCATTERS_LISTED):
        scatter(item(one, number), f"1.{number}.1")
    scatter(main, "2")
    told = read(main)
    assert [s.step for s in told.scatters[:3]] == ["1", "2", "1.0.1"]
    assert [len(told.scatters), told.scatters_left_out] == [SCATTERS_LISTED, 2]


# Parts of a run that go on elsewhere


def report(number: int, done: int, failed: int = 0, running: int = 0, waits_for: Sequence[str] = ()) -> Report:
    return Report(
        number=number,
        accounts={"coder": Account(calls_done=done, calls_failed=failed)},
        calls_running={"coder": running},
        items=Items(done=done, running=running, failed=failed),
        waits_for=list(waits_for),
    )


def test_what_parts_report_is_part_of_the_run_and_of_their_scatter() -> None:
    main, board = Scope(), Board({"coder": Account(calls_done=10)})
    scatter(main, "1", total=100)
    scatter(main, "2", total=100)
    board.part_reports("1", "1.1-50", report(1, done=5, failed=1, running=3))
    board.part_reports("1", "1.51-100", report(1, done=7, running=2, waits_for=["a model"]))
    told = read(main, board)
    assert [s.in_words() for s in told.scatters] == [
        "12 of 100 done, 5 running, 82 waiting, 1 failed",
        "0 of 100 done, 100 waiting",
    ]
    assert [told.calls_done, told.calls_running, told.calls_failed, told.failed_items] == [22, 5, 1, 1]
    assert [told.roles[0].calls_done, told.roles[0].calls_running] == [22, 5]
    assert board.parts_wait_for() == ["a model"]


def test_a_report_that_was_overtaken_is_dropped_and_a_part_that_has_ended_stays_in_the_accounts() -> None:
    main, board = Scope(), Board()
    scatter(main, "1", total=100)
    board.part_reports("1", "1.1-50", report(2, done=5))
    board.part_reports("1", "1.1-50", report(1, done=3))
    assert read(main, board).calls_done == 5
    board.part_ends("1.1-50")
    told = read(main, board)
    assert [told.calls_done, told.scatters[0].done] == [5, 0]


# How a run is, in words


@pytest.mark.parametrize(
    ("waits_for", "paused", "stuck", "said"),
    [
        ([], None, True, "running"),
        (["an answer of Ann. Answer it"], None, True, "waits: an answer of Ann"),
        (["an answer of Ann"], None, False, "running"),
        ([], "", False, "paused"),
        ([], "budget: 2 USD are spent", False, "waits: budget: 2 USD are spent"),
        (["x" * 200], None, True, f"waits: {'x' * 142}…"),
    ],
)
def test_a_run_waits_where_nothing_goes_on(waits_for: list[str], paused: str | None, stuck: bool, said: str) -> None:
    assert status(Board(), waits_for, paused=paused, stuck=stuck) == said


def test_a_run_that_has_ended_is_as_it_ended() -> None:
    board = Board()
    board.ended = "failed"
    assert status(board, ["an answer"], paused="", stuck=True) == "failed"
