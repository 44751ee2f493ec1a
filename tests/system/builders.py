"""Kill workers at random while coders build a package in one repository; show that every commit is there once.

    python -m tests.system.builders --modules 10 --coders 4 --kills 20

It ends with a line, `kills=… commits=… merges=… conflicts=… wrong=…`, and with exit code 1 if anything is wrong: a
commit that is there twice or not at all, a file that should not be there, tests that fail, something that was set
aside, or a fork from before the inspection that finds other files.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.values.converter import data_converter
from activities.workspace.site import Site
from console.dev_server import DevServer
from console.fork import Wish, fork
from tests.system.builders_team import INDEX
from tests.system.processes import ROOT, Workers

AT_ONCE = 2
"""Workers at a time: while one is started, the other goes on."""


@dataclass
class Report:
    """What a run under fire showed."""

    kills: int = 0
    commits: int = 0
    merges: int = 0
    conflicts: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"kills={self.kills} commits={self.commits} merges={self.merges} conflicts={self.conflicts} "
            f"wrong={self.wrong or 0}"
        )


async def build_under_fire(
    address: str, folder: Path, modules: int, coders: int, kills: int, pace: float, seed: int
) -> Report:
    """Have modules built while workers are killed, then fork from the inspection; return what is found.

    Args:
        address: The server's.
        folder: For files and logs; its `workspaces` must be the environment's WORKSPACES.
        modules: How many.
        coders: How many build at a time.
        kills: How many workers are killed at most.
        pace: The most seconds between two things that a coder does.
        seed: Of the moments.
    """
    client = await Client.connect(address, data_converter=data_converter)
    workers = Workers(address, folder / "workers")
    names = [f"module_{number}" for number in range(modules)]
    report = Report()
    try:
        run = await client.start_workflow(
            "build_together",
            args=[names, 1, {"instances": {"builder": coders}}],
            id=f"builders-{seed}",
            task_queue=CHOREOGRAPHY_QUEUE,
        )
        report.kills = await _kill_meanwhile(run, workers, folder, kills, pace, random.Random(seed))
        inspected = await run.result()
        site = Site.of_run(folder / "workspaces", run.id, run.first_execution_run_id or "")
        _check(site, names, inspected, report)
        await _check_fork(client, run, folder, names, inspected, report)
    finally:
        workers.end()
    return report


async def _kill_meanwhile(
    run: WorkflowHandle[Any, Any], workers: Workers, folder: Path, kills: int, pace: float, moments: random.Random
) -> int:
    def started() -> Any:
        team = str(ROOT / "tests/system/builders_team.py")
        options = ("--bare", "--module", team, "--module", "activities.merger")
        return workers.start(*options, WORKSPACES=str(folder / "workspaces"), PACE=str(pace))

    at_work = [started() for _ in range(AT_ONCE)]
    done = asyncio.create_task(run.result())
    for number in range(kills):
        await at_work[0].serves()
        await asyncio.wait([done], timeout=moments.uniform(0.2, 2.5))
        if done.done():
            return number
        at_work.pop(0).kill()
        at_work.append(started())
    await done
    return kills


def _check(site: Site, names: Sequence[str], inspected: dict[str, Any], report: Report) -> None:
    form = "%(trailers:key=Step,valueonly,separator=)|%(trailers:key=Item,valueonly,separator=)|%an|%s"
    commits = [line.split("|") for line in site.git.text("log", f"--format={form}", "main").splitlines()]
    twice = [told for told, times in Counter(map(tuple, commits)).items() if times > 1]
    built = [item for _, item, who, subject in commits if who.startswith("builder-") and subject.startswith("build:")]
    report.commits = len(commits)
    report.merges = sum(subject.startswith("Merge ") for *_, subject in commits)
    report.conflicts = len(built) - len(set(built))
    if twice:
        report.wrong.append(f"commits that are there twice: {twice}")
    if set(built) != set(names):
        report.wrong.append(f"built were {sorted(set(built))}")
    if left := site.git.references("refs/left/"):
        report.wrong.append(f"set aside: {sorted(left)}")
    expected = sorted([INDEX, *(f"kit/{name}.py" for name in names), *(f"tests/test_{name}.py" for name in names)])
    if inspected != {"files": expected, "passed": True}:
        report.wrong.append(f"inspected: {inspected}")
    if sorted((site.tree("main") / INDEX).read_text().splitlines()) != sorted(
        f"from kit.{n} import {n}" for n in names
    ):
        report.wrong.append((site.tree("main") / INDEX).read_text())


async def _check_fork(
    client: Client,
    run: WorkflowHandle[Any, Any],
    folder: Path,
    names: Sequence[str],
    inspected: dict[str, Any],
    report: Report,
) -> None:
    if await asyncio.to_thread(fork, Wish(run.id, "2")) != 0:
        report.wrong.append("it can't be forked")
        return
    forked = client.get_workflow_handle(f"{run.id}-fork-1")
    found = await forked.result()
    if found != inspected:
        report.wrong.append(f"the fork found {found}")


async def main(options: argparse.Namespace) -> int:
    """Run it, and say what was found."""
    with tempfile.TemporaryDirectory() as name, DevServer.start(ui=False) as server:
        folder = Path(name)
        os.environ |= {"WORKSPACES": str(folder / "workspaces"), "TEMPORAL_ADDRESS": server.address}
        report = await build_under_fire(
            server.address, folder, options.modules, options.coders, options.kills, options.pace, options.seed
        )
    print(report, flush=True)
    return 1 if report.wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for word, default in (("modules", 10), ("coders", 4), ("kills", 20), ("seed", 1)):
        parser.add_argument(f"--{word}", type=int, default=default)
    parser.add_argument("--pace", type=float, default=4.0)
    code = asyncio.run(main(parser.parse_args()))
    sys.stdout.flush()
    os._exit(code)
