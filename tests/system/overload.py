"""Workers on a machine that has no time for them: none is broken by it, and no call is made twice.

python -m tests.system.overload                                     40 runs, six workers; 300 prompts at load 15
python -m tests.system.overload --runs 8 --workers 2 --prompts 20   the same, smaller
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import Client

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.values.converter import data_converter
from console.dev_server import DevServer
from tests.provider import Provider, Reply, Request, Slow, Text
from tests.system.processes import Process, Workers, eventually

TEAM = '''
from activities import Agent, prompt
from workflows import choreography, scatter


class Teller(Agent):
    """You tell what you know."""

    @prompt
    async def tell(self, topic: str) -> str:
        """Tell of {{topic}}."""


@choreography(teller=45)
async def tell_all(topics: int, teller: Teller) -> int:
    return len(await scatter(range(topics), teller, lambda t, number: t.tell(f"topic {{number}}")))

{choreographies}
'''

CHOREOGRAPHY = """
@choreography
async def tell_{number}(topic: str, teller: Teller) -> str:
    return await teller.tell(topic)
"""

ANSWER_S = 2.0


@dataclass(frozen=True)
class Result:
    """What came of it."""

    answered: int
    wanted: int
    asked: int
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether each prompt was answered, and asked once."""
        return self.answered == self.asked == self.wanted

    def __str__(self) -> str:
        return f"{self.answered} of {self.wanted} answered, {self.asked} asked, {self.seconds:.0f} s"


@contextmanager
def busy_loops(number: int, core: int | None = None) -> Iterator[None]:
    """Have processes that only use up time, on one core or on all."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    loops = [subprocess.Popen([*pinned, sys.executable, "-S", "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


class Site:
    """A server, a provider, and a team of as many choreographies as there are runs."""

    def __init__(self, server: DevServer, provider: Provider, folder: Path, choreographies: int) -> None:
        self.address = server.address
        self.provider = provider
        self.folder = folder
        many = "\n".join(CHOREOGRAPHY.format(number=number) for number in range(choreographies))
        (folder / "overloaded_team.py").write_text(TEAM.format(choreographies=many))
        self._workers = Workers(server.address, folder / "workers")

    def start_worker(self) -> Process:
        """Start a worker on the processors that this process has."""
        return self._workers.start(
            *("--bare", "--module", "overloaded_team"),
            cwd=self.folder,
            MODEL="openai/any",
            OPENAI_API_KEY="any",
            OPENAI_API_BASE=self.provider.url,
            OPENAI_BASE_URL=self.provider.url,
        )

    async def client(self) -> Client:
        return await Client.connect(self.address, data_converter=data_converter)


@contextmanager
def site(choreographies: int) -> Iterator[Site]:
    """Set up a site for as long as the context lasts."""

    def answer(request: Request) -> Reply:
        return Slow(ANSWER_S, Text("quack"))

    with (
        tempfile.TemporaryDirectory() as folder,
        DevServer.start(ui=False) as server,
        Provider(answer) as provider,
    ):
        made = Site(server, provider, Path(folder), choreographies)
        try:
            yield made
        finally:
            made._workers.end()


async def starts(runs: int, workers: int, loops: int = 3, core: int = 0) -> list[Result]:
    """Start workers one after the other on one core beside busy loops, while runs wait that each ask a prompt."""
    results = []
    with site(runs) as here, busy_loops(loops, core):
        client = await here.client()
        for number in range(workers):
            before, began = len(here.provider.requests), time.monotonic()
            waiting = [
                await client.start_workflow(
                    f"tell_{run}", "ducks", id=f"run-{number}-{run}", task_queue=CHOREOGRAPHY_QUEUE
                )
                for run in range(runs)
            ]
            everywhere = os.sched_getaffinity(0)
            os.sched_setaffinity(0, {core})
            worker = here.start_worker()
            os.sched_setaffinity(0, everywhere)
            answers = [asyncio.ensure_future(run.result()) for run in waiting]
            end = asyncio.ensure_future(_end_of(worker))
            all_answered = asyncio.gather(*answers, return_exceptions=True)
            await asyncio.wait({all_answered, end}, return_when=asyncio.FIRST_COMPLETED, timeout=600)
            told = [answer.result() for answer in answers if answer.done() and answer.exception() is None]
            asked, seconds = len(here.provider.requests) - before, time.monotonic() - began
            results.append(Result(told.count("quack"), runs, asked, seconds))
            _explain(results[-1], worker)
            end.cancel()
            worker.kill()
    return results


async def _end_of(worker: Process) -> list[object]:
    await eventually(lambda: not worker.is_running, seconds=3_600)
    return []


async def prompts(number: int, loops: int) -> Result:
    """Have one worker answer prompts beside busy loops on all cores."""
    with site(0) as here:
        client = await here.client()
        worker = here.start_worker()
        await worker.serves()
        with busy_loops(loops):
            began = time.monotonic()
            answered = await client.execute_workflow("tell_all", number, id="all", task_queue=CHOREOGRAPHY_QUEUE)
            result = Result(answered, number, len(here.provider.requests), time.monotonic() - began)
        _explain(result, worker)
    return result


def _explain(result: Result, worker: Process) -> None:
    """Print what the worker has to say of a result that is not good."""
    if not result.is_good:
        lines = [line for line in worker.errors.splitlines() if " INFO " not in line or "attempt 1" not in line]
        print("\n".join(line for line in lines if " done: " not in line)[-5_000:], file=sys.stderr)


async def overload(options: argparse.Namespace) -> bool:
    """Run both, and print what came of them."""
    good = True
    if options.workers:
        for number, result in enumerate(await starts(options.runs, options.workers), 1):
            print(f"worker {number}, {options.runs} runs waiting: {result}", flush=True)
            good = good and result.is_good
    if options.prompts:
        result = await prompts(options.prompts, options.load)
        print(f"{options.prompts} prompts beside {options.load} busy loops: {result}", flush=True)
        good = good and result.is_good
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Run this from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=40, help="runs that wait for each worker (default %(default)s)")
    parser.add_argument("--workers", type=int, default=6, help="started one after the other (default %(default)s)")
    parser.add_argument("--prompts", type=int, default=300, help="asked on a loaded machine (default %(default)s)")
    parser.add_argument("--load", type=int, default=15, help="busy loops beside these (default %(default)s)")
    return 0 if asyncio.run(overload(parser.parse_args(arguments))) else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)
