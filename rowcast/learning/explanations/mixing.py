"""Predict rows whose columns come from different rows, which is what explanations ask a model.

Rows are preprocessed once and mixed afterwards. That is the same as mixing raw columns, because
each preprocessed column follows from one raw column of the same row (see `preprocessing`), and it
encodes each text once. A mean of models is a mean of their predictions. A model of another form
gets mixed raw columns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rowcast.learning import preprocessing, work

# Cells of a mixed table, and predictions for it: 16 MB of float64.
_MAX_CELLS = 2_000_000
# Nominal seconds to copy a cell.
_CELL_S = 1e-7


class _Part(NamedTuple):
    """A model of a mean, with its weight and the rows as it sees them.

    `origins` (n_prepared,) are the positions of the raw columns that the prepared ones come from.
    """

    weight: float
    estimator: Any
    prepared: Any
    origins: np.ndarray


class Mixer:
    """Predicts rows mixed of those of one frame."""

    def __init__(self, model: Any, frame: Any) -> None:
        """Prepare the rows of a frame (n_rows, n_features), a DataFrame or an array."""
        self._parts = list(_parts_of(model, frame, 1.0))
        classes = getattr(model, "classes_", None)
        self.is_regression = classes is None
        self.n_outputs = 1 if classes is None else len(classes)

    def predict(self, sources: np.ndarray) -> np.ndarray:
        """Return values (n, 1) or probabilities (n, n_classes) for n mixed rows.

        `sources` (n, n_features) has for each cell the row of the frame that it comes from.
        """
        width = max(self.n_outputs, *(len(part.origins) for part in self._parts))
        step = max(1, _MAX_CELLS // width)
        found = np.empty((len(sources), self.n_outputs))
        for start in range(0, len(sources), step):
            some = slice(start, start + step)
            found[some] = self._predict(sources[some])
        return found

    def _predict(self, sources: np.ndarray) -> np.ndarray:
        total = np.zeros((len(sources), self.n_outputs))
        for part in self._parts:
            mixed = _mixed(part, sources)
            if self.is_regression:
                found = np.asarray(part.estimator.predict(mixed))[:, None]
            else:
                found = part.estimator.predict_proba(mixed)
            total += part.weight * found
        return total


def row_s(model: Any, n_features: int) -> float:
    """Return the nominal seconds that a mixed row takes."""
    return work.row_s(model, n_features) + n_features * _CELL_S


def _parts_of(model: Any, frame: Any, weight: float) -> Iterator[_Part]:
    if hasattr(model, "named_estimators"):
        shares = np.asarray(model.weights) / np.sum(model.weights)
        for member, share in zip(model.estimators_, shares, strict=True):
            yield from _parts_of(member, frame, weight * float(share))
        return
    steps = [step for _, step in getattr(model, "steps", ())]
    if len(steps) == 2 and hasattr(steps[0], "output_indices_"):
        prepared = steps[0].transform(frame)
        origins = _origins(steps[0], list(frame.columns), prepared.shape[1])
        yield _Part(weight, steps[1], prepared, origins)
        return
    names = getattr(model, "feature_names_in_", None)
    if names is None or isinstance(frame, np.ndarray):
        yield _Part(weight, model, frame, np.arange(frame.shape[1]))
    else:
        places = frame.columns.get_indexer(list(names))
        yield _Part(weight, model, frame.iloc[:, places], places)


def _origins(transformer: Any, names: list[str], n_prepared: int) -> np.ndarray:
    origins = np.zeros(n_prepared, int)
    for name, places in preprocessing.columns_by_feature(transformer, []).items():
        origins[places] = names.index(name)
    return origins


def _mixed(part: _Part, sources: np.ndarray) -> Any:
    rows = sources[:, part.origins]
    if isinstance(part.prepared, np.ndarray):
        return part.prepared[rows, np.arange(len(part.origins))]
    import pandas as pd

    taken = {
        name: part.prepared.iloc[:, place].array.take(rows[:, place])
        for place, name in enumerate(part.prepared.columns)
    }
    return pd.DataFrame(taken, copy=False)
