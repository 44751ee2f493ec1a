"""Sending what runs tell to webhooks: signed, one at a time for each run, until it is taken.

The form is that of Standard Webhooks: `webhook-id`, `webhook-timestamp`, and with `WEBHOOK_SECRET` in the worker's
environment `webhook-signature`, `v1,` and the base 64 of the HMAC-SHA256 of `<id>.<timestamp>.<body>`.
"""

from __future__ import annotations

import base64
import hmac
import os
import time
from collections.abc import Awaitable, Callable

from temporalio import activity
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError

from activities.border.washing import said
from activities.contract.names import DELIVER_ACTIVITY, TELL_ACTIVITY, WEBHOOK
from activities.contract.webhooks import HookEvent

SECRET = "WEBHOOK_SECRET"
ANSWERS_WITHIN_S = 15.0
"""Seconds that a receiver may take."""

GONE = "ReceiverGone"
"""The error type of what must not be sent again: the receiver wants no more."""


def tell_webhook(client: Client) -> Callable[[str, HookEvent], Awaitable[None]]:
    """Return the local activity by which a run hands an event to the workflow that delivers its events."""

    @activity.defn(name=TELL_ACTIVITY)
    async def tell(url: str, event: HookEvent) -> None:
        await client.start_workflow(
            WEBHOOK,
            args=[url, []],
            id=f"{event.run}/webhook",
            task_queue=activity.info().task_queue,
            start_signal="tell",
            start_signal_args=[event],
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        )

    return tell


@activity.defn(name=DELIVER_ACTIVITY)
async def deliver(url: str, event: HookEvent) -> None:
    """Send an event once.

    Raises:
        ApplicationError: It was not taken; not to be sent again if the receiver is gone.
    """
    import httpx  # here, because it takes time that most workers need not spend

    body, now = event.model_dump_json().encode(), str(int(time.time()))
    headers = {"Content-Type": "application/json", "webhook-id": event.id, "webhook-timestamp": now}
    if secret := os.environ.get(SECRET):
        headers["webhook-signature"] = signature(secret, event.id, now, body)
    try:
        async with httpx.AsyncClient(timeout=ANSWERS_WITHIN_S) as sending:
            answer = await sending.post(url, content=body, headers=headers)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ApplicationError(
            f"{said(url, 200)} can't be reached: {type(error).__name__}: {said(error, 200)}"
        ) from None
    if answer.status_code == httpx.codes.GONE:
        raise ApplicationError(f"{said(url, 200)} wants no more", type=GONE, non_retryable=True)
    if not answer.is_success:
        raise ApplicationError(f"{said(url, 200)} answered {answer.status_code}")


def signature(secret: str, id: str, timestamp: str, body: bytes) -> str:
    """Return what shows a receiver that who sends this knows the secret, and when it was sent."""
    signed = f"{id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(secret.encode(), signed, 'sha256')).decode()}"
