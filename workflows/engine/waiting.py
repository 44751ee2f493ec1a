"""Calls that wait for people: questions to a person, and calls whose tools need a yes before they go on."""

from __future__ import annotations

from typing import Any

from activities.contract.envelope import WantedApproval, paused_call
from activities.declarations.method import Method
from activities.values.values import enveloped
from workflows.engine.happenings import Outcome
from workflows.engine.request import Request, Service
from workflows.engine.run import Run
from workflows.engine.sdk import STOPPED
from workflows.engine.sending import send
from workflows.people.question import Question
from workflows.tree.scope import CallScope


async def ask(run: Run, method: Method[..., Any], question: Question, scope: CallScope) -> Outcome:
    """Ask a person, and return the answer as it would come back from a worker."""
    options = method.options
    with run.traces.asking(scope):
        answer = await run.people.ask(question)
    if answer is None and not options.has_default:
        return Outcome(error=("Unanswered", f"no answer within {options.deadline:g} s."))
    value = options.default if answer is None else question.read(answer)
    return Outcome(enveloped(method.result_values.write(value)))


async def send_until_done(run: Run, service: Service, request: Request, scope: CallScope) -> Outcome:
    """Have a worker do what is requested; each time that it pauses, have people decide, and another worker go on."""

    def question_about(wanted: WantedApproval) -> Question:
        return Question.of_tool(wanted, service.name, step=request.step, instance=scope.instance)

    paused = run.people.paused
    try:
        async with run.calls.alone(service.access):
            while True:
                call = paused.get(request.step)  # at first by an earlier run
                if call is not None:
                    await run.people.decide(call, question_about)
                outcome = await send(run.calls, service, request, scope, call)
                again = paused_call(outcome.data)
                if again is None:
                    paused.pop(request.step, None)
                    return outcome
                paused[request.step] = again
                scope.pause()
    except STOPPED:
        paused.pop(request.step, None)
        raise
