"""What runs tell webhooks: in order, until it is taken, and never to the run's cost."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import pytest
from pydantic import BaseModel, ValidationError
from temporalio.client import WorkflowFailureError

from activities import Agent, Person, prompt, task
from activities.housekeeping import webhooks
from activities.housekeeping.webhooks import signature
from tests.conftest import Runs
from tests.provider import Provider, Text
from tests.system.resets import open_workflows
from workflows import choreography, continue_with
from workflows.engine.options import RunOptions


class Editor(Person):
    """Who decides."""

    @prompt
    async def decide(self, about: str) -> str:
        """What of {about}?"""


class Printer(Agent):
    """You print."""

    @task(retries=0)
    async def fail(self) -> str:
        """Fail."""
        raise RuntimeError("out of ink")

    @prompt(memory=False)
    async def say(self, about: str) -> str:
        """Say {about}."""


@choreography
async def told(count: int, editor: Editor) -> list[str]:
    return [await editor.decide(f"thing {number}") for number in range(count)]


@choreography
async def told_in_rounds(rounds: int, editor: Editor) -> str:
    decided = await editor.decide(f"round {rounds}")
    return decided if rounds == 1 else continue_with(rounds - 1)


@choreography
async def fails(printer: Printer) -> str:
    return await printer.fail()


@choreography
async def costs(printer: Printer) -> list[str]:
    return [await printer.say(f"thing {number}") for number in range(3)]


class Receiver:
    """A webhook's receiver: it notes what comes, and answers as it is told to.

    Attributes:
        taken: The events that it has answered well, with the headers that came with them.
        asked: How often it was asked.
        answers: What it answers, status and seconds, before it takes everything.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, Any], dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.asked = 0
        self.answers: list[tuple[int, float]] = []
        outer = self

        class Exchange(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.asked += 1
                status, seconds = outer.answers.pop(0) if outer.answers else (204, 0.0)
                time.sleep(seconds)
                if status < 300:
                    headers = {name.lower(): value for name, value in self.headers.items()}
                    outer.taken.append((json.loads(body), headers))
                    outer.bodies.append(body)
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Exchange)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def events(self) -> list[str]:
        """Return what was taken, in a word each."""
        return [event["event"] for event, _ in self.taken]

    async def takes(self, *events: str) -> None:
        """Wait until it has taken these and no others."""
        async with asyncio.timeout(60):
            while len(self.taken) < len(events):
                await asyncio.sleep(0.05)
        assert self.events() == list(events)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on loopback."""
    with Receiver() as made:
        yield made


async def answer_all(runs: Runs, run_id: str, count: int) -> None:
    run = runs.client.get_workflow_handle(run_id)
    for _ in range(count):
        while not (open_ones := await run.query("questions")):
            await asyncio.sleep(0.05)
        await run.execute_update("answer", {"question": open_ones[0]["id"], "answer": "yes"})


async def test_questions_and_the_end_are_told_in_order_with_what_answers_them(runs: Runs, receiver: Receiver) -> None:
    async with runs.serving(__name__):
        run = await runs.start(told, 3, {"webhook": receiver.url})
        await answer_all(runs, run.id, 3)
        await run.result()
        await receiver.takes(*["question_asked"] * 3, "run_ended")
    asked, ended = receiver.taken[0][0], receiver.taken[-1][0]
    assert {"run": run.id, "choreography": "told"}.items() <= asked.items()
    assert asked["about"]["text"] == "What of thing 0?"
    assert "--name answer" in asked["about"]["command"]
    assert ended["about"] == {"status": "done"}
    assert len({event["id"] for event, _ in receiver.taken}) == 4
    assert receiver.asked == 4


async def test_a_receiver_that_fails_is_slow_or_away_gets_each_once_and_in_order(
    runs: Runs, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "ANSWERS_WITHIN_S", 0.5)
    receiver.answers = [(500, 0.0), (429, 0.0), (503, 1.0), (204, 0.3), (404, 0.0)]
    async with runs.serving(__name__):
        run = await runs.start(told, 2, {"webhook": receiver.url})
        await answer_all(runs, run.id, 2)
        assert await run.result() == ["yes", "yes"]  # it waits for nobody who receives
        await receiver.takes("question_asked", "question_asked", "run_ended")
    texts = [event["about"].get("text") for event, _ in receiver.taken]
    assert texts == ["What of thing 0?", "What of thing 1?", None]
    assert receiver.asked == 7


async def test_a_run_that_continues_as_new_tells_all_of_it(runs: Runs, receiver: Receiver) -> None:
    async with runs.serving(__name__):
        run = await runs.start(told_in_rounds, 3, {"webhook": receiver.url})
        await answer_all(runs, run.id, 3)
        assert await runs.client.get_workflow_handle(run.id).result() == "yes"
        await receiver.takes(*["question_asked"] * 3, "run_ended")


async def test_a_failure_is_told_with_its_reason(runs: Runs, receiver: Receiver) -> None:
    async with runs.serving(__name__):
        run = await runs.start(fails, {"webhook": receiver.url})
        with pytest.raises(WorkflowFailureError):
            await run.result()
        await receiver.takes("run_ended")
    about = receiver.taken[0][0]["about"]
    assert about["status"] == "failed"
    assert "out of ink" in about["why"]


async def test_a_cancelled_run_tells_so(runs: Runs, receiver: Receiver) -> None:
    async with runs.serving(__name__):
        run = await runs.start(told, 1, {"webhook": receiver.url})
        await receiver.takes("question_asked")
        await run.cancel()
        await receiver.takes("question_asked", "run_ended")
        assert receiver.taken[-1][0]["about"]["status"] == "cancelled"


async def test_a_budget_that_is_reached_is_told(runs: Runs, receiver: Receiver, provider: Provider) -> None:
    provider.enqueue(Text("one"), Text("two"), Text("three"))
    async with runs.serving(__name__):
        run = await runs.start(costs, {"webhook": receiver.url, "budget": {"calls": 1}})
        await receiver.takes("budget_reached")
        assert receiver.taken[0][0]["about"]["limit"] == "calls"
        assert "set_budget" in receiver.taken[0][0]["about"]["why"]
        await run.execute_update("set_budget", {"calls": 5})
        await run.result()
        await receiver.takes("budget_reached", "run_ended")


async def test_what_is_sent_is_signed_with_the_workers_secret(
    runs: Runs, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "shared with the receiver")
    async with runs.serving(__name__):
        run = await runs.start(told, 0, {"webhook": receiver.url})
        await run.result()
        await receiver.takes("run_ended")
    [(event, headers)] = receiver.taken
    assert headers["webhook-id"] == event["id"]
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 300
    expected = signature("shared with the receiver", event["id"], headers["webhook-timestamp"], receiver.bodies[0])
    assert headers["webhook-signature"] == expected
    assert signature("other", event["id"], headers["webhook-timestamp"], receiver.bodies[0]) != expected


async def test_a_receiver_that_wants_no_more_gets_no_more(runs: Runs, receiver: Receiver) -> None:
    receiver.answers = [(410, 0.0)]
    async with runs.serving(__name__):
        run = await runs.start(told, 0, {"webhook": receiver.url})
        await run.result()
        delivering = runs.client.get_workflow_handle(f"{run.id}/webhook")
        assert await delivering.result() == "the receiver wants no more"
    assert receiver.asked == 1


async def test_nothing_is_begun_for_a_run_without_a_webhook(runs: Runs) -> None:
    async with runs.serving(__name__):
        run = await runs.start(told, 0)
        await run.result()
        assert f"{run.id}/webhook" not in await open_workflows(runs.client, run.id)


class _Given(BaseModel):
    options: RunOptions


@pytest.mark.parametrize("url", ["", "ftp://x", "hook", "http://a b", "file:///etc/passwd", f"http://{'x' * 2_000}"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="webhook"):
        _Given.model_validate({"options": {"webhook": url}})
