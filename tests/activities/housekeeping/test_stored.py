from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client, WorkflowHandle

from activities.housekeeping.stored import StoreCleanup
from console.dev_server import DevServer
from tests.system.processes import eventually

DAY_S = 86_400.0


@pytest.fixture
async def quiet() -> AsyncIterator[Client]:
    """A client of a server on which nobody else has runs."""
    with DevServer.start(ui=False) as server:
        yield await Client.connect(server.address)


class Looks:
    """What was asked to be removed."""

    def __init__(self, client: Client, days: float | None) -> None:
        self.before = 0.0
        self.cleanup = StoreCleanup(client, self._remove, days)

    def _remove(self, before: float) -> int:
        self.before = before
        return 0

    async def ago(self) -> float:
        """Look; return the days since when what was used is kept."""
        await self.cleanup.look()
        return (time.time() - self.before) / DAY_S


async def begin(client: Client, id: str) -> WorkflowHandle[object, object]:
    return await client.start_workflow("nobody_serves_it", id=id, task_queue="nobody")


async def test_what_is_not_used_is_kept_for_a_week_more_than_histories(quiet: Client) -> None:
    assert await Looks(quiet, None).ago() == pytest.approx(1 + 7, abs=0.1)  # the dev server keeps histories for a day


async def test_what_a_run_may_need_that_goes_on_is_kept_however_old(quiet: Client) -> None:
    run = await begin(quiet, "old")  # as good as one that began before the days that are set
    looks = Looks(quiet, 0)
    seen: list[float] = []

    async def is_held() -> bool:
        seen.append(await looks.ago())
        return seen[-1] > 0.9

    while not await is_held():
        pass
    assert seen[-1] == pytest.approx(1, abs=0.01)

    await run.terminate()
    while await is_held():
        pass
    assert seen[-1] == pytest.approx(0, abs=0.01)


async def test_fewer_days_than_the_server_keeps_histories_are_warned_of(
    quiet: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with StoreCleanup(quiet, lambda before: 0, 0.5).running():
            await eventually(lambda: caplog.text)
    assert "PAYLOAD_STORE_DAYS is 0.5, and the server keeps the histories of runs for 1 days" in caplog.text
