from __future__ import annotations

import asyncio
import builtins
import datetime
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload
from temporalio.common import RawValue

from activities.contract.limits import MESSAGE_LIMIT
from tests.conftest import Runs
from tests.workflows.crew import Worker
from tests.workflows.histories import failure_of, message_of
from workflows import choreography, scatter
from workflows.errors import ChoreographyInvalid

pytestmark = pytest.mark.usefixtures("served")


class Order(BaseModel):
    customer: str
    amounts: list[int]


class Receipt(BaseModel):
    customer: str
    total: int


# The function by itself


class Fake:
    """Stands in for a Worker."""

    async def double(self, number: int) -> int:
        return 2 * number


@choreography(worker=2)
async def bill(order: Order, worker: Worker, discount: int = 0) -> Receipt:
    """Double every amount and add them up."""
    doubled = await scatter(order.amounts, worker, lambda w, amount: w.double(amount))
    return Receipt(customer=order.customer, total=sum(doubled) - discount)


@choreography
async def bill_twice(order: Order, worker: Worker) -> list[Receipt]:
    """Hand an order to another choreography, twice."""
    return [await bill(order, worker), await bill(order, worker, discount=1)]


async def test_a_choreography_called_with_fakes_is_its_function() -> None:
    assert await bill(Order(customer="Ada", amounts=[1, 2]), Fake()) == Receipt(customer="Ada", total=6)  # type: ignore[arg-type]


async def test_a_choreography_keeps_its_functions_name_and_docstring() -> None:
    assert (bill.name, bill.__doc__) == ("bill", "Double every amount and add them up.")


async def test_a_choreography_calls_another_one_with_its_own_roles(runs: Runs) -> None:
    receipts = await runs.execute(bill_twice, Order(customer="Ada", amounts=[1, 2]))
    assert receipts == [{"customer": "Ada", "total": 6}, {"customer": "Ada", "total": 5}]


# Declarations


async def plain(text: str, worker: Worker) -> None: ...
async def without_type(text, worker: Worker) -> None: ...  # type: ignore[no-untyped-def]
async def of_a_strange_type(text: Path | type[Runs] | Awaitable[int], worker: Worker) -> None: ...
async def of_an_unknown_type(text: Unknown, worker: Worker) -> None: ...  # type: ignore[name-defined]  # noqa: F821
async def with_many(*texts: str, worker: Worker) -> None: ...
async def with_anything(worker: Worker, **texts: str) -> None: ...
async def maybe(worker: Worker | None) -> None: ...
def synchronous(text: str, worker: Worker) -> None: ...


@pytest.mark.parametrize(
    ("declare", "advice"),
    [
        (lambda: choreography(synchronous), "synchronous: .* write 'async def'"),  # type: ignore[arg-type]
        (lambda: choreography(without_type), "'text' has no type"),
        (lambda: choreography(of_a_strange_type), "the input 'text' can't be given as JSON"),
        (lambda: choreography(of_an_unknown_type), "name 'Unknown' is not defined; define or import"),
        (lambda: choreography(with_many), r"'\*texts' is no plain parameter"),
        (lambda: choreography(with_anything), r"'\*\*texts' is no plain parameter"),
        (lambda: choreography(maybe), "the input 'worker' can't be given as JSON"),
        (lambda: choreography(coder=2)(plain), "names no role; the roles are worker"),
        (lambda: choreography(text=2)(plain), "names no role; the roles are worker"),
        (lambda: choreography(worker=0)(plain), "worker=0.* is no pool"),
        (lambda: choreography(worker=-1)(plain), "worker=-1.* is no pool"),
        (lambda: choreography(worker=10**9)(plain), "is no pool; give a number from 1 to 10,000"),
        (lambda: choreography(worker=[])(plain), r"worker=\[\].* is no pool"),
        (lambda: choreography(worker=["ann", "ann"])(plain), "is no pool; .* different names"),
        (lambda: choreography(worker="ann")(plain), "is no pool"),
        (lambda: choreography(worker=1.5)(plain), "is no pool"),  # type: ignore[call-overload]
    ],
)
def test_a_wrong_declaration_says_what_to_write(declare: Callable[[], Any], advice: str) -> None:
    with pytest.raises(ChoreographyInvalid, match=advice):
        declare()


# Inputs


@choreography
async def describe(title: str, order: Order, worker: Worker, count: int = 1, day: datetime.date | None = None) -> str:
    """Tell the inputs as they arrive."""
    return f"{title}, {order!r}, {count!r}, {day!r}"


ORDER = {"customer": "Ada", "amounts": [1, 2]}


