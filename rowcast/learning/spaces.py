"""Which parameters of each learner effort=thorough tunes, and within which bounds.

Importing this module loads no Optuna, so that the server can check requests.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rowcast.errors import InvalidRequest
from rowcast.learning.candidates import Situation
from rowcast.learning.learners import AUTO, TASKS, Task

Effort = Literal["quick", "normal", "thorough"]
# Seconds of a search for which the request gives no time.
DEFAULT_SEARCH_S = 60.0

# Trees of all iterations and classes that a trial of boosting may grow.
_MAX_TREES = 10_000


@dataclass(frozen=True)
class Dimension:
    """The values of a parameter that trials may use, by their logarithm if `is_log`.

    `usual` is scikit-learn's value, None if that is not a number between the bounds.
    """

    least: float
    most: float
    usual: float | None
    is_whole: bool = False
    is_log: bool = True
    tasks: tuple[Task, ...] = TASKS


_LINEAR: Mapping[str, Dimension] = {
    "C": Dimension(1e-3, 1e3, 1.0, tasks=("classification",)),
    "alpha": Dimension(1e-3, 1e4, 1.0, tasks=("regression",)),
}
_FOREST: Mapping[str, Dimension] = {
    "max_features": Dimension(0.1, 1.0, None, is_log=False),
    "min_samples_leaf": Dimension(1, 20, 1, is_whole=True),
}
SPACES: Mapping[str, Mapping[str, Dimension]] = {
    "boosting": {
        "learning_rate": Dimension(0.01, 0.3, 0.1),
        "max_iter": Dimension(20, 400, 100, is_whole=True),
        "max_leaf_nodes": Dimension(3, 63, 31, is_whole=True),
        "min_samples_leaf": Dimension(1, 60, 20, is_whole=True),
        "l2_regularization": Dimension(1e-3, 30.0, 1e-3),
        "max_features": Dimension(0.3, 1.0, 1.0, is_log=False),
    },
    "linear": _LINEAR,
    "splines": _LINEAR,
    "forest": _FOREST,
    "extra_trees": _FOREST,
}


def of(
    learner: str, situation: Situation, fixed: Sequence[str] = ()
) -> Mapping[str, Dimension]:
    """Return what is tuned of a learner for these rows, without the parameters in `fixed`."""
    found = _tuned(learner, situation.task, fixed)
    if "max_iter" in found:
        found["max_iter"] = _affordable(found["max_iter"], situation)
    return found


def check(learner: str, params: Mapping[str, Any], *, effort: str, task: str) -> None:
    """Check that effort=thorough has something to tune; the task may be `auto`.

    Raises:
        InvalidRequest: the learner has no parameter to tune, or all of them are given.
    """
    if effort != "thorough" or learner == AUTO:
        return
    known = _tuned(learner, task, ())
    if not known:
        raise InvalidRequest(
            f"The learner {learner} has no parameter that effort=thorough could tune.",
            hint="Use effort=normal, or another learner.",
        )
    if known.keys() <= params.keys():
        raise InvalidRequest(
            f"`params` gives all that effort=thorough tunes of {learner}: {', '.join(known)}.",
            hint="Leave out the parameters that are to be tuned, or use effort=normal.",
        )


def _tuned(learner: str, task: str, fixed: Sequence[str]) -> dict[str, Dimension]:
    return {
        name: dimension
        for name, dimension in SPACES.get(learner, {}).items()
        if name not in fixed and (task in dimension.tasks or task not in TASKS)
    }


def _affordable(iterations: Dimension, situation: Situation) -> Dimension:
    most = _MAX_TREES // situation.n_trees_an_iteration
    bound = max(iterations.least + 1, min(iterations.most, most))
    return Dimension(
        iterations.least, math.floor(bound), iterations.usual, is_whole=True
    )
