from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import workflows.program.sharding
from tests.conftest import Runs
from tests.workflows.crew import Worker, diary
from tests.workflows.histories import failure_of, message_of, steps
from workflows import choreography, fan_out, scatter
from workflows.errors import ItemFailed
from workflows.program.scatter import OnError

pytestmark = pytest.mark.usefixtures("served")


# Items and results


@choreography(worker=4)
async def double_all(numbers: list[int], worker: Worker) -> list[int]:
    """Double every number."""
    return await scatter(numbers, worker, lambda w, n: w.double(n))


async def test_results_come_in_the_order_of_the_items(runs: Runs) -> None:
    assert await runs.execute(double_all, list(range(20))) == [2 * n for n in range(20)]


async def test_ten_runs_have_equal_results(runs: Runs) -> None:
    results = await asyncio.gather(*(runs.execute(double_all, list(range(20))) for _ in range(10)))
    assert results == [[2 * n for n in range(20)]] * 10


@pytest.mark.parametrize("size", [1, 2, 16])
async def test_every_item_is_worked_on_exactly_once(runs: Runs, size: int) -> None:
    run = await runs.start(work_on_all, [str(n) for n in range(40)], {"instances": {"worker": size}})
    workers = await run.result()
    assert sorted(diary.items(run.id, "begin"), key=int) == [str(n) for n in range(40)]
    assert set(workers) == {f"worker-{number}" for number in range(1, size + 1)}


@choreography
async def work_on_all(items: list[str], worker: Worker) -> list[str]:
    """Return who worked on each item."""
    return await scatter(items, worker, lambda w, item: w.work(item))


async def test_a_scatter_over_nothing_is_empty(runs: Runs) -> None:
    run = await runs.start(double_all, [])
    assert await run.result() == []
    assert await steps(run) == []


class Pair(BaseModel):
    left: int
    right: int


@choreography(worker=2)
async def scatter_over(kind: str, worker: Worker) -> list[int]:
    """Take the items from any kind of iterable."""
    iterables: dict[str, Iterable[Any]] = {
        "generator": (n for n in range(3)),
        "iterator": iter([0, 1, 2]),
        "range": range(3),
        "dict": {0: "a", 1: "b", 2: "c"},
        "tuples": enumerate([0, 1, 2]),
        "models": [Pair(left=n, right=n) for n in range(3)],
    }
    return await scatter(iterables[kind], worker, lambda w, item: w.double(number_of(item)))


def number_of(item: Any) -> int:
    return item.left if isinstance(item, Pair) else item[1] if isinstance(item, tuple) else item


@pytest.mark.parametrize("kind", ["generator", "iterator", "range", "dict", "tuples", "models"])
async def test_items_may_be_any_iterable(runs: Runs, kind: str) -> None:
    assert await runs.execute(scatter_over, kind) == [0, 2, 4]


async def double_if_round(worker: Worker, number: int) -> int:
    return await worker.double(number) if number % 10 == 0 else 2 * number


@choreography(worker=200)
async def double_thousands(count: int, worker: Worker) -> int:
    """Double very many numbers, most of them without asking anybody."""
    return sum(await scatter(range(count), worker, double_if_round))


async def test_items_may_be_thousands(runs: Runs) -> None:
    assert await runs.execute(double_thousands, 3_000) == 3_000 * 2_999


# Bodies


async def draft_and_check(writer: Worker, item: str, checker: Worker) -> tuple[str, str, str]:
    first = await writer.work(f"draft {item}")
    checked = await checker.work(f"check {item}")
    return first, checked, await writer.work(f"mend {item}")


@choreography(writer=2, checker=1)
async def pipeline(items: list[str], writer: Worker, checker: Worker) -> list[tuple[str, str, str]]:
    """Do three things for every item, one of them by another role, without a barrier between the items."""
    return await scatter(items, writer, lambda w, item: draft_and_check(w, item, checker))


async def test_a_body_may_call_its_instance_and_other_roles_in_turn(runs: Runs) -> None:
    run = await runs.start(pipeline, ["a", "b", "c", "d"])
    results = await run.result()
    assert [(first, checked) for first, checked, _ in results] == [(first, "checker-1") for first, _, _ in results]
    for item in "abcd":
        assert [done for done in diary.items(run.id, "end") if done.endswith(item)] == [
            f"draft {item}",
            f"check {item}",
            f"mend {item}",
        ]


