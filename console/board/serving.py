"""`python -m console board`: serve the board until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence

import uvicorn

from console.board.access import LOOPBACK, TOKENS, Access
from console.board.app import board_of
from workflows.errors import SettingsInvalid
from workflows.serving.client import connect


def serve_board(host: str, port: int, names: Sequence[str]) -> int:
    """Serve; return the exit code.

    Args:
        host: Where to listen.
        port: The port; 0 for any that is free.
        names: By which other names the board is reached.

    Raises:
        SettingInvalid: The tokens can't be read, or are needed and not there.
    """
    access = Access.read(host, names, os.environ.get(TOKENS, ""))
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        print(f"board: can't listen on {host}:{port}: {error.strerror}. Choose another --port.", file=sys.stderr)
        return 2
    try:
        asyncio.run(_serve(listening, access))
    except SettingsInvalid as error:
        print(f"board: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    finally:
        listening.close()
    return 0


async def _serve(listening: socket.socket, access: Access) -> None:
    host, port = listening.getsockname()[:2]
    client = await connect()
    config = uvicorn.Config(
        board_of(client, access), log_level="warning", lifespan="off", timeout_graceful_shutdown=1, server_header=False
    )
    shown = f"[{host}]" if ":" in host else host
    print(f"Board: http://{shown}:{port}/", flush=True)
    if host not in LOOPBACK:
        print(f"       open it with ?token=…, one of those in {TOKENS}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listening])
