"""From the verdicts of many trials to figures for each class of size."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.trials import Verdict

# A ratio counts as this at most, so that one table does not decide a mean.
MAX_RATIO = 5.0
# A learner is behind another by more than this share of the baseline's loss.
MARGIN = 0.02
# Rounding moves the ratio of the baseline itself by less than this.
ROUNDING = 1e-6
BEST = "best of three"
# The three learners before `auto`, with the former default's parameters.
THREE = ("former", "linear", "forest")
SMALL_ROWS = 2_500
SIZES = (
    ("below 50", 0, 49),
    ("50 to 99", 50, 99),
    ("100 to 299", 100, 299),
    ("300 to 999", 300, 999),
    ("1,000 to 2,500", 1_000, SMALL_ROWS),
    ("over 2,500", SMALL_ROWS + 1, 10**9),
    ("up to 2,500", 0, SMALL_ROWS),
    ("all", 0, 10**9),
)


@dataclass(frozen=True)
class Score:
    """How a learner did on a table: means over seeds; `ratio` is loss over the baseline's loss.

    `is_noted`: each model that is worse than the baseline has a note that says so.
    """

    ratio: float
    cpu_s: float
    is_noted: bool = False


@dataclass(frozen=True)
class Judged:
    """A table with the scores of all learners."""

    name: str
    n_rows: int
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Standing:
    """A learner's figures over the tables of a size.

    `worse` counts the tables on which it is worse than the baseline, `unnoted` those of them whose
    models do not say so. `behind` counts the tables on which it is behind the former default by
    over MARGIN of the baseline's loss; None if that was not run.
    """

    learner: str
    n_tables: int
    median: float
    mean: float
    worse: int
    unnoted: int
    behind: int | None
    cpu_s: float


def ratio_of(verdict: Verdict) -> float:
    """Return loss over baseline, MAX_RATIO at most; a fit that failed has MAX_RATIO."""
    if verdict.loss is None or verdict.baseline is None:
        return MAX_RATIO
    if verdict.baseline == 0:
        return 1.0 if verdict.loss == 0 else MAX_RATIO
    return min(verdict.loss / verdict.baseline, MAX_RATIO)


def judge(verdicts: Iterable[Verdict]) -> list[Judged]:
    """Return the tables that all learners were tried on, the smallest first.

    `best of three` is added where the three learners are there. It is chosen in hindsight, by the
    means over the seeds.
    """
    by_table: dict[str, dict[str, list[Verdict]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for verdict in verdicts:
        by_table[verdict.trial.table][verdict.trial.learner].append(verdict)
    n_learners = max(map(len, by_table.values()), default=0)
    complete = [
        _judged(name, by_learner)
        for name, by_learner in by_table.items()
        if len(by_learner) == n_learners
    ]
    return sorted(complete, key=lambda each: (each.n_rows, each.name))


def _judged(name: str, by_learner: Mapping[str, Sequence[Verdict]]) -> Judged:
    scores = {learner: _score(found) for learner, found in by_learner.items()}
    if set(THREE) <= set(scores):
        three = [scores[learner] for learner in THREE]
        best = min(three, key=lambda score: score.ratio)
        scores[BEST] = Score(best.ratio, sum(score.cpu_s for score in three))
    first = next(iter(by_learner.values()))[0]
    return Judged(name, first.n_rows, scores)


def _score(verdicts: Sequence[Verdict]) -> Score:
    worse = [verdict for verdict in verdicts if _is_worse(ratio_of(verdict))]
    return Score(
        ratio=statistics.mean(map(ratio_of, verdicts)),
        cpu_s=statistics.mean(verdict.cpu_s or 0.0 for verdict in verdicts),
        is_noted=all(map(_is_noted, worse)),
    )


def _is_worse(ratio: float) -> bool:
    return ratio > 1 + ROUNDING


def _is_noted(verdict: Verdict) -> bool:
    return any("baseline" in note for note in verdict.notes)


def standings(tables: Sequence[Judged]) -> dict[str, list[Standing]]:
    """Return the standings for each class of size, by its name.

    A class without tables, or with the tables of an earlier one, is left out.
    """
    found: dict[str, list[Standing]] = {}
    seen: list[list[Judged]] = [[]]
    for name, least, most in SIZES:
        chosen = [each for each in tables if least <= each.n_rows <= most]
        if chosen not in seen:
            seen.append(chosen)
            learners = chosen[0].scores
            found[name] = [standing(learner, chosen) for learner in learners]
    return found


def standing(learner: str, tables: Sequence[Judged]) -> Standing:
    """Return the figures of a learner over tables, of which there is at least one."""
    scores = [table.scores[learner] for table in tables]
    ratios = [score.ratio for score in scores]
    worse = [score for score in scores if _is_worse(score.ratio)]
    return Standing(
        learner,
        len(tables),
        median=statistics.median(ratios),
        mean=statistics.mean(ratios),
        worse=len(worse),
        unnoted=sum(not score.is_noted for score in worse),
        behind=_n_behind(learner, tables),
        cpu_s=statistics.mean(score.cpu_s for score in scores),
    )


def _n_behind(learner: str, tables: Sequence[Judged]) -> int | None:
    if learner == "former" or "former" not in tables[0].scores:
        return None
    lags = [
        table.scores[learner].ratio - table.scores["former"].ratio for table in tables
    ]
    return sum(lag > MARGIN for lag in lags)
