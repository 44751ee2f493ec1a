"""The turn loop: ask the model, run the tools that it calls, check its answer, send it back if it will not do.

The loop's whole state is its `Progress`, so that another process can go on from any point of it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from activities import model, strategy
from activities.agent import Agent, system_prompt_of, tools_of
from activities.call import calling_tool, current_call
from activities.contract import Usage, clip, explain
from activities.errors import (
    AnswerInvalid,
    DeclarationError,
    ModelUnavailable,
    ScriptExhausted,
    SettingInvalid,
    TurnLimit,
)
from activities.method import Method
from activities.schema import ANSWER_TOOL, Schema, description_of
from activities.template import as_text, render

Message = dict[str, Any]

TOOL_RESULT_LIMIT = 50_000
"""Characters of one tool result that the model is shown."""


class Progress(BaseModel):
    """How far a call has come. It travels as heartbeat details, and the next attempt starts from it."""

    messages: list[Message] = []
    """What was said since the user prompt."""
    tools_done: list[str] = []
    usage: Usage = Usage()
    rejections: int = 0
    """How many answers were sent back."""
    failures: int = 0
    """How many attempts ended in an error; a worker's death is none."""


_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


@contextmanager
def accounting_to(progress: Progress) -> Iterator[None]:
    """Count what prompts use that are asked inside, by a task or by a tool, as used by this call."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


async def answer_in_process(agent: Agent, method: Method[..., Any], arguments: dict[str, Any]) -> Any:
    """Answer a prompt here, without a server.

    The agent remembers what was said for as long as it lives; a prompt that is asked from inside another one starts
    afresh, as its messages can't stand between a tool call and its result.
    """
    outer, progress = _progress.get(), Progress()
    history = [] if outer is not None else agent.conversation
    loop = TurnLoop(agent, method, arguments, progress, history=list(history))
    try:
        value = await loop.run()
    finally:
        if outer is not None:
            outer.usage += progress.usage
    history.extend(loop.said())
    return value


@dataclass(frozen=True)
class Accepted:
    """An answer that is of its type."""

    value: Any


class TurnLoop:
    """One prompt being answered by one agent."""

    def __init__(
        self,
        agent: Agent,
        method: Method[..., Any],
        arguments: dict[str, Any],
        progress: Progress,
        *,
        history: Sequence[Message] = (),
        record: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare to answer, or to go on answering.

        Args:
            agent: Who answers.
            method: The prompt.
            arguments: Its arguments by name, as their types.
            progress: Empty, or what an earlier attempt left.
            history: What was said in earlier calls.
            record: Called whenever there is progress that must not be lost.
        """
        self.agent = agent
        self.method = method
        self.progress = progress
        self.history = history
        self.record = record
        self.request: Message = {"role": "user", "content": render(method.docstring, arguments)}
        self.tools = tools_of(type(agent))
        self.tool_schemas = [tool_schema(name, tool) for name, tool in self.tools.items()]
        self.model = vars(agent).get("model") or method.options.model or agent.model or model.default_model()

    async def run(self) -> Any:
        """Return the answer, as its type.

        Raises:
            AnswerInvalid: No answer of the type came within the number of re-asks.
            TurnLimit: No answer came within the number of turns.
            ModelRefused, ModelUnavailable: See `model.ask`.
        """
        with accounting_to(self.progress):
            while True:
                outcome = await self._digest(self._undigested() or await self._next_turn())
                if outcome is not None:
                    return outcome.value

    def said(self) -> list[Message]:
        """Return what this call adds to the conversation: complete, every tool call with its result."""
        last = next(message for message in reversed(self.progress.messages) if message["role"] == "assistant")
        answered = self._results_after(last)
        accepted = [_tool_message(call, "accepted") for call in _calls_of(last) if call["id"] not in answered]
        return [self.request, *self.progress.messages, *accepted]

    async def _next_turn(self) -> Message:
        turns = sum(message["role"] == "assistant" for message in self.progress.messages)
        limit = self.method.options.turns or self.agent.max_turns
        if turns >= limit:
            raise TurnLimit(
                f"{self._where()} took {turns} turns without giving an answer. "
                "Raise max_turns, or make the task smaller."
            )
        reply = await strategy.ask(self._question(), self.method.answer, self._strategy())
        message = _with_call_ids(reply.message, {call["id"] for call in self._calls_so_far()}, turns)
        self.progress.usage += reply.usage
        self.progress.messages.append(message)
        if reply.finish_reason == "length" and not message.get("tool_calls"):
            told = "Your answer was cut off at the token limit. Give a shorter one."
            self._reject(_text_of(message), told, mend="Raise max_tokens, or ask for less.")
        else:
            self.record()
        return message

    def _calls_so_far(self) -> Iterator[Message]:
        for message in (*self.history, *self.progress.messages):
            yield from _calls_of(message)

    def _results_after(self, message: Message) -> set[str]:
        """Return the ids of the tool calls that were answered after a message."""
        messages = self.progress.messages
        start = next(index for index, other in enumerate(messages) if other is message)
        return {result["tool_call_id"] for result in messages[start:] if result["role"] == "tool"}

    def _question(self) -> model.Question:
        system = system_prompt_of(type(self.agent))
        opening = [{"role": "system", "content": system}] if system else []
        settings = {
            "temperature": self.agent.temperature,
            "max_tokens": self.agent.max_tokens,
            "api_base": self.agent.api_base,
            "timeout": self.agent.request_timeout,
        }
        return model.Question(
            model=self.model,
            messages=[*opening, *self.history, self.request, *self.progress.messages],
            tools=self.tool_schemas,
            parameters={
                **{name: value for name, value in settings.items() if value is not None},
                **self.agent.parameters,
            },
        )

    def _strategy(self) -> str | None:
        return self.method.options.strategy or self.agent.strategy

    def _undigested(self) -> Message | None:
        """Return the last model answer if something is still to be done with it, as after a crash."""
        messages = self.progress.messages
        last = max((i for i, m in enumerate(messages) if m["role"] == "assistant"), default=None)
        if last is None:
            return None
        message = messages[last]
        if calls := _calls_of(message):
            answered = self._results_after(message)
            return message if any(call["id"] not in answered for call in calls) else None
        return message if message is messages[-1] else None

    async def _digest(self, message: Message) -> Accepted | None:
        """Do what a model answer asks for: run its tools, or take it as the final answer."""
        if message is not self.progress.messages[-1] and not _calls_of(message):
            return None
        answered = self._results_after(message)
        final = None
        for number, call in enumerate(_calls_of(message)):
            if call["id"] in answered:
                continue
            if call["function"]["name"] != ANSWER_TOOL:
                self._answer_call(call, await self._use_tool(number, call))
            elif final is None:
                final = call
            else:
                self._answer_call(call, "Error: only the first answer of a turn is read.")
        if final is not None:
            return self._judge(final["function"]["arguments"], final)
        return None if _calls_of(message) else self._judge(_text_of(message), None)

    def _answer_call(self, call: Message, result: str) -> None:
        self.progress.messages.append(_tool_message(call, result))
        self.record()

    def _judge(self, text: str, call: Message | None) -> Accepted | None:
        """Take an answer, or send it back with what is wrong with it."""
        required = self.method.options.require
        if missing := [name for name in required if name not in self.progress.tools_done]:
            told = f"Before you answer you must call: {', '.join(missing)}."
            self._reject(text, told, call, mend="Tell it in the prompt, or use a stronger model.")
            return None
        if self.method.answer.is_none:
            return Accepted(None)
        if self.method.answer.is_text:
            if text.strip():
                return Accepted(text)
            self._reject(text, "Your answer was empty. Answer.", call, mend="Change the prompt or the model.")
            return None
        try:
            return Accepted(self.method.answer.parse(text))
        except ValidationError as error:
            problem = explain(error)
        except ValueError as error:
            problem = f"it is not valid JSON: {error}"
        wanted = json.dumps(self.method.answer.schema, ensure_ascii=False)
        told = f"Your answer does not fit: {problem}. Answer again, with JSON that fits this schema: {wanted}"
        self._reject(text, told, call, problem=problem, mend="Loosen the type or use a stronger model.")
        return None

    def _reject(
        self, text: str, told: str, call: Message | None = None, *, problem: str | None = None, mend: str
    ) -> None:
        """Send an answer back, or give up.

        Args:
            text: The answer.
            told: What the model is told of it.
            call: The tool call by which the answer was given.
            problem: What a person is told of it, where that is less.
            mend: What a person can do about it.
        """
        limit = self.agent.max_reasks if self.method.options.reasks is None else self.method.options.reasks
        if self.progress.rejections >= limit:
            raise AnswerInvalid(
                f"{self._where()} answered {self.progress.rejections + 1} times with something that will not do"
                f"{self._wanted_type()}: {(problem or told).rstrip('.')}. Last answer: {clip(text, 500)} {mend}"
            )
        self.progress.rejections += 1
        self.progress.messages.append(
            _tool_message(call, f"Error: {told}") if call else {"role": "user", "content": told}
        )
        self.record()

    async def _use_tool(self, number: int, call: Message) -> str:
        """Run a tool that the model called; whatever goes wrong is told to the model."""
        name = call["function"]["name"]
        tool = self.tools.get(name)
        if tool is None:
            return f"Error: there is no tool '{name}'. The tools are: {', '.join(self.tools) or 'none'}."
        try:
            arguments = tool.arguments.validate_json(call["function"]["arguments"] or "{}")
        except ValidationError as error:
            return f"Error: the arguments of {name} do not fit: {explain(error)}."
        except Exception as error:  # a validator of the user's that fails
            return f"Error: the arguments of {name} do not fit: {type(error).__name__}: {error}."
        turn = sum(message["role"] == "assistant" for message in self.progress.messages)
        limit = asyncio.timeout(tool.options.timeout)
        try:
            async with limit:
                with calling_tool(turn, number):
                    value = await _invoke(self.agent, name, arguments)
            result = "done" if value is None else as_text(value)
        except _NOT_FOR_THE_MODEL:
            raise
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            if limit.expired():
                return f"Error: {name} took longer than {tool.options.timeout:g} seconds and was given up."
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            return clip(f"Error: {name} failed: {type(error).__name__}: {error}", TOOL_RESULT_LIMIT)
        self.progress.tools_done = list(dict.fromkeys([*self.progress.tools_done, name]))
        return clip(result, TOOL_RESULT_LIMIT)

    def _where(self) -> str:
        call = current_call()
        who = f"{self.agent.name}, {call.workflow_id}" if call else self.agent.name
        return f"{type(self.agent).__name__}.{self.method.name} ({who})"

    def _wanted_type(self) -> str:
        if self.method.answer.is_text or self.method.answer.is_none:
            return ""
        returns = self.method.returns
        return f" as {returns.__name__ if isinstance(returns, type) else returns}"


