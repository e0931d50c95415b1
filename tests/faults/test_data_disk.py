"""A full disk of the data folder makes everything wait; with space, everything goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.support.disks import fill, small_disk
from tests.support.stack import Stack, StartStack, submitted
from tests.support.tables import table
from tests.support.waiting import eventually


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", 64) as folder:
        yield folder


def redis_pid(stack: Stack) -> int:
    try:
        return stack.part("redis").pid
    except (AssertionError, psutil.Error):
        return 0


def not_ready(stack: Stack) -> str:
    answer = stack.get("/readyz")
    return str(answer.json()["detail"]) if answer.status_code == 503 else ""


def test_a_full_data_disk_makes_everything_wait(
    start_stack: StartStack, disk: Path, tmp_path: Path
) -> None:
    stack = start_stack(
        disk,
        workers=1,
        SHORT_WORKERS="0",
        SCRATCH_DIR=str(tmp_path / "scratch"),
    )
    dataset = stack.upload(table())
    job = submitted(stack.post("/fit", id=dataset))
    filler = disk / "of somebody else"

    # The reserve is given free, and then the disk is full for good: Redis dies again and again.
    pids = set()

    def has_died_often() -> bool:
        fill(filler)
        pids.add(redis_pid(stack))
        return len(pids) > 6

    eventually(has_died_often, 60)
    assert not (disk / "reserve").exists()
    assert f"disk: The disk of {disk} is full" in not_ready(stack)
    url = stack.get("/upload").json()["url"]
    assert requests.put(url, data=bytes(100_000), timeout=10).status_code >= 500

    filler.unlink()
    eventually(lambda: stack.get("/readyz").status_code == 200)
    stack.finished(job)
    stack.finished(submitted(stack.post("/fit", id=dataset)))
    eventually((disk / "reserve").exists)
    log = (disk / "test.log").read_text()
    assert f"The disk of {disk} is full. Make room" in log
    stack.stop()
