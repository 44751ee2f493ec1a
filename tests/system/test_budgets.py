"""Budgets that runs share, while processes are killed, and from the command line."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowHandle

from activities.contract.budgets import keeper_id
from activities.contract.names import CHOREOGRAPHY_QUEUE, SEARCH_ATTRIBUTES
from activities.values.converter import data_converter
from console.dev_server import DevServer
from tests.system.processes import ROOT, Process, Workers, temporal, through_outages
from tests.system.test_steering import a_cent_a_call  # noqa: F401

STEERED = ("--bare", "--module", "tests.system.steered")


class Place:
    """A server with a file, its workers and its command lines."""

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._model = model
        self._server = DevServer.start(db_file=folder / "runs.db", ui=False, search_attributes=SEARCH_ATTRIBUTES)
        self.address = self._server.address
        self.workers = Workers(self.address, folder)
        self._commands = 0

    async def worker(self) -> Process:
        started = self.workers.start(*STEERED, MODEL=self._model)
        await started.serves()
        return started

    def kill_server(self) -> None:
        os.kill(self._server.pid, signal.SIGKILL)
        self._server.stop()
        port = int(self.address.rpartition(":")[2])
        self._server = DevServer.start(
            db_file=self._folder / "runs.db", port=port, ui=False, search_attributes=SEARCH_ATTRIBUTES
        )

    async def console(self, *arguments: str) -> tuple[int, str]:
        self._commands += 1
        process = Process(
            *(sys.executable, "-m", "console", "budget", *arguments),
            folder=self._folder / f"console-{self._commands}",
            cwd=ROOT,
            environment={"TEMPORAL_ADDRESS": self.address},
        )
        code = await process.exit_code()
        return code, process.output + process.errors

    def end(self) -> None:
        self.workers.end()
        self._server.stop()


@pytest.fixture
async def place(tmp_path: Path, a_cent_a_call: str) -> AsyncIterator[Place]:  # noqa: F811
    """A server of its own, which knows the search attributes."""
    made = Place(tmp_path / "place", a_cent_a_call)
    yield made
    made.end()


async def test_a_budget_holds_though_worker_and_server_are_killed_and_is_set_from_the_command_line(
    place: Place,
) -> None:
    worker = await place.worker()
    client = await Client.connect(place.address, data_converter=data_converter)
    early = await started(client, "early", 2_00, {"tags": ["nightly"], "budget": {"calls": 10}})
    await says(early, "budget: 10 of 10 calls spent")
    code, said = await place.console("set", "tenant=acme", "usd=0.6", "per=day")
    assert (code, said) == (0, "tenant=acme: budget: 0.60 USD per day\n")
    code, said = await place.console("set", "tag=nightly", "calls=5")
    assert (code, said) == (0, "tag=nightly: budget: 5 calls\n")

    both = [await started(client, name, 60, {"tenant": "acme"}) for name in ("one", "two")]
    await asyncio.sleep(0.5)
    worker.kill()
    await place.worker()
    place.kill_server()

    for run in both:
        await says(run, "budget tenant=acme: 0.60 of 0.60 USD spent, renews at ")
    async with asyncio.timeout(60):  # child workflows tell only now and then what they have used
        while (used := sum([(await run.query("progress"))["usage"]["cost_usd"] for run in both])) < 0.595:
            await asyncio.sleep(0.2)
    assert used == pytest.approx(0.6, abs=0.011)
    code, said = await place.console("show")
    assert code == 0
    assert "tenant=acme: 0.60 of 0.60 USD spent" in said
    assert "  one/1." in said

    # What went on when its budget was set stands under it too.
    await early.execute_update("set_budget", {"calls": None})
    await says(early, "budget tag=nightly: 5 of 5 calls spent; raise it: python -m console budget set tag=nightly ")
    async with asyncio.timeout(60):  # child workflows tell only now and then what they have done
        while (done := (await early.query("progress"))["calls_done"]) < 15:
            await asyncio.sleep(0.2)
    assert done == 15

    update = ("workflow", "update", "execute", "--workflow-id", keeper_id("tag=nightly"), "--name", "set_budget")
    code, said = await temporal(place.address, *update, "--input", '{"calls": 500}')
    assert code == 0, said
    code, said = await place.console("clear", "tenant=acme")
    assert (code, said) == (0, "tenant=acme: no budget any more\n")
    assert [await run.result() for run in (*both, early)] == [60, 60, 200]
    code, said = await place.console("show", "tenant=acme")
    assert code == 2
    assert "there is no budget tenant=acme any more" in said


async def started(client: Client, id: str, count: int, options: dict[str, Any]) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow("write_all", args=[count, options], id=id, task_queue=CHOREOGRAPHY_QUEUE)


async def says(run: WorkflowHandle[Any, Any], what: str) -> None:
    async with asyncio.timeout(90):
        while what not in str((await through_outages(lambda: run.query("progress")))["waits_for"]):
            await asyncio.sleep(0.1)