async def test_a_body_keeps_its_instance_from_its_first_call_to_its_last(runs: Runs) -> None:
    results = await runs.execute(pipeline, ["a", "b", "c", "d"])
    assert all(first == last for first, _, last in results)


async def test_items_do_not_wait_for_each_other_between_the_calls_of_a_body(runs: Runs) -> None:
    run = await runs.start(pipeline, [str(n) for n in range(6)])
    await run.result()
    done = diary.items(run.id, "end")
    assert done.index("mend 0") < done.index("draft 5")


@choreography(outer=2, inner=2)
async def nested(outer: Worker, inner: Worker) -> list[list[int]]:
    """Scatter in the body of a scatter."""
    return await scatter([1, 2, 3], outer, lambda o, n: scatter(range(n), inner, lambda i, m: i.double(10 * n + m)))


async def test_scatters_nest(runs: Runs) -> None:
    run = await runs.start(nested)
    assert await run.result() == [[20], [40, 42], [60, 62, 64]]
    assert [step.id for step in sorted(await steps(run))] == ["1.1.1.1.1"] + [f"1.2.1.{m}.1" for m in (1, 2)] + [
        f"1.3.1.{m}.1" for m in (1, 2, 3)
    ]


# Errors


async def wait_or_fail(worker: Worker, item: str) -> str:
    if item == "bad":
        await worker.fail("no luck")
    first = await worker.wait(item)
    await worker.work(f"{item} again")
    return first


@choreography(worker=3)
async def one_of_many_fails(items: list[str], worker: Worker) -> list[str]:
    """Have one item fail while others are at work and some are not begun."""
    return await scatter(items, worker, lambda w, item: wait_or_fail(w, item))


async def test_an_error_names_item_and_instance_in_the_runs_failure(runs: Runs) -> None:
    message = await message_of(await runs.start(one_of_many_fails, ["good", "bad", "fine"]))
    assert message.startswith(
        "one_of_many_fails: item 1 (bad) on worker-2: Worker.fail (worker-2, step 1.2.1, bad) failed"
    )
    assert "RuntimeError: no luck (crew.py:" in message


async def test_an_error_cancels_what_runs_and_waits_for_it(runs: Runs) -> None:
    run = await runs.start(one_of_many_fails, ["good", "fine", "good", "bad"])
    await diary.wait_for(run.id, "begin", 3)
    diary.gate(run.id).set()
    await message_of(run)
    assert diary.most_at_once(run.id, "worker-1", "worker-2", "worker-3") == 3
    begun, ended = diary.items(run.id, "begin"), diary.items(run.id, "end") + diary.items(run.id, "cancelled")
    assert sorted(begun) == sorted(ended)


async def test_after_an_error_no_further_call_starts(runs: Runs) -> None:
    run = await runs.start(one_of_many_fails, ["good", "bad", "fine", *(str(n) for n in range(20))])
    await message_of(run)
    assert {step.summary for step in await steps(run)} <= {
        "worker-1 · good",
        "worker-2 · bad",
        "worker-3 · fine",
    }


@choreography(worker=2)
async def fail_while_another_ends_well(worker: Worker) -> list[str]:
    """Have one item fail while another one's call can't be cancelled any more."""
    return await scatter(["stubborn", "bad"], worker, lambda w, item: stubborn_or_fail(w, item))


async def stubborn_or_fail(worker: Worker, item: str) -> str:
    if item == "bad":
        await worker.fail("no luck")
    return await worker.finish_nevertheless(item) + await worker.work(f"{item} again")


async def test_a_cancelled_item_whose_call_ends_well_does_not_go_on_to_its_next_call(runs: Runs) -> None:
    run = await runs.start(fail_while_another_ends_well)
    await message_of(run)
    assert diary.items(run.id, "end") == ["stubborn"]


@choreography(worker=2)
async def collect(items: list[str], worker: Worker) -> list[Any]:
    """Go on after an error, and tell it in the item's place."""
    results = await scatter(items, worker, lambda w, item: work_or_fail(w, item), on_error="collect")
    return [
        [result.index, result.item, result.instance, str(result.error)] if isinstance(result, ItemFailed) else result
        for result in results
    ]


