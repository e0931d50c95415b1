"""What validation and progress cost: training with them, compared with training without."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, Pairs, Target, extra, ratio

LARGE = "fit with scores and importances on 75,000 x 50"
SMALL = "fit with scores and importances on 1,000 x 10"
PROGRESS = "training on 75,000 x 50 that reports its progress"


def measure_evaluation(bench: Bench) -> list[Line]:
    work = "fits_without_and_with_validation"
    large = _pairs(bench, (75_000, 25_000, 50), work)
    small = _pairs(bench, (1_000, 1_000, 10), work)
    return [
        ratio(LARGE, large, Target("at most", 1.25)),
        extra(SMALL, small, Target("at most", 0.25)),
    ]


def _pairs(bench: Bench, shape: tuple[int, int, int], work: str) -> Pairs:
    """Return the seconds without and with the work; the first run warms up."""
    train, _ = bench.tables(*shape)
    found = [bench.bare.ask(work, train=train) for _ in range(bench.n_runs + 1)][1:]
    return Pairs([without for without, _ in found], [with_it for _, with_it in found])


def measure_progress(bench: Bench) -> list[Line]:
    pairs = _pairs(bench, (75_000, 25_000, 50), "fits_without_and_with_progress")
    return [ratio(PROGRESS, pairs, Target("at most", 1.01), "CPU time")]


BENCHMARKS = [
    Benchmark("evaluation", LARGE, measure_evaluation),
    Benchmark("progress", PROGRESS, measure_progress),
]
