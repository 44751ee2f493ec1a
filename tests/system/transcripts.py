"""What the agents of a run said, call by call, without what differs from run to run by chance."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from temporalio.client import Client

from activities.contract.names import conversation_id
from console.history import CallSeen, read_run

Section = list[dict[str, Any]]

_BY_CHANCE = (
    (re.compile(r"\d+(\.\d+)? ?s(econds)?\b"), "… s"),
    (re.compile(r"0x[0-9a-f]{6,}"), "0x…"),
    (re.compile(r"/[\w./-]*/workspaces/[\w.-]+(/[\w-]+)?"), "/workspace"),
)


def washed(value: Any) -> Any:
    """Return data without the times and addresses that its texts hold."""
    if isinstance(value, str):
        for pattern, instead in _BY_CHANCE:
            value = pattern.sub(instead, value)
        return value
    if isinstance(value, list):
        return [washed(item) for item in value]
    return {key: washed(item) for key, item in value.items()} if isinstance(value, dict) else value


def with_plain_ids(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages whose tool calls are counted: the ids that a provider gives differ each time."""
    numbers: dict[str, str] = {}

    def plain(id: str) -> str:
        return numbers.setdefault(id, f"call {len(numbers) + 1}")

    made = []
    for message in messages:
        copy = dict(message)
        if message.get("tool_calls"):
            copy["tool_calls"] = [{**call, "id": plain(call["id"])} for call in message["tool_calls"]]
        if "tool_call_id" in message:
            copy["tool_call_id"] = plain(message["tool_call_id"])
        made.append(copy)
    return made


async def transcript(client: Client, workflow_id: str, instance: str) -> list[dict[str, Any]]:
    """Return all that the conversation of an instance of a run holds, from its beginning on."""
    return await whole_transcript(client, conversation_id(workflow_id, instance))


async def whole_transcript(client: Client, conversation: str) -> list[dict[str, Any]]:
    """Read a transcript to its beginning, over all runs of its workflow."""
    entries: list[dict[str, Any]] = []
    run_id: str | None = None
    while True:
        handle = client.get_workflow_handle(conversation, run_id=run_id)
        part: list[dict[str, Any]] = []
        after: int | None = 0
        while after is not None:
            page = await handle.query("transcript", after)
            part += page["entries"]
            after = page["next"]
        entries = [*part, *entries]
        run_id = page["earlier_run"]
        if run_id is None:
            return entries


async def said_by_call(client: Client, workflow_id: str, prompts: tuple[str, ...]) -> dict[str, list[Section]]:
    """Return what was said in each prompt of a run, by its method and item, in the order in which the run made them.

    Args:
        client: Temporal's client.
        workflow_id: The run.
        prompts: The beginnings of the messages by which its calls begin.

    Raises:
        AssertionError: A conversation does not consist of exactly the calls that the run's history shows.
    """
    calls = [call for call in (await read_run(client, workflow_id)).calls if call.usage.model_calls]
    by_instance: defaultdict[str, list[CallSeen]] = defaultdict(list)
    for call in calls:
        by_instance[call.instance].append(call)
    sections = {
        instance: _cut(await transcript(client, workflow_id, instance), prompts) for instance in sorted(by_instance)
    }
    for instance, own in by_instance.items():
        assert len(own) == len(sections[instance]), (
            f"{instance} had {len(own)} calls, and {len(sections[instance])} are in its conversation"
        )
    said: defaultdict[str, list[Section]] = defaultdict(list)
    for call in calls:
        said[f"{call.method} · {call.item}"].append(sections[call.instance].pop(0))
    return dict(sorted(said.items()))


def _cut(entries: list[dict[str, Any]], prompts: tuple[str, ...]) -> list[Section]:
    sections: list[Section] = []
    for entry in entries:
        begins = entry.get("role") == "user" and str(entry["content"]).startswith(prompts)
        if begins or not sections:
            sections.append([])
        sections[-1].append(entry)
    return [washed(with_plain_ids(section)) for section in sections]
