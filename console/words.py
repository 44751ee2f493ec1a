"""What the calls of a run say, while they say it: asked of the processes that make them, as long as somebody listens.

hearing, reader = Overhearing(client, "textkit"), Reader()
while not hearing.is_over:
    await hearing.listen()
    for news in reader.news(hearing.calls):
        print(news)
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from activities.contract.identity import step_of
from activities.contract.names import HEARING, hearing_of
from activities.contract.words import Asked, Kind, Saying, SoFar, State, Words
from activities.errors import AgentError
from activities.memory.transcript import Entry
from console.said import Said, plain, said_of
from console.trouble import pending_activities

EVERY_S = 0.2
"""Seconds between two questions to a process."""

_DESCRIBED_EVERY_S = 1.0
"""Seconds between two looks for which processes make calls of the run, where there are some."""

_ANSWERS_WITHIN_S = 0.5
"""Seconds that a round waits for a process; it may answer later."""

_GIVEN_UP_AFTER = timedelta(seconds=2)
_LEFT_ALONE_S = 2.0
"""Seconds for which a process is not asked that has not answered."""

_REMEMBERED_S = 60.0
"""Seconds after which a process is forgotten that makes no calls, and a call that has gone."""

_ENDED_S = 12.0
"""Seconds after which a call is forgotten that has ended; a little longer than its process tells of it."""

_SHOWN, _SHOWN_AT_ONCE = 200, 50


@dataclass
class CallHeard:
    """A call in flight, or one that has just ended, as far as it was heard.

    Attributes:
        entries: What it has said, whole.
        answer: Which answer is coming, or came last.
        start: How many characters of it there are before the words.
        words: What has come of it.
        heard_at: When something was heard of it last.
    """

    call: str
    step: str
    instance: str
    method: str
    attempt: str
    began: float
    resumed: int
    entries: list[Entry] = field(default_factory=list)
    answer: int = 0
    start: int = 0
    words: list[Words] = field(default_factory=list)
    state: State = "silent"
    heard_at: float = 0.0

    @classmethod
    def of(cls, told: Saying) -> CallHeard:
        """Begin with what was told first of an attempt."""
        return cls(told.call, told.step, told.instance, told.method, told.attempt, told.began, told.resumed)

    @property
    def characters(self) -> int:
        """How many there are of the answer."""
        return self.start + sum(len(one.text) for one in self.words)

    @property
    def so_far(self) -> SoFar:
        """What need not be told again."""
        return SoFar(
            attempt=self.attempt,
            entries=len(self.entries),
            answer=self.answer,
            characters=self.characters,
            state=self.state,
        )

    def take(self, told: Saying) -> None:
        """Take in what was told of the same attempt."""
        self.entries[told.number :] = told.entries
        if (told.answer, told.start) != (self.answer, self.characters):
            self.answer, self.start, self.words = told.answer, told.start, []
        for one in told.words:
            last = self.words[-1] if self.words else None
            if last is not None and (last.kind, last.tool) == (one.kind, one.tool):
                last.text += one.text
            else:
                self.words.append(one)
        self.state, self.heard_at = told.state, time.monotonic()

    def end(self, most: int) -> str:
        """Return the last words of the answer."""
        text = "".join(f" {one.tool} {one.text[-most:]}" if one.tool else one.text[-most:] for one in self.words)
        return text[-most:]

    def after(self, characters: int) -> Iterator[Words]:
        """Return the words after so many characters."""
        passed = self.start
        for one in self.words:
            if text := one.text[max(characters - passed, 0) :]:
                yield one.model_copy(update={"text": text})
            passed += len(one.text)


class Overhearing:
    """Hears what the calls of a run say.

    Attributes:
        calls: By their names, as they come; a step may come again, where a run goes on anew.
        is_over: Whether the run has ended.
    """

    def __init__(self, client: Client, workflow_id: str) -> None:
        """Begin to listen.

        Args:
            client: Temporal's client.
            workflow_id: The run.
        """
        self.calls: dict[str, CallHeard] = {}
        self.is_over = False
        self._client = client
        self._run = workflow_id
        self._processes: dict[str, float] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._left_alone: dict[str, float] = {}
        self._described = self._listened = -_DESCRIBED_EVERY_S
        self._round: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Bring it up to date, unless that was just done: however many want it, each process is asked once."""
        if self._round is None or self._round.done():
            if time.monotonic() - self._listened < EVERY_S / 2:
                return
            self._round = asyncio.create_task(self._listen())
        await asyncio.shield(self._round)

    def ends(self) -> dict[str, str]:
        """Return the end of what is being said, by the steps of the calls; of many, not of all."""
        coming = [call for call in self.calls.values() if call.state == "coming"]
        return {call.step: plain(call.end(_SHOWN)) for call in coming[:_SHOWN_AT_ONCE]}

    async def _listen(self) -> None:
        now = time.monotonic()
        if now - self._described >= (_DESCRIBED_EVERY_S if self._processes else EVERY_S):
            await self._find_processes()
            self._described = now
        for process in self._processes:
            if process not in self._asking and self._left_alone.get(process, 0.0) <= now:
                asking = asyncio.create_task(self._ask(process))
                self._asking[process] = asking
                asking.add_done_callback(lambda _, process=process: self._asking.pop(process))  # type: ignore[misc]
        if self._asking:
            await asyncio.wait(list(self._asking.values()), timeout=_ANSWERS_WITHIN_S)
        self._listened = time.monotonic()

    async def _find_processes(self) -> None:
        try:
            described = await self._client.get_workflow_handle(self._run).describe(rpc_timeout=_GIVEN_UP_AFTER)
            calls = await pending_activities(self._client, described)
        except RPCError:  # whoever listens sees it elsewhere
            return
        self.is_over = described.status != WorkflowExecutionStatus.RUNNING
        now = time.monotonic()
        for call in calls:
            if call.state == PendingActivityState.PENDING_ACTIVITY_STATE_STARTED and call.last_worker_identity:
                self._processes[call.last_worker_identity] = now
        self._processes = {name: at for name, at in self._processes.items() if now - at < _REMEMBERED_S}
        under_way = {step_of(call.activity_id) for call in calls}
        for name, heard in list(self.calls.items()):
            has_ended = heard.state == "ended"
            if (has_ended or heard.step not in under_way) and now - heard.heard_at > (
                _ENDED_S if has_ended else _REMEMBERED_S
            ):
                del self.calls[name]

    async def _ask(self, process: str) -> None:
        handle = self._client.get_workflow_handle(hearing_of(process))
        asked = Asked(run=self._run, so_far={name: call.so_far for name, call in self.calls.items()})
        try:
            try:
                told = await handle.query("saying", asked, result_type=list[Saying], rpc_timeout=_GIVEN_UP_AFTER)
            except RPCError as error:
                if error.status != RPCStatusCode.NOT_FOUND:
                    raise
                await self._client.start_workflow(
                    HEARING,
                    id=handle.id,
                    task_queue=handle.id,
                    execution_timeout=timedelta(seconds=10),
                    id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                )
                told = await handle.query("saying", asked, result_type=list[Saying], rpc_timeout=_GIVEN_UP_AFTER)
        except (RPCError, WorkflowQueryFailedError, ApplicationError, AgentError, ValueError, RuntimeError):
            # It is no more, or of another version, or what it says can't be read here.
            self._left_alone[process] = time.monotonic() + _LEFT_ALONE_S
            return
        for one in told:
            self._take(one)

    def _take(self, told: Saying) -> None:
        known = self.calls.get(told.call)
        if known is None or (known.attempt != told.attempt and known.began <= told.began):
            for other in self.calls.values():
                if other.step == told.step and other.call != told.call and other.began <= told.began:
                    other.state = "ended"  # of a run that goes on anew, or was reset
            self.calls[told.call] = known = CallHeard.of(told)
        if known.attempt == told.attempt and told.number <= len(known.entries):
            known.take(told)