@pytest.mark.parametrize(
    ("inputs", "described"),
    [
        (["a", ORDER], "a, Order(customer='Ada', amounts=[1, 2]), 1, None"),
        (["a", ORDER, 7], "a, Order(customer='Ada', amounts=[1, 2]), 7, None"),
        (["a", ORDER, 7, "2024-02-29"], "a, Order(customer='Ada', amounts=[1, 2]), 7, datetime.date(2024, 2, 29)"),
        (["a", ORDER, 7, None, None], "a, Order(customer='Ada', amounts=[1, 2]), 7, None"),
        (["a", ORDER, 7, None, {"instances": {"worker": 3}}], "a, Order(customer='Ada', amounts=[1, 2]), 7, None"),
    ],
)
async def test_inputs_arrive_as_their_types_and_defaults_are_filled_in(
    runs: Runs, inputs: list[Any], described: str
) -> None:
    assert await runs.execute(describe, *inputs) == described


def raw(data: bytes, encoding: bytes = b"json/plain") -> RawValue:
    return RawValue(Payload(metadata={"encoding": encoding}, data=data))


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ([], "the input 'title' is missing"),
        (["a"], "the input 'order' is missing"),
        ([1, ORDER], "the input 'title' does not fit: Input should be a valid string"),
        (["a", "b"], "the input 'order' does not fit: Input should be an object"),
        (["a", {"customer": "Ada"}], "the input 'order' does not fit: 'amounts': Field required"),
        (
            ["a", {**ORDER, "amounts": ["x"]}],
            "the input 'order' does not fit: 'amounts.0': Input should be a valid int",
        ),
        (["a", ORDER, None], "the input 'count' does not fit"),
        (["a", ORDER, 1, "tomorrow"], "the input 'day' does not fit"),
        (["a", ORDER, 1, None, {}, "b"], "6 inputs were given"),
        (["a", ORDER, 1, None, "b"], "'options' does not fit"),
        (["a", ORDER, 1, None, {"pools": {}}], "'options' does not fit: 'pools': Extra inputs are not permitted"),
        (["a", raw(b"{not JSON")], "the input 'order' can't be read"),
        (["a", raw(b"\xff\xfe")], "the input 'order' can't be read"),
        (["a", raw(b"{}", b"json/unheard-of")], "the input 'order' can't be read"),
        (["a", raw(b"{}", b"binary/plain")], "the input 'order' can't be read"),
        (["a", raw(b"[" * 100_000)], "the input 'order' can't be read"),
        (["a", ORDER, 1, raw(b"{not JSON")], "the input 'day' can't be read"),
        (["a", ORDER, 1, None, raw(b"{not JSON")], "'options' can't be read"),
    ],
    ids=str,
)
async def test_an_input_that_does_not_fit_fails_the_run_at_once_and_names_the_parameter(
    runs: Runs, inputs: list[Any], complaint: str
) -> None:
    message = await message_of(await runs.start(describe, *inputs))
    assert message.startswith("describe: ")
    assert complaint in message


async def test_a_wrong_input_is_answered_with_what_the_choreography_takes(runs: Runs) -> None:
    message = await message_of(await runs.start(describe))
    assert "describe takes (title: str, order: Order, count: int = 1, day: datetime.date | None = None, " in message


@choreography
async def without_inputs(worker: Worker) -> None:
    """Take nothing."""


@choreography
async def with_an_odd_name(payloads: int, worker: Worker) -> None:
    """Take an input that is called like one of the harness's own variables."""


@pytest.mark.parametrize("program", [without_inputs, with_an_odd_name], ids=lambda program: program.name)
async def test_what_can_not_be_read_fails_the_run_whatever_the_parameters(runs: Runs, program: Any) -> None:
    assert "can't be read" in await message_of(await runs.start(program, raw(b"{not JSON")))


# Results


@choreography
async def echo(value: Any, worker: Worker) -> Any:
    """Return the input."""
    return value


@choreography
async def make_receipts(names: list[str], worker: Worker) -> list[Receipt]:
    """Return models."""
    return [Receipt(customer=name, total=0) for name in names]


@choreography
async def return_too_much(worker: Worker) -> str:
    """Return more than the server takes."""
    return "x" * 3_000_000


@pytest.mark.parametrize("value", [None, False, 0, "", [], {"a": [1, None]}], ids=repr)
async def test_a_result_comes_back_as_it_is(runs: Runs, value: Any) -> None:
    assert await runs.execute(echo, value) == value


async def test_models_come_back_as_objects(runs: Runs) -> None:
    assert await runs.execute(make_receipts, ["Ada"]) == [{"customer": "Ada", "total": 0}]


async def test_a_result_that_is_too_large_fails_the_run_and_says_what_to_do(runs: Runs) -> None:
    message = await message_of(await runs.start(return_too_much))
    assert "return_too_much: the result is 3,000,002 bytes; 2,031,616 is the most" in message
    assert "Write it into the workspace" in message


# Bugs


def descend(depth: int) -> int:
    return descend(depth + 1)


async def misbehave(kind: str, worker: Worker) -> None:
    if kind == "lookup":
        dict[str, int]()["nothing"]
    elif kind == "recursion":
        descend(0)
    elif kind == "long":
        raise ValueError("x" * 10_000_000)
    elif kind == "long cause":
        raise KeyError("y" * 10_000_000) from ValueError("x" * 10_000_000)
    elif kind == "exit":
        sys.exit("that's it")
    elif kind == "group":
        async with asyncio.TaskGroup() as group:
            group.create_task(misbehave("lookup", worker))
    elif kind == "no call":
        await worker.whoami  # type: ignore[misc]


