"""Turn columns into the numbers that a learner needs, by scikit-learn's and skrub's transformers.

A fitted transformer is made of library classes alone, so that a model's file loads wherever these
libraries are installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rowcast.learning.learners import Preprocessing
from rowcast.tables import Feature, columns

# The step that leaves its columns as they are.
_PASSED = "passed"
_TEXT = "30 numbers from its character n-grams (tf-idf, truncated SVD)"
_DATES = "year, month, day, hour and seconds since 1970, in UTC"
_CATEGORIES: Mapping[Preprocessing, str] = {
    "trees": "categories, which the trees tell apart",
    "ordinal": "one whole number a category",
    "linear": "one column a category",
}


def describe(preprocessing: Preprocessing, kind: columns.Kind) -> str:
    """Return what is done with a column of a kind, in words for the manifest."""
    if preprocessing == "none":
        return "ignored"
    if kind == "category":
        return _CATEGORIES[preprocessing]
    if kind == "text":
        return _TEXT
    if kind == "datetime":
        return _DATES
    numbers = {"boolean": "0 and 1", "duration": "seconds"}.get(kind, "as it is")
    if preprocessing == "linear":
        return f"{numbers}; missing ones by the mean; scaled"
    return numbers


def transformer(
    preprocessing: Preprocessing, features: Sequence[Feature], *, seed: int
) -> Any | None:
    """Return a transformer of frames with these features, not fitted; None if none is needed."""
    makers = _MAKERS[preprocessing]
    passed = [feature.name for feature in features if feature.kind not in makers]
    if len(passed) == len(features):
        return None
    from sklearn.compose import ColumnTransformer

    # Each column has a step of its own, so that `columns_by_feature` can tell them apart.
    steps = [
        (f"column_{place}", makers[feature.kind](seed), [feature.name])
        for place, feature in enumerate(features)
        if feature.kind in makers
    ]
    made = ColumnTransformer([(_PASSED, "passthrough", passed), *steps])
    # Boosting recognizes categories by their pandas type.
    return made.set_output(transform="pandas") if preprocessing == "trees" else made


def columns_by_feature(
    fitted: Any | None, features: Sequence[Feature]
) -> dict[str, list[int]]:
    """Return the positions of the preprocessed columns that come from each feature.

    `fitted` is the result of `transformer`, after its fit.
    """
    if fitted is None:
        return {feature.name: [place] for place, feature in enumerate(features)}
    found: dict[str, list[int]] = {}
    for step, _, names in fitted.transformers_:
        block = fitted.output_indices_.get(step, slice(0, 0))
        places = list(range(block.start, block.stop))
        if step == _PASSED:
            found.update(
                {name: [place] for name, place in zip(names, places, strict=True)}
            )
        elif names:
            found[names[0]] = places
    return found


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


def _one_hot(_: int) -> Any:
    from sklearn.preprocessing import OneHotEncoder

    return OneHotEncoder(handle_unknown="ignore", sparse_output=False)


def _scaled_text(seed: int) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(_text(seed), _scaled(seed))


def _scaled_dates(seed: int) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(_dates(seed), _scaled(seed))


# Makes the transformer of a column by its kind and a seed; columns of other kinds are passed on.
_MAKERS: Mapping[Preprocessing, Mapping[columns.Kind, Callable[[int], Any]]] = {
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
    "none": {},
}
