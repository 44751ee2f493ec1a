"""Asking another model where the one that is meant is not to be had: in an outage, or when it takes no more requests.

What is wrong with a request, a key or a setting is never a reason: there the first model's error is told. As soon as
that is there again, it is asked again. What each attempt came to is noted, to be read in the transcript.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from activities.answering import strategy
from activities.contract.text import clip
from activities.errors import ModelRefused, ModelUnavailable
from activities.memory.transcript import Entry, Message, fallback
from activities.models import model, patience
from activities.values.schema import AnswerSchema

logger = logging.getLogger(__name__)

_OF_ONE_PROVIDER = ("api_base", "api_key", "base_url", "organization", "api_version")
_SIGNED = ("reasoning_content", "thinking_blocks", "provider_specific_fields")
"""What other providers than the one that has sent it refuse, or can't read."""

_told: set[tuple[str, str]] = set()
"""Of which model's standing in for which the log tells, until the first is there again."""


async def complete(
    request: model.ModelRequest, others: Sequence[str], answer: AnswerSchema, wanted: str | None
) -> tuple[model.Answer, list[Entry]]:
    """Ask a model, or the first of some others that answers.

    Args:
        request: To the model that is meant.
        others: Who is asked in its place, in order.
        answer: The type of the answer.
        wanted: The strategy that the user set.

    Returns:
        The answer, and notes on the attempts that came to nothing.

    Raises:
        ModelRefused: The first has refused it.
        ModelUnavailable: An answer can't be read; or none was to be had, where nobody waits.
        PatienceExhausted: None was to be had for as long as the call was to wait.
    """
    if not others:
        return await strategy.complete(request, answer, wanted), []
    requests = [replace(request, waits=False), *(_to_another(request, name) for name in others)]
    notes: list[Entry] = []
    waiting = patience.Waiting()
    while True:
        first_error: ModelUnavailable | None = None
        for asked in list(requests):
            try:
                reply = await strategy.complete(asked, answer, wanted)
            except ModelUnavailable as error:
                if not error.outage:
                    raise
                first_error = first_error or error
                _note(notes, asked.model, error)
            except ModelRefused as error:
                if asked is requests[0]:
                    raise
                requests.remove(asked)
                _note(notes, asked.model, error)
                logger.warning("%s can't stand in for %s: %s", asked.model, request.model, error)
            else:
                _tell(request.model, asked.model, notes)
                return reply, notes
        assert first_error is not None  # the first model has not answered, and has not refused
        await waiting.until_one_admits(requests, first_error)


def _to_another(request: model.ModelRequest, name: str) -> model.ModelRequest:
    """Return the request to another provider: without what is meant for the first alone."""
    parameters = {key: value for key, value in request.parameters.items() if key not in _OF_ONE_PROVIDER}
    return replace(
        request, model=name, parameters=parameters, messages=[_plain(m) for m in request.messages], waits=False
    )


def _plain(message: Message) -> Message:
    return {key: value for key, value in message.items() if key not in _SIGNED}


def _note(notes: list[Entry], name: str, error: Exception) -> None:
    """Note an attempt, and of each model only the last one."""
    notes[:] = [note for note in notes if note["model"] != name]
    notes.append(fallback(name, clip(str(error), 300)))


def _tell(meant: str, answered: str, notes: Sequence[Entry]) -> None:
    if meant == answered:
        _told.difference_update([pair for pair in _told if pair[0] == meant])
    elif (meant, answered) not in _told:
        _told.add((meant, answered))
        why = next((note["text"] for note in notes if note["model"] == meant), "")
        logger.warning("%s is asked in the place of %s: %s", answered, meant, why)
