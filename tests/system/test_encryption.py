"""A server whose files hold nothing that a run says, and the ways in which people read it nevertheless."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.payloads.encryption import new_key
from console.dev_server import DevServer, find_program
from tests.provider import Provider, Reply, Request, Text, ToolCall, Tools
from tests.system.forked import ForkedWorker
from tests.system.processes import ROOT, Process, Workers, eventually
from workflows.serving.client import open_client

SEALED = "tests.system.sealed"
KEY = new_key()


def says(request: Request) -> Reply:
    if request.messages[-1]["role"] == "tool":
        return Text("plain-answer")
    return Tools((ToolCall("look", {"what": "plain-argument"}),))


class Site:
    """A server on a file of its own, and workers with a key or without."""

    def __init__(self, server: DevServer, workers: Workers, provider: Provider, db_file: Path) -> None:
        self.server, self.workers, self.provider, self.db_file = server, workers, provider, db_file

    def worker(self, key: str) -> ForkedWorker:
        """Let a worker serve with a key."""
        return self.workers.fork(SEALED, **{**self.provider.environment, "PAYLOAD_KEY": key})

    async def client(self) -> Client:
        """Return a client with the key of this process's environment."""
        return await open_client(target_host=self.server.address)

    def at_rest(self) -> bytes:
        """Return the bytes of the server's database."""
        return b"".join(path.read_bytes() for path in self.db_file.parent.glob(f"{self.db_file.name}*"))

    async def console(self, *arguments: str, key: str) -> str:
        """Return what a command says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "console", *arguments),
            cwd=ROOT,
            env={**os.environ, "TEMPORAL_ADDRESS": self.server.address, "PAYLOAD_KEY": key},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return (await process.communicate())[0].decode()


@pytest.fixture
async def site(tmp_path: Path, provider: Provider, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server of its own."""
    provider._responder = says
    monkeypatch.setenv("PAYLOAD_KEY", KEY)
    with DevServer.start(db_file=tmp_path / "runs.db", ui=False) as server:
        workers = Workers(server.address, tmp_path)
        yield Site(server, workers, provider, tmp_path / "runs.db")
        workers.end()


async def through(client: Client, id: str = "sealed") -> WorkflowHandle[Any, Any]:
    """Run the team to its end, with all that a run may say."""
    run = await client.start_workflow(
        "tell",
        "plain-input",
        id=id,
        task_queue=CHOREOGRAPHY_QUEUE,
        memo={"noted": "plain-memo"},
        static_summary="plain-summary",
        static_details="plain-details",
    )
    while not (questions := await run.query("questions")):
        await asyncio.sleep(0.1)
    await client.get_workflow_handle(f"{id}/clerk-1").signal("tell", "plain-tell")
    await run.execute_update("answer", {"question": questions[0]["id"], "answer": "plain-yes"})
    await run.result()
    failing = await client.start_workflow(
        "fail_plainly", "plain-input", id=f"{id}-fails", task_queue=CHOREOGRAPHY_QUEUE
    )
    with pytest.raises(WorkflowFailureError) as failed:
        await failing.result()
    assert "plain-failure" in str(failed.value.cause)
    return run


async def test_bytes_at_rest_hold_no_plain_text_and_people_with_the_key_read_all(site: Site) -> None:
    site.worker(KEY)
    run = await through(await site.client())

    assert (await run.result())["agreed"] == "plain-yes"
    assert b"sealed/clerk-1" in site.at_rest()
    assert b"plain-" not in site.at_rest()
    shown = await site.console("show", run.id, key=KEY)
    assert "plain-question" in shown
    assert "plain-failure" in shown
    assert "plain-failure" in await site.console("show", f"{run.id}-fails", key=KEY)
    assert "plain-failure" in await site.console("watch", f"{run.id}-fails", key=KEY)
    for command in ("show", "watch"):
        without = await site.console(command, run.id, key="")
        assert f"'{KEY.partition(':')[0]}'" in without
        assert "PAYLOAD_KEY is not set" in without
        assert "Traceback" not in without


async def test_without_a_key_they_would_be_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PAYLOAD_KEY")
    site.worker("")
    await through(await site.client())

    for place in ("input", "memo", "summary", "tool-result", "answer", "failure", "item", "yes", "tell"):
        assert f"plain-{place}".encode() in site.at_rest(), place


