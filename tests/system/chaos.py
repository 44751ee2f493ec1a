"""Kill workers, then the server, at moments that hurt, while projects are built; show that it cost nothing.

    python -m tests.system.chaos --kills 50 --seeds 5

The scripted model answers behind a provider on loopback, over real HTTP, which counts every request by its content.
Each half ends with a line, `workers: kills=… in_flight=… model_calls=… repeated=… tool_repeats=… wrong=…`. The exit
code is 1 where a bound is broken: a result, a file or anything said that an undisturbed run does not have, more
repeated model calls than kills that had a call in flight, or a tool run again though its result was recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from temporalio.client import Client, WorkflowHandle
from temporalio.runtime import LoggingConfig, Runtime, TelemetryConfig

from activities.contract.branches import MAIN
from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.models.scripted import Script
from activities.values.converter import data_converter
from activities.workspace.site import Site
from console.history import read_run
from tests.provider import Provider, Reply, Request, Slow, Text, ToolCall, Tools
from tests.system.processes import ROOT, files_of, result_of, through_outages
from tests.system.stage import Kill, Stage
from tests.system.transcripts import Section, said_by_call, washed, with_plain_ids

SCRIPT = ROOT / "examples" / "textkit.toml"
SPEC = "Build textkit."
PROMPTS = ("Plan the modules", "Implement this module", "Review the module")

AT_ONCE = 2
"""Runs at the same time, each on a server of its own: most of their time they wait for what was killed."""

LONGEST_S = 1200
"""Seconds that a run may take; each kill costs one up to ten."""

RECORDED_S = 0.5
"""A result is on the server after 0.2 s; one that is older than this when its worker dies must not be made again."""

Half = Literal["workers", "server"]


@dataclass
class Report:
    """What runs under fire showed."""

    kills: int = 0
    in_flight: int = 0
    model_calls: int = 0
    repeated: int = 0
    tool_repeats: int = 0
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: Report) -> Report:
        return Report(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    def __str__(self) -> str:
        return (
            f"kills={self.kills} in_flight={self.in_flight} model_calls={self.model_calls} repeated={self.repeated} "
            f"tool_repeats={self.tool_repeats} wrong={len(self.wrong)}"
        )

    @property
    def is_good(self) -> bool:
        """Whether no bound is broken."""
        return not self.wrong and not self.tool_repeats and self.repeated <= self.in_flight


@dataclass
class Outcome:
    """What a run came to: what has to be the same, whatever was killed meanwhile."""

    result: Any
    files: dict[str, bytes]
    said: dict[str, list[Section]]

    def differences(self, other: Outcome) -> list[str]:
        """Say in what another run differs."""
        found = []
        if other.result != self.result:
            found.append(f"another result: {other.result}")
        if changed := {path for path, _ in self.files.items() ^ other.files.items()}:
            found.append(f"other files: {sorted(changed)}")
        for call in sorted({*self.said, *other.said}):
            expected, got = self.said.get(call, []), other.said.get(call, [])
            if expected != got:
                found.append(f"{call}: {_first_difference(expected, got)}")
        return found


class ScriptedProvider:
    """The scripted model as a provider: the same answers, over HTTP."""

    def __init__(self, seed: int) -> None:
        self._script = Script.load(SCRIPT)
        self._chance = random.Random(seed)

    def __call__(self, request: Request) -> Reply:
        reply = self._script.reply(request.messages)
        calls = tuple(ToolCall(call.name, call.arguments) for call in reply.tool_calls)
        answer: Reply = Tools(calls, content=reply.content) if calls else Text(reply.content)
        return Slow(self._chance.uniform(0.05, 0.4), answer)


async def run_under_fire(folder: Path, seed: int, kills: Sequence[Kill], *, rounds: int = 2) -> tuple[Report, Outcome]:
    """Build once, killing on the way; return what it cost and what it came to."""
    with Provider(ScriptedProvider(seed)) as provider:
        stage = Stage(folder, provider, seed)
        try:
            client = await Client.connect(stage.server.address, data_converter=data_converter)
            handle = await client.start_workflow(
                "build_in_rounds", args=[SPEC, rounds], id="textkit", task_queue=CHOREOGRAPHY_QUEUE
            )
            finished = asyncio.ensure_future(result_of(handle, seconds=LONGEST_S))
            await stage.fire(handle, finished, kills)
            try:
                result = await finished
            except TimeoutError:
                raise AssertionError(f"no end after {LONGEST_S} s: {await _where_it_stands(handle)}") from None
            assert handle.first_execution_run_id is not None
            site = Site.of_run(folder / "workspaces", "textkit", handle.first_execution_run_id)
            outcome = Outcome(result, files_of(site.tree(MAIN)), await through_outages(lambda: _said(client)))
            report = Report(
                kills=stage.kills,
                in_flight=stage.in_flight,
                model_calls=len(provider.requests),
                repeated=sum(count - 1 for count in _asked(provider).values()),
                tool_repeats=_recorded_tools_run_again(folder / "tools.jsonl", stage),
                wrong=[*stage.doubts, *await _doubts(client, handle)],
            )
            return report, outcome
        finally:
            await asyncio.to_thread(stage.end)


async def _where_it_stands(handle: WorkflowHandle[Any, Any]) -> str:
    described = await through_outages(handle.describe)
    raw = described.raw_description
    calls = [f"{call.activity_id}, attempt {call.attempt}, state {call.state}" for call in raw.pending_activities]
    task = f"workflow task attempt {raw.pending_workflow_task.attempt}"
    return f"{described.history_length} events, {task}; {'; '.join(calls) or 'no call in flight'}"


async def _said(client: Client) -> dict[str, list[Section]]:
    return await said_by_call(client, "textkit", PROMPTS)


def _asked(provider: Provider) -> Counter[str]:
    """Count how often the same was asked, but for what differs by chance."""
    return Counter(json.dumps(washed(with_plain_ids(request.messages))) for request in provider.requests)


def _recorded_tools_run_again(tools: Path, stage: Stage) -> int:
    """Count the tools that ran twice although their first result was recorded when its worker died."""
    runs = defaultdict(list)
    for line in tools.read_text().splitlines():
        run = json.loads(line)
        runs[run["key"]].append(run)
    return sum(
        stage.deaths.get(first["pid"], float("inf")) - first["at"] > RECORDED_S
        and not stage.was_out(first["at"], first["at"] + RECORDED_S)
        for repeated in runs.values()
        for first in repeated[:-1]
    )


async def _doubts(client: Client, handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Return what the histories and the conversations show that should not be."""
    run = await through_outages(lambda: read_run(client, handle.id))
    doubts = [f"{call.method} at {call.step} did not end well: {call.error}" for call in run.calls if call.error]
    steps = Counter(call.step for call in run.calls)
    doubts += [f"step {step} was made {times} times" for step, times in steps.items() if times > 1]
    if run.outcome != "done":
        doubts.append(f"the run is {run.outcome}")
    return doubts


