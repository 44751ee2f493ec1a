"""Where programs are played: a server, a worker process, a provider, people who answer, and what disturbs them."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.client import Client, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.service import RPCError

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.contract.text import digest_of
from activities.values.converter import data_converter
from console.trouble import troubles_of
from tests.provider import Provider, Reply, Request, Text, ToolCall, Tools
from tests.system import playing
from tests.system.forked import ForkedWorker
from tests.system.programs import Edit, Program, Step
from tests.system.resets import chain, reset, tasks_of
from tests.system.transcripts import with_plain_ids
from workflows.engine.continuation import Continuation
from workflows.errors import CallFailed
from workflows.shown.changed import CHANGED

WAIT_S = 60.0
HEALS_S = 240.0
"""A server tries a workflow task that has failed again and again ever more seldom."""

_RPC_TIMEOUT = timedelta(seconds=5)

_NO_FAULT = (
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW,
    WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_UNHANDLED_COMMAND,
)


class Disturbance(BaseModel):
    """What is done to a run.

    Attributes:
        after: How many things have to have happened in the run by then; what comes too late is done at its end.
        what: The worker is killed and another one started, or the run is reset.
        where: To which of the run's workflow tasks, in tenths of its way.
    """

    after: int
    what: Literal["kill", "reset"]
    where: int = 0

    def __str__(self) -> str:
        place = f" to {self.where}/10 of its way" if self.what == "reset" else ""
        return f"{self.what}{place} after {self.after} happenings"


class Case(BaseModel):
    """A program, and what is done to it while it is played."""

    program: Program
    disturbances: list[Disturbance]
    evicted: bool = False
    """Whether the worker keeps no run in memory, so that each workflow task replays it."""
    edit: tuple[int, Edit, int] | None = None
    """After how many happenings the program is changed, how, and where; the worker is killed then as well."""

    @property
    def edited(self) -> Program:
        """The program as it is in the end."""
        return self.program.edited(*self.edit[1:]) if self.edit else self.program

    @property
    def told_of_edit(self) -> str:
        """A part of what a run has to say if it had come to the edited step before."""
        return self.program.told_of(*self.edit[1:]) if self.edit else ""

    def __str__(self) -> str:
        done = [*map(str, self.disturbances), *(["evicted all the time"] if self.evicted else [])]
        edit = f"\n  edited after {self.edit[0]} happenings:\n{self.edited}" if self.edit else ""
        return f"{self.program}\n  meanwhile: {', '.join(done) or 'nothing'}{edit}"


class Playground:
    """Plays programs one after the other."""

    def __init__(self, address: str, folder: Path) -> None:
        self._address = address
        self._folder = folder
        self._numbers = itertools.count(1)
        self._provider = Provider(_reply)
        self._workers: list[ForkedWorker] = []
        self._client: Client | None = None

    async def __aenter__(self) -> Playground:
        (self._folder / "happenings").mkdir()
        self._provider.__enter__()
        self._client = await Client.connect(self._address, data_converter=data_converter)
        # The first worker takes its time to import everything.
        await self.faults(Case(program=Program(parts=[[Step(kind="do", text="nothing")]]), disturbances=[]))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end_workers()
        self._provider.__exit__()

    @property
    def client(self) -> Client:
        assert self._client is not None
        return self._client

    async def faults(self, case: Case) -> list[str]:
        """Play a program as a run, disturb it, and say in what it differs from what the program says."""
        played = _Played(self, f"play-{next(self._numbers)}", case)
        self._serve(0 if case.evicted else 100)
        if case.edit:
            return await played.faults_of_edit(
                case.edit[0], *[await self._directly(p) for p in (case.program, case.edited)]
            )
        return await played.faults(await self._directly(case.program))

    async def _directly(self, program: Program) -> list[Any]:
        """Return what a program gives when nothing is durable."""
        path = self._folder / "direct.json"
        program.save(path)
        function: Callable[..., Any] = playing.play.function
        cast = _Direct([])
        result: Any = Continuation((str(path), 0, []), {})
        while isinstance(result, Continuation):
            result = await function(*result.args, cast, cast, cast)
        return list(result)

    def restart(self) -> None:
        """Kill the worker, and let another one serve, which is ready."""
        serving = self._workers.pop(0)
        serving.kill()
        self._serve(serving.cached_runs)

    def requests(self, since: int) -> list[Request]:
        """Return the requests for completions, but for so many that came first."""
        return self._provider.requests[since:]

    def place(self, name: str) -> Path:
        """Return where a run's program is."""
        return self._folder / f"{name}.json"

    def happenings(self, name: str) -> list[str]:
        """Return what was noted in a run."""
        path = self._folder / "happenings" / name
        return path.read_text().splitlines() if path.exists() else []

    def _serve(self, cached_runs: int) -> None:
        """Have a worker serve that keeps so many runs in memory, and get the next one ready."""
        if self._workers and self._workers[0].cached_runs != cached_runs:
            self._end_workers()
        while len(self._workers) < 2:
            self._workers.append(ForkedWorker(self._address, playing.__name__, cached_runs, self._environment))
        self._workers[0].serve()

    def _end_workers(self) -> None:
        while self._workers:
            self._workers.pop().kill()

    @property
    def _environment(self) -> dict[str, str]:
        return {
            "MODEL": "openai/any",
            "OPENAI_API_KEY": "any",
            "OPENAI_BASE_URL": self._provider.url,
            "OPENAI_API_BASE": self._provider.url,
            "HAPPENINGS": str(self._folder / "happenings"),
            "WORKSPACES": str(self._folder / "workspaces"),
        }


