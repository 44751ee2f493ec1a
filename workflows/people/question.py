"""A question to a person: what is asked, of whom, how it is shown, and what answers it."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, PrivateAttr, ValidationError
from temporalio import workflow

from activities.contract.envelope import WantedApproval
from activities.contract.identity import CallId
from activities.contract.names import method_name
from activities.contract.text import digest_of, explain
from activities.declarations.method import Method
from activities.declarations.template import in_short, render
from activities.memory.transcript import shortened
from activities.values.schema import example
from activities.values.values import NotKept, Values, enveloped
from workflows.errors import AnswerRefused
from workflows.people.changing import APPROVAL, Changeable, places_in

ANYONE = "anyone"
"""Who is asked whether a tool may run."""

SHOWN_OF_A_QUESTION = 10_000
"""Characters of a question that are shown: a query's answer holds many questions in at most 2 MB."""

SHOWN_IN_DETAILS = 1_000
"""Characters of a question in the Web UI's details of a run."""

MOST_IN_DETAILS = 5
"""Open questions that are shown there."""


class Question(BaseModel):
    """What a run wants to know from a person: it is asked, shown while it is open, and answered at most once."""

    id: str = ""
    person: str
    """The instance that is asked, `owner-1`, or `anyone`."""
    method: str
    """What it is asked, `Owner.approve`, or the tool that wants approval, `Coder.publish`."""
    text: str
    arguments: dict[str, Any]
    """What it is about, for people to read; long ones in short."""
    in_short: list[str] = []
    """Which of them."""
    answer_schema: dict[str, Any]
    step: str
    """The call's place in the program."""
    asked_at: datetime = datetime.min
    deadline: datetime | None = None
    reminded: int = 0
    command: str = ""
    """A command that answers it, with an example of an answer."""

    _answer: Values[Any] = PrivateAttr()
    _changeable: Changeable | None = PrivateAttr(None)
    """Of a tool that wants approval: what a person may change."""
    _digest: str = PrivateAttr()
    """Of all that it is about; an answer is for this and nothing else."""
    _remind: float | None = PrivateAttr(None)
    """Seconds between reminders."""
    _patience: float | None = PrivateAttr(None)
    """Seconds until the answer is given up; None for never."""
    _given: asyncio.Future[tuple[str, str]] = PrivateAttr(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @classmethod
    def of_call(
        cls, call: CallId, method: Method[..., Any], arguments: Mapping[str, Any], written: str, *, person: str
    ) -> Question:
        """Make the question that a method of a person asks.

        Args:
            call: The call, by whom and at which place.
            method: The person's method.
            arguments: What it is given, as its types.
            written: The same as JSON, `{"arguments":{…}}`.
            person: Who is asked.
        """
        made = cls(
            person=person,
            method=call.method,
            text=shortened(render(method.docstring, arguments), SHOWN_OF_A_QUESTION),
            arguments=in_short(json.loads(written)["arguments"]),
            answer_schema=method.answer_values.json_schema(),
            step=call.step,
        )
        made._answer, made._digest = method.answer_values, call.digest
        made._remind, made._patience = method.options.remind, method.options.deadline
        return made

    @classmethod
    def of_tool(
        cls, wanted: WantedApproval, call: str, changeable: Changeable, *, step: str, instance: str
    ) -> Question:
        """Make the question to anyone whether a tool that a model calls may run, and with which arguments."""
        shown = json.dumps(wanted.arguments, indent=2, ensure_ascii=False)
        text = f"{instance} wants to call {wanted.tool} while it works on {call} (step {step}). Arguments:\n{shown}"
        made = cls(
            person=ANYONE,
            method=method_name(call.partition(".")[0], wanted.tool),
            text=shortened(text, SHOWN_OF_A_QUESTION),
            arguments=wanted.arguments,
            in_short=wanted.in_short,
            answer_schema=changeable.schema(),
            step=step,
        )
        made._answer, made._changeable = APPROVAL, changeable
        made._digest = digest_of(f"{wanted.tool_call} {wanted.tool} {wanted.digest}")
        return made

    @property
    def ids(self) -> list[str]:
        """Names that it may have, the shortest first: four digits do for people, if no other question has them."""
        return [f"{self.step}-{self._digest[:digits]}" for digits in range(4, len(self._digest) + 1)]

    def open(self, id: str, asked_at: datetime, reminded: int) -> None:
        """Begin to be asked, or go on, if an earlier run has asked it.

        Args:
            id: One of its `ids`.
            asked_at: When it was asked first.
            reminded: How often it was reminded of.
        """
        self.id, self.asked_at, self.reminded = id, asked_at, reminded
        self.deadline = None if self._patience is None else asked_at + timedelta(seconds=self._patience)
        self.command = _command(id, self._answer)
        workflow.logger.info("asks %s: %s. %s", self.person, " ".join(self.text.split()), self.command)

    def check(self, answer: Any) -> str:
        """Return an answer as JSON of its type.

        Raises:
            AnswerRefused: It does not fit; says why.
        """
        try:
            value = self.read(json.dumps(answer))
            return self._answer.write(self._changeable.fitting(value) if self._changeable else value)
        except ValidationError as error:
            problem, places = explain(error, skip=("value",)), places_in(error)
        except AnswerRefused as error:
            problem, places = str(error), error.places
        except NotKept as error:
            problem, places = str(error), {}
        raise AnswerRefused(
            f"The answer to {self.id} ({self.method}) does not fit: {problem}. For example: {self.command}", places
        )

    def read(self, answer: str) -> Any:
        """Read an answer, as its type."""
        return self._answer.read(enveloped(answer))

    def give(self, answer: str, by: str) -> None:
        """Answer it with what was checked.

        Args:
            answer: As JSON.
            by: Who answers; empty if that is not known.
        """
        self._given.set_result((answer, by))

    async def answered(self) -> tuple[str, str] | None:
        """Wait for the answer and who gives it, and remind of it; None if there is none at the deadline."""
        while (moment := self._next_moment()) is not None:
            what = "the deadline" if moment == self.deadline else "a reminder"
            with suppress(TimeoutError):
                await workflow.wait_condition(
                    self._given.done,
                    timeout=max(0.0, (moment - workflow.now()).total_seconds()),
                    timeout_summary=f"{what} of question {self.id}",
                )
            if self._given.done():
                break
            if moment == self.deadline:
                return None
            if workflow.now() >= moment:
                self.reminded += 1
                workflow.logger.warning("%s", self.waits())
        return await self._given

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

    def _next_moment(self) -> datetime | None:
        """Return when something has to be done about it if nobody answers."""
        moments = [self.deadline] if self.deadline else []
        if self._remind is not None:
            # Those that were missed, while no worker served the run, are not made up for.
            rounds = (workflow.now() - self.asked_at).total_seconds() // self._remind
            moments.append(self.asked_at + timedelta(seconds=self._remind * (rounds + 1)))
        return min(moments, default=None)


def in_markdown(questions: Sequence[Question]) -> list[str]:
    """Write open questions for the details of a run in the Web UI, as paragraphs."""
    shown = [question.in_markdown() for question in questions[:MOST_IN_DETAILS]]
    if len(questions) > MOST_IN_DETAILS:
        shown.append(f"… and {len(questions) - MOST_IN_DETAILS} more: the query `questions` shows them.\n")
    return shown


def _command(id: str, answer: Values[Any]) -> str:
    """Return a command line that answers a question of this run, with an example of an answer."""
    given = json.dumps({"question": id, "answer": example(answer.json_schema())}, ensure_ascii=False)
    return (
        f"temporal workflow update execute --workflow-id {shlex.quote(workflow.info().workflow_id)} --name answer "
        f"--input {shlex.quote(given)}"
    )
