"""The parameters of requests, which are bounded where Redis or the store keeps them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from rowcast.api.schemas import (
    MAX_OPTIONS_BYTES,
    FitRequest,
    PredictRequest,
    Request,
    UploadRequest,
    parameters_schema,
)
from rowcast.config import Settings
from rowcast.errors import InvalidRequest
from server import create_app
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


def test_time_to_search_means_a_thorough_fit() -> None:
    assert FitRequest(id=UNKNOWN, search_s=5).effort == "thorough"
    assert FitRequest(id=UNKNOWN).effort == "normal"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"effort": "quick"}, "search_s is for effort=thorough, so it does not go"),
        ({"timeout_s": 5}, "search_s must be under timeout_s"),
    ],
)
def test_time_to_search_that_contradicts_another_option_is_refused(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        FitRequest(id=UNKNOWN, search_s=5, **given)


def test_options_that_are_long_enough_for_a_thousand_classes_are_taken() -> None:
    weights = json.dumps({f"a class with the number {n:06}": 1 for n in range(1_000)})
    assert len(FitRequest(id=UNKNOWN, class_weight=weights).class_weight or ()) == 1_000


@pytest.mark.parametrize(
    ("request_", "given"),
    [
        (FitRequest, {"id": UNKNOWN, "seed": True}),
        (FitRequest, {"id": UNKNOWN, "importance_s": False}),
        (FitRequest, {"id": UNKNOWN, "timeout_s": True}),
        (FitRequest, {"id": UNKNOWN, "reuse": 1}),
        (PredictRequest, {"model_id": UNKNOWN, "quantiles": [False]}),
        (UploadRequest, {"form": 0}),
    ],
    ids=str,
)
def test_boolean_is_not_a_number_in_a_body(
    request_: type[Request], given: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match=r"must be (a number|true or false)"):
        request_(**given)


@pytest.mark.parametrize(
    ("text", "value"), [("null", None), ('"balanced"', "balanced")]
)
def test_class_weight_of_the_query_may_be_any_json(text: str, value: Any) -> None:
    assert FitRequest(id=UNKNOWN, class_weight=text).class_weight == value


def test_lists_and_objects_of_the_query_are_described_as_json() -> None:
    paths = create_app(Settings()).api_doc["paths"]
    as_json = {
        parameter["name"]
        for operations in paths.values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if "content" in parameter
    }
    lists = {"quantiles", "levels", "keep", "scopes", "missing"}
    lists |= {"features", "drop"}
    assert as_json == {"params", "class_weight", "kinds", *lists}


def test_member_of_a_body_that_may_be_left_out_may_be_null() -> None:
    body = parameters_schema(FitRequest)["requestBody"]["content"]["application/json"]
    members = body["schema"]["properties"]
    null = {"type": "null"}
    nullable = {name for name in members if null in members[name].get("anyOf", ())}
    assert set(members) - nullable == {"id"}
