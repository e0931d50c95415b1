"""The whole cycle through the client, upload to download, and a prediction alone, beside the same
by hand."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import tables
from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, Pairs, Target, alternate, extra, ratio
from client import Client

# What takes a tenth of a second is run more often, because its spread is larger than what is looked
# for.
OFTEN = 4


def measure_large(bench: Bench) -> list[Line]:
    pairs, threads = _cycles(
        bench, bench.n_runs, "cycle", (75_000, 25_000, 50), validation="none"
    )
    return [ratio(LARGE, pairs, Target("at most", 1.35), threads)]


def measure_small(bench: Bench) -> list[Line]:
    n_runs = OFTEN * bench.n_runs
    pairs, threads = _cycles(
        bench, n_runs, "cycle", (1_000, 1_000, 10), validation="none"
    )
    return [
        extra(SMALL, pairs, Target("at most", 0.1), f"goal: 0.06 s more; {threads}")
    ]


def measure_judged(bench: Bench) -> list[Line]:
    """Both hold the same rows back, stop by them, score on them, and measure importances."""
    large, threads = _cycles(bench, bench.n_runs, "judged_cycle", (75_000, 25_000, 50))
    small, _ = _cycles(bench, bench.n_runs, "judged_cycle", (1_000, 1_000, 10))
    return [
        ratio(JUDGED, large, Target("at most", 1.35), threads),
        extra(JUDGED_SMALL, small),
    ]


def measure_prediction(bench: Bench) -> list[Line]:
    train, test = bench.tables(1_000, 1_000, 10)
    out = bench.folder / "predictions.npy"
    with Client(bench.stack().url) as client:
        model = client.fit(train, timeout=None, validation="none")
        rows = client.upload(test)
        bench.bare.ask(
            "keep", model=client.download_model(model, bench.folder / "model.joblib")
        )

        def service() -> float:
            began = time.monotonic()
            predictions = client.download(client.predict(rows, model, timeout=None))
            return _checked(time.monotonic() - began, predictions, out)

        bare = _asking(bench, "predict", test=test, out=out)
        pairs = alternate(OFTEN * bench.n_runs, bare, service)
    return [extra(PREDICTION, pairs, Target("at most", 0.06))]


def _cycles(
    bench: Bench, n_runs: int, by_hand: str, shape: tuple[int, int, int], **options: Any
) -> tuple[Pairs, str]:
    """Return pairs, and a sentence on how many threads the service's fits had."""
    train, test = bench.tables(*shape)
    out, threads = bench.folder / "predictions.npy", []
    with Client(bench.stack().url) as client:

        def service() -> float:
            # Bytes of its own each time, as the client would not send those that the service knows.
            new = tables.Tables(
                tables.marked(train, _mark()), tables.marked(test, _mark())
            )
            seconds, model = _cycle(client, new, out, options)
            threads.append(client.model(model).manifest["n_threads"])
            return seconds

        pairs = alternate(
            n_runs, _asking(bench, by_hand, train=train, test=test, out=out), service
        )
    return pairs, _threads(threads[1:])


def _cycle(
    client: Client, new: tables.Tables, out: Path, options: dict[str, Any]
) -> tuple[float, str]:
    began = time.monotonic()
    model = client.fit(new.train, timeout=None, **options)
    predictions = client.download(client.predict(new.test, model, timeout=None))
    return _checked(time.monotonic() - began, predictions, out), model


def _checked(seconds: float, predictions: Any, out: Path) -> float:
    """Return the seconds of a run whose predictions are those that the bare one has left."""
    assert np.array_equal(predictions["y"].to_numpy(), np.load(out)), (
        "predictions differ from the bare ones"
    )
    return seconds


def _asking(bench: Bench, work: str, **arguments: Any) -> Callable[[], float]:
    return lambda: float(bench.bare.ask(work, **arguments))


def _mark() -> int:
    return time.time_ns()


def _threads(found: list[int]) -> str:
    counts = Counter(found).most_common()
    return "threads of the fits: " + ", ".join(
        f"{threads} in {n} runs" for threads, n in counts
    )


LARGE = "whole cycle on 75,000 x 50, predict 25,000 rows"
SMALL = "whole cycle on 1,000 x 10"
JUDGED = "whole cycle on 75,000 x 50, default validation"
JUDGED_SMALL = "whole cycle on 1,000 x 10, default validation"
PREDICTION = "a predict job of 1,000 rows, submit to downloaded"

BENCHMARKS = [
    Benchmark("cycle_large", LARGE, measure_large),
    Benchmark("cycle_small", SMALL, measure_small),
    Benchmark("predict_job", PREDICTION, measure_prediction),
    Benchmark("validation", JUDGED, measure_judged),
]
