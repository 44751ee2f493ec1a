"""Kill workers at random moments while `build_project` runs, then the server too; show that it cost nothing.

    python -m tests.system.chaos --kills 50 --seeds 5

The scripted model answers behind a provider on loopback, over real HTTP, which counts every request by its content. The
last line, `kills=… model_calls=… repeated=… tool_repeats=… wrong=…`, sums up both halves; the exit code is 1 where a
bound is broken: a wrong result, more repeated model calls than kills, or a tool run again though its result was
recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client, WorkflowHandle

from activities.contract import CHOREOGRAPHY_QUEUE, conversation_id
from activities.converter import data_converter
from activities.scripted import Script
from activities.workspace import Workspace
from console.dev_server import DevServer
from tests.provider import Provider, Reply, Request, Slow, Text, ToolCall, Tools
from tests.system.processes import Process, files_of

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "examples" / "textkit.toml"
SPEC = "Build textkit."
WORKERS = 2

RECORDED_S = 0.5
"""A result is on the server after 0.2 s; one that is older than this when its worker dies must not be made again."""


@dataclass
class Report:
    """What a run under fire showed."""

    kills: int = 0
    model_calls: int = 0
    repeated: int = 0
    tool_repeats: int = 0
    wrong: list[str] = field(default_factory=list)

    def __add__(self, other: Report) -> Report:
        return Report(
            self.kills + other.kills,
            self.model_calls + other.model_calls,
            self.repeated + other.repeated,
            self.tool_repeats + other.tool_repeats,
            [*self.wrong, *other.wrong],
        )

    def __str__(self) -> str:
        return (
            f"kills={self.kills} model_calls={self.model_calls} repeated={self.repeated} "
            f"tool_repeats={self.tool_repeats} wrong={len(self.wrong)}"
        )

    @property
    def is_good(self) -> bool:
        """Whether no bound is broken."""
        return not self.wrong and not self.tool_repeats and self.repeated <= self.kills


class ScriptedProvider:
    """The scripted model as a provider: the same answers, over HTTP."""

    def __init__(self, seed: int) -> None:
        self._script = Script.load(SCRIPT)
        self._chance = random.Random(seed)

    def __call__(self, request: Request) -> Reply:
        reply = self._script.reply(request.messages)
        calls = tuple(ToolCall(call.name, call.arguments) for call in reply.tool_calls)
        answer: Reply = Tools(calls, content=reply.content) if calls else Text(reply.content)
        return Slow(self._chance.uniform(0.05, 0.6), answer)


class Stage:
    """A server, two workers that serve everything, and a provider: what is killed, and killed again."""

    def __init__(self, folder: Path, provider: Provider, seed: int) -> None:
        self.folder = folder
        self.provider = provider
        self.chance = random.Random(seed)
        self.server = DevServer.start(db_file=folder / "temporal.db", ui=False)
        self.deaths: dict[int, float] = {}
        self._started = 0
        self.workers = [self._start_worker() for _ in range(WORKERS)]

    def _start_worker(self) -> Process:
        self._started += 1
        environment = {
            "TEMPORAL_ADDRESS": self.server.address,
            "MODEL": "openai/scripted",
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": self.provider.url,
            "OPENAI_API_BASE": self.provider.url,
            "WORKSPACES": str(self.folder / "workspaces"),
            "CHAOS_TOOLS": str(self.folder / "tools.jsonl"),
            "PYTHONPATH": str(ROOT),
        }
        # One call at a time in each queue: then there is one in flight that a kill may cost.
        options = ["--bare", "--module", "tests.system.chaos_team", "--concurrency", "1"]
        return Process(
            *(sys.executable, "worker.py", *options),
            folder=self.folder / f"worker-{self._started}",
            cwd=ROOT,
            environment=environment,
        )

    def kill_a_worker(self) -> None:
        """Kill one worker, and start another in its place."""
        index = self.chance.randrange(len(self.workers))
        victim = self.workers[index]
        self.deaths[victim.pid] = time.time()
        victim.kill()
        self.workers[index] = self._start_worker()

    async def kill_the_server(self) -> None:
        """Kill the server, and start it on its file and port again."""
        port = int(self.server.address.rpartition(":")[2])
        os.kill(self.server.pid, signal.SIGKILL)
        await asyncio.to_thread(self.server.stop)
        self.server = await asyncio.to_thread(DevServer.start, db_file=self.folder / "temporal.db", port=port, ui=False)

    def end(self) -> None:
        """End everything."""
        for worker in self.workers:
            worker.kill()
        self.server.stop()


async def run_under_fire(
    folder: Path, seed: int, kills: int, *, server_too: bool
) -> tuple[Report, Any, dict[str, bytes]]:
    """Run `build_project` once, killing on the way; return the report, the run's result and its files."""
    with Provider(ScriptedProvider(seed)) as provider:
        stage = Stage(folder, provider, seed)
        try:
            client = await Client.connect(stage.server.address, data_converter=data_converter)
            handle = await client.start_workflow("build_project", SPEC, id="textkit", task_queue=CHOREOGRAPHY_QUEUE)
            killed = await _fire(stage, handle, kills, server_too=server_too)
            result = await asyncio.wait_for(handle.result(), 300)
            assert handle.first_execution_run_id is not None
            files = files_of(Workspace.of_run(folder / "workspaces", "textkit", handle.first_execution_run_id).root)
            report = Report(
                kills=killed,
                model_calls=len(provider.requests),
                repeated=sum(count - 1 for count in provider.counts.values()),
                tool_repeats=_recorded_tools_run_again(folder / "tools.jsonl", stage.deaths),
                wrong=await _doubts(client, handle),
            )
            return report, result, files
        finally:
            stage.end()


