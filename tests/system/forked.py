"""Worker processes that are there at once: forked from one that has imported everything already."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Mapping
from datetime import timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Any

HEARTBEAT_TIMEOUT_S = 1.0
"""A test doesn't wait for so long each time that it has killed a call."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.system.warm", "tests.system.playing", "workflows.serving.workers"])


class ForkedWorker:
    """A worker that serves one module once it is told to, until it is killed."""

    def __init__(self, address: str, module: str, cached_runs: int, environment: Mapping[str, str]) -> None:
        """Get it ready.

        Args:
            address: The server's.
            module: What it serves.
            cached_runs: How many runs it keeps in memory; with 0 each workflow task replays its run.
            environment: What its agents find in theirs.
        """
        self._process: BaseProcess = _processes.Process(
            target=_serve,
            args=(address, module, cached_runs, dict(environment), told := _processes.Event()),
            daemon=True,
        )
        self.cached_runs = cached_runs
        self._told = told
        self._process.start()

    def serve(self) -> None:
        """Begin to serve."""
        self._told.set()

    @property
    def is_running(self) -> bool:
        return self._process.is_alive()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(address: str, module: str, cached_runs: int, environment: dict[str, str], told: Event) -> None:
    os.environ.update(environment)
    asyncio.run(_serving(address, module, cached_runs, told))


async def _serving(address: str, module: str, cached_runs: int, told: Event) -> None:
    from temporalio.worker import Worker

    import workflows.program.call
    from workflows.serving import workers as serving

    def quick(*args: Any, **options: Any) -> Worker:
        if "workflows" in options:
            options |= {
                "max_cached_workflows": cached_runs,
                "sticky_queue_schedule_to_start_timeout": timedelta(seconds=0.3),
            }
        return Worker(*args, **options)

    setattr(serving, "Worker", quick)  # noqa: B010  # a class is no variable to mypy
    setattr(workflows.program.call, "HEARTBEAT_TIMEOUT_S", HEARTBEAT_TIMEOUT_S)  # noqa: B010
    client = await serving.open_client(target_host=address)
    settings = serving.Settings.read(modules=[module], bare=True, grace=0)
    workers = serving.workers(client, settings)
    await asyncio.to_thread(told.wait)
    await asyncio.gather(*(worker.run() for worker in workers))
