from __future__ import annotations

import asyncio
import io
import os
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from temporalio import activity, workflow
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import (
    ResetWorkflowExecutionRequest,
    RespondActivityTaskCompletedByIdRequest,
)
from temporalio.client import WorkflowFailureError
from temporalio.worker import Worker

import console.mermaid
from console.dev_server import DevServer
from console.history import CallSeen, RunSeen, read_run
from console.mermaid import sequence_diagram
from console.show import print_table, show
from tests.conftest import Ledger, Runs
from tests.office import note_numbers, one_call
from tests.provider import Provider, Text, ToolCall, Tools
from tests.system.processes import Process
from tests.workflows.council import decide_once, produce_twice
from tests.workflows.histories import Handle, events

OFFICE = "tests.office"
COUNCIL = "tests.workflows.council"
ONE_CLERK = {"instances": {"clerk": 1}}


def table(run: RunSeen) -> list[list[str]]:
    """Return the words of each line of the table."""
    file = io.StringIO()
    print_table(run, Console(file=file, width=160, color_system=None))
    return [line.split() for line in file.getvalue().splitlines() if line.strip()]


async def test_a_run_is_shown_call_by_call(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(note_numbers, [2, 3], str(ledger.path), True, ONE_CLERK)
        await run.result()
    head, _, first, second, *failure, total = table(await read_run(runs.client, run.id))
    assert head == ["at", "step", "who", "was", "asked", "to", "about", "how", "it", "ended", "took", "tokens", "USD"]
    assert first[2:] == ["1.1.1", "clerk-1", "fail_if_odd", "2", "done", *first[-2:]]
    assert second[2:7] == ["1.2.1", "clerk-1", "fail_if_odd", "3", "failed"]
    told = " ".join(word for words in failure for word in words)
    assert told.startswith("failed: step 1.2.1, Clerk.fail_if_odd (clerk-1 · 3): 3 is odd (office.py:")
    assert re.match(rf"{run.id} \(note_numbers\): done after \d+ s, 2 calls", " ".join(total))


async def test_a_run_with_a_repository_tells_where_that_is(workspaces: Path) -> None:
    run = RunSeen("build/kit", "build_project", datetime.now(UTC), first_run_id="0123456789")
    assert not any(words[0] == "Repository:" for words in table(run))
    run.calls = [CallSeen("Coder.write", "coder-1", run.began, "1", moved_branches=True)]
    elsewhere = "in the folder that WORKSPACES names for the workers; it is not here"
    assert table(run)[-1] == ["Repository:", "build-kit-23456789.repository/repository.git", *elsewhere.split()]
    git = workspaces / "build-kit-23456789.repository" / "repository.git"
    git.mkdir(parents=True)
    assert "".join(table(run)[-1]) == f"Repository:{git}"


async def test_what_models_used_is_shown_for_each_call_and_in_all(runs: Runs, provider: Provider) -> None:
    provider.on("rain", Text("It rains."))
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "write", ["rain"])
        await run.result()
    seen = await read_run(runs.client, run.id)
    [call] = seen.calls
    tokens = call.usage.prompt_tokens + call.usage.completion_tokens
    assert tokens > 0
    *_, row, total = table(seen)
    assert row[-2:] == [f"{tokens:,}", "?"]
    assert " ".join(total).endswith(f"1 call, 1 model call, {tokens} tokens, cost unknown")


async def test_a_run_that_goes_on_is_shown_as_far_as_it_is(runs: Runs) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(one_call, "wait", [])
        async for event in run.fetch_history_events(wait_new_event=True):
            if event.HasField("activity_task_scheduled_event_attributes"):
                break
        seen = await read_run(runs.client, run.id)
        await run.cancel()
    assert (seen.outcome, [call.ended for call in seen.calls]) == ("running", [None])
    assert "runs" in table(seen)[2]


@activity.defn(name="Clerk.note")
async def note(what: str) -> dict[str, Any]:
    return {"value": what, "usage": {"model_calls": 1, "prompt_tokens": 10}}


@workflow.defn(name="relay", sandboxed=False)
class Relay:
    """A run that makes a call, has a child make another, and goes on in a new run."""

    @workflow.run
    async def run(self, rounds: int) -> None:
        await self.call(f"round {rounds}")
        await workflow.execute_child_workflow("relay_part", rounds, id=f"{workflow.info().workflow_id}/part")
        if rounds > 1:
            workflow.continue_as_new(rounds - 1)

    async def call(self, what: str) -> None:
        await workflow.execute_activity(
            "Clerk.note", what, start_to_close_timeout=timedelta(seconds=10), summary=f"clerk-1 · {what}"
        )