async def _fire(stage: Stage, handle: WorkflowHandle[Any, Any], kills: int, *, server_too: bool) -> int:
    """Kill at random moments until the run ends or everything was killed that was to be."""
    finished = asyncio.ensure_future(handle.result())
    for number in range(kills):
        await asyncio.wait([finished], timeout=stage.chance.uniform(1.0, 5.0))
        if finished.done():
            return number
        if server_too and number % 3 == 2:
            await stage.kill_the_server()
        else:
            stage.kill_a_worker()
    finished.cancel()
    return kills


def _recorded_tools_run_again(tools: Path, deaths: dict[int, float]) -> int:
    """Count the tools that ran twice although their first result was recorded when its worker died."""
    runs = defaultdict(list)
    for line in tools.read_text().splitlines():
        run = json.loads(line)
        runs[run["key"]].append(run)
    return sum(
        deaths.get(first["pid"], float("inf")) - first["at"] > RECORDED_S
        for repeated in runs.values()
        for first in repeated[:-1]
    )


async def _doubts(client: Client, handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Return what the history and the conversations show that should not be."""
    doubts = []
    ended: dict[str, int] = defaultdict(int)
    names: dict[int, str] = {}
    async for event in handle.fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            names[event.event_id] = event.activity_task_scheduled_event_attributes.activity_id
        if event.HasField("activity_task_completed_event_attributes"):
            ended[names[event.activity_task_completed_event_attributes.scheduled_event_id]] += 1
    if set(ended.values()) != {1}:
        doubts.append(f"calls that did not end once: {dict(ended)}")
    prompts = 0
    for instance in ("architect-1", "coder-1", "coder-2", "reviewer-1", "reviewer-2"):
        page = await client.get_workflow_handle(conversation_id("textkit", instance)).query("transcript")
        entries = page["entries"]
        prompts += sum(entry.get("role") == "user" for entry in entries)
        calls = [call["id"] for entry in entries for call in entry.get("tool_calls") or ()]
        results = [entry["tool_call_id"] for entry in entries if entry.get("role") == "tool"]
        if sorted(calls) != sorted(results):
            doubts.append(f"{instance}: tool calls and results do not pair")
    if prompts != len(ended):
        doubts.append(f"{len(ended)} calls, but {prompts} prompts in the conversations")
    return doubts


async def chaos(kills: int, seeds: int, *, server_too: bool = False) -> Report:
    """Do it with several seeds, comparing each run with one that nothing disturbs; print a line for each."""
    total = Report()
    with tempfile.TemporaryDirectory() as base:
        undisturbed, result, files = await run_under_fire(Path(base) / "calm", 0, 0, server_too=False)
        print(f"undisturbed: {undisturbed}", flush=True)
        for seed in range(1, seeds + 1):
            per_seed = kills // seeds + (seed <= kills % seeds)
            fired = Report()
            while fired.kills < per_seed:  # a run may end before it has seen all kills
                folder = Path(base) / f"seed-{seed}-{fired.kills}"
                started = time.monotonic()
                report, got, left = await run_under_fire(
                    folder, 1000 * seed + fired.kills, per_seed - fired.kills, server_too=server_too
                )
                if got != result:
                    report.wrong.append(f"seed {seed}: another result: {got}")
                if left != files:
                    report.wrong.append(f"seed {seed}: other files: {sorted(set(left.items()) ^ set(files.items()))}")
                print(f"seed {seed}: {report} ({time.monotonic() - started:.0f} s) {report.wrong or ''}", flush=True)
                fired += report
            total += fired
    return total


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chaos test from the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--kills", type=int, default=50, help="kills over all seeds, in each half (default %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs with different moments (default %(default)s)")
    options = parser.parse_args(arguments)
    print("workers are killed", flush=True)
    report = asyncio.run(chaos(options.kills, options.seeds, server_too=False))
    print(f"{report}\nworkers are killed, and every third time the server", flush=True)
    report += asyncio.run(chaos(options.kills, options.seeds, server_too=True))
    print(report, flush=True)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    code = main()
    sys.stdout.flush()
    os._exit(code)
