"""`python -m console watch textkit`: runs as they go on, for as long as somebody looks. It is only a client."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.live import Live
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from console.follow import Follower
from console.looking import look
from console.view import Sight, line, page
from console.words import EVERY_S
from workflows.errors import SettingsInvalid
from workflows.serving.client import connect


class _Watch:
    """Looks at runs again and again, until all have ended."""

    def __init__(self, workflow_ids: Sequence[str], every: float) -> None:
        self.sights = [Sight(workflow_id) for workflow_id in workflow_ids]
        self._every = every
        self._client: Client | None = None
        self._connecting = asyncio.Lock()

    async def follow(self, sight: Sight) -> None:
        """Look at a run until it has ended; whatever is in the way may pass."""
        while True:
            try:
                await look(await self.connected(), sight)
            except SettingsInvalid as error:
                sight.troubles = [f"{error} Trying again."]
            except RPCError as error:
                sight.troubles = [_trouble(error)]
            if sight.has_ended:
                return
            await asyncio.sleep(self._every)

    async def connected(self) -> Client:
        """Return the client, once there is one."""
        async with self._connecting:
            if self._client is None:
                self._client = await connect()
            return self._client


def watch(workflow_ids: Sequence[str], *, every: float, console: Console | None = None) -> int:
    """Show runs until all have ended, as a live view on a terminal, or else by a line for each change.

    Args:
        workflow_ids: The runs.
        every: Seconds between two looks.
        console: Where to show them; the standard output if none is given.

    Returns:
        0 if all ended well, 1 if one did not, 130 if the user left.
    """
    try:
        return asyncio.run(watching(workflow_ids, every=every, console=console or Console()))
    except KeyboardInterrupt:
        print("Not watching any more; what runs goes on.", file=sys.stderr)
        return 130


async def watching(workflow_ids: Sequence[str], *, every: float, console: Console) -> int:
    """Do what `watch` does, inside a loop."""
    looks = _Watch(workflow_ids, every)
    following = asyncio.gather(*(looks.follow(sight) for sight in looks.sights))
    show = _show_live if console.is_terminal else _show_lines
    try:
        await show(looks.sights, following, console, every)
    finally:
        following.cancel()
    ended_well = all(sight.status == WorkflowExecutionStatus.COMPLETED for sight in looks.sights)
    return 0 if ended_well else 1


def follow(workflow_id: str, instance: str, *, every: float, console: Console | None = None) -> int:
    """Show what one instance of a run says and does, until the run has ended.

    Args:
        workflow_id: The run.
        instance: Whom to follow.
        every: Seconds between two looks at how the run is.
        console: Where to show it; the standard output if none is given.

    Returns:
        As `watch`.
    """
    try:
        return asyncio.run(following(workflow_id, instance, every=every, console=console or Console()))
    except KeyboardInterrupt:
        print("Not following any more; what runs goes on.", file=sys.stderr)
        return 130


async def following(workflow_id: str, instance: str, *, every: float, console: Console) -> int:
    """Do what `follow` does, inside a loop."""

    def write(text: str) -> None:
        print(text, end="", file=console.file, flush=True)

    looks = _Watch([workflow_id], every)
    [sight] = looks.sights
    watching = asyncio.create_task(looks.follow(sight))
    follower: Follower | None = None
    troubles: list[str] = []
    try:
        while True:
            ended = watching.done()
            if follower is None and sight.status is not None:
                follower = Follower(await looks.connected(), workflow_id, instance, write)
            if follower is not None:
                await follower.go_on(last=ended)
            if (told := _in_its_way(sight, instance)) != troubles:
                troubles = told
                for trouble in troubles:
                    print(f"{workflow_id}: {trouble}", file=sys.stderr)
            if ended:
                break
            await asyncio.wait([watching], timeout=EVERY_S)
        await watching
    finally:
        watching.cancel()
    write(f"{line(sight)}\n")
    return 0 if sight.status == WorkflowExecutionStatus.COMPLETED else 1


def _in_its_way(sight: Sight, instance: str) -> list[str]:
    told = list(sight.troubles)
    if sight.progress is not None:
        roles = {role.role: role.instances for role in sight.progress.roles}
        role, _, number = instance.rpartition("-")
        if role in roles and number.isdecimal() and int(number) > roles[role]:
            told.append(f"it has no {instance}: of {role} there are {roles[role]}")
        elif roles and not any(instance.startswith(name) for name in roles):
            names = ", ".join(f"{name}-1 to {name}-{count}" for name, count in roles.items())
            told.append(f"nobody is called {instance} there, as far as is known; there are {names}")
    return told


async def _show_live(sights: Sequence[Sight], following: asyncio.Future[Any], console: Console, every: float) -> None:
    with Live(page(sights, datetime.now(UTC)), console=console, auto_refresh=False) as live:
        while not following.done():
            await asyncio.wait([following], timeout=min(every, 0.5))
            live.update(page(sights, datetime.now(UTC)), refresh=True)
    await following


async def _show_lines(sights: Sequence[Sight], following: asyncio.Future[Any], console: Console, every: float) -> None:
    shown: dict[str, str] = {}
    while True:
        ended = following.done()
        for sight in sights:
            if sight.is_known and (told := line(sight)) != shown.get(sight.workflow_id):
                shown[sight.workflow_id] = told
                print(f"{datetime.now():%H:%M:%S} {told}", file=console.file, flush=True)
        if ended:
            await following
            return
        await asyncio.wait([following], timeout=every / 2)


def _trouble(error: RPCError) -> str:
    if error.status == RPCStatusCode.NOT_FOUND:
        return "there is no run of this id (yet); waiting for it. 'temporal workflow list' shows what there is."
    return f"the server doesn't answer ({error.message}). Trying again."