async def test_a_run_waits_for_a_worker_that_has_its_key_and_loses_nothing(site: Site) -> None:
    options = ("--bare", "--module", SEALED, "--serve", "choreography")
    wrong = site.workers.start(*options, PAYLOAD_KEY=new_key())
    client = await site.client()
    run = await client.start_workflow("tell", "plain-input", id="waits", task_queue=CHOREOGRAPHY_QUEUE)
    await eventually(lambda: "PAYLOAD_KEY" in wrong.errors)
    assert f"encrypted with the key '{KEY.partition(':')[0]}'" in wrong.errors
    wrong.kill()

    site.worker(f"{KEY},{new_key()}")
    questions: list[dict[str, Any]] = []
    while not questions:
        with suppress(RPCError):  # its workflow task has failed, and may be tried again only later
            questions = await run.query("questions")
        await asyncio.sleep(0.1)
    await run.execute_update("answer", {"question": questions[0]["id"], "answer": "plain-yes"})
    assert (await run.result())["answer"] == "plain-answer"


@pytest.fixture
async def codec(site: Site, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a codec server."""
    process = Process(
        *(sys.executable, "-m", "console", "codec", "--port", "0", "--origin", "https://temporal.example.com"),
        folder=tmp_path / "codec",
        environment={"PAYLOAD_KEY": KEY},
    )
    await process.says("Codec server: ")
    yield process.output.partition("Codec server: ")[2].split()[0]
    process.kill()


def post(url: str, body: object, **headers: str) -> tuple[int, dict[str, str], Any]:
    """Send a request; return status, headers and body."""
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {name.replace("_", "-"): value for name, value in headers.items()}
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, dict(answer.headers), json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read().decode()


PLAIN = {"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "InBsYWluLXRleHQi"}]}


async def test_the_web_ui_and_the_cli_read_and_write_by_the_codec_server(site: Site, codec: str) -> None:
    site.worker(KEY)
    run = await through(await site.client())

    def temporal(*arguments: str) -> Any:
        return asyncio.create_subprocess_exec(
            *(find_program(), "workflow", *arguments, "--address", site.server.address, "--codec-endpoint", codec),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )

    shown = (await (await temporal("result", "--workflow-id", run.id)).communicate())[0].decode()
    assert "plain-yes" in shown
    started = await temporal(
        *("start", "--type", "fail_plainly", "--task-queue", CHOREOGRAPHY_QUEUE, "--workflow-id", "by-hand"),
        *("--input", '"plain-by-hand"'),
    )
    await started.communicate()
    with pytest.raises(WorkflowFailureError, match="failed"):
        await (await site.client()).get_workflow_handle("by-hand").result()
    assert b"plain-by-hand" not in site.at_rest()


@pytest.mark.parametrize(
    ("origin", "let_in"),
    [
        ("http://localhost:8233", True),
        ("http://127.0.0.1:1234", True),
        ("https://temporal.example.com", True),
        ("https://evil.example.com", False),
        ("http://localhost.example.com", False),
        ("null", False),
    ],
)
async def test_only_pages_that_are_let_in_are_answered(codec: str, origin: str, let_in: bool) -> None:
    status, headers, encoded = await asyncio.to_thread(post, f"{codec}/default/encode", PLAIN, Origin=origin)

    assert headers.get("Access-Control-Allow-Origin") == (origin if let_in else None)
    assert status == (200 if let_in else 403)
    if let_in:
        assert (await asyncio.to_thread(post, f"{codec}/decode", encoded, Origin=origin))[2] == PLAIN


async def test_what_can_not_be_decoded_is_told(codec: str) -> None:
    sealed = {
        "payloads": [
            {"metadata": {"encoding": "YmluYXJ5L2VuY3J5cHRlZA==", "encryption-key-id": "aWQ5"}, "data": "AA=="}
        ]
    }

    for body, words in ((sealed, "'id9'"), ({"payloads": 7}, "no payloads")):
        status, _, said = await asyncio.to_thread(post, f"{codec}/decode", body)
        assert status == 400
        assert words in said
    assert (await asyncio.to_thread(post, f"{codec}/elsewhere", PLAIN))[0] == 404
