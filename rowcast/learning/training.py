"""Train a model: fit it, and judge it on rows that it was not trained on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rowcast.errors import InvalidRequest
from rowcast.learning import ignored_order, validation, verdict
from rowcast.learning.choice import Choice
from rowcast.learning.fitting import Fitted, Fitter, Plan, Rows, label_text
from rowcast.learning.progress import SILENT, Progress
from rowcast.tables import Feature, row_order

__all__ = ["Plan", "Rows", "Trained", "label_text", "train"]


@dataclass
class Trained:
    """A fitted model and what is known of it.

    `features` are those with enough values to learn from. `intervals` are what quantiles are
    computed from, `sets` those of classes.
    """

    model: Any
    features: list[Feature]
    validation: dict[str, Any]
    importances: dict[str, Any] | None
    intervals: dict[str, Any] | None
    sets: dict[str, Any] | None
    notes: list[str]
    choice: Choice
    verdict: str | None


def train(
    plan: Plan,
    features: Sequence[Feature],
    rows: Rows,
    progress: Progress = SILENT,
    *,
    suspects: Sequence[row_order.Suspect] = (),
) -> Trained:
    """Fit a model and judge it; `suspects` are columns that look like times or groups.

    Raises:
        InvalidTable: a class has too few rows for cross-validation, or no column has enough values.
        InvalidRequest: the parameters do not fit together, or do not fit the target.
    """
    if problems := list(_problems(plan, rows)):
        raise InvalidRequest(" ".join(problems), errors=problems)
    if plan.task == "regression":
        rows = replace(rows, target=rows.target.astype(np.float64))
    fitter = Fitter(plan, list(features), _classes_of(plan, rows), progress)
    method = validation.method_of(plan, rows)
    validate, steps = validation.METHODS[method]
    progress.expect(*steps)

    with warnings.catch_warnings(record=True) as caught:
        _ignore_all_but_convergence()
        validated = validate(fitter, rows)

    account = validated.account
    if suspects and method != "none":
        ignored = ignored_order.judge(fitter, rows, validated.choice, suspects)
        account["ignored"] = ignored

    return Trained(
        model=validated.final.model(),
        features=validated.final.features,
        validation=account,
        importances=validated.importances,
        intervals=validated.intervals,
        sets=validated.sets,
        notes=[
            *verdict.notes(plan.task, account, rows.target),
            *ignored_order.notes(
                account, verdict.share_of_baseline(plan.task, account)
            ),
            *_notes(plan, method, validated.final, has_converged=not caught),
        ],
        verdict=verdict.of(plan.task, account, validated.importances),
        choice=validated.choice,
    )


def _problems(plan: Plan, rows: Rows) -> Iterator[str]:
    """Yield what is wrong with parameters, as far as only the target's values show it."""
    loss = plan.params.get("loss")
    target = rows.target
    if (loss == "quantile") != (plan.params.get("quantile") is not None):
        yield "loss=quantile and the parameter quantile need each other."
    if loss == "gamma" and not (target > 0).all():
        yield "loss=gamma needs targets over 0."
    if loss == "poisson" and not ((target >= 0).all() and target.sum() > 0):
        yield "loss=poisson needs targets of 0 or more, at least one over 0."
    if not isinstance(plan.class_weight, Mapping):
        return
    labels = {label_text(label) for label in set(target.tolist())}
    for name in plan.class_weight:
        if name not in labels:
            yield f"class_weight names {name!r}, which is not a class."
    if not any(plan.class_weight.get(label, 1) for label in labels):
        yield "class_weight gives no class a weight over 0."


def _classes_of(plan: Plan, rows: Rows) -> np.ndarray | None:
    if plan.task == "regression":
        return None
    if rows.target.dtype.kind == "O":
        return np.array(sorted(set(rows.target)), object)
    return np.unique(rows.target)


def _ignore_all_but_convergence() -> None:
    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore")
    warnings.simplefilter("always", ConvergenceWarning)


def _notes(
    plan: Plan, method: validation.Method, final: Fitted, *, has_converged: bool
) -> Iterator[str]:
    has_stopped_itself = getattr(final.estimator, "do_early_stopping_", False)
    if has_stopped_itself and method != "holdout":
        yield (
            "The learner held back a tenth of the rows itself, to stop the training early."
        )
    if method == "none" and plan.validation != "none":
        yield "No rows were held back to judge the model: no class has two rows."
    if not has_converged:
        yield (
            f"The {plan.learner} learner did not converge; raise its parameter max_iter."
        )
