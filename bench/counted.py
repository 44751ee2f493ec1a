"""A worker of `bench.team`, or a board, that tells how often it has asked what of the server.

python -m bench.counted 127.0.0.1:9000
python -m bench.counted 127.0.0.1:9000 board
"""

from __future__ import annotations

import asyncio
import os
import sys

from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from activities.models.model import load
from console.board.serving import serve_board
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
    if sys.argv[2:] == ["board"]:
        code = serve_board("127.0.0.1", 0, [])
    else:
        load()
        code = asyncio.run(serve())
    sys.stdout.flush()
    os._exit(code)