async def work_or_fail(worker: Worker, item: str) -> str:
    if item == "bad":
        await worker.fail("no luck")
    elif item == "wrong":
        raise KeyError(item)
    await worker.work(item)
    return item


async def test_errors_are_collected_in_the_items_places(runs: Runs) -> None:
    first, failed, wrong, last = await runs.execute(collect, ["a", "bad", "wrong", "b"])
    assert [first, last] == ["a", "b"]
    assert failed[:2] == [1, "bad"]
    assert "RuntimeError: no luck" in failed[3]
    assert [wrong[:2], wrong[3]] == [[2, "wrong"], "'wrong'"]


async def wait_for_what_is_cancelled(worker: Worker) -> int:
    call = asyncio.ensure_future(worker.double(1))
    call.cancel()
    return await call


@choreography
async def cancel_in_a_body(worker: Worker) -> None:
    """Have a body wait for something that it has cancelled."""
    await scatter(["odd"], worker, lambda w, item: wait_for_what_is_cancelled(w))


async def test_waiting_for_what_is_cancelled_is_an_error_of_the_item(runs: Runs) -> None:
    message = await message_of(await runs.start(cancel_in_a_body))
    assert "item 0 (odd) on worker-1: CancelledError:  (at test_scatter.py:" in message


@choreography
async def collect_as_it_is(worker: Worker) -> list[Any]:
    """Return errors themselves as a part of the result."""
    return list(await scatter(["bad"], worker, lambda w, item: work_or_fail(w, item), on_error="collect"))


async def test_a_collected_error_that_is_returned_is_told_in_the_result(runs: Runs) -> None:
    [told] = await runs.execute(collect_as_it_is)
    assert told.startswith("item 0 (bad) on worker-1: Worker.fail")


# Several scatters at the same time


@choreography(worker=2, checker=2)
async def two_groups(worker: Worker, checker: Worker) -> list[list[str]]:
    """Have two groups of items worked on at the same time, each by a role of its own."""
    return await fan_out(
        [
            (["a", "b"], worker, lambda w, item: w.wait(item)),
            (["c"], checker, lambda w, item: w.wait(item)),
            ([], checker, lambda w, item: w.wait(item)),
        ]
    )


async def test_groups_overlap_in_time_and_results_come_group_by_group(runs: Runs) -> None:
    run = await runs.start(two_groups)
    await diary.wait_for(run.id, "begin", 3)
    diary.gate(run.id).set()
    assert await run.result() == [["worker-1", "worker-2"], ["checker-1"], []]


@choreography
async def no_groups(worker: Worker) -> list[list[str]]:
    """Fan out over nothing."""
    return await fan_out([])


async def test_a_fan_out_over_nothing_is_empty(runs: Runs) -> None:
    assert await runs.execute(no_groups) == []


@choreography(worker=2, checker=2)
async def groups_by_name(as_a_dict: bool, worker: Worker, checker: Worker) -> dict[str, list[str]] | list[list[str]]:
    """Have the groups of `two_groups` worked on, by names or one after the other."""
    groups = {
        "drafts": (["a", "b"], worker, lambda w, item: w.work(item)),
        "checks": (["c"], checker, lambda w, item: w.work(item)),
        "appeals": ([], checker, lambda w, item: w.work(item)),
    }
    return await (fan_out(groups) if as_a_dict else fan_out(groups.values()))


async def test_a_dict_of_groups_gives_a_dict_by_the_same_names_in_the_order_given(runs: Runs) -> None:
    result = await runs.execute(groups_by_name, True)
    assert list(result.items()) == [("drafts", ["worker-1", "worker-2"]), ("checks", ["checker-1"]), ("appeals", [])]


async def test_groups_have_the_same_steps_with_names_as_without(runs: Runs) -> None:
    by_name, one_by_one = await runs.start(groups_by_name, True), await runs.start(groups_by_name, False)
    assert await one_by_one.result() == list((await by_name.result()).values())
    assert await steps(by_name) == await steps(one_by_one) != []


@choreography
async def no_named_groups(worker: Worker) -> dict[str, list[str]]:
    """Fan out over an empty dict."""
    return await fan_out({})