def _first_difference(expected: list[Section], got: list[Section]) -> str:
    if len(expected) != len(got):
        return f"made {len(got)} times, not {len(expected)}"
    for number, (one, other) in enumerate(zip(expected, got, strict=True), start=1):
        for place, (entry, found) in enumerate(zip(one, other, strict=False)):
            if entry != found:
                return f"time {number}, entry {place}: {found} instead of {entry}"
        if len(one) != len(other):
            return (
                f"time {number}: {len(other)} entries, not {len(one)}: {(other if len(other) > len(one) else one)[-1]}"
            )
    return "the same"


async def half(base: Path, which: Half, kills: int, seeds: int, calm: Outcome) -> Report:
    """Kill one kind of victim with several seeds; compare each run with the undisturbed one; print a line for each."""
    places = asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> Report:
        plan = Kill.plan(which, random.Random(f"{which} {seed}"), kills // seeds + (seed <= kills % seeds))
        total = Report()
        while total.kills < len(plan):  # a run may end before it has seen all kills
            async with places:
                began = time.monotonic()
                folder = base / f"{which}-{seed}-{total.kills}"
                report, outcome = await run_under_fire(folder, 1000 * seed + total.kills, plan[total.kills :])
            report.wrong += calm.differences(outcome)
            report.wrong = [f"{which}, seed {seed}: {told}" for told in report.wrong]
            print(f"  {which}, seed {seed}: {report} ({time.monotonic() - began:.0f} s)", flush=True)
            print("".join(f"    {told[:1500]}\n" for told in report.wrong), end="", flush=True)
            total += report
        return total

    return sum(await asyncio.gather(*map(one, range(1, seeds + 1))), Report())


async def chaos(kills: int, seeds: int) -> bool:
    """Do both halves; return whether all bounds were kept."""
    with tempfile.TemporaryDirectory() as base:
        began = time.monotonic()
        report, calm = await run_under_fire(Path(base) / "calm", 0, ())
        print(f"undisturbed: {report} ({time.monotonic() - began:.0f} s)", *report.wrong, sep="\n  ", flush=True)
        good = report.is_good
        halves: tuple[Half, ...] = ("workers", "server")
        for which in halves:
            began = time.monotonic()
            report = await half(Path(base), which, kills, seeds, calm)
            print(f"{which}: {report} ({time.monotonic() - began:.0f} s)", flush=True)
            good = good and report.is_good
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chaos test from the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kills", type=int, default=50, help="kills over all seeds, in each half (default %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs with different moments (default %(default)s)")
    options = parser.parse_args(arguments)
    # Lost connections are what this is about.
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=LoggingConfig(filter="ERROR"))))
    return 0 if asyncio.run(chaos(options.kills, options.seeds)) else 1


if __name__ == "__main__":
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    code = main()
    sys.stdout.flush()
    os._exit(code)
