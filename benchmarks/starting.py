"""How soon a stack is ready, and how much memory its processes take while they are idle."""

from __future__ import annotations

import time

import pandas as pd
import psutil

from benchmarks import stack
from benchmarks.bench import Bench
from benchmarks.caller import calling
from benchmarks.line import Benchmark, Line, Target
from benchmarks.memory import pss_mb
from client import Client

N_CALLS = 50
START = "`make up` to ready, installed"
MEMORY = "memory of an idle process (PSS)"


def measure_start(bench: Bench) -> list[Line]:
    """The server is ready first; a first fit needs a worker, which starts a little later."""
    bench.stop_stack()
    train, _ = bench.tables(1_000, 1_000, 10)
    ready_s, fitted_s = [], []
    for _ in range(bench.n_runs):
        with stack.running() as started, Client(started.url) as client:
            began = time.monotonic()
            client.fit(train, timeout=None, validation="none", learner="boosting")
            ready_s.append(started.ready_s)
            fitted_s.append(started.ready_s + time.monotonic() - began)
    return [
        Line(START, "s", ready_s, Target("under", 4)),
        Line("`make up` to the end of a first small fit", "s", fitted_s),
    ]


def measure_memory(bench: Bench) -> list[Line]:
    bench.stop_stack()
    with stack.running() as started:
        _use(bench, started)
        # The processes become idle.
        time.sleep(3)
        marks = ("gunicorn", "worker.py", "online.py")
        found = {mark: started.processes(mark) for mark in marks}
        samples = [_sample(found) for _ in range(bench.n_runs)]
    server_mb, worker_mb, online_mb = zip(*samples, strict=True)
    return [
        Line(f"{MEMORY}, server", "MB", server_mb, Target("under", 120)),
        Line(f"{MEMORY}, worker", "MB", worker_mb, Target("under", 180)),
        Line(f"{MEMORY}, online worker with a model", "MB", online_mb),
    ]


def _sample(found: dict[str, list[psutil.Process]]) -> list[float]:
    """Return the memory of the largest process of each kind, after a pause."""
    time.sleep(1)
    return [max(map(pss_mb, processes), default=0.0) for processes in found.values()]


def _use(bench: Bench, started: stack.Stack) -> None:
    """Do a little of everything, because a process loads libraries when it needs them."""
    train, test = bench.tables(1_000, 1_000, 10)
    with Client(started.url) as client:
        for _ in range(3):
            model = client.fit(train, timeout=None, learner="boosting")
            client.download(client.predict(test, model, timeout=None))
            client.predict_table(pd.read_parquet(test).head(), model)
    paths = ["/jobs", "/datasets", "/models", "/upload"]
    paths += [f"/models/{model}", f"/status?id={model}"]
    with calling(started.url) as caller:
        for path in paths:
            for _ in range(N_CALLS):
                assert caller.ask("GET", path).status == 200


BENCHMARKS = [
    Benchmark("start", START, measure_start),
    Benchmark("memory", MEMORY, measure_memory),
]
