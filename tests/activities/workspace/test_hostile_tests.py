"""Tests that a model might have written, and that are after something else than testing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from activities.workspace.cgroup import is_bound
from activities.workspace.port import Limits
from activities.workspace.workspace import Workspace
from tests.system.processes import at_work_in

MARK = "marked-for-life"
INSIDE = "import os\nassert os.getcwd() == '/workspace', 'only in a sandbox'\n"
"""Begins what must never be done to the machine itself, whatever goes wrong."""

PROMISE = "What models write runs without network, secrets and other processes in sight; it can write in the workspace"


@pytest.fixture
def with_secret(monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """Another process of the same user, with a key in its environment; this one has it by a name that tells nothing."""
    monkeypatch.setenv("LODGER", MARK)
    process = subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], "OPENAI_API_KEY": MARK})
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A server on this machine's loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


async def test_no_environment_with_a_secret_is_in_sight(
    sandboxed: Workspace, with_secret: subprocess.Popen[bytes]
) -> None:
    sandboxed.write(
        "test_a.py",
        "import pathlib, os\n"
        "def test_a():\n"
        "    seen = [str(dict(os.environ))]\n"
        "    for path in pathlib.Path('/proc').glob('[0-9]*/environ'):\n"
        "        try: seen.append(path.read_text())\n"
        "        except OSError: pass\n"
        "    pids = [p.name for p in pathlib.Path('/proc').glob('[0-9]*')]\n"
        "    pathlib.Path('seen').write_text(' '.join(seen + pids))\n",
    )
    run = await sandboxed.run_tests()
    assert run.passed, run.output
    seen = sandboxed.read("seen")
    assert MARK not in seen
    assert len(seen.split()[-2:]) == 2
    assert str(with_secret.pid) not in seen.split()
    assert PROMISE in str(run)


async def test_the_first_process_of_the_sandbox_has_nothing_to_tell(
    sandboxed: Workspace, with_secret: subprocess.Popen[bytes]
) -> None:
    look = "cat /proc/1/environ; cat /proc/1/mem; for number in $(seq 0 40); do cat /proc/1/fd/$number; done"
    ended = await sandboxed.run(["sh", "-c", look])
    assert MARK not in ended.output
    assert ended.output.count("denied") + ended.output.count("No such file") == 43


async def test_sockets_reach_nothing_outside(sandboxed: Workspace, listener: socket.socket) -> None:
    sandboxed.write(
        "test_a.py",
        "import socket, pytest\n"
        f"@pytest.mark.parametrize('to', [{listener.getsockname()}, ('192.0.2.1', 80), ('8.8.8.8', 53)])\n"
        "def test_a(to): socket.create_connection(to, timeout=3)\n"
        "def test_own_loopback():\n"
        "    with socket.create_server(('127.0.0.1', 0)) as server:\n"
        "        socket.create_connection(server.getsockname()).close()\n"
        "def test_name(): socket.getaddrinfo('example.com', 80)\n",
    )
    run = await sandboxed.run_tests()
    assert "4 failed, 1 passed" in run.output
    assert "Connection refused" in run.output
    assert "Network is unreachable" in run.output
    with pytest.raises(TimeoutError):
        listener.accept()


async def test_nothing_outside_the_workspace_can_be_written(sandboxed: Workspace, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (sandboxed.root / "way").mkdir(parents=True)
    (sandboxed.root / "way" / "out").symlink_to(outside)
    places = ["/planted", "/etc/planted", "/usr/planted", "/dev/planted", "/root/planted", f"{sys.prefix}/planted"]
    places += [str(outside), str(tmp_path / "planted"), "../planted", "way/out", "/proc/sys/kernel/core_pattern"]
    places += ["/proc/sys/kernel/domainname", "/proc/sysrq-trigger", sys.executable]
    sandboxed.write(
        "test_a.py",
        f"{INSIDE}import pytest\n"
        f"@pytest.mark.parametrize('place', {places})\n"
        "def test_a(place):\n"
        "    with pytest.raises(OSError): open(place, 'a')\n"
        "    with pytest.raises(OSError): open(place, 'r+')\n",
    )
    run = await sandboxed.run_tests()
    assert run.passed, run.output
    assert outside.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outside", "sandboxed"]


async def test_no_privilege_is_to_be_had(sandboxed: Workspace) -> None:
    tried = "id -u; grep CapEff /proc/self/status; unshare --user --map-root-user true; mkdir m; mount -t tmpfs x m"
    ended = await sandboxed.run(["sh", "-c", f"[ $PWD = /workspace ] || exit 9; {tried}"])
    assert ended.output.startswith("1000\nCapEff:\t0000000000000000\n")
    assert "unshare" in ended.output
    assert ended.code != 0


@pytest.mark.parametrize("kill", ["os.getppid()", "1"])
async def test_a_parent_is_not_killed(sandboxed: Workspace, kill: str) -> None:
    bystander = subprocess.Popen(["sleep", "60"], cwd=sandboxed.root.parent)
    try:
        sandboxed.write(
            "test_a.py",
            f"{INSIDE}import contextlib\ndef test_a():\n    with contextlib.suppress(OSError): os.kill({kill}, 9)\n",
        )
        run = await sandboxed.run_tests()
        assert run.passed, run.output
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


# None goes on for ever: what is to hold them may fail, and this machine is not to.
ENDLESS = {
    "forks": "for _ in range(600):\n        if os.fork() == 0: time.sleep(20); os._exit(0)",
    "a tree of forks": "for _ in range(9): os.fork()",
    "threads": "for _ in range(600): threading.Thread(target=time.sleep, args=[9], daemon=True).start()",
    "programs": "for _ in range(600): subprocess.Popen(['sleep', '20'], start_new_session=True)",
}
REFUSED = ("Resource temporarily unavailable", "can't start new thread")
"""What a program sees of the kernel's bound, if that is reached before the number is measured."""


