"""The learners, one entry each in one table, and which parameters they take.

Knows no HTTP, Redis or store. Importing this module loads no scikit-learn, so that the server can
check parameters by it; an estimator's class is imported when it is made.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from rowcast.errors import InvalidRequest, InvalidTable

Task = Literal["classification", "regression"]
Preparation = Literal["trees", "ordinal", "linear", "none"]
TASKS: tuple[Task, ...] = ("classification", "regression")

# Larger whole numbers do not fit into the integers in which scikit-learn counts.
_MOST = {int: 2**31 - 1, float: 1e308}

# With more distinct values than this, whole numbers are taken for quantities, not for labels.
MAX_INFERRED_CLASSES = 20


@dataclass(frozen=True)
class Param:
    """What a parameter may be: a number from `least` to `most`, a word of `words`, or None.

    `above` excludes `least` itself, `below` excludes `most`. `tasks` are those that know it.
    """

    kind: type[int] | type[float] | type[bool] | type[str]
    least: float | None = None
    most: float | None = None
    words: tuple[str, ...] = ()
    none: bool = False
    above: bool = False
    below: bool = False
    tasks: tuple[Task, ...] = TASKS

    def problem(self, value: Any) -> str:
        """Return why a value cannot be taken, nothing if it can."""
        if (value is None and self.none) or (
            isinstance(value, str) and value in self.words
        ):
            return ""
        if self.kind is bool:
            return "" if isinstance(value, bool) else f"must be {self}"
        return "" if self._is_in_range(value) else f"must be {self}"

    def _is_in_range(self, value: Any) -> bool:
        # JSON as Python reads it knows NaN and Infinity, and integers of any length.
        most = _MOST.get(self.kind, -1)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not abs(value) <= most
        ):
            return False
        if self.kind is int and value != int(value):
            return False
        is_low = self.least is not None and (
            value <= self.least if self.above else value < self.least
        )
        is_high = self.most is not None and (
            value >= self.most if self.below else value > self.most
        )
        return not (is_low or is_high)

    def converted(self, value: Any) -> Any:
        """Return a value that can be taken as scikit-learn wants it: 10.0 is no whole number
        there."""
        return int(value) if self.kind is int and isinstance(value, float) else value

    def __str__(self) -> str:
        names = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            str: "",
        }
        range_ = (
            ""
            if self.least is None
            else f" {'over' if self.above else 'from'} {self.least:g}"
        )
        range_ += (
            ""
            if self.most is None
            else f" {'and under' if self.below else 'to'} {self.most:g}"
        )
        number = (names[self.kind] + range_) if self.kind is not str else ""
        choices = [
            *([number] if number else []),
            *self.words,
            *(["null"] if self.none else []),
        ]
        return " or ".join(choices)


class Cost(NamedTuple):
    """What a learner's job costs: constant seconds, and seconds per cell of its table.

    `iterations` is the parameter, with its default, that the seconds per cell are proportional to.

    Measured with scikit-learn 1.9.1 on one core of a shared machine, on 1,000 to 5,000,000 cells of
    numbers in Parquet and two classes, with validation and importances, and rounded up. Text, dates
    and CSV take several times as long, and each further class its share again; the first jobs
    correct that. The constant is what a job of a few rows takes.
    """

    fit_s: float
    fit_cell_s: float
    predict_s: float
    predict_cell_s: float
    iterations: tuple[str, int] | None = None


@dataclass(frozen=True)
class Learner:
    """A learner: scikit-learn's classes for both tasks, how columns are prepared, which parameters
    it takes.

    `stops_early`: its `fit` takes X_val and y_val to stop the training. `defaults` differ from the
    library's.
    """

    classifier: str
    regressor: str
    preparation: Preparation
    cost: Cost
    params: Mapping[str, Param] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    stops_early: bool = False
    takes_class_weight: bool = True

    def make(
        self,
        task: Task,
        params: Mapping[str, Any],
        *,
        seed: int,
        class_weight: Any = None,
    ) -> Any:
        """Return an estimator that is not fitted."""
        module, _, name = (
            self.classifier if task == "classification" else self.regressor
        ).partition(":")
        estimator = getattr(importlib.import_module(module), name)()
        known = estimator.get_params(deep=False)
        extra = {"random_state": seed, "class_weight": class_weight}
        params = {
            name: self.params[name].converted(value) for name, value in params.items()
        }
        given = {
            **{n: v for n, v in extra.items() if n in known},
            **self.defaults,
            **params,
        }
        return estimator.set_params(**{n: v for n, v in given.items() if n in known})


_CLASSIFICATION: tuple[Task, ...] = ("classification",)
_REGRESSION: tuple[Task, ...] = ("regression",)
_MAX_FEATURES = Param(float, 0, 1, words=("sqrt", "log2"), none=True, above=True)

LEARNERS: dict[str, Learner] = {
    "boosting": Learner(
        "sklearn.ensemble:HistGradientBoostingClassifier",
        "sklearn.ensemble:HistGradientBoostingRegressor",
        preparation="trees",
        cost=Cost(0.3, 5e-7, 0.1, 1.5e-7, iterations=("max_iter", 100)),
        stops_early=True,
        params={
            "loss": Param(
                str,
                words=(
                    "squared_error",
                    "absolute_error",
                    "gamma",
                    "poisson",
                    "quantile",
                ),
                tasks=_REGRESSION,
            ),
            "quantile": Param(
                float, 0, 1, none=True, above=True, below=True, tasks=_REGRESSION
            ),
            "learning_rate": Param(float, 0, 1, above=True),
            "max_iter": Param(int, 1, 10_000),
            "max_leaf_nodes": Param(int, 2, 100_000, none=True),
            "max_depth": Param(int, 1, 1_000, none=True),
            "min_samples_leaf": Param(int, 1),
            "l2_regularization": Param(float, 0),
            "max_features": Param(float, 0, 1, above=True),
            "early_stopping": Param(bool, words=("auto",)),
            "n_iter_no_change": Param(int, 1),
            "tol": Param(float, 0),
        },
    ),
    "linear": Learner(
        "sklearn.linear_model:LogisticRegression",
        "sklearn.linear_model:Ridge",
        preparation="linear",
        cost=Cost(0.2, 2e-7, 0.1, 1e-7),
        # scikit-learn's 100 are too few for columns that are not balanced.
        defaults={"max_iter": 1000},
        params={
            "C": Param(float, 0, above=True, tasks=_CLASSIFICATION),
            "alpha": Param(float, 0, tasks=_REGRESSION),
            "fit_intercept": Param(bool),
            "max_iter": Param(int, 1, 1_000_000),
            "tol": Param(float, 0, above=True),
        },
    ),
    "forest": Learner(
        "sklearn.ensemble:RandomForestClassifier",
        "sklearn.ensemble:RandomForestRegressor",
        preparation="ordinal",
        # Its trees grow until they know each row, so they take far longer than others.
        cost=Cost(0.5, 3e-5, 0.2, 1e-6, iterations=("n_estimators", 100)),
        params={
            "n_estimators": Param(int, 1, 10_000),
            "max_depth": Param(int, 1, 1_000, none=True),
            "max_leaf_nodes": Param(int, 2, none=True),
            "min_samples_leaf": Param(int, 1),
            "min_samples_split": Param(int, 2),
            "max_features": _MAX_FEATURES,
            "bootstrap": Param(bool),
        },
    ),
    "baseline": Learner(
        "sklearn.dummy:DummyClassifier",
        "sklearn.dummy:DummyRegressor",
        preparation="none",
        cost=Cost(0.1, 5e-8, 0.1, 2e-8),
        takes_class_weight=False,
    ),
}


def check(
    learner: str,
    params: Mapping[str, Any],
    *,
    task: str = "auto",
    class_weight: Any = None,
) -> None:
    """Check parameters by name and range; the task counts once it is known.

    Raises:
        InvalidRequest: with every problem.
    """
    found = LEARNERS[learner]
    problems = [_problem(learner, name, value, task) for name, value in params.items()]
    if class_weight is not None and not found.takes_class_weight:
        problems.append(f"The learner {learner} takes no class_weight.")
    elif class_weight is not None and task == "regression":
        problems.append("A regression has no classes that class_weight could weigh.")
    if problems := [problem for problem in problems if problem]:
        known = ", ".join(found.params) or "none"
        raise InvalidRequest(
            " ".join(problems),
            hint=f"The parameters of {learner} are: {known}.",
            errors=problems,
        )


def _problem(learner: str, name: str, value: Any, task: str) -> str:
    param = LEARNERS[learner].params.get(name)
    if param is None:
        return f"The learner {learner} has no parameter {name!r}."
    if task in TASKS and task not in param.tasks:
        return f"The parameter {name!r} of {learner} is for {param.tasks[0]}, and this is a {task}."
    reason = param.problem(value)
    return f"The parameter {name!r} of {learner} {reason}." if reason else ""


def task_of(values: np.ndarray, asked: str, *, max_classes: int) -> Task:
    """Return the task that a target of shape (n_rows,) is for.

    `auto`: text and booleans are classes. Numbers are classes if all are whole, at most 20 differ,
    and each value occurs twice on average; otherwise they are quantities.

    Raises:
        InvalidTable: the target does not fit the task asked for, or has one class or over
            `max_classes`.
    """
    is_whole = values.dtype.kind != "f" or bool(np.all(values == np.floor(values)))
    n_distinct = (
        len(set(values)) if values.dtype.kind == "O" else len(np.unique(values))
    )
    looks_like_classes = values.dtype.kind in "Ob" or (
        is_whole and n_distinct <= min(MAX_INFERRED_CLASSES, len(values) // 2)
    )
    if asked == "regression" and values.dtype.kind == "O":
        raise InvalidTable(
            "The target is text, which has no regression; use task=classification."
        )
    if asked == "regression" or (asked == "auto" and not looks_like_classes):
        return "regression"
    if not is_whole:
        raise InvalidTable(
            "The target holds fractions, which are no classes; use task=regression."
        )
    if n_distinct < 2:
        raise InvalidTable(
            "The target has the same value in every row; there is nothing to learn."
        )
    if n_distinct > max_classes:
        raise InvalidTable(
            f"The target has {n_distinct} classes; at most {max_classes} are taken."
        )
    return "classification"