@workflow.defn(name="relay_part", sandboxed=False)
class RelayPart(Relay):
    @workflow.run
    async def run(self, rounds: int) -> None:
        await self.call(f"part of round {rounds}")


async def test_a_run_that_went_on_in_others_is_shown_as_one_with_what_its_children_did(runs: Runs) -> None:
    async with Worker(runs.client, task_queue="relay", workflows=[Relay, RelayPart], activities=[note]):
        await runs.client.execute_workflow("relay", 3, id="relay", task_queue="relay")
        seen = await read_run(runs.client, "relay")
    assert [call.item for call in seen.calls] == [
        words for n in (3, 2, 1) for words in (f"round {n}", f"part of round {n}")
    ]
    assert seen.outcome == "done"
    assert sum(call.usage.prompt_tokens for call in seen.calls) == 60


# Runs of every kind


async def question_of(run: Handle) -> dict[str, Any]:
    async with asyncio.timeout(20):
        while not (found := await run.query("questions")):
            await asyncio.sleep(0.02)
    asked: dict[str, Any] = found[0]
    return asked


async def test_a_run_with_an_approval_is_shown_and_what_it_used_is_counted_once(
    runs: Runs, provider: Provider, ledger: Ledger
) -> None:
    provider.enqueue(
        Tools((ToolCall("print_out", {"title": "Roses", "ledger": str(ledger.path)}, "c-1"),)), Text("done")
    )
    provider.enqueue(Text("done again"))
    async with runs.serving(COUNCIL):
        run = await runs.start(produce_twice, "Roses")
        question = await question_of(run)
        waiting = await read_run(runs.client, run.id)
        await run.execute_update("answer", {"question": question["id"], "answer": True})
        await run.result()
    assert [(call.method, call.paused, call.ended is None) for call in waiting.calls] == [
        ("Press.produce", True, False),
        ("Press.print_out", False, True),
    ]
    assert "waits for approval" in " ".join(word for line in table(waiting) for word in line)
    seen = await read_run(runs.client, run.id)
    assert [(call.step, call.instance, call.method) for call in seen.calls] == [
        ("1", "press-1", "Press.produce"),
        ("1", "anyone", "Press.print_out"),
        ("1", "press-1", "Press.produce"),
        ("2", "press-1", "Press.produce"),
    ]
    assert (seen.calls[1].value, seen.calls[2].value) == (True, "done")
    assert sum(call.usage.model_calls for call in seen.calls) == 3


async def test_what_people_were_asked_is_shown_with_how_they_answered(runs: Runs) -> None:
    async with runs.serving(COUNCIL):
        run = await runs.start(decide_once, {"title": "Roses", "pages": 12})
        question = await question_of(run)
        await run.execute_update("answer", {"question": question["id"], "answer": {"verdict": "go", "pages": 2}})
        await run.result()
    [call] = (await read_run(runs.client, run.id)).calls
    assert (call.instance, call.method, call.item) == ("owner-1", "Owner.decide", question["id"])
    assert call.value == {"verdict": "go", "pages": 2}


async def test_a_question_that_was_given_up_is_shown_as_cancelled(runs: Runs) -> None:
    async with runs.serving(COUNCIL):
        run = await runs.start(decide_once, {"title": "Roses", "pages": 12})
        await question_of(run)
        await run.cancel()
        with pytest.raises(WorkflowFailureError):
            await run.result()
    seen = await read_run(runs.client, run.id)
    assert (seen.outcome, seen.calls[0].error) == ("cancelled", "cancelled")