@pytest.mark.parametrize("start", ENDLESS.values(), ids=ENDLESS)
async def test_forks_without_end_are_ended(workspace: Workspace, start: str) -> None:
    head = "import os, subprocess, threading, time\ndef test_a():\n"
    workspace.write("test_a.py", f"{head}    {start}\n    time.sleep(20)")
    run = await workspace.run_tests(timeout=15)
    assert not run.passed
    told = "more than 256 processes and threads at a time. Look for forks or threads"
    assert any(words in run.output for words in (told, *REFUSED)), run.output
    assert wait_until(lambda: not at_work_in(workspace.root))


@pytest.mark.skipif(not is_bound(), reason="root without control groups: nothing but measuring holds forks")
async def test_a_bomb_of_forks_does_not_get_beyond_what_the_kernel_allows(workspace: Workspace) -> None:
    # Started by itself it would double until nothing is left; the kernel's bound comes before the measured one.
    bomb = "import os, time\nfor _ in range(10):\n    try: os.fork()\n    except OSError: pass\ntime.sleep(5)\n"
    ended = await workspace.run(["python", "-c", bomb], limits=Limits(seconds=5, processes=40))
    assert "more than 40 processes and threads" in str(ended)
    assert wait_until(lambda: not at_work_in(workspace.root))


async def test_memory_of_all_processes_together_is_bound(workspace: Workspace) -> None:
    workspace.write(
        "test_a.py",
        "import os, time\n"
        "def test_a():\n"
        "    for _ in range(6):\n"
        "        if os.fork() == 0:\n"
        "            data = bytearray(os.urandom(1) * (120 << 20))\n"
        "            time.sleep(60)\n"
        "    time.sleep(60)\n",
    )
    run = await workspace.run_tests(memory_mb=512, timeout=30)
    assert not run.passed
    assert "the processes together used more than 512 MB of memory" in run.output
    assert wait_until(lambda: not at_work_in(workspace.root))


async def test_processor_time_of_all_processes_together_is_bound(workspace: Workspace) -> None:
    burn = "import os\nfor _ in range(3): os.fork()\nwhile True: pass"
    began = time.monotonic()
    ended = await workspace.run(["python", "-c", burn], limits=Limits(seconds=60, cpu_seconds=2))
    assert "more than 2 seconds of processor time" in str(ended)
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("write", "told"),
    [
        ("for i in range(90): open(f'file-{i}', 'wb').write(b'x' * 10**6)", "the workspace holds more than 30 MB"),
        ("open('file', 'wb').write(b'x' * 10**8)", "File too large"),
        (
            "import os\nfor i in range(120): os.mkdir('d'); os.chdir('d')\n"
            "while True: open(f'file-{i}', 'wb').write(b'x' * 10**6); i += 1",
            "the disk fills, under more than 100 folders",
        ),
    ],
    ids=["many files", "one file", "deep"],
)
async def test_a_workspace_is_not_filled_without_end(workspace: Workspace, write: str, told: str) -> None:
    fill = f"{write}\nimport time; time.sleep(20)"
    ended = await workspace.run(["python", "-c", fill], limits=Limits(seconds=30, disk_mb=30))
    assert told in str(ended)
    subprocess.run(["rm", "-rf", workspace.root], check=True)


