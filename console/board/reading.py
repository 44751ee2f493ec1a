"""What the board shows: the list of runs, a run as it is now, its calls, and what its agents said."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from pydantic import BaseModel
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus, WorkflowQueryFailedError
from temporalio.service import RPCError, RPCStatusCode

from activities.border.washing import washed_tree
from activities.contract.conversations import TranscriptPage
from activities.contract.names import CHOREOGRAPHY_QUEUE, NO_RUNS, conversation_id, team_of
from activities.contract.text import clip
from activities.errors import AgentError
from activities.memory.transcript import Entry
from console.board.forms import Form
from console.history import CallSeen, read_run
from console.looking import RPC_TIMEOUT, look
from console.said import Said, plain, said_of
from console.view import Sight, as_word
from workflows.people.people import MEMO
from workflows.people.question import ANYONE
from workflows.shown.progress import Progress, money, tokens_of
from workflows.steering.budget import Limit, how_much

RUNS_SHOWN = 50
RUNS_LOOKED_AT = 2_000
"""Runs among which those are looked for that wait for somebody."""

MESSAGES_SHOWN = 300
"""Entries of a transcript on one page, the last ones."""


class RunListed(BaseModel):
    """A run in the list."""

    id: str
    choreography: str
    status: str
    """`running`, `waits`, `paused`, `done`, `failed`, `cancelled`, or what else the server says."""
    began: datetime
    ended: datetime | None = None
    cost_usd: float | None = None
    tokens: int | None = None
    asks: list[str] = []
    """Its open questions, the first of them: who is asked what."""


class QuestionShown(BaseModel):
    """What a run wants to know from a person."""

    id: str
    person: str
    method: str
    text: str
    arguments: dict[str, Any] = {}
    """What it is about; where a tool is to be approved, its arguments, which the answer may change."""
    in_short: list[str] = []
    """Which of them are not here as a whole."""
    asked_at: datetime
    deadline: datetime | None = None
    answer_schema: Any
    """The JSON schema of what answers it."""

    def form(self) -> Form:
        """Return the form that answers it."""
        arguments = self.arguments if self.person == ANYONE else None
        return Form.of(self.answer_schema, arguments, self.in_short)


class Hold(BaseModel):
    """Why a run makes no calls until a person lets it."""

    what: Literal["paused", "budget"]
    why: str
    raised: dict[str, float] = {}
    """Limits that would do."""


class RunShown(BaseModel):
    """A run as it is now."""

    id: str
    headline: str
    """How it is, in words."""
    began: datetime | None = None
    ended: datetime | None = None
    progress: Progress | None = None
    questions: list[QuestionShown] = []
    holds: list[Hold] = []
    troubles: list[str] = []
    saying: dict[str, str] = {}
    """The end of what a model has said so far in an answer that is coming, by the step of its call."""
    failure: str = ""
    result: str = ""
    """What it came to, as JSON; cut where it is long."""


class CallShown(BaseModel):
    """A call of a run, as `show` lists it."""

    step: str
    instance: str
    method: str
    item: str
    began: datetime
    seconds: float
    outcome: str
    decided: list[str] = []
    """What people had decided on its tools when it was made; of a question, the answer."""
    question: bool = False
    """Whether a person was asked, and no worker."""
    tokens: int
    cost_usd: float | None


async def list_runs(client: Client, status: str = "") -> list[RunListed]:
    """Return the newest runs, without what belongs to them.

    Args:
        client: Temporal's client.
        status: Only those of this `RunStatus`; `asks` for those that wait for a person; all if it is empty.
    """
    try:
        return await _listed(client, _query(status), status, _is_known)
    except RPCError as error:
        if error.status != RPCStatusCode.INVALID_ARGUMENT:
            raise
    # It does not know runs' attributes.
    return await _listed(client, "ExecutionStatus != 'ContinuedAsNew'", status, lambda _: True)


def _query(status: str) -> str:
    parts = [f"(Choreography IS NOT NULL OR (ExecutionStatus = 'Running' AND WorkflowType NOT IN ({_NO_RUNS})))"]
    if status in ("asks", *_OPEN):  # one that was terminated could not say so
        parts.append("ExecutionStatus = 'Running'")
    if status and status != "asks":
        parts.append(f"(RunStatus = '{status}'{' OR RunStatus IS NULL' if status == 'running' else ''})")
    return " AND ".join(parts)


_OPEN = ("running", "waits", "paused")
_NO_RUNS = ", ".join(f"'{kind}'" for kind in sorted(NO_RUNS))


def _is_run(execution: WorkflowExecution) -> bool:
    """Whether it is a choreography's run, or is to become one as soon as somebody serves it."""
    is_no_part = execution.parent_id is None and execution.workflow_type not in NO_RUNS
    return is_no_part and execution.status != WorkflowExecutionStatus.CONTINUED_AS_NEW


