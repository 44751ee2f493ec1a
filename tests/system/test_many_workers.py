"""Work shared by several worker processes."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import pytest

from tests.conftest import Ledger, Runs
from tests.system.crowd import meet, squares
from tests.system.processes import Workers

# No prompts: nothing waits for litellm.
HANDS = ("--bare", "--module", "tests.system.crowd", "--serve", "choreography", "--serve", "Hand")


async def test_every_item_is_done_once_and_in_order_by_one_two_and_three_workers(
    workers: Workers, runs: Runs, ledger: Ledger
) -> None:
    sizes = (1, 2, 16)
    everything: list[int] = []
    for round_of in range(3):
        worker = workers.start(*HANDS, "--concurrency", "8", PACE="0.01")
        await worker.serves()
        numbers = [list(range(30 * n, 30 * n + 30)) for n in range(3 * round_of, 3 * round_of + 3)]
        results = await asyncio.gather(
            *(
                runs.execute(squares, of_size, str(ledger.path), {"instances": {"hand": size}})
                for size, of_size in zip(sizes, numbers, strict=True)
            )
        )
        assert results == [[n * n for n in of_size] for of_size in numbers]
        everything += itertools.chain(*numbers)
    assert Counter(int(line.split()[0]) for line in ledger.lines("did ")) == Counter(everything)


async def test_work_goes_to_the_faster_of_two_workers(workers: Workers, runs: Runs, ledger: Ledger) -> None:
    for name, pace in (("fast", "0.02"), ("slow", "1")):
        worker = workers.start(*HANDS, "--concurrency", "1", WORKER=name, PACE=pace)
        await worker.serves()
    await runs.execute(squares, list(range(30)), str(ledger.path))
    done = Counter(line.split()[1] for line in ledger.lines("did "))
    assert done["fast"] > 2 * done["slow"] > 0


async def test_synchronous_calls_of_one_worker_are_made_at_the_same_time(
    workers: Workers, runs: Runs, ledger: Ledger
) -> None:
    worker = workers.start(*HANDS)
    await worker.serves()
    assert await runs.execute(meet, str(ledger.path)) == list(range(12))


async def test_ten_repeated_runs_give_equal_results(
    runs: Runs, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACE", "random")
    async with runs.serving("tests.system.crowd"), runs.serving("tests.system.crowd"):
        results = [await runs.execute(squares, list(range(12)), str(ledger.path)) for _ in range(10)]
    assert results == [[n * n for n in range(12)]] * 10
