"""Choreographies beside a team's own workflows, in its own worker, by Temporal's plugin convention.

client = await Client.connect("localhost:7233", plugins=[ChoreographyPlugin(modules=["my_team"])])
async with Worker(client, task_queue="orders", workflows=[Order], activities=[ship]):
    await client.execute_workflow("digest", ["a report"], id="march", task_queue="choreography")
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from temporalio.client import Client, ClientConfig
from temporalio.plugin import SimplePlugin
from temporalio.service import ServiceClient
from temporalio.worker import ReplayerConfig, Worker

from activities.contract.spans import Tell
from activities.housekeeping.attributes import known_attributes
from activities.housekeeping.pages import PagesCodec
from workflows.serving.client import client_of_workers, converter_for, store_in_words
from workflows.serving.loading import Loading
from workflows.serving.running import Running
from workflows.serving.sdk import end_before_it_begins
from workflows.serving.settings import Settings
from workflows.serving.workers import git_of, isolation_of, replayed, workers

logger = logging.getLogger(__name__)


class ChoreographyPlugin(SimplePlugin):
    """Serve choreographies and agents for as long as a worker runs.

    A worker polls one task queue, and each agent method has one of its own. So the plugin starts further workers
    beside yours, the same as `worker.py` does: one for runs, on the queue `choreography`, and one for each queue of
    methods. They begin before yours polls and end with it, after it has drained. If one of them fails, yours ends with
    its error. Several workers of one client share them.

    Nothing of your worker changes: the sandbox, the interceptors, the failure types and the build id that runs need are
    those of the workers that serve them. They have the interceptors and the payload codec of your client.

    Give it to the client, whose workers have it then; the client writes and reads as choreographies do, pydantic models
    included. A worker may have it instead. A `Replayer` that has it replays runs of its choreographies; give your own
    workflows a replayer of their own.
    """

    def __init__(
        self,
        *,
        modules: Sequence[str],
        serve: Sequence[str] = (),
        concurrency: Sequence[str] = (),
        team: str = "",
        grace: float = 30.0,
        allow_unsandboxed: bool = False,
        traces: Tell | None = None,
    ) -> None:
        """Import modules, and find what they offer.

        Args:
            modules: Names as in an import statement, or paths: `my_team`.
            serve: Only this: `choreography`, an agent (`Coder`) or a method (`Coder.implement_module`); all if empty.
            concurrency: Calls at a time in each queue (`4`) or in those of an agent or method (`Coder=4`).
            team: Serve queues of this team's own: runs are started on the task queue `<team>.choreography`.
            grace: Seconds that calls in flight may go on when the worker stops.
            allow_unsandboxed: Whether code that models write may run in this process's name where there is no sandbox
                for it, with all its rights; by whatever runs in this process, from then on.
            traces: Who is told of the spans of runs and calls: `activities.measures.otel.Traces("http://localhost:4318")`.

        Raises:
            ChoreographyError: A module can't be served, or a setting can't be used; says which and why.
        """
        super().__init__("choreography.ChoreographyPlugin")
        self._settings = Settings.read(
            modules=modules,
            serve=serve,
            concurrency=concurrency,
            team=team,
            grace=grace,
            bare=True,
            allow_unsandboxed=allow_unsandboxed,
        )
        self._traces = traces
        self._beside: dict[ServiceClient, _Beside] = {}

    def configure_client(self, config: ClientConfig) -> ClientConfig:
        """Have a client convert as choreographies need it."""
        return {**config, "data_converter": converter_for(config["data_converter"], PagesCodec())}

    def configure_replayer(self, config: ReplayerConfig) -> ReplayerConfig:
        """Have a replayer replay runs."""
        config.update(replayed(self._settings.choreographies))
        config["data_converter"] = converter_for(config["data_converter"], PagesCodec())
        return config

    async def run_worker(self, worker: Worker, next: Callable[[Worker], Awaitable[None]]) -> None:
        """Run the further workers beside a worker."""
        beside = self._beside.setdefault(worker.client.service_client, _Beside(self._settings, self._traces))
        try:
            running = await beside.enter(worker.client)
        except BaseException:
            await end_before_it_begins(worker, next)
            raise
        watching = asyncio.create_task(_end_with(running, worker))
        try:
            await next(worker)
        finally:
            watching.cancel()
            await beside.leave()
        if running.failures:
            raise running.failures[0]


class _Beside:
    """The further workers of a client: they run while any worker of its user does."""

    def __init__(self, settings: Settings, traces: Tell | None) -> None:
        self._settings = settings
        self._traces = traces
        self._users = 0
        self._running: Running | None = None
        self._turn = asyncio.Lock()

    async def enter(self, client: Client) -> Running:
        """Count another worker; start these if it is the first."""
        async with self._turn:
            if self._running is None:
                self._running = await self._start(client_of_workers(client))
            self._users += 1
            return self._running

    async def leave(self) -> None:
        """Count one worker less; end these if it was the last."""
        async with self._turn:
            self._users -= 1
            if self._users == 0 and self._running is not None:
                running, self._running = self._running, None
                await running.__aexit__()

    async def _start(self, client: Client) -> Running:
        await asyncio.to_thread(Loading(needed=self._settings.asks_models).wait)
        logger.info("%s", await asyncio.to_thread(isolation_of, self._settings))
        if missing := await asyncio.to_thread(git_of, self._settings):
            logger.warning("%s", missing)
        if where := await store_in_words(client):
            logger.info("%s", where)
        made = workers(client, self._settings, await known_attributes(client), self._traces)
        return await Running(made, self._settings.grace).__aenter__()


async def _end_with(running: Running, worker: Worker) -> None:
    await asyncio.wait(running.tasks, return_when=asyncio.FIRST_COMPLETED)
    await worker.shutdown()
