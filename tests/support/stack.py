"""A real stack of Redis, an S3 store, gunicorn and forked workers, for tests to use and break."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import redis
import requests

from rowcast.config import Settings
from rowcast.redis_clients import connect_for_requests
from rowcast.signatures import PrivateKey, public_text
from rowcast.store.object_store import Storage
from tests.support import ROOT
from tests.support.signing import key_of
from tests.support.tables import parquet

SETTINGS = {name.upper() for name in Settings.model_fields} | {
    "ROWCAST_URL",
    "ROWCAST_API_KEY",
}
# What chooses the store of the whole run is meant for the stacks, not for single tests.
STORE = {
    name: os.environ[name]
    for name in os.environ
    if name.startswith("S3_") or name == "STORE"
}


@dataclass
class Stack:
    """A running stack, and shorthands for what tests do with it."""

    process: subprocess.Popen[str]
    url: str
    data: Path
    headers: dict[str, str] = field(default_factory=dict)
    is_ending: bool = False

    def get(self, path: str, **params: Any) -> requests.Response:
        return requests.get(
            self.url + path, params=params, headers=self.headers, timeout=40
        )

    def post(self, path: str, **params: Any) -> requests.Response:
        # Most tests need any model soon; the default tries many learners.
        if path == "/fit":
            params = {"learner": "boosting", **params}
        return requests.post(
            self.url + path, params=params, headers=self.headers, timeout=40
        )

    def upload(self, table: pd.DataFrame | bytes) -> str:
        answer = self.get("/upload").json()
        content = table if isinstance(table, bytes) else parquet(table)
        requests.put(answer["url"], data=content, timeout=40).raise_for_status()
        return str(answer["id"])

    def fit(self, table: pd.DataFrame | bytes, **params: Any) -> str:
        # Most tests need any model soon; the default tries many learners.
        given = {"learner": "boosting", **params}
        return submitted(self.post("/fit", id=self.upload(table), **given))

    def fitted(self, table: pd.DataFrame | bytes, **params: Any) -> str:
        """Return the id of a model once it is there."""
        identifier = self.fit(table, **params)
        self.finished(identifier)
        return identifier

    def predict(self, table: pd.DataFrame | bytes, model_id: str) -> str:
        return submitted(
            self.post("/predict", dataset_id=self.upload(table), model_id=model_id)
        )

    def status(self, job_id: str) -> dict[str, Any]:
        return dict(self.get("/status", id=job_id).json())

    def wait(self, job_id: str, timeout_s: float = 90) -> dict[str, Any]:
        """Return the final status; an outage in between is waited out."""
        deadline, answer = time.monotonic() + timeout_s, {}
        while time.monotonic() < deadline:
            with contextlib.suppress(requests.RequestException):
                answer = self.get("/status", id=job_id, wait=10).json()
                if answer["status"] in ("finished", "failed", "canceled"):
                    return answer
            time.sleep(0.05)
        raise AssertionError(f"job {job_id} did not end within {timeout_s} s: {answer}")

    def finished(self, job_id: str) -> dict[str, Any]:
        answer = self.wait(job_id)
        assert answer["status"] == "finished", answer
        return answer

    def result(self, job_id: str) -> pd.DataFrame:
        self.finished(job_id)
        url = self.get("/result", id=job_id).json()["url"]
        return pd.read_parquet(io.BytesIO(requests.get(url, timeout=40).content))

    def settings(self, **changes: Any) -> Settings:
        """Return settings that reach this stack's Redis and store from the tests' process."""
        keys = json.loads((self.data / "secrets.json").read_text())
        ports = json.loads((self.data / "ports.json").read_text())
        given = {
            name.lower(): value for name, value in STORE.items() if name != "STORE"
        }
        own = {
            "s3_endpoint": f"http://127.0.0.1:{ports['store']}",
            "s3_access_key": keys["s3_access_key"],
            "s3_secret_key": keys["s3_secret_key"],
        }
        return Settings(
            **{
                **(given or own),
                "redis_url": f"redis://:{keys['redis_password']}@127.0.0.1:{ports['redis']}/0",
                "verify_keys": public_text(self.private_key().public_bytes),
                **changes,
            }
        )

    def private_key(self) -> PrivateKey:
        """Return the key that signs the models of this stack."""
        kept = json.loads((self.data / "secrets.json").read_text())
        return key_of(kept["model_key"])

    def redis(self) -> redis.Redis:
        return connect_for_requests(self.settings())

    def storage(self) -> Storage:
        return Storage(self.settings())

    def part(self, name: str) -> psutil.Process:
        """Return the process of a part: redis, store, server (gunicorn's master), worker (the
        pool), online."""
        marks = {
            "redis": ("valkey", "redis"),
            "store": ("rclone", "minio"),
            "server": ("gunicorn",),
            "online": ("online.py",),
        }
        for child in children_of(psutil.Process(self.process.pid)):
            line = " ".join(child.cmdline()[:3])
            if any(mark in line for mark in marks.get(name, ("worker.py",))):
                return child
        raise AssertionError(f"no {name} among the stack's children")

    def horses(self) -> list[psutil.Process]:
        """Return the work horses that run a job now."""
        return self._horses("work horse")

    def standby_horses(self) -> list[psutil.Process]:
        """Return the work horses that are ready for the next job."""
        return self._horses("standby horse")

    def warming_horses(self) -> list[psutil.Process]:
        """Return the work horses that are not ready yet."""
        return self._horses("warm-up")

    def _horses(self, name: str) -> list[psutil.Process]:
        found = [
            horse
            for worker in children_of(self.part("worker"))
            for horse in children_of(worker)
        ]
        return [
            horse
            for horse in found
            if horse.name() == name and horse.status() != psutil.STATUS_ZOMBIE
        ]

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Keep jobs in the queue: stop the workers, and first their parent, which starts them."""
        pool = self.part("worker")
        pool.suspend()
        workers = children_of(pool)
        for worker in workers:
            worker.suspend()
        try:
            yield
        finally:
            for process in (*workers, pool):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)

    def end(self) -> None:
        """Send SIGTERM, unless it was sent before."""
        if self.process.poll() is None and not self.is_ending:
            self.is_ending = True
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        self.end()
        if self.process.stdout and not self.process.stdout.closed:
            self.process.communicate(timeout=90)


