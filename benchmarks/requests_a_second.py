"""Requests per second and their latency, compared with a bare Flask route under gunicorn."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException

import requests

from benchmarks import wrk
from benchmarks.bench import Bench
from benchmarks.caller import calling
from benchmarks.line import Benchmark, Line, Pairs, Target, ratio
from benchmarks.stack import ROOT
from benchmarks.wrk import Load
from client import Client
from rowcast.config import Settings

SECONDS = 3
N_CONNECTIONS = 16
STATUS = f"/status of a finished job, {N_CONNECTIONS} connections"
UPLOAD = f"/upload, {N_CONNECTIONS} connections"


def measure_status(bench: Bench) -> list[Line]:
    train, _ = bench.tables(1_000, 1_000, 10)
    with Client(bench.stack().url) as client:
        job = client.fit(train, timeout=None, validation="none", learner="boosting")
        check = partial(_check_status, client, job)
        rates, latencies_ms = _loads(bench, f"/status?id={job}", check)
    bound = Target("under", 25)
    return [
        ratio(STATUS, rates, Target("at least", 0.5)),
        Line(f"{STATUS}, p99", "ms", latencies_ms.service, bound, latencies_ms),
    ]


def measure_upload(bench: Bench) -> list[Line]:
    with Client(bench.stack().url) as client:
        rates, latencies_ms = _loads(bench, "/upload", partial(_check_upload, client))
    return [
        ratio(UPLOAD, rates, Target("at least", 0.35)),
        Line(f"{UPLOAD}, p99", "ms", latencies_ms.service, None, latencies_ms),
    ]


def _check_status(client: Client, job: str) -> None:
    status = client.status(job)
    assert (status["id"], status["status"]) == (job, "finished"), status


def _check_upload(client: Client) -> None:
    """Check that a table can be uploaded to a new id, and is listed then."""
    with calling(client.url) as caller:
        answer = caller.ask("GET", "/upload")
    assert answer.status == 200, answer
    requests.put(answer.body["url"], b"x,y\n1,2\n", timeout=30).raise_for_status()
    assert any(each["id"] == answer.body["id"] for each in client.datasets(100))


def _loads(bench: Bench, path: str, check: partial[None]) -> tuple[Pairs, Pairs]:
    """Measure the bare route and the service alternately; return rates and 99th percentiles."""
    bare: list[Load] = []
    service: list[Load] = []
    service_url = bench.stack().url + path
    with bare_flask() as bare_url:
        for _ in range(bench.n_runs + 1):
            bare.append(wrk.load(bare_url, SECONDS, connections=N_CONNECTIONS))
            check()
            service.append(wrk.load(service_url, SECONDS, connections=N_CONNECTIONS))
            check()
    # The first run warms up.
    del bare[0], service[0]
    bare_rates = [each.rate for each in bare]
    rates = [each.rate for each in service]
    bare_p99_ms = [each.p99_ms for each in bare]
    p99_ms = [each.p99_ms for each in service]
    return Pairs(bare_rates, rates, "requests/s"), Pairs(bare_p99_ms, p99_ms, "ms")


@contextmanager
def bare_flask() -> Iterator[str]:
    """Serve a constant with gunicorn, with the service's number of processes and threads."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = Settings()
    options = (
        f"--bind {address} --worker-class gthread --workers {settings.server_workers} "
        f"--threads {settings.server_threads} --keep-alive 30 --no-control-socket "
        "--log-level error benchmarks.bare_flask:app"
    )
    command = [sys.executable, "-m", "gunicorn", *options.split()]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    # In an empty folder, because gunicorn reads the configuration in its working directory.
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(command, cwd=folder, env=environ)
        try:
            _await(f"http://{address}")
            yield f"http://{address}/"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _await(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with suppress(OSError, HTTPException), calling(url) as caller:
            assert caller.ask("GET", "/").status == 200
            return
        time.sleep(0.05)
    raise RuntimeError("the bare Flask application does not answer")


BENCHMARKS = [
    Benchmark("status", STATUS, measure_status),
    Benchmark("upload", UPLOAD, measure_upload),
]
