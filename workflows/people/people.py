"""The questions that a run has for people, and their answers: with the CLI, by the update `answer`.

    temporal workflow query --workflow-id build-7 --type questions
    temporal workflow update execute --workflow-id build-7 --name answer \
        --input '{"question": "2-4f2a", "answer": {"approve": true}}'

A question waits durably and costs nothing meanwhile: neither a worker nor a place among the calls in flight.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel, ValidationError
from temporalio import workflow

from activities.answering.checkpoint import READABLE_BYTES
from activities.contract.envelope import Approval, Resumption, Suspended, WantedApproval
from activities.contract.text import explain
from activities.memory.transcript import shortened
from activities.values.values import NotKept, Values, enveloped
from workflows.errors import AnswerRefused, ProgramChanged
from workflows.people.question import APPROVAL, SHOWN_OF_A_QUESTION, Inquiry, Question, command
from workflows.shown.changed import CHANGED, HOW_TO_GO_ON

MOST_SHOWN = 50
"""Open questions that are told of at a time, the oldest first."""

MEMO = "questions"
"""The field of a run's memo that lists its open questions: `temporal workflow describe` shows it."""

LISTED = 10
"""Open questions that a memo or an error message lists."""

ANSWERS_REMEMBERED = 1_000
"""Ids of the last questions that are known to be answered, to tell them from those that never were."""


MOST_CARRIED = 1_500_000
"""Bytes of what calls that are put aside need to go on; a run that continues as new takes at most 2 MB along."""


class PutAside(BaseModel):
    """A call that waits for approvals: where it is, and what was decided so far, by the ids of the tool calls."""

    suspended: Suspended
    approvals: dict[str, Approval] = {}


class Asked(BaseModel):
    """What has to outlive a run that continues as new, so that the next one asks the same."""

    waiting: dict[str, tuple[datetime, int]] = {}
    """When each open question was asked first, and how often it was reminded of."""
    answered: list[str] = []
    aside: dict[str, PutAside] = {}
    """By the steps of the calls."""