_NOT_FOR_THE_MODEL = (ModelUnavailable, ScriptExhausted, SettingInvalid, DeclarationError)
"""What a prompt may raise that runs as a tool, and that the model which called it can do nothing about."""


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _invoke(agent: Agent, name: str, arguments: dict[str, Any]) -> Any:
    """Run an agent's method here; one that is overridden further down the class runs as overridden."""
    return await getattr(agent, name)(**arguments)


def tool_schema(name: str, tool: Method[..., Any]) -> Schema:
    """Describe a tool as a model is told of it."""
    parameters = tool.arguments.json_schema()
    parameters.pop("title", None)
    function = {"name": name, "description": description_of(tool.docstring), "parameters": parameters}
    return {"type": "function", "function": function}


def _calls_of(message: Message) -> Sequence[Message]:
    return message.get("tool_calls") or ()


def _text_of(message: Message) -> str:
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _tool_message(call: Message, content: str) -> Message:
    return {"role": "tool", "tool_call_id": call["id"], "content": content}


def _with_call_ids(message: Message, taken: set[str], turn: int) -> Message:
    """Give every tool call an id of its own, as some servers send none, or the same ones in every turn."""
    for number, call in enumerate(_calls_of(message)):
        if not call.get("id") or call["id"] in taken:
            call["id"] = f"call_{len(taken)}_{turn}_{number}"
        taken.add(call["id"])
    return message
