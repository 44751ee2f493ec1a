"""What no server would take goes to the store: in, through and out, encrypted, whoever is killed; and each kind."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import random
import re
import string
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.service import RPCError

import workflows.engine.continuation
import workflows.engine.lifetime
import workflows.program.sharding
from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.housekeeping.stored import StoreCleanup
from activities.payloads.encryption import new_key
from activities.payloads.files import Files
from console.dev_server import DevServer, find_program
from tests.conftest import Ledger, Runs, look_at
from tests.provider import Provider, Text, ToolCall, Tools
from tests.system.processes import ROOT, Process, Workers, eventually
from workflows.serving.client import open_client

MODULE = "tests.system.large_team"
LARGE = int(float(os.environ.get("LARGE_MB", "3")) * 1_000_000)
KEY = new_key()
MARK = b"plain-"


class Site:
    """A server on a file of its own, and workers with a key and a store."""

    def __init__(self, server: DevServer, workers: Workers, folder: Path, environment: dict[str, str]) -> None:
        self.server, self.workers, self.environment = server, workers, environment
        self.store = folder / "store"
        self._db_file = folder / "runs.db"

    async def worker(self, *options: str, **environment: str) -> Process:
        """Start a worker."""
        settings = {**self.environment, **environment}
        started = self.workers.start("--bare", "--module", MODULE, *options, cwd=ROOT, **settings)
        await started.serves()
        return started

    async def client(self) -> Client:
        """Return a client with the settings of this process's environment."""
        return await open_client(target_host=self.server.address)

    def at_rest(self) -> bytes:
        """Return the bytes of the server's database."""
        return b"".join(path.read_bytes() for path in self._db_file.parent.glob(f"{self._db_file.name}*"))

    def stored(self) -> list[Path]:
        """Return the files of the store."""
        return [path for path in self.store.rglob("*") if path.is_file()]

    async def console(self, *arguments: str, **environment: str) -> str:
        """Return what a command says."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "console", *arguments),
            cwd=ROOT,
            env={**os.environ, "TEMPORAL_ADDRESS": self.server.address, **self.environment, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return (await process.communicate())[0].decode()


@pytest.fixture
async def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server of its own, with a store."""
    environment = {"PAYLOAD_KEY": KEY, "PAYLOAD_STORE": (tmp_path / "store").as_uri()}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with DevServer.start(db_file=tmp_path / "runs.db", ui=False) as server:
        workers = Workers(server.address, tmp_path)
        yield Site(server, workers, tmp_path, environment)
        workers.end()


