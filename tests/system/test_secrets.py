"""A worker whose secrets are told in every way that there is, and all places where they could be found afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle, WorkflowUpdateFailedError

from activities.contract.names import CHOREOGRAPHY_QUEUE
from activities.memory.transcript import decompressed
from console.dev_server import DevServer
from tests.provider import Fault, Provider, Reply, Request, Text, ToolCall, Tools
from tests.system.processes import ROOT, Process, Workers, files_of
from tests.system.test_people import one_question
from tests.workflows.histories import histories

MARK = b"marked-"
SECRETS = {
    "OPENAI_API_KEY": "marked-openai-1",
    "TEAM_TOKEN": 'marked-"token"\\2',
    "DB_PASSWORD": "marked-pass/word-3",
    "STRIPE_KEY": "marked-stripe-4",
}
"""Of the worker, and of no other process."""

TELLS = {"look around": "look_around", "write it down": "write_down", "stumble": "stumble"}


def tells(request: Request) -> Reply:
    """Call the tool that tells something, then say all that there is to say; refuse what is to be refused."""
    if "be refused" in request.last_user:
        return Fault(401, f"Incorrect API key provided: {request.headers['authorization']}")
    if request.messages[-1]["role"] == "tool":
        return Text(f"It says {request.messages[-1]['content']}; your key is {request.headers['authorization']}.")
    return Tools((ToolCall(TELLS[request.last_user], {}),))


def _around(found: bytes) -> list[bytes]:
    """Return where a secret is in some bytes, with what is around it."""
    return [found[max(at.start() - 60, 0) : at.end() + 40] for at in re.finditer(MARK, found)]


def all_in(message: Message) -> bytes:
    """Return the bytes of a message, and what is compressed in its payloads."""
    return message.SerializeToString() + b"".join(_unpacked(payload) for payload in _payloads(message))


def _payloads(message: Message) -> list[Payload]:
    if isinstance(message, Payload):
        return [message]
    found = []
    for field, value in message.ListFields():
        if field.type != field.TYPE_MESSAGE:
            continue
        inside = value.values() if hasattr(value, "values") else value if hasattr(value, "__len__") else [value]
        found += [payload for one in inside if isinstance(one, Message) for payload in _payloads(one)]
    return found


def _unpacked(payload: Payload) -> bytes:
    found = re.findall(rb'"(?:packed|said)":"([^"]+)"', payload.data)
    return payload.data + b"".join(decompressed(text.decode()) for text in found)


async def whole(client: Client, run: WorkflowHandle[Any, Any]) -> bytes:
    """Return all that the server knows of a run and of what belongs to it."""
    found = [(await run.describe()).raw_description]
    told = b"".join(map(all_in, found))
    for one in (run, client.get_workflow_handle(f"{run.id}/leak-1")):
        handle = client.get_workflow_handle(one.id, run_id=(await one.describe()).run_id)
        told += all_in((await handle.describe()).raw_description)
        told += b"".join(all_in(event) for event in (await handle.fetch_history()).events)
    return told


@pytest.fixture
async def asked(provider: Provider, workers: Workers, client: Client, tmp_path: Path) -> Any:
    """A worker with secrets, and a run of it that waits for a person."""
    provider._responder = tells
    (tmp_path / "mounted").write_text("marked-mounted-5\n")
    environment = {**provider.environment, **SECRETS, "MOUNTED_FILE": str(tmp_path / "mounted"), "LITELLM_LOG": "DEBUG"}
    worker = workers.start("--bare", "--module", "tests.system.leaky", "--log-level", "debug", cwd=ROOT, **environment)
    await worker.serves()
    names = ["DB_PASSWORD", "TEAM_TOKEN", "OPENAI_API_KEY"]
    run = await client.start_workflow(
        "tell_all", args=[names], id=f"leaky-{tmp_path.name}", task_queue=CHOREOGRAPHY_QUEUE
    )
    yield worker, run
    worker.kill()


async def test_secrets_that_are_told_everywhere_are_found_nowhere(
    asked: tuple[Process, WorkflowHandle[Any, Any]], client: Client, server: DevServer, workspaces: Path
) -> None:
    worker, run = asked
    question = await one_question(server.address, run.id, "Owner.agree")
    page = await run.query("__temporal_workflow_metadata")
    transcript = await client.get_workflow_handle(f"{run.id}/leak-1").query("transcript")
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await run.execute_update("answer", {"question": question["id"], "answer": {"no": "bool"}})
    waiting = await whole(client, run)
    await run.execute_update("answer", {"question": question["id"], "answer": True})
    result = await run.result()
    failing = await client.start_workflow("fail_telling", id=f"{run.id}-fails", task_queue=CHOREOGRAPHY_QUEUE)
    with pytest.raises(WorkflowFailureError) as failed:
        await failing.result()

    told = [
        question,
        page,
        transcript,
        refused.value.cause,
        result,
        failed.value.cause,
        await _shown(server.address, run),
    ]
    for place in (*map(repr, told), worker.output, worker.errors):
        assert _around(place.encode()) == []
    for bytes_of in (waiting, await whole(client, run), *files_of(workspaces).values()):
        assert _around(bytes_of) == []
    assert _around(b"".join(all_in(one) for h in await histories(client, failing) for one in h.events)) == []

    # Nor was anything left out that was to be told.
    assert "[secret DB_PASSWORD]" in result["given"][0].values()
    assert result["given"][0]["from a file"] == "[secret MOUNTED]"
    assert result["token"] == "[secret TEAM_TOKEN]"
    assert result["used"] == len(SECRETS["STRIPE_KEY"])
    assert "can't use [secret DB_PASSWORD]" in result["failed"][0]
    assert "[secret OPENAI_API_KEY]" in result["failed"][-1], "what the provider has echoed"
    assert "'TEAM_TOKEN': '[secret TEAM_TOKEN]'" in result["answers"][0]
    assert b"password=[secret DB_PASSWORD]\n" in files_of(workspaces).values()
    assert "wrong password: [secret DB_PASSWORD]" in json.dumps(transcript)
    assert "gives [secret DB_PASSWORD]" in worker.errors
    assert "[secret TEAM_TOKEN]" in question["text"]


async def _shown(address: str, run: WorkflowHandle[Any, Any]) -> str:
    """Return what a person sees of a run that has ended."""
    said = ""
    for command in ("show", "watch"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "console", command, run.id),
            cwd=ROOT,
            env={**os.environ, "TEMPORAL_ADDRESS": address},
            stdout=asyncio.subprocess.PIPE,
        )
        said += (await process.communicate())[0].decode()
    return said
