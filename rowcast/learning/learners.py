"""The table of learners, one entry each, and the parameters that each supports.

Importing this module loads no scikit-learn, so that the server can check parameters; an estimator's
class is imported when the estimator is made.
"""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from rowcast.errors import InvalidRequest, InvalidTable

Task = Literal["classification", "regression"]
Preprocessing = Literal["trees", "ordinal", "linear", "splines", "none"]
# Not a learner of scikit-learn, but the choice among several.
AUTO = "auto"
TASKS: tuple[Task, ...] = ("classification", "regression")

# scikit-learn counts in integers that hold no larger whole numbers.
_MAX_NUMBERS = {int: 2**31 - 1, float: 1e308}
_NUMBER_NAMES = {int: "a whole number", float: "a number", bool: "true or false"}

# With more distinct values than this, whole numbers are quantities, not labels.
MAX_INFERRED_CLASSES = 20
# The most distinct whole numbers that are classes without a name that says so.
_MAX_CODES = 10
_CLEARLY_CLASSES = 2
_NAMED_AS_CLASS = re.compile(
    r"(?i:(^|.*[ _.-])(class|classes|type|label|labels|group|code|category|species|cluster|kind)"
    r"([ _.-]|$))|.*[a-z](Class|Type|Label|Group|Code|Category)$"
)


