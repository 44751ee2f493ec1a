"""The codec through which goes all that a process sends."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from activities.contract.pages import CARRIED, PagesKept
from activities.payloads.hiding import HidingCodec
from activities.values.converter import data_converter
from workflows.engine.continuation import CarryOver, inputs_to_resume
from workflows.serving.client import client_of_workers

VALUE = 'marked-"7f3c"'
hiding = dataclasses.replace(data_converter, payload_codec=HidingCodec())


@pytest.fixture(autouse=True)
def _a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", VALUE)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (f"a {VALUE}", "a [secret A_KEY]"),
        ({"k": [VALUE, 1.50, None]}, {"k": ["[secret A_KEY]", 1.5, None]}),
        ({VALUE: json.dumps({"in": VALUE})}, {"[secret A_KEY]": '{"in": "[secret A_KEY]"}'}),
        (VALUE.encode(), b"[secret A_KEY]"),
        ("x" * 300_000 + VALUE, "x" * 300_000 + "[secret A_KEY]"),
        (b"\x1f\x8b" + VALUE.encode(), b"\x1f\x8b" + VALUE.encode()),
        ("héllo \u2603", "héllo \u2603"),
    ],
    ids=["text", "tree", "JSON in JSON", "bytes", "large", "no text", "no secret"],
)
async def test_what_is_sent_arrives_without_secrets_and_is_otherwise_the_same(sent: Any, received: Any) -> None:
    assert await hiding.decode(await hiding.encode([sent])) == [received]


async def test_what_holds_no_secret_is_sent_as_the_very_bytes_that_it_was() -> None:
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b'{"a": 1.50, "b": "\\u00e9"}')

    assert (await HidingCodec().encode([payload]))[0] is payload


async def test_a_failure_says_no_secret_in_any_of_its_parts() -> None:
    failure = Failure()
    try:
        try:
            raise LookupError(VALUE)
        except LookupError as error:
            raise ApplicationError(f"no {VALUE}", {"detail": VALUE}, type="Refused") from error
    except ApplicationError as error:
        await hiding.encode_failure(error, failure)

    assert b"7f3c" not in failure.SerializeToString()
    assert failure.message == "no [secret A_KEY]"
    assert failure.cause.message == "[secret A_KEY]"


async def test_what_a_run_tells_itself_stays_as_it_was() -> None:
    carried = CarryOver(began=0, pages=PagesKept(workflow_id="w"))
    payloads = data_converter.payload_converter.to_payloads(inputs_to_resume(carried, b"", [VALUE]))

    assert payloads[0].data.startswith(CARRIED)
    assert await HidingCodec().encode(payloads) == payloads


async def test_a_client_of_workers_sends_no_secret(client: Client) -> None:
    made = client_of_workers(client)
    run = await made.start_workflow(
        "nobody_serves_this",
        f"input {VALUE}",
        id="hiding",
        task_queue="nobody",
        memo={"memo": VALUE},
        static_summary=VALUE,
        static_details=VALUE,
    )
    await run.signal("told", VALUE)
    await run.terminate("over", VALUE)
    with pytest.raises(WorkflowFailureError):
        await run.result()
    described = (await run.describe()).raw_description.SerializeToString()

    assert b"7f3c" not in described + (await run.fetch_history()).to_json().encode()


async def test_the_loop_goes_on_while_much_is_looked_through() -> None:
    longest, ended = 0.0, asyncio.Event()

    async def tick() -> None:
        nonlocal longest
        while not ended.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - began)

    ticking = asyncio.create_task(tick())
    payload = Payload(metadata={"encoding": b"json/plain"}, data=json.dumps(["text sk-"] * 200_000).encode())
    began = time.perf_counter()
    await HidingCodec().encode([payload])
    ended.set()
    await ticking

    assert longest < max((time.perf_counter() - began) / 2, 0.05)
