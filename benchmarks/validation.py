"""What it costs to judge a model, and to tell how far a fit is: training with it beside training
without."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, Pairs, Target, extra, ratio

LARGE, SMALL = (
    "fit, scores, importances on 75,000 x 50",
    "fits, scores, importances on 1,000 x 10",
)
TELLING = "training on 75,000 x 50 that reports its progress"


def measure(bench: Bench) -> list[Line]:
    return [
        ratio(LARGE, _pairs(bench, (75_000, 25_000, 50)), Target("at most", 1.25)),
        extra(SMALL, _pairs(bench, (1_000, 1_000, 10)), Target("at most", 0.25)),
    ]


def _pairs(
    bench: Bench, shape: tuple[int, int, int], work: str = "fit_and_judged_fit"
) -> Pairs:
    train, _ = bench.tables(*shape)
    found = [bench.bare.ask(work, train=train) for _ in range(bench.n_runs + 1)][1:]
    return Pairs([without for without, _ in found], [with_it for _, with_it in found])


def measure_progress(bench: Bench) -> list[Line]:
    pairs = _pairs(bench, (75_000, 25_000, 50), "silent_and_telling_fit")
    return [ratio(TELLING, pairs, Target("at most", 1.01), "CPU time")]


BENCHMARKS = [
    Benchmark("judging", LARGE, measure),
    Benchmark("progress", TELLING, measure_progress),
]
