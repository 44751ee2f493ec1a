"""What people decided on the tools that a call waited for, as the call was told of it when it went on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from activities.border.washing import washed
from activities.contract.envelope import Approval, PausedCall, WantedApproval
from activities.contract.text import clip

_SHOWN = 200
"""Characters of a value."""


class _GoesOn(BaseModel):
    paused: PausedCall | None = None


def decisions_in(request: bytes) -> list[str]:
    """Return in words what people decided before a call was made again; nothing if it was made for the first time.

    Args:
        request: The message that carried the call to its worker.
    """
    if b'"paused":{' not in request:
        return []
    try:
        paused = _GoesOn.model_validate(from_json(request)).paused
    except (ValueError, ValidationError):  # of another version
        return []
    return list(_in_words(paused)) if paused else []


def _in_words(paused: PausedCall) -> Iterator[str]:
    for wanted in paused.wants:
        if (approval := paused.decided.get(wanted.tool_call)) is not None:
            yield washed(f"{wanted.tool} {_decided(wanted, approval)}")


def _decided(wanted: WantedApproval, approval: Approval) -> str:
    by, why = f" by {approval.by}" if approval.by else "", f" ({approval.reason})" if approval.reason else ""
    if not approval.approve:
        return f"was refused{by}{why}"
    if not approval.arguments:
        return f"was approved{by}"
    asked = wanted.arguments if isinstance(wanted.arguments, dict) else {}
    changes = [f"{name}: {_short(asked.get(name))} → {_short(value)}" for name, value in approval.arguments.items()]
    return f"was approved with changes{by}{why}: {', '.join(changes)}"


def _short(value: Any) -> str:
    return clip(json.dumps(value, ensure_ascii=False), _SHOWN)
