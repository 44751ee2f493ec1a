"""Webhooks through a receiver that fails, is slow, and is away for a minute, while a worker is killed.

python -m tests.system.webhooks                                    20 runs of 5 questions, a minute: five minutes
python -m tests.system.webhooks --runs 2 --questions 2 --away 5    the same, smaller
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from temporalio.client import Client

from activities import Person, prompt
from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.housekeeping.webhooks import ANSWERS_WITHIN_S
from activities.values.converter import data_converter
from console.dev_server import HOST, DevServer
from tests.system.processes import Workers, eventually
from workflows import choreography

FAILS, SLOW, TOO_SLOW = 0.2, 0.2, 0.02
SLOW_S = 2.0


class Editor(Person):
    """Who decides."""

    @prompt
    async def decide(self, about: str) -> str:
        """What of {about}?"""


@choreography
async def decided(count: int, editor: Editor) -> int:
    """Ask one thing after the other."""
    for number in range(count):
        await editor.decide(f"thing {number}")
    return count


@dataclass
class Receiver:
    """Who is told: it notes what comes, and does not always answer as it should.

    Attributes:
        taken: Runs and ids of events, in the order in which they came.
        did: How often it did what.
    """

    chance: random.Random
    taken: list[tuple[str, str]] = field(default_factory=list)
    did: Counter[str] = field(default_factory=Counter)
    port: int = 0
    _server: ThreadingHTTPServer | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}/hook"

    def come(self) -> None:
        """Be there, at the same address as before."""
        outer = self

        class Exchange(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, seconds = outer.take(event)
                time.sleep(seconds)
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, self.port), Exchange)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def go_away(self) -> None:
        """Be away: connections are refused."""
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    def take(self, event: dict[str, Any]) -> tuple[int, float]:
        """Take an event, or not; return the answer, and after how many seconds it comes."""
        with self._lock:
            what = self.chance.random()
            if what < FAILS:
                self.did["failed"] += 1
                return self.chance.choice((500, 503, 429)), 0.0
            self.taken.append((event["run"], event["id"]))
            if what < FAILS + TOO_SLOW:
                self.did["answered too late"] += 1
                return 204, ANSWERS_WITHIN_S + 1
            if what < FAILS + TOO_SLOW + SLOW:
                self.did["slow"] += 1
                return 204, SLOW_S
            return 204, 0.0


async def answer(client: Client, run: str, count: int, pause: float) -> None:
    """Answer what a run asks."""
    handle = client.get_workflow_handle(run)
    for _ in range(count):
        while not (asked := await handle.query("questions")):
            await asyncio.sleep(0.1)
        await asyncio.sleep(pause)
        await handle.execute_update("answer", {"question": asked[0]["id"], "answer": "yes"})
    await handle.result()


async def tell(runs: int, questions: int, away: float, seed: int) -> bool:
    """Have runs tell what happens to them; return whether all was told as it should be."""
    receiver, began = Receiver(random.Random(seed)), time.monotonic()
    receiver.come()
    with tempfile.TemporaryDirectory() as folder, DevServer.start(ui=False) as server:
        started = Workers(server.address, Path(folder))
        options = ("--bare", "--module", "tests.system.webhooks")
        try:
            first = started.start(*options)
            await first.serves()
            client = await Client.connect(server.address, data_converter=data_converter)
            names = [f"told-{number}" for number in range(runs)]
            for name in names:
                inputs = [questions, {"webhook": receiver.url}]
                await client.start_workflow("decided", args=inputs, id=name, task_queue=CHOREOGRAPHY_QUEUE)
            answering = [
                asyncio.create_task(answer(client, name, questions, 1.0 + n % 3)) for n, name in enumerate(names)
            ]
            expected = runs * (questions + 1)
            await eventually(lambda: len(receiver.taken) >= expected / 4)
            receiver.go_away()
            back = time.monotonic() + away
            first.kill()
            await started.start(*options).serves()
            await asyncio.gather(*answering)  # no run waits for somebody to take what it tells
            await asyncio.sleep(max(back - time.monotonic(), 0))
            receiver.come()
            await eventually(lambda: len(set(receiver.taken)) >= expected, seconds=180 + 2 * away)
            deliveries = [client.get_workflow_handle(f"{name}/webhook") for name in names]
            await asyncio.gather(*(delivery.result() for delivery in deliveries))
        finally:
            started.end()
    return _told(receiver, names, expected, away, time.monotonic() - began)


def _told(receiver: Receiver, names: Sequence[str], expected: int, away: float, seconds: float) -> bool:
    once = list(dict.fromkeys(receiver.taken))
    order = {name: [int(id.rpartition("/")[2]) for run, id in once if run == name] for name in names}
    wrong = sum(numbers != sorted(numbers) for numbers in order.values())
    again = len(receiver.taken) - len(once)
    did = ", ".join(f"{number} {what}" for what, number in sorted(receiver.did.items()))
    print(
        f"{len(names)} runs, {expected} events, receiver away for {away:g} s and a worker killed ({did}): "
        f"{expected - len(once)} lost, {wrong} runs out of order, {again} came again with the same id, {seconds:.0f} s"
    )
    return len(once) == expected and not wrong and again <= receiver.did["answered too late"] + len(names)


def main() -> int:
    """Try it; return the exit code."""
    made = argparse.ArgumentParser(prog="python -m tests.system.webhooks", description=__doc__)
    made.add_argument("--runs", type=int, default=20)
    made.add_argument("--questions", type=int, default=5)
    made.add_argument("--away", type=float, default=60.0, help="seconds for which the receiver is away (default 60)")
    made.add_argument("--seed", type=int, default=1)
    options = made.parse_args()
    return 0 if asyncio.run(tell(options.runs, options.questions, options.away, options.seed)) else 1


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # The SDK's threads end a plain exit in a segmentation fault now and then.
    os._exit(code)
