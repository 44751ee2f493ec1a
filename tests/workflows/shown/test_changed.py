from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from temporalio.api.enums.v1 import EventType

import workflows.program.sharding
from activities.contract.names import CHOREOGRAPHY_QUEUE
from console.dev_server import DevServer
from console.show import show
from console.watch import watching
from tests.conftest import Runs
from tests.system.processes import eventually
from tests.workflows.histories import Handle, count, told
from tests.workflows.programs import RESULT, write

LINE = "    first = await writer.do("
OLD = "Writer.do by writer-1 (old)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the programs of this test are."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@asynccontextmanager
async def waiting(runs: Runs, module: str, calls: int = 5) -> AsyncIterator[Handle]:
    """Give a run that was served until it waits in its last call, and that nobody serves now."""
    async with runs.serving(module, serve=(CHOREOGRAPHY_QUEUE, "Writer.do", "Writer.note")):
        # When a task fails again it is not even answered: it is given up after this long, and then tried again.
        run = await runs.start("edited", task_timeout=timedelta(seconds=2))
        async with asyncio.timeout(30):
            while await count(run, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED) < calls:
                await asyncio.sleep(0.02)
    yield run


WAITS: dict[str, tuple[tuple[str, str], str]] = {
    "an argument changed": (
        ('do("old")', 'do("new")'),
        f"step 1 expected {OLD}, found Writer.do by writer-1 with other arguments.",
    ),
    "a call renamed": (
        ('writer.do("old")', 'writer.redo("old")'),
        f"step 1 expected {OLD}, found Writer.redo by writer-1.",
    ),
    "a call added before others": (
        (LINE, f'    await writer.redo("z")\n{LINE}'),
        f"step 1 expected {OLD}, found Writer.redo by writer-1.",
    ),
    "a call added before the one that waits": (
        ("    last =", '    await writer.redo("z")\n    last ='),
        "(x), found Writer.redo by writer-",
    ),
    "a call removed": (
        ('note = await writer.note("n")', 'note = Note(text="n")'),
        "step 2 expected Writer.note by writer-2 (n), found Writer.do by writer-2 at step 2.1.1.",
    ),
    "the call that waits removed": (
        ('await writer.last("x")', '"last"'),
        "(x), found the program's end.",
    ),
    "calls moved": (
        (
            f'{LINE}"old")\n    note = await writer.note("n")',
            f'    note = await writer.note("n")\n{LINE}"old")',
        ),
        f"step 1 expected {OLD}, found Writer.note by writer-1.",
    ),
    "an answer's type changed": (
        (
            'async def do(self, what: str) -> str:\n        """Do it."""',
            'async def do(self, what: str) -> int:\n        """Do it."""',
        ),
        f"step 1 expected a result of {OLD} as it declares it, found one that does not fit: "
        'Input should be a valid integer, unable to parse string as an integer; a worker sent "done old".',
    ),
    "a field added": (
        ("    text: str", "    text: str\n    size: int"),
        "step 2 expected a result of Writer.note by writer-2 (n) as it declares it, found one that does not fit: "
        "'size': Field required",
    ),
    "a field renamed": (
        ("    text: str\n", "    words: str\n"),
        "'words': Field required",
    ),
    "a pool made smaller": (
        ("(writer=2)", "(writer=1)"),
        "step 2 expected Writer.note by writer-2 (n), found Writer.note by writer-1.",
    ),
    "a pool made larger": (
        ("(writer=2)", "(writer=5)"),
        "step 3.1.1 expected Writer.do by writer-1 (a), found Writer.do by writer-3.",
    ),
    "an item changed": (
        ('["a", "b"]', '["a", "c"]'),
        "step 3.2.1 expected Writer.do by writer-2 (b), found Writer.do by writer-2 with other arguments.",
    ),
    "an item added": (
        ('["a", "b"]', '["a", "b", "c"]'),
        "(x), found Writer.do by writer-",
    ),
    "an item removed": (
        ('["a", "b"]', '["a"]'),
        "step 3.2.1 expected Writer.do by writer-2 (b), found a program that waits for less.",
    ),
    "a timer added": (
        (LINE, f"    await asyncio.sleep(0.01)\n{LINE}"),
        f"step 1 expected {OLD}, found a wait for some time.",
    ),
    "a question added": (
        (LINE, f'    await owner.approve("it")\n{LINE}'),
        f"step 1 expected {OLD}, found a question to a person.",
    ),
    "an error added": (
        (LINE, f"    note = [][0]\n{LINE}"),
        f"step 1 expected {OLD}, found a program that fails (a worker's log says how).",
    ),
}

