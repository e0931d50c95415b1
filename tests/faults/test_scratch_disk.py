"""A full scratch disk makes jobs wait; none fails, and no file of theirs stays."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from rowcast.system import scratch
from tests.support.disks import fill
from tests.support.online import PARQUET, answered, ask, ready, refused
from tests.support.stack import StartStack, submitted
from tests.support.tables import parquet, table
from tests.support.waiting import eventually


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a small disk; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=20m,mode=700", "none", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_jobs_wait_while_the_scratch_disk_is_full(
    start_stack: StartStack, disk: Path
) -> None:
    stack = start_stack(workers=1, SHORT_WORKERS="0", SCRATCH_DIR=str(disk))
    model = stack.fitted(table(500, 10))
    dataset = stack.upload(table(40_000, 10))
    rest = disk / "of somebody else"
    rest.write_bytes(bytes(19_500_000))
    jobs = [
        submitted(stack.post("/fit", id=dataset)),
        submitted(stack.post("/predict", dataset_id=dataset, model_id=model)),
    ]
    for job in jobs:
        causes = eventually(lambda it=job: stack.status(it)["earlier"])
        assert causes[0]["code"] == "scratch_full"
    rest.unlink()
    assert [stack.finished(job)["error"] for job in jobs] == [None, None]
    eventually(lambda: not list(disk.glob("*/")))
    stack.stop()


def test_a_sweep_removes_folders_without_a_lock(tmp_path: Path) -> None:
    held = scratch.make(tmp_path, "held")
    (tmp_path / "job-left" / "below").mkdir(parents=True)
    for name, age_s in {
        "new-begun": 0,
        "new-left": 2 * scratch.FORGOTTEN_AFTER_S,
    }.items():
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    scratch.sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {held.name, "new-begun"}


def test_an_online_prediction_on_a_full_scratch_disk_is_a_503(
    start_stack: StartStack, disk: Path
) -> None:
    stack = ready(start_stack(workers=1, ONLINE_WORKERS="1", SCRATCH_DIR=str(disk)))
    model = stack.fitted(table())
    # The file of a table takes the place of the last one, so each is larger.
    sizes = iter(range(2_000, 10_000, 1_000))

    def ask_on_full_disk() -> requests.Response:
        fill(disk / "of somebody else")
        return ask(stack, model, parquet(table(next(sizes))), PARQUET)

    refusals = [ask_on_full_disk() for _ in range(3)]
    refused(refusals[-1], 503, "no_online_worker")
    (disk / "of somebody else").unlink()
    answered(ask(stack, model, parquet(table(2_000)), PARQUET))
    stack.stop()