@dataclass(frozen=True)
class Param:
    """The values of a parameter: numbers from `least` to `most`, each of `words`, or None.

    `above` excludes `least` itself, `below` excludes `most`. `tasks` are those that support it.
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
        """Return why a value is not valid, nothing if it is."""
        if value is None and self.none:
            return ""
        if isinstance(value, str) and value in self.words:
            return ""
        if isinstance(value, bool) and self.kind is bool:
            return ""
        return "" if self._is_in_range(value) else f"must be {self}"

    def _is_in_range(self, value: Any) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return False
        # JSON as Python reads it has NaN and Infinity, and integers of any length.
        if not abs(value) <= _MAX_NUMBERS.get(self.kind, -1):
            return False
        if self.kind is int and value != int(value):
            return False
        return not (self._is_too_low(value) or self._is_too_high(value))

    def _is_too_low(self, value: float) -> bool:
        if self.least is None:
            return False
        return value <= self.least if self.above else value < self.least

    def _is_too_high(self, value: float) -> bool:
        if self.most is None:
            return False
        return value >= self.most if self.below else value > self.most

    def converted(self, value: Any) -> Any:
        """Return a valid value as scikit-learn expects it, which rejects 10.0 as a whole number."""
        return int(value) if self.kind is int and isinstance(value, float) else value

    def __str__(self) -> str:
        choices = []
        if self.kind is not str:
            choices.append(_NUMBER_NAMES[self.kind] + self._range())
        choices += self.words
        if self.none:
            choices.append("null")
        return " or ".join(choices)

    def _range(self) -> str:
        text = ""
        if self.least is not None:
            text += f" {'over' if self.above else 'from'} {self.least:g}"
        if self.most is not None:
            text += f" {'and under' if self.below else 'to'} {self.most:g}"
        return text


class Cost(NamedTuple):
    """What a learner's job costs: constant seconds, and seconds per cell of its table.

    `iterations` is the parameter, with its default, that the seconds per cell are proportional to.

    Measured with scikit-learn 1.9.1 on one core of a shared machine, on 1,000 to 5,000,000 cells of
    numbers in Parquet and two classes, with validation and importances, and rounded up. Text, dates
    and CSV take several times as long, and a fit's time grows with the number of classes; the first
    jobs correct that. The constant is what a job of a few rows takes.
    """

    fit_s: float
    fit_cell_s: float
    predict_s: float
    predict_cell_s: float
    iterations: tuple[str, int] | None = None


@dataclass(frozen=True)
class Learner:
    """A learner: scikit-learn's class for each task, its preprocessing, its cost, its parameters.

    `defaults` differ from scikit-learn's. `stops_early`: `fit` has parameters X_val and y_val,
    which stop the training early.
    """

    classifier: str
    regressor: str
    preprocessing: Preprocessing
    cost: Cost
    params: Mapping[str, Param] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    stops_early: bool = False
    supports_class_weight: bool = True

    def make(
        self,
        task: Task,
        params: Mapping[str, Any],
        *,
        seed: int,
        class_weight: Any = None,
    ) -> Any:
        """Return an estimator that is not fitted."""
        path = self.classifier if task == "classification" else self.regressor
        module, _, class_name = path.partition(":")
        estimator = getattr(importlib.import_module(module), class_name)()
        wanted = {
            "random_state": seed,
            "class_weight": class_weight,
            **self.defaults,
        }
        for name, value in params.items():
            wanted[name] = self.params[name].converted(value)
        supported = estimator.get_params(deep=False)
        return estimator.set_params(
            **{name: wanted[name] for name in wanted if name in supported}
        )


_CLASSIFICATION: tuple[Task, ...] = ("classification",)
_REGRESSION: tuple[Task, ...] = ("regression",)
_MAX_FEATURES = Param(float, 0, 1, words=("sqrt", "log2"), none=True, above=True)

_LINEAR_PARAMS: Mapping[str, Param] = {
    "C": Param(float, 0, above=True, tasks=_CLASSIFICATION),
    "alpha": Param(float, 0, tasks=_REGRESSION),
    "fit_intercept": Param(bool),
    "max_iter": Param(int, 1, 1_000_000),
    "tol": Param(float, 0, above=True),
}
_FOREST_PARAMS: Mapping[str, Param] = {
    "n_estimators": Param(int, 1, 10_000),
    "max_depth": Param(int, 1, 1_000, none=True),
    "max_leaf_nodes": Param(int, 2, none=True),
    "min_samples_leaf": Param(int, 1),
    "min_samples_split": Param(int, 2),
    "max_features": _MAX_FEATURES,
    "bootstrap": Param(bool),
}

LEARNERS: dict[str, Learner] = {
    "boosting": Learner(
        "sklearn.ensemble:HistGradientBoostingClassifier",
        "sklearn.ensemble:HistGradientBoostingRegressor",
        preprocessing="trees",
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
        preprocessing="linear",
        cost=Cost(0.2, 2e-7, 0.1, 1e-7),
        # scikit-learn's 100 are too few for columns that are not balanced.
        defaults={"max_iter": 1000},
        params=_LINEAR_PARAMS,
    ),
    "forest": Learner(
        "sklearn.ensemble:RandomForestClassifier",
        "sklearn.ensemble:RandomForestRegressor",
        preprocessing="ordinal",
        # Its trees grow until they know each row, so they take far longer than others.
        cost=Cost(0.5, 3e-5, 0.2, 1e-6, iterations=("n_estimators", 100)),
        params=_FOREST_PARAMS,
    ),
    "extra_trees": Learner(
        "sklearn.ensemble:ExtraTreesClassifier",
        "sklearn.ensemble:ExtraTreesRegressor",
        preprocessing="ordinal",
        cost=Cost(0.5, 2e-5, 0.2, 1e-6, iterations=("n_estimators", 100)),
        params=_FOREST_PARAMS,
    ),
    "splines": Learner(
        "sklearn.linear_model:LogisticRegression",
        "sklearn.linear_model:Ridge",
        preprocessing="splines",
        cost=Cost(0.2, 1e-6, 0.1, 5e-7),
        defaults={"max_iter": 1000},
        params=_LINEAR_PARAMS,
    ),
    "baseline": Learner(
        "sklearn.dummy:DummyClassifier",
        "sklearn.dummy:DummyRegressor",
        preprocessing="none",
        cost=Cost(0.1, 5e-8, 0.1, 2e-8),
        supports_class_weight=False,
    ),
}


_AUTO = Learner(
    "", "", preprocessing="trees", cost=Cost(1.0, 1e-6, 0.2, 1e-6), stops_early=True
)
NAMES = (AUTO, *LEARNERS)


def of(name: str) -> Learner:
    """Return what is known of a learner, or of the choice among them; `make` is for learners."""
    return _AUTO if name == AUTO else LEARNERS[name]


def check(
    learner: str,
    params: Mapping[str, Any],
    *,
    task: str = "auto",
    class_weight: Any = None,
) -> None:
    """Check parameters by name and range, and against the task if it is known already.

    Raises:
        InvalidRequest: with every problem.
    """
    found = of(learner)
    problems = [_problem(learner, name, value, task) for name, value in params.items()]
    if class_weight is not None and not found.supports_class_weight:
        problems.append(f"The learner {learner} does not support class_weight.")
    elif class_weight is not None and task == "regression":
        problems.append(
            "A regression has no classes, so it does not support class_weight."
        )
    if problems := [problem for problem in problems if problem]:
        known = ", ".join(found.params) or "none"
        raise InvalidRequest(
            " ".join(problems),
            hint=f"The parameters of {learner} are: {known}.",
            errors=problems,
        )


def _problem(learner: str, name: str, value: Any, task: str) -> str:
    param = of(learner).params.get(name)
    if param is None:
        return f"The learner {learner} has no parameter {name!r}."
    if task in TASKS and task not in param.tasks:
        return f"The parameter {name!r} of {learner} is for {param.tasks[0]}, and this is a {task}."
    reason = param.problem(value)
    return f"The parameter {name!r} of {learner} {reason}." if reason else ""


def task_of(
    values: np.ndarray, requested: str, *, max_classes: int, name: str = ""
) -> Task:
    """Return the task for a target of shape (n_rows,), in the column `name`.

    `auto`: text and booleans are classes. Numbers are classes if all are whole, at most 20 differ,
    each value occurs twice on average, and they look like codes (see `_are_codes`); otherwise they
    are quantities.

    Raises:
        InvalidTable: the target does not fit the requested task, or has one class or over
            `max_classes`; or `auto` finds a class of its own in most rows.
    """
    is_text = values.dtype.kind == "O"
    is_whole = _are_whole(values)
    n_distinct = len(set(values)) if is_text else len(np.unique(values))
    if requested == "auto" and not _looks_like_classes(values, name):
        return "regression"
    if requested == "regression":
        if is_text:
            raise InvalidTable(
                "The target is text, which a regression cannot predict; use "
                "task=classification."
            )
        return "regression"
    _check_classes(is_whole, n_distinct, max_classes)
    if requested == "auto" and is_text and n_distinct > len(values) / 2:
        _check_repeated(values, name)
    return "classification"


def note_on_task(values: np.ndarray, requested: str, task: Task) -> str:
    """Return how to choose the other task where a target of few whole numbers allows both."""
    if requested != "auto" or values.dtype.kind in "Ob" or not _are_whole(values):
        return ""
    n_distinct = len(np.unique(values))
    if n_distinct <= _CLEARLY_CLASSES or not _are_few(values, n_distinct):
        return ""
    if task == "classification":
        return (
            f"The {n_distinct} different whole numbers of the target are taken for classes; "
            "task=regression takes them for quantities."
        )
    return (
        f"The {n_distinct} different whole numbers of the target are taken for quantities; "
        "task=classification takes them for classes."
    )


def _are_whole(values: np.ndarray) -> bool:
    return values.dtype.kind != "f" or bool(np.all(values == np.floor(values)))


def _are_few(values: np.ndarray, n_distinct: int) -> bool:
    return n_distinct <= min(MAX_INFERRED_CLASSES, len(values) // 2)


def _looks_like_classes(values: np.ndarray, name: str) -> bool:
    if values.dtype.kind in "Ob":
        return True
    if not _are_whole(values):
        return False
    distinct = np.unique(values)
    return _are_few(values, len(distinct)) and _are_codes(distinct, name)


def _are_codes(distinct: np.ndarray, name: str) -> bool:
    """Return whether different whole numbers look like codes of classes.

    They do if there are two of them at most, if they are 0 to 9 or 1 to 10 or fewer without a gap,
    or under a name such as `class`.
    """
    if len(distinct) <= _CLEARLY_CLASSES or _NAMED_AS_CLASS.match(name):
        return True
    has_no_gap = distinct[-1] - distinct[0] == len(distinct) - 1
    return bool(distinct[0] in (0, 1) and has_no_gap and len(distinct) <= _MAX_CODES)


def _check_repeated(values: np.ndarray, name: str) -> None:
    counts = Counter(values)
    n_alone = sum(n_rows == 1 for n_rows in counts.values())
    if n_alone > len(values) / 2:
        raise InvalidTable(
            f"The target {name!r} is text with a value of its own in {n_alone} of {len(values)} "
            "rows, which cannot be predicted.",
            hint="Name another target; or use task=classification to take each text for a class.",
        )


def _check_classes(is_whole: bool, n_distinct: int, max_classes: int) -> None:
    if not is_whole:
        raise InvalidTable(
            "The target holds fractions, which are not classes; use task=regression."
        )
    if n_distinct < 2:
        raise InvalidTable(
            "The target has the same value in every row; there is nothing to learn."
        )
    if n_distinct > max_classes:
        raise InvalidTable(
            f"The target has {n_distinct} classes; at most {max_classes} are supported."
        )
