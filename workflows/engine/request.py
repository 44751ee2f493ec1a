"""Calls as plain data: what a choreography, or a shard that works for it, sends to the workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pydantic_core import from_json, to_json

from activities.contract.branches import Access, Standing
from activities.contract.envelope import PausedCall, Position
from activities.contract.identity import CallId
from activities.contract.names import conversation_id
from activities.declarations.method import Method
from activities.values.canonical import in_order
from workflows.engine.room import room
from workflows.errors import TooLarge
from workflows.steering.budget import Limit


@dataclass(frozen=True)
class Service:
    """What the calls of one method by one role have in common.

    Attributes:
        name: The activity type.
        role: Who does it.
        queue: The task queue.
        timeout: Seconds for an attempt.
        patience: Seconds that it may wait for models beside.
        retries: How often it is tried again after an error.
        heartbeat: Seconds without a sign of life after which it is given to another worker.
        model: What the run's options say.
        workflow_id: The run's.
        run_id: The first run of the workflow's chain.
        conversations: To whom the instances' conversations belong; None if the calls remember nothing.
        outlives: Whether these go on when the run has ended.
        access: What the calls do with the run's repository; None if they have nothing to do with it.
        source: The repository that it begins from, where the run's options name one.
    """

    name: str
    role: str
    queue: str
    timeout: float
    patience: float
    retries: int
    heartbeat: float
    model: str | None
    workflow_id: str
    run_id: str
    conversations: str | None
    outlives: bool
    access: Access | None = None
    source: str = ""

    def conversation(self, instance: str) -> str | None:
        """Return the workflow id of an instance's conversation; None if its calls remember nothing."""
        return None if self.conversations is None else conversation_id(self.conversations, instance)


class Request(NamedTuple):
    """One call of a service.

    Attributes:
        step: Its place in the program.
        label: What it is about, for people.
        arguments: JSON, as the member `"arguments":{…}` of the message; the same in every process.
    """

    step: str
    label: str
    arguments: str

    @classmethod
    def of(cls, method: Method[..., Any], step: str, label: str, arguments: Mapping[str, Any]) -> Request:
        """Make a request from arguments of the declared types.

        Raises:
            TooLarge: They are more than the server takes.
            ArgumentInvalid: One would not arrive as it is.
        """
        text = arguments_text(method, arguments)
        if not room().takes(len(text) + ENVELOPE):
            largest = max(arguments, key=lambda name: len(repr(arguments[name])), default="")
            what = f"its arguments are {len(text):,} bytes, of which '{largest}' has the most"
            raise TooLarge(room().refusal(what, "Put it into a file of the workspace and pass the path."))
        return cls(step, label, text[1:-1])

    def id(self, method: str, instance: str) -> CallId:
        """Return what tells it from everything else that could be asked, of anyone, at any place."""
        return CallId.of(self.step, method, instance, self.arguments)

    def message(
        self,
        service: Service,
        instance: str,
        position: Position,
        branches: Mapping[str, str],
        paused: PausedCall | None = None,
        budget_left: Mapping[Limit, float] | None = None,
    ) -> bytes:
        """Return the message that goes to the worker: a `CallRequest`."""
        envelope = to_json(
            {
                "instance": instance,
                "role": service.role,
                "step": self.step,
                "workflow_id": service.workflow_id,
                "run_id": service.run_id,
                "model": service.model,
                "conversation": service.conversation(instance),
                "outlives": service.outlives,
                "position": position.model_dump(exclude_defaults=True),
                "paused": paused,
                **({"budget_left": budget_left} if budget_left else {}),
                "repository": self._standing(service, branches),
            }
        )
        return b"%s,%s}" % (envelope[:-1], self.arguments.encode())

    def _standing(self, service: Service, branches: Mapping[str, str]) -> Standing | None:
        if service.access is None:
            return None
        return Standing(access=service.access, item=self.label, source=service.source, stand=dict(branches))


def arguments_text(method: Method[..., Any], arguments: Mapping[str, Any]) -> str:
    """Write arguments of the declared types as JSON, `{"arguments":{…}}`, in every process in the same way.

    Raises:
        ArgumentInvalid: One would not arrive as it is.
    """
    text = f'{{"arguments":{method.write(arguments)}}}'
    if not method.may_take_sets:
        return text
    return to_json(in_order({"arguments": arguments}, from_json(text))).decode()


ENVELOPE = 4_000
"""Bytes for the rest of a message."""
