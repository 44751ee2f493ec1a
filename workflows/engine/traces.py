"""A run's part of its trace: the run, its phases, its scatters and its calls, each told once, when it has ended.

What is told is read from the tree, in the time of the program. A replay tells nothing; nor does a program that comes,
after it has continued as new, to where it was. Whatever is told changes nothing of what the run does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from pydantic import BaseModel
from temporalio import workflow

from activities.contract.envelope import Receipt
from activities.contract.names import SHARD
from activities.contract.spans import Attribute, Place, Span, Tell
from workflows.engine.sdk import may_tell
from workflows.tree.scope import CallScope, ScatterScope, Scope

TELL_SPAN = "choreography.tell_span"
"""By which name a workflow finds whom it tells of its spans, among the functions that its worker gives it."""


class TraceBegun(BaseModel):
    """What a run takes along of its trace when it continues as new."""

    began: float
    """When the first run of its chain began, as seconds since 1970."""
    root: str
    """The run's place, as a `traceparent`."""
    parent: str = ""
    """What has started it, if that was traced."""


class Clock(Protocol):
    """The time of a program, which comes again to where it was when it has continued as new."""

    @property
    def time(self) -> float:
        """What it is, as seconds since 1970."""

    @property
    def is_past(self) -> bool:
        """Whether it has been before."""


class RunTime:
    """The time of a workflow that never continues as new."""

    is_past = False

    @property
    def time(self) -> float:
        """What it is, as seconds since 1970."""
        return workflow.now().timestamp()


@dataclass(frozen=True)
class _Open:
    place: Place
    parent: Place
    began: float


