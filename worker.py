"""The one door: serve choreographies and agents on a Temporal server.

python worker.py                                  everything, on the server that TEMPORAL_ADDRESS names
python worker.py dev                              the same, with a dev server and its Web UI
python worker.py --serve Coder --concurrency 4    a part, for one of many machines
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from temporalio.client import Client
    from temporalio.runtime import Runtime
    from temporalio.worker import Worker

    from activities.measures.otel import Traces
    from workflows.serving.loading import Loading
    from workflows.serving.settings import Settings


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    made = argparse.ArgumentParser(
        prog="python worker.py",
        description="Serve choreographies and agents on a Temporal server.",
        epilog="The server is the one that Temporal's own settings name: TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE, "
        "TEMPORAL_PROFILE and so on. The model is the environment's MODEL, any litellm model string. PAYLOAD_KEY "
        "encrypts what is sent; PAYLOAD_STORE=file:///… or s3://… keeps what is too large for the server, files for at "
        "least PAYLOAD_STORE_DAYS after their last use. MODEL_LIMITS sets how much models are asked in a minute: "
        "openai/gpt-4o-mini=600rpm/100000tpm. WORKSPACES is where files of runs are; "
        "REPOSITORY is the git repository or bundle that theirs begin from.",
    )
    made.add_argument(
        "mode", nargs="?", choices=["dev"], help="start a dev server with its Web UI, and stop it at the end"
    )
    made.add_argument(
        "--serve",
        action="append",
        default=[],
        metavar="NAME",
        help="serve only this: 'choreography', an agent (Coder) or a method (Coder.implement_module); repeatable",
    )
    made.add_argument(
        "--concurrency",
        action="append",
        default=[],
        metavar="N|NAME=N",
        help="calls at a time in each served queue, or in those of one agent or method; repeatable (default 100)",
    )
    made.add_argument(
        "--module",
        action="append",
        default=[],
        metavar="MODULE",
        help="serve the agents and choreographies of this module too: my_team, or the path of its file; repeatable",
    )
    made.add_argument("--bare", action="store_true", help="serve only what --module names, not the project's own")
    made.add_argument(
        "--team",
        default=os.environ.get("CHOREOGRAPHY_TEAM", ""),
        metavar="NAME",
        help="serve queues of this team's own, beside other teams' on the server: start runs on the task queue "
        "NAME.choreography (default: CHOREOGRAPHY_TEAM, or none)",
    )
    made.add_argument(
        "--allow-unsandboxed",
        action="store_true",
        help="run code that models write also where there is no sandbox for it, with all the rights of the worker "
        "(or ALLOW_UNSANDBOXED=1; default: refuse to)",
    )
    made.add_argument(
        "--grace",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="how long calls in flight may go on after Ctrl-C or SIGTERM (default 30)",
    )
    made.add_argument(
        "--metrics",
        default=os.environ.get("METRICS", ""),
        metavar="HOST:PORT",
        help="serve metrics there in Prometheus' form, /metrics: Temporal's own and those of calls, models, tokens and "
        "costs (default: METRICS, or none)",
    )
    made.add_argument(
        "--traces",
        default="",
        metavar="URL",
        help="send a trace of each run to this collector, http://localhost:4318, by OTLP (default: "
        "OTEL_EXPORTER_OTLP_ENDPOINT, or none); all workers of a run should",
    )
    made.add_argument("--json-logs", action="store_true", help="write logs as JSON, one object a line")
    made.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    dev = made.add_argument_group("with dev")
    dev.add_argument(
        "--db",
        type=Path,
        default=Path(".temporal/dev.db"),
        help="the dev server's file (default %(default)s)",
    )
    dev.add_argument("--port", type=int, help="the dev server's port (default 7233, or a free one)")
    dev.add_argument("--ui-port", type=int, help="its Web UI's port (default 8233, or a free one)")
    dev.add_argument("--board-port", type=int, help="the port of the board, a page (default 8234, or a free one)")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM; return the exit code."""
    options = parser().parse_args(arguments)
    # Here, because they take longer than --help may.
    from activities.border.logs import set_up_logs
    from activities.contract.names import SEARCH_ATTRIBUTES
    from activities.errors import AgentError
    from activities.measures.otel import Traces, traces_wanted
    from activities.measures.temporal import runtime_with_metrics
    from console.board.beside import board_beside
    from console.dev_server import DevServer, DevServerError
    from workflows.errors import ChoreographyError
    from workflows.serving.loading import Loading
    from workflows.serving.settings import Settings

    set_up_logs(as_json=options.json_logs, level=options.log_level)
    try:
        settings = Settings.read(
            serve=options.serve,
            concurrency=options.concurrency,
            modules=options.module,
            bare=options.bare,
            grace=options.grace,
            team=options.team,
            allow_unsandboxed=options.allow_unsandboxed,
        )
        runtime = runtime_with_metrics(options.metrics) if options.metrics else None
        traces = Traces(options.traces) if traces_wanted(options.traces) else None
        loading = Loading(needed=settings.asks_models)
        if options.metrics:
            print(f"Metrics:             http://{options.metrics}/metrics", flush=True)
        if options.mode != "dev":
            return _run(serve(settings, loading, runtime=runtime, traces=traces))
        with DevServer.start(
            db_file=options.db, port=options.port, ui_port=options.ui_port, search_attributes=SEARCH_ATTRIBUTES
        ) as server:
            print(f"Temporal dev server: {server.address}, data in {server.db_file}")
            print(f"Temporal Web UI:     {server.ui_url}", flush=True)
            with board_beside(server, options.board_port) as board:
                print(f"Board:               {board}", flush=True)
                return _run(serve(settings, loading, server.address, runtime, traces))
    except (ChoreographyError, AgentError, DevServerError) as error:
        print(f"worker.py: {error}", file=sys.stderr)
        return 2


