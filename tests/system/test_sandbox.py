"""Where Landlock is forbidden, nothing is confined, and everything else works."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import ROOT, without_landlock
from tests.support.online import CSV, answered, ask, csv, mixed, ready
from tests.support.stack import StartStack
from tests.support.without_landlock import CREATE_RULESET, RESTRICT_SELF

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has Landlock"
)


@pytest.mark.parametrize("first", [CREATE_RULESET, RESTRICT_SELF])
def test_a_profile_that_forbids_landlock_leaves_processes_unconfined(
    first: int,
) -> None:
    script = (
        "from rowcast.system import sandbox; from tests.support import without_landlock; "
        "before = sandbox.is_available(); "
        f"without_landlock.forbid({first}); "
        "print(before, sandbox.is_available(), sandbox.confine([]))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "True False False\n"


def test_without_landlock_the_service_works_and_each_program_says_so_once(
    start_stack: StartStack,
) -> None:
    name = without_landlock.__name__
    stack = ready(start_stack(module=name, workers=1, ONLINE_WORKERS="1"))
    model_id = stack.fitted(mixed(), target="label")
    assert len(answered(ask(stack, model_id, csv(mixed(3)), CSV))) == 3
    lines = (stack.data / "test.log").read_text().splitlines()
    warnings = [line for line in lines if "Landlock is not available" in line]
    programs = [line.split("|")[0].strip() for line in warnings]
    assert sorted(programs) == ["online", "server", "worker"]