def children_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the children of a process, without a look at all others of the machine."""
    if not sys.platform.startswith("linux"):
        return process.children()
    children = []
    for path in Path(f"/proc/{process.pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += path.read_text().split()
    found = []
    for pid in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid)))
    return found


def submitted(answer: requests.Response) -> str:
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


StartStack = Callable[..., Stack]


def launch(
    data: Path,
    *,
    workers: int = 2,
    port: int = 0,
    module: str = "rowcast.local",
    **settings: str,
) -> Stack:
    """Start a stack on a folder, and return it once it is ready."""
    environment = {
        name: value for name, value in os.environ.items() if name not in SETTINGS
    }
    command = [
        sys.executable,
        "-m",
        module,
        "--port",
        str(port),
        "--data",
        str(data),
    ]
    with (data / "test.log").open("a") as log:
        process = subprocess.Popen(
            [*command, "--workers", str(workers)],
            cwd=ROOT,
            # Most tests need no online workers, which take a second or two of both cores to start.
            env={
                **environment,
                **STORE,
                "CORES_DIR": str(data / "cores"),
                "ONLINE_WORKERS": "0",
                # Tests run in parallel with others on few cores.
                "INSPECTION_TIMEOUT_S": "10",
                **settings,
            },
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("Rowcast is ready at "), (data / "test.log").read_text()
    return Stack(process, line.split()[-1], data)


@contextlib.contextmanager
def starting(factory: pytest.TempPathFactory) -> Iterator[StartStack]:
    """Give a function that starts a stack; all of them are stopped at the end."""
    stacks: list[Stack] = []

    def start(data: Path | None = None, *, workers: int = 2, **settings: Any) -> Stack:
        stacks.append(
            launch(data or factory.mktemp("stack"), workers=workers, **settings)
        )
        return stacks[-1]

    yield start
    for stack in stacks:
        stack.end()
    for stack in stacks:
        stack.stop()
