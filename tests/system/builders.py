"""Kill workers at random while `build_project` builds in one repository; show that all is there, and there once.

    python -m tests.system.builders --modules 10 --coders 4 --kills 20

A model answers over HTTP on loopback. First modules are built that have nothing to do with each other, then two by two
coders who have to write in one file; both runs are forked from their review, with another model for the reviewers. Each
of the four ends with a line, `apart: kills=… calls=… commits=… merges=… conflicts=… wrong=…`. The exit code is 1 if
anything is wrong: a commit that is there twice or not at all, or that tells of something else than the run's history
does; work that is not merged; a file that should not be there; tests that fail; a fork that did not begin with the
files as they were.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from temporalio.client import Client, WorkflowHandle

from activities.contract.branches import MAIN
from activities.contract.limits import HEARTBEAT_TIMEOUT_S
from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.values.converter import data_converter
from activities.workspace.isolation import ALLOWED, is_sandboxed
from activities.workspace.site import Site
from activities.workspace.workspace import Workspace
from console.dev_server import DevServer
from console.fork import Wish, fork
from console.history import CallSeen, read_run
from tests.system.builders_model import DOCUMENTED, INDEX, STRICT, Developers
from tests.system.forked import ForkedWorker

AT_ONCE = 2
"""Workers at a time: while one is started, the other goes on."""

REVIEW = 4
"""The step of the first review: after the plan, its merge, and what the coders deliver."""

MOST_STILL_S = 7.0
"""Seconds without a question to the model after which a worker is killed all the same."""


@dataclass
class Report:
    """What a run under fire showed."""

    kills: int
    calls: int = 0
    commits: int = 0
    merges: int = 0
    conflicts: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"kills={self.kills} calls={self.calls} commits={self.commits} merges={self.merges} "
            f"conflicts={self.conflicts} wrong={self.wrong or 0}"
        )


class Commit(NamedTuple):
    """A commit, as `git log` tells of it."""

    name: str
    parents: str
    call: str
    subject: str
    run: str
    step: str
    method: str
    instance: str
    item: str


async def build_under_fire(
    address: str,
    folder: Path,
    modules: int,
    coders: int,
    kills: tuple[int, int],
    pace: float,
    seed: int,
    *,
    one_file: bool,
    heartbeat: float = HEARTBEAT_TIMEOUT_S,
) -> tuple[Report, Report]:
    """Have a kit built while workers are killed, and the same forked from its review; return what is found of both.

    Args:
        address: The server's.
        folder: For files; its `workspaces` must be the environment's WORKSPACES.
        modules: How many.
        coders: How many build at a time.
        kills: How many workers are killed in each of the two.
        pace: The most seconds that an answer takes, and from a question to a kill.
        seed: Of the moments.
        one_file: Whether the coders have to write in one file.
        heartbeat: Seconds after which the calls of a killed worker are given to another one.
    """
    client = await Client.connect(address, data_converter=data_converter)
    with Developers(modules, one_file=one_file, pace=pace, seed=seed) as model:
        fire = _Fire(address, model, pace, random.Random(seed), heartbeat)
        try:
            options = {"instances": {"coder": coders}}
            run = await client.start_workflow(
                "build_project", args=["A kit.", options], id=f"kit-{seed}", task_queue=CHOREOGRAPHY_QUEUE
            )
            reviews = await fire.during(run, kills[0])
            built = await _Build.look(client, run.id, folder, reviews)
            report = await built.report(model, kills[0], built.calls)

            asked = len(model.requests)
            wish = Wish(run.id, str(REVIEW), models=[f"reviewer=openai/{STRICT}"])
            assert await asyncio.to_thread(fork, wish) == 0, "it can't be forked"
            new = client.get_workflow_handle(f"{run.id}-fork-1")
            reviews = await fire.during(new, kills[1])
            forked = await _Build.look(client, new.id, folder, reviews)
            taken_over = [call for call in built.calls if _is_before_review(call.step)]
            forked_report = await forked.report(model, kills[1], [*taken_over, *forked.calls])
            forked_report.wrong += forked.differences_from(built, model, asked)
            return report, forked_report
        finally:
            fire.end()


class _Fire:
    """Workers, of which one after the other is killed."""

    def __init__(self, address: str, model: Developers, pace: float, moments: random.Random, heartbeat: float) -> None:
        self._address = address
        self._heartbeat = heartbeat
        self._model = model
        self._pace = pace
        self._moments = moments
        self._at_work = [self._started() for _ in range(AT_ONCE)]

    async def during(self, run: WorkflowHandle[Any, Any], kills: int) -> Any:
        """Kill so many, and return the run's result."""
        done = asyncio.create_task(run.result())
        for _ in range(kills):
            await self._something_asked(done)
            await asyncio.wait([done], timeout=self._moments.uniform(0, self._pace))
            assert not done.done(), f"the run ended before all were killed: {await done}"
            self._at_work.pop(0).kill()
            self._at_work.append(self._started())
        self._model.may_end.set()
        result = await done
        self._model.may_end.clear()
        return result

    async def _something_asked(self, done: asyncio.Task[Any]) -> None:
        """Wait until something goes on again."""
        asked, until = len(self._model.requests), time.monotonic() + MOST_STILL_S
        while len(self._model.requests) == asked and not done.done() and time.monotonic() < until:
            await asyncio.sleep(0.02)

    def end(self) -> None:
        """Kill them all."""
        for worker in self._at_work:
            worker.kill()

    def _started(self) -> ForkedWorker:
        worker = ForkedWorker(
            self._address,
            "workflows.build_project",
            environment=self._model.environment,
            heartbeat_timeout=self._heartbeat,
        )
        worker.serve()
        return worker


