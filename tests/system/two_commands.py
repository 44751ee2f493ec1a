"""Every example by the two commands of its docstring, typed as they stand there, with what a user does meanwhile.

python -m tests.system.two_commands           all of them, on Temporal's own port, which has to be free
python -m tests.system.two_commands hello     one
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.examples.test_examples import NAMES, commands_of
from tests.system.processes import ROOT, Process, is_listening

PATHS = {"PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"}

_ANSWER = re.compile(r"temporal workflow update execute .* --name answer --input .*")
_LONGEST_S = 120.0


async def main(names: Sequence[str]) -> int:
    """Run examples; return how many did not end well."""
    failed = 0
    for name in names:
        began = time.monotonic()
        try:
            async with asyncio.timeout(_LONGEST_S):
                told = await _run(name)
        except (AssertionError, TimeoutError) as error:
            told, failed = f"FAILED: {error or 'it took too long'}", failed + 1
        print(f"{name:12} {time.monotonic() - began:5.1f} s  {told}", flush=True)
    return failed


async def _run(name: str) -> str:
    assert not is_listening(7233), "port 7233 is taken: end the server that listens there"
    (setting, *serving), running = commands_of(name)
    variable, _, value = setting.partition("=")
    with tempfile.TemporaryDirectory() as folder:
        worker = Process(*serving, folder=Path(folder) / "worker", environment={**PATHS, variable: value})
        try:
            await worker.says("Temporal Web UI")
            async with _meanwhile(name, worker):
                said = await _typed(*running, folder=Path(folder) / "run")
                id = running[running.index("--workflow-id") + 1]
                if running[2] == "start":
                    said = await _typed(
                        "temporal", "workflow", "result", "--workflow-id", id, folder=Path(folder) / "result"
                    )
            return " ".join(said.split()[-12:])
        finally:
            worker.interrupt()
            await worker.exit_code()


async def _typed(*words: str, folder: Path) -> str:
    command = Process(*words, folder=folder, environment=PATHS)
    code = await command.exit_code()
    assert code == 0, command.errors
    return command.output


@asynccontextmanager
async def _meanwhile(name: str, worker: Process) -> AsyncIterator[None]:
    """Do what a docstring tells its reader to do while the run goes on."""
    if name == "night_watch":
        inbox = ROOT / "inbox"
        inbox.mkdir()
        try:
            for note in ("fire", "milk", "stop"):
                (inbox / f"{note}.txt").write_text(note)
            yield
        finally:
            shutil.rmtree(inbox)
        return
    answering = asyncio.create_task(_answer_all(worker))
    try:
        yield
    finally:
        answering.cancel()


async def _answer_all(worker: Process) -> None:
    """Answer each question by the command that the worker's log shows with it."""
    answered = 0
    while True:
        for command in _ANSWER.findall(worker.errors)[answered:]:
            with tempfile.TemporaryDirectory() as folder:
                await _typed("sh", "-c", command, folder=Path(folder) / "answer")
            answered += 1
        await asyncio.sleep(0.2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run examples by their two commands.")
    parser.add_argument("names", nargs="*", default=NAMES, metavar="EXAMPLE", help=", ".join(NAMES))
    sys.exit(asyncio.run(main(parser.parse_args().names)))
