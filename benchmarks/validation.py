"""What validation and progress cost: training with them, compared with training without."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.line import Benchmark, Line, Pairs, Target, alternate, extra, ratio

LARGE = "fit with scores and importances on 75,000 x 50"
SMALL = "fit with scores and importances on 1,000 x 10"
CHOICE_SMALL = "fit by auto of 500 x 10 with cross-validation, compared with boosting"
CHOICE_LARGE = "fit by auto of 75,000 x 50 with a holdout, compared with boosting"
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


def measure_choice(bench: Bench) -> list[Line]:
    small = _compared(bench, CHOICE_SMALL, (500, 500, 10), bound=4)
    large = _compared(bench, CHOICE_LARGE, (75_000, 25_000, 50), bound=1.5)
    return [small, large]


def _compared(
    bench: Bench, what: str, shape: tuple[int, int, int], bound: float
) -> Line:
    """Return the line of a fit by auto and one by boosting, with the log loss of both."""
    train, _ = bench.tables(*shape)

    def seconds_of(learner: str) -> float:
        found = bench.bare.ask("validated_fit_of", train=train, learner=learner)
        losses[learner] = found["log_loss"]
        return float(found["seconds"])

    losses: dict[str, float] = {}
    pairs = alternate(
        bench.n_runs, lambda: seconds_of("boosting"), lambda: seconds_of("auto")
    )
    note = (
        f"CPU time; log loss {losses['auto']:.3f} instead of {losses['boosting']:.3f}"
    )
    return ratio(what, pairs, Target("at most", bound), note)


BENCHMARKS = [
    Benchmark("evaluation", LARGE, measure_evaluation),
    Benchmark("progress", PROGRESS, measure_progress),
    Benchmark("choice", CHOICE_SMALL, measure_choice),
]
