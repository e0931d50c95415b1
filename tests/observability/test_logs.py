"""The log lines of server and workers: programs can parse them, and they contain no secrets."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.support import ROOT

# Logging is configured for a whole process, so every test starts its own.
START = """
import logging, sys, warnings
from rowcast.observability import logs
from rowcast.config import Settings
from rowcast.errors import InvalidTable, StoreUnavailable
logs.configure(Settings(log_format={form!r}, log_level={level!r}), "server")
log = logging.getLogger("rowcast.test")
"""


def logged(code: str, *, form: str = "json", level: str = "info") -> str:
    script = START.format(form=form, level=level) + code
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == ""
    return ran.stderr


def lines(code: str, **options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(code, **options).splitlines()]


def test_line_is_json_with_time_level_process_and_message() -> None:
    (line,) = lines('log.warning("%d rows, größe\\nof two lines", 3)')
    assert line["message"] == "3 rows, größe\nof two lines"
    assert (line["level"], line["process"], line["logger"]) == (
        "warning",
        "server",
        "rowcast.test",
    )
    assert isinstance(line["time"], float)


def test_line_has_the_fields_that_are_bound_around_it_and_its_own() -> None:
    inner, outer, outside = lines("""
with logs.bind(request_id="r1", job_id=None):
    with logs.bind(job_id="j1"):
        log.info("inner", extra={"status": 200})
    log.info("outer")
log.info("outside")
""")
    assert (inner["request_id"], inner["job_id"], inner["status"]) == ("r1", "j1", 200)
    assert (outer["request_id"], "job_id" in outer) == ("r1", False)
    assert "request_id" not in outside


def test_fork_logs_under_its_own_name() -> None:
    (line,) = lines('logs.rename("work horse"); log.info("x")')
    assert line["process"] == "work horse"


def test_lines_below_the_level_are_left_out() -> None:
    assert [
        line["message"]
        for line in lines('log.info("a"); log.error("b")', level="error")
    ] == ["b"]


@pytest.mark.slow
def test_lines_of_rq_are_left_out_unless_debugging() -> None:
    code = 'logging.getLogger("rq.worker").info("x"); logging.getLogger("rq.worker").warning("y")'
    assert [line["message"] for line in lines(code)] == ["y"]
    assert [line["message"] for line in lines(code, level="debug")] == ["x", "y"]


RAISED = """
def read_cell(error, *cause):
    raise error from (cause[0] if cause else None)
cell = "CELL" + "-42"
for error in {errors}:
    try:
        read_cell(*error)
    except Exception:
        log.exception("the job failed")
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_traceback_of_a_foreign_exception_is_logged_without_its_message(
    form: str,
) -> None:
    foreign = '[(ValueError(cell),), (KeyError(cell),), (InvalidTable("Ours."), OSError(cell))]'
    text = logged(RAISED.format(errors=foreign), form=form)
    assert "CELL-42" not in text
    assert text.count("in read_cell") == 3
    assert "ValueError" in text


def test_message_of_our_own_exception_is_kept() -> None:
    (line,) = lines(
        RAISED.format(errors='[(StoreUnavailable("The store does not answer."),)]')
    )
    assert line["exc_info"].endswith(
        "rowcast.errors.StoreUnavailable: The store does not answer."
    )


def test_text_is_one_line_for_people_with_its_fields() -> None:
    (line,) = logged(
        'with logs.bind(job_id="j1"): log.info("started")', form="text"
    ).splitlines()
    assert "INFO" in line
    assert line.endswith("server: started  job_id=j1")


def test_auto_is_json_without_a_terminal() -> None:
    assert lines('log.info("x")', form="auto")[0]["message"] == "x"


def test_warnings_of_libraries_become_lines() -> None:
    (line,) = lines('warnings.warn("this is old", stacklevel=1)')
    assert line["level"] == "warning"
    assert "this is old" in line["message"]
