"""Scratch space: used and free bytes, the reports of workers, and full disks."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pyarrow as pa
import pytest
import redis
from sklearn.dummy import DummyRegressor

from rowcast.config import Settings
from rowcast.errors import StoreUnavailable
from rowcast.ids import new_id
from rowcast.learning import prediction
from rowcast.redis_clients import connect_for_requests
from rowcast.store.object_store import Storage
from rowcast.system import scratch
from rowcast.tables import Feature
from server import create_app
from tests.support.redis_server import RedisServer
from tests.support.tables import source_of
from tests.support.waiting import eventually

MB = 1_000_000
# More than the small disk holds.
NUMBERS = np.random.default_rng(0).normal(size=500_000)
FILES = ("dataset", "model.joblib", "result.parquet", "result.csv", "result.jsonl")


def settings_of(folder: Path, **changes: Any) -> Settings:
    return Settings(**{"scratch_dir": str(folder), **changes})


# The space of a job


def test_used_space_is_that_of_all_files_below(tmp_path: Path) -> None:
    (tmp_path / "in" / "side").mkdir(parents=True)
    (tmp_path / "dataset").write_bytes(os.urandom(MB))
    (tmp_path / "in" / "side" / "model").write_bytes(os.urandom(2 * MB))
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * MB)
    assert 3 * MB <= scratch.used_bytes(tmp_path) < 3.2 * MB


def test_folder_that_is_not_there_uses_no_space(tmp_path: Path) -> None:
    assert scratch.used_bytes(tmp_path / "gone") == 0


def test_limit_is_the_setting_where_there_is_one(tmp_path: Path) -> None:
    assert (
        scratch.limit_per_job(settings_of(tmp_path, job_scratch_bytes=12_345), 4)
        == 12_345
    )


def test_limit_shares_what_is_free_and_what_jobs_use(tmp_path: Path) -> None:
    (tmp_path / "dataset").write_bytes(os.urandom(8 * MB))
    settings = settings_of(tmp_path, scratch_reserve_bytes=1)
    usable = scratch.free_bytes(tmp_path) + 8 * MB
    # Others write to this disk as well, between two looks.
    assert 4 * scratch.limit_per_job(settings, 4) == pytest.approx(usable, rel=0.02)
    assert scratch.limit_per_job(settings, 1) == pytest.approx(usable, rel=0.02)


def test_limit_is_never_less_than_the_reserve(tmp_path: Path) -> None:
    assert (
        scratch.limit_per_job(settings_of(tmp_path, scratch_reserve_bytes=10**18), 4)
        == 10**18
    )


def test_failure_names_the_limit_and_its_setting() -> None:
    error = scratch.over(2_000_000, 1_000_000)
    assert error.code == "scratch_full"
    assert (
        "used 2,000,000 bytes; the limit is 1,000,000 bytes (JOB_SCRATCH_BYTES)"
        in error.detail
    )
    assert "JOB_SCRATCH_BYTES" in error.hint


# The space of all jobs


def test_free_space_is_that_of_the_disk_even_before_the_folder_is_there(
    tmp_path: Path,
) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert scratch.free_bytes(tmp_path) == pytest.approx(free, rel=0.02)
    assert scratch.free_bytes(tmp_path / "not" / "there") == pytest.approx(
        free, rel=0.02
    )


def test_space_is_short_below_the_reserve(tmp_path: Path) -> None:
    assert scratch.is_short(settings_of(tmp_path, scratch_reserve_bytes=10**18))
    assert not scratch.is_short(settings_of(tmp_path, scratch_reserve_bytes=1))


def test_reserve_is_never_more_than_a_twentieth_of_the_disk(
    disk: Path, tmp_path: Path
) -> None:
    for folder in (disk, tmp_path):
        total = shutil.disk_usage(folder).total
        assert scratch.reserve_bytes(settings_of(folder)) == min(500 * MB, total // 20)


# Reports


Report = Callable[[str, int], None]


@pytest.fixture
def report(connection: redis.Redis, tmp_path: Path) -> Report:
    """Return a function by which a worker tells its space, with a reserve."""
    return lambda name, reserve: scratch.report(
        connection, name, settings_of(tmp_path, scratch_reserve_bytes=reserve)
    )


def test_workers_short_of_space_are_named(
    connection: redis.Redis, report: Report
) -> None:
    assert scratch.problems(connection) == []
    for name, reserve in {"b": 10**18, "a": 10**18, "fine": 1}.items():
        report(name, reserve)
    first, second = scratch.problems(connection)
    assert first.startswith("Worker a has ")
    assert second.startswith("Worker b has ")
    assert (
        "less than the reserve of 1,000,000,000,000,000,000 (SCRATCH_RESERVE_BYTES)"
        in first
    )


def test_a_worker_that_has_space_again_is_not_named(
    connection: redis.Redis, report: Report
) -> None:
    report("a", 10**18)
    assert scratch.problems(connection)
    report("a", 1)
    assert scratch.problems(connection) == []


def test_a_worker_that_is_gone_is_forgotten(
    connection: redis.Redis, report: Report
) -> None:
    report("gone", 10**18)
    report("here", 10**18)
    keys: Any = connection.keys("rowcast:scratch*")
    assert len(keys) == 3
    assert all(
        0 < int(str(connection.ttl(key))) <= scratch.REPORT_TTL_S for key in keys
    )
    connection.pexpire("rowcast:scratch:gone", 1)
    eventually(lambda: len(scratch.problems(connection)) == 1)
    assert connection.smembers("rowcast:scratch") == {b"here"}


def test_readyz_names_the_workers_short_of_space(
    redis_server: RedisServer, report: Report
) -> None:
    def problems() -> list[str]:
        answer = (
            create_app(Settings(redis_url=redis_server.url))
            .test_client()
            .get("/readyz")
        )
        assert answer.status_code == 503, "no store runs"
        body: Any = answer.json
        return [
            problem for problem in body["errors"] if not problem.startswith("store: ")
        ]

    assert problems() == []
    report("a", 10**18)
    report("b", 10**18)
    (problem,) = problems()
    assert problem.startswith("scratch: Worker a has ")
    assert "Worker b has " in problem
    report("a", 1)
    report("b", 1)
    assert problems() == []


def test_without_redis_the_scratch_space_is_not_a_problem() -> None:
    with connect_for_requests(
        settings_of(Path(), redis_url="redis://127.0.0.1:1/0")
    ) as nobody:
        scratch.check(nobody)


# A full disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a small disk or, where the user may mount none, a folder whose files are as full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    is_mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    for name in () if is_mounted else FILES:
        (folder / name).symlink_to("/dev/full")
    yield folder
    if is_mounted:
        # Lazily, because Arrow's writer of CSV holds its file open until its exception is
        # forgotten.
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def storage() -> Iterator[Storage]:
    """Return a store that answers everything with 4 MB."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(NUMBERS.nbytes))
            self.end_headers()
            try:
                self.wfile.write(NUMBERS.tobytes())
            except ConnectionError:
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01]).start()
        yield Storage(
            Settings(
                s3_endpoint=f"http://127.0.0.1:{server.server_port}",
                s3_access_key="someone",
                s3_secret_key="something",
            )
        )
        server.shutdown()


