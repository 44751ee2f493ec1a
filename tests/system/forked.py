"""Worker processes that are there at once: forked from one that has imported everything already."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Mapping
from datetime import timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from types import MappingProxyType
from typing import Any

HEARTBEAT_TIMEOUT_S = 1.0
"""Where a test kills hundreds of calls, it doesn't wait for the product's timeout each time."""

CACHED_RUNS = 1_000

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.system.warm", "tests.system.playing", "workflows.serving.workers"])


class ForkedWorker:
    """A worker that serves one module once it is told to, until it is killed."""

    def __init__(
        self,
        address: str,
        module: str,
        cached_runs: int = CACHED_RUNS,
        environment: Mapping[str, str] = MappingProxyType({}),
        heartbeat_timeout: float = HEARTBEAT_TIMEOUT_S,
    ) -> None:
        """Get it ready.

        Args:
            address: The server's.
            module: What it serves.
            cached_runs: How many runs it keeps in memory; with 0 each workflow task replays its run.
            environment: What its agents find in theirs, besides this process's.
            heartbeat_timeout: Seconds without a heartbeat after which its runs' calls are given away.
        """
        self._process: BaseProcess = _processes.Process(
            target=_serve,
            args=(
                address,
                module,
                cached_runs,
                {**os.environ, **environment},
                heartbeat_timeout,
                told := _processes.Event(),
            ),
            daemon=True,
        )
        self.cached_runs = cached_runs
        self._told = told
        self._process.start()

    def serve(self) -> None:
        """Begin to serve."""
        self._told.set()

    @property
    def pid(self) -> int:
        assert self._process.pid
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(
    address: str, module: str, cached_runs: int, environment: dict[str, str], heartbeat_timeout: float, told: Event
) -> None:
    os.environ.clear()  # what it was forked from has that of the test which needed the first worker
    os.environ.update(environment)
    asyncio.run(_serving(address, module, cached_runs, heartbeat_timeout, told))


async def _serving(address: str, module: str, cached_runs: int, heartbeat_timeout: float, told: Event) -> None:
    from temporalio.worker import Worker

    import workflows.program.call
    from workflows.serving import workers as serving
    from workflows.serving.client import open_client
    from workflows.serving.settings import Settings

    def quick(*args: Any, **options: Any) -> Worker:
        if "workflows" in options:
            options |= {
                "max_cached_workflows": cached_runs,
                "sticky_queue_schedule_to_start_timeout": timedelta(seconds=0.3),
            }
        return Worker(*args, **options)

    setattr(serving, "Worker", quick)  # noqa: B010  # a class is no variable to mypy
    setattr(workflows.program.call, "HEARTBEAT_TIMEOUT_S", heartbeat_timeout)  # noqa: B010
    client = await open_client(target_host=address)
    settings = Settings.read(modules=[module], bare=True, grace=0)
    workers = serving.workers(client, settings)
    await asyncio.to_thread(told.wait)
    await asyncio.gather(*(worker.run() for worker in workers))