@dataclass(frozen=True)
class Waits:
    """A run that does not go on because its program was changed, and what it says of that."""

    told: str


_CHANGE = re.compile(rf"{CHANGED}(step \S+|after step \S+|at its beginning) expected .+, found .+")


class _Played:
    """One program while it is played."""

    def __init__(self, ground: Playground, name: str, case: Case) -> None:
        self.ground = ground
        self.client = ground.client
        self.name = name
        self.case = case
        self.first_request = len(ground.requests(0))
        self.kills = 0
        self.resets = 0

    async def faults(self, expected: list[Any]) -> list[str]:
        async with self._going_on():
            for disturbance in self.case.disturbances:
                await self._happened(disturbance.after)
                await self._disturb(disturbance)
            result = await self._ended()
        if isinstance(result, str):
            return [result]
        found = [] if result == expected else [f"the result is {result}, not {expected}"]
        return [*found, *await self._memory_faults(), *await self._task_faults(), *self._repeats()]

    async def faults_of_edit(self, after: int, expected: list[Any], edited: list[Any]) -> list[str]:
        """Change the program on the way: the run ends as either program does, or waits, and goes on with the first."""
        async with self._going_on():
            await self._happened(after)
            self.case.edited.save(self.ground.place(self.name))
            self.ground.restart()
            result = await self._ended(or_waits=True)
            told = ""
            if isinstance(result, Waits):
                told = result.told
                self.case.program.save(self.ground.place(self.name))
                self.ground.restart()
                result = await self._ended(HEALS_S)
                edited = expected
        if isinstance(result, str):
            return [result]
        found = [] if result in (expected, edited) else [f"the result is {result}, not {expected} or {edited}"]
        if told and not (_CHANGE.search(told) and self.case.told_of_edit in told):
            found.append(f"it waits, and says {told!r}, without step, expected and found, or without the right step")
        return [*found, *await self._memory_faults()]

    @asynccontextmanager
    async def _going_on(self) -> AsyncIterator[None]:
        """Start the run, and answer what it asks people."""
        place = self.ground.place(self.name)
        self.case.program.save(place)
        await self.client.start_workflow(
            "play",
            args=[str(place), 0, []],
            id=self.name,
            task_queue=CHOREOGRAPHY_QUEUE,
            task_timeout=timedelta(seconds=2),  # that of a worker that was killed is given to another by then
        )
        programs = (self.case.program, self.case.edited)
        people = asyncio.create_task(self._answer()) if any(program.texts("ask") for program in programs) else None
        try:
            yield
        finally:
            if people is not None:
                people.cancel()

    async def _ended(self, seconds: float = WAIT_S, *, or_waits: bool = False) -> list[Any] | Waits | str:
        """Return the run's result, or that it says that it waits for its program, or what is wrong."""
        ended = asyncio.ensure_future(self._result())
        until = asyncio.get_running_loop().time() + seconds
        while not ended.done() and asyncio.get_running_loop().time() < until:
            await asyncio.wait([ended], timeout=0.3 if or_waits else seconds)
            if or_waits and not ended.done() and (told := await self._waits()):
                ended.cancel()
                return Waits(told)
        if ended.done():
            return list(_masked(ended.result()))
        ended.cancel()
        return f"it has not ended after {seconds:g} s: {await self._why()}"

    async def _waits(self) -> str:
        """Return what the run waits for, if its program was changed."""
        said = await troubles_of(self.client, await self.client.get_workflow_handle(self.name).describe())
        return next((one for one in said if CHANGED in one or "ondeterminism" in one), "")

    async def _result(self) -> Any:
        return await self.client.get_workflow_handle(self.name).result()

    async def _happened(self, count: int) -> None:
        """Wait until so many things have happened, or the run has ended."""
        ended = asyncio.ensure_future(self._result())
        until = asyncio.get_running_loop().time() + WAIT_S
        while self._count() < count and not ended.done() and asyncio.get_running_loop().time() < until:
            await asyncio.wait([ended], timeout=0.005)
        ended.cancel()

    def _count(self) -> int:
        return len(self.ground.happenings(self.name)) + len(self.ground.requests(self.first_request))

    async def _disturb(self, disturbance: Disturbance) -> None:
        if disturbance.what == "kill":
            self.kills += 1
            self.ground.restart()
        else:
            self.resets += await self._reset(disturbance.where)

    async def _reset(self, where: int) -> bool:
        tasks = tasks_of(await chain(self.client, self.name))
        if not tasks:
            return False
        run_id, event_id = tasks[where * len(tasks) // 10]
        await reset(self.client, self.name, run_id, event_id)
        return True

    async def _answer(self) -> None:
        """Answer whatever a person is asked."""
        handle = self.client.get_workflow_handle(self.name)
        while True:
            with suppress(RPCError, WorkflowUpdateFailedError, WorkflowUpdateRPCTimeoutOrCancelledError):
                for question in await handle.query("questions", rpc_timeout=_RPC_TIMEOUT):
                    given = {"question": question["id"], "answer": f"decided: {question['text']}"}
                    await handle.execute_update("answer", given, rpc_timeout=_RPC_TIMEOUT)
            await asyncio.sleep(0.05)

    async def _memory_faults(self) -> list[str]:
        """Say which call of the thinker did not know exactly what it had said in this run before."""
        asked = {_digest(request): request for request in self.ground.requests(self.first_request)}
        before: list[str] = []
        found = []
        for text, answer in await self._thoughts():
            before.append(f"Think about {text}")
            request = asked[answer.rpartition(" · ")[2]]
            known = [message["content"] for message in request.messages if message["role"] == "user"]
            if known != before:
                found.append(f"think {text!r} was asked with {known}, not with {before}")
        return found

    async def _thoughts(self) -> list[tuple[str, str]]:
        """Return the thinker's calls that ended well, in the order in which the run made them."""
        found = []
        for _, history in await chain(self.client, self.name):
            texts: dict[int, str] = {}
            answers: dict[int, str] = {}
            for event in history:
                scheduled = event.activity_task_scheduled_event_attributes
                if scheduled.activity_type.name == "Thinker.think":
                    texts[event.event_id] = json.loads(scheduled.input.payloads[0].data)["arguments"]["text"]
                completed = event.activity_task_completed_event_attributes
                if completed.scheduled_event_id in texts:
                    answers[completed.scheduled_event_id] = json.loads(completed.result.payloads[0].data)["value"]
            found += [(text, answers[number]) for number, text in texts.items() if number in answers]
        return found

    async def _task_faults(self) -> list[str]:
        """Say which workflow tasks failed for another reason than a reset."""
        return [
            f"workflow task failed: {event.workflow_task_failed_event_attributes.failure.message[:500]}"
            for _, history in await chain(self.client, self.name)
            for event in history
            if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
            and event.workflow_task_failed_event_attributes.cause not in _NO_FAULT
        ]

    def _repeats(self) -> list[str]:
        requests = self.ground.requests(self.first_request)
        counts = Counter(map(_digest, requests))
        repeated = sum(counts.values()) - len(counts)
        notes = Counter(line for line in self.ground.happenings(self.name) if line.startswith("note "))
        again = sum(notes.values()) - len(notes)
        found = []
        # A reset may take back what a request at that time had asked for, in each of the thinker's calls.
        if repeated > self.kills and not self.resets:
            found.append(f"{repeated} requests were repeated, with {self.kills} kills")
        if again > self.kills and not self.resets:
            found.append(f"{again} tools ran again, with {self.kills} kills")
        return found

    async def _why(self) -> str:
        told = []
        described = (await self.client.get_workflow_handle(self.name).describe()).raw_description
        told += [f"{call.activity_id}: {call.last_failure.message}" for call in described.pending_activities]
        told += await self._task_faults()
        if described.HasField("pending_workflow_task"):
            told.append(f"workflow task attempt {described.pending_workflow_task.attempt}")
        return "; ".join(told)


def _reply(request: Request) -> Reply:
    """Think, now and then with a tool, and say by a digest what was known."""
    text = request.last_user.rpartition(" about ")[2]
    if "note" in request.tools and request.messages[-1]["role"] != "tool" and len(text) % 2:
        return Tools((ToolCall("note", {"text": text}),))
    return Text(f"{request.last_user.lower()} · {_digest(request)}")


def _digest(request: Request) -> str:
    return digest_of(json.dumps(with_plain_ids(request.messages)))


_DIGEST = re.compile(r" · [0-9a-f]+$")


def _masked(value: Any) -> Any:
    """Leave out of answers what depends on the order in which concurrent branches came to them."""
    if isinstance(value, list):
        return [_masked(item) for item in value]
    return _DIGEST.sub("", value) if isinstance(value, str) else value


@dataclass
class _Direct:
    """Does what the agents do, in this process: the program's undecorated function takes any object."""

    kept: list[str]

    async def do(self, text: str) -> str:
        return f"did {text}"

    async def use(self, text: str) -> str:
        return f"used {text}"

    async def fail(self, text: str) -> None:
        raise CallFailed(f"no {text}", method="Worker.fail", instance="worker-1", step="1", kind="RuntimeError")

    async def keep(self, text: str) -> str:
        self.kept.append(text)
        return f"kept {text}"

    async def recite(self) -> list[str]:
        return sorted(self.kept)

    async def think(self, text: str) -> str:
        return f"think about {text}"

    async def glance(self, text: str) -> str:
        return f"glance at {text}"

    async def ask(self, text: str) -> str:
        return f"decided: Decide about {text}"