def _is_known(execution: WorkflowExecution) -> bool:
    """Whether it has said of itself that it is, or is in a queue of such."""
    told = {pair.key.name for pair in execution.typed_search_attributes.search_attributes}
    return "Choreography" in told or execution.task_queue == CHOREOGRAPHY_QUEUE or bool(team_of(execution.task_queue))


async def _listed(
    client: Client, query: str, status: str, is_known: Callable[[WorkflowExecution], bool]
) -> list[RunListed]:
    found: list[RunListed] = []
    looked_at = 0
    async for execution in client.list_workflows(query, page_size=RUNS_SHOWN):
        looked_at += 1
        if _is_run(execution) and is_known(execution):
            run = await _as_listed(execution)
            if status in ("", run.status) or (status == "asks" and (run.asks or run.status in ("waits", "paused"))):
                found.append(run)
        if len(found) == RUNS_SHOWN or looked_at == RUNS_LOOKED_AT:
            break
    return found


async def _as_listed(execution: WorkflowExecution) -> RunListed:
    told = {pair.key.name: pair.value for pair in execution.typed_search_attributes.search_attributes}
    is_open = execution.status in (None, WorkflowExecutionStatus.RUNNING)
    word = as_word(execution.status) if execution.status else "running"
    return RunListed(
        id=execution.id,
        choreography=execution.workflow_type,
        status=told.get("RunStatus", word) if is_open else word,
        began=execution.start_time,
        ended=execution.close_time,
        cost_usd=told.get("CostUsd"),
        tokens=told.get("Tokens"),
        asks=await _asks(execution) if is_open else [],
    )


async def _asks(execution: WorkflowExecution) -> list[str]:
    try:
        listed = await execution.memo_value(MEMO, [])
    except (AgentError, ValueError, RuntimeError):  # it can't be read here
        return []
    lines = listed if isinstance(listed, list) else []
    return [plain(str(line).partition(": ")[2]) for line in lines]


async def run_now(client: Client, workflow_id: str, saying: Mapping[str, str] | None = None) -> RunShown:
    """Return a run as it is now.

    Args:
        client: Temporal's client.
        workflow_id: The run.
        saying: What its calls say, where that is to be shown.

    Raises:
        RPCError: There is no such run, or the server does not answer.
    """
    sight = Sight(workflow_id)
    await look(client, sight)
    questions = await _questions(client, workflow_id) if sight.progress and not sight.has_ended else []
    return RunShown(
        id=workflow_id,
        headline=sight.headline,
        began=sight.began,
        ended=sight.ended,
        progress=sight.progress,
        questions=questions,
        holds=_holds(sight) if not sight.has_ended else [],
        troubles=sight.troubles,
        saying=dict(saying or {}),
        failure=plain(sight.failure),
        result=await _result(client, sight),
    )


def _holds(sight: Sight) -> list[Hold]:
    if sight.progress is None:
        return []
    found: list[Hold] = []
    for wait in sight.progress.waits_for:
        why = without_command(wait)
        if wait.startswith("paused since"):
            found.append(Hold(what="paused", why=why))
        elif f"--workflow-id {sight.workflow_id} --name set_budget" in wait:
            found.append(Hold(what="budget", why=why, raised=_raised(sight.progress)))
    return found


def _raised(progress: Progress) -> dict[str, float]:
    """Return twice of each limit that is nearly reached."""
    near = {name: one for name, one in progress.budget.items() if one.spent >= 0.8 * one.limit}
    return {name: math.ceil(2 * max(one.limit, one.spent)) for name, one in (near or progress.budget).items()}


_COMMAND = re.compile(r"(?:[.;:]? ?(?:raise it:|go on:)?) ?temporal workflow update execute .*", re.DOTALL)


def without_command(wait: str) -> str:
    """Return what a run waits for without the command that lets it go on: a page has buttons for that."""
    return _COMMAND.sub("", wait)


async def _result(client: Client, sight: Sight) -> str:
    if sight.status != WorkflowExecutionStatus.COMPLETED:
        return ""
    result = await client.get_workflow_handle(sight.workflow_id).result(rpc_timeout=RPC_TIMEOUT)
    return plain(json.dumps(result, indent=2, ensure_ascii=False))


