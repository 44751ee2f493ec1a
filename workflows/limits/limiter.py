"""The workflow that divides the limits of a model and a key: `limits/<model>/<digest>`.

It is begun by the first process that wants a lease, and ends by itself when nobody has had one for a while.
"""

from __future__ import annotations

from temporalio import workflow

from activities.contract.leases import Lease, Report
from activities.contract.names import LIMITER
from workflows.limits.pot import LEASE_S, Pot

ENDS_AFTER_S = LEASE_S + 10.0
"""Seconds after the last report: all leases have ended by then."""

MOST_REPORTS = 1_000
"""Reports after which it continues as new; the server takes 2,000 updates of a workflow, and suggests it at 800."""


@workflow.defn(name=LIMITER, sandboxed=False)
class Limiter:
    """Divides what a provider takes in a minute among the processes that ask it."""

    @workflow.init
    def __init__(self, carried: Pot | None = None) -> None:
        self._pot = carried or Pot()
        self._reported_at = workflow.time()
        self._reports = 0

    @workflow.run
    async def run(self, carried: Pot | None = None) -> str:
        """Give leases for as long as any process wants one."""
        while (left := self._reported_at + ENDS_AFTER_S - workflow.time()) > 0:
            try:
                await workflow.wait_condition(self._is_long, timeout=left)
            except TimeoutError:
                continue
            workflow.continue_as_new(self._pot)
        return "nobody has a lease any more"

    @workflow.update(description="Report what is wanted, and get a lease.")
    def lease(self, report: Report) -> Lease:
        """Give a process its share."""
        self._reports += 1
        self._reported_at = workflow.time()
        return self._pot.lease(report, workflow.time())

    @workflow.query(description="The limits, and who has how much of them.")
    def limits(self) -> Pot:
        """Return what there is, and who has it."""
        return self._pot

    def _is_long(self) -> bool:
        return self._reports >= MOST_REPORTS or workflow.info().is_continue_as_new_suggested()