@dataclass
class _Build:
    """What a run came to.

    Attributes:
        id: The run's.
        site: Its repository.
        calls: Its own, as its history shows them.
        commits: Of `main`.
        reviews: Its result.
    """

    id: str
    site: Site
    calls: Sequence[CallSeen]
    commits: Sequence[Commit]
    reviews: Sequence[dict[str, str]]

    @classmethod
    async def look(cls, client: Client, id: str, folder: Path, reviews: Sequence[dict[str, str]]) -> _Build:
        """Read history and repository."""
        seen = await read_run(client, id)
        site = Site.of_run(folder / "workspaces", id, seen.first_run_id)
        trailers = [f"%(trailers:key={name},valueonly,separator=)" for name in ("Call", *_TOLD)]
        form = "%x1f".join(["%H", "%P", trailers[0], "%s", *trailers[1:]])
        lines = site.git.text("log", f"--format={form}", MAIN).splitlines()
        return cls(id, site, seen.calls, [Commit(*line.split("\x1f")) for line in lines], reviews)

    async def report(self, model: Developers, kills: int, calls: Sequence[CallSeen]) -> Report:
        """Compare what is there with what has to be.

        Args:
            model: Who has built.
            kills: How many workers were killed.
            calls: All that have made what is there, those that were taken over from another run among them.
        """
        own = [commit for commit in self.commits if commit.step and not commit.subject.startswith("Take in ")]
        report = Report(
            kills=kills,
            calls=len(self.calls),
            commits=len(self.commits),
            merges=sum(commit.method == "Merger.merge" for commit in own),
            conflicts=sum(commit.method == "Coder.implement_module" and " " in commit.parents for commit in own),
        )
        told = Counter((commit.step, commit.method, commit.instance, commit.item) for commit in own)
        made = Counter((call.step, call.method, call.instance, call.item) for call in calls if _has_committed(call))
        report.wrong += [f"not committed: {call}" for call in made - told]
        report.wrong += [f"committed, and not called: {call}" for call in told - made]
        twice = Counter((commit.call, commit.subject) for commit in self.commits)
        report.wrong += [f"committed {times} times: {commit}" for commit, times in twice.items() if times > 1]
        report.wrong += [f"set aside: {name}" for name in self.site.git.references("refs/left/")]
        main = self.site.git.commit_of(MAIN)
        for name, commit in self.site.git.references("refs/heads/").items():
            if not self.site.git.is_ancestor(commit, main):
                report.wrong.append(f"not merged: {name}")
        files = Workspace(self.site.tree(MAIN), allow_unsandboxed=True)
        if files.list_files() != model.files:
            report.wrong.append(f"files: {files.list_files()}")
        elif sorted(files.read(INDEX).splitlines()) != model.index:
            report.wrong.append(f"{INDEX}: {files.read(INDEX)}")
        if not (tests := await files.run_tests()).passed:
            report.wrong.append(f"tests: {tests}")
        if [review["verdict"] for review in self.reviews] != ["PASS"] * len(model.names):
            report.wrong.append(f"reviews: {self.reviews}")
        return report

    def differences_from(self, forked: _Build, model: Developers, asked: int) -> list[str]:
        """Say in what a fork is not what it has to be, beside another run.

        Args:
            forked: The run.
            model: Who was asked.
            asked: How often before the fork.
        """
        wrong = [f"made again: {call.step}" for call in self.calls if _is_before_review(call.step)]
        taken_over = {commit.name for commit in self.commits if commit.run == forked.id}
        if taken_over != {
            commit.name for commit in forked.commits if not commit.step or _is_before_review(commit.step)
        }:
            wrong.append("it did not begin with the files as they were")
        questions = {(request.model, request.last_user.split()[0]) for request in model.requests[asked:]}
        if questions != {(STRICT, "Review"), ("any", "Implement")}:
            wrong.append(f"it asked {questions}")
        first = f"kit/{model.names[0]}.py"
        if [DOCUMENTED in (one.site.tree(MAIN) / first).read_text() for one in (forked, self)] != [False, True]:
            wrong.append("the other model made no difference")
        return wrong


_TOLD = ("Run", "Step", "Method", "Instance", "Item")


def _has_committed(call: CallSeen) -> bool:
    if call.ended is None or call.error or call.method == "Reviewer.review_module":
        return False
    return call.method != "Merger.merge" or bool(call.value["merged"])


def _is_before_review(step: str) -> bool:
    return int(step.split(".")[0]) < REVIEW


async def main(options: argparse.Namespace) -> int:
    """Run it, and say what was found."""
    wrong = False
    with tempfile.TemporaryDirectory() as name, DevServer.start(ui=False) as server:
        folder = Path(name)
        os.environ |= {"WORKSPACES": str(folder / "workspaces"), "TEMPORAL_ADDRESS": server.address}
        if not is_sandboxed():
            os.environ[ALLOWED] = "1"
        kinds = (("apart", options.modules, options.coders, False), ("one file", 4, 2, True))
        for number, (kind, modules, coders, one_file) in enumerate(kinds):
            reports = await build_under_fire(
                server.address,
                folder,
                modules,
                coders,
                (options.kills, options.kills // 4),
                options.pace,
                options.seed + number,
                one_file=one_file,
            )
            for what, report in zip((kind, f"{kind}, forked from the review"), reports, strict=True):
                print(f"{what}: {report}", flush=True)
                wrong = wrong or bool(report.wrong)
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for word, default in (("modules", 10), ("coders", 4), ("kills", 20), ("seed", 1)):
        parser.add_argument(f"--{word}", type=int, default=default)
    parser.add_argument("--pace", type=float, default=2.0)
    code = asyncio.run(main(parser.parse_args()))
    sys.stdout.flush()
    os._exit(code)