class Traces:
    """Tells of the parts of a run, or of a shard of one.

    Attributes:
        begun: What the next run of the chain has to know.
    """

    def __init__(self, clock: Clock, begun: TraceBegun | None = None) -> None:
        """Begin to tell, if the worker gives somebody to be told, and whoever has started the run lets it.

        Args:
            clock: The time of its program.
            begun: What the run before it in its chain has left.
        """
        self._clock = clock
        self._run_id = workflow.info().run_id
        self._open: WeakKeyDictionary[Scope, _Open] = WeakKeyDictionary()
        self._calls: dict[str, Place] = {}
        self._scatters: dict[str, Place] = {}
        self._numbers: Counter[str] = Counter()
        self._sent: WeakKeyDictionary[Scope, int] = WeakKeyDictionary()
        self.begun = begun or _begun_now()
        self._root, self._parent = Place.read(self.begun.root), Place.read(self.begun.parent)
        self._tell: Tell | None = workflow.extern_functions().get(TELL_SPAN)
        if self._root is None or not self._root.sampled:
            self._tell = None

    def begins(self, scope: Scope) -> None:
        """Note a phase or a scatter that begins."""
        if self._tell is None:
            return
        parent = self._place_around(scope)
        key = f"scatter {scope.path}" if isinstance(scope, ScatterScope) else f"phase {scope.place.path} {scope.title}"
        number = self._numbers[f"{parent.span} {key}"]
        self._numbers[f"{parent.span} {key}"] += 1
        opened = _Open(parent.below(key, number), parent, self._clock.time)
        self._open[scope] = opened
        if scope.path:
            self._scatters[scope.path] = opened.place

    def ends(self, scope: Scope) -> None:
        """Tell of a phase or a scatter that has ended."""
        opened = self._open.get(scope)
        if opened is None:
            return
        self._scatters.pop(scope.path, None)
        if self._clock.is_past:
            return
        name = f"phase {scope.title}"
        attributes: dict[str, Attribute] = {"choreography.phase": scope.title}
        if isinstance(scope, ScatterScope):
            name = f"scatter {scope.method}".rstrip()
            attributes = {
                "choreography.step": scope.path,
                "choreography.items": scope.total,
                "choreography.items_failed": scope.failed,
            }
        self._tell_if_new(Span(name, opened.place, opened.parent, opened.began, self._clock.time, attributes))

    def call_begins(self, scope: CallScope) -> None:
        """Note a call that is sent."""
        if self._tell is None:
            return
        parent = self._place_around(scope)
        self._sent[scope] = self._sent.get(scope, 0) + 1
        # A run that continues as new may send a call again that had waited for people; a reset one keeps this id.
        place = parent.below(workflow.info().original_execution_run_id, "call", scope.path, self._sent[scope])
        self._open[scope] = _Open(place, parent, workflow.now().timestamp())
        self._calls[scope.path] = place

    @contextmanager
    def asking(self, scope: CallScope) -> Iterator[None]:
        """Tell of a call that is a question to a person; where the run continues as new meanwhile, since then."""
        self.call_begins(scope)
        outcome = "cancelled"
        try:
            yield
            outcome = "done"
        finally:
            self.call_ends(scope, outcome)

    def call_ends(self, scope: CallScope, outcome: str, receipt: Receipt | None = None) -> None:
        """Tell of a call that has come back.

        Args:
            scope: The call.
            outcome: How it ended.
            receipt: What it took; None for a question to a person.
        """
        opened = self._open.pop(scope, None)
        if opened is None:
            return
        del self._calls[scope.path]
        agent = scope.method.partition(".")[0]
        attributes: dict[str, Attribute] = {
            "choreography.instance": scope.instance,
            "choreography.role": scope.role,
            "choreography.method": scope.method,
            "choreography.step": scope.path,
            "choreography.outcome": outcome,
        }
        if receipt is not None:
            attributes |= {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": agent,
                "gen_ai.agent.id": scope.instance,
                "choreography.model_calls": receipt.usage.model_calls,
                "choreography.waited_s": receipt.waited_s,
            }
        name = f"ask {agent}" if receipt is None else f"invoke_agent {agent}"
        error = "CallFailed" if outcome == "failed" else ""
        ends = workflow.now().timestamp()
        self._tell_if_new(Span(name, opened.place, opened.parent, opened.began, ends, attributes, error))

    def run_ends(self, ended: str) -> None:
        """Tell of the whole run, over all of its chain."""
        if self._root is None:
            return
        info = workflow.info()
        attributes: dict[str, Attribute] = {
            "gen_ai.operation.name": "invoke_workflow",
            "gen_ai.workflow.name": info.workflow_type,
            "choreography.outcome": ended,
            "temporalWorkflowID": info.workflow_id,
            "temporalRunID": info.run_id,
        }
        error = "RunFailed" if ended == "failed" else ""
        name, ends = f"invoke_workflow {info.workflow_type}", workflow.now().timestamp()
        self._tell_if_new(Span(name, self._root, self._parent, self.begun.began, ends, attributes, error))

    def place_of_call(self, step: str) -> Place | None:
        """Return the place of a call that is being sent; None where nobody is told."""
        return self._calls.get(step)

    def place_of_scatter(self, step: str) -> Place | None:
        """Return the place of a scatter that goes on; None where nobody is told."""
        return self._scatters.get(step)

    def _place_around(self, scope: Scope) -> Place:
        around = scope.parent
        while around is not None:
            if (opened := self._open.get(around)) is not None:
                return opened.place
            around = around.parent
        assert self._root is not None  # else nobody is told
        return self._root

    def _tell_if_new(self, span: Span) -> None:
        if self._tell is not None and may_tell(self._run_id):
            self._tell(span)


def _begun_now() -> TraceBegun:
    """Return what a run begins with, or a shard: that is no part of its own, and its place is the one handed to it."""
    info = workflow.info()
    handed = Place.in_headers(info.headers)
    if info.workflow_type == SHARD:
        root, parent = handed, None
    elif handed is not None:
        root, parent = handed.below("run", info.workflow_id, info.original_execution_run_id), handed
    else:
        root, parent = Place.of_run(info.workflow_id, info.original_execution_run_id), None
    return TraceBegun(
        began=info.start_time.timestamp(),
        root=root.write() if root is not None else "",
        parent=parent.write() if parent is not None else "",
    )