async def test_a_full_workspace_is_told_with_what_fills_it(workspace: Workspace) -> None:
    workspace.write("test_a.py", "def test_a(): open('much', 'wb').write(b'x' * 20_000_000)")
    assert (await workspace.run_tests(disk_mb=30)).passed
    run = await workspace.run_tests(disk_mb=10)
    assert not run.passed
    assert "Its largest: much (19 MB)" in run.output
    workspace.write("much", "")
    workspace.write("test_a.py", "def test_a(): pass")
    assert (await workspace.run_tests(disk_mb=10)).passed


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm", "$HOME"])
async def test_scratch_space_is_bound(sandboxed: Workspace, place: str) -> None:
    fill = f"head -c 100M /dev/zero > {place}/file; stat -c %s {place}/file"
    ended = await sandboxed.run(["sh", "-c", fill], limits=Limits(scratch_mb=10))
    assert "No space left on device" in ended.output
    assert int(ended.output.split()[-1]) <= 10 << 20
    assert not Path("/tmp/file").exists()


async def test_nothing_of_a_run_is_in_the_scratch_space_of_the_next(sandboxed: Workspace) -> None:
    await sandboxed.run(["sh", "-c", "touch /tmp/left $HOME/left /dev/shm/left"])
    ended = await sandboxed.run(["sh", "-c", "find /tmp /dev/shm -name left"])
    assert ended.output == ""


DAEMONS = {
    "session": "subprocess.Popen(['sleep', '600'], start_new_session=True)",
    "no environment": "subprocess.Popen(['sleep', '600'], start_new_session=True, env={})",
    "twice": "subprocess.Popen(['sh', '-c', 'setsid sleep 600 &'], start_new_session=True, env={})",
    "deaf": "subprocess.Popen(['sh', '-c', 'trap \"\" TERM HUP; exec sleep 600'], stdout=-3, stderr=-3)",
}


@pytest.mark.parametrize("start", DAEMONS.values(), ids=DAEMONS)
async def test_a_daemon_does_not_outlive_its_run(workspace: Workspace, start: str) -> None:
    workspace.write("test_a.py", f"import subprocess, time\ndef test_a():\n    {start}\n    time.sleep(0.3)")
    run = await workspace.run_tests()
    assert run.passed, run.output
    assert "Processes that the tests left behind were ended: sleep." in run.output
    assert wait_until(lambda: not at_work_in(workspace.root))


async def test_a_worker_that_is_killed_takes_its_commands_along(workspace: Workspace) -> None:
    way = type(workspace._isolation).__name__
    program = (
        "import asyncio, sys; from activities.workspace.workspace import Workspace\n"
        "from activities.workspace.unsandboxed import Unsandboxed\n"
        f"way = {'Unsandboxed()' if way == 'Unsandboxed' else None}\n"
        "asyncio.run(Workspace(sys.argv[1], isolation=way).run(['sh', '-c', 'touch begun; sleep 600 & sleep 600']))"
    )
    worker = subprocess.Popen([sys.executable, "-c", program, str(workspace.root)])
    try:
        assert wait_until(lambda: (workspace.root / "begun").exists())
        worker.kill()
    finally:
        worker.kill()
        worker.wait()
    assert wait_until(lambda: not at_work_in(workspace.root))


def wait_until(condition: object, seconds: float = 10.0) -> bool:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return bool(condition())


@pytest.mark.parametrize(
    "danger",
    ["network", "files outside the workspace", "environment and its keys", "fill the disk", "end the worker", "leave"],
)
async def test_without_a_sandbox_it_is_told_what_is_not_stopped(
    unsandboxed: Workspace, with_secret: subprocess.Popen[bytes], listener: socket.socket, danger: str
) -> None:
    unsandboxed.write(
        "test_a.py",
        "import socket, pathlib\n"
        "def test_a():\n"
        f"    assert {MARK!r} in pathlib.Path('/proc/{with_secret.pid}/environ').read_text()\n"
        f"    socket.create_connection(('127.0.0.1', {listener.getsockname()[1]})).close()\n"
        f"    pathlib.Path({str(unsandboxed.root.parent / 'planted')!r}).touch()\n",
    )
    run = await unsandboxed.run_tests()
    assert run.passed, run.output
    assert "NOT sandboxed" in str(run)
    assert danger in str(run)
