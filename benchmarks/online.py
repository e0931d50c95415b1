"""One row predicted online: how long beside `predict_proba`, and how many a second on one core."""

from __future__ import annotations

import json
import os
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import wrk
from benchmarks.bench import Bench
from benchmarks.caller import Answer, Caller, calling
from benchmarks.line import Benchmark, Line, NotMeasured, Pairs, Target, extra
from client import Client

N_ROWS, N_CALLS, SECONDS, N_CONNECTIONS = 100, 500, 4, 8
WHAT = "one row predicted online, model in memory"
RATE = "rows predicted online a second, one each, on one core"


def measure_latency(bench: Bench) -> list[Line]:
    path, rows = _model_and_rows(bench)
    test = bench.tables(1_000, 1_000, 10).test
    bare_ms, service_ms, p99_ms = [], [], []
    with calling(bench.stack().url) as caller:
        for _ in range(bench.n_runs + 1):
            took_ms, expected = bench.bare.ask(
                "predict_rows_singly", test=test, n=N_ROWS
            )
            answers = [
                _ask(caller, path, rows[place % N_ROWS]) for place in range(N_CALLS)
            ]
            _check(answers, expected)
            bare_ms.append(statistics.median(took_ms))
            service_ms.append(statistics.median(answer.ms for answer in answers))
            p99_ms.append(float(np.percentile([answer.ms for answer in answers], 99)))
    return [
        extra(WHAT, Pairs(bare_ms[1:], service_ms[1:], "ms"), Target("at most", 3)),
        Line(f"{WHAT}, p99", "ms", p99_ms[1:], Target("under", 15)),
    ]


def measure_rate(bench: Bench) -> list[Line]:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise NotMeasured("there is no second core to ask from")
    path, rows = _model_and_rows(bench)
    stack, script = bench.stack(), _script(bench.folder / "rows.lua", rows)
    with stack.bound_to(cores[0]):
        how: dict[str, Any] = {
            "connections": N_CONNECTIONS,
            "script": script,
            "core": cores[1],
        }
        loads = [
            wrk.load(stack.url + path, SECONDS, **how) for _ in range(bench.n_runs + 1)
        ][1:]
    latency = (
        f"p99 {statistics.median(load.p99_ms for load in loads):.1f} ms on "
        f"{N_CONNECTIONS} connections"
    )
    return [
        Line(
            RATE,
            "a second",
            [load.rate for load in loads],
            Target("at least", 300),
            note=latency,
        )
    ]


def _model_and_rows(bench: Bench) -> tuple[str, list[bytes]]:
    """Return the path to ask and the bodies of requests; the bare process has loaded the model
    too."""
    train, test = bench.tables(1_000, 1_000, 10)
    with Client(bench.stack().url) as client:
        model = client.fit(train, timeout=None, validation="none")
        bench.bare.ask(
            "keep", model=client.download_model(model, bench.folder / "model.joblib")
        )
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
        assert probabilities == expected[place % N_ROWS], (
            probabilities,
            expected[place % N_ROWS],
        )
        assert row["y"] == int(np.argmax(probabilities)), row


def _script(path: Path, rows: list[bytes]) -> Path:
    """Write what wrk is to send: the rows in turn."""
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
