"""Calls that wait for people: questions to a person, and calls whose tools need a yes before they go on."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from activities.answering.changes import waiting_arguments
from activities.contract.envelope import PausedCall, WantedApproval, paused_call
from activities.declarations.method import Method
from activities.values.values import enveloped
from workflows.engine.happenings import Outcome
from workflows.engine.request import ENVELOPE, Request, Service
from workflows.engine.room import room
from workflows.engine.run import Run
from workflows.engine.sdk import STOPPED
from workflows.engine.sending import send
from workflows.people.changing import Changeable
from workflows.people.question import Question
from workflows.tree.scope import CallScope


async def ask(run: Run, method: Method[..., Any], question: Question, scope: CallScope) -> Outcome:
    """Ask a person, and return the answer as it would come back from a worker."""
    options = method.options
    with run.traces.asking(scope):
        given = await run.people.ask(question)
    if given is None and not options.has_default:
        return Outcome(error=("Unanswered", f"no answer within {options.deadline:g} s."))
    value = options.default if given is None else question.read(given[0])
    return Outcome(enveloped(method.result_values.write(value)))


async def send_until_done(
    run: Run, service: Service, request: Request, scope: CallScope, tools: Mapping[str, Method[..., Any]]
) -> Outcome:
    """Have a worker do what is requested; each time that it pauses, have people decide, and another worker go on.

    Args:
        run: Whose call it is.
        service: What is to be done.
        request: On what.
        scope: The call in the tree.
        tools: What the agent's model may call.
    """

    def question_about(wanted: WantedApproval) -> Question:
        call = paused[request.step]
        made = functools.partial(waiting_arguments, call.checkpoint, wanted.tool_call)
        changeable = Changeable(tools.get(wanted.tool), made, _room_for_an_answer(request, call))
        return Question.of_tool(wanted, service.name, changeable, step=request.step, instance=scope.instance)

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


def _room_for_an_answer(request: Request, call: PausedCall) -> int:
    """Return the bytes that each of the answers may have for which a call waits: it is sent again with all of them."""
    taken = ENVELOPE + len(request.arguments.encode()) + len(call.model_dump_json(exclude={"decided"}).encode())
    return (room().bytes - taken) // max(1, len(call.wants))
