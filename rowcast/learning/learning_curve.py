"""The loss on the rows held back by how many rows are learned from: would more rows help?

The largest member of a choice is fitted on parts of the rows that it learned from. The fits must
take little nominal work, so that the same table always has the same curve, or none.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rowcast.errors import InvalidTable
from rowcast.learning import comparison, work
from rowcast.learning.candidates import Candidate
from rowcast.learning.choice import Choice
from rowcast.learning.comparison import Tried
from rowcast.learning.fitting import Fitter, Rows
from rowcast.learning.learners import AUTO
from rowcast.learning.progress import SILENT
from rowcast.learning.splitting import Split, split

# The shares of the rows that are learned from.
SHARES = (0.25, 0.5, 1.0)
# The nominal seconds that all fits together may take, and the rows that the smallest one needs.
BUDGET_S, MIN_ROWS = 0.2, 10
# More rows help if half of them are worse by this share of the loss, and by this number of
# standard errors.
_WORSE, _N_ERRORS = 0.02, 2.0


def of(
    fitter: Fitter,
    rows: Rows,
    made: Choice,
    splits: Sequence[Split],
    whole: Tried | None = None,
) -> dict[str, Any]:
    """Return the curve on as many of the splits as the budget allows, or why there is none.

    `whole` are the member's fits on these splits, if it was fitted on them.
    """
    member, _ = made.members[0]
    about = {"name": member.name, "loss": made.loss_name, "points": []}
    if fitter.plan.learner != AUTO or fitter.plan.effort == "quick":
        return _left_out(about, "Only a choice among learners makes one.")
    n_learned = len(splits[0][0])
    if n_learned * SHARES[0] < MIN_ROWS:
        return _left_out(about, f"A quarter of {n_learned} rows is too few.")
    shares = SHARES[:-1] if whole else SHARES
    cost_s = _cost_s(fitter, member, [share * n_learned for share in shares])
    used = splits[: int(BUDGET_S / cost_s)]
    if not used:
        return _left_out(
            about,
            f"Its fits take about {cost_s:.2g} nominal seconds, over {BUDGET_S:g}.",
        )
    try:
        found = {share: _tried(fitter, rows, member, used, share) for share in shares}
    except (*comparison.FAILURES, InvalidTable) as error:
        return _left_out(about, f"A fit on few rows failed: {type(error).__name__}.")
    return {**about, **_described({SHARES[-1]: whole, **found}, used, fitter)}


def notes(curve: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield that more rows would help, if a curve says so."""
    if not curve or not curve["more_rows_help"]:
        return
    half, whole = curve["points"][-2:]
    loss = curve["loss"].replace("_", " ")
    yield (
        f"More rows would help: the {loss} falls from {half['mean']:.3g} to "
        f"{whole['mean']:.3g} as {whole['n_rows']:,} rows are learned from instead of "
        f"{half['n_rows']:,}."
    )


def _left_out(about: Mapping[str, Any], reason: str) -> dict[str, Any]:
    return {**about, "more_rows_help": None, "left_out": reason}


def _cost_s(fitter: Fitter, member: Candidate, sizes: Sequence[float]) -> float:
    n_classes = 0 if fitter.classes is None else len(fitter.classes)
    n_columns = len(fitter.features)
    params = member.for_trials().params
    return sum(
        work.fit_s(member.learner, params, n_rows * n_columns, n_classes)
        for n_rows in sizes
    )


def _tried(
    fitter: Fitter,
    rows: Rows,
    member: Candidate,
    splits: Sequence[Split],
    share: float,
) -> Tried:
    """Fit a member on a share of the rows of each split.

    Raises:
        ArithmeticError: a prediction is not finite.
        InvalidTable, or one of `comparison.FAILURES`: a fit failed.
    """
    parts = [(_part(fitter, rows, kept, share), held) for kept, held in splits]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        silent = replace(fitter, progress=SILENT)
        (tried,) = comparison.try_all(silent, rows, parts, [member])
    if not np.isfinite(tried.loss):
        raise ArithmeticError("a prediction is not finite")
    return tried


def _part(fitter: Fitter, rows: Rows, kept: np.ndarray, share: float) -> np.ndarray:
    """Return a random share of the places in `kept`, in which classes keep their shares."""
    if share == 1:
        return kept
    drawn, _ = split(fitter.plan, Rows(None, rows.target[kept]), 1 - share)
    return kept[drawn]


def _described(
    found: Mapping[float, Tried | None], splits: Sequence[Split], fitter: Fitter
) -> dict[str, Any]:
    n_learned = np.mean([len(kept) for kept, _ in splits])
    by_share = {share: tried for share, tried in sorted(found.items()) if tried}
    points = [
        {
            "share": share,
            "n_rows": round(share * n_learned),
            "mean": float(np.mean(tried.fold_losses[: len(splits)])),
        }
        for share, tried in by_share.items()
    ]
    held = np.concatenate([held for _, held in splits])
    loss = comparison.loss_of(fitter)
    # One row each, so that the means are the losses of rows.
    half, whole = (
        loss(by_share[share].of_truth[held, None], np.ones(1)) for share in SHARES[1:]
    )
    return {
        "points": points,
        "n_splits": len(splits),
        "more_rows_help": _is_worse(half, whole),
        "left_out": None,
    }


def _is_worse(half: np.ndarray, whole: np.ndarray) -> bool:
    """Return whether losses (n_rows,) with half of the rows are clearly higher than with all."""
    differences = half - whole
    error = differences.std() / len(differences) ** 0.5
    least = max(_N_ERRORS * error, _WORSE * whole.mean())
    return bool(differences.mean() > least)
