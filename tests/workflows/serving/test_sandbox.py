"""The sandbox that runs are in."""

from __future__ import annotations

import dataclasses

import pytest
from temporalio.converter import ActivitySerializationContext, SerializationContext, WorkflowSerializationContext

from activities.housekeeping.pages import PagesCodec
from activities.values.converter import data_converter


@pytest.mark.parametrize(
    "belongs_to",
    [
        WorkflowSerializationContext(namespace="default", workflow_id="build"),
        ActivitySerializationContext(
            namespace="default",
            activity_id="1",
            activity_type="Coder.implement_module",
            activity_task_queue="Coder.implement_module",
            workflow_id="build",
            workflow_type="build_project",
            is_local=False,
        ),
    ],
)
def test_payloads_are_converted_in_the_same_way_wherever_they_belong(belongs_to: SerializationContext) -> None:
    """Else a run in the sandbox would have to be asked."""
    converter = dataclasses.replace(data_converter, payload_codec=PagesCodec())
    assert converter.with_context(belongs_to) is converter
    assert converter.external_storage is None
