"""What things are called that both wings, a server and its users know: queues, workflow types, signals, attributes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

CHOREOGRAPHY_QUEUE = "choreography"
"""The task queue of every choreography; `temporal workflow start --task-queue choreography`. A team's is its own."""


def of_team(team: str, name: str) -> str:
    """Return the name of a team's own, `acme.choreography`; that of whoever is in no team stays as it is."""
    return f"{team}.{name}" if team else name


def team_of(queue: str, name: str = CHOREOGRAPHY_QUEUE) -> str:
    """Return the team whose task queue of this name it is; empty if it is no team's."""
    return queue.removesuffix(f".{name}") if queue.endswith(f".{name}") else ""


BREATHE_ACTIVITY = "breathe"
"""The local activity that does nothing: it ends a workflow task in time."""

SEARCH_ATTRIBUTES: Mapping[str, Literal["Keyword", "KeywordList", "Double", "Int"]] = MappingProxyType(
    {
        "Choreography": "Keyword",
        "RunStatus": "Keyword",
        "Roles": "KeywordList",
        "CostUsd": "Double",
        "Tokens": "Int",
        "FailedItems": "Int",
        "Tags": "KeywordList",
    }
)
"""What runs can be looked up by in the server's list, with the types that the server has to know them by."""

WAITS_FOR_MODEL_SIGNAL = "waits_for_model"
"""The signal by which a worker tells a run that its calls wait for a model, and when that is over."""

CALL_CANCELLED = "CallCancelled"
"""The error type by which a cancelled call tells what it has used: Temporal's own kind of end has no room for it."""


def method_name(agent: str, method: str) -> str:
    """Return the activity type of an agent method, which is also the name of a prompt's or task's queue."""
    return f"{agent}.{method}"


JOURNAL = "journal"
"""The workflow type of what keeps the pages of a run's journal; its id is `<workflow id>/journal`."""

KEEP_PAGE_ACTIVITY = "keep_page"
"""The local activity by which a run has a page of its journal kept."""

WEBHOOK = "webhook"
"""The workflow type of what delivers a run's events to a webhook; its id is `<workflow id>/webhook`."""

TELL_ACTIVITY = "tell_webhook"
"""The local activity by which a run hands an event over to it."""

DELIVER_ACTIVITY = "deliver"
"""The local activity that sends one."""

SHARD = "scatter_shard"
"""The workflow type of a part of a large scatter; its id is
`<workflow id>/<step>.<first item>-<last item>-<digest>`."""

POSITIONS = -1
"""In place of a number in a shard's results: what follows is where its instances stand."""

CONVERSATION = "conversation"
"""The workflow type of an instance's memory; its id is `<workflow id>/<instance>`."""


def conversation_id(workflow_id: str, instance: str) -> str:
    """Return the workflow id of the conversation of an instance of a run."""
    return f"{workflow_id}/{instance}"


LIMITER = "limiter"
"""The workflow type of what divides a model's limits among the processes that ask it; its id is
`limits/<model>/<digest of key and address>`."""

LEASE_UPDATE = "lease"
"""The update by which a process gets its share."""


def limiter_id(team: str, name: str) -> str:
    """Return the workflow id of the limiter of a model and a key; a team has its own."""
    return of_team(team, f"limits/{name}")


BUDGET = "budget"
"""The workflow type of what keeps a budget that runs share; its id is `budget/<kind>/<name>`."""

HEARING = "hearing"
"""The workflow type by which a process is asked what its calls say; its id and its task queue are
`hearing/<identity of the process>`."""


def hearing_of(identity: str) -> str:
    """Return where a process is asked, by what it is called on the server."""
    return f"{HEARING}/{identity}"


MAKE_NO_CALLS = frozenset({BUDGET, CONVERSATION, HEARING, JOURNAL, LIMITER, WEBHOOK})
"""The workflow types of what serves runs beside them."""

NO_RUNS = MAKE_NO_CALLS | {SHARD}
"""Those of everything that is no run of its own."""
