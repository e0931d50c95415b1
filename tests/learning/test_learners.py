"""Which task a target is for, and which parameters the learners support."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from rowcast.errors import InvalidRequest, InvalidTable
from rowcast.learning import learners
from rowcast.learning.learners import LEARNERS, TASKS, Param, Task

PARAMS = [
    (learner, name) for learner, entry in LEARNERS.items() for name in entry.params
]


def task_of(
    values: Any, asked: str = "auto", max_classes: int = 1000, name: str = "y"
) -> str:
    return learners.task_of(
        np.asarray(values), asked, max_classes=max_classes, name=name
    )


def note_on(values: Any, asked: str = "auto") -> str:
    array = np.asarray(values)
    task = learners.task_of(array, asked, max_classes=1000)
    return learners.note_on_task(array, asked, task)


def refusal(learner: str, params: dict[str, Any], **how: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        learners.check(learner, params, **how)
    return caught.value


def ends_of(param: Param) -> list[Any]:
    """Return the values at both ends of a parameter's range, and every word."""
    if param.kind is bool:
        return [True, False, *param.words]
    if param.kind is str:
        return [*param.words]
    least = param.least if param.least is not None else -1
    most = param.most if param.most is not None else 2**31 - 1
    if param.kind is float:
        ends = (
            least + 1e-9 if param.above else float(least),
            most - 1e-9 if param.below else float(most),
        )
        return [*ends, *param.words]
    return [int(least), float(least), int(most), *param.words]


# The task


@pytest.mark.parametrize(
    "values",
    [
        ["yes", "no"] * 5,
        [True, False] * 5,
        [0, 1] * 5,
        [1.0, 2.0] * 5,
        [-1, 1] * 5,
        [7, 0] * 5,
        list(range(10)) * 2,
        list(range(1, 11)) * 2,
        [*range(5), *range(5)],
    ],
    ids=str,
)
def test_labels_and_few_whole_numbers_are_classes(values: list[Any]) -> None:
    assert (
        task_of(np.array(values, dtype=object if isinstance(values[0], str) else None))
        == "classification"
    )


@pytest.mark.parametrize(
    "values",
    [
        [0.5, 1.0] * 5,
        list(range(21)) * 2,
        [*range(6), *range(5)],
        [1e6 + i for i in range(12)],
        list(range(11)) * 2,
        [3, 4, 5, 6] * 5,
        [0, 1, 3] * 5,
        [10, 20, 30] * 5,
    ],
    ids=[
        "fractions",
        "21 values",
        "less than twice each",
        "all different",
        "11 values",
        "from 3",
        "a gap",
        "tens",
    ],
)
def test_fractions_and_many_numbers_are_quantities(values: list[float]) -> None:
    assert task_of(values) == "regression"


@pytest.mark.parametrize(
    "name", ["class", "Type", "blood_type", "group", "zip code", "label", "petClass"]
)
def test_whole_numbers_under_such_a_name_are_classes(name: str) -> None:
    assert task_of([3, 5, 9, 12] * 5, name=name) == "classification"
    assert task_of(list(range(21)) * 2, name=name) == "regression"


@pytest.mark.parametrize("name", ["classic", "prototype", "subgroups", "encoded", "y"])
def test_whole_numbers_under_another_name_are_quantities(name: str) -> None:
    assert task_of([3, 5, 9, 12] * 5, name=name) == "regression"


def test_note_says_how_to_choose_the_other_task() -> None:
    assert "task=regression takes them for quantities" in note_on([0, 1, 2] * 5)
    assert "task=classification takes them for classes" in note_on([0, 10, 20] * 5)


@pytest.mark.parametrize(
    ("values", "asked"),
    [
        ([0, 1, 2] * 5, "classification"),
        ([0, 1, 2] * 5, "regression"),
        ([True, False] * 5, "auto"),
        ([0, 1] * 5, "auto"),
        (list(range(50)), "auto"),
        ([0.5, 1.5] * 5, "auto"),
    ],
    ids=str,
)
def test_task_that_is_clear_needs_no_note(values: list[Any], asked: str) -> None:
    assert note_on(values, asked) == ""


def test_text_is_classes_however_many_differ() -> None:
    values = np.array([f"label {i % 250}" for i in range(500)], dtype=object)
    assert task_of(values) == "classification"


def test_text_of_its_own_in_most_rows_is_refused_by_name_unless_asked_for() -> None:
    values = np.array([*(f"title {i}" for i in range(51)), *["b"] * 49], dtype=object)
    with pytest.raises(InvalidTable, match="'title' is text with a value of its own"):
        task_of(values, name="title")
    assert task_of(values, "classification") == "classification"
    assert task_of(values[2:], name="title") == "classification"


