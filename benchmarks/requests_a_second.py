"""Requests a second and their latency, beside a bare Flask route under the same gunicorn."""

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

SECONDS, N_CONNECTIONS = 3, 16
STATUS, UPLOAD = (
    f"/status of a finished job, {N_CONNECTIONS} connections",
    f"/upload, {N_CONNECTIONS} connections",
)


def measure_status(bench: Bench) -> list[Line]:
    train, _ = bench.tables(1_000, 1_000, 10)
    with Client(bench.stack().url) as client:
        job = client.fit(train, timeout=None, validation="none")
        rates, latencies_ms = _loads(
            bench, f"/status?id={job}", partial(_check_status, client, job)
        )
    return [
        ratio(STATUS, rates, Target("at least", 0.5)),
        Line(
            f"{STATUS}, p99",
            "ms",
            latencies_ms.service,
            Target("under", 25),
            latencies_ms,
        ),
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
    """An id that was handed out takes a table's bytes, and can be read under."""
    with calling(client.url) as caller:
        answer = caller.ask("GET", "/upload")
    assert answer.status == 200, answer
    requests.put(answer.body["url"], b"x,y\n1,2\n", timeout=30).raise_for_status()
    assert any(each["id"] == answer.body["id"] for each in client.datasets(100))


def _loads(bench: Bench, path: str, check: partial[None]) -> tuple[Pairs, Pairs]:
    """Return rates and 99th percentiles of the bare route and of the service, in turn."""
    bare: list[Load] = []
    service: list[Load] = []
    with bare_flask() as bare_url:
        for _ in range(bench.n_runs + 1):
            bare.append(wrk.load(bare_url, SECONDS, connections=N_CONNECTIONS))
            check()
            service.append(
                wrk.load(bench.stack().url + path, SECONDS, connections=N_CONNECTIONS)
            )
            check()
    rates = Pairs(
        [each.rate for each in bare[1:]],
        [each.rate for each in service[1:]],
        "requests/s",
    )
    return rates, Pairs(
        [each.p99_ms for each in bare[1:]], [each.p99_ms for each in service[1:]], "ms"
    )


@contextmanager
def bare_flask() -> Iterator[str]:
    """Serve a constant as the service is served: the same gunicorn, processes, threads and kind of
    worker."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    settings = Settings()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--bind",
        address,
        "--worker-class",
        "gthread",
    ]
    command += [
        "--workers",
        str(settings.server_workers),
        "--threads",
        str(settings.server_threads),
    ]
    command += [
        "--keep-alive",
        "30",
        "--no-control-socket",
        "--log-level",
        "error",
        "benchmarks.bare_flask:app",
    ]
    # In a folder of its own, because gunicorn reads the configuration that lies where it is
    # started.
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
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
