"""The parameters of requests, which are bounded where Redis or the store keeps them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rowcast.api.schemas import MAX_OPTIONS_BYTES, FitRequest, PredictRequest
from rowcast.errors import InvalidRequest
from tests.support.http import UNKNOWN


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "given",
    [
        {"class_weight": {f"class number {n:06}": 1 for n in range(4_300)}},
        {"params": {"a": "x" * MAX_OPTIONS_BYTES}},
        {"params": {"\u0000" * 11_000: 1}},
    ],
    ids=["class_weight", "params", "escaped"],
)
def test_options_of_a_fit_that_are_too_long_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="the maximum is 65,536"):
        FitRequest(id=UNKNOWN, **given)


def test_options_of_a_prediction_that_are_too_long_are_refused() -> None:
    names = [f"{number:0999}" for number in range(100)]
    with pytest.raises(InvalidRequest, match="the maximum is 65,536"):
        PredictRequest(dataset_id=UNKNOWN, model_id=UNKNOWN, keep=names)


def test_parameters_that_are_nested_too_deeply_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        FitRequest(id=UNKNOWN, params=nested(5_000))


def test_options_that_are_long_enough_for_a_thousand_classes_are_taken() -> None:
    weights = json.dumps({f"a class with the number {n:06}": 1 for n in range(1_000)})
    assert len(FitRequest(id=UNKNOWN, class_weight=weights).class_weight or ()) == 1_000
