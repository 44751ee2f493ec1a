"""What a worker process serves: one Temporal worker per task queue, from what the modules offer."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.worker import PollerBehaviorAutoscaling, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.activity import Activity, activity_for
from activities.agent import methods_of
from activities.contract import CHOREOGRAPHY_QUEUE, method_name
from activities.converter import data_converter
from activities.queues import unserved_queues
from workflows.choreography import Choreography
from workflows.discovery import Offer, discover, own_modules
from workflows.errors import ChoreographyError

DEFAULT_CONCURRENCY = 100


class SettingsInvalid(ChoreographyError):
    """A worker was started with settings that can't be used; says which and what to do."""


@dataclass(frozen=True)
class Settings:
    """What a worker process is to serve.

    Attributes:
        queues: The activities of each task queue.
        choreographies: Those to serve; none if the process serves agents only.
        concurrency: Calls at a time by queue.
        grace: Seconds that calls in flight may go on when the worker stops.
    """

    queues: Mapping[str, Sequence[Activity]]
    choreographies: Sequence[Choreography[..., Any]]
    concurrency: Mapping[str, int]
    grace: float

    @classmethod
    def read(
        cls,
        *,
        serve: Sequence[str] = (),
        concurrency: Sequence[str] = (),
        modules: Sequence[str] = (),
        bare: bool = False,
        grace: float = 30.0,
    ) -> Settings:
        """Make settings from a command line's words.

        Raises:
            SettingsInvalid: A name or number is not known; lists what there is.
            DiscoveryError: A module can't be served.
        """
        if bare and not modules:
            raise SettingsInvalid("--bare serves only what --module names; name a module.")
        offer = discover([*([] if bare else own_modules()), *modules])
        queues = _queues(offer)
        chosen = _chosen(serve, queues)
        return cls(
            queues={name: queues[name] for name in chosen if name != CHOREOGRAPHY_QUEUE},
            choreographies=list(offer.choreographies.values()) if CHOREOGRAPHY_QUEUE in chosen else [],
            concurrency=_limits(concurrency, queues),
            grace=grace,
        )


async def connect() -> Client:
    """Connect to the server that Temporal's environment settings and profile name.

    Raises:
        SettingsInvalid: Nothing answers there.
    """
    config = ClientConfig.load_client_connect_config()
    config.setdefault("target_host", "localhost:7233")
    try:
        return await Client.connect(**config, data_converter=data_converter)
    except RuntimeError as error:
        raise SettingsInvalid(
            f"No Temporal server answers at {config['target_host']}: {str(error).splitlines()[0]}. "
            "Start one with 'python worker.py dev', or set TEMPORAL_ADDRESS."
        ) from error


def workers(client: Client, settings: Settings) -> list[Worker]:
    """Make the workers that serve what the settings name."""
    made = [_activity_worker(client, queue, activities, settings) for queue, activities in settings.queues.items()]
    if settings.choreographies:
        made.append(_choreography_worker(client, settings))
    return made


def _activity_worker(client: Client, queue: str, activities: Sequence[Activity], settings: Settings) -> Worker:
    return Worker(
        client,
        task_queue=queue,
        activities=activities,
        max_concurrent_activities=settings.concurrency.get(queue, DEFAULT_CONCURRENCY),
        activity_task_poller_behavior=PollerBehaviorAutoscaling(minimum=1, maximum=8, initial=1),
        # Progress must be on the server before a kill: details are sent at most this much later.
        max_heartbeat_throttle_interval=timedelta(seconds=0.1),
        default_heartbeat_throttle_interval=timedelta(seconds=0.1),
        graceful_shutdown_timeout=timedelta(seconds=settings.grace),
    )


def _choreography_worker(client: Client, settings: Settings) -> Worker:
    return Worker(
        client,
        task_queue=CHOREOGRAPHY_QUEUE,
        workflows=[choreography.workflow for choreography in settings.choreographies],
        activities=[unserved_queues(client)],
        no_remote_activities=True,
        workflow_runner=SandboxedWorkflowRunner(
            restrictions=_restrictions({choreography.workflow.__module__ for choreography in settings.choreographies})
        ),
        # The tasks of a worker that was killed wait for this long before another one gets them.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
        graceful_shutdown_timeout=timedelta(seconds=settings.grace),
    )


def _restrictions(choreography_modules: set[str]) -> SandboxRestrictions:
    """Have the sandbox load only the modules of choreographies anew for each run, and share all others.

    So a choreography's clocks, chances and files are caught, and nobody needs to know of passing modules through.
    """
    shared = {
        name
        for name in list(sys.modules)
        if name != "__main__" and not any(f"{module}.".startswith(f"{name}.") for module in choreography_modules)
    }
    return SandboxRestrictions.default.with_passthrough_modules(*shared)


def _queues(offer: Offer) -> dict[str, list[Activity]]:
    """Return the activities of every queue: one of its own for each prompt and task, one per class for its tools."""
    queues: dict[str, list[Activity]] = {}
    for name, agent in offer.agents.items():
        for method in methods_of(agent).values():
            queue = name if method.kind == "tool" else method_name(name, method.name)
            queues.setdefault(queue, []).append(activity_for(agent, method))
    if offer.choreographies:
        queues[CHOREOGRAPHY_QUEUE] = []
    return queues


def _chosen(names: Sequence[str], queues: Mapping[str, object]) -> list[str]:
    if not names:
        return list(queues)
    return list(dict.fromkeys(queue for name in names for queue in _matching("--serve", name, queues)))


def _matching(option: str, name: str, queues: Mapping[str, object]) -> list[str]:
    found = [queue for queue in queues if queue == name or queue.startswith(f"{name}.")]
    if not found:
        raise SettingsInvalid(
            f"{option} {name}: there is nothing of that name to serve. There are: {', '.join(queues)}."
        )
    return found


def _limits(words: Sequence[str], queues: Mapping[str, object]) -> dict[str, int]:
    limits: dict[str, int] = {}
    for word in sorted(words, key=lambda word: "=" in word):  # a limit for one name goes before the one for all
        name, _, number = word.rpartition("=")
        if not number.isdigit() or int(number) < 1:
            raise SettingsInvalid(f"--concurrency {word}: give a number from 1, as in 4 or Coder=4.")
        for queue in _matching("--concurrency", name, queues) if name else queues:
            limits[queue] = int(number)
    return limits
