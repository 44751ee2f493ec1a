"""What takes a worker of prompts a second or more at its first call, done by importing this."""

from __future__ import annotations

import asyncio
import importlib
import os
from contextlib import suppress
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")


async def _ask_nobody() -> None:
    litellm: Any = importlib.import_module("litellm")
    litellm.suppress_debug_info = True  # as the product has it
    with suppress(Exception):
        await litellm.acompletion(
            model="openai/any",
            api_base="http://127.0.0.1:9/v1",
            api_key="any",
            messages=[{"role": "user", "content": "hello"}],
            max_retries=0,
        )


asyncio.run(_ask_nobody())
