"""Whether new rows look like those that a model was trained on: the population stability index.

A profile, which is ready for JSON, says how the values of a feature spread over bins at training.
New values are counted in the same bins, batch by batch, into arrays that can be added. Numbers,
booleans, times (in seconds) and the lengths of texts are numbers; categories are positions in the
model's list of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

import numpy as np

Verdict = Literal["stable", "some", "strong"]

MAX_BINS = 10
# Rarer categories share a bin: with many bins the index grows by chance alone.
MAX_CATEGORIES = 20
# Siddiqi, Credit Risk Scorecards, 2006. Yurdakul, Statistical Properties of Population Stability
# Index, 2018, shows that these ignore the number of rows: few rows alone raise the index, by (bins
# - 1) / rows on average.
SOME_DRIFT = 0.1
STRONG_DRIFT = 0.25
# A label of a bin, and the features in whose names a sentence says what drifts.
_MAX_LABEL = 60
_MAX_NAMED = 3
# An empty bin would make the index infinite. It counts as this, or as half a row if that is more.
LEAST_SHARE = 1e-4
# Sorting more values than this does not improve the edges.
_MAX_SORTED = 5_000


def profile_numbers(values: np.ndarray) -> dict[str, Any]:
    """Return the profile of float64 values (n_rows,), in which NaN is missing.

    The bins hold about equally many values: below `edges[0]`, from there to below `edges[1]`, and
    so on. Up to ten distinct values have a bin each.
    """
    values = np.ascontiguousarray(values)
    known = values[~np.isnan(values)]
    if len(known) > _MAX_SORTED:
        rows = np.random.default_rng(0).integers(0, len(known), _MAX_SORTED)
        known = known[rows]
    profile = {"kind": "numbers", "n_rows": len(values), "edges": _edges(known)}
    *shares, missing = _shares(count(profile, values)).tolist()
    return {**profile, "shares": shares, "share_missing": missing}


def profile_categories(codes: np.ndarray, categories: Sequence[Any]) -> dict[str, Any]:
    """Return the profile of positions in `categories`, shape (n_rows,), in which -1 is missing.

    The twenty most frequent categories have a bin each: `categories` are their names, and `codes`
    their positions. `share_others` is the share of all others.
    """
    frequency = np.bincount(codes[codes >= 0], minlength=len(categories))
    by_frequency = np.argsort(-frequency, kind="stable")
    kept = np.sort(by_frequency[:MAX_CATEGORIES])
    profile = {
        "kind": "categories",
        "n_rows": len(codes),
        "n_categories": len(categories),
        "codes": kept.tolist(),
        "categories": [categories[code] for code in kept],
    }
    *shares, others, _, missing = _shares(count(profile, codes)).tolist()
    return {
        **profile,
        "shares": shares,
        "share_others": others,
        "share_missing": missing,
    }


def count(profile: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    """Return how many values fall into each bin of a profile, int64; batches can be added.

    Numbers are float64 with NaN for missing: one count per bin, then that of missing values.
    Categories are positions, with -1 for missing and `n_categories` or more for unseen: one count
    per bin, then those of the categories that share a bin, of unseen ones and of missing values.
    """
    if profile["kind"] == "numbers":
        return _count_numbers(profile, values)
    return _count_codes(profile, values)


def stability_index(profile: Mapping[str, Any], counts: np.ndarray) -> float | None:
    """Return the sum of (p - q) ln(p / q), of shares p at training and q in new rows, over bins.

    Missing values are a bin, and so are unseen categories. A share is at least `LEAST_SHARE` and
    at least half a row; bins that are empty on both sides do not count. None if one side has no
    rows.
    """
    n_rows = int(counts.sum())
    if not n_rows or not profile["n_rows"]:
        return None
    trained, new = _filled(profile, counts)
    p = np.maximum(trained, _least_share(profile["n_rows"]))
    q = np.maximum(new, _least_share(n_rows))
    terms = (p - q) * np.log(p / q)
    return float(np.sum(terms))


def chance_index(profile: Mapping[str, Any], counts: np.ndarray) -> float | None:
    """Return the index that chance alone gives on average to rows like those of the training.

    (bins - 1) (1 / n + 1 / m), for n rows at training and m new ones; the index is then about 1 / n
    + 1 / m times a chi-squared variable of bins - 1 degrees of freedom (Yurdakul, 2018). None if
    one side has no rows.
    """
    n_rows = int(counts.sum())
    if not n_rows or not profile["n_rows"]:
        return None
    trained, _ = _filled(profile, counts)
    per_bin = 1 / int(profile["n_rows"]) + 1 / n_rows
    return max(0, len(trained) - 1) * per_bin


def bins(profile: Mapping[str, Any], counts: np.ndarray) -> list[dict[str, Any]]:
    """Return each bin's label, and its shares of the rows at training and of the new rows."""
    shares = zip(_trained_shares(profile), _shares(counts), strict=True)
    return [
        {"label": label, "trained": round(float(p), 6), "new": round(float(q), 6)}
        for label, (p, q) in zip(_labels(profile), shares, strict=True)
    ]


def verdict(index: float | None) -> Verdict | None:
    """Return what an index means: `some` drift from 0.1 to 0.25, `strong` above."""
    if index is None:
        return None
    if index > STRONG_DRIFT:
        return "strong"
    return "stable" if index < SOME_DRIFT else "some"


