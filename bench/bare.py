"""The same work in the bare SDK: what the engine itself costs, in workflows and activities as its samples write them.

    python -m bench.bare        serve it, on the server that TEMPORAL_ADDRESS names

Activities have their own task queues, as the harness's have; only the eager ones share the workflow's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

QUEUE = "bare"


@activity.defn
async def nothing(number: int) -> int:
    return number


@activity.defn
async def nothing_eagerly(number: int) -> int:
    return number


@activity.defn
async def take(number: int) -> int:
    await asyncio.sleep(float(os.environ["SECONDS"]))
    return number


@activity.defn
async def say(number: int) -> str:
    import litellm  # here, because the sandbox of the workflows imports this module too

    answer = await litellm.acompletion(
        model="openai/mock",
        messages=[
            {"role": "system", "content": "You do as you are told."},
            {"role": "user", "content": f"Say that {number} is done."},
        ],
        mock_response="Done.",
        timeout=600.0,
        max_retries=0,
        num_retries=0,
    )
    return str(answer.choices[0].message.content)


OWN_QUEUES: Sequence[Callable[[int], Awaitable[Any]]] = (nothing, take, say)


@workflow.defn(name="bare_at_once")
class AtOnce:
    @workflow.run
    async def run(self, name: str, count: int, window: int) -> list[Any]:
        places = asyncio.Semaphore(window)

        async def one(number: int) -> Any:
            async with places:
                return await call(name, number)

        return await asyncio.gather(*map(one, range(count)))


@workflow.defn(name="bare_in_turn")
class InTurn:
    @workflow.run
    async def run(self, name: str, count: int, window: int) -> list[Any]:
        return [await call(name, number) for number in range(count)]


async def call(name: str, number: int) -> Any:
    return await workflow.execute_activity(
        name,
        number,
        task_queue=QUEUE if name == nothing_eagerly.__name__ else f"{QUEUE}.{name}",
        start_to_close_timeout=timedelta(seconds=60),
    )


async def serve() -> None:
    """Serve until killed."""
    client = await Client.connect(os.environ["TEMPORAL_ADDRESS"], data_converter=pydantic_data_converter)
    places = int(os.environ.get("CONCURRENCY", "100"))
    made = [
        Worker(client, task_queue=f"{QUEUE}.{work.__name__}", activities=[work], max_concurrent_activities=places)
        for work in OWN_QUEUES
    ]
    made.append(Worker(client, task_queue=QUEUE, workflows=[AtOnce, InTurn], activities=[nothing_eagerly]))
    running = [asyncio.create_task(worker.run()) for worker in made]
    print("Serving on", ", ".join(worker.task_queue for worker in made), flush=True)
    await asyncio.gather(*running)


if __name__ == "__main__":
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    asyncio.run(serve())