@choreography
async def buggy(kind: str, worker: Worker) -> None:
    """Contain a bug."""
    await misbehave(kind, worker)


@choreography
async def buggy_in_a_body(kind: str, worker: Worker) -> None:
    """Contain a bug in the body of a scatter."""
    await scatter([kind], worker, lambda w, kind: misbehave(kind, w))


@pytest.mark.parametrize("program", [buggy, buggy_in_a_body], ids=lambda program: program.name)
@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("lookup", "'nothing'"),
        ("recursion", "maximum recursion depth exceeded"),
        ("long", "characters cut"),
        ("long cause", "characters cut"),
        ("exit", "SystemExit: that's it"),
        ("group", "KeyError: 'nothing'"),
        ("no call", "can't be used in 'await' expression"),
    ],
)
async def test_a_bug_fails_the_run_with_a_message_that_says_where(
    runs: Runs, program: Any, kind: str, complaint: str
) -> None:
    message = await message_of(await runs.start(program, kind))
    assert complaint in message
    assert "test_choreography.py:" in message
    assert len(message) <= MESSAGE_LIMIT + 100


@choreography
async def cancel_itself(worker: Worker) -> None:
    """Wait for a task that is cancelled."""
    task = asyncio.ensure_future(worker.double(1))
    task.cancel()
    await task


async def test_waiting_for_a_cancelled_task_fails_the_run_and_says_where(runs: Runs) -> None:
    assert "CancelledError:  (at test_choreography.py:" in await message_of(await runs.start(cancel_itself))


# What a program that is replayed must not do


@choreography
async def cheat(kind: str, worker: Worker) -> None:
    """Use something that differs from replay to replay."""
    if kind == "time":
        time.time()
    elif kind == "now":
        datetime.datetime.now(tz=datetime.UTC)
    elif kind == "random":
        random.random()
    elif kind == "open":
        builtins.open("/dev/null")  # noqa: PTH123, SIM115
    elif kind == "sleep":
        time.sleep(0.001)
    elif kind == "read":
        Path("/dev/null").read_text()


@pytest.mark.parametrize("kind", ["time", "now", "random", "open", "sleep", "read"])
async def test_clocks_chances_and_files_in_a_choreography_fail_the_run_with_advice(runs: Runs, kind: str) -> None:
    message = await message_of(await runs.start(cheat, kind))
    assert "put that into a @task of an agent" in message
    assert "test_choreography.py:" in message


async def test_the_failure_has_the_errors_class_as_its_type(runs: Runs) -> None:
    failure = await failure_of(await runs.start(buggy, "lookup"))
    assert failure.type == "KeyError"


# What is not to be had in a choreography


@choreography
async def misplaced(what: str, worker: Worker) -> Any:
    """Do in a choreography what belongs into a task."""
    match what:
        case "to_thread":
            return await asyncio.to_thread(len, "abc")
        case "run_in_executor":
            return await asyncio.get_running_loop().run_in_executor(None, len, "abc")
        case "subprocess":
            return await asyncio.create_subprocess_exec("true")
        case "connection":
            return await asyncio.open_connection("localhost", 1)
        case "agent":
            return await Worker().double(1)
        case "synchronous":
            return Worker().whoami()
        case "scatter":
            return await scatter([1], Worker(), lambda w, n: w.double(n))
        case "unwritten":
            raise NotImplementedError
    return None


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("to_thread", "asyncio's run_in_executor (at test_choreography.py:"),
        ("run_in_executor", "asyncio's run_in_executor (at test_choreography.py:"),
        ("subprocess", "asyncio's subprocess_exec (at test_choreography.py:"),
        ("connection", "(at test_choreography.py:"),
    ],
)
async def test_what_the_engines_loop_has_not_is_told_with_the_authors_line_and_the_mend(
    runs: Runs, what: str, said: str
) -> None:
    message = await message_of(await runs.start(misplaced, what))
    assert said in message
    assert "in misplaced)" in message
    assert "put that into a @task of an agent" in message


@pytest.mark.parametrize("what", ["agent", "synchronous", "scatter"])
async def test_an_agent_that_is_no_role_is_told_with_the_authors_line_and_the_mend(runs: Runs, what: str) -> None:
    message = await message_of(await runs.start(misplaced, what))
    assert re.search(r"test_choreography.py:\d+ (in misplaced )?calls Worker\.\w+ on an agent that is no role", message)
    assert "worker: Worker" in message


async def test_what_a_program_has_not_written_yet_is_told_as_it_is(runs: Runs) -> None:
    message = await message_of(await runs.start(misplaced, "unwritten"))
    assert "NotImplementedError" in message
    assert "asyncio's" not in message
