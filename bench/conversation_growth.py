"""How much history a conversation costs: bytes and events per call, for 1 to 1,000 calls of one instance.

    python -m bench.conversation_growth [CALLS ...]

Every call commits about as much as a small real one: a request, a tool call with its result, and an answer. Prints a
line per length, and fails if bytes per call at the greatest length differ by more than 10 % from those at ten.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys

from temporalio.client import Client
from temporalio.worker import Worker

from activities.contract.conversations import Owner
from activities.contract.envelope import Position
from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.memory.durable import Durable
from activities.memory.transcript import Entry
from activities.values.converter import data_converter
from console.dev_server import DevServer
from workflows.memory.conversation import Conversation

WORDS = [
    "the",
    "wrap",
    "module",
    "slugify",
    "returns",
    "text",
    "width",
    "tests",
    "pass",
    "fail",
    "edge",
    "case",
    "review",
    "feedback",
    "path",
    "line",
]


def a_call(number: int) -> list[Entry]:
    """Return what one call adds: some 800 bytes, never the same twice."""
    chance = random.Random(number)

    def words(count: int) -> str:
        return " ".join(f"{chance.choice(WORDS)}{chance.randrange(100)}" for _ in range(count))

    call = {
        "id": f"c{number}",
        "type": "function",
        "function": {"name": "read_file", "arguments": f'{{"path": "{number}.py"}}'},
    }
    return [
        {"role": "user", "content": words(20)},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": words(40)},
        {"role": "assistant", "content": words(20)},
    ]


async def measure(client: Client, calls: int) -> tuple[float, float, int]:
    """Make calls of one instance; return bytes and events per call and the number of the conversation's runs."""
    conversation = f"growth-{calls}/coder-1"
    owner, position = Owner(workflow_id="growth", run_id="run"), Position()
    for number in range(calls):
        memory = Durable(client, conversation, owner, str(number), position=position)
        await memory.recall()
        await memory.commit(4 * number, a_call(number), 0, None)
        position = memory.position or position
    size = events = runs = 0
    run_id: str | None = None
    while True:
        handle = client.get_workflow_handle(conversation, run_id=run_id)
        described = await handle.describe()
        size += described.raw_description.workflow_execution_info.history_size_bytes
        events += described.history_length
        runs += 1
        run_id = (await handle.query("transcript", 10**9))["earlier_run"]
        if run_id is None:
            return size / calls, events / calls, runs


async def main(lengths: list[int]) -> int:
    """Measure each length on a stock server; return the exit code."""
    with DevServer.start(ui=False, tuned=False) as server:
        client = await Client.connect(server.address, data_converter=data_converter)
        async with Worker(client, task_queue=CHOREOGRAPHY_QUEUE, workflows=[Conversation]):
            sizes = {}
            print(f"{'calls':>6} {'bytes/call':>11} {'events/call':>12} {'runs':>5}")
            for calls in lengths:
                sizes[calls], events, runs = await measure(client, calls)
                print(f"{calls:>6} {sizes[calls]:>11,.0f} {events:>12.1f} {runs:>5}", flush=True)
    return int(10 in sizes and abs(sizes[max(sizes)] / sizes[10] - 1) > 0.1)


if __name__ == "__main__":
    code = asyncio.run(main([int(word) for word in sys.argv[1:]] or [1, 10, 100, 1000]))
    sys.stdout.flush()
    os._exit(code)
