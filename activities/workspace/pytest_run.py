"""A run of pytest as a command of the workspace, and the verdict on it."""

from __future__ import annotations

import asyncio
import secrets
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from activities.workspace.port import REPORT, Ended
from activities.workspace.verdict import Told, missed, missed_in_words

# In pytest's own order; the mark tells a file that configures pytest from one that does not.
CONFIGURATIONS = (
    *((name, "") for name in ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini")),
    ("pyproject.toml", "[tool.pytest"),
    ("tox.ini", "[pytest]"),
    ("setup.cfg", "[tool:pytest]"),
)

# Only plugins that the workspace names itself are loaded (`addopts = -p pytest_asyncio`): a verdict must not
# depend on what else is installed beside the worker that happens to give it.
_OPTIONS = ("-q", "--disable-plugin-autoload", "-p", "no:cacheprovider", "--rootdir=.", "--confcutdir=.")
_JUDGE = Path(__file__).with_name("judge.py").read_text()


class TestRun(BaseModel):
    """What a run of tests gave: the verdict and, bounded, what it printed."""

    __test__: ClassVar[bool] = False  # pytest takes classes of this name for tests
    model_config = ConfigDict(frozen=True)

    passed: bool
    output: str
    isolation: str = ""
    """What it ran in, and what that holds back or not."""

    def __str__(self) -> str:
        verdict = f"The tests {'passed' if self.passed else 'did not pass'}.\n\n{self.output}"
        return f"{verdict}\n\n{self.isolation}".strip()


async def run_pytest(
    run: Callable[[Sequence[str], bytes], Awaitable[Ended]],
    sources: Callable[[], Mapping[str, str]],
    selected: Sequence[str],
    *,
    configuration: str,
    seconds: float,
) -> TestRun:
    """Run pytest, and judge by its report.

    Args:
        run: Runs a command with what it reads from its standard input.
        sources: Reads the Python files of the workspace.
        selected: Files, folders or tests as pytest takes them; all of the folder's without any.
        configuration: The file that configures pytest; `/dev/null` for none at all.
        seconds: For the whole run.
    """
    key = secrets.token_hex(16).encode()
    # If a test hangs, pytest says where when half of the time is gone.
    options = [*_OPTIONS, "-c", configuration, "-o", f"faulthandler_timeout={seconds / 2}"]
    before = await asyncio.to_thread(sources)
    ended = await run(["python", "-I", "-u", "-c", _JUDGE, str(REPORT), *options, *selected], key)
    told = Told.read(ended.report, key)
    after = await asyncio.to_thread(sources) if told.passed else before
    faults = _faults(ended, told, selected, before, after)
    remarks = [*faults, told.remark() if not faults else "", _left(ended)]
    return TestRun(
        passed=told.passed and not faults,
        output="\n\n".join(part for part in (ended.output, *remarks) if part),
        isolation=ended.isolation,
    )


def _faults(
    ended: Ended, told: Told, selected: Sequence[str], before: Mapping[str, str], after: Mapping[str, str]
) -> list[str]:
    """Say what makes a run worth nothing, although each of its tests may have passed."""
    if ended.stopped:
        return [f"{ended.stopped}{told.where()}"]
    if told.code is None and not told.forged:
        return [_early_end(ended.code or 0, told.where())]
    if not told.passed:
        return []
    if tests := missed(told, before, selected):
        return [missed_in_words(tests)]
    judged = {test.partition("::")[0] for test in told.outcomes}
    if changed := sorted(path for path in judged if before.get(path) != after.get(path)):
        return [
            f"This run proves nothing: while it ran, {', '.join(changed)} changed, by the tests or by somebody else. "
            "Run the tests again."
        ]
    return []


def _early_end(code: int, where: str) -> str:
    if code < 0:
        return f"The test process was killed by signal {-code} ({signal.strsignal(-code)}){where}."
    return f"The process ended (exit code {code}) before pytest was done{where}. Does the code use os._exit?"


def _left(ended: Ended) -> str:
    if not ended.left:
        return ""
    names = ", ".join(sorted(set(ended.left))[:10])
    return f"Processes that the tests left behind were ended: {names}. Have the tests end what they start."