async def _questions(client: Client, workflow_id: str) -> list[QuestionShown]:
    try:
        told = await client.get_workflow_handle(workflow_id).query("questions", rpc_timeout=RPC_TIMEOUT)
    except (RPCError, WorkflowQueryFailedError):  # it was asked for its progress just before
        return []
    return [_asked(one) for one in told]


def _asked(told: Any) -> QuestionShown:
    shown = {"text": plain(told["text"]), "arguments": _plain_tree(washed_tree(told.get("arguments", {})))}
    return QuestionShown.model_validate({**washed_tree(told), **shown})


def _plain_tree(value: Any) -> Any:
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, dict):
        return {name: _plain_tree(part) for name, part in value.items()}
    return [_plain_tree(part) for part in value] if isinstance(value, list) else value


async def calls_of(client: Client, workflow_id: str) -> list[CallShown]:
    """Return all calls of a run, from its histories.

    Raises:
        RPCError: There is no such run, or the server does not answer.
    """
    run = await read_run(client, workflow_id)
    return [_as_shown(call, run.ended or datetime.now(UTC)) for call in run.calls]


def _as_shown(call: CallSeen, now: datetime) -> CallShown:
    outcome = call.error or ("waits for approval" if call.paused else "done" if call.ended else "running")
    return CallShown(
        step=call.step,
        instance=call.instance,
        method=call.method,
        item=plain(call.item),
        began=call.scheduled,
        seconds=call.seconds or (now - call.scheduled).total_seconds(),
        outcome=plain(outcome),
        decided=[plain(words) for words in (_answered(call) if call.is_question else call.decided)],
        question=call.is_question,
        tokens=tokens_of(call.usage),
        cost_usd=call.usage.cost_usd if call.usage.model_calls else None,
    )


async def transcript_of(client: Client, workflow_id: str, instance: str) -> tuple[list[Said], int]:
    """Return what was said in a conversation, the newest part of it, and how much before that is left out.

    Raises:
        RPCError: There is no such conversation, or nobody answers for it.
    """
    entries: list[Entry] = []
    run_id: str | None = None
    while len(entries) < MESSAGES_SHOWN:
        handle = client.get_workflow_handle(conversation_id(workflow_id, instance), run_id=run_id)
        part: list[Entry] = []
        after: int | None = 0
        while after is not None:
            page = await handle.query("transcript", after, result_type=TranscriptPage, rpc_timeout=RPC_TIMEOUT)
            part, after = [*part, *page.entries], page.next
        entries, run_id = [*part, *entries], page.earlier_run
        if run_id is None:
            break
    left_out = max(0, len(entries) - MESSAGES_SHOWN)
    return [said_of(entry) for entry in entries[left_out:]], left_out


def _answered(call: CallSeen) -> list[str]:
    if call.ended is None or call.error is not None:
        return []
    if call.instance == ANYONE:  # what was decided is told of the call that goes on
        approved = call.value.get("approve") if isinstance(call.value, dict) else call.value
        return ["approved" if approved else "refused"]
    answer = call.value if isinstance(call.value, str) else json.dumps(call.value, ensure_ascii=False)
    return [f"answered: {clip(answer, 300)}"]


def waits(run: RunShown) -> Iterator[str]:
    """Yield what a run waits for, but for what the page has a form for."""
    told = {hold.why for hold in run.holds}
    for wait in run.progress.waits_for if run.progress else ():
        about = without_command(wait)
        if about not in told and not any(f"(question {one.id})" in about for one in run.questions):
            yield about


def notes(run: RunShown) -> Iterator[str]:
    """Yield what else is worth knowing, but for what is among the facts."""
    told = {f"budget: {value}" for name, value in facts(run) if name == "budget"}
    yield from (note for note in (run.progress.notes if run.progress else ()) if note not in told)


def facts(run: RunShown) -> Iterator[tuple[str, str]]:
    """Yield what is said of a run in a few words: what was used of models, calls, cost."""
    if run.progress:
        usage = run.progress.usage
        yield "calls", f"{run.progress.calls_done:,} done, {run.progress.calls_running:,} running"
        if run.progress.calls_failed:
            yield "failed", f"{run.progress.calls_failed:,}"
        if usage.model_calls:
            yield "tokens", f"{tokens_of(usage):,}"
            yield "cost", "unknown" if usage.cost_usd is None else f"{money(usage.cost_usd)} USD"
        limits: tuple[Limit, ...] = get_args(Limit)
        for name in limits:
            if (one := run.progress.budget.get(name)) is not None:
                yield "budget", how_much(name, one.spent, one.limit)
