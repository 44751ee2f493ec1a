"""What a worker process serves: one Temporal worker per task queue."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.plugin import SimplePlugin
from temporalio.worker import Interceptor, PollerBehaviorAutoscaling, Replayer, ReplayerConfig, Worker

from activities.calls.activity import Activity
from activities.contract.names import CHOREOGRAPHY_QUEUE, method_name, of_team
from activities.contract.spans import Tell
from activities.declarations.agent import methods_of
from activities.declarations.person import Person
from activities.housekeeping.attributes import build_id
from activities.housekeeping.budgets import activities_of_budgets
from activities.housekeeping.cleanup import Cleanup
from activities.housekeeping.pages import PagesCodec, keep_page
from activities.housekeeping.queues import breathe
from activities.housekeeping.stored import StoreCleanup
from activities.housekeeping.webhooks import deliver, tell_webhook
from activities.payloads.files import Files
from activities.payloads.store import InActivities, days_from_environment, store_of, stores
from activities.values.converter import data_converter
from activities.workspace.git import git_in_words, has_git
from activities.workspace.isolation import allow_unsandboxed, isolation_in_words
from workflows.engine.shard import Shard
from workflows.errors import SettingsInvalid, tell
from workflows.limits.limiter import Limiter
from workflows.memory.conversation import Conversation
from workflows.memory.pages import JournalPages
from workflows.program.choreography import Choreography
from workflows.serving.batching import Batching
from workflows.serving.client import converter_for
from workflows.serving.details import DetailsWhenAsked
from workflows.serving.hearing import hearing_worker
from workflows.serving.outside import FAILS_A_WORKFLOW, Guarded
from workflows.serving.queue_watch import QueueWatch
from workflows.serving.sandbox import sandbox
from workflows.serving.sdk import error_at_import, give_tasks_time
from workflows.serving.settings import Settings, queue_of
from workflows.serving.tracing import Tracing
from workflows.serving.unknown import say_unknown_types_once
from workflows.shown.webhook import Deliveries
from workflows.steering.keeper import BudgetKeeper

DEFAULT_CONCURRENCY = 100

_POLLERS = PollerBehaviorAutoscaling(minimum=8, maximum=32, initial=8)
"""Polls of a queue at a time. A server asks for more when calls have waited for 200 ms, which is too late for a burst:
with one poll its calls came back one by one, each with a workflow task of its own. Eight idle ones cost nearly nothing.
"""

_LARGE_TASK_S = 15.0
"""Seconds that a workflow task may take where there is a store: to read and to write what is large takes a second."""

_OWN_WORKFLOWS = (BudgetKeeper, Conversation, Deliveries, JournalPages, Limiter, Shard)


def isolation_of(settings: Settings) -> str:
    """Allow in this process what the settings allow; say in one line what isolates code that models write."""
    if settings.allow_unsandboxed:
        allow_unsandboxed()
    return isolation_in_words()


def git_of(settings: Settings) -> str:
    """Say in one line what is missing for repositories, where something that is served keeps one; else nothing."""
    return git_in_words() if settings.keeps_repositories and not has_git() else ""


def workers(client: Client, settings: Settings, known: Sequence[str] = (), traces: Tell | None = None) -> list[Worker]:
    """Make the workers that serve what the settings name.

    Args:
        client: What `connect` gives.
        settings: What to serve.
        known: The search attributes that the server knows; runs set no others.
        traces: Who is told of the spans of runs and calls.

    Raises:
        SettingsInvalid: A choreography's module can't be loaded for its runs; says where and why.
    """
    tracing = [Tracing(traces)] if traces is not None else []
    made = [
        _activity_worker(client, queue, activities, settings, tracing) for queue, activities in settings.queues.items()
    ]
    if made:
        made.append(hearing_worker(client))
    if settings.choreographies:
        made.append(_choreography_worker(client, settings, known, tracing))
    return made


def replayer(*choreographies: Choreography[..., Any], client: Client | None = None) -> Replayer:
    """Make what tells whether the histories of runs, also of those under way, still fit their choreographies.

    `await replayer(build_project).replay_workflow(await handle.fetch_history())` raises where the program has changed.

    Args:
        *choreographies: Whose runs they are.
        client: What `connect` gives, for runs that have much to remember, and keep it outside of their histories.
    """
    config = replayed(choreographies)
    config["data_converter"] = client.data_converter if client else converter_for(data_converter, PagesCodec())
    return Replayer(**config)


def replayed(choreographies: Sequence[Choreography[..., Any]]) -> ReplayerConfig:
    """Return what replays runs of choreographies, and nothing else."""
    return ReplayerConfig(
        workflows=[*(choreography.workflow for choreography in choreographies), *_OWN_WORKFLOWS],
        workflow_runner=sandbox(choreographies),
        interceptors=[Guarded()],
        workflow_failure_exception_types=FAILS_A_WORKFLOW,
    )


def _for_activities(client: Client) -> Client:
    """Return a client whose workers tell an activity of what is not in the store, instead of ending it for good."""
    config = client.config(active_config=True)
    storage = config["data_converter"].external_storage
    if storage is None:
        return client
    telling = InActivities(storage.drivers, storage.driver_selector, storage.payload_size_threshold)
    config["data_converter"] = dataclasses.replace(config["data_converter"], external_storage=telling)
    return Client(**config)


def _activity_worker(
    client: Client, queue: str, activities: Sequence[Activity], settings: Settings, tracing: Sequence[Interceptor]
) -> Worker:
    per_minute = settings.per_minute.get(queue)
    return Worker(
        _for_activities(client),
        task_queue=of_team(settings.team, queue),
        activities=activities,
        interceptors=tracing,
        max_concurrent_activities=settings.concurrency.get(queue, DEFAULT_CONCURRENCY),
        max_task_queue_activities_per_second=per_minute / 60 if per_minute else None,
        activity_task_poller_behavior=_POLLERS,
        # Progress must be on the server before a kill: details are sent at most this much later.
        max_heartbeat_throttle_interval=timedelta(seconds=0.1),
        default_heartbeat_throttle_interval=timedelta(seconds=0.1),
        graceful_shutdown_timeout=timedelta(seconds=settings.grace),
    )


def _choreography_worker(
    client: Client, settings: Settings, known: Sequence[str], tracing: Sequence[Interceptor]
) -> Worker:
    say_unknown_types_once()
    cleanup = Cleanup(client)
    queue = of_team(settings.team, CHOREOGRAPHY_QUEUE)
    called = _called(settings.choreographies).items()
    others = {of_team(settings.team, name): methods for name, methods in called if name not in settings.queues}
    queues = QueueWatch(client, queue, others)
    store = store_of(client.data_converter.external_storage)
    beside = {"cleanup": cleanup.running, "queues": queues.running}
    if store is not None and isinstance(store.place, Files):
        beside["store"] = StoreCleanup(client, store.place.remove_unused, days_from_environment()).running
    try:
        made = Worker(
            client,
            task_queue=queue,
            workflows=[*(made.workflow for made in settings.choreographies), *_OWN_WORKFLOWS],
            activities=[breathe, keep_page(client), *activities_of_budgets(client), tell_webhook(client), deliver],
            build_id=build_id(known, stores=stores(client.data_converter.external_storage)),
            no_remote_activities=True,
            workflow_runner=sandbox(settings.choreographies, cleanup.a_run_ends),
            unsandboxed_workflow_runner=Batching(),
            interceptors=[Guarded(), queues, DetailsWhenAsked(), *tracing],
            workflow_failure_exception_types=FAILS_A_WORKFLOW,
            plugins=[SimplePlugin(f"choreography.{name}", run_context=run) for name, run in beside.items()],
            # The tasks of a worker that was killed wait for this long before another one gets them.
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=2),
            graceful_shutdown_timeout=timedelta(seconds=settings.grace),
        )
    except RuntimeError as error:
        if (raised := error_at_import(error)) is None:
            raise
        # Its module did at import what no choreography may.
        raise SettingsInvalid(f"{error}: {tell(raised)}") from error
    if stores(client.data_converter.external_storage):
        give_tasks_time(made, _LARGE_TASK_S)
    return made


def _called(choreographies: Sequence[Choreography[..., Any]]) -> dict[str, list[str]]:
    """Return the queues of all that choreographies may call, with the methods in each."""
    agents = {agent: None for one in choreographies for agent in one.roles.values() if not issubclass(agent, Person)}
    queues: dict[str, list[str]] = {}
    for agent in agents:
        for method in methods_of(agent).values():
            queues.setdefault(queue_of(agent, method), []).append(method_name(agent.__name__, method.name))
    return queues
