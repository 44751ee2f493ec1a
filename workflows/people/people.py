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
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from temporalio import workflow
from temporalio.exceptions import ApplicationError

from activities.answering.checkpoint import READABLE_BYTES
from activities.contract.envelope import LONGEST_NAME, Approval, PausedCall, WantedApproval
from workflows.errors import AnswerRefused, ProgramChanged
from workflows.people.question import Question
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
"""Bytes of what paused calls need to go on; a run that continues as new takes at most 2 MB along."""


class PeopleState(BaseModel):
    """What has to outlive a run that continues as new, so that the next one asks the same."""

    waiting: dict[str, tuple[datetime, int]] = {}
    """When each open question was asked first, and how often it was reminded of."""
    answered: list[str] = []
    paused: dict[str, PausedCall] = {}
    """The calls that wait for approvals, by their steps."""


class People:
    """What a run asks people, and the calls that wait for them.

    Attributes:
        paused: These calls, by their steps.
    """

    def __init__(self, before: PeopleState) -> None:
        """Begin without an open question.

        Args:
            before: What an earlier run of the chain has left.
        """
        self.paused = dict(before.paused)
        self._waiting = dict(before.waiting)
        self._answered = list(before.answered)
        self._open: dict[str, Question] = {}
        self._takes_answers = True
        self.on_asked: Callable[[Question], None] = lambda question: None
        """Called with each question when it is asked."""

    @workflow.query(description="The questions to people that are open, each with a command that answers it.")
    def questions(self) -> list[Question]:
        """Return the open questions, the oldest first, as many as can be shown."""
        return list(self._open.values())[:MOST_SHOWN]

    @workflow.update(description='Answer a question: {"question": "<id>", "answer": …}; see the query `questions`.')
    def answer(self, *given: Any) -> str:
        """Take an answer that was found to fit."""
        try:
            question, answer, by = self._fitting(given)
        except AnswerRefused as error:  # it was found to fit by the program as it was
            raise ProgramChanged(
                f"{CHANGED}an answer was given that it does not take: {error} {HOW_TO_GO_ON}"
            ) from None
        self._close(question)  # at once: a second answer may be in the same workflow task
        self._answered = [*self._answered, question.id][-ANSWERS_REMEMBERED:]
        question.give(answer, by)
        return f"{question.id} is answered"

    @answer.validator
    def _check_answer(self, *given: Any) -> None:
        try:
            self._fitting(given)
        except AnswerRefused as error:
            raise ApplicationError(str(error), error.places, type=type(error).__name__) from None

    def waits(self) -> list[str]:
        """Say in a line for each open question who is waited for, since when, and how to answer."""
        return [question.waits() for question in self.questions()]

    @property
    def can_be_carried(self) -> bool:
        """Whether what waits is little enough for the run to continue as new before it was decided on."""
        return sum(_size(call) for call in self.paused.values()) <= MOST_CARRIED

    def take_no_answers(self) -> None:
        """Take no more answers: the run continues as new, and the next one takes them."""
        self._takes_answers = False

    def state(self) -> PeopleState:
        """Return what the next run of the chain has to know."""
        waiting = {id: (question.asked_at, question.reminded) for id, question in self._open.items()}
        return PeopleState(waiting={**self._waiting, **waiting}, answered=self._answered, paused=self.paused)

    async def ask(self, question: Question) -> tuple[str, str] | None:
        """Ask, and wait for the answer as long as it takes.

        Returns:
            The answer as JSON that fits its type, and who has given it; None if there was none at the deadline.
        """
        taken = [*self._open, *self._answered]
        id = next((id for id in question.ids if id not in taken), question.ids[-1])
        question.open(id, *self._waiting.pop(id, (workflow.now(), 0)))
        self._open[id] = question
        self._show()
        if not question.reminded:
            self.on_asked(question)
        try:
            given = await question.answered()
        except (Exception, asyncio.CancelledError):  # a run that the collector closes can do nothing
            self._close(question)
            raise
        if given is None:
            self._close(question)
        return given

    async def decide(self, call: PausedCall, question_about: Callable[[WantedApproval], Question]) -> None:
        """Ask at once for all that a call waits for, until it can go on.

        Args:
            call: The call; decisions are noted in it as they come.
            question_about: Makes the question for a tool that wants approval.
        """

        async def decide_one(wanted: WantedApproval) -> None:
            question = question_about(wanted)
            given = await self.ask(question)
            assert given is not None  # there is no deadline
            approval: Approval = question.read(given[0])
            call.decided[wanted.tool_call] = approval.model_copy(update={"by": given[1] or approval.by})

        await asyncio.gather(*(decide_one(wanted) for wanted in call.wants if wanted.tool_call not in call.decided))

    def _fitting(self, given: Sequence[Any]) -> tuple[Question, str, str]:
        """Return an open question, its answer as JSON, and who gives it.

        Args:
            given: The inputs of the update, whatever they are.

        Raises:
            AnswerRefused: They do not answer an open question.
        """
        if len(given) != 1 or not isinstance(given[0], dict) or given[0].keys() - {"by"} != {"question", "answer"}:
            form = '{"question": "<id>", "answer": …}'
            raise AnswerRefused(f"An answer is one input of the form {form}. {self._listed()}")
        if not self._takes_answers:
            raise AnswerRefused("The run is continuing as new: try again.")
        id, by = given[0]["question"], given[0].get("by", "")
        if not isinstance(by, str) or len(by) > LONGEST_NAME:
            raise AnswerRefused(f"'by' is who answers, in at most {LONGEST_NAME} characters.")
        question = self._open.get(id) if isinstance(id, str) else None
        if question is None:
            raise AnswerRefused(f"The question {json.dumps(id)} {self._state_of(id)}. {self._listed()}")
        return question, question.check(given[0]["answer"]), by

    def _close(self, question: Question) -> None:
        if self._open.pop(question.id, None) is not None:
            self._show()

    def _show(self) -> None:
        # Not only for show: a worker that replays a run takes a workflow task without commands together with the next
        # one, and in that an answer comes before the program: the question would not be open yet.
        listed = [f"{question.id}: {question.person}, {question.method}" for question in self.questions()[:LISTED]]
        workflow.upsert_memo({MEMO: listed})

    def _state_of(self, id: Any) -> str:
        if id in self._answered:
            return "was answered already"
        if isinstance(id, str) and id in self._waiting:
            return "is about to be asked again, as the run has just continued as new: try again"
        return "is not open here"

    def _listed(self) -> str:
        if not self._open:
            return "No question is open."
        asked = [f"{question.id} ({question.method}, {question.person})" for question in self.questions()[:LISTED]]
        more = len(self._open) - len(asked)
        return f"Open: {', '.join(asked)}{f' and {more} more' if more else ''}. The query 'questions' shows them."


def _size(call: PausedCall) -> int:
    checkpoint = len(call.checkpoint.get("packed", "")) or READABLE_BYTES
    return checkpoint + sum(len(approval.model_dump_json()) for approval in call.decided.values())
