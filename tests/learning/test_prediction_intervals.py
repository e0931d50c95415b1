"""Quantiles around predictions: how often the truth lies below them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rowcast.learning import prediction_intervals

LEVELS = [0.05, 0.25, 0.5, 0.75, 0.95]


def heteroscedastic(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions (n_rows,) and a truth whose spread grows with them."""
    rng = np.random.default_rng(seed)
    predictions = rng.uniform(1, 10, n_rows)
    return predictions, predictions + rng.normal(size=n_rows) * predictions / 2


def learned(n_rows: int) -> dict[str, object]:
    predictions, truth = heteroscedastic(n_rows, 0)
    known = prediction_intervals.learn(truth - predictions, predictions)
    assert known is not None
    return known


@pytest.mark.parametrize("level", LEVELS)
def test_as_many_rows_lie_below_a_quantile_as_it_says(level: float) -> None:
    predictions, truth = heteroscedastic(20_000, 1)
    bounds = prediction_intervals.quantiles(learned(4_000), predictions, [level])[:, 0]
    assert np.mean(truth < bounds) == pytest.approx(level, abs=0.02)


@pytest.mark.parametrize(
    ("n_rows", "tolerance"), [(30, 0.01), (60, 0.006), (600, 0.002)]
)
def test_outer_quantiles_of_few_rows_hold_as_often_as_they_say(
    n_rows: int, tolerance: float
) -> None:
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(300):
        known = prediction_intervals.learn(
            rng.normal(size=n_rows), rng.normal(size=n_rows)
        )
        assert known is not None
        predictions = rng.normal(size=1_000)
        truth = predictions + rng.normal(size=1_000)
        bounds = prediction_intervals.quantiles(known, predictions, [0.05, 0.95])
        shares.append((truth[:, None] < bounds).mean(axis=0))
    assert np.mean(shares, axis=0) == pytest.approx([0.05, 0.95], abs=tolerance)


@pytest.mark.parametrize("n_rows", [30, 100, 1_000])
def test_measured_coverage_is_that_of_new_rows(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    shares = [
        prediction_intervals.measured_coverage(
            rng.normal(size=n_rows), rng.normal(size=n_rows), level=0.9, seed=seed
        )
        for seed in range(60)
    ]
    assert np.mean(np.array(shares, float)) == pytest.approx(0.9, abs=0.02)


def test_coverage_of_a_few_rows_is_not_measured() -> None:
    few = np.arange(5.0)
    assert prediction_intervals.measured_coverage(few, few, level=0.9, seed=0) is None


@pytest.mark.parametrize(
    "part", [slice(0, 5_000), slice(15_000, 20_000)], ids=["small", "large"]
)
def test_width_grows_where_the_errors_do(part: slice) -> None:
    predictions, truth = heteroscedastic(20_000, 1)
    rows = np.argsort(predictions)[part]
    low, high = prediction_intervals.quantiles(
        learned(4_000), predictions[rows], [0.05, 0.95]
    ).T
    assert np.mean((low < truth[rows]) & (truth[rows] < high)) == pytest.approx(
        0.9, abs=0.04
    )


def test_quantiles_of_a_row_grow_with_their_levels() -> None:
    predictions, _ = heteroscedastic(1_000, 1)
    bounds = prediction_intervals.quantiles(
        learned(1_000), predictions, np.linspace(0, 1, 101).tolist()
    )
    assert bounds.shape == (1_000, 101)
    assert (np.diff(bounds, axis=1) >= 0).all()


def test_quantiles_come_in_the_order_asked_for() -> None:
    known = learned(1_000)
    one, two = (
        prediction_intervals.quantiles(known, np.array([5.0]), levels)[0]
        for levels in ([0.9, 0.1], [0.1, 0.9])
    )
    assert one.tolist() == two[::-1].tolist()


@pytest.mark.parametrize("n_rows", [1, 2, 10, 199, 401])
def test_few_rows_are_enough(n_rows: int) -> None:
    bounds = prediction_intervals.quantiles(
        learned(n_rows), np.array([-1e9, 5.0, 1e9]), [0, 0.5, 1]
    )
    assert np.isfinite(bounds).all()
    assert (np.diff(bounds, axis=1) >= 0).all()


def test_nothing_is_learned_from_no_rows() -> None:
    assert prediction_intervals.learn(np.array([]), np.array([])) is None


def test_equal_predictions_share_one_group() -> None:
    residuals = np.random.default_rng(0).normal(size=2_000)
    known = prediction_intervals.learn(residuals, np.full(2_000, 7.0))
    assert known is not None
    low, high = prediction_intervals.quantiles(known, np.array([7.0]), [0.05, 0.95])[0]
    assert (low - 7, high - 7) == pytest.approx((-1.64, 1.64), abs=0.15)


def test_what_is_learned_is_ready_for_json() -> None:
    known = learned(500)
    rebuilt = json.loads(json.dumps(known))
    predictions = np.array([1.0, 9.0])
    expected = prediction_intervals.quantiles(known, predictions, LEVELS)
    assert (
        prediction_intervals.quantiles(rebuilt, predictions, LEVELS).tolist()
        == expected.tolist()
    )
    assert known["n_rows"] == 500


def test_no_rows_have_no_quantiles() -> None:
    assert prediction_intervals.quantiles(learned(500), np.array([]), LEVELS).shape == (
        0,
        len(LEVELS),
    )
