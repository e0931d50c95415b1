"""How columns become the numbers that a learner takes; scikit-learn's and skrub's parts, chosen by
kind.

What is fitted here is made of library classes alone, so that a model's file loads wherever these
are installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rowcast.learning.learners import Preparation
from rowcast.tables import Feature, columns

_PASSED = "passed"
_AS_IT_IS = "as it is"
_TEXT = "30 numbers from its character n-grams (tf-idf, truncated SVD)"
_DATES = "year, month, day, hour and seconds since 1970, in UTC"


def words_for(preparation: Preparation, kind: columns.Kind) -> str:
    """Return what is done with a column of a kind, for the report."""
    if preparation == "none":
        return "not looked at"
    plain = {"boolean": "0 and 1", "duration": "seconds"}.get(kind, _AS_IT_IS)
    if kind in ("numeric", "boolean", "duration"):
        return (
            f"{plain}; missing ones by the mean; scaled"
            if preparation == "linear"
            else plain
        )
    return {
        ("trees", "category"): "categories, which the trees tell apart",
        ("ordinal", "category"): "one whole number a category",
        ("linear", "category"): "one column a category",
    }.get((preparation, kind), (_TEXT if kind == "text" else _DATES))


def transformer(
    preparation: Preparation, features: Sequence[Feature], *, seed: int
) -> Any | None:
    """Return a transformer of frames with these features, not fitted; None where none is needed."""
    steps = _STEPS[preparation]
    prepared = [
        (place, feature)
        for place, feature in enumerate(features)
        if feature.kind in steps
    ]
    if not prepared:
        return None
    from sklearn.compose import ColumnTransformer

    passed = [feature.name for feature in features if feature.kind not in steps]
    # A step for each column, so that it is known which prepared columns come from which.
    parts = [
        (f"column_{place}", steps[feature.kind](seed), [feature.name])
        for place, feature in prepared
    ]
    made = ColumnTransformer([(_PASSED, "passthrough", passed), *parts])
    # Boosting knows categories by their pandas type.
    return made.set_output(transform="pandas") if preparation == "trees" else made


def columns_of(fitted: Any | None, features: Sequence[Feature]) -> dict[str, list[int]]:
    """Return which prepared columns come from each feature, by position.

    `fitted` is what `transformer` gave, after its fit.
    """
    if fitted is None:
        return {feature.name: [place] for place, feature in enumerate(features)}
    found: dict[str, list[int]] = {}
    for step, _, names in fitted.transformers_:
        block = fitted.output_indices_.get(step, slice(0, 0))
        places = list(range(block.start, block.stop))
        pairs = (
            zip(names, places, strict=True)
            if step == _PASSED
            else ((names[0], places),)
            if names
            else ()
        )
        found.update(
            {
                name: [place] if isinstance(place, int) else place
                for name, place in pairs
            }
        )
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


def _then_scaled(step: Callable[[int], Any]) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        from sklearn.pipeline import make_pipeline

        return make_pipeline(step(seed), _scaled(seed))

    return make


# What is done with a column of a kind; a kind that is not named is taken as it is.
_STEPS: Mapping[Preparation, Mapping[columns.Kind, Callable[[int], Any]]] = {
    "trees": {"text": _text, "datetime": _dates},
    "ordinal": {"category": _ordinals, "text": _text, "datetime": _dates},
    "linear": {
        **dict.fromkeys(("numeric", "boolean", "duration"), _scaled),
        "category": _one_hot,
        "text": _then_scaled(_text),
        "datetime": _then_scaled(_dates),
    },
    "none": {},
}
