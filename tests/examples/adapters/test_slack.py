"""The Slack adapter, between a run and something that speaks as Slack does."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from console.board.access import Access
from console.board.app import board_of
from examples.adapters import slack
from tests.conftest import Runs
from tests.workflows.council import Owner
from workflows import choreography


@choreography
async def slack_asks(owner: Owner) -> bool:
    return await owner.sign({"title": "Roses", "pages": 3})  # type: ignore[arg-type]


class Slack:
    """What a channel got, and what was said of buttons."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.told: list[str] = []
        self.refuses = 0
        self.app = Starlette(
            routes=[
                Route("/chat.postMessage", self._post, methods=["POST"]),
                Route("/told", self._tell, methods=["POST"]),
            ]
        )

    async def _post(self, request: Request) -> Response:
        if self.refuses:
            self.refuses -= 1
            return JSONResponse({"ok": False, "error": "ratelimited"})
        self.messages.append(await request.json())
        return JSONResponse({"ok": True})

    async def _tell(self, request: Request) -> Response:
        self.told.append((await request.json())["text"])
        return Response("ok")


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server._serve(sockets=[listening]))
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    await running
    listening.close()


def signed(body: str, secret: str = "slack's secret", at: float | None = None) -> dict[str, str]:
    sent = str(int(time.time() if at is None else at))
    digest = hmac.new(secret.encode(), f"v0:{sent}:{body}".encode(), hashlib.sha256).hexdigest()
    form = {"content-type": "application/x-www-form-urlencoded"}
    return {**form, "x-slack-request-timestamp": sent, "x-slack-signature": f"v0={digest}"}


async def test_a_question_comes_with_buttons_and_what_is_pressed_answers_it(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "WEBHOOK_SECRET": "the workers' and ours",
        "SLACK_SIGNING_SECRET": "slack's secret",
        "SLACK_CHANNEL": "#builds",
    }.items():
        monkeypatch.setenv(name, value)
    there = Slack()
    there.refuses = 1
    board = board_of(runs.client, Access.read("127.0.0.1", [], ""))
    async with served(there.app) as api, served(board) as at_board, served(slack.app) as adapter:
        monkeypatch.setattr(slack, "SLACK", api)
        monkeypatch.setattr(slack, "BOARD", at_board)
        async with runs.serving(__name__):
            run = await runs.start(slack_asks, {"webhook": f"{adapter}/events"})
            while not there.messages:
                await asyncio.sleep(0.05)
            [asked] = there.messages
            assert asked["text"].startswith(f"*owner-1* is asked by *{run.id}*")
            yes, _ = asked["blocks"][1]["elements"]
            assert yes["text"]["text"] == "Yes"
            pressed = {"actions": [yes], "user": {"name": "ann"}, "response_url": f"{api}/told"}
            body = urlencode({"payload": json.dumps(pressed)})
            async with httpx.AsyncClient(base_url=adapter) as pressing:
                for wrong in (signed(body, "another"), signed(body, at=time.time() - 3600)):
                    assert (await pressing.post("/buttons", content=body, headers=wrong)).status_code == 401
                assert (
                    await pressing.post("/events", content=b"{}", headers={"webhook-id": "1", "webhook-timestamp": "1"})
                ).status_code == 401
                assert (await pressing.post("/buttons", content=body, headers=signed(body))).status_code == 200
            assert await run.result() is True
            while len(there.messages) < 2:
                await asyncio.sleep(0.05)
    assert there.told[0].startswith("ann: ")
    assert "is answered" in there.told[0]
    assert there.messages[1]["text"] == f"*{run.id}* is done. "


def test_it_is_short() -> None:
    assert len(Path(slack.__file__).read_text().splitlines()) < 100