@pytest.mark.parametrize("values", [[0, 1] * 5, [True, False] * 5, [3.0] * 10])
def test_regression_can_be_asked_for(values: list[Any]) -> None:
    assert task_of(values, "regression") == "regression"


def test_classification_of_many_whole_numbers_can_be_asked_for() -> None:
    assert task_of(np.arange(50), "classification") == "classification"


@pytest.mark.parametrize(
    ("values", "asked", "reason"),
    [
        (np.array(["a", "b"] * 5, dtype=object), "regression", "text"),
        (np.array([0.5, 1.5] * 5), "classification", "fractions"),
        (np.array(["a"] * 10, dtype=object), "auto", "same value"),
        (np.array([7] * 10), "auto", "same value"),
        (np.array([True] * 10), "auto", "same value"),
        (np.arange(6), "classification", "6 classes; at most 5"),
        (
            np.array([str(i) for i in range(6)], dtype=object),
            "auto",
            "6 classes; at most 5",
        ),
    ],
)
def test_target_that_does_not_fit_the_task_is_refused(
    values: np.ndarray, asked: str, reason: str
) -> None:
    with pytest.raises(InvalidTable, match=reason):
        task_of(values, asked, max_classes=5)


def test_labels_that_differ_in_their_last_character_are_two_classes() -> None:
    assert task_of(np.array(["a", "a\0"] * 5, dtype=object)) == "classification"


def test_one_long_label_does_not_take_its_length_for_every_row() -> None:
    values = np.array(["a", "b"] * 2000 + ["c" * 10_000], dtype=object)
    tracemalloc.start()
    task_of(values)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 10_000_000


# Parameters


@pytest.mark.parametrize(("learner", "name"), PARAMS)
def test_both_ends_of_a_parameter_are_accepted_by_the_library_too(
    learner: str, name: str
) -> None:
    param = LEARNERS[learner].params[name]
    for value in [*ends_of(param), *([None] if param.none else [])]:
        learners.check(learner, {name: value}, task=param.tasks[0])
        for task in param.tasks:
            estimator = LEARNERS[learner].make(task, {name: value}, seed=0)
            estimator._validate_params()
            assert estimator.get_params()[name] == value


@pytest.mark.parametrize(("learner", "name"), PARAMS)
def test_what_lies_beyond_the_ends_of_a_parameter_is_refused(
    learner: str, name: str
) -> None:
    param = LEARNERS[learner].params[name]
    beyond: list[Any] = [
        float("nan"),
        float("inf"),
        10**400,
        "no such word",
        [1],
        {"a": 1},
        None,
    ]
    if param.least is not None:
        beyond += [param.least if param.above else param.least - 1, -1e9]
    if param.most is not None:
        beyond += [param.most + 1]
    beyond += [1.5] if param.kind is int else []
    beyond += [True] if param.kind is not bool else [1, 0]
    for value in beyond:
        if value is None and param.none:
            continue
        assert (
            f"'{name}' of {learner} must be" in refusal(learner, {name: value}).detail
        )


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("task", TASKS)
def test_every_learner_is_made_with_its_seed(learner: str, task: Task) -> None:
    params = LEARNERS[learner].make(task, {}, seed=7).get_params()
    assert params.get("random_state", 7) == 7


def test_all_problems_are_listed_together() -> None:
    error = refusal(
        "boosting",
        {"max_iter": 0, "n_trees": 7, "loss": "gamma", "tol": "x"},
        task="classification",
    )
    assert error.errors == [
        "The parameter 'max_iter' of boosting must be a whole number from 1 to 10000.",
        "The learner boosting has no parameter 'n_trees'.",
        "The parameter 'loss' of boosting is for regression, and this is a classification.",
        "The parameter 'tol' of boosting must be a number from 0.",
    ]
    assert "max_iter, max_leaf_nodes" in error.hint


def test_parameter_of_one_task_is_accepted_while_the_task_is_not_known() -> None:
    learners.check("boosting", {"loss": "gamma"}, task="auto")


@pytest.mark.parametrize(
    ("learner", "how", "reason"),
    [
        ("baseline", {"class_weight": "balanced"}, "does not support class_weight"),
        (
            "linear",
            {"class_weight": "balanced", "task": "regression"},
            "has no classes",
        ),
    ],
)
def test_class_weight_that_is_not_supported_is_refused(
    learner: str, how: dict[str, Any], reason: str
) -> None:
    assert reason in refusal(learner, {}, **how).detail


def test_whole_number_may_be_written_with_a_point() -> None:
    assert (
        LEARNERS["boosting"].make("regression", {"max_iter": 10.0}, seed=0).max_iter
        == 10
    )
