"""What runs tell the world: the events that go to a webhook."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

Kind = Literal["question_asked", "budget_reached", "run_ended"]


class HookEvent(BaseModel):
    """Something that happened to a run, as a webhook gets it."""

    id: str
    """The same however often it is sent: whoever gets one twice has had it."""
    event: Kind
    run: str
    """The run's workflow id."""
    choreography: str
    at: str
    """When it happened, in ISO 8601."""
    about: dict[str, Any] = {}
    """Of a question: id, person, method, text and the command that answers it. Of a budget: which limit, and what
    raises it. Of an end: how the run ended, and why."""