def of_table(
    columns: Sequence[Mapping[str, Any]], importances: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return one account of the drift of all columns, each weighed by its importance to the model.

    `columns` have `name`, `stability_index` and `chance_index`; `importances` are those of a
    model's manifest. A negative importance counts as none. Without any, all columns weigh the same.
    The index is the weighted mean of what each column has above chance, the verdict that of this
    index.
    """
    known = [column for column in columns if column["stability_index"] is not None]
    if not known:
        return {"verdict": None, "index": None, "chance_index": None, "summary": None}
    weights, is_weighed = _weights(known, importances)
    found = np.array([column["stability_index"] for column in known])
    by_chance = np.array([column["chance_index"] for column in known])
    parts = weights * np.maximum(found - by_chance, 0)
    index = float(parts.sum())
    chance = float(weights @ by_chance)
    leading = [known[i]["name"] for i in np.argsort(-parts, kind="stable") if parts[i]]
    if verdict(index) == "stable":
        summary = _summary_of_stable(chance, is_weighed=is_weighed)
    else:
        summary = _summary(index, leading[:_MAX_NAMED])
    return {
        "verdict": verdict(index),
        "index": index,
        "chance_index": chance,
        "is_weighed": is_weighed,
        "summary": summary,
    }


def _weights(
    columns: Sequence[Mapping[str, Any]], importances: Mapping[str, Any] | None
) -> tuple[np.ndarray, bool]:
    """Return weights of columns whose sum is 1, and whether they come from importances."""
    listed = (importances or {}).get("features") or []
    means = {feature["name"]: feature["mean"] or 0.0 for feature in listed}
    weights = np.array([max(0.0, means.get(column["name"], 0.0)) for column in columns])
    if not weights.sum():
        return np.full(len(columns), 1 / len(columns)), False
    return weights / weights.sum(), True


def _summary_of_stable(by_chance: float, *, is_weighed: bool) -> str:
    what = " in what the model relies on" if is_weighed else ""
    doubt = " They are too few to be sure." if by_chance > SOME_DRIFT else ""
    return f"The new rows look like the training rows{what}.{doubt}"


def _summary(index: float, leading: Sequence[str]) -> str:
    named = ", ".join(repr(name[:_MAX_LABEL]) for name in leading)
    if verdict(index) == "some":
        return f"The new rows differ somewhat from the training rows, most in {named}."
    return (
        f"The new rows differ strongly from the training rows, most in {named}: the model may be "
        "worse on them than its scores say."
    )


def _edges(known: np.ndarray) -> list[float]:
    distinct, counts = np.unique(known, return_counts=True)
    if len(distinct) <= MAX_BINS:
        edges = distinct[1:]
    else:
        edges = distinct[_starts(np.cumsum(counts))]
    return [float(edge) for edge in edges if np.isfinite(edge)]


def _starts(cumulative: np.ndarray) -> list[int]:
    """Return where the second and further bins start among distinct values.

    `cumulative` is the running count of the values. Plain quantiles would leave a column of mostly
    zeros with one bin. Here a bin ends where it is nearest to its part of the remaining values, so
    that a frequent value takes its bin and the others share the rest.
    """
    starts: list[int] = []
    start = done = 0
    for n_bins_left in range(MAX_BINS, 1, -1):
        wanted = done + (cumulative[-1] - done) / n_bins_left
        end = int(np.searchsorted(cumulative, wanted))
        missing = wanted - cumulative[end - 1]
        excess = cumulative[end] - wanted
        is_nearer_without = end > start and missing < excess
        start = end if is_nearer_without else end + 1
        if start >= len(cumulative):
            break
        starts.append(start)
        done = cumulative[start - 1]
    return starts


def _count_numbers(profile: Mapping[str, Any], values: np.ndarray) -> np.ndarray:
    # Ten comparisons of all values are faster than a binary search for each. NaN is never >= edge.
    values = np.ascontiguousarray(values)
    n_missing = int(np.count_nonzero(np.isnan(values)))
    n_known = len(values) - n_missing
    from_edge_on = [np.count_nonzero(values >= edge) for edge in profile["edges"]]
    reached = np.array([n_known, *from_edge_on, 0], dtype=np.int64)
    in_bins = reached[:-1] - reached[1:]
    return np.append(in_bins, n_missing)


def _count_codes(profile: Mapping[str, Any], codes: np.ndarray) -> np.ndarray:
    n_categories = profile["n_categories"]
    # Missing values count first, and unseen ones last, however large their positions are.
    shifted = np.minimum(codes, n_categories) + 1
    counts = np.bincount(shifted, minlength=n_categories + 2)
    missing = counts[0]
    of_categories = counts[1:-1]
    unseen = counts[-1]
    kept = of_categories[profile["codes"]]
    others = of_categories.sum() - kept.sum()
    return np.array([*kept, others, unseen, missing], dtype=np.int64)


def _filled(
    profile: Mapping[str, Any], counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares at training and of new rows, without the bins that are empty in both."""
    trained = _trained_shares(profile)
    new = _shares(counts)
    is_filled = (trained > 0) | (new > 0)
    return trained[is_filled], new[is_filled]


def _labels(profile: Mapping[str, Any]) -> list[str]:
    if profile["kind"] == "categories":
        names = [str(name)[:_MAX_LABEL] for name in profile["categories"]]
        return [*names, "others", "unseen", "missing"]
    edges = [f"{edge:.6g}" for edge in profile["edges"]]
    if not edges:
        return ["all", "missing"]
    between = [f"{low} to below {high}" for low, high in pairwise(edges)]
    return [f"below {edges[0]}", *between, f"from {edges[-1]}", "missing"]


def _least_share(n_rows: int) -> float:
    return max(LEAST_SHARE, 0.5 / n_rows)


def _shares(counts: np.ndarray) -> np.ndarray:
    shares: np.ndarray = counts / max(counts.sum(), 1)
    return shares


def _trained_shares(profile: Mapping[str, Any]) -> np.ndarray:
    shares = list(profile["shares"])
    if profile["kind"] == "categories":
        # No category is unseen at training.
        shares += [profile["share_others"], 0.0]
    return np.array([*shares, profile["share_missing"]])
