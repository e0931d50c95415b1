"""Points of the precision-recall and ROC curves, and thresholds that predictions choose by them.

A threshold is a probability of one of two classes, from which on that class is predicted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rowcast.errors import InvalidRequest

# The most points of a class, of two classes and of more, and the most classes with points.
MAX_POINTS, MAX_POINTS_OF_MANY, MAX_CLASSES = 100, 50, 10
# What decides on a threshold, as /predict names it.
RULES = ("threshold", "min_recall", "min_precision", "cost_ratio")

# One of RULES, and the number given for it.
Rule = tuple[str, float]
Curve = Mapping[str, Any]


# The points


def curves(
    labels: Sequence[str],
    codes: np.ndarray,
    probabilities: np.ndarray,
    weights: np.ndarray | None = None,
) -> list[dict[str, Any]] | None:
    """Return each class's points against all others, ready for JSON; None with too many classes.

    `codes`, (n_rows,), are the true classes' places in `labels`, `probabilities` are (n_rows,
    n_labels). Rows of weight zero do not count. A class that has all rows or none has no points.
    """
    if len(labels) > MAX_CLASSES:
        return None
    n_points = MAX_POINTS if len(labels) == 2 else MAX_POINTS_OF_MANY
    if weights is not None:
        counts = weights > 0
        codes, probabilities, weights = (
            codes[counts],
            probabilities[counts],
            weights[counts],
        )
    return [
        _curve(label, codes == place, probabilities[:, place], weights, n_points)
        for place, label in enumerate(labels)
        if 0 < (codes == place).sum() < len(codes)
    ]


def _curve(
    label: str,
    is_positive: np.ndarray,
    probability: np.ndarray,
    weights: np.ndarray | None,
    n_points: int,
) -> dict[str, Any]:
    from sklearn.metrics import roc_curve

    false_rate, recall, found = roc_curve(
        is_positive, probability, sample_weight=weights, drop_intermediate=False
    )
    share = np.average(is_positive, weights=weights)
    hits, alarms = share * recall, (1 - share) * false_rate
    # The first threshold is infinite: nothing is predicted, and precision is not defined.
    with np.errstate(invalid="ignore"):
        precision = hits / (hits + alarms)
    chosen = _spread(recall, false_rate, n_points)
    return {
        "label": label,
        "n_rows": len(is_positive),
        "n_positive": int(is_positive.sum()),
        "share": float(share),
        "thresholds": [None, *found[chosen][1:].tolist()],
        "precision": [None, *_rounded(precision[chosen][1:])],
        "recall": _rounded(recall[chosen]),
        "false_positive_rate": _rounded(false_rate[chosen]),
    }


def _spread(recall: np.ndarray, false_rate: np.ndarray, n_points: int) -> np.ndarray:
    """Return the places of the points to keep: all, or evenly spaced ones of either rate."""
    if len(recall) <= n_points:
        return np.arange(len(recall))
    wanted = np.linspace(0, 1, n_points // 2)
    # A sum of weights may miss 1 by the last digit.
    places = [np.searchsorted(rate, wanted - 1e-9) for rate in (recall, false_rate)]
    return np.unique(np.concatenate(places))


def _rounded(values: np.ndarray) -> list[float]:
    return [round(value, 6) for value in values.tolist()]


# The decision


@dataclass(frozen=True)
class Cut:
    """A threshold that a rule has chosen, with the figures to expect; see `expected`."""

    positive_class: str
    rule: str
    value: float
    threshold: float
    expected: Mapping[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """Return the decision as manifests hold it."""
        return asdict(self)


def cut(
    manifest: Mapping[str, Any], rule: Rule, positive_class: str | None = None
) -> Cut:
    """Return the threshold that a rule gives for a model that has no `problems` with it.

    The positive class is by default the second one in sorted order.

    Raises:
        InvalidRequest: no threshold reaches what is asked for.
        KeyError, TypeError: the manifest is damaged.
    """
    name, value = rule
    label = positive_class or manifest["classes"][1]
    curve = _curve_of(manifest, label)
    if curve is None:
        return Cut(label, name, value, value, None)
    found = _threshold(rule, curve, manifest)
    return Cut(label, name, value, found, expected(curve, found))


def problems(
    manifest: Mapping[str, Any], rule: Rule, positive_class: str | None
) -> Iterator[str]:
    """Yield why a model does not support a rule."""
    name, _ = rule
    classes = manifest["classes"]
    if classes is None:
        yield f"{name} needs two classes, and the model is a regression."
    elif len(classes) != 2:
        yield f"{name} needs two classes, and the model has {len(classes):,}."
    elif positive_class not in (None, *classes):
        known = " or ".join(repr(label) for label in classes)
        yield f"positive_class must be {known}, not {positive_class!r}."
    elif name != "threshold" and not _curve_of(manifest, positive_class or classes[1]):
        yield (
            f"{name} needs the points of a model that was validated on rows of both classes, by "
            "this version or a later one; fit it again, with a validation other than none, or give "
            "threshold."
        )


def _curve_of(manifest: Mapping[str, Any], label: str) -> Curve | None:
    found = (manifest.get("plots") or {}).get("curves") or ()
    return next((curve for curve in found if curve["label"] == label), None)


def _threshold(rule: Rule, curve: Curve, manifest: Mapping[str, Any]) -> float:
    name, value = rule
    if name == "threshold":
        return value
    if name == "cost_ratio":
        return _cheapest(value, curve, manifest)
    if name == "min_recall":
        return _reaching(value, curve, "recall", most_of="precision")
    return _reaching(value, curve, "precision", most_of="recall")


def _reaching(least: float, curve: Curve, figure: str, *, most_of: str) -> float:
    """Return the threshold with the most of another figure among those that reach this one."""
    # The first point predicts nothing.
    thresholds, found, other = (
        curve[name][1:] for name in ("thresholds", figure, most_of)
    )
    able = [place for place, value in enumerate(found) if value >= least]
    if not able:
        raise InvalidRequest(
            f"No threshold has a {figure} of {least:g} for the class {curve['label']!r} on the "
            f"rows held back; the most is {max(found):.3g}."
        )
    # Of equals, the highest.
    best = max(able, key=lambda place: (other[place], -place))
    return float(thresholds[best])


def _cheapest(ratio: float, curve: Curve, manifest: Mapping[str, Any]) -> float:
    """Return the threshold with the least cost, where a miss costs `ratio` times a false alarm.

    Elkan, The Foundations of Cost-Sensitive Learning, 2001: it follows from the costs alone if the
    probabilities are right. Weights of classes multiply their odds, so they multiply those of the
    threshold. On 30 to 1,000 simulated rows, the point with the least cost was worse.
    """
    weight, other_weight = _class_weights(curve, manifest)
    return weight / (weight + ratio * other_weight)


def _class_weights(curve: Curve, manifest: Mapping[str, Any]) -> tuple[float, float]:
    """Return the weights of the positive class and of the other one in the fit."""
    given = manifest["class_weight"]
    if given == "balanced":
        share = curve["share"]
        return 1 - share, share
    negative = next(label for label in manifest["classes"] if label != curve["label"])
    weights = given or {}
    return weights.get(curve["label"], 1.0), weights.get(negative, 1.0)


def expected(curve: Curve, threshold: float) -> dict[str, Any]:
    """Return what the rows held back show for a threshold.

    The figures are those of the next point above, so of at most a few rows less than there are.
    """
    above = [
        place
        for place, found in enumerate(curve["thresholds"])
        if found is None or found >= threshold
    ]
    place = above[-1]
    names = ("precision", "recall", "false_positive_rate")
    return {
        **{name: curve[name][place] for name in names},
        "n_rows": curve["n_rows"],
        "n_positive": curve["n_positive"],
    }
