"""Approvals: who says yes or no before a tool of `@tool(approve=True)` runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from activities.border.context import current_call
from activities.contract.envelope import Approval, PausedCall, WantedApproval
from activities.contract.text import explain
from activities.errors import NobodyToAsk


class Approvals(Protocol):
    """Where a call gets the yes or no to the tools that its model calls."""

    async def decide(self, wanted: Sequence[WantedApproval]) -> Mapping[str, Approval]:
        """Return the decisions by the ids of the tool calls."""


class CallPaused(Exception):
    """A call can't go on without approvals; it ends, and is made again with them."""

    def __init__(self, wants: Sequence[WantedApproval]) -> None:
        super().__init__(", ".join(wanted.tool for wanted in wants))
        self.wants = list(wants)


class OnTheRun:
    """People decide on the run that made the call, which is paused until they have."""

    def __init__(self, paused: PausedCall | None) -> None:
        self._decided = paused.decided if paused else {}

    async def decide(self, wanted: Sequence[WantedApproval]) -> Mapping[str, Approval]:
        """Return what was decided there.

        Raises:
            CallPaused: It was not asked yet.
        """
        missing = [one for one in wanted if one.tool_call not in self._decided]
        if missing:
            raise CallPaused(missing)
        return self._decided


class AtTheTerminal:
    """Whoever sits in front of this process decides."""

    async def decide(self, wanted: Sequence[WantedApproval]) -> Mapping[str, Approval]:
        """Ask for each in turn.

        Raises:
            NobodyToAsk: This is inside a call of a choreography, or there is no terminal.
        """
        if wanted and (call := current_call()) is not None:
            raise NobodyToAsk(
                f"{call.method} ({call.instance}): {wanted[0].tool} needs a person's approval, for which only a prompt "
                "that the choreography itself calls can wait: code of a @task or a tool can't be put aside. "
                "Let the choreography make the call."
            )
        return {one.tool_call: ask_at_terminal(_in_words(one), _adapter) for one in wanted}


def ask_at_terminal(question: str, answer: TypeAdapter[Any]) -> Any:
    """Ask whoever sits in front of this process, until the answer is one; nothing else goes on meanwhile.

    Args:
        question: What to show.
        answer: The type of the answer, which is given as JSON; for a text, as it is.

    Raises:
        NobodyToAsk: There is no terminal.
    """
    print(question)
    while True:
        try:
            given = input("Answer: ")
        except (EOFError, OSError, NotImplementedError) as error:  # closed, captured, a notebook that runs by itself
            raise NobodyToAsk(
                f"There is no terminal at which somebody could answer: {question} Start the choreography on a server, "
                "or give it a fake for the person, or an agent whose tool needs no approval."
            ) from error
        try:
            return answer.validate_json(given if _is_json(given) else json.dumps(given))
        except ValidationError as error:
            print(f"That does not fit: {explain(error)}. The answer is JSON of this schema: {_schema_of(answer)}")


_adapter = TypeAdapter(Approval)


def _in_words(wanted: WantedApproval) -> str:
    return f"May {wanted.tool} be called with {json.dumps(wanted.arguments, ensure_ascii=False)}? true or false"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _schema_of(answer: TypeAdapter[Any]) -> str:
    return json.dumps(answer.json_schema(), ensure_ascii=False)
