"""What a call is called on the engine: its place in the program, and what it asks of whom.

On a replay the engine compares ids and types, never inputs: a call that asks something else must have another id.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from activities.contract.text import clip, digest_of

_DIGITS = 10
"""Hexadecimal digits of a digest in an id."""

_INSTANCE_LENGTH = 40

_WRITTEN = re.compile(rf"([\w.]+)-(\w+\.\w+)-(.*)-([0-9a-f]{{{_DIGITS}}})", re.DOTALL)


class CallId(NamedTuple):
    """A call as its activity id tells it.

    Attributes:
        step: Its place in the program.
        method: `Coder.implement_module`.
        instance: Of whom it asks it; a long name in short.
        digest: Of method, instance and arguments.
    """

    step: str
    method: str
    instance: str
    digest: str

    @classmethod
    def of(cls, step: str, method: str, instance: str, arguments: str) -> CallId:
        """Make the id of a call.

        Args:
            step: Its place in the program.
            method: What is asked.
            instance: Of whom.
            arguments: On what: a text that is the same in every process.
        """
        digest = digest_of(f"{method} {instance} {arguments}")
        return cls(step, method, clip(instance, _INSTANCE_LENGTH), digest)

    @classmethod
    def read(cls, activity_id: str) -> CallId | None:
        """Return what an activity id tells; None if it is no call's."""
        match = _WRITTEN.fullmatch(activity_id)
        return cls(*match.groups()) if match else None

    def __str__(self) -> str:
        """Write it as an activity id: `2.4.1-Coder.implement_module-coder-2-4f2a91c07d`."""
        return f"{self.step}-{self.method}-{self.instance}-{self.digest[:_DIGITS]}"


def step_of(activity_id: str) -> str:
    """Return the step of a call from its activity id."""
    return activity_id.partition("-")[0]


def shard_step(step: str, order: str) -> str:
    """Return the step of a shard from its place in the program, with what tells its order from any other."""
    return f"{step}-{digest_of(order)[:_DIGITS]}"