async def test_a_fan_out_over_an_empty_dict_is_an_empty_dict(runs: Runs) -> None:
    assert await runs.execute(no_named_groups) == {}


@choreography(worker=2, checker=1)
async def a_group_fails(on_error: OnError, worker: Worker, checker: Worker) -> list[list[Any]]:
    """Have an item of one group fail while the other group is at work."""
    return await fan_out(
        [
            (["good", "fine"], worker, lambda w, item: w.wait(item)),
            (["bad"], checker, lambda w, item: work_or_fail(w, item)),
        ],
        on_error=on_error,
    )


async def test_an_error_in_a_group_cancels_the_other_groups(runs: Runs) -> None:
    run = await runs.start(a_group_fails, "raise")
    assert "item 0 (bad) on checker-1" in await message_of(run)
    assert sorted(diary.items(run.id, "begin")) == sorted(diary.items(run.id, "cancelled"))


async def test_an_error_in_a_group_can_be_collected(runs: Runs) -> None:
    run = await runs.start(a_group_fails, "collect")
    await diary.wait_for(run.id, "begin", 2)
    diary.gate(run.id).set()
    good, [bad] = await run.result()
    assert good == ["worker-1", "worker-2"]
    assert bad.startswith("item 0 (bad) on checker-1")


@choreography
async def unknown_mode(worker: Worker) -> None:
    """Ask for a way of treating errors that there is not."""
    await scatter([1], worker, lambda w, n: w.double(n), on_error="ignore")  # type: ignore[call-overload]


async def test_an_unknown_way_of_treating_errors_is_refused(runs: Runs) -> None:
    assert "on_error='ignore'" in await message_of(await runs.start(unknown_mode))


# With fakes, and no server


