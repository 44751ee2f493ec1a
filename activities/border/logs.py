"""Logs that tell which run, instance and method each line is about."""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType

from temporalio import workflow
from temporalio.runtime import LogForwardingConfig, LoggingConfig, Runtime, TelemetryConfig, TelemetryFilter

from activities.border.context import current_call
from activities.border.sdk import quieten_the_sdk
from activities.border.washing import fit_to_leave, name_of, said, stack_of, washed_within

LONGEST_MESSAGE = 30_000
"""Characters of a message that are logged."""


def set_up_logs(*, as_json: bool = False, level: str = "INFO") -> None:
    """Send the logs of this process to standard error, one line each, readable or as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_name_the_call)
    handler.addFilter(in_safe_words)
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    quieten_the_sdk()
    workflow.logger.workflow_info_on_message = False  # each line begins with it
    for noisy in ("httpx", "httpcore", "LiteLLM", "asyncio", "botocore", "boto3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    _take_over_the_cores_logs()
    _take_over_what_nobody_caught()


def _take_over_the_cores_logs() -> None:
    """Have the SDK's core, which would write to standard output in its own way, log like everybody else."""
    forwarding = LogForwardingConfig(
        logging.getLogger("temporalio.core"), append_target_to_name=False, prepend_target_on_message=False
    )
    logs = LoggingConfig(TelemetryFilter(core_level="WARN", other_level="ERROR"), forwarding)
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=logs)), error_if_already_set=False)


def _take_over_what_nobody_caught() -> None:
    """Have what ends the process, or a thread of it, logged like everything else, rather than printed as it is."""

    def log(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error or kind(), trace)
        elif error is not None:
            logging.getLogger(__name__).critical("nobody caught it: %s", name_of(error), exc_info=error)

    sys.excepthook = log
    threading.excepthook = lambda args: log(args.exc_type, args.exc_value, args.exc_traceback)


def _name_the_call(record: logging.LogRecord) -> bool:
    call = current_call()
    if call is not None:
        record.run, record.instance, record.method = call.workflow_id, call.instance, call.method
    elif workflow.in_workflow():
        info = workflow.info()
        record.run, record.instance, record.method = info.workflow_id, "", info.workflow_type
    else:
        record.run = record.instance = record.method = ""
    return True


def in_safe_words(record: logging.LogRecord) -> bool:
    """Write a record out, cut and washed: a filter for the handler of anybody's logs.

    What is logged may be anything that an error says, and hold secrets in its arguments or its traceback.
    """
    try:
        text = record.getMessage()
    except Exception as error:
        text = f"{said(record.msg)} [its arguments can't be shown: {name_of(error)}]"
    record.msg, record.args = said(_fit(text), LONGEST_MESSAGE), None
    if record.exc_info and record.exc_info[1]:
        record.exc_text = stack_of(record.exc_info[1], LONGEST_MESSAGE, wash=fit_to_leave).rstrip("\n")
    if record.stack_info:
        record.stack_info = _fit(record.stack_info)
    return True


def _fit(text: str) -> str:
    return washed_within(text, LONGEST_MESSAGE, wash=fit_to_leave)


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(about)s%(message)s", datefmt="%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        about = " ".join(filter(None, (record.__dict__.get(key) for key in ("run", "instance", "method"))))
        record.about = f"[{about}] " if about else ""
        return super().format(record)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "run": record.__dict__.get("run", ""),
            "instance": record.__dict__.get("instance", ""),
            "method": record.__dict__.get("method", ""),
            "message": record.getMessage(),
            "logger": record.name,
        }
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line, ensure_ascii=False)
