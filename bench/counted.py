"""A worker of `bench.team` that tells how often it has asked what of the server.

python -m bench.counted 127.0.0.1:9000
"""

from __future__ import annotations

import asyncio
import os
import sys

from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from activities.models.model import load
from worker import run_until
from workflows.serving.client import connect
from workflows.serving.settings import Settings
from workflows.serving.workers import workers


async def serve() -> int:
    """Serve until killed."""
    client = await connect()
    settings = Settings.read(modules=["bench.team"], bare=True)
    return await run_until(asyncio.Event(), client, workers(client, settings), settings.grace)


if __name__ == "__main__":
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=sys.argv[1]))))
    load()
    code = asyncio.run(serve())
    sys.stdout.flush()
    os._exit(code)
