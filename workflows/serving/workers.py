"""What a worker process serves: one Temporal worker per task queue, from what the modules offer."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter, DefaultFailureConverter, DefaultPayloadConverter
from temporalio.envconfig import ClientConfig
from temporalio.plugin import SimplePlugin
from temporalio.runtime import Runtime
from temporalio.service import RPCError
from temporalio.worker import Interceptor, PollerBehaviorAutoscaling, Replayer, ReplayerConfig, Worker

from activities.calls.activity import Activity, activity_for
from activities.contract.limits import STORED_FROM, STORED_LIMIT
from activities.contract.names import CHOREOGRAPHY_QUEUE, method_name, of_team
from activities.contract.spans import Tell
from activities.declarations.agent import Agent, methods_of
from activities.declarations.method import Method
from activities.declarations.person import Person
from activities.errors import AgentError, SettingInvalid, place_of
from activities.housekeeping.attributes import build_id
from activities.housekeeping.budgets import activities_of_budgets
from activities.housekeeping.cleanup import Cleanup
from activities.housekeeping.pages import PagesCodec, keep_page
from activities.housekeeping.queues import breathe
from activities.housekeeping.stored import StoreCleanup
from activities.housekeeping.webhooks import deliver, tell_webhook
from activities.models.rates import SETTING, limits_in
from activities.payloads.codecs import Codecs, codecs_of
from activities.payloads.encryption import EncryptionCodec
from activities.payloads.files import Files
from activities.payloads.hiding import HidingCodec
from activities.payloads.store import InActivities, days_from_environment, storage_from_environment, store_of, stores
from activities.values.converter import FailureSealed, data_converter
from activities.workspace.git import git_in_words, has_git
from activities.workspace.isolation import allow_unsandboxed, isolation_in_words
from activities.workspace.repository import repository_of
from workflows.engine.shard import Shard
from workflows.errors import ChoreographyError, tell
from workflows.limits.limiter import Limiter
from workflows.memory.conversation import Conversation
from workflows.memory.pages import JournalPages
from workflows.program.choreography import Choreography
from workflows.serving.batching import Batching
from workflows.serving.details import DetailsWhenAsked
from workflows.serving.discovery import Offer, discover, own_modules
from workflows.serving.outside import FAILS_A_WORKFLOW, Guarded
from workflows.serving.queue_watch import QueueWatch
from workflows.serving.sandbox import sandbox
from workflows.serving.sdk import error_at_import, give_tasks_time, innermost_message
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


class SettingsInvalid(ChoreographyError):
    """A worker was started with settings that can't be used; says which and what to do."""


@dataclass(frozen=True)
class Settings:
    """What a worker process is to serve.

    Attributes:
        queues: The activities of each task queue.
        choreographies: Those to serve; none if the process serves agents only.
        concurrency: Calls at a time by queue.
        keeps_repositories: Whether any of the activities works in a repository.
        per_minute: Calls that begin in a minute, by queue, on all workers together; those without are not limited.
        grace: Seconds that calls in flight may go on when the worker stops.
        asks_models: Whether any of the activities may ask a model.
        team: Whose queues they are: each name begins with it; empty for the plain names.
        allow_unsandboxed: Whether code that models write may run without a sandbox where there is none.
    """

    queues: Mapping[str, Sequence[Activity]]
    choreographies: Sequence[Choreography[..., Any]]
    concurrency: Mapping[str, int]
    grace: float
    asks_models: bool
    team: str = ""
    allow_unsandboxed: bool = False
    keeps_repositories: bool = False
    per_minute: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(
        cls,
        *,
        serve: Sequence[str] = (),
        concurrency: Sequence[str] = (),
        modules: Sequence[str] = (),
        bare: bool = False,
        grace: float = 30.0,
        team: str = "",
        allow_unsandboxed: bool = False,
    ) -> Settings:
        """Make settings from a command line's words.

        Raises:
            SettingsInvalid: A name or number is not known; lists what there is.
            DiscoveryError: A module can't be served.
        """
        if bare and not modules:
            raise SettingsInvalid("--bare serves only what --module names; name a module.")
        if team and not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", team):
            raise SettingsInvalid(f"--team {team}: give a name of letters, digits, - and _.")
        offer = _discover([*([] if bare else own_modules()), *modules])
        queues = _queues(offer)
        if not queues:
            raise SettingsInvalid(
                f"There is neither a choreography nor an agent with methods in {', '.join(modules)}: nothing to serve."
            )
        chosen = _chosen(serve, queues)
        _check_environment()
        return cls(
            queues={name: queues[name] for name in chosen if name != CHOREOGRAPHY_QUEUE},
            choreographies=list(offer.choreographies.values()) if CHOREOGRAPHY_QUEUE in chosen else [],
            concurrency=_limits(concurrency, queues),
            grace=grace,
            asks_models=any(name in _ask_models(offer) for name in chosen),
            team=team,
            allow_unsandboxed=allow_unsandboxed,
            keeps_repositories=any(name in _keep_repositories(offer) for name in chosen),
            per_minute=_per_minute(offer),
        )