async def test_a_run_that_failed_says_why(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(note_numbers, [3], str(ledger.path))
        with pytest.raises(WorkflowFailureError):
            await run.result()
    *_, last = table(await read_run(runs.client, run.id))
    assert " ".join(last).startswith("failed: note_numbers: item 0 (3) on clerk-1")


async def test_a_run_that_was_reset_is_shown_as_it_went_on(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(note_numbers, [2, 4], str(ledger.path), False, ONE_CLERK)
        await run.result()
        ended = [e.event_id for e in await events(run) if e.HasField("workflow_task_completed_event_attributes")]
        await runs.client.workflow_service.reset_workflow_execution(
            ResetWorkflowExecutionRequest(
                namespace=runs.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=run.id, run_id=run.result_run_id or ""),
                reason="a test",
                request_id="once",
                workflow_task_finish_event_id=ended[1],
            )
        )
        await runs.client.get_workflow_handle(run.id).result()
    seen = await read_run(runs.client, run.id)
    assert (seen.outcome, [call.item for call in seen.calls]) == ("done", ["2", "4"])


@pytest.mark.parametrize("result", ['"by hand"', "7", "null", "[]", '{"value": 1, "usage": 3}', '{"paused": true}'])
async def test_a_call_that_was_completed_by_hand_with_whatever_is_shown(runs: Runs, result: str) -> None:
    async with runs.serving(OFFICE, serve=("choreography",)):
        run = await runs.start(one_call, "nothing", [])
        async with asyncio.timeout(20):
            while not (pending := (await run.describe()).raw_description.pending_activities):
                await asyncio.sleep(0.02)
        await runs.client.workflow_service.respond_activity_task_completed_by_id(
            RespondActivityTaskCompletedByIdRequest(
                namespace=runs.client.namespace,
                workflow_id=run.id,
                activity_id=pending[0].activity_id,
                result=Payloads(payloads=[Payload(metadata={"encoding": b"json/plain"}, data=result.encode())]),
            )
        )
        async with asyncio.timeout(20):
            while (await read_run(runs.client, run.id)).calls[0].ended is None:
                await asyncio.sleep(0.02)
    assert table(await read_run(runs.client, run.id))


# The diagram


async def test_the_diagram_shows_who_was_asked_what_and_what_it_took(runs: Runs, ledger: Ledger) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(note_numbers, [2, 3], str(ledger.path), True, ONE_CLERK)
        await run.result()
    seen = await read_run(runs.client, run.id)
    lines = [line.strip() for line in sequence_diagram(seen).splitlines()]
    assert lines[:5] == [
        "sequenceDiagram",
        "participant run as note_numbers",
        "participant p1 as clerk-1",
        "run->>+p1: fail_if_odd (2)",
        f"p1-->>-run: {seen.calls[0].seconds:.1f} s",
    ]
    assert lines[6].startswith("p1--x-run: 3 is odd (office.py:")
    assert lines[7] == "Note over run: done"


async def test_a_long_diagram_is_cut_and_says_so(runs: Runs, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.mermaid, "MOST_CALLS", 3)
    async with runs.serving(OFFICE):
        run = await runs.start(note_numbers, [2, 4, 6, 8, 10], str(ledger.path))
        await run.result()
    diagram = sequence_diagram(await read_run(runs.client, run.id))
    assert diagram.count("run->>") == 3
    assert "Note over run: 2 more calls of this run not drawn" in diagram


# The command


async def test_the_command_writes_either(runs: Runs, ledger: Ledger, server: DevServer, tmp_path: Path) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(note_numbers, [2], str(ledger.path))
        await run.result()
    said = []
    for number, options in enumerate([[], ["--mermaid"]]):
        process = Process(
            *(sys.executable, "-m", "console", "show", run.id, *options),
            folder=tmp_path / str(number),
            environment={"TEMPORAL_ADDRESS": server.address},
        )
        assert await process.exit_code() == 0, process.errors
        said.append(process.output)
    assert "fail_if_odd" in said[0]
    assert said[1].startswith("sequenceDiagram\n")


def test_a_run_that_there_is_not_is_named(
    server: DevServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    assert show("nothing", as_mermaid=False) == 2
    assert "there is no run 'nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("form", [[], ["--mermaid"]])
async def test_whoever_has_read_enough_of_it_may_go(
    runs: Runs, ledger: Ledger, server: DevServer, form: list[str]
) -> None:
    async with runs.serving(OFFICE):
        run = await runs.start(note_numbers, [2, 4], str(ledger.path), True, ONE_CLERK)
        await run.result()
    shown = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "console", "show", run.id, *form),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TEMPORAL_ADDRESS": server.address},
    )
    assert shown.stdout is not None
    shown.stdout._transport.close()  # type: ignore[attr-defined]  # as `head` does when it has its lines
    assert shown.stderr is not None
    assert await shown.stderr.read() == b""
    await shown.wait()