class News(BaseModel):
    """Something that is heard of a call.

    Attributes:
        event: `call`: it begins, or is under way. `words`: a piece of what is being said. `said`: something is said,
            whole, in the place of its words. `again`: another attempt is made at the call; of what it has said only
            the first entries stand, and the words of the last one do not. `ended`: the attempt is over.
    """

    event: Literal["call", "words", "said", "again", "ended"]
    call: str
    """Which call it is: its step may come again, where the run goes on anew."""
    step: str
    instance: str
    method: str
    stand: int | None = None
    """How many entries stand, with `again`."""
    kind: Kind | None = None
    """Of what the words are."""
    text: str | None = None
    """The words."""
    tool: str | None = None
    """The tool of whose arguments the words are."""
    number: int | None = None
    """Which entry of the call it is that is said, from 0."""
    said: Said | None = None


class Reader:
    """Tells somebody what is new, each thing once, however late it is read."""

    def __init__(self, known: Mapping[str, SoFar] | None = None, instance: str = "") -> None:
        """Begin to read.

        Args:
            known: What was read before.
            instance: Whom alone to hear; everybody if it is empty.
        """
        self._known = dict(known or {})
        self._instance = instance
        self._is_first = known is None
        self._seen: set[str] = set()

    @classmethod
    def at(cls, position: str, instance: str = "") -> Reader:
        """Go on where another one was.

        Args:
            position: Where; what can't be read is the beginning.
            instance: As above.
        """
        try:
            data = zlib.decompressobj().decompress(base64.urlsafe_b64decode(position), _LONGEST_POSITION)
            told = _POSITIONS.validate_json(data)
        except (ValueError, ValidationError, zlib.error):
            return cls(None, instance)
        known = {
            name: SoFar(attempt=attempt, entries=entries, answer=answer, characters=characters, state=state)
            for name, (attempt, entries, answer, characters, state) in told.items()
        }
        return cls(known, instance)

    @property
    def position(self) -> str:
        """Where it is, in a word."""
        told = {name: list(known.model_dump().values()) for name, known in self._known.items()}
        return base64.urlsafe_b64encode(zlib.compress(json.dumps(told, separators=(",", ":")).encode())).decode()

    def news(self, calls: Mapping[str, CallHeard]) -> list[News]:
        """Return what is new."""
        told = [
            news
            for call in calls.values()
            if not self._instance or call.instance == self._instance
            for news in self._of(call)
        ]
        gone = self._seen - calls.keys()
        self._seen = set(calls)
        self._known = {name: known for name, known in self._known.items() if name not in gone}
        self._is_first = False
        return told

    def _of(self, call: CallHeard) -> Iterator[News]:
        known = self._known.get(call.call)
        if known is None and self._is_first and call.state == "ended":  # before anybody read
            self._known[call.call] = call.so_far
            return
        if known is not None and known.attempt == call.attempt and _is_behind(call.so_far, known):
            return  # it has just begun to be heard here
        if known is None:
            yield _news("call", call)
            known = SoFar()
        elif known.attempt != call.attempt:
            known = SoFar(entries=min(known.entries, call.resumed))
            yield _news("again", call, stand=known.entries)
        for number, entry in enumerate(call.entries[known.entries :], known.entries):
            yield _news("said", call, number=number, said=said_of(entry))
        if call.state == "coming":
            for words in call.after(known.characters if known.answer == call.answer else 0):
                yield _news("words", call, kind=words.kind, text=words.text, tool=words.tool or None)
        if call.state == "ended" and known.state != "ended":
            yield _news("ended", call)
        self._known[call.call] = call.so_far


_POSITIONS = TypeAdapter(dict[str, tuple[str, int, int, int, State]])
_LONGEST_POSITION = 1_000_000


def _is_behind(heard: SoFar, known: SoFar) -> bool:
    if (heard.entries, heard.answer) < (known.entries, known.answer):
        return True
    return heard.answer == known.answer and heard.characters < known.characters


def _news(event: Any, call: CallHeard, **told: Any) -> News:
    return News(event=event, call=call.call, step=call.step, instance=call.instance, method=call.method, **told)
