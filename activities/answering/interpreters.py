"""How a call is carried out: here, inside of another call, and for a run, side by side.

|                   | here: a notebook, a test | inside: by a call's code    | for a run: by a worker     |
|-------------------|--------------------------|-----------------------------|----------------------------|
| is remembered     | as long as the agent is  | no; read with the outer one | in its conversation        |
| a tool's approval | at the terminal          | never: it is refused        | on the run: the call waits |
| a crash leaves    | nothing                  | the outer call's checkpoint | the last heartbeat         |
| a task or a tool  | is just called           | is just called              | has its instance's state   |
| a person is asked | at the terminal          | never: it is refused        | by the run itself          |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from activities.answering.answer import TurnLoop
from activities.answering.approval import OnTheRun, ask_at_terminal
from activities.answering.checkpoint import Checkpoint
from activities.answering.plain import PlainWork
from activities.answering.record import Record, current_record
from activities.answering.traced import prompt_part
from activities.answering.work import Work
from activities.border.context import current_call
from activities.border.washing import name_of, words_of
from activities.contract.envelope import CallRequest
from activities.contract.names import method_name
from activities.declarations.agent import Agent, of_a_call
from activities.declarations.method import Method
from activities.declarations.person import Person
from activities.declarations.template import render
from activities.errors import NobodyToAsk
from activities.memory.port import InThisProcess, Memory, Nothing
from activities.workspace.desk import Desk


async def answer_in_process(agent: Agent, method: Method[..., Any], arguments: dict[str, Any]) -> Any:
    """Answer a prompt here, without a server.

    The agent remembers what was said for as long as it lives; a prompt that is asked from inside another one starts
    afresh, as its messages can't stand between a tool call and its result. It is recorded with that one's.
    """
    if isinstance(agent, Person):
        if (call := current_call()) is not None:
            person = type(agent).__name__
            raise NobodyToAsk(
                f"{call.method} ({call.instance}) asks {person}.{method.name}: a person is asked by the choreography, "
                f"whose calls can wait. Give it a role `{person.lower()}: {person}`, and hand the answer on."
            )
        return ask_at_terminal(render(method.docstring, arguments), method.answer.adapter)
    if (outer := current_record()) is not None:
        asking = _answer_inside(outer, agent, method, arguments)
        if outer.loop is asyncio.get_running_loop():
            return await asking
        # In a thread of synchronous code that runs a loop of its own: what is asked is recorded by the call's.
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asking, outer.loop))
    memory: Memory = InThisProcess(agent.transcript) if method.options.memory else Nothing()
    loop = TurnLoop(agent, method, arguments, Checkpoint(), memory)
    try:
        return await loop.run()
    except Exception as error:
        await loop.give_up(f"{name_of(error)}: {words_of(error)}")
        raise


async def _answer_inside(outer: Record, agent: Agent, method: Method[..., Any], arguments: dict[str, Any]) -> Any:
    whom = f"{vars(agent).get('name')} {vars(agent).get('model')}"
    asked = render(method.docstring, arguments)
    with (
        outer.inside(method_name(type(agent).__name__, method.name), asked, whom) as checkpoint,
        prompt_part(type(agent).__name__, method.name),
    ):
        return await TurnLoop(agent, method, arguments, checkpoint, Nothing(), outer.write).run()


def work_for_run(
    agent: type[Agent],
    method: Method[..., Any],
    request: CallRequest[dict[str, Any]],
    checkpoint: Checkpoint,
    memory: Memory,
    record: Callable[[], None],
    desk: Desk | None = None,
) -> Work:
    """Prepare what a worker has pulled.

    Args:
        agent: Whose method it is.
        method: What is done.
        request: What was asked for.
        checkpoint: Empty, or what an earlier attempt or another worker left.
        memory: The instance's conversation.
        record: Called whenever there is something in the checkpoint that must not be lost.
        desk: Where it is done, for a class that works on branches of a repository.
    """
    kind = TurnLoop if method.kind == "prompt" else PlainWork
    made = agent()  # for this call alone: what outlives it is not kept in it
    if request.model:
        made.model = request.model
    approvals = OnTheRun(request.paused)
    return kind(of_a_call(made), method, request.arguments, checkpoint, memory, record, approvals, desk)
