"""Weights for a mean of several models, found on predictions for rows that none of them has seen.

Greedy selection with replacement (Caruana, Niculescu-Mizil, Crew, Ksikes, Ensemble Selection from
Libraries of Models, 2004): the mean grows by the model that lowers its loss most. On few rows the
order of models is luck, so the weights are the mean of those on bootstrap samples of the rows, as
the same paper proposes for models.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

N_SAMPLES, N_STEPS = 20, 20
# A model that lowers the loss by a smaller share is not worth the time that it takes to predict.
WORTH = 0.005
# scikit-learn clips probabilities so before it takes their logarithm.
_LEAST_PROBABILITY = float(np.finfo(np.float64).eps)

# Returns the losses (n_models,) of predictions (n_models, n_rows), given the rows' weights.
Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]


def log_loss(of_truth: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the log loss of probabilities of the true classes, (n_models, n_rows)."""
    clipped = np.clip(of_truth, _LEAST_PROBABILITY, 1)
    return np.asarray(-np.log(clipped) @ weights / weights.sum())


def squared_error(residuals: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the mean squared error of residuals (n_models, n_rows)."""
    return np.asarray(residuals**2 @ weights / weights.sum())


def weights_of(
    predicted: np.ndarray, row_weights: np.ndarray, loss: Loss, *, seed: int
) -> np.ndarray:
    """Return weights (n_models,), about one in all, for a mean of predictions (n_models, n_rows).

    `predicted` may be anything of which a mean of models is the mean: probabilities of the true
    class, or residuals.
    """
    random = np.random.default_rng(seed)
    n_models, n_rows = predicted.shape
    found = np.zeros(n_models)
    for _ in range(N_SAMPLES):
        counts = np.bincount(random.integers(0, n_rows, n_rows), minlength=n_rows)
        sampled = counts * row_weights
        if sampled.any():
            is_drawn = sampled > 0
            found += _greedy(predicted[:, is_drawn], sampled[is_drawn], loss)
    if not found.any():
        # Too few rows have weight to be drawn.
        found = _greedy(predicted, row_weights, loss)
    return _pruned(found / found.sum(), predicted, row_weights, loss)


def _greedy(predicted: np.ndarray, row_weights: np.ndarray, loss: Loss) -> np.ndarray:
    """Return how often each model is in the best mean of at most N_STEPS, as shares."""
    total = np.zeros(predicted.shape[1])
    counts = np.zeros(len(predicted))
    best_loss, best = np.inf, counts
    for n_models in range(1, N_STEPS + 1):
        losses = loss((total + predicted) / n_models, row_weights)
        added = int(losses.argmin())
        total = total + predicted[added]
        counts[added] += 1
        if losses[added] < best_loss:
            best_loss, best = losses[added], counts.copy()
    return np.asarray(best / max(best.sum(), 1))


def _pruned(
    weights: np.ndarray, predicted: np.ndarray, row_weights: np.ndarray, loss: Loss
) -> np.ndarray:
    """Return the weights without the models that the mean does hardly better with."""

    def loss_of(tried: np.ndarray) -> float:
        return float(loss((tried @ predicted)[None], row_weights)[0])

    most = loss_of(weights) * (1 + WORTH)
    for place in np.argsort(weights, kind="stable"):
        without = np.where(np.arange(len(weights)) == place, 0.0, weights)
        if not weights[place] or not without.any():
            continue
        without = without / without.sum()
        if loss_of(without) <= most:
            weights = without
    # A mean divides by the sum of its weights, so they may be rounded.
    return np.asarray(np.round(weights, 3))