async def connect(address: str | None = None, runtime: Runtime | None = None) -> Client:
    """Connect to the server at an address, or else to the one that Temporal's environment settings and profile name.

    Args:
        address: Of the server.
        runtime: What serves metrics, where they are wanted.

    Raises:
        SettingsInvalid: The settings can't be read, nothing answers there, or it has no such namespace.
    """
    try:
        config = {"target_host": address} if address else ClientConfig.load_client_connect_config()
    except RuntimeError as error:
        raise SettingsInvalid(f"Temporal's settings can't be used: {' '.join(str(error).split())}.") from error
    address = config.setdefault("target_host", "localhost:7233")
    try:
        client = await open_client(**config, runtime=runtime)
        await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    except RPCError as error:
        raise SettingsInvalid(f"The Temporal server at {address} refuses: {error.message}") from error
    except RuntimeError as error:
        raise SettingsInvalid(
            f"No Temporal server answers at {address}: {innermost_message(error)}. "
            "Start one with 'python worker.py dev', or set TEMPORAL_ADDRESS."
        ) from error
    return client


async def open_client(**config: Any) -> Client:
    """Make a client that reads and writes as workers do.

    Args:
        **config: As for `Client.connect`.
    """
    return client_of_workers(await Client.connect(**config))


def client_of_workers(client: Client) -> Client:
    """Return a client on the same connection that reads and writes as workers do; its plugins stay behind.

    Raises:
        SettingsInvalid: The client has a converter that can't go together with it.
    """
    pages = PagesCodec()
    config = client.config(active_config=True)
    made = Client(
        config["service_client"],
        namespace=config["namespace"],
        data_converter=converter_for(config["data_converter"], pages),
        interceptors=config["interceptors"],
        default_workflow_query_reject_condition=config["default_workflow_query_reject_condition"],
        header_codec_behavior=config["header_codec_behavior"],
    )
    pages.client = made
    return made


def converter_for(given: DataConverter, pages: PagesCodec) -> DataConverter:
    """Return what converts as choreographies need it, with the codec and the storage of what a client has.

    What is sent holds no secrets of the process, and is encrypted where the environment has a `PAYLOAD_KEY`; what is
    large then goes where the client's own storage puts it, or else to the environment's `PAYLOAD_STORE`.

    Raises:
        SettingsInvalid: It has a converter of its own, or the key or the store can't be used.
    """
    for one, known in (
        (given.payload_converter_class, (DefaultPayloadConverter, PydanticPayloadConverter)),
        (given.failure_converter_class, (DefaultFailureConverter, FailureSealed)),
    ):
        if one not in (*known, data_converter.payload_converter_class, data_converter.failure_converter_class):
            raise SettingsInvalid(
                f"The client converts by {one.__module__}.{one.__qualname__}; choreographies need a converter of their "
                "own. Give the plugin a client without, and put what you need into a payload codec, which is kept."
            )
    others = [codec for codec in codecs_of(given) if not isinstance(codec, (HidingCodec, PagesCodec, EncryptionCodec))]
    try:
        encryption = EncryptionCodec.from_environment()
        storage = given.external_storage or storage_from_environment()
    except SettingInvalid as error:
        raise SettingsInvalid(str(error)) from None
    return dataclasses.replace(
        data_converter,
        payload_codec=Codecs(HidingCodec(), pages, *others, encryption),
        failure_converter_class=FailureSealed if encryption.encrypts else data_converter.failure_converter_class,
        external_storage=storage,
    )


