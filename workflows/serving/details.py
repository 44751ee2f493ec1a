"""A run's details in the Web UI: one short page of Markdown, written when the UI asks for it and not before.

So it costs nothing while nobody looks, and is never older than the look.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from temporalio import workflow
from temporalio.worker import (
    HandleQueryInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from activities.border.secrets import without_secrets
from workflows.engine.display import Display
from workflows.people.people import People
from workflows.people.question import Question
from workflows.people.question import in_markdown as questions_in_markdown
from workflows.serving.sdk import is_for_details
from workflows.shown.progress import Progress, RoleProgress, ScatterProgress, counted, used_in_words

_BAR_LENGTH = 10
_WORKING_SHOWN = 30
_SCATTERS_SHOWN = 10


class DetailsWhenAsked(Interceptor):
    """Answers the UI's question for a workflow's metadata with the details of the run as it is now."""

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Return what each workflow's queries go through."""
        return _Metadata


class _Metadata(WorkflowInboundInterceptor):
    async def handle_query(self, input: HandleQueryInput) -> Any:
        answer = await super().handle_query(input)
        display, people = (getattr(workflow.instance(), part, None) for part in ("display", "people"))
        if isinstance(display, Display) and is_for_details(answer):
            questions = people.questions() if isinstance(people, People) else []
            answer.current_details = in_markdown(display.progress(), questions)
        return answer


def in_markdown(progress: Progress, questions: Sequence[Question] = ()) -> str:
    """Write a run's progress, and its open questions to people, as a short page.

    It has lists and no tables: the UI draws these without any space between their columns.
    """
    asked = [question.waits() for question in questions]
    parts = [
        f"**{_plain(progress.headline())}**",
        *(f"**Waits:** {_plain(wait)}" for wait in progress.waits_for if wait not in asked),
        *questions_in_markdown(questions),
        *(_plain(note) for note in progress.notes),
        progress.calls_in_words(),
        _scatters(progress),
        _working(progress),
        _list("Roles", [_role(role) for role in progress.roles]),
        _list("Last failures", [_plain(why) for why in progress.last_failures]),
    ]
    return "\n\n".join(part for part in parts if part)


def _scatters(progress: Progress) -> str:
    shown = progress.scatters[-_SCATTERS_SHOWN:]
    left_out = progress.scatters_left_out + len(progress.scatters) - len(shown)
    earlier = [f"{counted(left_out, 'earlier one')}"] if left_out else []
    return _list("Scatters", [*earlier, *(f"{_bar(s)} **{_plain(s.title)}**: {s.in_words()}" for s in shown)])


def _working(progress: Progress) -> str:
    shown = progress.working[:_WORKING_SHOWN]
    left_out = progress.working_left_out + len(progress.working) - len(shown)
    lines = [
        f"**{_plain(work.instance)}**: {work.method} · {_plain(work.item)} · since {work.since:%H:%M:%S} UTC"
        for work in shown
    ]
    return _list("At work", [*lines, *([f"{left_out:,} more"] if left_out else [])])


def _role(role: RoleProgress) -> str:
    calls = [f"{counted(role.calls_done, 'call')} done"]
    calls += [f"{n} {what}" for n, what in ((role.calls_running, "running"), (role.calls_failed, "failed")) if n]
    return f"**{role.role}** ({counted(role.instances, 'instance')}): {', '.join([*calls, *used_in_words(role.usage)])}"


def _bar(scatter: ScatterProgress) -> str:
    share = (scatter.done + scatter.failed) / scatter.total if scatter.total else 1.0
    full = int(share * _BAR_LENGTH)
    return f"{'■' * full}{'□' * (_BAR_LENGTH - full)} {int(share * 100)} %"


def _list(title: str, lines: list[str]) -> str:
    return "\n".join([f"{title}:", "", *(f"- {line}" for line in lines)]) if lines else ""


def _plain(text: str) -> str:
    """Keep what Markdown would take for its own from doing so; an underscore inside of a word is none of it."""
    return _SPECIAL.sub(r"\\\g<0>", without_secrets(text))


_SPECIAL = re.compile(r"[\\`*\[<|]|(?<![^\W_])_|_(?![^\W_])")
