"""Workers that are told to stop: they drain."""

from __future__ import annotations

import time
from pathlib import Path

from tests.conftest import Ledger, Runs
from tests.system.crowd import block_once, hold_once, squares
from tests.system.processes import Workers, eventually, free_port, is_listening

CROWD = ("--bare", "--module", "tests.system.crowd")
HANDS = (*CROWD, "--serve", "choreography", "--serve", "Hand")  # no prompts: nothing waits for litellm
FOR_EVER = "3600"


async def test_an_idle_worker_stops_at_once(workers: Workers) -> None:
    worker = workers.start(*HANDS)
    await worker.serves()
    before = time.monotonic()
    worker.interrupt()
    assert await worker.exit_code() == 0
    assert time.monotonic() - before < 5  # seconds, of the 30 that calls would have


async def test_calls_in_flight_end_and_no_new_ones_begin(workers: Workers, runs: Runs, ledger: Ledger) -> None:
    leaving = workers.start(*HANDS, WORKER="leaving", PACE="0.5")
    await leaving.serves()
    run = await runs.start(squares, [1, 2, 3], str(ledger.path), {"instances": {"hand": 1}})
    await eventually(lambda: ledger.lines("began "))

    leaving.terminate()

    assert await leaving.exit_code() == 0
    assert ledger.lines() == ["began 1 leaving", "did 1 leaving"]
    workers.start(*HANDS, WORKER="coming")
    assert await run.result() == [1, 4, 9]
    assert ledger.lines("did ") == ["1 leaving", "2 coming", "3 coming"]


async def test_a_call_that_outlasts_the_grace_is_given_to_another_worker(
    workers: Workers, runs: Runs, ledger: Ledger
) -> None:
    leaving = workers.start(*CROWD, "--serve", "Hand", "--grace", "0.2", WORKER="leaving", PACE=FOR_EVER)
    staying = workers.start(*CROWD, "--serve", "choreography")
    await leaving.serves()
    await staying.serves()
    run = await runs.start(block_once, 5, str(ledger.path))
    await eventually(lambda: ledger.lines("began "))

    leaving.terminate()
    assert await leaving.exit_code() == 0
    workers.start(*CROWD, "--serve", "Hand", WORKER="other")

    assert await run.result() == 25
    assert ledger.lines() == ["began 5 leaving", "began 5 other"]


async def test_a_worker_ends_although_a_call_goes_on_that_was_cancelled(
    workers: Workers, runs: Runs, ledger: Ledger
) -> None:
    worker = workers.start(*HANDS, "--grace", "0.2")
    await worker.serves()
    await runs.start(hold_once, str(ledger.path))
    await eventually(lambda: ledger.lines("holds on"))
    worker.terminate()
    assert await worker.exit_code() == 0
    assert "the worker of Hand.hold_on has not ended within 10.2 s, and is left" in worker.errors


async def test_a_second_ctrl_c_quits_at_once(workers: Workers, runs: Runs, ledger: Ledger) -> None:
    worker = workers.start(*HANDS, PACE=FOR_EVER)
    await worker.serves()
    await runs.start(squares, [1], str(ledger.path))
    await eventually(lambda: ledger.lines("began "))
    worker.interrupt()
    await worker.says("Again to quit at once")
    worker.interrupt()
    assert await worker.exit_code() == 130


async def test_the_dev_server_stops_with_its_worker(workers: Workers, tmp_path: Path) -> None:
    # Ports of its own: its usual ones are taken by another server as soon as they are free.
    port, ui_port, board_port = ports = [free_port() for _ in range(3)]
    options = ("--db", str(tmp_path / "dev.db"), "--port", port, "--ui-port", ui_port, "--board-port", board_port)
    worker = workers.start("dev", *HANDS, *options, TEMPORAL_PROFILE="somebody's own")
    await worker.serves()
    await eventually(lambda: all(map(is_listening, ports)))
    worker.interrupt()
    assert await worker.exit_code() == 0
    assert not [listening for listening in ports if is_listening(listening)]