GOES_ON: dict[str, tuple[tuple[str, str], list[str]]] = {
    "a docstring changed": (('"""Do it."""', '"""Do it otherwise."""'), RESULT),
    "the same calls made at the same time": (
        (
            f'{LINE}"old")\n    note = await writer.note("n")',
            '    first, note = await asyncio.gather(writer.do("old"), writer.note("n"))',
        ),
        RESULT,
    ),
    "a phase added": ((LINE, f'    with phase("one"):\n    {LINE}'), RESULT),
    "a call added after the one that waits": (
        ("    return [first", '    await writer.redo("z")\n    return [first'),
        RESULT,
    ),
    "a result changed": (("return [first, note.text, *many, last]", "return [last]"), ["last x"]),
    "a field with a default added": (("    text: str", "    text: str\n    size: int = 0"), RESULT),
}


@pytest.mark.parametrize("edit", WAITS)
async def test_a_run_whose_program_was_edited_waits_and_goes_on_when_the_old_one_is_back(
    runs: Runs, folder: Path, edit: str
) -> None:
    change, words = WAITS[edit]
    old = write(folder)
    async with waiting(runs, old) as run:
        async with runs.serving(write(folder, change)):
            said = await told(runs, run)
        assert said.startswith("waits: its program was changed: ")
        assert words in said
        assert "Serve the version that it was started with" in said
        async with runs.serving(old), asyncio.timeout(30):
            assert await run.result() == RESULT


@pytest.mark.parametrize("edit", GOES_ON)
async def test_a_run_goes_on_with_a_program_whose_steps_are_the_same(runs: Runs, folder: Path, edit: str) -> None:
    change, result = GOES_ON[edit]
    async with waiting(runs, write(folder)) as run, runs.serving(write(folder, change)), asyncio.timeout(30):
        assert await run.result() == result


async def test_watch_and_show_tell_the_step_instead_of_that_no_worker_answers(
    runs: Runs, folder: Path, server: DevServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", server.address)
    async with waiting(runs, write(folder)) as run, runs.serving(write(folder, ('do("old")', 'do("new")'))):
        await told(runs, run)
        shown = io.StringIO()
        screen = Console(file=shown, width=500)
        watcher = asyncio.create_task(watching([run.id], every=0.1, console=screen))
        await eventually(lambda: "its program was changed" in shown.getvalue(), shown.getvalue, seconds=30)
        watcher.cancel()
        await asyncio.wait([watcher])
        assert await asyncio.to_thread(show, run.id, as_mermaid=False) == 0
    for words in (shown.getvalue(), capsys.readouterr().out):
        assert f"waits: its program was changed: step 1 expected {OLD}" in words
        assert "no worker answers" not in words


IN_SHARDS = [
    ('["a", "b"], writer, lambda w, item: w.do(item)', "range(30), writer, lambda w, n: w.do(str(n))"),
    ("note.text, *many", "note.text, len(many)"),
]


async def test_the_results_of_a_shard_are_not_taken_for_those_of_another_order(
    runs: Runs, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workflows.program.sharding, "SHARD_FROM", 20)
    edited = [(IN_SHARDS[0][0], IN_SHARDS[0][1].replace("str(n)", "str(-n)")), IN_SHARDS[1]]
    async with waiting(runs, write(folder, *IN_SHARDS), calls=3) as run, runs.serving(write(folder, *edited)):
        said = await told(runs, run)
    assert "step 3.1-30 expected a part of step 3: Writer.do, found other calls or arguments." in said


ASKS = ('await writer.note("n")', 'Note(text=str(await owner.approve("it")))')


async def test_the_answer_to_a_question_is_not_taken_for_that_to_another_one(runs: Runs, folder: Path) -> None:
    old = write(folder, ASKS)
    edited = write(folder, (ASKS[0], ASKS[1].replace('"it"', '"something else"')))
    async with runs.serving(old, serve=(CHOREOGRAPHY_QUEUE, "Writer.do")):
        run = await runs.start("edited", task_timeout=timedelta(seconds=2))
        async with asyncio.timeout(30):
            while not (questions := await run.query("questions")):
                await asyncio.sleep(0.05)
        await run.execute_update("answer", {"question": questions[0]["id"], "answer": True})
        async with asyncio.timeout(30):
            while await count(run, EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED) < 4:
                await asyncio.sleep(0.02)
    async with runs.serving(edited):
        said = await told(runs, run)
    assert "its program was changed: " in said
    async with runs.serving(old), asyncio.timeout(30):
        assert await run.result() == ["done old", "True", "done a", "done b", "last x"]


async def test_a_worker_logs_what_it_found_instead(runs: Runs, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "workflows.serving.sandbox"):
        async with waiting(runs, write(folder)) as run, runs.serving(write(folder, (LINE, f"    1 / 0\n{LINE}"))):
            await told(runs, run)
    line = next(record.getMessage() for record in caplog.records if record.name == "workflows.serving.sandbox")
    assert line.startswith(f"{run.id} (edited) waits: its program was changed: event 5 of its history expected ")
    assert "found a program that fails: edited: ZeroDivisionError: division by zero (at program_" in line
