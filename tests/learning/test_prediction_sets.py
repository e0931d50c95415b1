"""Sets of classes: how often the true class is in, and how large they are."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rowcast.learning import prediction_sets

N_CLASSES = 4


def drawn(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities (n_rows, N_CLASSES), and true classes that follow them."""
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(N_CLASSES, 0.5), n_rows)
    below = probabilities.cumsum(axis=1) < rng.uniform(size=(n_rows, 1))
    return probabilities, below.sum(axis=1)


def learned(n_rows: int, seed: int = 0) -> dict[str, object]:
    probabilities, codes = drawn(n_rows, seed)
    found = prediction_sets.learn(probabilities[np.arange(n_rows), codes])
    assert found is not None
    return found


def share_covered(known: dict[str, object], level: float, n_rows: int = 1_000) -> float:
    probabilities, codes = drawn(n_rows, 1)
    is_in = prediction_sets.sets(known, probabilities, level)
    return float(is_in[np.arange(n_rows), codes].mean())


@pytest.mark.parametrize("n_rows", [10, 30, 100])
def test_sets_hold_the_true_class_as_often_as_they_say_with_few_rows(
    n_rows: int,
) -> None:
    shares = [share_covered(learned(n_rows, seed), 0.9) for seed in range(300)]
    # A level between two ranks gets the higher one, of one row more at most.
    assert 0.89 <= np.mean(shares) <= 0.91 + 1 / (n_rows + 1)


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_sets_hold_the_true_class_as_often_as_a_level_says(level: float) -> None:
    assert share_covered(learned(4_000), level, 20_000) == pytest.approx(
        level, abs=0.01
    )


def test_too_few_rows_for_a_level_give_all_classes() -> None:
    probabilities, _ = drawn(50, 1)
    assert prediction_sets.sets(learned(8), probabilities, 0.9).all()
    assert not prediction_sets.sets(learned(9), probabilities, 0.9).all()


def test_sets_grow_with_the_level_and_are_never_empty() -> None:
    probabilities, _ = drawn(200, 1)
    known = learned(100)
    sizes = [
        prediction_sets.sets(known, probabilities, level).sum(axis=1)
        for level in (0, 0.3, 0.5, 0.502, 0.9, 0.99, 1)
    ]
    assert (np.diff(sizes, axis=0) >= 0).all()
    assert (sizes[0] == 1).all()
    assert (sizes[-1] == N_CLASSES).all()


def test_measured_coverage_and_size_are_those_of_new_rows() -> None:
    found = prediction_sets.measured(*drawn(2_000, 0), level=0.9, seed=0)
    assert found is not None
    probabilities, _ = drawn(2_000, 1)
    size = prediction_sets.sets(learned(2_000), probabilities, 0.9).sum(axis=1).mean()
    assert found["share"] == pytest.approx(0.9, abs=0.01)
    assert found["mean_size"] == pytest.approx(size, abs=0.05)
    assert prediction_sets.measured(*drawn(9, 0), level=0.9, seed=0) is None


def test_what_is_learned_is_ready_for_json_and_small() -> None:
    known = learned(20_000)
    text = json.dumps(known)
    assert json.loads(text) == known
    assert len(text) < 8_000
    assert prediction_sets.learn(np.array([])) is None
