"""What can be known of the container files without an engine: that they agree with each other and with the code."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # comes with litellm, without types

from activities.contract.names import CHOREOGRAPHY_QUEUE
from console.dev_server import TUNED, DevServer
from worker import parser
from workflows.serving.settings import Settings

ROOT = Path(__file__).parent.parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker/compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKERS = {name: service for name, service in SERVICES.items() if "build" in service}
OTHERS = {name: service for name, service in SERVICES.items() if "build" not in service}
SECRET = re.compile("KEY|PASSWORD|PWD|TOKEN|SECRET")


def instructions(dockerfile: Path) -> Iterator[tuple[str, str]]:
    """Read a Dockerfile as pairs of instruction and rest."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            instruction, _, rest = line.partition(" ")
            yield instruction, " ".join(rest.split())


DOCKERFILE = list(instructions(ROOT / "docker/Dockerfile"))


def written(instruction: str) -> list[str]:
    return [rest for found, rest in DOCKERFILE if found == instruction]


def copied() -> list[tuple[str, str]]:
    """Return source and target of what is copied, each COPY with one source."""
    return [(source, target) for source, target in map(str.split, written("COPY"))]


def environment() -> dict[str, str]:
    return dict(pair.split("=", 1) for line in written("ENV") for pair in line.split())


def settings(service: dict[str, Any]) -> Settings:
    options = parser().parse_args(service["command"])
    return Settings.read(serve=options.serve, concurrency=options.concurrency, grace=options.grace)


def waits_for(name: str) -> set[str]:
    """Return the services that are up, or done, before a service starts."""
    direct = SERVICES[name].get("depends_on", {})
    return {*direct, *(further for other in direct for further in waits_for(other))}


def shell(service: str) -> list[str]:
    """Return the command of a job, as Compose hands it to the container."""
    job = SERVICES[service]
    return [*job["entrypoint"], *(part.replace("$$", "$") for part in job["command"])]


def test_the_image_starts_the_worker() -> None:
    (entry_point,) = written("ENTRYPOINT")
    assert json.loads(entry_point) == ["python", "worker.py"]