class Fake:
    """Stands in for a Worker: takes some time, and fails on demand."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def work(self, item: str) -> str:
        self.log.append(f"begin {item}")
        try:
            await asyncio.sleep(0 if item == "bad" else 0.01)
            if item == "bad":
                raise RuntimeError("no luck")
        except asyncio.CancelledError:
            self.log.append(f"cancelled {item}")
            raise
        self.log.append(f"end {item}")
        return item.upper()


def items(*names: str) -> Iterator[str]:
    yield from names


async def test_a_fake_works_on_one_item_after_the_other() -> None:
    fake = Fake()
    assert await scatter(items("a", "b"), fake, lambda f, item: f.work(item)) == ["A", "B"]
    assert fake.log == ["begin a", "end a", "begin b", "end b"]


async def test_an_error_of_a_fake_names_the_item_and_ends_the_scatter() -> None:
    fake = Fake()
    with pytest.raises(ItemFailed, match=r"item 1 \(bad\) on Fake: RuntimeError: no luck \(at test_scatter.py:"):
        await scatter(["a", "bad", "b"], fake, lambda f, item: f.work(item))
    assert fake.log == ["begin a", "end a", "begin bad"]


async def test_an_error_of_a_fake_can_be_collected() -> None:
    first, failed, last = await scatter(["a", "bad", "b"], Fake(), lambda f, item: f.work(item), on_error="collect")
    assert [first, last] == ["A", "B"]
    assert isinstance(failed, ItemFailed)
    assert isinstance(failed.__cause__, RuntimeError)


async def test_fakes_work_in_groups_at_the_same_time() -> None:
    fake = Fake()
    results = await fan_out([(["a", "b"], fake, lambda f, i: f.work(i)), (["c"], fake, lambda f, i: f.work(i))])
    assert results == [["A", "B"], ["C"]]
    assert fake.log[:2] == ["begin a", "begin c"]


async def test_groups_of_fakes_have_names_of_any_kind_also_where_the_dict_is_changed_meanwhile() -> None:
    fake = Fake()
    groups: dict[Any, Any] = {
        (1, "late"): (["a", "b"], fake, lambda f, i: f.work(i)),
        None: (["c"], fake, lambda f, i: f.work(i)),
    }
    working = fan_out(groups)
    groups.clear()
    assert list((await working).items()) == [((1, "late"), ["A", "B"]), (None, ["C"])]


async def test_errors_of_named_groups_are_collected_or_name_their_item() -> None:
    groups = {"bad": (["bad"], Fake(), lambda f, i: f.work(i)), "good": (["c"], Fake(), lambda f, i: f.work(i))}
    results = await fan_out(groups, on_error="collect")
    assert isinstance(results["bad"][0], ItemFailed)
    assert results["good"] == ["C"]
    with pytest.raises(ItemFailed, match=r"item 0 \(bad\)"):
        await fan_out(groups)


async def test_an_error_of_a_fake_cancels_the_other_groups() -> None:
    fake, other = Fake(), Fake()
    with pytest.raises(ItemFailed):
        await fan_out([(["bad"], fake, lambda f, i: f.work(i)), (["c", "d"], other, lambda f, i: f.work(i))])
    assert other.log == ["begin c", "cancelled c"]


async def test_a_scatter_of_fakes_that_is_cancelled_cancels_what_runs() -> None:
    fake = Fake()
    scattering = asyncio.create_task(scatter(["a", "b"], fake, lambda f, item: f.work(item)))
    while not fake.log:
        await asyncio.sleep(0)
    scattering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await scattering
    assert fake.log == ["begin a", "cancelled a"]


# What can't be scattered over


@choreography(worker=2)
async def over(kind: str, worker: Worker) -> list[Any]:
    """Scatter over something odd."""
    words = {"a", "b", "c"}
    odd: dict[str, Any] = {
        "set": words,
        "frozenset": frozenset(words),
        "iterator of a set": iter(words),
        "union of keys": dict.fromkeys(words).keys() | {"d"},
        "range(10**9)": range(10**9),
        "range(10**30)": range(10**30),
        "endless": itertools.count(),
    }
    if kind == "named group":
        return list(await fan_out({"none": ([], worker, double), "words": (odd["set"], worker, double)}))
    if kind == "group":
        return await fan_out([([], worker, double), (odd["set"], worker, double)])
    if kind == "groups":
        return await fan_out({("a", worker, double), ("b", worker, double)})
    return await scatter(odd[kind], worker, double)


def double(worker: Worker, item: int) -> Awaitable[int]:
    return worker.double(item)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("set", "given a set, whose order is another one in every process"),
        ("frozenset", "given a frozenset, whose order"),
        ("iterator of a set", "given a set_iterator, whose order"),
        ("union of keys", "given a set, whose order"),
        ("group", "fan_out at test_scatter.py:"),
        ("named group", "fan_out at test_scatter.py:"),
        ("groups", "fan_out at test_scatter.py:"),
        ("range(10**9)", "more than 1,000,000 items, which is the most"),
        ("range(10**30)", "more than 1,000,000 items"),
        ("endless", "more than 1,000,000 items"),
    ],
)
async def test_items_without_an_order_or_without_an_end_are_refused_with_the_authors_line(
    runs: Runs, kind: str, said: str
) -> None:
    failure = await failure_of(await runs.start(over, kind))
    assert failure.type == "ItemsRefused"
    assert said in failure.message
    assert "test_scatter.py:" in failure.message
    assert ("give sorted(…)" in failure.message) == ("order" in failure.message)


@pytest.mark.parametrize(
    "items", [{"a": 1, "b": 2}, {"a": 1}.keys(), {"a": 1}.items(), (1, 2), range(3), "ab", iter([1])]
)
async def test_items_in_an_order_are_taken_as_they_are(items: Any) -> None:
    listed = list(items) if not isinstance(items, Iterator) else [1]
    assert await scatter(items, Worker(), echo) == listed


async def echo(worker: Worker, item: Any) -> Any:
    return item


@choreography(worker=2)
async def forgetful(kind: str, worker: Worker) -> list[Any]:
    """Forget to return the call."""

    def body(w: Worker, item: int) -> Any:
        made = w.double(item)
        return [made] if kind == "list" else None

    return await scatter(range(30 if kind == "many" else 2), worker, body)


@pytest.mark.parametrize(
    ("kind", "returned"), [("none", "None"), ("list", "[<call 1.1.1 of Worker.double>]"), ("many", "None")]
)
async def test_a_body_that_returns_nothing_to_await_is_told_with_its_line(
    runs: Runs, kind: str, returned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 20)
    message = await message_of(await runs.start(forgetful, kind))
    assert re.search(r"the body of the scatter \(test_scatter.py:\d+ in body\) returned ", message)
    assert f"returned {returned}, which can't be awaited: return the call" in message