def test_a_download_to_a_full_disk_is_not_an_outage_of_the_store(
    disk: Path, storage: Storage
) -> None:
    with pytest.raises(Exception) as found:  # noqa: PT011 - what matters is what it came of
        storage.download("datasets", "default", new_id(), "data", disk / "dataset")
    assert scratch.is_full(found.value)
    assert not isinstance(found.value, StoreUnavailable)


def test_a_model_that_does_not_fit_the_disk_is_recognized(disk: Path) -> None:
    with pytest.raises(OSError) as found:  # noqa: PT011 - as above
        joblib.dump({"weights": NUMBERS}, disk / "model.joblib")
    assert scratch.is_full(found.value)


@pytest.mark.parametrize("file_format", ["parquet", "csv", "jsonl"])
def test_a_result_that_does_not_fit_the_disk_is_recognized(
    disk: Path, file_format: Any
) -> None:
    model = DummyRegressor().fit([[0.0]], [1.0])
    predictor = prediction.Predictor(
        model, [Feature("x", "numeric")], "y", "double", None, None
    )
    plan = prediction.Plan(keep=["x"], format=file_format)
    with pytest.raises(OSError) as found:  # noqa: PT011 - as above
        prediction.write(
            disk / f"result.{file_format}",
            predictor,
            source_of(pa.table({"x": NUMBERS})),
            plan,
        )
    assert scratch.is_full(found.value)


def chained(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


def in_context(error: Exception, context: Exception) -> Exception:
    error.__context__, error.__suppress_context__ = context, True
    return error


NO_SPACE = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "is_full"),
    [
        (NO_SPACE, True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (chained(RuntimeError(), chained(ValueError(), NO_SPACE)), True),
        (in_context(RuntimeError(), NO_SPACE), True),
        (chained(in_context(RuntimeError(), NO_SPACE), ValueError()), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (
            chained(
                StoreUnavailable(), ConnectionResetError(errno.ECONNRESET, "reset")
            ),
            False,
        ),
        (ValueError("No space left on device"), False),
    ],
)
def test_a_full_disk_is_found_among_the_causes(error: Exception, is_full: bool) -> None:
    assert scratch.is_full(error) == is_full


def test_causes_in_a_circle_end() -> None:
    first, second = ValueError(), KeyError()
    first.__cause__, second.__cause__ = second, first
    assert not scratch.is_full(first)
