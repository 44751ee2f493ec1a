from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from activities.values.converter import data_converter
from tests.conftest import Runs

# The sandbox imports a test's module anew for each run: from pytest's cache, else it would be rewritten each time.
sys.dont_write_bytecode = False


@pytest.fixture(scope="module")
async def served(client: Client, request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """The choreographies and agents of the test's own module, served in this process for all its tests."""
    async with Runs(client).serving(request.module.__name__):
        yield


@pytest.fixture(scope="module")
async def quick_runs(request: pytest.FixtureRequest) -> AsyncIterator[Runs]:
    """The same on a server that skips the time in which nothing happens, as between two attempts."""
    program = Path(sys.executable).with_name("temporal-test-server")
    async with (
        await WorkflowEnvironment.start_time_skipping(
            data_converter=data_converter, test_server_existing_path=str(program)
        ) as environment,
        (runs := Runs(environment.client)).serving(request.module.__name__),
    ):
        yield runs