class _Open:
    """A question that waits for its answer."""

    def __init__(self, question: Question, answer: Values[Any]) -> None:
        self.question = question
        self.answer = answer
        self.given: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class People:
    """What a run asks people, and the calls that wait for them."""

    def __init__(self, before: Asked | None = None) -> None:
        """Begin without an open question.

        Args:
            before: What the run carried on that this one goes on from.
        """
        before = before or Asked()
        self._waited = dict(before.waiting)
        self._answered = list(before.answered)
        self._aside = dict(before.aside)
        self._open: dict[str, _Open] = {}
        self._takes_answers = True

    @workflow.query(description="The questions to people that are open, each with a command that answers it.")
    def questions(self) -> list[Question]:
        """Return the open questions, the oldest first, as many as can be shown."""
        return [asked.question for asked in list(self._open.values())[:MOST_SHOWN]]

    @workflow.update(description='Answer a question: {"question": "<id>", "answer": …}; see the query `questions`.')
    def answer(self, *given: Any) -> str:
        """Take an answer that was found to fit."""
        try:
            id, answer = self.check(given)
        except AnswerRefused as error:  # it was found to fit by the program as it was
            raise ProgramChanged(
                f"{CHANGED}an answer was given that it does not take: {error} {HOW_TO_GO_ON}"
            ) from None
        self.take(id, answer)
        return f"{id} is answered"

    @answer.validator
    def _check_answer(self, *given: Any) -> None:
        self.check(given)

    def waits(self) -> list[str]:
        """Say in a line for each open question who is waited for, since when, and how to answer."""
        return [question.waits() for question in self.questions()]

    @property
    def can_be_carried(self) -> bool:
        """Whether what waits is little enough for the run to continue as new before it was decided on."""
        return sum(_size(aside) for aside in self._aside.values()) <= MOST_CARRIED

    def take_no_answers(self) -> None:
        """Take no more answers: the run continues as new, and the next one takes them."""
        self._takes_answers = False

    def carried(self) -> Asked:
        """Return what the next run of the chain has to know."""
        waiting = {id: (asked.question.asked_at, asked.question.reminded) for id, asked in self._open.items()}
        return Asked(waiting={**self._waited, **waiting}, answered=self._answered, aside=self._aside)

    async def ask(self, inquiry: Inquiry) -> str | None:
        """Ask, and wait for the answer as long as it takes.

        Returns:
            The answer as JSON that fits its type; None if there was none at the deadline.
        """
        asked = self._put(inquiry)
        try:
            given = await self._answer_to(asked, inquiry.remind)
        except (Exception, asyncio.CancelledError):  # a run that the collector closes can do nothing
            self._withdraw(asked)
            raise
        if given is None:
            self._withdraw(asked)
        return given

    def aside(self, step: str) -> PutAside | None:
        """Return the call of a step if it is put aside."""
        return self._aside.get(step)

    def put_aside(self, step: str, suspended: Suspended | None) -> PutAside | None:
        """Note how far a call has come, None if it came to its end."""
        self._aside.pop(step, None)
        if suspended is None:
            return None
        self._aside[step] = PutAside(suspended=suspended)
        return self._aside[step]

    async def decide(self, aside: PutAside, inquire: Callable[[WantedApproval], Inquiry]) -> Resumption:
        """Ask at once for all that a call waits for, and return with what it is to go on.

        Args:
            aside: The call; the decisions are noted in it as they come.
            inquire: Makes the question for a tool that wants approval.
        """

        async def decide_one(wanted: WantedApproval) -> None:
            answer = await self.ask(inquire(wanted))
            assert answer is not None  # there is no deadline
            aside.approvals[wanted.tool_call] = APPROVAL.read(enveloped(answer))

        await asyncio.gather(
            *(decide_one(wanted) for wanted in aside.suspended.wants if wanted.tool_call not in aside.approvals)
        )
        return Resumption(checkpoint=aside.suspended.checkpoint, approvals=aside.approvals, used=aside.suspended.usage)

    def check(self, given: Sequence[Any]) -> tuple[str, str]:
        """Return the id of an open question and its answer as JSON.

        Args:
            given: The inputs of the update, whatever they are.

        Raises:
            AnswerRefused: They do not answer an open question.
        """
        if len(given) != 1 or not isinstance(given[0], dict) or given[0].keys() != {"question", "answer"}:
            form = '{"question": "<id>", "answer": …}'
            raise AnswerRefused(f"An answer is one input of the form {form}. {self._told()}")
        if not self._takes_answers:
            raise AnswerRefused("The run is continuing as new: try again.")
        id = given[0]["question"]
        asked = self._open.get(id) if isinstance(id, str) else None
        if asked is None:
            raise AnswerRefused(f"The question {json.dumps(id)} {self._state_of(id)}. {self._told()}")
        try:
            return id, asked.answer.write(asked.answer.read(enveloped(json.dumps(given[0]["answer"]))))
        except (ValidationError, NotKept) as error:
            problem = explain(error, skip=("value",)) if isinstance(error, ValidationError) else str(error)
            raise AnswerRefused(
                f"The answer to {id} ({asked.question.method}) does not fit: {problem}. "
                f"For example: {asked.question.command}"
            ) from None

    def take(self, id: str, answer: str) -> None:
        """Give a question its answer; from this moment on it is open no more."""
        asked = self._open[id]
        self._withdraw(asked)
        self._answered = [*self._answered, id][-ANSWERS_REMEMBERED:]
        asked.given.set_result(answer)

    def _put(self, inquiry: Inquiry) -> _Open:
        id = self._new_id(inquiry)
        asked_at, reminded = self._waited.pop(id, (workflow.now(), 0))
        question = Question(
            id=id,
            person=inquiry.person,
            method=inquiry.method,
            text=shortened(inquiry.text, SHOWN_OF_A_QUESTION),
            arguments=inquiry.arguments,
            answer_schema=inquiry.answer.json_schema(),
            step=inquiry.step,
            asked_at=asked_at,
            deadline=None if inquiry.deadline is None else asked_at + timedelta(seconds=inquiry.deadline),
            reminded=reminded,
            command=command(id, inquiry.answer),
        )
        asked = self._open[id] = _Open(question, inquiry.answer)
        workflow.logger.info("asks %s: %s. %s", question.person, " ".join(question.text.split()), question.command)
        self._show()
        return asked

    def _new_id(self, inquiry: Inquiry) -> str:
        # Four digits are enough for people; several questions of one step may need more.
        ids = [f"{inquiry.step}-{inquiry.digest[:digits]}" for digits in range(4, len(inquiry.digest) + 1)]
        return next((id for id in ids if id not in self._open and id not in self._answered), ids[-1])

    def _withdraw(self, asked: _Open) -> None:
        if self._open.pop(asked.question.id, None) is not None:
            self._show()

    def _show(self) -> None:
        # Not only for show: a worker that replays a run takes a workflow task without commands together with the next
        # one, and in that an answer comes before the program: the question would not be open yet.
        listed = [f"{question.id}: {question.person}, {question.method}" for question in self.questions()[:LISTED]]
        workflow.upsert_memo({MEMO: listed})

    async def _answer_to(self, asked: _Open, remind: float | None) -> str | None:
        question = asked.question
        while (moment := _next_moment(question, remind)) is not None:
            what = "the deadline" if moment == question.deadline else "a reminder"
            with suppress(TimeoutError):
                await workflow.wait_condition(
                    asked.given.done,
                    timeout=max(0.0, (moment - workflow.now()).total_seconds()),
                    timeout_summary=f"{what} of question {question.id}",
                )
            if asked.given.done():
                break
            if moment == question.deadline:
                return None
            if workflow.now() >= moment:
                self._remind(question)
        return await asked.given

    def _remind(self, question: Question) -> None:
        question.reminded += 1
        workflow.logger.warning("%s. %s", question.in_words(), question.command)

    def _state_of(self, id: Any) -> str:
        if id in self._answered:
            return "was answered already"
        if isinstance(id, str) and id in self._waited:
            return "is about to be asked again, as the run has just continued as new: try again"
        return "is not open here"

    def _told(self) -> str:
        if not self._open:
            return "No question is open."
        asked = [f"{question.id} ({question.method}, {question.person})" for question in self.questions()[:LISTED]]
        more = len(self._open) - len(asked)
        return f"Open: {', '.join(asked)}{f' and {more} more' if more else ''}. The query 'questions' shows them."


def _size(aside: PutAside) -> int:
    return len(aside.suspended.checkpoint.get("packed", "")) or READABLE_BYTES


def _next_moment(question: Question, remind: float | None) -> datetime | None:
    """Return when something has to be done about a question that nobody answers."""
    moments = [question.deadline] if question.deadline else []
    if remind is not None:
        # Those that were missed, while no worker served the run, are not made up for.
        rounds = (workflow.now() - question.asked_at).total_seconds() // remind
        moments.append(question.asked_at + timedelta(seconds=remind * (rounds + 1)))
    return min(moments, default=None)
