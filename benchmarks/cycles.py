"""The whole cycle through the client, from upload to download, and a prediction alone."""

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

# A cycle of a tenth of a second gets more runs, because its spread exceeds what is to be found.
OFTEN = 4


def measure_large(bench: Bench) -> list[Line]:
    shape = (75_000, 25_000, 50)
    pairs, threads = _cycles(bench, bench.n_runs, "cycle", shape, validation="none")
    return [ratio(LARGE, pairs, Target("at most", 1.35), threads)]


def measure_small(bench: Bench) -> list[Line]:
    n_runs = OFTEN * bench.n_runs
    shape = (1_000, 1_000, 10)
    pairs, threads = _cycles(bench, n_runs, "cycle", shape, validation="none")
    note = f"goal: 0.06 s more; {threads}"
    return [extra(SMALL, pairs, Target("at most", 0.1), note)]


def measure_validated(bench: Bench) -> list[Line]:
    """Measure the cycle with the default validation.

    Both sides hold back the same rows, use them for early stopping and scores, and compute
    importances.
    """
    n_runs = bench.n_runs
    large, threads = _cycles(bench, n_runs, "validated_cycle", (75_000, 25_000, 50))
    small, _ = _cycles(bench, n_runs, "validated_cycle", (1_000, 1_000, 10))
    return [
        ratio(VALIDATED, large, Target("at most", 1.35), threads),
        extra(VALIDATED_SMALL, small),
    ]


def measure_prediction(bench: Bench) -> list[Line]:
    train, test = bench.tables(1_000, 1_000, 10)
    out = bench.folder / "predictions.npy"
    with Client(bench.stack().url) as client:
        model = client.fit(train, timeout=None, validation="none", learner="boosting")
        rows = client.upload(test)
        path = client.download_model(model, bench.folder / "model.joblib")
        bench.bare.ask("keep", model=path)

        def service() -> float:
            began = time.monotonic()
            predictions = client.download(client.predict(rows, model, timeout=None))
            return _checked(time.monotonic() - began, predictions, out)

        bare = _asking(bench, "predict", test=test, out=out)
        pairs = alternate(OFTEN * bench.n_runs, bare, service)
    return [extra(PREDICTION, pairs, Target("at most", 0.06))]


def _cycles(
    bench: Bench, n_runs: int, work: str, shape: tuple[int, int, int], **options: Any
) -> tuple[Pairs, str]:
    """Return pairs, and a note on how many threads the service's fits had."""
    train, test = bench.tables(*shape)
    out = bench.folder / "predictions.npy"
    threads = []
    with Client(bench.stack().url) as client:

        def service() -> float:
            # New bytes each time, because the client does not upload bytes that the service has.
            new = tables.Tables(tables.marked(train), tables.marked(test))
            seconds, model = _cycle(client, new, out, options)
            threads.append(client.model(model).manifest["n_threads"])
            return seconds

        bare = _asking(bench, work, train=train, test=test, out=out)
        pairs = alternate(n_runs, bare, service)
    return pairs, _threads(threads[1:])


def _cycle(
    client: Client, new: tables.Tables, out: Path, options: dict[str, Any]
) -> tuple[float, str]:
    began = time.monotonic()
    model = client.fit(new.train, timeout=None, learner="boosting", **options)
    predictions = client.download(client.predict(new.test, model, timeout=None))
    return _checked(time.monotonic() - began, predictions, out), model


def _checked(seconds: float, predictions: Any, out: Path) -> float:
    """Return the seconds of a run, if its predictions equal those of the bare run."""
    is_equal = np.array_equal(predictions["y"].to_numpy(), np.load(out))
    assert is_equal, "predictions differ from the bare ones"
    return seconds


def _asking(bench: Bench, work: str, **arguments: Any) -> Callable[[], float]:
    return lambda: float(bench.bare.ask(work, **arguments))


def _threads(found: list[int]) -> str:
    counts = Counter(found).most_common()
    parts = [f"{threads} in {n} runs" for threads, n in counts]
    return f"threads of the fits: {', '.join(parts)}"


LARGE = "whole cycle on 75,000 x 50, predict 25,000 rows"
SMALL = "whole cycle on 1,000 x 10"
VALIDATED = "whole cycle on 75,000 x 50, default validation"
VALIDATED_SMALL = "whole cycle on 1,000 x 10, default validation"
PREDICTION = "a predict job of 1,000 rows, from submit to download"

BENCHMARKS = [
    Benchmark("cycle_large", LARGE, measure_large),
    Benchmark("cycle_small", SMALL, measure_small),
    Benchmark("predict_job", PREDICTION, measure_prediction),
    Benchmark("validation", VALIDATED, measure_validated),
]