async def test_a_large_text_goes_in_through_and_out_encrypted_whoever_is_killed(site: Site, ledger: Ledger) -> None:
    spec = "plain-text \u00e9\n" * (LARGE // 12)
    doomed = await site.worker(PACE="3600")
    assert f"Payload store: {site.store.as_uri()}" in doomed.output
    client = await site.client()
    run = await client.start_workflow(
        "through", args=[spec, str(ledger.path)], id="large", task_queue=CHOREOGRAPHY_QUEUE
    )
    await eventually(lambda: ledger.lines("began "))
    doomed.kill()
    second = await site.worker()

    assert await run.result() == spec
    assert ledger.lines("began ") == [str(doomed.pid), str(second.pid)]
    assert "event loop" not in second.errors, second.errors
    assert MARK not in site.at_rest()
    assert not any(MARK in path.read_bytes() for path in site.stored())
    history = await run.fetch_history()
    assert sum(event.ByteSize() for event in history.events) < 50_000
    assert len(site.stored()) < 15
    await people_read_it(site, run)

    for path in site.stored():
        os.utime(path, (1, 1))
    cleanup = StoreCleanup(client, Files(site.store).remove_unused, None)
    assert await cleanup.look() > 0
    assert site.stored() == []
    assert "3 calls" in await site.console("show", run.id)


async def people_read_it(site: Site, run: WorkflowHandle[Any, Any]) -> None:
    """Look at a run with all that there is to look with, and fork it."""
    shown, watched, without, forked = await asyncio.gather(
        site.console("show", run.id),
        site.console("watch", run.id),
        site.console("show", run.id, PAYLOAD_STORE=""),
        site.console("fork", run.id, "--at", "3", "--id", "forked"),
    )
    assert "3 calls" in shown
    assert "done" in watched
    assert "PAYLOAD_STORE is not set. Set it to what the workers have" in without
    assert "forked goes on from step 3" in forked
    assert "Traceback" not in shown + watched + without
    assert await (await site.client()).get_workflow_handle("forked").result() == await run.result()


async def test_a_worker_without_a_store_refuses_with_the_mend_and_loses_nothing(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("PAYLOAD_STORE", raising=False)
    address = runs.client.service_client.config.target_host
    async with runs.serving(MODULE, team="large"):
        plain = await open_client(target_host=address)
        with pytest.raises(RPCError, match="limit"):
            await start(plain, "double_all", [noise(3_000_000)])
        refused = await start(plain, "double_all", [noise(1_500_000)])
        with pytest.raises(WorkflowFailureError) as failed:
            await refused.result()
        assert re.search(r"Clerk\.double returned 3,000,\d+ bytes; 2,031,616 is the most", str(failed.value.cause))
        assert "Or set PAYLOAD_STORE for all processes: then 67,043,328 is the most" in str(failed.value.cause)

        monkeypatch.setenv("PAYLOAD_STORE", (tmp_path / "store").as_uri())
        client = await open_client(target_host=address)
        waits = await start(client, "double_all", [noise(3_000_000)], task_timeout=timedelta(seconds=1))
        await eventually(lambda: "PAYLOAD_STORE is not set" in caplog.text)
    async with runs.serving(MODULE, team="large"):
        assert await waits.result() == [noise(3_000_000) * 2]


# By the CLI


@pytest.fixture
async def codec(site: Site, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a codec server."""
    process = Process(
        *(sys.executable, "-m", "console", "codec", "--port", "0"),
        folder=tmp_path / "codec",
        environment=site.environment,
    )
    await process.says("Codec server: ")
    yield process.output.partition("Codec server: ")[2].split()[0]
    process.kill()


async def test_the_cli_starts_a_run_with_a_large_file_and_the_web_ui_shows_its_beginning(
    site: Site, codec: str, tmp_path: Path
) -> None:
    await site.worker()
    (tmp_path / "big.json").write_text(json.dumps(["plain-text " * 300_000]))

    async def temporal(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(find_program(), "workflow", *arguments, "--address", site.server.address, "--codec-endpoint", codec),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        return (await process.communicate())[0].decode()

    started = await temporal(
        *("start", "--type", "double_all", "--task-queue", CHOREOGRAPHY_QUEUE, "--workflow-id", "by-hand"),
        *("--input-file", str(tmp_path / "big.json")),
    )
    assert "RunId" in started, started
    run = (await site.client()).get_workflow_handle("by-hand")
    assert await run.result() == ["plain-text " * 600_000]
    assert len(await temporal("result", "--workflow-id", "by-hand", "--output", "json")) > 6_000_000
    [event, *_] = (await run.fetch_history()).events
    sent = event.workflow_execution_started_event_attributes.input
    page = await asyncio.to_thread(decoded_for_a_page, codec, sent)
    assert page["stored"] == "3,300,004 bytes"
    assert page["begins"].startswith('["plain-text plain-text ')
    for path in site.stored():
        path.unlink()
    assert "the file is missing" in (await asyncio.to_thread(decoded_for_a_page, codec, sent))["stored"]


def decoded_for_a_page(codec: str, payloads: Any) -> Any:
    request = urllib.request.Request(
        f"{codec}/decode", MessageToJson(payloads).encode(), {"Origin": "http://localhost:8233"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.loads(base64.b64decode(json.loads(answer.read())["payloads"][0]["data"]))


# Each kind


@pytest.fixture
async def stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runs: Runs) -> AsyncIterator[Client]:
    """A client of a team that is served here with a store."""
    monkeypatch.setenv("PAYLOAD_STORE", (tmp_path / "store").as_uri())
    async with runs.serving(MODULE, team="large"):
        yield await open_client(target_host=runs.client.service_client.config.target_host)


async def start(client: Client, name: str, *inputs: Any, **options: Any) -> WorkflowHandle[Any, Any]:
    return await client.start_workflow(
        name, args=list(inputs), id=f"{name}-{time.time_ns()}", task_queue="large.choreography", **options
    )


def noise(size: int) -> str:
    """Return a text that can't be compressed to half of it."""
    return "".join(random.Random(size).choices(string.ascii_letters, k=size))


@pytest.mark.filterwarnings("ignore:Sending a large body")  # of the request to the model
async def test_memos_prompts_heartbeats_tells_questions_answers_and_transcripts(
    stored: Client, provider: Provider
) -> None:
    text = noise(2_500_000)
    provider.enqueue(Text("read"))
    run = await start(stored, "read_and_ask", text, memo={"note": text})
    while not (questions := await run.query("questions")):
        await asyncio.sleep(0.1)
    assert text in str(provider.requests[-1].body)
    assert await (await run.describe()).memo_value("note") == text
    conversation = stored.get_workflow_handle(f"{run.id}/archivist-1")
    await conversation.execute_update("tell", text)
    assert text in str((await conversation.query("transcript"))["entries"])
    assert (await conversation.query("tells"))[0]["text"] == text
    await run.execute_update("answer", {"question": questions[0]["id"], "answer": text})
    assert await run.result() == f"read{text}"
    assert (await run.fetch_history()).events
    assert "read" in await look_at(stored, run.id)


async def test_heartbeats_carry_a_large_state_to_the_next_attempt(
    stored: Client, provider: Provider, ledger: Ledger
) -> None:
    provider.enqueue(Tools((ToolCall("fill", {"size": 3_000_000}),)), Text("read"))
    run = await start(stored, "stumble_once", str(ledger.path))
    assert await run.result() == "read 3000000"
    assert ledger.lines() == ["stumbled"]
    assert len(provider.requests) == 2


async def test_a_call_waits_for_what_is_not_in_the_store_and_makes_nothing_twice(
    stored: Client,
    provider: Provider,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("REST", "4")
    provider.enqueue(Tools((ToolCall("fill", {"size": 3_000_000}),)), Text("read"))
    run = await start(stored, "stumble_once", str(ledger.path))

    async def rests() -> bool:
        calls = (await run.describe()).raw_description.pending_activities
        return any(call.attempt == 2 and call.HasField("next_attempt_schedule_time") for call in calls)

    while not await rests():
        await asyncio.sleep(0.02)
    (tmp_path / "store").rename(tmp_path / "elsewhere")
    await eventually(lambda: "there is no such folder on this machine" in caplog.text)
    (tmp_path / "elsewhere").rename(tmp_path / "store")

    assert await run.result() == "read 3000000"
    assert len(provider.requests) == 2


async def test_parts_of_a_scatter(stored: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 3)
    texts = [str(number) + noise(1_500_000) for number in range(4)]
    run = await start(stored, "double_all", texts)
    assert await run.result() == [text + text for text in texts]
    kinds = [event.WhichOneof("attributes") for event in (await run.fetch_history()).events]
    assert "child_workflow_execution_completed_event_attributes" in kinds


async def test_continuing_as_new_and_beginning_afresh(stored: Client) -> None:
    run = await start(stored, "again", noise(3_000_000), 3)
    assert await run.result() == 6_000_000


async def test_pages_of_a_journal(stored: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflows.engine.lifetime, "CONTINUE_AT_EVENTS", 20)
    run = await start(stored, "gather_texts", noise(400_000), 8)
    assert await run.result() == 8 * 2 * 400_001
    journal = await stored.get_workflow_handle(f"{run.id}/journal").fetch_history()
    assert sum(event.ByteSize() for event in journal.events) < 1_000_000  # what is less than a page may be in it
    kept = [len(path.read_bytes()) for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert sum(size > 1_400_000 for size in kept) >= 2
