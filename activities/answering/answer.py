"""The turn loop: ask the model, run the tools that it calls, check its answer, send it back if it will not do.

The loop's whole state is its `Checkpoint`, so that another process can go on from any point of it. What was said in
earlier calls comes from the instance's memory, and what is said in this one goes there once, at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from activities.answering import fallbacks
from activities.answering.changes import with_changes, with_notice
from activities.answering.compaction import Window, compact
from activities.answering.record import inside_tool, working
from activities.answering.toolbox import Toolbox
from activities.answering.traced import tool_part, tool_result
from activities.answering.work import Work
from activities.border.context import current_call
from activities.border.washing import name_of, washed, words_of
from activities.contract.envelope import Approval
from activities.contract.text import clip, explain
from activities.declarations.agent import silence_of, system_prompt_of
from activities.declarations.state import differs, saved_state
from activities.declarations.template import render
from activities.errors import AnswerInvalid, ContextTooLong, TurnLimit
from activities.measures import catalogue as metrics
from activities.measures.measures import count
from activities.measures.spans import part
from activities.memory.port import leave_to_be_read
from activities.memory.transcript import Entry, Message, Transcript
from activities.models import model
from activities.models.caching import WATCH, Beginning
from activities.models.hearing import counting
from activities.values.schema import ANSWER_TOOL


@dataclass(frozen=True)
class Accepted:
    """An answer that is of its type."""

    value: Any


class TurnLoop(Work):
    """One prompt being answered by one agent."""

    def __post_init__(self) -> None:
        """Prepare to answer, or to go on answering."""
        super().__post_init__()
        asked = washed(render(self.method.docstring, self.arguments))
        if self.method.options.tell_budget and (left := _budget_in_words()):
            asked = f"{asked}\n\n{left}"
        self.request: Message = {"role": "user", "content": asked}
        self.toolbox = Toolbox(self.agent)
        chosen = vars(self.agent).get("model") or self.method.options.model or self.agent.model
        self.model = chosen or model.default_model()
        others = self.agent.fallbacks if self.agent.fallbacks is not None or chosen else model.default_fallbacks()
        self.others = [others] if isinstance(others, str) else [name for name in others or () if name != self.model]
        self.history = Transcript()

    async def run(self) -> Any:
        """Return the answer, as its type, once the memory has what was said.

        Raises:
            AnswerInvalid: No answer of the type came within the number of re-asks.
            TurnLimit: No answer came within the number of turns.
            ModelRefused, ModelUnavailable: See `model.complete`.
            CallPaused: A tool needs an approval that has to be waited for.
        """
        async with working(self.checkpoint, self.record) as self._here:
            already_committed = await self._take_up()
            while True:
                begun = self._undigested()
                number = self._turns() + (begun is None)
                with part("turn", "turn", number, choreography__turn=number):
                    outcome = await self._digest(begun or await self._next_turn())
                if outcome is not None:
                    break
        if not already_committed:
            await self._commit()
        return outcome.value

    async def give_up(self, why: str) -> None:
        """Leave what was said to be read, as the call has failed for good; the agent will not remember it.

        Args:
            why: What a person is told of it.
        """
        inside = self.checkpoint.said_inside()
        if self.checkpoint.entries or inside:
            # What people told the agent is heard again by its next call.
            said = [{key: value for key, value in e.items() if key != "told"} for e in self.checkpoint.entries]
            await leave_to_be_read(self.memory, self.recall, [self.request, *said, *inside], why)

    async def _take_up(self) -> bool:
        """Take up what is remembered; return whether an earlier attempt ended after it had committed this call."""
        recalled = await self.recall()
        self.history = recalled.transcript
        self._state_before = recalled.state
        self._here.take_up_state(self.agent, recalled.state)
        if recalled.committed is None:
            return False
        entries = [entry for entry in recalled.committed[1:] if entry.get("note") != "inner"]
        while entries and entries[-1].get("content") == _ACCEPTED:
            entries.pop()
        self.checkpoint.entries = entries
        return True

    async def _commit(self) -> None:
        state = saved_state(self.agent)
        changed = state if differs(state, self._state_before) else None
        self.record()
        await self.memory.commit(self.history.next, self.said(), self.checkpoint.heard, changed)

    def said_so_far(self) -> Sequence[Entry]:
        """Return the request, and what came of it."""
        return [self.request, *self.checkpoint.entries]

    def said(self) -> list[Entry]:
        """Return what this call adds to the conversation: complete, every tool call with its result."""
        last = next(entry for entry in reversed(self.checkpoint.entries) if entry.get("role") == "assistant")
        answered = self._results_after(last)
        accepted = [_tool_message(call, _ACCEPTED) for call in _calls_of(last) if call["id"] not in answered]
        # A tell's text is in the conversation already.
        entries = [{"role": "user", "told": e["told"]} if "told" in e else e for e in self.checkpoint.entries]
        return [self.request, *entries, *accepted, *self.checkpoint.said_inside()]

    def _transcript(self) -> Transcript:
        return self.history.plus([self.request, *self.checkpoint.entries])

    async def _next_turn(self) -> Message:
        turns = self._turns()
        limit = self.method.options.turns or self.agent.max_turns
        if turns >= limit:
            raise TurnLimit(
                f"{self._where()} took {turns} turns without giving an answer. "
                "Raise max_turns, or make the task smaller."
            )
        self._here.may_ask()
        await self._hear()
        await self._compact()
        with counting(self._here.use):
            reply, attempts = await self._ask()
        message = reply.message
        if _calls_of(message):
            message = _with_call_ids(message, {call["id"] for call in self._calls_so_far()}, turns)
        self._here.use(reply.usage)
        self.checkpoint.entries += [note for note in attempts if note not in self.checkpoint.entries]
        self.checkpoint.entries.append(message)
        if reply.finish_reason == "length" and not message.get("tool_calls"):
            told = "Your answer was cut off at the token limit. Give a shorter one."
            self._reject(_text_of(message), told, mend="Raise max_tokens, or ask for less.")
        else:
            self.record()
        return message

    async def _hear(self) -> None:
        """Take in what people told the agent meanwhile."""
        tells = await self.memory.tells()
        for number in range(self.checkpoint.heard, len(tells)):
            self.checkpoint.entries.append({"role": "user", "content": tells[number], "told": number})
            self.checkpoint.heard += 1

    async def _compact(self, *, force: bool = False) -> bool:
        """Make the conversation shorter if it has to be; return whether it became so."""
        window = Window(
            model=self.model,
            tokens=self.agent.context_window or await model.context_window(self.model),
            summariser=self.agent.compaction_model or self.model,
            parameters=self._parameters(),
            silence=self._silence(),
        )
        notes, usage = await compact(
            self._transcript(), self.history.next, self._opening(), self.toolbox.schemas, window, force=force
        )
        if notes:
            count(metrics.COMPACTIONS, model=self.model)
            self._here.use(usage)
            self.checkpoint.entries.extend(notes)
            self.record()
        return bool(notes)

    async def _ask(self) -> tuple[model.Answer, list[Entry]]:
        """Ask the model; if the conversation is too long for it after all, compact it and ask once more."""
        try:
            return await fallbacks.complete(self._next_request(), self.others, self.method.answer, self._strategy())
        except ContextTooLong:
            if not await self._compact(force=True):
                raise
        try:
            return await fallbacks.complete(self._next_request(), self.others, self.method.answer, self._strategy())
        except ContextTooLong as error:
            raise ContextTooLong(
                f"{self._where()}: {error} It was compacted, and is still too long. Use a model with a larger "
                "window, or give smaller arguments and tool results."
            ) from None

    def _calls_so_far(self) -> Iterator[Message]:
        for _, entry in self._transcript().numbered:
            yield from _calls_of(entry)

    def _results_after(self, message: Message) -> set[str]:
        """Return the ids of the tool calls that were answered after a message."""
        entries = self.checkpoint.entries
        start = next(index for index, other in enumerate(entries) if other is message)
        return {result["tool_call_id"] for result in entries[start:] if result.get("role") == "tool"}

    def _turns(self) -> int:
        return sum(entry.get("role") == "assistant" for entry in self.checkpoint.entries)

    def _opening(self) -> list[Message]:
        system = system_prompt_of(type(self.agent))
        return [{"role": "system", "content": system}] if system else []

    def _next_request(self) -> model.ModelRequest:
        opening, tools, parameters = self._opening(), self.toolbox.schemas, self._parameters()
        kind = f"{type(self.agent).__module__}.{type(self.agent).__qualname__}.{self.method.name}"
        prompt = "".join(message["content"] for message in opening)
        WATCH.look(kind, self.model, Beginning(prompt, tools, parameters))
        return model.ModelRequest(
            model=self.model,
            messages=[*opening, *self._transcript().messages()],
            tools=tools,
            parameters=parameters,
            goes_on=bool(tools) or self.method.options.memory is not False,
            cached=self.agent.prompt_caching,
            silence=self._silence(),
        )

    def _silence(self) -> float:
        return silence_of(type(self.agent), self.method)

    def _parameters(self) -> dict[str, Any]:
        settings = {
            "temperature": self.agent.temperature,
            "max_tokens": self.agent.max_tokens,
            "api_base": self.agent.api_base,
            "timeout": self.agent.request_timeout,
        }
        return {**{name: value for name, value in settings.items() if value is not None}, **self.agent.parameters}

    def _strategy(self) -> str | None:
        return self.method.options.strategy or self.agent.strategy

    def _undigested(self) -> Message | None:
        """Return the last model answer if something is still to be done with it, as after a crash."""
        spoken = [entry for entry in self.checkpoint.entries if "note" not in entry]
        message = next((entry for entry in reversed(spoken) if entry["role"] == "assistant"), None)
        if message is None:
            return None
        if calls := _calls_of(message):
            answered = self._results_after(message)
            return message if any(call["id"] not in answered for call in calls) else None
        return message if message is spoken[-1] else None

    async def _digest(self, message: Message) -> Accepted | None:
        """Do what a model answer asks for: run its tools, or take it as the final answer."""
        if message is not self.checkpoint.entries[-1] and not _calls_of(message):
            return None
        answered = self._results_after(message)
        todo = [(number, call) for number, call in enumerate(_calls_of(message)) if call["id"] not in answered]
        approvals = await self.approvals.decide(self.toolbox.wanting_approval(call for _, call in todo))
        final = None
        for number, call in todo:
            if call["function"]["name"] != ANSWER_TOOL:
                await self._use_tool(call, number, approvals.get(call["id"]))
            elif final is None:
                final = call
            else:
                self._answer_call(call, "Error: only the first answer of a turn is read.")
        if final is None and _calls_of(message):
            return None
        text = final["function"]["arguments"] if final else _text_of(message)
        if told := await self.unfinished():
            self._reject(text, told, final, mend="Tell it in the prompt, or use a stronger model.")
            return None
        return self._judge(text, final)

    async def _use_tool(self, call: Message, number: int, approval: Approval | None) -> None:
        if approval is not None and not approval.approve:
            self._answer_call(call, f"A person has refused this call: {approval.reason or 'no reason was given'}")
            return
        name, made = call["function"]["name"], with_changes(call, approval)
        with inside_tool(call["id"]), tool_part(self.toolbox, made):
            result, done = await self.toolbox.use(made, self._turns(), number)
            tool_result(result, done=done)
        if done:
            self.checkpoint.tools_done = list(dict.fromkeys([*self.checkpoint.tools_done, name]))
        self._here.keep_state(self.agent)
        self._answer_call(call, with_notice(result, approval))

    def _answer_call(self, call: Message, result: str) -> None:
        self.checkpoint.entries.append(_tool_message(call, result))
        self.record()

    def _judge(self, text: str, call: Message | None) -> Accepted | None:
        """Take an answer, or send it back with what is wrong with it."""
        required = self.method.options.require
        if missing := [name for name in required if name not in self.checkpoint.tools_done]:
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
        except (Exception, SystemExit) as error:  # not JSON at all, or a validator of the user's that fails
            problem = (
                f"it is not valid JSON: {error}"
                if type(error) is ValueError
                else f"{name_of(error)}: {words_of(error)}"
            )
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
        if self.checkpoint.rejections >= limit:
            raise AnswerInvalid(
                f"{self._where()} answered {self.checkpoint.rejections + 1} times with something that will not do"
                f"{self._wanted_type()}: {(problem or told).rstrip('.')}. Last answer: {clip(text, 500)} {mend}"
            )
        count(metrics.REASKS, model=self.model)
        self.checkpoint.rejections += 1
        self.checkpoint.entries.append(
            _tool_message(call, f"Error: {told}") if call else {"role": "user", "content": told}
        )
        self.record()

    def _where(self) -> str:
        call = current_call()
        who = f"{self.agent.name}, {call.workflow_id}" if call else self.agent.name
        return f"{type(self.agent).__name__}.{self.method.name} ({who})"

    def _wanted_type(self) -> str:
        if self.method.answer.is_text or self.method.answer.is_none:
            return ""
        returns = self.method.returns
        return f" as {returns.__name__ if isinstance(returns, type) else returns}"


_ACCEPTED = "accepted"


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


def _budget_in_words() -> str:
    """Say what is left of the call's budget; nothing where nothing is limited."""
    call = current_call()
    if call is None or not call.budget_left:
        return ""
    left = [_LEFT[limit].format(amount) for limit, amount in call.budget_left.items() if limit in _LEFT]
    return f"Left of the budget, for this and all that comes after it: {', '.join(left)}."


_LEFT = {"usd": "{:,.2f} USD", "tokens": "{:,.0f} tokens", "calls": "{:,.0f} calls", "hours": "{:,.1f} hours"}
