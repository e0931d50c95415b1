"""Train a model: fit it, and judge it on rows that it was not trained on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rowcast.errors import InvalidRequest
from rowcast.learning import (
    ignored_order,
    learners,
    learning_curve,
    validation,
    verdict,
)
from rowcast.learning.choice import Choice
from rowcast.learning.explanations import contributions, effects
from rowcast.learning.fitting import Fitted, Fitter, Plan, Rows, label_text
from rowcast.learning.progress import SILENT, Progress
from rowcast.tables import Feature, row_order

# Nominal seconds of the predictions for effects: a share of the fit's, or this if it is more.
_EFFECTS_SHARE, _MIN_EFFECTS_S = 0.05, 0.05

__all__ = ["Plan", "Rows", "Trained", "label_text", "train"]


@dataclass
class Trained:
    """A fitted model and what is known of it.

    `features` are those with enough values to learn from. `intervals` are what quantiles are
    computed from, `sets` those of classes; `plots` are points of curves. With the model,
    `n_background` rows are kept, by which its predictions are explained.
    """

    model: Any
    features: list[Feature]
    validation: dict[str, Any]
    importances: dict[str, Any] | None
    intervals: dict[str, Any] | None
    sets: dict[str, Any] | None
    plots: dict[str, Any] | None
    notes: list[str]
    choice: Choice
    verdict: str | None
    effects: dict[str, Any] | None
    n_background: int


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
    progress.expect(*validation.steps_of(plan, method))

    with warnings.catch_warnings(record=True) as caught:
        _ignore_all_but_convergence()
        validated = validation.METHODS[method].validate(fitter, rows)

    account = validated.account
    if suspects and method != "none":
        ignored = ignored_order.judge(fitter, rows, validated.choice, suspects)
        account["ignored"] = ignored

    final = validated.final
    model = final.model()
    return Trained(
        model=model,
        features=final.features,
        validation=account,
        importances=validated.importances,
        intervals=validated.intervals,
        sets=validated.sets,
        notes=[
            *verdict.notes(plan.task, account, rows.target),
            *ignored_order.notes(
                account, verdict.share_of_baseline(plan.task, account)
            ),
            *_notes(plan, method, final, has_converged=not caught),
            *learning_curve.notes((validated.plots or {}).get("learning_curve")),
        ],
        verdict=verdict.of(plan.task, account, validated.importances),
        plots=validated.plots,
        choice=validated.choice,
        effects=_effects(plan, model, rows.frame, validated),
        n_background=_keep_background(plan, model, rows, final),
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


def _keep_background(plan: Plan, model: Any, rows: Rows, final: Fitted) -> int:
    """Keep rows with the model unless the plan leaves them out, and return how many."""
    if plan.background == "leave_out":
        return 0
    names = [feature.name for feature in final.features]
    return contributions.keep_background(
        model, rows.frame, names, rows.target, seed=plan.seed
    )


def _effects(
    plan: Plan, model: Any, frame: Any, validated: validation.Validated
) -> dict[str, Any] | None:
    """Return how predictions change with the features by which the model gets better, if any."""
    # Those of a fit on fewer rows may have found a column telling that the model does without.
    used = {feature.name for feature in validated.final.features}
    names = [name for name in effects.leading(validated.importances) if name in used]
    if not names:
        return None
    labels = None
    if plan.task == "classification":
        labels = [label_text(label) for label in model.classes_]
    fit_s = frame.size * learners.of(plan.learner).cost.fit_cell_s
    return effects.effects(
        model,
        frame,
        validated.final.features,
        names,
        labels,
        seed=plan.seed,
        budget_s=max(_MIN_EFFECTS_S, _EFFECTS_SHARE * fit_s),
    )


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
    # The candidates of a choice have no parameters that a request could raise.
    if not has_converged and plan.learner != learners.AUTO:
        yield (
            f"The {plan.learner} learner did not converge; raise its parameter max_iter."
        )
