"""Work shared by several worker processes."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.conftest import Ledger, Runs
from tests.system.crowd import squares
from tests.system.processes import Workers

CROWD = ("--bare", "--module", "tests.system.crowd")


@pytest.mark.parametrize("how_many", [1, 2, 3])
async def test_every_item_is_done_exactly_once_and_results_are_in_order(
    how_many: int, workers: Workers, runs: Runs, ledger: Ledger
) -> None:
    started = [workers.start(*CROWD, "--concurrency", "8", PACE="0.01") for _ in range(how_many)]
    for worker in started:
        await worker.serves()
    sizes = (1, 2, 16)
    numbers = {size: list(range(size * 1000, size * 1000 + 40)) for size in sizes}
    results = await asyncio.gather(
        *(runs.execute(squares, numbers[size], str(ledger.path), {"instances": {"hand": size}}) for size in sizes)
    )
    assert results == [[n * n for n in numbers[size]] for size in sizes]
    done = Counter(int(line.split()[0]) for line in ledger.lines("did "))
    assert done == Counter(n for size in sizes for n in numbers[size])


async def test_work_goes_to_the_faster_of_two_workers(workers: Workers, runs: Runs, ledger: Ledger) -> None:
    for name, pace in (("fast", "0.02"), ("slow", "0.5")):
        worker = workers.start(*CROWD, "--concurrency", "1", WORKER=name, PACE=pace)
        await worker.serves()
    await runs.execute(squares, list(range(30)), str(ledger.path))
    done = Counter(line.split()[1] for line in ledger.lines("did "))
    assert done["fast"] > 3 * done["slow"] > 0


async def test_ten_repeated_runs_give_equal_results(workers: Workers, runs: Runs, ledger: Ledger) -> None:
    for pace in ("0.001", "0.02"):
        worker = workers.start(*CROWD, "--concurrency", "3", PACE=pace)
        await worker.serves()
    results = [await runs.execute(squares, list(range(15)), str(ledger.path)) for _ in range(10)]
    assert results == [[n * n for n in range(15)]] * 10
