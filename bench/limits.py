"""Many processes ask one provider with one key, which takes 600 requests and 100,000 tokens a minute and refuses more.

Two runs have more to ask than that: one with three times as many instances as the other, which begins later. Beside it
stands the same without limits that are shared, so that each process finds out by itself.
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import NamedTuple

from bench.figures import Figure
from bench.site import Ran, Site, site
from bench.team import ask_at_once
from testing.quota import Quota
from tests.provider import Provider, Reply, Request, Slow, Text

PROCESSES = 20
MINUTES = 4.0
REQUESTS, TOKENS = 600, 100_000
ANSWERED_IN_S = (0.4, 1.6)
PROMPT, COMPLETION = 95, (20, 110)
"""Tokens of a prompt, and of the shortest and the longest answer: on average 160, so that both limits are near."""

MANY, FEW = 60, 20
"""Instances of the two runs."""

LATER_S = 10.0


@dataclass
class Seen:
    """What a provider has seen of two runs."""

    quota: Quota
    provider: Provider
    both: tuple[float, float]
    """When both of them had something to ask."""
    lost: int
    leases: int

    @property
    def refused(self) -> float:
        return len(self.quota.refused) / max(len(self.quota.taken) + len(self.quota.refused), 1)

    def used(self) -> tuple[float, float]:
        """Return the part of the requests and of the tokens that was used while there was anything to ask."""
        first, last = self.quota.taken[0], self.both[1]
        minutes = (last - first) / 60
        requests = sum(at <= last for at in self.quota.taken) / minutes / REQUESTS
        return requests, sum(tokens for at, tokens in self.quota.used if at <= last) / minutes / TOKENS

    def share_of(self, who: str) -> float:
        begin, end = self.both
        begin += 15.0  # until the leases have followed
        asked = [request for request in self.provider.requests if begin <= request.at <= end]
        return sum(f"This is {who}," in request.last_user for request in asked) / max(len(asked), 1)


async def measure(scale: float, processes: int = PROCESSES) -> list[Figure]:
    """Measure with limits that the provider tells, and without any."""
    minutes = max(MINUTES * scale, 0.75)
    figures = []
    for shared in (True, False):
        seen = await _ask(minutes if shared else min(minutes, 3.0), processes, shared=shared)
        figures += _figures(seen, f"{processes} processes, {'shared limits' if shared else 'each by itself'}", shared)
    return figures


def _figures(seen: Seen, what: str, shared: bool) -> list[Figure]:
    requests, tokens = seen.used()
    low = 0.85 if shared else None
    figures = [
        Figure(f"{what}: requests that were refused", seen.refused, "ratio", at_most=0.01 if shared else None),
        Figure(f"{what}: quota that was used", max(requests, tokens), "ratio", at_least=low),
        Figure(f"{what}:   of its requests", requests, "ratio"),
        Figure(f"{what}:   of its tokens", tokens, "ratio"),
        Figure(f"{what}: share of the run with {MANY} instances", seen.share_of("many"), "ratio"),
        Figure(f"{what}: share of the run with {FEW}", seen.share_of("few"), "ratio", at_least=0.4 if shared else None),
        Figure(f"{what}: answers that were lost", seen.lost, "answers", at_most=0),
    ]
    seconds = seen.both[1] - seen.quota.taken[0]
    return [*figures, Figure(f"{what}: reports to the limiter", seen.leases / seconds, "a second")]


async def _ask(minutes: float, processes: int, *, shared: bool) -> Seen:
    quota = Quota(REQUESTS, TOKENS)
    each = round(0.9 * minutes * min(REQUESTS, TOKENS / (PROMPT + sum(COMPLETION) / 2)) / 2)
    with Provider(_answer, quota=quota) as provider:
        async with site(tuned=True) as here:
            await here.worker("--serve=choreography", MODEL_LIMITS="")
            for _ in range(processes):
                await here.worker(
                    "--serve=Asker",
                    "--concurrency=100",
                    LOOPBACK=provider.url,
                    OPENAI_API_KEY="any",
                    MODEL_LIMITS="" if shared else "off",
                )
            many, few = await asyncio.gather(
                _run(here, "many", round(each + LATER_S * REQUESTS / 60), MANY, 0.0),
                _run(here, "few", each, FEW, LATER_S),
            )
            both = few.began, min(many.ended, few.ended)
            return Seen(quota, provider, both, many.lost + few.lost, await _reports(here))


class Asked(NamedTuple):
    """A run that has ended: when, and how many of its answers are not there."""

    began: float
    ended: float
    lost: int


async def _run(here: Site, who: str, count: int, instances: int, later: float) -> Asked:
    await asyncio.sleep(later)
    began = time.monotonic()
    ran: Ran = await here.run(ask_at_once, who, count, instances={"asker": instances})
    return Asked(began, time.monotonic(), count - ran.result.count("Done."))


async def _reports(here: Site) -> int:
    """Return how many reports the limiter has had, in all of its runs that continued as new."""
    count = 0
    async for found in here.client.list_workflows("WorkflowType = 'limiter' AND ExecutionStatus != 'ContinuedAsNew'"):
        run_id: str | None = found.run_id
        while run_id:
            history = await here.client.get_workflow_handle(found.id, run_id=run_id).fetch_history()
            count += sum(e.HasField("workflow_execution_update_accepted_event_attributes") for e in history.events)
            run_id = history.events[0].workflow_execution_started_event_attributes.continued_execution_run_id
    return count


def _answer(_: Request) -> Reply:
    answer = Text("Done.", prompt_tokens=PROMPT, completion_tokens=random.randint(*COMPLETION))
    return Slow(random.uniform(*ANSWERED_IN_S), answer)
