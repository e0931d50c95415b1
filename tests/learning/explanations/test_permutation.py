"""Permutation importance: its ranks, its properties, and its time budget."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression

from rowcast.learning.explanations import permutation
from tests.support.markdown import rows_of, section_of

RNG = np.random.default_rng(0)
N_ROWS = 1_000
X = RNG.normal(size=(N_ROWS, 4))
# The first feature says much, the second less, the third nothing, the fourth only together with the
# second.
Y = 3 * X[:, 0] + X[:, 1] * (1 + X[:, 3])
EACH = {f"x{i}": [i] for i in range(4)}


class SlowClock:
    """A clock that only predictions advance."""

    def __init__(self, seconds_a_call: float = 0.0, seconds_a_row: float = 0.0) -> None:
        self.now = 100.0
        self.calls: list[int] = []
        self._costs = (seconds_a_call, seconds_a_row)

    def __call__(self) -> float:
        return self.now

    def predict(self, frame: Any) -> np.ndarray:
        self.calls.append(len(frame))
        self.now += self._costs[0] + self._costs[1] * len(frame)
        return truth_of(np.asarray(frame))


def truth_of(x: np.ndarray) -> np.ndarray:
    values: np.ndarray = 3 * x[:, 0] + x[:, 1] * (1 + x[:, 3])
    return values


def measured(
    frame: Any = X, groups: Any = EACH, *, clock: SlowClock | None = None, **more: Any
) -> Any:
    clock = clock or SlowClock()
    options: dict[str, Any] = {"budget_s": 1.0, "seed": 0, **more}
    figures = permutation.importances(
        options.pop("predict", clock.predict),
        frame,
        groups,
        permutation.rmse(Y),
        clock=clock,
        **options,
    )
    json.dumps(figures, allow_nan=False)
    return figures


def means(figures: dict[str, Any]) -> dict[str, float | None]:
    return {feature["name"]: feature["mean"] for feature in figures["features"]}


@pytest.mark.parametrize("as_frame", [False, True], ids=["array", "frame"])
def test_features_are_ranked_by_what_they_say(as_frame: bool) -> None:
    figures = measured(
        pd.DataFrame(X, index=RNG.permutation(N_ROWS)) if as_frame else X
    )
    assert [feature["name"] for feature in figures["features"]] == [
        "x0",
        "x1",
        "x3",
        "x2",
    ]
    assert means(figures)["x2"] == 0
    assert (figures["n_rows"], figures["n_repeats"], figures["was_cut"]) == (
        N_ROWS,
        5,
        False,
    )


def test_array_and_frame_give_the_same_figures() -> None:
    assert measured(X) == measured(pd.DataFrame(X))


def test_importances_are_about_those_of_scikit_learn() -> None:
    model = LinearRegression().fit(X, Y)
    ours = means(measured(predict=model.predict))
    theirs = permutation_importance(
        model, X, Y, scoring="neg_root_mean_squared_error", n_repeats=20, random_state=0
    ).importances_mean
    assert [ours[name] for name in EACH] == pytest.approx(list(theirs), abs=0.1)


def test_columns_of_one_feature_are_shuffled_together() -> None:
    doubled = np.column_stack([X, X[:, 0]])
    differs: list[bool] = []

    def predict(rows: np.ndarray) -> np.ndarray:
        differs.append(bool(np.any(rows[:, 0] != rows[:, 4])))
        return truth_of(rows)

    measured(doubled, {"a": [0, 4], "b": [1]}, predict=predict)
    assert not any(differs)


def test_categories_stay_categories() -> None:
    frame = pd.DataFrame(X, columns=list("abcd")).assign(
        a=pd.Categorical(np.where(X[:, 0] > 0, "yes", "no"))
    )
    seen: list[Any] = []

    def predict(rows: pd.DataFrame) -> np.ndarray:
        seen.append(
            rows.dtypes.equals(frame.dtypes) and list(rows.columns) == list("abcd")
        )
        return 5 * (rows["a"] == "yes").to_numpy(float)

    figures = measured(frame, predict=predict)
    assert all(seen)
    assert figures["features"][0]["name"] == "x0"


def test_caller_keeps_its_frame() -> None:
    frame, array = pd.DataFrame(X), X.copy()
    measured(frame)
    measured(array)
    assert frame.equals(pd.DataFrame(X))
    assert np.array_equal(array, X)


def test_feature_that_no_column_comes_from_has_no_importance() -> None:
    figures = measured(groups={**EACH, "constant": []})
    assert means(figures)["constant"] == 0


def test_same_seed_gives_the_same_figures_and_another_seed_others() -> None:
    assert measured(seed=1) == measured(seed=1)
    assert means(measured(seed=1)) != means(measured(seed=2))


def test_order_of_the_features_changes_nothing() -> None:
    assert means(measured()) == means(measured(groups=dict(reversed(EACH.items()))))


def test_shuffles_do_not_depend_on_how_many_are_predicted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(permutation, "MAX_ROUNDS", 1)
    slow, fast = SlowClock(seconds_a_row=0.0002), SlowClock(seconds_a_row=0.000002)
    in_pieces, at_once = measured(X[:400], clock=slow), measured(X[:400], clock=fast)
    assert in_pieces["n_rows"] == at_once["n_rows"] == 400
    assert len(slow.calls) > len(fast.calls)
    assert means(in_pieces) == means(at_once)


def test_sample_shrinks_so_that_a_round_fits() -> None:
    clock = SlowClock(seconds_a_row=0.0005)
    figures = measured(clock=clock)
    assert figures["n_rows"] == 200
    assert figures["n_repeats"] >= 1
    assert figures["was_cut"]
    assert None not in means(figures).values()


@pytest.mark.parametrize("seconds_a_call", [0.03, 0.3, 0.7, 5.0])
def test_budget_is_overrun_by_one_prediction_at_most(seconds_a_call: float) -> None:
    clock = SlowClock(seconds_a_call=seconds_a_call)
    figures = measured(clock=clock)
    assert figures["seconds"] <= 1.0 + seconds_a_call
    assert figures["seconds"] == pytest.approx(seconds_a_call * len(clock.calls))


@pytest.mark.parametrize("budget_s", [0.0, 0.5])
def test_feature_that_no_round_reached_has_none(budget_s: float) -> None:
    figures = measured(clock=SlowClock(seconds_a_call=1.0), budget_s=budget_s)
    assert means(figures) == dict.fromkeys(EACH)
    assert (figures["n_repeats"], figures["was_cut"]) == (0, True)


def test_unreached_features_come_last() -> None:
    # One call for the probe and two that each shuffle one feature of 100 rows.
    figures = measured(X[:100], clock=SlowClock(seconds_a_row=0.004))
    known = [mean is not None for mean in means(figures).values()]
    assert known == sorted(known, reverse=True)
    assert 0 < sum(known) < 4


def test_few_rows_are_stacked_into_one_prediction_a_round() -> None:
    clock = SlowClock(seconds_a_call=0.001, seconds_a_row=0.000001)
    measured(X[:100], clock=clock)
    assert clock.calls == [100, 400, 400, 400, 400, 400, 400]


@pytest.mark.parametrize("n_rows", [0, 1])
def test_hardly_any_rows_are_enough(n_rows: int) -> None:
    assert set(means(measured(X[:n_rows])).values()) == (
        {None} if n_rows == 0 else {0.0}
    )


@pytest.mark.parametrize(
    "weights", [None, RNG.random(N_ROWS)], ids=["alike", "weighted"]
)
def test_losses_are_those_of_scikit_learn(weights: np.ndarray | None) -> None:
    rows = RNG.permutation(N_ROWS)[:300]
    some = None if weights is None else weights[rows]
    classes = np.array(["a", "b", "c"])
    truth = classes[RNG.integers(0, 3, N_ROWS)]
    probabilities = RNG.dirichlet(np.ones(3), 300)
    loss = permutation.log_loss(classes, truth, weights)
    assert loss.of(probabilities, rows) == pytest.approx(
        metrics.log_loss(truth[rows], probabilities, sample_weight=some)
    )
    predictions = RNG.normal(size=300)
    assert permutation.rmse(Y, weights).of(predictions, rows) == pytest.approx(
        metrics.root_mean_squared_error(Y[rows], predictions, sample_weight=some)
    )


def test_log_loss_of_an_unknown_label_is_that_of_probability_zero() -> None:
    loss = permutation.log_loss(np.array([0, 1]), np.array([5, 0]))
    assert loss.of(np.array([[1.0, 0.0]]), np.array([0])) == pytest.approx(
        -np.log(np.finfo(float).eps)
    )


def test_rows_without_weight_give_no_importance() -> None:
    figures = permutation.importances(
        truth_of, X, EACH, permutation.rmse(Y, np.zeros(N_ROWS)), budget_s=0.1, seed=0
    )
    assert means(figures) == dict.fromkeys(EACH)


def test_documented_members_are_the_members() -> None:
    rows = rows_of(section_of("models.md", "Importances"), "member", "what it is")
    named = [name.strip("` ") for row in rows for name in row[0].split(",")]
    assert named == list(measured())
