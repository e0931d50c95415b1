"""Online predictions of one row: latency beside `predict_proba`, and rate on one core."""

from __future__ import annotations

import json
import os
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import wrk
from benchmarks.bench import Bench
from benchmarks.caller import Answer, Caller, calling
from benchmarks.line import Benchmark, Line, NotMeasured, Pairs, Target, extra
from client import Client

N_ROWS = 100
N_CALLS = 500
SECONDS = 4
N_CONNECTIONS = 8
WHAT = "online prediction of one row, model in memory"
RATE = "online predictions of one row per second, on one core"


def measure_latency(bench: Bench) -> list[Line]:
    path, rows = _model_and_rows(bench)
    test = bench.tables(1_000, 1_000, 10).test
    bodies = [rows[place % N_ROWS] for place in range(N_CALLS)]
    bare_ms = []
    service_ms = []
    p99_ms = []
    with calling(bench.stack().url) as caller:
        for _ in range(bench.n_runs + 1):
            work = {"test": test, "n": N_ROWS}
            took_ms, expected = bench.bare.ask("predict_rows_singly", **work)
            answers = [_ask(caller, path, body) for body in bodies]
            _check(answers, expected)
            answers_ms = [answer.ms for answer in answers]
            bare_ms.append(statistics.median(took_ms))
            service_ms.append(statistics.median(answers_ms))
            p99_ms.append(float(np.percentile(answers_ms, 99)))
    # The first run warms up.
    pairs = Pairs(bare_ms[1:], service_ms[1:], "ms")
    return [
        extra(WHAT, pairs, Target("at most", 3)),
        Line(f"{WHAT}, p99", "ms", p99_ms[1:], Target("under", 15)),
    ]


def measure_rate(bench: Bench) -> list[Line]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise NotMeasured("the load needs a second core, and this machine has one")
    path, rows = _model_and_rows(bench)
    stack = bench.stack()
    load = partial(
        wrk.load,
        stack.url + path,
        SECONDS,
        connections=N_CONNECTIONS,
        script=_script(bench.folder / "rows.lua", rows),
        core=cores[1],
    )
    with stack.bound_to(cores[0]):
        loads = [load() for _ in range(bench.n_runs + 1)][1:]
    rates = [each.rate for each in loads]
    p99_ms = statistics.median(each.p99_ms for each in loads)
    note = f"p99 {p99_ms:.1f} ms on {N_CONNECTIONS} connections"
    return [Line(RATE, "per second", rates, Target("at least", 300), note=note)]


def _model_and_rows(bench: Bench) -> tuple[str, list[bytes]]:
    """Fit a model, have the bare process load it, and return the path and bodies of requests."""
    train, test = bench.tables(1_000, 1_000, 10)
    with Client(bench.stack().url) as client:
        model = client.fit(train, timeout=None, validation="none", learner="boosting")
        file = client.download_model(model, bench.folder / "model.joblib")
        bench.bare.ask("keep", model=file)
    records = pd.read_parquet(test).head(N_ROWS).to_dict("records")
    bodies = [json.dumps([record]).encode() for record in records]
    path = f"/predict?model_id={model}&output=probabilities"
    with calling(bench.stack().url) as caller:
        _ask(caller, path, bodies[0])
    return path, bodies


def _ask(caller: Caller, path: str, body: bytes) -> Answer:
    answer = caller.ask("POST", path, body)
    assert answer.status == 200, answer
    return answer


def _check(answers: list[Answer], expected: list[list[float]]) -> None:
    for place, answer in enumerate(answers):
        (row,) = answer.body
        probabilities = [row["probability_0"], row["probability_1"]]
        bare = expected[place % N_ROWS]
        assert probabilities == bare, (probabilities, bare)
        assert row["y"] == int(np.argmax(probabilities)), row


def _script(path: Path, rows: list[bytes]) -> Path:
    """Write a script with which wrk sends one row after another."""
    bodies = ",\n".join(f"[==[{row.decode()}]==]" for row in rows)
    path.write_text(
        f"""local bodies = {{{bodies}}}
local place = 0
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  place = place % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[place])
end
"""
    )
    return path


BENCHMARKS = [
    Benchmark("online", WHAT, measure_latency),
    Benchmark("online_rate", RATE, measure_rate),
]
