"""How the prediction changes with a feature, in the user's own values.

Numbers, dates and durations: accumulated local effects (Apley, Zhu, Visualizing the Effects of
Predictor Variables in Black Box Supervised Learning Models, 2020). Each row is moved to both ends
of its own cell of the grid only, so no row becomes one that cannot be, as a partial dependence
would make of correlated columns. Categories and booleans have no order in which effects could be
accumulated: partial dependence (Friedman, Greedy Function Approximation, 2001), the mean
prediction if all rows had the value. Both are in the unit of the prediction, around its mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rowcast.learning.explanations.mixing import Mixer, row_s
from rowcast.tables import Feature

MAX_FEATURES, MAX_CLASSES = 8, 5
MAX_ROWS, MIN_ROWS = 1_000, 50
# Cells of a grid, and the rows of one: few rows cross a step of the model by chance alone.
MIN_CELLS, MAX_CELLS, CELL_ROWS = 5, 20, 40
# The most frequent categories, and the characters of a name.
N_CATEGORIES, MAX_NAME = 10, 100
_TEXT = "text: hardly two rows have the same, and it has no order"
_ONE_VALUE = "one value in the sample of rows"


class _Curve(NamedTuple):
    """What to predict for a feature, and where its values are.

    `places` (n_points,) are rows of the sample that have the values of the grid, in order. Mixed
    row i is row `rows[i]` with the feature's value of row `given[i]`. `cells` (n_rows,) is the
    point of the grid that a row belongs to, -1 for none.
    """

    feature: Feature
    column: int
    places: np.ndarray
    rows: np.ndarray
    given: np.ndarray
    cells: np.ndarray
    numbers: np.ndarray | None = None


def leading(importances: Mapping[str, Any] | None) -> list[str]:
    """Return the features by which the model gets better, the most important first."""
    found = (importances or {}).get("features") or []
    names = [each["name"] for each in found if (each["mean"] or 0) > 0]
    return names[:MAX_FEATURES]


def effects(
    model: Any,
    frame: Any,
    features: Sequence[Feature],
    names: Sequence[str],
    labels: Sequence[str] | None,
    *,
    seed: int,
    budget_s: float,
) -> dict[str, Any]:
    """Return the effects of the named features, ready for JSON.

    The model predicts rows with these features, which the frame has among its columns. `labels` are
    the classes in their order, None for a regression. `budget_s` limits the sample of rows, in
    nominal seconds of their predictions.
    """
    random = np.random.default_rng(seed)
    drawn = random.choice(len(frame), min(len(frame), MAX_ROWS), replace=False)
    sample = frame.iloc[drawn][[feature.name for feature in features]]
    curves, left_out = _curves(sample, features, names)
    n_rows = _affordable(curves, len(sample), budget_s / row_s(model, len(features)))
    if n_rows < len(sample):
        sample = sample[:n_rows]
        curves, left_out = _curves(sample, features, names)

    mixer = Mixer(model, sample)
    rows = np.arange(len(sample))
    unmixed = mixer.predict(np.repeat(rows[:, None], len(features), axis=1))
    shown = _shown_outputs(unmixed, labels)
    found = {
        curve.feature.name: _effect(mixer, sample, curve, unmixed, shown)
        for curve in curves
    }
    return {
        "n_rows": len(sample),
        "classes": None if labels is None else [labels[place] for place in shown],
        "mean": [_rounded(value) for value in unmixed.mean(axis=0)[shown]],
        "features": [found.get(name) or left_out[name] for name in names],
    }


def _affordable(curves: Sequence[_Curve], n_rows: int, n_predicted: float) -> int:
    """Return how many rows of a sample to use, so that `n_predicted` are predicted in all."""
    n_mixed = sum(len(curve.rows) for curve in curves) + n_rows
    n_affordable = int(n_rows * n_predicted / max(n_mixed, 1))
    return min(n_rows, max(MIN_ROWS, n_affordable))


def _shown_outputs(predictions: np.ndarray, labels: Sequence[str] | None) -> np.ndarray:
    """Return the positions of the most probable classes, in their order."""
    if labels is None:
        return np.arange(1)
    commonest = np.argsort(-predictions.mean(axis=0), kind="stable")
    return np.sort(commonest[:MAX_CLASSES])


# What to predict


def _curves(
    sample: Any, features: Sequence[Feature], names: Sequence[str]
) -> tuple[list[_Curve], dict[str, dict[str, Any]]]:
    """Return what to predict for each feature, and those that are left out with the reason."""
    by_name = {feature.name: feature for feature in features}
    curves: list[_Curve] = []
    left_out = {}
    for name in names:
        feature = by_name[name]
        column = list(sample.columns).index(name)
        curve = None
        if feature.kind != "text":
            make = _of_levels if feature.kind in _LEVELS else _of_numbers
            curve = make(feature, column, sample[name])
        if curve is not None:
            curves.append(curve)
            continue
        reason = _TEXT if feature.kind == "text" else _ONE_VALUE
        left_out[name] = {"name": name, "kind": feature.kind, "left_out": reason}
    return curves, left_out


_LEVELS = ("category", "boolean")


def _of_levels(feature: Feature, column: int, values: Any) -> _Curve | None:
    """Return copies of all rows with each of the most frequent values, a missing one too."""
    import pandas as pd

    codes, distinct = pd.factorize(values, use_na_sentinel=False)
    counts = np.bincount(codes, minlength=len(distinct))
    kept = np.argsort(-counts, kind="stable")[:N_CATEGORIES]
    if len(kept) < 2:
        return None
    first_rows = np.unique(codes, return_index=True)[1]
    point_of = np.full(len(distinct), -1)
    point_of[kept] = np.arange(len(kept))
    n_rows = len(codes)
    return _Curve(
        feature,
        column,
        places=first_rows[kept],
        rows=np.tile(np.arange(n_rows), len(kept)),
        given=np.repeat(first_rows[kept], n_rows),
        cells=point_of[codes],
    )


def _of_numbers(feature: Feature, column: int, values: Any) -> _Curve | None:
    """Return each row at both ends of its cell of a grid of quantiles."""
    is_known = values.notna().to_numpy()
    numbers = np.full(len(values), np.nan)
    numbers[is_known] = values[is_known].to_numpy().astype(np.float64)
    known = np.flatnonzero(is_known)
    by_value = known[np.argsort(numbers[known], kind="stable")]
    if not len(by_value):
        return None
    n_cells = min(MAX_CELLS, max(MIN_CELLS, len(by_value) // CELL_ROWS))
    quantiles = np.linspace(0, len(by_value) - 1, n_cells + 1).round().astype(int)
    grid, first = np.unique(numbers[by_value[quantiles]], return_index=True)
    if len(grid) < 2:
        return None
    places = by_value[quantiles][first]
    cells = np.full(len(values), -1)
    cells[known] = np.searchsorted(grid, numbers[known])
    upper = np.maximum(cells[known], 1)
    return _Curve(
        feature,
        column,
        places=places,
        rows=np.tile(known, 2),
        given=places[np.concatenate([upper - 1, upper])],
        cells=cells,
        numbers=numbers,
    )


# What was predicted


def _effect(
    mixer: Mixer, sample: Any, curve: _Curve, unmixed: np.ndarray, shown: np.ndarray
) -> dict[str, Any]:
    sources = np.repeat(curve.rows[:, None], sample.shape[1], axis=1)
    sources[:, curve.column] = curve.given
    predicted = mixer.predict(sources)[:, shown]
    if curve.numbers is None:
        method = "partial_dependence"
        points = predicted.reshape(len(curve.places), -1, len(shown)).mean(axis=1)
    else:
        method = "accumulated_local_effects"
        points = _accumulated(curve, curve.numbers, predicted)
        points += unmixed.mean(axis=0)[shown]
        if not mixer.is_regression:
            # A sum of local effects may leave the range by its error.
            points = np.clip(points, 0, 1)
    values = sample.iloc[curve.places, curve.column]
    shares = np.bincount(curve.cells + 1, minlength=len(points) + 1) / len(sample)
    return {
        "name": curve.feature.name,
        "kind": curve.feature.kind,
        "method": method,
        "values": [_written(curve.feature, value) for value in values],
        "shares": [_rounded(share) for share in shares[1:]],
        "share_others": _rounded(shares[0]),
        "predictions": [[_rounded(each) for each in of] for of in points.T],
    }


def _accumulated(
    curve: _Curve, numbers: np.ndarray, predicted: np.ndarray
) -> np.ndarray:
    """Return the effects (n_points, n_outputs) around their mean over the known rows."""
    known = np.flatnonzero(curve.cells >= 0)
    lower, upper = np.split(predicted, 2)
    cells = np.maximum(curve.cells[known], 1)
    n_points = len(curve.places)
    counts = np.bincount(cells, minlength=n_points)
    steps = np.zeros((n_points, predicted.shape[1]))
    np.add.at(steps, cells, upper - lower)
    points = np.cumsum(steps / np.maximum(counts, 1)[:, None], axis=0)
    grid = numbers[curve.places]
    means = [np.interp(numbers[known], grid, of).mean() for of in points.T]
    return np.asarray(points - means)


def _written(feature: Feature, value: Any) -> Any:
    """Return a value as people write it: numbers, ISO dates, words; None if it is missing."""
    import pandas as pd

    if pd.isna(value):
        return None
    if feature.kind == "boolean":
        return bool(value)
    if feature.kind == "category":
        return str(value)[:MAX_NAME]
    if feature.kind == "datetime":
        text = value.isoformat()
        return str(text).removesuffix("T00:00:00")
    number = float(value)
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
