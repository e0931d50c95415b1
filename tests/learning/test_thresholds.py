"""Points of the precision-recall and ROC curves, and the thresholds that rules choose by them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_auc_score

from rowcast.errors import InvalidRequest
from rowcast.learning import thresholds

RNG = np.random.default_rng(0)
LABELS = ["no", "yes"]


def drawn(n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return true classes (n_rows,), and probabilities (n_rows, 2) that tell them."""
    of_yes = RNG.beta(0.6, 1.4, n_rows)
    codes = (RNG.uniform(size=n_rows) < of_yes).astype(int)
    return codes, np.column_stack([1 - of_yes, of_yes])


def manifest_of(
    codes: np.ndarray, probabilities: np.ndarray, class_weight: Any = None
) -> dict[str, Any]:
    found = thresholds.curves(LABELS, codes, probabilities)
    return {"classes": LABELS, "class_weight": class_weight, "plots": {"curves": found}}


FEW = drawn(60)
MANY = drawn(5_000)


def figures(
    rows: tuple[np.ndarray, np.ndarray], threshold: float
) -> tuple[float, float]:
    """Return precision and recall of the class yes from a threshold on."""
    codes, probabilities = rows
    predicted = probabilities[:, 1] >= threshold
    return float(precision_score(codes, predicted)), float(
        recall_score(codes, predicted)
    )