def _run(serving: Coroutine[Any, Any, int]) -> int:
    """Run it to its end; not as `asyncio.run`, which waits for calls that go on although they were cancelled."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(serving)
    finally:
        if not asyncio.all_tasks(loop):
            loop.close()


async def serve(
    settings: Settings,
    loading: Loading,
    address: str | None = None,
    runtime: Runtime | None = None,
    traces: Traces | None = None,
) -> int:
    """Connect, serve what the settings name, and drain when told to stop."""
    from activities.housekeeping.attributes import known_attributes
    from workflows.serving.client import connect, store_in_words
    from workflows.serving.workers import git_of, isolation_of, workers

    client = await connect(address, runtime)
    await asyncio.to_thread(loading.wait)
    serving = workers(client, settings, await known_attributes(client), traces)
    if where := await store_in_words(client):
        print(where, flush=True)
    if settings.queues:
        print(await asyncio.to_thread(isolation_of, settings), flush=True)
    if missing := await asyncio.to_thread(git_of, settings):
        print(missing, flush=True)
    stop = asyncio.Event()
    _drain_when_told(stop, asyncio.get_running_loop())
    try:
        return await run_until(stop, client, serving, settings.grace)
    finally:
        if traces is not None:
            await asyncio.to_thread(traces.close)


async def run_until(stop: asyncio.Event, client: Client, serving: Sequence[Worker], grace: float) -> int:
    """Run workers until they are to stop, or one of them fails; calls in flight may go on for some seconds."""
    from activities.contract.names import HEARING
    from workflows.serving.running import Running

    async with Running(serving, grace) as running:
        queues = ", ".join(worker.task_queue for worker in serving if not worker.task_queue.startswith(f"{HEARING}/"))
        print(f"Serving on {client.service_client.config.target_host}: {queues}", flush=True)
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *running.tasks], return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            print("Draining: no new calls; those in flight may end. Again to quit at once.", flush=True)
        stopping.cancel()
    for error in running.failures:
        print(f"worker.py: {error}", file=sys.stderr)
    return 1 if running.failures else 0


def _drain_when_told(stop: asyncio.Event, loop: asyncio.AbstractEventLoop) -> None:
    """Stop at the first signal, quit at the second.

    Not by the loop's own handlers: an agent's code that holds up the loop would hold them up as well.
    """

    def drain(*_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: os._exit(130))
        loop.call_soon_threadsafe(stop.set)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, drain)


if __name__ == "__main__":
    try:
        code = main()
    except KeyboardInterrupt:  # before there is anything to drain
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    # The SDK's threads end a plain exit in a segmentation fault now and then.
    os._exit(code)
