"""A run's details in the Web UI: one short page of Markdown, written when the UI asks for it and not before.

So it costs nothing while nobody looks, and is never older than the look.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from temporalio import workflow
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.worker import (
    HandleQueryInput,
    Interceptor,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from workflows.progress import Progress, ScatterProgress, tokens_of, used_in_words
from workflows.run import Run

_BAR_LENGTH = 20
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
        run = workflow.instance()
        if isinstance(answer, WorkflowMetadata) and isinstance(run, Run):
            answer.current_details = in_markdown(run.progress())
        return answer


def in_markdown(progress: Progress) -> str:
    """Write a run's progress as a short page."""
    parts = [
        f"**{_plain(progress.headline())}**",
        *(f"**Waits:** {_plain(wait)}" for wait in progress.waits_for),
        _plain(progress.calls_in_words()),
        _scatters(progress),
        _working(progress),
        _roles(progress),
        "\n".join(f"- failed: {_plain(why)}" for why in progress.last_failures),
    ]
    return "\n\n".join(part for part in parts if part)


def _scatters(progress: Progress) -> str:
    shown = progress.scatters[-_SCATTERS_SHOWN:]
    left_out = progress.scatters_left_out + len(progress.scatters) - len(shown)
    table = _table(["scatter", "", "items"], [[_plain(s.title), bar(s), s.in_words()] for s in shown])
    return "\n\n".join([table, f"{left_out} earlier scatters are not shown."] if left_out else [table])


def _working(progress: Progress) -> str:
    shown = progress.working[:_WORKING_SHOWN]
    left_out = progress.working_left_out + len(progress.working) - len(shown)
    rows = [[_plain(work.instance), work.method, _plain(work.item), f"{work.since:%H:%M:%S} UTC"] for work in shown]
    table = _table(["instance", "does", "item", "since"], rows)
    return "\n\n".join([table, f"{left_out} more calls are running."] if left_out else [table])


def _roles(progress: Progress) -> str:
    rows = [
        [
            role.role,
            f"{role.instances:,}",
            f"{role.calls_running:,}",
            f"{role.calls_done:,}",
            f"{role.calls_failed:,}",
            f"{tokens_of(role.usage):,}",
            used_in_words(role.usage)[-1].removesuffix(" USD") if role.usage.model_calls else "",
        ]
        for role in progress.roles
    ]
    return _table(["role", "instances", "calls running", "done", "failed", "tokens", "USD"], rows)


def bar(scatter: ScatterProgress) -> str:
    """Draw how far a scatter is: `████████░░░░░░░░░░░░  40 %`."""
    share = (scatter.done + scatter.failed) / scatter.total if scatter.total else 1.0
    full = int(share * _BAR_LENGTH)
    return f"{'█' * full}{'░' * (_BAR_LENGTH - full)} {int(share * 100)} %"


def _table(head: list[str], rows: Iterable[list[str]]) -> str:
    lines = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([f"| {' | '.join(head)} |", "|---" * len(head) + "|", *lines]) if lines else ""


def _plain(text: str) -> str:
    """Keep what Markdown would take for its own from doing so."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#" else letter for letter in text)