@pytest.mark.parametrize("rows", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("weighted", [False, True])
def test_points_are_those_of_scikit_learn(rows: Any, weighted: bool) -> None:
    codes, probabilities = rows
    weights = RNG.integers(1, 4, len(codes)).astype(float) if weighted else None
    curve = (thresholds.curves(LABELS, codes, probabilities, weights) or [])[1]
    assert curve["label"] == "yes"
    for place in (1, len(curve["thresholds"]) // 2, len(curve["thresholds"]) - 1):
        predicted = probabilities[:, 1] >= curve["thresholds"][place]
        for name, score in (("precision", precision_score), ("recall", recall_score)):
            expected = score(codes, predicted, sample_weight=weights)
            assert curve[name][place] == pytest.approx(expected, abs=1e-6)
    area = np.trapezoid(curve["recall"], curve["false_positive_rate"])
    expected = roc_auc_score(codes, probabilities[:, 1], sample_weight=weights)
    assert area == pytest.approx(expected, abs=0.002)


def test_points_are_at_most_a_hundred_and_span_both_curves() -> None:
    curve = (thresholds.curves(LABELS, *MANY) or [])[1]
    assert len(curve["thresholds"]) <= 100
    assert (curve["thresholds"][0], curve["recall"][0]) == (None, 0)
    assert (curve["recall"][-1], curve["false_positive_rate"][-1]) == (1, 1)
    assert np.diff(curve["recall"]).max() <= 0.03
    assert np.diff(curve["false_positive_rate"]).max() <= 0.03


def test_points_of_many_classes_are_few_or_none() -> None:
    probabilities = RNG.dirichlet(np.ones(10), 5_000)
    codes = np.arange(5_000) % 10
    found = thresholds.curves(list("abcdefghij"), codes, probabilities)
    assert found is not None
    assert [curve["label"] for curve in found] == list("abcdefghij")
    assert max(len(curve["thresholds"]) for curve in found) <= 50
    assert len(json.dumps(found)) < 30_000
    none = RNG.dirichlet(np.ones(11), 20)
    assert thresholds.curves(list("abcdefghijk"), codes[:20], none) is None


def test_class_without_rows_has_no_points() -> None:
    assert thresholds.curves(LABELS, np.zeros(5, int), np.full((5, 2), 0.5)) == []


@pytest.mark.parametrize("rows", [FEW, MANY], ids=["few", "many"])
def test_rules_choose_a_threshold_that_does_what_they_say(rows: Any) -> None:
    manifest = manifest_of(*rows)
    by_recall = thresholds.cut(manifest, ("min_recall", 0.9))
    assert figures(rows, by_recall.threshold)[1] >= 0.9
    # The next higher point would miss too much.
    assert figures(rows, by_recall.threshold + 0.1)[1] < 0.9
    by_precision = thresholds.cut(manifest, ("min_precision", 0.6))
    assert figures(rows, by_precision.threshold)[0] >= 0.6
    for cut in (by_recall, by_precision):
        assert cut.expected is not None
        found = (cut.expected["precision"], cut.expected["recall"])
        assert found == pytest.approx(figures(rows, cut.threshold), abs=1e-6)


def test_a_number_is_the_threshold_and_is_expected_as_it_does() -> None:
    cut = thresholds.cut(manifest_of(*MANY), ("threshold", 0.3))
    assert (cut.threshold, cut.positive_class, cut.rule) == (0.3, "yes", "threshold")
    assert cut.expected is not None
    found = (cut.expected["precision"], cut.expected["recall"])
    assert found == pytest.approx(figures(MANY, 0.3), abs=0.03)
    other = thresholds.cut(manifest_of(*MANY), ("threshold", 0.3), "no")
    assert other.positive_class == "no"
    assert other.expected != cut.expected


@pytest.mark.parametrize(
    ("class_weight", "factor"), [(None, 1.0), ({"yes": 3}, 3.0), ("balanced", None)]
)
def test_cost_is_least_where_weighted_probabilities_say(
    class_weight: Any, factor: float | None
) -> None:
    codes, probabilities = MANY
    share = codes.mean()
    factor = factor or (1 - share) / share
    # A fit with weights gives probabilities whose odds are as many times higher.
    odds = probabilities[:, 1] / probabilities[:, 0] * factor
    learned = np.column_stack([1 / (1 + odds), odds / (1 + odds)])
    manifest = manifest_of(codes, learned, class_weight)

    def cost(threshold: float) -> float:
        predicted = learned[:, 1] >= threshold
        missed, alarms = (codes == 1) & ~predicted, (codes == 0) & predicted
        return float(5 * missed.sum() + alarms.sum())

    chosen = thresholds.cut(manifest, ("cost_ratio", 5)).threshold
    least = min(cost(threshold) for threshold in np.linspace(0, 1, 101))
    assert cost(chosen) <= 1.03 * least


@pytest.mark.parametrize(
    ("changed", "rule", "positive", "said"),
    [
        (
            {"classes": None},
            "threshold",
            None,
            "threshold needs two classes, and the model is",
        ),
        (
            {"classes": ["a", "b", "c"]},
            "min_recall",
            None,
            "min_recall needs two classes",
        ),
        ({}, "threshold", "maybe", "positive_class must be 'no' or 'yes', not 'maybe'"),
        ({"plots": None}, "min_recall", None, "min_recall needs the points"),
        ({"plots": None}, "threshold", None, None),
        ({}, "min_precision", "no", None),
    ],
)
def test_problems_are_named(
    changed: dict[str, Any], rule: str, positive: str | None, said: str | None
) -> None:
    manifest = {**manifest_of(*FEW), **changed}
    found = list(thresholds.problems(manifest, (rule, 0.5), positive))
    assert len(found) == bool(said)
    assert "".join(found).startswith(said or "")


def test_precision_that_no_threshold_reaches_is_refused_with_the_most() -> None:
    codes = np.array([0, 1] * 20)
    manifest = manifest_of(codes, np.full((40, 2), 0.5))
    with pytest.raises(InvalidRequest, match=r"precision of 0\.9 .* the most is 0\.5"):
        thresholds.cut(manifest, ("min_precision", 0.9))


def test_threshold_of_a_model_without_points_expects_nothing() -> None:
    manifest = {"classes": LABELS, "class_weight": None}
    assert thresholds.cut(manifest, ("threshold", 0.3)).expected is None
