from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeAlias

import httpx
import pytest
import uvicorn
from temporalio.client import Client

from console.board.access import Access
from console.board.app import board_of

Served: TypeAlias = Callable[..., Awaitable[httpx.AsyncClient]]


@asynccontextmanager
async def serving(client: Client, tokens: str) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a board over HTTP, and give what asks it."""
    listening = socket.create_server(("127.0.0.1", 0))
    application = board_of(client, Access.read("127.0.0.1", [], tokens))
    server = uvicorn.Server(uvicorn.Config(application, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server._serve(sockets=[listening]))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=30) as asking:
        yield asking
    server.should_exit = True
    await running
    listening.close()


@pytest.fixture
async def served(client: Client) -> AsyncIterator[Served]:
    """A way to serve boards, with tokens or without."""
    async with AsyncExitStack() as stack:

        async def serve(tokens: str = "") -> httpx.AsyncClient:
            return await stack.enter_async_context(serving(client, tokens))

        yield serve


@pytest.fixture
async def board(served: Served) -> httpx.AsyncClient:
    """A board at which everybody may do everything."""
    return await served()
