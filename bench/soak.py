"""Runs of every kind for as long as one likes, while workers and server are killed and the provider fails.

    python -m bench.soak --minutes 20

Ends with a table: runs and calls by kind, faults, what was lost, doubled, wrong or stuck (all 0), workflows that stayed
open (0), and the memory of the processes over time (flat). The exit code is 1 where one of these is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import CancelledError, WorkflowAlreadyStartedError
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig
from temporalio.service import RPCError

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.values.converter import data_converter
from bench.soak_site import SoakSite, said
from console.history import read_run
from tests.system.processes import ROOT, result_of, through_outages
from tests.system.resets import chain, reset, tasks_of

AT_ONCE = 6
"""Runs that are under way at a time."""

STUCK_S = 300.0
"""Seconds after which a run that has not ended is stuck; each takes a few, and a kill costs one up to twenty."""

GROWTH_MB = 25.0
"""MiB by which a process that does not grow may vary."""

GOES_BACK = ("reset", "forked")
KINDS = ("wide", "deep", "people", "budget", "long", "cancelled", "reset", "forked")


@dataclass
class Tally:
    """What became of the runs of a kind."""

    begun: int = 0
    well: int = 0
    calls: int = 0
    lost: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """A run of the soak: what is started, and what it must come to."""

    choreography: str
    inputs: Sequence[Any]
    expected: Any


def plan_of(kind: str, name: str, chance: random.Random) -> Plan:
    """Choose what a run of a kind does."""
    base = kind
    if kind in ("cancelled", "reset", "forked"):
        base = chance.choice(("wide", "deep", "long")) if kind != "forked" else chance.choice(("wide", "deep"))
    if base in ("wide", "budget"):
        count = chance.randint(8, 40) if base == "wide" else 8
        options = [{"budget": {"usd": 0.003}}] if base == "budget" else []
        return Plan("soak_wide", [name, count, *options], [said("Write", f"{name}-{n}") for n in range(count)])
    if base == "deep":
        count = chance.randint(2, 8)
        inside = " / ".join(said("Think", f"{name}-{count} {when}") for when in ("once", "again"))
        return Plan("soak_deep", [name, count], [*(said("Think", f"{name}-{n}") for n in range(count)), inside])
    if base == "people":
        return Plan("soak_people", [name], f"go: {said('Print', name)}")
    return Plan("soak_long", [name, chance.randint(2, 5)], said("Think", f"{name}-1"))


class Soak:
    """The runs of a soak, and what becomes of them."""

    def __init__(self, site: SoakSite, client: Client, seed: int) -> None:
        self.tallies = {kind: Tally() for kind in KINDS}
        self.doubts: list[str] = []
        self._site = site
        self._client = client
        self._chance = random.Random(seed + 2)
        self._ends = 0.0

    async def go_on(self, seconds: float) -> None:
        """Start runs and kill for some seconds; then let the runs end."""
        self._ends = time.monotonic() + seconds
        disturbing = [asyncio.create_task(one()) for one in (self._kill_workers, self._kill_servers, self._measure)]
        await asyncio.gather(*(self._keep_running(number) for number in range(AT_ONCE)))
        for task in disturbing:
            task.cancel()
        await asyncio.gather(*disturbing, return_exceptions=True)
        self.doubts += [str(task.exception()) for task in disturbing if not task.cancelled() and task.exception()]

    async def still_open(self, seconds: float = 240.0) -> list[str]:
        """Return the workflows that are open when the runs have ended, and stay so for some time."""
        deadline = time.monotonic() + seconds
        while True:
            found = [
                workflow.id
                async for workflow in self._client.list_workflows("ExecutionStatus = 'Running'")
                if not any(workflow.id.startswith(stuck) for tally in self.tallies.values() for stuck in tally.stuck)
            ]
            if not found or time.monotonic() > deadline:
                return found
            await asyncio.sleep(1)

    async def _keep_running(self, place: int) -> None:
        number = 0
        while time.monotonic() < self._ends:
            number += 1
            kind = self._chance.choice(KINDS)
            await self._run(kind, f"{kind}-{place}-{number}")

    async def _run(self, kind: str, name: str) -> None:
        plan, tally = plan_of(kind, name, self._chance), self.tallies[kind]
        with suppress(WorkflowAlreadyStartedError):  # before the connection was lost
            await through_outages(
                lambda: self._client.start_workflow(
                    plan.choreography, args=list(plan.inputs), id=name, task_queue=CHOREOGRAPHY_QUEUE
                )
            )
        handle = self._client.get_workflow_handle(name)
        tally.begun += 1
        beside = asyncio.create_task(self._beside(kind, handle))
        try:
            await self._check(kind, handle, plan, tally)
            await beside
            if kind in ("reset", "forked"):
                await self._again(kind, handle, plan, tally)
            tally.calls += len((await through_outages(lambda: read_run(self._client, name))).calls)
        except Exception as error:
            tally.lost.append(f"{name}: {type(error).__name__}: {error}")
        finally:
            beside.cancel()

    async def _check(self, kind: str, handle: WorkflowHandle[Any, Any], plan: Plan, tally: Tally) -> None:
        try:
            result = await result_of(handle, seconds=STUCK_S)
        except TimeoutError:
            tally.stuck.append(handle.id)
        except WorkflowFailureError as error:
            if kind == "cancelled" and isinstance(error.cause, CancelledError):
                tally.well += 1
            else:
                tally.lost.append(f"{handle.id}: {error.cause}")
        else:
            if result == plan.expected:
                tally.well += 1
            else:
                tally.wrong.append(f"{handle.id}: {result} instead of {plan.expected}")

    async def _beside(self, kind: str, handle: WorkflowHandle[Any, Any]) -> None:
        """Do what somebody does with such a run while it goes on."""
        if kind == "people":
            await self._answer(handle)
        elif kind == "budget":
            await asyncio.sleep(self._chance.uniform(2, 10))
            with suppress(RPCError):  # it has ended
                await through_outages(lambda: handle.execute_update("set_budget", {"usd": 1.0}))
        elif kind == "cancelled":
            await asyncio.sleep(self._chance.uniform(0.5, 8))
            with suppress(RPCError):
                await through_outages(handle.cancel)

    async def _answer(self, handle: WorkflowHandle[Any, Any]) -> None:
        """Answer what a run asks, until it has ended."""
        left = {"Owner.decide": "go", "Press.put_out": True}
        while left:
            await asyncio.sleep(0.5)
            with suppress(RPCError, Exception):  # it has ended, or nobody answers for it now
                for question in await handle.query("questions"):
                    given = {"question": question["id"], "answer": left[question["method"]]}
                    await handle.execute_update("answer", given)
                    del left[question["method"]]
            described = await through_outages(handle.describe)
            if described.close_time is not None:
                return

    async def _again(self, kind: str, handle: WorkflowHandle[Any, Any], plan: Plan, tally: Tally) -> None:
        """Go back in a run that has ended, in the same or in a new one; it must come to the same."""
        if kind == "reset":
            histories = await through_outages(lambda: chain(self._client, handle.id))
            run_id, event = self._chance.choice(tasks_of(histories))
            await through_outages(lambda: reset(self._client, handle.id, run_id, event))
            await self._check(kind, self._client.get_workflow_handle(handle.id), plan, tally)
        else:
            seen = await through_outages(lambda: read_run(self._client, handle.id))
            step = self._chance.choice([call.step for call in seen.calls])
            await self._fork(handle.id, step)
            await self._check(kind, self._client.get_workflow_handle(f"{handle.id}-fork"), plan, tally)
        tally.begun += 1

    async def _fork(self, name: str, step: str) -> None:
        """Fork a run with the command; what came too early after an outage is done again."""
        new = self._client.get_workflow_handle(f"{name}-fork")
        for _ in range(10):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "console", "fork", name, "--at", step, "--id", f"{name}-fork"),
                cwd=ROOT,
                env={**os.environ, **self._site.environment},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            told, _ = await process.communicate()
            if process.returncode == 0:
                return
            if b"There is a run" in told:  # it was begun, and nobody let it go
                await through_outages(lambda: new.execute_update("resume"))
                return
            await asyncio.sleep(3)
        raise RuntimeError(f"it can't be forked at {step}: {told.decode()[-500:]}")

    async def _kill_workers(self) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(8, 20))
            self.doubts += [
                told for told in self._site.look_after_workers() if "No Temporal server answers" not in told
            ]
            if time.monotonic() < self._ends:
                await self._site.kill_a_worker()

    async def _kill_servers(self) -> None:
        while True:
            await asyncio.sleep(self._chance.uniform(50, 90))
            if time.monotonic() < self._ends:
                await self._site.kill_the_server()

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(5)
            self._site.measure()


def table(soak: Soak, site: SoakSite, still_open: Sequence[str], minutes: float) -> tuple[str, bool]:
    """Return the soak's table, in Markdown, and whether all is as it should be."""
    # What comes after the point to which a run goes back is asked again, and is meant to be.
    paid, done = (
        [told for told in found if not told.startswith(GOES_BACK)] for found in (site.paid_twice(), site.done_twice())
    )
    tallies = soak.tallies
    head = "| kind | runs | calls | as expected | lost | wrong | stuck |\n|---|---|---|---|---|---|---|\n"
    rows = [
        f"| {kind} | {t.begun} | {t.calls} | {t.well} | {len(t.lost)} | {len(t.wrong)} | {len(t.stuck)} |\n"
        for kind, t in tallies.items()
    ]
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(site.faulty.faults.items()))
    kept = {name: memory for name, memory in site.memory.items() if name in ("worker 1", "server")}
    grown = {name: memory.growth for name, memory in kept.items()}
    totals = {
        "minutes": f"{minutes:.0f}",
        "kills": f"{site.kills['worker']} of workers, {site.kills['server']} of the server",
        "requests to the provider": f"{len(site.provider.requests):,}",
        "of these failed": f"{sum(site.faulty.faults.values()):,} ({faults})",
        "answers asked for again, in flight at a kill": str(site.asked_again(GOES_BACK) - len(paid)),
        "answers asked for again that were on record": str(len(paid)),
        "tools run again whose results were on record": str(len(done)),
        "workflows left open": str(len(still_open)),
        **{f"growth of {name}, MiB (may vary by {GROWTH_MB:.0f})": f"{size:+.1f}" for name, size in grown.items()},
    }
    lines = "".join(f"| {name} | {value} |\n" for name, value in totals.items())
    curves = "".join(f"| {name} | {_curve(memory.seen)} |\n" for name, memory in kept.items())
    text = f"{head}{''.join(rows)}\n| in all | |\n|---|---|\n{lines}\n| MiB over time | |\n|---|---|\n{curves}"
    faults_found = [
        *(told for t in tallies.values() for told in (*t.lost, *t.wrong, *(f"stuck: {name}" for name in t.stuck))),
        *(f"paid twice: {told}" for told in paid),
        *(f"done twice: {told}" for told in done),
        *(f"open: {name}" for name in still_open),
        *soak.doubts,
        *(f"{name} grew by {size:.1f} MiB" for name, size in grown.items() if name != "server" and size > GROWTH_MB),
    ]
    return text + "".join(f"\n- {told[:1000]}" for told in faults_found), not faults_found


def _curve(seen: Sequence[tuple[float, float]]) -> str:
    steps = max(len(seen) // 10, 1)
    return ", ".join(f"{minutes:.0f} min {size:.0f}" for minutes, size in seen[::steps])


async def soak(minutes: float, seed: int) -> bool:
    """Soak, print the table, and return whether all was well."""
    with tempfile.TemporaryDirectory() as folder, SoakSite(Path(folder), seed) as site:
        client = await Client.connect(site.server.address, data_converter=data_converter)
        soaking = Soak(site, client, seed)
        await soaking.go_on(60 * minutes)
        text, is_good = table(soaking, site, await soaking.still_open(), minutes)
        print(text, flush=True)
        return is_good


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20.0, help="how long runs are started (default 20)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="repeats the choices of an earlier soak")
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}", flush=True)
    # Lost connections are what this is about.
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="ERROR"))))
    return 0 if asyncio.run(soak(options.minutes, options.seed)) else 1


if __name__ == "__main__":
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    code = main()
    sys.stdout.flush()
    os._exit(code)
