"""How long a job will take: from earlier jobs of like size and learner, else from their costs.

Redis keeps a running mean of the logarithm of seconds for each kind of job, learner and size. The
size is the number of cells (rows times columns), times the effort that the parameters ask for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from rowcast.learning import Cost, contributions, learners
from rowcast.store import Kind

Lane = Literal["short", "long"]

# A job that is expected to end within so many seconds is short.
SHORT_S = 5.0

_KEY = "rowcast:durations"
# A job predicts the time of jobs with up to so many times as many cells, or as few.
_LIKE = 4
# The weight of the newest job; after eight jobs, earlier ones have a tenth of the weight.
_NEWEST = 0.25
_NOTE = """
local old = tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or '')
local new = tonumber(ARGV[2])
if old then new = old + (new - old) * tonumber(ARGV[3]) end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.4f', new))
"""
_MOST_ITERATIONS = 1_000_000
# Fits of one learner that is chosen without a comparison are as long as those of boosting.
_QUICK = "quick"
# A cross-validation fits five models and then the one that is kept.
_FITS_OF_CV = 6


@dataclass(frozen=True)
class Work:
    """What decides how long a job takes; see `effort_of`. `search_s` comes on top."""

    kind: Kind
    learner: str
    n_rows: int
    n_columns: int
    effort: float = 1.0
    search_s: float = 0.0


def of_fit(
    learner: str,
    params: Mapping[str, Any],
    validation: str,
    n_rows: int,
    n_columns: int,
    *,
    is_quick: bool = False,
    search_s: float = 0.0,
) -> Work:
    """Return the work of a fit; the rows may be an estimate."""
    effort = effort_of(learner, params, validation)
    if is_quick and learner == learners.AUTO:
        learner = _QUICK
    return Work("fit", learner, n_rows, n_columns, effort, search_s)


def of_prediction(
    manifest: Mapping[str, Any], n_rows: int, n_columns: int, output: str = "labels"
) -> Work:
    """Return the work of a prediction, by the manifest of its model if that is there yet.

    To explain a row takes as long as to predict many.
    """
    learner, params = manifest.get("learner", "boosting"), manifest.get("params") or {}
    effort = effort_of(learner, params) if isinstance(params, Mapping) else 1.0
    if output == "contributions":
        n_features = len(manifest.get("features") or ()) or n_columns
        n_explained = max(1, min(n_features, contributions.MAX_COLUMNS))
        effort *= contributions.evaluations(n_explained)
    return Work("predict", str(learner), n_rows, n_columns, effort)


class Expectation(NamedTuple):
    """How many seconds a job is expected to take, and whether earlier jobs say so."""

    seconds: float
    is_known: bool


def effort_of(
    learner: str, params: Mapping[str, Any], validation: str = "auto"
) -> float:
    """Return how many times as long as with default parameters a job takes for each cell."""
    fits = _FITS_OF_CV if validation == "cv" else 1
    name, usual = _cost_of(learner).iterations or ("", 1)
    asked = params.get(name, usual)
    # A manifest may hold anything.
    is_sane = isinstance(asked, int | float) and 0 < asked <= _MOST_ITERATIONS
    return fits * asked / usual if is_sane else float(fits)


def expected_s(connection: Any, work: Work) -> Expectation:
    """Return how many seconds a job will take, once it has started.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    n_cells = _n_cells(work)
    near = [bucket for bucket in _near(n_cells) if _is_like(bucket, n_cells)]
    found = connection.hmget(_KEY, [_field(work, bucket) for bucket in near])
    for bucket, log_s in zip(near, found, strict=True):
        if log_s is not None:
            seconds = math.exp(float(log_s)) * n_cells / _middle(bucket)
            return Expectation(seconds + work.search_s, is_known=True)
    return Expectation(_rough_s(work, n_cells) + work.search_s, is_known=False)


def note(connection: Any, work: Work, seconds: float) -> None:
    """Note how long a finished job took, in one atomic command.

    `connection` may be a pipeline.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    n_cells = _n_cells(work)
    bucket = _bucket(n_cells)
    # As if the job had been in the middle of its bucket.
    log_s = math.log(max(seconds - work.search_s, 1e-3) * _middle(bucket) / n_cells)
    connection.eval(_NOTE, 1, _KEY, _field(work, bucket), log_s, _NEWEST)


def lane_of(seconds: float) -> Lane:
    """Return the lane of a job that is expected to take so many seconds."""
    return "short" if seconds <= SHORT_S else "long"


def remaining_s(
    expectation_s: float | None, elapsed_s: float, percent: float | None
) -> float | None:
    """Return how many seconds a job that began `elapsed_s` ago still takes; None if unknown.

    The estimate has the weight (1 - p)^3 and the progress the rest, where p is the share that is
    done: equal weights at a fifth, almost the progress alone at the half. It is unknown for a job
    that has used up its estimate and reports no progress.
    """
    done = min(max((percent or 0.0) / 100, 0.0), 1.0)
    by_estimate = None if expectation_s is None else max(expectation_s - elapsed_s, 0.0)
    if done == 0:
        return by_estimate or None
    by_progress = max(elapsed_s, 0.0) * (1 - done) / done
    if by_estimate is None:
        return by_progress
    trust = (1 - done) ** 3
    return trust * by_estimate + (1 - trust) * by_progress


def _rough_s(work: Work, n_cells: float) -> float:
    cost = _cost_of(work.learner)
    if work.kind == "fit":
        return cost.fit_s + cost.fit_cell_s * n_cells
    return cost.predict_s + cost.predict_cell_s * n_cells


def _cost_of(learner: str) -> Cost:
    # A model may be of a learner that a newer server knows.
    return learners.of(learner if learner in learners.NAMES else "boosting").cost


def _n_cells(work: Work) -> float:
    return max(1.0, work.n_rows * work.n_columns * work.effort)


def _bucket(n_cells: float) -> int:
    """Return the power of two that a number of cells reaches."""
    return math.frexp(n_cells)[1] - 1


def _middle(bucket: int) -> float:
    return math.ldexp(math.sqrt(2), bucket)


def _near(n_cells: float) -> list[int]:
    """Return the buckets around a number of cells, the nearest first."""
    place = math.log2(n_cells)
    around = range(_bucket(n_cells) - 3, _bucket(n_cells) + 4)
    return sorted(around, key=lambda bucket: abs(bucket + 0.5 - place))


def _is_like(bucket: int, n_cells: float) -> bool:
    return bucket >= 0 and 1 / _LIKE <= _middle(bucket) / n_cells <= _LIKE


def _field(work: Work, bucket: int) -> str:
    return f"{work.kind}:{work.learner}:{bucket}"
