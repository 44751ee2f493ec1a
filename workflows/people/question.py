"""A question to a person: what is asked, of whom, and how it is shown."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from temporalio import workflow

from activities.contract.envelope import Approval, WantedApproval
from activities.contract.identity import CallId
from activities.contract.names import method_name
from activities.contract.text import digest_of
from activities.declarations.method import Method
from activities.declarations.template import in_short, render
from activities.memory.transcript import shortened
from activities.values.schema import example
from activities.values.values import Outside, Values

ANYONE = "anyone"
"""Who is asked whether a tool may run."""

APPROVAL: Values[Approval] = Values(Approval, Outside)

SHOWN_OF_A_QUESTION = 10_000
"""Characters of a question that are shown: a query's answer holds many questions in at most 2 MB."""

SHOWN_IN_DETAILS = 1_000
"""Characters of a question in the Web UI's details of a run."""

MOST_IN_DETAILS = 5
"""Open questions that are shown there."""


class Question(BaseModel):
    """What a run wants to know from a person."""

    id: str
    person: str
    """The instance that is asked, `owner-1`, or `anyone`."""
    method: str
    """What it is asked, `Owner.approve`, or the tool that wants approval, `Coder.publish`."""
    text: str
    arguments: dict[str, Any]
    answer_schema: dict[str, Any]
    step: str
    asked_at: datetime
    deadline: datetime | None = None
    reminded: int = 0
    command: str
    """A command that answers it, with an example of an answer."""

    def in_words(self) -> str:
        """Say who is asked what, since when, and how often they were reminded."""
        until = f", until {self.deadline:%Y-%m-%d %H:%M} UTC" if self.deadline else ""
        times = "once" if self.reminded == 1 else f"{self.reminded} times"
        reminded = f", reminded {times}" if self.reminded else ""
        since = f"since {self.asked_at:%Y-%m-%d %H:%M} UTC"
        return f"{self.person} is asked {self.method} (question {self.id}) {since}{until}{reminded}"

    def waits(self) -> str:
        """Say the same, and how to answer."""
        return f"{self.in_words()}. {self.command}"

    def in_markdown(self) -> str:
        """Write it for the details of a run in the Web UI."""
        text = "\n".join(f"> {line}" for line in shortened(self.text, SHOWN_IN_DETAILS).splitlines())
        return f"**{self.in_words()}:**\n\n{text}\n\n```sh\n{self.command}\n```\n"


@dataclass(frozen=True)
class Inquiry:
    """What is to be asked.

    Attributes:
        step: The call's place in the program.
        person: Who is asked.
        method: What they are asked.
        text: The question in words.
        arguments: What it is about, for people to read.
        digest: Of all that it is about; an answer is for this and nothing else.
        answer: The type of the answer, as people write it.
        remind: Seconds between reminders; None for none.
        deadline: Seconds until the answer is given up; None for never.
    """

    step: str
    person: str
    method: str
    text: str
    arguments: dict[str, Any]
    digest: str
    answer: Values[Any]
    remind: float | None = None
    deadline: float | None = None

    @classmethod
    def of_call(
        cls, call: CallId, method: Method[..., Any], arguments: Mapping[str, Any], written: str, *, person: str
    ) -> Inquiry:
        """Ask a person what a method of theirs asks.

        Args:
            call: The call, by whom and at which place.
            method: The person's method.
            arguments: What it is given, as its types.
            written: The same as JSON, `{"arguments":{…}}`.
            person: Who is asked.
        """
        return cls(
            step=call.step,
            person=person,
            method=call.method,
            text=render(method.docstring, arguments),
            arguments=in_short(json.loads(written)["arguments"]),
            digest=call.digest,
            answer=method.answer_values,
            remind=method.options.remind,
            deadline=method.options.deadline,
        )

    @classmethod
    def of_tool(cls, wanted: WantedApproval, call: str, *, step: str, instance: str) -> Inquiry:
        """Ask anyone whether a tool that a model calls may run."""
        shown = json.dumps(wanted.arguments, indent=2, ensure_ascii=False)
        return cls(
            step=step,
            person=ANYONE,
            method=method_name(call.partition(".")[0], wanted.tool),
            text=f"{instance} wants to call {wanted.tool} while it works on {call} (step {step}). Arguments:\n{shown}",
            arguments=wanted.arguments,
            digest=digest_of(f"{wanted.tool_call} {wanted.tool} {wanted.digest}"),
            answer=APPROVAL,
        )


def command(id: str, answer: Values[Any]) -> str:
    """Return a command line that answers a question of this run, with an example of an answer."""
    given = json.dumps({"question": id, "answer": example(answer.json_schema())}, ensure_ascii=False)
    return (
        f"temporal workflow update execute --workflow-id {shlex.quote(workflow.info().workflow_id)} --name answer "
        f"--input {shlex.quote(given)}"
    )


def in_markdown(questions: Sequence[Question]) -> list[str]:
    """Write open questions for the details of a run in the Web UI, as paragraphs."""
    shown = [question.in_markdown() for question in questions[:MOST_IN_DETAILS]]
    if len(questions) > MOST_IN_DETAILS:
        shown.append(f"… and {len(questions) - MOST_IN_DETAILS} more: the query `questions` shows them.\n")
    return shown
