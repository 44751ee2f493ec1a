"""Calls that wait for people: questions to a person, and calls whose tools need a yes before they go on."""

from __future__ import annotations

import asyncio
from typing import Any

from activities.contract.envelope import WantedApproval, suspended_in
from activities.declarations.method import Method
from activities.values.values import enveloped
from workflows.engine.happenings import Outcome
from workflows.engine.request import Request, Service
from workflows.engine.run import Run
from workflows.engine.sending import send
from workflows.people.question import Inquiry
from workflows.tree.scope import CallScope


async def ask(run: Run, method: Method[..., Any], inquiry: Inquiry) -> Outcome:
    """Ask a person, and return the answer as it would come back from a worker."""
    options = method.options
    answer = await run.people.ask(inquiry)
    if answer is None and not options.has_default:
        return Outcome(error=("Unanswered", f"no answer within {options.deadline:g} s."))
    value = options.default if answer is None else inquiry.answer.read(enveloped(answer))
    return Outcome(enveloped(method.result_values.write(value)))


async def send_until_done(run: Run, service: Service, request: Request, scope: CallScope) -> Outcome:
    """Have a worker do what is requested; each time that it is put aside, have people decide, and another go on."""

    def inquire(wanted: WantedApproval) -> Inquiry:
        return Inquiry.of_tool(wanted, service.name, step=request.step, instance=scope.instance)

    aside = run.people.aside(request.step)  # by an earlier run
    try:
        while True:
            resumption = await run.people.decide(aside, inquire) if aside else None
            outcome = await send(run.calls, service, request, scope, resumption)
            aside = run.people.put_aside(request.step, suspended_in(outcome.data))
            if aside is None:
                return outcome
            scope.put_aside()
    except (Exception, asyncio.CancelledError):  # a run that the collector closes can do nothing
        run.people.put_aside(request.step, None)
        raise
