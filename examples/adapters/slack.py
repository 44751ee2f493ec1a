"""Slack: questions of runs in a channel, with buttons that answer them. No choreography, but a program beside.

    export SLACK_BOT_TOKEN=xoxb-… SLACK_SIGNING_SECRET=… SLACK_CHANNEL=#builds WEBHOOK_SECRET=…
    uvicorn examples.adapters.slack:app --port 8090

Start runs with the option `"webhook": "http://localhost:8090/events"`, workers with the same WEBHOOK_SECRET; give Slack
`https://…/buttons` as the app's request address. What is pressed goes to `python -m console board`.
"""

import hashlib
import hmac
import json
import os
import time
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from activities.housekeeping.webhooks import signature

SLACK = os.environ.get("SLACK_API", "https://slack.com/api")
BOARD = os.environ.get("BOARD", "http://127.0.0.1:8234")
OLDEST_S = 300
TEXTS = {
    "question_asked": "*{person}* is asked by *{run}*:\n{text}",
    "budget_reached": "*{run}* waits for a larger budget. {why}",
    "run_ended": "*{run}* is {status}. {why}",
}


async def events(request: Request) -> Response:
    """Tell the channel what a run tells; a question gets buttons."""
    body, headers = await request.body(), request.headers
    expected = signature(os.environ["WEBHOOK_SECRET"], headers["webhook-id"], headers["webhook-timestamp"], body)
    if not hmac.compare_digest(expected, headers.get("webhook-signature", "")):
        return Response("the signature is wrong", 401)
    event = json.loads(body)
    about = event["about"]
    text = TEXTS[event["event"]].format_map({"why": "", **about, "run": event["run"]})[:2_900]
    blocks: list[Any] = [{"type": "section", "text": {"type": "mrkdwn", "text": text}}]
    if event["event"] == "question_asked":
        where = {"run": event["run"], "question": about["question"]}
        blocks.append({"type": "actions", "elements": [button(*one, where) for one in await answers(event)]})
    message = {"channel": os.environ["SLACK_CHANNEL"], "text": text, "blocks": blocks}
    told = await ask(f"{SLACK}/chat.postMessage", message)
    return Response(status_code=204 if told.get("ok") else 502)  # what is not taken is sent again


async def answers(event: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what can be answered with a button, a label and an answer each."""
    async with httpx.AsyncClient(headers=bearer("BOARD_TOKEN")) as asking:
        run = (await asking.get(f"{BOARD}/runs/{event['run']}")).json()
    asked = [one["answer_schema"] for one in run["questions"] if one["id"] == event["about"]["question"]]
    schema = asked[0] if asked else {}
    if "approve" in schema.get("properties", {}) or schema.get("type") == "boolean":
        return [("Yes", True), ("No", False)]
    return [(str(choice), choice) for choice in schema.get("enum", ())]


async def buttons(request: Request) -> Response:
    """Answer what somebody has pressed."""
    body, sent = await request.body(), request.headers.get("x-slack-request-timestamp", "0")
    expected = hmac.new(os.environ["SLACK_SIGNING_SECRET"].encode(), f"v0:{sent}:".encode() + body, hashlib.sha256)
    given = request.headers.get("x-slack-signature", "")
    if not hmac.compare_digest(f"v0={expected.hexdigest()}", given) or abs(time.time() - int(sent)) > OLDEST_S:
        return Response("the signature is wrong", 401)
    pressed = json.loads(str((await request.form())["payload"]))
    answer = json.loads(pressed["actions"][0]["value"])
    told = await ask(f"{BOARD}/runs/{answer.pop('run')}/answers", answer, "BOARD_TOKEN")
    who = pressed["user"]["name"]
    await ask(
        pressed["response_url"], {"replace_original": False, "text": f"{who}: {told.get('told') or told['error']}"}
    )
    return JSONResponse({})


def button(label: str, answer: Any, where: dict[str, str]) -> dict[str, Any]:
    """Return a button that answers."""
    value = json.dumps({**where, "answer": answer})
    return {"type": "button", "text": {"type": "plain_text", "text": label}, "value": value, "action_id": label}


def bearer(token: str) -> dict[str, str]:
    """Return what lets this program in, where the environment has a token of that name."""
    return {"Authorization": f"Bearer {os.environ[token]}"} if os.environ.get(token) else {}


async def ask(url: str, what: dict[str, Any], token: str = "SLACK_BOT_TOKEN") -> dict[str, Any]:
    """Send JSON, and return the JSON that comes back."""
    async with httpx.AsyncClient(timeout=10) as sending:
        answer = await sending.post(url, json=what, headers=bearer(token))
    return dict(answer.json()) if answer.text.startswith("{") else {"ok": answer.is_success}


app = Starlette(routes=[Route("/events", events, methods=["POST"]), Route("/buttons", buttons, methods=["POST"])])