async def store_in_words(client: Client) -> str:
    """Say in one line where payloads go that are large; nothing where there is no store of the environment's.

    Raises:
        SettingsInvalid: The store can't be used.
    """
    store = store_of(client.data_converter.external_storage)
    if store is None:
        return ""
    try:
        days_from_environment()
        await store.check()
    except SettingInvalid as error:
        raise SettingsInvalid(str(error)) from None
    return f"Payload store: {store.place}, for what has {STORED_FROM:,} to {STORED_LIMIT:,} bytes."


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


def _discover(modules: Sequence[str]) -> Offer:
    """Import modules, and tell of an error in one of them where it is instead of how it was come upon."""
    try:
        return discover(modules)
    except (ChoreographyError, AgentError):
        raise
    except Exception as error:
        # A syntax error's message names the line itself.
        place = "" if isinstance(error, SyntaxError) else f" (at {place_of(error)})"
        raise SettingsInvalid(f"A module can't be imported: {type(error).__name__}: {error}{place}") from error


def _queues(offer: Offer) -> dict[str, list[Activity]]:
    """Return the activities of every queue: one of its own for each prompt and task, one per class for its tools."""
    queues: dict[str, list[Activity]] = {}
    for agent in offer.agents.values():
        for method in methods_of(agent).values():
            queues.setdefault(_queue_of(agent, method), []).append(activity_for(agent, method))
    if offer.choreographies:
        queues[CHOREOGRAPHY_QUEUE] = []
    return queues


def _check_environment() -> None:
    try:
        limits_in(os.environ.get(SETTING, ""))
    except SettingInvalid as error:
        raise SettingsInvalid(str(error)) from None


def _per_minute(offer: Offer) -> dict[str, float]:
    """Return how many calls may begin in a minute, by the queues of the methods that say so."""
    return {
        _queue_of(agent, method): method.options.per_minute
        for agent in offer.agents.values()
        for method in methods_of(agent).values()
        if method.options.per_minute is not None
    }


def _ask_models(offer: Offer) -> list[str]:
    """Return the queues of agents that have prompts: their tasks and tools may ask these too."""
    return [
        queue
        for name, agent in offer.agents.items()
        if any(method.kind == "prompt" for method in methods_of(agent).values())
        for queue in (name, *(method_name(name, method) for method in methods_of(agent)))
    ]


def _keep_repositories(offer: Offer) -> set[str]:
    """Return the queues of agents that work on branches of a repository."""
    agents = [agent for agent in offer.agents.values() if repository_of(agent) is not None]
    return {_queue_of(agent, method) for agent in agents for method in methods_of(agent).values()}


def _called(choreographies: Sequence[Choreography[..., Any]]) -> dict[str, list[str]]:
    """Return the queues of all that choreographies may call, with the methods in each."""
    agents = {agent: None for one in choreographies for agent in one.roles.values() if not issubclass(agent, Person)}
    queues: dict[str, list[str]] = {}
    for agent in agents:
        for method in methods_of(agent).values():
            queues.setdefault(_queue_of(agent, method), []).append(method_name(agent.__name__, method.name))
    return queues


def _queue_of(agent: type[Agent], method: Method[..., Any]) -> str:
    return agent.__name__ if method.kind == "tool" else method_name(agent.__name__, method.name)


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
    for word in sorted(words, key=lambda word: len(word.rpartition("=")[0])):  # the closest name has the last word
        name, named, number = word.rpartition("=")
        if not number.isdecimal() or int(number) < 1 or (named and not name):
            raise SettingsInvalid(f"--concurrency {word}: give a number from 1, as in 4 or Coder=4.")
        for queue in _matching("--concurrency", name, queues) if name else queues:
            limits[queue] = int(number)
    return limits