def test_together_the_workers_serve_everything() -> None:
    everything = Settings.read()
    served = [settings(service) for service in WORKERS.values()]
    queues = [queue for part in served for queue in part.queues]
    assert sorted(queues) == sorted(everything.queues)
    assert [c.name for part in served for c in part.choreographies] == [c.name for c in everything.choreographies]


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_built_from_the_repositorys_top(name: str) -> None:
    build = WORKERS[name]["build"]
    assert (ROOT / "docker" / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_runs_as_many_times_as_wanted(name: str) -> None:
    assert not {"container_name", "hostname", "ports"} & WORKERS[name].keys()


@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_is_stopped_no_sooner_than_its_calls(name: str) -> None:
    period = WORKERS[name]["stop_grace_period"]
    assert int(period.removesuffix("s")) > settings(WORKERS[name]).grace


@pytest.mark.parametrize("name", [*WORKERS, "namespace", "ui"])
def test_everyone_finds_the_server(name: str) -> None:
    host, port = SERVICES[name]["environment"]["TEMPORAL_ADDRESS"].split(":")
    assert SERVICES[host]["image"].startswith("temporalio/server:")
    assert SERVICES[host]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert SERVICES[host]["healthcheck"]["test"][-1] == port
    assert host in waits_for(name)


def test_the_web_ui_is_where_the_dev_servers_is() -> None:
    assert SERVICES["ui"]["environment"]["TEMPORAL_UI_PORT"] == 8233
    assert SERVICES["ui"]["ports"] == ["127.0.0.1:8233:8233"]
    assert SERVICES["ui"]["environment"]["TEMPORAL_CORS_ORIGINS"] == "http://localhost:8233"


def test_nothing_is_open_to_other_machines() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_nobody_waits_for_what_never_comes() -> None:
    for service in SERVICES.values():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert SERVICES[other]["healthcheck"]
            else:
                assert wait["condition"] == "service_completed_successfully"
                assert SERVICES[other]["restart"].startswith("on-failure")


def test_database_schema_server_and_namespace_come_before_the_workers() -> None:
    order = ["postgres", "schema", "temporal", "namespace"]
    for number, name in enumerate(order):
        assert waits_for(name) == set(order[:number])
    for name in WORKERS:
        assert waits_for(name) == set(order)


def test_images_are_pinned() -> None:
    for image in [*written("FROM"), *(service["image"] for service in SERVICES.values())]:
        name, _, tag = image.partition(":")
        assert name
        assert re.search(r"\d", tag) or image == "choreography-worker:local", image


def test_the_schema_is_the_servers_own() -> None:
    versions = {OTHERS[name]["image"].partition(":")[2] for name in ("schema", "temporal", "namespace")}
    assert len(versions) == 1


def test_no_secret_is_written_down() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if SECRET.search(variable):
                assert value is None or value.startswith("${"), f"{name}: {variable}"
    assert not [name for name in environment() if SECRET.search(name)]
    assert not written("ARG")


def test_keys_reach_those_who_ask_models_only() -> None:
    with_keys = {name for name, service in SERVICES.items() if "OPENAI_API_KEY" in service.get("environment", {})}
    assert with_keys == WORKERS.keys() - {"choreography"}


def test_agents_share_the_folder_in_which_they_work() -> None:
    folder = environment()["WORKSPACES"]
    assert written("VOLUME") == [f"{folder} /payloads"]
    for name in WORKERS.keys() - {"choreography"}:
        assert WORKERS[name]["volumes"] == ["payloads:/payloads", f"workspaces:{folder}"]
    assert "workspaces" in COMPOSE["volumes"]


def test_all_workers_share_the_folder_for_what_is_large() -> None:
    for worker in WORKERS.values():
        assert "payloads:/payloads" in worker["volumes"]
        assert {"PAYLOAD_STORE", "PAYLOAD_STORE_DAYS"} <= worker["environment"].keys()
    assert "payloads" in COMPOSE["volumes"]


def test_what_must_last_is_in_a_volume() -> None:
    assert SERVICES["postgres"]["volumes"] == ["postgres:/var/lib/postgresql/data"]
    assert "postgres" in COMPOSE["volumes"]


def test_files_that_are_mounted_are_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            if volume.startswith("."):
                assert (ROOT / "docker" / volume.split(":")[0]).is_file()


def test_the_server_is_set_as_the_dev_server_is() -> None:
    path = OTHERS["temporal"]["environment"]["DYNAMIC_CONFIG_FILE_PATH"]
    assert f"./dynamic-config.yaml:{path}:ro" in OTHERS["temporal"]["volumes"]
    values = yaml.safe_load((ROOT / "docker/dynamic-config.yaml").read_text())
    assert values == {key: [{"value": json.loads(value)}] for key, value in TUNED.items()}


def test_the_worker_is_not_root() -> None:
    (user,) = written("USER")
    assert int(user) > 0
    added = next(line for line in written("RUN") if "useradd" in line)
    assert f"--uid {user} " in added
    instructions = [instruction for instruction, _ in DOCKERFILE]
    assert instructions.index("USER") > max(n for n, name in enumerate(instructions) if name in ("RUN", "COPY"))


def test_packages_are_the_locked_ones_and_none_is_compiled() -> None:
    (install,) = [shlex.split(line) for line in written("RUN") if "pip install" in line]
    assert {"--require-hashes", "--only-binary", ":all:", "--no-cache-dir"} <= set(install)
    assert install[-2:] == ["-r", "requirements.lock"]
    (added,) = [line for line in written("RUN") if "apt" in line]
    assert "install --yes --no-install-recommends bubblewrap git &&" in added  # the sandbox, and no compiler


def test_the_image_has_the_python_that_is_promised() -> None:
    (image,) = written("FROM")
    version = re.findall(r"python:(\d+\.\d+)-slim", image)
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert version == [configuration["tool"]["mypy"]["python_version"]]


def test_the_build_is_given_what_it_copies_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    given = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "*"  # so .venv, workspaces and whatever else lies there stay out
    assert given == {source.rstrip("/") for source, _ in copied()}
    assert all((ROOT / source).exists() for source in given)
    assert not [name for name in given if name.startswith((".", "workspaces"))]


def test_the_worker_needs_nothing_but_what_is_copied(tmp_path: Path) -> None:
    for source, target in copied():
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (tmp_path / target).mkdir(exist_ok=True)
            shutil.copy(ROOT / source, tmp_path / target)
    program = (
        "import sys; sys.path.insert(0, '.')\n"
        "import activities.calls.activity, activities.border.logs, console.dev_server, worker\n"
        "from workflows.serving.settings import Settings\n"
        "print(activities.calls.activity.__file__, *Settings.read().queues)\n"
    )
    # -P: neither the folder of this test nor PYTHONPATH may lend it a module.
    run = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, env={}, capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    assert run.stdout.split() == [str(tmp_path / "activities/calls/activity.py"), *Settings.read().queues]


def test_both_databases_get_the_servers_schema(tmp_path: Path) -> None:
    tool = tmp_path / "temporal-sql-tool"
    tool.write_text('#!/bin/sh\necho "$@"\n')
    tool.chmod(0o755)
    run = subprocess.run(
        shell("schema"), env={"PATH": f"{tmp_path}:{os.defpath}"}, capture_output=True, text=True, check=True
    )
    server = OTHERS["temporal"]["environment"]
    calls = run.stdout.splitlines()
    reach = f"--plugin {server['DB']} --ep {server['POSTGRES_SEEDS']} -p {server['DB_PORT']}"
    assert all(call.startswith(f"{reach} -u {server['POSTGRES_USER']} --db ") for call in calls)
    schemas = "/etc/temporal/schema/postgresql/v12"
    assert [call.partition(" --db ")[2] for call in calls] == [
        "temporal create",
        "temporal setup-schema -v 0.0",
        f"temporal update-schema -d {schemas}/temporal/versioned",
        "temporal_visibility create",
        "temporal_visibility setup-schema -v 0.0",
        f"temporal_visibility update-schema -d {schemas}/visibility/versioned",
    ]


def test_a_schema_that_fails_keeps_the_server_waiting(tmp_path: Path) -> None:
    tool = tmp_path / "temporal-sql-tool"
    tool.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    tool.chmod(0o755)
    run = subprocess.run(
        shell("schema"), env={"PATH": f"{tmp_path}:{os.defpath}"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert len(run.stdout.splitlines()) == 1


def test_the_namespace_is_made_once(server: DevServer) -> None:
    surroundings = {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "TEMPORAL_ADDRESS": server.address,
        "TEMPORAL_NAMESPACE": "made-by-a-job",
    }
    for _ in range(2):
        run = subprocess.run(shell("namespace"), env=surroundings, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
    assert "made-by-a-job" in run.stdout


def test_the_pages_commands_name_what_is_there() -> None:
    page = (ROOT / "docker/README.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    commands = [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    options = [pair for words in commands for pair in pairwise(words)]
    choreographies = {choreography.name for choreography in Settings.read().choreographies}
    assert {value for option, value in options if option == "--type"} <= choreographies
    assert {value for option, value in options if option == "--task-queue"} == {CHOREOGRAPHY_QUEUE}
    assert {value.partition("=")[0] for option, value in options if option == "--scale"} <= WORKERS.keys()
    assert [json.loads(value) for option, value in options if option == "--input"]
    (own,) = [words[words.index("coder") + 1 :] for words in commands if "--module" in words]
    assert parser().parse_args(own).bare


def test_the_pages_options_of_a_run_are_taken() -> None:
    page = (ROOT / "docker/README.md").read_text()
    (options,) = re.findall(r"--input '(\{.*?\})'", page)
    (choreography,) = [c for c in Settings.read().choreographies if c.name == "build_project"]
    assert choreography.decode(["Build bigkit", json.loads(options)])[1].instances == {"coder": 8}
