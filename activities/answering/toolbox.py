"""An agent's tools as its model sees and calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json

from activities.answering.changes import arguments_of
from activities.border.context import calling_tool
from activities.border.user_code import is_closed_by, raised_by
from activities.border.washing import name_of, washed_tree, washed_within, words_of
from activities.contract.envelope import WantedApproval
from activities.contract.text import digest_of, explain
from activities.declarations.agent import Agent, tools_of
from activities.declarations.method import Method
from activities.declarations.template import as_text, in_short
from activities.errors import (
    DeclarationError,
    ModelUnavailable,
    NobodyToAsk,
    PatienceExhausted,
    ScriptExhausted,
    SettingInvalid,
    says_stop,
)
from activities.memory.transcript import Message, shortened
from activities.models.patience import without_waiting
from activities.values.schema import Schema, description_of

RESULT_LIMIT = 20_000
"""Characters of one tool result that a model is shown; of a longer one head and tail, with how much is missing."""

_anything: TypeAdapter[Any] = TypeAdapter(Any)

_NOT_FOR_THE_MODEL = (
    ModelUnavailable,
    PatienceExhausted,
    ScriptExhausted,
    SettingInvalid,
    DeclarationError,
    NobodyToAsk,
)
"""What a prompt may raise that runs as a tool, and that the model which called it can do nothing about."""


class Toolbox:
    """The tools of one agent."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.tools, self.schemas = _offered_by(type(agent))

    def wanting_approval(self, calls: Iterable[Message]) -> list[WantedApproval]:
        """Return those of the calls that a person has to agree to before they are made."""
        wanted = []
        for call in calls:
            with suppress(_CannotBeMade):
                tool, _ = self._prepared(call)
                if tool.options.approve:
                    wanted.append(_wanted(call))
        return wanted

    async def use(self, call: Message, turn: int, number: int) -> tuple[str, bool]:
        """Run a tool that the model called; whatever goes wrong is told to the model.

        Args:
            call: The tool call, as the model made it.
            turn: The turn it belongs to, from 1.
            number: Its place in the turn, from 0.

        Returns:
            The result or error in words, and whether the tool did its work.
        """
        name = call["function"]["name"]
        try:
            tool, arguments = self._prepared(call)
        except _CannotBeMade as error:
            return f"Error: {error}", False
        limit, task = asyncio.timeout(tool.options.timeout), asyncio.current_task()
        try:
            async with limit:
                with without_waiting(limit), calling_tool(turn, number):
                    value = await _invoke(self.agent, name, arguments)
            return washed_within(_in_words(value), RESULT_LIMIT, cut=shortened), True
        except _NOT_FOR_THE_MODEL:
            raise
        except BaseException as error:  # a SystemExit would end the whole worker
            if is_closed_by(error, task):
                raise
            if limit.expired():
                return f"Error: {name} took longer than {tool.options.timeout:g} seconds and was given up.", False
            if says_stop(error):
                raise
            raised = raised_by(error)
            return f"Error: {name} failed: {name_of(raised)}: {words_of(raised, RESULT_LIMIT)}", False

    def _prepared(self, call: Message) -> tuple[Method[..., Any], dict[str, Any]]:
        name = call["function"]["name"]
        tool = self.tools.get(name)
        if tool is None:
            raise _CannotBeMade(f"there is no tool '{name}'. The tools are: {', '.join(self.tools) or 'none'}.")
        try:
            return tool, tool.arguments.validate_json(arguments_of(call))
        except ValidationError as error:
            raise _CannotBeMade(f"the arguments of {name} do not fit: {explain(error)}.") from None
        except (Exception, SystemExit) as error:  # a validator of the user's that fails
            raise _CannotBeMade(f"the arguments of {name} do not fit: {name_of(error)}: {words_of(error)}.") from None


class _CannotBeMade(Exception):
    """A tool call that is none; says so to the model."""


def _in_words(value: Any) -> str:
    if value is None:
        return "done"
    try:
        return as_text(value)
    except PydanticSerializationError as error:
        if "surrogates" not in str(error):
            raise
        return as_text(washed_tree(_anything.dump_python(value, fallback=str)))


def _wanted(call: Message) -> WantedApproval:
    arguments = arguments_of(call)
    given = from_json(arguments)
    shown = in_short(given)
    return WantedApproval(
        tool_call=call["id"],
        tool=call["function"]["name"],
        arguments=shown,
        in_short=[name for name in given if shown[name] is not given[name]],
        digest=digest_of(arguments),
    )


_Offered = tuple[Mapping[str, Method[..., Any]], Sequence[Schema]]

_offered: WeakKeyDictionary[type, _Offered] = WeakKeyDictionary()


def _offered_by(agent: type) -> _Offered:
    """Find and describe the tools of a class once, as that takes milliseconds; nobody may change what is returned."""
    if agent not in _offered:
        tools = tools_of(agent)
        _offered[agent] = tools, tuple(tool_schema(name, tool) for name, tool in tools.items())
    return _offered[agent]


def tool_schema(name: str, tool: Method[..., Any]) -> Schema:
    """Describe a tool as a model is told of it."""
    parameters = tool.arguments.json_schema()
    parameters.pop("title", None)
    function = {"name": name, "description": description_of(tool.docstring), "parameters": parameters}
    return {"type": "function", "function": function}


async def _invoke(agent: Agent, name: str, arguments: dict[str, Any]) -> Any:
    """Run an agent's method here; one that is overridden further down the class runs as overridden."""
    return await getattr(agent, name)(**arguments)
