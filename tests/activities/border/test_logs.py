"""Logs of a process of their own: every line says which run, instance and method it is about."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]

PROGRAM = """
import logging
import sys

from activities.border.context import CallContext, answering
from activities.border.logs import set_up_logs

set_up_logs(as_json=sys.argv[1] == "json", level=sys.argv[2])
logger = logging.getLogger("poems")
logger.info("grüße from %s", "outside")
with answering(CallContext("textkit", "run", "coder-2", "Coder.write", "7")):
    logger.info("inside")
    try:
        raise LookupError("no such poem")
    except LookupError:
        logger.exception("failed\\nbadly")
logger.debug("detail")
logging.getLogger("httpx").info("a request")
logging.getLogger("temporalio.activity").warning("a page about a failure")
"""


@functools.cache
def logged(form: str, level: str = "info") -> list[str]:
    """Run the program and return the lines that it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, form, level],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8"},
        check=True,
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def parsed(number: int) -> dict[str, Any]:
    line: dict[str, Any] = json.loads(logged("json")[number])
    return line


def test_a_line_has_time_level_and_message() -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO    grüße from outside", logged("text")[0])


def test_a_line_about_a_call_names_run_instance_and_method() -> None:
    assert logged("text")[1].endswith("INFO    [textkit coder-2 Coder.write] inside")


def test_an_error_is_followed_by_its_traceback() -> None:
    assert "[textkit coder-2 Coder.write] failed" in logged("text")[2]
    assert "LookupError: no such poem" in logged("text")


def test_json_logs_are_one_object_per_line() -> None:
    lines = [json.loads(line) for line in logged("json")]

    assert [line["message"] for line in lines] == ["grüße from outside", "inside", "failed\nbadly"]


def test_a_json_line_says_which_run_instance_and_method_it_is_about() -> None:
    inside = parsed(1)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", inside.pop("time"))
    assert inside == {
        "level": "info",
        "run": "textkit",
        "instance": "coder-2",
        "method": "Coder.write",
        "message": "inside",
        "logger": "poems",
    }


def test_a_json_line_outside_a_call_names_none() -> None:
    assert (parsed(0)["run"], parsed(0)["instance"], parsed(0)["method"]) == ("", "", "")


def test_a_json_line_about_an_error_has_its_traceback() -> None:
    assert parsed(2)["level"] == "error"
    assert parsed(2)["exception"].endswith("LookupError: no such poem")


def test_what_libraries_say_of_every_request_is_left_out() -> None:
    assert not [line for line in logged("text") if "a request" in line or "a page" in line]


def test_the_level_can_be_set() -> None:
    assert not [line for line in logged("text") if "detail" in line]
    assert any(line.endswith("DEBUG   detail") for line in logged("text", "debug"))


SAYS_SECRETS = """
import logging
import sys
import threading

from activities.border.logs import set_up_logs

set_up_logs(as_json=sys.argv[1] == "json")
logger = logging.getLogger("of.somebody")
SECRET = "marked-7f3c-value"
logger.info("asked with %s", {"Authorization": SECRET})
logger.warning(f"in the message itself: {SECRET}")
logger.error("in an object: %r", ValueError(SECRET))
try:
    raise LookupError(f"refused {SECRET}") from ValueError(SECRET)
except LookupError:
    logger.exception("failed")
logger.warning("where: %s", "here", stack_info=True)
thread = threading.Thread(target=lambda: 1 / len(SECRET[:0]) or SECRET)
thread.start(), thread.join()
logger.info("x" * 29_990 + SECRET)
raise SystemError(SECRET)
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_of_a_log_holds_a_secret_of_the_process(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SAYS_SECRETS, form],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        env={"PYTHONIOENCODING": "utf-8", "A_KEY": "marked-7f3c-value"},
        check=False,
    )

    assert done.returncode == 1
    for said in (
        "asked with {'Authorization': '[secret A_KEY]'}",
        "message itself: [secret A_KEY]",
        "ZeroDivisionError",
    ):
        assert said in done.stderr
    for said in ("ValueError('[secret A_KEY]')", "LookupError: refused [secret A_KEY]", "SystemError: [secret A_KEY]"):
        assert said in done.stderr
    assert "marked-" not in done.stderr.replace('SECRET = "marked-7f3c-value"', "")
