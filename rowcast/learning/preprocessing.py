"""Turn columns into the numbers that a learner needs, by scikit-learn's and skrub's transformers.

A fitted transformer is made of library classes alone, so that a model's file loads wherever these
libraries are installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rowcast.learning.learners import Preprocessing
from rowcast.tables import Feature, columns

# Makes the transformer of columns, by a seed.
_Maker = Callable[[int], Any]
# The step that leaves its columns as they are.
_PASSED = "passed"
_ENCODED: Mapping[columns.Kind, str] = {
    "text": "30 numbers from its character n-grams (tf-idf, truncated SVD)",
    "datetime": "year, month, day, hour and seconds since 1970, in UTC",
}
_CATEGORIES: Mapping[Preprocessing, str] = {
    "trees": "categories, which the trees tell apart",
    "ordinal": "one whole number a category",
    "linear": "one column a category",
    "splines": "one column a category",
}


def describe(preprocessing: Preprocessing, kind: columns.Kind) -> str:
    """Return what is done with a column of a kind, in words for the manifest."""
    if preprocessing == "none":
        return "ignored"
    if kind == "category":
        return _CATEGORIES[preprocessing]
    if kind in _ENCODED:
        return _ENCODED[kind]
    numbers = {"boolean": "0 and 1", "duration": "seconds"}.get(kind, "as it is")
    if preprocessing == "splines" and kind != "boolean":
        return f"{numbers}; missing ones by the mean; a curve of cubic splines"
    if preprocessing in ("linear", "splines"):
        return f"{numbers}; missing ones by the mean; scaled"
    return numbers


def transformer(
    preprocessing: Preprocessing, features: Sequence[Feature], *, seed: int
) -> Any | None:
    """Return a transformer of frames with these features, not fitted; None if none is needed."""
    groups = _groups(preprocessing, features)
    if not groups:
        return None
    from sklearn.compose import ColumnTransformer

    taken = {feature.name for _, members in groups for feature in members}
    passed = [feature.name for feature in features if feature.name not in taken]
    steps = [
        (f"step_{number}", make(seed), [feature.name for feature in members])
        for number, (make, members) in enumerate(groups)
    ]
    made = ColumnTransformer([(_PASSED, "passthrough", passed), *steps])
    # Boosting recognizes categories by their pandas type.
    return made.set_output(transform="pandas") if preprocessing == "trees" else made


def _groups(
    preprocessing: Preprocessing, features: Sequence[Feature]
) -> list[tuple[_Maker, list[Feature]]]:
    """Return the steps and their features, those with the same step together where it allows that.

    A step for each column would take longer than many a fit.
    """
    makers = _MAKERS[preprocessing]
    shared: dict[_Maker, list[Feature]] = {}
    alone: list[tuple[_Maker, list[Feature]]] = []
    for feature in features:
        make = makers.get(feature.kind)
        if make in _SHARED:
            shared.setdefault(make, []).append(feature)
        elif make:
            alone.append((make, [feature]))
    return [*shared.items(), *alone]


def columns_by_feature(
    fitted: Any | None, features: Sequence[Feature]
) -> dict[str, list[int]]:
    """Return the positions of the preprocessed columns that come from each feature.

    `fitted` is the result of `transformer`, after its fit.
    """
    if fitted is None:
        return {feature.name: [place] for place, feature in enumerate(features)}
    found: dict[str, list[int]] = {}
    for step, made, names in fitted.transformers_:
        block = fitted.output_indices_.get(step, slice(0, 0))
        if step == _PASSED:
            widths = [1] * len(names)
        else:
            widths = _widths(made, len(names), block.stop - block.start)
        edges = block.start + np.cumsum([0, *widths])
        for name, start, stop in zip(names, edges[:-1], edges[1:], strict=True):
            found[name] = list(range(start, stop))
        for place, number in enumerate(_indicators(made)):
            found[names[number]].append(int(edges[-1]) + place)
    return found


def _widths(step: Any, n_names: int, n_columns: int) -> list[int]:
    """Return how many columns in a row a fitted step makes of each of its features."""
    if n_names == 1:
        return [n_columns - len(_indicators(step))]
    if hasattr(step, "steps"):
        last = step[1]
        return [getattr(last, "n_features_out_", n_names) // n_names] * n_names
    if hasattr(step, "drop_idx_"):
        return [len(categories) for categories in step.categories_]
    return [1] * n_names


def _indicators(step: Any) -> list[int]:
    """Return for each indicator of missing values, which follow all others, whose it is."""
    imputer = step[0] if hasattr(step, "steps") else None
    indicator = getattr(imputer, "indicator_", None)
    return [] if indicator is None else list(indicator.features_)


def _dates(_: int) -> Any:
    # skrub takes 0.6 s and 40 MB to import, which tables without text and dates do not need.
    from skrub import ApplyToCols, DatetimeEncoder

    return ApplyToCols(DatetimeEncoder())


def _text(seed: int) -> Any:
    from skrub import ApplyToCols, StringEncoder

    return ApplyToCols(StringEncoder(random_state=seed))


def _ordinals(_: int) -> Any:
    from sklearn.preprocessing import OrdinalEncoder

    return OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=float("nan")
    )


def _scaled(_: int) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())


def _splines(_: int) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import SplineTransformer, StandardScaler

    # Beyond the rows that were seen, a curve would soon be far off.
    curves = SplineTransformer(n_knots=4, knots="quantile", extrapolation="constant")
    return make_pipeline(SimpleImputer(), curves, StandardScaler())


def _one_hot(_: int) -> Any:
    from sklearn.preprocessing import OneHotEncoder

    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def _scaled_text(seed: int) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(_text(seed), _scaled(seed))


def _scaled_dates(seed: int) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(_dates(seed), _scaled(seed))


# Steps that take any number of columns.
_SHARED = (_scaled, _splines, _one_hot, _ordinals)
# The maker of each kind of column; columns of other kinds are passed on.
_MAKERS: Mapping[Preprocessing, Mapping[columns.Kind, _Maker]] = {
    "trees": {"text": _text, "datetime": _dates},
    "ordinal": {"category": _ordinals, "text": _text, "datetime": _dates},
    "linear": {
        "numeric": _scaled,
        "boolean": _scaled,
        "duration": _scaled,
        "category": _one_hot,
        "text": _scaled_text,
        "datetime": _scaled_dates,
    },
    "splines": {
        "numeric": _splines,
        "boolean": _scaled,
        "duration": _splines,
        "category": _one_hot,
        "text": _scaled_text,
        "datetime": _scaled_dates,
    },
    "none": {},
}
