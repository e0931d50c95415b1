"""What learner=auto tries: learners with settings that fit the number of rows and of classes.

A candidate is one entry of _KINDS. `suits` decides by what is known before any fit, so the same
table always has the same candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rowcast.learning.learners import Task

# Trees of all iterations and classes that boosting may grow.
_MAX_TREES = 3_000
# With more classes, boosting grows as many trees an iteration, and each linear fit takes long.
_FEW_CLASSES = 50
# From here on, scikit-learn's own settings for boosting are good ones.
_MANY_ROWS = 2_500
# Above this number of rows, trees that grow until they know each row take longer than all others.
_MAX_FOREST_ROWS, _MAX_FOREST_CLASSES = 10_000, 200
# Up to this many cells another try of boosting takes little time.
_FEW_CELLS = 100_000
# With fewer rows, a linear learner is the best single one on the development tables.
_FEW_ROWS = 100
# Enough to tell how good a forest is.
_FEW_TREES = {"n_estimators": 40}


@dataclass(frozen=True)
class Situation:
    """What is known of the rows before a fit; `n_classes` is 0 for a regression."""

    task: Task
    n_rows: int
    n_features: int
    n_classes: int

    @property
    def n_trees_an_iteration(self) -> int:
        """How many trees an iteration of boosting grows."""
        return self.n_classes if self.n_classes > 2 else 1


Params = Callable[[Situation], Mapping[str, Any]]


def _none(_: Situation) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Candidate:
    """A learner with parameters, both as /fit takes them.

    `trial_params` are those with which it is compared, if the whole learner takes too long.
    """

    name: str
    learner: str
    params: Mapping[str, Any] = field(default_factory=dict)
    trial_params: Mapping[str, Any] = field(default_factory=dict)

    def for_trials(self) -> Candidate:
        """Return the candidate as it is compared with others."""
        return replace(self, params={**self.params, **self.trial_params})


@dataclass(frozen=True)
class _Kind:
    name: str
    learner: str
    suits: Callable[[Situation], bool]
    params: Params = _none
    trial_params: Mapping[str, Any] = field(default_factory=dict)


def of(situation: Situation) -> Sequence[Candidate]:
    """Return the candidates for a situation, the simplest first."""
    return [
        Candidate(kind.name, kind.learner, kind.params(situation), kind.trial_params)
        for kind in _KINDS
        if kind.suits(situation)
    ]


def quick(situation: Situation) -> Candidate:
    """Return the one candidate of effort=quick for a situation."""
    name = next(name for suits, name in _QUICK if suits(situation))
    return next(each for each in of(situation) if each.name == name)


def _boosting(situation: Situation) -> Mapping[str, Any]:
    """Return settings that can split few rows, and stop before they know them by heart."""
    n_rows = situation.n_rows
    most_iterations = max(5, _MAX_TREES // situation.n_trees_an_iteration)
    if n_rows >= _MANY_ROWS:
        return {"max_iter": min(100, most_iterations)}
    return {
        "max_iter": min(80, most_iterations),
        "learning_rate": 0.06,
        "max_leaf_nodes": 8 if n_rows < 1_000 else 15,
        "min_samples_leaf": max(3, min(20, n_rows // 25)),
        "l2_regularization": 1.0,
    }


def _may_be_forest(situation: Situation) -> bool:
    # A leaf of a forest holds a number for each class.
    is_small = situation.n_classes <= _MAX_FOREST_CLASSES
    return is_small and situation.n_rows < _MAX_FOREST_ROWS


def _has_few_classes(situation: Situation) -> bool:
    return situation.n_classes <= _FEW_CLASSES


def _may_have_larger_leaves(situation: Situation) -> bool:
    """Return whether scikit-learn's own settings differ from ours, and may be better."""
    is_small = situation.n_rows * situation.n_features <= _FEW_CELLS
    has_rows = 100 <= situation.n_rows < _MANY_ROWS
    return is_small and has_rows and situation.n_classes <= 10


def _always(_: Situation) -> bool:
    return True


_KINDS: Sequence[_Kind] = (
    _Kind("baseline", "baseline", _always),
    _Kind("linear", "linear", _always),
    _Kind(
        "linear, strongly regularized",
        "linear",
        _has_few_classes,
        lambda s: {"C": 0.05} if s.task == "classification" else {"alpha": 30.0},
    ),
    _Kind("splines", "splines", lambda s: s.n_rows >= 30 and _has_few_classes(s)),
    _Kind("forest", "forest", _may_be_forest, trial_params=_FEW_TREES),
    _Kind("extra trees", "extra_trees", _may_be_forest, trial_params=_FEW_TREES),
    _Kind("boosting", "boosting", _has_few_classes, _boosting),
    _Kind("boosting, larger leaves", "boosting", _may_have_larger_leaves),
)

# The candidate of effort=quick is the first that suits.
_QUICK: Sequence[tuple[Callable[[Situation], bool], str]] = (
    (lambda s: s.n_classes > _FEW_CLASSES or s.n_rows < _FEW_ROWS, "linear"),
    (_always, "boosting"),
)
