"""Tool calls, and prompts that are asked inside a call, as parts of it, by OpenTelemetry's conventions."""

from __future__ import annotations

from contextlib import AbstractContextManager

from activities.answering.toolbox import Toolbox
from activities.border.context import current_call
from activities.contract.names import method_name
from activities.contract.spans import Attribute
from activities.measures import spans
from activities.memory.transcript import Message


def tool_part(toolbox: Toolbox, call: Message) -> AbstractContextManager[None]:
    """Tell of a tool call that a model has made, for as long as a block lasts."""
    # A model may call a tool that there is not; names of spans are few.
    name = call["function"]["name"]
    known = name if name in toolbox.tools else "unknown"
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": known,
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": call["id"],
    }
    if spans.captures_content():
        attributes["gen_ai.tool.call.arguments"] = call["function"]["arguments"]
    return spans.part(f"execute_tool {known}", "tool", call["id"], **attributes)


def prompt_part(agent: str, method: str) -> AbstractContextManager[None]:
    """Tell of a prompt that is asked inside a call, for as long as a block lasts."""
    call = current_call()
    attributes: dict[str, Attribute] = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": agent,
        "choreography.method": method_name(agent, method),
    }
    return spans.part(f"invoke_agent {agent}", "inside", call.inside if call else "", **attributes)


def tool_result(result: str, *, done: bool) -> None:
    """Tell what came of the tool call that is told of.

    Args:
        result: What the model is told.
        done: Whether the tool did its work.
    """
    if not done:
        spans.note(**{"error.type": "ToolFailed"})
    if spans.captures_content():
        spans.note(**{"gen_ai.tool.call.result": result})
