"""What a worker is told on its command line and by its environment: it serves that, or says why not."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Ledger, Runs
from tests.provider import Provider, Text
from tests.system.crowd import ask, squares
from tests.system.processes import ROOT, Process, Workers

CROWD = ("--bare", "--module", "tests.system.crowd")
AGENT = '''
from activities import Agent, task

class Twin(Agent):
    """You are one of two."""

    @task
    async def sleep(self) -> None:
        """Sleep."""
'''
MODULES = {
    "twin.py": AGENT,
    "other_twin.py": AGENT,
    "unreadable.py": "def half(:\n",
    "needy.py": "import os\nimport not_installed\n",
    "faulty.py": "LIMITS = {}\n\ndef limit():\n    return LIMITS['all']\n\nlimit()\n",
    "misdeclared.py": AGENT.replace("sleep(self)", "sleep(self, *hours)"),
    "empty.py": "",
}


@pytest.mark.parametrize(
    ("options", "environment", "told"),
    [
        ("", {"TEMPORAL_ADDRESS": "127.0.0.1:1"}, r"answers at 127\.0\.0\.1:1: Connection refused\. Start one with"),
        ("", {"TEMPORAL_NAMESPACE": "nowhere"}, r"Namespace nowhere is not found"),
        ("", {"TEMPORAL_PROFILE": "nobody"}, r"settings can't be used: Profile 'nobody' not found"),
        (
            "--serve Nobody",
            {},
            r"--serve Nobody: there is nothing of that name to serve\. There are: Architect, .*choreo",
        ),
        ("--concurrency few", {}, r"--concurrency few: give a number from 1, as in 4 or Coder=4"),
        ("--module unreadable", {}, r"SyntaxError: invalid syntax \(unreadable\.py, line 1\)"),
        ("--module needy", {}, r"ModuleNotFoundError: No module named 'not_installed' \(at needy\.py:2\)"),
        ("--module faulty", {}, r"KeyError: 'all' \(at faulty\.py:4 in limit\)"),
        ("--module misdeclared", {}, r"Twin\.sleep: the parameter '\*hours'"),
        ("--module twin --module other_twin", {}, r"Two agents are called Twin: twin\.Twin and other_twin\.Twin"),
        ("--bare --module empty", {}, r"neither a choreography nor an agent with methods in empty"),
    ],
)
async def test_settings_that_cannot_be_used_are_told_in_one_line(
    options: str, environment: dict[str, str], told: str, workers: Workers, tmp_path: Path
) -> None:
    for name, code in MODULES.items():
        (tmp_path / name).write_text(code)
    worker = workers.start(*options.split(), cwd=tmp_path, **environment)
    assert await worker.exit_code() == 2
    [line] = worker.errors.splitlines()
    assert line.startswith("worker.py: ")
    assert re.search(told, line)


def test_help_is_quick() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = subprocess.run([sys.executable, "worker.py", "--help"], cwd=ROOT, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "--serve" in said.stdout
    assert (after.ru_utime - before.ru_utime) + (after.ru_stime - before.ru_stime) < 0.3


async def test_a_worker_that_asks_no_model_never_imports_litellm(workers: Workers, runs: Runs, ledger: Ledger) -> None:
    worker = workers.start(*CROWD, "--serve", "choreography", "--serve", "Hand", PYTHONPROFILEIMPORTTIME="1")
    await worker.serves()
    await runs.execute(squares, [1, 2], str(ledger.path))
    assert "temporalio" in imported_by(worker)
    assert "litellm" not in imported_by(worker)


async def test_a_worker_of_choreographies_alone_never_imports_litellm(
    workers: Workers, runs: Runs, provider: Provider
) -> None:
    provider.enqueue(Text("quack"))
    choreographer = workers.start(*CROWD, "--serve", "choreography", PYTHONPROFILEIMPORTTIME="1")
    workers.start(*CROWD, "--serve", "Teller")
    assert await runs.execute(ask, "ducks") == "quack"
    assert "temporalio" in imported_by(choreographer)
    assert "litellm" not in imported_by(choreographer)


async def test_a_worker_of_prompts_imports_litellm_before_it_is_asked(workers: Workers) -> None:
    worker = workers.start(*CROWD, "--serve", "Teller", PYTHONPROFILEIMPORTTIME="1")
    await worker.serves()
    assert {"litellm", "openai.resources.chat"} <= imported_by(worker)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise ImportError('no such thing')", "litellm can't be imported: ImportError: no such thing. Install what"),
        ("raise SystemError('dictobject.c')", "litellm can't be imported: SystemError: dictobject.c. Install what"),
        ("import sys; sys.exit('two\\nlines')", "litellm can't be imported: SystemExit: two lines. Install what"),
    ],
)
async def test_a_worker_that_cannot_import_litellm_ends_with_one_line(
    workers: Workers, tmp_path: Path, code: str, told: str
) -> None:
    (tmp_path / "litellm.py").write_text(code)
    worker = workers.start(*CROWD, PYTHONPATH=str(tmp_path))
    assert await worker.exit_code() == 2
    [line] = worker.errors.splitlines()
    assert told in line
    assert "Serving" not in worker.output


def imported_by(worker: Process) -> set[str]:
    """Return the names of the modules that a worker has imported so far."""
    return {line.rpartition("|")[2].strip() for line in worker.errors.splitlines() if "| " in line}


async def test_json_log_lines_parse_and_name_run_instance_and_method(
    workers: Workers, runs: Runs, ledger: Ledger
) -> None:
    worker = workers.start(*CROWD, "--json-logs", "--log-level", "debug")
    await worker.serves()
    run = await runs.start(squares, [1], str(ledger.path), id="named")
    await run.result()
    worker.terminate()
    await worker.exit_code()
    lines = [json.loads(line) for line in worker.errors.splitlines()]
    about = {line["message"]: (line["run"], line["instance"], line["method"]) for line in lines}
    assert about["squares are wanted"] == ("named", "", "squares")
    assert about["started, attempt 1"] == ("named", "hand-1", "Hand.square")
